//! The order within a group of a FIFO queue: one message after the other, and a message that stays blocks those behind
//! it.
//!
//! SQS returns several messages of a group at once, and nothing more of the group until they are deleted or visible
//! again. So one task works a group's messages in their order, and extends the lease on those that wait. When a message
//! stays in the queue, those behind it are given back at once: the queue returns them only after it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::queue::{ErrorKind, Message, Queue};
use crate::text::chain;

/// Messages to be worked one after the other, in one slot.
pub(super) type MessageGroup = VecDeque<Message>;

/// Divides the received messages into groups: each FIFO group is one, and so is each message without a group.
pub(super) fn turns(received: impl IntoIterator<Item = Message>) -> Vec<MessageGroup> {
    let mut turns: Vec<MessageGroup> = Vec::new();
    for message in received {
        let group = |turn: &&mut MessageGroup| turn[0].group == message.group;
        match turns
            .iter_mut()
            .find(group)
            .filter(|_| message.group.is_some())
        {
            Some(turn) => turn.push_back(message),
            None => turns.push(VecDeque::from([message])),
        }
    }
    turns
}

/// Waits for a future while extending the leases of the messages that wait behind it.
pub(super) async fn holding<T>(
    queue: &dyn Queue,
    waiting: &MessageGroup,
    visibility: Duration,
    until: impl Future<Output = T>,
) -> T {
    tokio::select! {
        biased;
        done = until => done,
        () = hold(queue, waiting, visibility) => unreachable!("the renewal of leases never ends"),
    }
}

/// Extends the leases of waiting messages, for as long as the future is polled. A lost message stays lost: the queue
/// has given it to another worker, or will.
async fn hold(queue: &dyn Queue, waiting: &MessageGroup, visibility: Duration) {
    let mut extend = tokio::time::interval(visibility / 3);
    extend.reset();
    loop {
        extend.tick().await;
        for message in waiting {
            if let Err(error) = queue.extend(&message.receipt, visibility).await
                && error.fact != ErrorKind::NotFound
            {
                tracing::warn!(
                    message.id,
                    error = chain(&error),
                    "could not extend the visibility of a message that waits for its group; retrying"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::queue::Receipt;
    use crate::queue::memory::MemoryQueue;
    use crate::run::delivery::Slot;

    const VISIBILITY: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_message_that_waits_for_a_slot_is_held_with_those_behind_it() {
        let queue = MemoryQueue::default();
        for body in ["1", "2"] {
            queue.submit_to_group(body, Some("a")).unwrap();
        }
        let received = queue.receive(2, VISIBILITY, Duration::ZERO).await.unwrap();
        let waiting = turns(received).remove(0);
        assert_eq!(waiting.len(), 2);
        // The message before has given the slot back, and another job has it for five minutes.
        let slots = Arc::new(Semaphore::new(1));
        let slot = Slot::new(Arc::clone(&slots).acquire_owned().await.unwrap());
        slot.give_back();
        let other = slots.acquire_owned().await.unwrap();
        let took = holding(&queue, &waiting, VISIBILITY, async {
            tokio::join!(slot.take(), async {
                tokio::time::sleep(Duration::from_secs(300)).await;
                let seen = queue.receive(2, VISIBILITY, Duration::ZERO).await.unwrap();
                assert_eq!(seen.len(), 0, "another worker has a message that waits");
                drop(other);
            });
        });
        took.await;
        assert!(queue.extensions() >= 2 * 29);
    }

    #[test]
    fn a_group_is_one_turn_and_a_message_without_one_is_its_own() {
        let message = |id: &str, group: Option<&str>| Message {
            id: id.to_owned(),
            body: String::new(),
            receipt: Receipt::new(String::new()),
            receive_count: 1,
            group: group.map(ToOwned::to_owned),
            attributes: Vec::new(),
            trace: None,
        };
        let received = [
            message("1", Some("a")),
            message("2", None),
            message("3", Some("b")),
            message("4", Some("a")),
            message("5", None),
        ];
        let ids: Vec<Vec<String>> = turns(received)
            .into_iter()
            .map(|turn| turn.into_iter().map(|message| message.id).collect())
            .collect();
        assert_eq!(ids, [vec!["1", "4"], vec!["2"], vec!["3"], vec!["5"]]);
    }
}
