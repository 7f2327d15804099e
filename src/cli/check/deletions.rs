//! Checks whether a bucket's lifecycle deletes files before their links expire.

use std::io;

use handout::clock;
use handout::config::{Config, LedgerKind};
use handout::job::Via;
use handout::ledger::s3::prefix_beside;
use handout::links::connection::Connections;
use handout::plan::AllowRule;
use handout::quantity::Span;
use handout::store::s3::{Deleted, Deletion};
use handout::text::counted;
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
    check_portal(config, connections, report).await
}

/// Where the portal keeps what was revoked, for ever: an expired revocation is a link that works again.
const REVOKED: &str = "gone/";

/// Where it keeps what links open, which must outlive the links.
const OF_LINKS: [&str; 3] = ["job/", "mine/", "of/"];

/// Checks that no lifecycle rule deletes the records of the portal, where they are in a bucket.
async fn check_portal(
    config: &Config,
    connections: &Connections,
    report: &CheckReport,
) -> io::Result<()> {
    let ledger = &config.ledger;
    if config.portal.public_url.is_none() || ledger.kind != LedgerKind::S3 {
        return Ok(());
    }
    let place = ledger.connection.as_ref().zip(ledger.bucket.as_ref());
    let Some((connection, bucket)) = place else {
        return Ok(());
    };
    let connection = connection.parse().ok();
    let connection = connection.and_then(|name| connections.get(&name));
    let (Some(connection), Ok(name)) = (connection, bucket.parse()) else {
        return Ok(());
    };
    let read = bounded(connection.s3.deletions(&name)).await;
    let Ok(Ok(deletions)) = read else {
        return Ok(());
    };
    let records = prefix_beside(&ledger.prefix);
    let rules = config.allow.iter();
    let rules = rules.filter(|rule| rule.via.contains(&Via::Portal));
    let longest = rules.map(|rule| rule.max_expires_in).max();
    let longest = longest.unwrap_or(Span::days(0));
    let what = format!("lifecycle of s3://{bucket}");
    let mut spares = true;
    for deletion in &deletions {
        if let Some(loss) = loss(deletion, &records, longest) {
            let failure = format!(
                "the lifecycle rule {:?} deletes objects below {:?}, where the portal keeps {loss}",
                deletion.rule, deletion.prefix
            );
            report.tell(&what, Err(failure.into()))?;
            spares = false;
        }
    }
    if spares {
        report.tell(
            &what,
            Ok(format!("spares the portal's records in {records}")),
        )?;
    }
    Ok(())
}

/// What a deletion can take of the records of the portal that must stay, and what to do about it.
fn loss(deletion: &Deletion, records: &str, longest: Span) -> Option<String> {
    let theirs = deletion.prefix.as_str();
    let meets = |kept: &str| {
        let ours = format!("{records}{kept}");
        ours.starts_with(theirs) || theirs.starts_with(&ours)
    };
    let is_late =
        matches!(deletion.when, Deleted::AfterDays(days) if Span::days(days.into()) > longest);
    if meets(REVOKED) {
        Some(format!(
            "what was revoked: a revoked link would work again; let the rule spare {records}"
        ))
    } else if !is_late && OF_LINKS.into_iter().any(meets) {
        Some(format!(
            "what links open, and links may live for {longest}: let the rule wait for longer"
        ))
    } else {
        None
    }
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
            format!("{} after they were made", counted(days.into(), "day"))
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
    use handout::job::SignIn;

    #[test]
    fn a_rule_that_would_let_revoked_links_work_again_is_a_failure() {
        for (prefix, expected) in [
            ("", true),
            ("ledger", true),
            ("ledger-portal/", true),
            ("ledger-portal/gone/", true),
            ("ledger-portal/job/00", true),
            ("ledger/", false),
            ("ledger-portal/day/", false),
            ("ledger-portal/try/", false),
        ] {
            let deletion = Deletion {
                rule: "tidy".to_owned(),
                prefix: prefix.to_owned(),
                when: Deleted::AfterDays(90),
                is_partial: false,
            };
            let lost = loss(&deletion, "ledger-portal/", Span::days(365));
            assert_eq!(lost.is_some(), expected, "{prefix}");
            // The records of jobs may end after all links.
            let lost = loss(&deletion, "ledger-portal/", Span::days(89));
            let is_of_jobs = prefix.contains("/job/");
            assert_eq!(lost.is_some(), expected && !is_of_jobs, "{prefix}");
        }
    }

    #[test]
    fn a_deletion_is_told_that_can_come_before_a_link_ends() {
        let rule = AllowRule {
            connection: "reports".parse().unwrap(),
            bucket: "acme-reports".parse().unwrap(),
            prefix: "2026/".parse().unwrap(),
            recipients: Vec::new(),
            lists: Vec::new(),
            reply_to: Vec::new(),
            relays: Vec::new(),
            publish: Vec::new(),
            via: vec![Via::S3],
            sign_in: SignIn::None,
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
