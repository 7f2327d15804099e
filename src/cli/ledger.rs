//! `handout ledger`: shows the status of recipients and resolves doubts.

mod parts;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use handout::assemble;
use handout::assemble::OpenedLedger;
use handout::clock;
use handout::config::Config;
use handout::distribute::{MAX_JOBS_SEARCHED, part_or_job, reopen_whole};
use handout::environment::Environment;
use handout::job::{JobId, Recipient};
use handout::keyring::Keyring;
use handout::ledger::portal::PortalLedger;
use handout::ledger::resolve::{Resolved, resolve};
use handout::ledger::sqlite::Pruned;
use handout::ledger::{Answer, Ledger as _, RecipientStatus};
use handout::quantity::Span;
use handout::text::counted;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::arguments::JsonArgs;
use super::exit::CommandError;
use super::schemas::OutputSchema;
use super::{ConfigArgs, exit, say, say_json};

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Prints the status of each recipient of a job, the latest jobs, or the doubts to resolve.
    #[command(after_help = "\
Each line of a job has, separated by tabs: state, id, when it was begun, and when it was done.

Each line of a recipient has: id, outcome, time of the record, reply code and text of the relay, and the address if the ledger has it; before the address of a doubt, the Message-ID. Of a job in parts, all recipients are counted, and the first without a mail have a line; JOB.part.RID shows one.

Examples:
  handout ledger show
  handout ledger show acme-daily-2026-11-23
  handout ledger show acme-daily-2026-11-23 --json
  handout ledger show --doubts")]
    Show {
        /// The job's id [default: list the latest jobs]
        job: Option<JobId>,
        /// Prints only mails in doubt, with the time and the Message-ID of each; exit 1 if there are any.
        #[arg(long)]
        doubts: bool,
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Deletes the records of old jobs that are done, and of links of the portal that ended as long ago (ledger.kind = "sqlite"; in S3, use a lifecycle rule on the prefix).
    #[command(after_help = "\
If a message of a deleted job arrives again, it counts as a new job and its recipients are mailed again. Keep jobs longer than the queue keeps messages (SQS: 14 days at most, 14 days more in queue.parked_url, and as long again after `handout job parked --requeue`). Messages of the local queue, parked ones too, keep the jobs that ended after they were put there.

Of links of the portal that ended so long ago, the names of recipients and the lists of objects are deleted, too. The links go on to say that they have ended; they can no longer be extended.

Example:
  handout ledger prune --older-than 90d")]
    Prune {
        /// The minimum age of a job's last record, such as 90d; at least 15d.
        #[arg(long, value_name = "SPAN", value_parser = old_enough)]
        older_than: Span,
        /// Changes nothing, and prints what would be done.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Resolves an in-doubt delivery: the mail was sent, or is to be sent again.
    #[command(after_help = "\
If the relay accepted the mail, its log contains the Message-ID that `handout ledger show --doubts` prints.

After `resend`, the next run of the job sends the mail. The job runs by itself while its message is on the queue; otherwise use `handout job parked --requeue`, or `handout job submit` with the same job file.

Examples:
  handout ledger resolve acme-daily-2026-11-23 ann@acme.example sent
  handout ledger resolve acme-daily-2026-11-23 3f9ac01b7d2e4f5566778899aabbccdd resend")]
    Resolve {
        /// The job's id.
        job: JobId,
        /// The recipient: the address, or the id that `handout ledger show` prints.
        recipient: String,
        /// What became of the mail.
        answer: ResolveAnswer,
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// An answer, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResolveAnswer {
    /// The mail was sent: nothing more is sent.
    Sent,
    /// The mail may be sent again.
    Resend,
}

/// Runs the command.
pub(super) async fn ledger(
    command: LedgerCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        LedgerCommand::Show {
            job,
            doubts,
            form: JsonArgs { json },
            config,
        } => {
            with_ledger(&config, environment, async |opened| {
                let ledger = &*opened.ledger;
                match (job, doubts) {
                    (Some(job), false) => show::show(ledger, &job, json).await,
                    (None, false) => show::list(ledger, json).await,
                    (Some(job), true) => show::show_doubts(ledger, &[job], json).await,
                    (None, true) => {
                        let jobs = ledger.jobs(MAX_JOBS_SEARCHED).await?;
                        show::show_doubts(ledger, &jobs, json).await
                    }
                }
            })
            .await
        }
        LedgerCommand::Prune {
            older_than,
            dry_run,
            form,
            config,
        } => prune(&config.load(environment)?, older_than, dry_run, form).await,
        LedgerCommand::Resolve {
            job,
            recipient,
            answer,
            form,
            config,
        } => {
            with_ledger(&config, environment, async |opened| {
                answer_doubt(opened, &job, &recipient, answer, form).await
            })
            .await
        }
    }
}

/// Runs an operation on the ledger of a configuration, and closes it.
async fn with_ledger(
    config: &ConfigArgs,
    environment: &Environment,
    command: impl AsyncFnOnce(&OpenedLedger) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let config = config.load(environment)?;
    let opened = assemble::open_ledger(&config, environment, clock::system).await?;
    let result = command(&opened).await;
    opened.close().await;
    result
}

/// The minimum age of jobs that may be deleted: a day longer than any queue keeps a message.
const LEAST_AGE: Duration = Duration::from_secs(15 * 24 * 60 * 60);

fn old_enough(text: &str) -> Result<Span, String> {
    let age: Span = text.parse().map_err(|error| format!("{error}"))?;
    if age.as_duration() < LEAST_AGE {
        return Err("give at least 15d: queues keep messages for 14d, and a message of a pruned job would be mailed again".to_owned());
    }
    Ok(age)
}

/// The minimum age where parked messages go to a queue of their own: as long in each of both queues, and again in the first one.
const LEAST_AGE_IF_PARKED: Duration = Duration::from_secs(43 * 24 * 60 * 60);

/// What was deleted, or would be, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct LedgerPruneReport {
    jobs: usize,
    /// The jobs whose links of the portal ended so long ago.
    links_of_jobs: usize,
    /// When the oldest message of the local queue was put there, if it keeps jobs that are old enough.
    #[schemars(with = "Option<String>")]
    held_back: Option<Timestamp>,
    dry_run: bool,
}

async fn prune(
    config: &Config,
    age: Span,
    dry_run: bool,
    form: JsonArgs,
) -> anyhow::Result<ExitCode> {
    if config.queue.parked_url.is_some() && age.as_duration() < LEAST_AGE_IF_PARKED {
        let reason = "--older-than must be at least 43d with queue.parked_url: a parked message that is put back may be 42d old, and its recipients would be mailed again";
        return Err(CommandError::Usage(reason.to_owned()).into());
    }
    let ledger = assemble::open_sqlite_ledger(config, clock::system)?;
    let before = clock::system() - SignedDuration::try_from(age.as_duration())?;
    let keyring = Keyring::open(&config.secret_key_file())?;
    let portal = PortalLedger::new(ledger.portal_records(), &keyring);
    let (Pruned { jobs, held_back }, links_of_jobs) = match dry_run {
        true => (
            ledger.count_prunable(before).await?,
            portal.count_ended(before).await?,
        ),
        false => (
            ledger.prune(before).await?,
            portal.forget_ended(before).await?,
        ),
    };
    let report = LedgerPruneReport {
        jobs,
        links_of_jobs,
        held_back,
        dry_run,
    };
    if form.json {
        say_json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let what = match dry_run {
        true => "would prune",
        false => "pruned",
    };
    say(format_args!("{what} {}", counted(jobs as u64, "job")))?;
    if let Some(since) = held_back {
        say(format_args!(
            "the jobs that ended since {since} are kept: a message of that time is on the queue or parked (`handout job parked`)"
        ))?;
    }
    if links_of_jobs > 0 {
        say(format_args!(
            "{what} the links of {} that had ended",
            counted(links_of_jobs as u64, "job")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn answer_doubt(
    opened: &OpenedLedger,
    job: &JobId,
    recipient: &str,
    word: ResolveAnswer,
    form: JsonArgs,
) -> anyhow::Result<ExitCode> {
    let rid = match recipient.contains('@') {
        true => {
            let recipient = Recipient::parse(recipient).map_err(|error| {
                CommandError::Usage(format!("the recipient {recipient} {error}"))
            })?;
            opened.names.recipient_id(&recipient.canonical_address())
        }
        false => recipient.to_owned(),
    };
    let job = &part_or_job(&*opened.ledger, job, &rid).await?;
    let answer = match word {
        ResolveAnswer::Sent => Answer::WasSent,
        ResolveAnswer::Resend => Answer::ResendOk,
    };
    let line = match resolve(
        &*opened.ledger,
        job,
        &rid,
        answer,
        "operator",
        clock::system(),
    )
    .await?
    {
        Resolved::Recorded => {
            if word == ResolveAnswer::Resend {
                reopen_whole(&*opened.ledger, job, clock::system()).await?;
            }
            let line = match word {
                ResolveAnswer::Sent => "recorded: nothing more is sent",
                ResolveAnswer::Resend => {
                    "recorded: the job's next delivery sends the mail. If its message is neither on the queue nor parked, submit the same job file again"
                }
            };
            tell_resolved((job, &rid), None, line, form)?;
            return Ok(ExitCode::SUCCESS);
        }
        Resolved::Unknown => format!("the ledger knows no recipient {recipient} of a job {job}"),
        Resolved::NoDoubt(status) => match status {
            RecipientStatus::Ready { n } => {
                format!("the delivery is not in doubt: attempt {n} has not started")
            }
            RecipientStatus::InFlight { n } => format!(
                "attempt {n} is in flight, or its process died: the job's next delivery finds out"
            ),
            RecipientStatus::Final { outcome, .. } => {
                format!(
                    "the delivery is not in doubt: the mail was {}",
                    outcome.for_people()
                )
            }
            RecipientStatus::InDoubt { .. } => {
                "could not record the decision; try again".to_owned()
            }
        },
    };
    tell_resolved((job, &rid), Some(&line), &line, form)?;
    Ok(exit::FOUND.into())
}

/// What became of an answer, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ResolveReport<'a> {
    #[schemars(with = "String")]
    job: &'a JobId,
    rid: &'a str,
    is_recorded: bool,
    /// Why it is not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

fn tell_resolved(
    (job, rid): (&JobId, &str),
    reason: Option<&str>,
    line: &str,
    form: JsonArgs,
) -> std::io::Result<()> {
    match form.json {
        true => say_json(&ResolveReport {
            job,
            rid,
            is_recorded: reason.is_none(),
            reason,
        }),
        false => say(line),
    }
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    let mut outputs = show::outputs();
    outputs.extend([
        OutputSchema::of::<LedgerPruneReport>("ledger-prune", "handout ledger prune"),
        OutputSchema::of::<ResolveReport<'static>>("ledger-resolve", "handout ledger resolve"),
    ]);
    outputs
}
