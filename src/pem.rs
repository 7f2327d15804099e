//! PEM: keys and certificates as they lie in files (RFC 7468), read leniently.

use std::path::Path;

use base64ct::{Base64, Encoding};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config_error::ConfigError;
use crate::mounted;

/// One `BEGIN`…`END` of a PEM text.
pub(crate) struct Block<'a> {
    /// What it is: `PRIVATE KEY`.
    pub(crate) label: &'a str,
    /// What stands between the two lines.
    pub(crate) body: &'a str,
}

impl Block<'_> {
    /// Decoded, whatever the length or the indentation of its lines.
    pub(crate) fn der(&self) -> Option<Vec<u8>> {
        let digits: String = self.body.split_ascii_whitespace().collect();
        Base64::decode_vec(&digits).ok()
    }
}

/// The blocks in order. Several are usual: `openssl ecparam -genkey` writes its parameters before the key.
pub(crate) fn blocks(pem: &str) -> impl Iterator<Item = Block<'_>> {
    pem.split("-----BEGIN ").skip(1).filter_map(|rest| {
        let (label, rest) = rest.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        Some(Block { label, body })
    })
}

/// The text of a file with certificates of authorities, one or more, each of which can be trusted.
///
/// # Errors
/// What is wrong with the file that `key` names.
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
