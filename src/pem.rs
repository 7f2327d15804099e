//! PEM: keys and certificates as they lie in files (RFC 7468), read leniently.

use std::path::Path;

use base64ct::{Base64, Encoding};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::directory::read_mounted_text;

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
/// What is wrong with the file, in words that follow the key that names it.
pub(crate) fn authorities(path: &Path) -> Result<String, String> {
    let named = |wrong: &str| format!("names {}, {wrong}", path.display());
    let text = read_mounted_text(path)
        .map_err(|error| named(&format!("which cannot be read as PEM: {error}")))?;
    let certificates =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| named("which is not a PEM certificate"))?;
    if certificates.is_empty() {
        return Err(named("which is not a PEM certificate"));
    }
    let mut trusted = RootCertStore::empty();
    for certificate in certificates {
        let added = trusted.add(certificate);
        added.map_err(|error| {
            named(&format!(
                "which has a certificate that cannot be used: {error}"
            ))
        })?;
    }
    Ok(text)
}
