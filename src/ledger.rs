//! What was already done: the records behind the guarantee of one mail per recipient.
//!
//! All safety rests on records that are created and never changed. The process that creates the *intent* `i.<n>` of a
//! recipient has the right to attempt `n` of that mail, exclusively and for ever. The *outcome* `o.<n>` is the result
//! of the attempt. An intent without an outcome, left behind by a process that died, is a *doubt*: the mail may or may
//! not have left. A doubt is recorded as `unknown`, counted, and resolved: by `resolve_cmd`, by `on_doubt`, or by an
//! operator.
//!
//! ```text
//! plan       which job this id belongs to, and which objects it hands out
//! i.<n>      INTENT    after the audit lines are durable, before the mail's last byte
//! o.<n>      OUTCOME   accepted | rejected | not_sent | unknown
//! l.<n>      LATE      the outcome by the owner of attempt n, after another process wrote `unknown`
//! v.<n>      VERDICT   about an attempt that is unknown: was_sent | resend_ok; about one that was rejected: resend_ok
//! done       every recipient has a final status: the message may be deleted
//! reopened   a verdict came after `done`, or a late outcome that was not sent: the job may be worked once more, until the next `done`
//! notified   a process notifies the operator, or did, of the recipients without a mail at this `done`: see [`notices`]
//! s.<n>      SUPPRESSED instead of attempt n: the recipient gets no mail of this job
//! d.0, b.0   what a mail system reported of an accepted mail: it arrived; it bounced, or was complained about
//! chunk.<n>  some recipients of a job in parts have a final status, each in a job of their own: what these came to
//! zip.<n>    which upload the parts of a ZIP go to: another attempt continues it
//! served     an event of a key was served; an earlier one comes too late
//! lease      which worker runs the job now; the one record that changes, and correctness does not rest on it
//! ```
//!
//! The protocol was checked exhaustively in a model, `tests/model/ledger_model.py`. Its transitions are these places:
//!
//! | transition | place |
//! |---|---|
//! | `recv` | `Worker::receive` |
//! | `first` | `begin`, in `distribute/edges.rs`, over [`lease::take_first`] |
//! | `plan`, `plan-412`, `plan-412-own` | `start`, in `distribute/state.rs`; 412 is [`Created::Theirs`], or ours by its nonce |
//! | `busy-wait` | `JobError::Busy`, `DeliverError::Taken`; `FailureClass::Busy` |
//! | `look` | `DeliveryLedger::look`, over [`status_of()`] |
//! | `skip` | `DeliveryResult::EndedBefore` |
//! | `go` | `pending_recipients`, in `distribute/audiences.rs` |
//! | `audit` | `gather`, in `distribute/batches.rs`: a letter cannot be made before |
//! | `pre-ok`, `pre-fail` | `Route::open` |
//! | `intent`, `intent-412`, `intent-412-own` | `DeliveryLedger::intend`; 412 is [`Created::Theirs`], or ours by its nonce |
//! | `acc`, `acc-noreply`, `4xx`, `5xx`, `drop` | the end of DATA, `PreparedSend::send_and_tell`; the result is an [`Outcome`] |
//! | `out`, `late` | `DeliveryLedger::conclude` |
//! | `doubt` | `DeliveryLedger::doubt` |
//! | `resend`, `hold`, `sent` | `DeliveryLedger::decide`; an operator's: [`resolve::resolve`] |
//! | `giveup` | `DeliverError::Exhausted` |
//! | `fin`, `done`, `reread` | `finish`, in `distribute/finish.rs` |
//! | `done-clean` | `is_certain`, in `distribute/audiences.rs`, by `Ending::is_certain` |
//! | `read` | `resume`, in `distribute/state.rs`, over `JobRecords::after` |
//! | `allow` | the verdict of [`resolve::resolve`] |
//! | `reopen` | `resolve::reopen`; for a late outcome [`resolve::reopen_after_late`] |
//! | `again` | `resolve::resend` |
//! | `delete` | `settle::delete` |

pub mod intake;
pub mod lease;
#[cfg(any(test, feature = "test-support"))]
pub mod memory;
pub mod notices;
pub mod people;
pub mod picture_cache;
pub mod portal;
pub mod resolve;
pub mod resolver;
pub mod s3;
pub mod schedules;
pub mod sqlite;
pub mod status;
pub mod taken_reports;
pub mod timed;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use status::{JobRecords, MAX_DOUBTS, RecipientStatus, status_of};

use crate::bounds::MAX_ATTEMPTS;
use crate::database::DatabaseError;
use crate::edge::EdgeError;
use crate::edge::health::Edge;
use crate::job::JobId;
use crate::job::occurrence::Sequencer;
use crate::keyring::nonce;
use crate::ledger::lease::Leases;
use crate::ledger::picture_cache::PictureCache;
use crate::ledger::portal::PortalRecords;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Kind {
    /// Which body the job's id belongs to.
    Plan,
    /// The right to an attempt.
    Intent,
    /// What became of an attempt.
    Outcome,
    /// The outcome by the owner of an attempt, after another process had recorded it as unknown.
    Late,
    /// A decision about an attempt that is unknown or was rejected.
    Verdict,
    /// Every recipient has a final status.
    Done,
    /// A verdict allows a mail after the job was done.
    Reopened,
    /// The operator is notified, or was, of the recipients that the job did not reach.
    Notified,
    /// An event of a key was served: an earlier one comes too late. It belongs to a series of events, not to a job.
    Served,
    /// Which upload the parts of a ZIP go to.
    Zip,
    /// The recipient gets no mail of this job: bounces, a complaint, or a wish of the recipient or an operator.
    Suppressed,
    /// A mail system reported that the mail arrived.
    Delivered,
    /// A mail system reported that an accepted mail did not arrive, or that its recipient complained.
    Bounced,
    /// Some recipients of a job in parts have a final status.
    Chunk,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Plan,
        Self::Intent,
        Self::Outcome,
        Self::Late,
        Self::Verdict,
        Self::Done,
        Self::Reopened,
        Self::Notified,
        Self::Served,
        Self::Zip,
        Self::Suppressed,
        Self::Delivered,
        Self::Bounced,
        Self::Chunk,
    ];

    /// The word under which a store keeps the kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Intent => "i",
            Self::Outcome => "o",
            Self::Late => "l",
            Self::Verdict => "v",
            Self::Done => "done",
            Self::Reopened => "reopened",
            Self::Notified => "notified",
            Self::Served => "served",
            Self::Zip => "zip",
            Self::Suppressed => "s",
            Self::Delivered => "d",
            Self::Bounced => "b",
            Self::Chunk => "chunk",
        }
    }

    /// The kind that a store keeps under `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        kind.as_str()
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Self::from_word(&word).ok_or_else(|| format!("{word:?} is not a kind of record"))
    }
}

/// A record: created once, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The job.
    pub job: JobId,
    /// The recipient's id; empty for a record of the whole job.
    pub rid: String,
    /// The attempt at this recipient, from 0; for `done`, `notified` and `reopened`, how often the job had been
    /// reopened; for `zip`, the number of the upload; for `chunk`, that of the recipients' page.
    #[serde(deserialize_with = "attempt")]
    pub n: u32,
    /// The kind.
    pub kind: Kind,
    /// Random, and different for every attempt to create a record: it tells our record from another's.
    pub nonce: String,
    /// The body, as JSON.
    pub body: Value,
}

/// Reads the number of an attempt, which must have a successor.
fn attempt<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let n = u32::deserialize(deserializer)?;
    match n < MAX_ATTEMPTS {
        true => Ok(n),
        false => Err(de::Error::custom(format_args!(
            "the attempt {n} is above the limit of {MAX_ATTEMPTS}"
        ))),
    }
}

impl Record {
    /// A record with a nonce of its own.
    pub fn new(job: &JobId, rid: &str, n: u32, kind: Kind, body: Value) -> Self {
        Self {
            job: job.clone(),
            rid: rid.to_owned(),
            n,
            kind,
            nonce: nonce(),
            body,
        }
    }

    fn damaged(&self) -> LedgerError {
        LedgerError::Damaged {
            job: self.job.to_string(),
            kind: self.kind.as_str().to_owned(),
            n: self.n,
        }
    }
}

/// Which process created a record first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// This process created it now.
    Ours,
    /// Another process did; this is the existing record.
    Theirs(Record),
}

/// The version of the records in a bucket, in the ledger's marker. A change after which an earlier program would misread them raises it.
const LEDGER_VERSION: u64 = 1;

/// Why the ledger did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed.
    #[error("could not {action} the ledger")]
    Database {
        /// `write to` or `read`.
        action: &'static str,
        /// The database's error.
        source: DatabaseError,
    },
    /// The request to the bucket failed.
    #[error(transparent)]
    Store(#[from] EdgeError),
    /// The bucket's server does not implement conditional writes correctly.
    #[error(
        "the ledger cannot be kept in {place}: its server accepts a write whose {header} condition fails, so two workers could send the same mail; use Amazon S3 or another server with conditional writes"
    )]
    ConditionalWritesUnsupported {
        /// The bucket and the prefix.
        place: String,
        /// The condition that it ignores.
        header: &'static str,
    },
    /// Another installation keeps its ledger there.
    #[error(
        "the ledger in {place} belongs to workers with another secret: give all workers of one ledger the same secret_key_file, or this one a prefix of its own"
    )]
    OtherSecret {
        /// The bucket and the prefix.
        place: String,
    },
    /// A later version of the program keeps its ledger there.
    #[error(
        "the ledger in {place} has the schema version {found}, and this version of Handout knows {LEDGER_VERSION}: run the newer version on all workers of one ledger"
    )]
    Newer {
        /// The bucket and the prefix.
        place: String,
        /// The version in its marker.
        found: u64,
    },
    /// An object of the ledger exists, but cannot be parsed.
    #[error(
        "the ledger's object {key} cannot be read: restore it from an earlier version or a backup"
    )]
    Unreadable {
        /// Its key.
        key: String,
    },
    /// A record exists, but cannot be parsed.
    #[error(
        "the ledger's record {kind}.{n} of the job {job} cannot be read: restore it from a backup"
    )]
    Damaged {
        /// The job.
        job: String,
        /// The record's kind.
        kind: String,
        /// The record's attempt.
        n: u32,
    },
}

impl LedgerError {
    /// Whether the disk under the ledger is full: the ledger is a file then.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Database { source, .. } if source.is_full())
    }
}

/// Stores records. Every method returns after its effect is durable.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// The health of what keeps it; `None` if it is in a file whose health another edge tells.
    fn edge(&self) -> Option<&Edge> {
        None
    }

    /// The health of its writes; `None` if it is a file.
    ///
    /// A service may reject writes while it answers reads: its disk is full, the credentials may only read, or a proxy in front of it lets
    /// no PUT through.
    fn write_edge(&self) -> Option<&Edge> {
        None
    }

    /// Both edges of the service that keeps it.
    fn edges(&self) -> Vec<&Edge> {
        self.edge().into_iter().chain(self.write_edge()).collect()
    }

    /// Makes a request that shows whether records can be written, and changes none.
    async fn try_a_write(&self) {}

    /// Whether only the owner of this machine's state can read it. A record of another ledger names recipients by their ids alone.
    fn is_private(&self) -> bool {
        false
    }

    /// Creates a record unless one of its job, recipient, attempt and kind exists. Never changes a record.
    async fn create(&self, record: Record) -> Result<Created, LedgerError>;

    /// All records of a job.
    async fn records(&self, job: &JobId) -> Result<Vec<Record>, LedgerError>;

    /// The records of a job that belong to one recipient; to the whole job when `rid` is empty.
    async fn records_of(&self, job: &JobId, rid: &str) -> Result<Vec<Record>, LedgerError>;

    /// All records of those recipients of a job in parts about whose mail a mail system reported something. Each of them has a part of
    /// the job.
    async fn reports_of_parts(&self, job: &JobId) -> Result<Vec<Record>, LedgerError>;

    /// The `served` records of later events of a series: those with greater sequencers.
    async fn served_after(
        &self,
        series: &JobId,
        sequencer: &Sequencer,
    ) -> Result<Vec<Record>, LedgerError> {
        let mut records = self.records(series).await?;
        records.retain(|record| record.kind == Kind::Served && *record.rid > *sequencer.as_str());
        Ok(records)
    }

    /// Whether every recipient of a job has a final status, and no verdict came after it: see [`status::is_done`].
    async fn is_done(&self, job: &JobId) -> Result<bool, LedgerError> {
        Ok(status::is_done(&self.records_of(job, "").await?))
    }

    /// The jobs that were begun, the latest first, at most `limit`.
    async fn jobs(&self, limit: usize) -> Result<Vec<JobId>, LedgerError>;

    /// Stores page `number` of a listing of the job's objects. A listing has a random name and is written by one
    /// process; it is valid once the job's plan names it.
    async fn keep_page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
        page: Vec<u8>,
    ) -> Result<(), LedgerError>;

    /// Page `number` of a listing, if it is stored.
    async fn page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
    ) -> Result<Option<Vec<u8>>, LedgerError>;

    /// The job's listings are not needed any more; the ledger may delete them.
    async fn forget_pages(&self, job: &JobId) -> Result<(), LedgerError>;

    /// The leases by which workers share jobs; `None` if only one process can open the ledger.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }

    /// The records of the portal, which are kept beside those of deliveries and do not expire with them.
    fn portal_records(&self) -> Arc<dyn PortalRecords>;

    /// The records of schedules and of the intake. They may expire with those of deliveries.
    fn expiring_records(&self) -> Arc<dyn PortalRecords> {
        self.portal_records()
    }

    /// The cache for what can be computed again, if there is one.
    fn picture_cache(&self) -> Option<&dyn PictureCache> {
        None
    }
}

/// What mail systems reported of the accepted mails of a job, or of its parts if it is in parts.
///
/// # Errors
/// The ledger does not answer, or a record cannot be read.
pub async fn reported_mails_of(
    job: &JobId,
    is_in_parts: bool,
    ledger: &dyn Ledger,
) -> Result<status::ReportedMails, LedgerError> {
    let records = match is_in_parts {
        true => ledger.reports_of_parts(job).await?,
        false => ledger.records(job).await?,
    };
    // No recipient has two parts of a job.
    status::reported_mails(&JobRecords::new(records))
}

/// How long [`Ledger::expiring_records`] are kept in a database. In a bucket, a lifecycle rule expires them.
const EXPIRING_KEPT_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Forgets old [`Ledger::expiring_records`] with this prefix, where the ledger is a database.
async fn forget_expired(
    records: &dyn PortalRecords,
    below: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    match now.checked_sub(EXPIRING_KEPT_FOR) {
        Ok(before) => records.forget(below, before).await,
        Err(_) => Ok(()),
    }
}

/// The outcome of a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The relay accepted it: 250 after the end of DATA.
    Accepted {
        /// The relay's text, which often has its id for the mail.
        words: String,
    },
    /// The relay will never accept it: 5xx.
    Rejected {
        /// The reply code.
        code: u16,
        /// The relay's words.
        words: String,
    },
    /// It was certainly not sent: 4xx after the end of DATA, or no end of DATA.
    NotSent {
        /// The reply code, if there was a reply.
        code: Option<u16>,
        /// The relay's text, or ours.
        words: String,
    },
    /// The end of DATA was sent and no reply came, or the process died in between.
    Unknown {
        /// What is known about it.
        words: String,
    },
    /// Nothing was sent, and nothing will be: the recipient is suppressed.
    Suppressed {
        /// Why, and since when.
        words: String,
    },
}

impl Outcome {
    /// The outcome's word in lines, tables and metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
            Self::NotSent { .. } => "not_sent",
            Self::Unknown { .. } => "unknown",
            Self::Suppressed { .. } => "suppressed",
        }
    }

    /// The outcome in sentences for people.
    pub const fn for_people(&self) -> &'static str {
        match self {
            Self::NotSent { .. } => "not sent",
            Self::Unknown { .. } => "in doubt",
            Self::Accepted { .. } | Self::Rejected { .. } | Self::Suppressed { .. } => self.word(),
        }
    }

    /// The relay's reply code, if there is one.
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::Accepted { .. } => Some(250),
            Self::Rejected { code, .. } => Some(*code),
            Self::NotSent { code, .. } => *code,
            Self::Unknown { .. } | Self::Suppressed { .. } => None,
        }
    }

    /// The relay's text, or ours.
    pub fn words(&self) -> &str {
        match self {
            Self::Accepted { words }
            | Self::Rejected { words, .. }
            | Self::NotSent { words, .. }
            | Self::Unknown { words }
            | Self::Suppressed { words } => words,
        }
    }

    /// A doubt that is held: nothing is sent until it has a verdict.
    pub fn held() -> Self {
        Self::Unknown {
            words: "the in-doubt delivery is not resolved".to_owned(),
        }
    }

    /// As a record's body.
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("an outcome is plain data")
    }
}

/// The answer to a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The mail left: nothing more is sent.
    WasSent,
    /// Another attempt may be made, though the mail may have left.
    ResendOk,
}

/// An answer, and its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer.
    pub verdict: Answer,
    /// `on_doubt`, `resolve_cmd` or `operator`.
    pub by: String,
}

impl Verdict {
    /// A verdict from this source.
    pub fn new(verdict: Answer, by: &str) -> Self {
        Self {
            verdict,
            by: by.to_owned(),
        }
    }

    /// As a record's body.
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("a verdict is plain data")
    }
}
