//! The parts of CloudFront URLs that need no key: reserved parameters, Base64 in URLs, and wildcards.

use base64ct::{Base64, Encoding};

/// The parameters that CloudFront reserves and removes before it compares a URL with a policy.
pub(crate) const OWN_PARAMETERS: [&str; 5] = [
    "Expires",
    "Policy",
    "Signature",
    "Key-Pair-Id",
    "Hash-Algorithm",
];

/// Base64 in CloudFront's alphabet, which needs no percent-encoding.
#[cfg(feature = "cloudfront")]
pub(crate) fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
        .replace('+', "-")
        .replace('=', "_")
        .replace('/', "~")
}

/// Decodes CloudFront's Base64.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.replace('-', "+").replace('_', "=").replace('~', "/");
    Base64::decode_vec(&text).ok()
}

/// Whether a resource with `*` and `?` matches a URL. The search backtracks only to the last `*`.
pub(crate) fn matches(resource: &[u8], url: &[u8]) -> bool {
    let (mut at, mut in_url) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_url < url.len() {
        match resource.get(at) {
            Some(b'*') => {
                star = Some((at, in_url));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == url[in_url] => {
                at += 1;
                in_url += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else {
                    return false;
                };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                in_url = taken + 1;
            }
        }
    }
    resource[at..].iter().all(|byte| *byte == b'*')
}
