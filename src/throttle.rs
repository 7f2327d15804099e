//! Rates: how often something may happen. A rate slows a job; it never fails one.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use tokio::time::Instant;

use crate::quantity::Rate;

/// tokio's clock, so that a paused test pauses rates too, and waiting needs no timer of another kind.
#[derive(Debug, Clone)]
struct TokioClock {
    began: Instant,
}

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.began.elapsed().into()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>;

/// Lets so many through in a second or a minute, and makes the others wait.
///
/// A burst of one period's worth passes at once; after it, `n` more take `n / rate`.
#[derive(Clone)]
pub struct Throttle {
    limiter: Arc<Limiter>,
    clock: TokioClock,
    burst: NonZeroU32,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("burst", &self.burst)
            .finish_non_exhaustive()
    }
}

impl Throttle {
    /// A throttle at a rate.
    pub fn new(rate: Rate) -> Self {
        let clock = TokioClock {
            began: Instant::now(),
        };
        let limiter = RateLimiter::direct_with_clock(rate.quota(), clock.clone());
        Self {
            limiter: Arc::new(limiter),
            clock,
            burst: rate.burst(),
        }
    }

    /// Waits until `count` may pass. More than a burst pass in portions, so that no count is too large.
    pub async fn pass(&self, count: usize) {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        while let Some(portion) = NonZeroU32::new(left.min(self.burst.get())) {
            let turn = self
                .limiter
                .check_n(portion)
                .expect("a portion is no larger than the burst");
            match turn {
                Ok(()) => left -= portion.get(),
                // Others may pass first when we wake: then there is another wait, and no spinning.
                Err(not_yet) => {
                    let wait = not_yet.wait_time_from(self.clock.now());
                    tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_burst_n_take_n_over_the_rate() {
        let throttle = Throttle::new(Rate::per_second(100));
        let began = Instant::now();
        throttle.pass(100).await;
        assert_eq!(
            began.elapsed(),
            Duration::ZERO,
            "a second's worth passes at once"
        );
        for _ in 0..50 {
            throttle.pass(1).await;
        }
        assert_eq!(began.elapsed().as_millis(), 500);
        throttle.pass(350).await;
        assert_eq!(
            began.elapsed().as_millis(),
            4000,
            "more than a burst passes in portions"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_link_after_another_takes_n_minus_one_over_the_rate() {
        let throttle = Throttle::new("60/m".parse().unwrap());
        throttle.pass(60).await;
        let began = Instant::now();
        for _ in 0..10 {
            throttle.pass(1).await;
        }
        // The first waits too, since the burst is used up.
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}
