//! The queue of jobs.

use std::io;

use handout::clock;
use handout::config::{Config, Environment, LedgerKind, QueueKind};
use handout::tools;

use super::report::{Outcome, Report};

pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &Report,
) -> io::Result<()> {
    report.look("queue", queue(config, environment)).await
}

async fn queue(config: &Config, environment: &Environment) -> Outcome {
    let waiting = tools::open_queue(config, environment, clock::system)
        .await?
        .waiting()
        .await?;
    let alone = match (config.queue.kind, config.ledger.kind) {
        (QueueKind::Sqs, LedgerKind::Sqlite) => {
            "; only this machine may work it, since its ledger is here"
        }
        (QueueKind::Sqs, LedgerKind::S3) | (QueueKind::Sqlite, _) => "",
    };
    let parked = match (config.queue.kind, &config.queue.parked_url) {
        (QueueKind::Sqs, None) => {
            "; no parked_url: what cannot be done is left to the redrive policy"
        }
        (QueueKind::Sqs, Some(_)) | (QueueKind::Sqlite, _) => "",
    };
    Ok(format!("{waiting} messages wait{alone}{parked}"))
}
