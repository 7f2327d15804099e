//! Whether a queue that was silent answers again, before a request that should not be made twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::QueueError;
use crate::edge::follow_up::{Boxed, TRIAL, ask_until_answered, boxed};
use crate::edge::health::{Edge, FailureKind};

/// How long the question may take in all: a little longer than its first request, which reports to the edge.
const MAX_QUESTION: Duration = Duration::from_secs(11);

/// Whether a queue answers that did not answer the last request: it is asked for its number of waiting messages, until
/// it answers or a request has failed, for at most eleven seconds. A queue that answered last is not asked.
///
/// A hanging `ReceiveMessage` cannot be followed by another, since the messages that it returns would stay hidden, and a
/// second `SendMessage` would send the message twice. The question does neither. A denied question is an answer, too. The
/// answer ends no outage, since a queue may answer it and be silent to other requests: the request that follows ends it.
pub(crate) async fn answers<'a>(
    edge: &Edge,
    question: impl Fn() -> Boxed<'a, Result<u64, QueueError>> + Sync,
) -> bool {
    let is_silence = |kind| matches!(kind, FailureKind::Timeout | FailureKind::Unreachable);
    if !edge.last_failure().is_some_and(is_silence) {
        return true;
    }
    let answers = AtomicBool::new(false);
    let ask = || {
        let asked = timeout(TRIAL, question());
        boxed(async {
            match asked.await {
                Ok(Err(error)) if is_silence(error.failure_kind()) => error.report_to(edge),
                Ok(_) => answers.store(true, Ordering::Relaxed),
                Err(_) => edge.failed(FailureKind::Timeout, "no answer"),
            }
        })
    };
    // The caller continues after that time: the worker's loop shows that it is alive.
    let asking = ask_until_answered(&ask, || answers.load(Ordering::Relaxed));
    drop(timeout(MAX_QUESTION, asking).await);
    answers.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::EdgeKind;
    use crate::queue::memory::MemoryQueue;
    use crate::queue::{ErrorKind, Queue};

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_did_not_answer_is_asked_what_hides_no_message() {
        let queue = MemoryQueue::default();
        queue.submit("job").await.unwrap();
        let edge = Edge::new(EdgeKind::Queue, "queue", "the queue");
        for (fact, expected) in [
            (ErrorKind::Silent, false),
            (ErrorKind::Unreachable, false),
            (ErrorKind::Denied, true),
            (ErrorKind::Failed, true),
        ] {
            edge.failed(FailureKind::Timeout, "");
            queue.fail_next(fact);
            assert_eq!(
                answers(&edge, || queue.waiting()).await,
                expected,
                "{fact:?}"
            );
        }
        for _ in 0..2 {
            edge.failed(FailureKind::Unreachable, "");
            assert!(answers(&edge, || queue.waiting()).await);
        }
        assert!(edge.outage().is_some(), "no receive was answered yet");
        let received = queue
            .receive(1, Duration::from_secs(8), Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(received[0].receive_count, 1);
    }
}
