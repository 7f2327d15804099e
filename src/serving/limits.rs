//! Limits by key, such as the network of a client: a burst, and then one each time a cell is free.
//!
//! The arithmetic is GCRA as [`governor`] does it; the memory is bounded, because a flood chooses the keys.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::Quota;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use tokio::time::Instant;

use crate::bounds::MAX_LIMITED_KEYS;

/// Too many requests; the next may pass after this time, at least a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// How long to wait.
    pub(crate) retry_after: Duration,
}

type KeyedCells<K> = governor::RateLimiter<K, BoundedStates<K>, LimitClock, NoOpMiddleware<Nanos>>;

/// Admits a burst of a minute's worth for each key, and then one each time a cell is free.
pub(crate) struct KeyedLimit<K: Hash + Eq + Clone>(KeyedCells<K>);

impl<K: Hash + Eq + Clone> std::fmt::Debug for KeyedLimit<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedLimit(…)")
    }
}

impl<K: Hash + Eq + Clone> KeyedLimit<K> {
    /// So many a minute, and as many at once.
    pub(crate) fn per_minute(count: NonZeroU32) -> Self {
        let clock = LimitClock {
            created: Instant::now(),
        };
        Self(KeyedCells::new(
            Quota::per_minute(count),
            BoundedStates::default(),
            clock,
        ))
    }

    /// Counts one under a key.
    pub(crate) fn pass(&self, key: &K) -> Result<(), TooMany> {
        self.0.check_key(key).map_err(|not_until| TooMany {
            retry_after: not_until
                .wait_time_from(self.0.clock().now())
                .max(Duration::from_secs(1)),
        })
    }
}

/// The runtime's clock, which tests can pause.
#[derive(Debug, Clone, Copy)]
struct LimitClock {
    created: Instant,
}

impl GovernorClock for LimitClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.created.elapsed().into()
    }
}

/// The states of the keys that were used last: between [`MAX_LIMITED_KEYS`] and twice as many, in two generations. When the
/// newer one is full, the older one is forgotten. A forgotten key starts again.
struct BoundedStates<K>(Mutex<Generations<K>>);

struct Generations<K> {
    newer: HashMap<K, Nanos>,
    older: HashMap<K, Nanos>,
}

impl<K> Default for BoundedStates<K> {
    fn default() -> Self {
        Self(Mutex::new(Generations {
            newer: HashMap::new(),
            older: HashMap::new(),
        }))
    }
}

impl<K: Hash + Eq + Clone> StateStore for BoundedStates<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = states.newer.get(key).or_else(|| states.older.get(key));
        let (passed, next) = measure(known.copied())?;
        if states.newer.len() >= MAX_LIMITED_KEYS && !states.newer.contains_key(key) {
            states.older = std::mem::take(&mut states.newer);
        }
        states.newer.insert(key.clone(), next);
        Ok(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_keys_does_not_choose_the_memory_and_forgets_no_recent_one() {
        let limit = KeyedLimit::per_minute(NonZeroU32::MIN);
        for number in 0..5 * u32::try_from(MAX_LIMITED_KEYS).unwrap() {
            assert!(limit.pass(&number).is_ok());
            assert!(limit.pass(&number).is_err(), "{number}");
        }
    }
}
