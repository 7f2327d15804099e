//! PEM, the text format of keys and certificates (RFC 7468), parsed leniently.
//!
//! A key may come from a YAML file or an environment variable, indented or on one line. RFC 7468, section 2, allows parsers to
//! accept that.

use base64ct::{Base64, Encoding};

/// One block of a PEM text, from `BEGIN` to `END`.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    /// The label, such as `PRIVATE KEY`.
    pub label: &'a str,
    /// The text between the two lines, including headers.
    pub body: &'a str,
}

/// A body may be a private key, so it is not printed.
impl std::fmt::Debug for Block<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl Block<'_> {
    /// The decoded body; `None` if it is not Base64. Line lengths and indentation are ignored.
    pub fn der(&self) -> Option<Vec<u8>> {
        let digits: String = self.body.split_ascii_whitespace().collect();
        Base64::decode_vec(&digits).ok()
    }
}

/// The blocks of a PEM text, in order. An unfinished block is skipped. A text often has several: `openssl ecparam -genkey` writes
/// its parameters before the key.
pub fn blocks(pem: &str) -> impl Iterator<Item = Block<'_>> {
    pem.split("-----BEGIN ").skip(1).filter_map(|rest| {
        let (label, rest) = rest.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        Some(Block { label, body })
    })
}
