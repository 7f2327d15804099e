//! The edge to messages: receive, hold, delete, set aside.
//!
//! [`Queue`] speaks SQS's words, whoever answers. A message that was received is hidden from others for the
//! visibility timeout; whoever does not delete it in time will see it again.

#[cfg(any(test, feature = "test-support"))]
pub mod memory;
pub mod sqlite;
pub mod sqs;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::edge::health::{Edge, Step};
pub use crate::edge::{EdgeError, ErrorKind};

/// The handle of one receipt of a message. Whoever has it can delete the message, so it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt(String);

impl Receipt {
    /// A receipt as the queue spells it.
    pub const fn new(handle: String) -> Self {
        Self(handle)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt(****)")
    }
}

/// A message that was received.
#[derive(Clone)]
pub struct Message {
    /// The queue's id for it, the same at every receipt.
    pub id: String,
    /// What it says.
    pub body: String,
    /// The handle of this receipt.
    pub receipt: Receipt,
    /// How often it was received, this time included. SQS counts approximately.
    pub receive_count: u32,
    /// The group of a FIFO queue, within which messages are worked in their order.
    pub group: Option<String>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("body_bytes", &self.body.len())
            .field("receive_count", &self.receive_count)
            .finish_non_exhaustive()
    }
}

/// Where a message went that nobody can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// It was set aside with its reason and is gone from the queue.
    Aside,
    /// The queue has no such place: it stays, and the queue's redrive policy will take it away.
    LeftToRedrive,
}

/// A message that was set aside.
#[derive(Debug, Clone)]
pub struct ParkedMessage {
    /// Its id.
    pub id: String,
    /// What it says.
    pub body: String,
    /// Why it was set aside.
    pub reason: String,
}

/// A request to a queue that did not succeed. `ErrorKind::NotFound` on a receipt means that it is not ours any more.
pub type QueueError = EdgeError;

/// A queue.
#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// Receives up to `max` messages and hides each for `visibility`; waits up to `wait` for the first.
    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Message>, QueueError>;

    /// Removes a message for good.
    async fn delete(&self, receipt: &Receipt) -> Result<(), QueueError>;

    /// Hides a message that is being worked for `visibility` from now.
    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), QueueError>;

    /// Gives a message back, to be received again after `after`; zero lets others have it at once.
    async fn release(&self, receipt: &Receipt, after: Duration) -> Result<(), QueueError> {
        self.extend(receipt, after).await
    }

    /// How many messages are hidden because a process received them, about; `None` where the queue knows that none is without
    /// a process that works it.
    async fn in_flight(&self) -> Result<Option<u64>, QueueError> {
        Ok(None)
    }

    /// Where [`Queue::park`] sets messages aside, if that is a dependency of its own. `park` reports to it.
    fn parked_edge(&self) -> Option<&Edge> {
        None
    }

    /// Sets a message aside with the reason why nobody can work it.
    async fn park(&self, message: &Message, reason: &str) -> Result<Parked, QueueError>;

    /// Puts a message on the queue and returns its id.
    async fn submit(&self, body: &str) -> Result<String, QueueError>;

    /// How many messages wait, about; also the question whether the queue is there.
    async fn waiting(&self) -> Result<u64, QueueError>;
}

/// How long a queue may take for a message that is handed over to it, all tries included: a slot of the worker is held
/// meanwhile, and the message that is worked comes again.
pub(crate) const HAND_OVER: Duration = Duration::from_secs(10);

/// Hands a message over to a queue that is not the one that jobs come from, in [`HAND_OVER`], and reports to its edge.
pub(crate) async fn hand_over<T>(
    edge: &Edge,
    handing_over: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    let _under_way = edge.asked(Step::only("SendMessage"));
    let handed_over = tokio::time::timeout(HAND_OVER, handing_over).await;
    let handed_over = handed_over.unwrap_or_else(|_| {
        let words = format!("no answer within {} s", HAND_OVER.as_secs());
        let action = format!("send a message to {}", edge.subject());
        Err(EdgeError::new(action, ErrorKind::Silent, words))
    });
    match &handed_over {
        // It is not taken as it is, and another may be.
        Err(error) if error.fact == ErrorKind::Rejected => edge.answered(),
        Err(error) => error.report_to(edge),
        Ok(_) => edge.answered(),
    }
    handed_over
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::EdgeKind;

    #[tokio::test(start_paused = true)]
    async fn what_a_silent_queue_is_handed_ends_in_time_and_makes_an_outage() {
        let edge = Edge::new(EdgeKind::Results, "queue", "the results queue");
        let silent = || std::future::pending::<Result<(), QueueError>>();
        for _ in 0..2 {
            assert_eq!(edge.outage(), None);
            let began = tokio::time::Instant::now();
            let error = hand_over(&edge, silent()).await.unwrap_err();
            assert_eq!(
                (error.fact, began.elapsed()),
                (ErrorKind::Silent, HAND_OVER)
            );
        }
        let said = edge.outage().unwrap().to_string();
        assert!(
            said.contains("the results queue has not answered"),
            "{said}"
        );
        let rejected =
            async { Err::<(), _>(EdgeError::new("submit", ErrorKind::Rejected, "too long")) };
        hand_over(&edge, rejected).await.unwrap_err();
        assert_eq!(edge.outage(), None, "it answers");
    }
}
