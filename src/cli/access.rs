//! `handout access read`: reads access logs of stores into the reports' database.

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use directory::Directory;
use handout::access::book::{AccessBook, FileMark};
use handout::access::events::objects_in;
use handout::access::join::{ClientPrivacy, Joiner, ReadCounts};
use handout::access::known::KnownLinks;
use handout::access::reading::{FileOutcome, files_in, read_file, read_whole};
use handout::assemble;
use handout::audit::source::LogSource;
use handout::clock;
use handout::config::{Config, QueueConfig, QueueKind};
use handout::edge::ErrorKind;
use handout::environment::Environment;
use handout::job::{Bucket, ConnectionName, Key};
use handout::queue::Queue;
use handout::store::{Cursor, ObjectMeta, ObjectStore, Versions};
use handout::text::counted;
use serde::Serialize;

use super::arguments::JsonArgs;
use super::audit::{ArchiveArgs, ReadArchive, tell_unread};
use super::connections::OpenConnections;
use super::exit::CommandError;
use super::schemas::OutputSchema;
use super::supervision::{Beside, LAST_STEP};
use super::terminal::complain;
use super::{ConfigArgs, exit, say, say_json};

pub(super) const HELP: &str = "\
A PLACE is a file, a directory that is read with all folders below it, or s3://BUCKET/PREFIX. Formats are recognized: the text of S3, the text and JSON of CloudFront, the JSON of CloudWatch, each plain or gzip; the data events of CloudTrail are read as evidence of what these logs lost. A file that was read is not read again; what was added to it is. A request that is logged twice counts once. Logs may be read in any order, and repeatedly.

Examples:
  handout access read /var/lib/handout/access
  handout access read s3://acme-logs/reports/ --connection logs
  handout access read access --follow
  handout access read s3://acme-logs/ --follow --queue https://sqs.eu-west-1.amazonaws.com/123456789012/acme-log-events
  handout opens acme-daily-2026-11-23            afterwards: who opened what";

/// The pause between two looks at places that are followed.
const FOLLOW: Duration = Duration::from_secs(2);

/// The same for buckets, in which a listing is a request that costs.
const FOLLOW_BUCKETS: Duration = Duration::from_secs(60);

/// How long one wait for events takes.
const POLL: Duration = Duration::from_secs(20);

/// How long an event is hidden from others while its logs are read.
const HIDDEN: Duration = Duration::from_secs(300);

/// After how long buckets are listed again, since events may be lost.
const LIST_AGAIN: Duration = Duration::from_secs(3_600);

/// How much of an object is asked for at once, in bytes.
const PIECE: u64 = 8 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Reads access logs, and keeps what they say of links.
    #[command(after_help = HELP)]
    Read(ReadArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Files, directories, or `s3://BUCKET/PREFIX`.
    #[arg(value_name = "PLACE", required = true)]
    places: Vec<String>,
    /// Goes on until SIGINT or SIGTERM with what is added to the places.
    #[arg(long)]
    follow: bool,
    /// The URL of an SQS queue with the events of the logs' bucket, by which --follow learns of new logs at once. It must be a queue
    /// of its own: each message is deleted when its logs are read. Without it, buckets are listed every minute.
    #[arg(long, value_name = "URL", requires = "follow")]
    queue: Option<String>,
    /// The connection that reads buckets; the only connection if absent.
    #[arg(long, value_name = "NAME")]
    connection: Option<ConnectionName>,
    /// The audit logs' directories, for several workers [default: the configuration's]
    #[arg(long = "audit", value_name = "DIR")]
    audit: Vec<PathBuf>,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A place with access logs.
enum LogPlace {
    Path(PathBuf),
    Objects { bucket: Bucket, prefix: String },
}

impl LogPlace {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let Some(place) = text.strip_prefix("s3://") else {
            return Ok(Self::Path(text.into()));
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let bucket = bucket
            .parse()
            .map_err(|error| CommandError::Usage(format!("{text}: the bucket {error}")))?;
        Ok(Self::Objects {
            bucket,
            prefix: prefix.to_owned(),
        })
    }
}

impl LogPlace {
    /// Whether an object is in the place.
    fn has(&self, of: &str, key: &str) -> bool {
        match self {
            Self::Path(_) => false,
            Self::Objects { bucket, prefix } => bucket.as_str() == of && key.starts_with(prefix),
        }
    }
}

/// Runs the command.
pub(super) async fn access(
    command: AccessCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let AccessCommand::Read(arguments) = command;
    let config = arguments.config.load(environment)?;
    let places: Vec<LogPlace> = arguments
        .places
        .iter()
        .map(|text| LogPlace::parse(text))
        .collect::<Result<_, _>>()?;
    let has_buckets = places
        .iter()
        .any(|place| matches!(place, LogPlace::Objects { .. }));
    // One at a time, since each writes what it knows of requests that were seen.
    let mut beside = Beside::of_command(LAST_STEP)?;
    let state = Directory::make_own(&config.state_dir)?;
    let lock = state.lock_file("access.lock", 0o600)?;
    directory::lock(&lock, &config.state_dir.join("access.lock"))?;
    let archive = Box::pin(ReadArchive::of(&arguments.archive, &config, environment)).await?;
    let audit = audit_places(&config, &arguments.audit).into_iter();
    let audit: Vec<LogSource> = audit.map(|log| archive.beside(log.place)).collect();
    audit.iter().for_each(tell_unread);
    let mut reader = AccessReader {
        audit,
        book: AccessBook::open(&config.state_dir)?,
        origin_paths: config
            .connections
            .values()
            .filter_map(|connection| connection.cloudfront.as_ref()?.origin_path.clone())
            .collect(),
        config: &config,
        known: None,
        counts: ReadSummary::default(),
    };
    let connections = match has_buckets {
        true => Some(Box::pin(OpenConnections::open(&config, environment)).await?),
        false => None,
    };
    let store = match &connections {
        Some(connections) => {
            if let Some(name) = &arguments.connection {
                config.connection(name.as_str())?;
            }
            let named = connections.named(arguments.connection.as_ref());
            let (_, connection) = named.ok_or_else(|| {
                let known: Vec<&str> = config.connections.keys().map(String::as_str).collect();
                CommandError::Usage(format!(
                    "--connection is missing: name the connection that reads the logs; known: {}",
                    known.join(", ")
                ))
            })?;
            Some(&*connection.store)
        }
        None => None,
    };
    let queue = match &arguments.queue {
        Some(url) => Some(Box::pin(event_queue(&config, url, environment)).await?),
        None => None,
    };
    let origin = LogOrigin {
        places: &places,
        store,
        queue: queue.as_deref(),
    };
    tokio::select! {
        () = beside.told(1) => anyhow::ensure!(arguments.follow, exit::Interrupted),
        read = Box::pin(reader.read(&origin, arguments.follow)) => read?,
    }
    if let Some(connections) = connections {
        connections.close().await;
    }
    archive.close().await;
    reader.tell(arguments.form.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Where logs come from.
struct LogOrigin<'a> {
    places: &'a [LogPlace],
    store: Option<&'a dyn ObjectStore>,
    queue: Option<&'a dyn Queue>,
}

/// A step that `--follow` repeats: its first failure is told, and the success after it.
struct FollowedStep {
    again: &'static str,
    pause: Option<Duration>,
}

impl FollowedStep {
    const fn new(again: &'static str) -> Self {
        Self { again, pause: None }
    }

    /// The pause before the next try; `None` after a success.
    fn pause_after(&mut self, result: anyhow::Result<()>) -> Option<Duration> {
        let before = self.pause.take();
        self.pause = match (result, before) {
            (Ok(()), None) => None,
            (Ok(()), Some(_)) => {
                complain(self.again);
                None
            }
            (Err(error), None) => {
                complain(format_args!("{error:#}; trying again until it is stopped"));
                Some(FOLLOW)
            }
            (Err(_), Some(before)) => Some((before * 2).min(FOLLOW_BUCKETS)),
        };
        self.pause
    }
}

/// The queue with the events of the logs' bucket. What `[queue]` says of an SQS queue's server counts for it, too.
async fn event_queue(
    config: &Config,
    url: &str,
    environment: &Environment,
) -> anyhow::Result<Arc<dyn Queue>> {
    let mut of_events = config.clone();
    if config.queue.kind != QueueKind::Sqs {
        of_events.queue = QueueConfig::default();
    }
    of_events.queue.kind = QueueKind::Sqs;
    of_events.queue.url = Some(url.to_owned());
    of_events.queue.parked_url = None;
    Ok(assemble::open_queue(&of_events, environment, clock::system).await?)
}

/// The audit logs that are named, or the configuration's.
pub(super) fn audit_places(config: &Config, named: &[PathBuf]) -> Vec<LogSource> {
    match named.is_empty() {
        true => vec![config.audit_place().into()],
        false => named.iter().map(LogSource::from).collect(),
    }
}

#[derive(Debug, Default, Serialize, schemars::JsonSchema)]
struct ReadSummary {
    files: u64,
    known_files: u64,
    unreadable_files: u64,
    #[serde(flatten)]
    lines: ReadCounts,
}

/// Reads files, and loads the ids of the audit log before the first of a round.
struct AccessReader<'a> {
    audit: Vec<LogSource>,
    book: AccessBook,
    origin_paths: Vec<String>,
    config: &'a Config,
    known: Option<KnownLinks>,
    counts: ReadSummary,
}

impl AccessReader<'_> {
    /// Forgets what is older than the configuration says, and the ids of the last round: the audit log goes on.
    fn forget(&mut self) -> anyhow::Result<()> {
        let now = clock::system().as_second();
        self.book.forget(self.keep_from(now), now)?;
        self.known = None;
        Ok(())
    }

    /// The first instant that is kept, in seconds since 1970.
    fn keep_from(&self, now: i64) -> i64 {
        let keep = i64::try_from(self.config.access.keep.as_secs()).unwrap_or(i64::MAX);
        now.saturating_sub(keep)
    }

    fn joined<T>(&mut self, read: impl FnOnce(&mut Joiner<'_>) -> T) -> anyhow::Result<T> {
        let known = match self.known.take() {
            Some(known) => known,
            None => KnownLinks::of_logs(&self.audit).context("could not read the audit log")?,
        };
        let now = clock::system().as_second();
        let privacy = ClientPrivacy {
            detail: self.config.access.addresses,
            now,
            since: self.keep_from(now),
        };
        let mut joiner = Joiner::new(&known, &self.origin_paths, privacy, &mut self.book);
        let result = read(&mut joiner);
        joiner.write()?;
        self.counts.lines.add(&joiner.counts());
        self.known = Some(known);
        Ok(result)
    }

    fn read_path(&mut self, path: &Path) -> anyhow::Result<()> {
        let files = files_in(path).with_context(|| format!("could not read {}", path.display()))?;
        // What is complete comes first, in the order of its time where names have one.
        let is_new = |book: &AccessBook, file: &PathBuf| has_news(book, file);
        let news: Vec<PathBuf> = files
            .iter()
            .filter(|file| is_new(&self.book, file))
            .cloned()
            .collect();
        self.counts.known_files += (files.len() - news.len()) as u64;
        let now = clock::system().as_second();
        for file in &files {
            self.book
                .is_there(&std::path::absolute(file)?.to_string_lossy(), now)?;
        }
        if news.is_empty() {
            return Ok(());
        }
        let outcomes = self.joined(|joiner| -> Vec<_> {
            news.iter().map(|file| read_file(file, joiner)).collect()
        })?;
        for outcome in outcomes {
            match outcome {
                Ok(FileOutcome::Read) => self.counts.files += 1,
                Ok(FileOutcome::Known) => self.counts.known_files += 1,
                Err(error @ handout::access::reading::LogReadError::File { .. }) => {
                    self.counts.unreadable_files += 1;
                    complain(handout::text::chain(&error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads all places, once, or again and again.
    async fn read(&mut self, origin: &LogOrigin<'_>, follows: bool) -> anyhow::Result<()> {
        if !follows {
            return self.read_places(origin).await;
        }
        let mut reading = FollowedStep::new("the logs are read again");
        let mut news = FollowedStep::new("the events of new logs are received again");
        loop {
            let read = self.read_places(origin).await;
            let pause = match reading.pause_after(read) {
                None => news.pause_after(self.wait_for_news(origin).await),
                pause => pause,
            };
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn read_places(&mut self, origin: &LogOrigin<'_>) -> anyhow::Result<()> {
        self.forget()?;
        for place in origin.places {
            match (place, &origin.store) {
                (LogPlace::Path(path), _) => self.read_path(path)?,
                (LogPlace::Objects { bucket, prefix }, Some(store)) => {
                    Box::pin(self.read_objects(*store, bucket, prefix)).await?;
                }
                (LogPlace::Objects { .. }, None) => {}
            }
        }
        Ok(())
    }

    async fn wait_for_news(&mut self, origin: &LogOrigin<'_>) -> anyhow::Result<()> {
        match (origin.queue, &origin.store) {
            (Some(queue), Some(store)) => {
                return Box::pin(self.follow(queue, *store, origin.places)).await;
            }
            (None, Some(_)) => tokio::time::sleep(FOLLOW_BUCKETS).await,
            (_, None) => tokio::time::sleep(FOLLOW).await,
        }
        Ok(())
    }

    /// Reads the logs that events name, for a while; then all places are looked at again, since events may be lost.
    async fn follow(
        &mut self,
        queue: &dyn Queue,
        store: &dyn ObjectStore,
        places: &[LogPlace],
    ) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + LIST_AGAIN;
        while tokio::time::Instant::now() < end {
            let messages = queue.receive(10, HIDDEN, POLL).await?;
            // The audit log has new links by now.
            self.known = None;
            for message in messages {
                let Some(objects) = objects_in(&message.body) else {
                    complain(
                        "a message of the queue is no event of S3; it stays there for the queue's redrive policy",
                    );
                    continue;
                };
                for (bucket, key) in objects {
                    let is_here = places.iter().any(|place| place.has(&bucket, &key));
                    let (Ok(bucket), Ok(key)) = (bucket.parse::<Bucket>(), key.parse::<Key>())
                    else {
                        continue;
                    };
                    if !is_here {
                        continue;
                    }
                    match store.head(&bucket, &key).await {
                        Ok(object) => self.read_object(store, &bucket, &object).await?,
                        // A lifecycle rule was quicker.
                        Err(error) if error.fact == ErrorKind::NotFound => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                queue.delete(&message.receipt).await?;
            }
        }
        Ok(())
    }

    async fn read_objects(
        &mut self,
        store: &dyn ObjectStore,
        bucket: &Bucket,
        prefix: &str,
    ) -> anyhow::Result<()> {
        let mut token: Option<String> = None;
        loop {
            let cursor = token.as_deref().map_or(Cursor::Start, Cursor::Token);
            let page = store
                .list(bucket, prefix, Versions::Floating, cursor)
                .await?;
            for object in &page.objects {
                self.read_object(store, bucket, object).await?;
            }
            match page.continuation_token {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                _ => return Ok(()),
            }
        }
    }

    async fn read_object(
        &mut self,
        store: &dyn ObjectStore,
        bucket: &Bucket,
        object: &ObjectMeta,
    ) -> anyhow::Result<()> {
        let name = format!("s3://{bucket}/{}", object.key);
        let mark = FileMark {
            size: object.size_bytes,
            modified: object.modified.as_second(),
            consumed: 0,
            head: handout::access::identity::mix(0, object.etag.as_bytes()),
        };
        let known = self.book.mark(&name)?;
        let is_known =
            known.is_some_and(|known| (known.size, known.head) == (mark.size, mark.head));
        if is_known || object.size_bytes == 0 || object.key.as_str().ends_with('/') {
            self.counts.known_files += 1;
            self.book.is_there(&name, clock::system().as_second())?;
            return Ok(());
        }
        // The log has URLs: the copy has no name, and goes with the process.
        let mut copy = tempfile::tempfile_in(&self.config.state_dir)
            .context("could not make a file for a copy of the log")?;
        let mut from = 0;
        while from < object.size_bytes {
            let to = (from + PIECE).min(object.size_bytes);
            let bytes = store.range(bucket, object, from..to).await?;
            copy.write_all(&bytes)
                .context("could not keep a copy of the log")?;
            from = to;
        }
        copy.rewind()?;
        let read = self.joined(|joiner| read_whole(&copy, &name, mark, joiner))?;
        match read {
            Ok(()) => self.counts.files += 1,
            Err(error @ handout::access::reading::LogReadError::File { .. }) => {
                self.counts.unreadable_files += 1;
                complain(handout::text::chain(&error));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn tell(&self, json: bool) -> anyhow::Result<()> {
        let counts = &self.counts;
        if json {
            say_json(counts)?;
            return Ok(());
        }
        let lines = &counts.lines;
        say(format_args!(
            "{} in {} ({} read before): {} by links of this installation",
            counted(lines.lines, "line"),
            counted(counts.files, "file"),
            counts.known_files,
            counted(lines.joined, "request")
        ))?;
        let left_out = [
            (lines.doubles, "logged twice"),
            (lines.unknown, "with an id that the audit log does not have"),
            (lines.forged, "with the id of another file"),
            (lines.unsigned, "with an id and without a link's signature"),
            (lines.old, "older than access.keep"),
            (lines.malformed, "lines that do not fit their format"),
            (counts.unreadable_files, "files that could not be read"),
        ];
        if lines.trail > 0 {
            say(format_args!(
                "  evidence of CloudTrail: {} by presigned URLs, which `handout opens` compares with the access logs",
                counted(lines.trail, "request")
            ))?;
        }
        for (count, words) in left_out.into_iter().filter(|(count, _)| *count > 0) {
            say(format_args!("  left out: {count} {words}"))?;
        }
        Ok(())
    }
}

/// Whether a file was changed since it was read.
fn has_news(book: &AccessBook, file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(absolute) = std::path::absolute(file) else {
        return true;
    };
    let mark = book.mark(&absolute.to_string_lossy()).ok().flatten();
    let about = std::fs::metadata(file).ok();
    match (mark, about) {
        (Some(mark), Some(about)) => mark.size != about.len() || mark.modified != about.mtime(),
        _ => true,
    }
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![OutputSchema::of::<ReadSummary>(
        "access-read",
        "handout access read",
    )]
}
