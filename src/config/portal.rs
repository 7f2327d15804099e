//! `[portal]`: the links that sign on click, and the server behind them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use presign::ServerUrl;
use serde::{Deserialize, Serialize};

use super::Config;
use super::load::is_private;
use crate::config_error::ConfigError;
use crate::job::{OpenMode, Recipient, RelayName, SignIn, Via};
use crate::plan::policy::PortalRules;
use crate::quantity::{Size, Span};

/// `[portal]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortalConfig {
    /// The address that the portal listens on; without it, `handout run` does not serve it.
    pub listen: Option<SocketAddr>,
    /// The URL that mails say, without a path; needed for jobs with `links.via = "portal"`.
    pub public_url: Option<String>,
    /// The certificate chain of the portal, as PEM; without it, a proxy in front ends TLS.
    pub tls_cert_file: Option<PathBuf>,
    /// The key of that certificate, as PEM.
    pub tls_key_file: Option<PathBuf>,
    /// The networks of proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<String>,
    /// How visitors sign in, where neither the rule nor the job asks for more.
    pub sign_in: SignIn,
    /// What a link answers first, where the job does not say it.
    pub open: OpenMode,
    /// How long a signed link works that a click gets; large files and media get longer ones.
    pub signed_for: Span,
    /// The slowest download that a signed link outlives, in bytes a second.
    pub slowest: Size,
    /// How long a signed link to video and audio works.
    pub media_for: Span,
    /// How files reach the visitor.
    pub deliver: PortalDelivery,
    /// How long a sign-in lasts.
    pub session: Span,
    /// How long a code by mail works.
    pub code_for: Span,
    /// How old the last check for revocations may be when a link is opened; with `0s` each open makes a check of its own.
    pub revocation_check: Span,
    /// How long opens go on after the last good check, when the ledger does not answer.
    pub stale_max: Span,
    /// What audit lines say of a visitor's network address.
    pub addresses: AddressDetail,
    /// How long the keys of `addresses = "keyed"` are kept.
    pub keep_addresses: Span,
    /// Whether a visitor who signed in sees the files of all jobs.
    pub my_files: bool,
    /// Whether other sites may embed the files.
    pub embeddable: bool,
    /// The relay that sends codes.
    pub relay: RelayName,
    /// The address that pages name for questions.
    pub contact: Option<String>,
    /// The OIDC issuers at which visitors can sign in.
    pub oidc: Vec<OidcIssuerConfig>,
}

impl Default for PortalConfig {
    fn default() -> Self {
        Self {
            listen: None,
            public_url: None,
            tls_cert_file: None,
            tls_key_file: None,
            trusted_proxies: Vec::new(),
            sign_in: SignIn::None,
            open: OpenMode::Page,
            signed_for: Span::minutes(15),
            slowest: Size::megabytes(1),
            media_for: Span::hours(6),
            deliver: PortalDelivery::Redirect,
            session: Span::hours(12),
            code_for: Span::minutes(10),
            revocation_check: Span::seconds(1),
            stale_max: Span::seconds(30),
            addresses: AddressDetail::Keyed,
            keep_addresses: Span::days(180),
            my_files: true,
            embeddable: false,
            relay: RelayName::default(),
            contact: None,
            oidc: Vec::new(),
        }
    }
}

/// How files reach a visitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortalDelivery {
    /// By a redirect to the store.
    #[default]
    Redirect,
    /// Through this process, for stores that visitors cannot reach.
    Stream,
}

/// What audit lines say of a visitor's network address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressDetail {
    /// Nothing.
    None,
    /// The network: the first 24 bits of an IPv4 address, the first 48 of an IPv6 address.
    Network,
    /// A hash under a key of the day: equal within a day, and unknown once the key has expired.
    #[default]
    Keyed,
    /// The address.
    Full,
}

/// One `[[portal.oidc]]`: an issuer at which visitors can sign in.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OidcIssuerConfig {
    /// Its name in URLs and on the button.
    pub name: String,
    /// The issuer's URL, below which its discovery document is.
    pub issuer: String,
    /// The client id that the issuer gave.
    pub client_id: String,
    /// The file with the client's secret; a public client has none.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// The domains for whose addresses the issuer may speak.
    pub domains: Vec<String>,
    /// The claim that has the address.
    #[serde(default = "OidcIssuerConfig::default_claim")]
    pub claim: String,
    /// A file with CA certificates that are trusted besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl OidcIssuerConfig {
    /// The claim `email`.
    pub fn default_claim() -> String {
        "email".to_owned()
    }
}

impl Config {
    /// The URL of the portal, without a slash at its end, if it is configured.
    pub fn portal_url(&self) -> Result<Option<String>, ConfigError> {
        self.portal
            .public_url
            .as_deref()
            .map(public_url)
            .transpose()
    }

    /// What jobs may ask of the portal; `None` without `portal.public_url`.
    pub(super) fn portal_rules(&self) -> Result<Option<PortalRules>, ConfigError> {
        let portal = &self.portal;
        let Some(url) = self.portal_url()? else {
            return Ok(None);
        };
        Ok(Some(PortalRules {
            url: url.into(),
            sign_in: portal.sign_in,
            open: portal.open,
            contact: portal.contact.clone(),
            has_oidc: !portal.oidc.is_empty(),
            my_files: portal.my_files,
            streams: portal.deliver == PortalDelivery::Stream,
        }))
    }

    pub(super) fn check_portal(&self) -> Result<(), ConfigError> {
        let portal = &self.portal;
        let wrong =
            |key: &str, reason: String| Err(ConfigError::value(format!("portal.{key}"), reason));
        let rules = self.portal_rules()?;
        if portal.listen.is_some() && rules.is_none() {
            return wrong(
                "public_url",
                "is missing: name the URL under which visitors reach portal.listen".to_owned(),
            );
        }
        if portal.tls_cert_file.is_some() != portal.tls_key_file.is_some() {
            let reason = "is set without the other of tls_cert_file and tls_key_file";
            return wrong("tls_cert_file", reason.to_owned());
        }
        for (key, span, least) in [
            ("signed_for", portal.signed_for, Span::seconds(60)),
            ("media_for", portal.media_for, Span::seconds(60)),
            ("session", portal.session, Span::minutes(1)),
            ("code_for", portal.code_for, Span::minutes(1)),
        ] {
            if span < least {
                return wrong(key, format!("is {span}: it must be at least {least}"));
            }
        }
        if portal.code_for > Span::minutes(10) {
            let reason = format!("is {}: a code may work for 10m at most", portal.code_for);
            return wrong("code_for", reason);
        }
        if portal.slowest.as_bytes() == 0 {
            return wrong("slowest", "is 0: name a speed, such as \"1MB\"".to_owned());
        }
        if let Some(contact) = &portal.contact
            && let Err(error) = Recipient::parse(contact)
        {
            return wrong("contact", format!("is no address: it {error}"));
        }
        let relays = self.mail.relays_by_name()?;
        if !relays.contains_key(&portal.relay) {
            let known: Vec<&str> = relays.keys().map(RelayName::as_str).collect();
            let reason = format!(
                "is {:?}, which is not a relay; configured: {}",
                portal.relay.as_str(),
                known.join(", ")
            );
            return wrong("relay", reason);
        }
        for (at, network) in portal.trusted_proxies.iter().enumerate() {
            if parse_network(network).is_none() {
                let reason = format!(
                    "is {network:?}: write an address or a network, such as \"10.0.0.0/8\""
                );
                return wrong(&format!("trusted_proxies[{at}]"), reason);
            }
        }
        self.check_sign_in()?;
        self.check_issuers()
    }

    /// No rule may ask for a sign-in that the configuration does not offer.
    fn check_sign_in(&self) -> Result<(), ConfigError> {
        let demands = self
            .allow
            .iter()
            .enumerate()
            .map(|(index, rule)| (format!("allow[{index}].sign_in"), rule.sign_in));
        let default = ("portal.sign_in".to_owned(), self.portal.sign_in);
        for (key, demand) in demands.chain([default]) {
            if demand == SignIn::Oidc && self.portal.oidc.is_empty() {
                let reason = "is \"oidc\", and there is no [[portal.oidc]]: add an issuer";
                return Err(ConfigError::value(key, reason));
            }
        }
        for (index, rule) in self.allow.iter().enumerate() {
            if rule.via == [Via::Portal] && self.portal.public_url.is_none() {
                let reason = "is [\"portal\"], and portal.public_url is missing";
                return Err(ConfigError::value(format!("allow[{index}].via"), reason));
            }
            if rule.via.is_empty() {
                let reason = "is empty: name \"s3\", \"cloudfront\" or \"portal\"";
                return Err(ConfigError::value(format!("allow[{index}].via"), reason));
            }
        }
        Ok(())
    }

    fn check_issuers(&self) -> Result<(), ConfigError> {
        let issuers = &self.portal.oidc;
        for (index, issuer) in issuers.iter().enumerate() {
            let wrong = |key: &str, reason: String| {
                Err(ConfigError::value(
                    format!("portal.oidc[{index}].{key}"),
                    reason,
                ))
            };
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if issuer.name.is_empty() || !issuer.name.chars().all(is_plain) {
                let reason = format!(
                    "is {:?}: write lower-case letters, digits and hyphens",
                    issuer.name
                );
                return wrong("name", reason);
            }
            let before = &issuers[..index];
            if before.iter().any(|other| other.name == issuer.name) {
                return wrong("name", format!("is {:?} twice", issuer.name));
            }
            let url = ServerUrl::parse(&issuer.issuer);
            if !url.as_ref().is_ok_and(is_private) {
                let reason = format!("is {:?}: write the issuer's https URL", issuer.issuer);
                return wrong("issuer", reason);
            }
            if issuer.domains.is_empty() {
                let reason = "is empty: name the domains for whose addresses the issuer speaks";
                return wrong("domains", reason.to_owned());
            }
            if issuer.client_id.is_empty() {
                return wrong("client_id", "is empty".to_owned());
            }
        }
        Ok(())
    }
}

/// The origin of `portal.public_url`, without a slash at its end.
fn public_url(url: &str) -> Result<String, ConfigError> {
    let key = "portal.public_url";
    let server = ServerUrl::parse(url).map_err(|error| ConfigError::value(key, error))?;
    let origin = server.origin();
    if !matches!(server.path(), "" | "/") {
        let reason = format!("is {url:?}: the portal needs a host of its own, without a path");
        return Err(ConfigError::value(key, reason));
    }
    if !is_private(&server) {
        let reason =
            format!("is {url:?}: links carry secrets, so use https, or http on this machine");
        return Err(ConfigError::value(key, reason));
    }
    Ok(origin)
}

/// An address or a network in CIDR notation: the address and the number of bits that count.
pub fn parse_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}
