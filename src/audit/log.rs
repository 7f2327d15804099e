//! The log's writer: one thread, one file, one `fdatasync` for all who wait.
//!
//! Callers hand over records and wait. The writer takes what has piled up, chains it, writes it, syncs it, and
//! only then lets them go on. After a failed write or sync nothing is written any more: Linux marks the pages
//! clean, and a second sync would succeed over lost data (`PostgreSQL`'s "fsyncgate", 2018).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::chain::Head;
use super::record::{AuditRecord, closed, opened, recovered};
use crate::clock::Clock;
use crate::keyring::sha256_hex;

/// How many requests may wait for the writer before callers wait to hand theirs over.
const QUEUE: usize = 1024;

/// How many records go into one group at the most: bounds the memory of a write and the wait for a sync.
const MAX_GROUP: usize = 10_000;

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
    /// A segment was changed before its end.
    #[error(
        "the audit log {path} is damaged at line {line}: {reason}; move it aside for an investigation (`handout audit verify` shows more), then start again"
    )]
    Damaged {
        /// The segment.
        path: String,
        /// The first bad line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// A handle to the writer.
#[derive(Debug, Clone)]
pub struct AuditLog {
    sender: mpsc::Sender<Request>,
    failed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Request {
    records: Vec<AuditRecord>,
    done: oneshot::Sender<Result<(), RecordError>>,
}

/// Ends the log in order when it is closed; without, the next start finds a stream that broke off.
#[derive(Debug)]
pub struct Writer {
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    /// Waits until all handles are gone and the last line is written.
    pub fn close(self) {
        if self.thread.join().is_err() {
            tracing::error!("the audit log's writer panicked");
        }
    }
}

impl AuditLog {
    /// Opens a stream of its own in `dir`, after mending streams that broke off there.
    pub fn open(dir: &Path, program: &str, clock: Clock) -> Result<(Self, Writer), RecordError> {
        let failed = |source| RecordError::Open {
            path: dir.display().to_string(),
            source: Arc::new(source),
        };
        fs::create_dir_all(dir).map_err(failed)?;
        recover(dir, clock)?;
        let mut segment = Segment::create(dir, clock).map_err(failed)?;
        let write = segment.append(&[opened(program)]);
        write
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(failed)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let failed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&failed);
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write_groups(segment, receiver, &flag))
            .map_err(|source| RecordError::Open {
                path: "a writer thread".to_owned(),
                source: Arc::new(source),
            })?;
        Ok((Self { sender, failed }, Writer { thread }))
    }

    /// Writes the records and returns when they are on the disk.
    pub async fn append(&self, records: Vec<AuditRecord>) -> Result<(), RecordError> {
        if records.is_empty() {
            return Ok(());
        }
        let (done, written) = oneshot::channel();
        self.sender
            .send(Request { records, done })
            .await
            .map_err(|_| RecordError::Closed)?;
        written.await.map_err(|_| RecordError::Closed)?
    }

    /// Whether a write or a sync has failed: the daemon must stop.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

fn write_groups(mut segment: Segment, mut receiver: mpsc::Receiver<Request>, failed: &AtomicBool) {
    while let Some(first) = receiver.blocking_recv() {
        let mut waiting = vec![first.done];
        let mut records = first.records;
        while records.len() < MAX_GROUP {
            let Ok(next) = receiver.try_recv() else { break };
            records.extend(next.records);
            waiting.push(next.done);
        }
        let result = segment.append(&records).map_err(|source| {
            failed.store(true, Ordering::Relaxed);
            RecordError::Write {
                path: segment.path.display().to_string(),
                source: Arc::new(source),
            }
        });
        for done in waiting {
            // Somebody who does not wait any more was cancelled; the line stands all the same.
            drop(done.send(result.clone()));
        }
        if result.is_err() {
            return;
        }
    }
    if let Err(error) = segment.append(&[closed()]) {
        tracing::error!(%error, "the audit log could not be closed");
    }
}

/// One file of a stream, locked for as long as it is written.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    head: Head,
    clock: Clock,
    buffer: String,
}

impl Segment {
    fn create(dir: &Path, clock: Clock) -> io::Result<Self> {
        let mut nonce = [0; 4];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let instant = clock().strftime("%Y%m%dT%H%M%SZ").to_string();
        let stream = format!("{instant}-{}", crate::keyring::hex(&nonce));
        let path = dir.join(format!("{stream}.0001.jsonl"));
        // Locked before it has its name: another process that starts now would take it for one that broke off.
        let draft = path.with_extension("draft");
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o640)
            .open(&draft)?;
        file.lock()?;
        fs::rename(&draft, &path)?;
        Ok(Self {
            path,
            file,
            head: Head::new(&stream),
            clock,
            buffer: String::new(),
        })
    }

    fn append(&mut self, records: &[AuditRecord]) -> io::Result<()> {
        self.buffer.clear();
        let now = (self.clock)();
        for record in records {
            self.head.append(record, now, &mut self.buffer);
        }
        self.file.write_all(self.buffer.as_bytes())?;
        self.file.sync_data()
    }
}

/// The segments of a directory, oldest first.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The stream that a segment's file name belongs to.
pub(super) fn stream_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Mends every stream that broke off: a torn last line is cut and kept aside, and a last record says so.
///
/// A torn line belongs to links that never left: they leave only after the sync of their whole line.
fn recover(dir: &Path, clock: Clock) -> Result<(), RecordError> {
    let failed = |path: &Path, source| RecordError::Open {
        path: path.display().to_string(),
        source: Arc::new(source),
    };
    for path in segments(dir).map_err(|source| failed(dir, source))? {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(&path)
            .map_err(|source| failed(&path, source))?;
        // A locked segment is another living process's.
        if file.try_lock().is_ok() {
            recover_segment(&path, &mut file, clock)?.map_err(|source| failed(&path, source))?;
        }
    }
    Ok(())
}

fn recover_segment(
    path: &Path,
    file: &mut File,
    clock: Clock,
) -> Result<io::Result<()>, RecordError> {
    match ends_in_order(file) {
        Ok(true) => return Ok(Ok(())),
        Ok(false) => {}
        Err(error) => return Ok(Err(error)),
    }
    let mut head = Head::new(&stream_of(path));
    let (mut whole, mut line) = (0, Vec::new());
    let mut reader = io::BufReader::new(&*file);
    if let Err(error) = reader.seek(SeekFrom::Start(0)) {
        return Ok(Err(error));
    }
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Err(error) => return Ok(Err(error)),
            Ok(_) if !line.ends_with(b"\n") => break,
            Ok(length) => whole += length as u64,
        }
        let number = head.len() + 1;
        head.check(&line).map_err(|error| RecordError::Damaged {
            path: path.display().to_string(),
            line: number,
            reason: error.to_string(),
        })?;
    }
    Ok(cut_and_note(path, file, &line, whole, head, clock))
}

fn cut_and_note(
    path: &Path,
    file: &mut File,
    torn: &[u8],
    whole: u64,
    mut head: Head,
    clock: Clock,
) -> io::Result<()> {
    if !torn.is_empty() {
        let aside = path.with_extension("torn");
        fs::write(&aside, torn)?;
        File::open(&aside)?.sync_all()?;
        file.set_len(whole)?;
    }
    let mut line = String::new();
    head.append(
        &recovered(torn.len(), &sha256_hex(torn)),
        clock(),
        &mut line,
    );
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

/// Whether the last line says that the stream is over; reads only the end of the file.
fn ends_in_order(file: &mut File) -> io::Result<bool> {
    const LAST_LINE_AT_MOST: u64 = 4096;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINE_AT_MOST)))?;
    let mut tail = Vec::new();
    file.take(LAST_LINE_AT_MOST).read_to_end(&mut tail)?;
    let Some(tail) = tail.strip_suffix(b"\n") else {
        return Ok(false);
    };
    let from = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    Ok(is_last(&tail[from..]))
}

/// Whether a line is one after which nothing may come in its stream.
pub(super) fn is_last(line: &[u8]) -> bool {
    serde_json::from_slice::<super::chain::LineHead>(line)
        .is_ok_and(|head| matches!(head.ev.as_str(), "close" | "recover"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify::verify;

    fn clock() -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn record(number: usize) -> AuditRecord {
        AuditRecord {
            event: "issue",
            fields: format!("\"number\":{number}"),
        }
    }

    async fn written(dir: &Path, records: usize) {
        let (log, writer) = AuditLog::open(dir, "test", clock).unwrap();
        for number in 0..records {
            log.append(vec![record(number)]).await.unwrap();
        }
        drop(log);
        writer.close();
    }

    fn only_segment(dir: &Path) -> PathBuf {
        segments(dir).unwrap().remove(0)
    }

    #[tokio::test]
    async fn a_log_that_was_closed_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 3).await;
        let report = verify(dir.path()).unwrap();
        assert_eq!(
            (report.lines, report.streams, report.problems.len()),
            (5, 1, 0)
        );
    }

    /// Commands come and go while the daemon writes: none may take another's new stream for a broken one.
    #[test]
    fn streams_that_open_at_the_same_time_leave_each_other_alone() {
        let dir = tempfile::tempdir().unwrap();
        let open_and_close = || {
            for _ in 0..25 {
                let (log, writer) = AuditLog::open(dir.path(), "test", clock).unwrap();
                drop(log);
                writer.close();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(open_and_close);
            }
        });
        let report = verify(dir.path()).unwrap();
        assert_eq!(
            (report.lines, report.streams, report.problems.len()),
            (200, 100, 0)
        );
    }

    /// A process can be killed, or the power fail, after any byte. The next start mends the stream and says so in it.
    #[tokio::test]
    async fn a_log_that_broke_off_at_any_byte_is_mended_and_nothing_whole_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 3).await;
        let segment = only_segment(dir.path());
        let bytes = fs::read(&segment).unwrap();
        let last = bytes[..bytes.len() - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap()
            + 1;
        for length in 0..last {
            fs::write(&segment, &bytes[..length]).unwrap();
            recover(dir.path(), clock).unwrap();
            let report = verify(dir.path()).unwrap();
            assert!(
                report.problems.is_empty(),
                "cut at {length}: {:?}",
                report.problems
            );
            let whole = bytes[..length]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count() as u64;
            assert_eq!(
                report.lines,
                whole + 1,
                "the whole lines and the one that says what was cut"
            );
            recover(dir.path(), clock).unwrap();
            assert_eq!(
                verify(dir.path()).unwrap().lines,
                whole + 1,
                "mended once is enough"
            );
        }
    }

    #[tokio::test]
    async fn damage_before_the_end_is_never_mended() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 3).await;
        let segment = only_segment(dir.path());
        let mut bytes = fs::read(&segment).unwrap();
        bytes.truncate(bytes.len() - 20);
        bytes[100] ^= 1;
        fs::write(&segment, &bytes).unwrap();
        let error = AuditLog::open(dir.path(), "test", clock).unwrap_err();
        assert!(matches!(error, RecordError::Damaged { .. }), "{error}");
        assert_eq!(
            fs::read(&segment).unwrap(),
            bytes,
            "the evidence is as it was"
        );
    }
}
