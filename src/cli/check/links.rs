//! Checks that links open at the server that they name, if it differs from the server that Handout calls, and tells what links
//! without their own parameters lose.

use std::collections::BTreeSet;
use std::io;

use handout::assemble::connection::WayError;
use handout::clock;
use handout::config::Config;
use handout::job::{Bucket, ConnectionName, Via};
use handout::links::connection::Connections;
use handout::links::link_trial::Obstacle;
use handout::plan::policy::PublishRule;
use handout::render::pages_take;

use super::report::{CheckReport, bounded};

/// What is lost without `x-id` and `x-handout`: two links to one object that are signed in the same second are equal.
const WITHOUT_PARAMETERS: &str = "have no x-handout (link_parameters = false): the store's access log does not tell whose link was opened, and the links of several recipients to one file may be equal, so that `handout audit find --url` names all of them";

/// Opens a link of each connection whose links name another server, for each bucket of the rules.
pub(super) async fn check(
    config: &Config,
    connections: &Connections,
    report: &CheckReport,
) -> io::Result<()> {
    for (name, connection) in &config.connections {
        if connection.link_parameters == Some(false) {
            report.warn(format!("links of {name}"), WITHOUT_PARAMETERS.to_owned())?;
        }
        let origin = connection.public_endpoint_url.as_ref();
        let origin = origin.or(connection.endpoint_url.as_ref());
        let is_linked = config
            .allow
            .iter()
            .any(|rule| rule.connection == *name && rule.via.contains(&Via::S3));
        if let Some(origin) = origin.filter(|origin| is_linked && !pages_take(origin)) {
            let result = format!(
                "begin with {origin}, and mails and pages take links with https alone: set connections.{name}.public_endpoint_url to an address with https, or let the rule say via = [\"portal\"]"
            );
            report.warn(format!("links of {name}"), result)?;
        }
    }
    for (name, bucket) in linked(config) {
        let connection = connections.get(&name);
        let Some(connection) = connection.filter(|it| it.has_public_endpoint()) else {
            continue;
        };
        let what = format!("links s3://{bucket}");
        let tried = bounded(connection.try_links(&bucket, clock::system)).await;
        match tried {
            Ok(Ok(origin)) => report.tell(what, Ok(format!("open at {origin} ({name})")))?,
            Ok(Err(WayError::Obstacle(obstacle))) if may_be_asleep(config, &name, &obstacle) => {
                let result = format!(
                    "{obstacle}; if `handout run` does not serve the directory of {name} now, start it and check again"
                );
                report.warn(what, result)?;
            }
            Ok(Err(error)) => report.tell(what, Err(error.into()))?,
            Err(error) => report.tell(what, Err(error))?,
        }
    }
    Ok(())
}

/// Whether the only problem is that the embedded endpoint is not running: this command serves it on another port.
fn may_be_asleep(config: &Config, name: &ConnectionName, obstacle: &Obstacle) -> bool {
    let connection = config.connections.get(name.as_str());
    let is_embedded = connection.is_some_and(|connection| connection.directory.is_some());
    let is_silent = matches!(
        obstacle,
        Obstacle::NotReachable { .. } | Obstacle::NoStore { .. }
    );
    is_embedded && is_silent
}

/// The buckets that links may point to, by connection.
fn linked(config: &Config) -> BTreeSet<(ConnectionName, Bucket)> {
    let mut linked = BTreeSet::new();
    let Ok(policy) = config.policy() else {
        return linked;
    };
    for rule in policy.rules {
        linked.insert((rule.connection.clone(), rule.bucket));
        for place in rule.publish {
            if let PublishRule::Bucket(bucket, _) = place {
                linked.insert((rule.connection.clone(), bucket));
            }
        }
    }
    linked
}
