//! A stream: one chain of lines over one or more segments, with its checkpoints, written by one process.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use presign::hex::hex;
use std::fs::File;
use std::io;
use std::time::Duration;
use tokio::time::Instant;

use super::chain::ChainHead;
use super::checkpoint::Checkpoint;
use super::directory::{LogDirectory, segment_name};
use super::note::SigningKey;
use super::record::{AuditRecord, checkpoint, rotated};
use super::registry::{Registry, RegistryEntry, state_name};
use super::remembered::Memory;
use super::seal::{SEAL_LINES, SealKey};
use super::segment::{Segment, WriteError};
use crate::clock::Clock;
use crate::failpoint::{self, Failpoint};

/// A checkpoint is written at the latest after this number of lines …
pub(super) const CHECKPOINT_LINES: u64 = 1000;

/// … or after this time, also without a new line: it proves that an idle stream was still alive.
const CHECKPOINT_TIME: Duration = Duration::from_secs(60);

/// How far the saved state may be behind the lines: within it, a cut at a group's end is not detected once the process is dead.
const STATE_TIME: Duration = Duration::from_secs(1);

/// The parts that a stream is written with.
#[derive(Debug, Clone)]
pub(super) struct WriterContext {
    pub(super) directory: LogDirectory,
    pub(super) key: SigningKey,
    pub(super) memory: Option<Memory>,
    pub(super) rotate_size: u64,
    pub(super) clock: Clock,
}

impl WriterContext {
    /// Saves an open stream's last state, in the log's directory and outside of it.
    fn keep_state(&self, stream: &str, state: &str) -> io::Result<()> {
        self.directory
            .replace(&state_name(stream), state.as_bytes())?;
        self.memory
            .as_ref()
            .map_or(Ok(()), |memory| memory.keep_state(stream, state))
    }

    /// Removes an ended stream's own state and its lock file. Files that are left behind are harmless: the registry decides.
    pub(super) fn forget_state(&self, stream: &str) -> io::Result<()> {
        self.directory.bury(stream)?;
        self.directory.remove(&state_name(stream))?;
        self.memory
            .as_ref()
            .map_or(Ok(()), |memory| memory.forget_state(stream))
    }
}

/// A stream that is being written.
#[derive(Debug)]
pub(super) struct Stream {
    means: WriterContext,
    seal: SealKey,
    /// The id of the log.
    log: String,
    head: ChainHead,
    segment: Segment,
    /// The lock file, locked while the stream is written.
    _alive: File,
    day: Date,
    /// The next segment, if the last line of this one names it and it does not exist yet, since the disk was full.
    next: Option<u32>,
    /// How many lines the last checkpoint covers, and when it was written.
    checkpoint: (u64, Instant),
    /// How many lines the saved state covers, and when it was written.
    state: (u64, Instant),
    buffer: String,
}

impl Stream {
    /// Creates a stream and enters it into the registry, which the caller has locked, read and brought up to date.
    pub(super) fn open(means: WriterContext, mut registry: Registry) -> io::Result<Self> {
        let directory = &means.directory;
        let now = (means.clock)();
        let stream = name(now)?;
        let alive = directory.enliven(&stream)?;
        let segment = Segment::create(directory, &stream, 1)?;
        let head = ChainHead::new(&stream);
        // The file exists, empty, before anything refers to it, and its state exists before the registry refers to it.
        let state = Checkpoint::of(&registry.log, &head).sign(&means.key);
        means.keep_state(&stream, &state)?;
        registry.streams.insert(stream, RegistryEntry::Open);
        registry.save(directory, means.memory.as_ref(), &means.key)?;
        directory.sync()?;
        Ok(Self {
            _alive: alive,
            seal: SealKey::of(&means.key),
            log: registry.log,
            head,
            segment,
            day: day(now),
            next: None,
            checkpoint: (0, Instant::now()),
            state: (0, Instant::now()),
            buffer: String::new(),
            means,
        })
    }

    /// The segment that is written now, for error messages.
    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// How many bytes the last write had, or would have had.
    pub(super) fn last_written(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Writes records and returns when they are on the disk.
    pub(super) fn append(&mut self, records: &[AuditRecord]) -> Result<(), WriteError> {
        let written = self.try_append(records);
        self.stopping(written)
    }

    fn try_append(&mut self, records: &[AuditRecord]) -> Result<(), WriteError> {
        self.segment.check_untouched()?;
        let now = (self.means.clock)();
        self.rotate_if_due(now)?;
        let at = spelled(now);
        self.write(|stream| {
            let mut unsealed = 0;
            for (left, record) in (0..records.len()).rev().zip(records) {
                unsealed += 1;
                if left == 0 || unsealed == SEAL_LINES {
                    stream.add_sealed(record, &at);
                    unsealed = 0;
                } else {
                    stream.head.append(record, &at, &mut stream.buffer);
                }
                if stream.head.len() - stream.checkpoint.0 >= CHECKPOINT_LINES {
                    stream.add_checkpoint(&at);
                    unsealed = 0;
                }
            }
        })
    }

    /// When [`Stream::tend`] has something to do.
    pub(super) fn due(&self) -> Instant {
        let checkpoint = self.checkpoint.1 + CHECKPOINT_TIME;
        match self.state.0 == self.head.len() {
            true => checkpoint,
            false => checkpoint.min(self.state.1 + STATE_TIME),
        }
    }

    /// Does what is due: writes a checkpoint, saves the state.
    pub(super) fn tend(&mut self) -> Result<(), WriteError> {
        let tended = self.try_tend(false);
        self.stopping(tended)
    }

    /// Does everything that [`Stream::tend`] can do, which shows whether the disk is full.
    pub(super) fn tend_at_once(&mut self) -> Result<(), WriteError> {
        let tended = self.try_tend(true);
        self.stopping(tended)
    }

    fn try_tend(&mut self, at_once: bool) -> Result<(), WriteError> {
        self.segment.check_untouched()?;
        self.begin_next()?;
        let now = Instant::now();
        if at_once || now >= self.checkpoint.1 + CHECKPOINT_TIME {
            let at = spelled((self.means.clock)());
            self.write(|stream| stream.add_checkpoint(&at))?;
        }
        let is_behind = self.state.0 != self.head.len();
        if is_behind && (at_once || now >= self.state.1 + STATE_TIME) {
            self.keep_state().map_err(WriteError::Disk)?;
        }
        Ok(())
    }

    /// Writes the last lines and enters the stream's end into the registry.
    pub(super) fn close(mut self, last: &AuditRecord) -> Result<(), WriteError> {
        let closed = self.try_close(last);
        self.stopping(closed)
    }

    fn try_close(&mut self, last: &AuditRecord) -> Result<(), WriteError> {
        self.segment.check_untouched()?;
        self.begin_next()?;
        let at = spelled((self.means.clock)());
        self.write(|stream| {
            stream.add_checkpoint(&at);
            stream.add_sealed(last, &at);
        })?;
        self.register(ended(&self.head))?;
        let forgotten = self.means.forget_state(self.head.stream());
        forgotten.map_err(WriteError::Disk)
    }

    /// Enters the state of the stream into the registry.
    fn register(&self, entry: RegistryEntry) -> Result<(), WriteError> {
        let WriterContext {
            directory,
            key,
            memory,
            ..
        } = &self.means;
        let _lock = directory.lock().map_err(WriteError::Disk)?;
        let registry = Registry::load(directory, Some(&key.public()));
        let Some(Ok(mut registry)) = registry.map_err(WriteError::Disk)? else {
            return Err(WriteError::Changed("the registry beside it was changed"));
        };
        // A registry with a valid signature may be an earlier copy or another log's: saved again, it would count as the last.
        let judged = memory
            .as_ref()
            .map(|memory| memory.judge(Some(&registry), &key.public()));
        let judged = judged.transpose().map_err(WriteError::Disk)?.flatten();
        if judged.is_some() || registry.log != self.log {
            return Err(WriteError::Changed(
                "the registry beside it is an earlier one, or another log's",
            ));
        }
        let stream = self.head.stream().to_owned();
        registry.streams.insert(stream, entry);
        let saved = registry.save(directory, memory.as_ref(), key);
        saved.map_err(WriteError::Disk)
    }

    /// After a change by another process was detected, the lines that were on the disk until then are the stream's final state.
    /// It is saved, signed and registered, so that the next start accepts no line after it.
    fn stopping(&mut self, done: Result<(), WriteError>) -> Result<(), WriteError> {
        if let Err(WriteError::Changed(_)) = done {
            let kept = self.keep_state().map_err(WriteError::Disk);
            let stopped = RegistryEntry::Stopped {
                lines: self.head.len(),
                root: self.head.root(),
            };
            // If the registry itself was changed, the next start stops there.
            let registered = self.register(stopped);
            for failed in [kept, registered] {
                if let Err(WriteError::Disk(error)) = failed {
                    tracing::error!(%error, "could not record where the audit log's stream was stopped");
                }
            }
        }
        done
    }

    fn rotate_if_due(&mut self, now: Timestamp) -> Result<(), WriteError> {
        self.begin_next()?;
        let today = day(now);
        if self.segment.size() < self.means.rotate_size && today == self.day {
            return Ok(());
        }
        let next = self.segment.number() + 1;
        let name = segment_name(self.head.stream(), next);
        let at = spelled(now);
        self.write(|stream| {
            stream.add_checkpoint(&at);
            stream.add_sealed(&rotated(&name), &at);
        })?;
        self.day = today;
        self.next = Some(next);
        failpoint::pass(Failpoint::Rotating);
        self.begin_next()
    }

    /// Begins the segment that the last line names, if it does not exist yet.
    fn begin_next(&mut self) -> Result<(), WriteError> {
        let Some(next) = self.next else {
            return Ok(());
        };
        let directory = &self.means.directory;
        let segment = Segment::create(directory, self.head.stream(), next);
        self.segment = segment.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                WriteError::Changed("a file of another program has the name of its next segment")
            }
            _ => WriteError::Disk(error),
        })?;
        self.next = None;
        directory.sync().map_err(WriteError::Disk)?;
        failpoint::pass(Failpoint::Rotated);
        self.keep_state().map_err(WriteError::Disk)
    }

    fn add_checkpoint(&mut self, at: &str) {
        let note = Checkpoint::of(&self.log, &self.head).sign(&self.means.key);
        self.add_sealed(&checkpoint(&note), at);
        self.checkpoint = (self.head.len(), Instant::now());
    }

    fn add_sealed(&mut self, record: &AuditRecord, at: &str) {
        self.head
            .append_sealed(record, at, &self.seal, &mut self.buffer);
    }

    /// Writes the lines that `add` makes. If the disk is full, the chain is as before.
    fn write(&mut self, add: impl FnOnce(&mut Self)) -> Result<(), WriteError> {
        let before = (self.head.clone(), self.checkpoint);
        self.buffer.clear();
        add(self);
        let written = self.segment.write(self.buffer.as_bytes());
        let written = written.map_err(WriteError::Disk);
        if let Err(error) = &written
            && error.full().is_some()
        {
            (self.head, self.checkpoint) = before;
        }
        written
    }

    fn keep_state(&mut self) -> io::Result<()> {
        let state = Checkpoint::of(&self.log, &self.head).sign(&self.means.key);
        self.means.keep_state(self.head.stream(), &state)?;
        self.state = (self.head.len(), Instant::now());
        Ok(())
    }
}

/// The registry's entry for a chain that has its last line.
pub(super) fn ended(head: &ChainHead) -> RegistryEntry {
    RegistryEntry::Closed {
        lines: head.len(),
        root: head.root(),
    }
}

/// A unique name that sorts by age.
fn name(now: Timestamp) -> io::Result<String> {
    let mut nonce = [0; 4];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(format!(
        "{}-{}",
        now.strftime("%Y%m%dT%H%M%SZ"),
        hex(&nonce)
    ))
}

/// An instant in the spelling of lines.
pub(super) fn spelled(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn day(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}
