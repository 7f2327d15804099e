//! Uses of a link: all requests of one open, or of one client without a pause of half an hour.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::facts::{AuditFacts, OpenFacts};
use crate::access::book::RowKey;
use crate::access::client::network_kept;
use crate::access::person::{OpenedBy, Signs, judge};
use crate::access::row::AccessCounts;
use crate::access::verdict::OpenVerdict;

/// The longest pause within a use, in seconds: the same as COUNTER's and the IAB's.
const PAUSE: i64 = 30 * 60;

/// Links of one mail within so many seconds are opened at once.
const AT_ONCE: i64 = 5;

/// Networks that use a link within so many seconds use it at once.
const TOGETHER: i64 = 2;

/// A use of a link.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) link: u64,
    pub(super) open: u64,
    pub(super) counts: AccessCounts,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) networks: Vec<String>,
    pub(super) agents: Vec<String>,
    pub(super) verdict: OpenVerdict,
    pub(super) by: OpenedBy,
    pub(super) evidence: Vec<String>,
}

/// The network and the name of each client, by its id.
pub(super) type ReportedClients = HashMap<u64, (Option<Arc<str>>, Arc<str>)>;

/// The uses of all links, with a verdict and a class each.
pub(super) fn sessions_of(
    facts: &AuditFacts,
    rows: HashMap<u64, Vec<(RowKey, AccessCounts)>>,
    clients: &ReportedClients,
) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut opens_seen = BTreeSet::new();
    for (link, rows) in rows {
        for (key, group) in grouped(rows) {
            let mut counts = AccessCounts::default();
            let (mut networks, mut agents) = (BTreeSet::new(), BTreeSet::new());
            for (row, some) in &group {
                counts.add(some);
                if let Some((net, agent)) = clients.get(&row.client) {
                    networks.extend(net.as_deref().map(str::to_owned));
                    agents.insert((**agent).to_owned());
                }
            }
            if key.open != 0 {
                opens_seen.insert(key.open);
            }
            let (first, last) = (counts.first, counts.last);
            sessions.push(session(
                link,
                key.open,
                counts,
                (first, last),
                networks,
                agents,
            ));
        }
    }
    // A link that was handed out and that no log has.
    for (open, handed_out) in &facts.opens {
        if !opens_seen.contains(open) && !handed_out.is_probe {
            let networks = handed_out.net.iter().cloned().collect();
            let agents = BTreeSet::from([handed_out.ua.clone()]);
            let at = (handed_out.at, handed_out.at);
            sessions.push(session(
                handed_out.link,
                *open,
                AccessCounts::default(),
                at,
                networks,
                agents,
            ));
        }
    }
    sessions.sort_by_key(|session| (session.first, session.link, session.open));
    judge_all(facts, &mut sessions);
    sessions
}

fn session(
    link: u64,
    open: u64,
    counts: AccessCounts,
    (first, last): (i64, i64),
    networks: BTreeSet<String>,
    agents: BTreeSet<String>,
) -> Session {
    Session {
        link,
        open,
        counts,
        first,
        last,
        networks: networks.into_iter().collect(),
        agents: agents.into_iter().collect(),
        verdict: OpenVerdict::NotOpened,
        by: OpenedBy::Unknown,
        evidence: Vec::new(),
    }
}

type Rows = Vec<(RowKey, AccessCounts)>;

/// The rows of each use.
fn grouped(mut rows: Rows) -> Vec<(RowKey, Rows)> {
    rows.sort_by_key(|(key, counts)| {
        (
            key.open,
            if key.open == 0 { key.client } else { 0 },
            counts.first,
        )
    });
    let mut groups: Vec<(RowKey, Rows)> = Vec::new();
    let mut end = i64::MIN;
    for (key, counts) in rows {
        let goes_on = groups.last().is_some_and(|(first, _)| {
            first.open == key.open
                && (key.open != 0
                    || first.client == key.client && counts.first.saturating_sub(end) < PAUSE)
        });
        end = match goes_on {
            true => end.max(counts.last),
            false => counts.last,
        };
        match groups.last_mut().filter(|_| goes_on) {
            Some((_, group)) => group.push((key, counts)),
            None => groups.push((key, vec![(key, counts)])),
        }
    }
    groups
}

/// The job and the recipient of a mail.
type Mail = (Arc<str>, Arc<str>);

/// Gives each use its verdict and its class. The uses are in the order of their time.
fn judge_all(facts: &AuditFacts, sessions: &mut [Session]) {
    let mut by_mail: HashMap<Mail, Vec<(i64, u64)>> = HashMap::new();
    let mut by_link: HashMap<u64, Vec<(i64, String)>> = HashMap::new();
    for session in sessions.iter() {
        let link = &facts.links[&session.link];
        // A page in a browser asks for many pictures at once; a file that is refused is no link that was opened.
        let mail = (Arc::clone(&link.job), Arc::clone(&link.rid));
        by_mail
            .entry(mail)
            .or_default()
            .push((session.first, session.link));
        let networks = session
            .networks
            .iter()
            .map(|net| (session.first, network_kept(net)));
        by_link.entry(session.link).or_default().extend(networks);
    }
    for session in sessions {
        let link = &facts.links[&session.link];
        let mail = (Arc::clone(&link.job), Arc::clone(&link.rid));
        let near = |times: &[(i64, u64)], within: i64| {
            let from = times.partition_point(|(at, _)| *at < session.first - within);
            let links: BTreeSet<u64> = times[from..]
                .iter()
                .take_while(|(at, _)| *at <= session.first + within)
                .map(|(_, link)| *link)
                .collect();
            links.len()
        };
        let networks = &by_link[&session.link];
        let from = networks.partition_point(|(at, _)| *at < session.first - TOGETHER);
        let together: BTreeSet<&String> = networks[from..]
            .iter()
            .take_while(|(at, _)| *at <= session.first + TOGETHER)
            .map(|(_, net)| net)
            .collect();
        let open: Option<&OpenFacts> = facts.opens.get(&session.open).filter(|_| session.open != 0);
        let agent = match open {
            Some(open) => &*open.ua,
            None => session.agents.first().map_or("", String::as_str),
        };
        let only_heads =
            session.counts.heads > 0 && session.counts.heads == session.counts.requests;
        let signs = Signs {
            signed_in: open.and_then(|open| open.signed_in.as_deref()),
            after_page_ms: open.and_then(|open| open.after_page_ms),
            sec_fetch: open.and_then(|open| open.sec_fetch.as_deref()),
            is_of_portal: open.is_some(),
            purpose: open.and_then(|open| open.purpose.as_deref()),
            user_agent: agent,
            only_heads: only_heads || open.is_some_and(|open| open.is_probe),
            after_mail: facts.accepted.get(&mail).map(|at| session.first - at),
            links_at_once: near(&by_mail[&mail], AT_ONCE),
            networks_at_once: together.len(),
            networks: session.networks.len(),
        };
        (session.by, session.evidence) = judge(&signs);
        session.verdict = match session.counts.requests {
            0 => OpenVerdict::HandedOut,
            _ => OpenVerdict::of(&session.counts, link.size),
        };
    }
}
