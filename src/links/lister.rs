//! A listing as a stream of pages in the order of their keys; several pages are requested at once where that helps.

use std::collections::VecDeque;
use std::mem;
use std::pin::pin;

use directory::Location;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::listing::{GatherError, check_clock};
use super::order;
use super::ranges::{PageRequest, Popped, RangeId, Ranges};
use super::sorted::{SortedListing, sorted};
use crate::cancellation::Cancellation;
use crate::job::Bucket;
use crate::store::{ErrorKind, ObjectMeta, ObjectStore, Page, Versions};
use crate::text::chain;

/// How many pages of a listing are requested at once. A store's own limit, per prefix, is thousands of requests a second;
/// each request also passes the connection's rate limit `links.requests`.
const AT_ONCE: usize = 8;

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Under<'a> {
    pub(super) bucket: &'a Bucket,
    /// The prefix of the keys.
    pub(super) prefix: &'a str,
    pub(super) versions: Versions,
    /// Whether probably only the first pages are needed.
    pub(super) is_limited: bool,
}

/// An answer, and the range that it belongs to.
type PageAnswer = (RangeId, Result<Page, GatherError>);

/// Lists all keys under a prefix.
///
/// Pages are requested while the caller works on earlier ones. The deadline of a request runs whether or not the request is
/// polled, so a caller that waits for something else between two pages waits in [`Lister::meanwhile`].
pub(super) struct Lister<'a> {
    under: Under<'a>,
    store: &'a dyn ObjectStore,
    stop: &'a Cancellation,
    ranges: Ranges,
    on_their_way: FuturesUnordered<BoxFuture<'a, PageAnswer>>,
    /// Answers that arrived meanwhile, at most as many as were requested.
    arrived: VecDeque<PageAnswer>,
    order: ListedOrder,
    /// Whether the store is asked for its order, because the listing may end before its pages show it.
    asks_for_order: bool,
}

/// The order in which the store lists.
enum ListedOrder {
    /// That of the keys' bytes.
    OfBytes,
    /// Another one: the whole is to be listed and sorted, with this directory for what exceeds the memory.
    Other(Location),
    /// The whole, sorted.
    Sorted(Box<SortedListing>, Location),
}

impl<'a> Lister<'a> {
    pub(super) fn new(
        under: Under<'a>,
        store: &'a dyn ObjectStore,
        stop: &'a Cancellation,
    ) -> Self {
        // Versions have a separate listing, whose positions are a key and a version.
        let at_once = match under.is_limited || under.versions == Versions::Pinned {
            true => 1,
            false => AT_ONCE,
        };
        Self {
            under,
            store,
            stop,
            ranges: Ranges::new(under.prefix, at_once),
            on_their_way: FuturesUnordered::new(),
            arrived: VecDeque::new(),
            order: ListedOrder::OfBytes,
            asks_for_order: under.is_limited,
        }
    }

    /// The same, which asks the store for its order before it returns a page.
    pub(super) fn asking_for_order(mut self) -> Self {
        self.asks_for_order = true;
        self
    }

    /// Lists again from the first key on: all that the store lists, in whichever order, and sorts it.
    pub(super) fn sort(&mut self, spool_dir: &Location) {
        self.ranges = Ranges::new(self.under.prefix, 1);
        self.on_their_way.clear();
        self.arrived.clear();
        self.order = ListedOrder::Other(spool_dir.clone());
    }

    /// The next page; nothing after the last.
    ///
    /// # Errors
    /// [`GatherError::OutOfOrder`] if the store lists in another order than that of the keys' bytes: pages that were returned are
    /// void, and [`Lister::sort`] begins again.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<ObjectMeta>>, GatherError> {
        loop {
            match &mut self.order {
                ListedOrder::OfBytes => {
                    let page = self.listed().await?;
                    self.check_order(page.as_deref().unwrap_or_default())
                        .await?;
                    return Ok(page);
                }
                ListedOrder::Other(dir) => {
                    let sorted = sorted(self.under, self.store, dir, self.stop).await?;
                    self.order = ListedOrder::Sorted(Box::new(sorted), dir.clone());
                }
                ListedOrder::Sorted(sorted, dir) => return sorted.page(dir),
            }
        }
    }

    /// Checks, once, that the first objects of a listing that may end with them are also the first in the order of their keys.
    async fn check_order(&mut self, page: &[ObjectMeta]) -> Result<(), GatherError> {
        let [first, ..] = page else { return Ok(()) };
        if !mem::take(&mut self.asks_for_order) {
            return Ok(());
        }
        let Under { bucket, prefix, .. } = self.under;
        let asking = order::is_of_bytes(self.store, bucket, prefix, page);
        match self.stop.or(asking).await?? {
            true => Ok(()),
            false => Err(GatherError::OutOfOrder {
                last: prefix.to_owned(),
                key: first.key.to_string(),
            }),
        }
    }

    /// The next page of a store that lists in the order of the keys' bytes.
    async fn listed(&mut self) -> Result<Option<Vec<ObjectMeta>>, GatherError> {
        loop {
            while let Some(answer) = self.arrived.pop_front() {
                self.take(answer)?;
            }
            for ask in self.ranges.asks() {
                let answer = answer(self.under, ask, self.store);
                self.on_their_way.push(Box::pin(answer));
            }
            match self.ranges.pop()? {
                Popped::Page(page) => return Ok(Some(page)),
                Popped::End => return Ok(None),
                Popped::NotYet => {
                    let answer = self.stop.or(self.on_their_way.next()).await?;
                    self.arrived.extend(answer);
                }
            }
        }
    }

    /// Waits for something else, while answers arrive.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(answer) = self.on_their_way.next() => self.arrived.push_back(answer),
            }
        }
    }

    fn take(&mut self, (range, page): PageAnswer) -> Result<(), GatherError> {
        match page {
            Err(GatherError::Store(error))
                if matches!(
                    error.fact,
                    ErrorKind::Rejected | ErrorKind::Denied | ErrorKind::NotFound
                ) && self.ranges.give_up(range) =>
            {
                let error = chain(&error);
                tracing::debug!(
                    error,
                    "the store does not list from a guessed key; listing page by page"
                );
                Ok(())
            }
            page => self.ranges.answer(range, page?),
        }
    }
}

async fn answer(under: Under<'_>, ask: PageRequest, store: &dyn ObjectStore) -> PageAnswer {
    let Under {
        bucket,
        prefix,
        versions,
        ..
    } = under;
    let page = store.list(bucket, prefix, versions, ask.cursor()).await;
    // The clock is checked before the answer: a clock that is far off makes S3 refuse requests, and then it is the cause.
    let page = check_clock(store).and_then(|()| Ok(page?));
    (ask.range, page)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use jiff::Timestamp;
    use serde_json::json;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::job::Key;
    use crate::links::listing;
    use crate::plan::Plan;
    use crate::progress::Progress;
    use crate::render::samples;
    use crate::store::memory::MemoryStore;
    use crate::store::{Body, Content, Cursor, EdgeError, StoreError};

    /// A slow store with a deadline: a caller that does not poll an answer in time loses it.
    #[derive(Debug)]
    struct Slow {
        store: MemoryStore,
        /// Whether it refuses to list from a position that is not a token.
        is_strict: bool,
        /// How many listings were started.
        begun: AtomicUsize,
    }

    impl Slow {
        fn new(is_strict: bool) -> Self {
            let store = MemoryStore::new(10);
            for number in 0..200 {
                let key = format!("r/{number:05}");
                store.insert("acme-reports", &key, b"x", Timestamp::UNIX_EPOCH);
            }
            Self {
                store,
                is_strict,
                begun: AtomicUsize::new(0),
            }
        }
    }

    /// An answer in two parts, each of which must be polled.
    async fn in_parts(number: usize) -> Result<(), StoreError> {
        let parts = async {
            // Not all at the same time: some are under way while others are worked on.
            sleep(Duration::from_secs(2 + number as u64 % 4)).await;
            sleep(Duration::from_secs(2)).await;
        };
        let taken = timeout(Duration::from_secs(20), parts).await;
        taken.map_err(|_| EdgeError::new("list", ErrorKind::Silent, "it took too long"))
    }

    #[async_trait]
    impl ObjectStore for Slow {
        async fn list(
            &self,
            bucket: &Bucket,
            prefix: &str,
            versions: Versions,
            cursor: Cursor<'_>,
        ) -> Result<Page, StoreError> {
            in_parts(self.begun.fetch_add(1, Ordering::Relaxed)).await?;
            match cursor {
                Cursor::After(_) if self.is_strict => Err(EdgeError::new(
                    "list",
                    ErrorKind::Rejected,
                    "no such marker",
                )),
                cursor => self.store.list(bucket, prefix, versions, cursor).await,
            }
        }

        async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError> {
            sleep(Duration::from_secs(30)).await;
            self.store.head(bucket, key).await
        }

        async fn beginning(
            &self,
            _: &Bucket,
            _: &ObjectMeta,
            _: usize,
        ) -> Result<Vec<u8>, StoreError> {
            unreachable!("nothing is read")
        }

        async fn put(&self, _: &Bucket, _: &Key, _: Body, _: Content) -> Result<(), StoreError> {
            unreachable!("nothing is put")
        }

        async fn probe(&self, _: &Bucket, _: &str) -> Result<(), StoreError> {
            Ok(())
        }
    }

    async fn listed(store: &Slow, preflight: bool) -> Result<u64, GatherError> {
        let from = json!({ "connection": "reports", "bucket": "acme-reports", "prefix": "r/" });
        let plan = Plan {
            max_links: 10_000,
            preflight,
            ..samples::plan("r/", &json!({ "from": from }))
        };
        let dir = tempfile::tempdir().unwrap();
        let (stop, progress) = (Cancellation::default(), Progress::default());
        let listing = listing::list(&plan, store, &dir.path().into(), &stop, &progress).await?;
        Ok(listing.linkable)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_while_each_object_of_a_page_is_looked_at() {
        assert_eq!(listed(&Slow::new(false), true).await.unwrap(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_while_something_else_is_waited_for() {
        let store = Slow::new(false);
        let bucket = "acme-reports".parse().unwrap();
        let under = Under {
            bucket: &bucket,
            prefix: "r/",
            versions: Versions::Floating,
            is_limited: false,
        };
        let stop = Cancellation::default();
        let (mut lister, mut found) = (Lister::new(under, &store, &stop), 0);
        while let Some(page) = lister.page().await.unwrap() {
            found += page.len();
            lister.meanwhile(sleep(Duration::from_secs(60))).await;
            assert!(lister.arrived.len() <= AT_ONCE);
        }
        assert_eq!(found, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_lists_from_no_place_but_its_own_is_listed_all_the_same() {
        assert_eq!(listed(&Slow::new(true), false).await.unwrap(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_refuses_the_listing_itself_is_an_error() {
        let store = Slow::new(false);
        store.store.fail_next(ErrorKind::Denied);
        let error = listed(&store, false).await.unwrap_err();
        assert!(matches!(error, GatherError::Store(_)), "{error}");
    }
}
