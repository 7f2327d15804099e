//! Verifies an audit log from its first byte.
//!
//! Every line is checked against the chain, every checkpoint against the tree and the key, and the end of every stream
//! against the registry. Damage is reported as a problem; other facts worth knowing are notes. A file of another kind, or a
//! signed note that does not verify, is a problem too, and the rest of the log is still verified.

use std::collections::BTreeMap;
use std::io::{self, BufReader};

use directory::Location;
use serde::Serialize;

use super::checkpoint::Checkpoint;
use super::course::{Course, CourseVerdict};
use super::directory::{
    Contents, LogDirectory, Segments, TOO_LONG, is_too_long, live_name, read_line, read_tail,
    segment_name,
};
use super::note::PublicKey;
use super::registry::{REGISTRY, Registry, RegistryEntry, state_name};
use super::remembered::{Memory, last_state};

/// How often a reader that may not lock the log reads it again because its registry was replaced meanwhile.
const LOOKS: usize = 100;

/// The result of a verification.
#[derive(Debug, Default, Serialize)]
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
}

/// A problem of a log.
#[derive(Debug, Serialize)]
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
pub fn verify(dir: impl Into<Location>, pinned: Option<&PublicKey>) -> io::Result<VerifyReport> {
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
    let sizes = segments.filter_map(|(_, name)| directory.read(&name).ok()?.metadata().ok());
    Ok(sizes.map(|metadata| metadata.len()).sum())
}

/// Like [`verify`], for a log whose registry generation and last states of streams are remembered outside its directory,
/// signed with the pinned key.
pub fn verify_remembered(
    dir: impl Into<Location>,
    pinned: Option<&PublicKey>,
    memory: Option<&Memory>,
) -> io::Result<VerifyReport> {
    let directory = LogDirectory::open(&dir.into())?;
    let seen = LogSnapshot::now(&directory, pinned, memory)?;
    let mut report = VerifyReport {
        key: seen.key.map(|key| key.to_string()),
        ..VerifyReport::default()
    };
    seen.judge_registry(pinned, &mut report);
    for (stream, segments) in &seen.there.streams {
        report.streams += 1;
        SegmentCheck::new(&seen, stream, segments).run(&mut report)?;
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

    fn named(&self) -> Option<&Registry> {
        self.registry.as_ref()?.as_ref().ok()
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
                for (stream, entry) in &registry.streams {
                    if !self.there.streams.contains_key(stream) {
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

/// The note about a stream whose loss was accepted.
const LOST: &str = "the stream was damaged, and its loss was accepted (handout audit accept-loss)";

/// The reading of one stream.
struct SegmentCheck<'a> {
    see: &'a LogSnapshot<'a>,
    stream: &'a str,
    segments: &'a Segments,
    course: Course<'a>,
    /// Whether a process writes it, where that is known.
    alive: Option<bool>,
    /// Whether its last line has no end.
    torn: bool,
    /// The position: the file, and the line.
    at: (String, u64),
}

impl<'a> SegmentCheck<'a> {
    fn new(see: &'a LogSnapshot<'a>, stream: &'a str, segments: &'a Segments) -> Self {
        let log = see.named().map(|registry| &*registry.log);
        Self {
            see,
            stream,
            segments,
            course: Course::new(see.directory, stream, see.key, log),
            alive: see.alive.get(stream).copied().flatten(),
            torn: false,
            at: (segments[0].1.clone(), 1),
        }
    }

    fn run(mut self, report: &mut VerifyReport) -> io::Result<()> {
        let verdict = match self.read()? {
            Ok(()) => self.judge_end(report),
            bad => bad,
        };
        if let Err(reason) = verdict {
            let (segment, line) = self.at;
            report.problems.push(Problem {
                segment,
                line,
                reason,
            });
        }
        report.lines += self.course.head.len();
        report.checkpoints += self.course.checkpoints;
        report.open += usize::from(self.alive == Some(true));
        Ok(())
    }

    /// Reads all segments, up to the first bad line.
    fn read(&mut self) -> io::Result<CourseVerdict> {
        let mut line = Vec::new();
        for (index, (number, name)) in self.segments.iter().enumerate() {
            self.at = (name.clone(), 1);
            if let Err(reason) = self.course.begin(*number) {
                return Ok(Err(reason));
            }
            let is_last = index + 1 == self.segments.len();
            let file = match self.see.directory.read(name) {
                Err(error) => return damage(error).map(Err),
                Ok(file) => file,
            };
            let mut reader = BufReader::with_capacity(1 << 20, file);
            self.at.1 = 0;
            while read_line(&mut reader, &mut line)? > 0 {
                self.at.1 += 1;
                if is_last && (is_too_long(&line) || !line.ends_with(b"\n")) {
                    let tail = read_tail(&mut reader, &mut line)?;
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
                    "the stream was closed with {registered} lines, but {lines} are here"
                )),
            },
            (_, Some(entry @ (RegistryEntry::Open | RegistryEntry::Stopped { .. }))) => {
                let is_stopped = *entry != RegistryEntry::Open;
                match self.see.states.get(self.stream) {
                    Some(Ok(state)) if state.lines > lines => Err(format!(
                        "the stream had {} lines, but only {lines} are left",
                        state.lines
                    )),
                    Some(Ok(state)) if is_stopped && state.lines < lines => Err(format!(
                        "the stream was stopped after {} lines because of a change by another process, but {lines} are here",
                        state.lines
                    )),
                    // The lock file is in the directory, and can be made without the key.
                    Some(Ok(state)) if self.alive.is_none() => {
                        note(format!(
                            "whether it is being written or was left open is unknown to a user who may not open {}: verify as the log's owner; its last {} lines are newer than its last signed state{}",
                            live_name(self.stream),
                            lines - state.lines,
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
                                "it seems to be written now; its last {} lines are newer than its last signed state, which a living stream renews within a second",
                                lines - state.lines
                            ));
                        }
                        Ok(())
                    }
                    Some(Ok(state)) => {
                        note(format!(
                            "its process died, and the next start closes it; its last {} lines are newer than its last signed state",
                            lines - state.lines
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
