//! Puts a message on the queue within a deadline, and records which jobs it has.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use super::Intake;
use super::answer::{COME_BACK, IntakeAnswer};
use crate::bounds::MIN_INTAKE_PUT_TIME;
use crate::edge::health::EdgeKind;
use crate::job::JobId;
use crate::queue::ErrorKind;
use crate::text::chain;
use crate::traceparent::TraceParent;

/// How long the records of a message may take; without them, the message is accepted all the same.
const RECORDED_WITHIN: Duration = Duration::from_secs(2);

impl Intake {
    /// Whether the queue is up, or may be tried.
    pub(super) fn queue_is_up(&self) -> Result<(), IntakeAnswer> {
        let edges = self.current().services.edges;
        let outage = edges.of(EdgeKind::Queue).and_then(|edge| edge.outage());
        match outage {
            Some(outage) if !outage.left.is_zero() => Err(IntakeAnswer::unavailable(
                format!("the queue does not answer since {:.0}", outage.since),
                outage.left.max(COME_BACK),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Puts a message on the queue until `deadline`; its id.
    pub(super) async fn put(
        &self,
        body: &str,
        trace: Option<TraceParent>,
        deadline: Instant,
    ) -> Result<String, IntakeAnswer> {
        let late = || {
            let sentence = "the queue did not take the message in time: send it again";
            IntakeAnswer::unavailable(sentence, COME_BACK)
        };
        let deadline = deadline.max(Instant::now() + MIN_INTAKE_PUT_TIME);
        let sent = timeout_at(deadline, self.0.queue.submit_traced(body, trace)).await;
        sent.map_err(|_| late())?.map_err(|error| match error.fact {
            // This message is not taken, and another may be.
            ErrorKind::Rejected => IntakeAnswer::refused(chain(&error)),
            _ => IntakeAnswer::unavailable(chain(&error), COME_BACK),
        })
    }

    /// Records which jobs a message has. The message is on the queue, so a failure changes no answer.
    pub(super) async fn record(&self, jobs: &[JobId], message: &str) {
        let records = &self.0.records;
        let is_down = |edge: &crate::edge::health::Edge| edge.outage().is_some();
        if records.edge().is_some_and(is_down) {
            return;
        }
        let now = (self.0.first.services.clock)();
        let each: Vec<_> = jobs
            .iter()
            .map(|job| records.accepted(job, message, now))
            .collect();
        let reason = match timeout(RECORDED_WITHIN, join_all(each)).await {
            Ok(recorded) => match recorded.into_iter().find_map(Result::err) {
                None => return,
                Some(error) => chain(&error),
            },
            Err(_) => format!("it took more than {} s", RECORDED_WITHIN.as_secs()),
        };
        if let Some(not_logged) = self.0.lines.unrecorded.due() {
            tracing::warn!(
                reason,
                not_logged,
                "a message was accepted and could not be recorded; GET /jobs/ID does not know its job until it begins"
            );
        }
    }
}
