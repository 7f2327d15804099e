//! The edge to objects: list them, put a page, and the facts that a signer needs.
//!
//! [`ObjectStore`] is what the story asks of S3. An edge turns whatever S3 said into one of a few facts, once;
//! what follows from a fact is judged in [`crate::error`].

#[cfg(any(test, feature = "test-support"))]
pub mod memory;
pub mod s3;
pub mod throttled;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::bounds::{MAX_FRUITLESS_PAGES, MAX_TOKEN_BYTES};
pub use crate::edge::{EdgeError, ErrorKind};
use crate::job::{Bucket, Key};

/// What S3 lists at most in one page.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
pub const MAX_PAGE: usize = 1000;

/// An object as a listing tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: Key,
    /// Its size.
    pub size_bytes: u64,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Its version, where it was asked for and the bucket has versions; `null` for an object from before it had any.
    pub version: Option<String>,
    /// When it was last changed.
    pub modified: Timestamp,
    /// Whether S3 gives it out at once.
    pub storage: Storage,
}

/// Whether S3 gives an object out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// At once.
    Ready,
    /// Only after it was restored: GLACIER, `DEEP_ARCHIVE`, the archive tiers of `INTELLIGENT_TIERING`.
    Archived,
    /// From an archive, by a copy that goes away.
    Restored {
        /// Until when the copy is there.
        until: Timestamp,
    },
    /// At once, and only until the bucket's lifecycle deletes it.
    Expires {
        /// When it may be deleted from on.
        at: Timestamp,
    },
    /// Only to who sends the key with which it is encrypted (SSE-C); of such an object, no more is known.
    #[serde(rename = "customer-key")]
    CustomerKey,
}

/// Whether a listing tells of versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versions {
    /// A link gives whatever is there when it is opened.
    #[default]
    Floating,
    /// A link gives what was there when it was made, whatever is uploaded later.
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
    /// Where the page ended that had this token.
    Token(&'a str),
}

/// A page of a listing.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The objects, in the order of their keys.
    pub objects: Vec<ObjectMeta>,
    /// What to ask for the next page with, if there is one.
    pub continuation_token: Option<String>,
}

/// Why a listing is not gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndlessListing {
    /// A continuation token that no request can carry.
    #[error("the store's continuation token has {0} bytes: at most {MAX_TOKEN_BYTES} are allowed")]
    Token(usize),
    /// It goes in a circle.
    #[error("the store gave the same continuation token twice, so its listing has no end")]
    Repeated,
    /// Nothing comes.
    #[error(
        "the store sent {MAX_FRUITLESS_PAGES} pages in a row without a new object and says that there is more"
    )]
    Fruitless,
}

/// Watches that a listing comes nearer to its end with each page.
#[derive(Debug, Default)]
pub(crate) struct ListingCourse {
    tokens: HashSet<String>,
    fruitless: usize,
}

impl ListingCourse {
    /// Checks the token of a page; `has_new` says whether the page had an object that was not listed before.
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

/// Where the bytes of a published page or list come from.
#[derive(Debug, Clone)]
pub enum Body {
    /// From memory.
    Bytes(Vec<u8>),
    /// From a file, which is read as it is sent.
    File(PathBuf),
}

/// What a published object says of itself.
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

    /// Tells of one object.
    async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError>;

    /// The first bytes of an object in the state in which it was listed, at most `most`. One that was changed since is an error.
    async fn beginning(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        most: usize,
    ) -> Result<Vec<u8>, StoreError>;

    /// Puts an object, in place of the one that may be there.
    async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        body: Body,
        content: Content,
    ) -> Result<(), StoreError>;

    /// The region of a bucket, where it may be another than the connection's.
    async fn region(&self, _bucket: &Bucket) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// How far the store's clock was ahead of ours at its last answer; nothing before the first.
    fn skew(&self) -> Option<SignedDuration> {
        None
    }

    /// Asks whether the bucket is there and may be used.
    async fn probe(&self, bucket: &Bucket) -> Result<(), StoreError>;
}
