//! Links to CloudFront: canned and custom policies.

use jiff::Timestamp;
use serde_json::Value;

use super::query::{Parameters, Parts};
use super::{
    CredentialKind, Explanation, MAX_FOR_SERVERS, SignatureScheme, SignedBy, location, query,
};
use crate::percent::decode_lossy;
use crate::policy::{OWN_PARAMETERS, from_base64, matches};

/// Whether the parameters are CloudFront's, even if some of them were cut off.
pub(super) fn is_meant(parameters: &Parameters<'_>) -> bool {
    let is_left = parameters.has("Expires") && parameters.has("Signature");
    parameters.has("Key-Pair-Id") || parameters.has("Policy") || is_left
}

pub(super) fn explain(
    explanation: &mut Explanation,
    parts: &Parts<'_>,
    parameters: &Parameters<'_>,
) {
    explanation.scheme = if parameters.has("Policy") {
        SignatureScheme::CloudFrontCustom
    } else {
        SignatureScheme::CloudFrontCanned
    };
    explanation.opens = Some(location::at_cloudfront(parts));
    explanation.signed_by = parameters.get("Key-Pair-Id").map(signed_by);
    for name in ["Key-Pair-Id", "Signature"] {
        if !parameters.has(name) {
            explanation.wrong(format!("{name} is missing: the link was cut or changed"));
        }
    }
    look_at_signature(explanation, parameters);
    match (parameters.raw("Policy"), parameters.get("Expires")) {
        (Some(_), Some(_)) => {
            explanation.wrong("it has both Policy and Expires: CloudFront wants one of them");
        }
        (None, None) => explanation.wrong("it has neither Policy nor Expires"),
        (Some(policy), None) => look_at_policy(explanation, policy, parts),
        (None, Some(expires)) => {
            explanation.ends_at = expires.parse().ok().and_then(second);
            if explanation.ends_at.is_none() {
                explanation.wrong("its Expires is not a Unix time");
            }
        }
    }
    if explanation.disposition.is_some() {
        explanation.note(
            "its response-content-disposition works only if the distribution forwards it to S3",
        );
    }
}

fn signed_by(key_id: &str) -> SignedBy {
    let credential = match key_id.as_bytes() {
        [b'A', b'P', b'K', b'A', ..] => CredentialKind::CloudFrontAccountKey,
        [b'K', ..] => CredentialKind::CloudFrontKey,
        _ => CredentialKind::Other,
    };
    SignedBy {
        key_id: query::shown_name(key_id),
        credential,
    }
}

fn look_at_signature(explanation: &mut Explanation, parameters: &Parameters<'_>) {
    if let Some(signature) = parameters.raw("Signature") {
        let is_escaped = signature.contains('%');
        let decoded = parameters.get("Signature").and_then(from_base64);
        if decoded.is_none_or(|signature| signature.len() < 64) {
            explanation.wrong("its signature is incomplete: the link was cut or changed");
        } else if is_escaped {
            explanation.risk("its signature was percent-encoded, which CloudFront may refuse");
        }
    }
    match parameters.get("Hash-Algorithm") {
        None | Some("SHA1" | "SHA256") => {}
        Some(_) => explanation.wrong("its Hash-Algorithm is neither SHA1 nor SHA256"),
    }
}

fn look_at_policy(explanation: &mut Explanation, policy: &str, parts: &Parts<'_>) {
    let policy: Option<Value> =
        from_base64(&decode_lossy(policy)).and_then(|json| serde_json::from_slice(&json).ok());
    let Some(policy) = policy else {
        explanation.wrong("its Policy is incomplete: the link was cut or changed");
        return;
    };
    let statement = &policy["Statement"][0];
    let condition = &statement["Condition"];
    let instant = |name: &str| condition[name]["AWS:EpochTime"].as_i64().and_then(second);
    explanation.starts_at = instant("DateGreaterThan");
    explanation.ends_at = instant("DateLessThan");
    if explanation.ends_at.is_none() {
        explanation.wrong("its policy has no end, which CloudFront requires");
    }
    if policy["Statement"][1].is_object() {
        explanation.wrong("its policy has more than one statement, and CloudFront takes one");
    }
    if let Some(network) = condition["IpAddress"]["AWS:SourceIp"].as_str() {
        explanation.network = Some(network.to_owned());
        if network.contains(':') {
            explanation.wrong("its policy names an IPv6 network, and CloudFront takes IPv4 only");
        }
    }
    match statement["Resource"].as_str() {
        Some(resource) => look_at_resource(explanation, resource, parts),
        None => explanation.risk(
            "its policy names no resource: it opens every file of every distribution that trusts the key",
        ),
    }
}

fn look_at_resource(explanation: &mut Explanation, resource: &str, parts: &Parts<'_>) {
    explanation.resource = Some(resource.to_owned());
    // CloudFront refuses it, and a comparison would take long.
    if explanation.length > MAX_FOR_SERVERS {
        return;
    }
    let asked = asked(parts);
    if !matches(resource.as_bytes(), asked.as_bytes()) {
        explanation.wrong("its policy is for another URL");
    } else if resource.contains('*') {
        explanation.risk(
            "its policy is for a pattern: its signature opens every URL that matches, with any parameters",
        );
    }
}

/// The URL as CloudFront compares it: without the parameters of the signature.
fn asked(parts: &Parts<'_>) -> String {
    let others: Vec<&str> = parts
        .query
        .split('&')
        .filter(|pair| !OWN_PARAMETERS.contains(&pair.split('=').next().unwrap_or(pair)))
        .filter(|pair| !pair.is_empty())
        .collect();
    let mut asked = format!("{}://{}{}", parts.scheme, parts.authority, parts.path);
    if !others.is_empty() {
        asked.push('?');
        asked.push_str(&others.join("&"));
    }
    asked
}

fn second(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}
