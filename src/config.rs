//! The configuration: one file and the environment, read once into values that are right or refused.
//!
//! `config.toml` at the top of the project is the annotated default, and a test holds it against
//! [`Config::default`]. A key that nobody knows is an error: a misspelt guard would guard nothing.

mod audit;
mod deadlines;
mod encryption;
pub(crate) mod front;
mod helo;
mod letter;
pub(crate) mod load;
mod mailing_list;
pub(crate) mod overrides;
mod paths;
pub mod queue_address;
mod rules;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use directory::Location;
use presign::cloudfront::HashAlgorithm;
use serde::{Deserialize, Serialize};

pub use deadlines::Deadlines;
pub use encryption::Encryption;
pub(crate) use helo::helo_name;
pub use load::Secret;
pub use mailing_list::{MailingList, UnsubscribeUrl, UnsubscribeUrlError};

pub use crate::job::OnDoubt;

pub use crate::config_error::ConfigError;

use crate::environment::SYSTEM_STATE;
use crate::job::{ContentDisposition, Recipient, RelayName};
use crate::plan::{ExpiryGuard, OnUnlinkable};
use crate::quantity::{Rate, Size, Span};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where queue, ledger, audit log and secret of this machine live; a file that is loaded without it gets the user's.
    pub state_dir: PathBuf,
    /// The secret behind link ids and fingerprints; `<state_dir>/secret.key` when left out.
    pub secret_key_file: Option<PathBuf>,
    /// Where jobs come from.
    pub queue: QueueConfig,
    /// Who signs, and where, by name.
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// The S3 endpoint of this process, for connections with a directory.
    pub embedded: EmbeddedConfig,
    /// How links are made where a job does not say it.
    pub links: LinksConfig,
    /// How mails leave.
    pub mail: MailConfig,
    /// Where "was this done already?" is kept.
    pub ledger: LedgerConfig,
    /// The audit log.
    pub audit: AuditConfig,
    /// To whom the ends of jobs are told.
    pub results: ResultsConfig,
    /// The pages.
    pub gallery: GalleryConfig,
    /// Templates of the operator's own.
    pub templates: TemplatesConfig,
    /// Metrics and health.
    pub http: HttpConfig,
    /// What jobs may ask.
    pub allow: Vec<AllowConfig>,
    /// Which events become jobs.
    pub on_event: Vec<OnEventConfig>,
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
            ledger: LedgerConfig::default(),
            audit: AuditConfig::default(),
            results: ResultsConfig::default(),
            gallery: GalleryConfig::default(),
            templates: TemplatesConfig::default(),
            http: HttpConfig::default(),
            allow: Vec::new(),
            on_event: Vec::new(),
        }
    }
}

/// Where jobs come from.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Which kind of queue.
    pub kind: QueueKind,
    /// The queue's URL, for SQS.
    pub url: Option<String>,
    /// Where messages go that nobody can work, for SQS.
    pub parked_url: Option<String>,
    /// The queue's region, for SQS, where it is not the one that the URL names.
    pub region: Option<String>,
    /// The server to ask, where it is not the one that the URL names.
    pub endpoint_url: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A file with authorities whose certificates are trusted besides the system's, for SQS.
    pub ca_file: Option<PathBuf>,
    /// How many jobs are worked at once.
    pub max_in_flight: usize,
    /// How long a received message is hidden from others; extended while the job is worked.
    pub visibility_timeout: Span,
    /// How long jobs may go on after a signal to stop.
    pub grace_period: Span,
    /// After how many receipts a job that still fails is parked.
    pub max_receives: u32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            kind: QueueKind::Sqlite,
            url: None,
            parked_url: None,
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
    /// The URL of an SQS queue for them.
    pub queue_url: Option<String>,
    /// That queue's region, where it is not the one that the URL names.
    pub region: Option<String>,
    /// The server to ask, where it is not the one that the URL names.
    pub endpoint_url: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A file with authorities whose certificates are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A file for them, a line each.
    pub file: Option<PathBuf>,
}

/// Which kind of queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// A file of this machine.
    #[default]
    Sqlite,
    /// Amazon SQS.
    Sqs,
}

/// Who signs, and where.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionConfig {
    /// A directory that the embedded endpoint serves, one folder a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// The region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another server that speaks S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// A file with authorities whose certificates are trusted besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether the bucket stands in the path instead of the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// The server that links name, where recipients reach the store by another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_endpoint_url: Option<String>,
    /// Whether the bucket stands in the path of links to it, instead of the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_path_style: Option<bool>,
    /// A profile of the AWS configuration files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role to take on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<String>,
    /// How long its sessions last, instead of STS's hour; links end with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role_duration: Option<Span>,
    /// Another server that speaks STS, for the role and for a web identity.
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
    /// How the store encrypts what is put there, instead of as its bucket says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<Encryption>,
    /// With which key of KMS, instead of the account's own for S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse_kms_key_id: Option<String>,
    /// A distribution in front of its bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudfront: Option<CloudFrontConfig>,
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
    /// The distribution's name, or one of ours that points to it.
    pub domain: String,
    /// Under which id CloudFront knows the public key.
    pub key_pair_id: String,
    /// The file with the private key.
    pub private_key_file: PathBuf,
    /// The digest below the signature.
    #[serde(default)]
    pub hash: HashAlgorithm,
    /// Whether one signature serves a job's whole prefix.
    #[serde(default)]
    pub wildcard: bool,
    /// Whether links ask for a file's name and type.
    #[serde(default = "CloudFrontConfig::default_response_overrides")]
    pub response_overrides: bool,
    /// The bucket behind it.
    #[serde(default)]
    pub bucket: Option<String>,
    /// The folder of the bucket that is the distribution's root.
    #[serde(default)]
    pub origin_path: Option<String>,
}

impl CloudFrontConfig {
    const fn default_response_overrides() -> bool {
        true
    }
}

/// The S3 endpoint of this process.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What links say; a TLS proxy's address when others are to use them.
    pub public_url: String,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9470)),
            public_url: "http://127.0.0.1:9470".to_owned(),
        }
    }
}

/// How links are made where a job does not say it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinksConfig {
    /// How long a link works.
    pub expires_in: Span,
    /// What to do when it cannot work so long.
    pub expiry_guard: ExpiryGuard,
    /// What a browser does with it.
    pub disposition: ContentDisposition,
    /// Whether each recipient gets links of their own.
    pub per_recipient: bool,
    /// What to do about objects that cannot be linked.
    pub on_unlinkable: OnUnlinkable,
    /// Whether a link gives what was there when it was made, whatever is uploaded later; needs a bucket with versions.
    pub pin_version: bool,
    /// Whether each listed object is looked at before it is linked: finds what a listing does not tell.
    pub preflight: bool,
    /// How many links may be signed, for each connection.
    pub rate: Rate,
    /// How many requests may be made to S3, for each connection.
    pub requests: Rate,
}

impl Default for LinksConfig {
    fn default() -> Self {
        Self {
            expires_in: Span::hours(24),
            expiry_guard: ExpiryGuard::Refuse,
            disposition: ContentDisposition::Attachment,
            per_recipient: true,
            on_unlinkable: OnUnlinkable::Skip,
            pin_version: false,
            preflight: false,
            rate: Rate::per_second(5000),
            requests: Rate::per_second(500),
        }
    }
}

/// How mails leave.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailConfig {
    /// Which way.
    pub transport: Transport,
    /// The sender.
    pub from: String,
    /// The language where a recipient has none.
    pub locale: String,
    /// The time zone in which mails and pages say when links end.
    pub time_zone: String,
    /// How many mails of one job are under way at once.
    pub at_once: usize,
    /// The directory of the outbox; `<state_dir>/outbox` when left out.
    pub outbox_dir: Option<PathBuf>,
    /// How many mails of one job are sent.
    pub job_rate: Option<Rate>,
    /// How many mails are sent to one domain.
    pub domain_rate: Option<Rate>,
    /// Who is told when mails of a job were refused.
    pub notify: Option<String>,
    /// How many such notices are sent.
    pub notify_rate: Rate,
    /// The relay of jobs that name none.
    pub smtp: SmtpConfig,
    /// How many mails are sent to these domains.
    pub domain_rates: BTreeMap<String, Rate>,
    /// More relays, by name.
    pub relays: BTreeMap<String, SmtpConfig>,
    /// The list that mails belong to.
    pub list: ListConfig,
    /// What signs them.
    pub dkim: Vec<DkimConfig>,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            transport: Transport::Outbox,
            from: "Handout <handout@localhost.localdomain>".to_owned(),
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

    /// The section in which a relay is described.
    pub fn section_of(name: &RelayName) -> String {
        match *name == RelayName::default() {
            true => "mail.smtp".to_owned(),
            false => format!("mail.relays.{name}"),
        }
    }
}

/// The list that mails belong to, for mail programs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListConfig {
    /// Its id, with or without a name: `Daily reports <daily.sender.example>`.
    pub id: Option<String>,
    /// Who takes mails that ask to leave it.
    pub unsubscribe_mailto: Option<String>,
    /// What takes POST requests that ask to leave it.
    pub unsubscribe_url: Option<String>,
}

/// A key that signs mails (DKIM).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DkimConfig {
    /// For which domain; the sender's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Under which name verifiers find the public key.
    pub selector: String,
    /// The file with the private key.
    pub key_file: PathBuf,
}

/// Which way mails leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Into a directory, to be looked at.
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
    /// How the connection is secured.
    pub tls: Tls,
    /// Who logs in.
    pub username: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// A certificate authority that is trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What it is told in EHLO.
    pub hello: Option<String>,
    /// How many mails it is given.
    pub rate: Rate,
    /// How many connections it is given at once.
    pub connections: usize,
    /// How long each step of the dialogue may take.
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
            ca_file: None,
            hello: None,
            rate: Rate::per_second(14),
            connections: 4,
            deadlines: Deadlines::default(),
        }
    }
}

/// How a connection to the relay is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// STARTTLS, required: a relay that does not offer it gets no mail.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// None; only on this machine.
    None,
}

/// Where "was this done already?" is kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// Which kind of ledger.
    pub kind: LedgerKind,
    /// The connection to its bucket, for S3.
    pub connection: Option<String>,
    /// Its bucket, for S3.
    pub bucket: Option<String>,
    /// What its keys begin with, for S3.
    pub prefix: String,
    /// What to do when nobody knows whether a mail left.
    pub on_doubt: OnDoubt,
    /// A program that is asked before, and answers `sent`, `resend` or `hold`.
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

/// Which kind of ledger.
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
    /// Its directory; `<state_dir>/audit` when left out.
    pub dir: Option<PathBuf>,
    /// How recipients are named.
    pub recipients: RecipientNames,
    /// The file with the Ed25519 key that signs checkpoints; one derived from the secret when left out.
    pub checkpoint_key_file: Option<PathBuf>,
    /// From which size on a segment is followed by a new one; each day begins a new one anyway.
    pub rotate_size: Size,
    /// How much room the log's disk must have for messages to be received.
    pub min_free: Size,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            dir: None,
            recipients: RecipientNames::default(),
            checkpoint_key_file: None,
            rotate_size: Size::mebibytes(64),
            min_free: Size::mebibytes(100),
        }
    }
}

/// How recipients are named in the audit log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientNames {
    /// By a keyed hash.
    #[default]
    Hashed,
    /// By their address besides.
    Clear,
}

/// The pages.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GalleryConfig {
    /// Links on one page.
    pub page_size: usize,
    /// Whether the beginnings of pictures are read, so that pages know their sizes.
    pub picture_sizes: bool,
    /// How many pictures of a job are looked at, at the most.
    pub picture_limit: u64,
    /// How many of them at once.
    pub pictures_at_once: usize,
    /// Where a page goes that is published because a mail has no room for all files, if the job's rule names no bucket in
    /// `publish`: `s3://bucket/prefix`.
    pub default_publish: Option<String>,
}

impl Default for GalleryConfig {
    fn default() -> Self {
        Self {
            page_size: 1000,
            picture_sizes: true,
            picture_limit: 5000,
            pictures_at_once: 8,
            default_publish: None,
        }
    }
}

/// Templates of the operator's own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TemplatesConfig {
    /// A directory like `templates/`; what is in it replaces or adds to the shipped ones.
    pub dir: Option<PathBuf>,
}

/// Metrics and health.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where `/metrics`, `/live` and `/ready` are answered.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
        }
    }
}

/// One `[[allow]]` rule, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AllowConfig {
    /// Who signs.
    pub connection: String,
    /// From which bucket.
    pub bucket: String,
    /// Under which prefix.
    #[serde(default)]
    pub prefix: String,
    /// To whom: `*@acme.example`.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Where answers may go besides the recipients and the sender's own domain.
    #[serde(default)]
    pub reply_to: Vec<String>,
    /// Through which relays mails may go; a job that names none goes through the first.
    #[serde(default = "AllowConfig::default_relays")]
    pub relays: Vec<String>,
    /// Where pages and lists may go: `s3://bucket/prefix` or `dir:/path`.
    #[serde(default)]
    pub publish: Vec<String>,
    /// The longest that a link may live.
    #[serde(default = "AllowConfig::default_max_expires_in")]
    pub max_expires_in: Span,
    /// The most links of one job.
    #[serde(default = "AllowConfig::default_max_links")]
    pub max_links: u64,
}

impl AllowConfig {
    /// The relay of `[mail.smtp]`, and no other.
    pub fn default_relays() -> Vec<String> {
        vec![RelayName::default().to_string()]
    }

    const fn default_max_expires_in() -> Span {
        Span::days(7)
    }

    const fn default_max_links() -> u64 {
        100_000
    }
}

/// One `[[on_event]]` rule, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OnEventConfig {
    /// The bucket in which it must have happened.
    pub bucket: String,
    /// What the object's key must match.
    #[serde(default = "OnEventConfig::default_key")]
    pub key: String,
    /// What must have happened to it.
    #[serde(default = "OnEventConfig::default_events")]
    pub events: Vec<String>,
    /// The job's file, with `{{event.bucket}}`, `{{event.key}}`, `{{event.time}}` in its texts.
    pub job: PathBuf,
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
    /// Who sends.
    pub fn sender(&self) -> Result<Recipient, ConfigError> {
        Recipient::parse(&self.mail.from).map_err(|error| ConfigError::value("mail.from", error))
    }

    /// Who is told when mails of a job were refused.
    pub fn notify(&self) -> Result<Option<Recipient>, ConfigError> {
        let notify = self.mail.notify.as_deref().map(Recipient::parse);
        let notify = notify.transpose();
        notify.map_err(|error| ConfigError::value("mail.notify", error))
    }

    /// The audit log's directory.
    pub fn audit_dir(&self) -> PathBuf {
        self.audit_place().to_path_buf()
    }

    /// The audit log's directory, and through which links it may be entered.
    pub fn audit_place(&self) -> Location {
        self.own_place(self.audit.dir.as_deref(), "audit")
    }

    /// The outbox's directory.
    pub fn outbox_dir(&self) -> PathBuf {
        self.outbox_place().to_path_buf()
    }

    /// The outbox's directory, and through which links it may be entered.
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

    /// Whether any connection is served by this process.
    pub fn needs_embedded(&self) -> bool {
        self.connections
            .values()
            .any(|connection| connection.directory.is_some())
    }
}
