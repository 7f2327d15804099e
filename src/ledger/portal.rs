//! What the portal keeps: the record of a job behind its links, its people, and what was revoked.
//!
//! ```text
//! job/<ref>/job                 the record of a job: PortalJob
//! job/<ref>/people/<page>       its recipients, 1,000 a page; names are sealed
//! job/<ref>/objects/<page>      its objects, 1,000 a page
//! of/<job>/<ref>                that the job has this record
//! gone/<ordinal>                a change to links: revoked, restored, or their end moved; 0, 1, 2 …
//! code/<rid>/<quarter>/<k>      the k-th code that was mailed to a recipient in a quarter of an hour
//! try/<challenge>/<k>           the k-th try at a code
//! tried/<rid>/<date>/<k>        the k-th failed try of a recipient in a day
//! used/<challenge>              that its code was used
//! mine/<rid>/<ends>-<ref>       that a recipient has links of a job
//! day/<date>                    the key of a day for network addresses
//! ```
//!
//! Records are created once and never changed, so any number of portals can share them. They outlive the other records of
//! the ledger: an expired `gone` record would be a revoked link that works again.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64ct::{Base64, Encoding};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::LedgerError;
use crate::edge::health::Edge;
use crate::job::phrase::NamePattern;
use crate::job::{
    Bucket, ConnectionName, ContentDisposition, JobId, OpenMode, SignIn, TemplateName,
};
use crate::keyring::{Deriver, Keyring, Purpose, nonce, sha256_hex};
use crate::portal_token::JobRef;
use crate::text::charset::TextCharset;

/// How many changes are read at once.
const READS_AT_ONCE: usize = 64;

/// How long codes and tries are kept: the limits on them are of a day.
const LIMITS_KEPT_FOR: SignedDuration = SignedDuration::from_hours(48);

/// How many names are listed at once.
const NAMES_AT_ONCE: usize = 1000;

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

impl PortalCreated {
    /// Whose a record is that exists already, when `body` was to be created.
    pub(super) fn of(body: &[u8], existing: Vec<u8>) -> Self {
        match existing == body {
            true => Self::Ours,
            false => Self::Theirs(existing),
        }
    }
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

    /// Forgets the records that begin with `below` and were created before an instant. In a bucket, a lifecycle rule does this:
    /// the ledger needs no right to delete.
    async fn forget(&self, _below: &str, _before: Timestamp) -> Result<(), LedgerError> {
        Ok(())
    }
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
    /// The names that the job gives to files.
    pub file_names: PortalFileNames,
    /// The charset of texts that are shown and whose own is not known.
    pub text_charset: TextCharset,
    /// The title of the page, if it has one.
    pub title: Option<String>,
    /// The template of the page.
    pub template: TemplateName,
    /// The address for questions, if there is one.
    pub contact: Option<String>,
    /// The common part of the keys, which short names leave out.
    pub prefix: String,
    /// How many objects a page shows.
    pub page_size: u32,
    /// The time zone of instants, by its IANA name.
    pub time_zone: String,
}

/// The names that a job gives to its files, as the record keeps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortalFileNames {
    /// None: files have their own.
    Own,
    /// The stored `Content-Disposition` decides.
    Stored,
    /// A pattern for all recipients.
    Pattern(NamePattern),
    /// A pattern for each recipient: [`PortalPerson::file_names`].
    OfRecipient,
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
    /// The names of files, where they name the recipient. They are sealed in the record.
    pub file_names: Option<NamePattern>,
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
    people: Deriver,
}

/// A page of people as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredPeople {
    v: u32,
    people: Vec<StoredPerson>,
    /// The nonce and the sealed [`PersonalPart`]s, in base64.
    nonce: String,
    sealed: String,
}

#[derive(Serialize, Deserialize)]
struct StoredPerson {
    rid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
}

/// What is sealed of a person.
#[derive(Default, Serialize, Deserialize)]
struct PersonalPart {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_names: Option<NamePattern>,
}

/// The body of a slot: its nonce tells our record from another's.
#[derive(Serialize, Deserialize)]
struct SlotBody {
    nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tried: Option<CodeTry>,
}

impl PortalLedger {
    /// The records of a store; a key of `keyring` seals names.
    pub fn new(records: Arc<dyn PortalRecords>, keyring: &Keyring) -> Self {
        Self {
            records,
            people: keyring.deriver(Purpose::PortalPeople),
        }
    }

    /// The health of the service that keeps them; `None` if it is a file.
    pub fn edge(&self) -> Option<&Edge> {
        self.records.edge()
    }

    /// Creates the record of a job, unless it exists; returns the one that counts. Its people and objects must be kept before.
    pub async fn create_job(
        &self,
        reference: JobRef,
        job: PortalJob,
    ) -> Result<PortalJob, LedgerError> {
        let of = format!("of/{}/{reference}", folder_of(&job.job));
        self.records.create(&of, Vec::new()).await?;
        let name = job_name(reference);
        match self.records.create(&name, to_json(&job)).await? {
            PortalCreated::Ours => Ok(job),
            PortalCreated::Theirs(body) => from_json(&name, &body),
        }
    }

    /// The record of a job, if it exists.
    pub async fn job(&self, reference: JobRef) -> Result<Option<PortalJob>, LedgerError> {
        self.get(&job_name(reference)).await
    }

    /// The references of a job, from each time that its id was used.
    pub async fn references(&self, job: &JobId) -> Result<Vec<JobRef>, LedgerError> {
        let below = format!("of/{}/", folder_of(job));
        let names = self.all_names(&below).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Keeps a page of people; an existing page of the job stays.
    pub async fn keep_people(
        &self,
        reference: JobRef,
        page: u32,
        people: &[PortalPerson],
    ) -> Result<(), LedgerError> {
        let name = people_name(reference, page);
        let personal: Vec<PersonalPart> = people.iter().map(PersonalPart::of).collect();
        let (nonce, sealed) = self.seal(&name, to_json(&personal));
        let people = people.iter().map(|person| StoredPerson {
            rid: person.rid.clone(),
            locale: person.locale.clone(),
            time_zone: person.time_zone.clone(),
        });
        let page = StoredPeople {
            v: 1,
            people: people.collect(),
            nonce,
            sealed,
        };
        self.records.create(&name, to_json(&page)).await.map(drop)
    }

    /// A page of people, if it is kept.
    pub async fn people(
        &self,
        reference: JobRef,
        page: u32,
    ) -> Result<Option<Vec<PortalPerson>>, LedgerError> {
        let name = people_name(reference, page);
        let Some(stored) = self.get::<StoredPeople>(&name).await? else {
            return Ok(None);
        };
        let unreadable = || LedgerError::Unreadable { key: name.clone() };
        let personal = self.unseal(&name, &stored).ok_or_else(unreadable)?;
        let personal: Vec<PersonalPart> = from_json(&name, &personal)?;
        if personal.len() != stored.people.len() {
            return Err(unreadable());
        }
        let people = stored.people.into_iter().zip(personal);
        Ok(Some(
            people
                .map(|(person, personal)| PortalPerson {
                    rid: person.rid,
                    locale: person.locale,
                    time_zone: person.time_zone,
                    name: personal.name,
                    file_names: personal.file_names,
                })
                .collect(),
        ))
    }

    fn key_of(&self, name: &str) -> RandomizedNonceKey {
        let key = self.people.derive(&[name.as_bytes()]);
        RandomizedNonceKey::new(&AES_256_GCM, &key).expect("the key has 32 bytes")
    }

    fn seal(&self, name: &str, mut text: Vec<u8>) -> (String, String) {
        let key = self.key_of(name);
        let nonce = key
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut text)
            .expect("a page is shorter than what AES-GCM can seal");
        (
            Base64::encode_string(nonce.as_ref()),
            Base64::encode_string(&text),
        )
    }

    fn unseal(&self, name: &str, stored: &StoredPeople) -> Option<Vec<u8>> {
        let nonce = Base64::decode_vec(&stored.nonce).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let mut text = Base64::decode_vec(&stored.sealed).ok()?;
        let key = self.key_of(name);
        let opened = key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut text);
        let length = opened.ok()?.len();
        text.truncate(length);
        Some(text)
    }

    /// Keeps a page of a job's objects, as JSON; an existing page of the job stays.
    pub async fn keep_objects(
        &self,
        reference: JobRef,
        page: u32,
        objects: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let name = objects_name(reference, page);
        self.records.create(&name, objects).await.map(drop)
    }

    /// A page of a job's objects, if it is kept.
    pub async fn objects(
        &self,
        reference: JobRef,
        page: u32,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        self.records.read(&objects_name(reference, page)).await
    }

    /// Records that a recipient has links of a job, for the list of all files.
    pub async fn keep_mine(
        &self,
        rid: &str,
        reference: JobRef,
        ends_at: Timestamp,
    ) -> Result<(), LedgerError> {
        let name = format!("mine/{rid}/{:012}-{reference}", ends_at.as_second().max(0));
        self.records.create(&name, Vec::new()).await.map(drop)
    }

    /// The jobs of which a recipient has links, the latest end first, at most `limit`.
    pub async fn mine(&self, rid: &str, limit: usize) -> Result<Vec<JobRef>, LedgerError> {
        if !is_plain(rid) {
            return Ok(Vec::new());
        }
        let names = self.all_names(&format!("mine/{rid}/")).await?;
        let latest = names.iter().rev().take(limit);
        let reference = |name: &String| name.split_once('-')?.1.parse().ok();
        Ok(latest.filter_map(reference).collect())
    }

    /// Records that a code is about to be mailed to a recipient. `quarter` is the number of the quarter of an hour since 1970.
    pub async fn record_code(&self, rid: &str, quarter: u64) -> Result<CodeSlot, LedgerError> {
        let name = |k| format!("code/{rid}/{quarter}/{k}");
        let slot = self.take_slot(name, CODES_A_QUARTER, None).await?;
        Ok(slot.map_or(CodeSlot::Full, CodeSlot::Taken))
    }

    /// Records a try at a challenge, by its id in lower-case letters and digits. A failed try counts against the recipient's
    /// `day` too. A right code signs in once, and only by [`TryOutcome::Recorded`].
    pub async fn record_try(
        &self,
        challenge: &str,
        rid: &str,
        day: Date,
        tried: CodeTry,
    ) -> Result<TryOutcome, LedgerError> {
        if !is_plain(challenge) || !is_plain(rid) {
            return Ok(TryOutcome::Full);
        }
        let of_day = format!("tried/{rid}/{day}/");
        let most = TRIES_A_DAY as usize;
        if self.records.names(&of_day, None, most).await?.len() >= most {
            return Ok(TryOutcome::Full);
        }
        let name = |k| format!("try/{challenge}/{k}");
        let slot = self.take_slot(name, TRIES_A_CHALLENGE, Some(tried)).await?;
        if slot.is_none() {
            return Ok(TryOutcome::Full);
        }
        match tried {
            CodeTry::Failed => {
                let name = |k| format!("{of_day}{k:02}");
                let slot = self.take_slot(name, TRIES_A_DAY, Some(tried)).await?;
                Ok(slot.map_or(TryOutcome::Full, |_| TryOutcome::Recorded))
            }
            CodeTry::Used => {
                let used = format!("used/{challenge}");
                let body = to_json(&SlotBody {
                    nonce: nonce(),
                    tried: Some(tried),
                });
                Ok(match self.records.create(&used, body).await? {
                    PortalCreated::Ours => TryOutcome::Recorded,
                    PortalCreated::Theirs(_) => TryOutcome::UsedBefore,
                })
            }
        }
    }

    /// Takes the first free slot of `most`: a slot is a record, so that no counter is read and then written.
    async fn take_slot(
        &self,
        name: impl Fn(u32) -> String,
        most: u32,
        tried: Option<CodeTry>,
    ) -> Result<Option<u32>, LedgerError> {
        let body = to_json(&SlotBody {
            nonce: nonce(),
            tried,
        });
        for k in 0..most {
            if self.records.create(&name(k), body.clone()).await? == PortalCreated::Ours {
                return Ok(Some(k));
            }
        }
        Ok(None)
    }

    /// The key of a day for network addresses; the first caller of the day makes it.
    pub async fn day_key(&self, day: Date) -> Result<[u8; 32], LedgerError> {
        let name = format!("day/{day}");
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        match self.records.create(&name, key.to_vec()).await? {
            PortalCreated::Ours => Ok(key),
            PortalCreated::Theirs(body) => body
                .try_into()
                .map_err(|_| LedgerError::Unreadable { key: name }),
        }
    }

    /// Forgets codes and tries that limit nothing any more, and the keys of days before `keys_before`.
    pub async fn forget_old(
        &self,
        now: Timestamp,
        keys_before: Timestamp,
    ) -> Result<(), LedgerError> {
        let before = now.saturating_sub(LIMITS_KEPT_FOR).unwrap_or(now);
        for below in ["code/", "try/", "tried/", "used/"] {
            self.records.forget(below, before).await?;
        }
        self.records.forget("day/", keys_before).await
    }

    /// All changes to links, in their order.
    ///
    /// # Errors
    /// A missing ordinal is damage: what it revoked would open.
    pub async fn changes(&self) -> Result<Vec<LinkChange>, LedgerError> {
        let names = self.all_names("gone/").await?;
        let expected = (0..).map(change_name);
        for (name, expected) in names.iter().zip(expected) {
            if format!("gone/{name}") != expected {
                return Err(LedgerError::Unreadable { key: expected });
            }
        }
        let ordinals = 0..names.len() as u64;
        stream::iter(ordinals)
            .map(async |ordinal| {
                let name = change_name(ordinal);
                let change = self.get(&name).await?;
                change.ok_or(LedgerError::Unreadable { key: name })
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }

    /// The change with this ordinal, if it was made.
    pub async fn change(&self, ordinal: u64) -> Result<Option<LinkChange>, LedgerError> {
        self.get(&change_name(ordinal)).await
    }

    /// Adds a change behind the last one and returns its ordinal; `from` is an ordinal that is not above it, such as the number
    /// of changes that are known. When it returns, every check that begins later finds the change.
    pub async fn add_change(&self, from: u64, change: &LinkChange) -> Result<u64, LedgerError> {
        let body = to_json(change);
        for ordinal in from.. {
            let created = self
                .records
                .create(&change_name(ordinal), body.clone())
                .await?;
            if created == PortalCreated::Ours {
                return Ok(ordinal);
            }
        }
        unreachable!("there is a free ordinal")
    }

    async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LedgerError> {
        let body = self.records.read(name).await?;
        body.map(|body| from_json(name, &body)).transpose()
    }

    async fn all_names(&self, below: &str) -> Result<Vec<String>, LedgerError> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map(String::as_str);
            let some = self.records.names(below, after, NAMES_AT_ONCE).await?;
            let is_last = some.len() < NAMES_AT_ONCE;
            all.extend(some);
            if is_last {
                return Ok(all);
            }
        }
    }
}

impl PersonalPart {
    fn of(person: &PortalPerson) -> Self {
        Self {
            name: person.name.clone(),
            file_names: person.file_names.clone(),
        }
    }
}

fn job_name(reference: JobRef) -> String {
    format!("job/{reference}/job")
}

fn people_name(reference: JobRef, page: u32) -> String {
    format!("job/{reference}/people/{page:05}")
}

fn objects_name(reference: JobRef, page: u32) -> String {
    format!("job/{reference}/objects/{page:07}")
}

fn change_name(ordinal: u64) -> String {
    format!("gone/{ordinal:012}")
}

/// The folder of a job's references: an id may have characters that a key cannot.
fn folder_of(job: &JobId) -> String {
    let mut hash = sha256_hex(job.as_str().as_bytes());
    hash.truncate(32);
    hash
}

/// Whether a text from outside can be a part of a name.
fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a record is plain data")
}

fn from_json<T: DeserializeOwned>(name: &str, body: &[u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(body).map_err(|_| LedgerError::Unreadable {
        key: name.to_owned(),
    })
}

#[cfg(test)]
mod tests;
