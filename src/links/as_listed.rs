//! A listing in the order of the store, from token to token.

use super::lister::Under;
use super::listing::{GatherError, check_clock};
use crate::bounds::MAX_LISTED_OBJECTS;
use crate::cancellation::Cancellation;
use crate::store::{Cursor, ListingCourse, ObjectMeta, ObjectStore};

/// The pages of a store, in its own order.
pub(super) struct AsListed<'a> {
    under: Under<'a>,
    store: &'a dyn ObjectStore,
    stop: &'a Cancellation,
    course: ListingCourse,
    token: Option<String>,
    is_done: bool,
    found: u64,
}

impl<'a> AsListed<'a> {
    pub(super) fn new(
        under: Under<'a>,
        store: &'a dyn ObjectStore,
        stop: &'a Cancellation,
    ) -> Self {
        Self {
            under,
            store,
            stop,
            course: ListingCourse::default(),
            token: None,
            is_done: false,
            found: 0,
        }
    }

    /// The next page; nothing after the last.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<ObjectMeta>>, GatherError> {
        if self.is_done {
            return Ok(None);
        }
        let Under {
            bucket,
            prefix,
            versions,
            ..
        } = self.under;
        let cursor = self.token.as_deref().map_or(Cursor::Start, Cursor::Token);
        let page = self.store.list(bucket, prefix, versions, cursor);
        let page = self.stop.or(page).await?;
        check_clock(self.store)?;
        let page = page?;
        self.found += page.objects.len() as u64;
        if self.found > MAX_LISTED_OBJECTS {
            return Err(GatherError::TooMany {
                limit: MAX_LISTED_OBJECTS,
                what: "are listed",
            });
        }
        match page.continuation_token {
            Some(next) => {
                self.course.go_on(&next, !page.objects.is_empty())?;
                self.token = Some(next);
            }
            None => self.is_done = true,
        }
        Ok(Some(page.objects))
    }
}
