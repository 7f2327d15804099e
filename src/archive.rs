//! One ZIP of a job's files, or several where one would be too large.
//!
//! It is made once for all recipients, and each gets a link of their own to it. In a store, large files are copied inside it
//! ([`inside`]); in a directory and in a store without uploads in parts it is written as a file ([`mod@file`]). Both follow the same
//! layout, which is known before the first byte ([`layout`]). The portal can make the bytes by the same layout as they are read
//! ([`streamed`]). A ZIP has a name that is derived from its layout: another attempt at
//! the job finds it, and takes it if its directory is the expected one.

mod contents;
mod file;
mod inside;
mod layout;
mod names;
mod record;
#[cfg(any(test, feature = "test-support"))]
pub mod sparse;
pub(crate) mod streamed;
mod sums;
mod underway;

use std::collections::HashSet;
use std::sync::Arc;

use directory::Location;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use presign::hex::hex;
use sha2::{Digest, Sha256};

use self::contents::{ZipContents, ZipSource, ZipVolume};
use self::inside::UploadEnd;
use self::streamed::StreamedFile;
use crate::cancellation::{Cancellation, Stopped};
use crate::deliver::DeliverError;
use crate::deliver::publish::Publisher;
use crate::job::{Bucket, Key};
use crate::keyring::Keyring;
use crate::ledger::{Ledger, LedgerError};
use crate::links::SignError;
use crate::links::listing::{GatherError, Listing};
use crate::plan::{Audience, Plan, ZipPlan};
use crate::store::multipart::PartsWay;
use crate::store::zip_memory::{ZipMemory, ZipRoom};
use crate::store::{ErrorKind, ObjectMeta, ObjectStore, StoreError};

/// How often the ZIPs are drawn again because files were changed meanwhile.
const MAX_REDRAWS: usize = 2;

/// How many objects are looked up at once to find those that were changed.
const LOOKUPS_AT_ONCE: usize = 32;

/// Why a ZIP cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    /// More files than one job may put into ZIPs.
    #[error(
        "the job has more than {limit} files, the most for a ZIP: leave out zip, or name a narrower from.prefix"
    )]
    TooManyFiles {
        /// How many it may have.
        limit: usize,
    },
    /// More ZIPs than a mail can link.
    #[error(
        "zip.split makes {count} ZIPs of the job's files, and a mail links at most {limit}: choose a larger zip.split"
    )]
    TooManyZips {
        /// How many there would be.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The files would be copied from one region to another, which costs transfer.
    #[error(
        "the files are in {from} and the bucket {bucket} of zip.publish is in {to}: copies between regions are charged, so name a bucket in {from}"
    )]
    OtherRegion {
        /// The region of the files.
        from: String,
        /// The bucket of the ZIP.
        bucket: Bucket,
        /// Its region.
        to: String,
    },
    /// Files were changed each time.
    #[error(
        "files of the job were changed each time that the ZIP was made; the job is tried again later"
    )]
    Restless,
    /// The store returned another checksum for a copied part than it has for the file.
    #[error("the store returned a checksum for a copied part that is not that of its bytes")]
    WrongSums,
    /// The store or the program contradicts itself.
    #[error("the ZIP could not be made: a part is not what it must be")]
    Contradiction,
}

/// Why the ZIPs of a job were not made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A ZIP cannot be made.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// A request to the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The objects could not be read again.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// A file could not be named.
    #[error(transparent)]
    Name(#[from] SignError),
    /// A file could not be written.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The work was cancelled.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl ArchiveError {
    /// Whether a file is not any more what was listed.
    fn is_change(&self) -> bool {
        matches!(self, Self::Store(error) if is_changed(error))
    }
}

/// Whether the store refused a request because the object was changed or removed.
fn is_changed(error: &StoreError) -> bool {
    let answer = error.answer.as_deref();
    let code = answer.and_then(|answer| answer.code.as_deref());
    let status = answer.map(|answer| answer.status);
    match (status, code) {
        (Some(412), _) | (_, Some("NoSuchKey" | "NoSuchVersion")) => true,
        // The answer to a HEAD has no body, and so no code.
        (Some(404), code) => code.is_none_or(|code| code == "NotFound"),
        _ => false,
    }
}

/// What makes the ZIPs of a run.
pub(crate) struct ArchiveWork<'a> {
    /// The plan of the job.
    pub(crate) plan: &'a Plan,
    /// Its objects.
    pub(crate) listing: &'a Listing,
    /// The store of its objects.
    pub(crate) store: &'a Arc<dyn ObjectStore>,
    /// The memory for bytes of files.
    pub(crate) memory: &'a ZipMemory,
    /// Derives the names of what is published.
    pub(crate) keyring: &'a Keyring,
    /// Remembers uploads.
    pub(crate) ledger: &'a dyn Ledger,
    /// Takes a ZIP in progress for a store without uploads in parts.
    pub(crate) spool_dir: &'a Location,
    /// Cancels the work.
    pub(crate) stop: &'a Cancellation,
    /// Is told of each part that is done.
    pub(crate) got_on: &'a (dyn Fn() + Send + Sync),
}

impl ArchiveWork<'_> {
    /// Waits for memory for `bytes` of files.
    async fn room(&self, bytes: u64) -> Result<ZipRoom, ArchiveError> {
        Ok(self.stop.or(self.memory.room(bytes)).await?)
    }
}

/// The ZIPs of a job.
#[derive(Debug)]
pub(crate) struct Archive {
    /// Each ZIP.
    pub(crate) zips: Vec<FinishedZip>,
    /// How many objects of the job are in none of them.
    pub(crate) left_out: u64,
}

/// A complete ZIP.
#[derive(Debug)]
pub(crate) struct FinishedZip {
    /// Where its bytes are.
    pub(crate) output: ZipOutput,
    /// Its name.
    pub(crate) file_name: String,
    /// What it is.
    pub(crate) made: ZipIdentity,
}

/// Where the bytes of a complete ZIP are.
#[derive(Debug)]
pub(crate) enum ZipOutput {
    /// In a bucket or a directory.
    Stored(Publisher),
    /// Nowhere: the portal makes them as they are read, from these files.
    Streamed(Vec<StreamedFile>),
}

impl FinishedZip {
    /// What stores it, unless it is stored nowhere.
    pub(crate) const fn publisher(&self) -> Option<&Publisher> {
        match &self.output {
            ZipOutput::Stored(publisher) => Some(publisher),
            ZipOutput::Streamed(_) => None,
        }
    }

    /// Where it is stored, for display.
    pub(crate) fn place(&self) -> Option<String> {
        Some(self.publisher()?.describe(&self.file_name))
    }
}

/// What a complete ZIP is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ZipIdentity {
    /// How many objects are in it.
    pub(crate) files: u64,
    /// Its length.
    pub(crate) size_bytes: u64,
    /// SHA-256 of the entries of its central directory.
    pub(crate) directory: [u8; 32],
}

impl ZipIdentity {
    /// The digest of its directory, in hexadecimal.
    pub(crate) fn directory_sha256(&self) -> String {
        hex(&self.directory)
    }

    /// A ZIP of this layout; `tail` begins with the directory.
    fn of(volume: &ZipVolume, tail: &[u8]) -> Self {
        let entries = usize::try_from(volume.measure.directory).unwrap_or(usize::MAX);
        Self {
            files: volume.files,
            size_bytes: volume.measure.length(),
            directory: Sha256::digest(&tail[..entries.min(tail.len())]).into(),
        }
    }
}

/// A ZIP that was not made: how many files and bytes it would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeseenZip {
    /// Its name.
    pub(crate) file_name: String,
    /// How many objects would be in it.
    pub(crate) files: u64,
    /// Its length.
    pub(crate) size_bytes: u64,
}

/// The ZIPs that a plan asks for and how many objects would be in none, before any is made.
pub(crate) async fn foresee(
    plan: &Plan,
    wanted: &ZipPlan,
    listing: &Listing,
) -> Result<(Vec<ForeseenZip>, u64), ArchiveError> {
    let ZipContents { volumes, left_out } =
        contents::draw(plan, wanted, listing, &HashSet::new()).await?;
    let foreseen = volumes.into_iter().map(|volume| ForeseenZip {
        size_bytes: volume.measure.length(),
        files: volume.files,
        file_name: volume.file_name,
    });
    Ok((foreseen.collect(), left_out))
}

/// Makes the ZIPs that a plan asks for, or finds them.
///
/// A file that was changed since it was listed is left out, and named in the ZIP.
pub(crate) async fn make(
    work: &ArchiveWork<'_>,
    wanted: &ZipPlan,
) -> Result<Archive, ArchiveError> {
    let mut changed = HashSet::new();
    for _ in 0..=MAX_REDRAWS {
        let contents = contents::draw(work.plan, wanted, work.listing, &changed).await?;
        let volumes: Vec<Arc<ZipVolume>> = contents.volumes.into_iter().map(Arc::new).collect();
        let mut zips = Vec::with_capacity(volumes.len());
        let mut is_complete = true;
        for volume in &volumes {
            match make_one(work, wanted, volume).await {
                Ok(zip) => zips.push(zip),
                Err(error) if error.is_change() => {
                    is_complete = false;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if is_complete {
            let left_out = contents.left_out;
            return Ok(Archive { zips, left_out });
        }
        let known = changed.len();
        changed.extend(find_changed(work, &volumes).await?);
        tracing::info!(
            job.id = %work.plan.job.id,
            files = changed.len() - known,
            "files were changed while the ZIP was made; they are left out"
        );
        if changed.len() == known {
            break;
        }
    }
    Err(ZipError::Restless.into())
}

/// Finds the objects that are not any more what was listed.
async fn find_changed(
    work: &ArchiveWork<'_>,
    volumes: &[Arc<ZipVolume>],
) -> Result<Vec<Key>, ArchiveError> {
    let sources = volumes.iter().flat_map(|volume| &volume.sources);
    let objects = sources.filter_map(|source| match source {
        ZipSource::Object(object) => Some(object.clone()),
        ZipSource::Note(_) => None,
    });
    let objects: Vec<ObjectMeta> = objects.collect();
    let found = stream::iter(objects)
        .map(|object: ObjectMeta| look_up(work, object))
        .buffer_unordered(LOOKUPS_AT_ONCE);
    let mut found = std::pin::pin!(found);
    let mut changed = Vec::new();
    while let Some(key) = found.try_next().await? {
        changed.extend(key);
    }
    Ok(changed)
}

/// The key of an object that is not any more what was listed.
async fn look_up(work: &ArchiveWork<'_>, object: ObjectMeta) -> Result<Option<Key>, ArchiveError> {
    work.stop.check()?;
    let is_same = is_as_listed(work, &object).await?;
    Ok((!is_same).then_some(object.key))
}

async fn is_as_listed(work: &ArchiveWork<'_>, object: &ObjectMeta) -> Result<bool, ArchiveError> {
    let (store, bucket) = (work.store, &work.plan.bucket);
    let found = match object.version {
        // A version does not change, but may be removed.
        Some(_) => store.stored_crc32(bucket, object).await.map(|_| true),
        None => {
            let found = store.head(bucket, &object.key).await;
            found.map(|found| found.etag == object.etag)
        }
    };
    match found {
        Ok(is_same) => Ok(is_same),
        Err(error) if error.fact == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes one ZIP, or finds it.
async fn make_one(
    work: &ArchiveWork<'_>,
    wanted: &ZipPlan,
    volume: &Arc<ZipVolume>,
) -> Result<FinishedZip, ArchiveError> {
    let file_name = volume.file_name.clone();
    let Some(place) = wanted.place.clone() else {
        let (files, made) = streamed::sum(work, volume).await?;
        return Ok(FinishedZip {
            output: ZipOutput::Streamed(files),
            file_name,
            made,
        });
    };
    let what = format!("zip {}", hex(&volume.layout));
    let publisher = Publisher::new(
        Arc::clone(work.store),
        place,
        work.keyring,
        &work.plan.job.id,
        &Audience::Everyone,
        &what,
    );
    let made = match publisher.object(&volume.file_name) {
        Some((bucket, key)) => make_in_bucket(work, volume, &publisher, (&bucket, &key)).await?,
        None => match file::find(&publisher, volume).await? {
            Some(made) => made,
            None => file::write(work, &publisher, volume).await?,
        },
    };
    Ok(FinishedZip {
        output: ZipOutput::Stored(publisher),
        file_name,
        made,
    })
}

async fn make_in_bucket(
    work: &ArchiveWork<'_>,
    volume: &Arc<ZipVolume>,
    publisher: &Publisher,
    target: (&Bucket, &Key),
) -> Result<ZipIdentity, ArchiveError> {
    check_region(work, target.0).await?;
    if let Some(made) = find(work, volume, target).await? {
        return Ok(made);
    }
    let mut was_gone = false;
    while let Some(store) = work.store.multipart() {
        let learned = store.learned();
        if learned.get() == PartsWay::Unsupported {
            break;
        }
        match inside::make(work, volume, target, store).await {
            Ok(UploadEnd::Complete(made)) => return Ok(made),
            Ok(UploadEnd::OtherWay(way)) => learned.learn(way),
            Err(error) if inside::is_gone(&error) => {
                // Another worker has completed the upload, or a lifecycle rule aborted it.
                if let Some(made) = find(work, volume, target).await? {
                    return Ok(made);
                }
                if was_gone {
                    return Err(ZipError::Contradiction.into());
                }
                was_gone = true;
            }
            Err(error) => return Err(error),
        }
    }
    file::write(work, publisher, volume).await
}

/// Rejects a ZIP in another region than its files.
async fn check_region(work: &ArchiveWork<'_>, bucket: &Bucket) -> Result<(), ArchiveError> {
    if *bucket == work.plan.bucket {
        return Ok(());
    }
    let from = work.store.region(&work.plan.bucket).await?;
    let to = work.store.region(bucket).await?;
    match (from, to) {
        (Some(from), Some(to)) if from != to => {
            let bucket = bucket.clone();
            Err(ZipError::OtherRegion { from, bucket, to }.into())
        }
        _ => Ok(()),
    }
}

/// Finds a ZIP that an earlier attempt completed.
async fn find(
    work: &ArchiveWork<'_>,
    volume: &ZipVolume,
    (bucket, key): (&Bucket, &Key),
) -> Result<Option<ZipIdentity>, ArchiveError> {
    let found = match work.store.head(bucket, key).await {
        Ok(found) => found,
        // Without the right to list the bucket, S3 denies what does not exist.
        Err(error) if matches!(error.fact, ErrorKind::NotFound | ErrorKind::Denied) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let (begin, end) = (volume.measure.offset, volume.measure.length());
    if found.size_bytes != end {
        return Ok(None);
    }
    let found = ObjectMeta {
        version: None,
        ..found
    };
    let tail = work.store.range(bucket, &found, begin..end).await?;
    let is_expected = layout::sums_of(&volume.entries, &tail).is_some();
    Ok(is_expected.then(|| ZipIdentity::of(volume, &tail)))
}

#[cfg(test)]
mod tests;
