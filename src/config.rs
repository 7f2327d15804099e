//! The configuration: one file and the environment, read once and validated.
//!
//! `config.toml` at the top of the project is the annotated default, and a test compares it with [`Config::default`]. An unknown
//! key is an error, because a misspelt limit would have no effect.

mod access;
mod audit;
mod brand;
pub mod colour;
mod deadlines;
pub(crate) mod distribution;
mod encryption;
mod feedback;
mod helo;
mod intake;
mod letter;
mod list;
pub(crate) mod load;
mod mailing_list;
mod named_connection;
pub(crate) mod overrides;
mod paths;
mod portal;
pub mod queue_address;
mod relay;
mod results;
mod revoke;
mod rules;
mod schedule;
mod shown;
pub mod traces;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use directory::Location;
use presign::cloudfront::HashAlgorithm;
use serde::{Deserialize, Serialize};

pub use access::AccessConfig;
pub use audit::AuditArchivePlace;
pub use brand::BrandConfig;
pub use deadlines::Deadlines;
pub use encryption::Encryption;
pub use feedback::FeedbackConfig;
pub(crate) use helo::helo_name;
pub use list::RecipientListConfig;
pub use load::Secret;
pub use mailing_list::{MailingList, UnsubscribeUrl, UnsubscribeUrlError};
pub use revoke::{RevokeConfig, RevokeMeans};
pub use schedule::ScheduleConfig;
pub use shown::{ShownConfig, ShownValue};

pub use intake::IntakeConfig;
pub use portal::{AddressDetail, OidcIssuerConfig, PortalConfig, PortalDelivery, parse_network};
pub(crate) use relay::LoginSource;

pub use crate::job::OnDoubt;
pub use crate::plan::lists::OnBadRow;

pub use crate::config_error::ConfigError;

use crate::environment::SYSTEM_STATE;
use crate::job::{ContentDisposition, Recipient, RelayName, SignIn, Via};
use crate::plan::policy::DefaultName;
use crate::plan::{ExpiryGuard, OnUnlinkable};
use crate::quantity::{Rate, Size, Span};
use crate::text::charset::TextCharset;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory of this machine's queue, ledger, audit log and secret. A file without it uses the user's state directory.
    pub state_dir: PathBuf,
    /// The secret behind link ids and fingerprints; `<state_dir>/secret.key` by default.
    pub secret_key_file: Option<PathBuf>,
    /// The queue of jobs.
    pub queue: QueueConfig,
    /// The named connections: their credentials and servers.
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// The S3 endpoint of this process, for connections with a directory.
    pub embedded: EmbeddedConfig,
    /// The defaults of links for jobs that do not set them.
    pub links: LinksConfig,
    /// How mails are sent.
    pub mail: MailConfig,
    /// What mails and pages show of the sender.
    pub brand: BrandConfig,
    /// Where the ledger is kept.
    pub ledger: LedgerConfig,
    /// The audit log.
    pub audit: AuditConfig,
    /// Reports from access logs.
    pub access: AccessConfig,
    /// What `handout revoke` may do by itself.
    pub revoke: RevokeConfig,
    /// Where results of jobs are sent.
    pub results: ResultsConfig,
    /// Bounces and complaints.
    pub feedback: FeedbackConfig,
    /// The pages.
    pub gallery: GalleryConfig,
    /// The directories of pages and manifests.
    pub publish: PublishConfig,
    /// Templates of the operator's own.
    pub templates: TemplatesConfig,
    /// Metrics and health.
    pub http: HttpConfig,
    /// Spans of jobs.
    pub traces: TracesConfig,
    /// Jobs and events by HTTP.
    pub intake: IntakeConfig,
    /// The portal.
    pub portal: PortalConfig,
    /// The rules that permit jobs.
    pub allow: Vec<AllowConfig>,
    /// The rules that turn events into jobs.
    pub on_event: Vec<OnEventConfig>,
    /// The schedules.
    pub schedule: Vec<ScheduleConfig>,
    /// The lists of recipients.
    pub list: Vec<RecipientListConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from(SYSTEM_STATE),
            secret_key_file: None,
            queue: QueueConfig::default(),
            connections: BTreeMap::from([(
                "local".to_owned(),
                ConnectionConfig::local("/srv/handout"),
            )]),
            embedded: EmbeddedConfig::default(),
            links: LinksConfig::default(),
            mail: MailConfig::default(),
            brand: BrandConfig::default(),
            ledger: LedgerConfig::default(),
            audit: AuditConfig::default(),
            access: AccessConfig::default(),
            revoke: RevokeConfig::default(),
            results: ResultsConfig::default(),
            feedback: FeedbackConfig::default(),
            gallery: GalleryConfig::default(),
            publish: PublishConfig::default(),
            templates: TemplatesConfig::default(),
            http: HttpConfig::default(),
            traces: TracesConfig::default(),
            intake: IntakeConfig::default(),
            portal: PortalConfig::default(),
            allow: Vec::new(),
            on_event: Vec::new(),
            schedule: Vec::new(),
            list: Vec::new(),
        }
    }
}

/// The queue of jobs.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// The type of the queue.
    pub kind: QueueKind,
    /// The queue's URL, for SQS.
    pub url: Option<String>,
    /// The queue for parked messages, for SQS.
    pub parked_url: Option<String>,
    /// The buckets with the bodies of messages that are too long for the queue, as the extended client of SQS puts them.
    pub payload_buckets: Vec<String>,
    /// The connection that reads them; the only connection if absent.
    pub payload_connection: Option<String>,
    /// The queue's region, for SQS, if it differs from the one in the URL.
    pub region: Option<String>,
    /// The server of the queue, if it differs from the one in the URL.
    pub endpoint_url: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A file with CA certificates that are trusted besides the system's, for SQS.
    pub ca_file: Option<PathBuf>,
    /// How many jobs run at once.
    pub max_in_flight: usize,
    /// How long a received message is hidden from other workers; extended while the job runs.
    pub visibility_timeout: Span,
    /// How long running jobs may continue after SIGTERM.
    pub grace_period: Span,
    /// The number of receives after which a failing job is parked.
    pub max_receives: u32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            kind: QueueKind::Sqlite,
            url: None,
            parked_url: None,
            payload_buckets: Vec::new(),
            payload_connection: None,
            region: None,
            endpoint_url: None,
            profile: None,
            ca_file: None,
            max_in_flight: 8,
            visibility_timeout: Span::minutes(5),
            grace_period: Span::seconds(60),
            max_receives: 20,
        }
    }
}

/// `[results]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResultsConfig {
    /// The URL of an SQS queue for results.
    pub queue_url: Option<String>,
    /// That queue's region, if it differs from the one in the URL.
    pub region: Option<String>,
    /// The server of the queue, if it differs from the one in the URL.
    pub endpoint_url: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A file with CA certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A file for results, one per line.
    pub file: Option<PathBuf>,
    /// The URL to which each result is posted.
    pub url: Option<String>,
    /// The file with the secret that signs what is posted.
    pub secret_file: Option<PathBuf>,
}

/// The type of the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// A file of this machine.
    #[default]
    Sqlite,
    /// Amazon SQS.
    Sqs,
}

/// A connection: credentials and server.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionConfig {
    /// A directory that the embedded endpoint serves, with a folder for each bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// The region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another S3-compatible server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// A file with CA certificates that are trusted besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether URLs have the bucket in the path instead of the host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// The server that links name, if recipients reach the store by another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_endpoint_url: Option<String>,
    /// Whether links have the bucket in the path instead of the host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_path_style: Option<bool>,
    /// A profile of the AWS configuration files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role to assume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<String>,
    /// The duration of its sessions, instead of STS's default of an hour; links end with their session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role_duration: Option<Span>,
    /// Whose sessions links are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role_session: Option<RoleSession>,
    /// Another STS-compatible server, for the role and for a web identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_endpoint_url: Option<String>,
    /// A fixed access key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The file with its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key_file: Option<PathBuf>,
    /// The file with its session token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token_file: Option<PathBuf>,
    /// Whether we pay for requests to a Requester Pays bucket, and for downloads by its links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_payer: Option<bool>,
    /// Whether links have the parameters that S3 ignores: `x-id`, and `x-handout` with the link id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_parameters: Option<bool>,
    /// The encryption of uploaded objects, instead of the bucket's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<Encryption>,
    /// The KMS key for it, instead of the account's own key for S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse_kms_key_id: Option<String>,
    /// A distribution in front of its bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudfront: Option<CloudFrontConfig>,
}

/// The sessions of a role that a connection assumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleSession {
    /// All jobs share a session.
    #[default]
    Shared,
    /// Each job has a session of its own, so that a policy can revoke the links of one job.
    Job,
}

impl ConnectionConfig {
    /// A connection to a directory of this machine.
    pub fn local(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: Some(directory.into()),
            ..Self::default()
        }
    }
}

/// A CloudFront distribution in front of a connection's bucket, for jobs with `links.via = "cloudfront"`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CloudFrontConfig {
    /// The distribution's domain name, or an alternate domain name for it.
    pub domain: String,
    /// The id of the public key in CloudFront.
    pub key_pair_id: String,
    /// The file with the private key.
    pub private_key_file: PathBuf,
    /// The hash algorithm of the signature.
    #[serde(default)]
    pub hash: HashAlgorithm,
    /// Whether one signature covers a job's whole prefix.
    #[serde(default)]
    pub wildcard: bool,
    /// Whether links override a file's name and type.
    #[serde(default = "CloudFrontConfig::default_response_overrides")]
    pub response_overrides: bool,
    /// The bucket behind it.
    #[serde(default)]
    pub bucket: Option<String>,
    /// The folder of the bucket that is the distribution's root.
    #[serde(default)]
    pub origin_path: Option<String>,
    /// The ARN of the key value store with the ids of revoked links.
    #[serde(default)]
    pub key_value_store: Option<String>,
}

impl CloudFrontConfig {
    const fn default_response_overrides() -> bool {
        true
    }
}

/// The S3 endpoint of this process.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(from = "EmbeddedTable")]
pub struct EmbeddedConfig {
    /// The listening address.
    pub listen: SocketAddr,
    /// The URL that links contain; the address of a TLS proxy if others use them. Where the configuration has none, it is that of
    /// the listening address.
    pub public_url: String,
    /// The directory of an access log in the format of S3, for reports of downloads.
    pub access_log: Option<PathBuf>,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        EmbeddedTable::default().into()
    }
}

/// `[embedded]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EmbeddedTable {
    listen: SocketAddr,
    public_url: Option<String>,
    access_log: Option<PathBuf>,
}

impl Default for EmbeddedTable {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9470)),
            public_url: None,
            access_log: None,
        }
    }
}

impl From<EmbeddedTable> for EmbeddedConfig {
    fn from(table: EmbeddedTable) -> Self {
        let EmbeddedTable {
            listen, public_url, ..
        } = table;
        let here = || {
            // A client cannot connect to "every address", but to this machine. The port of a test that takes any is not known.
            let ip = match (listen.ip(), listen.port()) {
                (_, 0) => return "http://127.0.0.1:9470".to_owned(),
                (IpAddr::V4(ip), _) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                (IpAddr::V6(ip), _) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                (ip, _) => ip,
            };
            format!("http://{}", SocketAddr::new(ip, listen.port()))
        };
        Self {
            listen,
            public_url: public_url.unwrap_or_else(here),
            access_log: table.access_log,
        }
    }
}

/// The defaults of links for jobs that do not set them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinksConfig {
    /// How long a link works.
    pub expires_in: Span,
    /// What to do when the credentials cannot support that lifetime.
    pub expiry_guard: ExpiryGuard,
    /// Whether a browser displays or saves the file.
    pub disposition: ContentDisposition,
    /// The name under which files are saved, if it is the stored one; jobs can give others.
    pub filename: Option<DefaultName>,
    /// The charset of texts that are shown and whose own is not known.
    pub text_charset: TextCharset,
    /// Whether each recipient gets links of their own.
    pub per_recipient: bool,
    /// What to do about objects that cannot be linked.
    pub on_unlinkable: OnUnlinkable,
    /// Whether a link opens the version that existed when it was made; requires a bucket with versioning.
    pub pin_version: bool,
    /// Whether a HEAD request checks each object before it is linked: some problems do not show in a listing.
    pub preflight: bool,
    /// How many links may be signed, for each connection.
    pub rate: Rate,
    /// How many requests to S3 are sent, for each connection.
    pub requests: Rate,
}

impl Default for LinksConfig {
    fn default() -> Self {
        Self {
            expires_in: Span::hours(24),
            expiry_guard: ExpiryGuard::Refuse,
            disposition: ContentDisposition::Attachment,
            filename: None,
            text_charset: TextCharset::default(),
            per_recipient: true,
            on_unlinkable: OnUnlinkable::Skip,
            pin_version: false,
            preflight: false,
            rate: Rate::per_second(5000),
            requests: Rate::per_second(500),
        }
    }
}

/// How mails are sent.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailConfig {
    /// The transport.
    pub transport: Transport,
    /// The sender.
    pub from: String,
    /// The address in whose local part mails name their recipient as their envelope sender.
    pub bounce_address: Option<String>,
    /// The language of recipients without a locale.
    pub locale: String,
    /// The time zone of the instants in mails and pages.
    pub time_zone: String,
    /// How many mails of one job are sent concurrently.
    pub at_once: usize,
    /// The directory of the outbox; `<state_dir>/outbox` by default.
    pub outbox_dir: Option<PathBuf>,
    /// The rate of mails for one job.
    pub job_rate: Option<Rate>,
    /// The rate of mails to one domain.
    pub domain_rate: Option<Rate>,
    /// The address that is notified of rejected mails.
    pub notify: Option<String>,
    /// The rate of these notices.
    pub notify_rate: Rate,
    /// The relay of jobs that name none.
    pub smtp: SmtpConfig,
    /// The rates of mails to individual domains.
    pub domain_rates: BTreeMap<String, Rate>,
    /// More relays, by name.
    pub relays: BTreeMap<String, SmtpConfig>,
    /// The mailing list of the mails.
    pub list: ListConfig,
    /// The DKIM keys.
    pub dkim: Vec<DkimConfig>,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            transport: Transport::Outbox,
            from: "Handout <handout@localhost.localdomain>".to_owned(),
            bounce_address: None,
            locale: "en".to_owned(),
            time_zone: "UTC".to_owned(),
            at_once: 4,
            outbox_dir: None,
            job_rate: None,
            domain_rate: None,
            notify: None,
            notify_rate: Rate::per_hour(10),
            smtp: SmtpConfig::default(),
            list: ListConfig::default(),
            dkim: Vec::new(),
            domain_rates: BTreeMap::new(),
            relays: BTreeMap::new(),
        }
    }
}

impl MailConfig {
    /// Every relay with its name.
    pub fn relays_by_name(&self) -> Result<BTreeMap<RelayName, &SmtpConfig>, ConfigError> {
        let mut relays = BTreeMap::from([(RelayName::default(), &self.smtp)]);
        for (name, relay) in &self.relays {
            let key = format!("mail.relays.{name}");
            let name: RelayName = name
                .parse()
                .map_err(|error| ConfigError::value(&key, error))?;
            if relays.insert(name, relay).is_some() {
                let reason = "has the name of [mail.smtp]: choose another";
                return Err(ConfigError::value(key, reason));
            }
        }
        Ok(relays)
    }

    /// The configuration section of a relay.
    pub fn section_of(name: &RelayName) -> String {
        match *name == RelayName::default() {
            true => "mail.smtp".to_owned(),
            false => format!("mail.relays.{name}"),
        }
    }
}

/// The mailing list of the mails, for mail programs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListConfig {
    /// Its id, with or without a name: `Daily reports <daily.sender.example>`.
    pub id: Option<String>,
    /// The address for unsubscribe mails.
    pub unsubscribe_mailto: Option<String>,
    /// The URL for unsubscribe requests (POST).
    pub unsubscribe_url: Option<String>,
}

/// A key that signs mails (DKIM).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DkimConfig {
    /// Its domain; the sender's by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The selector under which verifiers find the public key.
    pub selector: String,
    /// The file with the private key.
    pub key_file: PathBuf,
}

/// How mails are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Writes mails into a directory, for inspection.
    #[default]
    Outbox,
    /// Through a relay.
    Smtp,
}

/// A relay.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpConfig {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The transport security.
    pub tls: Tls,
    /// The user name.
    pub username: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// The file with an OAuth 2.0 access token, in place of a password.
    pub token_file: Option<PathBuf>,
    /// A program that prints such a token.
    pub token_cmd: Option<PathBuf>,
    /// A CA certificate that is trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The host name in EHLO.
    pub hello: Option<String>,
    /// The address in MAIL FROM, to which bounces go; that of `mail.from` by default.
    pub envelope_from: Option<String>,
    /// The rate of mails to the relay.
    pub rate: Rate,
    /// The maximum number of connections to the relay.
    pub connections: usize,
    /// Headers that each mail gets on its way through the relay, by name.
    pub headers: BTreeMap<String, String>,
    /// The timeouts of each step of the dialogue.
    pub deadlines: Deadlines,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 587,
            tls: Tls::Starttls,
            username: None,
            password_file: None,
            token_file: None,
            token_cmd: None,
            ca_file: None,
            hello: None,
            envelope_from: None,
            rate: Rate::per_second(14),
            connections: 4,
            headers: BTreeMap::new(),
            deadlines: Deadlines::default(),
        }
    }
}

/// The transport security of a connection to the relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// STARTTLS, required: no mail is sent to a relay that does not offer it.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// No TLS; only on this machine.
    None,
}

/// Where the ledger is kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// The type of the ledger.
    pub kind: LedgerKind,
    /// The connection to its bucket, for S3.
    pub connection: Option<String>,
    /// Its bucket, for S3.
    pub bucket: Option<String>,
    /// The prefix of its keys, for S3.
    pub prefix: String,
    /// What to do about a delivery in doubt.
    pub on_doubt: OnDoubt,
    /// A program that is asked first, and answers `sent`, `resend` or `hold`.
    pub resolve_cmd: Option<PathBuf>,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            kind: LedgerKind::Sqlite,
            connection: None,
            bucket: None,
            prefix: "ledger/".to_owned(),
            on_doubt: OnDoubt::Resend,
            resolve_cmd: None,
        }
    }
}

/// The type of the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerKind {
    /// The file of this machine.
    #[default]
    Sqlite,
    /// Objects in a bucket, for several workers.
    S3,
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Its directory; `<state_dir>/audit` by default.
    pub dir: Option<PathBuf>,
    /// How the log names recipients.
    pub recipients: RecipientNames,
    /// The file with the Ed25519 key that signs checkpoints; by default a key derived from the secret.
    pub checkpoint_key_file: Option<PathBuf>,
    /// The size at which a new segment is started; each day also starts one.
    pub rotate_size: Size,
    /// The free space that the log's disk must have for messages to be received.
    pub min_free: Size,
    /// How long lines are kept; for ever by default.
    pub keep: Option<Span>,
    /// Whether sealed segments are compressed, also if they are neither archived nor removed.
    pub compress: bool,
    /// Where sealed segments are put: `s3://bucket/prefix`.
    pub archive: Option<String>,
    /// The connection that puts them there; the only connection if absent.
    pub archive_connection: Option<String>,
    /// How long the archive locks each object.
    pub archive_lock: Option<Span>,
    /// Who may shorten that.
    pub archive_lock_mode: ArchiveLockMode,
}

/// Who may shorten the lock of an object in the archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveLockMode {
    /// Credentials with the permission to bypass it.
    #[default]
    Governance,
    /// The lock cannot be shortened.
    Compliance,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            dir: None,
            recipients: RecipientNames::default(),
            checkpoint_key_file: None,
            rotate_size: Size::mebibytes(64),
            min_free: Size::mebibytes(100),
            keep: None,
            compress: false,
            archive: None,
            archive_connection: None,
            archive_lock: None,
            archive_lock_mode: ArchiveLockMode::default(),
        }
    }
}

/// How the audit log names recipients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientNames {
    /// By a keyed hash.
    #[default]
    Hashed,
    /// By their address as well.
    Clear,
}

/// The pages.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GalleryConfig {
    /// Links on one page.
    pub page_size: usize,
    /// Whether the headers of pictures are read, so that pages know their sizes.
    pub picture_sizes: bool,
    /// The maximum number of pictures of a job whose headers are read.
    pub picture_limit: u64,
    /// How many of them are read at once.
    pub pictures_at_once: usize,
    /// Whether pages show renditions of pictures: copies of about 640 and 2,048 pixels, made of the whole picture.
    pub renditions: bool,
    /// The maximum number of pictures of a job that get renditions.
    pub rendition_limit: u64,
    /// How many pictures are decoded at once, for all jobs together: each takes a thread.
    pub rendition_threads: usize,
    /// Where a page is published if a mail has no room for all files and the job's rule names no bucket in `publish`:
    /// `s3://bucket/prefix`.
    pub default_publish: Option<String>,
}

impl Default for GalleryConfig {
    fn default() -> Self {
        Self {
            page_size: 1000,
            picture_sizes: true,
            picture_limit: 5000,
            pictures_at_once: 8,
            renditions: false,
            rendition_limit: 2000,
            rendition_threads: 1,
            default_publish: None,
        }
    }
}

/// What serves the directories in which pages and manifests are published.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishConfig {
    /// The URL of each directory that a web server serves, so that mails can link what is published in or below it.
    pub base_urls: BTreeMap<String, String>,
}

/// Templates of the operator's own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TemplatesConfig {
    /// A directory like `templates/`, whose files replace or add to the built-in ones.
    pub dir: Option<PathBuf>,
}

/// Metrics and health.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// The address of `/metrics`, `/live` and `/ready`.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
        }
    }
}

/// Where the spans of jobs are sent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesConfig {
    /// The URL to which spans are posted, as OTLP.
    pub url: Option<String>,
    /// A file with CA certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// One `[[allow]]` rule, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AllowConfig {
    /// The connection that signs.
    pub connection: String,
    /// The bucket.
    pub bucket: String,
    /// The prefix.
    #[serde(default)]
    pub prefix: String,
    /// The permitted recipients: `*@acme.example`.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// The lists of recipients that jobs may use.
    #[serde(default)]
    pub lists: Vec<String>,
    /// The permitted reply addresses besides the recipients and the sender's own domain.
    #[serde(default)]
    pub reply_to: Vec<String>,
    /// The permitted relays; a job that names none uses the first.
    #[serde(default = "AllowConfig::default_relays")]
    pub relays: Vec<String>,
    /// Where pages and manifests may be published: `s3://bucket/prefix` or `dir:/path`.
    #[serde(default)]
    pub publish: Vec<String>,
    /// Which services may answer the links.
    #[serde(default = "AllowConfig::default_via")]
    pub via: Vec<Via>,
    /// How visitors of the portal sign in at least.
    #[serde(default)]
    pub sign_in: SignIn,
    /// The maximum lifetime of a link.
    #[serde(default = "AllowConfig::default_max_expires_in")]
    pub max_expires_in: Span,
    /// The maximum number of links of one job.
    #[serde(default = "AllowConfig::default_max_links")]
    pub max_links: u64,
}

impl AllowConfig {
    /// The relay of `[mail.smtp]` only.
    pub fn default_relays() -> Vec<String> {
        vec![RelayName::default().to_string()]
    }

    /// All services.
    pub fn default_via() -> Vec<Via> {
        vec![Via::S3, Via::Cloudfront, Via::Portal]
    }

    const fn default_max_expires_in() -> Span {
        Span::days(7)
    }

    const fn default_max_links() -> u64 {
        100_000
    }
}

/// One `[[on_event]]` rule, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OnEventConfig {
    /// The bucket that the event must name.
    pub bucket: String,
    /// The pattern that the object's key must match.
    #[serde(default = "OnEventConfig::default_key")]
    pub key: String,
    /// The event types that match.
    #[serde(default = "OnEventConfig::default_events")]
    pub events: Vec<String>,
    /// The job's file, with the placeholders `{{event.bucket}}`, `{{event.key}}` and `{{event.time}}` in its texts.
    #[serde(alias = "job")]
    pub job_file: PathBuf,
}

impl OnEventConfig {
    fn default_events() -> Vec<String> {
        vec!["ObjectCreated:*".to_owned()]
    }

    fn default_key() -> String {
        "**".to_owned()
    }
}

impl Config {
    /// The sender.
    pub fn sender(&self) -> Result<Recipient, ConfigError> {
        Recipient::parse(&self.mail.from).map_err(|error| ConfigError::value("mail.from", error))
    }

    /// The address that is notified of rejected mails.
    pub fn notify(&self) -> Result<Option<Recipient>, ConfigError> {
        let notify = self.mail.notify.as_deref().map(Recipient::parse);
        let notify = notify.transpose();
        notify.map_err(|error| ConfigError::value("mail.notify", error))
    }

    /// The audit log's directory.
    pub fn audit_dir(&self) -> PathBuf {
        self.audit_place().to_path_buf()
    }

    /// The audit log's directory, and the symbolic links through which it may be entered.
    pub fn audit_place(&self) -> Location {
        self.own_place(self.audit.dir.as_deref(), "audit")
    }

    /// The outbox's directory.
    pub fn outbox_dir(&self) -> PathBuf {
        self.outbox_place().to_path_buf()
    }

    /// The outbox's directory, and the symbolic links through which it may be entered.
    pub fn outbox_place(&self) -> Location {
        self.own_place(self.mail.outbox_dir.as_deref(), "outbox")
    }

    fn own_place(&self, named: Option<&Path>, folder: &str) -> Location {
        named.map_or_else(|| Location::below(&self.state_dir, folder), Location::from)
    }

    /// The secret's file.
    pub fn secret_key_file(&self) -> PathBuf {
        self.secret_key_file
            .clone()
            .unwrap_or_else(|| self.state_dir.join("secret.key"))
    }

    /// The file of queue and ledger.
    pub fn database_file(&self) -> PathBuf {
        self.state_dir.join("handout.sqlite")
    }

    /// Whether this process serves any connection.
    pub fn needs_embedded(&self) -> bool {
        self.connections
            .values()
            .any(|connection| connection.directory.is_some())
    }
}
