//! Checks whether a bucket's lifecycle deletes files before their links expire.

use std::io;

use handout::clock;
use handout::config::Config;
use handout::links::connection::Connections;
use handout::plan::AllowRule;
use handout::quantity::Span;
use handout::store::s3::{Deleted, Deletion};
use jiff::Timestamp;

use super::report::{CheckReport, bounded};

/// Checks the bucket of each rule if its lifecycle configuration is readable. Most servers have none, and most policies deny
/// reading it, so that is not a finding.
pub(super) async fn check(
    config: &Config,
    connections: &Connections,
    report: &CheckReport,
) -> io::Result<()> {
    let Ok(policy) = config.policy() else {
        return Ok(());
    };
    for rule in &policy.rules {
        let Some(connection) = connections.get(&rule.connection) else {
            continue;
        };
        let read = bounded(connection.s3.deletions(&rule.bucket)).await;
        let Ok(Ok(deletions)) = read else { continue };
        let now = clock::system();
        for deletion in deletions {
            if let Some(warning) = early(&deletion, rule, now) {
                report.warn(format!("lifecycle of s3://{}", rule.bucket), warning)?;
            }
        }
    }
    Ok(())
}

/// The warning about a deletion that can precede the expiry of a link of the rule.
fn early(deletion: &Deletion, rule: &AllowRule, now: Timestamp) -> Option<String> {
    let (theirs, ours) = (deletion.prefix.as_str(), rule.prefix.as_str());
    if !theirs.starts_with(ours) && !ours.starts_with(theirs) {
        return None;
    }
    let longest = rule.max_expires_in;
    let when = match deletion.when {
        Deleted::AfterDays(days) if Span::days(days.into()) < longest => {
            format!("{days} days after they were made")
        }
        Deleted::From(at)
            if at
                < now
                    .saturating_add(longest.as_duration())
                    .unwrap_or(Timestamp::MAX) =>
        {
            format!("from {at} on")
        }
        Deleted::AfterDays(_) | Deleted::From(_) => return None,
    };
    let which = match deletion.is_partial {
        true => "some of the objects",
        false => "the objects",
    };
    Some(format!(
        "the lifecycle rule {:?} deletes {which} below {theirs:?} {when}, and links of the [[allow]] rule for {ours:?} may live for {longest}: lower its max_expires_in, or set links.preflight = true, which prints the earlier end",
        deletion.rule
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_told_that_can_come_before_a_link_ends() {
        let rule = AllowRule {
            connection: "reports".parse().unwrap(),
            bucket: "acme-reports".parse().unwrap(),
            prefix: "2026/".parse().unwrap(),
            recipients: Vec::new(),
            reply_to: Vec::new(),
            relays: Vec::new(),
            publish: Vec::new(),
            max_expires_in: Span::days(7),
            max_links: 1,
        };
        let now = "2026-11-23T18:40:00Z".parse().unwrap();
        let told = |prefix: &str, when| {
            let deletion = Deletion {
                rule: "tidy".to_owned(),
                prefix: prefix.to_owned(),
                when,
                is_partial: false,
            };
            early(&deletion, &rule, now).is_some()
        };
        let at = |text: &str| Deleted::From(text.parse().unwrap());
        for (prefix, when, expected) in [
            ("", Deleted::AfterDays(6), true),
            ("2026/11/", Deleted::AfterDays(1), true),
            ("20", Deleted::AfterDays(1), true),
            ("", Deleted::AfterDays(7), false),
            ("2025/", Deleted::AfterDays(1), false),
            ("", at("2026-11-29T00:00:00Z"), true),
            ("", at("2025-01-01T00:00:00Z"), true),
            ("", at("2026-12-29T00:00:00Z"), false),
        ] {
            assert_eq!(told(prefix, when), expected, "{prefix} {when:?}");
        }
    }
}
