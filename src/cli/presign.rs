//! `handout presign`: prints presigned links for the named objects, one per line.
//!
//! Keys and links are processed in batches, so a million need no more memory than a thousand. A batch is signed, its lines in the
//! audit log are made durable, and only then are its links printed.

mod keys;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use handout::assemble::connection;
use handout::assemble::connection::{Direct, NoRegion, OF_ENVIRONMENT};
use handout::assemble::{OpenError, PROGRAM, private_dir};
use handout::audit::log::Writer;
use handout::audit::record::{Context, LinkKind, Pseudonyms};
use handout::audit::{self, AuditLog};
use handout::clock;
use handout::config::{Config, ConnectionConfig, RecipientNames};
use handout::edge::{EdgeError, Egress};
use handout::environment::Environment;
use handout::error::JobError;
use handout::job::phrase::PhraseError;
use handout::job::{Bucket, ContentDisposition, FileName, Recipient, Via};
use handout::keyring::{Keyring, Purpose};
use handout::links::direct::{self, Identity, LinkOptions};
use handout::links::signer::SignerError;
use handout::links::{Link, Links, SignError, UrlSigner};
use handout::plan::Audience;
use handout::plan::ResponseOverrides;
use handout::plan::expiry::{Issuer, asked_until, lifetime};
use handout::plan::{CredentialsEnd, ExpiryGuard, Lifetime, Limit, Shortfall};
use handout::quantity::Span;
use jiff::Timestamp;
use presign::cloudfront::{CloudFrontError, Ipv4Network, UrlPolicy};
use presign::disposition::is_passive;

use presign::{ServerUrl, ServerUrlError};

use serde_json::json;

use self::keys::{KeyBatch, Keys, RECORDED, RefusedKeys, Saving, UNRECORDED};
use super::{ConfigArgs, exit, terminal};

pub(super) const EXAMPLES: &str = "\
Examples:
  handout presign s3://acme-reports/q3.pdf --expires-in 24h
  handout presign --connection reports --for ann@acme.example s3://acme-reports/q3.pdf
  handout presign --connection site --via cloudfront s3://acme-site/q3.pdf
  handout presign --keys-from keys.txt s3://acme-reports > urls.txt

Credentials, region and endpoint come from the usual places of the AWS tools:
AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and the profile's files. The
[[allow]] rules apply to jobs and not to this command: a user of the credentials may link
everything that the credentials open.

Each link is recorded in the audit log before it is printed. With a configuration, the log
and its secret are those of the configuration (run this as the daemon's user); without one,
they are in $XDG_STATE_HOME/handout, which defaults to ~/.local/state/handout. With
--no-audit there is no line, and a link has no id unless --link-id gives it one.";

/// The characters of a link id besides letters and digits.
const LINK_ID_MARKS: [char; 4] = ['-', '_', '.', '~'];

/// The maximum length of a link id: longer links are broken by mail programs.
const MAX_LINK_ID_BYTES: usize = 64;

#[derive(Debug, Args)]
pub(crate) struct PresignArgs {
    /// The objects; keys are literal, without escapes. With --keys-from, the bucket alone.
    #[arg(value_name = "s3://BUCKET/KEY", required = true)]
    places: Vec<ObjectPlace>,
    /// Reads literal keys from a file or stdin, one per line; empty lines, and a CR before the end of a line, are ignored.
    #[arg(long, value_name = "FILE|-")]
    keys_from: Option<PathBuf>,
    /// The lifetime of the links: "90s", "15m", "24h", "7d".
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = expires_in)]
    expires_in: Span,
    /// What to do if the credentials expire before the links, or have no known expiry: refuse; clamp the links to a known
    /// expiry; or ignore it with a warning (the links then work until the session ends).
    #[arg(long, value_name = "refuse|clamp|ignore", default_value = "refuse", value_parser = guard())]
    expiry_guard: ExpiryGuard,
    /// The file name for downloads; may contain {{object.name}}, .stem, .extension, .folder and .key; "stored" leaves the stored
    /// Content-Disposition as it is.
    #[arg(long, value_name = "TEXT")]
    filename: Option<FileName>,
    /// Lets browsers show the file instead of saving it; types that can run scripts (HTML, SVG …) are saved anyway.
    #[arg(long)]
    inline: bool,
    /// The media type that the store sends, in place of the object's own.
    #[arg(long, value_name = "TYPE", value_parser = media_type)]
    content_type: Option<String>,
    /// The version of the object; the link keeps opening this version.
    #[arg(long, value_name = "ID")]
    version_id: Option<String>,
    /// The id that is signed as x-handout, in place of a generated id for each link.
    #[arg(long, value_name = "ID", value_parser = link_id)]
    link_id: Option<String>,
    /// The recipient of the links, for the audit log.
    #[arg(long = "for", value_name = "ADDRESS", value_parser = Recipient::parse)]
    recipient: Option<Recipient>,
    /// Signs with this connection of the configuration.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["region", "endpoint_url", "public_endpoint_url", "path_style", "profile"])]
    connection: Option<String>,
    /// The server of the links: s3, or the CloudFront distribution of the --connection.
    #[arg(long, value_name = "s3|cloudfront", default_value = "s3", value_parser = via())]
    via: Via,
    /// The instant at which the links start to work, not in the past; --expires-in counts from it (CloudFront only).
    #[arg(long, value_name = "INSTANT")]
    not_before: Option<Timestamp>,
    /// The IPv4 network from which the links work: "192.0.2.0/24" or "192.0.2.7" (CloudFront only).
    #[arg(long, value_name = "NETWORK")]
    from_network: Option<Ipv4Network>,
    /// The bucket's region.
    #[arg(long)]
    region: Option<String>,
    /// Asks S3 for the region of the bucket, in place of the region of the environment, profile or connection.
    #[arg(long, conflicts_with_all = ["region", "endpoint_url"])]
    find_region: bool,
    /// The URL of an S3 server other than AWS.
    #[arg(long, value_name = "URL", value_parser = server_url)]
    endpoint_url: Option<String>,
    /// The server that the links name, if it is not the endpoint; the bucket is in the path.
    #[arg(long, value_name = "URL", value_parser = server_url)]
    public_endpoint_url: Option<String>,
    /// Puts the bucket into the path, not into the host; this is the default with --endpoint-url.
    #[arg(long)]
    path_style: bool,
    /// The profile in ~/.aws/config and ~/.aws/credentials.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Skips the audit log.
    #[arg(long)]
    no_audit: bool,
    /// Prints a JSON object for each link, with bucket, key, expiry and link id.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

fn usage(wrong: &str) -> clap::Error {
    super::Cli::command().error(ErrorKind::ValueValidation, wrong)
}

/// A bucket, and usually a key in it.
#[derive(Debug, Clone)]
struct ObjectPlace {
    bucket: Bucket,
    key: String,
}

impl FromStr for ObjectPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = text
            .strip_prefix("s3://")
            .ok_or("it is not of the form s3://BUCKET/KEY")?;
        let (bucket, key) = place.split_once('/').unwrap_or((place, ""));
        let bucket = bucket
            .parse()
            .map_err(|error| format!("the bucket {error}"))?;
        Ok(Self {
            bucket,
            key: key.to_owned(),
        })
    }
}

fn expires_in(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    match span.as_secs() {
        0 => Err("a link needs a second at least".to_owned()),
        _ => Ok(span),
    }
}

fn via() -> impl TypedValueParser<Value = Via> {
    PossibleValuesParser::new(["s3", "cloudfront"]).map(|value| match value.as_str() {
        "cloudfront" => Via::Cloudfront,
        _ => Via::S3,
    })
}

fn guard() -> impl TypedValueParser<Value = ExpiryGuard> {
    PossibleValuesParser::new(["refuse", "clamp", "ignore"]).map(|value| match value.as_str() {
        "clamp" => ExpiryGuard::Clamp,
        "ignore" => ExpiryGuard::Ignore,
        _ => ExpiryGuard::Refuse,
    })
}

fn server_url(text: &str) -> Result<String, ServerUrlError> {
    ServerUrl::parse(text).map(|_| text.to_owned())
}

fn media_type(text: &str) -> Result<String, String> {
    // The value becomes a response header.
    let is_plain = |c: char| matches!(c, ' '..='~');
    match text.contains('/') && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("it is not a media type, such as \"application/pdf\"".to_owned()),
    }
}

fn link_id(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || LINK_ID_MARKS.contains(&c);
    match (1..=MAX_LINK_ID_BYTES).contains(&text.len()) && text.chars().all(is_allowed) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "an identity has 1 to {MAX_LINK_ID_BYTES} letters, digits, '-', '_', '.' and '~'"
        )),
    }
}

/// Why no link was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PresignError {
    /// No setting names the region.
    #[error(
        "no region is known: give --region, have it looked up by --find-region, or set AWS_REGION or a region in the profile"
    )]
    NoRegion,
    /// There are no credentials.
    #[error(
        "there are no credentials to sign with: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile by --profile or AWS_PROFILE, or a connection by --connection"
    )]
    NoCredentials(#[source] CredentialsError),
    /// There is no directory for the audit log.
    #[error(
        "there is no place for the audit log: set XDG_STATE_HOME, or state_dir in a configuration that --config names, or do without the log by --no-audit"
    )]
    NoState,
    /// The directory for the audit log cannot be written.
    #[error(
        "there is no place for the audit log: {} cannot be prepared: set state_dir in the configuration, or XDG_STATE_HOME, to a place that can be written, or do without the log by --no-audit",
        path.display()
    )]
    NoPlace {
        /// The state directory.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A placeholder in --filename has no value.
    #[error("--filename {0}")]
    Filename(#[source] PhraseError),
    /// CloudFront does not support such a link.
    #[error(transparent)]
    CloudFront(#[from] CloudFrontError),
    /// There is no distribution.
    #[error(
        "connection {connection} has no distribution in front of s3://{bucket}/: see [connections.{connection}.cloudfront], or leave out --via"
    )]
    NoCloudFront {
        /// The connection.
        connection: String,
        /// The bucket that the link should open.
        bucket: Bucket,
    },
    /// S3 did not return the bucket's region.
    #[error("the bucket's region could not be found out; give --region")]
    NoRegionFound(#[source] EdgeError),
    /// The links could not live as long as requested.
    #[error("--expires-in asks for {}, but {}; {advice}", shortfall.asked, shortfall.limit)]
    TooShort {
        /// The requested lifetime and its limit.
        shortfall: Shortfall,
        /// Advice.
        advice: &'static str,
    },
}

/// Prints the links.
pub(super) async fn presign(
    arguments: PresignArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    arguments.check()?;
    let mut keys = arguments.keys()?;
    let config = arguments.config(environment)?;
    let direct = arguments.direct(config.as_ref(), environment).await?;
    if arguments.comes_as_kept(&direct) {
        arguments.check_as_kept()?;
        keys = keys.with_saving(Saving::Impossible);
    }
    let books = match &config {
        Some(config) if !arguments.no_audit => Some(PresignBooks::open(
            config,
            arguments.connection.as_deref(),
            environment,
        )?),
        Some(_) | None => None,
    };
    let desk = PresignDesk {
        wish: arguments.wish(config.as_ref(), books.as_ref()),
        direct,
        books,
        arguments,
        may_end_early: Cell::new(false),
    };
    let result = desk.hand_out(&mut keys).await;
    if let Some(books) = desk.books {
        books.close();
    }
    result?;
    report(&keys.refused)
}

impl PresignArgs {
    /// Checks combinations of options.
    fn check(&self) -> Result<(), clap::Error> {
        let several = self.keys_from.is_some() || self.places.len() > 1;
        let wants_policy = self.not_before.is_some() || self.from_network.is_some();
        let is_past = |begin: Timestamp| begin <= clock::system();
        let mut inline_type = self.content_type.iter().filter(|_| self.inline);
        let wrong = if self.keys_from.is_some() && self.places.len() > 1 {
            "--keys-from takes one bucket"
        } else if self.keys_from.is_some() && !self.places[0].key.is_empty() {
            "--keys-from takes a bucket without a key: the keys are the lines, whole"
        } else if self.keys_from.is_none() && self.places.iter().any(|place| place.key.is_empty()) {
            "a bucket is named without a key: write s3://BUCKET/KEY, or give the keys by --keys-from"
        } else if self.version_id.is_some() && several {
            "--version-id is one object's: name one"
        } else if self.via == Via::Cloudfront && self.connection.is_none() {
            "--via cloudfront needs the --connection whose distribution it is"
        } else if self.via == Via::S3 && wants_policy {
            "--not-before and --from-network are CloudFront's: S3 knows no such links; give --via cloudfront"
        } else if self.not_before.is_some_and(is_past) {
            "--not-before is over: leave it out, and the links work at once"
        } else if inline_type.any(|text| !is_passive(text)) {
            "--inline shows no such --content-type: it could run scripts in the browser, where other objects of the bucket can be read"
        } else {
            return Ok(());
        };
        Err(usage(wrong))
    }

    /// Whether the links omit response overrides, so that files are served as S3 stores them.
    fn comes_as_kept(&self, direct: &Direct) -> bool {
        let front = direct.front.as_ref();
        let front = front.filter(|_| self.via == Via::Cloudfront);
        front.is_some_and(|front| front.reach.overrides == ResponseOverrides::Omitted)
    }

    /// Rejects options that such links cannot express.
    fn check_as_kept(&self) -> Result<(), clap::Error> {
        match self.filename.is_some() || self.content_type.is_some() || self.inline {
            true => Err(usage(
                "--filename, --content-type and --inline do not reach S3 here: response_overrides = false in the connection's cloudfront",
            )),
            false => Ok(()),
        }
    }

    fn keys(&self) -> anyhow::Result<Keys> {
        match &self.keys_from {
            Some(path) => Keys::from_lines(self.places[0].bucket.clone(), path),
            None => {
                let places = self.places.iter();
                let named = places.map(|place| (place.bucket.clone(), place.key.clone()));
                Ok(Keys::named(named.collect()))
            }
        }
    }

    /// The configuration for audit log and connections; `None` if neither is needed.
    fn config(&self, environment: &Environment) -> anyhow::Result<Option<Config>> {
        if self.config.is_named() || self.connection.is_some() {
            return Ok(Some(self.config.load(environment)?));
        }
        if self.no_audit {
            return Ok(None);
        }
        let config = self.config.load_or_of_user(environment)?;
        Ok(Some(config.ok_or(PresignError::NoState)?))
    }

    async fn direct(
        &self,
        config: Option<&Config>,
        environment: &Environment,
    ) -> anyhow::Result<Direct> {
        let mut direct = match (&self.connection, config) {
            (Some(name), Some(config)) => connection::direct(config, name, environment).await?,
            (Some(_) | None, _) => self.environment_direct(environment).await?,
        };
        direct.regions = direct.regions.filter(|_| self.find_region);
        Ok(direct)
    }

    async fn environment_direct(&self, environment: &Environment) -> anyhow::Result<Direct> {
        let wanted = ConnectionConfig {
            region: self.region.clone(),
            endpoint_url: self.endpoint_url.clone(),
            public_endpoint_url: self.public_endpoint_url.clone(),
            path_style: self.path_style.then_some(true),
            profile: self.profile.clone(),
            ..ConnectionConfig::default()
        };
        let last_resort = self.find_region.then_some("us-east-1");
        let egress = Egress::of_environment(environment)?;
        let direct =
            connection::environment_direct(&wanted, last_resort, environment, egress).await;
        Ok(direct.map_err(|NoRegion| PresignError::NoRegion)?)
    }

    fn wish(&self, config: Option<&Config>, books: Option<&PresignBooks>) -> LinkOptions {
        let identity = match (&self.link_id, books) {
            (Some(id), _) => Identity::Given(id.clone()),
            (None, Some(books)) => Identity::Derived(books.keyring.deriver(Purpose::LinkId)),
            (None, None) => Identity::None,
        };
        let recipient = self.recipient.clone().map(Arc::new);
        LinkOptions {
            filename: self.filename.clone(),
            disposition: match self.inline {
                true => ContentDisposition::Inline,
                false => ContentDisposition::Attachment,
            },
            content_type: self.content_type.clone(),
            text_charset: config
                .map(|config| config.links.text_charset)
                .unwrap_or_default(),
            version_id: self.version_id.clone(),
            identity,
            audience: recipient.map_or(Audience::Everyone, Audience::Recipient),
        }
    }
}

/// The audit log, in a separate stream: the daemon continues to write its own.
struct PresignBooks {
    keyring: Keyring,
    names: Pseudonyms,
    /// The role whose credentials sign, if the connection assumes one.
    role: Option<String>,
    log: AuditLog,
    writer: Writer,
}

impl PresignBooks {
    fn open(
        config: &Config,
        connection: Option<&str>,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        private_dir(&config.state_dir).map_err(|error| match error {
            OpenError::StateDir { path, source } => PresignError::NoPlace { path, source }.into(),
            other => anyhow::Error::new(other),
        })?;
        let keyring = Keyring::open(&config.secret_key_file())?;
        let settings = config.audit_settings(&keyring, environment)?;
        let (log, writer) = AuditLog::open(&settings, PROGRAM, clock::system)?;
        Ok(Self {
            names: Pseudonyms::new(&keyring, config.audit.recipients == RecipientNames::Clear),
            keyring,
            role: connection.and_then(|name| config.connections.get(name)?.assume_role.clone()),
            log,
            writer,
        })
    }

    fn close(self) {
        drop(self.log);
        self.writer.close();
    }
}

/// The state of the batches from keys to printed links.
struct PresignDesk {
    arguments: PresignArgs,
    wish: LinkOptions,
    direct: Direct,
    books: Option<PresignBooks>,
    /// Whether links may end before the printed expiry, with the signing session: this is reported once.
    may_end_early: Cell<bool>,
}

impl PresignDesk {
    async fn hand_out(&self, keys: &mut Keys) -> anyhow::Result<()> {
        let mut text = Vec::new();
        let most = match self.books {
            Some(_) => RECORDED,
            None => UNRECORDED,
        };
        while let Some(batch) = keys.next_batch(most)? {
            if batch.keys.is_empty() {
                continue;
            }
            let links = self.sign(batch).await?;
            text.clear();
            match &self.books {
                // The lines are durable before a link is printed.
                Some(books) => {
                    let links = audit::record(links, &self.context(books), &books.log)
                        .await
                        .map_err(OpenError::Audit)?;
                    self.spell(links.links(), links.lifetime(), &mut text)?;
                }
                None => self.spell(&links.links, links.lifetime, &mut text)?,
            }
            terminal::write_exactly(&text)?;
        }
        Ok(())
    }

    /// Signs a batch. Each has its own signing time: keys may arrive slowly, and all links must live as long as requested.
    async fn sign(&self, batch: KeyBatch) -> anyhow::Result<Links> {
        let KeyBatch { bucket, keys } = batch;
        let (hand, access_key_id, lifetime) = match self.arguments.via {
            Via::S3 => self.hand_of_s3(&bucket).await?,
            Via::Cloudfront => self.hand_of_cloudfront(&bucket)?,
        };
        let links = direct::sign(&self.wish, &bucket, keys, &hand, access_key_id, lifetime);
        Ok(links.map_err(|error| match error {
            SignError::FileName(error) => PresignError::Filename(error),
            SignError::CloudFront(error) => PresignError::CloudFront(error),
        })?)
    }

    async fn hand_of_s3(&self, bucket: &Bucket) -> anyhow::Result<(UrlSigner, Arc<str>, Lifetime)> {
        let now = clock::system();
        let signer = &self.direct.signer;
        let asked = self.arguments.expires_in;
        let end = signer.credentials_end(asked_until(asked, now)).await;
        let end = end.map_err(|error| self.without_credentials(error))?;
        let lifetime = self.lifetime(Issuer::S3(end), now)?;
        self.warn_of_an_early_end(end, lifetime);
        let region = match &self.direct.regions {
            Some(store) => store
                .region(bucket)
                .await
                .map_err(PresignError::NoRegionFound)?,
            None => None,
        };
        let guard = self.arguments.expiry_guard;
        let signing = signer
            .presigner(bucket, region.as_deref(), lifetime, guard)
            .await;
        let (presigner, access_key_id) = signing.map_err(JobError::Signer)?;
        Ok((UrlSigner::S3(Box::new(presigner)), access_key_id, lifetime))
    }

    /// Warns, once, that the session ends or may end before the printed expiry.
    fn warn_of_an_early_end(&self, end: CredentialsEnd, lifetime: Lifetime) {
        if end.reaches(lifetime.expires_at) {
            return;
        }
        let why = match end {
            CredentialsEnd::At(end) => format!("end at {end}"),
            CredentialsEnd::Never | CredentialsEnd::Unknown => {
                "do not say when they end".to_owned()
            }
        };
        if !self.may_end_early.replace(true) {
            terminal::complain(format_args!(
                "the signing credentials are a session's and {why}: the links end with the session, also before their own end"
            ));
        }
    }

    fn hand_of_cloudfront(
        &self,
        bucket: &Bucket,
    ) -> anyhow::Result<(UrlSigner, Arc<str>, Lifetime)> {
        let now = clock::system();
        let begin = self.arguments.not_before;
        let front = self.direct.front.as_ref().filter(|front| {
            let behind = front.reach.bucket.as_ref();
            behind.is_none_or(|behind| behind == bucket)
        });
        let front = front.ok_or_else(|| PresignError::NoCloudFront {
            connection: self.connection().to_owned(),
            bucket: bucket.clone(),
        })?;
        let lifetime = self.lifetime(Issuer::CloudFront, begin.unwrap_or(now))?;
        let mut policy = UrlPolicy::until(lifetime.expires_at);
        if let Some(begin) = begin {
            policy = policy.starting(begin);
        }
        if let Some(network) = self.arguments.from_network {
            policy = policy.from_network(network);
        }
        let signing = front.signing(policy, None);
        let hand = UrlSigner::CloudFront(signing.map_err(PresignError::CloudFront)?);
        Ok((hand, Arc::clone(front.signer.key_pair_id()), lifetime))
    }

    /// There is no rule, so the requested lifetime is the limit.
    fn lifetime(&self, issuer: Issuer, begin: Timestamp) -> Result<Lifetime, PresignError> {
        let (asked, guard) = (self.arguments.expires_in, self.arguments.expiry_guard);
        lifetime(asked, issuer, asked, guard, begin).map_err(|shortfall| PresignError::TooShort {
            advice: advice(shortfall.limit, guard),
            shortfall,
        })
    }

    fn connection(&self) -> &str {
        self.arguments
            .connection
            .as_deref()
            .unwrap_or(OF_ENVIRONMENT)
    }

    /// Adds advice for programs without a configuration of credentials.
    fn without_credentials(&self, error: SignerError) -> anyhow::Error {
        match error {
            SignerError::NoCredentials { source, .. } if self.arguments.connection.is_none() => {
                PresignError::NoCredentials(source).into()
            }
            SignerError::NoCredentials { .. }
            | SignerError::Slow { .. }
            | SignerError::Changed { .. }
            | SignerError::Endpoint { .. } => JobError::Signer(error).into(),
        }
    }

    fn context<'a>(&'a self, books: &'a PresignBooks) -> Context<'a> {
        Context {
            job: direct::JOB,
            connection: self.connection(),
            role: books.role.as_deref(),
            message_id: None,
            attempt: 1,
            kind: LinkKind::Named,
            names: &books.names,
        }
    }

    fn spell(
        &self,
        links: &[Link],
        lifetime: Lifetime,
        text: &mut Vec<u8>,
    ) -> Result<(), serde_json::Error> {
        for link in links {
            if self.arguments.json {
                let line = json!({
                    "url": link.url.expose(),
                    "bucket": link.bucket,
                    "key": link.object.key,
                    "expires_at": lifetime.expires_at,
                    "bound": lifetime.bound,
                    "may_end_early": self.may_end_early.get(),
                    "link_id": Some(&link.id).filter(|id| !id.is_empty()),
                });
                serde_json::to_writer(&mut *text, &line)?;
            } else {
                text.extend_from_slice(link.url.expose().as_bytes());
            }
            text.push(b'\n');
        }
        Ok(())
    }
}

/// Advice for links that cannot live as long as requested.
const fn advice(limit: Limit, guard: ExpiryGuard) -> &'static str {
    match (limit, guard) {
        (Limit::CredentialsUnknown, _) => {
            "set it to their end, as `aws configure export-credentials --format env` does, sign with a long-term key, or take links that end with the session by --expiry-guard ignore"
        }
        (Limit::CredentialsEnded(_), _)
        | (Limit::CredentialsEnd(_) | Limit::CredentialsEnding(_), ExpiryGuard::Clamp) => {
            "renew the credentials, or sign with others"
        }
        (Limit::CredentialsEnd(_) | Limit::CredentialsEnding(_), _) => {
            "ask for less, take the real end by --expiry-guard clamp, or sign with other credentials"
        }
        (Limit::S3 | Limit::CloudFront | Limit::Rule(_), _) => {
            "ask for less, or take the real end by --expiry-guard clamp"
        }
    }
}

/// Reports on stderr the keys without a link.
fn report(refused: &RefusedKeys) -> anyhow::Result<ExitCode> {
    if refused.count == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    for reason in &refused.first {
        terminal::complain(format_args!("not linked: {reason}"));
    }
    let (objects, more) = match refused.count {
        1 => ("object was", ""),
        count if count > refused.first.len() as u64 => ("objects were", "; the first are above"),
        _ => ("objects were", ""),
    };
    terminal::complain(format_args!("{} {objects} not linked{more}", refused.count));
    Ok(exit::FOUND.into())
}
