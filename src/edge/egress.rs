//! How requests of a section of the configuration leave this machine: which certificate authorities they trust, and which
//! proxy they use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::error::ConnectorError;
use aws_smithy_http_client::HttpClientError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{TlsContext, TrustStore};

use super::proxy::{Proxies, ProxyRoute};
use crate::config_error::ConfigError;
use crate::environment::Environment;
use crate::pem;

/// The variable with a CA bundle, as the SDKs and the AWS CLI read it.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-gen-config.html>
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// The egress settings of a section's requests. Clones share them.
#[derive(Clone, Default)]
pub struct Egress {
    /// The section that names it: `connections.reports`; `None` without a configuration, and for a server of this process.
    pub(super) section: Option<Arc<str>>,
    /// Authorities that are trusted besides the system's.
    authorities: Vec<Authorities>,
    proxies: Arc<Proxies>,
}

/// A file of authorities, and its contents when it was last read successfully: PEM, checked.
#[derive(Clone)]
struct Authorities {
    /// The key or the variable that names the file.
    key: Arc<str>,
    path: Arc<PathBuf>,
    text: Arc<Mutex<Arc<str>>>,
    /// Whether it was logged that the file cannot be read: it is read for each new connection.
    is_told: Arc<AtomicBool>,
}

impl Authorities {
    fn read(key: &str, path: &Path) -> Result<Self, ConfigError> {
        let text = pem::authorities(key, path)?;
        Ok(Self {
            key: key.into(),
            path: Arc::new(path.to_owned()),
            text: Arc::new(Mutex::new(text.into())),
            is_told: Arc::default(),
        })
    }

    /// The contents of the file now, or when it was last read successfully.
    fn again(&self) -> Arc<str> {
        let read = pem::authorities(&self.key, &self.path);
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(read) => {
                *text = read.into();
                self.is_told.store(false, Ordering::Relaxed);
            }
            Err(_) if self.is_told.swap(true, Ordering::Relaxed) => {}
            Err(error) => tracing::warn!(
                error = crate::text::chain(&error),
                "authorities could not be read again; those that were read before stay trusted"
            ),
        }
        Arc::clone(&text)
    }
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
    /// The settings for a section, with its `ca_file`.
    ///
    /// # Errors
    /// A file of authorities that cannot be used, or a variable whose value is not a proxy.
    pub fn of(
        section: &str,
        ca_file: Option<&Path>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut egress = Self::of_environment(environment)?;
        egress.section = Some(section.into());
        if let Some(path) = ca_file {
            let authorities = Authorities::read(&format!("{section}.ca_file"), path)?;
            egress.authorities.push(authorities);
        }
        Ok(egress)
    }

    /// The settings without a configuration.
    ///
    /// # Errors
    /// A variable whose value is not a file of authorities, or not a proxy.
    pub fn of_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let mut authorities = Vec::new();
        if let Some(path) = environment.get(CA_BUNDLE) {
            let bundle = Authorities::read(CA_BUNDLE, Path::new(path));
            let bundle = bundle.map_err(|error| match error {
                ConfigError::Value { key, reason } => ConfigError::Variables {
                    reason: format!("{key} {reason}"),
                },
                error => error,
            });
            authorities.push(bundle?);
        }
        Ok(Self {
            section: None,
            authorities,
            proxies: Arc::new(Proxies::of(environment)?),
        })
    }

    /// Logs the proxies that requests use.
    pub fn tell(&self) {
        for (scheme, proxy) in self.proxies.each() {
            tracing::info!("requests to {scheme}:// hosts go through {proxy}");
        }
    }

    /// The route of a request.
    pub(super) fn way(&self, uri: &str) -> ProxyRoute {
        self.proxies.way(uri)
    }

    /// The authorities that TLS trusts: the system's and the configured ones, as their files are now. A server with a certificate
    /// of a new authority is trusted as soon as the file has that authority.
    pub(super) async fn tls_context(&self) -> Result<TlsContext, HttpClientError> {
        let texts = match self.authorities.is_empty() {
            true => Vec::new(),
            false => {
                let files = self.authorities.clone();
                // A file may be on a mount that does not answer.
                let reading = tokio::task::spawn_blocking(move || {
                    files.iter().map(Authorities::again).collect()
                });
                reading.await.unwrap_or_default()
            }
        };
        let trusted = texts
            .iter()
            .fold(TrustStore::default(), |all, pem: &Arc<str>| {
                all.with_pem_certificate(pem.as_bytes())
            });
        TlsContext::builder().with_trust_store(trusted).build()
    }

    /// The proxy on a route.
    pub(super) fn proxy(&self, way: ProxyRoute) -> ProxyConfig {
        let proxy = self.proxies.on(way);
        proxy.map_or_else(ProxyConfig::disabled, |proxy| proxy.config().clone())
    }

    /// Why no connection was established, with the proxy that was used and with the remedy for an untrusted certificate.
    pub(super) fn explained(&self, error: ConnectorError, way: ProxyRoute) -> ConnectorError {
        let words = crate::text::chain(&error);
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

    /// The remedy for a certificate that was rejected, by the name of the error in rustls.
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
