//! The connections: their credentials, the buckets that rules name, and the ledger.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;

use handout::clock;
use handout::config::{Config, Environment, LedgerKind};
use handout::connection::{self, Connections};
use handout::job::Bucket;
use handout::keyring::Keyring;
use handout::tools;

use super::report::{Outcome, Report, bounded};
use super::{deletions, lifetimes, links, publishing};

pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &Report,
) -> io::Result<()> {
    let keyring = match Keyring::open(&config.secret_key_file()) {
        Ok(keyring) => keyring,
        Err(error) => return report.tell("secret", Err(error.into())),
    };
    let looking = async |address| {
        let opened = bounded(connection::open(config, &keyring, address, environment)).await;
        let connections = match opened.and_then(|opened| Ok(opened?)) {
            Ok(connections) => connections,
            Err(error) => return report.tell("connections", Err(error)),
        };
        for (name, connection) in &connections {
            lifetimes::check(config, name, connection, report).await?;
        }
        buckets(config, &connections, report).await?;
        publishing::check(config, &connections, report).await?;
        deletions::check(config, &connections, report).await?;
        links::check(config, &connections, report).await?;
        report
            .look("ledger", ledger(config, &connections, &keyring))
            .await
    };
    with_embedded(config, &keyring, report, looking).await
}

/// Whether the ledger can be kept where it is to be.
async fn ledger(config: &Config, connections: &Connections, keyring: &Keyring) -> Outcome {
    match config.ledger.kind {
        LedgerKind::Sqlite => Ok(format!(
            "in {}: one worker, on this machine",
            config.database_file().display()
        )),
        LedgerKind::S3 => {
            let ledger = tools::s3_ledger(config, connections, keyring, clock::system).await?;
            Ok(format!(
                "{} keeps conditional writes: several workers may share it",
                ledger.place()
            ))
        }
    }
}

/// Whether each bucket that a rule names is there and may be listed.
async fn buckets(config: &Config, connections: &Connections, report: &Report) -> io::Result<()> {
    let named: BTreeSet<(&str, &str)> = config
        .allow
        .iter()
        .map(|rule| (rule.connection.as_str(), rule.bucket.as_str()))
        .collect();
    for (name, bucket) in named {
        let connection = name.parse().ok().and_then(|name| connections.get(&name));
        let (Some(connection), Ok(bucket)) = (connection, bucket.parse::<Bucket>()) else {
            continue;
        };
        let looking = async {
            connection.store.probe(&bucket).await?;
            Ok(format!("can be listed by {name}"))
        };
        report.look(format!("s3://{bucket}"), looking).await?;
    }
    Ok(())
}

#[cfg(feature = "embedded")]
async fn with_embedded<F: Future<Output = io::Result<()>>>(
    config: &Config,
    keyring: &Keyring,
    report: &Report,
    work: impl FnOnce(Option<std::net::SocketAddr>) -> F,
) -> io::Result<()> {
    let endpoint = match tools::start_embedded(config, keyring, tools::Serving::Itself).await {
        Ok(endpoint) => endpoint,
        Err(error) => return report.tell("embedded endpoint", Err(error.into())),
    };
    let worked = work(endpoint.as_ref().map(handout::embedded::Endpoint::address)).await;
    if let Some(endpoint) = endpoint {
        endpoint.shutdown(std::time::Duration::from_secs(1)).await;
    }
    worked
}

#[cfg(not(feature = "embedded"))]
async fn with_embedded<F: Future<Output = io::Result<()>>>(
    _: &Config,
    _: &Keyring,
    _: &Report,
    work: impl FnOnce(Option<std::net::SocketAddr>) -> F,
) -> io::Result<()> {
    work(None).await
}
