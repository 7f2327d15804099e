//! Checks how long links can live: in S3 as long as the signing credentials, and at most seven days.

use std::io;

use handout::clock;
use handout::config::Config;
use handout::job::{ConnectionName, Via};
use handout::links::connection::Connection;
use handout::plan::expiry::{Issuer, asked_until, lifetime};
use handout::plan::{Bound, CredentialsEnd, ExpiryGuard, Limit};
use handout::quantity::Span;
use jiff::Timestamp;

use super::report::{CheckReport, bounded};

/// The result for a connection's links.
#[derive(Debug, PartialEq, Eq)]
enum LifetimeVerdict {
    Works(String),
    Warns(String),
    Fails(String),
}

pub(super) async fn check(
    config: &Config,
    name: &ConnectionName,
    connection: &Connection,
    report: &CheckReport,
) -> io::Result<()> {
    let what = format!("connections.{name}");
    let now = clock::system();
    let asked = asked_by_default(config, name);
    // A session that is renewed for jobs is renewed for this check as well.
    let looking = connection.signer.credentials_end(asked_until(asked, now));
    let end = match bounded(looking).await {
        Err(error) => return report.tell(what, Err(error)),
        Ok(Err(error)) => return report.tell(what, Err(error.into())),
        Ok(Ok(end)) => end,
    };
    match judge(asked, end, config.links.expiry_guard, now) {
        LifetimeVerdict::Works(result) => report.tell(what, Ok(result))?,
        LifetimeVerdict::Warns(result) => report.warn(what, result)?,
        // All of its jobs may use CloudFront.
        LifetimeVerdict::Fails(result) if connection.distribution.is_some() => {
            report.warn(what, format!("for links by S3: {result}"))?;
        }
        LifetimeVerdict::Fails(result) => report.tell(what, Err(result.into()))?,
    }
    let Some(distribution) = &connection.distribution else {
        return Ok(());
    };
    let (signer, origin) = (&distribution.signer, distribution.distribution.origin());
    let result = format!(
        "links to {origin} are signed with key {} ({}) and can live until 2038; whether a key group has that key shows only when a link is opened",
        signer.key_pair_id(),
        signer.kind()
    );
    report.tell(format!("connections.{name}.cloudfront"), Ok(result))
}

/// The longest default lifetime of the jobs on a connection.
fn asked_by_default(config: &Config, name: &ConnectionName) -> Span {
    let default = config.links.expires_in;
    let rules = config.allow.iter();
    let rules = rules.filter(|rule| rule.connection == name.as_str());
    let asked = rules.map(|rule| match rule.via.as_slice() {
        // The links that the portal signs are short, also where its own links live for a year.
        [Via::Portal] => config.portal.signed_for,
        _ => rule.max_expires_in.min(default),
    });
    asked.max().unwrap_or(default)
}

/// Applies the rule by which jobs are planned.
fn judge(asked: Span, end: CredentialsEnd, guard: ExpiryGuard, now: Timestamp) -> LifetimeVerdict {
    let jobs_ask = format!("jobs ask for {asked} (links.expires_in)");
    let planned = match lifetime(asked, Issuer::S3(end), asked, guard, now) {
        Ok(planned) => planned,
        Err(shortfall) => {
            return LifetimeVerdict::Fails(match shortfall.limit {
                Limit::CredentialsEnd(end) | Limit::CredentialsEnding(end) => format!(
                    "{jobs_ask} and the credentials end at {end}, in {}: ask for {} or less, set links.expiry_guard = \"clamp\" to print the real end, or sign with credentials that last longer (docs/credentials.md); where all links of a rule are the portal's, set via = [\"portal\"] in it",
                    until(end, now),
                    round_down(left(end, now)),
                ),
                Limit::CredentialsUnknown => "the credentials are temporary and do not say when they expire: set AWS_CREDENTIAL_EXPIRATION, or use a profile, a role or a long-term key".to_owned(),
                Limit::CredentialsEnded(end) => format!("the credentials ended at {end}: renew them"),
                Limit::S3 | Limit::CloudFront | Limit::Portal | Limit::Rule(_) => {
                    shortfall.to_string()
                }
            });
        }
    };
    match end {
        CredentialsEnd::Never => {
            LifetimeVerdict::Works("links can live for 7d: the credentials do not end".to_owned())
        }
        CredentialsEnd::Unknown => LifetimeVerdict::Warns(format!(
            "{jobs_ask} and the credentials are temporary and do not say when they expire: links end with the session, also before the end that mails print (links.expiry_guard = \"ignore\")"
        )),
        CredentialsEnd::At(end) if planned.bound == Bound::Credentials => {
            LifetimeVerdict::Warns(format!(
                "{jobs_ask} and the credentials end at {end}, in {}: links end with them, as mails then say (links.expiry_guard = \"clamp\")",
                until(end, now)
            ))
        }
        CredentialsEnd::At(end) if end < planned.expires_at => LifetimeVerdict::Warns(format!(
            "{jobs_ask} and the credentials end at {end}, in {}: links end with them, also before the end that mails print (links.expiry_guard = \"ignore\")",
            until(end, now)
        )),
        CredentialsEnd::At(end) => LifetimeVerdict::Works(format!(
            "links can live for {} at the most: the credentials end at {end}",
            until(end, now)
        )),
    }
}

fn left(end: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(end.duration_since(now).as_secs()).unwrap_or_default()
}

/// A human-readable duration: `5h 39m`, `39m`, `40s`.
fn until(end: Timestamp, now: Timestamp) -> String {
    let secs = left(end, now);
    match (secs / 3600, secs / 60 % 60) {
        (0, 0) => format!("{secs}s"),
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h {minutes}m"),
    }
}

/// The lifetime that can be requested: whole hours, or else whole minutes less the current one.
fn round_down(secs: u64) -> Span {
    match secs / 3600 {
        0 => Span::minutes((secs / 60).saturating_sub(1).max(1)),
        hours => Span::hours(hours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Span = Span::hours(24);

    fn now() -> Timestamp {
        "2026-11-23T18:00:00Z".parse().unwrap()
    }

    fn after(minutes: i64) -> CredentialsEnd {
        CredentialsEnd::At(now() + jiff::SignedDuration::from_mins(minutes))
    }

    fn of(asked: Span, end: CredentialsEnd, guard: ExpiryGuard) -> String {
        match judge(asked, end, guard, now()) {
            LifetimeVerdict::Works(result) => format!("ok {result}"),
            LifetimeVerdict::Warns(result) => format!("warn {result}"),
            LifetimeVerdict::Fails(result) => format!("FAIL {result}"),
        }
    }

    #[test]
    fn credentials_that_end_before_links_do_are_a_failure_that_says_what_to_change() {
        use ExpiryGuard::{Clamp, Ignore, Refuse};
        let table = [
            of(DAY, after(340), Refuse),
            of(DAY, after(340), Clamp),
            of(DAY, after(340), Ignore),
            of(Span::hours(5), after(340), Refuse),
            of(DAY, after(12), Refuse),
            of(DAY, after(-12), Clamp),
            of(DAY, CredentialsEnd::Never, Refuse),
            of(Span::days(8), CredentialsEnd::Never, Refuse),
            of(DAY, CredentialsEnd::Unknown, Refuse),
            of(DAY, CredentialsEnd::Unknown, Clamp),
            of(DAY, CredentialsEnd::Unknown, Ignore),
        ];
        insta::assert_snapshot!(table.join("\n"), @r#"
        FAIL jobs ask for 1d (links.expires_in) and the credentials end at 2026-11-23T23:40:00Z, in 5h 40m: ask for 5h or less, set links.expiry_guard = "clamp" to print the real end, or sign with credentials that last longer (docs/credentials.md); where all links of a rule are the portal's, set via = ["portal"] in it
        warn jobs ask for 1d (links.expires_in) and the credentials end at 2026-11-23T23:40:00Z, in 5h 40m: links end with them, as mails then say (links.expiry_guard = "clamp")
        warn jobs ask for 1d (links.expires_in) and the credentials end at 2026-11-23T23:40:00Z, in 5h 40m: links end with them, also before the end that mails print (links.expiry_guard = "ignore")
        ok links can live for 5h 40m at the most: the credentials end at 2026-11-23T23:40:00Z
        FAIL jobs ask for 1d (links.expires_in) and the credentials end at 2026-11-23T18:12:00Z, in 12m: ask for 11m or less, set links.expiry_guard = "clamp" to print the real end, or sign with credentials that last longer (docs/credentials.md); where all links of a rule are the portal's, set via = ["portal"] in it
        FAIL the credentials ended at 2026-11-23T17:48:00Z: renew them
        ok links can live for 7d: the credentials do not end
        FAIL links.expires_in asks for 8d, but S3 allows 7d at most; ask for less, set expiry_guard = "clamp" to print the real end, or hand out by the portal or CloudFront (links.via), which have no such limit
        FAIL the credentials are temporary and do not say when they expire: set AWS_CREDENTIAL_EXPIRATION, or use a profile, a role or a long-term key
        FAIL the credentials are temporary and do not say when they expire: set AWS_CREDENTIAL_EXPIRATION, or use a profile, a role or a long-term key
        warn jobs ask for 1d (links.expires_in) and the credentials are temporary and do not say when they expire: links end with the session, also before the end that mails print (links.expiry_guard = "ignore")
        "#);
    }
}
