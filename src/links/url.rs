//! A signed URL: a bearer token that must not be printed by accident.

use std::fmt;

/// A URL that opens an object for whoever holds it.
///
/// It has no `Display`, and its `Debug` hides it. [`PresignedUrl::expose`] is the one way to its text, and the
/// places that call it are the places from which a link leaves the process.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedUrl(String);

impl PresignedUrl {
    pub(crate) const fn new(url: String) -> Self {
        Self(url)
    }

    /// A URL that opens nothing (RFC 2606), for previews; `padding` bytes longer than it need be.
    pub(crate) fn example(key: &str, padding: usize) -> Self {
        let mut url = String::from("https://example.invalid/");
        super::sigv4::push_path_escaped(key, &mut url);
        url.push_str("?x-handout=00000000000000000000000000000000&X-Amz-Signature=");
        url.push_str(&"0".repeat(64 + padding));
        Self(url)
    }

    /// The URL itself, for a mail, a page or a person's own terminal.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// How long it is, in bytes.
    pub(crate) const fn byte_len(&self) -> usize {
        self.0.len()
    }

    /// The signature in it, from which the audit log makes a fingerprint.
    pub(crate) fn signature(&self) -> &str {
        // It stands near the end; only a session's token may follow.
        let mut rest = self.0.as_str();
        while let Some(at) = memchr::memrchr(b'&', rest.as_bytes()) {
            if let Some(signature) = signature_of(&rest[at + 1..]) {
                return signature;
            }
            rest = &rest[..at];
        }
        ""
    }
}

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresignedUrl(****)")
    }
}

/// Finds the signature in a URL's query, S3's or CloudFront's.
pub fn signature_in(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(signature_of)
}

fn signature_of(pair: &str) -> Option<&str> {
    pair.strip_prefix("X-Amz-Signature=")
        .or_else(|| pair.strip_prefix("Signature="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_url_does_not_print() {
        let url = "https://b.s3.amazonaws.com/k?a=b&X-Amz-Signature=abc&X-Amz-Security-Token=d";
        let url = PresignedUrl::new(url.to_owned());
        assert_eq!(format!("{url:?}"), "PresignedUrl(****)");
        assert_eq!(url.signature(), "abc");
    }
}
