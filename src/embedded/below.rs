//! Links whose public URL has a path: a proxy in front of the endpoint may take that path off a request, or leave it there.
//!
//! The signature covers the path that recipients ask for, and s3s verifies the path that arrives. A request whose signature is right
//! for the public path is therefore signed anew for the path below it; any other is left as it is, and refused as all wrong ones are.

use aws_lc_rs::constant_time::verify_slices_are_equal as is_equal;
use hyper::header::HOST;
use hyper::http::request;
use hyper::{HeaderMap, Uri};

use super::scope::{Claim, Query, Sites};
use crate::keyring::hex;
use crate::keyring::midstate::Midstate;
use crate::links::sigv4::{push_path_escaped, signing_key};
use crate::links::target::decode_path;
use crate::links::url::signature_in;

/// The path of the public URL, without a slash at its end; empty for a URL without one.
#[derive(Debug, Clone)]
pub(super) struct PublicPath(String);

impl PublicPath {
    pub(super) const fn new(path: String) -> Self {
        Self(path)
    }

    /// Takes the public path off a link that was signed with it. The caller has admitted the request.
    pub(super) fn take_off(&self, sites: &Sites, head: &mut request::Parts) {
        if self.0.is_empty() {
            return;
        }
        if let Some(below) = self.below(sites, head) {
            head.uri = below;
        }
    }

    /// The URI below the public path, signed for the endpoint itself; nothing for what was not signed for the public path.
    fn below(&self, sites: &Sites, head: &request::Parts) -> Option<Uri> {
        let signature = signature_in(&head.uri.to_string())?.to_owned();
        let link = Link::of(sites, head)?;
        let arrived = head.uri.path();
        let inside = arrived
            .strip_prefix(&self.0)
            .filter(|path| path.starts_with('/'));
        let left_there = inside.map(|inside| (arrived.to_owned(), inside));
        let taken_off = (format!("{}{arrived}", self.0), arrived);
        let (_, inside) = left_there
            .into_iter()
            .chain([taken_off])
            .find(|(asked, _)| {
                let right = link.signature(asked);
                right.is_some_and(|right| is_equal(right.as_bytes(), signature.as_bytes()).is_ok())
            })?;
        let query = head.uri.query()?;
        let own = link.signature(inside)?;
        let parameter = |signature: &str| format!("X-Amz-Signature={signature}");
        let query = query.replace(&parameter(&signature), &parameter(&own));
        format!("{inside}?{query}").parse().ok()
    }
}

/// All of a link but its path, as its signature covers it.
struct Link<'a> {
    method: &'a str,
    /// The parameters, sorted and spelled anew, without the signature.
    parameters: String,
    /// The signed headers, and their names.
    headers: String,
    date: String,
    scope: String,
    secret: &'a str,
    day: String,
    region: String,
}

impl<'a> Link<'a> {
    fn of(sites: &'a Sites, head: &'a request::Parts) -> Option<Self> {
        let query = Query::parse(head.uri.query()?).ok()?;
        let claim = Claim::of_query(&query).ok()?;
        let scope = claim.scope().ok()?;
        let site = sites.site(scope.access_key_id).ok()?;
        let (_, in_scope) = claim.credential.split_once('/')?;
        Some(Self {
            method: head.method.as_str(),
            parameters: query.spelled_without("X-Amz-Signature"),
            headers: signed(claim.signed_headers, &head.headers)?,
            date: claim.date.to_owned(),
            scope: in_scope.to_owned(),
            secret: &site.secret_access_key,
            day: claim.date.get(..8)?.to_owned(),
            region: scope.region.to_owned(),
        })
    }

    /// The right signature for a path. <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
    fn signature(&self, path: &str) -> Option<String> {
        let Self {
            method,
            parameters,
            headers,
            date,
            scope,
            ..
        } = self;
        let mut request = format!("{method}\n");
        push_path_escaped(&decode_path(path)?, &mut request);
        request.push_str(&format!("\n{parameters}\n{headers}\nUNSIGNED-PAYLOAD"));
        let mut hash = Midstate::new();
        hash.update(request.as_bytes());
        let hash = hex(&hash.finish());
        let mut mac = signing_key(self.secret, &self.day, &self.region);
        mac.update(format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}").as_bytes());
        Some(hex(&mac.finish()))
    }
}

/// The canonical headers and the list of their names, which the caller has found sorted, and each header there once.
fn signed(names: &str, headers: &HeaderMap) -> Option<String> {
    debug_assert!(names.split(';').any(|name| name == HOST.as_str()));
    let mut text = String::new();
    for name in names.split(';') {
        let value = headers.get(name)?.to_str().ok()?;
        text.push_str(&format!("{name}:{}\n", value.trim()));
    }
    Some(format!("{text}\n{names}"))
}
