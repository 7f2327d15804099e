//! Authorizes requests: the checks of a signature before it is computed.
//!
//! s3s verifies the HMAC and the expiry, and is more tolerant than S3 about the scope of a signature. Here a request must be
//! signed exactly once, in its query or in its `Authorization` header, with Signature Version 4, by the key of a configured site,
//! for its region and for S3, over the host and every `x-amz-*` header, for at most a week. Every other request is rejected
//! before any of its body is read.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, http::request};
use presign::percent::push_parameter;
use presign::sigv4::QUERY_PARAMETERS;
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::Site;

/// The maximum lifetime of a presigned URL, a week: the signing key lives no longer.
const MAX_EXPIRY_SECONDS: u32 = 604_800;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The parameter that carries a signature.
pub(crate) const SIGNATURE: &str = "X-Amz-Signature";

/// The format of the header with a signature.
const AUTHORIZATION_FORM: &str = "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…";

/// The media type of POST forms.
const FORM: &[u8] = b"multipart/form-data";

/// Headers that clients send unsigned. The first can only restrict a request, since the body is verified against it.
const MAY_BE_UNSIGNED: [&str; 2] = ["x-amz-content-sha256", "x-amz-user-agent"];

/// The sites, by access key.
#[derive(Clone)]
pub(crate) struct Sites(Arc<HashMap<String, Site>>);

impl Sites {
    /// `Err` contains the access key that two sites share.
    pub(crate) fn new(sites: Vec<Site>) -> Result<Self, String> {
        let mut by_key = HashMap::new();
        for site in sites {
            if let Some(other) = by_key.insert(site.access_key_id.clone(), site) {
                return Err(other.access_key_id);
            }
        }
        Ok(Self(Arc::new(by_key)))
    }

    /// The site of an access key.
    pub(crate) fn site(&self, access_key_id: &str) -> S3Result<&Site> {
        let unknown = "The AWS Access Key Id you provided does not exist in our records.";
        self.0
            .get(access_key_id)
            .ok_or_else(|| S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, unknown))
    }

    /// Checks a request as far as possible without computing its signature.
    pub(crate) fn admit(&self, request: &request::Parts) -> S3Result<()> {
        let query = SignedQuery::parse(request.uri.query().unwrap_or_default())?;
        let authorization = request.headers.get(AUTHORIZATION);
        // s3s would accept a version 2 signature, which has neither a region nor signed headers.
        if query.has("Signature") || query.has("AWSAccessKeyId") {
            return Err(unsupported());
        }
        let (claim, malformed) = match (query.has(SIGNATURE), authorization) {
            (true, Some(_)) => return Err(one_mechanism()),
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
                // Parsers could interpret a parameter of the other kind differently.
                if query.has_any_of_signature() {
                    return Err(one_mechanism());
                }
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
        check_signed_headers(claim.signed_headers, &request.headers)?;
        // s3s would read the signature of a form from its body, and ignore the one that was checked here.
        let content_type = request.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_form = content_type
            .and_then(|text| text.trim_ascii().get(..FORM.len()))
            .is_some_and(|text| text.eq_ignore_ascii_case(FORM));
        if is_form && request.method == Method::POST {
            return Err(unsupported());
        }
        Ok(())
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

/// The signature information of a request.
pub(crate) struct Claim<'a> {
    pub(crate) credential: &'a str,
    pub(crate) date: &'a str,
    pub(crate) signed_headers: &'a str,
}

/// The inputs of the signing key besides the secret and the date.
pub(crate) struct CredentialScope<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) region: &'a str,
}

impl<'a> Claim<'a> {
    pub(crate) fn of_query(query: &'a SignedQuery) -> Result<Self, String> {
        let parameter = |name: &str| {
            query
                .only(name)
                .ok_or_else(|| format!("{name} must be given once"))
        };
        if parameter("X-Amz-Algorithm")? != ALGORITHM {
            return Err(format!("X-Amz-Algorithm only supports \"{ALGORITHM}\""));
        }
        let expires = parameter("X-Amz-Expires")?;
        // `parse` alone would accept a sign.
        let is_number = expires.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = expires.parse().ok().filter(|_| is_number);
        if !seconds.is_some_and(|seconds| (1..=MAX_EXPIRY_SECONDS).contains(&seconds)) {
            let range = format!("a number of seconds from 1 to {MAX_EXPIRY_SECONDS}");
            return Err(format!("X-Amz-Expires must be {range}"));
        }
        if !is_signature(parameter(SIGNATURE)?) {
            return Err("X-Amz-Signature must be 64 digits of lower-case hex".to_owned());
        }
        if let Some(name) = query.misspelled_parameter() {
            return Err(format!("{name} must be spelled as in the documentation"));
        }
        Ok(Self {
            credential: parameter("X-Amz-Credential")?,
            date: parameter("X-Amz-Date")?,
            signed_headers: parameter("X-Amz-SignedHeaders")?,
        })
    }

    /// Parses `Credential=…, SignedHeaders=…, Signature=…`: these three, in this order, with at most one space after a comma.
    fn of_headers(authorization: &'a str, headers: &'a HeaderMap) -> Result<Self, String> {
        let fields: Vec<&str> = authorization.split(',').collect();
        let malformed = || format!("it must be written {AUTHORIZATION_FORM}");
        let [credential, signed_headers, signature] = fields[..] else {
            return Err(malformed());
        };
        let after = |field: &'a str, name: &str| {
            let field = field.strip_prefix(' ').unwrap_or(field);
            field.strip_prefix(name).ok_or_else(malformed)
        };
        let credential = credential.strip_prefix(" Credential=");
        if !is_signature(after(signature, "Signature=")?) {
            return Err("Signature must be 64 digits of lower-case hex".to_owned());
        }
        let date = headers
            .get("x-amz-date")
            .and_then(|date| date.to_str().ok());
        Ok(Self {
            credential: credential.ok_or_else(malformed)?,
            date: date.ok_or("the x-amz-date header is missing")?,
            signed_headers: after(signed_headers, "SignedHeaders=")?,
        })
    }

    pub(crate) fn scope(&self) -> Result<CredentialScope<'a>, String> {
        let parts: Vec<&str> = self.credential.split('/').collect();
        let is_plain = self.credential.bytes().all(|byte| byte.is_ascii_graphic());
        let ([access_key_id, date, region, service, "aws4_request"], true) = (&parts[..], is_plain)
        else {
            let form = "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request";
            return Err(format!(
                "the Credential is mal-formed; expecting \"{form}\""
            ));
        };
        // s3s 0.14.1 accepts any byte as a digit, and subtracts '0' from it.
        if !has_shape(self.date, "00000000T000000Z") || !has_shape(date, "00000000") {
            let form = "YYYYMMDD, with a time YYYYMMDD'T'HHMMSS'Z'";
            return Err(format!("a date must be written {form}"));
        }
        if !self.date.starts_with(date) {
            return Err("the date of the Credential must be that of the request".to_owned());
        }
        if *service != "s3" {
            return Err(format!("incorrect service \"{service}\"; expecting \"s3\""));
        }
        Ok(CredentialScope {
            access_key_id,
            region,
        })
    }
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
fn is_signature(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks that the host and every header that S3 acts upon is signed: an unsigned header may have been added by a third party.
///
/// The names must be in lower case and sorted by byte, each once, and each must name a header that occurs once, so that the
/// signed content is unambiguous.
fn check_signed_headers(signed: &str, headers: &HeaderMap) -> S3Result<()> {
    let names: Vec<&str> = signed.split(';').collect();
    let is_name =
        |name: &&str| !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    if !names.iter().all(is_name) || !names.is_sorted_by(|one, next| one < next) {
        return Err(denied(
            "SignedHeaders must be names in lower case, sorted, each once",
        ));
    }
    if !names.contains(&"host") {
        return Err(denied("The host header must be signed"));
    }
    let times = |name: &str| headers.get_all(name).iter().count();
    if let Some(name) = names.iter().find(|name| times(name) != 1) {
        return Err(denied(format!(
            "A signed header must be given once: {name}"
        )));
    }
    for name in headers.keys().map(|name| name.as_str()) {
        if !name.starts_with("x-amz-") {
            continue;
        }
        if times(name) != 1 {
            return Err(denied(format!("A header must be given once: {name}")));
        }
        if !MAY_BE_UNSIGNED.contains(&name) && !names.contains(&name) {
            let message = "There were headers present in the request which were not signed";
            return Err(denied(format!("{message}: {name}")));
        }
    }
    Ok(())
}

fn one_mechanism() -> S3Error {
    let message = "Only one auth mechanism allowed";
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
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

/// The parameters of a query, decoded as s3s decodes them: both must see the same values.
pub(crate) struct SignedQuery(Vec<(String, String)>);

impl SignedQuery {
    pub(crate) fn parse(query: &str) -> S3Result<Self> {
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

    /// Whether it has a parameter of a signature, in any spelling.
    fn has_any_of_signature(&self) -> bool {
        let is_alike = |name: &str| {
            QUERY_PARAMETERS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        };
        self.0.iter().any(|pair| is_alike(&pair.0))
    }

    /// A parameter of a signature whose capitals differ from S3's.
    fn misspelled_parameter(&self) -> Option<&str> {
        let mut names = self.0.iter().map(|pair| pair.0.as_str());
        names.find_map(|name| {
            let mut wanted = QUERY_PARAMETERS.iter();
            wanted
                .find(|wanted| name.eq_ignore_ascii_case(wanted) && name != **wanted)
                .copied()
        })
    }

    /// All parameters but one, sorted and encoded as in a canonical query.
    pub(crate) fn spelled_without(&self, name: &str) -> String {
        let mut others: Vec<_> = self.0.iter().filter(|pair| pair.0 != name).collect();
        others.sort();
        let mut text = String::new();
        for (name, value) in others {
            push_parameter(name, Some(value), &mut text);
        }
        text.split_off(text.len().min(1))
    }

    /// The value of a parameter that occurs once.
    pub(crate) fn only(&self, name: &str) -> Option<&str> {
        let mut values = self
            .0
            .iter()
            .filter(|pair| pair.0 == name)
            .map(|pair| pair.1.as_str());
        values.next().filter(|_| values.next().is_none())
    }
}

/// Decodes `%XX` and `+`; `None` if the result is not UTF-8.
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
    const SIGNATURE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

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
        let mut request = Request::get(format!("/bucket/key?{query}")).header("host", "127.0.0.1");
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
            ("X-Amz-Signature", SIGNATURE),
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
            "{ALGORITHM} Credential={CREDENTIAL}, SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
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
    fn an_authorization_header_has_one_form() {
        let date = ("x-amz-date", "20261123T120000Z");
        let right = format!(
            "{ALGORITHM} Credential={CREDENTIAL}, SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
        );
        let verdict_of = |text: &str| verdict("", &[date, ("authorization", text)]);
        assert_eq!(verdict_of(&right), "admitted");
        assert_eq!(
            verdict_of(&right.replace(", ", ",")),
            "admitted",
            "as in the documentation of S3"
        );
        let twice = |field: &str| right.replace(field, &format!("{field}{field}"));
        for odd in [
            right.replace(", ", ",  "),
            right.replace(", ", ",\t"),
            right.replace(", ", " ,"),
            right.replace(", ", ",,"),
            right.replace(", ", "; "),
            right.replace(ALGORITHM, "aws4-hmac-sha256"),
            right.replace(ALGORITHM, "AWS4-HMAC-SHA256-X"),
            right.replace("SHA256 ", "SHA256  "),
            right.replace("SHA256 ", "SHA256\t"),
            right.replace("SHA256 ", "SHA256,"),
            right.replace("Credential", "credential"),
            right.replace("SignedHeaders=", "signedheaders="),
            right.replace("Signature=", "signature="),
            right.replace("=AKID", "= AKID"),
            right.replace("=AKID", " =AKID"),
            right.replace("aws4_request", "aws4_request "),
            right.replace(CREDENTIAL, &CREDENTIAL.replace("20261123", "20261122")),
            format!("{right},"),
            format!("{right} "),
            format!("{right}, X=1"),
            format!("{right}, Signature={SIGNATURE}"),
            right.replace(SIGNATURE, ""),
            right.replace(SIGNATURE, &SIGNATURE.to_uppercase()),
            right.replace(SIGNATURE, &SIGNATURE[1..]),
            twice("SignedHeaders=host;x-amz-date, "),
            right.replace(
                "SignedHeaders=",
                "SignedHeaders=host;x-amz-date, SignedHeaders=",
            ),
            right.replace("Credential=", "SignedHeaders=host, Credential="),
            format!(
                "{ALGORITHM} SignedHeaders=host;x-amz-date, Credential={CREDENTIAL}, Signature={SIGNATURE}"
            ),
            format!("{ALGORITHM} Credential={CREDENTIAL}, Signature={SIGNATURE}"),
            right.replace("host;x-amz-date", ""),
            right.replace("host;x-amz-date", "x-amz-date;host"),
            right.replace("host;x-amz-date", "host;host;x-amz-date"),
            right.replace("host;x-amz-date", "host;x-amz-date;x-amz-date"),
            right.replace("host;x-amz-date", ";host;x-amz-date"),
            right.replace("host;x-amz-date", "host;;x-amz-date"),
            right.replace("host;x-amz-date", "host;x-amz-date;"),
            right.replace("host;x-amz-date", "Host;x-amz-date"),
            right.replace("host;x-amz-date", "host; x-amz-date"),
            right.replace("host;x-amz-date", "host,x-amz-date"),
            right.replace("host;x-amz-date", "host;x-absent;x-amz-date"),
        ] {
            assert_ne!(verdict_of(&odd), "admitted", "{odd}");
        }
    }

    #[test]
    fn a_signature_is_in_one_place_and_each_header_is_there_once() {
        let date = ("x-amz-date", "20261123T120000Z");
        let right = format!(
            "{ALGORITHM} Credential={CREDENTIAL}, SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
        );
        let authorization = ("authorization", right.as_str());
        for parameter in QUERY_PARAMETERS {
            for name in [parameter.to_owned(), parameter.to_lowercase()] {
                let query = format!("{name}=x");
                assert_eq!(
                    verdict(&query, &[date, authorization]),
                    "InvalidArgument",
                    "{name}"
                );
                assert_ne!(
                    verdict(&format!("{}&{query}", presigned(&[])), &[]),
                    "admitted",
                    "{name}"
                );
            }
        }
        for twice in [
            date,
            ("host", "other"),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ] {
            assert_ne!(
                verdict("", &[date, authorization, twice, twice]),
                "admitted",
                "{}",
                twice.0
            );
        }
        for (name, value) in [
            ("X-Amz-Signature", "00"),
            ("X-Amz-SignedHeaders", "host;host"),
            ("X-Amz-SignedHeaders", "Host"),
            ("X-Amz-SignedHeaders", "host,range"),
            ("X-Amz-SignedHeaders", "host%20"),
            ("X-Amz-SignedHeaders", "range;host"),
            ("X-Amz-SignedHeaders", "host;range"),
            (
                "X-Amz-Credential",
                "AKIDONE/20261122/eu-west-1/s3/aws4_request",
            ),
        ] {
            assert_ne!(
                verdict(&presigned(&[(name, value)]), &[]),
                "admitted",
                "{name}={value}"
            );
        }
    }

    #[test]
    fn a_form_is_not_read_for_another_signature() {
        for form in [
            "multipart/form-data; boundary=x",
            " Multipart/Form-Data;boundary=x",
        ] {
            let request = Request::post(format!("/bucket?{}", presigned(&[])))
                .header("host", "127.0.0.1")
                .header("content-type", form);
            let head = request.body(()).unwrap().into_parts().0;
            assert!(sites().admit(&head).is_err(), "{form}");
        }
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
