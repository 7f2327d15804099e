//! The rules for an ID token: its signature, and the claims that say who made it, for whom, and when.
//! <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::keys::{ACCEPTED, KeySet};
use crate::bounds::{MAX_OIDC_SUBJECT_BYTES, MAX_OIDC_TOKEN_BYTES};

/// The claims of a token whose signature was verified.
pub(super) type Claims = Map<String, Value>;

/// How far the clocks of the provider and of this machine may be apart, in seconds.
const SKEW_SECS: i64 = 60;

/// Why an ID token is refused, as the end of a sentence about it. No value of the token is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not a JWS in its compact form, or claims that are no JSON object.
    #[error("is not a signed token of three parts")]
    Malformed,
    /// An algorithm that is not accepted, or not that of the key.
    #[error(
        "names an algorithm that is not RS256, PS256, ES256 or EdDSA, or that the key is not for"
    )]
    Algorithm,
    /// No key, or more than one, is meant by it.
    #[error("was signed with a key that the provider's key set does not name")]
    UnknownKey,
    /// The signature is wrong.
    #[error("has a signature that the provider's key does not confirm")]
    Signature,
    /// Made by another issuer.
    #[error("has another issuer than the configured one")]
    Issuer,
    /// Made for another client.
    #[error("was made for another client")]
    Audience,
    /// `azp` is missing or names another client.
    #[error("was given to another client")]
    AuthorizedParty,
    /// `exp` is missing or past.
    #[error("has expired, or does not say when")]
    Expired,
    /// `nbf` is in the future.
    #[error("is not valid yet: compare the clock of this machine with the provider's")]
    NotYetValid,
    /// `iat` is missing, in the future, or before the sign-in began.
    #[error(
        "was not issued during this sign-in: compare the clock of this machine with the provider's"
    )]
    IssuedAt,
    /// `nonce` is missing or of another sign-in.
    #[error("belongs to another sign-in")]
    Nonce,
    /// `sub` is missing, empty or too long.
    #[error("has no valid subject")]
    Subject,
}

impl TokenFault {
    /// Whether a further sign-in may succeed without a change of the configuration.
    pub(super) const fn may_pass(self) -> bool {
        match self {
            Self::Expired | Self::Nonce | Self::UnknownKey => true,
            Self::Malformed
            | Self::Algorithm
            | Self::Signature
            | Self::Issuer
            | Self::Audience
            | Self::AuthorizedParty
            | Self::NotYetValid
            | Self::IssuedAt
            | Self::Subject => false,
        }
    }
}

/// What the claims of a token have to say.
#[derive(Clone, Copy)]
pub(super) struct ExpectedClaims<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// When the sign-in began.
    pub(super) begun: Timestamp,
    pub(super) now: Timestamp,
}

/// Verifies the signature of a token, and nothing else.
pub(super) fn verified(token: &str, keys: &KeySet) -> Result<Claims, TokenFault> {
    if token.len() > MAX_OIDC_TOKEN_BYTES {
        return Err(TokenFault::Malformed);
    }
    let header = decode_header(token).map_err(|error| match error.kind() {
        // Also an algorithm that the library does not know: `none`.
        ErrorKind::Json(_) => TokenFault::Algorithm,
        _ => TokenFault::Malformed,
    })?;
    if !ACCEPTED.contains(&header.alg) {
        return Err(TokenFault::Algorithm);
    }
    let key = keys.find(header.kid.as_deref(), header.alg)?;
    let mut rules = Validation::new(header.alg);
    // The claims are judged below, with the clock of the caller.
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.validate_aud = false;
    let decoded = decode(token, key, &rules).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => TokenFault::Signature,
        ErrorKind::InvalidAlgorithm => TokenFault::Algorithm,
        _ => TokenFault::Malformed,
    })?;
    Ok(decoded.claims)
}

/// Judges the claims of a verified token.
pub(super) fn judge(claims: &Claims, expected: ExpectedClaims<'_>) -> Result<(), TokenFault> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(TokenFault::Issuer);
    }
    is_for(claims, expected.client_id)?;
    let now = expected.now.as_second();
    let exp = seconds(claims, "exp").ok_or(TokenFault::Expired)?;
    if exp.saturating_add(SKEW_SECS) <= now {
        return Err(TokenFault::Expired);
    }
    if claims.contains_key("nbf") {
        let nbf = seconds(claims, "nbf").ok_or(TokenFault::NotYetValid)?;
        if nbf > now.saturating_add(SKEW_SECS) {
            return Err(TokenFault::NotYetValid);
        }
    }
    let iat = seconds(claims, "iat").ok_or(TokenFault::IssuedAt)?;
    let earliest = expected.begun.as_second().saturating_sub(SKEW_SECS);
    if iat < earliest || iat > now.saturating_add(SKEW_SECS) {
        return Err(TokenFault::IssuedAt);
    }
    if text("nonce") != Some(expected.nonce) {
        return Err(TokenFault::Nonce);
    }
    match text("sub") {
        Some(sub) if !sub.is_empty() && sub.len() <= MAX_OIDC_SUBJECT_BYTES => Ok(()),
        Some(_) | None => Err(TokenFault::Subject),
    }
}

/// Whether a token is for this client: alone, or among others and given to it.
fn is_for(claims: &Claims, client_id: &str) -> Result<(), TokenFault> {
    let party = claims.get("azp");
    let is_ours = |value: &Value| value.as_str() == Some(client_id);
    let (is_audience, is_alone) = match claims.get("aud") {
        Some(Value::Array(all)) => (all.iter().any(is_ours), all.len() == 1),
        Some(one) => (is_ours(one), true),
        None => (false, true),
    };
    if !is_audience {
        return Err(TokenFault::Audience);
    }
    match party {
        Some(party) if is_ours(party) => Ok(()),
        None if is_alone => Ok(()),
        Some(_) | None => Err(TokenFault::AuthorizedParty),
    }
}

/// A `NumericDate`, which may have a fraction (RFC 7519, section 2), in whole seconds.
fn seconds(claims: &Claims, name: &str) -> Option<i64> {
    let value = claims.get(name)?;
    let fraction = || value.as_f64().map(f64::floor);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked, and the value has no fraction"
    )]
    let whole = || {
        fraction()
            .filter(|seconds| seconds.abs() < 1e15)
            .map(|seconds| seconds as i64)
    };
    value.as_i64().or_else(whole)
}

#[cfg(test)]
mod tests;
