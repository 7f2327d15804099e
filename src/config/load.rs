//! Loads the configuration: the file, then the environment over it, then the checks that need both.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use presign::ServerUrl;
use toml::{Table, Value};

use super::{
    CloudFrontConfig, Config, ConnectionConfig, LedgerKind, MailConfig, QueueConfig, QueueKind,
    ResultsConfig, SmtpConfig, Tls, Transport, distribution, helo_name, overrides,
};
use crate::bounds::MAX_RENDITION_THREADS;
use crate::config::Encryption;
use crate::config::queue_address::QueueAddress;
use crate::config_error::ConfigError;
use crate::environment::Environment;
use crate::job::{Bucket, ConnectionName, Locale, Via};
use crate::mounted;
use crate::quantity::Span;
use crate::text::without_value;

/// The default locations of the file.
const PLACES: [&str; 2] = ["config.toml", "/etc/handout/config.toml"];

/// The maximum length of the ledger's prefix in S3: the longest job id, encoded, and a recipient's record must fit into a key.
const MAX_LEDGER_PREFIX: usize = 100;

/// The location of the ledger in S3.
pub(crate) struct LedgerPlace {
    pub(crate) connection: ConnectionName,
    pub(crate) bucket: Bucket,
    /// The prefix of its keys.
    pub(crate) prefix: String,
}

/// A secret from a file. Its `Debug` output is masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

impl Secret {
    /// Reads a secret.
    pub fn read(key: &str, path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let reason = |error: &io::Error| {
            let mut reason = format!("names {}, which cannot be read: {error}", path.display());
            if error.kind() == io::ErrorKind::NotFound {
                reason.push_str("; ");
                reason.push_str(&where_secrets_are(environment));
            }
            reason
        };
        let text = mounted::read_text(path);
        let text = text.map_err(|error| ConfigError::unread(key, error, reason))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(ConfigError::value(
                key,
                format!("names {}, which is empty", path.display()),
            )),
            text => Ok(Self(text.to_owned())),
        }
    }

    /// A secret that is in no file.
    pub(crate) const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// The locations where a secret with a bare file name is looked up.
fn where_secrets_are(environment: &Environment) -> String {
    let credentials = match environment.get("CREDENTIALS_DIRECTORY") {
        Some(directory) => format!("in $CREDENTIALS_DIRECTORY, which is {directory}"),
        None => "in $CREDENTIALS_DIRECTORY, which is not set".to_owned(),
    };
    format!("a bare name is looked for {credentials}, and then beside the configuration file")
}

/// Why a file in the working directory may have been put there by another user; `None` if it may not.
///
/// A configuration names programs to run and directories to write and make private. In `/tmp`, or in another user's directory, a
/// command would do all that on behalf of the user who put the file there. The user who runs the command and root are trusted. So
/// are groups: a group is assumed to share its directories only with trusted users.
fn planted(file: &Path) -> io::Result<Option<&'static str>> {
    const BY_OTHERS: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let ours = rustix::process::geteuid().as_raw();
    let is_foreign = |there: &Metadata| ![0, ours].contains(&there.uid());
    let is_open = |there: &Metadata| there.mode() & BY_OTHERS != 0;
    // The symbolic link is checked too: it selects the file, and relative paths in the file start at its directory.
    if is_foreign(&file.symlink_metadata()?) {
        return Ok(Some("it belongs to another user"));
    }
    let (read, directory) = (file.metadata()?, Path::new(".").metadata()?);
    Ok(match () {
        () if is_foreign(&read) => Some("it is a link to a file of another user's"),
        () if is_open(&read) => Some("other users may write it"),
        () if is_foreign(&directory) => Some("the directory belongs to another user"),
        // In a directory with the sticky bit, other users cannot replace our files.
        () if is_open(&directory) && directory.mode() & STICKY == 0 => {
            Some("other users may write to the directory")
        }
        () => None,
    })
}

/// The position of an error and its text. Neither the line nor the value is shown: it may be a secret in place of the secret's file.
fn placed(text: &str, error: &toml::de::Error) -> String {
    let words = without_value(error.message().trim_end());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return words;
    };
    let line = before.rsplit('\n').next().unwrap_or_default();
    let (row, column) = (before.matches('\n').count() + 1, line.chars().count() + 1);
    format!("line {row}, column {column}: {words}")
}

impl Config {
    /// Finds, reads and validates the configuration: that of the file, or without a file that of the environment, if a variable sets
    /// a key.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn load(named: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        match Self::load_file(named, environment) {
            Err(ConfigError::Nowhere) if !overrides::origins(environment).is_empty() => {
                Self::of_environment(environment)
            }
            loaded => loaded,
        }
    }

    /// The configuration of a file. Without a name, it is looked up in the working directory, where it must belong to the user or
    /// to root, and then in `/etc/handout`.
    ///
    /// # Errors
    /// There is no file, or it cannot be used.
    pub fn load_file(named: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        let path = Self::file(named).ok_or(ConfigError::Nowhere)?;
        Self::of_file(named, &path, environment)
    }

    /// The path of the configuration file, if there is one.
    pub(super) fn file(named: Option<&Path>) -> Option<PathBuf> {
        let mut places = PLACES.map(PathBuf::from).into_iter();
        let found = || places.find(|path| path.symlink_metadata().is_ok());
        named.map(Path::to_owned).or_else(found)
    }

    fn of_file(
        named: Option<&Path>,
        path: &Path,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let path = path.to_owned();
        let unreadable = |source| ConfigError::Read {
            path: path.clone(),
            source,
        };
        if named.is_none() && path.is_relative() {
            let planted = planted(&path).map_err(unreadable)?;
            planted.map_or(Ok(()), |reason| Err(ConfigError::Planted { reason }))?;
        }
        let text = mounted::read_text(&path).map_err(unreadable)?;
        let absolute = std::path::absolute(&path).map_err(unreadable)?;
        let mut config = Self::parse(&text, environment).map_err(|reason| ConfigError::Parse {
            path: path.clone(),
            reason,
        })?;
        // The directory of the symbolic link, not of its target: Kubernetes mounts a file as a link into a folder that is
        // replaced.
        config.resolve_paths(absolute.parent().unwrap_or(Path::new("/")), environment)?;
        config.check()?;
        Ok(config)
    }

    /// The configuration of a user without a file: the defaults with the environment over them, and the user's own state
    /// directory. `None` if the environment names no such directory.
    pub fn of_user(environment: &Environment) -> Result<Option<Self>, ConfigError> {
        let wrong = |reason| ConfigError::Variables { reason };
        let mut config = Self::parse("", environment).map_err(wrong)?;
        if environment.get(overrides::STATE_DIR).is_none() {
            let Some(state_dir) = environment.user_state_dir() else {
                return Ok(None);
            };
            config.state_dir = state_dir;
        }
        config.resolved_here(environment).map(Some)
    }

    /// The configuration without a file. Relative paths start at the working directory.
    fn of_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let wrong = |reason| ConfigError::Variables { reason };
        Self::parse("", environment)
            .map_err(wrong)?
            .resolved_here(environment)
    }

    fn resolved_here(mut self, environment: &Environment) -> Result<Self, ConfigError> {
        let here = std::env::current_dir().map_err(|source| ConfigError::Read {
            path: PathBuf::from("."),
            source,
        })?;
        self.resolve_paths(&here, environment)?;
        self.check()?;
        Ok(self)
    }

    /// Parses the text of a configuration, with the environment over it.
    pub fn parse(text: &str, environment: &Environment) -> Result<Self, String> {
        // The text alone is parsed first: its errors have line numbers, which those of a merged table lack.
        let _: Self = toml::from_str(text).map_err(|error| placed(text, &error))?;
        let table: Table = toml::from_str(text).map_err(|error| placed(text, &error))?;
        let mut table = overrides::lay_over(table, environment)?;
        let state_dir = || environment.state_dir().to_string_lossy().into_owned();
        let state = table.entry("state_dir");
        state.or_insert_with(|| Value::String(state_dir()));
        let merged = Value::Table(table).try_into();
        merged.map_err(|error: toml::de::Error| without_value(error.message()))
    }

    /// Validates constraints that types do not express.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.queue.kind == QueueKind::Sqs && self.queue.url.is_none() {
            return Err(ConfigError::value(
                "queue.url",
                "is missing: kind = \"sqs\" needs the queue's URL",
            ));
        }
        let at_least = |key: &str, value: u64, least: u64| match value < least {
            true => Err(ConfigError::value(
                key,
                format!("is {value}: it must be at least {least}"),
            )),
            false => Ok(()),
        };
        at_least("queue.max_in_flight", self.queue.max_in_flight as u64, 1)?;
        // A lease is extended after a third of the timeout, which must leave time for a slow answer.
        at_least(
            "queue.visibility_timeout",
            self.queue.visibility_timeout.as_secs(),
            30,
        )?;
        at_least("queue.max_receives", u64::from(self.queue.max_receives), 1)?;
        at_least("gallery.page_size", self.gallery.page_size as u64, 1)?;
        at_least(
            "gallery.pictures_at_once",
            self.gallery.pictures_at_once as u64,
            1,
        )?;
        let threads = self.gallery.rendition_threads;
        at_least("gallery.rendition_threads", threads as u64, 1)?;
        if threads > MAX_RENDITION_THREADS {
            return Err(ConfigError::value(
                "gallery.rendition_threads",
                format!(
                    "is {threads}: at most {MAX_RENDITION_THREADS} are allowed, since each takes up to 230 MB of memory"
                ),
            ));
        }
        at_least("mail.at_once", self.mail.at_once as u64, 1)?;
        if self.queue.visibility_timeout.as_duration() > crate::bounds::MAX_VISIBILITY {
            return Err(ConfigError::value(
                "queue.visibility_timeout",
                "is more than 12h, the most that SQS allows",
            ));
        }
        crate::job::check_expires_in(self.links.expires_in, Via::S3)
            .map_err(|reason| ConfigError::value("links.expires_in", reason))?;
        for (name, connection) in &self.connections {
            check_connection(name, connection)?;
            if let Some(cloudfront) = &connection.cloudfront {
                distribution::origin_scope(name, cloudfront)?;
                self.check_versions(name, cloudfront)?;
                self.check_one_bucket(name, cloudfront)?;
            }
        }
        check_endpoint(&self.embedded.public_url, "embedded.public_url".to_owned())?;
        self.check_queues()?;
        self.check_mail()?;
        self.check_brand()?;
        self.check_audit()?;
        self.check_access()?;
        self.check_ledger()?;
        self.check_results()?;
        self.traces.check()?;
        self.check_intake()?;
        self.check_feedback()?;
        self.check_portal()?;
        self.check_event_rules(&self.policy()?)?;
        self.event_rules()?;
        Ok(())
    }

    /// The version is a query parameter, which a distribution without response overrides is not declared to forward.
    fn check_versions(&self, name: &str, cloudfront: &CloudFrontConfig) -> Result<(), ConfigError> {
        if cloudfront.response_overrides || !self.links.pin_version {
            return Ok(());
        }
        Err(ConfigError::value(
            format!("connections.{name}.cloudfront.response_overrides"),
            "is false, and links.pin_version true: a link's version would not reach S3",
        ))
    }

    /// A distribution belongs to one bucket: links to another bucket would open an object of the same name in the first.
    fn check_one_bucket(
        &self,
        name: &str,
        cloudfront: &CloudFrontConfig,
    ) -> Result<(), ConfigError> {
        let rules = self.allow.iter().filter(|rule| rule.connection == name);
        let buckets: BTreeSet<&str> = rules.map(|rule| rule.bucket.as_str()).collect();
        if cloudfront.bucket.is_some() || buckets.len() < 2 {
            return Ok(());
        }
        let buckets: Vec<&str> = buckets.into_iter().collect();
        let reason = format!(
            "is missing: the [[allow]] rules name several buckets ({}), and the distribution stands before one",
            buckets.join(", ")
        );
        Err(ConfigError::value(
            format!("connections.{name}.cloudfront.bucket"),
            reason,
        ))
    }

    /// The buckets with the bodies of long messages, and the connection that reads them.
    ///
    /// # Errors
    /// A name is invalid, or the connection is unknown or has to be named.
    pub fn payloads(&self) -> Result<(Option<ConnectionName>, Vec<Bucket>), ConfigError> {
        const KEY: &str = "queue.payload_connection";
        let QueueConfig {
            payload_buckets,
            payload_connection,
            ..
        } = &self.queue;
        let buckets = payload_buckets.iter().map(|bucket| {
            bucket
                .parse()
                .map_err(|error| ConfigError::value("queue.payload_buckets", error))
        });
        let buckets: Vec<Bucket> = buckets.collect::<Result<_, _>>()?;
        let named = payload_connection.as_deref();
        if named.is_none() && buckets.is_empty() && self.connections.len() != 1 {
            return Ok((None, buckets));
        }
        let name = self.connection_or_only(KEY, named, "reads queue.payload_buckets")?;
        Ok((Some(name), buckets))
    }

    fn check_queues(&self) -> Result<(), ConfigError> {
        self.payloads()?;
        let (queue, results) = (&self.queue, &self.results);
        for (key, url) in [
            ("queue.url", &queue.url),
            ("queue.parked_url", &queue.parked_url),
            ("results.queue_url", &results.queue_url),
            ("feedback.queue_url", &self.feedback.queue_url),
        ] {
            url.as_deref()
                .map(|url| queue_address(key, url))
                .transpose()?;
        }
        for (key, endpoint) in [
            ("queue.endpoint_url", &queue.endpoint_url),
            ("results.endpoint_url", &results.endpoint_url),
            ("feedback.endpoint_url", &self.feedback.endpoint_url),
        ] {
            endpoint
                .as_deref()
                .map(|endpoint| check_endpoint(endpoint, key.to_owned()))
                .transpose()?;
        }
        Ok(())
    }

    fn check_mail(&self) -> Result<(), ConfigError> {
        self.sender()?;
        let locale = self.mail.locale.parse::<Locale>();
        locale.map_err(|error| ConfigError::value("mail.locale", error))?;
        self.time_zone()?;
        self.schedules()?;
        self.mailing_list()?;
        self.check_dkim()?;
        self.notify()?;
        for (name, relay) in self.mail.relays_by_name()? {
            self.check_relay(&MailConfig::section_of(&name), relay)?;
        }
        Ok(())
    }

    fn check_relay(&self, section: &str, relay: &SmtpConfig) -> Result<(), ConfigError> {
        let wrong = |field: &str, reason: &str| {
            Err(ConfigError::value(format!("{section}.{field}"), reason))
        };
        let is_used = self.mail.transport == Transport::Smtp;
        if is_used && relay.tls == Tls::None && !is_loopback(&relay.host) {
            let reason = "is \"none\", which is only for a relay on this machine: use \"starttls\" or \"implicit\"";
            return wrong("tls", reason);
        }
        relay.login(section)?;
        relay.header_lines(section)?;
        relay.reverse_path(section)?;
        if let Some(hello) = &relay.hello
            && helo_name(hello).is_none()
        {
            let reason = format!(
                "is {hello:?}, which relays do not accept: give a fully qualified domain name, such as \"mail.acme.example\", or an address, such as \"[192.0.2.1]\""
            );
            return wrong("hello", &reason);
        }
        if relay.connections == 0 {
            return wrong("connections", "is 0: it must be at least 1");
        }
        relay.deadlines.check(section)
    }

    fn check_results(&self) -> Result<(), ConfigError> {
        let ResultsConfig {
            queue_url,
            region,
            endpoint_url,
            profile,
            ca_file,
            file,
            url,
            secret_file,
        } = &self.results;
        let receivers = [
            ("queue_url", queue_url.is_some()),
            ("file", file.is_some()),
            ("url", url.is_some()),
        ];
        let mut given = receivers.iter().filter(|(_, is_given)| *is_given);
        if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
            let reason = format!("stands beside {first}: give one of them");
            return Err(ConfigError::value(format!("results.{second}"), reason));
        }
        self.results.receiver()?;
        if secret_file.is_some() && url.is_none() {
            let reason = "signs what is posted: give url too";
            return Err(ConfigError::value("results.secret_file", reason));
        }
        let of_queue = [
            ("region", region.is_some()),
            ("endpoint_url", endpoint_url.is_some()),
            ("profile", profile.is_some()),
            ("ca_file", ca_file.is_some() && url.is_none()),
        ];
        match of_queue.into_iter().find(|(_, is_given)| *is_given) {
            Some((field, _)) if queue_url.is_none() => Err(ConfigError::value(
                format!("results.{field}"),
                "belongs to a queue: give queue_url too",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn check_ledger(&self) -> Result<(), ConfigError> {
        if self.ledger.kind == LedgerKind::Sqlite {
            let stray = [
                ("connection", &self.ledger.connection),
                ("bucket", &self.ledger.bucket),
            ];
            return match stray.into_iter().find(|(_, value)| value.is_some()) {
                None => Ok(()),
                Some((field, _)) => Err(ConfigError::value(
                    format!("ledger.{field}"),
                    "stands beside kind = \"sqlite\": it belongs to kind = \"s3\"",
                )),
            };
        }
        let place = self.ledger_place()?;
        // A job could otherwise publish a file at the key of a record, and forge or block it.
        let meets = |bucket: &str, prefix: &str| {
            bucket == place.bucket.as_str()
                && (prefix.starts_with(&place.prefix) || place.prefix.starts_with(prefix))
        };
        let is_met_by = |target: &String| {
            let target = target.strip_prefix("s3://");
            target.is_some_and(|target| {
                let (bucket, prefix) = target.split_once('/').unwrap_or((target, ""));
                meets(bucket, prefix)
            })
        };
        if self.gallery.default_publish.as_ref().is_some_and(is_met_by) {
            let reason = format!(
                "is s3://{}/{}, where gallery.default_publish puts pages: give the ledger a bucket of its own",
                place.bucket, place.prefix
            );
            return Err(ConfigError::value("ledger.bucket", reason));
        }
        for (index, rule) in self.allow.iter().enumerate() {
            let publishes = rule.publish.iter().any(is_met_by);
            if publishes || meets(&rule.bucket, &rule.prefix) {
                let reason = format!(
                    "is s3://{}/{}, which the rule allow[{index}] opens to jobs: give the ledger a bucket of its own",
                    place.bucket, place.prefix
                );
                return Err(ConfigError::value("ledger.bucket", reason));
            }
        }
        Ok(())
    }

    /// The location of the ledger in S3.
    pub(crate) fn ledger_place(&self) -> Result<LedgerPlace, ConfigError> {
        let needed = |field: &str, value: &Option<String>| {
            let missing = "is missing: kind = \"s3\" needs connection and bucket";
            let value = value.clone();
            value.ok_or_else(|| ConfigError::value(format!("ledger.{field}"), missing))
        };
        let connection = needed("connection", &self.ledger.connection)?;
        let connection = self.known_connection("ledger.connection", &connection)?;
        let bucket = needed("bucket", &self.ledger.bucket)?.parse();
        let prefix = &self.ledger.prefix;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()/".contains(c);
        if prefix.len() > MAX_LEDGER_PREFIX || !prefix.chars().all(is_plain) {
            let reason = format!(
                "is {prefix:?}: write at most {MAX_LEDGER_PREFIX} letters, digits and -_./"
            );
            return Err(ConfigError::value("ledger.prefix", reason));
        }
        Ok(LedgerPlace {
            connection,
            bucket: bucket.map_err(|error| ConfigError::value("ledger.bucket", error))?,
            prefix: prefix.clone(),
        })
    }

    /// The time zone of the instants in mails and pages.
    pub fn time_zone(&self) -> Result<jiff::tz::TimeZone, ConfigError> {
        crate::clock::time_zone(&self.mail.time_zone).ok_or_else(|| {
            let reason = format!(
                "is {:?}, which is no time zone: write one like \"Europe/Berlin\"",
                self.mail.time_zone
            );
            ConfigError::value("mail.time_zone", reason)
        })
    }
}

/// The permitted session durations of a role. <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const SESSIONS: std::ops::RangeInclusive<Span> = Span::minutes(15)..=Span::hours(12);

fn check_connection(name: &str, connection: &ConnectionConfig) -> Result<(), ConfigError> {
    let key = |field: &str| format!("connections.{name}.{field}");
    name.parse::<ConnectionName>()
        .map_err(|error| ConfigError::value(format!("connections.{name}"), error))?;
    if connection.directory.is_some() {
        let rest = ConnectionConfig {
            directory: None,
            ..connection.clone()
        };
        if rest != ConnectionConfig::default() {
            let reason =
                "stands beside keys that belong to a real S3: a directory needs nothing else";
            return Err(ConfigError::value(key("directory"), reason));
        }
    }
    if connection.access_key_id.is_some() != connection.secret_access_key_file.is_some() {
        let reason = "and secret_access_key_file go together: give both or neither";
        return Err(ConfigError::value(key("access_key_id"), reason));
    }
    if let Some(duration) = connection.assume_role_duration {
        let reason = if connection.assume_role.is_none() {
            "is of no use without assume_role"
        } else if !SESSIONS.contains(&duration) {
            "is not between 15m and 12h, which is what STS gives; a role may allow less"
        } else {
            ""
        };
        if !reason.is_empty() {
            return Err(ConfigError::value(key("assume_role_duration"), reason));
        }
    }
    if connection.assume_role_session.is_some() && connection.assume_role.is_none() {
        let reason = "is of no use without assume_role";
        return Err(ConfigError::value(key("assume_role_session"), reason));
    }
    if let Some(arn) = connection
        .cloudfront
        .as_ref()
        .and_then(|front| front.key_value_store.as_ref())
        && !is_arn_of(arn, "cloudfront")
    {
        let reason = "is no ARN of a key value store, such as \"arn:aws:cloudfront::123456789012:key-value-store/ID\"";
        return Err(ConfigError::value(
            key("cloudfront.key_value_store"),
            reason,
        ));
    }
    if let Some(endpoint) = &connection.endpoint_url {
        check_endpoint(endpoint, key("endpoint_url"))?;
    }
    match &connection.public_endpoint_url {
        Some(endpoint) => check_endpoint(endpoint, key("public_endpoint_url"))?,
        None if connection.public_path_style.is_some() => {
            let reason = "is of no use without public_endpoint_url";
            return Err(ConfigError::value(key("public_path_style"), reason));
        }
        None => {}
    }
    if let Some(endpoint) = &connection.sts_endpoint_url {
        check_endpoint(endpoint, key("sts_endpoint_url"))?;
    }
    if connection.request_payer == Some(true) && connection.cloudfront.is_some() {
        let reason = "stands beside cloudfront: CloudFront cannot read a Requester Pays bucket";
        return Err(ConfigError::value(key("request_payer"), reason));
    }
    match &connection.sse_kms_key_id {
        Some(id) => check_kms_key(id, connection.sse)
            .map_err(|reason| ConfigError::value(key("sse_kms_key_id"), reason)),
        None => Ok(()),
    }
}

/// Whether a text is an ARN of a service.
fn is_arn_of(text: &str, service: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain
        && parts.next() == Some("arn")
        && parts
            .next()
            .is_some_and(|partition| partition.starts_with("aws"))
        && parts.next() == Some(service)
        && parts.nth(2).is_some_and(|resource| !resource.is_empty())
}

/// Validates a KMS key: its id, its ARN, or an alias of it.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id>
fn check_kms_key(id: &str, sse: Option<Encryption>) -> Result<(), &'static str> {
    if !sse.is_some_and(Encryption::is_kms) {
        return Err("is of no use without sse = \"aws:kms\" or \"aws:kms:dsse\"");
    }
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "is no key of KMS: write its ARN, its id or an alias such as \"alias/reports\"",
        );
    }
    Ok(())
}

fn check_endpoint(endpoint: &str, key: String) -> Result<(), ConfigError> {
    ServerUrl::parse(endpoint)
        .map(drop)
        .map_err(|error| ConfigError::value(key, error))
}

/// Parses the queue's URL in a key such as `queue.url`.
///
/// # Errors
/// The value is not the URL of a queue.
pub(crate) fn queue_address(key: &str, url: &str) -> Result<QueueAddress, ConfigError> {
    QueueAddress::parse(url).map_err(|error| ConfigError::value(key, error))
}

/// Whether a URL is https, or names this machine.
pub(super) fn is_private(server: &ServerUrl) -> bool {
    let host = server.host();
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => host,
    };
    server.origin().starts_with("https://") || is_loopback(host.trim_matches(['[', ']']))
}

pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
