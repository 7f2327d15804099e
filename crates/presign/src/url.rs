//! A presigned URL: a bearer token that must not be printed by accident.

use std::fmt;

use crate::percent::decode;

/// The parameters that hold the signature, in S3 and in CloudFront.
const SIGNATURES: [&str; 2] = ["X-Amz-Signature", "Signature"];

/// A URL that opens an object for every holder of it.
///
/// It has no `Display`, and its `Debug` hides it. [`PresignedUrl::expose`] is the only access to its text, so its callers are the
/// only places where a URL leaves the process.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedUrl(String);

impl PresignedUrl {
    /// Wraps a URL that was signed elsewhere, so that it is not printed by accident.
    pub const fn new(url: String) -> Self {
        Self(url)
    }

    /// The text of the URL. It is secret: keep it out of logs.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The signature of S3 or CloudFront in the URL, for fingerprints in logs; empty if there is none. It is as secret as the
    /// URL.
    pub fn signature(&self) -> &str {
        // The signature is near the end; only a session token may follow it.
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

/// Finds the signature of S3 or CloudFront in a URL's query, in any encoding of its name and digits.
pub fn signature_in(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_signature = SIGNATURES.contains(&&*decode(name)?);
        is_signature.then(|| decode(value))?
    })
}

fn signature_of(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=')?;
    SIGNATURES.contains(&name).then_some(value)
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

    #[test]
    fn a_signature_is_found_however_it_is_spelled() {
        for query in [
            "a=b&X-Amz-Signature=0abc",
            "X-Amz-Signature=%30abc&c=d",
            "X-Amz-Signatur%65=0ab%63",
            "x=%ff&Signature=0abc",
        ] {
            let url = format!("https://b.s3.amazonaws.com/k?{query}");
            assert_eq!(signature_in(&url).as_deref(), Some("0abc"), "{query}");
        }
        assert_eq!(
            signature_in("https://b.s3.amazonaws.com/k?signature=0"),
            None
        );
    }
}
