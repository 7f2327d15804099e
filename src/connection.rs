//! Named connections: who signs, and where; from the configuration to clients that work.
//!
//! Credentials come from the usual chain of the AWS SDK, from a profile, from fixed keys or from a role that is
//! taken on. A connection with a directory gets keys of its own for the embedded endpoint of this process.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aws_config::identity::IdentityCache;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_types::service_config::ServiceConfigKey;

use crate::config::{Config, ConfigError, ConnectionConfig, Environment, Secret, front};
use crate::edge::health::{Edge, EdgeKind};
use crate::edge::{HeedsRetryAfter, Network, http, retries};
use crate::job::ConnectionName;
use crate::keyring::{Keyring, Purpose, hex};
use crate::links::credentials::CLIENT_WAITS;
use crate::links::front::Front;
use crate::links::partition::{Variant, before_suffix};
use crate::links::signer::{Endpoint, Server, SessionEnd, Signer};
use crate::links::sigv4::Addressing;
use crate::store::ObjectStore;
use crate::store::s3::S3Store;
use crate::store::throttled::Throttled;
use crate::throttle::Throttle;
use crate::tools::OpenError;

/// The region of the embedded endpoint: a scope needs one.
pub const EMBEDDED_REGION: &str = "us-east-1";

/// The name under which a role's session appears in AWS's logs.
const SESSION_NAME: &str = "handout";

/// What the connection is called that no configuration names.
pub const OF_ENVIRONMENT: &str = "environment";

/// A connection that works.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its objects.
    pub store: Arc<dyn ObjectStore>,
    /// The same without a limit to the rate, for the ledger.
    pub s3: S3Store,
    /// Signs links to them.
    pub signer: Signer,
    /// The distribution in front of its bucket, if there is one.
    pub front: Option<Arc<Front>>,
    /// The role whose credentials sign, if it takes one on.
    pub role: Option<Arc<str>>,
    /// How many links it may sign.
    pub link_rate: Throttle,
}

/// All connections, by name.
pub type Connections = BTreeMap<ConnectionName, Connection>;

/// A directory that the embedded endpoint serves, and the keys for it.
#[derive(Clone)]
pub struct EmbeddedSite {
    /// The connection.
    pub connection: String,
    /// The directory.
    pub directory: PathBuf,
    /// The access key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

impl fmt::Debug for EmbeddedSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedSite")
            .field("connection", &self.connection)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// The directories of the configuration. Their keys are derived, so that links outlive a restart.
pub fn embedded_sites(config: &Config, keyring: &Keyring) -> Vec<EmbeddedSite> {
    let deriver = keyring.deriver(Purpose::EmbeddedCredentials);
    let site = |(name, connection): (&String, &ConnectionConfig)| {
        let directory = connection.directory.clone()?;
        Some(EmbeddedSite {
            connection: name.clone(),
            directory: config.resolve(&directory),
            access_key_id: format!(
                "HANDOUT{}",
                deriver.id(&[name.as_bytes(), b"id"])[..13].to_uppercase()
            ),
            secret_access_key: hex(&deriver.derive(&[name.as_bytes(), b"secret"])),
        })
    };
    config.connections.iter().filter_map(site).collect()
}

/// Opens every connection. `embedded` is where the embedded endpoint of this process listens.
pub async fn open(
    config: &Config,
    keyring: &Keyring,
    embedded: Option<SocketAddr>,
    environment: &Environment,
) -> Result<Connections, ConfigError> {
    let sites: BTreeMap<String, EmbeddedSite> = embedded_sites(config, keyring)
        .into_iter()
        .map(|site| (site.connection.clone(), site))
        .collect();
    let mut connections = Connections::new();
    for (name, wanted) in &config.connections {
        let (store, signer) = match (sites.get(name), embedded) {
            (Some(site), Some(address)) => {
                embedded_connection(site, address, &config.embedded.public_url)
            }
            (Some(_), None) => {
                let reason = "needs the embedded endpoint, which this build does not have (cargo feature \"embedded\")";
                return Err(ConfigError::value(
                    format!("connections.{name}.directory"),
                    reason,
                ));
            }
            (None, _) => aws_connection(name, wanted, environment).await?,
        };
        let front = open_front(name, wanted, environment)?;
        let s3 = store.with_edge(store_edge(name, wanted));
        let name = name
            .parse()
            .map_err(|error| ConfigError::value(format!("connections.{name}"), error))?;
        let store = Arc::new(s3.clone());
        let store = Arc::new(Throttled::new(store, Throttle::new(config.links.requests)));
        connections.insert(
            name,
            Connection {
                store,
                s3,
                signer,
                front,
                role: wanted.assume_role.as_deref().map(Into::into),
                link_rate: Throttle::new(config.links.rate),
            },
        );
    }
    Ok(connections)
}

/// The edge of a connection's store.
fn store_edge(name: &str, wanted: &ConnectionConfig) -> Edge {
    let subject = match (&wanted.directory, &wanted.endpoint_url) {
        (Some(_), _) => format!("the embedded endpoint (connections.{name})"),
        (None, Some(url)) => format!("the store at {url} (connections.{name})"),
        (None, None) => format!("S3 (connections.{name})"),
    };
    Edge::new(EdgeKind::Store, name, subject)
}

fn embedded_connection(
    site: &EmbeddedSite,
    address: SocketAddr,
    public_url: &str,
) -> (S3Store, Signer) {
    let client = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(EMBEDDED_REGION))
        .endpoint_url(format!("http://{address}"))
        .force_path_style(true)
        .credentials_provider(site.credentials())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .retry_config(retries())
        .build();
    // The endpoint takes no parts, and says itself what is too large.
    let store = S3Store::new(aws_sdk_s3::Client::from_conf(client)).with_largest_put(u64::MAX);
    (store, site.signer(public_url))
}

impl EmbeddedSite {
    fn credentials(&self) -> SharedCredentialsProvider {
        let Self {
            access_key_id,
            secret_access_key,
            ..
        } = self;
        SharedCredentialsProvider::new(Credentials::new(
            access_key_id,
            secret_access_key,
            None,
            None,
            "handout-embedded",
        ))
    }

    /// Signs for the address under which others see the endpoint; it need not listen for that.
    pub fn signer(&self, public_url: &str) -> Signer {
        let endpoint = Endpoint {
            region: EMBEDDED_REGION.to_owned(),
            server: Server::Other(public_url.to_owned()),
            addressing: Addressing::Path,
        };
        Signer::new(self.connection.clone(), endpoint, self.credentials(), None)
    }
}

async fn aws_connection(
    name: &str,
    wanted: &ConnectionConfig,
    environment: &Environment,
) -> Result<(S3Store, Signer), ConfigError> {
    let route = Box::pin(Route::of_connection(name, wanted, environment)).await?;
    let signer = route.signer(name, environment);
    Ok((route.store(&signer), signer))
}

/// What signs without a job.
#[derive(Debug)]
pub struct Direct {
    /// Signs for S3.
    pub signer: Signer,
    /// Knows in which regions buckets are; a server with one region needs none.
    pub regions: Option<Arc<dyn ObjectStore>>,
    /// The distribution in front of the bucket, if the connection has one.
    pub front: Option<Arc<Front>>,
}

/// What signs for one connection of the configuration. Nothing need listen for it, and no store is asked anything yet.
pub async fn direct(
    config: &Config,
    name: &str,
    environment: &Environment,
) -> Result<Direct, OpenError> {
    let Some(wanted) = config.connections.get(name) else {
        let known: Vec<&str> = config.connections.keys().map(String::as_str).collect();
        let reason = format!("have none named {name:?}; there are: {}", known.join(", "));
        return Err(ConfigError::value("connections", reason).into());
    };
    let front = open_front(name, wanted, environment)?;
    if wanted.directory.is_some() {
        let sites = embedded_sites(config, &Keyring::open(&config.secret_key_file())?);
        let site = sites.into_iter().find(|site| site.connection == name);
        let site = site.expect("each connection with a directory has its site");
        return Ok(Direct {
            signer: site.signer(&config.embedded.public_url),
            regions: None,
            front,
        });
    }
    let route = Box::pin(Route::of_connection(name, wanted, environment)).await?;
    Ok(Direct {
        front,
        ..route.direct(name, environment)
    })
}

/// What signs where no configuration is: as `wanted` says, and for the rest as every program of AWS would.
///
/// Where nobody names a region and `region_of_last_resort` is given, requests go there until the bucket's own is known.
pub async fn environment_direct(
    wanted: &ConnectionConfig,
    region_of_last_resort: Option<&str>,
    environment: &Environment,
) -> Result<Direct, Missing> {
    let route = match Box::pin(Route::find(wanted, None, Network::default())).await {
        Err(Missing::Region) if region_of_last_resort.is_some() => {
            let wanted = ConnectionConfig {
                region: region_of_last_resort.map(ToOwned::to_owned),
                ..wanted.clone()
            };
            Box::pin(Route::find(&wanted, None, Network::default())).await?
        }
        found => found?,
    };
    Ok(route.direct(OF_ENVIRONMENT, environment))
}

fn open_front(
    name: &str,
    wanted: &ConnectionConfig,
    environment: &Environment,
) -> Result<Option<Arc<Front>>, ConfigError> {
    let front = wanted.cloudfront.as_ref();
    let front = front.map(|wanted| front::open(name, wanted, environment));
    Ok(front.transpose()?.map(Arc::new))
}

/// What neither the connection nor the environment nor a profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The region.
    #[error("is missing, and neither the environment nor the profile names one")]
    Region,
    /// A way to credentials.
    #[error("gives no way to credentials")]
    Credentials,
}

/// The way to S3: what a connection says, and for the rest the environment and its profile.
struct Route {
    sdk: SdkConfig,
    /// An endpoint that is not AWS's own.
    other_server: Option<String>,
    region: String,
    addressing: Addressing,
    provider: SharedCredentialsProvider,
    network: Network,
}

impl Route {
    async fn of_connection(
        name: &str,
        wanted: &ConnectionConfig,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let fixed = fixed_keys(name, wanted, environment)?;
        let network = Network::of(&format!("connections.{name}"));
        Self::find(wanted, fixed, network)
            .await
            .map_err(|missing| match missing {
                Missing::Region => no_region(&format!("connections.{name}"), environment),
                Missing::Credentials => {
                    ConfigError::value(format!("connections.{name}.profile"), missing)
                }
            })
    }

    async fn find(
        wanted: &ConnectionConfig,
        fixed: Option<Credentials>,
        network: Network,
    ) -> Result<Self, Missing> {
        let base = Base {
            region: wanted.region.as_deref(),
            profile: wanted.profile.as_deref(),
            fixed,
            network: network.clone(),
        };
        let mut sdk = base.load(wanted.endpoint_url.is_some()).await;
        if let Some(role) = &wanted.assume_role {
            let mut provider = AssumeRoleProvider::builder(role)
                .session_name(SESSION_NAME)
                .configure(&sdk);
            if let Some(duration) = wanted.assume_role_duration {
                provider = provider.session_length(duration.as_duration());
            }
            let provider = provider.build().await;
            sdk = sdk
                .into_builder()
                .credentials_provider(SharedCredentialsProvider::new(provider))
                .build();
        }
        let region = sdk.region().ok_or(Missing::Region)?.to_string();
        let provider = sdk.credentials_provider().ok_or(Missing::Credentials)?;
        let other_server = wanted.endpoint_url.clone().or_else(|| s3_endpoint(&sdk));
        let addressing = match wanted.path_style.unwrap_or(other_server.is_some()) {
            true => Addressing::Path,
            false => Addressing::VirtualHost,
        };
        Ok(Self {
            sdk,
            other_server,
            region,
            addressing,
            provider,
            network,
        })
    }

    /// The store; its requests are signed with the signer's credentials.
    fn store(&self, signer: &Signer) -> S3Store {
        let mut client = aws_sdk_s3::config::Builder::from(&self.sdk)
            .credentials_provider(signer.credentials_provider())
            .identity_cache(IdentityCache::lazy().load_timeout(CLIENT_WAITS).build())
            .force_path_style(self.addressing == Addressing::Path);
        client.set_endpoint_url(self.other_server.clone());
        if self
            .other_server
            .as_deref()
            .is_some_and(|url| !is_of_aws(url))
        {
            client = only_required_checksums(client, &self.sdk);
        }
        let client = aws_sdk_s3::Client::from_conf(client.build());
        // Only AWS has regions of which a bucket can be in another.
        let store = match self.other_server {
            None => S3Store::regional(client),
            Some(_) => S3Store::new(client),
        };
        store.through(self.network.clone())
    }

    fn direct(&self, name: &str, environment: &Environment) -> Direct {
        let signer = self.signer(name, environment);
        let regions = self.other_server.is_none();
        let regions = regions.then(|| Arc::new(self.store(&signer)) as Arc<dyn ObjectStore>);
        Direct {
            signer,
            regions,
            front: None,
        }
    }

    fn signer(&self, name: &str, environment: &Environment) -> Signer {
        let variant = Variant {
            fips: self.sdk.use_fips().unwrap_or_default(),
            dual_stack: self.sdk.use_dual_stack().unwrap_or_default(),
        };
        let server = self.other_server.clone().map(Server::Other);
        let endpoint = Endpoint {
            server: server.unwrap_or(Server::Aws(variant)),
            addressing: self.addressing,
            region: self.region.clone(),
        };
        Signer::new(
            name.to_owned(),
            endpoint,
            self.provider.clone(),
            session_end(environment),
        )
    }
}

/// Whether an endpoint is one of AWS's own, such as that of a VPC.
fn is_of_aws(url: &str) -> bool {
    let host = url.parse::<hyper::Uri>().ok();
    let host = host.as_ref().and_then(hyper::Uri::host).unwrap_or_default();
    let host = host.to_ascii_lowercase();
    before_suffix(&host).is_some() || host.ends_with(".api.aws")
}

/// Sends and expects no checksums that an operation can do without, unless the environment or the profile asks for them: servers
/// other than AWS's refuse the trailers in which the SDK sends them, or keep `aws-chunked` for the object's own encoding.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html>
fn only_required_checksums(
    mut client: aws_sdk_s3::config::Builder,
    sdk: &SdkConfig,
) -> aws_sdk_s3::config::Builder {
    const REQUESTS: [&str; 2] = [
        "AWS_REQUEST_CHECKSUM_CALCULATION",
        "request_checksum_calculation",
    ];
    const RESPONSES: [&str; 2] = [
        "AWS_RESPONSE_CHECKSUM_VALIDATION",
        "response_checksum_validation",
    ];
    let is_said = |[variable, of_profile]: [&str; 2]| setting(sdk, variable, of_profile).is_some();
    if !is_said(REQUESTS) {
        client = client.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    }
    if !is_said(RESPONSES) {
        client = client.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    client
}

/// A section of the configuration lacks a region, for good or until the metadata service answers.
fn no_region(section: &str, environment: &Environment) -> ConfigError {
    let key = format!("{section}.region");
    let disabled = environment.get("AWS_EC2_METADATA_DISABLED");
    match disabled.is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
        true => ConfigError::value(key, Missing::Region),
        false => ConfigError::NoRegion { key },
    }
}

/// The endpoint that the environment or the profile names for S3, before the one that it names for everything.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
fn s3_endpoint(sdk: &SdkConfig) -> Option<String> {
    let for_s3 = setting(sdk, "AWS_ENDPOINT_URL", "endpoint_url");
    for_s3.or_else(|| sdk.endpoint_url().map(ToOwned::to_owned))
}

/// What the environment or the profile says for S3, under these names.
fn setting(sdk: &SdkConfig, variable: &str, of_profile: &str) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env(variable)
        .profile(of_profile)
        .build()
        .expect("all three parts are given");
    sdk.service_config().and_then(|all| all.load_config(key))
}

/// When the session of the environment's credentials ends, as `aws configure export-credentials` writes it: the SDK does
/// not read it.
fn session_end(environment: &Environment) -> Option<SessionEnd> {
    Some(SessionEnd {
        session_token: environment.get("AWS_SESSION_TOKEN")?.trim().to_owned(),
        at: environment.get("AWS_CREDENTIAL_EXPIRATION")?.parse().ok()?,
    })
}

fn fixed_keys(
    name: &str,
    wanted: &ConnectionConfig,
    environment: &Environment,
) -> Result<Option<Credentials>, ConfigError> {
    let read = |field: &str, path: &PathBuf| {
        Secret::read(&format!("connections.{name}.{field}"), path, environment)
    };
    let (Some(id), Some(secret)) = (&wanted.access_key_id, &wanted.secret_access_key_file) else {
        return Ok(None);
    };
    let secret = read("secret_access_key_file", secret)?;
    let token = wanted
        .session_token_file
        .as_ref()
        .map(|path| read("session_token_file", path))
        .transpose()?;
    let token = token.map(|token| token.expose().to_owned());
    Ok(Some(Credentials::new(
        id,
        secret.expose(),
        token,
        None,
        "handout-config",
    )))
}

/// The way to an SQS queue; what is left out is the environment's or the profile's.
#[derive(Debug, Clone, Copy)]
pub struct SqsRoute<'a> {
    /// The queue's region.
    pub region: Option<&'a str>,
    /// Another server that speaks SQS.
    pub endpoint_url: Option<&'a str>,
    /// A profile of the AWS configuration files.
    pub profile: Option<&'a str>,
}

/// An SQS client; `section` of the configuration names its route.
pub async fn sqs_client(
    section: &str,
    route: SqsRoute<'_>,
    environment: &Environment,
) -> Result<aws_sdk_sqs::Client, ConfigError> {
    let base = Base {
        region: route.region,
        profile: route.profile,
        fixed: None,
        network: Network::of(section),
    };
    let sdk = base.load(route.endpoint_url.is_some()).await;
    if sdk.region().is_none() {
        return Err(no_region(section, environment));
    }
    let mut client = aws_sdk_sqs::config::Builder::from(&sdk).retry_classifier(HeedsRetryAfter);
    if let Some(endpoint) = route.endpoint_url {
        client = client.endpoint_url(endpoint);
    }
    Ok(aws_sdk_sqs::Client::from_conf(client.build()))
}

/// What S3 and SQS clients are made from alike.
struct Base<'a> {
    region: Option<&'a str>,
    profile: Option<&'a str>,
    fixed: Option<Credentials>,
    network: Network,
}

impl Base<'_> {
    async fn load(self, other_server: bool) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            // What the service says decides about credentials and queues, not that it answers: see their edges.
            .http_client(http::client(None, self.network))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .retry_config(retries());
        if let Some(region) = self.region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(profile) = self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(fixed) = self.fixed {
            loader = loader.credentials_provider(fixed);
        }
        let sdk = loader.load().await;
        let other_server = other_server || s3_endpoint(&sdk).is_some();
        match sdk.region() {
            // Other servers take any region; their users seldom name one.
            None if other_server => sdk
                .into_builder()
                .region(Region::new(EMBEDDED_REGION))
                .build(),
            Some(_) | None => sdk,
        }
    }
}
