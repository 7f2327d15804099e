//! Checks the connections: their credentials, the buckets of the rules, and the ledger.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;

use handout::assemble;
use handout::assemble::OpenError;
use handout::assemble::connection;
use handout::clock;
use handout::config::{Config, LedgerKind};
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::links::connection::{Connection, Connections};
use handout::links::order;
use handout::plan::AllowRule;
use handout::store::{Cursor, ErrorKind, ObjectMeta, ObjectStore, Storage, Versions};
use handout::text::chain;

use super::report::{BoxError, CheckOutcome, CheckReport, bounded};
use super::{archive, deletions, lifetimes, links, publishing};

pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
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
        payloads(config, &connections, report).await?;
        archive::check(config, &connections, report).await?;
        report
            .look("ledger", ledger(config, &connections, &keyring))
            .await
    };
    with_embedded(config, &keyring, report, looking).await
}

/// Checks that the ledger's place is usable.
async fn ledger(config: &Config, connections: &Connections, keyring: &Keyring) -> CheckOutcome {
    match config.ledger.kind {
        LedgerKind::Sqlite => {
            match assemble::open_sqlite_ledger(config, clock::system) {
                Ok(_) | Err(OpenError::NoLedger { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(format!(
                "in {}: one worker, on this machine",
                config.database_file().display()
            ))
        }
        LedgerKind::S3 => {
            let ledger = assemble::s3_ledger(config, connections, keyring, clock::system).await?;
            Ok(format!(
                "{} supports conditional writes: several workers may share it",
                ledger.place()
            ))
        }
    }
}

/// Checks that the buckets with the bodies of long messages are there.
async fn payloads(
    config: &Config,
    connections: &Connections,
    report: &CheckReport,
) -> io::Result<()> {
    let Ok((Some(name), buckets)) = config.payloads() else {
        return Ok(());
    };
    let Some(connection) = connections.get(&name) else {
        return Ok(());
    };
    for bucket in &buckets {
        let what = format!("payloads s3://{bucket}");
        match bounded(connection.s3.probe(bucket, "")).await {
            Ok(Ok(())) => {
                let result = format!("{name} reads the bodies of long messages there");
                report.tell(what, Ok(result))?;
            }
            Ok(Err(error)) if error.fact == ErrorKind::Denied => report.warn(
                what,
                format!(
                    "{name} may not ask about the bucket, so it was not tried whether it reads objects there, which takes s3:GetObject: {}",
                    chain(&error)
                ),
            )?,
            Ok(Err(error)) => report.tell(what, Err(error.into()))?,
            Err(error) => report.tell(what, Err(error))?,
        }
    }
    Ok(())
}

/// Checks that each prefix of a rule can be listed and read: a link has the permissions of its signer.
async fn buckets(
    config: &Config,
    connections: &Connections,
    report: &CheckReport,
) -> io::Result<()> {
    let Ok(policy) = config.policy() else {
        return Ok(());
    };
    let versions = match config.links.pin_version {
        true => Versions::Pinned,
        false => Versions::Floating,
    };
    let mut seen = BTreeSet::new();
    for rule in &policy.rules {
        let Some(connection) = connections.get(&rule.connection) else {
            continue;
        };
        let place = format!("s3://{}/{}", rule.bucket, rule.prefix);
        if !seen.insert((&rule.connection, place.clone())) {
            continue;
        }
        let what = place.trim_end_matches('/').to_owned();
        let verdict = match bounded(hands_out(connection, rule, versions)).await {
            Ok(verdict) => verdict,
            Err(error) => ConnectionVerdict::Fails(error),
        };
        match verdict {
            ConnectionVerdict::Works(result) => report.tell(what, Ok(result))?,
            ConnectionVerdict::Warns(result) => report.warn(what, result)?,
            ConnectionVerdict::Fails(error) => report.tell(what, Err(error))?,
        }
    }
    Ok(())
}

/// How many objects of a place are tried.
const MAX_TRIED: usize = 5;

/// The result for a place from which files are handed out.
enum ConnectionVerdict {
    Works(String),
    Warns(String),
    Fails(BoxError),
}

/// Lists the place as a job does, and reads a byte of the first non-empty object.
async fn hands_out(
    connection: &Connection,
    rule: &AllowRule,
    versions: Versions,
) -> ConnectionVerdict {
    let (bucket, name) = (&rule.bucket, &rule.connection);
    let listed = connection
        .s3
        .list(bucket, rule.prefix.as_str(), versions, Cursor::Start);
    let page = match listed.await {
        Ok(page) => page,
        Err(error) => return ConnectionVerdict::Fails(error.into()),
    };
    let store = &connection.s3;
    let is_in_order = match page.out_of_order() {
        Some(_) => Ok(false),
        None => order::is_of_bytes(store, bucket, rule.prefix.as_str(), &page.objects).await,
    };
    let is_in_order = match is_in_order {
        Ok(is_in_order) => is_in_order,
        Err(error) => return ConnectionVerdict::Fails(error.into()),
    };
    let listed = page.objects;
    let order = match is_in_order {
        true => "",
        false => {
            "; it does not list in the order of the keys' bytes, or does not show it, so that a job lists its whole prefix and sorts it"
        }
    };
    let is_readable =
        |object: &&ObjectMeta| object.size_bytes > 0 && object.storage == Storage::Ready;
    // An object whose links were revoked by its tag is denied, and the next is not.
    let mut denied = None;
    for object in listed.iter().filter(is_readable).take(MAX_TRIED) {
        match connection.s3.beginning(bucket, object, 1).await {
            Ok(_) => {
                let but = denied.map_or_else(String::new, |(denied, _): (&ObjectMeta, _)| {
                    format!(
                        ", but not s3://{bucket}/{}: its links are revoked, or a policy denies it",
                        denied.key
                    )
                });
                return ConnectionVerdict::Works(format!(
                    "can be listed and read by {name}{but}{order}"
                ));
            }
            Err(error) if error.fact == ErrorKind::Denied => {
                denied.get_or_insert((object, error));
            }
            Err(error) => {
                denied = Some((object, error));
                break;
            }
        }
    }
    let Some((object, error)) = denied else {
        let result = format!("can be listed by {name}; no object is there to try reading{order}");
        return ConnectionVerdict::Works(result);
    };
    let told = format!(
        "can be listed by {name}, and s3://{bucket}/{} cannot be read",
        object.key
    );
    let words = chain(&error);
    match error.fact {
        // CloudFront links open with the distribution's permissions.
        ErrorKind::Denied if connection.distribution.is_none() => {
            ConnectionVerdict::Fails(format!("{told}, so links to it open nothing: {words}").into())
        }
        _ => ConnectionVerdict::Warns(format!("{told}: {words}")),
    }
}

#[cfg(feature = "embedded")]
async fn with_embedded<F: Future<Output = io::Result<()>>>(
    config: &Config,
    keyring: &Keyring,
    report: &CheckReport,
    work: impl FnOnce(Option<std::net::SocketAddr>) -> F,
) -> io::Result<()> {
    let endpoint = match assemble::start_embedded(config, keyring, assemble::Serving::Itself).await
    {
        Ok(endpoint) => endpoint,
        Err(error) => return report.tell("embedded endpoint", Err(error.into())),
    };
    let worked = work(endpoint.as_ref().map(localstore::Endpoint::address)).await;
    if let Some(endpoint) = endpoint {
        endpoint.shutdown(std::time::Duration::from_secs(1)).await;
    }
    worked
}

#[cfg(not(feature = "embedded"))]
async fn with_embedded<F: Future<Output = io::Result<()>>>(
    _: &Config,
    _: &Keyring,
    _: &CheckReport,
    work: impl FnOnce(Option<std::net::SocketAddr>) -> F,
) -> io::Result<()> {
    work(None).await
}
