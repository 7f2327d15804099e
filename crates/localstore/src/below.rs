//! Supports links whose public URL differs from that of the endpoint, because a proxy is in front of it.
//!
//! If the public URL has a path, the proxy may strip that path, or keep it. It must pass the `Host` header on unchanged, which
//! the signature covers: a link whose signature is valid for the public host and not for the one that arrived is rejected with
//! that reason, since the operator of the proxy can repair it.
//!
//! The signature covers the path that recipients request, and s3s verifies the path that arrives. A request with a valid
//! signature for the public path is therefore signed again for the path below it. Any other request is left unchanged, and s3s
//! rejects it as usual.
//!
//! Paths and queries have many spellings, and s3s verifies the decoded form. They are therefore decoded here before the
//! comparison. A link that arrives with the public path but was not signed for it is rejected: s3s would accept its signature and
//! treat the public path as a bucket.

use aws_lc_rs::constant_time::verify_slices_are_equal as is_equal;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::http::request;
use hyper::{HeaderMap, Uri};
use presign::ServerUrl;
use presign::hex::hex;
use presign::midstate::Midstate;
use presign::percent::{decode, push_path};
use presign::sigv4::signing_key;
use s3s::S3ErrorCode;

use crate::claim::{Claim, SIGNATURE};
use crate::query::SignedQuery;
use crate::rejection::{Rejection, WRONG_SIGNATURE};
use crate::scope::Sites;

/// The URL at which recipients reach the endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct PublicUrl {
    /// The host, with a port if there is one; empty if it is unknown.
    host: String,
    /// Decoded, without a trailing slash; empty for a URL without a path.
    path: String,
}

impl PublicUrl {
    pub(crate) fn new(url: &ServerUrl) -> Self {
        Self {
            host: url.host().to_owned(),
            path: decode(url.path()).unwrap_or_else(|| url.path().to_owned()),
        }
    }

    /// The host of links, and the one that a link arrived with, if a proxy may have changed it.
    pub(crate) fn other_host<'a>(&'a self, head: &'a request::Parts) -> Option<(&'a str, &'a str)> {
        let arrived = head.headers.get(HOST)?.to_str().ok()?;
        // Only the daemon signs in the header, and it calls the endpoint directly.
        let is_link = !head.headers.contains_key(AUTHORIZATION);
        let is_other = !self.host.is_empty() && self.host != arrived;
        (is_link && is_other).then_some((&self.host, arrived))
    }

    /// Whether the signature of a link is valid for the public host. The caller has admitted the request.
    pub(crate) fn was_signed_for_it(&self, sites: &Sites, head: &request::Parts) -> bool {
        let is_valid = || {
            let query = SignedQuery::parse(head.uri.query()?).ok()?;
            let arrived = decode(head.uri.path())?;
            let link = PathLink::of(sites, head, &query, Some(&self.host))?;
            let below = format!("{}{arrived}", self.path);
            [arrived, below].iter().find(|path| link.is_valid(path))?;
            Some(())
        };
        is_valid().is_some()
    }

    /// Strips the public path from a link that was signed with it. The caller has admitted the request.
    pub(crate) fn take_off(
        &self,
        sites: &Sites,
        head: &mut request::Parts,
    ) -> Result<(), Rejection> {
        // Only the daemon signs in the header, and it calls the endpoint directly.
        if self.path.is_empty() || head.headers.contains_key(AUTHORIZATION) {
            return Ok(());
        }
        let unreadable =
            || Rejection::new(S3ErrorCode::InvalidURI, "Couldn't parse the specified URI.");
        let arrived = decode(head.uri.path()).ok_or_else(unreadable)?;
        match self.below(sites, head, &arrived) {
            Some(below) => head.uri = below,
            None if self.inside(&arrived).is_some() => {
                let code = S3ErrorCode::SignatureDoesNotMatch;
                return Err(Rejection::new(code, WRONG_SIGNATURE));
            }
            None => {}
        }
        Ok(())
    }

    /// The rest of a path after the public path, if the path begins with it.
    fn inside<'a>(&self, path: &'a str) -> Option<&'a str> {
        let inside = path.strip_prefix(&self.path)?;
        inside.starts_with('/').then_some(inside)
    }

    /// The URI below the public path, signed for the endpoint itself; `None` if the request was not signed for the public path.
    fn below(&self, sites: &Sites, head: &request::Parts, arrived: &str) -> Option<Uri> {
        let query = SignedQuery::parse(head.uri.query()?).ok()?;
        let link = PathLink::of(sites, head, &query, None)?;
        let left_there = self
            .inside(arrived)
            .map(|inside| (arrived.to_owned(), inside));
        let taken_off = (format!("{}{arrived}", self.path), arrived);
        let (_, inside) = left_there
            .into_iter()
            .chain([taken_off])
            .find(|(asked, _)| link.is_valid(asked))?;
        let mut uri = String::new();
        push_path(inside, &mut uri);
        let (parameters, own) = (&link.parameters, link.signature(inside));
        uri.push_str(&format!("?{parameters}&{SIGNATURE}={own}"));
        uri.parse().ok()
    }
}

/// The signed parts of a link, except its path.
struct PathLink<'a> {
    method: &'a str,
    /// The parameters, sorted and encoded, without the signature.
    parameters: String,
    /// The signed headers, and their names.
    headers: String,
    date: String,
    scope: String,
    secret: &'a str,
    day: String,
    region: String,
    /// The signature of the request.
    given: String,
}

impl<'a> PathLink<'a> {
    /// A link that arrived, with its `Host` or another one.
    fn of(
        sites: &'a Sites,
        head: &'a request::Parts,
        query: &SignedQuery,
        host: Option<&str>,
    ) -> Option<Self> {
        let claim = Claim::of_query(query).ok()?;
        let credential = claim.credential;
        let site = sites.site(credential.access_key_id).ok()?;
        Some(Self {
            method: head.method.as_str(),
            parameters: query.spelled_without(SIGNATURE),
            headers: signed(claim.signed_headers, &head.headers, host)?,
            date: claim.date.to_owned(),
            scope: credential.scope(),
            secret: &site.secret_access_key,
            day: credential.day.to_owned(),
            region: credential.region.to_owned(),
            given: query.only(SIGNATURE)?.to_owned(),
        })
    }

    /// Whether the link was signed for a decoded path.
    fn is_valid(&self, path: &str) -> bool {
        is_equal(self.signature(path).as_bytes(), self.given.as_bytes()).is_ok()
    }

    /// The valid signature for a decoded path. <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
    fn signature(&self, path: &str) -> String {
        let Self {
            method,
            parameters,
            headers,
            date,
            scope,
            ..
        } = self;
        let mut request = format!("{method}\n");
        push_path(path, &mut request);
        request.push_str(&format!("\n{parameters}\n{headers}\nUNSIGNED-PAYLOAD"));
        let mut hash = Midstate::new();
        hash.update(request.as_bytes());
        let hash = hex(&hash.finish());
        let mut mac = signing_key(self.secret, &self.day, &self.region);
        mac.update(format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}").as_bytes());
        hex(&mac.finish())
    }
}

/// The canonical headers and the list of their names. The caller has checked that the names are sorted and that each header
/// occurs once.
fn signed(names: &str, headers: &HeaderMap, host: Option<&str>) -> Option<String> {
    debug_assert!(names.split(';').any(|name| name == HOST.as_str()));
    let mut text = String::new();
    for name in names.split(';') {
        let value = match host {
            Some(host) if name == HOST.as_str() => host,
            _ => headers.get(name)?.to_str().ok()?,
        };
        text.push_str(&format!("{name}:{}\n", value.trim()));
    }
    Some(format!("{text}\n{names}"))
}
