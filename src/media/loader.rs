//! Inspects the pictures of one job, once for all its recipients.
//!
//! Results of earlier jobs come from the ledger's cache. For every other picture, one GET fetches the first bytes, a few at a
//! time. Time, requests and failures are bounded, and a failure leaves a picture without a known size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Picture, Pictures, format};
use crate::cancellation::Cancellation;
use crate::edge::EdgeError;
use crate::keyring::sha256_hex;
use crate::ledger::picture_cache::PictureCache;
use crate::links::listing::Entry;
use crate::plan::Plan;
use crate::store::{ObjectMeta, ObjectStore};
use crate::text::chain;

/// The number of bytes requested from a file. Cameras write EXIF first, and an EXIF segment has at most 64 KiB.
const HEAD_BYTES: usize = 64 * 1024;

/// The timeout of a GET, including its wait for the connection's rate.
const GET_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit of all inspection for a job; it is also limited to a quarter of the lifetime of the job's links. The next job
/// inspects the remaining pictures, since results are kept.
const MAX_LOOK: Duration = Duration::from_secs(120);

/// The number of failed GETs after which no more are sent: if ten are denied, ten thousand would be.
const MAX_FAILURES: u32 = 10;

/// The total size of the thumbnails that one job shows, in bytes; the first ones are kept.
const MAX_THUMBNAIL_BYTES: usize = 8 * 1024 * 1024;

/// Which of a gallery's pictures are inspected, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSettings {
    /// The maximum number of pictures of a job; the first ones are inspected.
    pub limit: u64,
    /// How many are inspected at once.
    pub at_once: usize,
}

/// The pictures of a job.
#[derive(Debug)]
pub struct PictureLoader<'a> {
    plan: &'a Plan,
    store: &'a dyn ObjectStore,
    picture_cache: Option<&'a dyn PictureCache>,
    stop: &'a Cancellation,
    at_once: usize,
    failures: AtomicU32,
    /// Held during inspection: other callers for the same page wait for its result instead of inspecting it too.
    state: Mutex<LoaderState>,
}

#[derive(Debug)]
struct LoaderState {
    /// The facts about the pages so far. Callers read them in order.
    pages: Vec<Arc<Pictures>>,
    /// The number of pictures that may still be inspected.
    left: u64,
    /// The number of bytes left for thumbnails.
    thumbnail_bytes_left: usize,
    /// The deadline of the inspection, set when it starts.
    until: Option<Instant>,
}

impl<'a> PictureLoader<'a> {
    /// The pictures of a plan. Nothing is inspected before a page is requested, and never for a plan without a gallery.
    pub fn new(
        plan: &'a Plan,
        store: &'a dyn ObjectStore,
        picture_cache: Option<&'a dyn PictureCache>,
        settings: PictureSettings,
        stop: &'a Cancellation,
    ) -> Self {
        let PictureSettings { limit, at_once } = settings;
        Self {
            plan,
            store,
            picture_cache,
            stop,
            at_once: at_once.max(1),
            failures: AtomicU32::new(0),
            state: Mutex::new(LoaderState {
                pages: Vec::new(),
                left: plan.gallery.as_ref().map_or(0, |_| limit),
                thumbnail_bytes_left: MAX_THUMBNAIL_BYTES,
                until: None,
            }),
        }
    }

    /// The facts about the pictures of page `number` of the job's listing. Pages are requested in order; a repeated request does
    /// not inspect them again.
    pub async fn page(&self, number: usize, page: &[Entry]) -> Arc<Pictures> {
        let mut state = self.state.lock().await;
        if let Some(known) = state.pages.get(number) {
            return Arc::clone(known);
        }
        if state.left == 0 {
            return Arc::default();
        }
        let wanted = state.take(page);
        let pictures = Arc::new(self.look(&mut state, &wanted).await);
        state.pages.push(Arc::clone(&pictures));
        pictures
    }

    async fn look(&self, state: &mut LoaderState, wanted: &[&ObjectMeta]) -> Pictures {
        let until = *state.until.get_or_insert_with(|| self.deadline());
        let names: Vec<String> = wanted.iter().map(|object| self.name(object)).collect();
        let mut known = self.recall(&names, until).await;
        let missing: Vec<usize> = (0..wanted.len())
            .filter(|at| known[*at].is_none())
            .collect();
        let found: Vec<(usize, Option<Picture>)> = stream::iter(missing)
            .map(|at| async move { Some((at, self.ask(wanted[at], until).await?)) })
            .buffered(self.at_once)
            .filter_map(std::future::ready)
            .collect()
            .await;
        self.keep(&names, &found, until).await;
        for (at, picture) in found {
            known[at] = Some(picture);
        }
        let mut pictures = Pictures::default();
        for (object, picture) in wanted.iter().zip(known) {
            if let Some(picture) = picture.flatten() {
                pictures.insert(object.key.clone(), Arc::new(state.within_bounds(picture)));
            }
        }
        pictures
    }

    fn deadline(&self) -> Instant {
        let life = Duration::from_secs(self.plan.lifetime.signed_for_secs);
        Instant::now() + MAX_LOOK.min(life / 4)
    }

    /// Fetches and reads an object's first bytes. The outer `None`: they could not be fetched; the inner `None`: they are not a
    /// known picture.
    async fn ask(&self, object: &ObjectMeta, until: Instant) -> Option<Option<Picture>> {
        if object.size_bytes == 0 {
            return Some(None);
        }
        if self.failures.load(Ordering::Relaxed) >= MAX_FAILURES {
            return None;
        }
        let bytes = self.store.beginning(&self.plan.bucket, object, HEAD_BYTES);
        let bytes = timeout_at(until.min(Instant::now() + GET_TIMEOUT), bytes);
        match self.stop.or(bytes).await.ok()? {
            Ok(Ok(bytes)) => Some(Picture::read(&bytes)),
            Ok(Err(error)) => self.fail(object, Some(&error)),
            Err(_) => self.fail(object, None),
        }
    }

    /// Counts a failure, and logs the first.
    fn fail<T>(&self, object: &ObjectMeta, error: Option<&EdgeError>) -> Option<T> {
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            let error = error.map_or_else(|| "it took too long".to_owned(), |error| chain(error));
            tracing::warn!(
                job.id = %self.plan.job.id,
                object.key = object.key.as_str(),
                error,
                "could not read a picture; its size in the gallery is unknown"
            );
        }
        None
    }

    /// The results of earlier jobs: none, an unreadable picture, or a picture.
    async fn recall(&self, names: &[String], until: Instant) -> Vec<Option<Option<Picture>>> {
        let nothing = || vec![None; names.len()];
        let Some(picture_cache) = self.picture_cache.filter(|_| !names.is_empty()) else {
            return nothing();
        };
        match self
            .stop
            .or(timeout_at(until, picture_cache.recall(names)))
            .await
        {
            Ok(Ok(Ok(kept))) => {
                let read = |text: String| serde_json::from_str(&text).ok();
                let kept = kept.into_iter().map(|text| text.and_then(read));
                kept.chain(std::iter::repeat_n(None, names.len()))
                    .take(names.len())
                    .collect()
            }
            Ok(Ok(Err(error))) => {
                self.shelf_failed(&error);
                nothing()
            }
            Ok(Err(_)) | Err(_) => nothing(),
        }
    }

    /// Stores the results for later jobs. A failure to store them is ignored.
    async fn keep(&self, names: &[String], found: &[(usize, Option<Picture>)], until: Instant) {
        let Some(picture_cache) = self.picture_cache else {
            return;
        };
        let things: Vec<(String, String)> = found
            .iter()
            .map(|(at, picture)| {
                let text = serde_json::to_string(picture).expect("a picture is plain data");
                (names[*at].clone(), text)
            })
            .collect();
        if things.is_empty() {
            return;
        }
        // A little longer than the inspection's deadline, so that the last results are stored too.
        let kept = timeout(
            GET_TIMEOUT.max(until - Instant::now()),
            picture_cache.keep(&things),
        );
        if let Ok(Ok(Err(error))) = self.stop.or(kept).await {
            self.shelf_failed(&error);
        }
    }

    fn shelf_failed(&self, error: &(dyn std::error::Error + 'static)) {
        let error = chain(error);
        tracing::warn!(job.id = %self.plan.job.id, error, "picture cache failed");
    }

    /// The name under which a picture is stored. It differs for each state of the object, and for each version of the program
    /// that reads pictures differently.
    fn name(&self, object: &ObjectMeta) -> String {
        let Plan {
            connection, bucket, ..
        } = self.plan;
        let parts = (
            "picture/2",
            connection.as_str(),
            bucket.as_str(),
            object.key.as_str(),
            &object.etag,
        );
        let parts = serde_json::to_vec(&parts).expect("texts are plain data");
        sha256_hex(&parts)
    }
}

impl LoaderState {
    /// The pictures of a page that may be inspected.
    fn take<'p>(&mut self, page: &'p [Entry]) -> Vec<&'p ObjectMeta> {
        let objects = page.iter().filter_map(|entry| match entry {
            Entry::Linkable(object) => Some(object),
            Entry::Unavailable(..) => None,
        });
        // Without an ETag, a changed object could not be told from this one.
        let pictures = objects
            .filter(|object| format::is_picture(object.key.as_str()) && !object.etag.is_empty());
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let pictures: Vec<&ObjectMeta> = pictures.take(most).collect();
        self.left -= pictures.len() as u64;
        pictures
    }

    /// The picture, with its thumbnail if the job has room for it.
    fn within_bounds(&mut self, picture: Picture) -> Picture {
        let length = picture.thumbnail.as_ref().map_or(0, String::len);
        match self.thumbnail_bytes_left.checked_sub(length) {
            Some(left) => {
                self.thumbnail_bytes_left = left;
                picture
            }
            None => picture.without_thumbnail(),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::job::{Bucket, Key};
    use crate::store::{Body, Content, Cursor, Page, Storage, StoreError, Versions};

    /// A store that never answers.
    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl ObjectStore for Silent {
        async fn list(
            &self,
            _: &Bucket,
            _: &str,
            _: Versions,
            _: Cursor<'_>,
        ) -> Result<Page, StoreError> {
            std::future::pending().await
        }

        async fn head(&self, _: &Bucket, _: &Key) -> Result<ObjectMeta, StoreError> {
            std::future::pending().await
        }

        async fn beginning(
            &self,
            _: &Bucket,
            _: &ObjectMeta,
            _: usize,
        ) -> Result<Vec<u8>, StoreError> {
            std::future::pending().await
        }

        async fn put(&self, _: &Bucket, _: &Key, _: Body, _: Content) -> Result<(), StoreError> {
            std::future::pending().await
        }

        async fn probe(&self, _: &Bucket, _: &str) -> Result<(), StoreError> {
            std::future::pending().await
        }
    }

    fn photos(count: usize) -> Vec<Entry> {
        let photo = |number: usize| {
            Entry::Linkable(ObjectMeta {
                key: format!("{number}.jpg").parse().unwrap(),
                size_bytes: 1000,
                etag: "e".to_owned(),
                version: None,
                modified: Timestamp::UNIX_EPOCH,
                storage: Storage::Ready,
                stored: None,
            })
        };
        (0..count).map(photo).collect()
    }

    fn state(left: u64) -> LoaderState {
        LoaderState {
            pages: Vec::new(),
            left,
            thumbnail_bytes_left: 10,
            until: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_given_up_and_so_is_a_job_that_stops() {
        let plan = crate::render::samples::plan("", &json!({}));
        let stop = Cancellation::default();
        let loader = PictureLoader {
            plan: &plan,
            store: &Silent,
            picture_cache: None,
            stop: &stop,
            at_once: 8,
            failures: AtomicU32::new(0),
            state: Mutex::new(state(1000)),
        };
        let began = Instant::now();
        let pictures = loader.page(0, &photos(500)).await;
        assert!(pictures.of(&"0.jpg".parse().unwrap()).is_none());
        assert_eq!(
            began.elapsed().as_secs(),
            20,
            "eight at once, until ten have failed"
        );
        loader.page(0, &photos(500)).await;
        loader.page(1, &photos(500)).await;
        assert_eq!(began.elapsed().as_secs(), 20, "nobody is asked again");

        loader.failures.store(0, Ordering::Relaxed);
        *loader.state.lock().await = state(1000);
        stop.cancel();
        loader.page(0, &photos(500)).await;
        assert_eq!(began.elapsed().as_secs(), 20);
    }

    #[test]
    fn the_first_pictures_are_taken_and_then_none() {
        let mut state = state(5);
        let page = photos(3);
        let taken: Vec<usize> = (0..3).map(|_| state.take(&page).len()).collect();
        assert_eq!((taken, state.left), (vec![3, 2, 0], 0));
    }

    #[test]
    fn small_pictures_are_shown_while_there_is_room() {
        let mut state = state(5);
        let picture = Picture {
            width: 4,
            height: 3,
            format: super::super::PictureFormat::Displayed,
            thumbnail: Some("data:,".to_owned()),
        };
        let shown: Vec<bool> = (0..3)
            .map(|_| state.within_bounds(picture.clone()).thumbnail.is_some())
            .collect();
        assert_eq!(shown, [true, false, false], "six bytes of ten");
    }
}
