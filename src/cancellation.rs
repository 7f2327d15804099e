//! "Stop before the next step that cannot be undone", and then: end at once.
//!
//! Work that was asked to stop checks here before each such step and ends there. What only waits, for a store, a queue or
//! a relay, is dropped by [`Cancellation::cut`]: nothing was sent, for certain. The one thing that is waited for is a mail whose
//! intent is recorded and whose outcome is not yet: dropped there, it would be in doubt.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A request to stop, shared by the caller that makes it and the work that heeds it.
#[derive(Debug, Clone)]
pub struct Cancellation {
    token: CancellationToken,
    /// How many mails of this work have an intent and no outcome.
    committed: Arc<watch::Sender<usize>>,
}

impl Default for Cancellation {
    fn default() -> Self {
        Self::of(CancellationToken::new())
    }
}

/// The work was asked to stop, and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was stopped before its next step and goes on when the message comes again")]
pub struct Stopped;

/// A mail whose intent may be recorded and whose outcome is not yet. The work is not dropped while this is held.
#[derive(Debug)]
pub struct Commitment {
    committed: Arc<watch::Sender<usize>>,
}

impl Drop for Commitment {
    fn drop(&mut self) {
        self.committed.send_modify(|committed| *committed -= 1);
    }
}

impl Cancellation {
    fn of(token: CancellationToken) -> Self {
        Self {
            token,
            committed: Arc::new(watch::Sender::new(0)),
        }
    }

    /// A stop for a part of the work: it heeds its own request and this one's, and waits for its own mails alone.
    pub fn child(&self) -> Self {
        Self::of(self.token.child_token())
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Ends the work here if it was asked to stop.
    pub fn check(&self) -> Result<(), Stopped> {
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

    /// Begins the step that must not be dropped: from the intent of a mail to its outcome.
    pub fn commit(&self) -> Result<Commitment, Stopped> {
        // First counted, then looked: `cut` looks the other way round.
        self.committed.send_modify(|committed| *committed += 1);
        let commitment = Commitment {
            committed: Arc::clone(&self.committed),
        };
        self.check()?;
        Ok(commitment)
    }

    /// Works until the work was asked to stop and no mail is between its intent and its outcome; then drops it.
    pub async fn cut<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let droppable = async {
            self.token.cancelled().await;
            // The sender is this work's own, so the channel is never closed.
            drop(
                self.committed
                    .subscribe()
                    .wait_for(|committed| *committed == 0)
                    .await,
            );
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = droppable => Err(Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_stops_does_not_stop_the_others() {
        let all = Cancellation::default();
        let (one, other) = (all.child(), all.child());
        one.cancel();
        assert_eq!(
            (one.check(), other.check(), all.check()),
            (Err(Stopped), Ok(()), Ok(()))
        );
        all.cancel();
        assert_eq!(other.check(), Err(Stopped));
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_request() {
        let all = Cancellation::default();
        let part = all.child();
        let waiting = part.or(std::future::pending::<()>());
        let (waited, ()) = tokio::join!(waiting, async { all.cancel() });
        assert_eq!(waited, Err(Stopped));
        assert_eq!(Cancellation::default().or(async { 1 }).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_is_dropped_and_a_mail_under_way_is_waited_for() {
        use std::time::Duration;
        let all = Cancellation::default();
        let idle = all.child();
        all.cancel();
        assert_eq!(idle.cut(std::future::pending::<()>()).await, Err(Stopped));
        assert_eq!(
            idle.commit().map(drop),
            Err(Stopped),
            "nothing begins after it"
        );

        let all = Cancellation::default();
        let job = all.child();
        let work = async {
            let commitment = job.commit().unwrap();
            all.cancel();
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(commitment);
            std::future::pending::<()>().await;
        };
        let began = tokio::time::Instant::now();
        assert_eq!(job.cut(work).await, Err(Stopped));
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}
