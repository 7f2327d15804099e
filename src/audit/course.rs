//! The rules of a stream, from its first line on: what a verification and a start hold every line against.
//!
//! Both must agree. A stream that a verification would not take for whole is not ended, and so not signed, by a start.

use std::io::Read;

use serde::Deserialize;

use super::chain::{ChainHead, LineHead};
use super::checkpoint::Checkpoint;
use super::directory::{LogDirectory, segment_name, torn_name};
use super::note::PublicKey;
use super::stream::CHECKPOINT_LINES;
use crate::bounds::MAX_TORN_BYTES;
use crate::keyring::sha256_hex;

/// Why a stream is not whole.
pub(super) type CourseVerdict = Result<(), String>;

/// How far a stream was read.
#[derive(Debug, Clone)]
pub(super) struct Course<'a> {
    directory: &'a LogDirectory,
    /// The key and the id of the log; none where no registry names them.
    key: Option<PublicKey>,
    log: Option<&'a str>,
    pub(super) head: ChainHead,
    /// Whether the stream's lines came to their last.
    pub(super) over: bool,
    /// The event of the line before, and how many lines the last checkpoint covers.
    before: String,
    covered: u64,
    pub(super) checkpoints: u64,
    /// Where we are: the segment's number, and how many lines of it were read.
    number: u32,
    lines: u64,
}

/// The fields of lines that are looked into.
#[derive(Deserialize)]
struct SaidState {
    note: Option<String>,
    next: Option<String>,
    checkpoint_key: Option<String>,
    torn_bytes: Option<u64>,
    torn_sha256: Option<String>,
}

impl SaidState {
    fn of(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|_| "the line is not JSON".to_owned())
    }
}

impl<'a> Course<'a> {
    /// A stream of which nothing was read.
    pub(super) fn new(
        directory: &'a LogDirectory,
        stream: &str,
        key: Option<PublicKey>,
        log: Option<&'a str>,
    ) -> Self {
        Self {
            directory,
            key,
            log,
            head: ChainHead::new(stream),
            over: false,
            before: String::new(),
            covered: 0,
            checkpoints: 0,
            number: 0,
            lines: 0,
        }
    }

    /// Whether the stream goes on in another segment, if at all.
    pub(super) fn has_rotated(&self) -> bool {
        self.before == "rotate"
    }

    /// The number of the segment that was read last.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// How many lines of it were read.
    pub(super) const fn lines(&self) -> u64 {
        self.lines
    }

    /// Begins the next segment, which says that it is number `found`.
    pub(super) fn begin(&mut self, found: u32) -> CourseVerdict {
        (self.number, self.lines) = (self.number + 1, 0);
        if found != self.number {
            let missing = segment_name(self.head.stream(), self.number);
            return Err(format!("the segment {missing} is missing"));
        }
        if self.number > 1 && !self.has_rotated() {
            return Err(
                "the segment before it was cut, or this one is none of the stream's".to_owned(),
            );
        }
        Ok(())
    }

    /// Reads the next line, with its newline.
    pub(super) fn line(&mut self, line: &[u8]) -> CourseVerdict {
        self.lines += 1;
        if self.over {
            return Err("the stream goes on after its last line".to_owned());
        }
        if self.has_rotated() && self.lines != 1 {
            return Err("the segment goes on after its last line".to_owned());
        }
        // The tree as it was before this line is what a checkpoint is about.
        let is_checkpoint = LineHead::parse(line).is_some_and(|head| head.event == "checkpoint");
        let expected = is_checkpoint.then(|| self.state());
        let head = self.head.check(line).map_err(|error| error.to_string())?;
        self.over = head.is_last();
        match head.event {
            "open" | "recover" | "rotate" => {
                self.judge_special(head.event, &SaidState::of(line)?)?;
            }
            "checkpoint" => self.judge_checkpoint(SaidState::of(line)?, expected.as_ref())?,
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
        Ok(())
    }

    /// What was read, as a checkpoint would say it.
    pub(super) fn state(&self) -> Checkpoint {
        Checkpoint::of(self.log.unwrap_or_default(), &self.head)
    }

    fn judge_special(&self, event: &str, said: &SaidState) -> CourseVerdict {
        match event {
            "open" => match (&said.checkpoint_key, self.key) {
                (Some(named), Some(key)) if *named != key.to_string() => {
                    Err("the stream is signed with another key than the log".to_owned())
                }
                _ => Ok(()),
            },
            "rotate" => {
                let next = segment_name(self.head.stream(), self.number + 1);
                match said.next.as_ref() == Some(&next) {
                    true => Ok(()),
                    false => Err("it names another segment than the next".to_owned()),
                }
            }
            _ => self.judge_aside(said),
        }
    }

    /// What was cut from the end of a stream is kept beside it, as it was.
    fn judge_aside(&self, said: &SaidState) -> CourseVerdict {
        if said.torn_bytes == Some(0) {
            return Ok(());
        }
        let kept = torn_name(&segment_name(self.head.stream(), self.number));
        let bytes = set_aside(self.directory, &kept).ok();
        match bytes.map(|bytes| sha256_hex(&bytes)) == said.torn_sha256 {
            true => Ok(()),
            false => Err(format!(
                "{kept} is missing or was changed, which it says was cut from the stream"
            )),
        }
    }

    fn judge_checkpoint(
        &mut self,
        said: SaidState,
        expected: Option<&Checkpoint>,
    ) -> CourseVerdict {
        let note = said.note.unwrap_or_default();
        let Some(key) = self.key else {
            return Err("it is signed, and the registry that names the key is missing".to_owned());
        };
        let mut signed = Checkpoint::open(&note, &key).map_err(|error| error.to_string())?;
        if self.log.is_none() {
            // Without a registry it is not known which log it is.
            signed.log.clear();
        }
        if Some(&signed) != expected {
            return Err("the checkpoint is one of other lines than those before it".to_owned());
        }
        self.covered = self.head.len();
        self.checkpoints += 1;
        Ok(())
    }
}

/// What was cut from a stream and kept.
pub(super) fn set_aside(directory: &LogDirectory, name: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = directory.read(name)?;
    file.take(MAX_TORN_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
