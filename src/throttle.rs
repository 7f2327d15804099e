//! Rates: how often something may happen. A rate slows a job; it never fails one.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::quantity::Rate;

/// Lets so many through in a second, a minute or an hour, evenly, and makes the others wait.
///
/// From the first on, `n` take `(n - 1) / rate`. After a pause a tenth of a second's worth passes at once and no more:
/// a relay that counts its seconds must not see twice its rate in one.
///
/// Whoever comes is given a time and waits for that. Nothing is held meanwhile: a future that waits here and is not polled,
/// because its task waits for another one first, keeps nobody from passing. (With a lock that is handed from one who waits to
/// the next it would, for ever.) Who gives up waiting has had the time that was given.
#[derive(Clone)]
pub struct Throttle {
    interval: Duration,
    together: NonZeroU32,
    /// The time of whoever comes next.
    next: Arc<Mutex<Instant>>,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl Throttle {
    /// A throttle at a rate.
    pub fn new(rate: Rate) -> Self {
        Self {
            interval: rate.interval(),
            together: rate.together(),
            next: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Waits until `count` may pass. Many pass in portions, so that no count is too large; between two, others have their
    /// turn, in the order in which they came.
    pub async fn pass(&self, count: usize) {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        while let Some(portion) = NonZeroU32::new(left.min(self.together.get())) {
            let at = self.reserve(portion);
            if at > Instant::now() {
                tokio::time::sleep_until(at).await;
            }
            left -= portion.get();
        }
    }

    /// How long one that comes now would wait. Nothing is taken.
    pub fn wait(&self) -> Duration {
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.saturating_duration_since(Instant::now())
    }

    /// Takes the times of a portion, and returns the last of them: then all of it may pass.
    fn reserve(&self, portion: NonZeroU32) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Times that nobody took are kept for so many as may pass together.
        let kept = self.interval * (self.together.get() - 1);
        let first = (*next).max(now.checked_sub(kept).unwrap_or(now));
        *next = first + self.interval * portion.get();
        first + self.interval * (portion.get() - 1)
    }
}

/// Throttles by name, such as one for each domain that mails go to.
///
/// Only so many names are remembered, those that passed last: a name that was forgotten begins anew, and its first may then
/// pass a little early.
#[derive(Debug, Clone)]
pub struct Lanes {
    most: usize,
    lanes: Arc<Mutex<HashMap<String, Lane>>>,
}

#[derive(Debug)]
struct Lane {
    throttle: Throttle,
    used_at: Instant,
}

impl Lanes {
    /// Room for so many names.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            lanes: Arc::default(),
        }
    }

    /// Waits until one may pass under a name, at a rate that is always the same for it.
    pub async fn pass(&self, name: &str, rate: Rate) {
        let throttle = self.lane(name, rate);
        throttle.pass(1).await;
    }

    /// How long one that comes now under a name would wait. Nothing is taken.
    pub fn wait(&self, name: &str, rate: Rate) -> Duration {
        self.lane(name, rate).wait()
    }

    fn lane(&self, name: &str, rate: Rate) -> Throttle {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= self.most && !lanes.contains_key(name) {
            let oldest = lanes.iter().min_by_key(|(_, lane)| lane.used_at);
            let oldest = oldest.map(|(name, _)| name.clone());
            lanes.remove(&oldest.unwrap_or_default());
        }
        let lane = lanes.entry(name.to_owned()).or_insert_with(|| Lane {
            throttle: Throttle::new(rate),
            used_at: Instant::now(),
        });
        lane.used_at = Instant::now();
        lane.throttle.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_name_has_a_rate_of_its_own_and_only_so_many_are_remembered() {
        let lanes = Lanes::new(3);
        let rate = "1/s".parse().unwrap();
        let began = Instant::now();
        for name in ["a", "b", "c", "a", "b", "c"] {
            lanes.pass(name, rate).await;
        }
        assert_eq!(began.elapsed().as_millis(), 1000);
        for n in 0..100 {
            lanes.pass(&n.to_string(), rate).await;
        }
        assert_eq!(lanes.lanes.lock().unwrap().len(), 3);
        assert_eq!(
            began.elapsed().as_millis(),
            1000,
            "a stranger does not wait"
        );
    }

    /// How long `batches` take, one after the other, in milliseconds.
    async fn time(rate: &str, batches: impl IntoIterator<Item = usize>) -> u128 {
        let throttle = Throttle::new(rate.parse().unwrap());
        let began = Instant::now();
        for batch in batches {
            throttle.pass(batch).await;
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
        let throttle = Throttle::new("100/s".parse().unwrap());
        throttle.pass(1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        let mut passed = 0;
        while began.elapsed() < Duration::from_secs(1) {
            throttle.pass(1).await;
            passed += 1;
        }
        assert_eq!(passed, 110);
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_are_not_kept_waiting_by_those_who_come_one_by_one() {
        let throttle = Throttle::new("100/s".parse().unwrap());
        let began = Instant::now();
        let singly = async || {
            loop {
                throttle.pass(1).await;
            }
        };
        let all_singly = futures_util::future::join_all((0..3).map(|_| singly()));
        let many = async {
            throttle.pass(100).await;
            began.elapsed().as_millis()
        };
        tokio::select! {
            took = many => assert!((1_000..=1_500).contains(&took), "{took}"),
            _ = all_singly => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("a hundred starve"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_and_is_not_polled_keeps_nobody_waiting() {
        let throttle = Throttle::new("5/s".parse().unwrap());
        let mut set_aside: Vec<_> = (0..3).map(|_| Box::pin(throttle.pass(1))).collect();
        for waiting in &mut set_aside {
            // Polled once, and then not again.
            let _first = futures_util::FutureExt::now_or_never(waiting.as_mut());
        }
        let one_more = tokio::time::timeout(Duration::from_secs(60), throttle.pass(1));
        assert!(one_more.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_together_passes_in_the_same_time() {
        let throttle = Throttle::new("100/s".parse().unwrap());
        let began = Instant::now();
        let waiting = (0..4).map(|_| throttle.pass(50));
        futures_util::future::join_all(waiting).await;
        assert_eq!(began.elapsed().as_millis(), 1990);
    }
}
