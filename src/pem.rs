//! Certificates of authorities in PEM files.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config_error::ConfigError;
use crate::mounted;

/// Reads a file with certificates of authorities, at least one; each must be usable as a trust anchor.
///
/// # Errors
/// Why the file that `key` names cannot be used.
pub(crate) fn authorities(key: &str, path: &Path) -> Result<String, ConfigError> {
    let named = |wrong: &str| format!("names {}, {wrong}", path.display());
    let refused = |wrong: &str| ConfigError::value(key, named(wrong));
    let text = mounted::read_text(path).map_err(|error| {
        let unreadable = |error: &_| named(&format!("which cannot be read as PEM: {error}"));
        ConfigError::unread(key, error, unreadable)
    })?;
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    let certificates = certificates.collect::<Result<Vec<_>, _>>();
    let certificates = certificates.unwrap_or_default();
    if certificates.is_empty() {
        return Err(refused("which is not a PEM certificate"));
    }
    let mut trusted = RootCertStore::empty();
    for certificate in certificates {
        trusted.add(certificate).map_err(|error| {
            refused(&format!(
                "which has a certificate that cannot be used: {error}"
            ))
        })?;
    }
    Ok(text)
}
