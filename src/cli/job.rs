//! `handout job`: runs, submits, previews and resends jobs.

mod parked;
mod preview;
mod resend;
mod submit;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use handout::assemble;
use handout::assemble::{OpenError, Opened, Serving};
use handout::audit::record::Pseudonyms;
use handout::clock;
use handout::config::Config;
use handout::distribute::distribute;
use handout::environment::Environment;
use handout::error::JobError;
use handout::job::{Job, JobId, Recipient, Rehearsal};
use handout::ledger::Outcome;
use handout::ledger::people::words_behind_name;
use handout::progress::{Progress, Snapshot};
use handout::report::{JobReport, PartsReport};
use handout::run::JobRun;
use handout::text::{agreeing, counted, decode, shell_argument};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

pub(super) use self::preview::{PreviewOutput, Previewing, show_body};
pub(super) use self::submit::{submit_rehearsal, tell_submitted};
use super::arguments::{JsonArgs, RehearsalArgs};
use super::exit::CommandError;
use super::schemas::OutputSchema;
use super::supervision::{Beside, LAST_WORK};
use super::{ConfigArgs, exit, say, say_json, terminal};

/// The refresh interval of the progress bar, and the interval of plain lines.
const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Runs a job now, without the queue, and shows its progress; exit 1 if a mail was rejected or is in doubt, or a file is missing.
    #[command(after_help = "\
With --rehearse, the job runs under an id of its own, and each of its mails is sent to ADDRESS with the real recipient in the subject. Its links are real, and have their audit lines. With --mails N, it is for the first N recipients; without it, for all, and of a job in parts for the first ten. Nothing is recorded for the job itself, which runs as if it had not been rehearsed. While a daemon works with the same state_dir, `handout job submit --rehearse` lets it make the rehearsal.

Examples:
  handout job run job.json
  generate-job | handout job run -
  handout job run job.json --rehearse me@acme.example")]
    Run {
        #[command(flatten)]
        job: JobArgs,
        #[command(flatten)]
        rehearsal: RehearsalArgs,
        #[command(flatten)]
        form: JsonArgs,
    },
    /// Puts a job on the queue, after checking it as `preview` does.
    #[command(after_help = "\
With --rehearse, the worker makes a rehearsal of the job, as `handout job run --rehearse` does. An [[allow]] rule must name ADDRESS in its recipients.

Examples:
  handout job submit job.json
  handout job submit job.json --rehearse me@acme.example")]
    Submit(submit::SubmitArgs),
    /// Writes what a job would send: .html, .txt, .eml, counts. Its links open nothing, and nothing is delivered.
    Preview(preview::PreviewArgs),
    /// Sends a job again, only to the recipients that it did not reach.
    #[command(after_help = "\
A recipient is selected if the relay rejected its mail, or if its mail is in doubt. It gets fresh links in a mail with the same Message-ID. The message of the job is kept while the job has such a recipient.

If `handout run` is running, or the queue is SQS, the job is put on the queue. Otherwise it runs now, as with `handout job run`, and is put on the queue if it fails. Resending twice sends one mail to each recipient that still waits.

Example:
  handout job resend acme-daily-2026-11-23 --failed")]
    Resend {
        /// The job's id.
        #[arg(value_name = "JOB")]
        id: JobId,
        /// Selects the recipients whose mail was rejected or is in doubt; required, to rule out a second mail to all.
        #[arg(long, required = true)]
        failed: bool,
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Lists parked jobs with the reasons; requeues them, or deletes old ones.
    #[command(after_help = parked::HELP)]
    Parked(parked::ParkedArgs),
}

/// A job and the configuration for it.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The job's file, or `-` for stdin.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

impl JobArgs {
    fn read(&self) -> anyhow::Result<String> {
        if self.file == Path::new("-") {
            let mut bytes = Vec::new();
            let read = std::io::stdin().read_to_end(&mut bytes);
            read.context("could not read the job from stdin")?;
            return decoded(bytes, "on stdin");
        }
        let name = self.file.display();
        let bytes =
            std::fs::read(&self.file).with_context(|| format!("could not read the job {name}"))?;
        decoded(bytes, &name.to_string())
    }
}

/// The text of a job; a wrong encoding is a finding about the job, as wrong JSON is.
fn decoded(bytes: Vec<u8>, name: &str) -> anyhow::Result<String> {
    let text = decode(bytes);
    text.map_err(|error| {
        CommandError::Found(format!("the job {name} cannot be read: {error}")).into()
    })
}

/// Runs the command.
pub(super) async fn job(
    command: JobCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        JobCommand::Run {
            job,
            rehearsal,
            form,
        } => {
            let (body, config) = (job.read()?, job.config.load(environment)?);
            let rehearsal = rehearsal.rehearsal();
            let is_rehearsal = rehearsal.is_some();
            let ran = Box::pin(run(&body, &config, environment, rehearsal, form)).await;
            ran.map_err(|error| match is_rehearsal && is_locked(&error) {
                true => error.context(
                    "`handout job submit --rehearse ADDRESS` puts the rehearsal on the queue, and the worker makes it",
                ),
                false => error,
            })
        }
        JobCommand::Submit(arguments) => {
            let (job, body) = (&arguments.job, arguments.job.read()?);
            let config = job.config.load(environment)?;
            Box::pin(submit::submit(&body, &config, environment, &arguments)).await
        }
        JobCommand::Preview(arguments) => Box::pin(preview::show(&arguments, environment)).await,
        JobCommand::Resend {
            id, form, config, ..
        } => {
            let config = config.load(environment)?;
            Box::pin(resend::again(&id, &config, environment, form)).await
        }
        JobCommand::Parked(arguments) => parked::parked(arguments, environment).await,
    }
}

fn run_of_body(body: &str) -> Result<JobRun, JobError> {
    Ok(run_of(Job::parse(body)?))
}

/// The first run of a job.
pub(super) fn run_of(job: Job) -> JobRun {
    JobRun::first(job, clock::system())
}

/// Runs a job without the queue; as a rehearsal, if it names who gets the mails.
pub(super) async fn run(
    body: &str,
    config: &Config,
    environment: &Environment,
    rehearsal: Option<Rehearsal>,
    form: JsonArgs,
) -> anyhow::Result<ExitCode> {
    let mut run = run_of_body(body)?;
    if rehearsal.is_some() {
        must_have_mails(&run.job)?;
        let job = Arc::make_mut(&mut run.job);
        job.id = job.id.of_rehearsal(run.now);
    }
    let mut opened = assemble::open(config, environment, clock::system, Serving::Itself).await?;
    if let Some(rehearsal) = rehearsal.or_else(|| run.job.rehearsal.clone()) {
        opened.services.rehearse(rehearsal);
    }
    Box::pin(work(&run, opened, config, form)).await
}

/// Rejects the rehearsal of a job without mails.
fn must_have_mails(job: &Job) -> Result<(), CommandError> {
    match job.email {
        Some(_) => Ok(()),
        None => Err(CommandError::Found(
            "the job has no `email`, so there is no mail to rehearse: look at its pages with `handout job preview`".to_owned(),
        )),
    }
}

/// Whether another process works with the state directory.
pub(super) fn is_locked(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<OpenError>(),
        Some(OpenError::Locked { .. })
    )
}

/// The body of a rehearsal of a job, for the queue: a job with an id of its own.
fn rehearsal_body(body: &str, rehearsal: &Rehearsal) -> anyhow::Result<String> {
    let job = Job::parse(body).map_err(JobError::from)?;
    must_have_mails(&job)?;
    let mut fields: Value = serde_json::from_str(body).context("the job is not JSON")?;
    fields["id"] = json!(job.id.of_rehearsal(clock::system()));
    fields["rehearsal"] = json!({ "to": rehearsal.to.address.to_string() });
    if let Some(recipients) = rehearsal.recipients {
        fields["rehearsal"]["recipients"] = json!(recipients);
    }
    Ok(fields.to_string())
}

/// Runs a job with the opened services, and closes them.
async fn work(
    run: &JobRun,
    opened: Opened,
    config: &Config,
    form: JsonArgs,
) -> anyhow::Result<ExitCode> {
    let mut beside = Beside::of_command(LAST_WORK)?;
    let names = opened.services.recording.names.clone();
    let rehearsed_to = opened.services.sending.sender.rehearsed_to().cloned();
    let result = {
        let work = with_progress(&opened.services.progress, distribute(run, &opened.services));
        let mut work = Box::pin(work);
        tokio::select! {
            result = &mut work => result,
            // Not in the middle of a mail: that would leave it in doubt.
            () = beside.told(1) => {
                run.stop.cancel();
                work.await
            }
        }
    };
    opened.close().await;
    let delivered = result?;
    if form.json {
        say_json(&JobRunReport {
            job: &run.job.id,
            report: &delivered.with_places(&run.job, &names),
        })?;
    } else {
        tell(run, &delivered, &names)?;
        if let Some(to) = rehearsed_to {
            say(format_args!(
                "This was a rehearsal: all mails went to {}, and nothing is recorded for the job itself.",
                to.address
            ))?;
        } else if delivered.failed() > 0 {
            say_how_to_resend(&run.job.id)?;
        }
        if config.needs_embedded() {
            say("Links to a connection with a directory open while `handout run` runs.")?;
        }
    }
    Ok(match delivered.failed() + delivered.missing {
        0 => ExitCode::SUCCESS,
        _ => exit::FOUND.into(),
    })
}

/// The result of a job, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct JobRunReport<'a> {
    /// The job's id.
    #[schemars(with = "String")]
    job: &'a JobId,
    #[serde(flatten)]
    report: &'a JobReport,
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    let mut outputs = vec![
        OutputSchema::of::<JobRunReport<'static>>("job-run", "handout job run"),
        submit::output(),
        resend::output(),
    ];
    outputs.extend(preview::outputs());
    outputs.extend(parked::outputs());
    outputs
}

fn tell(run: &JobRun, delivered: &JobReport, names: &Pseudonyms) -> std::io::Result<()> {
    let id = &run.job.id;
    if delivered.done_before {
        say(format_args!(
            "{id} was done before: nothing was sent. Give it another id to do it again."
        ))?;
        return tell_failures(run, delivered, names);
    }
    say(format_args!("{id} is done."))?;
    if let Some(parts) = &delivered.parts {
        say(format_args!("  recipients   {}", parts.recipients))?;
    }
    say(format_args!("  links        {}", delivered.links))?;
    if delivered.unavailable > 0 {
        say(format_args!("  unavailable  {}", delivered.unavailable))?;
    }
    if delivered.missing > 0 {
        say(format_args!(
            "  missing      {} of these {} not exist",
            delivered.missing,
            agreeing(delivered.missing, "does", "do")
        ))?;
    }
    if let Some(shown) = delivered.shown {
        say(format_args!(
            "  shown        {shown} in the shortest mail, which only counts the others (email.overflow = \"summarize\")"
        ))?;
    }
    if delivered.pictures_without_renditions > 0 {
        let number = delivered.pictures_without_renditions;
        let what = match number {
            1 => "picture has none: its page shows the picture itself",
            _ => "pictures have none: their pages show the pictures themselves",
        };
        say(format_args!("  renditions   {number} {what}"))?;
    }
    if let Some(expires_at) = delivered.expires_at {
        say(format_args!("  until        {expires_at}"))?;
    }
    if run.job.email.is_some() {
        let JobReport {
            accepted,
            rejected,
            unknown,
            ..
        } = delivered;
        say(format_args!(
            "  mails        {accepted} accepted, {rejected} rejected, {unknown} in doubt"
        ))?;
        tell_failures(run, delivered, names)?;
    }
    delivered.parts.as_ref().map_or(Ok(()), tell_parts)?;
    let pages = delivered.galleries.iter().chain(&delivered.manifests);
    let mut published = pages.chain(&delivered.zips);
    published.try_for_each(|place| say(format_args!("  published    {place}")))
}

/// Prints a line for each recipient whose mail was rejected or is in doubt, or who is suppressed, with the relay's reply.
fn tell_failures(run: &JobRun, delivered: &JobReport, names: &Pseudonyms) -> std::io::Result<()> {
    let failed = delivered.rejected + delivered.unknown + delivered.suppressed;
    if failed == 0 {
        return Ok(());
    }
    if run.job.list().is_some() {
        // The job does not know the addresses of a list.
        for without in &delivered.without_mail {
            tell_outcome(&without.rid, &without.outcome)?;
        }
        return Ok(());
    }
    let rid = |reader: &Recipient| names.recipient_id(&reader.canonical_address());
    let named = delivered.in_clear(&run.job, rid);
    for (address, outcome) in &named {
        tell_outcome(address, outcome)?;
    }
    let id = shell_argument(run.job.id.as_str());
    let more = failed.saturating_sub(named.len() as u64);
    if more > 0 {
        say(format_args!(
            "  and {more} more: handout ledger show -- {id}"
        ))?;
    }
    Ok(())
}

fn tell_outcome(recipient: &str, outcome: &Outcome) -> std::io::Result<()> {
    let words = words_behind_name(outcome.words());
    say(format_args!(
        "  {:<11}  {recipient}: {words}",
        outcome.for_people()
    ))
}

/// Prints what became of recipients of a job in parts without a mail, and of rows that are no recipients.
fn tell_parts(parts: &PartsReport) -> std::io::Result<()> {
    if parts.empty > 0 {
        let recipients = counted(parts.empty, "recipient");
        say(format_args!("  no files     {recipients}"))?;
    }
    if parts.refused > 0 {
        say(format_args!(
            "  no mail      {}, whose part was rejected",
            counted(parts.refused, "recipient")
        ))?;
    }
    for part in &parts.reasons {
        say(format_args!("    {}: {}", part.rid, part.reason))?;
    }
    if parts.repeated > 0 {
        say(format_args!(
            "  repeated     {} with the address of an earlier row",
            counted(parts.repeated, "row")
        ))?;
    }
    if parts.bad_rows > 0 {
        say(format_args!("  bad rows     {}", parts.bad_rows))?;
    }
    let mut rows = parts.rows.iter();
    rows.try_for_each(|row| say(format_args!("    {row}")))
}

fn say_how_to_resend(id: &JobId) -> std::io::Result<()> {
    let id = shell_argument(id.as_str());
    say(format_args!(
        "When the cause is repaired, `handout job resend --failed -- {id}` sends these mails again, and no others."
    ))
}

/// Shows the counters during the work: a bar on a terminal, a line now and then elsewhere.
async fn with_progress<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    let terminal = terminal::is_watched();
    let bar = if terminal {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} links  {msg}  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut work = std::pin::pin!(work);
    let mut every = tokio::time::interval(if terminal { BAR_EVERY } else { LINE_EVERY });
    every.tick().await;
    loop {
        tokio::select! {
            biased;
            result = &mut work => {
                bar.finish_and_clear();
                return result;
            }
            _ = every.tick() => {
                let now = progress.snapshot();
                bar.set_length(now.links_expected);
                bar.set_position(now.links_issued);
                bar.set_message(message(&now));
                if !terminal {
                    tracing::info!(objects = now.objects_found, links = now.links_issued, of = now.links_expected, mails = now.mails_accepted, "under way");
                }
            }
        }
    }
}

/// The text beside the bar. The number of links is known once everything is listed.
fn message(now: &Snapshot) -> String {
    match now.links_expected {
        0 => format!("{} listed", counted(now.objects_found, "object")),
        _ => {
            let (accepted, all) = (now.mails_accepted, now.mails_expected);
            format!("{accepted}/{}", counted(all, "mail"))
        }
    }
}
