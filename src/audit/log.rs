//! The log's writer: one thread, one stream, and one `fdatasync` for all waiting callers.
//!
//! Callers send records and wait. The writer takes all queued records, chains them, writes them and syncs them, and
//! only then answers the callers. After a failed write or sync it stops: Linux marks the pages clean, and a second
//! sync would succeed although data is lost (`PostgreSQL`'s "fsyncgate", 2018).

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use directory::{Location, is_full, words_of_room};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::directory::LogDirectory;
use super::note::SigningKey;
use super::record::{AuditRecord, closed, opened};
use super::recover::{recover, sweep};
use super::remembered::Memory;
use super::room::DiskRoom;
use super::segment::WriteError;
use super::stream::{Stream, WriterContext};
use crate::bounds::{MAX_AUDIT_FRAME_BYTES, MAX_AUDIT_LINE_BYTES};
use crate::clock::Clock;
use crate::edge::health::{Edge, EdgeKind, FailureKind, Step};
use crate::quantity::Size;

/// How many requests the writer's queue holds before callers wait.
const QUEUE: usize = 1024;

/// The most records in a group: it bounds the memory of a write and the wait for a sync.
const MAX_GROUP: usize = 10_000;

/// How often a full disk is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Where and how a log is written.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// The directory.
    pub dir: Location,
    /// The key that signs its checkpoints and its registry.
    pub key: SigningKey,
    /// The size at which a segment is rotated.
    pub rotate_size: Size,
    /// The free space below which no messages are received.
    pub min_free: Size,
    /// Where the state of the registry is remembered, outside the directory.
    pub memory: Option<Memory>,
}

impl AuditSettings {
    /// The default settings, for a directory and a key.
    pub fn new(dir: impl Into<Location>, key: SigningKey) -> Self {
        Self {
            dir: dir.into(),
            key,
            rotate_size: Size::mebibytes(64),
            min_free: Size::mebibytes(100),
            memory: None,
        }
    }
}

impl AuditSettings {
    pub(super) fn means(&self, clock: Clock) -> Result<WriterContext, RecordError> {
        let directory = LogDirectory::make(&self.dir);
        Ok(WriterContext {
            directory: directory.map_err(|source| open_failed(&self.dir, source))?,
            key: self.key.clone(),
            memory: self.memory.clone(),
            rotate_size: self.rotate_size.as_bytes(),
            clock,
        })
    }
}

/// Why lines could not be made durable, or the log could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    /// The disk failed. The process must not issue links any more.
    #[error(
        "the audit log {path} could not be written; no link leaves without its line, so nothing more is handed out"
    )]
    Write {
        /// The segment.
        path: String,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// Another process changed the file that is being written. The process must not issue links any more.
    #[error(
        "the audit log {path} was changed by another process: {reason}; nothing more is handed out. Handout rotates the log itself (audit.rotate_size): exclude it from logrotate"
    )]
    Changed {
        /// The segment.
        path: String,
        /// The change.
        reason: &'static str,
    },
    /// A record that readers of the log would reject. If it were written, it would be damage.
    #[error(
        "the audit line of the event {event} would have more than {MAX_AUDIT_LINE_BYTES} bytes, the limit of a line"
    )]
    TooLong {
        /// The event of the record.
        event: &'static str,
    },
    /// The writer has stopped, after a failure or at the end of the program.
    #[error("the audit log is closed")]
    Closed,
    /// The directory could not be prepared.
    #[error("could not open the audit log in {path}")]
    Open {
        /// The directory or file.
        path: String,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// An interrupted stream belongs to another user, so that it cannot be ended.
    #[error(
        "the audit log {path} belongs to another user and was not closed, so it must be ended: give it to the directory's owner (chown --reference), then start again"
    )]
    Foreign {
        /// The segment.
        path: String,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// A segment was changed before its end.
    #[error(
        "the audit log {path} is damaged at line {line}: {reason}; bring the stream's files back as they were, or keep them for an investigation and give the stream up with `handout audit accept-loss {stream}`, then start again"
    )]
    Damaged {
        /// The segment.
        path: String,
        /// The stream.
        stream: String,
        /// The first bad line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry of streams was changed.
    #[error(
        "the registry streams.note of the audit log in {path} {reason}; bring the secret or the registry back, or move the directory aside for an investigation and start with a new one"
    )]
    Registry {
        /// The directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RecordError {
    /// Whether the disk is full, and the log is intact.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Write { source, .. } | Self::Open { source, .. } => is_full(source),
            _ => false,
        }
    }

    /// Whether only the stream's end is missing, which the next start writes: the disk is full, or another process held the
    /// directory's lock for too long.
    pub fn lacks_end(&self) -> bool {
        let is_late =
            matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::TimedOut);
        is_late || self.is_full()
    }

    /// Whether the log was changed, rather than that the disk failed.
    pub fn is_damage(&self) -> bool {
        use io::ErrorKind::{InvalidData, InvalidInput};
        match self {
            Self::Changed { .. } | Self::Damaged { .. } | Self::Registry { .. } => true,
            // A symbolic link, a FIFO, or a changed note: a disk failure does not cause these.
            Self::Open { source, .. }
            | Self::Foreign { source, .. }
            | Self::Write { source, .. } => {
                matches!(source.kind(), InvalidData | InvalidInput)
            }
            Self::Closed | Self::TooLong { .. } => false,
        }
    }
}

/// The error of opening the log.
pub(super) fn open_failed(path: &Path, source: io::Error) -> RecordError {
    RecordError::Open {
        path: path.display().to_string(),
        source: Arc::new(source),
    }
}

/// A handle to the writer.
#[derive(Debug, Clone)]
pub struct AuditLog {
    sender: mpsc::Sender<WriterRequest>,
    watch: Watch,
}

#[derive(Debug)]
struct WriterRequest {
    records: Vec<AuditRecord>,
    done: oneshot::Sender<Result<(), RecordError>>,
}

/// The step of a write, for the edge of the log's disk.
const WRITING: Step = Step::only("a write");

/// The health of a log, for tasks that do not write to it. It does not keep the log open.
#[derive(Debug, Clone)]
pub struct Watch {
    failure: Arc<OnceLock<RecordError>>,
    /// Cancelled after `failure` is set.
    has_failed: CancellationToken,
    room: DiskRoom,
    edge: Edge,
}

impl Watch {
    fn of(settings: &AuditSettings, edge: Edge) -> Self {
        Self {
            failure: Arc::default(),
            has_failed: CancellationToken::new(),
            room: DiskRoom::new(&settings.dir, settings.min_free),
            edge,
        }
    }

    /// Records the failure that stopped the writer, unless an earlier one is recorded.
    fn fail(&self, error: RecordError) {
        drop(self.failure.set(error));
        self.has_failed.cancel();
    }

    /// Waits until the writer has stopped after a failure. It does not return before that.
    pub async fn failed(&self) {
        self.has_failed.cancelled().await;
    }

    /// The failure that stopped the writer, if there was one: the daemon must stop.
    pub fn failure(&self) -> Option<&RecordError> {
        self.failure.get()
    }

    /// How much room the disk has.
    pub const fn room(&self) -> &DiskRoom {
        &self.room
    }
}

/// Ends the log in order when it is closed. If it is not closed, the next start finds an interrupted stream.
#[derive(Debug)]
pub struct Writer {
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    /// Waits until all handles are dropped and the last line is written.
    pub fn close(self) {
        if self.thread.join().is_err() {
            tracing::error!("the audit log's writer panicked");
        }
    }
}

impl AuditLog {
    /// Opens a new stream, after it has ended the interrupted streams of the directory.
    pub fn open(
        settings: &AuditSettings,
        program: &str,
        clock: Clock,
    ) -> Result<(Self, Writer), RecordError> {
        let failed = |source| open_failed(&settings.dir, source);
        let means = settings.means(clock)?;
        let mut stream = {
            let _lock = means.directory.lock().map_err(failed)?;
            let registry = recover(&means)?;
            sweep(&means, &registry)?;
            Stream::open(means, registry).map_err(failed)?
        };
        let first = stream.append(&[opened(program, &settings.key.public())]);
        first.map_err(|error| stopped(&stream, error))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let subject = format!("the audit log in {}", settings.dir.display());
        let watch = Watch::of(settings, Edge::new(EdgeKind::Audit, "log", subject));
        let its = watch.clone();
        // The thread has its own timers: it writes checkpoints also without calls.
        let timers = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                let mut receiver = receiver;
                if let Err(error) = write_groups(stream, &mut receiver, &timers, &its) {
                    tracing::error!(
                        error = crate::text::chain(&error),
                        "the audit log has stopped"
                    );
                    // Before callers find the log closed. The failure of a group is already set: its callers were
                    // answered after that.
                    its.fail(error);
                }
            })
            .map_err(failed)?;
        Ok((Self { sender, watch }, Writer { thread }))
    }

    /// Writes the records and returns when they are on the disk.
    pub async fn append(&self, records: Vec<AuditRecord>) -> Result<(), RecordError> {
        if records.is_empty() {
            return Ok(());
        }
        let longest = MAX_AUDIT_LINE_BYTES - MAX_AUDIT_FRAME_BYTES;
        if let Some(long) = records.iter().find(|record| record.fields.len() > longest) {
            return Err(RecordError::TooLong { event: long.event });
        }
        let (done, written) = oneshot::channel();
        // A disk that hangs returns no error.
        let _under_way = self.edge().asked(WRITING);
        self.sender
            .send(WriterRequest { records, done })
            .await
            .map_err(|_| self.closed())?;
        let written = written.await.map_err(|_| self.closed())?;
        self.edge().replied(WRITING);
        written
    }

    fn closed(&self) -> RecordError {
        self.watch.failure().cloned().unwrap_or(RecordError::Closed)
    }

    /// Whether the writer has stopped after a failure: the daemon must stop.
    pub fn has_failed(&self) -> bool {
        self.watch.failure().is_some()
    }

    /// How much room the disk has.
    pub const fn room(&self) -> &DiskRoom {
        self.watch.room()
    }

    /// The health of its disk: down while it is too full for a write.
    pub const fn edge(&self) -> &Edge {
        &self.watch.edge
    }

    /// The health of the log, without keeping it open.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

fn stopped(stream: &Stream, error: WriteError) -> RecordError {
    stopped_at(stream.segment().path(), error)
}

fn stopped_at(path: &Path, error: WriteError) -> RecordError {
    let path = path.display().to_string();
    match error {
        WriteError::Disk(source) => RecordError::Write {
            path,
            source: Arc::new(source),
        },
        WriteError::Changed(reason) => RecordError::Changed { path, reason },
    }
}

/// Writes until all handles are dropped, or a failure. A full disk is an outage: waiting callers get the error, and the
/// disk is tried until it has space.
fn write_groups(
    mut stream: Stream,
    receiver: &mut mpsc::Receiver<WriterRequest>,
    timers: &Runtime,
    watch: &Watch,
) -> Result<(), RecordError> {
    let edge = &watch.edge;
    // How many bytes did not fit: the disk is not tried while it has less free space.
    let mut refused = 0;
    loop {
        let has_no_room = edge.outage().is_some();
        let due = match has_no_room {
            true => Instant::now() + TRY_EVERY,
            false => stream.due(),
        };
        let next = timers.block_on(async { timeout_at(due, receiver.recv()).await });
        let done = match next {
            Ok(None) => break,
            Ok(Some(first)) => write_group(&mut stream, first, receiver, watch),
            Err(_elapsed) if has_no_room && !watch.room.has(refused) => Ok(()),
            Err(_elapsed) if has_no_room => {
                refused = 0;
                let tended = stream.tend_at_once();
                tended
                    .map_err(|error| stopped(&stream, error))
                    .inspect(|()| edge.answered())
            }
            Err(_elapsed) => Ok(()),
        };
        let done = done.and_then(|()| match edge.outage() {
            Some(_) => Ok(()),
            None => stream.tend().map_err(|error| stopped(&stream, error)),
        });
        match done {
            Err(RecordError::Write { source, .. }) if is_full(&source) => {
                refused = refused.max(stream.last_written());
                edge.failed(FailureKind::Full, &words_of_room(&source));
            }
            done => done?,
        }
    }
    let path = stream.segment().path().to_owned();
    let closing = stream.close(&closed());
    closing.map_err(|error| stopped_at(&path, error))
}

fn write_group(
    stream: &mut Stream,
    first: WriterRequest,
    receiver: &mut mpsc::Receiver<WriterRequest>,
    watch: &Watch,
) -> Result<(), RecordError> {
    let mut waiting = vec![first.done];
    let mut records = first.records;
    while records.len() < MAX_GROUP {
        let Ok(next) = receiver.try_recv() else { break };
        records.extend(next.records);
        waiting.push(next.done);
    }
    let result = stream.append(&records);
    let result = result.map_err(|error| stopped(stream, error));
    if let Err(error) = &result
        && !error.is_full()
    {
        watch.fail(error.clone());
    }
    for done in waiting {
        // A caller that does not wait any more was cancelled; its lines stay written.
        drop(done.send(result.clone()));
    }
    result
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;
    pub(in crate::audit) fn segments(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
        let directory = LogDirectory::open(&dir.into())?;
        let names = directory.segments()?.into_iter();
        Ok(names.map(|name| directory.path_of(&name)).collect())
    }

    use crate::audit::verify::{VerifyReport, verify};

    pub(in crate::audit) fn clock() -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    pub(in crate::audit) fn settings(dir: &Path) -> AuditSettings {
        AuditSettings::new(dir, SigningKey::from_seed(&[7; 32]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_said() {
        let (dir, (sender, _never_read)) = (tempfile::tempdir().unwrap(), mpsc::channel(QUEUE));
        let settings = settings(dir.path());
        let edge = Edge::new(EdgeKind::Audit, "log", "the audit log in /audit");
        let watch = Watch::of(&settings, edge);
        let log = AuditLog { sender, watch };
        let hangs = async {
            let write = log.append(vec![record(0)]);
            timeout_at(Instant::now() + Duration::from_secs(25), write).await
        };
        let says = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            log.edge().trouble().map(|trouble| trouble.to_string())
        };
        let (hung, said) = tokio::join!(hangs, says);
        assert!(hung.is_err());
        let said = said.unwrap();
        assert!(said.ends_with("waiting at a write"), "{said}");
        assert_eq!(log.edge().trouble(), None);
    }

    pub(in crate::audit) fn record(number: usize) -> AuditRecord {
        AuditRecord {
            event: "issue",
            fields: format!("\"number\":{number}").into(),
        }
    }

    #[tokio::test]
    async fn a_record_that_would_be_damage_is_refused_and_the_longest_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let (log, writer) = AuditLog::open(&settings, "test", clock).unwrap();
        let longest = MAX_AUDIT_LINE_BYTES - MAX_AUDIT_FRAME_BYTES;
        let of = |bytes: usize| AuditRecord {
            event: "published",
            fields: format!("\"place\":\"{}\"", "d".repeat(bytes - 10)).into(),
        };
        log.append(vec![of(longest)]).await.unwrap();
        let refused = log.append(vec![record(0), of(longest + 1)]).await;
        assert!(matches!(
            refused,
            Err(RecordError::TooLong { event: "published" })
        ));
        log.append(vec![record(1)]).await.unwrap();
        drop(log);
        writer.close();
        let report = verified(&settings);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(report.lines, 5);
    }

    /// A stream with a number of records, each a group of its own.
    async fn written(settings: &AuditSettings, records: usize) {
        let (log, writer) = AuditLog::open(settings, "test", clock).unwrap();
        for number in 0..records {
            log.append(vec![record(number)]).await.unwrap();
        }
        drop(log);
        writer.close();
    }

    fn verified(settings: &AuditSettings) -> VerifyReport {
        verify(&settings.dir, Some(&settings.key.public())).unwrap()
    }

    #[tokio::test]
    async fn a_log_that_was_closed_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        written(&settings, 3).await;
        let report = verified(&settings);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(
            (report.lines, report.streams, report.checkpoints),
            (6, 1, 1),
            "open, three records, a checkpoint, close"
        );
    }

    #[tokio::test]
    async fn checkpoints_come_every_thousand_lines_and_segments_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        settings.rotate_size = "100KB".parse().unwrap();
        let (log, writer) = AuditLog::open(&settings, "test", clock).unwrap();
        for _ in 0..7 {
            log.append((0..500).map(record).collect()).await.unwrap();
        }
        let living = verified(&settings);
        drop(log);
        writer.close();
        assert_eq!(
            (living.problems.len(), living.open),
            (0, 1),
            "{:?}",
            living.problems
        );
        let report = verified(&settings);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let segments = segments(dir.path()).unwrap();
        assert!(segments.len() > 3, "{segments:?}");
        assert_eq!(report.streams, 1);
        let rotations = segments.len() as u64 - 1;
        assert!(report.checkpoints > rotations + 1, "{}", report.checkpoints);
    }

    #[tokio::test]
    async fn a_new_day_begins_a_new_segment() {
        use std::sync::atomic::{AtomicI64, Ordering};
        static HOURS: AtomicI64 = AtomicI64::new(23);
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let clock = || jiff::Timestamp::from_second(HOURS.load(Ordering::Relaxed) * 3600).unwrap();
        let (log, writer) = AuditLog::open(&settings, "test", clock).unwrap();
        log.append(vec![record(1)]).await.unwrap();
        assert_eq!(segments(dir.path()).unwrap().len(), 1);
        HOURS.store(24, Ordering::Relaxed);
        log.append(vec![record(2)]).await.unwrap();
        drop(log);
        writer.close();
        assert_eq!(segments(dir.path()).unwrap().len(), 2);
        assert!(verified(&settings).problems.is_empty());
    }

    /// Commands start and end while the daemon writes: none may take another's new stream for an interrupted one.
    #[test]
    fn streams_that_open_at_the_same_time_leave_each_other_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let open_and_close = || {
            for _ in 0..10 {
                let (log, writer) = AuditLog::open(&settings, "test", clock).unwrap();
                drop(log);
                writer.close();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(open_and_close);
            }
        });
        let report = verified(&settings);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!((report.lines, report.streams), (120, 40));
    }

    /// Does to the file what logrotate's `copytruncate` and `create` do.
    #[tokio::test]
    async fn a_file_that_another_process_cuts_renames_or_writes_to_stops_the_log() {
        let cut = |path: &Path| drop(fs::write(path, ""));
        let rename = |path: &Path| fs::rename(path, path.with_extension("1")).unwrap();
        let exchange = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let write = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, [bytes, b"{}\n".to_vec()].concat()).unwrap();
        };
        let tamperings: [&dyn Fn(&Path); 4] = [&cut, &rename, &exchange, &write];
        for (index, tamper) in tamperings.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let (log, writer) = AuditLog::open(&settings(dir.path()), "test", clock).unwrap();
            log.append(vec![record(1)]).await.unwrap();
            tamper(&segments(dir.path()).unwrap()[0]);
            let error = log.append(vec![record(2)]).await.unwrap_err();
            assert!(error.is_damage(), "{index}: {error}");
            assert!(log.has_failed());
            let again = log.append(vec![record(3)]).await.unwrap_err();
            assert!(again.is_damage(), "{index}: {again}");
            drop(log);
            writer.close();
        }
    }
}
