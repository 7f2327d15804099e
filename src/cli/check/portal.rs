//! Checks the portal: its URL, its certificate and its issuers. The lifecycle of its records is checked with that of objects.

use std::io;

use handout::config::Config;
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::portal::TlsFiles;
use handout::portal::oidc::OidcIssuers;

use super::report::{CheckOutcome, CheckReport};

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
