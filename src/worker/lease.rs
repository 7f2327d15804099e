//! The lease on a message while it is worked: extended at a third of its time, given up when it is lost.
//!
//! One task owns the receipt. It extends the lease beside the work and ends with neither running, so an extension can
//! never come after the message was deleted or given back.

use std::future::Future;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, timeout};

use crate::bounds::MAX_VISIBILITY;
use crate::cancellation::Cancellation;
use crate::edge::health::{Edge, Step};
use crate::queue::{ErrorKind, Queue, Receipt};
use crate::text::chain;

/// How long to wait for an extension when the work has ended. An extension without an answer by then must not delay
/// settling the work's result; one that takes effect after the deletion changes nothing.
const LAST_EXTENSION: Duration = Duration::from_secs(10);

/// The extension as a step of the queue's edge. An answered poll says nothing about it.
const EXTENDING: Step = Step {
    rank: 1,
    name: "the extension of a message's visibility",
};

/// How the work ended, and whether the message is still ours.
#[derive(Debug)]
pub enum HeldMessage<T> {
    /// The work is complete.
    Finished(T),
    /// Another worker has the message now, or may have it.
    Lost,
    /// The work was cancelled and did not stop in time.
    CutOff,
}

/// A lease on one receipt of a message.
#[derive(Debug)]
pub struct Lease<'a> {
    queue: &'a dyn Queue,
    receipt: &'a Receipt,
    visibility: Duration,
    taken_at: Instant,
    held_until: Instant,
    edge: Option<Edge>,
}

impl<'a> Lease<'a> {
    /// A lease that began now, when the message was received.
    pub fn new(queue: &'a dyn Queue, receipt: &'a Receipt, visibility: Duration) -> Self {
        let now = Instant::now();
        Self {
            queue,
            receipt,
            visibility,
            taken_at: now,
            held_until: now + visibility,
            edge: None,
        }
    }

    /// The same lease; extensions without an answer are reported to the queue's edge.
    #[must_use]
    pub fn seen_by(self, edge: Option<Edge>) -> Self {
        Self { edge, ..self }
    }

    /// Runs `work` to its end while holding the message.
    ///
    /// When the lease is lost, `stop` is cancelled, so that the work ends before its next irreversible step; if it does
    /// not within `last_step`, it is cut off.
    pub async fn hold_while<T>(
        mut self,
        work: impl Future<Output = T>,
        stop: &Cancellation,
        last_step: Duration,
    ) -> HeldMessage<T> {
        let mut work = std::pin::pin!(work);
        let mut extend = tokio::time::interval(self.visibility / 3);
        extend.reset();
        loop {
            tokio::select! {
                biased;
                finished = &mut work => return HeldMessage::Finished(finished),
                _ = extend.tick() => {
                    let hold = {
                        // The work continues meanwhile. If it ends, the extension does too, so that none comes after
                        // the deletion.
                        let extending = std::pin::pin!(self.extend());
                        match select(extending, work.as_mut()).await {
                            Either::Left((hold, _)) => hold,
                            Either::Right((finished, extending)) => {
                                drop(timeout(LAST_EXTENSION, extending).await);
                                return HeldMessage::Finished(finished);
                            }
                        }
                    };
                    if hold == MessageHold::Lost {
                        stop.cancel();
                        return match timeout(last_step, work).await {
                            Ok(_) => HeldMessage::Lost,
                            Err(_) => HeldMessage::CutOff,
                        };
                    }
                }
            }
        }
    }

    async fn extend(&mut self) -> MessageHold {
        let now = Instant::now();
        // SQS counts twelve hours from the receipt and then gives the message away, whatever the extensions say.
        if now + self.visibility > self.taken_at + MAX_VISIBILITY {
            return MessageHold::Lost;
        }
        let request = self.edge.as_ref().map(|edge| edge.asked(EXTENDING));
        let extended = self.queue.extend(self.receipt, self.visibility).await;
        if let (Some(edge), Ok(())) = (&self.edge, &extended) {
            edge.replied(EXTENDING);
        }
        drop(request);
        match extended {
            Ok(()) => {
                self.held_until = now + self.visibility;
                MessageHold::Kept
            }
            Err(error) if error.fact == ErrorKind::NotFound => MessageHold::Lost,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "could not extend the visibility of a message; retrying"
                );
                // Until the lease expires, no other worker can have the message.
                if Instant::now() >= self.held_until {
                    MessageHold::Lost
                } else {
                    MessageHold::Kept
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum MessageHold {
    Kept,
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::memory::MemoryQueue;

    const VISIBILITY: Duration = Duration::from_secs(30);
    const LAST_STEP: Duration = Duration::from_secs(5);

    async fn received(queue: &MemoryQueue) -> Receipt {
        queue.submit("x").await.unwrap();
        queue
            .receive(1, VISIBILITY, Duration::ZERO)
            .await
            .unwrap()
            .remove(0)
            .receipt
    }

    #[tokio::test(start_paused = true)]
    async fn slow_work_keeps_its_message() {
        let queue = MemoryQueue::default();
        let receipt = received(&queue).await;
        let lease = Lease::new(&queue, &receipt, VISIBILITY);
        let work = tokio::time::sleep(Duration::from_secs(300));
        let held = lease
            .hold_while(work, &Cancellation::default(), LAST_STEP)
            .await;
        assert!(matches!(held, HeldMessage::Finished(())));
        assert_eq!(queue.extensions(), 29);
        assert!(
            queue
                .receive(1, VISIBILITY, Duration::ZERO)
                .await
                .unwrap()
                .is_empty(),
            "the message was hidden all the time"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_while_a_slow_queue_extends_its_hold() {
        let queue = MemoryQueue::default();
        let receipt = received(&queue).await;
        queue.slow_down(Duration::from_secs(9));
        let began = Instant::now();
        let work = async {
            for _ in 0..12 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            began.elapsed()
        };
        let held = Lease::new(&queue, &receipt, VISIBILITY)
            .hold_while(work, &Cancellation::default(), LAST_STEP)
            .await;
        assert!(matches!(held, HeldMessage::Finished(took) if took == Duration::from_secs(12)));
        assert_eq!(
            queue.extensions(),
            1,
            "the extension that was under way is not cut off"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn work_whose_message_is_lost_is_asked_to_stop() {
        let queue = MemoryQueue::default();
        let receipt = received(&queue).await;
        queue.delete(&receipt).await.unwrap();
        let stop = Cancellation::default();
        let work = async {
            while stop.check().is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let held = Lease::new(&queue, &receipt, VISIBILITY)
            .hold_while(work, &stop, LAST_STEP)
            .await;
        assert!(matches!(held, HeldMessage::Lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_queue_is_asked_again_until_the_hold_has_run_out() {
        let queue = MemoryQueue::default();
        let receipt = received(&queue).await;
        queue.fail_next(ErrorKind::Unreachable);
        let work = tokio::time::sleep(Duration::from_secs(25));
        let held = Lease::new(&queue, &receipt, VISIBILITY)
            .hold_while(work, &Cancellation::default(), LAST_STEP)
            .await;
        assert!(matches!(held, HeldMessage::Finished(())));
        assert_eq!(queue.extensions(), 1);
    }
}
