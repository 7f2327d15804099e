//! What the portal keeps: the record of a job behind its links, its people, and what was revoked.
//!
//! ```text
//! job/<ref>/job                 the record of a job: PortalJob
//! job/<ref>/people/<page>       its recipients, 1,000 a page; names are sealed
//! job/<ref>/objects/<page>      its objects, 1,000 a page
//! job/<ref>/renditions/<page>   the renditions of the pictures of a page of the listing
//! job/<ref>/zip/<n>/<page>      the files of a ZIP that is stored nowhere, 1,000 a page
//! of/<job>/<ref>                that the job has this record
//! gone/<ordinal>                a change to links: revoked, restored, or their end moved; 0, 1, 2 …
//! bundle/<n>                    a hundred changes in one record, so that a start reads less; made from the records by a reader
//! code/<rid>/<scope>/<quarter>/<k>  the k-th code that was mailed to a recipient in a quarter of an hour
//! codes/<rid>/<scope>/<day>/<k>     the k-th in a day
//! sent/<challenge>              that the code of a challenge was mailed
//! try/<challenge>/<k>           the k-th try at a code
//! tried/<rid>/<scope>/<day>/<k>     the k-th try of a recipient in a day
//! used/<challenge>              that its code was used
//! mine/<rid>/<ends>-<ref>       that a recipient has links of a job
//! day/<date>                    the key of a day for network addresses
//! ```
//!
//! Records are created once and never changed, so any number of portals can share them. They outlive the other records of
//! the ledger: an expired `gone` record would be a revoked link that works again.

mod changes;
mod codes;
mod prune;
mod zips;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64ct::{Base64, Encoding};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use changes::{ChangeKind, ChangeTarget, LinkChange};
pub use codes::{
    CODES_A_DAY, CODES_A_QUARTER, CodeScope, CodeSlot, TRIES_A_CHALLENGE, TRIES_A_DAY, TrySlot,
};

pub use zips::{PortalZip, PortalZipPlace, PortalZips, ZIP_FILES_PAGE};

use super::LedgerError;
use crate::edge::health::Edge;
use crate::job::phrase::NamePattern;
use crate::job::{
    Bucket, ConnectionName, ContentDisposition, FilledMessage, JobId, OpenMode, SignIn,
    TemplateName,
};
use crate::keyring::{Deriver, Keyring, Purpose, sha256_hex};
use crate::portal_token::JobRef;
use crate::text::charset::TextCharset;

/// How many names are listed at once.
const NAMES_AT_ONCE: usize = 1000;

/// How many people or objects a page of records has.
pub const PORTAL_PAGE: u32 = 1000;

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

    /// The same with all names, however many.
    async fn all_names(&self, below: &str) -> Result<Vec<String>, LedgerError> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map(String::as_str);
            let some = self.names(below, after, NAMES_AT_ONCE).await?;
            let is_last = some.len() < NAMES_AT_ONCE;
            all.extend(some);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Forgets the records that begin with `below` and were created before an instant. In a bucket, a lifecycle rule does this:
    /// the ledger needs no right to delete.
    async fn forget(&self, _below: &str, _before: Timestamp) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Deletes records by name; one that is not there is no error. In a bucket, nothing is deleted, as above.
    async fn delete(&self, _names: Vec<String>) -> Result<(), LedgerError> {
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
    /// What the job says to the readers of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<FilledMessage>,
    /// Whether the page is a gallery, and no plain list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_gallery: bool,
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
    /// Where the renditions of its pictures are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renditions: Option<PortalRenditions>,
    /// The ZIPs of its files.
    #[serde(default, skip_serializing_if = "PortalZips::is_empty")]
    pub zips: PortalZips,
}

/// Where the renditions of a job's pictures are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalRenditions {
    /// The bucket.
    pub bucket: Bucket,
    /// What their keys begin with, before their names.
    pub prefix: String,
    /// How many records list them. They are made before the first mail.
    pub pages: u32,
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
        let names = self.records.all_names(&below).await?;
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

    /// Keeps the renditions of a page of a job's listing, as JSON; an existing record of the job stays.
    pub async fn keep_renditions(
        &self,
        reference: JobRef,
        page: u32,
        renditions: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let name = renditions_name(reference, page);
        self.records.create(&name, renditions).await.map(drop)
    }

    /// The renditions of a page of a job's listing, if they are made.
    pub async fn renditions(
        &self,
        reference: JobRef,
        page: u32,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        self.records.read(&renditions_name(reference, page)).await
    }

    /// Records that a recipient has links of a job, for the list of all files.
    pub async fn keep_mine(
        &self,
        rid: &str,
        reference: JobRef,
        ends_at: Timestamp,
    ) -> Result<(), LedgerError> {
        let name = mine_name(rid, reference, ends_at);
        self.records.create(&name, Vec::new()).await.map(drop)
    }

    /// The jobs of which a recipient has links, the latest end first, at most `limit`.
    pub async fn mine(&self, rid: &str, limit: usize) -> Result<Vec<JobRef>, LedgerError> {
        if !is_plain(rid) {
            return Ok(Vec::new());
        }
        let names = self.records.all_names(&format!("mine/{rid}/")).await?;
        let latest = names.iter().rev().take(limit);
        let reference = |name: &String| name.split_once('-')?.1.parse().ok();
        Ok(latest.filter_map(reference).collect())
    }

    async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LedgerError> {
        let body = self.records.read(name).await?;
        body.map(|body| from_json(name, &body)).transpose()
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

fn mine_name(rid: &str, reference: JobRef, ends_at: Timestamp) -> String {
    format!("mine/{rid}/{:012}-{reference}", ends_at.as_second().max(0))
}

fn objects_name(reference: JobRef, page: u32) -> String {
    format!("job/{reference}/objects/{page:07}")
}

fn renditions_name(reference: JobRef, page: u32) -> String {
    format!("job/{reference}/renditions/{page:07}")
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
