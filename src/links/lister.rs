//! A listing as a stream of pages in the order of their keys; several are asked for at once where that helps.

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::listing::{GatherError, check_clock};
use super::ranges::{Ask, Popped, RangeId, Ranges};
use crate::job::Bucket;
use crate::store::{ObjectMeta, ObjectStore, Page, Versions};

/// How many pages of a listing are asked for at once. A store's own limit, per prefix, is in the thousands a second; how often
/// a connection may be asked is `links.requests`, through which each of them passes.
const AT_ONCE: usize = 8;

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Under<'a> {
    pub(super) bucket: &'a Bucket,
    /// With what the keys begin.
    pub(super) prefix: &'a str,
    pub(super) versions: Versions,
    /// Whether only the beginning is wanted, probably.
    pub(super) is_limited: bool,
}

/// An answer on its way.
type Answer<'a> = BoxFuture<'a, (RangeId, Result<Page, GatherError>)>;

/// Lists all keys under a prefix.
pub(super) struct Lister<'a> {
    under: Under<'a>,
    store: &'a dyn ObjectStore,
    ranges: Ranges,
    on_their_way: FuturesUnordered<Answer<'a>>,
}

impl<'a> Lister<'a> {
    pub(super) fn new(under: Under<'a>, store: &'a dyn ObjectStore) -> Self {
        // Versions have a listing of their own, whose places are a key and a version.
        let at_once = match under.is_limited || under.versions == Versions::Pinned {
            true => 1,
            false => AT_ONCE,
        };
        Self {
            under,
            store,
            ranges: Ranges::new(under.prefix, at_once),
            on_their_way: FuturesUnordered::new(),
        }
    }

    /// The next page; nothing after the last.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<ObjectMeta>>, GatherError> {
        loop {
            for ask in self.ranges.asks() {
                let answer = answer(self.under, ask, self.store);
                self.on_their_way.push(Box::pin(answer));
            }
            match self.ranges.pop() {
                Popped::Page(page) => return Ok(Some(page)),
                Popped::End => return Ok(None),
                Popped::NotYet => {
                    if let Some((range, page)) = self.on_their_way.next().await {
                        self.ranges.answer(range, page?)?;
                    }
                }
            }
        }
    }
}

async fn answer(
    under: Under<'_>,
    ask: Ask,
    store: &dyn ObjectStore,
) -> (RangeId, Result<Page, GatherError>) {
    let Under {
        bucket,
        prefix,
        versions,
        ..
    } = under;
    let page = store.list(bucket, prefix, versions, ask.cursor()).await;
    // Before the answer itself: a clock that is far off makes S3 refuse requests, and then the clock is the reason.
    let page = check_clock(store).and_then(|()| Ok(page?));
    (ask.range, page)
}
