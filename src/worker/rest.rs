//! A pause of the worker's loop, which counts as alive meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::TURN;
use crate::progress::Progress;

/// Waits. A queue may ask for a pause of minutes, and a restart would not shorten it: the loop is not stuck.
pub(super) async fn rest(length: Duration, progress: &Progress) {
    let until = Instant::now() + length;
    while Instant::now() < until {
        sleep_until(until.min(Instant::now() + TURN)).await;
        progress.turned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::notify::Pulse;

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_a_quarter_of_an_hour_counts_as_alive_and_takes_no_longer() {
        let progress = Progress::default();
        let pulse = Pulse::of(progress.clone());
        let begun = Instant::now();
        let mut resting = std::pin::pin!(rest(Duration::from_secs(900), &progress));
        let mut looked = 0;
        loop {
            tokio::select! {
                () = &mut resting => break,
                () = tokio::time::sleep(Duration::from_secs(10)) => {}
            }
            assert!(pulse.is_beating(), "after {:?}", begun.elapsed());
            looked += 1;
        }
        assert!(looked > 80, "{looked}");
        assert_eq!(begun.elapsed(), Duration::from_secs(900));
        rest(Duration::ZERO, &progress).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(900));
    }
}
