//! Signs for a connection: with its credentials, which are cached while they are valid, and for the server of its links.

use std::fmt;
use std::sync::Arc;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use jiff::Timestamp;
use presign::partition::{EndpointVariant, plain_region, regional_endpoint};
use presign::{AccessKey, Addressing, BucketUrl, ExpiresIn, Presigner, ServerUrlError};

use super::credentials::{CREDENTIALS_TIMEOUT, CredentialSource, KeptCredentials};
use crate::edge::health::Edge;
use crate::job::Bucket;
use crate::plan::{CredentialsEnd, ExpiryGuard, Lifetime};

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The credentials could not be loaded.
    #[error(
        "connection {connection} has no credentials to sign with; `handout check` tells where it looked"
    )]
    NoCredentials {
        /// The connection.
        connection: String,
        /// What the provider said.
        source: CredentialsError,
    },
    /// The credentials did not arrive in time.
    #[error("connection {connection} got no credentials within {} s", CREDENTIALS_TIMEOUT.as_secs())]
    Slow {
        /// The connection.
        connection: String,
    },
    /// The credentials end earlier than those of the plan.
    #[error(
        "the credentials of connection {connection} changed and end too early; the job is planned again"
    )]
    Changed {
        /// The connection.
        connection: String,
    },
    /// The endpoint is not a valid URL.
    #[error("connection {connection}: endpoint_url {source}")]
    Endpoint {
        /// The connection.
        connection: String,
        /// What is wrong with it.
        source: ServerUrlError,
    },
}

/// Signs for one connection.
#[derive(Clone)]
pub struct Signer {
    connection: String,
    endpoint: SigningEndpoint,
    source: CredentialSource,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// The target of a connection's links.
#[derive(Debug, Clone)]
pub struct SigningEndpoint {
    /// The region in the scope.
    pub region: String,
    /// The server that answers links.
    pub server: Server,
    /// How the URL names the bucket.
    pub addressing: Addressing,
    /// What links say besides the object and the signature.
    pub parameters: LinkParameters,
}

/// What links say besides the object and the signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkParameters {
    /// That the account of the signer pays for the download.
    pub requester_pays: bool,
    /// Nothing that S3 ignores: no operation, and no link id.
    pub no_ignored: bool,
}

/// The server that answers links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// AWS, at the endpoint of the bucket's own region.
    Aws(EndpointVariant),
    /// Another server, at this URL.
    Other(String),
}

/// The end of a session whose credentials do not include it.
#[derive(Clone)]
pub struct SessionEnd {
    /// The session's token: the end is only valid for this session.
    pub session_token: String,
    /// Its end.
    pub at: Timestamp,
}

impl fmt::Debug for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEnd")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer that loads credentials from `provider` when it needs them.
    pub fn new(
        connection: String,
        endpoint: SigningEndpoint,
        provider: SharedCredentialsProvider,
        session_end: Option<SessionEnd>,
    ) -> Self {
        let section = format!("connections.{connection}");
        let source = CredentialSource::new(&connection, section, Arc::new(provider), session_end);
        Self::of(connection, endpoint, source)
    }

    /// A signer with a source of credentials.
    pub(crate) const fn of(
        connection: String,
        endpoint: SigningEndpoint,
        source: CredentialSource,
    ) -> Self {
        Self {
            connection,
            endpoint,
            source,
        }
    }

    /// The same credentials for links to another endpoint.
    #[must_use]
    pub fn at(&self, endpoint: SigningEndpoint) -> Self {
        Self {
            endpoint,
            ..self.clone()
        }
    }

    /// The same links, signed with the credentials of another source.
    #[must_use]
    pub(crate) fn with_source(&self, source: CredentialSource) -> Self {
        Self {
            source,
            ..self.clone()
        }
    }

    /// The region for which it signs, unless a bucket has its own.
    pub fn region(&self) -> &str {
        plain_region(&self.endpoint.region)
    }

    /// The health of the source of credentials.
    pub fn edge(&self) -> &Edge {
        self.source.edge()
    }

    /// When the credentials end, after one refresh if they end before `needed_until`.
    pub async fn credentials_end(
        &self,
        needed_until: Timestamp,
    ) -> Result<CredentialsEnd, SignerError> {
        Ok(self.credentials(needed_until).await?.end)
    }

    /// A presigner for a bucket and the id of the key that it signs with; `region` is the bucket's, where it may differ from
    /// the connection's.
    ///
    /// The credentials may have been renewed since the plan was made: under `guard`, they must last as long as the plan says.
    pub async fn presigner(
        &self,
        bucket: &Bucket,
        region: Option<&str>,
        lifetime: Lifetime,
        guard: ExpiryGuard,
    ) -> Result<(Presigner, Arc<str>), SignerError> {
        let KeptCredentials {
            credentials, end, ..
        } = self.credentials(lifetime.expires_at).await?;
        if guard != ExpiryGuard::Ignore && !end.reaches(lifetime.expires_at) {
            return Err(SignerError::Changed {
                connection: self.connection.clone(),
            });
        }
        let region = region.map_or_else(|| self.region(), plain_region);
        let target = self.target(bucket, region)?;
        let keys = AccessKey {
            access_key_id: credentials.access_key_id().into(),
            secret_access_key: credentials.secret_access_key().into(),
            session_token: credentials.session_token().map(Into::into),
        };
        let mut presigner = Presigner::new(
            target,
            &keys,
            region,
            lifetime.signed_at,
            ExpiresIn::clamped(lifetime.signed_for_secs),
        );
        let LinkParameters {
            requester_pays,
            no_ignored,
        } = self.endpoint.parameters;
        if requester_pays {
            presigner = presigner.requester_pays();
        }
        if no_ignored {
            presigner = presigner.without_ignored();
        }
        Ok((presigner, keys.access_key_id))
    }

    /// The URL of a bucket's links: always the endpoint of its own region, since a redirected signature fails.
    fn target(&self, bucket: &Bucket, region: &str) -> Result<BucketUrl, SignerError> {
        let url = match &self.endpoint.server {
            Server::Aws(variant) => &regional_endpoint(region, *variant),
            Server::Other(url) => url,
        };
        BucketUrl::new(url, bucket.as_str(), self.endpoint.addressing).map_err(|source| {
            SignerError::Endpoint {
                connection: self.connection.clone(),
                source,
            }
        })
    }

    async fn credentials(&self, needed_until: Timestamp) -> Result<KeptCredentials, SignerError> {
        let connection = || self.connection.clone();
        let kept = self.source.lasting(needed_until).await;
        kept.map_err(|source| match source {
            CredentialsError::ProviderTimedOut(_) => SignerError::Slow {
                connection: connection(),
            },
            source => SignerError::NoCredentials {
                connection: connection(),
                source,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::Credentials;

    fn signer(region: &str, server: Server, token: Option<&str>) -> Signer {
        let credentials =
            Credentials::new("AKIA", "secret", token.map(ToOwned::to_owned), None, "test");
        let endpoint = SigningEndpoint {
            region: region.to_owned(),
            server,
            addressing: Addressing::VirtualHost,
            parameters: LinkParameters::default(),
        };
        let session_end = SessionEnd {
            session_token: "of-the-environment".to_owned(),
            at: "2126-11-23T12:00:00Z".parse().unwrap(),
        };
        let provider = SharedCredentialsProvider::new(credentials);
        Signer::new("test".to_owned(), endpoint, provider, Some(session_end))
    }

    #[tokio::test]
    async fn the_end_that_the_environment_tells_is_that_of_its_own_session_only() {
        let aws = || Server::Aws(EndpointVariant::default());
        let end = async |token| {
            let signer = signer("eu-west-1", aws(), token);
            signer.credentials_end(Timestamp::UNIX_EPOCH).await.unwrap()
        };
        let told = CredentialsEnd::At("2126-11-23T12:00:00Z".parse().unwrap());
        assert_eq!(end(Some("of-the-environment")).await, told);
        assert_eq!(end(Some("of-a-profile")).await, CredentialsEnd::Unknown);
        assert_eq!(end(None).await, CredentialsEnd::Never);
    }

    #[test]
    fn links_point_to_the_buckets_own_region_in_the_variant_that_was_asked_for() {
        let bucket = "reports".parse().unwrap();
        let origin = |signer: Signer, region| {
            let target = signer.target(&bucket, region).unwrap();
            target.origin().to_owned()
        };
        let (fips, dual_stack) = (true, true);
        let table = [
            origin(
                signer("eu-west-1", Server::Aws(EndpointVariant::default()), None),
                "eu-west-1",
            ),
            origin(
                signer(
                    "eu-west-1",
                    Server::Aws(EndpointVariant { fips, dual_stack }),
                    None,
                ),
                "us-east-2",
            ),
            origin(
                signer(
                    "eu-west-1",
                    Server::Other("http://minio.example:9000".to_owned()),
                    None,
                ),
                "us-east-2",
            ),
        ];
        insta::assert_snapshot!(table.join("\n"), @r"
        https://reports.s3.eu-west-1.amazonaws.com
        https://reports.s3-fips.dualstack.us-east-2.amazonaws.com
        http://reports.minio.example:9000
        ");
    }
}
