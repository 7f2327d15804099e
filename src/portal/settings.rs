//! `[portal]` as the server needs it.

use std::time::Duration;

use super::client::TrustedNetwork;
use crate::config::{Config, ConfigError, PortalDelivery, parse_network};
use crate::job::{JobId, RelayName};
use crate::serving::TlsFiles;

/// The settings of a portal, all of them checked.
#[derive(Debug, Clone)]
pub(super) struct PortalSettings {
    /// `https://files.acme.example`, without a slash at the end.
    pub(super) origin: String,
    /// The host of `origin`, as mails name it.
    pub(super) site: String,
    pub(super) trusted_proxies: Vec<TrustedNetwork>,
    pub(super) session: Duration,
    pub(super) code_for: Duration,
    pub(super) deliver: PortalDelivery,
    pub(super) my_files: bool,
    pub(super) embeddable: bool,
    pub(super) relay: RelayName,
    /// What `mail.job_rate` counts codes under.
    pub(super) mail_job: JobId,
    pub(super) contact: Option<String>,
    pub(super) tls: Option<TlsFiles>,
}

impl PortalSettings {
    /// # Errors
    /// The key that is missing or has a wrong value.
    pub(super) fn of(config: &Config) -> Result<Self, ConfigError> {
        let portal = &config.portal;
        let origin = portal.public_url.as_deref().ok_or_else(|| {
            let reason = "is not set: name the URL under which readers reach the portal, such as \"https://files.acme.example\"";
            ConfigError::value("portal.public_url", reason)
        })?;
        let origin = origin.trim_end_matches('/').to_owned();
        let site = origin
            .split_once("://")
            .map_or(origin.as_str(), |(_, host)| host);
        let trusted_proxies = portal.trusted_proxies.iter().map(|network| {
            parse_network(network)
                .map(TrustedNetwork::from)
                .ok_or_else(|| {
                    let reason = format!(
                        "has {network:?}: write an address or a network, such as \"10.0.0.0/8\""
                    );
                    ConfigError::value("portal.trusted_proxies", reason)
                })
        });
        let tls = TlsFiles::of(
            "portal",
            portal.tls_cert_file.as_ref(),
            portal.tls_key_file.as_ref(),
        )?;
        Ok(Self {
            site: site.to_owned(),
            trusted_proxies: trusted_proxies.collect::<Result<_, _>>()?,
            session: portal.session.as_duration(),
            code_for: portal.code_for.as_duration(),
            deliver: portal.deliver,
            my_files: portal.my_files,
            embeddable: portal.embeddable,
            relay: portal.relay.clone(),
            mail_job: "portal".parse().expect("it is the id of a job"),
            contact: portal.contact.clone(),
            tls,
            origin,
        })
    }

    /// For how many minutes a code is valid, as pages say it.
    pub(super) const fn code_minutes(&self) -> u64 {
        self.code_for.as_secs() / 60
    }
}
