//! Checks the portal: its URL, its certificate and its issuers. The lifecycle of its records is checked with that of objects.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::portal::is_portal_at;
use handout::portal::oidc::OidcIssuers;
use handout::serving::TlsFiles;
use handout::text::chain;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::report::CheckReport;

/// The rest of a certificate's life in which it should be replaced.
const ENDS_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How long an answer at the public URL is waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

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
    if !is_plain && !ends_tls && portal.trusted_proxies.is_empty() {
        report.warn(
            "portal.trusted_proxies",
            "is empty, and a proxy in front ends TLS: limits count all visitors as one, and audit lines have the proxy's address; name the networks of the proxy",
        )?;
    }
    if let (Some(certificates), Some(key)) = (&portal.tls_cert_file, &portal.tls_key_file) {
        let host = host_of(url);
        match certificate(certificates, key, &host, clock::system()) {
            Ok((words, Certificate::Lasts)) => report.tell("portal.tls_cert_file", Ok(words))?,
            Ok((words, Certificate::EndsSoon)) => report.warn("portal.tls_cert_file", words)?,
            Err(error) => report.tell("portal.tls_cert_file", Err(error))?,
        }
    }
    Ok(())
}

/// How long a certificate lasts.
enum Certificate {
    Lasts,
    EndsSoon,
}

fn certificate(
    certificates: &Path,
    key: &Path,
    host: &str,
    now: Timestamp,
) -> Result<(String, Certificate), Box<dyn Error + Send + Sync>> {
    let files = TlsFiles {
        section: "portal",
        certificates: certificates.to_owned(),
        key: key.to_owned(),
    };
    let facts = files.check(host)?;
    if !facts.is_for_host {
        return Err(format!(
            "is not for {host}, the host of portal.public_url: browsers refuse it"
        )
        .into());
    }
    let together = "the certificate and its key belong together";
    let Some(ends) = facts.ends else {
        return Ok((together.to_owned(), Certificate::Lasts));
    };
    if ends <= now {
        return Err(format!("ended at {ends}: browsers refuse it; replace both files").into());
    }
    if ends.duration_since(now) < ENDS_SOON {
        let words = format!("ends at {ends}: replace both files before, and the portal reads them");
        return Ok((words, Certificate::EndsSoon));
    }
    Ok((format!("{together}, until {ends}"), Certificate::Lasts))
}

/// The host of a URL that the configuration accepted.
fn host_of(url: &str) -> String {
    let uri: Option<hyper::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(|uri| uri.host());
    host.unwrap_or_default().trim_matches(['[', ']']).to_owned()
}

/// Looks whether the portal answers at its URL. It may not run yet, so what is found is a warning.
pub(super) async fn public(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    let Some(url) = &config.portal.public_url else {
        return Ok(());
    };
    let what = "portal.public_url from here";
    match timeout(ANSWERS_WITHIN, is_portal_at(url, environment)).await {
        Ok(Ok(true)) => report.tell(what, Ok("a portal answers".to_owned())),
        Ok(Ok(false)) => report.warn(
            what,
            "something else than a portal answers: readers who follow the links end there",
        ),
        Ok(Err(error)) => report.warn(what, chain(&error)),
        Err(_) => report.warn(what, "no answer within 5 s"),
    }
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
