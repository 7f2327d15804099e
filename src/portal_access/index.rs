//! Steps 1 and 2: what a token is for, by the records of its job.

use std::sync::Arc;

use jiff::Timestamp;

use super::cache::RecordCache;
use super::{AccessRefusal, RevokedLinks};
use crate::audit::record::Pseudonyms;
use crate::job::{Bucket, JobId, SignIn};
use crate::keyring::{Deriver, Keyring, Purpose};
use crate::ledger::portal::{PortalJob, PortalLedger, PortalPerson};
use crate::links::listing::Entry;
use crate::links::portal::{link_id, link_ids, page_link_id};
use crate::plan::Audience;
use crate::portal_token::{EVERYBODY, PortalKeys, PortalToken};
use crate::store::ObjectMeta;

/// Reads tokens and finds what they are for.
#[derive(Debug)]
pub struct LinkIndex {
    pub(super) keys: PortalKeys,
    pub(super) link_ids: Deriver,
    /// The recipient's id that the audit log has for everyone.
    pub(super) everyone: String,
    pub(super) cache: RecordCache,
}

/// The links that a recipient has of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientLinks {
    /// None: the job has no such recipient.
    None,
    /// Those of all recipients, which open without a sign-in: no recipient can be told from another.
    Shared,
    /// Their own, or shared ones that ask who opens them.
    ToldApart,
}

/// What a token is for.
#[derive(Debug, Clone)]
pub struct LinkFacts {
    /// The token.
    pub token: PortalToken,
    /// Its job.
    pub job: Arc<PortalJob>,
    /// Its recipient; `None` if all recipients share the link.
    pub person: Option<PortalPerson>,
    /// The recipient's id; everyone's if all share the link.
    pub rid: String,
    /// Its object; `None` for the page. A ZIP is one, too.
    pub entry: Option<Entry>,
    /// The bucket of its object.
    pub bucket: Bucket,
    /// The link id.
    pub link_id: String,
}

impl LinkIndex {
    /// An index of the links in these records.
    pub fn new(keyring: &Keyring, names: &Pseudonyms, records: PortalLedger) -> Self {
        Self {
            keys: PortalKeys::new(keyring),
            link_ids: keyring.deriver(Purpose::LinkId),
            everyone: names.recipient_id(&Audience::Everyone.canonical()),
            cache: RecordCache::new(records),
        }
    }

    /// What a text says, if it is a token of this installation. No look-up is made.
    pub fn read(&self, token: &str) -> Result<PortalToken, AccessRefusal> {
        self.keys.open(token).ok_or(AccessRefusal::Forged)
    }

    /// What a token is for.
    pub async fn facts(&self, token: PortalToken) -> Result<LinkFacts, AccessRefusal> {
        let job = self.cache.job(token.job).await?;
        let person = self.person(&token, &job).await?;
        let rid = person.as_ref().map_or(&self.everyone, |person| &person.rid);
        let rid = rid.clone();
        let mut bucket = job.bucket.clone();
        let entry = match (token.object.index(), token.object.zip()) {
            (Some(index), _) => {
                let entry = self.cache.object(token.job, index).await?;
                Some(entry.ok_or(AccessRefusal::Forged)?)
            }
            (None, Some(_)) => {
                let zip = job.zip_of(token.object).ok_or(AccessRefusal::Forged)?;
                let (of_zip, object) = zip.object(token.job, &job);
                bucket = of_zip;
                Some(Entry::Linkable(object))
            }
            (None, None) => None,
        };
        let link_id = match &entry {
            Some(Entry::Linkable(object)) => {
                let ids = link_ids(&self.link_ids, &job.job, &rid, &bucket);
                link_id(&ids, object)
            }
            // An object that could not be linked has an id that is its own, so that revoking its link leaves the page.
            Some(Entry::Unavailable(key, _)) => {
                let ids = link_ids(&self.link_ids, &job.job, &rid, &job.bucket);
                ids.id(&[key.as_bytes(), b"unavailable"])
            }
            None => page_link_id(&self.link_ids, token.job, &rid),
        };
        Ok(LinkFacts {
            token,
            job,
            person,
            rid,
            entry,
            bucket,
            link_id,
        })
    }

    /// What links a recipient has of a job, each time that its id was used.
    pub async fn links_of_recipient(
        &self,
        job: &JobId,
        rid: &str,
    ) -> Result<RecipientLinks, AccessRefusal> {
        let mut found = RecipientLinks::None;
        for reference in self.cache.records().references(job).await? {
            let record = match self.cache.job(reference).await {
                Err(AccessRefusal::NotYet) => continue,
                record => record?,
            };
            let place = self.cache.place_of(reference, &record, rid).await?;
            let is_told_apart = record.per_recipient || record.sign_in != SignIn::None;
            match (place, is_told_apart) {
                (None, _) => {}
                (Some(_), false) => found = RecipientLinks::Shared,
                (Some(_), true) => return Ok(RecipientLinks::ToldApart),
            }
        }
        Ok(found)
    }

    /// The recipient of a token; `None` if the link is everybody's.
    pub(super) async fn person(
        &self,
        token: &PortalToken,
        job: &PortalJob,
    ) -> Result<Option<PortalPerson>, AccessRefusal> {
        if token.recipient == EVERYBODY {
            let is_shared = !job.per_recipient || job.people == 0;
            return match is_shared {
                true => Ok(None),
                false => Err(AccessRefusal::Forged),
            };
        }
        let person = self.cache.person(token.job, token.recipient).await?;
        person.ok_or(AccessRefusal::Forged).map(Some)
    }
}

impl LinkFacts {
    /// The object, if the link is one's that can be linked.
    pub const fn object(&self) -> Option<&ObjectMeta> {
        match &self.entry {
            Some(Entry::Linkable(object)) => Some(object),
            Some(Entry::Unavailable(..)) | None => None,
        }
    }

    /// When the link ends, and when it was revoked, if it is.
    pub fn state(&self, links: &RevokedLinks) -> (Timestamp, Option<Timestamp>) {
        let Self { job, rid, .. } = self;
        let key = self
            .object()
            .map(|object| (&self.bucket, object.key.as_str()));
        let reference = self.token.job;
        let moved = links.end_of(&job.job, reference);
        let revoked = links.link(&job.job, reference, rid, key, &self.link_id);
        // A ZIP has all files of its job: it does not open when one of them may not.
        let is_zip = self.token.object.zip().is_some();
        let of_file = || links.object_below(&job.bucket, &job.prefix);
        let revoked = revoked.or_else(|| of_file().filter(|_| is_zip));
        (moved.unwrap_or(job.ends_at), revoked)
    }
}
