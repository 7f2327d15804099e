//! Checks whether links open for their recipients, by the answers to a test link.
//!
//! A link names the server that recipients reach, which may be a proxy in front of the endpoint that the program itself uses.
//! A link to a missing object is opened at both: if links work, both give the same answer of the store.

use std::str::from_utf8;

/// A server's answer to a GET of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAnswer {
    status: u16,
    /// The code of a store's error; an error answer without a code is not the store's.
    code: Option<String>,
    message: String,
    /// The region that the error names.
    region: Option<String>,
}

/// Why links do not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// There was no answer.
    #[error("links name {origin}, which cannot be reached from here: {reason}")]
    NotReachable {
        /// The server that links name.
        origin: String,
        /// What went wrong.
        reason: String,
    },
    /// The request that reached the store differs from the signed one.
    #[error(
        "links name {origin}, and the store behind it rejects their signature ({code}): the proxy changes Host or the path on the way. Let it pass both unchanged, with nginx by `proxy_set_header Host $http_host` and a proxy_pass without a path"
    )]
    Changed {
        /// The server that links name.
        origin: String,
        /// What the store called it.
        code: String,
    },
    /// The signature is for another region.
    #[error(
        "links name {origin}, whose region is {}, and are signed for {signed}: set the connection's region",
        expected.as_deref().unwrap_or("a different one")
    )]
    Region {
        /// The server that links name.
        origin: String,
        /// The region in the signature.
        signed: String,
        /// The region that the store names.
        expected: Option<String>,
    },
    /// The answer is not a store's.
    #[error(
        "links name {origin}, where a server that is not a store answers (status {status}, without an error code of S3): it passes no requests on to the store"
    )]
    NoStore {
        /// The server that links name.
        origin: String,
        /// The status of the answer.
        status: u16,
    },
    /// The store rejects the link for another reason.
    #[error("links name {origin}, which answers {status} {code}")]
    Refused {
        /// The server that links name.
        origin: String,
        /// The status of the answer.
        status: u16,
        /// What the store called it.
        code: String,
    },
}

impl LinkAnswer {
    /// Reads an answer; only the body of an error is parsed.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let text = from_utf8(body).unwrap_or_default();
        let word = |name: &str| {
            let word = element(text, name).filter(|word| is_word(word));
            word.map(ToOwned::to_owned)
        };
        Self {
            status,
            code: word("Code"),
            message: element(text, "Message").unwrap_or_default().to_owned(),
            region: word("Region"),
        }
    }

    /// Whether the answer shows that links work. For a missing object, a key without the list permission gets `AccessDenied`.
    fn is_of_good_way(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        matches!(code, "NoSuchKey" | "NoSuchBucket" | "AccessDenied")
    }

    /// Whether the store expects a signature for another region.
    fn is_about_region(&self, code: &str) -> bool {
        match code {
            "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => {
                true
            }
            _ => code.starts_with("Authorization") && self.message.contains("region"),
        }
    }

    /// The region that the store expects, if it says it: as an element, or in S3's message, "expecting 'eu-west-1'".
    fn expected_region(&self) -> Option<String> {
        let quoted = self.message.split_once("expecting '");
        let quoted = quoted.and_then(|(_, rest)| rest.split('\'').next());
        let said = quoted
            .filter(|region| is_word(region))
            .map(ToOwned::to_owned);
        said.or_else(|| self.region.clone())
    }
}

/// Judges the answers to a link: that of the server that links name, and that of the endpoint that the program itself uses, if
/// it gave one.
///
/// # Errors
/// Why links do not open.
pub fn judge(
    origin: &str,
    region: &str,
    public: &LinkAnswer,
    own: Option<&LinkAnswer>,
) -> Result<(), Obstacle> {
    let origin = origin.to_owned();
    let status = public.status;
    let Some(code) = public.code.clone() else {
        return Err(Obstacle::NoStore { origin, status });
    };
    if public.is_about_region(&code) {
        return Err(Obstacle::Region {
            origin,
            signed: region.to_owned(),
            expected: public.expected_region(),
        });
    }
    let is_good_at_own = own.is_none_or(LinkAnswer::is_of_good_way);
    let is_the_same = own.is_none_or(|own| own.code == public.code);
    if public.is_of_good_way() && (is_the_same || status != 403) {
        return Ok(());
    }
    // Some stores answer a wrong signature with AccessDenied only: then the same link is not denied at their own endpoint.
    Err(match is_good_at_own && status == 403 {
        true => Obstacle::Changed { origin, code },
        false => Obstacle::Refused {
            origin,
            status,
            code,
        },
    })
}

/// The text of the first element of that name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// Whether a store's text can be shown as a region or a code.
fn is_word(text: &str) -> bool {
    let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.len() <= 63 && !text.is_empty() && text.bytes().all(is_of_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: &str, more: &str) -> LinkAnswer {
        let xml = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code>{more}</Error>");
        LinkAnswer::read(status, xml.as_bytes())
    }

    fn verdict(public: &LinkAnswer, own: Option<&LinkAnswer>) -> String {
        judge("https://files.acme.example", "us-east-1", public, own)
            .map_or_else(|obstacle| obstacle.to_string(), |()| "opens".to_owned())
    }

    #[test]
    fn what_stands_in_the_way_is_told_apart() {
        let not_there = error(404, "NoSuchKey", "");
        let denied = error(403, "AccessDenied", "");
        let wrong = error(403, "SignatureDoesNotMatch", "");
        let minio = "<Message>Error parsing the X-Amz-Credential parameter; the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message>";
        let aws = "<Message>the region 'us-east-1' is wrong</Message><Region>eu-west-2</Region>";
        let page = LinkAnswer::read(404, b"<html><title>404 Not Found</title></html>");
        let table = [
            verdict(&not_there, Some(&not_there)),
            verdict(&denied, Some(&denied)),
            verdict(&not_there, None),
            verdict(&not_there, Some(&denied)),
            verdict(&wrong, Some(&not_there)),
            verdict(&wrong, Some(&denied)),
            // Garage's answer to a wrong signature.
            verdict(&denied, Some(&not_there)),
            verdict(&wrong, None),
            verdict(&wrong, Some(&wrong)),
            verdict(
                &error(400, "AuthorizationQueryParametersError", minio),
                Some(&not_there),
            ),
            verdict(&error(400, "AuthorizationHeaderMalformed", aws), None),
            verdict(&error(301, "PermanentRedirect", ""), Some(&not_there)),
            verdict(&page, Some(&not_there)),
            verdict(&LinkAnswer::read(200, b"<!doctype html>"), Some(&not_there)),
            verdict(&LinkAnswer::read(502, b""), Some(&not_there)),
            verdict(
                &error(403, "InvalidAccessKeyId", ""),
                Some(&error(403, "InvalidAccessKeyId", "")),
            ),
            verdict(&error(503, "SlowDown", ""), Some(&not_there)),
        ];
        insta::assert_snapshot!(table.join("\n"), @r"
        opens
        opens
        opens
        opens
        links name https://files.acme.example, and the store behind it rejects their signature (SignatureDoesNotMatch): the proxy changes Host or the path on the way. Let it pass both unchanged, with nginx by `proxy_set_header Host $http_host` and a proxy_pass without a path
        links name https://files.acme.example, and the store behind it rejects their signature (SignatureDoesNotMatch): the proxy changes Host or the path on the way. Let it pass both unchanged, with nginx by `proxy_set_header Host $http_host` and a proxy_pass without a path
        links name https://files.acme.example, and the store behind it rejects their signature (AccessDenied): the proxy changes Host or the path on the way. Let it pass both unchanged, with nginx by `proxy_set_header Host $http_host` and a proxy_pass without a path
        links name https://files.acme.example, and the store behind it rejects their signature (SignatureDoesNotMatch): the proxy changes Host or the path on the way. Let it pass both unchanged, with nginx by `proxy_set_header Host $http_host` and a proxy_pass without a path
        links name https://files.acme.example, which answers 403 SignatureDoesNotMatch
        links name https://files.acme.example, whose region is eu-west-1, and are signed for us-east-1: set the connection's region
        links name https://files.acme.example, whose region is eu-west-2, and are signed for us-east-1: set the connection's region
        links name https://files.acme.example, whose region is a different one, and are signed for us-east-1: set the connection's region
        links name https://files.acme.example, where a server that is not a store answers (status 404, without an error code of S3): it passes no requests on to the store
        links name https://files.acme.example, where a server that is not a store answers (status 200, without an error code of S3): it passes no requests on to the store
        links name https://files.acme.example, where a server that is not a store answers (status 502, without an error code of S3): it passes no requests on to the store
        links name https://files.acme.example, which answers 403 InvalidAccessKeyId
        links name https://files.acme.example, which answers 503 SlowDown
        ");
    }

    #[test]
    fn what_a_server_writes_is_no_text_of_ours() {
        let long = format!("<Region>{}</Region>", "x".repeat(4000));
        assert_eq!(
            error(301, "PermanentRedirect", &long).expected_region(),
            None
        );
        assert_eq!(LinkAnswer::read(404, b"<Code>\xff</Code>").code, None);
    }
}
