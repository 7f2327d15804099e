//! What a request says about its signature: in its query, or in its `Authorization` header.
//!
//! The words of the errors are those of S3, so that clients and their users recognise them.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html>

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use s3s::S3ErrorCode;

use crate::query::SignedQuery;
use crate::rejection::{Rejection, WRONG_SIGNATURE};

/// The maximum lifetime of a presigned URL, a week: the signing key lives no longer.
const MAX_EXPIRY_SECONDS: u32 = 604_800;

/// How far the clock of a client that signs in the header may be off.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(15);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The algorithm of asymmetric signatures, which S3 knows and this endpoint does not.
const ASYMMETRIC_ALGORITHM: &str = "AWS4-ECDSA-P256-SHA256";

/// The parameter that carries a signature.
pub(crate) const SIGNATURE: &str = "X-Amz-Signature";

/// The header, and the parameter, of a session. The keys of this endpoint have none.
const SESSION: &str = "x-amz-security-token";

/// The values of `x-amz-content-sha256` that are no digest. The asymmetric ones are rejected later.
const PAYLOADS: [&str; 6] = [
    "UNSIGNED-PAYLOAD",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
];

const WRONG_PAYLOAD: &str = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value.";

const ALL_PARAMETERS: &str = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";

/// Where a signature is, which decides the words of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignedIn {
    Query,
    Header,
}

/// The signature information of a request.
pub(crate) struct Claim<'a> {
    place: SignedIn,
    pub(crate) credential: Credential<'a>,
    pub(crate) date: &'a str,
    pub(crate) signed_headers: &'a str,
    /// The lifetime of a presigned URL, in seconds.
    expires: u32,
}

/// The parts of `ID/YYYYMMDD/REGION/s3/aws4_request`.
#[derive(Clone, Copy)]
pub(crate) struct Credential<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) day: &'a str,
    pub(crate) region: &'a str,
}

impl<'a> Claim<'a> {
    pub(crate) fn of_query(query: &'a SignedQuery) -> Result<Self, Rejection> {
        let place = SignedIn::Query;
        let parameter = |name: &str| match query.only(name) {
            Some(value) if !value.is_empty() => Ok(value),
            None if query.has(name) => Err(place.malformed(format!("{name} must be given once"))),
            Some(_) | None => Err(place.malformed(ALL_PARAMETERS)),
        };
        if let Some(name) = query.misspelled_parameter() {
            let message = format!("{name} must be spelled as in the documentation");
            return Err(place.malformed(message));
        }
        match parameter("X-Amz-Algorithm")? {
            ALGORITHM => {}
            ASYMMETRIC_ALGORITHM => {
                return Err(place.malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
            }
            _ => {
                return Err(place.malformed(
                    "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"",
                ));
            }
        }
        let credential = Credential::parse(parameter("X-Amz-Credential")?, place)?;
        if query.has("X-Amz-Security-Token") {
            return Err(no_sessions());
        }
        let date = parameter("X-Amz-Date")?;
        if instant(date).is_none() {
            return Err(place.malformed(
                "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
            ));
        }
        let signature = parameter(SIGNATURE)?;
        let signed_headers = parameter("X-Amz-SignedHeaders")?;
        let expires = lifetime(parameter("X-Amz-Expires")?)?;
        if !is_digest(signature) {
            return Err(place.malformed("X-Amz-Signature must be 64 digits of lower-case hex"));
        }
        Ok(Self {
            place,
            credential,
            date,
            signed_headers,
            expires,
        })
    }

    /// Parses `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`: these three, in this order, with at most one space
    /// after a comma.
    pub(crate) fn of_header(
        authorization: &'a HeaderValue,
        headers: &'a HeaderMap,
    ) -> Result<Self, Rejection> {
        let place = SignedIn::Header;
        let fields: Vec<&str> = fields_of(authorization)?.split(',').collect();
        let date = headers.get("x-amz-date").and_then(|it| it.to_str().ok());
        let date = date.filter(|date| instant(date).is_some()).ok_or_else(|| {
            Rejection::denied("AWS authentication requires a valid Date or x-amz-date header.")
        })?;
        let [credential, signed_headers, signature] = fields[..] else {
            return Err(place.malformed(
                "the authorization header requires three components: Credential, SignedHeaders, and Signature.",
            ));
        };
        let value = |field: &'a str, name: &str| {
            let parts: Vec<&str> = field.split('=').collect();
            match parts[..] {
                [found, value] if found == name => Ok(value),
                [_, _] => Err(place.malformed(format!("missing {name}."))),
                _ => Err(place.malformed(format!(
                    "the authorization component {field:?} is malformed."
                ))),
            }
        };
        let after_comma = |field: &'a str| field.strip_prefix(' ').unwrap_or(field);
        let credential = value(credential, "Credential")?;
        let signed_headers = value(after_comma(signed_headers), "SignedHeaders")?;
        let signature = value(after_comma(signature), "Signature")?;
        let credential = Credential::parse(credential, place)?;
        if headers.contains_key(SESSION) {
            return Err(no_sessions());
        }
        if !is_digest(signature) {
            return Err(place.malformed("the Signature must be 64 digits of lower-case hex."));
        }
        check_payload(headers)?;
        Ok(Self {
            place,
            credential,
            date,
            signed_headers,
            expires: 0,
        })
    }

    /// Checks the region and the dates of the signature. The caller knows the region of the access key.
    pub(crate) fn check(&self, region: &str, now: Timestamp) -> Result<(), Rejection> {
        let Credential {
            day, region: named, ..
        } = self.credential;
        if named != region {
            let message = format!("the region {named:?} is wrong; expecting {region:?}");
            return Err(self.place.wrong_credential(message).with("Region", region));
        }
        let signed_on = self.date.get(..8).unwrap_or_default();
        if signed_on != day {
            return Err(self.place.malformed(match self.place {
                SignedIn::Query => format!(
                    "Invalid credential date {day:?}. This date is not the same as X-Amz-Date: {signed_on:?}."
                ),
                SignedIn::Header => {
                    "Invalid credential date. Date is not the same as X-Amz-Date.".to_owned()
                }
            }));
        }
        let signed = instant(self.date).unwrap_or_default();
        match self.place {
            SignedIn::Query => self.check_expiry(signed, now),
            SignedIn::Header => check_skew(signed, self.date, now),
        }
    }

    fn check_expiry(&self, signed: Timestamp, now: Timestamp) -> Result<(), Rejection> {
        let end = signed + SignedDuration::from_secs(self.expires.into());
        if now <= end {
            return Ok(());
        }
        Err(Rejection::denied("Request has expired.")
            .with("X-Amz-Expires", self.expires.to_string())
            .with("Expires", second(end))
            .with("ServerTime", second(now)))
    }
}

impl<'a> Credential<'a> {
    fn parse(text: &'a str, place: SignedIn) -> Result<Self, Rejection> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let ([access_key_id, day, region, service, terminal], true) = (&parts[..], is_plain) else {
            return Err(place.wrong_credential(
                "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
            ));
        };
        if *service != "s3" {
            return Err(place.wrong_credential(format!(
                "incorrect service {service:?}. This endpoint belongs to \"s3\"."
            )));
        }
        if *terminal != "aws4_request" {
            return Err(place.wrong_credential(format!(
                "incorrect terminal {terminal:?}. This endpoint uses \"aws4_request\"."
            )));
        }
        // s3s 0.14.1 accepts any byte as a digit, and subtracts '0' from it.
        if !has_shape(day, "00000000") {
            return Err(place.wrong_credential(format!(
                "incorrect date format {day:?}. This date in the credential must be in the format \"yyyyMMdd\"."
            )));
        }
        Ok(Self {
            access_key_id,
            day,
            region,
        })
    }

    /// What the signing key is derived for: the credential without the access key.
    pub(crate) fn scope(&self) -> String {
        format!("{}/{}/s3/aws4_request", self.day, self.region)
    }
}

impl SignedIn {
    fn malformed(self, message: impl Into<String>) -> Rejection {
        let message = message.into();
        match self {
            Self::Query => Rejection::new(S3ErrorCode::AuthorizationQueryParametersError, message),
            Self::Header => Rejection::new(
                S3ErrorCode::AuthorizationHeaderMalformed,
                format!("The authorization header is malformed; {message}"),
            ),
        }
    }

    fn wrong_credential(self, message: impl Into<String>) -> Rejection {
        let message = message.into();
        self.malformed(match self {
            Self::Query => format!("Error parsing the X-Amz-Credential parameter; {message}"),
            Self::Header => message,
        })
    }
}

/// The fields of an `Authorization` header after its algorithm.
fn fields_of(authorization: &HeaderValue) -> Result<&str, Rejection> {
    let text = authorization.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((ALGORITHM, fields)) => Ok(fields),
        Some(("AWS", _)) => Err(unsupported()),
        Some((other, _)) => Err(Rejection::argument(
            "Unsupported Authorization Type",
            "Authorization",
            other,
        )),
        None => Err(Rejection::argument(
            "Authorization header is invalid -- one and only one ' ' (space) required.",
            "Authorization",
            text,
        )),
    }
}

/// The number of seconds in `X-Amz-Expires`.
fn lifetime(text: &str) -> Result<u32, Rejection> {
    let malformed = |message: &str| Err(SignedIn::Query.malformed(message));
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return malformed("X-Amz-Expires should be a number");
    }
    if digits != text {
        return malformed("X-Amz-Expires must be non-negative");
    }
    match text.parse() {
        Ok(0) => malformed("X-Amz-Expires must be at least 1 second"),
        Ok(seconds) if seconds <= MAX_EXPIRY_SECONDS => Ok(seconds),
        Ok(_) | Err(_) => malformed(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        ),
    }
}

fn check_skew(signed: Timestamp, date: &str, now: Timestamp) -> Result<(), Rejection> {
    if now.duration_since(signed).abs() <= MAX_SKEW {
        return Ok(());
    }
    let message = "The difference between the request time and the current time is too large.";
    Err(Rejection::new(S3ErrorCode::RequestTimeTooSkewed, message)
        .with("RequestTime", date)
        .with("ServerTime", second(now))
        .with(
            "MaxAllowedSkewMilliseconds",
            MAX_SKEW.as_millis().to_string(),
        ))
}

/// Checks the form of `x-amz-content-sha256`, if it is there.
fn check_payload(headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(payload) = headers.get("x-amz-content-sha256") else {
        return Ok(());
    };
    let payload = payload.to_str().unwrap_or_default();
    let is_sum = payload.len() == 64 && payload.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_sum || PAYLOADS.contains(&payload) {
        return Ok(());
    }
    Err(Rejection::argument(
        WRONG_PAYLOAD,
        "x-amz-content-sha256",
        payload,
    ))
}

/// A signature of version 2, which has neither a region nor signed headers, or of another scheme.
pub(crate) fn unsupported() -> Rejection {
    Rejection::new(
        S3ErrorCode::InvalidRequest,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
}

/// A signature that does not match, for a reason that the operator of a proxy can act upon.
pub(crate) fn wrong_signature(reason: &str) -> Rejection {
    let code = S3ErrorCode::SignatureDoesNotMatch;
    Rejection::new(code, format!("{WRONG_SIGNATURE} {reason}"))
}

fn no_sessions() -> Rejection {
    let message = "The provided token is malformed or otherwise invalid.";
    Rejection::new(S3ErrorCode::InvalidToken, message)
}

/// The time of the system, by which s3s judges requests as well.
#[expect(
    clippy::disallowed_methods,
    reason = "the crate stands alone, and s3s takes no clock"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// An instant, written `YYYYMMDDTHHMMSSZ`.
fn instant(text: &str) -> Option<Timestamp> {
    if !has_shape(text, "00000000T000000Z") {
        return None;
    }
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

/// An instant in whole seconds, as S3 writes it.
fn second(instant: Timestamp) -> String {
    format!("{instant:.0}")
}

/// Whether a text matches a model in which each `0` stands for a digit.
fn has_shape(text: &str, model: &str) -> bool {
    let is_alike = |(byte, like): (u8, u8)| match like {
        b'0' => byte.is_ascii_digit(),
        _ => byte == like,
    };
    text.len() == model.len() && text.bytes().zip(model.bytes()).all(is_alike)
}

/// Whether a text is the 64 hexadecimal digits of an HMAC-SHA-256.
fn is_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
