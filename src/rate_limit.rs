//! Rate limits: a maximum number in a second, a minute or an hour. A rate slows a job and never fails it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::Quota;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use tokio::time::Instant;

use crate::quantity::Rate;

/// Admits a number of callers in a second, a minute or an hour, evenly, and makes the rest wait.
///
/// From the first on, `n` calls take `(n - 1) / rate`. After a pause a burst of at most a tenth of a second's worth passes:
/// a relay that counts by the second must not see twice its rate.
///
/// Each caller reserves a time and sleeps until it; no lock is held across an await. A future that waits here and is not
/// polled, because its task first waits for another future, delays no other caller. A caller that stops waiting has used up
/// its reservation.
///
/// The arithmetic is GCRA (ITU-T I.371) as [`governor`] does it. `governor` has no reservations: its `until_n_ready` asks
/// again after each wait, and a large batch starves beside single callers. So this code asks it about the instant at which
/// the caller's turn will be ([`AskedInstant`]), and takes the caller's cells for that instant.
///
/// Clones share the cells, and a rate that is changed with [`Self::set_rate`] counts for all of them.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    paced: Arc<Mutex<Paced>>,
}

/// A rate, and what of it is taken.
#[derive(Debug)]
struct Paced {
    rate: Rate,
    created: Instant,
    cells: Cells,
}

/// The cells of GCRA. Locked, so that the instant and the question about it belong together.
type Cells = governor::RateLimiter<NotKeyed, InMemoryState, AskedInstant, NoOpMiddleware<Nanos>>;

/// The instant that the limiter is asked about, in nanoseconds; set before each question.
#[derive(Debug, Clone, Default)]
struct AskedInstant(Arc<AtomicU64>);

impl Clock for AskedInstant {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

impl RateLimiter {
    /// A limiter at a rate. The first caller passes at once.
    pub fn new(rate: Rate) -> Self {
        let quota = Quota::with_period(interval(rate)).map(|quota| quota.allow_burst(rate.burst()));
        let quota = quota.unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX));
        let cells = Cells::direct_with_clock(quota, AskedInstant::default());
        // governor begins with a full burst. Taken at instant 0, which is one interval before `created`, it leaves the first
        // cell free at `created`, and at instant 0 nothing is free.
        let _taken = cells.check_n(rate.burst());
        let created = Instant::now();
        Self {
            paced: Arc::new(Mutex::new(Paced {
                rate,
                created,
                cells,
            })),
        }
    }

    /// Changes the rate for all clones. What was reserved stays reserved, and the next caller has its turn behind it.
    pub fn set_rate(&self, rate: Rate) {
        let mut paced = self.paced();
        if paced.rate == rate {
            return;
        }
        let free_at = paced.instant(earliest(&paced.cells, NonZeroU32::MIN));
        let fresh = Self::new(rate);
        let mut fresh = fresh.paced();
        fresh.created = free_at.max(fresh.created);
        std::mem::swap(&mut *paced, &mut *fresh);
    }

    fn paced(&self) -> MutexGuard<'_, Paced> {
        self.paced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `count` may pass.
    ///
    /// A large count passes in portions of a burst, so that no count is too large; between two portions other callers have
    /// their turn, in the order in which they came.
    pub async fn pass(&self, count: usize) {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        while left > 0 {
            let (at, portion) = self.paced().reserve(Instant::now(), left);
            if at > Instant::now() {
                tokio::time::sleep_until(at).await;
            }
            left -= portion;
        }
    }

    /// How long a new caller would wait now. Nothing is reserved.
    pub fn wait(&self) -> Duration {
        let paced = self.paced();
        let free_at = paced.instant(earliest(&paced.cells, NonZeroU32::MIN));
        free_at.saturating_duration_since(Instant::now())
    }
}

impl Paced {
    /// Reserves a portion of `left`, at most a burst, and returns the time at which all of it may pass, and its size; a time at or
    /// before `now` means at once.
    fn reserve(&self, now: Instant, left: u32) -> (Instant, u32) {
        let portion = self.rate.burst().get().min(left);
        let count = NonZeroU32::new(portion).unwrap_or(NonZeroU32::MIN);
        let now = interval(self.rate) + now.saturating_duration_since(self.created);
        let at = earliest(&self.cells, count).max(now.into());
        let _taken = check(&self.cells, at, count);
        (self.instant(at), portion)
    }

    /// Converts an instant of the cells to one of the clock.
    fn instant(&self, at: Nanos) -> Instant {
        self.created + Duration::from(at).saturating_sub(interval(self.rate))
    }
}

/// The time between two cells. Not zero, which governor does not take: a billion a second is as good as no limit.
fn interval(rate: Rate) -> Duration {
    rate.interval().max(Duration::from_nanos(1))
}

/// When a portion could pass. Nothing is taken: at instant 0 nothing is free, and governor's refusal has the time.
fn earliest(cells: &Cells, portion: NonZeroU32) -> Nanos {
    check(cells, Nanos::default(), portion)
        .err()
        .unwrap_or_default()
}

/// Takes a portion at an instant, or returns from when on it could be taken.
fn check(cells: &Cells, at: Nanos, portion: NonZeroU32) -> Result<(), Nanos> {
    cells.clock().0.store(at.as_u64(), Ordering::Relaxed);
    match cells.check_n(portion) {
        Ok(Err(not_until)) => Err(not_until.earliest_possible()),
        // No portion exceeds the burst.
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Rate limiters by key, such as the domains that mails go to.
///
/// Only a limited number of keys is remembered, those that were used last. A forgotten key starts again, and its first caller
/// may pass a little early.
#[derive(Debug, Clone)]
pub struct KeyedRateLimiter {
    max_keys: usize,
    limiters: Arc<Mutex<HashMap<String, UsedLimiter>>>,
}

#[derive(Debug)]
struct UsedLimiter {
    limiter: RateLimiter,
    used_at: Instant,
}

impl KeyedRateLimiter {
    /// Limiters for at most `max_keys` keys.
    pub fn new(max_keys: usize) -> Self {
        Self {
            max_keys,
            limiters: Arc::default(),
        }
    }

    /// Waits until a call may pass under a key. A key that is used with another rate than before has that rate from then on.
    pub async fn pass(&self, key: &str, rate: Rate) {
        let limiter = self.limiter(key, rate);
        limiter.pass(1).await;
    }

    /// How long a new caller under a key would wait now. Nothing is reserved.
    pub fn wait(&self, key: &str, rate: Rate) -> Duration {
        self.limiter(key, rate).wait()
    }

    fn limiter(&self, key: &str, rate: Rate) -> RateLimiter {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        if limiters.len() >= self.max_keys && !limiters.contains_key(key) {
            let oldest = limiters.iter().min_by_key(|(_, used)| used.used_at);
            let oldest = oldest.map(|(key, _)| key.clone());
            limiters.remove(&oldest.unwrap_or_default());
        }
        let used = limiters
            .entry(key.to_owned())
            .or_insert_with(|| UsedLimiter {
                limiter: RateLimiter::new(rate),
                used_at: Instant::now(),
            });
        used.used_at = Instant::now();
        used.limiter.set_rate(rate);
        used.limiter.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test(start_paused = true)]
    async fn each_key_has_a_rate_of_its_own_and_only_so_many_are_remembered() {
        let limiter = KeyedRateLimiter::new(3);
        let rate = "1/s".parse().unwrap();
        let began = Instant::now();
        for name in ["a", "b", "c", "a", "b", "c"] {
            limiter.pass(name, rate).await;
        }
        assert_eq!(began.elapsed().as_millis(), 1000);
        for n in 0..100 {
            limiter.pass(&n.to_string(), rate).await;
        }
        assert_eq!(limiter.limiters.lock().unwrap().len(), 3);
        assert_eq!(began.elapsed().as_millis(), 1000, "a new key does not wait");
    }

    /// How long `batches` take, one after the other, in milliseconds.
    async fn time(rate: &str, batches: impl IntoIterator<Item = usize>) -> u128 {
        let limiter = RateLimiter::new(rate.parse().unwrap());
        let began = Instant::now();
        for batch in batches {
            limiter.pass(batch).await;
        }
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn n_take_n_minus_one_over_the_rate_however_they_are_batched() {
        assert_eq!(time("14/s", [1]).await, 0);
        assert_eq!(time("100/s", [1; 101]).await, 1000);
        assert_eq!(time("100/s", [101]).await, 1000);
        assert_eq!(time("5000/s", [1000; 10]).await, 2000);
        assert_eq!(time("60/m", [1; 11]).await, 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_no_second_sees_more_than_the_rate_and_a_tenth() {
        let limiter = RateLimiter::new("100/s".parse().unwrap());
        limiter.pass(1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        let mut passed = 0;
        while began.elapsed() < Duration::from_secs(1) {
            limiter.pass(1).await;
            passed += 1;
        }
        assert_eq!(passed, 110);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_rate_counts_for_all_and_gives_no_turn_twice() {
        let limiter = RateLimiter::new("60/m".parse().unwrap());
        let before = limiter.clone();
        let began = Instant::now();
        for n in 0..10 {
            let rate = if n % 2 == 0 { "30/m" } else { "60/m" };
            limiter.set_rate(rate.parse().unwrap());
            before.pass(1).await;
            limiter.pass(1).await;
        }
        // Twenty turns at one or two seconds each, without one that a change of the rate gave away.
        let took = began.elapsed().as_millis();
        assert!((19_000..=40_000).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_not_starved_by_single_callers() {
        let limiter = RateLimiter::new("100/s".parse().unwrap());
        let began = Instant::now();
        let singly = async || {
            loop {
                limiter.pass(1).await;
            }
        };
        let all_singly = futures_util::future::join_all((0..3).map(|_| singly()));
        let many = async {
            limiter.pass(100).await;
            began.elapsed().as_millis()
        };
        tokio::select! {
            took = many => assert!((1_000..=1_500).contains(&took), "{took}"),
            _ = all_singly => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("a batch of 100 starves"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_caller_that_is_not_polled_delays_no_other() {
        let limiter = RateLimiter::new("5/s".parse().unwrap());
        let mut set_aside: Vec<_> = (0..3).map(|_| Box::pin(limiter.pass(1))).collect();
        for waiting in &mut set_aside {
            // Polled once, and then not again.
            let _first = futures_util::FutureExt::now_or_never(waiting.as_mut());
        }
        let one_more = tokio::time::timeout(Duration::from_secs(60), limiter.pass(1));
        assert!(one_more.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_batches_take_as_long_as_one() {
        let limiter = RateLimiter::new("100/s".parse().unwrap());
        let began = Instant::now();
        let waiting = (0..4).map(|_| limiter.pass(50));
        futures_util::future::join_all(waiting).await;
        assert_eq!(began.elapsed().as_millis(), 1990);
    }

    /// The limiter as arithmetic, without governor: the oracle.
    struct Oracle {
        interval: Duration,
        burst: u32,
        next: Instant,
    }

    impl Oracle {
        fn reserve(&mut self, now: Instant, portion: NonZeroU32) -> Instant {
            // Cells that were not taken are kept for a burst.
            let kept = self.interval * (self.burst - 1);
            let first = self.next.max(now.checked_sub(kept).unwrap_or(now));
            self.next = first + self.interval * portion.get();
            first + self.interval * (portion.get() - 1)
        }
    }

    proptest! {
        #[test]
        fn every_reservation_is_that_of_the_arithmetic_to_the_nanosecond(
            count in prop_oneof![1..20_u32, 20..2_000_u32, 2_000..10_000_000_u32],
            period in prop_oneof![Just("s"), Just("m"), Just("h")],
            steps in proptest::collection::vec((0..3_usize, 0.0..1.0, 0..u32::MAX), 200),
        ) {
            let rate: Rate = format!("{count}/{period}").parse().unwrap();
            let limiter = RateLimiter::new(rate);
            let (interval, burst) = (rate.interval(), rate.burst().get());
            let created = limiter.paced().created;
            let mut oracle = Oracle { interval, burst, next: created };
            let mut now = created;
            for (kind, pause, portion) in steps {
                // No pause, a pause of a few intervals, or a pause that fills the burst.
                let longest = interval * [0, 3, 2 * burst][kind];
                now += longest.mul_f64(pause);
                let portion = NonZeroU32::new(portion % burst + 1).unwrap();
                let (at, taken) = limiter.paced().reserve(now, portion.get());
                prop_assert_eq!(taken, portion.get());
                let expected = oracle.reserve(now, portion);
                // All times up to `now` mean at once.
                prop_assert_eq!(at.max(now), expected.max(now));
            }
        }
    }
}
