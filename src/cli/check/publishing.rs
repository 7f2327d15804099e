//! Checks where pages and manifests may be published: buckets and directories.

use std::collections::BTreeSet;
use std::io;

use handout::config::Config;
use handout::job::{Bucket, ConnectionName};
use handout::links::connection::Connections;
use handout::plan::PublishTarget;
use handout::plan::policy::PublishRule;
use handout::store::s3::WriteTrial;

use super::local::can_be_written;
use super::report::{CheckOutcome, CheckReport};

/// Checks each place once, whichever rules name it. Errors in the rules themselves are reported elsewhere.
pub(super) async fn check(
    config: &Config,
    connections: &Connections,
    report: &CheckReport,
) -> io::Result<()> {
    let Ok(policy) = config.policy() else {
        return Ok(());
    };
    let mut seen = BTreeSet::new();
    for rule in &policy.rules {
        let default = policy.default_publish.iter().filter_map(as_rule);
        let mut places: Vec<PublishRule> = rule.publish.clone();
        if rule.publish.iter().all(|place| place.bucket().is_none()) {
            places.extend(default);
        }
        for place in &places {
            match place {
                PublishRule::Dir(dir) => {
                    let what = format!("dir:{}", dir.display());
                    if seen.insert(what.clone()) {
                        report.tell(what, can_be_written(&dir.into()))?;
                    }
                }
                PublishRule::Bucket(bucket, prefix) => {
                    let what = format!("publish s3://{bucket}/{prefix}");
                    if seen.insert(format!("{what} {}", rule.connection)) {
                        let looking = takes(connections, &rule.connection, bucket, prefix);
                        report.look(what, looking).await?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// The default place for pages of a rule without one, as if the rule named it.
fn as_rule(place: &PublishTarget) -> Option<PublishRule> {
    match place {
        PublishTarget::Bucket(bucket, prefix) => {
            Some(PublishRule::Bucket(bucket.clone(), prefix.to_string()))
        }
        PublishTarget::Dir { .. } => None,
    }
}

/// Checks whether an object may be put there, without putting one.
async fn takes(
    connections: &Connections,
    name: &ConnectionName,
    bucket: &Bucket,
    prefix: &str,
) -> CheckOutcome {
    let connection = connections
        .get(name)
        .ok_or_else(|| format!("unknown connection {name}"))?;
    Ok(match connection.s3.try_put(bucket, prefix).await? {
        WriteTrial::Taken => format!("takes what {name} publishes"),
        WriteTrial::Left(key) => format!(
            "takes what {name} publishes; the server ignores If-Match and Content-MD5, so this check left s3://{bucket}/{key} there: remove it"
        ),
    })
}
