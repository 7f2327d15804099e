//! SigV4 query signing of `GetObject`: the hot path, and nothing but arithmetic.
//!
//! The signing key is derived once for (credentials, date, region), its HMAC state is cloned for each link, and
//! everything that is the same for all links of a batch is spelled out once. What comes out equals, byte for
//! byte, what the AWS SDK for Rust presigns for the same instant; the tests hold the two together.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::sync::Arc;

use jiff::Timestamp;

use super::PresignedUrl;
use crate::keyring::midstate::{MacMidstate, Midstate};
use crate::keyring::{hex_of, push_hex};

pub use super::target::{Addressing, EndpointError, Target};

/// The service's name in every scope that we sign for.
const SERVICE: &str = "s3";

/// The parameters of a query that carry its signature, which no link can be without.
pub(crate) const QUERY_PARAMETERS: [&str; 6] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
];

/// What signs: the keys, and for temporary ones the token that belongs to them.
#[derive(Clone)]
pub struct Keys {
    /// The access key's id: no secret, and part of every link.
    pub access_key_id: Arc<str>,
    /// The secret.
    pub secret_access_key: Arc<str>,
    /// The token of temporary credentials.
    pub session_token: Option<Arc<str>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keys")
            .field(&self.access_key_id)
            .field(&"****")
            .finish()
    }
}

/// What sets one link of a batch apart from the others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// The object's key, any UTF-8.
    pub key: &'a str,
    /// `response-content-disposition`, if the store shall send one.
    pub content_disposition: Option<&'a str>,
    /// `response-content-type`, if the store shall send another than its own.
    pub content_type: Option<&'a str>,
    /// The object's version, if it is pinned.
    pub version_id: Option<&'a str>,
    /// The identity that is signed into the link as `x-handout`. S3 ignores parameters that begin with `x-` and
    /// writes them to its access log.
    pub link_id: Option<&'a str>,
}

/// Signs links to objects of one bucket, all for the same instant.
#[derive(Clone)]
pub struct Presigner {
    /// The HMAC under the signing key, fed with what every string to sign begins with:
    /// `AWS4-HMAC-SHA256\n<instant>\n<scope>\n`.
    begun: MacMidstate,
    /// `https://bucket.s3.eu-west-1.amazonaws.com/`: what stands before the key in a URL.
    url_head: String,
    /// How much of `url_head` is not part of the signed path.
    origin_length: usize,
    /// `&X-Amz-Algorithm=…&X-Amz-Signature=`: what stands between our parameters and the signature.
    url_signature: String,
    /// `&X-Amz-Security-Token=…`; empty for keys without a token.
    security_token: String,
    /// The same, in the order in which it is signed: what stands between the path and our parameters.
    canonical_middle: String,
    /// What stands after our parameters.
    canonical_tail: String,
}

/// All that follows the place has the token of the session in it, or is as good as a signature.
impl std::fmt::Debug for Presigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presigner")
            .field("url_head", &self.url_head)
            .finish_non_exhaustive()
    }
}

impl Presigner {
    /// Prepares signatures that start at `signed_at` and last for `signed_for_secs` (S3 allows 1 to 604,800).
    pub fn new(
        target: Target,
        keys: &Keys,
        region: &str,
        signed_at: Timestamp,
        signed_for_secs: u64,
    ) -> Self {
        let instant = signed_at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &instant[..8];
        let scope = format!("{date}/{region}/{SERVICE}/aws4_request");
        let mut claims = String::from("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=");
        push_escaped(&keys.access_key_id, &IN_QUERY, &mut claims);
        push_escaped(&format!("/{scope}"), &IN_QUERY, &mut claims);
        claims.push_str(&format!(
            "&X-Amz-Date={instant}&X-Amz-Expires={signed_for_secs}"
        ));
        let mut security_token = String::new();
        if let Some(token) = &keys.session_token {
            security_token.push_str("&X-Amz-Security-Token=");
            push_escaped(token, &IN_QUERY, &mut security_token);
        }
        let mut begun = signing_key(&keys.secret_access_key, date, region);
        begun.update(format!("AWS4-HMAC-SHA256\n{instant}\n{scope}\n").as_bytes());
        let Target { origin, host, path } = target;
        Self {
            begun,
            origin_length: origin.len(),
            url_head: origin + &path,
            url_signature: format!("&{claims}&X-Amz-SignedHeaders=host&X-Amz-Signature="),
            // Sorted by byte, as the canonical query must be: capitals come first.
            canonical_middle: format!("\n{claims}{security_token}&X-Amz-SignedHeaders=host"),
            canonical_tail: format!("&x-id=GetObject\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"),
            security_token,
        }
    }

    /// The scheme, host and port of its links.
    pub fn origin(&self) -> &str {
        &self.url_head[..self.origin_length]
    }

    /// Signs one link.
    pub fn presign(&self, ask: &Ask<'_>) -> PresignedUrl {
        let room = self.url_head.len() + self.url_signature.len() + self.security_token.len();
        let mut url = String::with_capacity(room + ask.spelled_length() + 128);
        url.push_str(&self.url_head);
        push_escaped(ask.key, &IN_PATH, &mut url);
        let path = self.origin_length..url.len();
        // The SDK's order: its own parameter, the operation's, ours; then those of the signature.
        url.push_str("?x-id=GetObject");
        let parameters_from = url.len();
        push_overrides(ask, &mut url);
        push_parameter("x-handout", ask.link_id, &mut url);
        let signature = self.signature(&url[path], &url[parameters_from..]);
        url.push_str(&self.url_signature);
        push_hex(&signature, &mut url);
        url.push_str(&self.security_token);
        PresignedUrl::new(url)
    }

    /// Signs a path and our parameters, both as they stand in the URL, escaped and sorted.
    fn signature(&self, path: &str, parameters: &str) -> [u8; 32] {
        let mut canonical_request = Midstate::new();
        for part in [
            "GET\n",
            path,
            &self.canonical_middle,
            parameters,
            &self.canonical_tail,
        ] {
            canonical_request.update(part.as_bytes());
        }
        let mut string_to_sign = self.begun;
        string_to_sign.update(&hex_of(&canonical_request.finish()));
        string_to_sign.finish()
    }
}

impl Ask<'_> {
    /// About how long its parts are, once escaped.
    fn spelled_length(&self) -> usize {
        let texts = [
            Some(self.key),
            self.content_disposition,
            self.content_type,
            self.version_id,
            self.link_id,
        ];
        texts
            .into_iter()
            .flatten()
            .map(|text| text.len() + text.len() / 2 + 32)
            .sum()
    }
}

/// The operation's parameters in their sorted order, which is also the SDK's.
pub(super) fn push_overrides(ask: &Ask<'_>, text: &mut String) {
    push_parameter(
        "response-content-disposition",
        ask.content_disposition,
        text,
    );
    push_parameter("response-content-type", ask.content_type, text);
    push_parameter("versionId", ask.version_id, text);
}

pub(crate) fn push_parameter(name: &str, value: Option<&str>, text: &mut String) {
    if let Some(value) = value {
        text.push('&');
        text.push_str(name);
        text.push('=');
        push_escaped(value, &IN_QUERY, text);
    }
}

pub(crate) fn signing_key(secret: &str, date: &str, region: &str) -> MacMidstate {
    let step = |key: &[u8], data: &str| {
        let mut mac = MacMidstate::new(key);
        mac.update(data.as_bytes());
        mac.finish()
    };
    let date_key = step(format!("AWS4{secret}").as_bytes(), date);
    let region_key = step(&date_key, region);
    let service_key = step(&region_key, SERVICE);
    MacMidstate::new(&step(&service_key, "aws4_request"))
}

/// Which bytes stand for themselves.
type Plain = [bool; 256];

/// In a query, RFC 3986's unreserved characters stand for themselves, everything else is `%XX`; never `+` for a space.
const IN_QUERY: Plain = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// In a path, a slash does too.
const IN_PATH: Plain = {
    let mut table = IN_QUERY;
    table[b'/' as usize] = true;
    table
};

/// Appends a key as it stands in a URL's path.
pub(crate) fn push_path_escaped(key: &str, out: &mut String) {
    push_escaped(key, &IN_PATH, out);
}

/// `%XX` for each byte, one after the other.
const ESCAPES: &str = {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    const TABLE: [u8; 768] = {
        let mut table = [b'%'; 768];
        let mut byte = 0;
        while byte < 256 {
            table[3 * byte + 1] = DIGITS[byte >> 4];
            table[3 * byte + 2] = DIGITS[byte & 15];
            byte += 1;
        }
        table
    };
    match std::str::from_utf8(&TABLE) {
        Ok(escapes) => escapes,
        Err(_) => panic!("an escape is ASCII"),
    }
};

fn escaped(byte: u8) -> &'static str {
    let at = 3 * usize::from(byte);
    &ESCAPES[at..at + 3]
}

/// Appends `text` percent-encoded; runs of plain characters, which are most, are copied whole.
#[inline]
fn push_escaped(text: &str, plain: &Plain, out: &mut String) {
    // What is escaped and is not ASCII may stand inside of a character; a plain run never ends there.
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !plain[usize::from(byte)] {
            if from < at {
                out.push_str(&text[from..at]);
            }
            out.push_str(escaped(byte));
            from = at + 1;
        }
    }
    if from < text.len() {
        out.push_str(&text[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::url::signature_in;

    /// A presigner for a bucket of `us-east-1`.
    fn presigner(
        endpoint: &str,
        bucket: &str,
        keys: (&str, &str, Option<&str>),
        at: &str,
        secs: u64,
    ) -> Presigner {
        let target = Target::new(endpoint, &bucket.parse().unwrap(), Addressing::VirtualHost);
        let (id, secret, token) = keys;
        let keys = Keys {
            access_key_id: id.into(),
            secret_access_key: secret.into(),
            session_token: token.map(Into::into),
        };
        let at = at.parse().unwrap();
        Presigner::new(target.unwrap(), &keys, "us-east-1", at, secs)
    }

    #[test]
    fn aws_example() {
        // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
        let keys = (
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
        );
        let (endpoint, at) = ("https://s3.amazonaws.com", "2013-05-24T00:00:00Z");
        let mut presigner = presigner(endpoint, "examplebucket", keys, at, 86_400);
        // The example has no x-id, which all our links have.
        presigner.canonical_tail = presigner.canonical_tail.replace("&x-id=GetObject", "");
        let signature = presigner.signature("/test.txt", "");
        assert_eq!(
            crate::keyring::hex(&signature),
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn example_of_the_sdk_with_a_session_token() {
        // aws-sdk-s3, tests/presigning.rs
        let keys = (
            "ANOTREAL",
            "notrealrnrELgWzOk3IfjzDKtFBhDby",
            Some("notarealsessiontoken"),
        );
        let (endpoint, at) = ("https://s3.us-east-1.amazonaws.com", "2009-02-13T23:31:31Z");
        let url = presigner(endpoint, "test-bucket", keys, at, 30).presign(&Ask {
            key: "test-key",
            ..Ask::default()
        });
        assert_eq!(
            url.expose(),
            "https://test-bucket.s3.us-east-1.amazonaws.com/test-key?x-id=GetObject&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ANOTREAL%2F20090213%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20090213T233131Z&X-Amz-Expires=30&X-Amz-SignedHeaders=host&X-Amz-Signature=758353318739033a850182c7b3435076eebbbd095f8dcf311383a6a1e124c4cb&X-Amz-Security-Token=notarealsessiontoken"
        );
    }

    #[test]
    fn what_signs_prints_no_secret() {
        let keys = ("AKIA", "secret-of-keys", Some("token+of/session"));
        let (endpoint, at) = ("https://s3.amazonaws.com", "2013-05-24T00:00:00Z");
        let presigner = presigner(endpoint, "reports", keys, at, 60);
        let debug = format!("{presigner:?}");
        assert_eq!(
            debug,
            "Presigner { url_head: \"https://reports.s3.amazonaws.com/\", .. }"
        );
    }

    #[test]
    fn escaping_keeps_the_unreserved_and_nothing_else() {
        let mut text = String::new();
        push_escaped("/a b+ü~%2F'(*)", &IN_PATH, &mut text);
        assert_eq!(text, "/a%20b%2B%C3%BC~%252F%27%28%2A%29");
    }

    #[test]
    fn every_parameter_changes_the_signature() {
        let (endpoint, at) = ("https://s3.eu-west-1.amazonaws.com", "1970-01-01T00:00:00Z");
        let presigner = presigner(endpoint, "bbb", ("AKIA", "secret", None), at, 60);
        let plain = Ask {
            key: "k",
            ..Ask::default()
        };
        let asks = [
            plain,
            Ask { key: "l", ..plain },
            Ask {
                content_disposition: Some("inline"),
                ..plain
            },
            Ask {
                content_type: Some("image/png"),
                ..plain
            },
            Ask {
                version_id: Some("1"),
                ..plain
            },
            Ask {
                link_id: Some("1"),
                ..plain
            },
        ];
        let signatures: std::collections::HashSet<String> = asks
            .iter()
            .map(|ask| signature_in(presigner.presign(ask).expose()).unwrap())
            .collect();
        assert_eq!(signatures.len(), asks.len());
    }
}
