//! A store with a rate limit for its requests.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::SignedDuration;

use super::multipart::{LearnedWay, Multipart, PartsUpload, StoredPart, WholeObject};
use super::{
    Body, Content, Cursor, EdgeError, ErrorKind, ObjectMeta, ObjectStore, Page, StoreError,
    Versions,
};
use crate::job::{Bucket, Key};
use crate::rate_limit::RateLimiter;

/// A store behind a rate limit.
#[derive(Debug, Clone)]
pub struct Throttled {
    store: Arc<dyn ObjectStore>,
    limiter: RateLimiter,
}

impl Throttled {
    /// `store`, with requests at the rate of `limiter`.
    pub fn new(store: Arc<dyn ObjectStore>, limiter: RateLimiter) -> Self {
        Self { store, limiter }
    }
}

// Every method is implemented: a forgotten one would use the trait's default instead of the store's.
#[deny(
    clippy::missing_trait_methods,
    reason = "a wrapper must not forget a method"
)]
#[async_trait]
impl ObjectStore for Throttled {
    async fn list(
        &self,
        bucket: &Bucket,
        prefix: &str,
        versions: Versions,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError> {
        self.limiter.pass(1).await;
        self.store.list(bucket, prefix, versions, cursor).await
    }

    async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.limiter.pass(1).await;
        self.store.head(bucket, key).await
    }

    async fn beginning(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        most: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.limiter.pass(1).await;
        self.store.beginning(bucket, object, most).await
    }

    async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        body: Body,
        content: Content,
    ) -> Result<(), StoreError> {
        self.limiter.pass(1).await;
        self.store.put(bucket, key, body, content).await
    }

    async fn range(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.limiter.pass(1).await;
        self.store.range(bucket, object, range).await
    }

    async fn stored_crc32(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
    ) -> Result<Option<u32>, StoreError> {
        self.limiter.pass(1).await;
        self.store.stored_crc32(bucket, object).await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        self.store.multipart().map(|_| self as &dyn Multipart)
    }

    async fn region(&self, bucket: &Bucket) -> Result<Option<String>, StoreError> {
        // The region of a bucket is looked up once and then cached, so it is not limited.
        self.store.region(bucket).await
    }

    fn skew(&self) -> Option<SignedDuration> {
        self.store.skew()
    }

    async fn probe(&self, bucket: &Bucket, prefix: &str) -> Result<(), StoreError> {
        self.limiter.pass(1).await;
        self.store.probe(bucket, prefix).await
    }
}

impl Throttled {
    /// The uploads in parts of the store, at the rate.
    async fn paced(&self) -> Result<&dyn Multipart, StoreError> {
        self.limiter.pass(1).await;
        self.store.multipart().ok_or_else(|| {
            let reason = "the store has no uploads in parts";
            EdgeError::new("upload in parts", ErrorKind::Rejected, reason)
        })
    }
}

#[async_trait]
impl Multipart for Throttled {
    fn learned(&self) -> LearnedWay {
        let store = self.store.multipart();
        store.map(Multipart::learned).unwrap_or_default()
    }

    async fn begin(
        &self,
        bucket: &Bucket,
        key: &Key,
        content: Content,
    ) -> Result<PartsUpload, StoreError> {
        self.paced().await?.begin(bucket, key, content).await
    }

    async fn parts(&self, upload: &PartsUpload) -> Result<Option<Vec<StoredPart>>, StoreError> {
        self.paced().await?.parts(upload).await
    }

    async fn copy_part(
        &self,
        upload: &PartsUpload,
        number: u32,
        source: (&Bucket, &ObjectMeta),
        range: Range<u64>,
    ) -> Result<StoredPart, StoreError> {
        let store = self.paced().await?;
        store.copy_part(upload, number, source, range).await
    }

    async fn put_part(
        &self,
        upload: &PartsUpload,
        number: u32,
        bytes: Bytes,
        crc32: u32,
    ) -> Result<StoredPart, StoreError> {
        let store = self.paced().await?;
        store.put_part(upload, number, bytes, crc32).await
    }

    async fn complete(
        &self,
        upload: &PartsUpload,
        parts: &[StoredPart],
        whole: WholeObject,
    ) -> Result<(), StoreError> {
        self.paced().await?.complete(upload, parts, whole).await
    }

    async fn abort(&self, upload: &PartsUpload) -> Result<(), StoreError> {
        self.paced().await?.abort(upload).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Rate;
    use crate::store::memory::MemoryStore;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_rate_wait_and_none_fails() {
        let store = Arc::new(MemoryStore::new(10));
        store.create_bucket("bucket");
        let throttled = Throttled::new(store, RateLimiter::new(Rate::per_second(10)));
        let bucket = "bucket".parse().unwrap();
        let began = Instant::now();
        for _ in 0..30 {
            throttled.probe(&bucket, "").await.unwrap();
        }
        assert_eq!(
            began.elapsed().as_secs(),
            2,
            "ten at once, and then ten a second"
        );
    }
}
