//! What is known of recipients beyond one job: bounces, complaints, who has left a list, and what an operator says.
//!
//! ```text
//! people/<rid>/<seconds>.<kind>.<tag>.<id>   an event about a recipient, by the keyed id: no address is kept
//! ```
//!
//! The name says all that decides; the body says more for a person who reads it. Records are created once and never changed, in the prefix
//! that does not expire: a suppression that a lifecycle rule deletes would be a mail that is sent again. An event that comes twice, or in any
//! order, is one record. What follows from the records is pure: [`standing`].
//!
//! ```text
//! delivery/<rid>/<seconds>.delivered.<tag>.<id>   that a mail arrived; among the records that may expire
//! ```
//!
//! A delivery becomes an event about the recipient only beside a bounce that may pass: a record for each mail would be kept for ever. Reports
//! arrive in any order, so a bounce looks for deliveries that are later by their own instants.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::portal::PortalRecords;
use super::{Ledger, LedgerError};
use crate::keyring::{nonce, sha256_hex};
use crate::person_token::PersonTag;

/// Where the records begin.
const BELOW: &str = "people/";

/// Where the records of deliveries begin.
const DELIVERIES: &str = "delivery/";

/// How long deliveries are kept in a database: a report that arrives later counts as one of this age.
const DELIVERIES_KEPT_FOR: SignedDuration = SignedDuration::from_hours(8 * 24);

/// How often old deliveries are forgotten.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// How many names are listed at once.
const NAMES_AT_ONCE: usize = 1000;

/// How long what was read of all recipients is used: an event of another process refuses the next job after this time.
const KNOWN_FOR: Duration = Duration::from_secs(2);

/// How many jobs a soft series needs, and how long it must last.
const SOFT_JOBS: usize = 3;
const SOFT_SERIES: SignedDuration = SignedDuration::from_hours(72);

/// How long a soft series suppresses: the first time, and at the most.
const SOFT_FIRST: SignedDuration = SignedDuration::from_hours(7 * 24);
const SOFT_LONGEST: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The kind of a record about a recipient.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PersonKind {
    /// A bounce that suppresses.
    Hard,
    /// The relay suppresses the address itself.
    ByRelay,
    /// A complaint.
    Complaint,
    /// A bounce that may pass.
    Soft,
    /// A mail arrived: ends a soft series.
    Delivered,
    /// The recipient has left the list of the tag.
    Left,
    /// An operator suppresses the recipient.
    Operator,
    /// An operator lifts what is earlier.
    Lifted,
}

impl PersonKind {
    const ALL: [Self; 8] = [
        Self::Hard,
        Self::ByRelay,
        Self::Complaint,
        Self::Soft,
        Self::Delivered,
        Self::Left,
        Self::Operator,
        Self::Lifted,
    ];

    /// The word in names and lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::ByRelay => "by_relay",
            Self::Complaint => "complaint",
            Self::Soft => "soft",
            Self::Delivered => "delivered",
            Self::Left => "left",
            Self::Operator => "operator",
            Self::Lifted => "lifted",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for PersonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record about a recipient, as its name says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonRecord {
    /// When it happened, to the second.
    pub at: Timestamp,
    /// What happened.
    pub kind: PersonKind,
    /// The tag of the job, or of the list that was left, if it is known.
    pub tag: Option<String>,
    /// The id of the event: sixteen hexadecimal digits.
    pub id: String,
}

/// The body of a record, for a person who reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct PersonDetail {
    /// The version of the body.
    pub v: u32,
    /// Where it came from: `ses`, `dsn`, `arf`, `portal` or `operator`.
    pub source: String,
    /// The job, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The list that was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The enhanced status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The server's words, without addresses; or the operator's reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub words: String,
    /// The operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Why a recipient gets no mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// What suppresses.
    pub kind: PersonKind,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` until it is lifted.
    pub until: Option<Timestamp>,
}

impl Suppressed {
    /// The reason in words, for results and lines.
    pub fn words(&self) -> String {
        let since = self.since;
        let what = match self.kind {
            PersonKind::Hard => "a mail bounced for good",
            PersonKind::ByRelay => {
                "the relay has the address on its own suppression list; remove it there too"
            }
            PersonKind::Complaint => "the recipient complained about a mail as spam",
            PersonKind::Left => "the recipient has left this list",
            PersonKind::Operator => "an operator suppressed the recipient",
            PersonKind::Soft | PersonKind::Delivered | PersonKind::Lifted => {
                "mails of several jobs bounced"
            }
        };
        match self.until {
            Some(until) => format!("{OF_WORDS}from {since} until {until}: {what}"),
            None => format!("{OF_WORDS}since {since}: {what}"),
        }
    }
}

/// How the words of a suppression begin.
const OF_WORDS: &str = "suppressed ";

/// The words of an outcome as they stand behind its name: those of a suppression, as records have them, begin with that name.
pub fn words_behind_name(words: &str) -> &str {
    words.strip_prefix(OF_WORDS).unwrap_or(words)
}

/// What follows from the records of a recipient, for a mail of a list. The order of the records says nothing, and neither does one that is there twice.
pub fn standing(
    records: &[PersonRecord],
    list: Option<&str>,
    now: Timestamp,
) -> Option<Suppressed> {
    let mut ordered: Vec<&PersonRecord> = records.iter().collect();
    // What an operator lifts in the second of an event is the event.
    ordered.sort_by_key(|record| (record.at, record.kind, record.id.clone()));
    let mut seen = BTreeSet::new();
    ordered.retain(|record| seen.insert((record.kind, record.id.as_str())));
    let mut firm: Option<Suppressed> = None;
    let mut left: Option<Suppressed> = None;
    let mut soft = SoftSeries::default();
    for record in ordered {
        let suppressed = || Suppressed {
            kind: record.kind,
            since: record.at,
            until: None,
        };
        match record.kind {
            PersonKind::Hard
            | PersonKind::ByRelay
            | PersonKind::Complaint
            | PersonKind::Operator => {
                firm.get_or_insert_with(suppressed);
            }
            PersonKind::Left => {
                if list.is_some() && record.tag.as_deref() == list {
                    left.get_or_insert_with(suppressed);
                }
            }
            // What a recipient asked for outlives a mailbox that works again: a list that was left is lifted by its own name.
            PersonKind::Lifted => match record.tag.as_deref() {
                None => {
                    firm = None;
                    soft = SoftSeries::default();
                }
                Some(tag) if Some(tag) == list => left = None,
                Some(_) => {}
            },
            PersonKind::Delivered => soft = SoftSeries::default(),
            PersonKind::Soft => soft.add(record),
        }
    }
    let of_series = soft
        .suppressed
        .filter(|suppressed| suppressed.until.is_none_or(|until| until > now));
    firm.or(left).or(of_series)
}

/// Bounces that may pass, since the last delivery.
#[derive(Debug)]
struct SoftSeries<'r> {
    first: Option<Timestamp>,
    jobs: BTreeSet<Option<&'r str>>,
    next: SignedDuration,
    suppressed: Option<Suppressed>,
}

impl Default for SoftSeries<'_> {
    fn default() -> Self {
        Self {
            first: None,
            jobs: BTreeSet::new(),
            next: SOFT_FIRST,
            suppressed: None,
        }
    }
}

impl<'r> SoftSeries<'r> {
    fn add(&mut self, record: &'r PersonRecord) {
        let until = self
            .suppressed
            .as_ref()
            .and_then(|suppressed| suppressed.until);
        // A bounce of a mail that was on its way already.
        if until.is_some_and(|until| record.at < until) {
            return;
        }
        let first = *self.first.get_or_insert(record.at);
        self.jobs.insert(record.tag.as_deref());
        let has_lasted = record.at.duration_since(first) >= SOFT_SERIES;
        if self.jobs.len() < SOFT_JOBS || !has_lasted {
            return;
        }
        self.suppressed = Some(Suppressed {
            kind: PersonKind::Soft,
            since: record.at,
            until: record.at.checked_add(self.next).ok(),
        });
        self.next = (self.next * 2).min(SOFT_LONGEST);
        self.first = None;
        self.jobs.clear();
    }
}

/// The records about recipients, and what was read of them last. Clones share it.
#[derive(Debug, Clone)]
pub struct PeopleRecords {
    records: Arc<dyn PortalRecords>,
    deliveries: Arc<dyn PortalRecords>,
    known: Arc<Mutex<Option<ReadPeople>>>,
    /// When old deliveries were last forgotten.
    forgotten: Arc<Mutex<Option<Instant>>>,
}

/// What was read of all recipients, and when.
type ReadPeople = (Instant, Arc<KnownPeople>);

/// What was read of all recipients.
#[derive(Debug, Default)]
struct KnownPeople {
    by_rid: BTreeMap<String, Vec<PersonRecord>>,
    /// Whether these are all records; else each recipient is asked for.
    is_whole: bool,
}

impl PeopleRecords {
    /// The records in a ledger.
    pub fn of(ledger: &dyn Ledger) -> Self {
        Self {
            records: ledger.portal_records(),
            deliveries: ledger.expiring_records(),
            known: Arc::default(),
            forgotten: Arc::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<ReadPeople>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event about a recipient; whether it is new. Durable when it returns.
    pub async fn add(
        &self,
        rid: &str,
        record: &PersonRecord,
        detail: &PersonDetail,
    ) -> Result<bool, LedgerError> {
        let before = self.of_person(rid).await?;
        if before
            .iter()
            .any(|known| known.id == record.id && known.kind == record.kind)
        {
            return Ok(false);
        }
        let body = serde_json::to_vec(&PersonDetail {
            v: 1,
            ..detail.clone()
        });
        let body = body.expect("a detail is plain data");
        let created = self.records.create(&name_of(rid, record), body).await;
        // Also after a failure, whose record may be there.
        *self.known() = None;
        created.map(|_| true)
    }

    /// Records what a mail system reported about a recipient. Returns whether it is a new event about the recipient; reports may arrive in any order.
    /// Durable when it returns.
    ///
    /// A delivery and a bounce that may pass each write before they look for the other, so that the later of two processes finds it.
    pub async fn add_report(
        &self,
        rid: &str,
        record: &PersonRecord,
        detail: &PersonDetail,
    ) -> Result<bool, LedgerError> {
        match record.kind {
            PersonKind::Delivered => self.add_delivery(rid, record, detail).await,
            PersonKind::Soft => {
                let is_new = self.add(rid, record, detail).await?;
                if let Some((delivery, detail)) = self.delivery_since(rid, record.at).await? {
                    self.add(rid, &delivery, &detail).await?;
                }
                Ok(is_new)
            }
            _ => self.add(rid, record, detail).await,
        }
    }

    async fn add_delivery(
        &self,
        rid: &str,
        record: &PersonRecord,
        detail: &PersonDetail,
    ) -> Result<bool, LedgerError> {
        self.forget_deliveries(record.at).await?;
        let body = serde_json::to_vec(detail).expect("a detail is plain data");
        let name = spelled_below(DELIVERIES, rid, record);
        self.deliveries.create(&name, body).await?;
        let known = self.of_person(rid).await?;
        if !known.iter().any(|known| known.kind == PersonKind::Soft) {
            return Ok(false);
        }
        self.add(rid, record, detail).await
    }

    /// The last delivery at or after an instant: it ends what bounced before it.
    async fn delivery_since(
        &self,
        rid: &str,
        at: Timestamp,
    ) -> Result<Option<(PersonRecord, PersonDetail)>, LedgerError> {
        let below = format!("{DELIVERIES}{rid}/");
        let mut after = spelled_instant(at);
        let mut last = None;
        loop {
            let some = self.deliveries.names(&below, Some(&after), NAMES_AT_ONCE);
            let some = some.await?;
            last = some.last().cloned().or(last);
            match some.last() {
                Some(name) if some.len() == NAMES_AT_ONCE => after = name.clone(),
                Some(_) | None => break,
            }
        }
        let Some((record, name)) = last.and_then(|name| Some((record_of(&name)?, name))) else {
            return Ok(None);
        };
        let body = self.deliveries.read(&format!("{below}{name}")).await?;
        let detail = body.and_then(|body| serde_json::from_slice(&body).ok());
        Ok(Some((record, detail.unwrap_or_default())))
    }

    /// Forgets deliveries that no bounce can be older than any more, where the ledger is a database.
    async fn forget_deliveries(&self, now: Timestamp) -> Result<(), LedgerError> {
        {
            let mut forgotten = self
                .forgotten
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if forgotten.is_some_and(|at| at.elapsed() < FORGOTTEN_EVERY) {
                return Ok(());
            }
            *forgotten = Some(Instant::now());
        }
        match now.checked_sub(DELIVERIES_KEPT_FOR) {
            Ok(before) => self.deliveries.forget(DELIVERIES, before).await,
            Err(_) => Ok(()),
        }
    }

    /// What suppresses a recipient's mail of a list now, if anything does.
    ///
    /// One request in two seconds answers for all recipients while there are at most a thousand records, and one for each recipient
    /// beyond that.
    pub async fn suppressed(
        &self,
        rid: &str,
        list: Option<PersonTag>,
        now: Timestamp,
    ) -> Result<Option<Suppressed>, LedgerError> {
        let list = list.map(|list| list.to_string());
        let known = self.all_known().await?;
        if let Some(records) = known.by_rid.get(rid)
            && known.is_whole
        {
            return Ok(standing(records, list.as_deref(), now));
        }
        if known.is_whole {
            return Ok(None);
        }
        let records = self.of_person(rid).await?;
        Ok(standing(&records, list.as_deref(), now))
    }

    async fn all_known(&self) -> Result<Arc<KnownPeople>, LedgerError> {
        if let Some((at, known)) = &*self.known()
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(Arc::clone(known));
        }
        // What is written while it is read may be missing: its age counts from here.
        let at = Instant::now();
        let names = self.records.names(BELOW, None, NAMES_AT_ONCE).await?;
        let mut known = KnownPeople {
            is_whole: names.len() < NAMES_AT_ONCE,
            ..KnownPeople::default()
        };
        for name in names.iter().filter(|_| known.is_whole) {
            if let Some((rid, record)) = parsed(name) {
                known.by_rid.entry(rid.to_owned()).or_default().push(record);
            }
        }
        let known = Arc::new(known);
        *self.known() = Some((at, Arc::clone(&known)));
        Ok(known)
    }

    /// The records of a recipient, in the order of their instants.
    pub async fn of_person(&self, rid: &str) -> Result<Vec<PersonRecord>, LedgerError> {
        let below = format!("{BELOW}{rid}/");
        let names = self.records.all_names(&below).await?;
        Ok(names.iter().filter_map(|name| record_of(name)).collect())
    }

    /// The detail of a record, if it can be read.
    pub async fn detail(
        &self,
        rid: &str,
        record: &PersonRecord,
    ) -> Result<Option<PersonDetail>, LedgerError> {
        let body = self.records.read(&name_of(rid, record)).await?;
        Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
    }

    /// All recipients that have records, with these.
    pub async fn all(&self) -> Result<BTreeMap<String, Vec<PersonRecord>>, LedgerError> {
        let mut all: BTreeMap<String, Vec<PersonRecord>> = BTreeMap::new();
        for name in self.records.all_names(BELOW).await? {
            if let Some((rid, record)) = parsed(&name) {
                all.entry(rid.to_owned()).or_default().push(record);
            }
        }
        Ok(all)
    }
}

impl PersonRecord {
    /// A record of an event.
    pub fn new(at: Timestamp, kind: PersonKind, tag: Option<PersonTag>, id: String) -> Self {
        let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        let tag = tag.map(|tag| tag.to_string());
        Self { at, kind, tag, id }
    }

    /// A record of what an operator does, which is another each time; about a list that the recipient left, with its tag.
    pub fn by_operator(at: Timestamp, kind: PersonKind, list: Option<PersonTag>) -> Self {
        Self::new(at, kind, list, nonce()[..16].to_owned())
    }

    /// A record that a recipient has left a list. Each press of the button since the last lift is the same.
    pub fn left(at: Timestamp, list: PersonTag, before: &[Self]) -> Self {
        let lifts = before
            .iter()
            .filter(|record| record.kind == PersonKind::Lifted);
        let id = sha256_hex(format!("left {list} {}", lifts.count()).as_bytes());
        Self::new(at, PersonKind::Left, Some(list), id[..16].to_owned())
    }
}

fn name_of(rid: &str, record: &PersonRecord) -> String {
    spelled_below(BELOW, rid, record)
}

fn spelled_below(below: &str, rid: &str, record: &PersonRecord) -> String {
    let PersonRecord { at, kind, tag, id } = record;
    let (at, tag) = (spelled_instant(*at), tag.as_deref().unwrap_or("-"));
    format!("{below}{rid}/{at}.{kind}.{tag}.{id}")
}

/// The seconds of an instant, which sort in the order of time.
fn spelled_instant(at: Timestamp) -> String {
    format!("{:012}", at.as_second().max(0))
}

fn parsed(name: &str) -> Option<(&str, PersonRecord)> {
    let (rid, rest) = name.split_once('/')?;
    Some((rid, record_of(rest)?))
}

fn record_of(name: &str) -> Option<PersonRecord> {
    let mut parts = name.split('.');
    let (at, kind, tag, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(PersonRecord {
        at: Timestamp::from_second(at.parse().ok()?).ok()?,
        kind: PersonKind::from_word(kind)?,
        tag: Some(tag).filter(|tag| *tag != "-").map(ToOwned::to_owned),
        id: id.to_owned(),
    })
}

#[cfg(test)]
mod tests;
