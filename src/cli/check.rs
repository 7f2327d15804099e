//! `handout check`: what would not work, before a job finds out.

use std::collections::BTreeSet;
use std::future::Future;
use std::process::ExitCode;

use clap::Args;
use handout::clock;
use handout::config::{Config, Environment, LedgerKind, MailConfig, QueueKind, Secret, Transport};
use handout::connection::{self, Connections};
use handout::deliver::Relays;
use handout::deliver::message::dkim::Signer;
use handout::directory::Directory;
use handout::error::chain;
use handout::job::Bucket;
use handout::job::envelope;
use handout::keyring::Keyring;
use handout::plan::CredentialsEnd;
use handout::progress::Progress;
use handout::quantity::Span;
use handout::render::Templates;
use handout::tools;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;

use super::{ConfigArgs, exit, say, say_json};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Prints the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// What was looked at, and what came of it.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    /// Whether the operator should look at it although everything works.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warning: bool,
    result: String,
}

type Findings = Vec<Finding>;
type Outcome = Result<String, Box<dyn std::error::Error + Send + Sync>>;

/// Looks at everything; exit 1 if anything would not work.
pub(super) async fn check(
    arguments: &CheckArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load(environment)?;
    let mut findings = vec![found("configuration", Ok("can be read".to_owned()))];
    findings.push(found("templates", templates(&config)));
    findings.push(found("state directory", state_dir(&config)));
    findings.push(secret_files(&config, environment));
    findings.push(found("allow rules", allow_rules(&config)));
    findings.extend(event_rules(&config));
    findings.extend(connections(&config, environment).await);
    findings.push(found("queue", queue(&config, environment).await));
    findings.extend(mail(&config, environment).await);
    findings.extend(signatures(&config, environment));
    report(&findings, arguments.json)?;
    Ok(if findings.iter().all(|finding| finding.ok) {
        ExitCode::SUCCESS
    } else {
        exit::FOUND.into()
    })
}

fn found(what: impl Into<String>, outcome: Outcome) -> Finding {
    match outcome {
        Ok(result) => Finding {
            what: what.into(),
            ok: true,
            warning: false,
            result,
        },
        Err(error) => Finding {
            what: what.into(),
            ok: false,
            warning: false,
            result: chain(&*error),
        },
    }
}

fn report(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(say_json(&json!({ "findings": findings }))?);
    }
    let width = findings
        .iter()
        .map(|finding| finding.what.len())
        .max()
        .unwrap_or_default();
    for finding in findings {
        let Finding { what, result, .. } = finding;
        let verdict = match (finding.ok, finding.warning) {
            (false, _) => "FAIL",
            (true, true) => "warn",
            (true, false) => "ok  ",
        };
        say(format_args!("{verdict}  {what:width$}  {result}"))?;
    }
    Ok(())
}

fn templates(config: &Config) -> Outcome {
    use handout::plan::Installed;
    let templates = Templates::load(config.templates.dir.as_deref())?;
    Ok(format!(
        "mails: {}; pages: {}",
        templates.emails().join(", "),
        templates.galleries().join(", ")
    ))
}

fn state_dir(config: &Config) -> Outcome {
    let dir = &config.state_dir;
    let explain = |error: std::io::Error| format!("{} cannot be written: {error}", dir.display());
    let scratch = Directory::private(dir).and_then(|directory| directory.scratch());
    scratch.map_err(explain)?;
    Keyring::open(&config.secret_key_file())?;
    Ok(format!("{} can be written", dir.display()))
}

/// Whether users of this machine can read secrets that have nothing to do with the service. A group's right to read is the
/// operator's: Kubernetes mounts secrets for a group (fsGroup), and a group may have the service alone in it.
fn secret_files(config: &Config, environment: &Environment) -> Finding {
    use std::os::unix::fs::PermissionsExt;
    let mut count = 0;
    let mut open = Vec::new();
    for (key, file) in config.secret_files() {
        let path = Secret::place(&file, environment);
        // One that is missing is told by what needs it.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        count += 1;
        if metadata.permissions().mode() & 0o004 != 0 {
            open.push(format!("{} ({key})", path.display()));
        }
    }
    let warning = !open.is_empty();
    let result = match warning {
        false => format!("{count} files, none readable by every user"),
        true => format!(
            "every user of this machine can read {}: take the right away with `chmod o-rwx`",
            open.join(", ")
        ),
    };
    Finding {
        what: "secret files".to_owned(),
        ok: true,
        warning,
        result,
    }
}

fn allow_rules(config: &Config) -> Outcome {
    let policy = config.policy()?;
    match policy.rules.len() {
        0 => Err("there is no [[allow]] rule: every job will be refused".into()),
        1 => Ok("1 rule".to_owned()),
        count => Ok(format!("{count} rules")),
    }
}

/// Each rule's job file is made into a job with a made-up event, so that a mistake in it shows now.
fn event_rules(config: &Config) -> Findings {
    let rules = match config.event_rules() {
        Ok(rules) => rules,
        Err(error) => return vec![found("event rules", Err(error.into()))],
    };
    let check = |(index, rule): (usize, &envelope::EventRule)| {
        let event = json!({
            "source": "aws.s3", "detail-type": "Object Created", "time": "2026-01-01T00:00:00Z",
            "detail": { "bucket": { "name": rule.bucket }, "object": { "key": "sample.pdf", "sequencer": "1" } },
        });
        let any_key = globset::Glob::new("**")
            .expect("the pattern is one")
            .compile_matcher();
        let rule = envelope::EventRule {
            key: any_key,
            ..rule.clone()
        };
        let made = envelope::open(&event.to_string(), &[rule]);
        found(
            format!("on_event[{index}]"),
            made.map(|_| "makes a job".to_owned()).map_err(Into::into),
        )
    };
    rules.iter().enumerate().map(check).collect()
}

async fn connections(config: &Config, environment: &Environment) -> Findings {
    let keyring = match Keyring::open(&config.secret_key_file()) {
        Ok(keyring) => keyring,
        Err(error) => return vec![found("secret", Err(error.into()))],
    };
    with_embedded(config, &keyring, async |address| {
        match connection::open(config, &keyring, address, environment).await {
            Ok(connections) => {
                let mut findings = lifetimes(&connections).await;
                findings.extend(buckets(config, &connections).await);
                findings.push(found(
                    "ledger",
                    ledger(config, &connections, &keyring).await,
                ));
                findings
            }
            Err(error) => vec![found("connections", Err(error.into()))],
        }
    })
    .await
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

/// How long a link of each connection can really live, which is how long its credentials do.
async fn lifetimes(connections: &Connections) -> Findings {
    let now = clock::system();
    let week = now
        .checked_add(SignedDuration::from_hours(7 * 24))
        .unwrap_or(Timestamp::MAX);
    let mut findings = Findings::new();
    for (name, connection) in connections {
        let outcome = match connection.signer.credentials_end(week).await {
            Err(error) => Err(error.into()),
            Ok(end) => how_long(end, now),
        };
        findings.push(found(format!("connections.{name}"), outcome));
        if let Some(front) = &connection.front {
            let (signer, origin) = (&front.signer, front.distribution.origin());
            let result = format!(
                "links to {origin} are signed with key {} ({}) and can live until 2038; whether a key group has that key, only a link will tell",
                signer.key_pair_id(),
                signer.kind()
            );
            findings.push(found(format!("connections.{name}.cloudfront"), Ok(result)));
        }
    }
    findings
}

fn how_long(end: CredentialsEnd, now: Timestamp) -> Outcome {
    match end {
        CredentialsEnd::Never => Ok("links can live for 7d: the credentials do not end".to_owned()),
        CredentialsEnd::At(end) => {
            let left = u64::try_from(end.duration_since(now).as_secs()).unwrap_or_default();
            let left = Span::minutes(left / 60);
            Ok(format!("links can live for {left} at the most: the credentials end at {end}"))
        }
        CredentialsEnd::Unknown => {
            Err("the credentials are a session's and do not say when they end: set AWS_CREDENTIAL_EXPIRATION, or use a profile, a role or a long-term key".into())
        }
    }
}

/// Whether each bucket that a rule names is there and may be listed.
async fn buckets(config: &Config, connections: &Connections) -> Findings {
    let named: BTreeSet<(&str, &str)> = config
        .allow
        .iter()
        .map(|rule| (rule.connection.as_str(), rule.bucket.as_str()))
        .collect();
    let mut findings = Findings::new();
    for (name, bucket) in named {
        let connection = name.parse().ok().and_then(|name| connections.get(&name));
        let (Some(connection), Ok(bucket)) = (connection, bucket.parse::<Bucket>()) else {
            continue;
        };
        let listed = connection.store.probe(&bucket).await;
        findings.push(found(
            format!("s3://{bucket}"),
            listed
                .map(|()| format!("can be listed by {name}"))
                .map_err(Into::into),
        ));
    }
    findings
}

#[cfg(feature = "embedded")]
async fn with_embedded<F: Future<Output = Findings>>(
    config: &Config,
    keyring: &Keyring,
    work: impl FnOnce(Option<std::net::SocketAddr>) -> F,
) -> Findings {
    match tools::start_embedded(config, keyring, tools::Serving::Itself).await {
        Ok(endpoint) => {
            let findings = work(endpoint.as_ref().map(handout::embedded::Endpoint::address)).await;
            if let Some(endpoint) = endpoint {
                endpoint.shutdown(std::time::Duration::from_secs(1)).await;
            }
            findings
        }
        Err(error) => vec![found("embedded endpoint", Err(error.into()))],
    }
}

#[cfg(not(feature = "embedded"))]
async fn with_embedded<F: Future<Output = Findings>>(
    _: &Config,
    _: &Keyring,
    work: impl FnOnce(Option<std::net::SocketAddr>) -> F,
) -> Findings {
    work(None).await
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

/// Whether each relay can be used.
async fn mail(config: &Config, environment: &Environment) -> Findings {
    if config.mail.transport == Transport::Outbox {
        let dir = config.outbox_dir();
        let result = format!("nothing is sent: mails go to {}", dir.display());
        return vec![found("mail", Ok(result))];
    }
    let progress = Progress::default();
    let relays = match Relays::new(&config.mail, environment, &progress, clock::system) {
        Ok(relays) => relays,
        Err(error) => return vec![found("mail", Err(error.into()))],
    };
    let probes = relays.iter().map(|(name, relay)| async move {
        let outcome = relay.probe().await;
        let outcome = outcome.map(|()| format!("{} can be used", relay.place()));
        found(MailConfig::section_of(name), outcome.map_err(Into::into))
    });
    futures_util::future::join_all(probes).await
}

/// Whether the keys of DKIM can be read, and what the DNS must say of them. The DNS itself is not asked.
fn signatures(config: &Config, environment: &Environment) -> Findings {
    let signers = match config.dkim_signers(environment) {
        Ok(signers) => signers,
        Err(error) => return vec![found("mail.dkim", Err(error.into()))],
    };
    if signers.is_empty() && config.mail.list.unsubscribe_url.is_some() {
        let result = "nothing is signed here: unsubscribing by one click counts only if the relay signs, List-Unsubscribe and List-Unsubscribe-Post included (RFC 8058)";
        return vec![found("mail.dkim", Ok(result.to_owned()))];
    }
    let publish = |(index, signer): (usize, &Signer)| {
        let (name, record) = (signer.record_name(), signer.record());
        found(
            format!("mail.dkim[{index}]"),
            Ok(format!("publish: {name}. IN TXT {record}")),
        )
    };
    signers.iter().enumerate().map(publish).collect()
}
