//! Who signs for a connection: its credentials, kept as long as they last, and where its links point.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::sigv4::{Addressing, EndpointError, Keys, Presigner, Target};
use crate::job::Bucket;
use crate::plan::{CredentialsEnd, ExpiryGuard, Lifetime};

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// No credentials could be had.
    #[error(
        "connection {connection} has no credentials to sign with; `handout check` tells where it looked"
    )]
    NoCredentials {
        /// The connection.
        connection: String,
        /// What the provider said.
        source: CredentialsError,
    },
    /// The credentials were asked for and did not come.
    #[error("connection {connection} got no credentials within {} s", CREDENTIALS_TIMEOUT.as_secs())]
    Slow {
        /// The connection.
        connection: String,
    },
    /// The credentials that came now end before those that the plan was drawn with.
    #[error(
        "the credentials of connection {connection} changed and end too early; the job is planned again"
    )]
    Changed {
        /// The connection.
        connection: String,
    },
    /// The endpoint is none.
    #[error("connection {connection}: endpoint_url {source}")]
    Endpoint {
        /// The connection.
        connection: String,
        /// What is wrong with it.
        source: EndpointError,
    },
}

/// How long a provider may take: a process that hangs must not hang every job of its connection.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(30);

/// Signs for one connection.
#[derive(Clone)]
pub struct Signer {
    connection: String,
    region: String,
    endpoint: String,
    addressing: Addressing,
    provider: SharedCredentialsProvider,
    /// When the session ends whose credentials do not say so themselves.
    session_end: Option<Timestamp>,
    current: Arc<Mutex<Option<Current>>>,
}

#[derive(Clone)]
struct Current {
    keys: Keys,
    end: CredentialsEnd,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// AWS's endpoint of a region: the global one redirects new buckets.
pub fn regional_endpoint(region: &str) -> String {
    let suffix = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    format!("https://s3.{region}.{suffix}")
}

/// Where links of a connection point.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The region in the scope.
    pub region: String,
    /// `https://s3.eu-west-1.amazonaws.com`, or another server's.
    pub url: String,
    /// How buckets stand in it.
    pub addressing: Addressing,
}

impl Signer {
    /// A signer that asks `provider` for credentials when it needs them.
    pub fn new(
        connection: String,
        endpoint: Endpoint,
        provider: SharedCredentialsProvider,
        session_end: Option<Timestamp>,
    ) -> Self {
        let Endpoint {
            region,
            url,
            addressing,
        } = endpoint;
        Self {
            connection,
            region,
            endpoint: url,
            addressing,
            provider,
            session_end,
            current: Arc::default(),
        }
    }

    /// When the credentials end, after one refresh if they end before `needed_until`.
    pub async fn credentials_end(
        &self,
        needed_until: Timestamp,
    ) -> Result<CredentialsEnd, SignerError> {
        Ok(self.credentials(needed_until).await?.end)
    }

    /// A presigner for a bucket and the id of the key that it signs with; `region` is the bucket's, where it may be another
    /// than the connection's.
    ///
    /// The credentials may have been renewed since the plan was drawn: under `guard`, they must last as long as it says.
    pub async fn presigner(
        &self,
        bucket: &Bucket,
        region: Option<&str>,
        lifetime: Lifetime,
        guard: ExpiryGuard,
    ) -> Result<(Presigner, Arc<str>), SignerError> {
        let Current { keys, end } = self.credentials(lifetime.expires_at).await?;
        if guard != ExpiryGuard::Ignore && !end.reaches(lifetime.expires_at) {
            return Err(SignerError::Changed {
                connection: self.connection.clone(),
            });
        }
        let region = region.unwrap_or(&self.region);
        let target = self.target(bucket, region)?;
        let presigner = Presigner::new(
            target,
            &keys,
            region,
            lifetime.signed_at,
            lifetime.signed_for_secs,
        );
        Ok((presigner, keys.access_key_id))
    }

    /// Where a bucket's links point: to its own region's endpoint, always, since a redirected signature fails.
    fn target(&self, bucket: &Bucket, region: &str) -> Result<Target, SignerError> {
        let elsewhere = (region != self.region).then(|| regional_endpoint(region));
        Target::new(
            elsewhere.as_ref().unwrap_or(&self.endpoint),
            bucket,
            self.addressing,
        )
        .map_err(|source| SignerError::Endpoint {
            connection: self.connection.clone(),
            source,
        })
    }

    async fn credentials(&self, needed_until: Timestamp) -> Result<Current, SignerError> {
        let mut current = self.current.lock().await;
        if let Some(kept) = current
            .as_ref()
            .filter(|kept| kept.end.reaches(needed_until))
        {
            return Ok(kept.clone());
        }
        let connection = || self.connection.clone();
        let fresh = tokio::time::timeout(CREDENTIALS_TIMEOUT, self.provider.provide_credentials())
            .await
            .map_err(|_| SignerError::Slow {
                connection: connection(),
            })?
            .map_err(|source| SignerError::NoCredentials {
                connection: connection(),
                source,
            })?;
        let said = fresh.expiry().and_then(|end| Timestamp::try_from(end).ok());
        let end = match (said, fresh.session_token()) {
            (Some(end), _) => CredentialsEnd::At(end),
            (None, None) => CredentialsEnd::Never,
            // A token is a session's, and a session ends, whether it says when or not.
            (None, Some(_)) => self
                .session_end
                .map_or(CredentialsEnd::Unknown, CredentialsEnd::At),
        };
        let fresh = Current {
            keys: Keys {
                access_key_id: fresh.access_key_id().into(),
                secret_access_key: fresh.secret_access_key().into(),
                session_token: fresh.session_token().map(Into::into),
            },
            end,
        };
        *current = Some(fresh.clone());
        Ok(fresh)
    }
}
