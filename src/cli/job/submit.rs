//! `handout job submit`: checks a job and puts it on the queue.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use handout::assemble;
use handout::assemble::Services;
use handout::clock;
use handout::config::Config;
use handout::distribute::{JobBefore, job_before};
use handout::environment::Environment;
use handout::error::{FailureClass, JobError};
use handout::job::envelope::{self, PendingJob};
use handout::job::{Job, JobId, Rehearsal};
use handout::preview::check_job;
use handout::traceparent::TraceParent;
use serde::Serialize;

use super::preview::Previewing;
use super::{JobArgs, rehearsal_body, run_of};
use crate::cli::arguments::{JsonArgs, RehearsalArgs};
use crate::cli::schemas::OutputSchema;
use crate::cli::terminal::complain;
use crate::cli::{say, say_json};

/// What to do if a job could not be checked.
const UNCHECKED: &str =
    "could not check the job, so it was not submitted; `--no-check` submits it without the check";

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(super) job: JobArgs,
    /// Checks only the format of the job: for a machine that may not list the bucket.
    #[arg(long)]
    no_check: bool,
    /// The trace that the message belongs to, as in the header of W3C Trace Context [default: TRACEPARENT of the environment]
    #[arg(long, value_name = "VALUE", value_parser = trace)]
    traceparent: Option<TraceParent>,
    #[command(flatten)]
    rehearsal: RehearsalArgs,
    #[command(flatten)]
    form: JsonArgs,
}

/// The variable by which a process names its trace to the programs that it starts.
/// <https://opentelemetry.io/docs/specs/otel/context/env-carriers/>
const TRACEPARENT_VARIABLE: &str = "TRACEPARENT";

fn trace(value: &str) -> Result<TraceParent, String> {
    TraceParent::read(value).ok_or_else(|| {
        "is no traceparent of W3C Trace Context, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()
    })
}

/// A message on the queue, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct SubmitReport<'a> {
    /// The ids of its jobs; none for an event that is no job.
    jobs: &'a [String],
    /// The id of the message.
    message: &'a str,
    /// Those of the jobs that the ledger has as done, so that nothing is sent; none where the ledger was not asked.
    done_before: &'a [String],
}

/// Prints that a message is on the queue.
pub(in crate::cli) fn tell_submitted(
    jobs: &[String],
    message: &str,
    done_before: &[String],
    is_json: bool,
) -> std::io::Result<()> {
    for id in done_before {
        complain(format_args!(
            "{id} was done before, so the worker deletes the message and sends nothing: give the job another id to do it again, or see `handout job resend --help`"
        ));
    }
    if is_json {
        let report = SubmitReport {
            jobs,
            message,
            done_before,
        };
        return say_json(&report);
    }
    // A test event of S3 makes no job, and the daemon deletes it.
    let what = match jobs.is_empty() {
        true => "an event that is no job".to_owned(),
        false => jobs.join(", "),
    };
    say(format_args!("submitted {what} as message {message}"))
}

/// Puts a message on the queue. First checks that each of its jobs can be done, as far as a preview can tell.
pub(super) async fn submit(
    body: &str,
    config: &Config,
    environment: &Environment,
    arguments: &SubmitArgs,
) -> anyhow::Result<ExitCode> {
    let rehearsal = arguments.rehearsal.rehearsal();
    let rehearsed = rehearsal.map(|rehearsal| rehearsal_body(body, &rehearsal));
    let rehearsed = rehearsed.transpose()?;
    let body = rehearsed.as_deref().unwrap_or(body);
    let (no_check, trace) = (arguments.no_check, arguments.traceparent);
    Box::pin(put(
        body,
        config,
        environment,
        (no_check, trace),
        arguments.form,
    ))
    .await
}

/// Puts the rehearsal of a job on the queue, for the worker.
pub(in crate::cli) async fn submit_rehearsal(
    body: &str,
    rehearsal: &Rehearsal,
    config: &Config,
    environment: &Environment,
    form: JsonArgs,
) -> anyhow::Result<ExitCode> {
    let body = rehearsal_body(body, rehearsal)?;
    Box::pin(put(&body, config, environment, (false, None), form)).await
}

async fn put(
    body: &str,
    config: &Config,
    environment: &Environment,
    (no_check, trace): (bool, Option<TraceParent>),
    form: JsonArgs,
) -> anyhow::Result<ExitCode> {
    let opened = envelope::open(body, &config.event_rules()?).map_err(JobError::from)?;
    if let Some(error) = opened.refused.into_iter().next() {
        return Err(JobError::from(error).into());
    }
    let jobs = opened.jobs.into_iter().map(PendingJob::open);
    let jobs = jobs.collect::<Result<Vec<Job>, _>>();
    let jobs = jobs.map_err(JobError::from)?;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    let done = match no_check {
        true => Vec::new(),
        false => done_before(&jobs, config, environment).await?,
    };
    let jobs = jobs.into_iter();
    let jobs = jobs.filter(|job| !done.iter().any(|done| *done == job.id.as_str()));
    let jobs: Vec<Job> = jobs.collect();
    if !no_check && !jobs.is_empty() {
        let previewing = Previewing::open(config, environment).await;
        let previewing = previewing.context(UNCHECKED)?;
        let checked = check(jobs, &previewing.services).await;
        previewing.close().await;
        checked?;
    }
    let queue = assemble::open_queue(config, environment, clock::system).await?;
    // A variable that is not valid is ignored, as a header would be.
    let of_environment = || TraceParent::read(environment.get(TRACEPARENT_VARIABLE)?);
    let trace = trace.or_else(of_environment);
    let id = queue.submit_traced(body, trace).await?;
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    tell_submitted(&ids, &id, &done, form.json)?;
    Ok(ExitCode::SUCCESS)
}

/// The jobs that the ledger has as done; none where it cannot be asked, as where no job was ever run.
///
/// # Errors
/// [`JobError::Conflict`] if the ledger has another job under an id.
async fn done_before(
    jobs: &[Job],
    config: &Config,
    environment: &Environment,
) -> Result<Vec<String>, JobError> {
    let opening = assemble::open_ledger(config, environment, clock::system);
    let Ok(opened) = opening.await else {
        return Ok(Vec::new());
    };
    let (mut done, mut conflict) = (Vec::new(), None);
    for job in jobs {
        match job_before(job, &*opened.ledger).await {
            Ok(JobBefore::Done) => done.push(job.id.to_string()),
            Ok(JobBefore::New | JobBefore::Begun) => {}
            Err(error @ JobError::Conflict { .. }) => {
                conflict = Some(error);
                break;
            }
            // The worker asks again.
            Err(_) => {}
        }
    }
    opened.close().await;
    conflict.map_or(Ok(done), Err)
}

async fn check(jobs: Vec<Job>, services: &Services) -> anyhow::Result<()> {
    for job in jobs {
        let run = run_of(job);
        let checked = check_job(&run, services);
        checked.await.map_err(|error| match error.class() {
            FailureClass::Permanent | FailureClass::Policy => anyhow::Error::new(error),
            FailureClass::Transient
            | FailureClass::Deferred
            | FailureClass::Edge
            | FailureClass::Busy
            | FailureClass::Disk => anyhow::Error::new(error).context(UNCHECKED),
        })?;
    }
    Ok(())
}

/// What the command prints with `--json`.
pub(super) fn output() -> OutputSchema {
    OutputSchema::of::<SubmitReport<'static>>("job-submit", "handout job submit")
}
