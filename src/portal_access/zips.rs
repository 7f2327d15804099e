//! ZIPs of a job: an open of one that is stored nowhere, and its bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::cache::RecordCache;
use super::{
    AccessRefusal, LinkedObject, OpenEvidence, OpenKind, OpenMethod, PortalAccess, ReaderSession,
    SignedZip, Visit, open_id, sid_of,
};
use crate::archive::streamed::{StreamedFile, StreamedZip, ZipStretch};
use crate::audit::portal::OpenedFields;
use crate::keyring::nonce;
use crate::ledger::LedgerError;
use crate::ledger::portal::{ChangeTarget, PortalJob, PortalZip, PortalZipPlace};
use crate::links::listing::Entry;
use crate::links::portal::{link_id, link_ids};
use crate::portal_token::{JobRef, ObjectSlot, PortalToken};
use crate::store::ObjectMeta;

/// How many records are read at once.
const READS_AT_ONCE: usize = 8;

/// The key id of lines about links that no store answers.
const PORTAL_KEY: &str = "portal";

/// A file of a ZIP is not any more what it was when the job ran.
#[derive(Debug, thiserror::Error)]
#[error("a file of the ZIP has no link any more")]
struct FileGone;

impl PortalJob {
    /// The ZIP that a token is for.
    pub(super) fn zip_of(&self, slot: ObjectSlot) -> Option<&PortalZip> {
        self.zips.zips.get(usize::try_from(slot.zip()?).ok()?)
    }
}

/// A ZIP as its link shows it.
pub(super) fn linked_zip(
    slot: ObjectSlot,
    job: &PortalJob,
    zip: &PortalZip,
    link_id: String,
) -> LinkedObject {
    LinkedObject {
        index: slot.0,
        path: zip.file_name.clone(),
        name: zip.file_name.clone(),
        size_bytes: zip.size_bytes,
        modified: job.begun_at,
        media_type: None,
        is_inline: false,
        link_id,
    }
}

impl Visit {
    /// The ZIP of the link, if its bytes are made as they are read.
    pub(crate) fn streamed_zip(&self) -> Option<&PortalZip> {
        let zip = self.job.zip_of(self.token.object);
        zip.filter(|zip| zip.is_streamed())
    }
}

impl PortalAccess {
    /// Opens a ZIP that is stored nowhere, once the audit line is durable: steps 5 and 7. There is no link to sign.
    pub(crate) async fn open_zip(
        &self,
        visit: &Visit,
        how: OpenKind,
        method: OpenMethod,
        evidence: &OpenEvidence<'_>,
        session: Option<&ReaderSession>,
        now: Timestamp,
    ) -> Result<Arc<StreamedZip>, AccessRefusal> {
        let (Some(zip), Some(object)) = (visit.streamed_zip(), &visit.object) else {
            return Err(AccessRefusal::Forged);
        };
        let (job, reference) = (&visit.job, visit.token.job);
        let number = visit.token.object.zip().unwrap_or_default();
        let streamed = self.index.cache.zip(reference, number, zip).await?;
        self.admit_open(visit, session, now).await?;
        let (sid, told_apart) = (sid_of(session), nonce());
        let parts = [&object.link_id, &sid, &told_apart];
        let open = open_id(&self.opens, &parts.map(|part| part.as_bytes()));
        let (bucket, meta) = zip.object(reference, job);
        let visitor = self
            .visitors
            .fields(evidence, session, visit.reader_id(), now)
            .await;
        let fields = OpenedFields {
            job: job.job.as_str(),
            rid: visit.rid(&self.index.everyone),
            connection: job.connection.as_str(),
            bucket: bucket.as_str(),
            key: meta.key.as_str(),
            link_id: &object.link_id,
            open: &open,
            how: how.word(),
            link: &self.names.fingerprint(self.spell(&visit.token).expose()),
            signed_at: now,
            expires_at: visit.ends_at,
            access_key_id: PORTAL_KEY,
            visitor,
        };
        self.record_open(method, &fields).await?;
        Ok(streamed)
    }

    /// The bytes of a stretch of a ZIP that is stored nowhere.
    pub(crate) async fn zip_bytes(
        &self,
        visit: &Visit,
        stretch: &ZipStretch,
    ) -> Result<Bytes, AccessRefusal> {
        match stretch {
            ZipStretch::Bytes(bytes) => Ok(bytes.clone()),
            ZipStretch::Object { place, range } => {
                let job = &visit.job;
                let entry = self.index.cache.object(visit.token.job, *place).await?;
                let Some(Entry::Linkable(object)) = entry else {
                    return Err(AccessRefusal::unavailable(FileGone));
                };
                let store = &self.connection(job)?.store;
                let read = store.range(&job.bucket, &object, range.clone()).await;
                read.map_err(AccessRefusal::unavailable)
            }
        }
    }

    /// The ZIPs of a job for its page, without those that were revoked.
    pub(super) async fn zips_of_page(
        &self,
        visit: &Visit,
        rid: &str,
    ) -> Result<Vec<SignedZip>, AccessRefusal> {
        let (job, reference) = (&visit.job, visit.token.job);
        if job.zips.is_empty() {
            return Ok(Vec::new());
        }
        let of_job: Vec<(ObjectSlot, &PortalZip, ObjectMeta, String)> = (0..)
            .zip(&job.zips.zips)
            .map(|(number, zip)| {
                let (bucket, object) = zip.object(reference, job);
                let ids = link_ids(&self.index.link_ids, &job.job, rid, &bucket);
                let id = link_id(&ids, &object);
                (ObjectSlot::of_zip(number), zip, object, id)
            })
            .collect();
        let closed = self.revocations.ask(|links| {
            let has_revoked_file = links.object_below(&job.bucket, &job.prefix).is_some();
            let is_closed = |(_, zip, object, id): &(_, &PortalZip, ObjectMeta, String)| {
                let bucket = match &zip.place {
                    PortalZipPlace::Stored { bucket, .. } => bucket,
                    PortalZipPlace::Streamed { .. } => &job.bucket,
                };
                let key = object.key.as_str().to_owned();
                let targets = [
                    ChangeTarget::Object {
                        bucket: bucket.clone(),
                        key,
                    },
                    ChangeTarget::Link {
                        link_id: id.clone(),
                    },
                ];
                has_revoked_file || targets.iter().any(|target| links.of(target).is_some())
            };
            of_job.iter().map(is_closed).collect::<Vec<bool>>()
        });
        let closed = closed.await?;
        let open = of_job.into_iter().zip(closed).filter(|(_, closed)| !closed);
        let signed = open.map(|((slot, zip, _, id), _)| SignedZip {
            object: linked_zip(slot, &visit.job, zip, id),
            files: zip.files,
            token: self.index.keys.seal(&PortalToken {
                object: slot,
                ..visit.token
            }),
        });
        Ok(signed.collect())
    }
}

impl RecordCache {
    /// A ZIP that is stored nowhere, from the records of its files.
    async fn zip(
        &self,
        reference: JobRef,
        number: u32,
        zip: &PortalZip,
    ) -> Result<Arc<StreamedZip>, AccessRefusal> {
        if let Some(kept) = self.kept_zip(reference, number) {
            return Ok(kept);
        }
        let PortalZipPlace::Streamed { pages } = zip.place else {
            return Err(AccessRefusal::Forged);
        };
        let records = self.records();
        let pages = stream::iter(0..pages)
            .map(|page| records.zip_files(reference, (number as usize, page)))
            .buffered(READS_AT_ONCE);
        let pages: Vec<Vec<u8>> = pages.try_collect().await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut files: Vec<StreamedFile> = Vec::new();
            for page in pages {
                files.extend(serde_json::from_slice::<Vec<StreamedFile>>(&page)?);
            }
            Ok::<_, serde_json::Error>(StreamedZip::new(files))
        });
        let read = read.await.map_err(AccessRefusal::unavailable)?;
        let is_whole = |read: &StreamedZip| {
            read.size_bytes() == zip.size_bytes && read.directory_sha256() == zip.directory()
        };
        let read = read.ok().filter(is_whole);
        let read = Arc::new(read.ok_or_else(|| LedgerError::Unreadable {
            key: format!("job/{reference}/zip/{number}"),
        })?);
        self.keep_zip(reference, number, &read);
        Ok(read)
    }
}
