//! PEM: keys as they lie in files (RFC 7468), read leniently.

use base64ct::{Base64, Encoding};

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
