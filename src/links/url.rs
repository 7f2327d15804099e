//! A signed URL: a bearer token that must not be printed by accident.

use std::fmt;

use super::target::decode_path;

/// The parameters that have the signature, S3's and CloudFront's.
const SIGNATURES: [&str; 2] = ["X-Amz-Signature", "Signature"];

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

/// Finds the signature in a URL's query, S3's or CloudFront's, however its name and its digits are spelled.
pub fn signature_in(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_signature = SIGNATURES.contains(&&*decode_path(name)?);
        is_signature.then(|| decode_path(value))?
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
