//! The archive of audit logs in a bucket: segments are put once, compared with what is there, and read back.

use std::fs::File;
use std::io::{self, Seek};
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Handle;

use super::source::SegmentArchive;
use super::tree::Hash;
use crate::clock::Clock;
use crate::config::ArchiveLockMode;
use crate::edge::ErrorKind;
use crate::job::{Bucket, Key};
use crate::quantity::Span;
use crate::store::s3::{KeptObject, ObjectRetention, S3Store};
use crate::store::{EdgeError, StoreError};
use crate::text::chain;

/// How long reading one segment from the bucket may take.
const READ_WITHIN: Duration = Duration::from_secs(600);

/// The archive of audit logs.
#[derive(Debug, Clone)]
pub struct ArchiveBucket {
    s3: S3Store,
    bucket: Bucket,
    /// The beginning of its keys; empty, or with a slash at its end.
    prefix: String,
    lock: Option<(ArchiveLockMode, Span)>,
    clock: Clock,
}

/// What the archive has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArchiveState {
    /// Nothing.
    Absent,
    /// The same bytes.
    Same,
    /// Other bytes.
    Other,
}

impl ArchiveBucket {
    /// The archive below a prefix of a bucket. Each object that is put is locked for so long.
    pub fn new(
        s3: S3Store,
        bucket: Bucket,
        prefix: &str,
        lock: Option<(ArchiveLockMode, Span)>,
        clock: Clock,
    ) -> Self {
        let prefix = match prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Self {
            s3,
            bucket,
            prefix,
            lock,
            clock,
        }
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// The store.
    pub const fn store(&self) -> &S3Store {
        &self.s3
    }

    fn key(&self, log: &str, name: &str) -> Result<Key, StoreError> {
        let key = format!("{}{log}/{name}", self.prefix);
        key.parse().map_err(|error| {
            EdgeError::new(
                format!("use the key {key} of s3://{}", self.bucket),
                ErrorKind::Rejected,
                error,
            )
        })
    }

    /// Compares what it has under a name with bytes of this size and hash. A store that keeps no checksum is read.
    pub(super) async fn compare(
        &self,
        log: &str,
        name: &str,
        size: u64,
        sha256: &Hash,
    ) -> Result<ArchiveState, StoreError> {
        let key = self.key(log, name)?;
        let found = self.s3.kept(&self.bucket, &key).await?;
        let found = match found {
            Some(KeptObject {
                size: found,
                sha256: None,
            }) if found == size => {
                let mut sink = io::sink();
                self.s3.copy_kept(&self.bucket, &key, &mut sink).await?
            }
            found => found,
        };
        Ok(match found {
            None => ArchiveState::Absent,
            Some(found) if found.size == size && found.sha256.as_ref() == Some(sha256) => {
                ArchiveState::Same
            }
            Some(_) => ArchiveState::Other,
        })
    }

    /// Puts bytes under a name. With `is_new`, what is there already stays.
    pub(super) async fn put(
        &self,
        log: &str,
        name: &str,
        (bytes, sha256): (Vec<u8>, &Hash),
        is_new: bool,
    ) -> Result<(), StoreError> {
        let key = self.key(log, name)?;
        let until = |span: Span| (self.clock)().saturating_add(span.as_duration()).ok();
        let retention = self.lock.and_then(|(mode, span)| {
            let until = until(span)?;
            Some(ObjectRetention { mode, until })
        });
        let put = self
            .s3
            .put_kept(&self.bucket, &key, (bytes, sha256), retention, is_new);
        put.await.map(drop)
    }

    async fn read(&self, log: &str, name: &str, file: &mut File) -> Result<bool, StoreError> {
        let key = self.key(log, name)?;
        let found = self.s3.copy_kept(&self.bucket, &key, file).await?;
        Ok(found.is_some())
    }
}

/// An archive in a bucket, for readers, which run on threads of their own: each segment is copied into a file without a name.
#[derive(Debug)]
pub struct BucketReader {
    archive: ArchiveBucket,
    runtime: Handle,
}

impl BucketReader {
    /// A reader on the current runtime. It may not be used on a thread of that runtime that drives futures.
    pub fn new(archive: ArchiveBucket) -> Self {
        Self {
            archive,
            runtime: Handle::current(),
        }
    }
}

impl SegmentArchive for BucketReader {
    fn open(&self, log: &str, name: &str) -> io::Result<Option<(File, PathBuf)>> {
        let mut file = tempfile::tempfile()?;
        let read = async {
            let reading = Box::pin(self.archive.read(log, name, &mut file));
            tokio::time::timeout(READ_WITHIN, reading).await
        };
        let found = self.runtime.block_on(read)?;
        let found = found.map_err(|error| io::Error::other(chain(&error)))?;
        if !found {
            return Ok(None);
        }
        file.rewind()?;
        let place = format!("{}{log}/{name}", self.archive.place());
        Ok(Some((file, place.into())))
    }
}
