//! The places of jobs that make renditions: such a job takes minutes, and all others need slots meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places. Jobs of one message, such as the parts of a job, share a place, as they share a slot.
#[derive(Debug)]
pub struct RenditionPlaces {
    most: usize,
    /// How many jobs of each message are in its place.
    taken: Mutex<BTreeMap<String, usize>>,
}

/// The place of a job, until it is dropped.
#[derive(Debug)]
pub struct RenditionPlace {
    places: Arc<RenditionPlaces>,
    message: String,
}

impl RenditionPlaces {
    /// As many places as `most`.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// How many there are.
    pub const fn most(&self) -> usize {
        self.most
    }

    /// Takes a place for a job of a message; `None` if jobs of other messages have them all.
    pub fn take(self: &Arc<Self>, message: &str) -> Option<RenditionPlace> {
        let mut taken = self.taken();
        if taken.len() >= self.most && !taken.contains_key(message) {
            return None;
        }
        *taken.entry(message.to_owned()).or_default() += 1;
        Some(RenditionPlace {
            places: Arc::clone(self),
            message: message.to_owned(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RenditionPlace {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(jobs) = taken.get_mut(&self.message) {
            *jobs -= 1;
            if *jobs == 0 {
                taken.remove(&self.message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_one_message_share_a_place_and_others_wait_until_the_last_has_left() {
        let places = RenditionPlaces::new(2);
        let parts = [places.take("a"), places.take("a"), places.take("a")];
        let other = places.take("b");
        assert!(parts.iter().all(Option::is_some) && other.is_some());
        assert!(places.take("c").is_none());
        let [first, second, third] = parts;
        drop((first, second));
        assert!(places.take("c").is_none(), "a part is still there");
        drop(third);
        let next = places.take("c");
        assert!(next.is_some() && places.take("a").is_none());
    }
}
