//! A listing in the order of the store, from token to token.

use super::lister::Under;
use super::listing::{GatherError, check_clock};
use crate::bounds::MAX_LISTED_OBJECTS;
use crate::cancellation::Cancellation;
use crate::job::Key;
use crate::store::{Cursor, EndlessListing, ListingCourse, ObjectMeta, ObjectStore};

/// Finds a store that lists the same pages again and again under new tokens. It remembers one page, and another after each
/// doubling of their number (R. P. Brent, An improved Monte Carlo factorization algorithm, 1980, section 2).
#[derive(Debug, Default)]
struct Circle {
    mark: Option<PageEnds>,
    pages: u64,
    next_mark: u64,
}

/// The keys and versions of a page's first and last object, and the number of its objects.
type PageEnds = ([(Key, Option<String>); 2], usize);

impl Circle {
    /// Whether a page is an earlier one.
    fn closes_with(&mut self, page: &[ObjectMeta]) -> bool {
        let [Some(first), Some(last)] = [page.first(), page.last()] else {
            return false;
        };
        let end = |object: &ObjectMeta| (object.key.clone(), object.version.clone());
        let ends = ([end(first), end(last)], page.len());
        let closes = self.mark.as_ref() == Some(&ends);
        if self.pages >= self.next_mark {
            self.mark = Some(ends);
            self.next_mark = self.pages * 2 + 1;
        }
        self.pages += 1;
        closes
    }
}

/// The pages of a store, in its own order.
pub(super) struct AsListed<'a> {
    under: Under<'a>,
    store: &'a dyn ObjectStore,
    stop: &'a Cancellation,
    course: ListingCourse,
    circle: Circle,
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
            circle: Circle::default(),
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
        if self.circle.closes_with(&page.objects) {
            return Err(EndlessListing::Circle.into());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many pages a circle is found, if a store lists some pages once and others for ever.
    fn pages_until_found(once: u64, again: u64) -> Option<u64> {
        let page = |number: u64| {
            let number = match number.checked_sub(once) {
                Some(beyond) => once + beyond % again,
                None => number,
            };
            let key = |end| format!("r/{number}/{end}").parse::<Key>().unwrap();
            [ObjectMeta::published(key(0)), ObjectMeta::published(key(1))]
        };
        let mut circle = Circle::default();
        (0..10_000).find(|number| circle.closes_with(&page(*number)))
    }

    #[test]
    fn a_listing_in_a_circle_is_found_and_no_other_is() {
        for (once, again) in [(0, 1), (0, 2), (0, 7), (1, 1), (3, 5), (100, 1), (100, 333)] {
            let found = pages_until_found(once, again);
            assert!(
                found.is_some_and(|found| found <= 4 * (once + again)),
                "{once} {again}: {found:?}"
            );
        }
        assert_eq!(pages_until_found(10_000, 1), None);
        assert!(!Circle::default().closes_with(&[]));
    }
}
