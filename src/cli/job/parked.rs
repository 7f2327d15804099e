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
use handout::text::printable;
use jiff::SignedDuration;

use super::super::exit::CommandError;
use super::super::{ConfigArgs, exit, say};

/// How many messages are listed.
const LISTED: usize = 100;

/// The word for all messages.
const ALL: &str = "all";

pub(super) const HELP: &str = "\
With queue.kind = \"sqs\" the messages are in queue.parked_url. Listing receives them, which hides them from other
consumers for a moment; their order is arbitrary. Messages that a redrive policy moved are put back by
`aws sqs start-message-move-task`.

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
    #[arg(long, value_name = "N", default_value_t = LISTED)]
    limit: usize,
    /// Deletes the parked messages that were put on the queue longer ago than --older-than (queue.kind = "sqlite").
    #[arg(long, requires = "older_than", conflicts_with = "requeue")]
    prune: bool,
    /// The minimum age of messages that --prune deletes, such as 30d.
    #[arg(long, value_name = "AGE", requires = "prune")]
    older_than: Option<Span>,
    /// Puts this message, or all of them, back on the queue.
    #[arg(long, value_name = "MESSAGE|all")]
    requeue: Option<String>,
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
        return put_back(id, queue.unpark(one(id)).await?);
    }
    if let Some(age) = arguments.older_than {
        let before = clock::system() - SignedDuration::try_from(age.as_duration())?;
        let pruned = queue.prune_parked(before).await?;
        say(format_args!("pruned {pruned} parked messages"))?;
        return Ok(ExitCode::SUCCESS);
    }
    list(&queue, arguments.after.unwrap_or_default(), arguments.limit).await
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
        return put_back(id, parked.put_back(one(id)).await?);
    }
    let messages = parked.look(arguments.limit).await?;
    messages.iter().try_for_each(show)?;
    if messages.len() == arguments.limit {
        say(format_args!("there may be more: raise --limit"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of one message; `None` for all.
fn one(id: &str) -> Option<&str> {
    Some(id).filter(|id| *id != ALL)
}

fn put_back(id: &str, count: u64) -> anyhow::Result<ExitCode> {
    match (one(id), count) {
        (None, count) => say(format_args!("{count} messages are on the queue again"))?,
        (Some(id), 0) => {
            say(format_args!("no message {id} is parked"))?;
            return Ok(exit::FOUND.into());
        }
        (Some(id), _) => say(format_args!("message {id} is on the queue again"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(message: &ParkedMessage) -> std::io::Result<()> {
    let job =
        Job::parse(&message.body).map_or_else(|_| "(no job)".to_owned(), |job| job.id.to_string());
    let reason = printable(&message.reason, MAX_REASON_BYTES);
    say(format_args!("{}\t{job}\t{reason}", message.id))
}

async fn list(queue: &SqliteQueue, after: i64, limit: usize) -> anyhow::Result<ExitCode> {
    let (total, messages) = (
        queue.count_parked().await?,
        queue.parked(after, limit).await?,
    );
    messages.iter().try_for_each(show)?;
    let shown = messages.len();
    if let Some(last) = messages.last().filter(|_| shown as u64 != total) {
        say(format_args!(
            "{shown} of {total} parked messages; those after these: --after {}",
            last.id
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
