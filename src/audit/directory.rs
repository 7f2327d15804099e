//! The log's directory: which streams and segments are in it, and how files get into it and are read.
//!
//! Everything in it belongs to the directory's owner: a command that root runs must leave nothing that the daemon's user
//! cannot read, lock and mend. What is written is opened through [`directory`], which follows no link; what is read
//! is a regular file, and no line and no note of it is longer than its bound.
//!
//! The files that are locked are their owner's alone: who may only read the log keeps no writer waiting, and makes no dead
//! stream look alive.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use directory::Location;

use crate::bounds::{MAX_AUDIT_LINE_BYTES, MAX_AUDIT_NOTE_BYTES, MAX_TORN_BYTES};

/// Held while the registry is changed, and while a stream gets into it.
const LOCK: &str = ".lock";

/// How a segment's name ends.
const SEGMENT: &str = "jsonl";

/// How the name ends of the file that is locked for as long as its stream is written.
const LIVE: &str = "live";

/// How the name ends of a file that has not got its own yet.
const DRAFT: &str = ".draft";

/// The age at which a draft is a dead process's: a living one gives it its name at once.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

/// The mode of every file that is read: the owner writes, the group may read.
const MODE: u32 = 0o640;

/// The mode of every file that is locked.
const LOCK_MODE: u32 = 0o600;

/// The log's directory.
#[derive(Debug, Clone)]
pub(super) struct LogDirectory {
    held: Arc<directory::Directory>,
}

/// The segments of one stream, in order, each with its number and its name.
pub(super) type Segments = Vec<(u32, String)>;

/// What is in a log's directory.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The streams, oldest first.
    pub(super) streams: BTreeMap<String, Segments>,
    /// What ends like a segment and has not the name of one.
    pub(super) strangers: Vec<String>,
}

/// Whether a process writes a stream.
#[derive(Debug)]
pub(super) enum Life {
    /// One does.
    Alive,
    /// None does, and none can begin to while this is held.
    Dead(Option<File>),
}

impl LogDirectory {
    /// Makes the directory, if it is not there.
    pub(super) fn make(place: &Location) -> io::Result<Self> {
        Ok(Self::holding(place.make(0o750)?))
    }

    /// Opens a directory that is there, to read it.
    pub(super) fn open(place: &Location) -> io::Result<Self> {
        Ok(Self::holding(place.open()?))
    }

    fn holding(held: directory::Directory) -> Self {
        Self {
            held: Arc::new(held),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.held.path()
    }

    /// Where a file of it is, for a sentence.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Waits until no other process changes the registry, and keeps others from it until the file is dropped.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = self.held.lock_file(LOCK, LOCK_MODE)?;
        // An earlier build let the group open it.
        directory::tighten(&file, LOCK_MODE)?;
        directory::lock(&file, &self.path_of(LOCK))?;
        Ok(file)
    }

    /// Waits until no process changes the registry. `None` where there is nothing to lock, in a copy of a log, say, and for
    /// who may only read.
    pub(super) fn lock_shared(&self) -> io::Result<Option<File>> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        match self.read(LOCK) {
            Ok(file) => directory::lock_shared(&file, &self.path_of(LOCK)).map(|()| Some(file)),
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the file that says, by its lock, that a stream is written. It is locked before it has its name: a process that
    /// finds it finds it locked.
    pub(super) fn enliven(&self, stream: &str) -> io::Result<File> {
        let name = live_name(stream);
        let draft = format!("{name}{DRAFT}");
        let file = self.held.create_new(&draft, LOCK_MODE)?;
        file.lock()?;
        self.held.rename(&draft, &name)?;
        Ok(file)
    }

    /// Whether a stream is written now. Asked while the registry is locked.
    ///
    /// A file that this process may not open is damage: each stream's belongs to the directory's owner.
    pub(super) fn life(&self, stream: &str) -> io::Result<Life> {
        let name = live_name(stream);
        let Some(file) = self.sign_of_life(stream).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                let sentence = format!(
                    "{} belongs to another user, so it does not tell whether a process writes its stream: if none does, remove the file, then start again",
                    self.path_of(&name).display()
                );
                io::Error::new(io::ErrorKind::InvalidData, sentence)
            }
            _ => error,
        })?
        else {
            return Ok(Life::Dead(None));
        };
        match file.try_lock() {
            Ok(()) => Ok(Life::Dead(Some(file))),
            Err(TryLockError::WouldBlock) => Ok(Life::Alive),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The file that its process keeps locked. Another file under this name, which more users may open and lock, is none.
    fn sign_of_life(&self, stream: &str) -> io::Result<Option<File>> {
        let file = match self.held.read(&live_name(stream)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let metadata = file.metadata()?;
        let is_ours = metadata.mode() & 0o7777 == LOCK_MODE && metadata.len() == 0;
        Ok(is_ours.then_some(file))
    }

    /// As [`LogDirectory::life`], for who only looks; `None` is not known, since a reader may not open the file.
    pub(super) fn seems_alive(&self, stream: &str) -> Option<bool> {
        match self.sign_of_life(stream) {
            Ok(None) => Some(false),
            Ok(Some(file)) => match file.try_lock_shared() {
                Ok(()) => Some(false),
                Err(TryLockError::WouldBlock) => Some(true),
                Err(TryLockError::Error(_)) => None,
            },
            // A link, or a file of another user's.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Some(false),
            Err(_) => None,
        }
    }

    /// Takes the sign of life away.
    pub(super) fn bury(&self, stream: &str) -> io::Result<()> {
        self.held.remove(&live_name(stream))
    }

    /// Makes a file that is not there yet.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.held.create_new(name, MODE)
    }

    /// Opens a file that is there to append to it.
    pub(super) fn append_to(&self, name: &str) -> io::Result<File> {
        self.held.append(name, MODE)
    }

    /// Puts a text in the place of a file, whole or not at all.
    pub(super) fn replace(&self, name: &str, text: &[u8]) -> io::Result<()> {
        self.held.replace(name, text, MODE)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.held.remove(name)
    }

    /// Removes the drafts and signs of life that dead processes left.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let names = self.held.names()?.into_iter();
        for name in names.filter_map(|name| name.into_string().ok()) {
            if let Some(stream) = name.strip_suffix(&format!(".{LIVE}")) {
                if matches!(self.life(stream), Ok(Life::Dead(_))) {
                    self.bury(stream)?;
                }
            } else if name.ends_with(DRAFT) {
                // What is no file of ours is left alone.
                let modified = self.held.modified(&name).ok().flatten();
                let age = modified.and_then(|modified| modified.elapsed().ok());
                if age.is_some_and(|age| age > ABANDONED_AFTER) {
                    self.remove(&name)?;
                }
            }
        }
        Ok(())
    }

    /// Makes names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.held.sync()
    }

    /// Opens a file to read it: a regular file, and no link. Another kind of file is damage.
    pub(super) fn read(&self, name: &str) -> io::Result<File> {
        self.held
            .read_any(name)
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => io::Error::new(io::ErrorKind::InvalidData, error),
                _ => error,
            })
    }

    /// Reads a note, if it is there. What is not UTF-8 is none of ours, and is told as text that is not signed.
    pub(super) fn read_note(&self, name: &str) -> io::Result<Option<String>> {
        let file = match self.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_AUDIT_NOTE_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What is in the directory.
    pub(super) fn contents(&self) -> io::Result<Contents> {
        let mut contents = Contents::default();
        for name in self.held.names()? {
            if Path::new(&name)
                .extension()
                .is_none_or(|end| end != SEGMENT)
            {
                continue;
            }
            let name = name.to_string_lossy().into_owned();
            let parts: Vec<&str> = name.split('.').collect();
            let read = match parts[..] {
                [stream, number, SEGMENT] => number.parse().ok().map(|number| (stream, number)),
                _ => None,
            };
            // One number has one name, so that no two files are one segment.
            match read.filter(|(stream, number)| segment_name(stream, *number) == name) {
                Some((stream, number)) => {
                    let segments = contents.streams.entry(stream.to_owned()).or_default();
                    segments.push((number, name));
                }
                None => contents.strangers.push(name),
            }
        }
        contents
            .streams
            .values_mut()
            .for_each(|segments| segments.sort());
        contents.strangers.sort();
        Ok(contents)
    }

    /// The names of all segments, oldest stream first. What is none is damage, since its lines would be passed over.
    pub(super) fn segments(&self) -> io::Result<Vec<String>> {
        let Contents { streams, strangers } = self.contents()?;
        if let Some(stranger) = strangers.first() {
            let sentence = format!(
                "{} has not the name of a segment: move it out of the log's directory",
                self.path_of(stranger).display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
        }
        let segments = streams.into_values().flatten();
        Ok(segments.map(|(_, name)| name).collect())
    }
}

/// Reads a line with its newline, or what is left before the end; at most one byte more than the longest line.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    let most = MAX_AUDIT_LINE_BYTES as u64 + 1;
    reader.take(most).read_until(b'\n', line)
}

/// Whether what [`read_line`] gave is longer than any line.
pub(super) fn is_too_long(line: &[u8]) -> bool {
    line.len() > MAX_AUDIT_LINE_BYTES
}

/// Reads on behind the beginning of a last line that has no end, and judges whether a write that broke off left it.
///
/// A power cut may leave a tail of zeros that is longer than any line, but no line after it, and no other byte.
pub(super) fn read_tail(
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
) -> io::Result<Result<(), String>> {
    reader.take(MAX_TORN_BYTES).read_until(b'\n', line)?;
    let mut from_the_first_zero = line.iter().skip_while(|byte| **byte != 0);
    let has_hole = from_the_first_zero.any(|byte| *byte != 0);
    Ok(
        match line.ends_with(b"\n") || line.len() as u64 >= MAX_TORN_BYTES {
            true => Err(TOO_LONG.to_owned()),
            false if has_hole => Err(HOLE.to_owned()),
            false => Ok(()),
        },
    )
}

/// What is said of zeros that are not at the end.
const HOLE: &str = "zero bytes stand in the middle of what comes after the last whole line: a write that broke off leaves them at the end alone";

/// What is said of a line that is too long.
pub(super) const TOO_LONG: &str = "the line is longer than any audit record";

/// The name of a stream's segment, which are numbered from 1.
pub(super) fn segment_name(stream: &str, number: u32) -> String {
    format!("{stream}.{number:04}.{SEGMENT}")
}

/// Where is kept what was cut from a segment.
pub(super) fn torn_name(segment: &str) -> String {
    let stem = segment.strip_suffix(SEGMENT).unwrap_or(segment);
    format!("{stem}torn")
}

pub(super) fn live_name(stream: &str) -> String {
    format!("{stream}.{LIVE}")
}

/// Whether a path is still the file that is open.
pub(super) fn is_still(path: &Path, open: &File) -> io::Result<bool> {
    let (there, held) = (fs::symlink_metadata(path)?, open.metadata()?);
    Ok((there.dev(), there.ino()) == (held.dev(), held.ino()))
}
