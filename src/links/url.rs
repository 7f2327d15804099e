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

    /// A URL that opens nothing (RFC 2606), for previews: it takes as much room in a mail as `real` does.
    pub(crate) fn example(key: &str, real: &Self) -> Self {
        let mut url = String::from("https://example.invalid/");
        super::sigv4::push_path_escaped(key, &mut url);
        url.push_str("?x-handout=00000000000000000000000000000000&X-Amz-Signature=");
        let missing = mailed_len(&real.0).saturating_sub(mailed_len(&url));
        url.push_str(&"0".repeat(missing));
        Self(url)
    }

    /// The URL itself, for a mail, a page or a person's own terminal.
    pub fn expose(&self) -> &str {
        &self.0
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

/// How many bytes a URL takes in the HTML of a mail: `&` becomes `&amp;`, and quoted-printable (RFC 2045, 6.7) writes `=` as
/// `=3D`.
fn mailed_len(url: &str) -> usize {
    let byte_len = |byte| match byte {
        b'&' => "&amp;".len(),
        b'=' => "=3D".len(),
        _ => 1,
    };
    url.bytes().map(byte_len).sum()
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
