//! Proofpoint's URL Defense, versions 2 and 3. Version 1 has the original percent-encoded, as other services have it.
//!
//! <https://help.proofpoint.com/Threat_Insight_Dashboard/API_Documentation/URL_Decoder_API>

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::percent::decode_lossy;

/// How many characters `**A`, `**B` … stand for: the place of the letter in this alphabet, and two.
const RUNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The original in a URL of Proofpoint.
pub(super) fn inner(url: &str) -> Option<String> {
    if let Some((_, wrapped)) = url.split_once("/v3/__") {
        return version_3(wrapped);
    }
    let (_, query) = url.split_once("/v2/url?")?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("u="))?;
    // `-3A` stands for `%3A`, and `_` for a slash.
    Some(decode_lossy(&value.replace('-', "%").replace('_', "/")))
}

/// `https://host/path*20name__;JQ!!…`: each `*` stands for the next of the characters behind `__;`, which are in Base64, and
/// `**A` for a run of them.
fn version_3(wrapped: &str) -> Option<String> {
    // The last one: the original may be a URL of the same kind.
    let (text, rest) = wrapped.rsplit_once("__;")?;
    let (encoded, _) = rest.split_once('!')?;
    let replaced = Base64UrlUnpadded::decode_vec(encoded.trim_end_matches('=')).ok()?;
    let replaced = String::from_utf8(replaced).ok()?;
    let mut replaced = replaced.chars();
    let mut url = String::with_capacity(text.len());
    let mut text = text.chars().peekable();
    while let Some(c) = text.next() {
        if c != '*' {
            url.push(c);
        } else if text.next_if_eq(&'*').is_some() {
            let letter = u8::try_from(text.next()?).ok()?;
            let length = RUNS.iter().position(|run| *run == letter)? + 2;
            url.extend(replaced.by_ref().take(length));
        } else {
            url.push(replaced.next()?);
        }
    }
    Some(with_two_slashes(url))
}

/// Some mail programs take one of the two slashes before the host out.
fn with_two_slashes(url: String) -> String {
    for scheme in ["https:/", "http:/"] {
        if let Some(rest) = url.strip_prefix(scheme)
            && !rest.starts_with('/')
        {
            return format!("{scheme}/{rest}");
        }
    }
    url
}
