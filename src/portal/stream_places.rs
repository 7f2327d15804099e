//! The files that are streamed at once: so many in all, and a few of each link, so that one reader leaves places for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bounds::{MAX_STREAMS, MAX_STREAMS_OF_LINK};

/// The places of one portal. Clones are the same places.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamPlaces(Arc<Mutex<StreamsUnderWay>>);

#[derive(Debug, Default)]
struct StreamsUnderWay {
    all: usize,
    by_link: HashMap<String, usize>,
}

/// The place of one stream, until it is dropped.
#[derive(Debug)]
pub(super) struct StreamPlace {
    places: StreamPlaces,
    link: String,
}

impl StreamPlaces {
    fn under_way(&self) -> MutexGuard<'_, StreamsUnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a file of a link; `None` if all are taken, or those of the link.
    pub(super) fn take(&self, link: &str) -> Option<StreamPlace> {
        let mut under_way = self.under_way();
        let of_link = under_way.by_link.get(link).copied().unwrap_or_default();
        if under_way.all >= MAX_STREAMS || of_link >= MAX_STREAMS_OF_LINK {
            return None;
        }
        under_way.all += 1;
        under_way.by_link.insert(link.to_owned(), of_link + 1);
        Some(StreamPlace {
            places: self.clone(),
            link: link.to_owned(),
        })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut under_way = self.places.under_way();
        under_way.all -= 1;
        if let Some(of_link) = under_way.by_link.get_mut(&self.link) {
            *of_link -= 1;
            if *of_link == 0 {
                under_way.by_link.remove(&self.link);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leaves_places_for_others_and_gives_its_own_back() {
        let places = StreamPlaces::default();
        let of_one: Vec<_> = std::iter::from_fn(|| places.take("one")).collect();
        assert_eq!(of_one.len(), MAX_STREAMS_OF_LINK);
        let others = (0..MAX_STREAMS).map_while(|number| places.take(&number.to_string()));
        let others: Vec<_> = others.collect();
        assert_eq!(of_one.len() + others.len(), MAX_STREAMS);
        drop(of_one);
        assert!(places.take("one").is_some());
        drop(others);
        assert!(places.under_way().by_link.is_empty());
        assert_eq!(places.under_way().all, 0);
    }
}
