//! Verifies an audit log from its first byte.
//!
//! Every line is checked against the chain, every checkpoint against the tree and the key, and the end of every stream
//! against the registry. Damage is reported as a problem; other facts worth knowing are notes. A file of another kind, or a
//! signed note that does not verify, is a problem too, and the rest of the log is still verified.

mod alone;

use crate::text::{agreeing, counted};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader};
use std::sync::Arc;

use directory::Location;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::checkpoint::Checkpoint;
use super::compressed::{compressed_name, hash_of};
use super::course::{Course, CourseVerdict};
use super::directory::{
    Contents, LogDirectory, Segments, TOO_LONG, is_too_long, live_name, read_line, read_tail,
    segment_name,
};
use super::note::PublicKey;
use super::registry::{REGISTRY, Registry, RegistryEntry, RemovedRecord, state_name};
use super::remembered::{Memory, last_state};
use super::source::{ArchivedSegment, LogSource, RemovedSegments, SegmentArchive, SegmentPlace};

/// How often a reader that may not lock the log reads it again because its registry was replaced meanwhile.
const LOOKS: usize = 100;

/// How often a log is verified, if segments are removed from it meanwhile.
const LOOKS_DURING_REMOVALS: usize = 3;

/// The result of a verification.
#[derive(Debug, Default, Serialize, schemars::JsonSchema)]
pub struct VerifyReport {
    /// How many streams were read.
    pub streams: usize,
    /// How many lines were read.
    pub lines: u64,
    /// How many checkpoints hold.
    pub checkpoints: u64,
    /// The problems; empty for an intact log.
    pub problems: Vec<Problem>,
    /// Facts that are not problems, and worth knowing.
    pub notes: Vec<String>,
    /// Streams that a living process still writes.
    pub open: usize,
    /// The key that signs the log, if it is signed.
    pub key: Option<String>,
    /// How often the registry of the streams was saved, if it can be read. It only grows.
    pub registry_generation: Option<u64>,
    /// The SHA-256 of the registry's text in that generation, in hexadecimal digits. Kept elsewhere, it shows later whether the log of
    /// that generation is another one.
    pub registry_sha256: Option<String>,
    /// How many segments were removed after `audit.keep`, and how many lines they had.
    pub removed_segments: u64,
    /// See `removed_segments`.
    pub removed_lines: u64,
}

/// A problem of a log.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct Problem {
    /// The file's name.
    pub segment: String,
    /// The first bad line, from 1.
    pub line: u64,
    /// The problem.
    pub reason: String,
}

/// Verifies every stream of a directory.
///
/// Without a pinned key, the key that the log itself names is used: that detects damage, but not a log that was forged
/// with another key.
pub fn verify(dir: impl Into<LogSource>, pinned: Option<&PublicKey>) -> io::Result<VerifyReport> {
    verify_remembered(dir, pinned, None)
}

/// How many bytes the segments of a log have, which a verification reads.
///
/// # Errors
/// The directory cannot be read.
pub fn bytes_to_verify(dir: impl Into<Location>) -> io::Result<u64> {
    let directory = LogDirectory::open(&dir.into())?;
    let streams = directory.contents()?.streams;
    let segments = streams.into_values().flatten();
    // A file that is not regular is damage, which the verification reports.
    let files = segments.filter_map(|(_, name)| directory.segment(&name).ok());
    Ok(files.map(|file| file.length()).fold(0, u64::saturating_add))
}

/// Like [`verify`], for a log whose registry generation and last states of streams are remembered outside its directory,
/// signed with the pinned key.
pub fn verify_remembered(
    source: impl Into<LogSource>,
    pinned: Option<&PublicKey>,
    memory: Option<&Memory>,
) -> io::Result<VerifyReport> {
    let source = source.into();
    let directory = LogDirectory::open(&source.place)?;
    let mut tries = 1;
    loop {
        let seen = LogSnapshot::now(&directory, pinned, memory)?;
        let report = verify_seen(&seen, source.archive.as_ref(), pinned)?;
        // What was removed meanwhile is no loss.
        let is_same = || {
            let now = Registry::load(&directory, pinned).ok().flatten();
            let now = now.and_then(Result::ok);
            now.is_none_or(|now| seen.named().is_none_or(|then| then.removed == now.removed))
        };
        if report.problems.is_empty() || tries >= LOOKS_DURING_REMOVALS || is_same() {
            return Ok(report);
        }
        tries += 1;
    }
}

fn verify_seen(
    seen: &LogSnapshot<'_>,
    archive: Option<&Arc<dyn SegmentArchive>>,
    pinned: Option<&PublicKey>,
) -> io::Result<VerifyReport> {
    let mut report = VerifyReport {
        key: seen.key.map(|key| key.to_string()),
        registry_generation: seen.named().map(|registry| registry.generation),
        registry_sha256: seen.named().map(Registry::hash),
        ..VerifyReport::default()
    };
    seen.judge_registry(pinned, &mut report);
    seen.tell_removed(archive.is_some(), &mut report);
    let named = seen.named();
    let removed = named.map(|registry| registry.removed.keys());
    let of_an_archive = named.filter(|registry| registry.shipped.is_some());
    let archived = of_an_archive.map(|registry| registry.streams.keys());
    let streams: BTreeSet<&String> = seen
        .there
        .streams
        .keys()
        .chain(removed.into_iter().flatten())
        .chain(archived.into_iter().flatten())
        .collect();
    for stream in streams {
        report.streams += 1;
        SegmentCheck::new(seen, stream, archive).run(&mut report)?;
    }
    Ok(report)
}

/// The state of a log, without reading its lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Why the next start would not write to it.
    pub obstacle: Option<String>,
    /// Whether a process writes to it now.
    pub is_written: bool,
}

/// Checks a log's registry like a start that signs with `key`. A log that does not exist yet has no obstacle.
///
/// # Errors
/// The directory cannot be read.
pub fn glance(dir: impl Into<Location>, key: &PublicKey, memory: &Memory) -> io::Result<Glance> {
    let directory = match LogDirectory::open(&dir.into()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Glance::default()),
        opened => opened?,
    };
    let seen = LogSnapshot::now(&directory, Some(key), Some(memory))?;
    let missing = seen.registry.is_none() && !seen.there.streams.is_empty();
    let missing = missing.then(|| "the registry of the streams is missing".to_owned());
    let unbelieved = match seen.registry {
        Some(Err(reason)) => Some(reason),
        Some(Ok(_)) | None => missing,
    };
    let found = seen.found.into_iter().map(|(_, reason)| reason).next();
    Ok(Glance {
        obstacle: found.or(unbelieved),
        is_written: seen.alive.into_values().any(|alive| alive == Some(true)),
    })
}

/// The problem of a file or note that was changed. If the disk failed, the error is returned.
fn damage(error: io::Error) -> io::Result<String> {
    use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotFound};
    match error.kind() {
        InvalidData | InvalidInput | IsADirectory | NotFound => Ok(error.to_string()),
        _ => Err(error),
    }
}

/// A directory at one moment: no process enters or ends a stream while it is read.
struct LogSnapshot<'a> {
    directory: &'a LogDirectory,
    /// `None` if there is none; otherwise the verified registry or its problem.
    registry: Option<Result<Registry, String>>,
    /// The problems of the registry against the remembered state, and of the directory's files.
    found: Vec<(String, String)>,
    key: Option<PublicKey>,
    there: Contents,
    /// The saved states of streams that have not ended.
    states: BTreeMap<String, Result<Checkpoint, String>>,
    /// Which streams are being written.
    alive: BTreeMap<String, Option<bool>>,
}

impl<'a> LogSnapshot<'a> {
    fn now(
        directory: &'a LogDirectory,
        pinned: Option<&PublicKey>,
        memory: Option<&Memory>,
    ) -> io::Result<Self> {
        let mut found = Vec::new();
        let lock = match directory.lock_shared() {
            Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                found.push((".lock".to_owned(), damage(error)?));
                None
            }
            locked => locked?,
        };
        let mut seen = Self::look(directory, pinned, memory)?;
        if lock.is_none() {
            // A reader that may not lock the registry reads again until it did not change meanwhile.
            for _ in 0..LOOKS {
                let again = Self::look(directory, pinned, memory)?;
                let is_same = again.registry == seen.registry;
                seen = again;
                if is_same {
                    break;
                }
            }
        }
        seen.found.extend(found);
        Ok(seen)
    }

    fn look(
        directory: &'a LogDirectory,
        pinned: Option<&PublicKey>,
        memory: Option<&Memory>,
    ) -> io::Result<Self> {
        let mut found = Vec::new();
        let registry = match Registry::load(directory, pinned) {
            Ok(read) => read.map(|read| {
                read.map_err(|_| {
                    "the registry of the streams was changed, or is signed with another key"
                        .to_owned()
                })
            }),
            Err(error) => Some(Err(damage(error)?)),
        };
        let named = registry.as_ref().and_then(|read| read.as_ref().ok());
        // Changed notes are reported separately.
        if let Some((memory, key)) = memory.zip(pinned)
            && !matches!(registry, Some(Err(_)))
        {
            let reason = match memory.judge(named, key) {
                Ok(reason) => reason.map(|reason| format!("the registry of the streams {reason}")),
                Err(error) => Some(damage(error)?),
            };
            let is_copy = named.is_some_and(|registry| registry.shipped.is_some());
            let reason = match is_copy {
                true => Some(IS_COPY.to_owned()),
                false => reason,
            };
            found.extend(reason.map(|reason| (REGISTRY.to_owned(), reason)));
        }
        let there = directory.contents()?;
        let mut states = BTreeMap::new();
        if let Some(registry) = named {
            for (stream, entry) in &registry.streams {
                let state = match entry {
                    RegistryEntry::Open => match last_state(directory, memory, registry, stream) {
                        Ok(read) => read.map(|read| {
                            read.map_err(|_| format!("{} was changed", state_name(stream)))
                        }),
                        Err(error) => Some(Err(damage(error)?)),
                    },
                    RegistryEntry::Stopped { lines, root } => Some(Ok(Checkpoint {
                        log: registry.log.clone(),
                        stream: stream.clone(),
                        lines: *lines,
                        root: *root,
                    })),
                    RegistryEntry::Lost | RegistryEntry::Closed { .. } => None,
                };
                states.extend(state.map(|state| (stream.clone(), state)));
            }
        }
        let streams = there.streams.keys();
        let alive = streams.map(|stream| (stream.clone(), directory.seems_alive(stream)));
        Ok(Self {
            directory,
            key: pinned.copied().or(named.map(|registry| registry.key)),
            alive: alive.collect(),
            registry,
            found,
            there,
            states,
        })
    }

    /// The reading of a stream from its first line on.
    fn course(&self, stream: &str) -> Course<'_> {
        let log = self.named().map(|registry| &*registry.log);
        Course::new(self.directory, stream, self.key, log)
    }

    fn named(&self) -> Option<&Registry> {
        self.registry.as_ref()?.as_ref().ok()
    }

    /// Says what is known of the segments that were removed.
    fn tell_removed(&self, is_read: bool, report: &mut VerifyReport) {
        let sum = self.named().map(RemovedSegments::of).unwrap_or_default();
        (report.removed_segments, report.removed_lines) = (sum.segments, sum.lines);
        if sum.segments == 0 {
            return;
        }
        let RemovedSegments {
            segments,
            archived,
            lines,
        } = sum;
        let is_archive = self
            .named()
            .is_some_and(|registry| registry.shipped.is_some());
        let where_to = match (archived, is_read) {
            (0, _) => "without an archive".to_owned(),
            _ if is_archive => format!("{archived} of them must be here"),
            (_, true) => format!("{archived} of them must be in the archive, which is read, too"),
            (_, false) => {
                format!("{archived} of them are in the archive: --archive verifies them, too")
            }
        };
        report.notes.push(format!(
            "{} with {} {} removed after audit.keep, as the registry records; {where_to}",
            counted(segments, "segment"),
            counted(lines, "line"),
            agreeing(segments, "was", "were")
        ));
    }

    fn judge_registry(&self, pinned: Option<&PublicKey>, report: &mut VerifyReport) {
        let mut problem = |file: &str, reason: String| {
            report.problems.push(Problem {
                segment: file.to_owned(),
                line: 1,
                reason,
            });
        };
        for (file, reason) in &self.found {
            problem(file, reason.clone());
        }
        for stranger in &self.there.strangers {
            problem(stranger, "it is not named like a segment".to_owned());
        }
        match &self.registry {
            None if pinned.is_some() => problem(
                REGISTRY,
                "the registry of the streams is missing".to_owned(),
            ),
            None => {}
            Some(Err(reason)) => problem(REGISTRY, reason.clone()),
            Some(Ok(registry)) => {
                // What an archive must have is judged stream by stream.
                let of_the_log = registry.shipped.is_none();
                for (stream, entry) in registry.streams.iter().filter(|_| of_the_log) {
                    let is_removed = registry
                        .removed
                        .get(stream)
                        .is_some_and(|removed| removed.end.is_none());
                    if !self.there.streams.contains_key(stream) && !is_removed {
                        let reason = match entry {
                            RegistryEntry::Lost => LOST,
                            _ => "the stream is registered, but its files are missing",
                        };
                        problem(&segment_name(stream, 1), reason.to_owned());
                    }
                }
                if pinned.is_none() {
                    report.notes.push("the signatures were verified with the key that the log itself names; give the key (--public-key) to detect forgery too".to_owned());
                }
            }
        }
    }
}

/// The problem of an archive's copy of the registry in the directory of a log.
const IS_COPY: &str = "the registry of the streams is the copy that an archive has: it was put in the place of the log's own";

/// The note about a stream whose loss was accepted.
const LOST: &str = "the stream was damaged, and its loss was accepted (handout audit accept-loss)";

/// The reading of one stream.
struct SegmentCheck<'a> {
    see: &'a LogSnapshot<'a>,
    stream: &'a str,
    /// The segments of the directory.
    segments: Segments,
    archive: Option<&'a Arc<dyn SegmentArchive>>,
    course: Course<'a>,
    /// How many lines are not read, since they were removed.
    unread: u64,
    /// Whether a process writes it, where that is known.
    alive: Option<bool>,
    /// Whether its last line has no end.
    torn: bool,
    /// The position: the file, and the line.
    at: (String, u64),
}

impl<'a> SegmentCheck<'a> {
    fn new(
        see: &'a LogSnapshot<'a>,
        stream: &'a str,
        archive: Option<&'a Arc<dyn SegmentArchive>>,
    ) -> Self {
        let segments = see.there.streams.get(stream).cloned().unwrap_or_default();
        Self {
            see,
            stream,
            at: (
                segments
                    .first()
                    .map_or_else(|| segment_name(stream, 1), |(_, name)| name.clone()),
                1,
            ),
            segments,
            archive,
            course: see.course(stream).beside(archive.cloned()),
            unread: 0,
            alive: see.alive.get(stream).copied().flatten(),
            torn: false,
        }
    }

    fn run(mut self, report: &mut VerifyReport) -> io::Result<()> {
        let registry = self.see.named();
        let verdict = match registry.filter(|registry| registry.shipped.is_some()) {
            Some(registry) => self.read_archive(registry, report)?,
            None => self.read_log(registry, report)?,
        };
        if let Err(reason) = verdict {
            let (segment, line) = self.at;
            report.problems.push(Problem {
                segment,
                line,
                reason,
            });
        }
        report.lines += self.course.head.len().saturating_sub(self.unread);
        report.checkpoints += self.course.checkpoints;
        report.open += usize::from(self.alive == Some(true));
        Ok(())
    }

    /// Reads a stream in the directory of its log.
    fn read_log(
        &mut self,
        registry: Option<&'a Registry>,
        report: &mut VerifyReport,
    ) -> io::Result<CourseVerdict> {
        let removed = registry.and_then(|registry| registry.removed.get(self.stream));
        let begun = match (registry, removed) {
            (Some(registry), Some(removed)) => self.read_removed(registry, removed, report)?,
            _ => Ok(()),
        };
        let gone = removed.map_or(0, |removed| removed.segments);
        let left = self.here(|number| number > gone);
        let verdict = match begun {
            Ok(()) => self.read(&left, true)?,
            bad => bad,
        };
        let is_whole_gone = self.unread > 0 && left.is_empty() && self.course.head.is_empty();
        Ok(match verdict {
            // Its end is in the registry alone.
            Ok(()) if is_whole_gone => Ok(()),
            Ok(()) => self.judge_end(report),
            bad => bad,
        })
    }

    /// The segments of the directory with such numbers.
    fn here(&self, wanted: impl Fn(u32) -> bool) -> Vec<(u32, SegmentPlace)> {
        let segments = self.segments.iter().filter(|(number, _)| wanted(*number));
        let places = segments.map(|(number, name)| (*number, SegmentPlace::Here(name.clone())));
        places.collect()
    }

    /// Reads what is left of the removed segments: in the directory, if the removal was interrupted, and in the archive.
    fn read_removed(
        &mut self,
        registry: &'a Registry,
        removed: &'a RemovedRecord,
        report: &mut VerifyReport,
    ) -> io::Result<CourseVerdict> {
        let stream = self.stream;
        // They are removed from the last to the first, so that the first ones are left.
        let left = self.here(|number| number <= removed.segments);
        if let (Some((first, _)), Some((last, _))) = (left.first(), left.last()) {
            let (directory, log) = (self.see.directory, Some(&*registry.log));
            let course = Course::of_removed(directory, stream, self.see.key, log, removed, *first);
            self.course = course.beside(self.archive.cloned());
            if let Err(reason) = self.read(&left, false)? {
                return Ok(Err(reason));
            }
            report.notes.push(format!(
                "{stream}: here {} still {} that the registry records as removed, after an interrupted removal, with which the next `handout audit retain` goes on",
                agreeing(left.len() as u64, "is", "are"),
                counted(left.len() as u64, "segment")
            ));
            if *last == removed.segments {
                let verdict = self.judge_removed(registry, removed);
                if *first == 1 || verdict.is_err() {
                    return Ok(verdict);
                }
            }
            // What was removed before them is in the archive, or gone.
            self.course = self.see.course(stream).beside(self.archive.cloned());
        }
        if let Some(archive) = self.archive.filter(|_| removed.is_archived) {
            let archived = ArchivedSegment::of_stream(archive, registry, stream).into_iter();
            let archived: Vec<_> = archived
                .map(|(number, segment)| (number, SegmentPlace::Archived(segment)))
                .collect();
            let read = self.read(&archived, false)?;
            return Ok(read.and_then(|()| self.judge_removed(registry, removed)));
        }
        self.unread = removed.lines;
        if let Some(end) = &removed.end {
            let log = Some(&*registry.log);
            let (key, number) = (self.see.key, removed.segments);
            self.course = Course::resume(self.see.directory, key, log, number, end.clone());
        }
        // With nothing left, the number of lines must be the one with which the stream was closed.
        let closed = registry.streams.get(stream);
        let closed = closed.is_some_and(
            |entry| matches!(entry, RegistryEntry::Closed { lines, .. } if *lines == removed.lines),
        );
        Ok(match removed.end.is_some() || closed {
            true => Ok(()),
            false => Err("the registry records its removal, but not its end".to_owned()),
        })
    }

    /// Checks that what was read of the removed segments ends as the registry records.
    fn judge_removed(&self, registry: &Registry, removed: &RemovedRecord) -> CourseVerdict {
        let head = &self.course.head;
        let is_it = match (&removed.end, registry.streams.get(self.stream)) {
            (Some(end), _) => end == head,
            (None, Some(RegistryEntry::Closed { lines, root })) => {
                *lines == head.len() && *root == head.root()
            }
            (None, _) => false,
        };
        match is_it {
            true => Ok(()),
            false => {
                Err("the removed segments have other lines than the registry records".to_owned())
            }
        }
    }

    /// Checks that both forms of a segment have the same lines: a process that was killed may leave both.
    fn judge_forms(&self, name: &str) -> io::Result<CourseVerdict> {
        let there = &self.see.there;
        if !(there.plain.contains(name) && there.compressed.contains(name)) {
            return Ok(Ok(()));
        }
        let never = CancellationToken::new();
        let compressed = self.see.directory.compressed_segment(name);
        let compressed = compressed.and_then(|mut file| hash_of(&mut file, &never));
        let compressed = match compressed {
            Err(error) => return damage(error).map(Err),
            Ok(hash) => hash,
        };
        let plain = match self.see.directory.read(name) {
            // It was removed meanwhile: the two were compared then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
            Err(error) => return damage(error).map(Err),
            Ok(mut file) => hash_of(&mut file, &never)?,
        };
        Ok(match plain == compressed {
            true => Ok(()),
            false => Err(format!(
                "its compressed form {} has other lines",
                compressed_name(name)
            )),
        })
    }

    /// Reads segments, up to the first bad line. The last of them may have a line that is still being written, if `to_the_end` says
    /// that nothing follows.
    fn read(
        &mut self,
        segments: &[(u32, SegmentPlace)],
        to_the_end: bool,
    ) -> io::Result<CourseVerdict> {
        let mut line = Vec::new();
        for (index, (number, place)) in segments.iter().enumerate() {
            self.at = (place.name().to_owned(), 1);
            if let Err(reason) = self.course.begin(*number) {
                return Ok(Err(reason));
            }
            if let SegmentPlace::Here(name) = place
                && let Err(reason) = self.judge_forms(name)?
            {
                return Ok(Err(reason));
            }
            let is_last = to_the_end && index + 1 == segments.len();
            let file = match place.open(self.see.directory) {
                Err(error) => return damage(error).map(Err),
                Ok(Some(file)) => file,
                Ok(None) => return Ok(Err("it is not in the archive".to_owned())),
            };
            let mut reader = BufReader::with_capacity(1 << 20, file);
            self.at.1 = 0;
            loop {
                match read_line(&mut reader, &mut line) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => return damage(error).map(Err),
                }
                self.at.1 += 1;
                if is_last && (is_too_long(&line) || !line.ends_with(b"\n")) {
                    let tail = match read_tail(&mut reader, &mut line) {
                        Err(error) => return damage(error).map(Err),
                        Ok(tail) => tail,
                    };
                    return Ok(match tail {
                        Ok(()) => self.judge_torn(),
                        hole => hole,
                    });
                }
                if is_too_long(&line) {
                    return Ok(Err(TOO_LONG.to_owned()));
                }
                let read = self.course.line(&line);
                if let Err(reason) = read.and_then(|()| self.judge_state()) {
                    return Ok(Err(reason));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Judges an incomplete line: a living writer may be in the middle of it; a dead one was interrupted.
    fn judge_torn(&mut self) -> CourseVerdict {
        self.torn = true;
        match self.alive {
            Some(false) => Err("the line is cut off: the next start sets it aside".to_owned()),
            Some(true) | None => Ok(()),
        }
    }

    /// Checks that the lines that a saved state covers are unchanged.
    fn judge_state(&self) -> CourseVerdict {
        match self.see.states.get(self.stream) {
            Some(Ok(state))
                if state.lines == self.course.head.len() && *state != self.course.state() =>
            {
                Err(format!(
                    "it, or a line before it, differs from what {} signed",
                    state_name(self.stream)
                ))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Checks the end of the stream against the registry.
    fn judge_end(&mut self, report: &mut VerifyReport) -> CourseVerdict {
        let head = &self.course.head;
        let lines = head.len();
        let mut note = |text: String| report.notes.push(format!("{}: {text}", self.stream));
        let registry = match &self.see.registry {
            // Reported once, for the registry.
            Some(Err(_)) => return Ok(()),
            Some(Ok(registry)) => Some(registry),
            None => None,
        };
        let entry = registry.and_then(|registry| registry.streams.get(self.stream));
        match (registry, entry) {
            (_, None) if head.is_empty() => {
                note("an empty file of an interrupted start".to_owned());
                Ok(())
            }
            (None, None) => Err(format!("the registry {REGISTRY} is missing")),
            (Some(_), None) => Err("the stream is not registered".to_owned()),
            (_, Some(RegistryEntry::Lost)) => Err(LOST.to_owned()),
            (
                _,
                Some(RegistryEntry::Closed {
                    lines: registered,
                    root,
                }),
            ) => match *registered == lines && *root == head.root() && self.course.over {
                true => Ok(()),
                false => Err(format!(
                    "the stream was closed with {}, but {lines} {} here",
                    counted(*registered, "line"),
                    agreeing(lines, "is", "are")
                )),
            },
            (_, Some(entry @ (RegistryEntry::Open | RegistryEntry::Stopped { .. }))) => {
                let is_stopped = *entry != RegistryEntry::Open;
                match self.see.states.get(self.stream) {
                    Some(Ok(state)) if state.lines > lines => Err(format!(
                        "the stream had {}, but only {lines} {} left",
                        counted(state.lines, "line"),
                        agreeing(lines, "is", "are")
                    )),
                    Some(Ok(state)) if is_stopped && state.lines < lines => Err(format!(
                        "the stream was stopped after {} because of a change by another process, but {lines} are here",
                        counted(state.lines, "line")
                    )),
                    // The lock file is in the directory, and can be made without the key.
                    Some(Ok(state)) if self.alive.is_none() => {
                        note(format!(
                            "whether it is being written or was left open is unknown to a user who may not open {}: verify as the log's owner; {}{}",
                            live_name(self.stream),
                            newer_lines(lines - state.lines),
                            if self.torn {
                                ", and a line after them is cut off"
                            } else {
                                ""
                            },
                        ));
                        Ok(())
                    }
                    Some(Ok(state)) if self.alive == Some(true) => {
                        if state.lines < lines {
                            note(format!(
                                "it seems to be written now; {}, which a living stream renews within a second",
                                newer_lines(lines - state.lines)
                            ));
                        }
                        Ok(())
                    }
                    Some(Ok(state)) => {
                        note(format!(
                            "its process died, and the next start closes it; {}",
                            newer_lines(lines - state.lines)
                        ));
                        Ok(())
                    }
                    Some(Err(reason)) => Err(reason.clone()),
                    None => Err(format!("{} is missing", state_name(self.stream))),
                }
            }
        }
    }
}

/// How many lines of a stream are newer than its last signed state.
fn newer_lines(count: u64) -> String {
    let (lines, are) = (counted(count, "line"), agreeing(count, "is", "are"));
    format!("its last {lines} {are} newer than its last signed state")
}
