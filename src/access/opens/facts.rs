//! What the audit log says of the links that a question is about.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::access::identity::LinkKey;
use crate::access::join::AsTheyAre;
use crate::audit::find::{LinkQuery, find, find_text};
use crate::audit::source::LogSource;
use crate::bounds::MAX_REPORTED_LINKS;

/// The number of a mail: of a job and a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct MailNumber(pub(super) u32);

/// A link.
#[derive(Debug, Clone)]
pub(super) struct OpenedLinkFacts {
    pub(super) mail: MailNumber,
    pub(super) job: Arc<str>,
    pub(super) rid: Arc<str>,
    pub(super) to: Option<String>,
    pub(super) bucket: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) size: Option<u64>,
    pub(super) version: Option<String>,
}

/// A link that the portal handed out.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenFacts {
    pub(super) link: u64,
    pub(super) at: i64,
    pub(super) signed_in: Option<String>,
    pub(super) after_page_ms: Option<u64>,
    pub(super) sec_fetch: Option<String>,
    pub(super) purpose: Option<String>,
    pub(super) net: Option<String>,
    pub(super) ua: String,
    pub(super) is_probe: bool,
}

/// How many texts of the line before are looked at before all others: the job, the recipient, the bucket and the key.
const RECENT: usize = 4;

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct AuditFacts {
    pub(super) links: HashMap<u64, OpenedLinkFacts, AsTheyAre>,
    pub(super) opens: HashMap<u64, OpenFacts, AsTheyAre>,
    /// When mails were accepted, in seconds since 1970.
    pub(super) accepted: HashMap<MailNumber, i64>,
    mails: HashMap<(Arc<str>, Arc<str>), MailNumber>,
    texts: HashSet<Arc<str>>,
    /// The texts of the line before, of which most lines have some.
    recent: [Option<Arc<str>>; RECENT],
    next_recent: usize,
}

/// The fields of a line that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FactLine<'a> {
    #[serde(borrow)]
    ev: Cow<'a, str>,
    #[serde(borrow)]
    ts: Cow<'a, str>,
    #[serde(borrow)]
    job: Cow<'a, str>,
    #[serde(borrow)]
    rid: Cow<'a, str>,
    to: Option<String>,
    #[serde(borrow)]
    bucket: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    prefix: Cow<'a, str>,
    size: Option<u64>,
    version: Option<String>,
    #[serde(borrow)]
    link_id: Cow<'a, str>,
    outcome: Option<String>,
    signed_in: Option<String>,
    after_page_ms: Option<u64>,
    sec_fetch: Option<String>,
    purpose: Option<String>,
    net: Option<String>,
    ua: Option<String>,
    /// The id of an open.
    open: Option<String>,
}

/// The event of a line about a mail's outcome.
const OUTCOME: &str = "\"ev\":\"outcome\"";

impl FactLine<'_> {
    /// When it was written.
    fn at(&self) -> Option<Timestamp> {
        self.ts.parse().ok()
    }
}

impl AuditFacts {
    /// Reads what the logs say of the links of a query, or of the `wanted` ones. Opens count within `times`.
    pub(super) fn read(
        &mut self,
        places: &[LogSource],
        query: &LinkQuery,
        wanted: Option<&HashSet<u64, AsTheyAre>>,
        times: (Option<Timestamp>, Option<Timestamp>),
    ) -> io::Result<()> {
        for place in places {
            find(place.clone(), query, |line| self.add(line, wanted, times))?;
        }
        // The lines of outcomes have no key, and opens of the query's time may be of links that no access log has.
        let is_whole = query.object.is_none() && wanted.is_none();
        if !is_whole && !self.links.is_empty() {
            for place in places {
                find_text(place.clone(), OUTCOME, |line| self.add_outcome(line))?;
            }
        }
        Ok(())
    }

    /// Reads what a log says of the links of a query, without their mails.
    pub(super) fn read_links(&mut self, source: &LogSource, query: &LinkQuery) -> io::Result<()> {
        find(source.clone(), query, |line| {
            self.add(line, None, (None, None))
        })
        .map(drop)
    }

    fn add(
        &mut self,
        line: &str,
        wanted: Option<&HashSet<u64, AsTheyAre>>,
        (since, until): (Option<Timestamp>, Option<Timestamp>),
    ) -> io::Result<()> {
        let Ok(line) = serde_json::from_str::<FactLine<'_>>(line) else {
            return Ok(());
        };
        match &*line.ev {
            "issue" | "gallery" | "manifest" | "zip" | "renditions" | "opened" | "probe" => {
                let link = LinkKey::of_link(&line.link_id).0;
                // Most lines are of links, whose instant does not count.
                let open = line.open.as_deref().and_then(|open| {
                    let at = line.at().unwrap_or(Timestamp::UNIX_EPOCH);
                    let is_in_time = since.is_none_or(|since| at >= since)
                        && until.is_none_or(|until| at < until);
                    is_in_time.then_some((open, at))
                });
                if wanted.is_some_and(|wanted| !wanted.contains(&link)) && open.is_none() {
                    return Ok(());
                }
                if let Some((open, at)) = open {
                    self.add_open(LinkKey::of_open(open).0, link, at, &line);
                }
                self.add_link(link, &line)
            }
            "outcome" => {
                let mail = self.mail(&line);
                self.accept(mail, &line);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adds the outcome of a mail that has a link.
    fn add_outcome(&mut self, line: &str) -> io::Result<()> {
        let Ok(line) = serde_json::from_str::<FactLine<'_>>(line) else {
            return Ok(());
        };
        let mail = (Arc::from(&*line.job), Arc::from(&*line.rid));
        if let Some(mail) = self.mails.get(&mail) {
            self.accept(*mail, &line);
        }
        Ok(())
    }

    fn accept(&mut self, mail: MailNumber, line: &FactLine<'_>) {
        if line.outcome.as_deref() == Some("accepted")
            && let Some(at) = line.at()
        {
            // A resend has another instant; the first mail had the links.
            let at = at.as_second();
            self.accepted
                .entry(mail)
                .and_modify(|known| *known = (*known).min(at))
                .or_insert(at);
        }
    }

    /// The number of a line's mail.
    fn mail(&mut self, line: &FactLine<'_>) -> MailNumber {
        let key = (self.shared(&line.job), self.shared(&line.rid));
        let next = MailNumber(u32::try_from(self.mails.len()).unwrap_or(u32::MAX));
        *self.mails.entry(key).or_insert(next)
    }

    /// The place of each mail, by its number, among all in the order of jobs and recipients.
    pub(super) fn mails_in_order(&self) -> Vec<u32> {
        let mut mails: Vec<_> = self.mails.iter().collect();
        mails.sort_unstable();
        let mut places = vec![0; mails.len()];
        for ((_, mail), place) in mails.into_iter().zip(0..) {
            places[mail.0 as usize] = place;
        }
        places
    }

    fn add_open(&mut self, open: u64, link: u64, at: Timestamp, line: &FactLine<'_>) {
        let facts = OpenFacts {
            link,
            at: at.as_second(),
            signed_in: line.signed_in.clone(),
            after_page_ms: line.after_page_ms,
            sec_fetch: line.sec_fetch.clone(),
            purpose: line.purpose.clone(),
            net: line.net.clone(),
            ua: line.ua.clone().unwrap_or_default(),
            is_probe: line.ev == "probe",
        };
        // A file that is shown is handed out several times under one id: the first time counts.
        self.opens.entry(open).or_insert(facts);
    }

    fn add_link(&mut self, link: u64, line: &FactLine<'_>) -> io::Result<()> {
        if let Some(known) = self.links.get_mut(&link) {
            // A line of an open has no size.
            known.size = known.size.or(line.size);
            known.to = known.to.take().or_else(|| line.to.clone());
            return Ok(());
        }
        if self.links.len() >= MAX_REPORTED_LINKS {
            return Err(io::Error::other(format!(
                "the question is about more than {MAX_REPORTED_LINKS} links: name a job, a recipient or a key"
            )));
        }
        let key = match line.key.is_empty() {
            true => self.shared(&format!("{} (renditions)", line.prefix)),
            false => self.shared(&line.key),
        };
        let facts = OpenedLinkFacts {
            mail: self.mail(line),
            job: self.shared(&line.job),
            rid: self.shared(&line.rid),
            to: line.to.clone(),
            bucket: self.shared(&line.bucket),
            key,
            size: line.size,
            version: line.version.clone(),
        };
        self.links.insert(link, facts);
        Ok(())
    }

    /// A text that many links share, once in memory.
    fn shared(&mut self, text: &str) -> Arc<str> {
        let recent = self.recent.iter().flatten();
        if let Some(known) = recent.into_iter().find(|known| ***known == *text) {
            return Arc::clone(known);
        }
        let shared = match self.texts.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let text: Arc<str> = text.into();
                self.texts.insert(Arc::clone(&text));
                text
            }
        };
        self.recent[self.next_recent % RECENT] = Some(Arc::clone(&shared));
        self.next_recent = self.next_recent.wrapping_add(1);
        shared
    }
}
