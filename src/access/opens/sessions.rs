//! Uses of a link: all requests of one open, or of one client without a pause of half an hour.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::facts::{AuditFacts, MailNumber, OpenFacts};
use crate::access::book::RowKey;
use crate::access::client::network_kept;
use crate::access::join::AsTheyAre;
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
    pub(super) networks: Vec<Arc<str>>,
    pub(super) agents: Vec<Arc<str>>,
    pub(super) verdict: OpenVerdict,
    pub(super) by: OpenedBy,
    pub(super) evidence: Vec<String>,
}

/// The network and the name of each client, by its id.
pub(super) type ReportedClients = HashMap<u64, (Option<Arc<str>>, Arc<str>), AsTheyAre>;

/// The uses of all links, with a verdict and a class each: those of a link side by side, in the order of their time.
pub(super) fn sessions_of(
    facts: &AuditFacts,
    rows: Vec<(RowKey, AccessCounts)>,
    clients: &ReportedClients,
) -> Vec<Session> {
    let mut sessions = grouped(rows, clients);
    let logged = sessions.len();
    let opens_seen: HashSet<u64, AsTheyAre> = sessions.iter().map(|session| session.open).collect();
    // A link that was handed out and that no log has.
    for (open, handed_out) in &facts.opens {
        if !opens_seen.contains(open) && !handed_out.is_probe {
            sessions.push(Session {
                link: handed_out.link,
                open: *open,
                counts: AccessCounts::default(),
                first: handed_out.at,
                last: handed_out.at,
                networks: handed_out
                    .net
                    .iter()
                    .map(|net| net.as_str().into())
                    .collect(),
                agents: vec![handed_out.ua.as_str().into()],
                verdict: OpenVerdict::NotOpened,
                by: OpenedBy::Unknown,
                evidence: Vec::new(),
            });
        }
    }
    if sessions.len() > logged {
        sessions.sort_by_key(|session| session.link);
    }
    for of_link in sessions.chunk_by_mut(|a, b| a.link == b.link) {
        of_link.sort_by_key(|session| (session.first, session.open));
    }
    judge_all(facts, &mut sessions);
    sessions
}

/// The uses that rows are of.
fn grouped(rows: Vec<(RowKey, AccessCounts)>, clients: &ReportedClients) -> Vec<Session> {
    // Rows are large: numbers are sorted for them.
    let use_of = |row: &(RowKey, AccessCounts)| {
        let RowKey {
            link, open, client, ..
        } = row.0;
        (link, open, if open == 0 { client } else { 0 })
    };
    let mut order: Vec<_> = rows
        .iter()
        .zip(0_usize..)
        .map(|(row, number)| (use_of(row), row.1.first, number))
        .collect();
    order.sort_unstable();
    let mut rows: Vec<_> = rows.into_iter().map(Some).collect();
    let mut sessions: Vec<Session> = Vec::new();
    let mut before = None;
    for (which, _, number) in order {
        let Some((key, counts)) = rows[number].take() else {
            continue;
        };
        let goes_on = |session: &&mut Session| {
            before == Some(which)
                && (key.open != 0 || counts.first.saturating_sub(session.last) < PAUSE)
        };
        let (net, agent) = match clients.get(&key.client) {
            Some((net, agent)) => (net.clone(), Some(Arc::clone(agent))),
            None => (None, None),
        };
        match sessions.last_mut().filter(goes_on) {
            Some(session) => {
                session.counts.add(&counts);
                session.last = session.last.max(counts.last);
                session.networks.extend(net);
                session.agents.extend(agent);
            }
            None => sessions.push(Session {
                link: key.link,
                open: key.open,
                first: counts.first,
                last: counts.last,
                counts,
                networks: net.into_iter().collect(),
                agents: agent.into_iter().collect(),
                verdict: OpenVerdict::NotOpened,
                by: OpenedBy::Unknown,
                evidence: Vec::new(),
            }),
        }
        before = Some(which);
    }
    for session in &mut sessions {
        for texts in [&mut session.networks, &mut session.agents] {
            texts.sort_unstable();
            texts.dedup();
        }
    }
    sessions
}

/// Gives each use its verdict and its class. Those of a link are side by side, in the order of their time.
fn judge_all(facts: &AuditFacts, sessions: &mut [Session]) {
    let links_at_once = links_at_once(facts, sessions);
    let mut links_at_once = links_at_once.into_iter();
    for of_link in sessions.chunk_by_mut(|a, b| a.link == b.link) {
        let networks_at_once: Vec<usize> = of_link
            .iter()
            .map(|session| networks_near(of_link, session.first))
            .collect();
        for (session, networks_at_once) in of_link.iter_mut().zip(networks_at_once) {
            let link = &facts.links[&session.link];
            let open: Option<&OpenFacts> =
                facts.opens.get(&session.open).filter(|_| session.open != 0);
            let agent = match open {
                Some(open) => &*open.ua,
                None => session.agents.first().map_or("", |agent| &**agent),
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
                after_mail: facts.accepted.get(&link.mail).map(|at| session.first - at),
                links_at_once: links_at_once.next().unwrap_or_default(),
                networks_at_once,
                networks: session.networks.len(),
            };
            (session.by, session.evidence) = judge(&signs);
            session.verdict = match session.counts.requests {
                0 => OpenVerdict::HandedOut,
                _ => OpenVerdict::of(&session.counts, link.size),
            };
        }
    }
}

/// For each use, how many links of its mail are opened at about the same time.
fn links_at_once(facts: &AuditFacts, sessions: &[Session]) -> Vec<usize> {
    // A page in a browser asks for many pictures at once; a file that is refused is no link that was opened.
    let mut by_mail: Vec<(MailNumber, i64, u64, usize)> = sessions
        .iter()
        .zip(0..)
        .map(|(session, number)| {
            let mail = facts.links[&session.link].mail;
            (mail, session.first, session.link, number)
        })
        .collect();
    by_mail.sort_unstable();
    let mut counts = vec![0; sessions.len()];
    let (mut from, mut near) = (0, Vec::new());
    for (mail, at, _, number) in &by_mail {
        while (by_mail[from].0, by_mail[from].1) < (*mail, at - AT_ONCE) {
            from += 1;
        }
        let of_time = by_mail[from..].iter();
        let of_time = of_time.take_while(|known| (known.0, known.1) <= (*mail, at + AT_ONCE));
        near.clear();
        near.extend(of_time.map(|(_, _, link, _)| *link));
        near.sort_unstable();
        near.dedup();
        counts[*number] = near.len();
    }
    counts
}

/// How many networks use a link about an instant.
fn networks_near(of_link: &[Session], at: i64) -> usize {
    let from = of_link.partition_point(|session| session.first < at - TOGETHER);
    let of_time = of_link[from..]
        .iter()
        .take_while(|session| session.first <= at + TOGETHER);
    let networks: BTreeSet<&Arc<str>> = of_time.flat_map(|session| &session.networks).collect();
    match networks.len() {
        few @ 0..=1 => few,
        // Two addresses may be of one network.
        _ => {
            let networks = networks.into_iter().map(|net| network_kept(net));
            networks.collect::<BTreeSet<String>>().len()
        }
    }
}
