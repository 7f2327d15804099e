//! Splits a URL into its parts without trusting any of them.

use crate::disposition::is_bidi_control;
use crate::percent::{decode_lossy, nibble};

/// The parts of a URL, not decoded.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) scheme: &'a str,
    /// Host and port, without a user and password.
    pub(super) authority: &'a str,
    pub(super) has_user: bool,
    /// With its leading slash.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) has_fragment: bool,
}

impl<'a> Parts<'a> {
    /// `None` if the text is not an absolute URL.
    pub(super) fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let (rest, has_fragment) = rest
            .split_once('#')
            .map_or((rest, false), |(rest, _)| (rest, true));
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let slash = place.find('/').unwrap_or(place.len());
        let (authority, path) = place.split_at(slash);
        let (has_user, authority) = authority
            .rsplit_once('@')
            .map_or((false, authority), |(_, authority)| (true, authority));
        (!scheme.is_empty() && is_scheme && !authority.is_empty()).then_some(Self {
            scheme,
            authority,
            has_user,
            path,
            query,
            has_fragment,
        })
    }

    /// The host in lower case, without a port.
    pub(super) fn host(&self) -> String {
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => self.authority,
        };
        host.to_ascii_lowercase()
    }

    /// The host in lower case, without a port that is the scheme's own: what clients send as `Host`.
    pub(super) fn sent_host(&self) -> String {
        let authority = self.authority.to_ascii_lowercase();
        let port = match self.scheme.to_ascii_lowercase().as_str() {
            "http" => ":80",
            _ => ":443",
        };
        authority
            .strip_suffix(port)
            .unwrap_or(&authority)
            .to_owned()
    }

    /// Whether the connection does not leave the machine.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.starts_with("127.") || host == "[::1]"
    }
}

/// One parameter, decoded.
#[derive(Debug)]
pub(super) struct Parameter<'a> {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) raw_value: &'a str,
}

/// The parameters of a query, in order.
#[derive(Debug, Default)]
pub(super) struct Parameters<'a>(pub(super) Vec<Parameter<'a>>);

impl<'a> Parameters<'a> {
    pub(super) fn of(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let parameters = pairs.map(|pair| {
            // A URL that was copied from HTML source: `&amp;` stands for `&` there.
            let pair = pair.strip_prefix("amp;").unwrap_or(pair);
            let (name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            Parameter {
                name: decode_lossy(name),
                value: decode_lossy(raw_value),
                raw_value,
            }
        });
        Self(parameters.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.find(name).map(|parameter| parameter.value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.find(name).map(|parameter| parameter.raw_value)
    }

    fn find(&self, name: &str) -> Option<&Parameter<'a>> {
        self.0.iter().find(|parameter| parameter.name == name)
    }

    /// The names of parameters that occur more than once, each listed once.
    pub(super) fn duplicates(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        let mut twice: Vec<&str> = names
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        twice.dedup();
        twice
    }
}

/// Parts of the names of parameters that hold signatures or session tokens, compared without regard to case.
const SECRETS: [&str; 3] = ["signature", "security-token", "session-token"];

/// Removes the signature and the token, which a damaged URL may have anywhere: all text after `Signature=` is dropped, even if
/// that was escaped several times.
pub(super) fn without_secrets(text: &str) -> String {
    let (plain, ends) = decoded_through(text);
    match secret_in(&plain) {
        Some(end) => format!("{}****", &text[..ends[end - 1]]),
        None => text.to_owned(),
    }
}

/// A text with its escapes decoded until none is left, in lower case; and where each of its bytes ends in the text. It is read
/// once, however often it was escaped.
fn decoded_through(text: &str) -> (Vec<u8>, Vec<usize>) {
    let mut plain = Vec::with_capacity(text.len());
    let mut ends = Vec::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        plain.push(byte.to_ascii_lowercase());
        ends.push(at + 1);
        while let Some([b'%', high, low]) = plain.last_chunk()
            && let (Some(high), Some(low)) = (nibble(*high), nibble(*low))
        {
            let kept = plain.len() - 3;
            plain.truncate(kept);
            plain.push((high << 4 | low).to_ascii_lowercase());
            ends.truncate(kept);
            ends.push(at + 1);
        }
    }
    (plain, ends)
}

/// Where the name of the first secret and its sign of equality end, in a decoded text in lower case.
fn secret_in(plain: &[u8]) -> Option<usize> {
    let ends = SECRETS.iter().filter_map(|name| {
        let mut found = memchr::memmem::find_iter(plain, name);
        found.find_map(|at| {
            let end = at + name.len();
            Some(end + sign_of_equality(&plain[end..])?)
        })
    });
    ends.min()
}

/// The length of a leading `=`, which may be escaped for HTML or JSON.
fn sign_of_equality(plain: &[u8]) -> Option<usize> {
    let signs = ["=", "&#61;", "&#x3d;", "&equals;", "\\u003d"];
    let sign = signs
        .iter()
        .find(|sign| plain.starts_with(sign.as_bytes()))?;
    Some(sign.len())
}

/// Makes a text safe for a terminal: without control and bidirectional characters, and with a bounded length.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 1024;
    let mut shown = String::with_capacity(text.len());
    for c in text.chars().take(MOST) {
        if c.is_control() || is_bidi_control(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// A parameter's name for a message. A damaged URL may have any text as a name, even part of a signature.
pub(super) fn shown_name(name: &str) -> String {
    const MOST: usize = 40;
    let mut short: String = name.chars().take(MOST).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    shown(&without_secrets(&short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_name_of_a_secret_is_left_out() {
        let table = [
            "a/b.pdf",
            "the signature of Ann.pdf",
            "k?X-Amz-Expires=1&X-Amz-Signature=0a1b&X-Amz-Security-Token=Fwo",
            "k&x-amz-signature=0a1b",
            "k%3FX-Amz-Signature%3D0a1b",
            "k%253FX-Amz-Signature%25253D0a1b",
            "k%253F%2553ignature%253D0a1b",
            "k&amp;X-Amz-Security-Token&#x3D;Fwo",
            "1&X-Amz-S3session-Token=Fwo",
            "ü%26Signature=~-_",
            "k%3FX-Amz-Sig%6Eature%3D0a1b&X-Amz-Security-Token=Fwo",
            "%%35%33ignature%%33%444=0a1b",
        ]
        .map(without_secrets);
        insta::assert_snapshot!(table.join("\n"), @r"
        a/b.pdf
        the signature of Ann.pdf
        k?X-Amz-Expires=1&X-Amz-Signature=****
        k&x-amz-signature=****
        k%3FX-Amz-Signature%3D****
        k%253FX-Amz-Signature%25253D****
        k%253F%2553ignature%253D****
        k&amp;X-Amz-Security-Token&#x3D;****
        1&X-Amz-S3session-Token=****
        ü%26Signature=****
        k%3FX-Amz-Sig%6Eature%3D****
        %%35%33ignature%%33%44****
        ");
    }

    /// A decoding for each level would take minutes.
    #[test]
    fn a_text_that_was_escaped_very_often_is_read_once() {
        let levels = "25".repeat(200_000);
        let text = format!("k%{levels}53ignature%{levels}3D0a1b");
        let cut = without_secrets(&text);
        assert_eq!(cut, format!("{}****", &text[..text.len() - 4]));
        let text = format!("k%{levels}");
        assert_eq!(without_secrets(&text), text);
    }
}
