//! Reads an audit log from its first byte and says whether it is whole.
//!
//! Every line is held against the chain, every checkpoint against the tree and the key, and the end of every stream
//! against the registry. What is wrong is a problem; what is as it may be but worth knowing is a note.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::{Head, LineHead};
use super::checkpoint::Checkpoint;
use super::directory::{
    Segments, TOO_LONG, is_too_long, lock_shared, open_to_read, read_line, segment_name, streams,
};
use super::note::PublicKey;
use super::registry::{Entry, REGISTRY, Registry, state_name};
use super::remembered::{Memory, last_state};
use super::stream::CHECKPOINT_LINES;
use crate::bounds::MAX_TORN_BYTES;
use crate::keyring::sha256_hex;

/// What a verification found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// How many streams were read.
    pub streams: usize,
    /// How many lines.
    pub lines: u64,
    /// How many checkpoints hold.
    pub checkpoints: u64,
    /// What is wrong; empty for a log that is whole.
    pub problems: Vec<Problem>,
    /// What is not wrong, and worth knowing.
    pub notes: Vec<String>,
    /// Streams that a living process still writes.
    pub open: usize,
    /// The key under which the log is signed, if it is.
    pub key: Option<String>,
}

/// Something that is wrong with a log.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// The file's name.
    pub segment: String,
    /// The first bad line, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// Verifies every stream of a directory.
///
/// Without a pinned key the one is taken that the log itself names: that shows what was damaged, not what was forged
/// with another key.
pub fn verify(dir: &Path, pinned: Option<&PublicKey>) -> io::Result<Report> {
    verify_remembered(dir, pinned, None)
}

/// As [`verify`], of a log of which the registry's generation and the streams' last states are remembered outside its
/// directory, signed with the pinned key.
pub fn verify_remembered(
    dir: &Path,
    pinned: Option<&PublicKey>,
    memory: Option<&Memory>,
) -> io::Result<Report> {
    let seen = See::now(dir, pinned, memory)?;
    let mut report = Report {
        key: seen.key.map(|key| key.to_string()),
        ..Report::default()
    };
    seen.judge_registry(pinned, &mut report);
    for (stream, segments) in &seen.segments {
        let trial = Trial::new(&seen, stream, segments);
        report.streams += 1;
        trial.run(&mut report)?;
    }
    Ok(report)
}

/// A directory at one moment: nobody enters or ends a stream while it is looked at.
struct See {
    /// `None` if there is none; otherwise whether it can be believed.
    registry: Option<Result<Registry, ()>>,
    /// Of which generation it was when it was saved last, as far as is remembered.
    generation: Option<u64>,
    key: Option<PublicKey>,
    segments: BTreeMap<String, Segments>,
    /// The kept states of streams that have not ended.
    states: BTreeMap<String, Result<Checkpoint, ()>>,
    /// Which streams are being written.
    alive: BTreeMap<String, bool>,
}

impl See {
    fn now(dir: &Path, pinned: Option<&PublicKey>, memory: Option<&Memory>) -> io::Result<Self> {
        let _lock = lock_shared(dir)?;
        let generation = match memory.zip(pinned) {
            Some((memory, key)) => memory.generation(key)?,
            None => None,
        };
        let registry = Registry::load(dir, pinned)?.map(|read| read.map_err(drop));
        let named = registry.as_ref().and_then(|read| read.as_ref().ok());
        let key = pinned.copied().or(named.map(|registry| registry.key));
        let segments = streams(dir)?;
        let mut states = BTreeMap::new();
        if let (Some(registry), Some(key)) = (named, &key) {
            let open = |(_, entry): &(&String, &Entry)| **entry == Entry::Open;
            for (stream, _) in registry.streams.iter().filter(open) {
                if let Some(state) = last_state(dir, memory, stream, key)? {
                    states.insert(stream.clone(), state.map_err(drop));
                }
            }
        }
        let mut alive = BTreeMap::new();
        for (stream, segments) in &segments {
            // What cannot be opened is told when the stream is read.
            let locked =
                open_to_read(&segments[0].1).is_ok_and(|file| file.try_lock_shared().is_err());
            alive.insert(stream.clone(), locked);
        }
        Ok(Self {
            registry,
            generation,
            key,
            segments,
            states,
            alive,
        })
    }

    fn entry(&self, stream: &str) -> Option<&Entry> {
        self.registry.as_ref()?.as_ref().ok()?.streams.get(stream)
    }

    fn judge_registry(&self, pinned: Option<&PublicKey>, report: &mut Report) {
        let mut problem = |file: String, reason: String| {
            report.problems.push(Problem {
                segment: file,
                line: 1,
                reason,
            });
        };
        match &self.registry {
            None if pinned.is_some() => problem(
                REGISTRY.to_owned(),
                "the registry of the streams is missing".to_owned(),
            ),
            None => {}
            Some(Err(())) => problem(
                REGISTRY.to_owned(),
                "the registry of the streams was changed, or is signed with another key".to_owned(),
            ),
            Some(Ok(registry)) => {
                let read = registry.generation;
                if let Some(written) = self.generation.filter(|written| read < *written) {
                    let reason = format!(
                        "the registry is of generation {read}, and generation {written} was written"
                    );
                    problem(REGISTRY.to_owned(), reason);
                }
                for stream in registry.streams.keys() {
                    if !self.segments.contains_key(stream) {
                        problem(
                            segment_name(stream, 1),
                            "the stream is registered, and is not here".to_owned(),
                        );
                    }
                }
                if pinned.is_none() {
                    report.notes.push("the signatures were held against the key that the log itself names; pin the key (--public-key) to see a forgery too".to_owned());
                }
            }
        }
    }
}

/// The reading of one stream.
struct Trial<'a> {
    see: &'a See,
    stream: &'a str,
    segments: &'a Segments,
    head: Head,
    alive: bool,
    /// Whether the stream's lines came to their last.
    over: bool,
    /// The event of the line before, and how many lines the last checkpoint covers.
    before: String,
    covered: u64,
    checkpoints: u64,
    /// Where we are: the segment's number, its file, and the line.
    number: u32,
    at: (PathBuf, u64),
}

/// Why a stream is not whole; where, is in [`Trial::at`].
type Verdict = Result<(), String>;

/// The fields of lines that a verification looks into.
#[derive(Deserialize)]
struct Said {
    note: Option<String>,
    next: Option<String>,
    checkpoint_key: Option<String>,
    torn_bytes: Option<u64>,
    torn_sha256: Option<String>,
}

impl<'a> Trial<'a> {
    fn new(see: &'a See, stream: &'a str, segments: &'a Segments) -> Self {
        Self {
            see,
            stream,
            segments,
            head: Head::new(stream),
            alive: see.alive[stream],
            over: false,
            before: String::new(),
            covered: 0,
            checkpoints: 0,
            number: 1,
            at: (segments[0].1.clone(), 1),
        }
    }

    fn run(mut self, report: &mut Report) -> io::Result<()> {
        let verdict = match self.read()? {
            Ok(()) => self.judge_end(report),
            bad => bad,
        };
        if let Err(reason) = verdict {
            let (path, line) = &self.at;
            report.problems.push(Problem {
                segment: file_name(path),
                line: *line,
                reason,
            });
        }
        report.lines += self.head.len();
        report.checkpoints += self.checkpoints;
        report.open += usize::from(self.alive);
        Ok(())
    }

    /// Reads all segments, up to the first line that is wrong.
    fn read(&mut self) -> io::Result<Verdict> {
        let mut line = Vec::new();
        for (expected, (number, path)) in (1..).zip(self.segments) {
            self.at = (path.clone(), 1);
            self.number = expected;
            if *number != expected {
                let missing = segment_name(self.stream, expected);
                return Ok(Err(format!("the segment {missing} is missing")));
            }
            if expected > 1 && self.before != "rotate" {
                return Ok(Err(
                    "the segment before it was cut, or this one is none of the stream's".to_owned(),
                ));
            }
            let last = self.segments.last() == Some(&(*number, path.clone()));
            let file = match open_to_read(path) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Ok(Err(error.to_string()));
                }
                opened => opened?,
            };
            let mut reader = BufReader::with_capacity(1 << 20, file);
            self.at.1 = 0;
            loop {
                if read_line(&mut reader, &mut line)? == 0 {
                    break;
                }
                self.at.1 += 1;
                if is_too_long(&line) {
                    return Ok(Err(TOO_LONG.to_owned()));
                }
                if !line.ends_with(b"\n") && last {
                    return Ok(self.judge_torn());
                }
                if let Err(reason) = self.read_line(&line) {
                    return Ok(Err(reason));
                }
            }
        }
        Ok(Ok(()))
    }

    /// A living writer may be in the middle of a line; a dead one was cut off.
    fn judge_torn(&self) -> Verdict {
        match self.alive {
            true => Ok(()),
            false => Err("the line is cut off: the next start sets it aside".to_owned()),
        }
    }

    fn read_line(&mut self, line: &[u8]) -> Verdict {
        if self.over {
            return Err("the stream goes on after its last line".to_owned());
        }
        if self.before == "rotate" && self.at.1 != 1 {
            return Err("the segment goes on after its last line".to_owned());
        }
        // The tree as it was before this line is what a checkpoint is about.
        let expected = (LineHead::parse(line).is_some_and(|head| head.event == "checkpoint"))
            .then(|| Checkpoint::of(&self.head));
        let head = self.head.check(line).map_err(|error| error.to_string())?;
        self.over = head.is_last();
        match head.event {
            "open" | "recover" | "rotate" => self.judge_special(&head, line)?,
            "checkpoint" => self.judge_checkpoint(line, expected.as_ref())?,
            _ => {}
        }
        if self.head.len() == 1 && !matches!(head.event, "open" | "checkpoint" | "recover") {
            return Err("the stream does not begin with its first line".to_owned());
        }
        if matches!(head.event, "close" | "recover" | "rotate") && self.before != "checkpoint" {
            return Err("there is no checkpoint before it".to_owned());
        }
        if head.event != self.before {
            head.event.clone_into(&mut self.before);
        }
        if self.head.len() - self.covered > CHECKPOINT_LINES + 1 {
            return Err(format!(
                "there is no checkpoint for {CHECKPOINT_LINES} lines"
            ));
        }
        self.judge_state()
    }

    fn judge_special(&self, head: &LineHead<'_>, line: &[u8]) -> Verdict {
        let said: Said =
            serde_json::from_slice(line).map_err(|_| "the line is not JSON".to_owned())?;
        match head.event {
            "open" => match (said.checkpoint_key, self.see.key) {
                (Some(named), Some(key)) if named != key.to_string() => {
                    Err("the stream is signed with another key than the log".to_owned())
                }
                _ => Ok(()),
            },
            "rotate" => {
                let next = segment_name(self.stream, self.number + 1);
                match said.next == Some(next) {
                    true => Ok(()),
                    false => Err("it names another segment than the next".to_owned()),
                }
            }
            _ => self.judge_aside(&said),
        }
    }

    /// What was cut from the end of a stream is kept beside it, as it was.
    fn judge_aside(&self, said: &Said) -> Verdict {
        if said.torn_bytes == Some(0) {
            return Ok(());
        }
        let kept = self.at.0.with_extension("torn");
        let read = || {
            let mut bytes = Vec::new();
            open_to_read(&kept)?
                .take(MAX_TORN_BYTES)
                .read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(bytes)
        };
        let sum = read().ok().map(|bytes| sha256_hex(&bytes));
        match sum == said.torn_sha256 {
            true => Ok(()),
            false => Err(format!(
                "{} is missing or was changed, which it says was cut from the stream",
                file_name(&kept)
            )),
        }
    }

    fn judge_checkpoint(&mut self, line: &[u8], expected: Option<&Checkpoint>) -> Verdict {
        let said: Said =
            serde_json::from_slice(line).map_err(|_| "the line is not JSON".to_owned())?;
        let note = said.note.unwrap_or_default();
        let Some(key) = self.see.key else {
            return Err("it is signed, and the registry that names the key is missing".to_owned());
        };
        let signed = Checkpoint::open(&note, &key).map_err(|error| error.to_string())?;
        if Some(&signed) != expected {
            return Err("the checkpoint is one of other lines than those before it".to_owned());
        }
        self.covered = self.head.len();
        self.checkpoints += 1;
        Ok(())
    }

    /// The lines that a kept state covers are those it was kept of.
    fn judge_state(&self) -> Verdict {
        match self.see.states.get(self.stream) {
            Some(Ok(state)) if state.lines == self.head.len() && state.root != self.head.root() => {
                Err(format!(
                    "it, or a line before it, is another one than {} was signed for",
                    state_name(self.stream)
                ))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Holds the end of the stream against what the registry says of it.
    fn judge_end(&mut self, report: &mut Report) -> Verdict {
        let lines = self.head.len();
        let mut note = |text: String| report.notes.push(format!("{}: {text}", self.stream));
        match (&self.see.registry, self.see.entry(self.stream)) {
            // Said once, of the registry.
            (Some(Err(())), _) => Ok(()),
            (_, None) if self.head.is_empty() => {
                note("an empty file of a start that broke off".to_owned());
                Ok(())
            }
            (None, None) => Err(format!("the registry {REGISTRY} is missing")),
            (Some(Ok(_)), None) => Err("the stream is not registered".to_owned()),
            (
                _,
                Some(Entry::Closed {
                    lines: registered,
                    root,
                }),
            ) => match *registered == lines && *root == self.head.root() && self.over {
                true => Ok(()),
                false => Err(format!(
                    "the stream ended with {registered} lines, and other {lines} are here"
                )),
            },
            (_, Some(Entry::Open)) => match self.see.states.get(self.stream) {
                Some(Ok(state)) if state.lines <= lines => {
                    if !self.alive {
                        note(format!(
                            "it broke off, and the next start ends it; its last {} lines are newer than its last signed state",
                            lines - state.lines
                        ));
                    }
                    Ok(())
                }
                Some(Ok(state)) => Err(format!(
                    "the stream had {} lines, and {lines} are left",
                    state.lines
                )),
                Some(Err(())) => Err(format!("{} was changed", state_name(self.stream))),
                None => Err(format!("{} is missing", state_name(self.stream))),
            },
        }
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
