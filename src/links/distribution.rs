//! A distribution in front of a bucket: the key that signs a connection's CloudFront links, and what they can open.

use std::sync::Arc;

use crate::job::Bucket;
use crate::plan::{OriginScope, ResponseOverrides};
use presign::PresignRequest;
use presign::PresignedUrl;
use presign::cloudfront::{
    CloudFrontError, CloudFrontSigner, DistributionDomain, UrlPolicy, WildcardSignature,
};

/// Whether a signature may be shared by all links of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScope {
    /// Each link has a signature of its own.
    Never,
    /// A signature covers everything below the job's prefix.
    WholePrefix,
}

/// A distribution in front of a connection's bucket.
#[derive(Debug)]
pub struct Distribution {
    /// Signs.
    pub signer: CloudFrontSigner,
    /// Where the links point.
    pub distribution: DistributionDomain,
    /// What they can open.
    pub origin_scope: OriginScope,
    /// Whether the links share a signature.
    pub sharing: SignatureScope,
}

impl Distribution {
    /// Whether the links of the portal to objects whose keys begin with `start` open through it. Without overrides, files would
    /// lose the names and types of the job.
    pub fn serves_portal(&self, bucket: &Bucket, start: &str) -> bool {
        self.origin_scope.overrides == ResponseOverrides::Forwarded
            && self.origin_scope.covers(bucket, start)
    }

    /// Signs links under a policy. `whole_prefix` is given if the job hands out everything below it.
    pub fn signing(
        self: &Arc<Self>,
        policy: UrlPolicy,
        whole_prefix: Option<&str>,
    ) -> Result<DistributionSigning, CloudFrontError> {
        let shared = match (self.sharing, whole_prefix) {
            (SignatureScope::WholePrefix, Some(prefix)) => match self.origin_scope.path(prefix)? {
                // A policy for the whole distribution would open its other origins too.
                "" => None,
                path => {
                    let resource = self.distribution.everything_below(path);
                    Some(self.signer.wildcard(&resource, &policy)?)
                }
            },
            (SignatureScope::WholePrefix, None) | (SignatureScope::Never, _) => None,
        };
        Ok(DistributionSigning {
            distribution: Arc::clone(self),
            policy,
            shared,
        })
    }
}

/// Signs links under the same policy.
#[derive(Debug, Clone)]
pub struct DistributionSigning {
    distribution: Arc<Distribution>,
    policy: UrlPolicy,
    shared: Option<WildcardSignature>,
}

impl DistributionSigning {
    /// Signs a link.
    pub fn sign(&self, ask: &PresignRequest<'_>) -> Result<PresignedUrl, CloudFrontError> {
        let mut ask = PresignRequest {
            key: self.distribution.origin_scope.path(ask.key)?,
            ..*ask
        };
        if self.distribution.origin_scope.overrides == ResponseOverrides::Omitted {
            ask = PresignRequest {
                content_disposition: None,
                content_encoding: None,
                content_type: None,
                ..ask
            };
        }
        let url = self.distribution.distribution.url(&ask);
        match &self.shared {
            Some(shared) => shared.apply(&url),
            None => self.distribution.signer.sign(&url, &self.policy),
        }
    }

    /// A copy that gives all links the same signature: it opens nothing, and has the length of a real one.
    pub fn to_measure(&self) -> Result<Self, CloudFrontError> {
        let shared = match &self.shared {
            Some(shared) => shared.clone(),
            None => self.distribution.signer.sample(&self.policy)?,
        };
        Ok(Self {
            shared: Some(shared),
            ..self.clone()
        })
    }

    /// Where the links point: `https://` and the distribution's domain.
    pub fn origin(&self) -> &str {
        self.distribution.distribution.origin()
    }

    /// Whether each link costs arithmetic with the private key: 0.1 ms for P-256, 3 ms for RSA.
    pub const fn is_slow(&self) -> bool {
        self.shared.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use presign::cloudfront::{HashAlgorithm, PrivateKey};

    const P256: &str = include_str!("../../crates/presign/tests/fixtures/p256-pkcs8.pem");

    fn distribution(
        origin_path: &str,
        sharing: SignatureScope,
        overrides: ResponseOverrides,
    ) -> Arc<Distribution> {
        let key = PrivateKey::from_pem(P256).unwrap();
        Arc::new(Distribution {
            signer: CloudFrontSigner::new("K1TESTKEY", key, HashAlgorithm::Sha256).unwrap(),
            distribution: DistributionDomain::new("d111111abcdef8.cloudfront.net").unwrap(),
            origin_scope: OriginScope {
                bucket: Some("reports".parse().unwrap()),
                origin_path: origin_path.to_owned(),
                overrides,
            },
            sharing,
        })
    }

    fn ask(key: &str) -> PresignRequest<'_> {
        PresignRequest {
            key,
            content_disposition: Some("inline"),
            content_encoding: Some("identity"),
            content_type: Some("text/plain"),
            version_id: None,
            custom: &[(crate::links::LINK_ID, "1")],
        }
    }

    fn end() -> UrlPolicy {
        UrlPolicy::until("2027-01-01T00:00:00Z".parse().unwrap())
    }

    /// A link without its signature.
    fn shape(distribution: &Arc<Distribution>, whole_prefix: Option<&str>, key: &str) -> String {
        let signing = distribution.signing(end(), whole_prefix).unwrap();
        let url = signing.sign(&ask(key)).unwrap().expose().to_owned();
        url.split('&')
            .map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_link_leaves_out_what_the_distribution_adds_or_does_not_hand_on() {
        let whole = distribution("", SignatureScope::Never, ResponseOverrides::Forwarded);
        insta::assert_snapshot!(shape(&whole, None, "a b.txt"), @"https://d111111abcdef8.cloudfront.net/a%20b.txt?response-content-disposition response-content-encoding response-content-type x-handout Expires Signature Key-Pair-Id Hash-Algorithm");
        let site = distribution("site/", SignatureScope::Never, ResponseOverrides::Omitted);
        insta::assert_snapshot!(shape(&site, None, "site/a.txt"), @"https://d111111abcdef8.cloudfront.net/a.txt?x-handout Expires Signature Key-Pair-Id Hash-Algorithm");
        let signing = site.signing(end(), None).unwrap();
        insta::assert_snapshot!(signing.sign(&ask("other/a.txt")).unwrap_err(), @r#"the distribution cannot open "other/a.txt": its origin path is "site/""#);
    }

    #[test]
    fn a_signature_is_shared_below_a_prefix_but_never_for_the_whole_distribution() {
        let distribution = distribution(
            "site/",
            SignatureScope::WholePrefix,
            ResponseOverrides::Omitted,
        );
        let below = distribution.signing(end(), Some("site/2026/")).unwrap();
        assert!(!below.is_slow());
        insta::assert_snapshot!(shape(&distribution, Some("site/2026/"), "site/2026/a.txt"), @"https://d111111abcdef8.cloudfront.net/2026/a.txt?x-handout Policy Signature Key-Pair-Id Hash-Algorithm");
        for whole_prefix in [Some("site/"), None] {
            assert!(distribution.signing(end(), whole_prefix).unwrap().is_slow());
        }
    }

    #[test]
    fn a_distribution_opens_its_own_bucket_below_its_origin_path() {
        let distribution = distribution("site/", SignatureScope::Never, ResponseOverrides::Omitted);
        let (reports, other) = ("reports".parse().unwrap(), "other".parse().unwrap());
        assert!(distribution.origin_scope.covers(&reports, "site/2026/"));
        assert!(!distribution.origin_scope.covers(&reports, "sit"));
        assert!(!distribution.origin_scope.covers(&other, "site/2026/"));
        assert!(OriginScope::default().covers(&other, ""));
    }
}
