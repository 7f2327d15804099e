//! Checks the relays and the DKIM signatures of mails.

use std::io;

use handout::clock;
use handout::config::{Config, Deadlines, MailConfig, Tls, Transport};
use handout::deliver::Relays;
use handout::environment::Environment;
use handout::progress::Progress;
use handout::quantity::Span;

use super::local::can_be_written;
use super::report::CheckReport;

/// The timeout of a step of the dialogue here.
const STEP: Span = Span::seconds(25);

/// Checks that each relay can be used, all concurrently.
pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    if config.mail.transport == Transport::Outbox {
        let place = config.outbox_place();
        let told = can_be_written(&place).map(|written| {
            format!(
                "nothing is sent: mails go to {}, which {written}",
                place.display()
            )
        });
        return report.tell("mail", told);
    }
    let mail = hurried(&config.mail);
    let progress = Progress::default();
    let relays = match Relays::new(&mail, environment, &progress, clock::system) {
        Ok(relays) => relays,
        Err(error) => return report.tell("mail", Err(error.into())),
    };
    for (name, relay) in mail.relays_by_name().unwrap_or_default() {
        if let Some(odd) = odd_port(relay.port, relay.tls) {
            report.warn(MailConfig::section_of(&name), odd)?;
        }
    }
    let looks = relays.iter().map(|(name, relay)| {
        report.look(MailConfig::section_of(name), async move {
            relay.probe().await?;
            Ok(format!(
                "{} can be used; Handout sends EHLO {}",
                relay.place(),
                relay.hello()
            ))
        })
    });
    let told = futures_util::future::join_all(looks).await;
    told.into_iter().collect()
}

/// The relays, with the timeouts of all steps before a mail below the timeout of the whole check: the error of a late step says
/// more than that of the check.
fn hurried(mail: &MailConfig) -> MailConfig {
    let mut mail = mail.clone();
    for relay in mail.relays.values_mut().chain([&mut mail.smtp]) {
        let deadlines = &mut relay.deadlines;
        let Deadlines {
            connect,
            greeting,
            ehlo,
            starttls,
            auth,
            ..
        } = deadlines;
        for step in [connect, greeting, ehlo, starttls, auth] {
            *step = (*step).min(STEP);
        }
    }
    mail
}

/// A mismatch of a port and its `tls` setting, found before the relay is contacted: with a mismatch, both sides may wait for the
/// other.
fn odd_port(port: u16, tls: Tls) -> Option<String> {
    match (port, tls) {
        (465, Tls::Starttls | Tls::None) => Some(
            "port 465 speaks TLS from the first byte (RFC 8314, 3.3): tls = \"implicit\" is its setting"
                .to_owned(),
        ),
        (25 | 587 | 2525, Tls::Implicit) => Some(format!(
            "port {port} begins in plain text (RFC 6409, RFC 5321): tls = \"starttls\" is its setting"
        )),
        _ => None,
    }
}

/// Checks that the DKIM keys can be read, and reports the required DNS records. The DNS is not queried.
pub(super) fn signatures(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    let signers = match config.dkim_signers(environment) {
        Ok(signers) => signers,
        Err(error) => return report.tell("mail.dkim", Err(error.into())),
    };
    if signers.is_empty() && config.mail.list.unsubscribe_url.is_some() {
        let result = "mails are not signed here (DKIM): unsubscribing by one click counts only if the relay signs, List-Unsubscribe and List-Unsubscribe-Post included (RFC 8058)";
        return report.tell("mail.dkim", Ok(result.to_owned()));
    }
    for (index, signer) in signers.iter().enumerate() {
        let (name, record) = (signer.record_name(), signer.record());
        let result = format!("publish: {name}. IN TXT {record}");
        report.tell(format!("mail.dkim[{index}]"), Ok(result))?;
    }
    Ok(())
}
