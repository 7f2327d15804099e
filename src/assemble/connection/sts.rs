//! Assumes roles at the STS of AWS or of another server.
//!
//! The SDK's own providers parse the account from the role's ARN in the answer, which MinIO leaves empty
//! (<https://github.com/awslabs/aws-sdk-rust/issues/1288>), and take the STS endpoint only from an environment variable. Handout
//! needs only the keys and their expiry from the answer.

use std::fmt;
use std::path::PathBuf;

use aws_config::SdkConfig;
use aws_config::identity::IdentityCache;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::Client;
use aws_sdk_sts::types::Credentials as Given;

use crate::edge::{EdgeError, HeedsRetryAfter};
use crate::environment::Environment;
use crate::job::session_name::SHARED_SESSION;
use crate::links::credentials::clean;
use crate::mounted;
use crate::quantity::Span;

/// A role to assume.
#[derive(Debug, Clone)]
pub(super) struct Role {
    /// Its ARN.
    pub(super) arn: String,
    /// The duration of its sessions, instead of STS's default of an hour.
    pub(super) lasts: Option<Span>,
    /// The name of its sessions in AWS's logs and policies.
    pub(super) session: String,
}

/// The identity of the process by a token file, as Kubernetes and other platforms provide it.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-assume-role-credentials.html>
#[derive(Debug, Clone)]
pub(super) struct CallerIdentity {
    token_file: PathBuf,
    role: String,
    session: Option<String>,
}

impl CallerIdentity {
    /// The identity that the environment describes.
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let said = |name| {
            let value = environment.get(name).map(str::trim);
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        Some(Self {
            token_file: said("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
            role: said("AWS_ROLE_ARN")?,
            session: said("AWS_ROLE_SESSION_NAME"),
        })
    }
}

/// Assumes a role for each request of credentials.
pub(super) struct Sessions {
    client: Client,
    way: StsClient,
}

enum StsClient {
    /// With credentials of our own.
    Keys(Role),
    /// With a token, which is read each time.
    Token(CallerIdentity),
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sessions").field(&self.role()).finish()
    }
}

/// Trims the keys with which a role is assumed.
#[derive(Debug)]
struct Clean(SharedCredentialsProvider);

impl ProvideCredentials for Clean {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { clean(self.0.provide_credentials().await?) })
    }
}

impl Sessions {
    /// Assumes a role with credentials that are allowed to.
    pub(super) fn of_role(
        sdk: &SdkConfig,
        endpoint: Option<&str>,
        role: Role,
        own: SharedCredentialsProvider,
    ) -> Self {
        let sdk = sdk.to_builder();
        let sdk = sdk.credentials_provider(SharedCredentialsProvider::new(Clean(own)));
        Self {
            client: client(&sdk.build(), endpoint),
            way: StsClient::Keys(role),
        }
    }

    /// Assumes a role with a token; these requests are not signed.
    pub(super) fn of_identity(
        sdk: &SdkConfig,
        endpoint: Option<&str>,
        identity: CallerIdentity,
    ) -> Self {
        Self {
            client: client(sdk, endpoint),
            way: StsClient::Token(identity),
        }
    }

    fn role(&self) -> &str {
        match &self.way {
            StsClient::Keys(role) => &role.arn,
            StsClient::Token(identity) => &identity.role,
        }
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let action = || format!("assume the role {}", self.role());
        let given = match &self.way {
            StsClient::Keys(Role {
                arn,
                lasts,
                session,
            }) => {
                let request = self.client.assume_role().role_arn(arn);
                let request = request.role_session_name(session);
                let seconds = lasts.and_then(|lasts| i32::try_from(lasts.as_secs()).ok());
                let answer = request.set_duration_seconds(seconds).send().await;
                answer
                    .map_err(|error| EdgeError::from_sdk(action(), &error))
                    .map(|answer| answer.credentials)
            }
            StsClient::Token(identity) => {
                let request = self.client.assume_role_with_web_identity();
                let session = identity.session.as_deref().unwrap_or(SHARED_SESSION);
                let answer = request
                    .role_arn(&identity.role)
                    .role_session_name(session)
                    .web_identity_token(identity.token().await?)
                    .send()
                    .await;
                answer
                    .map_err(|error| EdgeError::from_sdk(action(), &error))
                    .map(|answer| answer.credentials)
            }
        };
        keys(given.map_err(CredentialsError::provider_error)?)
    }
}

impl ProvideCredentials for Sessions {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}

impl CallerIdentity {
    async fn token(&self) -> Result<String, CredentialsError> {
        let (path, file) = (self.token_file.display(), self.token_file.clone());
        // A file system that hangs blocks the thread until the deadline for reading files.
        let read = tokio::task::spawn_blocking(move || mounted::read_text(&file));
        let read = read.await.map_err(CredentialsError::unhandled)?;
        let text = read.map_err(|error| {
            CredentialsError::invalid_configuration(format!(
                "AWS_WEB_IDENTITY_TOKEN_FILE names {path}, which cannot be read: {error}"
            ))
        })?;
        match text.trim() {
            "" => Err(CredentialsError::invalid_configuration(format!(
                "AWS_WEB_IDENTITY_TOKEN_FILE names {path}, which is empty"
            ))),
            token => Ok(token.to_owned()),
        }
    }
}

fn client(sdk: &SdkConfig, endpoint: Option<&str>) -> Client {
    let config = aws_sdk_sts::config::Builder::from(sdk);
    let mut config = config.retry_classifier(HeedsRetryAfter);
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.identity_cache(IdentityCache::no_cache()).build())
}

/// The keys of an answer. If the answer has no expiry, the SDK reports 1970, and the expiry is treated as unknown.
fn keys(given: Option<Given>) -> Result<Credentials, CredentialsError> {
    let without = |what| {
        let words = format!("the answer of STS has no {what}");
        Err(CredentialsError::provider_error(words))
    };
    let Some(given) = given else {
        return without("credentials");
    };
    for (what, part) in [
        ("AccessKeyId", &given.access_key_id),
        ("SecretAccessKey", &given.secret_access_key),
        ("SessionToken", &given.session_token),
    ] {
        if part.trim().is_empty() {
            return without(what);
        }
    }
    let mut keys = Credentials::builder()
        .access_key_id(given.access_key_id)
        .secret_access_key(given.secret_access_key)
        .session_token(given.session_token)
        .provider_name("handout-sts");
    if given.expiration.secs() > 0 {
        keys.set_expiry(given.expiration.try_into().ok());
    }
    Ok(keys.build())
}
