//! Builds clients for named connections: which credentials sign, and for which server.
//!
//! Credentials come from the usual chain of the AWS SDK, from a profile, from fixed keys or from an assumed role: see [`origin`].
//! A connection with a directory gets keys of its own for the embedded endpoint of this process.

mod distribution;
mod filled;
mod link_trial;
mod origin;
mod process;
mod revocation;
mod sqs;
mod sts;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aws_config::identity::IdentityCache;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::service_config::ServiceConfigKey;
use presign::explain::KnownServer;
use presign::hex::hex;
use presign::partition::{EndpointVariant, before_suffix};
use presign::{Addressing, ServerUrl};

use self::origin::Configured;
use crate::assemble::OpenError;
use crate::config::{Config, ConnectionConfig, EmbeddedConfig, RoleSession};
use crate::config_error::ConfigError;
use crate::edge::health::{Edge, EdgeKind};
use crate::edge::{Egress, http, retries};
use crate::environment::Environment;
use crate::job::ConnectionName;
use crate::keyring::{Keyring, Purpose};
use crate::links::credentials::doubt::OnceMore;
use crate::links::credentials::{CredentialSource, Origin};
use crate::links::distribution::Distribution;
use crate::links::sessions::JobSessions;
use crate::links::signer::{LinkParameters, Server, SessionEnd, Signer, SigningEndpoint};

use crate::rate_limit::RateLimiter;
use crate::store::ObjectStore;
use crate::store::s3::{Demands, Puts, S3Store};
use crate::store::throttled::Throttled;
use crate::store::zip_memory::ZipMemory;

pub use crate::links::connection::{Connection, Connections};

/// The region of the embedded endpoint: a credential scope needs one.
pub const EMBEDDED_REGION: &str = "us-east-1";

/// The name of the connection that comes from the environment, without a configuration.
pub const OF_ENVIRONMENT: &str = "environment";

pub use link_trial::WayError;
pub use revocation::{ProbeError, ProbeOutcome, RevocationAccess, revocation_access};
pub use sqs::{SqsRoute, sqs_client};

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
        Some(EmbeddedSite {
            connection: name.clone(),
            directory: connection.directory.clone()?,
            access_key_id: format!(
                "HANDOUT{}",
                deriver.id(&[name.as_bytes(), b"id"])[..13].to_uppercase()
            ),
            secret_access_key: hex(&deriver.derive(&[name.as_bytes(), b"secret"])),
        })
    };
    config.connections.iter().filter_map(site).collect()
}

/// The servers that links of the configuration's connections name, and those that Handout itself calls.
pub fn servers(config: &Config) -> Vec<KnownServer> {
    let server = |name: &str, url: &Option<String>, path_style: Option<bool>| {
        Some(KnownServer {
            connection: name.to_owned(),
            url: ServerUrl::parse(url.as_deref()?).ok()?,
            addressing: Addressing::of(path_style.unwrap_or(true)),
        })
    };
    let embedded = Some(config.embedded.public_url.clone());
    let of_connection = |(name, wanted): (&String, &ConnectionConfig)| {
        let embedded = wanted.directory.as_ref().and(embedded.as_ref()).cloned();
        [
            server(name, &embedded, None),
            server(name, &wanted.endpoint_url, wanted.path_style),
            server(name, &wanted.public_endpoint_url, wanted.public_path_style),
        ]
    };
    let servers = config.connections.iter().flat_map(of_connection);
    servers.flatten().collect()
}

/// Returns the open connection of a name, if nothing about it has changed.
pub type KeptConnection<'a> = &'a (dyn Fn(&str) -> Option<Connection> + Sync);

/// Opens every connection. `embedded` is the address of the embedded endpoint of this process.
pub async fn open(
    config: &Config,
    keyring: &Keyring,
    embedded: Option<SocketAddr>,
    environment: &Environment,
) -> Result<Connections, ConfigError> {
    Box::pin(open_but(&|_| None, config, keyring, embedded, environment)).await
}

/// As [`open`], but reuses connections that `kept` returns.
pub async fn open_but(
    kept: KeptConnection<'_>,
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
        let parsed = name.parse::<ConnectionName>();
        let parsed =
            parsed.map_err(|error| ConfigError::value(format!("connections.{name}"), error))?;
        if let Some(connection) = kept(name) {
            connections.insert(parsed, connection);
            continue;
        }
        let (store, signer, own_signer, sessions) = match (sites.get(name), embedded) {
            (Some(site), Some(address)) => {
                let (store, signer, own) = embedded_connection(site, address, &config.embedded);
                (store, signer, own, None)
            }
            (Some(_), None) => return Err(no_embedded(name)),
            (None, _) => aws_connection(name, wanted, environment).await?,
        };
        let distribution = open_front(name, wanted, environment)?;
        let s3 = store.with_edge(store_edge(name, wanted));
        let store = Arc::new(s3.clone());
        let store = Arc::new(Throttled::new(
            store,
            RateLimiter::new(config.links.requests),
        ));
        connections.insert(
            parsed,
            Connection {
                store,
                s3,
                signer,
                own_signer,
                distribution,
                role: wanted.assume_role.as_deref().map(Into::into),
                sessions,
                link_rate: RateLimiter::new(config.links.rate),
                zip_memory: ZipMemory::default(),
            },
        );
    }
    Egress::of_environment(environment)?.tell();
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
    embedded: &EmbeddedConfig,
) -> (S3Store, Signer, Option<Signer>) {
    let public_url = &embedded.public_url;
    let is_own = *public_url == format!("http://{}", embedded.listen);
    let own_signer = (!is_own).then(|| site.signer(&format!("http://{address}")));
    let store = store_of_site(site, address);
    (store, site.signer(public_url), own_signer)
}

fn store_of_site(site: &EmbeddedSite, address: SocketAddr) -> S3Store {
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
    // The embedded endpoint does not support multipart uploads, and reports itself when an object is too large.
    S3Store::new(aws_sdk_s3::Client::from_conf(client)).with_largest_put(u64::MAX)
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

    /// Signs for the public address of the endpoint, which need not listen for that.
    pub fn signer(&self, public_url: &str) -> Signer {
        let endpoint = SigningEndpoint {
            region: EMBEDDED_REGION.to_owned(),
            server: Server::Other(public_url.to_owned()),
            addressing: Addressing::Path,
            parameters: LinkParameters::default(),
        };
        Signer::new(self.connection.clone(), endpoint, self.credentials(), None)
    }
}

async fn aws_connection(
    name: &str,
    wanted: &ConnectionConfig,
    environment: &Environment,
) -> Result<(S3Store, Signer, Option<Signer>, Option<JobSessions>), ConfigError> {
    let route = Box::pin(ConnectionRoute::of_connection(name, wanted, environment)).await?;
    let signer = route.signer();
    let own_signer = route
        .public
        .is_some()
        .then(|| signer.at(route.own_endpoint()));
    Ok((route.store(), signer, own_signer, route.sessions))
}

/// Signs links without a job.
#[derive(Debug)]
pub struct Direct {
    /// Signs for S3.
    pub signer: Signer,
    /// Lists objects; `None` for a directory, which the embedded endpoint must serve first: see [`embedded_store`].
    pub store: Option<Arc<dyn ObjectStore>>,
    /// Resolves the regions of buckets; `None` for a server with a single region.
    pub regions: Option<Arc<dyn ObjectStore>>,
    /// The distribution in front of the bucket, if the connection has one.
    pub distribution: Option<Arc<Distribution>>,
}

/// The signer of one connection. It needs no listening endpoint and sends no request to a store.
pub async fn direct(
    config: &Config,
    name: &str,
    environment: &Environment,
) -> Result<Direct, OpenError> {
    let wanted = config.connection(name)?;
    let distribution = open_front(name, wanted, environment)?;
    if wanted.directory.is_some() {
        let sites = embedded_sites(config, &Keyring::open(&config.secret_key_file())?);
        let site = sites.into_iter().find(|site| site.connection == name);
        let site = site.expect("each connection with a directory has its site");
        return Ok(Direct {
            signer: site.signer(&config.embedded.public_url),
            store: None,
            regions: None,
            distribution,
        });
    }
    let route = Box::pin(ConnectionRoute::of_connection(name, wanted, environment)).await?;
    let direct = route.direct();
    let requests = RateLimiter::new(config.links.requests);
    let store = direct.store.map(|store| Throttled::new(store, requests));
    Ok(Direct {
        distribution,
        store: store.map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
        ..direct
    })
}

/// The store of a connection with a directory, which the embedded endpoint serves at `address`; `None` without such a connection.
pub fn embedded_store(
    config: &Config,
    keyring: &Keyring,
    name: &str,
    address: SocketAddr,
) -> Option<Arc<dyn ObjectStore>> {
    let mut sites = embedded_sites(config, keyring).into_iter();
    let site = sites.find(|site| site.connection == name)?;
    Some(Arc::new(store_of_site(&site, address)))
}

/// The error of a build without the embedded endpoint.
pub fn no_embedded(name: &str) -> ConfigError {
    let reason =
        "needs the embedded endpoint, which this build does not have (cargo feature \"embedded\")";
    ConfigError::value(format!("connections.{name}.directory"), reason)
}

/// The signer without a configuration: as `wanted` says, and for the rest as the AWS SDK resolves it.
///
/// If no region is configured and `region_of_last_resort` is given, requests go there until the bucket's own region is known.
pub async fn environment_direct(
    wanted: &ConnectionConfig,
    region_of_last_resort: Option<&str>,
    environment: &Environment,
    egress: Egress,
) -> Result<Direct, NoRegion> {
    let route = match Box::pin(ConnectionRoute::find(
        OF_ENVIRONMENT,
        wanted,
        environment,
        egress.clone(),
    ))
    .await
    {
        Err(NoRegion) if region_of_last_resort.is_some() => {
            let wanted = ConnectionConfig {
                region: region_of_last_resort.map(ToOwned::to_owned),
                ..wanted.clone()
            };
            Box::pin(ConnectionRoute::find(
                OF_ENVIRONMENT,
                &wanted,
                environment,
                egress,
            ))
            .await?
        }
        found => found?,
    };
    Ok(route.direct())
}

fn open_front(
    name: &str,
    wanted: &ConnectionConfig,
    environment: &Environment,
) -> Result<Option<Arc<Distribution>>, ConfigError> {
    let distribution = wanted.cloudfront.as_ref();
    let distribution = distribution.map(|wanted| distribution::open(name, wanted, environment));
    Ok(distribution.transpose()?.map(Arc::new))
}

/// Neither the connection nor the environment nor a profile names the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is missing, and neither the environment nor the profile names one")]
pub struct NoRegion;

/// How S3 is reached: the connection's settings, completed by the environment and its profile.
struct ConnectionRoute {
    name: String,
    sdk: SdkConfig,
    /// An endpoint outside of AWS.
    other_server: Option<String>,
    region: String,
    addressing: Addressing,
    /// The server that links name, if it differs.
    public: Option<(String, Addressing)>,
    source: CredentialSource,
    sessions: Option<JobSessions>,
    egress: Egress,
    puts: Puts,
    parameters: LinkParameters,
}

impl ConnectionRoute {
    async fn of_connection(
        name: &str,
        wanted: &ConnectionConfig,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        origin::check(name, wanted, environment)?;
        let section = format!("connections.{name}");
        let egress = Egress::of(&section, wanted.ca_file.as_deref(), environment)?;
        let found = Self::find(name, wanted, environment, egress).await;
        found.map_err(|NoRegion| no_region(&format!("connections.{name}"), environment))
    }

    async fn find(
        name: &str,
        wanted: &ConnectionConfig,
        environment: &Environment,
        egress: Egress,
    ) -> Result<Self, NoRegion> {
        let base = Base {
            region: wanted.region.clone(),
            profile: wanted.profile.clone(),
            other_server: wanted.endpoint_url.is_some(),
            environment: environment.clone(),
            http: http::client(None, egress.clone()),
        };
        let sdk = base.load().await;
        let region = sdk.region().ok_or(NoRegion)?.to_string();
        let base = Base {
            region: Some(region.clone()),
            ..base
        };
        let origin = Arc::new(Configured::new(name, base, wanted, environment));
        let section = format!("connections.{name}");
        let source = CredentialSource::new(
            name,
            section.clone(),
            Arc::clone(&origin) as Arc<dyn Origin>,
            session_end(environment),
        );
        let has_sessions = wanted.assume_role_session == Some(RoleSession::Job);
        let sessions = has_sessions.then(|| JobSessions::new(source.clone(), origin));
        let other_server = wanted.endpoint_url.clone().or_else(|| s3_endpoint(&sdk));
        let addressing = Addressing::of(wanted.path_style.unwrap_or(other_server.is_some()));
        let public = wanted.public_endpoint_url.clone();
        let public_addressing = Addressing::of(wanted.public_path_style.unwrap_or(true));
        Ok(Self {
            public: public.map(|url| (url, public_addressing)),
            name: name.to_owned(),
            parameters: LinkParameters {
                requester_pays: wanted.request_payer.unwrap_or_default(),
                no_ignored: !wanted.link_parameters.unwrap_or(true),
            },
            puts: Puts::new(&section, wanted.sse, wanted.sse_kms_key_id.clone()),
            source,
            sessions,
            sdk,
            other_server,
            region,
            addressing,
            egress,
        })
    }

    /// The store; its requests are signed with the signer's credentials.
    fn store(&self) -> S3Store {
        let demands = Demands {
            requester_pays: self.parameters.requester_pays,
            no_operation: self.parameters.no_ignored,
        };
        let mut client = aws_sdk_s3::config::Builder::from(&self.sdk)
            .interceptor(demands)
            .credentials_provider(SharedCredentialsProvider::new(self.source.clone()))
            .identity_cache(IdentityCache::no_cache())
            .retry_classifier(OnceMore(self.source.doubt().clone()))
            .force_path_style(self.addressing == Addressing::Path);
        client.set_endpoint_url(self.other_server.as_deref().map(for_sdk));
        if self
            .other_server
            .as_deref()
            .is_some_and(|url| !is_of_aws(url))
        {
            client = only_required_checksums(client, &self.sdk);
        }
        let client = aws_sdk_s3::Client::from_conf(client.build());
        // Only at AWS can a bucket be in another region.
        let store = match self.other_server {
            None => S3Store::regional(client),
            Some(_) => S3Store::new(client),
        };
        store
            .through(self.egress.clone())
            .with_puts(self.puts.clone())
            .with_clock(self.source.clock().clone())
    }

    fn direct(&self) -> Direct {
        let store: Arc<dyn ObjectStore> = Arc::new(self.store());
        let is_regional = self.other_server.is_none();
        Direct {
            signer: self.signer(),
            regions: is_regional.then(|| Arc::clone(&store)),
            store: Some(store),
            distribution: None,
        }
    }

    /// The endpoint that Handout calls.
    fn own_endpoint(&self) -> SigningEndpoint {
        let variant = EndpointVariant {
            fips: self.sdk.use_fips().unwrap_or_default(),
            dual_stack: self.sdk.use_dual_stack().unwrap_or_default(),
        };
        let server = self.other_server.clone().map(Server::Other);
        SigningEndpoint {
            server: server.unwrap_or(Server::Aws(variant)),
            addressing: self.addressing,
            region: self.region.clone(),
            parameters: self.parameters,
        }
    }

    /// The endpoint that links name.
    fn link_endpoint(&self) -> SigningEndpoint {
        match self.public.clone() {
            Some((url, addressing)) => SigningEndpoint {
                server: Server::Other(url),
                addressing,
                region: self.region.clone(),
                parameters: self.parameters,
            },
            None => self.own_endpoint(),
        }
    }

    fn signer(&self) -> Signer {
        Signer::of(self.name.clone(), self.link_endpoint(), self.source.clone())
    }
}

/// An endpoint in the form that the SDK joins with a bucket: a path needs a trailing slash.
fn for_sdk(endpoint: &str) -> String {
    match ServerUrl::parse(endpoint) {
        Ok(url) if !url.path().is_empty() => format!("{}{}/", url.origin(), url.path()),
        Ok(_) | Err(_) => endpoint.to_owned(),
    }
}

/// Whether an endpoint is AWS's own, such as a VPC endpoint.
fn is_of_aws(url: &str) -> bool {
    let host = url.parse::<hyper::Uri>().ok();
    let host = host.as_ref().and_then(hyper::Uri::host).unwrap_or_default();
    let host = host.to_ascii_lowercase();
    before_suffix(&host).is_some() || host.ends_with(".api.aws")
}

/// Sends and expects only the checksums that an operation requires, unless the environment or the profile asks for more. Servers
/// outside AWS reject the trailers in which the SDK sends checksums, or store `aws-chunked` as the object's own encoding.
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

/// The error for a section without a region, permanent or until the metadata service answers.
fn no_region(section: &str, environment: &Environment) -> ConfigError {
    let key = format!("{section}.region");
    let disabled = environment.get("AWS_EC2_METADATA_DISABLED");
    match disabled.is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
        true => ConfigError::value(key, NoRegion),
        false => ConfigError::NoRegion { key },
    }
}

/// The endpoint that the environment or the profile names for S3; it takes precedence over the one for all services.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
fn s3_endpoint(sdk: &SdkConfig) -> Option<String> {
    let for_s3 = setting(sdk, "AWS_ENDPOINT_URL", "endpoint_url");
    for_s3.or_else(|| sdk.endpoint_url().map(ToOwned::to_owned))
}

/// A setting of the environment or the profile for S3, under these names.
fn setting(sdk: &SdkConfig, variable: &str, of_profile: &str) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env(variable)
        .profile(of_profile)
        .build()
        .expect("all three parts are given");
    sdk.service_config().and_then(|all| all.load_config(key))
}

/// A setting of the profile.
fn of_profile(sdk: &SdkConfig, name: &str) -> Option<String> {
    // The SDK's key type requires the name of a variable, too.
    setting(sdk, "HANDOUT_NO_VARIABLE", name)
}

/// The end of the session of the environment's credentials, as `aws configure export-credentials` writes it: the SDK does not
/// read it.
fn session_end(environment: &Environment) -> Option<SessionEnd> {
    Some(SessionEnd {
        session_token: environment.get("AWS_SESSION_TOKEN")?.trim().to_owned(),
        at: environment.get("AWS_CREDENTIAL_EXPIRATION")?.parse().ok()?,
    })
}

/// The common settings of S3, SQS and STS clients.
#[derive(Debug, Clone)]
struct Base {
    region: Option<String>,
    profile: Option<String>,
    /// Whether the requests go to a server outside AWS.
    other_server: bool,
    environment: Environment,
    /// The connections of all clients that are made from these settings: each session of a job has a client for STS.
    http: SharedHttpClient,
}

impl Base {
    async fn load(&self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            // The SDK treats an empty variable as a value, and panics on an empty endpoint.
            .env(self.environment.for_sdk())
            // The edges of credentials and queues are judged by the content of answers, not by whether there is one: see their
            // edges.
            .http_client(self.http.clone())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .retry_config(retries());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        let sdk = filled::filled(loader.load().await);
        let region = sdk.region().map(|region| region.as_ref().trim().to_owned());
        let region = region.filter(|region| !region.is_empty());
        let other_server = self.other_server || s3_endpoint(&sdk).is_some();
        // Other servers accept any region, and their users seldom configure one.
        let region = region.or_else(|| other_server.then(|| EMBEDDED_REGION.to_owned()));
        let sdk = sdk.into_builder().region(region.map(Region::new));
        sdk.build()
    }
}
