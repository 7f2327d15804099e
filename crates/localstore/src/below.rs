//! Supports links whose public URL has a path: a proxy in front of the endpoint may strip that path, or keep it.
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
use presign::hex::hex;
use presign::midstate::Midstate;
use presign::percent::{decode, push_path};
use presign::sigv4::signing_key;
use s3s::{S3Result, s3_error};

use crate::scope::{Claim, SIGNATURE, SignedQuery, Sites};

/// The path of the public URL, decoded, without a trailing slash; empty for a URL without a path.
#[derive(Debug, Clone)]
pub(crate) struct PublicPath(String);

impl PublicPath {
    /// `path` is encoded as in a URL.
    pub(crate) fn new(path: &str) -> Self {
        Self(decode(path).unwrap_or_else(|| path.to_owned()))
    }

    /// Strips the public path from a link that was signed with it. The caller has admitted the request.
    pub(crate) fn take_off(&self, sites: &Sites, head: &mut request::Parts) -> S3Result<()> {
        // Only the daemon signs in the header, and it calls the endpoint directly.
        if self.0.is_empty() || head.headers.contains_key(AUTHORIZATION) {
            return Ok(());
        }
        let unreadable = || s3_error!(InvalidURI, "Couldn't parse the specified URI.");
        let arrived = decode(head.uri.path()).ok_or_else(unreadable)?;
        match self.below(sites, head, &arrived) {
            Some(below) => head.uri = below,
            None if self.inside(&arrived).is_some() => {
                return Err(s3_error!(
                    SignatureDoesNotMatch,
                    "The request signature we calculated does not match the signature you provided."
                ));
            }
            None => {}
        }
        Ok(())
    }

    /// The rest of a path after the public path, if the path begins with it.
    fn inside<'a>(&self, path: &'a str) -> Option<&'a str> {
        let inside = path.strip_prefix(&self.0)?;
        inside.starts_with('/').then_some(inside)
    }

    /// The URI below the public path, signed for the endpoint itself; `None` if the request was not signed for the public path.
    fn below(&self, sites: &Sites, head: &request::Parts, arrived: &str) -> Option<Uri> {
        let query = SignedQuery::parse(head.uri.query()?).ok()?;
        let signature = query.only(SIGNATURE)?;
        let link = PathLink::of(sites, head, &query)?;
        let left_there = self
            .inside(arrived)
            .map(|inside| (arrived.to_owned(), inside));
        let taken_off = (format!("{}{arrived}", self.0), arrived);
        let (_, inside) = left_there
            .into_iter()
            .chain([taken_off])
            .find(|(asked, _)| {
                is_equal(link.signature(asked).as_bytes(), signature.as_bytes()).is_ok()
            })?;
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
}

impl<'a> PathLink<'a> {
    fn of(sites: &'a Sites, head: &'a request::Parts, query: &SignedQuery) -> Option<Self> {
        let claim = Claim::of_query(query).ok()?;
        let scope = claim.scope().ok()?;
        let site = sites.site(scope.access_key_id).ok()?;
        let (_, in_scope) = claim.credential.split_once('/')?;
        Some(Self {
            method: head.method.as_str(),
            parameters: query.spelled_without(SIGNATURE),
            headers: signed(claim.signed_headers, &head.headers)?,
            date: claim.date.to_owned(),
            scope: in_scope.to_owned(),
            secret: &site.secret_access_key,
            day: claim.date.get(..8)?.to_owned(),
            region: scope.region.to_owned(),
        })
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
fn signed(names: &str, headers: &HeaderMap) -> Option<String> {
    debug_assert!(names.split(';').any(|name| name == HOST.as_str()));
    let mut text = String::new();
    for name in names.split(';') {
        let value = headers.get(name)?.to_str().ok()?;
        text.push_str(&format!("{name}:{}\n", value.trim()));
    }
    Some(format!("{text}\n{names}"))
}
