//! Answers who opened what: the links of the audit log, what access logs say of them, and the portal's own lines.

mod facts;
mod revoked;
mod sessions;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use self::facts::{AuditFacts, OpenedLinkFacts};
pub use self::revoked::RecordedRevocation;
use self::revoked::StandingRevocations;
use self::sessions::{ReportedClients, Session, sessions_of};
use super::book::{AccessBook, BookError};
use super::identity::LinkKey;
use super::join::AsTheyAre;
use super::person::OpenedBy;
use super::row::AccessCounts;
use super::trail;
use super::verdict::{OpenVerdict, RefusedBecause, percent};
use crate::audit::find::LinkQuery;
use crate::audit::source::LogSource;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct OpensQuestion {
    /// The job, recipient or object; its times are not used.
    pub query: LinkQuery,
    /// The earliest open, inclusive.
    pub since: Option<Timestamp>,
    /// The end of the time range, exclusive.
    pub until: Option<Timestamp>,
    /// Whether links that were not opened are in the answer.
    pub all: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OpensError {
    /// The audit log could not be read.
    #[error("could not read the audit log")]
    Audit(#[source] io::Error),
    /// The database of access logs could not be read.
    #[error(transparent)]
    Book(#[from] BookError),
}

/// What became of a file for a recipient.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct OpensRow {
    /// The job.
    pub job: String,
    /// The recipient's id.
    pub rid: String,
    /// The recipient's address, where the log has it or the caller found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The size of the file in bytes, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What arrived, by the surest person's best download.
    pub verdict: OpenVerdict,
    /// How much of it arrived at most, in percent, where it is partly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u64>,
    /// Who opened it; `None` if nothing was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<OpenedBy>,
    /// The evidence.
    pub evidence: Vec<String>,
    /// Why requests were refused, if any was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedBecause>,
    /// How many requests were refused.
    pub refusals: u64,
    /// Downloads that are not a machine's.
    pub downloads: u64,
    /// Opens of machines, which are left out of the downloads.
    pub machine_opens: u64,
    /// Requests of all of them.
    pub requests: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The first request or open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub first: Option<Timestamp>,
    /// The last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last: Option<Timestamp>,
    /// What is kept of the networks, without the machines'.
    pub networks: Vec<String>,
    /// What the clients call themselves, without the machines.
    pub clients: Vec<String>,
    /// How many links the recipient has to the file.
    pub links: u64,
}

/// How much of what happened the logs account for.
#[derive(Debug, Clone, Default, Serialize, schemars::JsonSchema)]
pub struct Coverage {
    /// The links that the question is about.
    pub links: u64,
    /// Those of them that were opened.
    pub opened: u64,
    /// The links that the portal signed when it was opened.
    pub handed_out: u64,
    /// Those of them that the access logs have.
    pub handed_out_seen: u64,
    /// The requests by presigned URLs for these files that CloudTrail has, where its events were read.
    pub trail: u64,
    /// Those of them that the access logs have.
    pub trail_seen: u64,
    /// The first request in the access logs that were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub logs_from: Option<Timestamp>,
    /// The last request in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub logs_until: Option<Timestamp>,
    /// When an access log was read last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub read_at: Option<Timestamp>,
    /// How many files of access logs were read.
    pub files: u64,
    /// What the lines of all files were, by their names.
    pub lines: BTreeMap<String, u64>,
}

/// The answer.
#[derive(Debug, Clone, Default, Serialize, schemars::JsonSchema)]
pub struct OpensReport {
    /// A row for each recipient and file.
    pub rows: Vec<OpensRow>,
    /// How much the logs account for.
    pub coverage: Coverage,
}

impl OpensReport {
    /// How many rows have each class, the surest person first.
    pub fn classes(&self) -> BTreeMap<OpenedBy, u64> {
        let mut classes = BTreeMap::new();
        for by in self.rows.iter().filter_map(|row| row.by) {
            *classes.entry(by).or_default() += 1;
        }
        classes
    }
}

/// What an audit log says of one link.
#[derive(Debug)]
pub struct RecordedLink {
    /// The job.
    pub job: String,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The revocations that stand, the first one first.
    pub revocations: Vec<RecordedRevocation>,
}

/// What an audit log says of the link with an id; `None` if it has no line of the link.
pub fn recorded_link(source: &LogSource, link_id: &str) -> io::Result<Option<RecordedLink>> {
    let query = LinkQuery {
        link_id: Some(link_id.to_owned()),
        ..LinkQuery::default()
    };
    let mut facts = AuditFacts::default();
    facts.read_links(source, &query)?;
    let id = LinkKey::of_link(link_id).0;
    let Some(link) = facts.links.get(&id) else {
        return Ok(None);
    };
    let revoked = StandingRevocations::read(std::slice::from_ref(source))?;
    let revocations = revoked.all_of(id, link).into_iter().cloned().collect();
    Ok(Some(RecordedLink {
        job: link.job.to_string(),
        bucket: link.bucket.to_string(),
        key: link.key.to_string(),
        revocations,
    }))
}

/// Answers a question from the audit logs in `places` and the access logs that were read.
pub fn answer(
    places: &[LogSource],
    book: &AccessBook,
    question: &OpensQuestion,
) -> Result<OpensReport, OpensError> {
    let second = |at: Option<Timestamp>| at.map(Timestamp::as_second);
    let (since, until) = (second(question.since), second(question.until));
    let names_links = question.query != LinkQuery::default();
    // Without a job, a recipient or an object, the access logs say which links are meant.
    let mut wanted = HashSet::default();
    if !names_links {
        let all = |_| true;
        book.rows(since, until, all, |row| {
            wanted.insert(row.key.link);
        })?;
    }
    let mut facts = AuditFacts::default();
    let wanted = (!names_links).then_some(&wanted);
    facts
        .read(
            places,
            &question.query,
            wanted,
            (question.since, question.until),
        )
        .map_err(OpensError::Audit)?;
    let mut rows = Vec::new();
    let mut clients = ReportedClients::default();
    let wanted = |link| facts.links.contains_key(&link);
    book.rows(since, until, wanted, |row| {
        let (key, counts) = (row.key, row.counts);
        let client = clients.entry(key.client);
        client.or_insert_with(|| (row.net.map(Into::into), row.agent.into()));
        rows.push((key, counts));
    })?;
    let sessions = sessions_of(&facts, rows, &clients);
    let revoked = StandingRevocations::read(places).map_err(OpensError::Audit)?;
    let mut report = OpensReport {
        rows: table(&facts, &sessions, &revoked, question.all),
        coverage: coverage(&facts, &sessions),
    };
    let objects = facts.links.values().map(|link| (&*link.bucket, &*link.key));
    let compared = trail::compared(book, objects, (since, until))?;
    (report.coverage.trail, report.coverage.trail_seen) = compared;
    if let Some((from, until)) = book.span()? {
        report.coverage.logs_from = Timestamp::from_second(from).ok();
        report.coverage.logs_until = Timestamp::from_second(until).ok();
    }
    if let Some((_, last, files)) = book.read_files()? {
        report.coverage.read_at = Timestamp::from_second(last).ok();
        report.coverage.files = files;
    }
    report.coverage.lines = book.totals()?.into_iter().collect();
    Ok(report)
}

fn coverage(facts: &AuditFacts, sessions: &[Session]) -> Coverage {
    let is_opened = |session: &&Session| session.counts.was_answered();
    let opened: HashSet<u64, AsTheyAre> = sessions
        .iter()
        .filter(is_opened)
        .map(|session| session.link)
        .collect();
    let seen: HashSet<u64, AsTheyAre> = sessions
        .iter()
        .filter(|session| session.counts.requests > 0)
        .map(|session| session.open)
        .collect();
    Coverage {
        links: facts.links.len() as u64,
        opened: opened.len() as u64,
        handed_out: facts.opens.len() as u64,
        handed_out_seen: facts
            .opens
            .keys()
            .filter(|open| seen.contains(open))
            .count() as u64,
        ..Coverage::default()
    }
}

/// A row for each recipient and file, in the order of jobs, recipients and files.
fn table(
    facts: &AuditFacts,
    sessions: &[Session],
    revoked: &StandingRevocations,
    all: bool,
) -> Vec<OpensRow> {
    let mails = facts.mails_in_order();
    let mut links: Vec<LinkInOrder<'_>> = facts
        .links
        .iter()
        .map(|(id, link)| {
            (
                mails[link.mail.0 as usize],
                &*link.bucket,
                &*link.key,
                *id,
                link,
            )
        })
        .collect();
    links.sort_unstable_by(|a, b| (file_of(a), a.3).cmp(&(file_of(b), b.3)));
    let of_links = sessions.chunk_by(|a, b| a.link == b.link);
    let of_links: HashMap<u64, &[Session], AsTheyAre> =
        of_links.map(|uses| (uses[0].link, uses)).collect();
    let mut rows = Vec::new();
    for of_file in links.chunk_by(|a, b| file_of(a) == file_of(b)) {
        let uses = of_file
            .iter()
            .filter_map(|(_, _, _, id, _)| of_links.get(id));
        let mut uses: Vec<&Session> = uses.copied().flatten().collect();
        if uses.is_empty() && !all {
            continue;
        }
        uses.sort_by_key(|session| (session.first, session.link, session.open));
        let revoked_at = of_file
            .iter()
            .filter_map(|(_, _, _, id, link)| revoked.of(*id, link));
        rows.push(row(&OfFile {
            sessions: uses,
            link: of_file[0].4,
            links: of_file.len() as u64,
            revoked_at: revoked_at.min(),
        }));
    }
    rows
}

/// A link after the place of its mail, its bucket and its key.
type LinkInOrder<'a> = (u32, &'a str, &'a str, u64, &'a OpenedLinkFacts);

const fn file_of<'a>(link: &LinkInOrder<'a>) -> (u32, &'a str, &'a str) {
    (link.0, link.1, link.2)
}

/// What is known of a file and a recipient.
struct OfFile<'a> {
    sessions: Vec<&'a Session>,
    link: &'a OpenedLinkFacts,
    links: u64,
    /// When the first of the links was revoked.
    revoked_at: Option<Timestamp>,
}

fn row(of_file: &OfFile<'_>) -> OpensRow {
    let OfFile {
        sessions,
        link,
        links,
        revoked_at,
    } = of_file;
    // The surest person comes first, and of those the best download. A refused request is no open.
    let opens = || {
        sessions
            .iter()
            .filter(|session| session.verdict < OpenVerdict::Refused)
    };
    let best = opens().min_by_key(|session| (session.by, session.verdict, session.counts.first));
    let mut all = AccessCounts::default();
    for session in sessions {
        all.add(&session.counts);
    }
    let refused = RefusedBecause::of(&all);
    let verdict = match best {
        Some(best) => best.verdict,
        None if refused.is_some() => OpenVerdict::Refused,
        None => OpenVerdict::NotOpened,
    };
    let mut evidence = best.map(|best| best.evidence.clone()).unwrap_or_default();
    if let Some(words) = all.mangling.words() {
        evidence.push(words.to_owned());
    }
    if let Some(at) = revoked_at {
        evidence.push(format!("revoked at {at}"));
    }
    let people = || opens().filter(|session| !session.by.is_machine());
    // From where machines came matters where they alone opened the file: in a leak, they are the reader.
    let is_by_people = people().next().is_some();
    let seen = || opens().filter(|session| !is_by_people || !session.by.is_machine());
    let size = if all.size > 0 {
        Some(all.size)
    } else {
        link.size
    };
    let distinct = |texts: &mut dyn Iterator<Item = &Arc<str>>| {
        let mut texts: Vec<&str> = texts.map(|text| &**text).collect();
        texts.sort_unstable();
        texts.dedup();
        let texts = texts.into_iter().filter(|text| !text.is_empty());
        texts.map(str::to_owned).collect()
    };
    OpensRow {
        job: link.job.to_string(),
        rid: link.rid.to_string(),
        to: link.to.clone(),
        bucket: link.bucket.to_string(),
        key: link.key.to_string(),
        size,
        verdict,
        percent: best
            .filter(|best| matches!(best.verdict, OpenVerdict::Partly | OpenVerdict::BrokenOff))
            .and_then(|best| percent(&best.counts, size)),
        by: best.map(|best| best.by),
        evidence,
        refused,
        refusals: [all.late, all.died, all.mangled, all.denied, all.gone]
            .into_iter()
            .fold(0, u64::saturating_add),
        downloads: people()
            .filter(|session| session.verdict < OpenVerdict::LookedAt)
            .count() as u64,
        machine_opens: opens().filter(|session| session.by.is_machine()).count() as u64,
        requests: all.requests,
        bytes: all.bytes,
        first: sessions
            .iter()
            .map(|session| session.first)
            .min()
            .and_then(|at| Timestamp::from_second(at).ok()),
        last: sessions
            .iter()
            .map(|session| session.last)
            .max()
            .and_then(|at| Timestamp::from_second(at).ok()),
        networks: distinct(&mut seen().flat_map(|session| &session.networks)),
        clients: distinct(&mut seen().flat_map(|session| &session.agents)),
        links: *links,
    }
}

#[cfg(test)]
mod tests;
