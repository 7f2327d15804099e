//! One attempt at a job: the job, its message, and the instant at which it began.

pub mod delivery;
pub mod lanes;
pub mod open_chunks;
mod services;

use std::sync::Arc;

use jiff::Timestamp;
use tracing::{Span, field};

pub use self::services::{Payloads, Presenting, Sending, Signing};

use self::delivery::Delivery;
use self::lanes::Lanes;
use crate::audit::record::{Context, LinkKind, Pseudonyms};
use crate::cancellation::Cancellation;
use crate::job::Job;
use crate::links::connection::AssumedRole;
use crate::traceparent::TraceParent;

/// A job and its message.
#[derive(Debug, Clone)]
pub struct JobRun {
    /// The job.
    pub job: Arc<Job>,
    /// The message's id, if it came in one.
    pub message_id: Option<String>,
    /// How often the message was received.
    pub attempt: u32,
    /// The instant at which this attempt began.
    pub now: Timestamp,
    /// Checked before each irreversible step.
    pub stop: Cancellation,
    /// The trace that the message names.
    pub trace: Option<TraceParent>,
    /// Told when the job makes progress, so that the deaths of its workers are counted anew.
    pub delivery: Delivery,
    /// The lanes of the job of which this is a part.
    pub lanes: Option<Arc<Lanes>>,
}

impl JobRun {
    /// The first run of a job that came in no message.
    pub fn first(job: Job, now: Timestamp) -> Self {
        Self {
            job: Arc::new(job),
            message_id: None,
            attempt: 1,
            now,
            stop: Cancellation::default(),
            trace: None,
            delivery: Delivery::unnoted(),
            lanes: None,
        }
    }

    /// The span of the attempt: the lines of its steps have its fields.
    pub(crate) fn span(&self) -> Span {
        let span = tracing::info_span!("job", job.id = %self.job.id, trace_id = field::Empty);
        if let Some(trace) = &self.trace {
            span.record("trace_id", field::display(trace.trace_id()));
        }
        span
    }

    /// The attempt's fields in the audit lines of links. `role` is the one whose credentials sign.
    pub(crate) fn context<'a>(
        &'a self,
        kind: LinkKind,
        role: Option<AssumedRole<'a>>,
        names: &'a Pseudonyms,
    ) -> Context<'a> {
        Context {
            job: self.job.id.as_str(),
            connection: self.job.from.connection.as_str(),
            role,
            message_id: self.message_id.as_deref(),
            attempt: self.attempt,
            kind,
            names,
        }
    }
}
