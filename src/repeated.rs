//! A log line that each request would repeat while a dependency is down: one a minute, with the number of those between.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often such a line is written.
const EVERY: Duration = Duration::from_secs(60);

/// When a line was written last, and how many were left out since.
#[derive(Debug, Default)]
pub(crate) struct RepeatedLine(Mutex<Option<(Instant, u64)>>);

impl RepeatedLine {
    /// How many lines were left out since the last one, if another is due; `None` if this one is left out.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((at, left_out)) if at.elapsed() < EVERY => {
                *left_out += 1;
                None
            }
            _ => {
                let before = last.replace((Instant::now(), 0));
                Some(before.map_or(0, |(_, left_out)| left_out))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_comes_once_a_minute_and_says_how_many_were_left_out() {
        let line = RepeatedLine::default();
        assert_eq!(line.due(), Some(0));
        for _ in 0..3 {
            assert_eq!(line.due(), None);
            tokio::time::advance(EVERY / 4).await;
        }
        tokio::time::advance(EVERY / 4).await;
        assert_eq!(line.due(), Some(3));
        tokio::time::advance(EVERY).await;
        assert_eq!(line.due(), Some(0));
    }
}
