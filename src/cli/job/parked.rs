//! `handout job parked`: lists, requeues and deletes parked messages.

use std::process::ExitCode;

use clap::Args;
use handout::assemble;
use handout::bounds::MAX_REASON_BYTES;
use handout::clock;
use handout::config::{Config, QueueKind};
use handout::environment::Environment;
use handout::job::Job;
use handout::quantity::Span;
use handout::queue::ParkedMessage;
use handout::queue::sqlite::SqliteQueue;
use handout::queue::sqs::SqsQueue;
use handout::text::{agreeing, counted, printable};
use jiff::SignedDuration;
use serde::Serialize;

use super::super::arguments::{JsonArgs, count};
use super::super::exit::CommandError;
use super::super::schemas::OutputSchema;
use super::super::{ConfigArgs, exit, say, say_json};

/// How many messages are listed.
const LISTED: usize = 100;

/// The word for all messages.
const ALL: &str = "all";

pub(super) const HELP: &str = "\
With queue.kind = \"sqs\" the messages are in queue.parked_url. Listing receives them, which hides them from other consumers for a moment; their order is arbitrary. Messages that a redrive policy moved are put back by `aws sqs start-message-move-task`.

Examples:
  handout job parked
  handout job parked --after 107 --limit 20
  handout job parked --requeue 7
  handout job parked --requeue all
  handout job parked --prune --older-than 30d";

#[derive(Debug, Args)]
pub(crate) struct ParkedArgs {
    /// Lists only messages after this id (queue.kind = "sqlite").
    #[arg(long, value_name = "MESSAGE")]
    after: Option<i64>,
    /// The maximum number of messages to list.
    #[arg(short = 'n', long, alias = "count", value_name = "N", default_value_t = LISTED, value_parser = count)]
    limit: usize,
    /// Deletes the parked messages that were put on the queue longer ago than --older-than (queue.kind = "sqlite").
    #[arg(long, requires = "older_than", conflicts_with = "requeue")]
    prune: bool,
    /// The minimum age of messages that --prune deletes, such as 30d.
    #[arg(long, value_name = "SPAN", requires = "prune")]
    older_than: Option<Span>,
    /// With --prune: changes nothing, and prints what would be done.
    #[arg(long, requires = "prune")]
    dry_run: bool,
    /// Puts this message, or all of them, back on the queue.
    #[arg(long, value_name = "MESSAGE|all")]
    requeue: Option<String>,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn parked(
    arguments: ParkedArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load(environment)?;
    match config.queue.kind {
        QueueKind::Sqlite => of_sqlite(&arguments, &config).await,
        QueueKind::Sqs => {
            of_sqs(
                &arguments,
                &assemble::sqs_queue(&config, environment).await?,
            )
            .await
        }
    }
}

async fn of_sqlite(arguments: &ParkedArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let queue = assemble::open_sqlite_queue(config, clock::system)?;
    if let Some(id) = &arguments.requeue {
        return put_back(id, queue.unpark(one(id)).await?, arguments.form);
    }
    if let Some(age) = arguments.older_than {
        let before = clock::system() - SignedDuration::try_from(age.as_duration())?;
        let (what, pruned) = match arguments.dry_run {
            true => ("would prune", queue.count_prunable(before).await?),
            false => ("pruned", queue.prune_parked(before).await? as u64),
        };
        match arguments.form.json {
            true => say_json(&PruneReport {
                messages: pruned,
                dry_run: arguments.dry_run,
            })?,
            false => say(format_args!("{what} {pruned} parked messages"))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    list(&queue, arguments).await
}

async fn of_sqs(arguments: &ParkedArgs, queue: &SqsQueue) -> anyhow::Result<ExitCode> {
    if arguments.after.is_some() || arguments.older_than.is_some() {
        return Err(CommandError::Usage(
            "--after and --prune are for queue.kind = \"sqlite\"; SQS has no order, and deletes messages after the queue's retention period".to_owned(),
        )
        .into());
    }
    let Some(parked) = queue.parked() else {
        return Err(CommandError::Config(
            "queue.parked_url is not set, so messages are left to the queue's redrive policy; `aws sqs start-message-move-task` puts back what it moved".to_owned(),
        )
        .into());
    };
    if let Some(id) = &arguments.requeue {
        return put_back(id, parked.put_back(one(id)).await?, arguments.form);
    }
    let messages = parked.look(arguments.limit).await?;
    let is_cut = messages.len() == arguments.limit;
    if arguments.form.json {
        say_json(&ParkedReport::of(&messages, None, is_cut))?;
        return Ok(ExitCode::SUCCESS);
    }
    show_all(&messages)?;
    if is_cut {
        say("there may be more: raise --limit")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of one message; `None` for all.
fn one(id: &str) -> Option<&str> {
    Some(id).filter(|id| *id != ALL)
}

fn put_back(id: &str, count: u64, form: JsonArgs) -> anyhow::Result<ExitCode> {
    let id = one(id);
    if form.json {
        say_json(&RequeueReport { requeued: count })?;
    } else {
        say(match (id, count) {
            (None, count) => {
                let (messages, are) = (counted(count, "message"), agreeing(count, "is", "are"));
                format!("{messages} {are} on the queue again")
            }
            (Some(id), 0) => format!("no message {id} is parked"),
            (Some(id), _) => format!("message {id} is on the queue again"),
        })?;
    }
    Ok(match (id, count) {
        (Some(_), 0) => exit::FOUND.into(),
        _ => ExitCode::SUCCESS,
    })
}

/// The parked messages, as `--json` prints them.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ParkedReport<'a> {
    messages: Vec<ShownParked<'a>>,
    /// How many messages are parked in all; `null` for SQS, which only estimates it.
    total: Option<u64>,
    /// Whether there may be more than these.
    is_cut: bool,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ShownParked<'a> {
    /// The id of the message.
    message: &'a str,
    /// The id of its job; `null` if it is no job.
    job: Option<String>,
    reason: &'a str,
}

/// How many messages are on the queue again.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct RequeueReport {
    requeued: u64,
}

/// How many parked messages were deleted, or would be.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct PruneReport {
    messages: u64,
    dry_run: bool,
}

impl<'a> ParkedReport<'a> {
    fn of(messages: &'a [ParkedMessage], total: Option<u64>, is_cut: bool) -> Self {
        let shown = messages.iter().map(|message| ShownParked {
            message: &message.id,
            job: job_of(message),
            reason: &message.reason,
        });
        Self {
            messages: shown.collect(),
            total,
            is_cut,
        }
    }
}

fn job_of(message: &ParkedMessage) -> Option<String> {
    let job = Job::parse(&message.body).ok();
    job.map(|job| job.id.to_string())
}

fn show_all(messages: &[ParkedMessage]) -> std::io::Result<()> {
    if messages.is_empty() {
        return say("No message is parked.");
    }
    messages.iter().try_for_each(|message| {
        let job = job_of(message).unwrap_or_else(|| "(no job)".to_owned());
        let reason = printable(&message.reason, MAX_REASON_BYTES);
        say(format_args!("{}\t{job}\t{reason}", message.id))
    })
}

async fn list(queue: &SqliteQueue, arguments: &ParkedArgs) -> anyhow::Result<ExitCode> {
    let after = arguments.after.unwrap_or_default();
    let (total, messages) = (
        queue.count_parked().await?,
        queue.parked(after, arguments.limit).await?,
    );
    let shown = messages.len();
    if arguments.form.json {
        let is_cut = shown == arguments.limit && shown as u64 != total;
        say_json(&ParkedReport::of(&messages, Some(total), is_cut))?;
        return Ok(ExitCode::SUCCESS);
    }
    match messages.is_empty() && total > 0 {
        true => say(format_args!("No message is parked after {after}."))?,
        false => show_all(&messages)?,
    }
    if let Some(last) = messages.last().filter(|_| shown as u64 != total) {
        say(format_args!(
            "{shown} of {total} parked messages; those after these: --after {}",
            last.id
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![
        OutputSchema::of::<ParkedReport<'static>>("job-parked", "handout job parked"),
        OutputSchema::of::<RequeueReport>("job-requeue", "handout job parked --requeue"),
        OutputSchema::of::<PruneReport>("job-prune", "handout job parked --prune"),
    ]
}
