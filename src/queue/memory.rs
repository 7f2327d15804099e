//! A queue in memory with SQS's rules, for tests: visibility, receive counts, void receipts, failures on request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{EdgeError, ErrorKind, Message, Parked, Queue, QueueError, Receipt};
use crate::traceparent::TraceParent;

/// Messages in memory. Time is tokio's, so a paused clock hides and shows them.
#[derive(Debug, Default)]
pub struct MemoryQueue {
    state: Mutex<QueueState>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    messages: Vec<StoredMessage>,
    parked: Vec<(String, String)>,
    deleted: Vec<String>,
    extensions: usize,
    submitted: usize,
    slow: Duration,
    failures: Vec<ErrorKind>,
}

#[derive(Debug)]
struct StoredMessage {
    id: String,
    body: String,
    group: Option<String>,
    trace: Option<TraceParent>,
    receives: u32,
    visible_at: Option<Instant>,
}

impl MemoryQueue {
    /// The bodies of the parked messages, with their reasons.
    pub fn parked(&self) -> Vec<(String, String)> {
        self.lock().parked.clone()
    }

    /// The ids of the messages that were deleted.
    pub fn deleted(&self) -> Vec<String> {
        self.lock().deleted.clone()
    }

    /// How often a visibility timeout was extended.
    pub fn extensions(&self) -> usize {
        self.lock().extensions
    }

    /// Makes every extension take that long.
    pub fn slow_down(&self, pause: Duration) {
        self.lock().slow = pause;
    }

    /// Makes the next request fail with `fact`.
    pub fn fail_next(&self, fact: ErrorKind) {
        self.lock().failures.push(fact);
    }

    /// Puts a message behind the others of its group: none of them can be received while an earlier one is hidden.
    pub fn submit_to_group(&self, body: &str, group: Option<&str>) -> Result<String, QueueError> {
        self.put(body, group, None)
    }

    fn put(
        &self,
        body: &str,
        group: Option<&str>,
        trace: Option<TraceParent>,
    ) -> Result<String, QueueError> {
        let id = self.request("submit a message", |state| {
            state.submitted += 1;
            let id = format!("m-{}", state.submitted);
            state.messages.push(StoredMessage {
                id: id.clone(),
                body: body.to_owned(),
                group: group.map(ToOwned::to_owned),
                trace,
                receives: 0,
                visible_at: None,
            });
            Some(id)
        })?;
        self.arrived.notify_waiters();
        Ok(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request<T>(
        &self,
        action: &str,
        answer: impl FnOnce(&mut QueueState) -> Option<T>,
    ) -> Result<T, QueueError> {
        let mut state = self.lock();
        if let Some(fact) = state.failures.pop() {
            return Err(EdgeError::new(action, fact, "told to fail"));
        }
        answer(&mut state)
            .ok_or_else(|| EdgeError::new(action, ErrorKind::NotFound, "the receipt is void"))
    }
}

impl QueueState {
    fn held(&self, receipt: &Receipt) -> Option<usize> {
        self.messages
            .iter()
            .position(|held| held.receipt() == *receipt)
    }
}

impl StoredMessage {
    fn receipt(&self) -> Receipt {
        Receipt::new(format!("{}#{}", self.id, self.receives))
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        let deadline = Instant::now() + wait;
        loop {
            let arrived = self.arrived.notified();
            let now = Instant::now();
            let received = self.request("receive from the queue", |state| {
                let mut blocked = Vec::new();
                let can_be_had = |held: &&mut StoredMessage| {
                    let is_visible = held.visible_at.is_none_or(|at| at <= now);
                    match &held.group {
                        Some(group) if blocked.contains(group) => false,
                        Some(group) if !is_visible => {
                            blocked.push(group.clone());
                            false
                        }
                        Some(_) | None => is_visible,
                    }
                };
                let messages = state
                    .messages
                    .iter_mut()
                    .filter(can_be_had)
                    .take(max)
                    .map(|held| {
                        held.receives += 1;
                        held.visible_at = Some(now + visibility);
                        Message {
                            id: held.id.clone(),
                            body: held.body.clone(),
                            receipt: held.receipt(),
                            receive_count: held.receives,
                            group: held.group.clone(),
                            attributes: Vec::new(),
                            trace: held.trace,
                        }
                    });
                Some(messages.collect::<Vec<_>>())
            })?;
            if !received.is_empty() || now >= deadline {
                return Ok(received);
            }
            let next = self
                .lock()
                .messages
                .iter()
                .filter_map(|held| held.visible_at)
                .min()
                .unwrap_or(deadline);
            drop(tokio::time::timeout_at(deadline.min(next), arrived).await);
        }
    }

    async fn delete(&self, receipt: &Receipt) -> Result<(), QueueError> {
        self.request("delete a message", |state| {
            let held = state.messages.remove(state.held(receipt)?);
            state.deleted.push(held.id);
            Some(())
        })
    }

    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), QueueError> {
        let pause = self.lock().slow;
        tokio::time::sleep(pause).await;
        self.request("extend the visibility of a message", |state| {
            let at = state.held(receipt)?;
            state.messages[at].visible_at = Some(Instant::now() + visibility);
            state.extensions += 1;
            Some(())
        })?;
        self.arrived.notify_waiters();
        Ok(())
    }

    async fn park(&self, message: &Message, reason: &str) -> Result<Parked, QueueError> {
        self.request("park a message", |state| {
            let held = state.messages.remove(state.held(&message.receipt)?);
            state.parked.push((held.body, reason.to_owned()));
            Some(Parked::Aside)
        })
    }

    async fn submit_traced(
        &self,
        body: &str,
        trace: Option<TraceParent>,
    ) -> Result<String, QueueError> {
        self.put(body, None, trace)
    }

    async fn waiting(&self) -> Result<u64, QueueError> {
        self.request("count the messages of the queue", |state| {
            Some(state.messages.len() as u64)
        })
    }
}
