//! CloudFront signed URLs, computed with a private key.
//!
//! The signature covers a policy, a small JSON text: the URL, the end, and optionally the start and the client's network. A
//! *canned* policy has only an end; CloudFront rebuilds it from the requested URL. A *custom* policy is part of the URL. These
//! URLs depend on no session and have no limit of seven days: they expire when their policy ends or when the key is removed from
//! its key group. <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-signed-urls.html>

pub mod key;

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

pub use key::{HashAlgorithm, PrivateKey, PrivateKeyError};

use crate::percent::push_path;
use crate::policy::{OWN_PARAMETERS, base64, matches};
use crate::request::PresignRequest;
use crate::url::PresignedUrl;

/// The last instant that CloudFront accepts: it counts seconds in 32 bits, to 19 January 2038.
pub const LAST_SECOND: i64 = i32::MAX as i64;

/// Why a CloudFront URL cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudFrontError {
    /// The id of the public key is malformed.
    #[error("{0:?} is not the id of a CloudFront public key: it looks like K2JCJMDEHXQW5F")]
    KeyPairId(String),
    /// The domain name of the distribution is malformed.
    #[error(
        "{0:?} is not the domain of a distribution: write the name alone, such as d111111abcdef8.cloudfront.net"
    )]
    Domain(String),
    /// A network is malformed.
    #[error(
        "{0:?} is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6"
    )]
    Network(String),
    /// The URL cannot be signed in this form.
    #[error("a link to {url} cannot be signed for CloudFront: {reason}")]
    Url {
        /// The unsigned URL.
        url: String,
        /// The reason.
        reason: &'static str,
    },
    /// The policy ends before it starts.
    #[error("a CloudFront link that begins at {start} must end later, not at {end}")]
    Order {
        /// The start of the policy.
        start: Timestamp,
        /// The end of the policy.
        end: Timestamp,
    },
    /// The end of the URL is outside the range that CloudFront can represent.
    #[error(
        "a CloudFront link cannot end at {0}: CloudFront counts from 1970 to 2038-01-19T03:14:07Z"
    )]
    End(Timestamp),
    /// The wildcard signature does not cover the URL.
    #[error("{url} is outside of {resource}, for which the CloudFront links were signed")]
    Outside {
        /// The unsigned URL.
        url: String,
        /// The signed resource.
        resource: String,
    },
    /// The distribution cannot reach the object.
    #[error("the distribution cannot open {key:?}: its origin path is {origin_path:?}")]
    Unreached {
        /// The object's key.
        key: String,
        /// The prefix of every key that the distribution opens.
        origin_path: String,
    },
    /// The key failed to sign; this is not expected of a key that was parsed.
    #[error("could not sign with the CloudFront key")]
    Key,
}

/// An IPv4 network of one or more addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Network {
    address: Ipv4Addr,
    prefix: u8,
}

impl FromStr for Ipv4Network {
    type Err = CloudFrontError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || CloudFrontError::Network(text.to_owned());
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let address: Ipv4Addr = address.parse().map_err(|_| refuse())?;
        let prefix: u8 = prefix.parse().map_err(|_| refuse())?;
        let below = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        // 192.0.2.7/24 is ambiguous: it may mean one address or 256.
        if !is_number || prefix > 32 || address.to_bits() & below != 0 {
            return Err(refuse());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Ipv4Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// When a URL works, and from which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlPolicy {
    end: Timestamp,
    start: Option<Timestamp>,
    network: Option<Ipv4Network>,
}

impl UrlPolicy {
    /// Works until `end`; CloudFront counts whole seconds.
    pub const fn until(end: Timestamp) -> Self {
        Self {
            end,
            start: None,
            network: None,
        }
    }

    /// Also requires that `start` has passed.
    #[must_use]
    pub const fn starting(self, start: Timestamp) -> Self {
        Self {
            start: Some(start),
            ..self
        }
    }

    /// Also restricts the policy to one network.
    #[must_use]
    pub const fn from_network(self, network: Ipv4Network) -> Self {
        Self {
            network: Some(network),
            ..self
        }
    }

    const fn is_canned(&self) -> bool {
        self.start.is_none() && self.network.is_none()
    }

    fn check(&self) -> Result<(), CloudFrontError> {
        if !(1..=LAST_SECOND).contains(&self.end.as_second()) {
            return Err(CloudFrontError::End(self.end));
        }
        match self.start {
            Some(start) if start.as_second() >= self.end.as_second() => {
                Err(CloudFrontError::Order {
                    start,
                    end: self.end,
                })
            }
            _ => Ok(()),
        }
    }

    /// The signed text, exact to the byte: CloudFront rebuilds a canned policy and compares it.
    fn json(&self, resource: &str) -> String {
        // A quote in a resource could inject JSON, so it is escaped, although `check_url` already rejects quotes.
        let resource = serde_json::Value::from(resource);
        let end = self.end.as_second();
        let mut json = format!(
            r#"{{"Statement":[{{"Resource":{resource},"Condition":{{"DateLessThan":{{"AWS:EpochTime":{end}}}"#
        );
        if let Some(start) = self.start {
            let start = start.as_second();
            json.push_str(&format!(
                r#","DateGreaterThan":{{"AWS:EpochTime":{start}}}"#
            ));
        }
        if let Some(network) = self.network {
            json.push_str(&format!(r#","IpAddress":{{"AWS:SourceIp":"{network}"}}"#));
        }
        json.push_str("}}]}");
        json
    }
}

/// The domain that the URLs of a distribution point to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistributionDomain {
    origin: String,
}

impl DistributionDomain {
    /// Parses the distribution's domain name, either its own or an alternate domain name (CNAME).
    pub fn new(domain: &str) -> Result<Self, CloudFrontError> {
        // Browsers send host names in lower case, and CloudFront compares them byte for byte.
        let name = domain.to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if name.len() > 253 || !name.contains('.') || !name.split('.').all(is_label) {
            return Err(CloudFrontError::Domain(domain.to_owned()));
        }
        Ok(Self {
            origin: format!("https://{name}"),
        })
    }

    /// The scheme and host of the URLs, as a Content Security Policy names them.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The unsigned URL of an object. Key and parameters are encoded as in an S3 URL.
    ///
    /// CloudFront forwards `response-…` parameters to S3 only if the distribution's origin request policy includes them.
    pub fn url(&self, request: &PresignRequest<'_>) -> String {
        let mut parameters = String::new();
        request.push_parameters(&mut parameters);
        let mut url =
            String::with_capacity(self.origin.len() + request.key.len() + parameters.len());
        self.push_place(request.key, &mut url);
        if let Some(parameters) = parameters.strip_prefix('&') {
            url.push('?');
            url.push_str(parameters);
        }
        url
    }

    /// The resource that matches every key that begins with `prefix`, for [`CloudFrontSigner::wildcard`].
    pub fn everything_below(&self, prefix: &str) -> String {
        let mut resource = String::new();
        self.push_place(prefix, &mut resource);
        resource.push('*');
        resource
    }

    fn push_place(&self, key: &str, text: &mut String) {
        text.push_str(&self.origin);
        text.push('/');
        push_path(key, text);
    }
}

/// Signs CloudFront URLs with one key.
#[derive(Debug, Clone)]
pub struct CloudFrontSigner {
    key_pair_id: Arc<str>,
    key: Arc<PrivateKey>,
    hash: HashAlgorithm,
}

impl CloudFrontSigner {
    /// Signs with `key`, whose public key is registered with CloudFront as `key_pair_id`.
    pub fn new(
        key_pair_id: &str,
        key: PrivateKey,
        hash: HashAlgorithm,
    ) -> Result<Self, CloudFrontError> {
        Self::check_key_pair_id(key_pair_id)?;
        Ok(Self {
            key_pair_id: key_pair_id.into(),
            key: Arc::new(key),
            hash,
        })
    }

    /// Checks the format of a public key's id.
    pub fn check_key_pair_id(text: &str) -> Result<(), CloudFrontError> {
        let is_id =
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match is_id {
            true => Ok(()),
            false => Err(CloudFrontError::KeyPairId(text.to_owned())),
        }
    }

    /// The id of the public key. It is not secret and is part of every URL.
    pub fn key_pair_id(&self) -> &Arc<str> {
        &self.key_pair_id
    }

    /// The type of the key, for display.
    pub fn kind(&self) -> String {
        let hash = match self.hash {
            HashAlgorithm::Sha1 => "SHA-1",
            HashAlgorithm::Sha256 => "SHA-256",
        };
        format!("{} with {hash}", self.key.kind())
    }

    /// Signs one URL with its query. A change to any character invalidates the URL.
    pub fn sign(&self, url: &str, policy: &UrlPolicy) -> Result<PresignedUrl, CloudFrontError> {
        check_url(url)?;
        policy.check()?;
        let query = self.query(url, policy, policy.is_canned())?;
        Ok(signed(url, &query))
    }

    /// Signs a resource with the wildcards `*` (any characters) and `?` (one character) once, for all URLs that it matches.
    ///
    /// This is cheaper and weaker than [`CloudFrontSigner::sign`]: the holder of one URL can derive the others, and can change a
    /// parameter such as `x-handout`.
    pub fn wildcard(
        &self,
        resource: &str,
        policy: &UrlPolicy,
    ) -> Result<WildcardSignature, CloudFrontError> {
        // The resource must be a valid URL once its wildcards are replaced by a letter.
        check_url(&resource.replace(['*', '?'], "w")).map_err(|error| match error {
            CloudFrontError::Url { reason, .. } => refused(resource, reason),
            other => other,
        })?;
        let authority = resource.split('/').nth(2).unwrap_or_default();
        if authority.contains(['*', '?']) {
            return Err(refused(resource, "its host must not be a pattern"));
        }
        policy.check()?;
        Ok(WildcardSignature {
            resource: resource.into(),
            query: self.query(resource, policy, false)?.into(),
        })
    }

    /// Returns a signature for estimating lengths: as long as the signature of each URL under a canned policy, and valid for no
    /// URL.
    pub fn sample(&self, policy: &UrlPolicy) -> Result<WildcardSignature, CloudFrontError> {
        policy.check()?;
        let query = self.query("https://example.invalid/", policy, policy.is_canned())?;
        Ok(WildcardSignature {
            resource: "*".into(),
            query: query.into(),
        })
    }

    /// `Expires=…&Signature=…&Key-Pair-Id=…`, in the order of AWS's own signers.
    fn query(
        &self,
        resource: &str,
        policy: &UrlPolicy,
        is_canned: bool,
    ) -> Result<String, CloudFrontError> {
        let json = policy.json(resource);
        let signature = self
            .key
            .sign(json.as_bytes(), self.hash)
            .ok_or(CloudFrontError::Key)?;
        let mut query = if is_canned {
            format!("Expires={}", policy.end.as_second())
        } else {
            format!("Policy={}", base64(json.as_bytes()))
        };
        query.push_str("&Signature=");
        query.push_str(&base64(&signature));
        query.push_str("&Key-Pair-Id=");
        query.push_str(&self.key_pair_id);
        // CloudFront assumes SHA-1 when no algorithm is named, so URLs for SHA-1 stay unchanged.
        if self.hash == HashAlgorithm::Sha256 {
            query.push_str("&Hash-Algorithm=SHA256");
        }
        Ok(query)
    }
}

/// A signature for all URLs that match a resource.
#[derive(Clone)]
pub struct WildcardSignature {
    resource: Arc<str>,
    query: Arc<str>,
}

impl fmt::Debug for WildcardSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WildcardSignature")
            .field(&self.resource)
            .field(&"****")
            .finish()
    }
}

impl WildcardSignature {
    /// Appends the signature to a URL. Returns an error for a URL that the signature does not cover.
    pub fn apply(&self, url: &str) -> Result<PresignedUrl, CloudFrontError> {
        check_url(url)?;
        if !matches(self.resource.as_bytes(), url.as_bytes()) {
            return Err(CloudFrontError::Outside {
                url: url.to_owned(),
                resource: self.resource.to_string(),
            });
        }
        Ok(signed(url, &self.query))
    }
}

fn signed(url: &str, query: &str) -> PresignedUrl {
    let separator = if url.contains('?') { '&' } else { '?' };
    PresignedUrl::new(format!("{url}{separator}{query}"))
}

fn refused(url: &str, reason: &'static str) -> CloudFrontError {
    CloudFrontError::Url {
        url: url.to_owned(),
        reason,
    }
}

/// Checks that clients request this URL unchanged, so that CloudFront compares the same text.
fn check_url(url: &str) -> Result<(), CloudFrontError> {
    let refuse = |reason| Err(refused(url, reason));
    let Some(rest) = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
    else {
        return refuse("it must begin with https:// or http://");
    };
    let Some((host, _)) = rest.split_once('/') else {
        return refuse("it has no path: end the host with a slash");
    };
    if host.is_empty() || host.contains(['?', '@']) {
        return refuse("it must name a host, and nothing else, before its path");
    }
    if url.contains('#') {
        return refuse("a fragment never reaches CloudFront");
    }
    if url.contains('*') {
        return refuse("a star would be a wildcard: write %2A");
    }
    if !url.bytes().all(may_stand_in_a_url) {
        return refuse("it has characters that must be percent-encoded");
    }
    let query = url.split_once('?').map(|(_, query)| query);
    if query == Some("") {
        return refuse("CloudFront leaves out a question mark with nothing behind it");
    }
    let is_own = |pair: &str| OWN_PARAMETERS.contains(&pair.split('=').next().unwrap_or(pair));
    if query.is_some_and(|query| query.split('&').any(is_own)) {
        return refuse("it has a parameter of the signature already");
    }
    Ok(())
}

/// RFC 3986's unreserved and reserved characters and the percent sign.
const fn may_stand_in_a_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b':'
                | b'/'
                | b'?'
                | b'['
                | b']'
                | b'@'
                | b'!'
                | b'$'
        )
        || matches!(byte, b'&'..=b',' | b';' | b'=')
}

#[cfg(test)]
mod tests;
