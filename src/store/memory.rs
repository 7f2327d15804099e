//! An object store in memory, for tests: it lists in order and by pages, as S3 does, and fails when told to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::{
    Body, Content, Cursor, EdgeError, ErrorKind, ObjectMeta, ObjectStore, Page, Storage,
    StoreError, Versions,
};
use crate::edge::ServiceAnswer;
use crate::job::{Bucket, Key};

/// Objects by bucket and key.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    page_size: usize,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, BTreeMap<String, (ObjectMeta, Vec<u8>)>>,
    failures: Vec<ErrorKind>,
    unreadable: BTreeMap<(String, String), ErrorKind>,
    requests: usize,
    clock_ahead: Option<SignedDuration>,
    storage: BTreeMap<(String, String), Storage>,
}

impl MemoryStore {
    /// A store whose listings have pages of `page_size`.
    pub fn new(page_size: usize) -> Self {
        Self {
            state: Mutex::default(),
            page_size,
        }
    }

    /// Makes a bucket, if it does not exist.
    pub fn create_bucket(&self, bucket: &str) {
        self.lock().buckets.entry(bucket.to_owned()).or_default();
    }

    /// Puts an object that was changed at `modified`; makes its bucket if need be.
    ///
    /// # Panics
    /// If `key` is not a valid key.
    pub fn insert(&self, bucket: &str, key: &str, bytes: &[u8], modified: Timestamp) {
        let meta = ObjectMeta {
            key: key.parse().expect("a test's key is a key"),
            size_bytes: bytes.len() as u64,
            etag: crate::keyring::sha256_hex(bytes)[..32].to_owned(),
            modified,
            version: None,
            storage: Storage::Ready,
            stored: None,
        };
        let mut state = self.lock();
        state
            .buckets
            .entry(bucket.to_owned())
            .or_default()
            .insert(key.to_owned(), (meta, bytes.to_owned()));
    }

    /// The bytes of an object.
    pub fn bytes(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.lock()
            .buckets
            .get(bucket)?
            .get(key)
            .map(|(_, bytes)| bytes.clone())
    }

    /// The keys of a bucket.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        self.lock()
            .buckets
            .get(bucket)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(ToOwned::to_owned)
            .collect()
    }

    /// Makes the next request fail with `fact`.
    pub fn fail_next(&self, fact: ErrorKind) {
        self.lock().failures.push(fact);
    }

    /// Makes every HEAD of an object fail with `fact`, like that of an object that the credentials may not read.
    pub fn unreadable(&self, bucket: &str, key: &str, fact: ErrorKind) {
        self.lock()
            .unreadable
            .insert((bucket.to_owned(), key.to_owned()), fact);
    }

    /// Sets the storage of an object. Only HEAD shows it.
    pub fn set_storage(&self, bucket: &str, key: &str, storage: Storage) {
        let place = (bucket.to_owned(), key.to_owned());
        self.lock().storage.insert(place, storage);
    }

    /// Sets how far the store's clock is ahead of ours; it is known after the first answer.
    pub fn set_clock_ahead(&self, ahead: SignedDuration) {
        self.lock().clock_ahead = Some(ahead);
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        self.lock().requests
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request<T>(
        &self,
        action: String,
        answer: impl FnOnce(&mut State) -> Option<T>,
    ) -> Result<T, StoreError> {
        let mut state = self.lock();
        state.requests += 1;
        if let Some(fact) = state.failures.pop() {
            return Err(EdgeError::new(action, fact, "told to fail"));
        }
        answer(&mut state).ok_or_else(|| {
            EdgeError::new(action, ErrorKind::NotFound, "there is nothing of that name")
        })
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn list(
        &self,
        bucket: &Bucket,
        prefix: &str,
        _: Versions,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError> {
        self.request(format!("list s3://{bucket}/{prefix}"), |state| {
            let objects = state.buckets.get(bucket.as_str())?;
            let after = match cursor {
                Cursor::Start => "",
                Cursor::After(key) | Cursor::Token(key) => key,
            };
            let mut found: Vec<ObjectMeta> = objects
                .range(prefix.max(after).to_owned()..)
                .filter(|(key, _)| key.as_str() > after)
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(_, (meta, _))| meta.clone())
                .take(self.page_size + 1)
                .collect();
            let more = found.len() > self.page_size;
            found.truncate(self.page_size);
            let last = found.last().map(|object| object.key.to_string());
            Some(Page {
                objects: found,
                continuation_token: last.filter(|_| more),
            })
        })
    }

    async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError> {
        let place = (bucket.to_string(), key.to_string());
        if let Some(fact) = self.lock().unreadable.get(&place) {
            return Err(EdgeError::new(
                format!("get the metadata of s3://{bucket}/{key}"),
                *fact,
                "told to fail",
            ));
        }
        self.request(
            format!("get the metadata of s3://{bucket}/{key}"),
            |state| {
                let objects = state.buckets.get(bucket.as_str())?;
                let (mut meta, _) = objects.get(key.as_str())?.clone();
                if let Some(storage) = state.storage.get(&place) {
                    meta.storage = *storage;
                }
                Some(meta)
            },
        )
    }

    async fn beginning(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        most: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let key = &object.key;
        let action = format!("read the beginning of s3://{bucket}/{key}");
        let is_listed = |state: &mut State| {
            let (meta, bytes) = state.buckets.get(bucket.as_str())?.get(key.as_str())?;
            Some((
                meta.etag == object.etag,
                bytes[..bytes.len().min(most)].to_owned(),
            ))
        };
        match self.request(action.clone(), is_listed)? {
            (true, bytes) => Ok(bytes),
            (false, _) => Err(EdgeError {
                answer: Some(Box::new(ServiceAnswer {
                    status: 412,
                    code: Some("PreconditionFailed".to_owned()),
                    place: None,
                    retry_after: None,
                    section: None,
                })),
                ..EdgeError::new(action, ErrorKind::Rejected, "it was changed")
            }),
        }
    }

    async fn range(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let most = usize::try_from(range.end).unwrap_or(usize::MAX);
        let bytes = Bytes::from(self.beginning(bucket, object, most).await?);
        Ok(bytes.slice(usize::try_from(range.start).unwrap_or(usize::MAX)..))
    }

    async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        body: Body,
        _: Content,
    ) -> Result<(), StoreError> {
        let action = format!("put s3://{bucket}/{key}");
        let bytes = match body {
            Body::Bytes(bytes) => bytes,
            Body::File(path) => std::fs::read(path)
                .map_err(|error| EdgeError::new(action.clone(), ErrorKind::Rejected, error))?,
        };
        self.request(action, |state| state.buckets.get(bucket.as_str()).map(drop))?;
        self.insert(bucket.as_str(), key.as_str(), &bytes, Timestamp::UNIX_EPOCH);
        Ok(())
    }

    fn skew(&self) -> Option<SignedDuration> {
        let state = self.lock();
        state.clock_ahead.filter(|_| state.requests > 0)
    }

    async fn probe(&self, bucket: &Bucket, _: &str) -> Result<(), StoreError> {
        self.request(format!("list s3://{bucket}"), |state| {
            state.buckets.get(bucket.as_str()).map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_lists_by_pages_and_in_order() {
        let store = MemoryStore::new(2);
        for key in ["b", "a/2", "a/1", "a/3", "c"] {
            store.insert("bucket", key, b"x", Timestamp::UNIX_EPOCH);
        }
        let bucket: Bucket = "bucket".parse().unwrap();
        let first = store
            .list(&bucket, "a/", Versions::Floating, Cursor::Start)
            .await
            .unwrap();
        let second = store
            .list(
                &bucket,
                "a/",
                Versions::Floating,
                Cursor::Token(first.continuation_token.as_deref().unwrap()),
            )
            .await
            .unwrap();
        let keys: Vec<String> = [first.objects, second.objects]
            .concat()
            .iter()
            .map(|object| object.key.to_string())
            .collect();
        assert_eq!(keys, ["a/1", "a/2", "a/3"]);
        assert!(second.continuation_token.is_none());
    }

    #[tokio::test]
    async fn it_fails_once_when_told_to() {
        let store = MemoryStore::new(2);
        store.create_bucket("bucket");
        store.fail_next(ErrorKind::Throttled);
        let bucket: Bucket = "bucket".parse().unwrap();
        assert_eq!(
            store.probe(&bucket, "").await.unwrap_err().fact,
            ErrorKind::Throttled
        );
        assert!(store.probe(&bucket, "").await.is_ok());
    }
}
