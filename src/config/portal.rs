//! `[portal]`: the links that sign on click, and the server behind them.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{OpenMode, RelayName, SignIn};
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
