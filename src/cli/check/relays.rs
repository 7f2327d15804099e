//! The relays, and the signatures of mails.

use std::io;

use handout::clock;
use handout::config::{Config, Environment, MailConfig, Transport};
use handout::deliver::Relays;
use handout::progress::Progress;

use super::report::Report;

/// Whether each relay can be used. All are asked at once.
pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &Report,
) -> io::Result<()> {
    if config.mail.transport == Transport::Outbox {
        let dir = config.outbox_dir();
        let result = format!("nothing is sent: mails go to {}", dir.display());
        return report.tell("mail", Ok(result));
    }
    let progress = Progress::default();
    let relays = match Relays::new(&config.mail, environment, &progress, clock::system) {
        Ok(relays) => relays,
        Err(error) => return report.tell("mail", Err(error.into())),
    };
    let looks = relays.iter().map(|(name, relay)| {
        report.look(MailConfig::section_of(name), async move {
            relay.probe().await?;
            Ok(format!(
                "{} can be used; it is told EHLO {}",
                relay.place(),
                relay.hello()
            ))
        })
    });
    let told = futures_util::future::join_all(looks).await;
    told.into_iter().collect()
}

/// Whether the keys of DKIM can be read, and what the DNS must say of them. The DNS itself is not asked.
pub(super) fn signatures(
    config: &Config,
    environment: &Environment,
    report: &Report,
) -> io::Result<()> {
    let signers = match config.dkim_signers(environment) {
        Ok(signers) => signers,
        Err(error) => return report.tell("mail.dkim", Err(error.into())),
    };
    if signers.is_empty() && config.mail.list.unsubscribe_url.is_some() {
        let result = "nothing is signed here: unsubscribing by one click counts only if the relay signs, List-Unsubscribe and List-Unsubscribe-Post included (RFC 8058)";
        return report.tell("mail.dkim", Ok(result.to_owned()));
    }
    for (index, signer) in signers.iter().enumerate() {
        let (name, record) = (signer.record_name(), signer.record());
        let result = format!("publish: {name}. IN TXT {record}");
        report.tell(format!("mail.dkim[{index}]"), Ok(result))?;
    }
    Ok(())
}
