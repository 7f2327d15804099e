//! Objects that a store puts together from parts: from ranges of other objects, which it copies, and from uploaded bytes.
//!
//! Stores differ in the checksums of such uploads. Amazon S3 returns the CRC-32 of each copied part and verifies that of the
//! whole object at completion. MinIO rejects a copied part in an upload with checksums, versitygw 1.8 may return the checksum of the
//! whole source for a part of it, and the embedded endpoint has no uploads in parts. Which way a store takes is found out by trying, once for each connection ([`PartsWay`]).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Content, ObjectMeta, StoreError};
use crate::job::{Bucket, Key};

/// An upload in progress: the object exists when it is completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartsUpload {
    /// The bucket of the object.
    pub bucket: Bucket,
    /// Its key.
    pub key: Key,
    /// The store's id of the upload.
    pub id: String,
    /// The way in which it was started.
    pub way: PartsWay,
}

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// Its number, from 1.
    pub number: u32,
    /// Its length.
    pub size_bytes: u64,
    /// Its entity tag, as the store wrote it.
    pub etag: String,
    /// Its checksum, where the store computes it.
    pub crc32: Option<u32>,
}

/// What the whole object must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeObject {
    /// Its length.
    pub size_bytes: u64,
    /// Its checksum.
    pub crc32: u32,
}

/// How a store takes uploads in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartsWay {
    /// With a CRC-32 of each part and of the whole.
    Summed,
    /// Without checksums.
    Plain,
    /// Not at all.
    Unsupported,
}

/// What a connection has learned about its store. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LearnedWay(Arc<AtomicU8>);

impl LearnedWay {
    /// The way to try next.
    pub fn get(&self) -> PartsWay {
        match self.0.load(Ordering::Relaxed) {
            0 => PartsWay::Summed,
            1 => PartsWay::Plain,
            _ => PartsWay::Unsupported,
        }
    }

    /// Notes that the store takes uploads in this way only; it is logged once.
    pub fn learn(&self, way: PartsWay) {
        let before = self.0.swap(way as u8, Ordering::Relaxed);
        if before != way as u8 {
            match way {
                PartsWay::Summed => {}
                PartsWay::Plain => tracing::info!(
                    "the store has no right checksums of copied parts; ZIPs are made without them, and checksums of files that it does not know are computed"
                ),
                PartsWay::Unsupported => tracing::info!(
                    "the store has no uploads in parts; ZIPs are written to a file and put as a whole"
                ),
            }
        }
    }
}

/// Uploads in parts.
#[async_trait]
pub trait Multipart: Send + Sync + fmt::Debug {
    /// What is known of the store.
    fn learned(&self) -> LearnedWay;

    /// Starts an upload in the way that is known, and returns its id.
    async fn begin(
        &self,
        bucket: &Bucket,
        key: &Key,
        content: Content,
    ) -> Result<PartsUpload, StoreError>;

    /// The parts that the store has of an upload; `None` if it has no such upload.
    async fn parts(&self, upload: &PartsUpload) -> Result<Option<Vec<StoredPart>>, StoreError>;

    /// Copies a range of an object, in the state in which it was listed, into a part.
    async fn copy_part(
        &self,
        upload: &PartsUpload,
        number: u32,
        source: (&Bucket, &ObjectMeta),
        range: Range<u64>,
    ) -> Result<StoredPart, StoreError>;

    /// Uploads bytes as a part; `crc32` is their checksum.
    async fn put_part(
        &self,
        upload: &PartsUpload,
        number: u32,
        bytes: Bytes,
        crc32: u32,
    ) -> Result<StoredPart, StoreError>;

    /// Puts the parts together, which are in the order of their numbers.
    async fn complete(
        &self,
        upload: &PartsUpload,
        parts: &[StoredPart],
        whole: WholeObject,
    ) -> Result<(), StoreError>;

    /// Aborts an upload.
    async fn abort(&self, upload: &PartsUpload) -> Result<(), StoreError>;
}
