//! S3 URLs: signature versions 4 and 2.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};

use super::query::{Parameters, shown_name};
use super::{CredentialKind, Explanation, SignatureScheme, SignedBy, UrlStyle};
use crate::policy::matches;
use crate::request::ExpiresIn;
use crate::sigv4::QUERY_PARAMETERS;

/// The parameters of session tokens; directory buckets use a name of their own.
const TOKENS: [&str; 2] = ["X-Amz-Security-Token", "X-Amz-S3session-Token"];

/// The longest session that AWS issues: `GetSessionToken` for an IAM user.
const MAX_SESSION: SignedDuration = SignedDuration::from_hours(36);

/// Regions from before 2014. All later regions reject signature version 2.
const REGIONS_WITH_V2: [&str; 8] = [
    "ap-northeast-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "eu-west-1",
    "sa-east-1",
    "us-east-1",
    "us-west-1",
    "us-west-2",
];

pub(super) fn explain_v4(
    explanation: &mut Explanation,
    parameters: &Parameters<'_>,
    now: Timestamp,
) {
    explanation.scheme = SignatureScheme::SigV4;
    for name in QUERY_PARAMETERS.iter().filter(|name| !parameters.has(name)) {
        explanation.wrong(format!("{name} is missing: the link was cut or changed"));
    }
    look_at_signature(explanation, parameters);
    if let Some(credential) = parameters.get("X-Amz-Credential") {
        look_at_credential(explanation, credential, parameters);
    }
    look_at_time(explanation, parameters);
    look_at_token(explanation, parameters);
    look_at_region(explanation);
    look_at_headers(explanation, parameters);
    look_behind_signature(explanation, parameters);
    if let Some(operation) = parameters.get("x-id").filter(|id| *id != "GetObject") {
        explanation.risk(format!(
            "it was made for {}, not for a download",
            shown_name(operation)
        ));
    }
    if !explanation.is_wrong() && explanation.ends_at.is_some_and(|end| end > now) {
        explanation.note(
            "the method is signed: HEAD gets 403, so check it with GET and \"Range: bytes=0-0\"",
        );
    }
}

fn look_at_signature(explanation: &mut Explanation, parameters: &Parameters<'_>) {
    let algorithm = parameters.get("X-Amz-Algorithm").unwrap_or_default();
    let is_sigv4 = algorithm == "AWS4-HMAC-SHA256";
    if !is_sigv4 && algorithm != "AWS4-ECDSA-P256-SHA256" && parameters.has("X-Amz-Algorithm") {
        explanation.wrong("its X-Amz-Algorithm is not one that S3 supports");
    }
    let signature = parameters.get("X-Amz-Signature").unwrap_or_default();
    let is_hex = signature.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_sigv4 && parameters.has("X-Amz-Signature") && (signature.len() != 64 || !is_hex) {
        explanation
            .wrong("its signature is not of 64 hexadecimal digits: the link was cut or changed");
    }
}

/// `<key id>/<date>/<region>/<service>/aws4_request`; the credential of version 4A has no region.
fn look_at_credential(
    explanation: &mut Explanation,
    credential: &str,
    parameters: &Parameters<'_>,
) {
    let regions = parameters.get("X-Amz-Region-Set");
    let fields = if regions.is_some() { 4 } else { 5 };
    let mut scope: Vec<&str> = credential.rsplitn(fields, '/').collect();
    scope.reverse();
    let (key_id, date, region, service) = match scope[..] {
        [key_id, date, region, service, "aws4_request"] => (key_id, date, Some(region), service),
        [key_id, date, service, "aws4_request"] if regions.is_some() => {
            (key_id, date, regions, service)
        }
        _ => {
            explanation.wrong("its X-Amz-Credential is not <key>/<date>/<region>/s3/aws4_request");
            return;
        }
    };
    explanation.region = region.map(ToOwned::to_owned);
    explanation.signed_by = Some(signed_by(key_id));
    if !matches!(
        service,
        "s3" | "s3express" | "s3-object-lambda" | "s3-outposts"
    ) {
        explanation.wrong(format!(
            "it is signed for the service {}, not for s3",
            shown_name(service)
        ));
    }
    let signed_at = parameters.get("X-Amz-Date").unwrap_or_default();
    if !signed_at.starts_with(date) {
        explanation.wrong("the days in X-Amz-Credential and X-Amz-Date differ");
    }
}

fn signed_by(key_id: &str) -> SignedBy {
    let credential = match key_id.get(..4) {
        Some("AKIA") => CredentialKind::LongTerm,
        Some("ASIA") => CredentialKind::Temporary,
        _ => CredentialKind::Other,
    };
    SignedBy {
        key_id: shown_name(key_id),
        credential,
    }
}

fn look_at_time(explanation: &mut Explanation, parameters: &Parameters<'_>) {
    if let Some(date) = parameters.get("X-Amz-Date") {
        explanation.starts_at = instant(date);
        if explanation.starts_at.is_none() {
            explanation.wrong("its X-Amz-Date is not an instant such as 20261123T080000Z");
        }
    }
    let Some(expires) = parameters.get("X-Amz-Expires") else {
        return;
    };
    let longest = ExpiresIn::MAX.as_secs();
    match expires.parse::<u64>() {
        Ok(0) => explanation.wrong("its X-Amz-Expires is 0: it never worked"),
        Ok(seconds) if seconds > longest => explanation.wrong(format!(
            "its X-Amz-Expires is {seconds}: S3 refuses more than {longest}, which is 7 days"
        )),
        Ok(_) => {}
        Err(_) => explanation.wrong("its X-Amz-Expires is not a number of seconds"),
    }
    let seconds = expires.parse::<i64>().ok().filter(|seconds| *seconds >= 0);
    explanation.ends_at = explanation
        .starts_at
        .zip(seconds)
        .and_then(|(start, seconds)| start.checked_add(SignedDuration::from_secs(seconds)).ok());
    if is_temporary(explanation) {
        let latest = |start: Timestamp| start.checked_add(MAX_SESSION).ok();
        explanation.ends_at_latest = explanation
            .starts_at
            .and_then(latest)
            .filter(|latest| explanation.ends_at.is_some_and(|end| *latest < end));
        if explanation.ends_at_latest.is_some() {
            explanation.risk("it promises more than 36 hours, and no session lasts so long");
        }
    }
}

fn is_temporary(explanation: &Explanation) -> bool {
    explanation
        .signed_by
        .as_ref()
        .is_some_and(|by| by.credential == CredentialKind::Temporary)
}

fn instant(text: &str) -> Option<Timestamp> {
    let is_form = text.len() == 16 && text.is_ascii();
    let instant = civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let instant = TimeZone::UTC.to_timestamp(instant).ok()?;
    is_form.then_some(instant)
}

fn look_at_token(explanation: &mut Explanation, parameters: &Parameters<'_>) {
    let token = parameters
        .raw("X-Amz-Security-Token")
        .or_else(|| parameters.raw("x-amz-security-token"))
        .filter(|token| !token.is_empty());
    explanation.token_length = token.map_or(0, str::len);
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html
    if let Some(session) = parameters.raw("X-Amz-S3session-Token") {
        explanation.token_length = session.len();
        explanation
            .risk("a session of a directory bucket signed it, which ends after five minutes");
    }
    match (token, is_temporary(explanation)) {
        (Some(_), true) => {
            explanation.risk("temporary credentials signed it, and it dies with their session");
        }
        (None, true) => {
            explanation.wrong("a temporary key signed it, but its session token is missing");
        }
        (Some(_), false) => {
            explanation.risk("it has a session token, but its key is not a temporary one");
        }
        (None, false) => {}
    }
}

fn look_at_region(explanation: &mut Explanation) {
    let (Some(location), Some(region)) = (explanation.opens.clone(), explanation.region.clone())
    else {
        return;
    };
    match (location.style, location.region) {
        (UrlStyle::Website, _) => {
            explanation.wrong("its host is a website endpoint, which does not check signatures");
        }
        (_, Some(of_host)) if !is_among(&of_host, &region) => explanation.wrong(format!(
            "it is signed for {}, but its host is in {of_host}",
            shown_name(&region)
        )),
        (UrlStyle::VirtualHost | UrlStyle::Path, None)
            if region != "us-east-1" && !location.host.contains("s3-accelerate") =>
        {
            explanation.risk(
                "its host names no region: S3 may redirect it, and a redirected signature fails",
            );
        }
        _ => {}
    }
}

/// Whether a region matches the set that version 4A signs for, `eu-*,us-east-1`.
fn is_among(region: &str, set: &str) -> bool {
    set.split(',')
        .any(|pattern| matches(pattern.as_bytes(), region.as_bytes()))
}

fn look_at_headers(explanation: &mut Explanation, parameters: &Parameters<'_>) {
    let Some(headers) = parameters.get("X-Amz-SignedHeaders") else {
        return;
    };
    let mut headers: Vec<&str> = headers.split(';').collect();
    let count = headers.len();
    headers.retain(|header| *header != "host");
    if headers.len() == count {
        explanation.wrong("its X-Amz-SignedHeaders lacks host, which S3 requires");
    }
    if let Some(header) = headers.first().filter(|header| !header.is_empty()) {
        explanation.risk(format!(
            "it works only with the header {}, which no browser sends by itself",
            shown_name(header)
        ));
    }
}

/// Every parameter is signed, so an appended parameter invalidates the URL. Signers that write `x-id` first (the SDK for Rust and
/// this crate) write only the token after the signature. Signers that sort all parameters may have signed any parameter there.
fn look_behind_signature(explanation: &mut Explanation, parameters: &Parameters<'_>) {
    let all = &parameters.0;
    let names = || all.iter().map(|parameter| parameter.name.as_str());
    let sorted = all
        .windows(2)
        .take_while(|pair| pair[0].name <= pair[1].name)
        .count();
    let is_own_form = sorted == 0 && names().next() == Some("x-id");
    let behind = names()
        .enumerate()
        .skip_while(|(_, name)| *name != "X-Amz-Signature")
        .skip(1)
        .filter(|(_, name)| !TOKENS.iter().any(|token| name.eq_ignore_ascii_case(token)));
    for (at, name) in behind {
        let starts = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        if is_own_form {
            explanation.wrong(format!(
                "{} follows the signature: it was appended after signing, and the link gets 403",
                shown_name(name)
            ));
        } else if !(starts(&["X-Amz-", "x-amz-"])
            || at <= sorted && starts(&["response-", "versionId", "partNumber", "x-"]))
        {
            explanation.risk(format!(
                "{} follows the signature: if it was appended after signing, the link gets 403",
                shown_name(name)
            ));
        }
    }
}

pub(super) fn explain_v2(explanation: &mut Explanation, parameters: &Parameters<'_>) {
    explanation.scheme = SignatureScheme::SigV2;
    let location = explanation.opens.as_ref();
    let region = location.and_then(|location| location.region.clone());
    explanation.signed_by = parameters.get("AWSAccessKeyId").map(signed_by);
    for name in ["Expires", "Signature"] {
        if !parameters.has(name) {
            explanation.wrong(format!("{name} is missing: the link was cut or changed"));
        }
    }
    if let Some(expires) = parameters.get("Expires") {
        let second = expires.parse().ok();
        explanation.ends_at = second.and_then(|second| Timestamp::from_second(second).ok());
        if explanation.ends_at.is_none() {
            explanation.wrong("its Expires is not a Unix time");
        }
    }
    look_at_token(explanation, parameters);
    match region {
        Some(region) if !REGIONS_WITH_V2.contains(&region.as_str()) => explanation.wrong(format!(
            "{region} does not take signature version 2: sign it with version 4"
        )),
        _ => explanation.risk(
            "signature version 2 is deprecated: regions since 2014 and buckets since June 2020 refuse it",
        ),
    }
    for parameter in &parameters.0 {
        let name = parameter.name.as_str();
        let is_signed = name.starts_with("response-")
            || matches!(
                name,
                "AWSAccessKeyId" | "Expires" | "Signature" | "versionId" | "x-amz-security-token"
            );
        if !is_signed {
            explanation.risk(format!(
                "{} is not signed by version 2, so it can be changed",
                shown_name(name)
            ));
        }
    }
}
