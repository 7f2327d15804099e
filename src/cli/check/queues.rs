//! Checks the queue of jobs, the queue of parked messages, the destination of results, and the queue of feedback.

use std::io;
use std::path::Path;

use directory::Directory;
use handout::assemble;
use handout::clock;
use handout::config::queue_address::QueueAddress;
use handout::config::{Config, LedgerKind, QueueKind};
use handout::environment::Environment;
use handout::queue::sqs::{LookedAt, SqsQueue};
use handout::queue::{Queue, QueueError};
use handout::results::Results;
use handout::text::{agreeing, chain, counted};

use super::report::{BoxError, CheckOutcome, CheckReport, bounded};

pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    regions(config, report)?;
    match config.queue.kind {
        QueueKind::Sqlite => report.look("queue", on_this_machine(config)).await?,
        QueueKind::Sqs => in_sqs(config, environment, report).await?,
    }
    results(config, environment, report).await?;
    feedback(config, environment, report).await
}

/// Checks the queue of bounces and complaints, if configured.
async fn feedback(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    let opened = bounded(assemble::feedback_queue(config, environment)).await;
    match opened.and_then(|opened| Ok(opened?)) {
        Ok(None) => Ok(()),
        Ok(Some((queue, _))) => {
            let counted = bounded(queue.waiting()).await;
            tell_count("feedback", ("waits", "wait"), counted, report)
        }
        Err(error) => report.tell("feedback", Err(error)),
    }
}

fn waiting_messages(count: u64) -> String {
    let (messages, wait) = (counted(count, "message"), agreeing(count, "waits", "wait"));
    format!("{messages} {wait}")
}

async fn on_this_machine(config: &Config) -> CheckOutcome {
    let waiting = assemble::open_sqlite_queue(config, clock::system)?;
    Ok(waiting_messages(waiting.waiting().await?))
}

async fn in_sqs(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    let opened = bounded(assemble::sqs_queue(config, environment)).await;
    let queue = match opened.and_then(|opened| Ok(opened?)) {
        Ok(queue) => queue,
        Err(error) => return report.tell("queue", Err(error)),
    };
    let mut redrive = Some(Redrive::Unknown);
    match bounded(queue.look_at()).await {
        Ok(Ok(looked_at)) => {
            redrive = looked_at.max_receive_count.map(Redrive::After);
            tell_queue(config, looked_at, report)?;
        }
        Ok(Err(error)) => report.tell("queue", Err(error.into()))?,
        Err(error) => report.tell("queue", Err(error))?,
    }
    parked(config, &queue, redrive, report).await
}

/// Checks that the configured regions match those in the queues' URLs.
fn regions(config: &Config, report: &CheckReport) -> io::Result<()> {
    let (queue, results) = (&config.queue, &config.results);
    for (key, url, region) in [
        ("queue.url", &queue.url, &queue.region),
        ("queue.parked_url", &queue.parked_url, &queue.region),
        ("results.queue_url", &results.queue_url, &results.region),
        (
            "feedback.queue_url",
            &config.feedback.queue_url,
            &config.feedback.region,
        ),
    ] {
        let address = url.as_deref().and_then(|url| QueueAddress::parse(url).ok());
        let named = address.and_then(|address| address.place().region.clone());
        let (Some(named), Some(region)) = (named, region) else {
            continue;
        };
        if named != *region {
            let section = key.split('.').next().unwrap_or_default();
            let result = format!(
                "{key} is in {named}, and {section}.region says {region}, which is asked: leave region out"
            );
            report.warn(key, result)?;
        }
    }
    Ok(())
}

fn tell_queue(config: &Config, looked_at: LookedAt, report: &CheckReport) -> io::Result<()> {
    let LookedAt {
        waiting,
        max_receive_count,
        received,
    } = looked_at;
    let alone = match config.ledger.kind {
        LedgerKind::Sqlite => "; only this machine may use it, since its ledger is here",
        LedgerKind::S3 => "",
    };
    let result = format!("{}{alone}", waiting_messages(waiting));
    let Some(count) = max_receive_count.filter(|count| *count < config.queue.max_receives) else {
        return report.tell("queue", Ok(result));
    };
    let untried = match received {
        true => "",
        false => ", so whether messages can be received was not tried",
    };
    report.warn(
        "queue",
        format!(
            "{result}; its redrive policy moves a message away after {}{untried}: waiting for a relay or a store counts as receipts too, so let maxReceiveCount be 1000",
            counted(count.into(), "receipt")
        ),
    )
}

/// The redrive policy of the queue.
enum Redrive {
    /// It moves a message away after this many receipts.
    After(u32),
    /// The queue could not be asked.
    Unknown,
}

/// Checks the queue of parked messages, if configured. Only a message would show whether it accepts messages.
async fn parked(
    config: &Config,
    queue: &SqsQueue,
    redrive: Option<Redrive>,
    report: &CheckReport,
) -> io::Result<()> {
    let Some(parked) = queue.parked() else {
        const UNSET: &str = "queue.parked_url is not set";
        const WHAT: &str = "parked messages";
        return match redrive {
            Some(Redrive::After(receipts)) => report.tell(
                WHAT,
                Ok(format!(
                    "{UNSET}: rejected messages are left to the queue's redrive policy, which moves them after {}",
                    counted(receipts.into(), "receipt")
                )),
            ),
            Some(Redrive::Unknown) => report.tell(
                WHAT,
                Ok(format!("{UNSET}: rejected messages are left to the queue's redrive policy")),
            ),
            None => report.warn(
                WHAT,
                format!(
                    "{UNSET} and the queue has no redrive policy: a rejected message stays in the queue until its retention period ends; name a queue for it"
                ),
            ),
        };
    };
    if is_same(&config.queue.parked_url, &config.queue.url) {
        let result = "queue.parked_url is queue.url: a rejected message would be received again without end; name another queue";
        return report.tell("parked messages", Err(result.into()));
    }
    let counted = bounded(parked.count()).await;
    tell_count(
        "parked messages",
        ("is parked", "are parked"),
        counted,
        report,
    )
}

/// Checks the destination of results, if configured.
async fn results(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    let wanted = &config.results;
    if let Some(file) = &wanted.file {
        return report.tell("results", takes_lines(file));
    }
    for (key, other, what) in [
        (
            "queue.url",
            &config.queue.url,
            "each result would be taken for a job",
        ),
        (
            "queue.parked_url",
            &config.queue.parked_url,
            "results would stand among parked messages",
        ),
    ] {
        if is_same(&wanted.queue_url, other) {
            let result = format!("results.queue_url is {key}: {what}; name another queue");
            return report.tell("results", Err(result.into()));
        }
    }
    let opened = bounded(assemble::results(config, environment)).await;
    match opened.and_then(|opened| Ok(opened?)) {
        Ok(Results::Queue { queue, .. }) => {
            let counted = bounded(queue.waiting()).await;
            tell_count("results", ("waits", "wait"), counted, report)
        }
        Ok(Results::Webhook(webhook)) => {
            let subject = webhook.subject();
            match config.results.secret_file {
                Some(_) => report.tell("results", Ok(format!("are posted to {subject}, signed"))),
                None => report.warn(
                    "results",
                    format!("are posted to {subject} without a signature: set results.secret_file"),
                ),
            }
        }
        Ok(Results::File(_) | Results::Off) => Ok(()),
        Err(error) => report.tell("results", Err(error)),
    }
}

/// Whether two URLs name the same queue.
fn is_same(url: &Option<String>, other: &Option<String>) -> bool {
    let address = |url: &Option<String>| QueueAddress::parse(url.as_deref()?).ok();
    address(url).is_some_and(|url| Some(url) == address(other))
}

/// Reports the message count of a send-only queue. The daemon does not need the permission to read it.
fn tell_count(
    what: &str,
    (one, many): (&'static str, &'static str),
    read: Result<Result<u64, QueueError>, BoxError>,
    report: &CheckReport,
) -> io::Result<()> {
    match read {
        Ok(Ok(count)) => {
            let messages = counted(count, "message");
            let they = agreeing(count, one, many);
            report.tell(what, Ok(format!("{messages} {they}")))
        }
        Ok(Err(error)) if error.lacks_permission() => {
            let words = chain(&error);
            report.warn(what, format!("whether the queue accepts messages was not checked: {words}; grant sqs:GetQueueAttributes to check it"))
        }
        Ok(Err(error)) => report.tell(what, Err(error.into())),
        Err(error) => report.tell(what, Err(error)),
    }
}

/// Checks that a line can be appended to the results file, which a job creates if it is missing.
fn takes_lines(file: &Path) -> CheckOutcome {
    let failed = |error: io::Error| format!("{} does not accept lines: {error}", file.display());
    let (parent, name) = directory::split(file).map_err(failed)?;
    let folder = Directory::open(parent).map_err(failed)?;
    match folder.stat(name).map_err(failed)?.is_some() {
        true => folder.append(name, 0o600).map(drop),
        false => folder.scratch().map(drop),
    }
    .map_err(failed)?;
    Ok(format!("are lines of {}", file.display()))
}
