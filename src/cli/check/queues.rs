//! The queue of jobs, the queue of parked messages, and where the ends of jobs are told.

use std::io;

use handout::clock;
use handout::config::{Config, Environment, LedgerKind, QueueKind};
use handout::queue::Queue;
use handout::queue::sqs::address::QueueAddress;
use handout::queue::sqs::{LookedAt, SqsQueue};
use handout::tools;

use super::report::{Outcome, Report, bounded};

pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &Report,
) -> io::Result<()> {
    match config.queue.kind {
        QueueKind::Sqlite => report.look("queue", on_this_machine(config)).await,
        QueueKind::Sqs => in_sqs(config, environment, report).await,
    }
}

async fn on_this_machine(config: &Config) -> Outcome {
    let waiting = tools::open_sqlite_queue(config, clock::system)?;
    Ok(format!("{} messages wait", waiting.waiting().await?))
}

async fn in_sqs(config: &Config, environment: &Environment, report: &Report) -> io::Result<()> {
    regions(config, report)?;
    let opened = bounded(tools::sqs_queue(config, environment)).await;
    let queue = match opened.and_then(|opened| Ok(opened?)) {
        Ok(queue) => queue,
        Err(error) => return report.tell("queue", Err(error)),
    };
    match bounded(queue.look_at()).await {
        Ok(Ok(looked_at)) => tell_queue(config, looked_at, report)?,
        Ok(Err(error)) => report.tell("queue", Err(error.into()))?,
        Err(error) => report.tell("queue", Err(error))?,
    }
    parked(config, &queue, report).await
}

/// Whether a region of the configuration is another than the one that a queue's URL names.
fn regions(config: &Config, report: &Report) -> io::Result<()> {
    let (queue, results) = (&config.queue, &config.results);
    for (key, url, region) in [
        ("queue.url", &queue.url, &queue.region),
        ("queue.parked_url", &queue.parked_url, &queue.region),
        ("results.queue_url", &results.queue_url, &results.region),
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

fn tell_queue(config: &Config, looked_at: LookedAt, report: &Report) -> io::Result<()> {
    let LookedAt {
        waiting,
        max_receive_count,
        received,
    } = looked_at;
    let alone = match config.ledger.kind {
        LedgerKind::Sqlite => "; only this machine may work it, since its ledger is here",
        LedgerKind::S3 => "",
    };
    let result = format!("{waiting} messages wait{alone}");
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
            "{result}; its redrive policy moves a message away after {count} receipts{untried}: waiting for a relay or a store counts as receipts too, so let maxReceiveCount be 1000"
        ),
    )
}

/// The queue of parked messages, where one is named. Whether it takes messages only a message would tell.
async fn parked(config: &Config, queue: &SqsQueue, report: &Report) -> io::Result<()> {
    let Some(parked) = queue.parked() else {
        let result = "there is no queue.parked_url: what cannot be done is left to the queue's redrive policy";
        return report.tell("parked messages", Ok(result.to_owned()));
    };
    let address = |url: &Option<String>| QueueAddress::parse(url.as_deref()?).ok();
    if address(&config.queue.parked_url) == address(&config.queue.url) {
        let result = "queue.parked_url is queue.url: a message that cannot be done would come again for ever; name another queue";
        return report.tell("parked messages", Err(result.into()));
    }
    let looking = async { Ok(format!("{} messages are parked", parked.count().await?)) };
    report.look("parked messages", looking).await
}
