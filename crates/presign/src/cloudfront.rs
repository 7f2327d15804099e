//! CloudFront signed URLs: arithmetic with a private key, as [`crate::sigv4`] is arithmetic with a secret.
//!
//! What is signed is a policy, a small JSON text: which URL, until when, from when, from which network. A *canned*
//! policy has an end and nothing else, and CloudFront writes it anew from the URL that it is asked for; a *custom*
//! one stands in the URL. Such links know no session and no seven days: they end when their policy ends, or when the
//! key is taken out of its group.
//! <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-signed-urls.html>

pub mod key;

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use jiff::Timestamp;

pub use key::{HashAlgorithm, KeyError, PrivateKey};

use crate::percent::push_path;
use crate::request::PresignRequest;
use crate::url::PresignedUrl;

/// The parameters that CloudFront takes for its own and leaves out of what it compares.
pub(crate) const OWN_PARAMETERS: [&str; 5] = [
    "Expires",
    "Policy",
    "Signature",
    "Key-Pair-Id",
    "Hash-Algorithm",
];

/// CloudFront counts seconds in 32 bits: 19 January 2038.
pub const LAST_SECOND: i64 = i32::MAX as i64;

/// Why a CloudFront URL cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudFrontError {
    /// The id of the public key is none.
    #[error("{0:?} is not the id of a CloudFront public key: it looks like K2JCJMDEHXQW5F")]
    KeyPairId(String),
    /// The distribution's name is none.
    #[error(
        "{0:?} is not the domain of a distribution: write the name alone, such as d111111abcdef8.cloudfront.net"
    )]
    Domain(String),
    /// A network is none.
    #[error(
        "{0:?} is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6"
    )]
    Network(String),
    /// The URL cannot be signed as it is.
    #[error("a link to {url} cannot be signed for CloudFront: {reason}")]
    Url {
        /// The URL, not signed yet.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The link would never work.
    #[error("a CloudFront link that begins at {start} must end later, not at {end}")]
    Order {
        /// Its beginning.
        start: Timestamp,
        /// Its end.
        end: Timestamp,
    },
    /// The link would end later than CloudFront can count, or before it began to.
    #[error(
        "a CloudFront link cannot end at {0}: CloudFront counts from 1970 to 2038-01-19T03:14:07Z"
    )]
    End(Timestamp),
    /// The one signature does not cover the URL.
    #[error("{url} is outside of {resource}, for which the CloudFront links were signed")]
    Outside {
        /// The URL, not signed yet.
        url: String,
        /// What is signed.
        resource: String,
    },
    /// The distribution does not reach the object.
    #[error("the distribution cannot open {key:?}: its origin path is {origin_path:?}")]
    Unreached {
        /// The object's key.
        key: String,
        /// What every key that it opens begins with.
        origin_path: String,
    },
    /// The key does not sign, which no key does that could be read.
    #[error("the CloudFront key does not sign")]
    Key,
}

/// An IPv4 network, of one address or more.
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
        // 192.0.2.7/24 is a slip: it may mean one address or 256.
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

/// When a link works, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlPolicy {
    end: Timestamp,
    start: Option<Timestamp>,
    network: Option<Ipv4Network>,
}

impl UrlPolicy {
    /// Works until an instant; CloudFront counts whole seconds.
    pub const fn until(end: Timestamp) -> Self {
        Self {
            end,
            start: None,
            network: None,
        }
    }

    /// Does not work before an instant.
    #[must_use]
    pub const fn starting(self, start: Timestamp) -> Self {
        Self {
            start: Some(start),
            ..self
        }
    }

    /// Works from one network only.
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

    /// The text that is signed, to the byte: CloudFront writes a canned one anew and compares.
    fn json(&self, resource: &str) -> String {
        // A quote in a resource could bring in another, so it is escaped, though `check_url` lets none pass.
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

/// Where links of a distribution point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistributionDomain {
    origin: String,
}

impl DistributionDomain {
    /// The distribution with this domain, its own or one of ours that points to it.
    pub fn new(domain: &str) -> Result<Self, CloudFrontError> {
        // Browsers send host names in lower case, and CloudFront compares them as they come.
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

    /// The scheme and host of the links, as a page's security policy names them.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The URL of an object, yet to be signed. Its key and parameters are escaped as in a link to S3.
    ///
    /// CloudFront hands `response-…` parameters on only if the distribution's origin request policy says so.
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

    /// The resource that is everything whose key begins with `prefix`, for [`CloudFrontSigner::wildcard`].
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
    /// Signs with `key`, whose public half CloudFront knows as `key_pair_id`.
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

    /// Whether a text looks like the id of a public key.
    pub fn check_key_pair_id(text: &str) -> Result<(), CloudFrontError> {
        let is_id =
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match is_id {
            true => Ok(()),
            false => Err(CloudFrontError::KeyPairId(text.to_owned())),
        }
    }

    /// The id of the key: no secret, and part of every link.
    pub fn key_pair_id(&self) -> &Arc<str> {
        &self.key_pair_id
    }

    /// What kind of key it is, in words.
    pub fn kind(&self) -> String {
        let hash = match self.hash {
            HashAlgorithm::Sha1 => "SHA-1",
            HashAlgorithm::Sha256 => "SHA-256",
        };
        format!("{} with {hash}", self.key.kind())
    }

    /// Signs one URL, query and all: whoever changes a character of it has no link.
    pub fn sign(&self, url: &str, policy: &UrlPolicy) -> Result<PresignedUrl, CloudFrontError> {
        check_url(url)?;
        policy.check()?;
        let query = self.query(url, policy, policy.is_canned())?;
        Ok(signed(url, &query))
    }

    /// Signs a resource with `*` (any characters) and `?` (one) once, for all URLs that it stands for.
    ///
    /// Cheap, and weaker than [`CloudFrontSigner::sign`]: whoever holds one link can make the others, and a
    /// parameter such as `x-handout` can be changed.
    pub fn wildcard(
        &self,
        resource: &str,
        policy: &UrlPolicy,
    ) -> Result<WildcardSignature, CloudFrontError> {
        // What may stand in a URL, once the wildcards are taken for letters.
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

    /// The signature of one URL for use in all: as long as that of each of them under a canned policy, and good for none.
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
        // SHA-1 is not named, so that URLs for it are what they always were.
        if self.hash == HashAlgorithm::Sha256 {
            query.push_str("&Hash-Algorithm=SHA256");
        }
        Ok(query)
    }
}

/// One signature for many URLs.
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
    /// A link to one of the URLs; refused for one that the signature does not cover.
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

/// Base 64 in CloudFront's own alphabet, which needs no percent-encoding.
fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
        .replace('+', "-")
        .replace('=', "_")
        .replace('/', "~")
}

/// Reads what [`base64`] wrote.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.replace('-', "+").replace('_', "=").replace('~', "/");
    Base64::decode_vec(&text).ok()
}

fn refused(url: &str, reason: &'static str) -> CloudFrontError {
    CloudFrontError::Url {
        url: url.to_owned(),
        reason,
    }
}

/// Whether a client will ask for exactly this URL, and CloudFront compare exactly this text.
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

/// Whether a resource with `*` and `?` stands for a URL. Linear but for the stars: the last one gives way first.
pub(crate) fn matches(resource: &[u8], url: &[u8]) -> bool {
    let (mut at, mut in_url) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_url < url.len() {
        match resource.get(at) {
            Some(b'*') => {
                star = Some((at, in_url));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == url[in_url] => {
                at += 1;
                in_url += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else {
                    return false;
                };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                in_url = taken + 1;
            }
        }
    }
    resource[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::key::tests::{P256_SEC1, RSA_PKCS1};
    use super::*;
    use crate::request::CustomParameter;
    use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
    use proptest::prelude::*;
    use rsa::pkcs1v15::Pkcs1v15Sign;
    use rsa::pkcs8::DecodePublicKey as _;
    use serde_json::{Value, json};
    use sha1::{Digest as _, Sha1};
    use sha2::Sha256;

    /// What OpenSSL makes of the same key: see the README beside it.
    const OPENSSL: &str = include_str!("../tests/fixtures/openssl.txt");
    const RSA_PUBLIC: &str = include_str!("../tests/fixtures/rsa-public.pem");
    const P256_PUBLIC: &str = include_str!("../tests/fixtures/p256-public.pem");
    const LINK_ID: CustomParameter = CustomParameter::new("x-handout");
    const OBJECT: &str = "https://d111111abcdef8.cloudfront.net/image.jpg";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn end() -> UrlPolicy {
        UrlPolicy::until(at(1_767_290_400))
    }

    fn signer(pem: &str, hash: HashAlgorithm) -> CloudFrontSigner {
        CloudFrontSigner::new("K1TESTKEY", PrivateKey::from_pem(pem).unwrap(), hash).unwrap()
    }

    fn rsa() -> CloudFrontSigner {
        signer(RSA_PKCS1, HashAlgorithm::Sha1)
    }

    /// CloudFront, as its documentation tells of it: whether a URL opens at an instant for an address.
    fn opens(url: &str, now: i64, from: Ipv4Addr) -> bool {
        let (place, query) = url.split_once('?').unwrap();
        let own = |name: &str| {
            query.split('&').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key == name).then_some(value)
            })
        };
        let others: Vec<&str> = query
            .split('&')
            .filter(|pair| !OWN_PARAMETERS.contains(&pair.split('=').next().unwrap()))
            .collect();
        let asked = if others.is_empty() {
            place.to_owned()
        } else {
            format!("{place}?{}", others.join("&"))
        };
        let json = match (own("Expires"), own("Policy")) {
            (Some(expires), None) => Some(format!(
                r#"{{"Statement":[{{"Resource":"{asked}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
            )),
            (None, Some(policy)) => {
                from_base64(policy).and_then(|json| String::from_utf8(json).ok())
            }
            _ => None,
        };
        let Some(json) = json else { return false };
        let is_sha256 = match own("Hash-Algorithm") {
            None => false,
            Some("SHA256") => true,
            Some(_) => return false,
        };
        let signature = own("Signature").and_then(from_base64);
        signature.is_some_and(|signature| is_signed(json.as_bytes(), is_sha256, &signature))
            && allows(&json, &asked, now, from)
    }

    fn is_signed(message: &[u8], is_sha256: bool, signature: &[u8]) -> bool {
        let rsa = rsa::PublicKey::from_public_key_pem(RSA_PUBLIC).unwrap();
        let p256 = p256::ecdsa::VerifyingKey::from_public_key_der(
            &Base64::decode_vec(&body_of(P256_PUBLIC)).unwrap(),
        )
        .unwrap();
        let (digest, padding) = if is_sha256 {
            (
                Sha256::digest(message).to_vec(),
                Pkcs1v15Sign::new::<Sha256>(),
            )
        } else {
            (Sha1::digest(message).to_vec(), Pkcs1v15Sign::new::<Sha1>())
        };
        rsa.verify(padding, &digest, signature).is_ok()
            || p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| p256.verify_prehash(&digest, &signature).is_ok())
    }

    fn body_of(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    fn allows(json: &str, asked: &str, now: i64, from: Ipv4Addr) -> bool {
        let policy: Value = serde_json::from_str(json).unwrap();
        let statement = &policy["Statement"][0];
        let condition = &statement["Condition"];
        let second = |name: &str| condition[name]["AWS:EpochTime"].as_i64();
        let in_network = condition["IpAddress"]["AWS:SourceIp"]
            .as_str()
            .is_none_or(|network| {
                let (address, prefix) = network.split_once('/').unwrap();
                let address: Ipv4Addr = address.parse().unwrap();
                let below = u32::MAX.checked_shr(prefix.parse().unwrap()).unwrap_or(0);
                from.to_bits() & !below == address.to_bits()
            });
        matches(
            statement["Resource"].as_str().unwrap().as_bytes(),
            asked.as_bytes(),
        ) && now < second("DateLessThan").unwrap()
            && second("DateGreaterThan").is_none_or(|start| now > start)
            && in_network
    }

    #[test]
    fn urls_are_those_that_openssl_signs() {
        let (start, network) = (at(1_767_200_000), "192.0.2.0/24".parse().unwrap());
        let request = PresignRequest {
            key: "q3/a b+ü.pdf",
            content_disposition: Some("attachment; filename=\"a b.pdf\""),
            custom: Some((LINK_ID, "0123456789abcdef0123456789abcdef")),
            ..PresignRequest::default()
        };
        let object = DistributionDomain::new("Files.Example.com")
            .unwrap()
            .url(&request);
        let mut ours = Vec::new();
        for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
            let signer = signer(RSA_PKCS1, hash);
            let sign = |url: &str, policy: UrlPolicy| {
                signer.sign(url, &policy).unwrap().expose().to_owned()
            };
            ours.extend([
                sign(OBJECT, end()),
                sign(&format!("{OBJECT}?size=large"), end()),
                sign(&object, end()),
                sign(OBJECT, end().starting(start)),
                sign(OBJECT, end().from_network(network)),
                sign(OBJECT, end().starting(start).from_network(network)),
                signer
                    .wildcard("https://d111111abcdef8.cloudfront.net/im*", &end())
                    .unwrap()
                    .apply(&format!("{OBJECT}?x-handout=1"))
                    .unwrap()
                    .expose()
                    .to_owned(),
            ]);
        }
        let openssl: Vec<&str> = OPENSSL.lines().collect();
        assert_eq!(ours, openssl);
    }

    #[test]
    fn policies_are_written_to_the_byte() {
        let (start, network) = (at(1_767_200_000), "203.0.113.7".parse().unwrap());
        let table = [
            end().json(OBJECT),
            end().starting(start).json(OBJECT),
            end().from_network(network).json(OBJECT),
            end().starting(start).from_network(network).json(OBJECT),
        ];
        insta::assert_snapshot!(table.join("\n"), @r#"
        {"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/image.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1767290400}}}]}
        {"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/image.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1767290400},"DateGreaterThan":{"AWS:EpochTime":1767200000}}}]}
        {"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/image.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1767290400},"IpAddress":{"AWS:SourceIp":"203.0.113.7/32"}}}]}
        {"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/image.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1767290400},"DateGreaterThan":{"AWS:EpochTime":1767200000},"IpAddress":{"AWS:SourceIp":"203.0.113.7/32"}}}]}
        "#);
    }

    #[test]
    fn a_quote_brings_in_no_other_resource() {
        let resource = r#"https://example.com/file\","Resource":"*","x":""#;
        let json: Value = serde_json::from_str(&end().json(resource)).unwrap();
        assert_eq!(
            json,
            json!({"Statement": [{
                "Resource": resource,
                "Condition": {"DateLessThan": {"AWS:EpochTime": 1_767_290_400}},
            }]})
        );
        assert!(rsa().sign(resource, &end()).is_err());
        assert!(r#"192.0.2.0/24","x":""#.parse::<Ipv4Network>().is_err());
    }

    #[test]
    fn what_cannot_be_signed_says_why() {
        let sign = |url: &str| rsa().sign(url, &end()).unwrap_err().to_string();
        let wildcard = |text: &str| rsa().wildcard(text, &end()).unwrap_err().to_string();
        let policy = |policy: UrlPolicy| rsa().sign(OBJECT, &policy).unwrap_err().to_string();
        let network = |text: &str| text.parse::<Ipv4Network>().unwrap_err().to_string();
        let key = PrivateKey::from_pem(RSA_PKCS1).unwrap();
        let table = [
            sign("rtmp://d.example/x"),
            sign("https://d.example"),
            sign("https:///x"),
            sign("https://u@d.example/x"),
            sign("https://d.example/x#y"),
            sign("https://d.example/*"),
            sign("https://d.example/a b"),
            sign("https://d.example/ü"),
            sign("https://d.example/x?"),
            sign("https://d.example/x?a=1&Expires=5"),
            wildcard("https://*/x"),
            wildcard("https://d.example/\"*"),
            policy(end().starting(at(1_767_290_400))),
            policy(UrlPolicy::until(at(0))),
            policy(UrlPolicy::until(at(LAST_SECOND + 1))),
            network("192.0.2.7/24"),
            network("2001:db8::/32"),
            network("192.0.2.0/+24"),
            network("192.0.2.0/33"),
            CloudFrontSigner::new("K&x=1", key, HashAlgorithm::Sha1)
                .unwrap_err()
                .to_string(),
            DistributionDomain::new("https://d.example")
                .unwrap_err()
                .to_string(),
        ];
        insta::assert_snapshot!(table.join("\n"), @r#"
        a link to rtmp://d.example/x cannot be signed for CloudFront: it must begin with https:// or http://
        a link to https://d.example cannot be signed for CloudFront: it has no path: end the host with a slash
        a link to https:///x cannot be signed for CloudFront: it must name a host, and nothing else, before its path
        a link to https://u@d.example/x cannot be signed for CloudFront: it must name a host, and nothing else, before its path
        a link to https://d.example/x#y cannot be signed for CloudFront: a fragment never reaches CloudFront
        a link to https://d.example/* cannot be signed for CloudFront: a star would be a wildcard: write %2A
        a link to https://d.example/a b cannot be signed for CloudFront: it has characters that must be percent-encoded
        a link to https://d.example/ü cannot be signed for CloudFront: it has characters that must be percent-encoded
        a link to https://d.example/x? cannot be signed for CloudFront: CloudFront leaves out a question mark with nothing behind it
        a link to https://d.example/x?a=1&Expires=5 cannot be signed for CloudFront: it has a parameter of the signature already
        a link to https://*/x cannot be signed for CloudFront: its host must not be a pattern
        a link to https://d.example/"* cannot be signed for CloudFront: it has characters that must be percent-encoded
        a CloudFront link that begins at 2026-01-01T18:00:00Z must end later, not at 2026-01-01T18:00:00Z
        a CloudFront link cannot end at 1970-01-01T00:00:00Z: CloudFront counts from 1970 to 2038-01-19T03:14:07Z
        a CloudFront link cannot end at 2038-01-19T03:14:08Z: CloudFront counts from 1970 to 2038-01-19T03:14:07Z
        "192.0.2.7/24" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6
        "2001:db8::/32" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6
        "192.0.2.0/+24" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6
        "192.0.2.0/33" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6
        "K&x=1" is not the id of a CloudFront public key: it looks like K2JCJMDEHXQW5F
        "https://d.example" is not the domain of a distribution: write the name alone, such as d111111abcdef8.cloudfront.net
        "#);
    }

    #[test]
    fn one_signature_serves_a_whole_prefix_and_nothing_else() {
        let distribution = DistributionDomain::new("d111111abcdef8.cloudfront.net").unwrap();
        let resource = distribution.everything_below("photos of *?/");
        let wildcard = rsa().wildcard(&resource, &end()).unwrap();
        let request = |key| PresignRequest {
            key,
            custom: Some((LINK_ID, "1")),
            ..PresignRequest::default()
        };
        let query = |key| {
            let url = distribution.url(&request(key));
            let signed = wildcard.apply(&url).unwrap().expose().to_owned();
            assert!(opens(&signed, 1_767_290_399, Ipv4Addr::LOCALHOST), "{key}");
            signed.strip_prefix(&url).unwrap().to_owned()
        };
        assert_eq!(query("photos of *?/a.jpg"), query("photos of *?/b/ü.jpg"));
        let elsewhere = distribution.url(&request("photos of me/a.jpg"));
        insta::assert_snapshot!(wildcard.apply(&elsewhere).unwrap_err(), @"https://d111111abcdef8.cloudfront.net/photos%20of%20me/a.jpg?x-handout=1 is outside of https://d111111abcdef8.cloudfront.net/photos%20of%20%2A%3F/*, for which the CloudFront links were signed");
        insta::assert_snapshot!(format!("{wildcard:?}"), @r#"WildcardSignature("https://d111111abcdef8.cloudfront.net/photos%20of%20%2A%3F/*", "****")"#);
    }

    #[test]
    fn a_link_opens_when_its_policy_says() {
        let network = "192.0.2.0/24".parse().unwrap();
        let policy = end().starting(at(1_767_200_000)).from_network(network);
        let inside = Ipv4Addr::new(192, 0, 2, 255);
        for pem in [RSA_PKCS1, P256_SEC1] {
            for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
                let url = signer(pem, hash).sign(OBJECT, &policy).unwrap();
                assert!(opens(url.expose(), 1_767_250_000, inside));
                assert!(!opens(url.expose(), 1_767_200_000, inside));
                assert!(!opens(url.expose(), 1_767_290_400, inside));
                assert!(!opens(url.expose(), 1_767_250_000, Ipv4Addr::LOCALHOST));
            }
        }
    }

    #[test]
    fn stars_and_question_marks_stand_for_what_they_should() {
        let table = [
            ("https://d/*", "https://d/", true),
            ("https://d/*", "https://e/", false),
            ("https://d/a?c", "https://d/abc", true),
            ("https://d/a?c", "https://d/ac", false),
            ("https://d/*.jpg*", "https://d/x/y.jpg?z=1", true),
            ("https://d/*.jpg", "https://d/x.jpg.exe", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaa", false),
            ("", "", true),
        ];
        for (resource, url, is_match) in table {
            assert_eq!(
                matches(resource.as_bytes(), url.as_bytes()),
                is_match,
                "{resource} {url}"
            );
        }
    }

    fn any_policy() -> impl Strategy<Value = UrlPolicy> {
        let network = (any::<u32>(), 0u8..=32).prop_map(|(address, prefix)| {
            let below = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let address = Ipv4Addr::from_bits(address & !below);
            format!("{address}/{prefix}")
                .parse::<Ipv4Network>()
                .unwrap()
        });
        (
            1_000i64..=LAST_SECOND,
            proptest::option::of(0i64..1_000),
            proptest::option::of(network),
        )
            .prop_map(|(end, start, network)| UrlPolicy {
                end: at(end),
                start: start.map(at),
                network,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_link_opens_and_none_that_was_changed(
            key in "[^\\p{C}]{1,30}",
            id in proptest::option::of("[0-9a-f]{32}"),
            policy in any_policy(),
            pem in prop_oneof![Just(RSA_PKCS1), Just(P256_SEC1)],
            hash in prop_oneof![Just(HashAlgorithm::Sha1), Just(HashAlgorithm::Sha256)],
            place in any::<prop::sample::Index>(),
            other in "[a-zA-Z0-9~_-]",
        ) {
            let request = PresignRequest { key: &key, custom: id.as_deref().map(|id| (LINK_ID, id)), ..PresignRequest::default() };
            let url = DistributionDomain::new("d111111abcdef8.cloudfront.net").unwrap().url(&request);
            let signed = signer(pem, hash).sign(&url, &policy).unwrap().expose().to_owned();
            let (now, from) = (
                policy.end.as_second() - 1,
                policy.network.map_or(Ipv4Addr::LOCALHOST, |network| network.address),
            );
            prop_assert!(opens(&signed, now, from), "{}", signed);
            // The key's id is not signed: it only says by which key to verify.
            let end = signed.find("&Key-Pair-Id=").unwrap();
            let place = place.index(end);
            let mut changed = signed.clone();
            changed.replace_range(place..=place, &other);
            if changed != signed && changed.contains('?') {
                prop_assert!(!opens(&changed, now, from), "{}", changed);
            }
        }

        #[test]
        fn no_url_panics(url in "\\PC{0,40}|https://[a-z?#&=*%]{0,20}/[a-zA-Z?#&=*%.]{0,20}") {
            let _ = check_url(&url);
            let _ = matches(url.as_bytes(), OBJECT.as_bytes());
        }
    }
}
