//! Slowing down when a relay complains about the rate, and recovering slowly.
//!
//! Every complaint halves the rate, down to a sixty-fourth, and pauses the relay for twice as long as the last time, up
//! to half a minute: the next mail then asks whether it is over. Each minute without a complaint takes one step back.
//! Simultaneous complaints from several connections count as one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The first pause, and the longest.
const INITIAL_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The most that a mail costs of the relay's rate.
const MAX_COST: usize = 64;

/// How long without a complaint takes one step back.
const CALM: Duration = Duration::from_secs(60);

/// How long a relay is paused that says that a quota is spent: at first, and at most. One reply may be wrong, and the
/// quota's 24 hours are a rolling window, so that capacity returns gradually.
/// <https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html>
const INITIAL_QUOTA_PAUSE: Duration = Duration::from_secs(60);
const MAX_QUOTA_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The effect of a relay's complaint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slowed {
    /// How long the relay is paused.
    pub(super) pause: Duration,
    /// How many times a mail's share of the rate each mail takes from now on.
    pub(super) cost: usize,
}

/// The adaptive rate of one relay.
#[derive(Debug)]
pub(super) struct AdaptiveRate {
    state: Mutex<BrakeState>,
}

#[derive(Debug, Clone, Copy)]
struct BrakeState {
    cost: usize,
    next_pause: Duration,
    next_quota_pause: Duration,
    paused_until: Option<Instant>,
    /// Start of the present time without a complaint.
    calm_since: Instant,
}

impl AdaptiveRate {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(BrakeState {
                cost: 1,
                next_pause: INITIAL_PAUSE,
                next_quota_pause: INITIAL_QUOTA_PAUSE,
                paused_until: None,
                calm_since: Instant::now(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, BrakeState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.recover(Instant::now());
        state
    }

    /// How long the relay stays paused.
    pub(super) fn pause(&self) -> Option<Duration> {
        let until = self.state().paused_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// How many times a mail's share of the rate a mail takes now.
    pub(super) fn cost(&self) -> usize {
        self.state().cost
    }

    /// The relay was given too much. `None` if that is known already.
    pub(super) fn slow_down(&self) -> Option<Slowed> {
        let mut state = self.state();
        let pause = state.next_pause;
        state.pause(pause)?;
        state.next_pause = (pause * 2).min(MAX_PAUSE);
        state.cost = (state.cost * 2).min(MAX_COST);
        Some(Slowed {
            pause,
            cost: state.cost,
        })
    }

    /// The relay says that a quota is spent. `None` if that is known already.
    pub(super) fn rest(&self) -> Option<Slowed> {
        let mut state = self.state();
        let pause = state.next_quota_pause;
        state.pause(pause)?;
        state.next_quota_pause = (pause * 2).min(MAX_QUOTA_PAUSE);
        Some(Slowed {
            pause,
            cost: state.cost,
        })
    }

    /// The relay accepted a mail, so no quota is spent.
    pub(super) fn accepted(&self) {
        self.state().next_quota_pause = INITIAL_QUOTA_PAUSE;
    }
}

impl BrakeState {
    fn pause(&mut self, pause: Duration) -> Option<()> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        self.paused_until = Some(now + pause);
        self.calm_since = now + pause;
        Some(())
    }

    fn recover(&mut self, now: Instant) {
        while self.cost > 1 && now.saturating_duration_since(self.calm_since) >= CALM {
            self.calm_since += CALM;
            self.cost /= 2;
            self.next_pause = (self.next_pause / 2).max(INITIAL_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn each_complaint_halves_the_rate_and_doubles_the_pause() {
        let adaptive_rate = AdaptiveRate::new();
        assert_eq!((adaptive_rate.cost(), adaptive_rate.pause()), (1, None));
        let mut seen = Vec::new();
        for _ in 0..11 {
            let slowed = adaptive_rate.slow_down().unwrap();
            assert_eq!(
                adaptive_rate.slow_down(),
                None,
                "what is known is said once"
            );
            seen.push((slowed.pause.as_secs(), slowed.cost));
            tokio::time::sleep(slowed.pause).await;
        }
        assert_eq!(seen[..4], [(2, 2), (4, 4), (8, 8), (16, 16)]);
        assert_eq!(seen[9..], [(30, 64), (30, 64)]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_quiet_minute_takes_one_step_back() {
        let adaptive_rate = AdaptiveRate::new();
        for _ in 0..3 {
            let slowed = adaptive_rate.slow_down().unwrap();
            tokio::time::sleep(slowed.pause).await;
        }
        assert_eq!(adaptive_rate.cost(), 8);
        tokio::time::sleep(secs(59)).await;
        assert_eq!(adaptive_rate.cost(), 8);
        tokio::time::sleep(secs(1)).await;
        assert_eq!(adaptive_rate.cost(), 4);
        tokio::time::sleep(secs(600)).await;
        assert_eq!((adaptive_rate.cost(), adaptive_rate.pause()), (1, None));
        assert_eq!(adaptive_rate.slow_down().unwrap().pause, INITIAL_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_quota_is_a_rest_at_the_old_rate_that_doubles_until_a_mail_is_accepted() {
        let adaptive_rate = AdaptiveRate::new();
        let mut rests = Vec::new();
        for _ in 0..8 {
            let slowed = adaptive_rate.rest().unwrap();
            assert_eq!((adaptive_rate.rest(), slowed.cost), (None, 1));
            assert_eq!(adaptive_rate.pause(), Some(slowed.pause));
            rests.push(slowed.pause.as_secs() / 60);
            tokio::time::sleep(slowed.pause).await;
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
        adaptive_rate.accepted();
        assert_eq!(adaptive_rate.rest().unwrap().pause, secs(60));
    }
}
