//! Messages whose jobs wait for an edge. They stay hidden in the queue while the edge is down, and are shown again when
//! it may be used.
//!
//! If they were given back for the few seconds of an edge's pause, a long backlog would be received over and over, and
//! new jobs for other edges would wait behind it. So the more messages wait, the longer each is hidden, and its receipt
//! is remembered: as soon as the edge is up, all are shown at once. If the process dies, the messages come back by
//! themselves.
//!
//! A message that the queue itself did not take back, since it was down with the edge, waits for the queue: by itself
//! it would stay hidden for the visibility timeout.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use crate::edge::health::{Admission, Edge, EdgeKind, Edges, Outage};
use crate::queue::{ErrorKind, Queue, Receipt};

/// How long a message is hidden: this long for each message that waits, within these bounds.
const HIDDEN_EACH: Duration = Duration::from_millis(15);
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// How many receipts are remembered; messages beyond that come back by themselves.
const MAX_KEPT: usize = 100_000;

/// How often the backlog checks whether an edge may be used.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How many messages are shown in one round, and how many requests for that run at once.
const SHOWN_AT_ONCE: usize = 64;
const REQUESTS: usize = 16;

/// Messages whose jobs wait for an edge, by the edge's label, in the order of their arrival.
#[derive(Debug, Clone, Default)]
pub(super) struct Backlog {
    waiting: Arc<Mutex<HashMap<String, VecDeque<WaitingMessage>>>>,
    /// Messages that come back by themselves, and are shown earlier if what they wait for happens.
    early: Arc<Mutex<VecDeque<EarlyMessage>>>,
}

#[derive(Debug)]
struct WaitingMessage {
    receipt: Receipt,
    hidden_until: Instant,
}

#[derive(Debug)]
struct EarlyMessage {
    edge: Edge,
    since: Instant,
    shown_when: ShownWhen,
    message: WaitingMessage,
}

/// When a message is shown before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShownWhen {
    /// Its job was denied a request: the edge denied all requests, and does no longer.
    Allowed,
    /// Its job is not the one to try the edge: the edge is back.
    Back,
}

impl EarlyMessage {
    fn is_due(&self) -> bool {
        match self.shown_when {
            ShownWhen::Allowed => self.edge.allows_since(self.since),
            ShownWhen::Back => self.edge.outage().is_none(),
        }
    }
}

impl Backlog {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, VecDeque<WaitingMessage>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a message that waits for the end of an outage; returns how long to hide it.
    pub(super) fn add(&self, outage: &Outage, receipt: &Receipt) -> Duration {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let count: usize = waiting.values().map(VecDeque::len).sum();
        let many = u32::try_from(count).unwrap_or(u32::MAX);
        let hidden = HIDDEN_EACH.saturating_mul(many).clamp(SHORTEST, LONGEST);
        let of_edge = waiting.entry(outage.edge.clone()).or_default();
        while of_edge
            .front()
            .is_some_and(|first| first.hidden_until <= now)
        {
            of_edge.pop_front();
        }
        if count < MAX_KEPT {
            of_edge.push_back(WaitingMessage {
                receipt: receipt.clone(),
                hidden_until: now + hidden,
            });
        }
        hidden
    }

    fn early(&self) -> MutexGuard<'_, VecDeque<EarlyMessage>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a message that is hidden for so long, and may be shown before.
    pub(super) fn add_early(
        &self,
        (edge, shown_when): (&Edge, ShownWhen),
        receipt: &Receipt,
        hidden: Duration,
    ) {
        let mut early = self.early();
        if early.len() < MAX_KEPT {
            let since = Instant::now();
            early.push_back(EarlyMessage {
                edge: edge.clone(),
                since,
                shown_when,
                message: WaitingMessage {
                    receipt: receipt.clone(),
                    hidden_until: since + hidden,
                },
            });
        }
    }

    /// The messages that are shown before their time.
    fn due_early(&self) -> Vec<WaitingMessage> {
        let mut early = self.early();
        let now = Instant::now();
        early.retain(|waiting| waiting.message.hidden_until > now);
        let (mut due, mut rest) = (Vec::new(), VecDeque::new());
        for waiting in early.drain(..) {
            match due.len() < SHOWN_AT_ONCE && waiting.is_due() {
                true => due.push(waiting.message),
                false => rest.push_back(waiting),
            }
        }
        *early = rest;
        due
    }

    /// Remembers a message that the queue did not take back, and that stays hidden for at most `hidden`.
    pub(super) fn keep(&self, edges: &Edges, receipt: &Receipt, hidden: Duration) {
        let Some(queue) = edges.of(EdgeKind::Queue) else {
            return;
        };
        let mut waiting = self.waiting();
        let count: usize = waiting.values().map(VecDeque::len).sum();
        if count < MAX_KEPT {
            let of_queue = waiting.entry(queue.label()).or_default();
            of_queue.push_back(WaitingMessage {
                receipt: receipt.clone(),
                hidden_until: Instant::now() + hidden,
            });
        }
    }

    /// The receipts that may be shown now.
    fn due(&self, edges: &Edges) -> Vec<WaitingMessage> {
        let now = Instant::now();
        let mut due = Vec::new();
        self.waiting().retain(|label, waiting| {
            let edge = edges.labelled(label);
            let is_queue = edge
                .as_ref()
                .is_some_and(|edge| edge.kind() == EdgeKind::Queue);
            let admitted = match edge.map(|edge| edge.admits()) {
                // The worker's own polls try the queue.
                Some(Admission::One) if is_queue => 0,
                Some(Admission::Nothing) => 0,
                Some(Admission::One) => 1,
                Some(Admission::All) | None => SHOWN_AT_ONCE,
            };
            let mut shown = 0;
            while shown < admitted
                && let Some(next) = waiting.pop_front()
            {
                // A message that came back by itself has another receipt by now.
                if next.hidden_until > now {
                    due.push(next);
                    shown += 1;
                }
            }
            !waiting.is_empty()
        });
        due
    }

    /// Shows messages again when their edge may be used, for as long as the future is polled.
    pub(super) async fn tend(&self, queue: &dyn Queue, edges: &Edges) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let mut due = self.due(edges);
            due.extend(self.due_early());
            for WaitingMessage {
                receipt,
                hidden_until,
            } in show(queue, due).await
            {
                let hidden = hidden_until.saturating_duration_since(Instant::now());
                self.keep(edges, &receipt, hidden);
            }
        }
    }

    /// Shows all messages again, so that other workers can work them.
    pub(super) async fn show_all(&self, queue: &dyn Queue) {
        let all = std::mem::take(&mut *self.waiting());
        let early = std::mem::take(&mut *self.early());
        let early = early.into_iter().map(|early| early.message);
        let all = all.into_values().flatten().chain(early);
        show(queue, all.collect()).await;
    }
}

/// Shows messages; returns those that the queue did not take back.
async fn show(queue: &dyn Queue, messages: Vec<WaitingMessage>) -> Vec<WaitingMessage> {
    let shown = stream::iter(messages).map(|message| async move {
        match queue.release(&message.receipt, Duration::ZERO).await {
            Err(error) if error.fact != ErrorKind::NotFound => Some(message),
            Ok(()) | Err(_) => None,
        }
    });
    let shown = shown.buffer_unordered(REQUESTS);
    shown.filter_map(async |message| message).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::FailureKind;
    use crate::queue::memory::MemoryQueue;

    const HELD: Duration = Duration::from_secs(30);

    async fn received(queue: &MemoryQueue, count: usize) -> Vec<crate::queue::Message> {
        for number in 0..count {
            queue.submit(&number.to_string()).await.unwrap();
        }
        queue.receive(count, HELD, Duration::ZERO).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_hidden_and_shown_when_the_edge_is_back() {
        let queue = MemoryQueue::default();
        let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
        let edges = Edges::from_iter([edge.clone()]);
        let backlog = Backlog::default();
        for _ in 0..2 {
            edge.failed(FailureKind::Refused, "");
        }
        for message in received(&queue, 100).await {
            let hidden = backlog.add(&edge.outage().unwrap(), &message.receipt);
            assert_eq!(hidden, SHORTEST);
            queue.release(&message.receipt, hidden).await.unwrap();
        }
        assert!(backlog.due(&edges).is_empty(), "it is left alone");
        tokio::time::sleep(Duration::from_secs(5)).await;
        edge.answered();
        let tending = backlog.tend(&queue, &edges);
        drop(tokio::time::timeout(Duration::from_secs(1), tending).await);
        let back = queue.receive(200, HELD, Duration::ZERO).await.unwrap();
        assert_eq!(back.len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_is_down_one_message_at_a_time_may_try_it() {
        let queue = MemoryQueue::default();
        let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
        let edges = Edges::from_iter([edge.clone()]);
        let backlog = Backlog::default();
        for _ in 0..2 {
            edge.failed(FailureKind::Timeout, "");
        }
        for message in received(&queue, 3).await {
            backlog.add(&edge.outage().unwrap(), &message.receipt);
        }
        tokio::time::sleep(edge.outage().unwrap().left).await;
        assert_eq!(backlog.due(&edges).len(), 1);
        edge.may_be_tried("job").unwrap();
        assert!(backlog.due(&edges).is_empty(), "a job tries it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_queue_did_not_take_back_is_shown_when_the_queue_answers() {
        let queue = MemoryQueue::default();
        let edge = Edge::new(EdgeKind::Queue, "queue", "the queue");
        let edges = Edges::from_iter([edge.clone()]);
        let backlog = Backlog::default();
        let tend = async |seconds| {
            let tending = backlog.tend(&queue, &edges);
            drop(tokio::time::timeout(Duration::from_secs(seconds), tending).await);
        };
        edge.failed(FailureKind::Timeout, "");
        for message in received(&queue, 3).await {
            backlog.keep(&edges, &message.receipt, HELD);
        }
        tend(5).await;
        let hidden = queue.receive(3, HELD, Duration::ZERO).await.unwrap();
        assert!(hidden.is_empty(), "the queue is down");
        edge.answered();
        queue.fail_next(ErrorKind::Unreachable);
        tend(1).await;
        let back = queue.receive(3, HELD, Duration::ZERO).await.unwrap();
        assert_eq!(back.len(), 3, "one was not taken back at once");
        assert!(backlog.waiting().is_empty());
    }

    #[test]
    fn the_more_wait_the_longer_they_are_hidden() {
        let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
        edge.failed(FailureKind::Denied, "");
        let (backlog, outage) = (Backlog::default(), edge.outage().unwrap());
        let mut hidden = Duration::ZERO;
        for number in 0..30_000 {
            hidden = backlog.add(&outage, &Receipt::new(number.to_string()));
        }
        assert_eq!(hidden, LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_to_try_an_edge_is_shown_when_it_is_back() {
        let queue = MemoryQueue::default();
        let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
        let backlog = Backlog::default();
        for _ in 0..2 {
            edge.failed(FailureKind::Refused, "");
        }
        for message in received(&queue, 3).await {
            backlog.add_early((&edge, ShownWhen::Back), &message.receipt, HELD);
        }
        tokio::time::sleep(edge.outage().unwrap().left).await;
        assert!(backlog.due_early().is_empty(), "another job tries it");
        edge.answered();
        assert_eq!(backlog.due_early().len(), 3);
        assert!(backlog.due_early().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_denied_is_shown_when_a_denial_of_all_has_ended() {
        let queue = MemoryQueue::default();
        let edge = Edge::new(EdgeKind::Store, "reports", "S3");
        let (backlog, edges) = (Backlog::default(), Edges::from_iter([edge.clone()]));
        let tending = backlog.tend(&queue, &edges);
        let play = async {
            for message in received(&queue, 100).await {
                edge.denied(false, "AccessDenied");
                backlog.add_early((&edge, ShownWhen::Allowed), &message.receipt, HELD);
            }
            // Another bucket may be open: that shows nothing about these.
            edge.answered();
            tokio::time::sleep(LOOK_EVERY * 2).await;
            assert_eq!(
                queue
                    .receive(100, HELD, Duration::ZERO)
                    .await
                    .unwrap()
                    .len(),
                0
            );
            for _ in 0..3 {
                edge.denied(false, "AccessDenied");
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            assert!(edge.denial().is_some());
            edge.answered();
            tokio::time::sleep(LOOK_EVERY * 3).await;
            let shown = queue.receive(100, HELD, Duration::ZERO).await.unwrap();
            assert_eq!(shown.len(), 100);
        };
        tokio::select! {
            () = tending => {}
            () = play => {}
        }
    }
}
