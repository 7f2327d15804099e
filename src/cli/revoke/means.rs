//! The means that revoke links: how far each reaches, the policies, and the commands for what this command does not do itself.

use handout::config::{Config, ConnectionConfig, RevokeMeans};
use handout::store::s3::REVOKED_TAG;
use handout::text::shell_word;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::aws;
use super::plan::{AnsweredBy, LinkGroup, OtherLinks, Radius};
use super::policy::{self, Arns};

/// The longest statement that is put into a bucket policy, in bytes: S3 takes policies of 20 KB.
const MAX_STATEMENT: usize = 16_000;

/// A means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Means {
    /// A record in the ledger of the portal.
    Ledger,
    /// The tag `handout-revoked=true` of objects, where the bucket's policy denies them.
    Tag,
    /// A statement of the bucket's policy about the session of one job.
    DenySession,
    /// A statement about presigned requests for some keys, or for a prefix.
    DenyKeys,
    /// A statement about all sessions of the role that began before now.
    DenyOlderSessions,
    /// The key is made inactive.
    DeactivateKey,
    /// A statement about presigned requests that were signed long ago.
    DenyAge,
    /// The ids of links in a key value store that a CloudFront function reads.
    KeyValueStore,
    /// The public key is taken out of the key group.
    KeyGroup,
}

/// A means for a group of links.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct MeansPlan {
    pub(super) means: Means,
    /// What else dies.
    pub(super) others: OtherLinks,
    /// How soon it has an effect.
    pub(super) effect: &'static str,
    /// Whether the configuration lets this command apply it.
    pub(super) allowed: bool,
    /// The statement of a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) statement: Option<Value>,
    /// Commands for a shell that apply it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) commands: Vec<String>,
    /// What to know before it is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<&'static str>,
}

/// What a store understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreKind {
    /// S3 of AWS.
    Aws,
    /// The embedded endpoint.
    Embedded,
    /// Another server.
    Other,
}

impl StoreKind {
    pub(super) fn of(connection: Option<&ConnectionConfig>) -> Self {
        match connection {
            Some(wanted) if wanted.directory.is_some() => Self::Embedded,
            Some(wanted) if wanted.endpoint_url.as_deref().is_some_and(is_elsewhere) => Self::Other,
            Some(_) | None => Self::Aws,
        }
    }
}

fn is_elsewhere(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or(url);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    presign::partition::before_suffix(host).is_none() && !host.ends_with(".api.aws")
}

/// The means for a group, the smallest first.
pub(super) fn means_of(
    group: &LinkGroup,
    radius: Radius,
    config: &Config,
    now: Timestamp,
) -> Vec<MeansPlan> {
    let connection = config.connections.get(&group.key.connection);
    let mut means = match group.key.answered_by {
        AnsweredBy::Portal => vec![MeansPlan {
            allowed: config.revoke.allows(RevokeMeans::Ledger),
            ..MeansPlan::new(Means::Ledger, OtherLinks::default(), "within a second")
        }],
        AnsweredBy::CloudFront => of_cloudfront(group, radius, connection),
        AnsweredBy::S3 => {
            let arns = Arns::of(connection, group.key.role.as_deref());
            let kind = StoreKind::of(connection);
            of_s3(group, radius, (connection, kind, &arns), config, now)
        }
    };
    // The sort is stable: of two that kill as much, the quicker stands first.
    means.sort_by_key(|means| means.others.links);
    means
}

fn of_s3(
    group: &LinkGroup,
    radius: Radius,
    (connection, kind, arns): (Option<&ConnectionConfig>, StoreKind, &Arns),
    config: &Config,
    now: Timestamp,
) -> Vec<MeansPlan> {
    let (key, reach) = (&group.key, &group.reach);
    let bucket = key.bucket.as_str();
    let mut means = Vec::new();
    if !reach.is_cut && reach.prefixes.is_empty() {
        let allowed = config.revoke.allows(RevokeMeans::Tag);
        means.push(MeansPlan {
            allowed,
            commands: match kind {
                // No command of a shell reaches the endpoint of this process as simply as --apply.
                StoreKind::Embedded => Vec::new(),
                StoreKind::Aws | StoreKind::Other => tag_commands(group, &aws_cli(connection)),
            },
            note: match kind {
                StoreKind::Aws => Some(
                    "the bucket's policy must have the standing Deny: handout revoke standing-deny",
                ),
                // Where it is allowed, --apply alone is named.
                StoreKind::Embedded if allowed => None,
                StoreKind::Embedded => Some(
                    "--apply does it, if the configuration has [revoke] apply = [\"ledger\", \"tag\"]",
                ),
                StoreKind::Other => Some(
                    "with MinIO the standing Deny belongs into the policy of the user that signs; a bucket policy has no effect on signed requests there, and no policy has one on the root user",
                ),
            },
            ..MeansPlan::new(Means::Tag, radius.tag, "at the next request")
        });
    }
    if kind == StoreKind::Other {
        means.push(MeansPlan {
            commands: vec![format!(
                "mc admin user svcacct disable -- ALIAS {}",
                shell_word(&key.signer)
            )],
            note: Some("for MinIO, a service account; a user: mc admin user disable"),
            ..MeansPlan::new(Means::DeactivateKey, radius.signer, "at the next request")
        });
        return means;
    }
    if kind != StoreKind::Aws {
        return means;
    }
    if let (Some(session), Some(role)) = (&key.session, &key.role) {
        let statement = policy::deny_session(arns, bucket, role, session, now);
        means.push(MeansPlan::of_bucket(
            Means::DenySession,
            radius.session,
            bucket,
            statement,
        ));
    }
    let statement = policy::deny_keys(arns, bucket, reach, now);
    if statement.to_string().len() <= MAX_STATEMENT {
        means.push(MeansPlan::of_bucket(
            Means::DenyKeys,
            radius.keys,
            bucket,
            statement,
        ));
    }
    if let Some(role) = &key.role {
        let statement = policy::deny_older_sessions(now);
        means.push(MeansPlan {
            commands: vec![policy::role_command(role, &statement)],
            statement: Some(statement),
            note: Some("running jobs sign with a new session after their present one"),
            ..MeansPlan::new(Means::DenyOlderSessions, radius.role, "within minutes")
        });
    } else if key.signer.starts_with("AKIA") {
        means.push(MeansPlan {
            commands: vec![policy::key_command(&key.signer)],
            note: Some("give the connection a second key first: the daemon signs with this one"),
            ..MeansPlan::new(Means::DeactivateKey, radius.signer, "within minutes")
        });
    }
    let statement = policy::deny_age(arns, bucket, now);
    means.push(MeansPlan {
        note: Some("presigned links to the bucket then end ten minutes after they are signed, until the statement is removed"),
        ..MeansPlan::of_bucket(Means::DenyAge, radius.bucket, bucket, statement)
    });
    means
}

fn of_cloudfront(
    group: &LinkGroup,
    radius: Radius,
    connection: Option<&ConnectionConfig>,
) -> Vec<MeansPlan> {
    let front = connection.and_then(|connection| connection.cloudfront.as_ref());
    let mut means = Vec::new();
    // With a wildcard, the holder of a link can change its id.
    let store = front.filter(|front| !front.wildcard && !group.reach.are_ids_cut);
    if let Some(arn) = store.and_then(|front| front.key_value_store.as_deref()) {
        means.push(MeansPlan {
            commands: policy::key_value_commands(arn, &group.reach.link_ids),
            note: Some("the distribution must have the function of docs/links/leaked.md; the API signs with SigV4A, which the AWS CLI does"),
            ..MeansPlan::new(
                Means::KeyValueStore,
                OtherLinks::default(),
                "within seconds",
            )
        });
    }
    means.push(MeansPlan {
        commands: policy::key_group_commands(&group.key.signer),
        note: Some("put another key into the group and into the connection first"),
        ..MeansPlan::new(Means::KeyGroup, radius.signer, "within minutes")
    });
    means
}

/// The command of AWS for the server of a connection.
fn aws_cli(connection: Option<&ConnectionConfig>) -> String {
    let mut command = "aws".to_owned();
    let Some(connection) = connection else {
        return command;
    };
    let ca_file = connection.ca_file.as_ref().and_then(|path| path.to_str());
    for (option, value) in [
        ("--endpoint-url", connection.endpoint_url.as_deref()),
        ("--region", connection.region.as_deref()),
        ("--profile", connection.profile.as_deref()),
        ("--ca-bundle", ca_file),
    ] {
        if let Some(value) = value {
            command.push(' ');
            command.push_str(&aws::option(option, value));
        }
    }
    command
}

fn tag_commands(group: &LinkGroup, aws: &str) -> Vec<String> {
    let versions = group.reach.keys.iter().flat_map(|(key, versions)| {
        let of = |version: &Option<String>| (key.clone(), version.clone());
        versions.iter().map(of).collect::<Vec<_>>()
    });
    let commands = versions.map(|(key, version)| {
        policy::tag_command(
            aws,
            &group.key.bucket,
            &key,
            version.as_deref(),
            REVOKED_TAG,
        )
    });
    commands.collect()
}

impl MeansPlan {
    fn new(means: Means, others: OtherLinks, effect: &'static str) -> Self {
        Self {
            means,
            others,
            effect,
            allowed: false,
            statement: None,
            commands: Vec::new(),
            note: None,
        }
    }

    fn of_bucket(means: Means, others: OtherLinks, bucket: &str, statement: Value) -> Self {
        Self {
            commands: policy::bucket_commands(bucket, &statement),
            statement: Some(statement),
            ..Self::new(means, others, "within minutes")
        }
    }

    /// What it does, for people.
    pub(super) fn sentence(&self, group: &LinkGroup) -> String {
        let key = &group.key;
        match self.means {
            Means::Ledger => "a record in the ledger".to_owned(),
            Means::Tag => {
                let (name, value) = REVOKED_TAG;
                let count = group.reach.keys.len();
                let objects = match (count, group.reach.keys.keys().next()) {
                    (1, Some(only)) => format!("s3://{}/{only}", key.bucket),
                    _ => format!("{count} objects of s3://{}", key.bucket),
                };
                format!("the tag {name}={value} of {objects}")
            }
            Means::DenySession => format!(
                "a Deny of the session {} in the policy of the bucket {}",
                key.session.as_deref().unwrap_or_default(),
                key.bucket
            ),
            Means::DenyKeys => {
                let objects = match group.reach.are_named() {
                    true => "these objects".to_owned(),
                    false => format!(
                        "all objects that begin with {:?}",
                        group.reach.common.as_deref().unwrap_or_default()
                    ),
                };
                format!(
                    "a Deny of presigned requests for {objects} in the policy of the bucket {}",
                    key.bucket
                )
            }
            Means::DenyOlderSessions => format!(
                "a Deny of older sessions in a policy of the role {}",
                key.role.as_deref().map_or("", policy::role_name)
            ),
            Means::DeactivateKey => format!("the key {} made inactive", key.signer),
            Means::DenyAge => format!(
                "a Deny of signatures older than ten minutes in the policy of the bucket {}",
                key.bucket
            ),
            Means::KeyValueStore => "the ids of the links in the key value store".to_owned(),
            Means::KeyGroup => {
                format!("the public key {} taken out of its key group", key.signer)
            }
        }
    }
}
