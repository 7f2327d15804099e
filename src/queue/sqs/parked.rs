//! Parked messages: listing them, and putting them back.
//!
//! SQS cannot show a queue without receiving from it. Messages received here are hidden from others for a minute at
//! most, and are shown again as soon as they were read.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};

use super::looked_at::attributes;
use super::{Aside, Fifo, MAX_RECEIVE, SqsQueue, attributes, receipt_error, seconds};
use crate::queue::{EdgeError, MessageAttribute, ParkedMessage, QueueError};

/// Attributes of a parked message: why it was parked, and its id on its original queue.
pub(super) const REASON: &str = "handout-reason";
pub(super) const MESSAGE_ID: &str = "handout-message-id";

/// How long messages are hidden while they are read.
const LOOK: Duration = Duration::from_secs(60);

/// How long a receive waits: without a wait SQS asks only some of its servers and may find no message.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html>
const WAIT: Duration = Duration::from_secs(1);

/// The queue of parked messages of a [`SqsQueue`] that has one.
#[derive(Debug)]
pub struct ParkedQueue<'a> {
    queue: &'a SqsQueue,
    client: &'a Client,
    url: &'a str,
}

/// A message that was received to be read.
struct Looked {
    message: ParkedMessage,
    receipt: String,
    group: Option<String>,
    /// Its id on its original queue.
    came_as: Option<String>,
    /// What its sender wrote attributes the body.
    attributes: Vec<MessageAttribute>,
}

impl Looked {
    fn is(&self, id: &str) -> bool {
        self.message.id == id || self.came_as.as_deref() == Some(id)
    }
}

impl SqsQueue {
    /// The queue of parked messages, if there is one.
    pub fn parked(&self) -> Option<ParkedQueue<'_>> {
        let Aside { client, url, .. } = self.parked.as_ref()?;
        let queue = self;
        Some(ParkedQueue { queue, client, url })
    }
}

impl ParkedQueue<'_> {
    /// About how many messages are parked; also a check that the queue is there.
    ///
    /// # Errors
    /// The queue's error.
    pub async fn count(&self) -> Result<u64, QueueError> {
        Ok(attributes(self.client, self.url).await?.0)
    }

    /// Parked messages, at most `limit`, in no order.
    pub async fn look(&self, limit: usize) -> Result<Vec<ParkedMessage>, QueueError> {
        let mut looked: Vec<Looked> = Vec::new();
        let mut seen = HashSet::new();
        while looked.len() < limit {
            let received = self.receive(limit - looked.len()).await?;
            let fresh = keep_fresh(received, &mut seen);
            if fresh.is_empty() {
                break;
            }
            looked.extend(fresh);
        }
        self.show_again(&looked).await;
        Ok(looked.into_iter().map(|looked| looked.message).collect())
    }

    /// Puts messages back on the queue: all of them, or the one with this id, which may be its id on its original
    /// queue; returns their number.
    pub async fn put_back(&self, id: Option<&str>) -> Result<u64, QueueError> {
        let (mut moved, mut others, mut seen) = (0, Vec::new(), HashSet::new());
        while id.is_none() || moved == 0 {
            let fresh = keep_fresh(self.receive(MAX_RECEIVE).await?, &mut seen);
            if fresh.is_empty() {
                break;
            }
            for one in fresh {
                if id.is_none_or(|id| one.is(id)) {
                    self.move_back(&one).await?;
                    moved += 1;
                } else {
                    others.push(one);
                }
            }
        }
        self.show_again(&others).await;
        Ok(moved)
    }

    async fn receive(&self, most: usize) -> Result<Vec<Looked>, QueueError> {
        let answer = self
            .client
            .receive_message()
            .queue_url(self.url)
            .max_number_of_messages(i32::try_from(most.clamp(1, MAX_RECEIVE)).unwrap_or(1))
            .visibility_timeout(seconds(LOOK))
            .wait_time_seconds(seconds(WAIT))
            .message_attribute_names(attributes::ALL)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
            .send()
            .await
            .map_err(|error| EdgeError::from_sdk(format!("receive from {}", self.url), &error))?;
        let messages = answer.messages.unwrap_or_default();
        Ok(messages.into_iter().filter_map(looked).collect())
    }

    /// Sends first and deletes then: a crash in between leaves two copies, never none, and the job is done once.
    async fn move_back(&self, one: &Looked) -> Result<(), QueueError> {
        let SqsQueue { client, url, .. } = self.queue;
        let fifo = Fifo::of(url, one.group.as_deref());
        let (group, id) = fifo.as_ref().map(Fifo::parts).unzip();
        client
            .send_message()
            .queue_url(url)
            .message_body(&one.message.body)
            .set_message_attributes(Some(attributes::of_sender(&one.attributes)))
            .set_message_group_id(group)
            .set_message_deduplication_id(id)
            .send()
            .await
            .map_err(|error| EdgeError::from_sdk(format!("put a message on {url}"), &error))?;
        self.client
            .delete_message()
            .queue_url(self.url)
            .receipt_handle(&one.receipt)
            .send()
            .await
            .map(drop)
            .map_err(|error| receipt_error("delete a message of", self.url, &error))
    }

    /// Shows messages to others again; those that cannot be shown come back by themselves.
    async fn show_again(&self, looked: &[Looked]) {
        for one in looked {
            let shown = self
                .client
                .change_message_visibility()
                .queue_url(self.url)
                .receipt_handle(&one.receipt)
                .visibility_timeout(0)
                .send();
            drop(shown.await);
        }
    }
}

/// The messages that were not received before: a queue that is read for longer than [`LOOK`] returns them again.
fn keep_fresh(received: Vec<Looked>, seen: &mut HashSet<String>) -> Vec<Looked> {
    let mut fresh = received;
    fresh.retain(|one| seen.insert(one.message.id.clone()));
    fresh
}

fn looked(message: Message) -> Option<Looked> {
    let ours = |name: &str| {
        let attribute = message.message_attributes.as_ref()?.get(name)?;
        attribute.string_value.clone()
    };
    let group = MessageSystemAttributeName::MessageGroupId;
    Some(Looked {
        came_as: ours(MESSAGE_ID),
        group: message
            .attributes
            .as_ref()
            .and_then(|attributes| attributes.get(&group).cloned()),
        message: ParkedMessage {
            id: message.message_id?,
            reason: ours(REASON).unwrap_or_default(),
            body: message.body?,
        },
        receipt: message.receipt_handle?,
        attributes: attributes::read(message.message_attributes.unwrap_or_default()),
    })
}
