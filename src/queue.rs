//! The edge to messages: receive, hold, delete, park.
//!
//! [`Queue`] uses SQS's terms for every implementation. A received message is hidden from others for the visibility
//! timeout; if it is not deleted in time, it becomes visible again.

mod answers;
#[cfg(any(test, feature = "test-support"))]
pub mod memory;
pub mod sqlite;
pub mod sqs;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::answers::answers;
use crate::edge::follow_up::Boxed;
use crate::edge::health::{Edge, Step};
pub use crate::edge::{EdgeError, ErrorKind};
use crate::progress::QueueDepth;
use crate::traceparent::{TRACEPARENT, TraceParent};

/// The handle of one receipt of a message. Its holder can delete the message, so it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt(String);

impl Receipt {
    /// A receipt with the queue's handle.
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
    /// The body.
    pub body: String,
    /// The handle of this receipt.
    pub receipt: Receipt,
    /// How often it was received, this time included. SQS counts approximately.
    pub receive_count: u32,
    /// The group of a FIFO queue, within which messages are worked in their order.
    pub group: Option<String>,
    /// What its sender wrote beside the body; kept when it is parked.
    pub attributes: Vec<MessageAttribute>,
    /// The trace that the queue keeps for the message beside the attributes.
    pub trace: Option<TraceParent>,
}

/// What the sender of a message wrote beside its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageAttribute {
    /// Its name.
    pub name: String,
    /// Its type, such as `String`, `Number.int` or `Binary`.
    pub data_type: String,
    /// Its value.
    pub value: AttributeValue,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// A text or a number.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

// A value may be anything, an address too.
impl fmt::Debug for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttributeValue(****)")
    }
}

impl Message {
    /// The trace that its sender names in an attribute, else the one that the queue keeps.
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.named_trace().or(self.trace)
    }

    /// The trace that its sender names in an attribute.
    pub fn named_trace(&self) -> Option<TraceParent> {
        let named = self
            .attributes
            .iter()
            .find(|attribute| attribute.name.eq_ignore_ascii_case(TRACEPARENT));
        match &named?.value {
            AttributeValue::Text(value) => TraceParent::read(value),
            AttributeValue::Bytes(_) => None,
        }
    }
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

/// Where a message went that cannot be worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// It was parked with its reason and is gone from the queue.
    Aside,
    /// The queue has no queue of parked messages: the message stays, and the redrive policy will move it.
    LeftToRedrive,
}

/// Where a message is that was put on a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessagePlace {
    /// On the queue: it waits, or a worker has it.
    OnQueue,
    /// It was parked.
    Parked {
        /// Why.
        reason: String,
    },
    /// It was deleted.
    Gone,
}

/// A parked message.
#[derive(Debug, Clone)]
pub struct ParkedMessage {
    /// Its id.
    pub id: String,
    /// The body.
    pub body: String,
    /// Why it was parked.
    pub reason: String,
}

/// A failed request to a queue. `ErrorKind::NotFound` on a receipt means that the message is not ours any more.
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

    /// Gives a message back, to be received again after `after`; zero lets others receive it at once.
    async fn release(&self, receipt: &Receipt, after: Duration) -> Result<(), QueueError> {
        self.extend(receipt, after).await
    }

    /// About how many messages are hidden because a process received them; `None` if the queue knows that a living
    /// process works each of them.
    async fn in_flight(&self) -> Result<Option<u64>, QueueError> {
        Ok(None)
    }

    /// The edge of the queue to which [`Queue::park`] moves messages, if that is a dependency of its own. `park`
    /// reports to it.
    fn parked_edge(&self) -> Option<&Edge> {
        None
    }

    /// What the queue says to deletions, if that can differ from what it says to polls. [`Queue::delete`] reports to it.
    fn deletions_edge(&self) -> Option<&Edge> {
        None
    }

    /// Whether [`Queue::park`] moves messages away. Otherwise they stay until the queue's redrive policy moves them.
    fn parks(&self) -> bool {
        true
    }

    /// Parks a message with the reason why it cannot be worked.
    async fn park(&self, message: &Message, reason: &str) -> Result<Parked, QueueError>;

    /// Puts a message on the queue and returns its id.
    async fn submit(&self, body: &str) -> Result<String, QueueError> {
        self.submit_traced(body, None).await
    }

    /// Puts a message of a trace on the queue and returns its id.
    async fn submit_traced(
        &self,
        body: &str,
        trace: Option<TraceParent>,
    ) -> Result<String, QueueError>;

    /// Puts a message on the queue that is worked after the others of its group, where the queue has groups. A second message with
    /// the same id, soon after the first, is dropped there.
    async fn submit_in_group(
        &self,
        body: &str,
        _group: &str,
        _id: &str,
    ) -> Result<String, QueueError> {
        self.submit(body).await
    }

    /// Where a message is; `None` if the queue cannot say it of one message.
    async fn place(&self, _id: &str) -> Result<Option<MessagePlace>, QueueError> {
        Ok(None)
    }

    /// About how many messages wait and are worked, and the age of the oldest; `None` if the queue does not say it. For metrics: a
    /// request that is made once a minute.
    async fn depth(&self) -> Result<Option<QueueDepth>, QueueError> {
        Ok(None)
    }

    /// About how many messages wait; also a check that the queue is there.
    async fn waiting(&self) -> Result<u64, QueueError>;
}

/// How long a queue may take to accept a message, all tries included: a slot of the worker is held meanwhile, and the
/// message in progress comes again.
pub(crate) const HAND_OVER: Duration = Duration::from_secs(10);

/// Sends a message to another queue than the one of the jobs, within [`HAND_OVER`], and reports to its edge. A queue that
/// did not answer the last request is asked `question` first, its number of waiting messages, see [`answers()`].
pub(crate) async fn hand_over<'a, T>(
    edge: &Edge,
    question: impl Fn() -> Boxed<'a, Result<u64, QueueError>> + Sync,
    sending: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    let _under_way = edge.asked(Step::only("SendMessage"));
    let is_silent = || {
        let words = format!("no answer within {} s", HAND_OVER.as_secs());
        let action = format!("send a message to {}", edge.subject());
        EdgeError::new(action, ErrorKind::Silent, words)
    };
    if !answers(edge, question).await {
        // The question has reported it.
        return Err(is_silent());
    }
    let sent = tokio::time::timeout(HAND_OVER, sending).await;
    let sent = sent.unwrap_or_else(|_| Err(is_silent()));
    match &sent {
        // This message is not accepted, but another may be.
        Err(error) if error.fact == ErrorKind::Rejected => edge.answered(),
        Err(error) => error.report_to(edge),
        Ok(_) => edge.answered(),
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::EdgeKind;

    #[tokio::test(start_paused = true)]
    async fn what_a_silent_queue_is_handed_ends_in_time_and_makes_an_outage() {
        let edge = Edge::new(EdgeKind::Results, "queue", "the results queue");
        let silent = || std::future::pending::<Result<(), QueueError>>();
        let question = || Box::pin(async { Ok(0_u64) }) as Boxed<'_, _>;
        for _ in 0..2 {
            assert_eq!(edge.outage(), None);
            let began = tokio::time::Instant::now();
            let error = hand_over(&edge, question, silent()).await.unwrap_err();
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
        hand_over(&edge, question, rejected).await.unwrap_err();
        assert_eq!(edge.outage(), None, "it answers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_sent_once_to_a_queue_that_was_silent_and_soon_after_it_answers() {
        let edge = Edge::new(EdgeKind::Results, "queue", "the results queue");
        edge.failed(crate::edge::health::FailureKind::Timeout, "");
        let began = tokio::time::Instant::now();
        let returns = began + Duration::from_secs(5);
        // The connections of the outage stay silent.
        let question = || -> Boxed<'_, Result<u64, QueueError>> {
            match tokio::time::Instant::now() < returns {
                true => Box::pin(std::future::pending()),
                false => Box::pin(async { Ok(0) }),
            }
        };
        let mut sent = 0;
        let sending = async {
            sent += 1;
            Ok(())
        };
        hand_over(&edge, question, sending).await.unwrap();
        let took = began.elapsed();
        assert!(took <= Duration::from_secs(7), "{took:?}");
        assert_eq!((sent, edge.is_failing()), (1, false));
    }
}
