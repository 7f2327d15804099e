//! `handout revoke standing-deny`: the statement that makes the tag of an object revoke its links.

use std::process::ExitCode;

use clap::Args;
use handout::config::{Config, ConnectionConfig};
use handout::environment::Environment;
use handout::job::Bucket;

use super::super::terminal::complain;
use super::super::{ConfigArgs, say_json};
use super::means::StoreKind;
use super::policy::{self, Arns};

#[derive(Debug, Args)]
#[command(after_help = "\
The statement goes into the policy of the bucket once, before a link leaks; `handout revoke … --apply` then needs s3:GetObjectTagging and s3:PutObjectTagging on the objects, and no change of the policy. MinIO does not ask a bucket's policy about signed requests, and no policy binds its root user: there, --policy prints a policy for the user that signs.

Examples:
  handout revoke standing-deny s3://acme-reports > deny.json
  handout revoke standing-deny s3://acme-reports --policy > policy.json     for a bucket without a policy")]
pub(crate) struct StandingArgs {
    /// The bucket.
    #[arg(value_name = "s3://BUCKET", value_parser = bucket)]
    bucket: Bucket,
    /// The connection of the bucket [default: that of the first [[allow]] rule for it]
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// Prints a whole policy instead of its statement.
    #[arg(long)]
    policy: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

fn bucket(place: &str) -> Result<Bucket, String> {
    let name = place
        .strip_prefix("s3://")
        .map(|name| name.trim_end_matches('/'));
    let name = name.ok_or("it is not of the form s3://BUCKET")?;
    name.parse().map_err(|error| format!("{error}"))
}

/// The connection that signs links to a bucket.
fn connection_of<'a>(bucket: &Bucket, config: &'a Config) -> Option<&'a ConnectionConfig> {
    let mut rules = config.allow.iter();
    let rule = rules.find(|rule| rule.bucket == bucket.as_str());
    rule.and_then(|rule| config.connections.get(&rule.connection))
}

/// Prints the statement.
pub(super) fn print(
    arguments: &StandingArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load(environment)?;
    let bucket = &arguments.bucket;
    let connection = match &arguments.connection {
        Some(name) => Some(config.connection(name)?),
        None => connection_of(bucket, &config),
    };
    let mut statement = policy::standing_deny(&Arns::of(connection, None), bucket.as_str());
    match StoreKind::of(connection) {
        StoreKind::Aws => {}
        StoreKind::Embedded => complain(
            "the embedded endpoint denies objects with the tag by itself, and has no policies: nothing is to be done",
        ),
        StoreKind::Other => {
            // The policy of a user has no principal.
            if let Some(fields) = statement.as_object_mut() {
                fields.remove("Principal");
            }
            complain(
                "this store is not AWS: the statement is for the policy of the user that signs, as MinIO wants it",
            );
        }
    }
    match arguments.policy {
        true => say_json(&policy::document(&[statement]))?,
        false => say_json(&statement)?,
    }
    Ok(ExitCode::SUCCESS)
}
