//! Authorizes requests: the checks of a signature before it is computed.
//!
//! s3s verifies the HMAC, and is more tolerant than S3 about the scope of a signature. Here a request must be signed exactly
//! once, in its query or in its `Authorization` header, with Signature Version 4, by the key of a configured site, for its region
//! and for S3, over the host and every `x-amz-*` header, for at most a week. Every other request is rejected before any of its
//! body is read.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, http::request};
use jiff::Timestamp;
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3ErrorCode, S3Result};

use crate::Site;
use crate::claim::{Claim, unsupported};
use crate::query::SignedQuery;
use crate::rejection::Rejection;

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
    pub(crate) fn site(&self, access_key_id: &str) -> Result<&Site, Rejection> {
        let unknown = "The AWS Access Key Id you provided does not exist in our records.";
        self.0.get(access_key_id).ok_or_else(|| {
            Rejection::new(S3ErrorCode::InvalidAccessKeyId, unknown)
                .with("AWSAccessKeyId", access_key_id)
        })
    }

    /// Checks a request as far as possible without computing its signature.
    pub(crate) fn admit(&self, request: &request::Parts, now: Timestamp) -> Result<(), Rejection> {
        let query = SignedQuery::parse(request.uri.query().unwrap_or_default())?;
        // s3s would accept a version 2 signature, which has neither a region nor signed headers.
        if query.has("Signature") || query.has("AWSAccessKeyId") {
            return Err(unsupported());
        }
        // In any spelling, since parsers could interpret a parameter differently.
        let is_in_query = query.has_any_of_signature();
        let claim = match (is_in_query, request.headers.get(AUTHORIZATION)) {
            (true, Some(_)) => return Err(one_mechanism()),
            (true, None) => Claim::of_query(&query)?,
            (false, Some(_)) if request.headers.get_all(AUTHORIZATION).iter().count() != 1 => {
                return Err(unsupported());
            }
            (false, Some(value)) => Claim::of_header(value, &request.headers)?,
            (false, None) => return Err(Rejection::denied("Access Denied")),
        };
        let site = self.site(claim.credential.access_key_id)?;
        claim.check(&site.region, now)?;
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

/// Checks that the host and every header that S3 acts upon is signed: an unsigned header may have been added by a third party.
///
/// The names must be in lower case and sorted by byte, each once, and each must name a header that occurs once, so that the
/// signed content is unambiguous.
fn check_signed_headers(signed: &str, headers: &HeaderMap) -> Result<(), Rejection> {
    let names: Vec<&str> = signed.split(';').collect();
    let is_name =
        |name: &&str| !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    if !names.iter().all(is_name) || !names.is_sorted_by(|one, next| one < next) {
        return Err(Rejection::denied(
            "SignedHeaders must be names in lower case, sorted, each once",
        ));
    }
    let times = |name: &str| headers.get_all(name).iter().count();
    if let Some(name) = names.iter().find(|name| times(name) != 1) {
        return Err(Rejection::denied(format!(
            "A signed header must be given once: {name}"
        )));
    }
    let acted_upon = headers.keys().map(|name| name.as_str());
    let mut acted_upon: Vec<&str> = acted_upon
        .filter(|name| name.starts_with("x-amz-"))
        .collect();
    acted_upon.sort_unstable();
    if let Some(name) = acted_upon.iter().find(|name| times(name) != 1) {
        return Err(Rejection::denied(format!(
            "A header must be given once: {name}"
        )));
    }
    let unsigned = std::iter::once("host").chain(acted_upon);
    let unsigned = unsigned.filter(|name| !MAY_BE_UNSIGNED.contains(name));
    let unsigned: Vec<&str> = unsigned.filter(|name| !names.contains(name)).collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    let message = "There were headers present in the request which were not signed";
    Err(Rejection::denied(message).with("HeadersNotSigned", unsigned.join(", ")))
}

fn one_mechanism() -> Rejection {
    let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified";
    Rejection::new(S3ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests;
