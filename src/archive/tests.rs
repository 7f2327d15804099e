//! What goes into a ZIP, and files that change while it is made.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::ledger::memory::MemoryLedger;
use crate::links::listing;
use crate::progress::Progress;
use crate::render::samples;
use crate::store::memory::MemoryStore;
use crate::store::{Body, Content, Cursor, Page, Versions};

/// A store in which an object is replaced when it is read for the `when`-th time.
#[derive(Debug)]
struct Changing {
    store: MemoryStore,
    keys: Vec<&'static str>,
    reads: AtomicUsize,
}

#[async_trait]
impl ObjectStore for Changing {
    async fn list(
        &self,
        bucket: &Bucket,
        prefix: &str,
        versions: Versions,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError> {
        self.store.list(bucket, prefix, versions, cursor).await
    }

    async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.store.head(bucket, key).await
    }

    async fn beginning(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        most: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.store.beginning(bucket, object, most).await
    }

    async fn range(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        if let Some(key) = self.keys.get(self.reads.fetch_add(1, Ordering::SeqCst)) {
            let now = jiff::Timestamp::UNIX_EPOCH;
            self.store.insert(bucket.as_str(), key, b"another", now);
        }
        self.store.range(bucket, object, range).await
    }

    async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        body: Body,
        content: Content,
    ) -> Result<(), StoreError> {
        self.store.put(bucket, key, body, content).await
    }

    async fn probe(&self, bucket: &Bucket, prefix: &str) -> Result<(), StoreError> {
        self.store.probe(bucket, prefix).await
    }
}

/// Makes the ZIP of three files, of which those of `keys` are replaced meanwhile, and returns the names in it.
async fn names_after(keys: Vec<&'static str>) -> Result<Vec<String>, ArchiveError> {
    let store = MemoryStore::new(1000);
    let plan = samples::plan("out/", &json!({}));
    let bucket = plan.bucket.as_str();
    for key in ["out/a.txt", "out/b.txt", "out/c.txt"] {
        store.insert(bucket, key, key.as_bytes(), jiff::Timestamp::UNIX_EPOCH);
    }
    let reads = AtomicUsize::new(0);
    let store: Arc<dyn ObjectStore> = Arc::new(Changing { store, keys, reads });
    let dir = tempfile::tempdir().unwrap();
    let spool: Location = dir.path().into();
    let stop = Cancellation::default();
    let progress = Progress::default();
    let listing = listing::list(&plan, &*store, &spool, &stop, &progress);
    let listing = listing.await.unwrap();
    let place = crate::plan::PublishTarget::Dir {
        asked: dir.path().join("zips"),
        allowed: dir.path().join("zips"),
        url: None,
    };
    let wanted = ZipPlan {
        stem: "all".to_owned(),
        place: Some(place),
        split_bytes: None,
    };
    let work = ArchiveWork {
        plan: &plan,
        listing: &listing,
        store: &store,
        memory: &ZipMemory::default(),
        keyring: &Keyring::new([7; 32]),
        ledger: &MemoryLedger::default(),
        spool_dir: &spool,
        stop: &stop,
        got_on: &|| {},
    };
    let archive = make(&work, &wanted).await?;
    let zip = std::fs::read(archive.zips[0].place().unwrap()).unwrap();
    assert_eq!(zip.len() as u64, archive.zips[0].made.size_bytes);
    let signature = 0x0201_4b50_u32.to_le_bytes();
    let begins = zip.windows(4).enumerate();
    let begins = begins.filter(|(_, window)| *window == signature);
    let name = |(at, _): (usize, &[u8])| {
        let length = usize::from(zip[at + 28]);
        String::from_utf8(zip[at + 46..at + 46 + length].to_vec()).unwrap()
    };
    Ok(begins.map(name).collect())
}

#[tokio::test]
async fn a_file_that_was_changed_meanwhile_is_left_out_and_named() {
    assert_eq!(
        names_after(Vec::new()).await.unwrap(),
        ["a.txt", "b.txt", "c.txt"]
    );
    assert_eq!(
        names_after(vec!["out/b.txt"]).await.unwrap(),
        ["a.txt", "c.txt", "NOT INCLUDED.txt"]
    );
    // Two at the same time are found together.
    assert_eq!(
        names_after(vec!["out/c.txt", "out/a.txt"]).await.unwrap(),
        ["b.txt", "NOT INCLUDED.txt"]
    );
}
