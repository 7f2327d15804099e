//! Who may ask: the checks of a request's signature that come before the signature itself is computed.
//!
//! s3s verifies the HMAC and the expiry, and is more tolerant than S3 about what was signed. Here a request must say
//! exactly one time, in its query or in its `Authorization` header, that it was signed with Signature Version 4 by the key of
//! one of our sites, for its region and for S3, over the host and every `x-amz-*` header, and for a
//! week at most. Anything else is refused before a byte of its body is read.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, http::request};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::Site;

/// Longest life of a presigned URL, a week: the signing key lives no longer.
const LONGEST_EXPIRY_SECONDS: u32 = 604_800;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Headers that clients send unsigned. The first can only narrow a request, since its body is held against it.
const MAY_BE_UNSIGNED: [&str; 2] = ["x-amz-content-sha256", "x-amz-user-agent"];

/// The sites, by access key.
#[derive(Clone)]
pub(super) struct Sites(Arc<HashMap<String, Site>>);

impl Sites {
    /// `Err` names the access key that two sites share.
    pub(super) fn new(sites: Vec<Site>) -> Result<Self, String> {
        let mut by_key = HashMap::new();
        for site in sites {
            if let Some(other) = by_key.insert(site.access_key_id.clone(), site) {
                return Err(other.access_key_id);
            }
        }
        Ok(Self(Arc::new(by_key)))
    }

    /// The site of an access key.
    pub(super) fn site(&self, access_key_id: &str) -> S3Result<&Site> {
        let unknown = "The AWS Access Key Id you provided does not exist in our records.";
        self.0
            .get(access_key_id)
            .ok_or_else(|| S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, unknown))
    }

    /// Checks all that can be said of a request without computing its signature.
    pub(super) fn admit(&self, request: &request::Parts) -> S3Result<()> {
        let query = Query::parse(request.uri.query().unwrap_or_default())?;
        let authorization = request.headers.get(AUTHORIZATION);
        // s3s would take a version 2 signature, which has neither a region nor signed headers.
        if query.has("Signature") || query.has("AWSAccessKeyId") {
            return Err(unsupported());
        }
        let (claim, malformed) = match (query.has("X-Amz-Signature"), authorization) {
            (true, Some(_)) => {
                let message = "Only one auth mechanism allowed";
                return Err(S3Error::with_message(S3ErrorCode::InvalidArgument, message));
            }
            (true, None) => (
                Claim::of_query(&query),
                S3ErrorCode::AuthorizationQueryParametersError,
            ),
            (false, Some(value)) => {
                let is_only = request.headers.get_all(AUTHORIZATION).iter().count() == 1;
                let fields = value
                    .to_str()
                    .ok()
                    .and_then(|value| value.strip_prefix(ALGORITHM));
                let fields = fields.filter(|_| is_only).ok_or_else(unsupported)?;
                (
                    Claim::of_headers(fields, &request.headers),
                    S3ErrorCode::AuthorizationHeaderMalformed,
                )
            }
            (false, None) => return Err(denied("Anonymous access is not allowed")),
        };
        let malformed = |message: String| S3Error::with_message(malformed.clone(), message);
        let claim = claim.map_err(malformed)?;
        let scope = claim.scope().map_err(malformed)?;
        let site = self.site(scope.access_key_id)?;
        if scope.region != site.region {
            let (region, expected) = (scope.region, &site.region);
            return Err(malformed(format!(
                "the region '{region}' is wrong; expecting '{expected}'"
            )));
        }
        check_signed_headers(claim.signed_headers, &request.headers)
    }
}

#[async_trait::async_trait]
impl S3Auth for Sites {
    async fn get_secret_key(&self, access_key_id: &str) -> S3Result<SecretKey> {
        Ok(SecretKey::from(
            self.site(access_key_id)?.secret_access_key.as_str(),
        ))
    }
}

/// What a request says of its signature.
struct Claim<'a> {
    credential: &'a str,
    date: &'a str,
    signed_headers: &'a str,
}

/// What the signing key was derived from, beside the secret and the day.
struct Scope<'a> {
    access_key_id: &'a str,
    region: &'a str,
}

impl<'a> Claim<'a> {
    fn of_query(query: &'a Query) -> Result<Self, String> {
        let parameter = |name: &str| {
            query
                .only(name)
                .ok_or_else(|| format!("{name} must be given once"))
        };
        if parameter("X-Amz-Algorithm")? != ALGORITHM {
            return Err(format!("X-Amz-Algorithm only supports \"{ALGORITHM}\""));
        }
        let expires = parameter("X-Amz-Expires")?;
        // `parse` alone would take a sign.
        let is_number = expires.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = expires.parse().ok().filter(|_| is_number);
        if !seconds.is_some_and(|seconds| (1..=LONGEST_EXPIRY_SECONDS).contains(&seconds)) {
            let range = format!("a number of seconds from 1 to {LONGEST_EXPIRY_SECONDS}");
            return Err(format!("X-Amz-Expires must be {range}"));
        }
        Ok(Self {
            credential: parameter("X-Amz-Credential")?,
            date: parameter("X-Amz-Date")?,
            signed_headers: parameter("X-Amz-SignedHeaders")?,
        })
    }

    fn of_headers(authorization: &'a str, headers: &'a HeaderMap) -> Result<Self, String> {
        let field = |name: &str| {
            let mut fields = authorization.split(',').map(str::trim_ascii);
            let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            value.ok_or_else(|| format!("{name} is missing"))
        };
        let date = headers
            .get("x-amz-date")
            .and_then(|date| date.to_str().ok());
        Ok(Self {
            credential: field("Credential")?,
            date: date.ok_or("the x-amz-date header is missing")?,
            signed_headers: field("SignedHeaders")?,
        })
    }

    fn scope(&self) -> Result<Scope<'a>, String> {
        let parts: Vec<&str> = self.credential.split('/').collect();
        let [access_key_id, date, region, service, "aws4_request"] = parts[..] else {
            let form = "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request";
            return Err(format!(
                "the Credential is mal-formed; expecting \"{form}\""
            ));
        };
        // s3s 0.14.1 takes anything for a digit, and subtracts '0' from it.
        if !has_shape(self.date, "00000000T000000Z") || !has_shape(date, "00000000") {
            let form = "YYYYMMDD, with a time YYYYMMDD'T'HHMMSS'Z'";
            return Err(format!("a date must be written {form}"));
        }
        if service != "s3" {
            return Err(format!("incorrect service \"{service}\"; expecting \"s3\""));
        }
        Ok(Scope {
            access_key_id,
            region,
        })
    }
}

/// Whether a text is like a model in which each `0` stands for a digit.
fn has_shape(text: &str, model: &str) -> bool {
    let is_alike = |(byte, like): (u8, u8)| match like {
        b'0' => byte.is_ascii_digit(),
        _ => byte == like,
    };
    text.len() == model.len() && text.bytes().zip(model.bytes()).all(is_alike)
}

/// A header that is not signed may have been added by anyone: the host, and all that S3 acts upon, must be.
fn check_signed_headers(signed: &str, headers: &HeaderMap) -> S3Result<()> {
    let is_signed = |name: &str| signed.split(';').any(|signed| signed == name);
    if !is_signed("host") {
        return Err(denied("The host header must be signed"));
    }
    for name in headers.keys().map(|name| name.as_str()) {
        let is_ours = name.starts_with("x-amz-") && !MAY_BE_UNSIGNED.contains(&name);
        if is_ours && !is_signed(name) {
            let message = "There were headers present in the request which were not signed";
            return Err(denied(format!("{message}: {name}")));
        }
    }
    Ok(())
}

fn denied(message: impl Into<Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::AccessDenied, message)
}

fn unsupported() -> S3Error {
    let message = format!(
        "The authorization mechanism you have provided is not supported. Please use {ALGORITHM}."
    );
    S3Error::with_message(S3ErrorCode::InvalidRequest, message)
}

/// The parameters of a query, decoded as s3s decodes them: it must not see another value than we do.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> S3Result<Self> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        let undecodable =
            || S3Error::with_message(S3ErrorCode::InvalidURI, "Couldn't parse the specified URI.");
        pairs
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(undecodable)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|pair| pair.0 == name)
    }

    /// The value of a parameter that is given once.
    fn only(&self, name: &str) -> Option<&str> {
        let mut values = self
            .0
            .iter()
            .filter(|pair| pair.0 == name)
            .map(|pair| pair.1.as_str());
        values.next().filter(|_| values.next().is_none())
    }
}

/// Decodes `%XX` and `+`; `None` if what comes out is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            (b'+', _) => (b' ', after),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| digit.try_into().ok())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const CREDENTIAL: &str = "AKIDONE/20261123/eu-west-1/s3/aws4_request";

    fn sites() -> Sites {
        Sites::new(vec![Site {
            access_key_id: "AKIDONE".to_owned(),
            secret_access_key: "secret".to_owned(),
            region: "eu-west-1".to_owned(),
            directory: "/srv".into(),
        }])
        .unwrap()
    }

    fn verdict(query: &str, headers: &[(&str, &str)]) -> String {
        let mut request = Request::get(format!("/bucket/key?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match sites().admit(&request.body(()).unwrap().into_parts().0) {
            Ok(()) => "admitted".to_owned(),
            Err(error) => error.code().as_str().to_owned(),
        }
    }

    fn presigned(changes: &[(&str, &str)]) -> String {
        let mut parameters = vec![
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", CREDENTIAL),
            ("X-Amz-Date", "20261123T120000Z"),
            ("X-Amz-Expires", "60"),
            ("X-Amz-SignedHeaders", "host"),
            ("X-Amz-Signature", "00"),
        ];
        parameters.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        parameters.extend(changes);
        parameters
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&")
    }

    #[test]
    fn a_presigned_request_is_admitted_if_each_parameter_is_right() {
        assert_eq!(verdict(&presigned(&[]), &[]), "admitted");
        assert_eq!(
            verdict(&presigned(&[]).replace("Amz-Ex", "%41mz%2dEx"), &[]),
            "admitted"
        );
        let refused = "AuthorizationQueryParametersError";
        for (name, value, expected) in [
            ("X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256", refused),
            ("X-Amz-Expires", "604800", "admitted"),
            ("X-Amz-Expires", "604801", refused),
            ("X-Amz-Expires", "0", refused),
            ("X-Amz-Expires", "%2B60", refused),
            ("X-Amz-Date", "20261123T12000:Z", refused),
            ("X-Amz-Date", "20261123", refused),
            (
                "X-Amz-Credential",
                "AKIDONE/2026112x/eu-west-1/s3/aws4_request",
                refused,
            ),
            (
                "X-Amz-Credential",
                "AKIDONE/20261123/us-east-1/s3/aws4_request",
                refused,
            ),
            (
                "X-Amz-Credential",
                "AKIDONE/20261123/eu-west-1/sts/aws4_request",
                refused,
            ),
            (
                "X-Amz-Credential",
                "AKIDONE/20261123/eu-west-1/s3/aws4_request/",
                refused,
            ),
            (
                "X-Amz-Credential",
                "AKIDTWO/20261123/eu-west-1/s3/aws4_request",
                "InvalidAccessKeyId",
            ),
            ("X-Amz-SignedHeaders", "range", "AccessDenied"),
            ("X-Amz-SignedHeaders", "hosts;range", "AccessDenied"),
            ("Signature", "x", "InvalidRequest"),
            ("x", "%ff", "InvalidURI"),
        ] {
            assert_eq!(
                verdict(&presigned(&[(name, value)]), &[]),
                expected,
                "{name}={value}"
            );
        }
        let twice = presigned(&[("X-Amz-Expires", "60"), ("X-Amz-Expires", "604800")]);
        assert_eq!(verdict(&twice, &[]), refused);
    }

    #[test]
    fn a_header_that_s3_acts_upon_must_be_signed() {
        let copy = ("x-amz-copy-source", "bucket/other");
        assert_eq!(verdict(&presigned(&[]), &[copy]), "AccessDenied");
        let signed = presigned(&[("X-Amz-SignedHeaders", "host%3Bx-amz-copy-source")]);
        assert_eq!(verdict(&signed, &[copy]), "admitted");
        assert_eq!(
            verdict(
                &presigned(&[]),
                &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]
            ),
            "admitted"
        );
    }

    #[test]
    fn a_header_signed_request_is_admitted_if_each_field_is_right() {
        let date = ("x-amz-date", "20261123T120000Z");
        let refused = "AuthorizationHeaderMalformed";
        let right = format!(
            "{ALGORITHM} Credential={CREDENTIAL}, SignedHeaders=host;x-amz-date, Signature=00"
        );
        for (authorization, expected) in [
            (right.clone(), "admitted"),
            (right.replace("eu-west-1", "us-east-1"), refused),
            (right.replace("SignedHeaders", "Signed"), refused),
            (right.replace(";x-amz-date", ""), "AccessDenied"),
            (right.replace("AKIDONE", "AKIDTWO"), "InvalidAccessKeyId"),
            ("AWS AKIDONE:signature".to_owned(), "InvalidRequest"),
            ("Basic QUtJRE9ORTpzZWNyZXQ=".to_owned(), "InvalidRequest"),
        ] {
            assert_eq!(
                verdict("", &[date, ("authorization", &authorization)]),
                expected,
                "{authorization}"
            );
        }
        assert_eq!(verdict("", &[("authorization", &right)]), refused);
        assert_eq!(
            verdict(
                "",
                &[date, ("authorization", &right), ("authorization", &right)]
            ),
            "InvalidRequest"
        );
        assert_eq!(
            verdict(&presigned(&[]), &[date, ("authorization", &right)]),
            "InvalidArgument"
        );
        assert_eq!(verdict("", &[]), "AccessDenied");
    }

    #[test]
    fn a_query_is_decoded_as_forms_are() {
        for (text, decoded) in [
            ("a+b%20c", Some("a b c")),
            ("%2B%2b", Some("++")),
            ("100%", Some("100%")),
            ("%zz%4", Some("%zz%4")),
            ("%C3%A9", Some("\u{e9}")),
            ("%C3", None),
        ] {
            assert_eq!(decode(text).as_deref(), decoded);
        }
    }
}
