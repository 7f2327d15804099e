//! A listing as a stream of pages in the order of their keys; several are asked for at once where that helps.

use std::collections::VecDeque;
use std::pin::pin;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::listing::{GatherError, check_clock};
use super::ranges::{Ask, Popped, RangeId, Ranges};
use crate::error::chain;
use crate::job::Bucket;
use crate::store::{Fact, ObjectMeta, ObjectStore, Page, Versions};

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

/// An answer, and to which range it belongs.
type Answer = (RangeId, Result<Page, GatherError>);

/// Lists all keys under a prefix.
///
/// Pages are on their way while the caller works on those before. A request has a time limit that goes on whether or not
/// anybody looks at it, so a caller who waits for something else between two pages waits in [`Lister::meanwhile`].
pub(super) struct Lister<'a> {
    under: Under<'a>,
    store: &'a dyn ObjectStore,
    ranges: Ranges,
    on_their_way: FuturesUnordered<BoxFuture<'a, Answer>>,
    /// Answers that came in meanwhile, no more than were on their way.
    arrived: VecDeque<Answer>,
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
            arrived: VecDeque::new(),
        }
    }

    /// The next page; nothing after the last.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<ObjectMeta>>, GatherError> {
        loop {
            while let Some(answer) = self.arrived.pop_front() {
                self.take(answer)?;
            }
            for ask in self.ranges.asks() {
                let answer = answer(self.under, ask, self.store);
                self.on_their_way.push(Box::pin(answer));
            }
            match self.ranges.pop() {
                Popped::Page(page) => return Ok(Some(page)),
                Popped::End => return Ok(None),
                Popped::NotYet => self.arrived.extend(self.on_their_way.next().await),
            }
        }
    }

    /// Waits for something else, while answers come in.
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

    fn take(&mut self, (range, page): Answer) -> Result<(), GatherError> {
        match page {
            Err(GatherError::Store(error))
                if matches!(error.fact, Fact::Rejected | Fact::Denied | Fact::NotFound)
                    && self.ranges.give_up(range) =>
            {
                let error = chain(&error);
                tracing::debug!(
                    error,
                    "the store does not list from a guessed place on; it is listed page by page"
                );
                Ok(())
            }
            page => self.ranges.answer(range, page?),
        }
    }
}

async fn answer(under: Under<'_>, ask: Ask, store: &dyn ObjectStore) -> Answer {
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
