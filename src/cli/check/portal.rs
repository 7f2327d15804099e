//! Checks the portal: its certificate, its URL, its issuers, and that no lifecycle rule brings revoked links back.

use std::io;

use handout::config::{Config, LedgerKind};
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::ledger::s3::portal_prefix;
use handout::links::connection::Connections;
use handout::portal::TlsFiles;
use handout::portal::oidc::OidcIssuers;
use handout::store::s3::Deletion;

use super::report::{CheckOutcome, CheckReport, bounded};

/// The records that must live as long as links do.
const KEPT: [&str; 4] = ["gone/", "job/", "of/", "mine/"];

/// Checks what needs no other machine.
pub(super) fn local(config: &Config, report: &CheckReport) -> io::Result<()> {
    let portal = &config.portal;
    let Some(url) = &portal.public_url else {
        return Ok(());
    };
    let is_plain = url.starts_with("http://");
    let ends_tls = portal.tls_cert_file.is_some();
    match (is_plain, ends_tls) {
        (true, true) => {
            let outcome = "is http, and tls_cert_file is set: readers who follow the links do not reach TLS; write https";
            report.tell("portal.public_url", Err(outcome.into()))?;
        }
        (true, false) => report.warn(
            "portal.public_url",
            "is http: links, codes and sessions cross the network in clear; this is for a try on one machine",
        )?,
        (false, true) => report.tell("portal.public_url", Ok("TLS ends here".to_owned()))?,
        (false, false) => report.tell(
            "portal.public_url",
            Ok("a proxy in front ends TLS".to_owned()),
        )?,
    }
    if let (Some(certificates), Some(key)) = (&portal.tls_cert_file, &portal.tls_key_file) {
        report.tell("portal.tls_cert_file", certificate(certificates, key))?;
    }
    Ok(())
}

fn certificate(certificates: &std::path::Path, key: &std::path::Path) -> CheckOutcome {
    let files = TlsFiles {
        certificates: certificates.to_owned(),
        key: key.to_owned(),
    };
    files.check()?;
    Ok("the certificate and its key belong together".to_owned())
}

/// Checks that each issuer answers.
pub(super) async fn issuers(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    let (Some(url), false) = (&config.portal.public_url, config.portal.oidc.is_empty()) else {
        return Ok(());
    };
    let Ok(keyring) = Keyring::open(&config.secret_key_file()) else {
        // Another finding tells of it.
        return Ok(());
    };
    let issuers = match OidcIssuers::new(&config.portal.oidc, url, &keyring, environment) {
        Ok(issuers) => issuers,
        Err(error) => return report.tell("portal.oidc", Err(error.into())),
    };
    for name in issuers.names() {
        let looking = async {
            issuers.check(name).await?;
            Ok("its metadata and its keys can be read".to_owned())
        };
        report.look(format!("portal.oidc.{name}"), looking).await?;
    }
    Ok(())
}

/// Checks the lifecycle of the ledger's bucket, if it can be read: most policies deny that, so it is not a finding.
pub(super) async fn lifecycle(
    config: &Config,
    connections: &Connections,
    report: &CheckReport,
) -> io::Result<()> {
    let ledger = &config.ledger;
    if config.portal.public_url.is_none() || ledger.kind != LedgerKind::S3 {
        return Ok(());
    }
    let named = ledger.connection.as_deref().zip(ledger.bucket.as_deref());
    let Some((connection, bucket)) = named else {
        return Ok(());
    };
    let connection = connections
        .iter()
        .find(|(name, _)| name.as_str() == connection);
    let (Some((_, connection)), Ok(bucket)) = (connection, bucket.parse()) else {
        return Ok(());
    };
    let read = bounded(connection.s3.deletions(&bucket)).await;
    let Ok(Ok(deletions)) = read else {
        return Ok(());
    };
    let prefix = portal_prefix(&ledger.prefix);
    let wrong = deletions
        .iter()
        .find_map(|deletion| resurrection(deletion, &prefix));
    report.tell(
        "portal records",
        match wrong {
            Some(wrong) => Err(wrong.into()),
            None => Ok(format!(
                "no lifecycle rule deletes revocations below {prefix:?}"
            )),
        },
    )
}

/// Why a lifecycle rule must not be, if it deletes records that links need.
fn resurrection(deletion: &Deletion, prefix: &str) -> Option<String> {
    let theirs = deletion.prefix.as_str();
    let kept = KEPT.map(|name| format!("{prefix}{name}"));
    let hit = kept
        .iter()
        .find(|ours| ours.starts_with(theirs) || theirs.starts_with(*ours))?;
    Some(format!(
        "the lifecycle rule {:?} deletes records below {hit:?}: a revoked link would work again; limit the rule to {prefix:?} + \"code/\", \"try/\", \"tried/\" or \"day/\"",
        deletion.rule
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use handout::store::s3::Deleted;

    #[test]
    fn a_rule_that_deletes_revocations_is_found() {
        let is_wrong = |prefix: &str| {
            let deletion = Deletion {
                rule: "tidy".to_owned(),
                prefix: prefix.to_owned(),
                when: Deleted::AfterDays(90),
                is_partial: false,
            };
            resurrection(&deletion, "ledger-portal/").is_some()
        };
        for wrong in [
            "",
            "ledger",
            "ledger-portal/",
            "ledger-portal/gone/",
            "ledger-portal/job/0",
        ] {
            assert!(is_wrong(wrong), "{wrong}");
        }
        for good in [
            "ledger/",
            "ledger-portal/code/",
            "ledger-portal/tr",
            "ledger-portal/day/",
            "other/",
        ] {
            assert!(!is_wrong(good), "{good}");
        }
    }
}
