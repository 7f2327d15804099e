//! The rules of a stream, from its first line on. A verification and a start check every line by them.
//!
//! Both must agree: a start does not end, and so does not sign, a stream that a verification would find damaged.

use std::io::Read;
use std::sync::Arc;

use serde::Deserialize;

use super::chain::{ChainHead, LineHead};
use super::checkpoint::Checkpoint;
use super::directory::{LogDirectory, segment_name, torn_name};
use super::note::PublicKey;
use super::registry::RemovedRecord;
use super::source::SegmentArchive;
use super::stream::CHECKPOINT_LINES;
use crate::bounds::MAX_TORN_BYTES;
use crate::keyring::sha256_hex;

/// Whether a stream is intact, or why it is not.
pub(super) type CourseVerdict = Result<(), String>;

/// The reading of a stream so far.
#[derive(Debug, Clone)]
pub(super) struct Course<'a> {
    directory: &'a LogDirectory,
    /// The key and the id of the log; `None` where no registry names them.
    key: Option<PublicKey>,
    log: Option<&'a str>,
    pub(super) head: ChainHead,
    /// Whether the stream's last line was read.
    pub(super) over: bool,
    /// The event of the line before, and how many lines the last checkpoint covers.
    before: String,
    covered: u64,
    pub(super) checkpoints: u64,
    /// The archive that has what was removed of the stream.
    archive: Option<Arc<dyn SegmentArchive>>,
    /// The position: the segment's number, and how many lines of it were read.
    number: u32,
    lines: u64,
}

/// The fields of lines that are checked.
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
    /// The reading of a stream before its first line.
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
            archive: None,
            number: 0,
            lines: 0,
        }
    }

    /// The reading of a stream whose first segments were removed, from the line after them on. The line before is a `rotate`, after a
    /// checkpoint.
    pub(super) fn resume(
        directory: &'a LogDirectory,
        key: Option<PublicKey>,
        log: Option<&'a str>,
        number: u32,
        head: ChainHead,
    ) -> Self {
        Self {
            covered: head.len().saturating_sub(1),
            head,
            before: "rotate".to_owned(),
            number,
            ..Self::new(directory, "", key, log)
        }
    }

    /// The reading of removed segments of a stream that are still here, the first of which has the number `first`: from the beginning
    /// of the stream, or from where its last removal began.
    pub(super) fn of_removed(
        directory: &'a LogDirectory,
        stream: &str,
        key: Option<PublicKey>,
        log: Option<&'a str>,
        removed: &RemovedRecord,
        first: u32,
    ) -> Self {
        let before = removed.before.as_ref();
        match before.filter(|before| before.segments + 1 == first) {
            Some(before) => Self::resume(directory, key, log, before.segments, before.end.clone()),
            None => Self::new(directory, stream, key, log),
        }
    }

    /// The same reading, which finds what was cut from the stream in an archive too.
    pub(super) fn beside(mut self, archive: Option<Arc<dyn SegmentArchive>>) -> Self {
        self.archive = archive;
        self
    }

    /// Whether the last line read says that the stream continues in another segment.
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

    /// Begins the next segment, whose name has the number `found`.
    pub(super) fn begin(&mut self, found: u32) -> CourseVerdict {
        (self.number, self.lines) = (self.number + 1, 0);
        if found != self.number {
            let missing = segment_name(self.head.stream(), self.number);
            return Err(format!("the segment {missing} is missing"));
        }
        if self.number > 1 && !self.has_rotated() {
            return Err(
                "the segment before it was cut, or this segment is not part of the stream"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Reads the next line, with its newline.
    pub(super) fn line(&mut self, line: &[u8]) -> CourseVerdict {
        self.lines += 1;
        if self.over {
            return Err("the stream continues after its last line".to_owned());
        }
        if self.has_rotated() && self.lines != 1 {
            return Err("the segment continues after its last line".to_owned());
        }
        // A checkpoint is about the tree before its own line.
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

    /// The state so far as a checkpoint.
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
                    false => Err("it does not name the next segment".to_owned()),
                }
            }
            _ => self.judge_aside(said),
        }
    }

    /// Checks the bytes that were cut from the end of a stream, which are kept unchanged beside it.
    fn judge_aside(&self, said: &SaidState) -> CourseVerdict {
        if said.torn_bytes == Some(0) {
            return Ok(());
        }
        let kept = torn_name(&segment_name(self.head.stream(), self.number));
        let archived = || {
            let (archive, log) = (self.archive.as_ref()?, self.log?);
            let (file, _) = archive.open(log, &kept).ok()??;
            let mut bytes = Vec::new();
            file.take(MAX_TORN_BYTES).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        let bytes = set_aside(self.directory, &kept).ok().or_else(archived);
        match bytes.map(|bytes| sha256_hex(&bytes)) == said.torn_sha256 {
            true => Ok(()),
            false => Err(format!(
                "{kept}, which holds what was cut from the stream, is missing or was changed"
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
            // Without a registry the id of the log is unknown.
            signed.log.clear();
        }
        if Some(&signed) != expected {
            return Err("the checkpoint does not match the lines before it".to_owned());
        }
        self.covered = self.head.len();
        self.checkpoints += 1;
        Ok(())
    }
}

/// The bytes that were cut from a stream and saved.
pub(super) fn set_aside(directory: &LogDirectory, name: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = directory.read(name)?;
    file.take(MAX_TORN_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
