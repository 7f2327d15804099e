//! The certificate of a server, where TLS ends here: read from two PEM files, and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use webpki::{EndEntityCert, KeyUsage};

use crate::config_error::ConfigError;
use crate::mounted;
use crate::text::chain;

/// How often the files are compared with what is in use. Certificates are replaced days before they expire.
const COMPARED_EVERY: Duration = Duration::from_secs(10);

/// The last instant of the year 9998: certificates end before it, or do not say when (RFC 5280, 4.1.2.5).
const END_OF_TIME: Duration = Duration::from_secs(253_370_764_799);

/// The files of the certificate chain and of its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The section of the configuration that names them, such as `portal`.
    pub section: &'static str,
    /// Its `tls_cert_file`: the certificate, followed by those of its issuers.
    pub certificates: PathBuf,
    /// Its `tls_key_file`.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The files that a section names; `None` if it names none.
    ///
    /// # Errors
    /// It names one of the two.
    pub fn of(
        section: &'static str,
        certificates: Option<&PathBuf>,
        key: Option<&PathBuf>,
    ) -> Result<Option<Self>, ConfigError> {
        match (certificates, key) {
            (Some(certificates), Some(key)) => Ok(Some(Self {
                section,
                certificates: certificates.clone(),
                key: key.clone(),
            })),
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => {
                let reason = "name both tls_cert_file and tls_key_file, or neither";
                Err(ConfigError::value(
                    format!("{section}.tls_key_file"),
                    reason,
                ))
            }
        }
    }

    fn certificates_key(&self) -> String {
        format!("{}.tls_cert_file", self.section)
    }

    fn key_key(&self) -> String {
        format!("{}.tls_key_file", self.section)
    }

    /// Reads both files; the key must be that of the certificate.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    fn read(&self) -> Result<TlsIdentity, ConfigError> {
        let texts = TlsTexts {
            certificates: read(&self.certificates_key(), &self.certificates)?,
            key: read(&self.key_key(), &self.key)?,
        };
        let refused = |key: &str, path: &Path, wrong: &str| {
            ConfigError::value(key, format!("names {}, {wrong}", path.display()))
        };
        let certificates = CertificateDer::pem_slice_iter(texts.certificates.as_bytes());
        let certificates: Vec<_> = certificates.filter_map(Result::ok).collect();
        if certificates.is_empty() {
            let wrong = "which is not a PEM certificate";
            return Err(refused(&self.certificates_key(), &self.certificates, wrong));
        }
        let key = PrivateKeyDer::from_pem_slice(texts.key.as_bytes()).map_err(|_| {
            let wrong = "which is not a PEM private key";
            refused(&self.key_key(), &self.key, wrong)
        })?;
        let certified = CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider());
        let certified = certified.map_err(|error| {
            let wrong = format!("which cannot be used with the certificate: {error}");
            refused(&self.key_key(), &self.key, &wrong)
        })?;
        Ok(TlsIdentity {
            texts,
            certified: Arc::new(certified),
        })
    }

    /// What the certificate says of itself, if the files can be used.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn check(&self, host: &str) -> Result<CertificateFacts, ConfigError> {
        let identity = self.read()?;
        Ok(CertificateFacts::of(&identity.certified.cert, host))
    }
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// When it ends; `None` if it does not say so.
    pub ends: Option<Timestamp>,
    /// Whether it is for the host that was asked about.
    pub is_for_host: bool,
}

impl CertificateFacts {
    fn of(certificates: &[CertificateDer<'_>], host: &str) -> Self {
        let first = certificates.first().map(EndEntityCert::try_from);
        let Some(Ok(certificate)) = first else {
            return Self {
                ends: None,
                is_for_host: false,
            };
        };
        let name = ServerName::try_from(host);
        let is_for_host = name.is_ok_and(|name| {
            let verified = certificate.verify_is_valid_for_subject_name(&name);
            verified.is_ok()
        });
        // The period is judged before the issuer, so that no issuer has to be known. The error has the end.
        let late = UnixTime::since_unix_epoch(END_OF_TIME);
        let usage = KeyUsage::server_auth();
        let verified = certificate.verify_for_usage(&[], &[], &[], late, usage, None, None);
        let ends = match verified.err() {
            Some(webpki::Error::CertExpired { not_after, .. }) => {
                let second = i64::try_from(not_after.as_secs()).ok();
                second.and_then(|second| Timestamp::from_second(second).ok())
            }
            _ => None,
        };
        Self { ends, is_for_host }
    }
}

fn read(key: &str, path: &Path) -> Result<String, ConfigError> {
    mounted::read_text(path).map_err(|error| {
        let unreadable =
            |error: &_| format!("names {}, which cannot be read: {error}", path.display());
        ConfigError::unread(key, error, unreadable)
    })
}

/// What the files contain; the key is a secret.
#[derive(PartialEq, Eq)]
struct TlsTexts {
    certificates: String,
    key: String,
}

struct TlsIdentity {
    texts: TlsTexts,
    certified: Arc<CertifiedKey>,
}

/// TLS with the newest usable certificate of the files.
#[derive(Clone)]
pub(crate) struct ServerTls {
    files: TlsFiles,
    identity: Arc<RwLock<TlsIdentity>>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerTls").field(&self.files).finish()
    }
}

/// Gives each handshake the certificate of the moment.
struct NewestCertificate(Arc<RwLock<TlsIdentity>>);

impl std::fmt::Debug for NewestCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewestCertificate(****)")
    }
}

impl ResolvesServerCert for NewestCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&identity.certified))
    }
}

impl ServerTls {
    /// # Errors
    /// Why the files cannot be used.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, ConfigError> {
        let identity = Arc::new(RwLock::new(files.read()?));
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::value(files.certificates_key(), error))?;
        let resolver = NewestCertificate(Arc::clone(&identity));
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            files,
            identity,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    pub(crate) const fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Reads the files each time they may have changed, until it is dropped. While they cannot be used, the certificate that
    /// was read before stays in use.
    pub(crate) async fn follow_files(&self) {
        let mut is_told = false;
        loop {
            tokio::time::sleep(COMPARED_EVERY).await;
            let files = self.files.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || files.read()).await else {
                continue;
            };
            match read {
                Ok(identity) => {
                    is_told = false;
                    if self.exchange(identity) {
                        tracing::info!(server = self.files.section, "a certificate was replaced");
                    }
                }
                Err(error) if !is_told => {
                    is_told = true;
                    let error = chain(&error);
                    tracing::error!(
                        server = self.files.section,
                        error,
                        "could not replace a certificate; the previous one stays in use"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Takes over what was read. `false` if it is what is in use.
    fn exchange(&self, read: TlsIdentity) -> bool {
        let mut identity = self
            .identity
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let has_changed = identity.texts != read.texts;
        *identity = read;
        has_changed
    }
}
