//! The worker of the feedback queue: receives events of SES, settles them, and deletes each after its records are durable.
//!
//! It has a queue, a connection and an edge of its own, and runs no jobs: a message there that looks like a job is counted and deleted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{FeedbackCounts, FeedbackRecorder};
use crate::clock::Clock;
use crate::edge::health::{Edge, EdgeKind};
use crate::failpoint::{self, Failpoint};
use crate::feedback::ses;
use crate::queue::{Message, Queue, QueueError, answers};
use crate::repeated::RepeatedLine;
use crate::text::chain;
use crate::worker::Renewed;

/// How many events are received at once: what SQS gives at the most.
const AT_ONCE: usize = 10;

/// How long one receive waits for an event.
const POLL: Duration = Duration::from_secs(10);

/// How long a received event is hidden: an event that could not be settled comes again after it.
const HIDDEN_FOR: Duration = Duration::from_secs(30);

/// How long an event may take to settle, and its deletion.
const SETTLE: Duration = Duration::from_secs(20);
const DELETE: Duration = Duration::from_secs(5);

/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// The worker of the feedback queue.
#[derive(Debug)]
pub struct FeedbackWorker {
    queue: Arc<dyn Queue>,
    edge: Edge,
    recorder: FeedbackRecorder,
    counts: FeedbackCounts,
    unsettled: RepeatedLine,
    clock: Clock,
}

impl FeedbackWorker {
    /// A worker; it receives nothing before [`FeedbackWorker::run`].
    pub fn new(
        queue: Arc<dyn Queue>,
        url: &str,
        recorder: FeedbackRecorder,
        counts: FeedbackCounts,
        clock: Clock,
    ) -> Self {
        let subject = format!("the feedback queue {url} (feedback.queue_url)");
        Self {
            queue,
            edge: Edge::new(EdgeKind::Feedback, "queue", subject),
            recorder,
            counts,
            unsettled: RepeatedLine::default(),
            clock,
        }
    }

    /// The health of the queue.
    pub fn edge(&self) -> Edge {
        self.edge.clone()
    }

    /// Settles events until `stop`; after that, it never ends and does nothing.
    ///
    /// It may be dropped at any time: what is not settled comes again. The sender of a new configuration counts for the events that are
    /// received after it.
    pub async fn run(self, stop: CancellationToken, renewed: watch::Receiver<Option<Renewed>>) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.work(renewed) => {}
        }
        std::future::pending::<()>().await;
    }

    async fn work(&self, mut renewed: watch::Receiver<Option<Renewed>>) {
        loop {
            let received = self.receive().await;
            if let Some(new) = &*renewed.borrow_and_update() {
                self.recorder.renew(&new.services.sending.sender);
            }
            match received {
                Ok(events) => {
                    join_all(events.iter().map(|event| self.take(event))).await;
                }
                // The edge logs it once.
                Err(error) => sleep(error.left_alone().max(PAUSE)).await,
            }
        }
    }

    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        if !answers(&self.edge, || self.queue.waiting()).await {
            sleep(PAUSE).await;
            return Ok(Vec::new());
        }
        // A queue that may have recovered is asked without a wait.
        let wait = if self.edge.is_failing() {
            Duration::ZERO
        } else {
            POLL
        };
        let received = self.queue.receive(AT_ONCE, HIDDEN_FOR, wait).await;
        match &received {
            Ok(events) => {
                self.edge.answered();
                if events.is_empty() && wait.is_zero() {
                    sleep(PAUSE).await;
                }
            }
            Err(error) => error.report_to(&self.edge),
        }
        received
    }

    /// Settles one event. One that cannot be settled now stays, hidden for a while.
    async fn take(&self, event: &Message) {
        let read = ses::read(&event.body);
        let settled = match timeout(SETTLE, Box::pin(self.recorder.settle(&read))).await {
            Ok(Ok(end)) => Ok(end),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("it was not recorded within {} s", SETTLE.as_secs())),
        };
        let end = match settled {
            Ok(end) => end,
            Err(error) => {
                if let Some(not_logged) = self.unsettled.due() {
                    tracing::warn!(
                        message.id = event.id,
                        error,
                        not_logged,
                        "could not record a bounce or complaint; it comes again"
                    );
                }
                return;
            }
        };
        failpoint::pass(Failpoint::FeedbackRecorded);
        match timeout(DELETE, self.queue.delete(&event.receipt)).await {
            Ok(Ok(())) => self.counts.count(end, (self.clock)()),
            Ok(Err(error)) => error.report_to(&self.edge),
            Err(_) => {}
        }
    }
}
