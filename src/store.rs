//! Object stores: listing, reading and publishing objects, and what a signer needs to know of a bucket.
//!
//! [`ObjectStore`] has the operations that the program uses of S3. An edge maps each error of S3 to one of a few kinds,
//! once; what follows from a kind is decided in [`crate::error`].

#[cfg(any(test, feature = "test-support"))]
pub mod memory;
pub mod multipart;
pub mod s3;
pub mod throttled;
pub mod zip_memory;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::bounds::{MAX_FRUITLESS_PAGES, MAX_TOKEN_BYTES};
pub use crate::edge::{EdgeError, ErrorKind};
use crate::job::{Bucket, ContentDisposition, Key};
use multipart::Multipart;

/// The most objects that S3 lists in a page.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
pub const MAX_PAGE: usize = 1000;

/// The metadata of an object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: Key,
    /// Its size.
    pub size_bytes: u64,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Its version, where it was asked for and the bucket has versioning; `null` for an object from before versioning.
    pub version: Option<String>,
    /// When it was last changed.
    pub modified: Timestamp,
    /// Whether S3 serves it at once.
    pub storage: Storage,
    /// Its headers, where they are known: only HEAD gives them.
    pub stored: Option<Box<StoredHeaders>>,
}

impl ObjectMeta {
    /// An object that the program itself puts under a key.
    pub const fn published(key: Key) -> Self {
        Self {
            key,
            size_bytes: 0,
            etag: String::new(),
            version: None,
            modified: Timestamp::UNIX_EPOCH,
            storage: Storage::Ready,
            stored: None,
        }
    }
}

/// Headers that are stored with an object and decide how a browser saves or shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredHeaders {
    /// The file name in its `Content-Disposition`, cleaned.
    pub file_name: Option<String>,
    /// Whether its `Content-Disposition` has a browser save or show it.
    pub disposition: Option<ContentDisposition>,
    /// Its `Content-Type`.
    pub content_type: Option<String>,
}

/// Whether S3 serves an object at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// At once.
    Ready,
    /// Only after it was restored: GLACIER, `DEEP_ARCHIVE`, the archive tiers of `INTELLIGENT_TIERING`.
    Archived,
    /// At once, from a temporary copy of an archived object.
    Restored {
        /// Until when the copy exists.
        until: Timestamp,
    },
    /// At once, until the bucket's lifecycle deletes it.
    Expires {
        /// The earliest time of its deletion.
        at: Timestamp,
    },
    /// Only to clients that send its encryption key (SSE-C); nothing else is known of such an object.
    #[serde(rename = "customer-key")]
    CustomerKey,
}

/// Whether a listing includes versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versions {
    /// A link opens the version that is current when it is opened.
    #[default]
    Floating,
    /// A link opens the version that was current when it was made.
    Pinned,
}

/// Where a page of a listing begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cursor<'a> {
    /// With the first key.
    #[default]
    Start,
    /// With the first key that is greater than this text, which need not be a key.
    After(&'a str),
    /// After the page that ended with this continuation token.
    Token(&'a str),
}

/// A page of a listing.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The objects, in the order of their keys.
    pub objects: Vec<ObjectMeta>,
    /// The token for the next page, if there is one.
    pub continuation_token: Option<String>,
}

impl Page {
    /// The first key that does not follow the key before it in the order of their bytes, and that key; S3 lists in that order.
    pub fn out_of_order(&self) -> Option<[&Key; 2]> {
        let mut pairs = self.objects.array_windows();
        let found = pairs.find(|[last, next]| last.key >= next.key);
        found.map(|[last, next]| [&last.key, &next.key])
    }
}

/// Why a listing is not continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndlessListing {
    /// A continuation token that no request can carry.
    #[error("the store's continuation token has {0} bytes: at most {MAX_TOKEN_BYTES} are allowed")]
    Token(usize),
    /// The token repeats, so the listing would loop.
    #[error("the store gave the same continuation token twice, so its listing would never end")]
    Repeated,
    /// The pages repeat under new tokens.
    #[error(
        "the store listed the same page twice under different tokens, so its listing would never end"
    )]
    Circle,
    /// Too many pages had no new object.
    #[error(
        "the store sent {MAX_FRUITLESS_PAGES} pages in a row without a new object and reports that more follow"
    )]
    Fruitless,
}

/// Checks that a listing makes progress with each page.
#[derive(Debug, Default)]
pub(crate) struct ListingCourse {
    tokens: HashSet<String>,
    fruitless: usize,
}

impl ListingCourse {
    /// Checks the token of a page; `has_new` is true if the page had an object that was not listed before.
    pub(crate) fn go_on(&mut self, token: &str, has_new: bool) -> Result<(), EndlessListing> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(EndlessListing::Token(token.len()));
        }
        if !self.tokens.insert(token.to_owned()) {
            return Err(EndlessListing::Repeated);
        }
        self.fruitless = match has_new {
            true => 0,
            false => self.fruitless + 1,
        };
        match self.fruitless >= MAX_FRUITLESS_PAGES {
            true => Err(EndlessListing::Fruitless),
            false => Ok(()),
        }
    }
}

/// The bytes of a published page or list.
#[derive(Debug, Clone)]
pub enum Body {
    /// From memory.
    Bytes(Vec<u8>),
    /// From a file, which is read as it is sent.
    File(PathBuf),
}

/// The headers of a published object.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    /// `Content-Type`.
    pub media_type: &'static str,
    /// `Cache-Control`.
    pub cache_control: &'static str,
    /// `Content-Encoding`, if the bytes are not the text itself.
    pub encoding: Option<&'static str>,
}

/// A request to an object store that did not succeed.
pub type StoreError = EdgeError;

/// The objects of one connection.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Lists one page of the objects whose keys begin with `prefix`, at most [`MAX_PAGE`], from `cursor` on.
    async fn list(
        &self,
        bucket: &Bucket,
        prefix: &str,
        versions: Versions,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError>;

    /// Gets the metadata of an object.
    async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError>;

    /// The first bytes of an object in the state in which it was listed, at most `most`. It is an error if it was changed since.
    async fn beginning(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        most: usize,
    ) -> Result<Vec<u8>, StoreError>;

    /// The bytes of a range of an object in the state in which it was listed. It is an error if it was changed since.
    async fn range(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        _range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let action = format!("read s3://{bucket}/{}", object.key);
        let reason = "this store reads no ranges";
        Err(EdgeError::new(action, ErrorKind::Rejected, reason))
    }

    /// The CRC-32 of all bytes of an object in the state in which it was listed, where the store keeps it.
    async fn stored_crc32(
        &self,
        _bucket: &Bucket,
        _object: &ObjectMeta,
    ) -> Result<Option<u32>, StoreError> {
        Ok(None)
    }

    /// Uploads in parts, where there are any.
    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }

    /// Puts an object; an existing one is replaced.
    async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        body: Body,
        content: Content,
    ) -> Result<(), StoreError>;

    /// The region of a bucket, where it may differ from the connection's.
    async fn region(&self, _bucket: &Bucket) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// How far the store's clock was ahead of ours at its last answer; `None` before the first.
    fn skew(&self) -> Option<SignedDuration> {
        None
    }

    /// Checks that the bucket exists and that the keys below a prefix may be listed. A policy may allow only some prefixes.
    async fn probe(&self, bucket: &Bucket, prefix: &str) -> Result<(), StoreError>;
}
