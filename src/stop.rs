//! "Stop before the next step that cannot be undone."
//!
//! Work is not cut off in the middle of a mail: that would leave a doubt where an orderly end leaves none. It
//! asks here before each such step and ends there.

use tokio_util::sync::CancellationToken;

/// A request to stop, shared by whoever makes it and whoever heeds it.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
}

/// The work was asked to stop, and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was stopped before its next step and goes on when the message comes again")]
pub struct Stopped;

impl Stop {
    /// A stop for a part of the work: it heeds its own request and this one's.
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
        }
    }

    /// Asks the work to stop.
    pub fn ask(&self) {
        self.token.cancel();
    }

    /// Ends the work here if it was asked to stop.
    pub fn heed(&self) -> Result<(), Stopped> {
        if self.token.is_cancelled() {
            Err(Stopped)
        } else {
            Ok(())
        }
    }

    /// Waits for something that can be left waiting at any moment, such as a turn at a rate, but no longer than until
    /// the work is asked to stop.
    pub async fn or<T>(&self, wait: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.token.cancelled() => Err(Stopped),
            done = wait => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_stops_does_not_stop_the_others() {
        let all = Stop::default();
        let (one, other) = (all.child(), all.child());
        one.ask();
        assert_eq!(
            (one.heed(), other.heed(), all.heed()),
            (Err(Stopped), Ok(()), Ok(()))
        );
        all.ask();
        assert_eq!(other.heed(), Err(Stopped));
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_request() {
        let all = Stop::default();
        let part = all.child();
        let waiting = part.or(std::future::pending::<()>());
        let (waited, ()) = tokio::join!(waiting, async { all.ask() });
        assert_eq!(waited, Err(Stopped));
        assert_eq!(Stop::default().or(async { 1 }).await, Ok(1));
    }
}
