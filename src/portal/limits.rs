//! How often strangers may ask: forged tokens, codes and sign-ins by network, opens by link.
//!
//! A token whose tag is right is never limited by the address of its reader: a whole office can be behind one address. The
//! arithmetic is GCRA as [`governor`] does it; the memory is bounded, because a flood chooses the keys.

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

use super::client::ClientNetwork;
use crate::bounds::{
    MAX_CODE_REQUESTS_PER_MINUTE, MAX_FORGED_PER_MINUTE, MAX_LIMITED_KEYS, MAX_OPENS_PER_MINUTE,
    MAX_SIGN_INS_PER_MINUTE,
};

/// The limits of one portal.
#[derive(Debug)]
pub(super) struct PortalLimits {
    forged: KeyedLimit<ClientNetwork>,
    codes: KeyedLimit<ClientNetwork>,
    sign_ins: KeyedLimit<ClientNetwork>,
    opens: KeyedLimit<String>,
}

/// Too many requests; the next may pass after this time, at least a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    /// How long to wait.
    pub(super) retry_after: Duration,
}

impl PortalLimits {
    pub(super) fn new() -> Self {
        Self {
            forged: KeyedLimit::per_minute(MAX_FORGED_PER_MINUTE),
            codes: KeyedLimit::per_minute(MAX_CODE_REQUESTS_PER_MINUTE),
            sign_ins: KeyedLimit::per_minute(MAX_SIGN_INS_PER_MINUTE),
            opens: KeyedLimit::per_minute(MAX_OPENS_PER_MINUTE),
        }
    }

    /// Counts a token that was not made here.
    pub(super) fn forged(&self, network: ClientNetwork) -> Result<(), TooMany> {
        self.forged.pass(&network)
    }

    /// Counts a request for a code.
    pub(super) fn code(&self, network: ClientNetwork) -> Result<(), TooMany> {
        self.codes.pass(&network)
    }

    /// Counts the beginning of a sign-in at an issuer, or its end.
    pub(super) fn sign_in(&self, network: ClientNetwork) -> Result<(), TooMany> {
        self.sign_ins.pass(&network)
    }

    /// Counts an open of a link, which `link` identifies.
    pub(super) fn open(&self, link: &str) -> Result<(), TooMany> {
        self.opens.pass(&link.to_owned())
    }
}

type KeyedCells<K> = governor::RateLimiter<K, BoundedStates<K>, LimitClock, NoOpMiddleware<Nanos>>;

/// Admits a burst of a minute's worth for each key, and then one each time a cell is free.
struct KeyedLimit<K: Hash + Eq + Clone>(KeyedCells<K>);

impl<K: Hash + Eq + Clone> std::fmt::Debug for KeyedLimit<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedLimit(…)")
    }
}

impl<K: Hash + Eq + Clone> KeyedLimit<K> {
    fn per_minute(count: NonZeroU32) -> Self {
        let clock = LimitClock {
            created: Instant::now(),
        };
        Self(KeyedCells::new(
            Quota::per_minute(count),
            BoundedStates::default(),
            clock,
        ))
    }

    fn pass(&self, key: &K) -> Result<(), TooMany> {
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

    fn network(number: u32) -> ClientNetwork {
        let [a, b, c, _] = (number << 8).to_be_bytes();
        ClientNetwork::of([a, b, c, 1].into())
    }

    #[tokio::test(start_paused = true)]
    async fn twenty_forged_tokens_a_minute_pass_and_the_next_is_told_when() {
        let limits = PortalLimits::new();
        for _ in 0..MAX_FORGED_PER_MINUTE.get() {
            assert_eq!(limits.forged(network(1)), Ok(()));
        }
        let late = limits.forged(network(1)).unwrap_err();
        assert_eq!(late.retry_after.as_secs(), 3);
        assert_eq!(limits.forged(network(2)), Ok(()), "another network");
        tokio::time::sleep(late.retry_after).await;
        assert_eq!(limits.forged(network(1)), Ok(()));
        assert!(limits.forged(network(1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_keys_does_not_choose_the_memory_and_forgets_no_recent_one() {
        let limit = KeyedLimit::per_minute(NonZeroU32::MIN);
        for number in 0..5 * u32::try_from(MAX_LIMITED_KEYS).unwrap() {
            assert!(limit.pass(&number).is_ok());
            assert!(limit.pass(&number).is_err(), "{number}");
        }
    }
}
