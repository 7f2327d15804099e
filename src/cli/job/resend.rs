//! `handout job resend`: delivers a job again to the recipients that it did not reach.

use std::process::ExitCode;

use anyhow::Context;
use handout::assemble;
use handout::assemble::{OpenError, Opened, Serving};
use handout::clock;
use handout::config::{Config, QueueKind};
use handout::distribute::resend_parts;
use handout::environment::Environment;
use handout::error::{FailureClass, JobError};
use handout::job::JobId;
use handout::job::envelope::{self, PendingJob};
use handout::ledger::resolve::{Resent, resend};
use handout::ledger::status::{is_done, last_done};
use handout::ledger::{Ledger, Record};
use handout::links::saved;
use handout::text::chain;
use serde::Serialize;

use super::{run_of, work};
use crate::cli::arguments::JsonArgs;
use crate::cli::exit::CommandError;
use crate::cli::schemas::OutputSchema;
use crate::cli::terminal::complain;
use crate::cli::{exit, say, say_json};

/// The action that follows from the ledger.
enum ResendRequest {
    /// This many recipients get the mail with the job's next delivery, which needs this message.
    Again(usize, String),
    /// This many recipients get the mail with the job's next delivery, whose message is still queued.
    Waiting(usize),
    /// Nothing, and why.
    Nothing(String),
}

/// Requests another attempt and triggers it: by the queue's worker, or in this process if there is no queue worker.
pub(super) async fn again(
    id: &JobId,
    config: &Config,
    environment: &Environment,
    form: JsonArgs,
) -> anyhow::Result<ExitCode> {
    let opened = assemble::open_ledger(config, environment, clock::system).await?;
    let asked = ask(&*opened.ledger, id).await;
    opened.close().await;
    let (count, message) = match asked? {
        ResendRequest::Again(count, message) => (count, message),
        ResendRequest::Waiting(count) => {
            match form.json {
                true => say_json(&ResendReport::of(id, count))?,
                false => say(format_args!(
                    "{count} get it again with the job's next delivery: its message is on the queue, or parked (`handout job parked`)"
                ))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        ResendRequest::Nothing(why) => {
            match form.json {
                true => say_json(&ResendReport {
                    reason: Some(&why),
                    ..ResendReport::of(id, 0)
                })?,
                false => say(&why)?,
            }
            return Ok(exit::FOUND.into());
        }
    };
    if !form.json {
        say(format_args!("{count} of {id} get it again."))?;
    }
    let resending = Resending {
        id,
        count,
        message: &message,
        form,
    };
    if config.queue.kind == QueueKind::Sqs {
        return resending.put_on_queue(config, environment).await;
    }
    match assemble::open(config, environment, clock::system, Serving::Itself).await {
        Ok(opened) => Box::pin(resending.do_now(opened, config, environment)).await,
        Err(OpenError::Locked { .. }) => resending.put_on_queue(config, environment).await,
        Err(error) => Err(error).context(
            "they are marked for it: repair the cause, then run `handout job resend` again",
        ),
    }
}

/// Checks whether the recipients can be retried, and marks them.
async fn ask(ledger: &dyn Ledger, id: &JobId) -> anyhow::Result<ResendRequest> {
    if let Some(whole) = id.whole() {
        return Ok(ResendRequest::Nothing(format!(
            "{id} is the part of one recipient: name the whole job, {whole}"
        )));
    }
    let records = ledger.records_of(id, "").await?;
    if is_done(&records) && has_failures(&records) && saved::message(id, ledger).await?.is_none() {
        return Ok(ResendRequest::Nothing(format!(
            "the message of {id} is not stored, so nothing was marked: submit a new job for the failed recipients"
        )));
    }
    let resent = match resend_parts(ledger, id, clock::system()).await? {
        Some(resent) => resent,
        None => resend(ledger, id, "operator", clock::system()).await?,
    };
    // Read now: a worker that was running the job stores its message before it records the job as done.
    let message = saved::message(id, ledger).await?;
    Ok(match (resent, message) {
        (Resent::Unknown, _) => ResendRequest::Nothing(format!("the ledger knows no job {id}")),
        (Resent::NoneFailed, _) => ResendRequest::Nothing(format!(
            "no recipient of {id} was rejected or is in doubt: each mail was accepted or is pending"
        )),
        (Resent::Asked(count), Some(message)) => ResendRequest::Again(count, message),
        (Resent::Asked(count), None) => ResendRequest::Waiting(count),
    })
}

/// Whether the job ended with a recipient that it did not reach.
fn has_failures(records_of_job: &[Record]) -> bool {
    let done = last_done(records_of_job);
    done.is_some_and(|done| {
        let refused = &done.body["parts"]["refused"];
        done.body["rejected"] != 0 || done.body["unknown"] != 0 || refused.as_u64() > Some(0)
    })
}

/// What is resent, as `--json` prints it. A job that runs now prints its own result instead.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ResendReport<'a> {
    #[schemars(with = "String")]
    job: &'a JobId,
    /// How many recipients get the mail again.
    recipients: usize,
    /// The id of the message on the queue, if the command put one there.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    /// Why nothing is resent.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> ResendReport<'a> {
    const fn of(job: &'a JobId, recipients: usize) -> Self {
        Self {
            job,
            recipients,
            message: None,
            reason: None,
        }
    }
}

/// A job whose recipients are marked, and its message.
struct Resending<'a> {
    id: &'a JobId,
    count: usize,
    message: &'a str,
    form: JsonArgs,
}

impl Resending<'_> {
    async fn put_on_queue(
        &self,
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<ExitCode> {
        let queue = assemble::open_queue(config, environment, clock::system).await?;
        let number = queue.submit(self.message).await?;
        match self.form.json {
            true => say_json(&ResendReport {
                message: Some(&number),
                ..ResendReport::of(self.id, self.count)
            })?,
            false => say(format_args!("It is on the queue as message {number}."))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the one job that is meant from a message, which may contain several events. A job that must wait is put on the queue, as
    /// by a worker.
    async fn do_now(
        &self,
        opened: Opened,
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<ExitCode> {
        let id = self.id;
        let orders = envelope::open(self.message, &opened.rules).map(|opened| opened.jobs);
        let meant = |orders: Vec<PendingJob>| {
            // An event that makes no job is not the one that was done.
            let mut jobs = orders.into_iter().filter_map(|order| order.open().ok());
            jobs.find(|job| job.id == *id)
        };
        match orders.map(meant).map_err(JobError::from) {
            Ok(Some(job)) => match Box::pin(work(&run_of(job), opened, config, self.form)).await {
                Err(error) if comes_back(&error) => {
                    let told = format!("The job failed and will be retried: {}", chain(&*error));
                    match self.form.json {
                        true => complain(told),
                        false => say(told)?,
                    }
                    self.put_on_queue(config, environment).await
                }
                worked => worked,
            },
            Ok(None) => {
                opened.close().await;
                Err(CommandError::Config(format!(
                    "the [[on_event]] rules now make a different job of the message of {id}"
                ))
                .into())
            }
            Err(error) => {
                opened.close().await;
                Err(error.into())
            }
        }
    }
}

/// Whether a worker would return the job's message to the queue.
fn comes_back(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<JobError>().map(JobError::class);
    matches!(
        error,
        Some(
            FailureClass::Deferred
                | FailureClass::Edge
                | FailureClass::Transient
                | FailureClass::Busy
        )
    )
}

/// What the command prints with `--json`.
pub(super) fn output() -> OutputSchema {
    OutputSchema::of::<ResendReport<'static>>("job-resend", "handout job resend")
}
