//! The credentials of a section of the configuration, reloaded when one of its files changes.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;

use super::Base;
use super::process::Process;
use super::sts::{self, CallerIdentity, Sessions};
use crate::config::{ConnectionConfig, Secret};
use crate::config_error::ConfigError;
use crate::environment::Environment;
use crate::job::session_name::SHARED_SESSION;
use crate::links::credentials::Origin;
use crate::links::sessions::SessionOrigin;

/// The credentials of a connection or a queue, as its section describes them.
#[derive(Debug, Clone)]
pub(super) struct Configured {
    base: Base,
    keys: Option<KeyFiles>,
    role: Option<sts::Role>,
    sts_endpoint: Option<String>,
    environment: Environment,
}

/// Fixed keys: the id from the configuration, the rest from files.
#[derive(Debug, Clone)]
struct KeyFiles {
    connection: String,
    id: String,
    secret: PathBuf,
    token: Option<PathBuf>,
}

/// Checks that the files of fixed keys can be read, so that an error shows at start and not at the first job.
pub(super) fn check(
    connection: &str,
    wanted: &ConnectionConfig,
    environment: &Environment,
) -> Result<(), ConfigError> {
    let keys = KeyFiles::of(connection, wanted);
    keys.map_or(Ok(()), |keys| keys.read(environment).map(drop))
}

impl Configured {
    /// The credentials that `wanted` describes; `base` has the region and the profile.
    pub(super) fn new(
        connection: &str,
        base: Base,
        wanted: &ConnectionConfig,
        environment: &Environment,
    ) -> Self {
        Self {
            base,
            keys: KeyFiles::of(connection, wanted),
            role: wanted.assume_role.as_ref().map(|arn| sts::Role {
                arn: arn.clone(),
                lasts: wanted.assume_role_duration,
                session: SHARED_SESSION.to_owned(),
            }),
            sts_endpoint: wanted.sts_endpoint_url.clone(),
            environment: environment.clone(),
        }
    }

    /// The credentials themselves, or those that assume a role.
    async fn own(&self, sdk: &SdkConfig) -> Result<SharedCredentialsProvider, CredentialsError> {
        if let Some(keys) = self.keys.clone() {
            let environment = self.environment.clone();
            // A file system that hangs blocks the thread until the deadline for reading files.
            let read = tokio::task::spawn_blocking(move || keys.read(&environment));
            let read = read.await.map_err(CredentialsError::unhandled)?;
            let keys = read.map_err(CredentialsError::invalid_configuration)?;
            return Ok(SharedCredentialsProvider::new(keys));
        }
        if let Some(identity) = CallerIdentity::of(&self.environment) {
            return Ok(self.of_identity(sdk, identity));
        }
        if let Some(process) = Process::of(sdk) {
            let environment = EnvironmentVariableCredentialsProvider::new();
            let chain = CredentialsProviderChain::first_try("Environment", environment)
                .or_else("Profile", process);
            return Ok(SharedCredentialsProvider::new(chain));
        }
        let chain = sdk.credentials_provider();
        chain.ok_or_else(|| CredentialsError::not_loaded("the AWS SDK has no provider for them"))
    }

    /// The SDK's chain up to the web identity, which uses the STS client of this module. The SDK's own provider always calls
    /// AWS's STS and requires an ARN in the answer.
    fn of_identity(&self, sdk: &SdkConfig, identity: CallerIdentity) -> SharedCredentialsProvider {
        let mut client = ProviderConfig::without_region().with_region(sdk.region().cloned());
        if let Some(http) = sdk.http_client() {
            client = client.with_http_client(http);
        }
        let named = self.base.profile.as_deref();
        let named = named.or_else(|| self.environment.get("AWS_PROFILE"));
        let profile = ProfileFileCredentialsProvider::builder().configure(&client);
        let profile = profile.profile_name(named.unwrap_or("default"));
        let sessions = Sessions::of_identity(sdk, self.sts_endpoint.as_deref(), identity);
        let environment = EnvironmentVariableCredentialsProvider::new();
        let chain = CredentialsProviderChain::first_try("Environment", environment);
        let chain = match Process::of(sdk) {
            Some(process) => chain.or_else("Profile", process),
            None => chain.or_else("Profile", profile.build()),
        };
        let chain = chain.or_else("WebIdentityToken", sessions);
        SharedCredentialsProvider::new(chain)
    }
}

#[async_trait]
impl Origin for Configured {
    fn files(&self) -> Vec<PathBuf> {
        match &self.keys {
            Some(keys) => {
                let files = std::iter::once(&keys.secret).chain(&keys.token);
                files.cloned().collect()
            }
            None => profile_files(&self.environment),
        }
    }

    async fn provider(&self) -> Result<SharedCredentialsProvider, CredentialsError> {
        let sdk = Box::pin(self.base.load()).await;
        let own = self.own(&sdk).await?;
        Ok(match &self.role {
            Some(role) => {
                let endpoint = self.sts_endpoint.as_deref();
                let sessions = Sessions::of_role(&sdk, endpoint, role.clone(), own);
                SharedCredentialsProvider::new(sessions)
            }
            None => own,
        })
    }
}

impl SessionOrigin for Configured {
    fn of_session(&self, session: &str) -> Arc<dyn Origin> {
        let mut origin = self.clone();
        if let Some(role) = &mut origin.role {
            session.clone_into(&mut role.session);
        }
        Arc::new(origin)
    }
}

impl KeyFiles {
    fn of(connection: &str, wanted: &ConnectionConfig) -> Option<Self> {
        Some(Self {
            connection: connection.to_owned(),
            id: wanted.access_key_id.clone()?,
            secret: wanted.secret_access_key_file.clone()?,
            token: wanted.session_token_file.clone(),
        })
    }

    fn read(&self, environment: &Environment) -> Result<Credentials, ConfigError> {
        let read = |field: &str, path: &PathBuf| {
            let key = format!("connections.{}.{field}", self.connection);
            Secret::read(&key, path, environment)
        };
        let secret = read("secret_access_key_file", &self.secret)?;
        let token = self.token.as_ref();
        let token = token
            .map(|path| read("session_token_file", path))
            .transpose()?;
        let token = token.map(|token| token.expose().to_owned());
        let secret = secret.expose();
        let provider = "handout-config";
        Ok(Credentials::new(&self.id, secret, token, None, provider))
    }
}

/// The files with profiles, as the SDKs and the AWS CLI locate them.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/file-location.html>
fn profile_files(environment: &Environment) -> Vec<PathBuf> {
    let home = environment.get("HOME").map(PathBuf::from);
    let file = |variable: &str, usual: &str| match environment.get(variable) {
        Some(named) => Some(match (named.strip_prefix("~/"), &home) {
            (Some(below), Some(home)) => home.join(below),
            _ => PathBuf::from(named),
        }),
        None => home.as_ref().map(|home| home.join(usual)),
    };
    [
        file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        file("AWS_CONFIG_FILE", ".aws/config"),
    ]
    .into_iter()
    .flatten()
    .collect()
}
