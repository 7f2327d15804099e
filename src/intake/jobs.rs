//! `POST /jobs`: a job is checked and put on the queue.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use super::Intake;
use super::answer::{COME_BACK, IntakeAnswer};
use super::check::JobCheck;
use super::counts::IntakeCount;
use crate::bounds::MAX_INTAKE_ANSWER_TIME;
use crate::distribute::JobBefore;
use crate::job::envelope::{self, PendingJob};
use crate::job::{Job, ParseJobError};
use crate::text::chain;
use crate::traceparent::TraceParent;

impl Intake {
    /// Takes a job: 202 once its message is durable.
    pub(super) async fn take_job(
        &self,
        body: Arc<str>,
        trace: Option<TraceParent>,
    ) -> Result<IntakeAnswer, IntakeAnswer> {
        self.0.rate.pass(1).await;
        let deadline = Instant::now() + MAX_INTAKE_ANSWER_TIME;
        self.queue_is_up()?;
        let turn = self.turn(deadline).await?;
        let current = self.current();
        let (text, rules) = (Arc::clone(&body), Arc::clone(&current.rules));
        let job = read_aside(move || read_job(&text, &rules)).await??;
        let id = job.id.clone();
        let before = self.before(&job, &current).await?;
        let checked = match before {
            // Nothing will be sent, and what it handed out may be gone.
            JobBefore::Done => Ok(JobCheck::NotMade),
            JobBefore::New | JobBefore::Begun => {
                // A silent store must not take the turns of jobs of others.
                drop(turn);
                Box::pin(self.check(job, current, deadline)).await
            }
        };
        let checked = checked.map_err(|error| IntakeAnswer::refused(chain(&error)))?;
        let message = self.put(&body, trace, deadline).await?;
        self.record(std::slice::from_ref(&id), &message).await;
        let trace_id = trace.map(|trace| tracing::field::display(trace.trace_id()));
        tracing::info!(job.id = %id, message.id = message, trace_id, "the intake put a job on the queue");
        let told = json!({
            "job": id,
            "message": message,
            "checked": checked == JobCheck::Passed,
            "done_before": before == JobBefore::Done,
        });
        let answer = IntakeAnswer::done(StatusCode::ACCEPTED, told, IntakeCount::Accepted);
        Ok(answer.at_job(id.as_str()))
    }

    /// A turn among the requests that are worked.
    pub(super) async fn turn(
        &self,
        deadline: Instant,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, IntakeAnswer> {
        let turn = tokio::time::timeout_at(deadline, self.0.at_once.acquire()).await;
        let late = || IntakeAnswer::unavailable("there are too many requests at once", COME_BACK);
        turn.map_err(|_| late())?.map_err(|_| late())
    }
}

/// Reads a body on a blocking thread, as the worker reads messages: a large one takes a while.
pub(super) async fn read_aside<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, IntakeAnswer> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|_| IntakeAnswer::unavailable("the body could not be read", COME_BACK))
}

/// The job of a body that is one.
fn read_job(body: &str, rules: &[envelope::EventRule]) -> Result<Job, IntakeAnswer> {
    let is_event = || IntakeAnswer::refused("the body is an event: post it to /events");
    let opened = envelope::open(body, rules).map_err(|error| match error {
        ParseJobError::NoRule { .. }
        | ParseJobError::Event { .. }
        | ParseJobError::LongEvent { .. }
        | ParseJobError::TooManyRecords { .. } => is_event(),
        ParseJobError::Pointer { .. } | ParseJobError::LostPointer => IntakeAnswer::refused(
            "the body is a pointer to an object, which only a queue brings: post the job itself",
        ),
        error => unreadable(&error),
    })?;
    match opened.jobs.into_iter().next() {
        Some(PendingJob::Job(job)) => Ok(*job),
        Some(PendingJob::Event(_)) | None => Err(is_event()),
    }
}

/// The answer to a body that cannot be read.
pub(super) fn unreadable(error: &ParseJobError) -> IntakeAnswer {
    let sentence = chain(error);
    let said = error.said().filter(|said| !sentence.contains(said));
    let said = said.map(ToOwned::to_owned);
    IntakeAnswer::refused(sentence).that_said(said)
}
