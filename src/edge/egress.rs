//! How requests of one section of the configuration get out of this machine: which authorities they trust, and through which
//! proxy they go.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::error::ConnectorError;
use aws_smithy_http_client::HttpClientError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{TlsContext, TrustStore};

use super::proxy::{Proxies, Way};
use crate::config::{ConfigError, Environment};
use crate::pem;

/// The variable with a file of authorities, as the SDKs and the AWS CLI read it.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-gen-config.html>
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// The way out for one section's requests. Clones are the same way.
#[derive(Clone, Default)]
pub struct Egress {
    /// The section that names it: `connections.reports`; nothing without a configuration, and for a server of this process.
    pub(super) section: Option<Arc<str>>,
    /// Authorities that are trusted besides the system's: PEM, each checked.
    authorities: Vec<Arc<str>>,
    proxies: Arc<Proxies>,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("section", &self.section)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}

impl Egress {
    /// The way for a section, with the file of its `ca_file`.
    ///
    /// # Errors
    /// A file of authorities that cannot be used, a variable that names no proxy.
    pub fn of(
        section: &str,
        ca_file: Option<&Path>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut egress = Self::of_environment(environment)?;
        egress.section = Some(section.into());
        if let Some(path) = ca_file {
            let authorities = pem::authorities(&format!("{section}.ca_file"), path)?;
            egress.authorities.push(authorities.into());
        }
        Ok(egress)
    }

    /// The way where no configuration is.
    ///
    /// # Errors
    /// A variable that names no authorities, or no proxy.
    pub fn of_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let mut authorities = Vec::new();
        if let Some(path) = environment.get(CA_BUNDLE) {
            let bundle = pem::authorities(CA_BUNDLE, Path::new(path));
            let bundle = bundle.map_err(|error| match error {
                ConfigError::Value { key, reason } => ConfigError::Variables {
                    reason: format!("{key} {reason}"),
                },
                error => error,
            });
            authorities.push(bundle?.into());
        }
        Ok(Self {
            section: None,
            authorities,
            proxies: Arc::new(Proxies::of(environment)?),
        })
    }

    /// Tells the log through which proxies requests go.
    pub fn tell(&self) {
        for (scheme, proxy) in self.proxies.each() {
            tracing::info!("requests to {scheme}:// hosts go through {proxy}");
        }
    }

    /// The way of a request.
    pub(super) fn way(&self, uri: &str) -> Way {
        self.proxies.way(uri)
    }

    /// Whom TLS trusts: the system's authorities and ours.
    pub(super) fn tls_context(&self) -> Result<TlsContext, HttpClientError> {
        let trusted = self
            .authorities
            .iter()
            .fold(TrustStore::default(), |all, pem| {
                all.with_pem_certificate(pem.as_bytes())
            });
        TlsContext::builder().with_trust_store(trusted).build()
    }

    /// The proxy on a way.
    pub(super) fn proxy(&self, way: Way) -> ProxyConfig {
        let proxy = self.proxies.on(way);
        proxy.map_or_else(ProxyConfig::disabled, |proxy| proxy.config().clone())
    }

    /// Why no connection came about, with the proxy that was asked and with what repairs a certificate that is not trusted.
    pub(super) fn explained(&self, error: ConnectorError, way: Way) -> ConnectorError {
        let words = crate::error::chain(&error);
        let proxy = self.proxies.on(way);
        let remedy = self.remedy(&words);
        if proxy.is_none() && remedy.is_none() {
            return error;
        }
        let through = proxy.map(|proxy| format!("through {proxy}"));
        let parts = [through, remedy, Some(words)].into_iter().flatten();
        let text = parts.collect::<Vec<_>>().join(": ");
        match error.as_other() {
            _ if error.is_timeout() => ConnectorError::timeout(text.into()),
            _ if error.is_io() => ConnectorError::io(text.into()),
            kind => ConnectorError::other(text.into(), kind),
        }
    }

    /// What is to be done about a certificate, by the name that rustls gives to its fault.
    /// <https://docs.rs/rustls/latest/rustls/enum.CertificateError.html>
    fn remedy(&self, words: &str) -> Option<String> {
        let key = match &self.section {
            Some(section) => format!("{section}.ca_file"),
            None => CA_BUNDLE.to_owned(),
        };
        if words.contains("UnknownIssuer") {
            return Some(format!(
                "the server's certificate is of no authority that is trusted: name the authority's file in {key}"
            ));
        }
        words.contains("CaUsedAsEndEntity").then(|| {
            "the server's certificate is an authority's own: give it one that the authority signed"
                .to_owned()
        })
    }
}
