//! What becomes of sealed segments in the log's directory: they are compressed, and removed when they were kept long enough.
//!
//! A sealed segment has a successor, or is of a stream that was closed: no process writes it again. Each step can be interrupted, and
//! the next run goes on:
//!
//! | after | there is | the next run |
//! |---|---|---|
//! | the draft | a file without a name, which is gone with its process | begins again |
//! | the compressed form has its name | both forms | compares them, and removes the plain one if both have the same lines |
//! | the registry records a removal | the segments | checks them by the chain, and removes them |
//! | some of them are removed, the last ones first | the first ones | the same |
//!
//! While segments of a removal are left in a stream, no further ones of it are removed: the registry knows where the last removal began.
//!
//! A segment is removed only after each of its lines was checked by the chain from where the registry says that it stands, so that nothing
//! that was changed is removed as if it were old.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader};
use std::sync::Arc;

use directory::is_full;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::believed::judge_clock;
use super::chain::{ChainHead, LineHead};
use super::compressed::{compress, compressed_name, hash_of};
use super::course::Course;
use super::directory::{
    Contents, LogDirectory, Segments, TOO_LONG, is_too_long, read_line, segment_name, torn_name,
};
use super::log::{AuditSettings, RecordError, open_failed};
use super::recover;
use super::registry::{Registry, RegistryEntry, RemovedBefore, RemovedRecord};
use super::remembered::last_state;
use super::stream::{WriterContext, spelled};
use crate::clock::Clock;
use crate::failpoint::{self, Failpoint};
use crate::quantity::Span;

/// The log whose segments are kept, and for how long.
#[derive(Debug)]
pub(super) struct SegmentKeeper {
    means: WriterContext,
    keep: Option<Span>,
    stop: CancellationToken,
}

/// A log at the beginning of a run.
#[derive(Debug)]
pub(super) struct KeptLog {
    registry: Registry,
    there: Contents,
}

/// A segment that was kept long enough, and the chain at its end.
#[derive(Debug)]
pub(super) struct OldSegment {
    pub(super) stream: String,
    pub(super) number: u32,
    pub(super) name: String,
    head: ChainHead,
    /// Whether nothing of its stream follows.
    is_end: bool,
}

/// What became of removals that had been interrupted.
#[derive(Debug, Default)]
pub(super) struct FinishedRemovals {
    /// The segments that were removed now.
    pub(super) removed: Vec<String>,
    /// What is wrong.
    pub(super) wrong: Vec<(String, StepError)>,
    /// The streams of which something is left.
    pub(super) unfinished: BTreeSet<String>,
}

/// Why a segment stays as it is.
#[derive(Debug)]
pub(super) enum StepError {
    /// Its files are not what they must be.
    Wrong(String),
    /// The disk failed, or has no room.
    Disk(io::Error),
}

impl From<io::Error> for StepError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Wrong(error.to_string())
            }
            _ => Self::Disk(error),
        }
    }
}

impl StepError {
    /// Whether the disk has no room for the step.
    pub(super) fn lacks_room(&self) -> bool {
        matches!(self, Self::Disk(error) if is_full(error))
    }

    /// Whether the step was interrupted by the end of the program.
    pub(super) fn is_stop(&self) -> bool {
        matches!(self, Self::Disk(error) if error.kind() == io::ErrorKind::Interrupted)
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Wrong(reason) => reason.clone(),
            Self::Disk(error) => directory::words_of_room(error),
        }
    }
}

impl KeptLog {
    /// The id of the log.
    pub(super) fn id(&self) -> &str {
        &self.registry.log
    }

    /// Whether it is saved: a directory without a log has no registry yet.
    pub(super) const fn is_saved(&self) -> bool {
        self.registry.generation > 0
    }

    /// How many segments of each stream were removed.
    pub(super) fn gone_of_all(&self) -> BTreeMap<String, u32> {
        let removed = self.registry.removed.iter();
        let gone = removed.map(|(stream, removed)| (stream.clone(), removed.segments));
        gone.collect()
    }

    /// The sealed segments, oldest stream first.
    pub(super) fn sealed(&self) -> Vec<String> {
        let streams = self.there.streams.iter();
        let sealed = streams.flat_map(|(stream, segments)| self.sealed_of(stream, segments));
        sealed.map(|(_, name)| name.clone()).collect()
    }

    /// The sealed segments of a stream that were not removed. Of a stream that was given up nothing is touched.
    fn sealed_of<'a>(&self, stream: &str, segments: &'a Segments) -> &'a [(u32, String)] {
        let gone = self.gone(stream);
        let from = segments.partition_point(|(number, _)| *number <= gone);
        let left = &segments[from..];
        match self.registry.streams.get(stream) {
            Some(RegistryEntry::Closed { .. }) => left,
            Some(RegistryEntry::Open) => &left[..left.len().saturating_sub(1)],
            Some(RegistryEntry::Stopped { .. } | RegistryEntry::Lost) | None => &[],
        }
    }

    fn gone(&self, stream: &str) -> u32 {
        let removed = self.registry.removed.get(stream);
        removed.map_or(0, |removed| removed.segments)
    }

    /// Whether the plain form of a segment exists.
    pub(super) fn is_plain(&self, name: &str) -> bool {
        self.there.plain.contains(name)
    }

    /// Whether the compressed form of a segment exists.
    pub(super) fn is_compressed(&self, name: &str) -> bool {
        self.there.compressed.contains(name)
    }
}

impl SegmentKeeper {
    /// `stop` interrupts a long step.
    pub(super) fn new(
        settings: &AuditSettings,
        keep: Option<Span>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Result<Self, RecordError> {
        Ok(Self {
            means: settings.means(clock)?,
            keep,
            stop,
        })
    }

    pub(super) fn directory(&self) -> &LogDirectory {
        &self.means.directory
    }

    /// The log, with its registry checked as at a start.
    pub(super) fn look(&self) -> Result<KeptLog, RecordError> {
        let directory = self.directory();
        let failed = |source| open_failed(directory.path(), source);
        let _lock = directory.lock().map_err(failed)?;
        let there = directory.contents().map_err(failed)?;
        let registry = recover::registry(&self.means, &there)?;
        Ok(KeptLog { registry, there })
    }

    /// Compresses a plain segment: the compressed form is read back and compared before it gets its name, and again before the plain
    /// form is removed.
    pub(super) fn compress(&self, name: &str, log: &KeptLog) -> Result<(), StepError> {
        if !log.is_compressed(name) {
            self.add_compressed(name)?;
            failpoint::pass(Failpoint::SegmentCompressed);
        }
        self.drop_plain(name)
    }

    fn add_compressed(&self, name: &str) -> Result<(), StepError> {
        let directory = self.directory();
        let mut plain = directory.read(name)?;
        let draft = directory.draft()?;
        let written = compress(&mut plain, draft.file(), &self.stop)?;
        draft.file().sync_all()?;
        let copy = draft.file().try_clone()?;
        io::Seek::rewind(&mut &copy)?;
        let path = directory.path_of(&compressed_name(name));
        let mut copy = super::compressed::SegmentFile::compressed(copy, path)?;
        if hash_of(&mut copy, &self.stop)? != written {
            return Err(StepError::Wrong(
                "its compressed form does not give the same lines back".to_owned(),
            ));
        }
        // The instant of the last line, as the plain form has it.
        draft.file().set_modified(plain.metadata()?.modified()?)?;
        failpoint::pass(Failpoint::SegmentDrafted);
        Ok(draft.keep_new(&compressed_name(name))?)
    }

    /// Removes the plain form of a segment that has both forms with the same lines.
    fn drop_plain(&self, name: &str) -> Result<(), StepError> {
        let directory = self.directory();
        let plain = hash_of(&mut directory.read(name)?, &self.stop)?;
        let compressed = hash_of(&mut directory.compressed_segment(name)?, &self.stop)?;
        if plain != compressed {
            return Err(StepError::Wrong(format!(
                "it and its compressed form {} have different lines: both stay, since one of them was changed; `handout audit verify` says which lines follow",
                compressed_name(name)
            )));
        }
        directory.remove(name)?;
        Ok(directory.sync()?)
    }

    /// The copy of the registry for an archive that was seen to have so many segments of each stream.
    pub(super) fn archive_note(&self, log: &KeptLog, shipped: BTreeMap<String, u32>) -> String {
        log.registry.archive_note(shipped, &self.means.key)
    }

    /// The segments whose last line is older than is kept, stream by stream from the first that is left on, each checked by the chain;
    /// without the streams of which an earlier removal is unfinished. The second part are the streams in which something is wrong.
    pub(super) fn old(
        &self,
        log: &KeptLog,
        unfinished: &BTreeSet<String>,
    ) -> (Vec<OldSegment>, Vec<(String, StepError)>) {
        let (mut old, mut wrong) = (Vec::new(), Vec::new());
        let Some(until) = self.kept_from() else {
            return (old, wrong);
        };
        let streams = log.there.streams.iter();
        for (stream, segments) in streams.filter(|(stream, _)| !unfinished.contains(*stream)) {
            let sealed = log.sealed_of(stream, segments);
            if let Err((name, error)) = self.old_of(log, stream, sealed, segments, &until, &mut old)
            {
                wrong.push((name, error));
            }
        }
        (old, wrong)
    }

    /// Whether the clock is believed, so that old segments are removed; the inner error says why it is not.
    pub(super) fn judge_clock(&self, dry: bool) -> Result<Result<(), String>, RecordError> {
        let Some(keep) = self.keep else {
            return Ok(Ok(()));
        };
        let directory = self.directory();
        let judged = judge_clock(directory, (self.means.clock)(), keep, dry);
        judged.map_err(|source| open_failed(directory.path(), source))
    }

    /// The first instant that is kept, in the spelling of lines.
    fn kept_from(&self) -> Option<String> {
        let now: Timestamp = (self.means.clock)();
        let from = now.checked_sub(self.keep?.as_duration()).ok()?;
        Some(spelled(from))
    }

    fn old_of(
        &self,
        log: &KeptLog,
        stream: &str,
        sealed: &[(u32, String)],
        segments: &Segments,
        until: &str,
        old: &mut Vec<OldSegment>,
    ) -> Result<(), (String, StepError)> {
        let registry = &log.registry;
        let (key, id) = (Some(registry.key), Some(&*registry.log));
        let removed = registry.removed.get(stream);
        let mut course = match removed.and_then(|removed| removed.end.clone()) {
            Some(end) => Course::resume(self.directory(), key, id, log.gone(stream), end),
            None => Course::new(self.directory(), stream, key, id),
        };
        for (number, name) in sealed {
            let failed = |error| (name.clone(), error);
            let is_old = self.read_old(&mut course, *number, name, until);
            if !is_old.map_err(failed)? {
                break;
            }
            let is_end = segments.last().is_some_and(|(last, _)| last == number);
            if is_end {
                self.check_end(&course, registry).map_err(failed)?;
            } else if !self.is_stated(&course, registry).map_err(failed)? {
                break;
            }
            old.push(OldSegment {
                stream: stream.to_owned(),
                number: *number,
                name: name.clone(),
                head: course.head.clone(),
                is_end,
            });
        }
        Ok(())
    }

    /// Reads a segment, and returns whether all its lines are older; stops at the first that is not.
    fn read_old(
        &self,
        course: &mut Course<'_>,
        number: u32,
        name: &str,
        until: &str,
    ) -> Result<bool, StepError> {
        let file = self.directory().segment(name)?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        course.begin(number).map_err(StepError::Wrong)?;
        let mut line = Vec::new();
        while read_line(&mut reader, &mut line)? > 0 {
            if self.stop.is_cancelled() {
                return Err(StepError::Disk(io::ErrorKind::Interrupted.into()));
            }
            if LineHead::parse(&line).is_some_and(|head| head.ts >= until) {
                return Ok(false);
            }
            let read = match is_too_long(&line) {
                true => Err(TOO_LONG.to_owned()),
                false => course.line(&line),
            };
            read.map_err(|reason| {
                StepError::Wrong(format!("line {}: {reason}", course.lines().max(1)))
            })?;
        }
        Ok(true)
    }

    /// Checks that a stream ends where the registry says.
    fn check_end(&self, course: &Course<'_>, registry: &Registry) -> Result<(), StepError> {
        let head = &course.head;
        match registry.streams.get(head.stream()) {
            Some(RegistryEntry::Closed { lines, root })
                if course.over && *lines == head.len() && *root == head.root() =>
            {
                Ok(())
            }
            _ => Err(StepError::Wrong(
                "the stream does not end where the registry says".to_owned(),
            )),
        }
    }

    /// Whether a segment of an open stream is before the stream's last signed state: a start reads from there on.
    fn is_stated(&self, course: &Course<'_>, registry: &Registry) -> Result<bool, StepError> {
        let stream = course.head.stream();
        if registry.streams.get(stream) != Some(&RegistryEntry::Open) {
            return Ok(course.has_rotated());
        }
        let memory = self.means.memory.as_ref();
        let state = last_state(self.directory(), memory, registry, stream)?;
        let covers = |lines| lines >= course.head.len();
        Ok(course.has_rotated()
            && state.is_some_and(|state| state.is_ok_and(|state| covers(state.lines))))
    }

    /// Records the removal of segments in the registry, and removes them. They are in their order, without a gap in any stream.
    pub(super) fn remove(&self, old: &[OldSegment], are_archived: bool) -> Result<(), RecordError> {
        if old.is_empty() {
            return Ok(());
        }
        let directory = self.directory();
        let failed = |source| open_failed(directory.path(), source);
        {
            let _lock = directory.lock().map_err(failed)?;
            let there = directory.contents().map_err(failed)?;
            let mut registry = recover::registry(&self.means, &there)?;
            let gone = registry.removed.clone();
            for segment in old {
                let gone = gone.get(&segment.stream);
                let was_archived = gone.is_none_or(|gone| gone.is_archived);
                let before = gone.and_then(|gone| {
                    let (segments, end) = (gone.segments, gone.end.clone()?);
                    Some(RemovedBefore { segments, end })
                });
                let record = RemovedRecord {
                    segments: segment.number,
                    lines: segment.head.len(),
                    is_archived: are_archived && was_archived,
                    end: (!segment.is_end).then(|| segment.head.clone()),
                    before,
                };
                registry.removed.insert(segment.stream.clone(), record);
            }
            let saved = registry.save(directory, self.means.memory.as_ref(), &self.means.key);
            saved.map_err(failed)?;
        }
        failpoint::pass(Failpoint::RemovalRecorded);
        let names: Vec<&str> = old.iter().map(|segment| &*segment.name).collect();
        self.unlink(&names).map_err(failed)
    }

    /// Removes segments, the last first, with what was cut from them.
    fn unlink(&self, names: &[&str]) -> io::Result<()> {
        let directory = self.directory();
        for (index, name) in names.iter().rev().enumerate() {
            if index == 1 {
                failpoint::pass(Failpoint::RemovalBegun);
            }
            directory.remove(name)?;
            directory.remove(&compressed_name(name))?;
            directory.remove(&torn_name(name))?;
            directory.sync()?;
        }
        Ok(())
    }

    /// Goes on with a removal that was interrupted: what the registry records as removed, and is still here and unchanged.
    pub(super) fn finish_removals(&self, log: &KeptLog, dry: bool) -> FinishedRemovals {
        let mut finished = FinishedRemovals::default();
        for (stream, removed) in &log.registry.removed {
            let segments = log.there.streams.get(stream).into_iter().flatten();
            let left: Vec<&(u32, String)> = segments
                .filter(|(number, _)| *number <= removed.segments)
                .collect();
            let Some((number, first)) = left.first() else {
                // A kill may have left what was cut from the last segment.
                let torn = torn_name(&segment_name(stream, removed.segments));
                let cleared = match dry {
                    true => Ok(()),
                    false => self.directory().remove(&torn),
                };
                let error = cleared.err().map(|error| (torn, error.into()));
                finished.wrong.extend(error);
                continue;
            };
            let registry = &log.registry;
            let (key, id) = (Some(registry.key), Some(&*registry.log));
            let mut course =
                Course::of_removed(self.directory(), stream, key, id, removed, *number);
            // Each line is older than this instant.
            let read = left.iter().try_for_each(|(number, name)| {
                self.read_old(&mut course, *number, name, "~").map(drop)
            });
            let names: Vec<&str> = left.iter().map(|(_, name)| &**name).collect();
            let unlinked = read.and_then(|()| match dry {
                true => Ok(()),
                false => Ok(self.unlink(&names)?),
            });
            match unlinked {
                Ok(()) => {
                    let names = names.into_iter().map(ToOwned::to_owned);
                    finished.removed.extend(names);
                }
                Err(error) => {
                    finished.wrong.push((first.clone(), error));
                    finished.unfinished.insert(stream.clone());
                }
            }
        }
        finished
    }
}

/// The old segments before the first of each stream that must stay.
pub(super) fn without_gaps(old: Vec<OldSegment>, stays: impl Fn(&str) -> bool) -> Vec<OldSegment> {
    let mut blocked = BTreeSet::new();
    let mut left = Vec::new();
    for segment in old {
        if blocked.contains(&segment.stream) {
            continue;
        }
        match stays(&segment.name) {
            true => drop(blocked.insert(segment.stream)),
            false => left.push(segment),
        }
    }
    left
}

/// A keeper that threads share.
pub(super) type SharedKeeper = Arc<SegmentKeeper>;
