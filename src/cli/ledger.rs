//! `handout ledger`: what became of a job's recipients, and the answers to doubts.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use handout::clock;
use handout::config::{Config, Environment};
use handout::job::{JobId, Recipient};
use handout::ledger::resolve::{Resolved, resolve};
use handout::ledger::standing::{is_done, outcome_of, record_of};
use handout::ledger::{Answer, Kind, Ledger, Record, Sheet, Standing, standing};
use handout::quantity::Span;
use handout::tools::{self, OpenedLedger};
use jiff::SignedDuration;

use super::{ConfigArgs, exit, say};

/// How many jobs are listed when none is named, and among how many doubts are looked for.
const LISTED: usize = 50;
const LOOKED_THROUGH: usize = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Prints where each recipient of a job stands, or the latest jobs, or the doubts that wait for an answer.
    #[command(
        after_help = "Examples:\n  handout ledger show\n  handout ledger show acme-daily-2026-11-23\n  handout ledger show --doubts"
    )]
    Show {
        /// The job's id; the latest jobs when left out.
        job: Option<JobId>,
        /// Only mails of which nobody knows whether they left, with when and under which Message-ID; exit 1 if there are any.
        #[arg(long)]
        doubts: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Forgets jobs that were done long ago (ledger.kind = "sqlite"; in S3, a lifecycle rule on the prefix does).
    #[command(after_help = "\
A message of a forgotten job that comes again is taken for a new job, and its recipients are mailed again: keep jobs for longer
than the queue keeps messages, which is 14 days in SQS at most.

Example:
  handout ledger prune --older-than 90d")]
    Prune {
        /// How long ago a job's last record was written, such as 90d; at least 15d.
        #[arg(long, value_name = "AGE", value_parser = old_enough)]
        older_than: Span,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Answers the doubt about one recipient's mail: it was sent, or send it again.
    #[command(after_help = "\
The Message-ID that `handout ledger show --doubts` prints is in the relay's log if the relay took the mail.

After `resend` the mail goes with the job's next delivery: by itself while its message is on the queue, else after
`handout job parked --requeue`, or after `handout job submit` with the same job file.

Examples:
  handout ledger resolve acme-daily-2026-11-23 ann@acme.example sent
  handout ledger resolve acme-daily-2026-11-23 3f9ac01b7d2e4f5566778899aabbccdd resend")]
    Resolve {
        /// The job's id.
        job: JobId,
        /// The recipient: the address, or the id that `handout ledger show` prints.
        recipient: String,
        /// What became of the mail.
        answer: Word,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// An answer, as it is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Word {
    /// It left: nothing more is sent.
    Sent,
    /// It may be sent again.
    Resend,
}

/// Does what the command says.
pub(super) async fn ledger(
    command: LedgerCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        LedgerCommand::Show {
            job,
            doubts,
            config,
        } => {
            with_ledger(&config, environment, async |opened| {
                let ledger = &*opened.ledger;
                match (job, doubts) {
                    (Some(job), false) => show(ledger, &job).await,
                    (None, false) => list(ledger).await,
                    (Some(job), true) => show_doubts(ledger, &[job]).await,
                    (None, true) => show_doubts(ledger, &ledger.jobs(LOOKED_THROUGH).await?).await,
                }
            })
            .await
        }
        LedgerCommand::Prune { older_than, config } => {
            prune(&config.load(environment)?, older_than).await
        }
        LedgerCommand::Resolve {
            job,
            recipient,
            answer,
            config,
        } => {
            with_ledger(&config, environment, async |opened| {
                answer_doubt(opened, &job, &recipient, answer).await
            })
            .await
        }
    }
}

/// Does something with the ledger of a configuration, and closes it.
async fn with_ledger(
    config: &ConfigArgs,
    environment: &Environment,
    command: impl AsyncFnOnce(&OpenedLedger) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let config = config.load(environment)?;
    let opened = tools::open_ledger(&config, environment, clock::system).await?;
    let result = command(&opened).await;
    opened.close().await;
    result
}

/// The least age of jobs that are forgotten: a day longer than any queue keeps a message.
const LEAST_AGE: Duration = Duration::from_secs(15 * 24 * 60 * 60);

fn old_enough(text: &str) -> Result<Span, String> {
    let age: Span = text.parse().map_err(|error| format!("{error}"))?;
    if age.as_duration() < LEAST_AGE {
        return Err("a message of a forgotten job would be mailed again, and queues keep messages for 14d: give at least 15d".to_owned());
    }
    Ok(age)
}

async fn prune(config: &Config, age: Span) -> anyhow::Result<ExitCode> {
    let ledger = tools::open_sqlite_ledger(config, clock::system)?;
    let before = clock::system() - SignedDuration::try_from(age.as_duration())?;
    let pruned = ledger.prune(before).await?;
    say(format_args!("forgot {pruned} jobs"))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(ledger: &dyn Ledger) -> anyhow::Result<ExitCode> {
    for job in ledger.jobs(LISTED).await? {
        let records = ledger.records_of(&job, "").await?;
        say(format_args!("{}\t{job}", word(&records)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn word(records_of_job: &[Record]) -> &'static str {
    if is_done(records_of_job) {
        "done"
    } else {
        "open"
    }
}

async fn show(ledger: &dyn Ledger, job: &JobId) -> anyhow::Result<ExitCode> {
    let sheet = Sheet::new(ledger.records(job).await?);
    if sheet.of("").is_empty() && sheet.recipients().is_empty() {
        say(format_args!("the ledger knows no job {job}"))?;
        return Ok(exit::FOUND.into());
    }
    say(format_args!("{job}: {}", word(sheet.of(""))))?;
    for rid in sheet.recipients() {
        let records = sheet.of(rid);
        let line = match standing(records).context("could not read the job's records")? {
            Standing::Free { n } => format!("open, attempt {n} is next"),
            Standing::Busy { n } => {
                format!("attempt {n} is being made, or its process died: the next delivery looks")
            }
            Standing::Doubt { n, .. } => {
                format!("in doubt at attempt {n}: {}", particulars(records, n))
            }
            Standing::Terminal { n, outcome } => format!("{} at attempt {n}", outcome.word()),
        };
        say(format_args!("{rid}\t{line}{}", late(records)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What helps to find a mail in a relay's log.
fn particulars(records: &[Record], n: u32) -> String {
    let intent = record_of(records, n, Kind::Intent).map(|intent| &intent.body);
    let field = |name: &str| intent.and_then(|body| body[name].as_str()).unwrap_or("-");
    format!("{}\t{}", field("at"), field("message_id"))
}

/// What the owners of attempts learnt after somebody had called them unknown.
fn late(records: &[Record]) -> anyhow::Result<String> {
    let mut words = String::new();
    for late in records.iter().filter(|record| record.kind == Kind::Late) {
        let outcome = outcome_of(records, late.n)?.map_or("", |outcome| outcome.word());
        words.push_str(&format!(
            "; attempt {} came to its end late: {outcome}",
            late.n
        ));
    }
    Ok(words)
}

async fn show_doubts(ledger: &dyn Ledger, jobs: &[JobId]) -> anyhow::Result<ExitCode> {
    let mut found = false;
    for job in jobs {
        if has_no_doubts(&ledger.records_of(job, "").await?) {
            continue;
        }
        let sheet = Sheet::new(ledger.records(job).await?);
        for rid in sheet.recipients() {
            let records = sheet.of(rid);
            if let Standing::Doubt { n, .. } = standing(records)? {
                found = true;
                say(format_args!("{job}\t{rid}\t{}", particulars(records, n)))?;
            }
        }
    }
    Ok(if found {
        exit::FOUND.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether a job was done and counted no doubt: then its recipients need not be looked at.
fn has_no_doubts(records_of_job: &[Record]) -> bool {
    is_done(records_of_job)
        && records_of_job
            .iter()
            .filter(|record| record.kind == Kind::Done)
            .all(|done| done.body["unknown"] == 0)
}

async fn answer_doubt(
    opened: &OpenedLedger,
    job: &JobId,
    recipient: &str,
    word: Word,
) -> anyhow::Result<ExitCode> {
    let rid = match recipient.contains('@') {
        true => {
            let recipient = Recipient::parse(recipient)
                .map_err(|error| anyhow::anyhow!("the recipient {error}"))?;
            opened.names.recipient_id(&recipient.canonical_address())
        }
        false => recipient.to_owned(),
    };
    let answer = match word {
        Word::Sent => Answer::WasSent,
        Word::Resend => Answer::ResendOk,
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
            say(match word {
                Word::Sent => "recorded: nothing more is sent",
                Word::Resend => {
                    "recorded: the mail goes with the job's next delivery. Is its message neither on the queue nor parked, submit the same job file again"
                }
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        Resolved::Unknown => format!("the ledger knows no recipient {rid} of a job {job}"),
        Resolved::NoDoubt(standing) => match standing {
            Standing::Free { n } => {
                format!("there is no doubt to answer: attempt {n} is free to be made")
            }
            Standing::Busy { n } => format!(
                "attempt {n} is being made, or its process died: the job's next delivery looks, and asks again if need be"
            ),
            Standing::Terminal { outcome, .. } => {
                format!(
                    "there is no doubt to answer: the mail was {}",
                    outcome.word()
                )
            }
            Standing::Doubt { .. } => "the doubt could not be answered; try again".to_owned(),
        },
    };
    say(line)?;
    Ok(exit::FOUND.into())
}
