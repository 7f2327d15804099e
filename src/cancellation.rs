//! Cancellation: work stops before its next step that cannot be undone, and waits are dropped at once.
//!
//! Work checks before each such step whether it is cancelled, and ends there. Work that only waits for a store, a queue or
//! a relay is dropped by [`Cancellation::cut`], since nothing was sent. Two steps are waited for: a mail with a recorded intent
//! and no outcome yet, which would be in doubt, and a write of audit lines, which would be written again.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A cancellation, shared by the caller that requests it and the work that checks it.
#[derive(Debug, Clone)]
pub struct Cancellation {
    token: CancellationToken,
    /// How many steps of this work have begun that must not be dropped.
    committed: Arc<watch::Sender<usize>>,
}

impl Default for Cancellation {
    fn default() -> Self {
        Self::of(CancellationToken::new())
    }
}

/// The work was cancelled, and stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job was cancelled before its next step and resumes when its message is received again"
)]
pub struct Stopped;

/// A step that must not be dropped: a mail from its intent to its outcome, or a write of audit lines. The work is not dropped while
/// this is held.
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

    /// A cancellation for a part of the work: it is cancelled by itself or by its parent, and waits only for its own steps.
    pub fn child(&self) -> Self {
        Self::of(self.token.child_token())
    }

    /// Cancels the work.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Fails if the work was cancelled.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.token.is_cancelled() {
            Err(Stopped)
        } else {
            Ok(())
        }
    }

    /// Waits for something that can be abandoned at any moment, such as a rate limit, until the work is
    /// cancelled.
    pub async fn or<T>(&self, wait: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.token.cancelled() => Err(Stopped),
            done = wait => Ok(done),
        }
    }

    /// Begins a step that must not be dropped (see [`Commitment`]).
    pub fn commit(&self) -> Result<Commitment, Stopped> {
        // First count, then check the cancellation: `cut` reads them in the other order.
        self.committed.send_modify(|committed| *committed += 1);
        let commitment = Commitment {
            committed: Arc::clone(&self.committed),
        };
        self.check()?;
        Ok(commitment)
    }

    /// Runs the work until it is cancelled and no [`Commitment`] is held; then drops it.
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
