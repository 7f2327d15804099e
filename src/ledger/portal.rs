//! What the portal keeps: the record of a job behind its links, its people, and what was revoked.
//!
//! ```text
//! job/<ref>                     the record of a job: PortalJob
//! job/<ref>/people/<page>       its recipients, 1,000 a page; names are sealed
//! job/<ref>/objects/<page>      its objects, 1,000 a page
//! of/<job>/<ref>                that the job has this record
//! gone/<ordinal>                a change to links: revoked, restored, or their end moved; 0, 1, 2 …
//! code/<rid>/<quarter>/<k>      the k-th code that was mailed to a recipient in a quarter of an hour
//! try/<challenge>/<k>           the k-th try at a code
//! mine/<rid>/<ends>-<ref>       that a recipient has links of a job
//! day/<date>                    the key of a day for network addresses
//! ```
//!
//! Records are created once and never changed, so any number of portals can share them. They outlive the other records of
//! the ledger: an expired `gone` record would be a revoked link that works again.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::LedgerError;
use crate::edge::health::Edge;
use crate::job::{Bucket, ConnectionName, ContentDisposition, JobId, OpenMode, SignIn};
use crate::keyring::Keyring;
use crate::portal_token::JobRef;

/// How many people or objects a page of records has.
pub const PORTAL_PAGE: u32 = 1000;

/// How many codes a recipient can get in a quarter of an hour.
pub const CODES_A_QUARTER: u32 = 3;

/// How many tries a challenge allows.
pub const TRIES_A_CHALLENGE: u32 = 5;

/// How many tries a recipient has in a day.
pub const TRIES_A_DAY: u32 = 30;

/// Which process created a record of the portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortalCreated {
    /// This one, now or in an earlier attempt whose reply was lost.
    Ours,
    /// Another; this is the body of the existing record.
    Theirs(Vec<u8>),
}

/// Stores the records of the portal by name. Every method returns after its effect is durable.
#[async_trait]
pub trait PortalRecords: Send + Sync + fmt::Debug {
    /// The health of the service that keeps them; `None` if it is a file.
    fn edge(&self) -> Option<&Edge> {
        None
    }

    /// Creates a record unless one with its name exists. An existing record with the same body counts as ours, so a body
    /// that several processes could write has a nonce.
    async fn create(&self, name: &str, body: Vec<u8>) -> Result<PortalCreated, LedgerError>;

    /// The body of a record, if it exists. A record that was created before the call began is found.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError>;

    /// The names that begin with `below`, sorted, without that beginning; at most `limit`, those after `after` alone.
    async fn names(
        &self,
        below: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, LedgerError>;
}

/// The record of a job behind its portal links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortalJob {
    /// The version of the record.
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// The connection that signs.
    pub connection: ConnectionName,
    /// The bucket of the objects.
    pub bucket: Bucket,
    /// The listing that the job's plan names.
    pub listing: String,
    /// How many objects it has, those that could not be linked included.
    pub objects: u32,
    /// How many recipients it has.
    pub people: u32,
    /// Whether each recipient has links of their own.
    pub per_recipient: bool,
    /// When the job was begun.
    pub begun_at: Timestamp,
    /// When its links end, unless a later change moved it.
    pub ends_at: Timestamp,
    /// How a visitor signs in.
    pub sign_in: SignIn,
    /// What a link answers first.
    pub open: OpenMode,
    /// What a browser does with the files.
    pub disposition: ContentDisposition,
    /// The title of the page, if it has one.
    pub title: Option<String>,
    /// The name of the sender in mails, if it has one.
    pub sender: Option<String>,
    /// The address for questions, if there is one.
    pub contact: Option<String>,
    /// The common part of the keys, which short names leave out.
    pub prefix: String,
    /// How many objects a page shows.
    pub page_size: u32,
    /// The time zone of instants, by its IANA name.
    pub time_zone: String,
}

/// A recipient of a portal's job, as the records keep it: by the keyed id, without the address.
#[derive(Debug, Clone, PartialEq)]
pub struct PortalPerson {
    /// The recipient's id.
    pub rid: String,
    /// The language of the mail, if the job says it.
    pub locale: Option<String>,
    /// The time zone by its IANA name, if the job says it.
    pub time_zone: Option<String>,
    /// The recipient's name, if the job says it. It is sealed in the record.
    pub name: Option<String>,
}

/// What a change to links is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ChangeTarget {
    /// All links of a job.
    Job {
        /// The job.
        job: JobId,
    },
    /// All links of a recipient, of one job or of all.
    Recipient {
        /// The recipient's id.
        rid: String,
        /// The job; all jobs without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
    },
    /// All links to an object.
    Object {
        /// The bucket.
        bucket: Bucket,
        /// The key.
        key: String,
    },
    /// One link, by its id.
    Link {
        /// The link id.
        link_id: String,
    },
    /// The sessions of a recipient that began before the change.
    Sessions {
        /// The recipient's id.
        rid: String,
    },
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ChangeKind {
    /// The links do not open any more.
    Revoked,
    /// The links open again.
    Restored,
    /// The links of a job end at another instant.
    Moved {
        /// The new end.
        until: Timestamp,
    },
}

/// A change to links, in the order of their ordinals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChange {
    /// What it does.
    #[serde(flatten)]
    pub kind: ChangeKind,
    /// What it is about.
    #[serde(flatten)]
    pub target: ChangeTarget,
    /// The user who asked for it.
    pub by: String,
    /// The reason, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When it was asked for.
    pub at: Timestamp,
    /// Random: it tells our record from another's.
    pub nonce: String,
}

/// Whether a code may be mailed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeSlot {
    /// Yes: it is the `k`-th of its quarter of an hour, from 0.
    Taken(u32),
    /// No: the recipient has got as many as are allowed in this quarter of an hour.
    Full,
}

/// What a try at a code came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeTry {
    /// The code was wrong.
    Failed,
    /// The code was right, and is used up by this.
    Used,
}

/// Whether a try counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryOutcome {
    /// It is recorded: a right code signs in, once.
    Recorded,
    /// The challenge was used before.
    UsedBefore,
    /// The challenge, or the recipient's day, has no try left.
    Full,
}

/// The records of the portal, with their types.
#[derive(Debug, Clone)]
pub struct PortalLedger {
    records: Arc<dyn PortalRecords>,
    keyring: Keyring,
}

impl PortalLedger {
    /// The records of a store; `keyring` seals names.
    pub fn new(records: Arc<dyn PortalRecords>, keyring: Keyring) -> Self {
        Self { records, keyring }
    }

    /// The health of the service that keeps them; `None` if it is a file.
    pub fn edge(&self) -> Option<&Edge> {
        self.records.edge()
    }

    /// The record of a job, if it exists.
    pub async fn job(&self, reference: JobRef) -> Result<Option<PortalJob>, LedgerError> {
        let _ = (&self.keyring, reference);
        todo!()
    }

    /// A recipient of a job, by the index in a token.
    pub async fn person(
        &self,
        reference: JobRef,
        index: u32,
    ) -> Result<Option<PortalPerson>, LedgerError> {
        let _ = (reference, index);
        todo!()
    }

    /// Records that a code is about to be mailed to a recipient. `quarter` is the number of the quarter of an hour since 1970.
    pub async fn record_code(&self, rid: &str, quarter: u64) -> Result<CodeSlot, LedgerError> {
        let _ = (rid, quarter);
        todo!()
    }

    /// Records a try at a challenge, by its id in letters that a key may have. The try counts against the recipient's `day` too.
    pub async fn record_try(
        &self,
        challenge: &str,
        rid: &str,
        day: Date,
        tried: CodeTry,
    ) -> Result<TryOutcome, LedgerError> {
        let _ = (challenge, rid, day, tried);
        todo!()
    }

    /// The key of a day for network addresses; the first caller of the day makes it.
    pub async fn day_key(&self, day: Date) -> Result<[u8; 32], LedgerError> {
        let _ = day;
        todo!()
    }

    /// The jobs of which a recipient has links, the latest end first, at most `limit`.
    pub async fn mine(
        &self,
        rid: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobRef>, LedgerError> {
        let _ = (rid, now, limit);
        todo!()
    }
}
