//! The log's directory: its streams and segments, and how its files are created and read.
//!
//! Everything in it belongs to the directory's owner: a command that root runs must not leave a file that the daemon's user
//! cannot read, lock and repair. Files are written through [`directory`], which follows no symbolic link. Only regular files
//! are read, and their lines and notes are bounded.
//!
//! Lock files are only accessible to their owner: a user who may only read the log cannot block a writer, or make a dead
//! stream look alive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use directory::Location;

use super::compressed::{COMPRESSED, SegmentFile, compressed_name};
use crate::bounds::{MAX_AUDIT_LINE_BYTES, MAX_AUDIT_NOTE_BYTES, MAX_TORN_BYTES};

/// Held while the registry is changed, and while a stream gets into it.
const LOCK: &str = ".lock";

/// Held while segments are compressed, shipped and removed.
const RETENTION_LOCK: &str = ".retention.lock";

/// The extension of a segment.
const SEGMENT: &str = "jsonl";

/// The extension of the file that is locked while its stream is written.
const LIVE: &str = "live";

/// The suffix of a file that does not have its final name yet.
const DRAFT: &str = ".draft";

/// The age from which a draft belongs to a dead process: a living process renames it at once.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

/// The mode of every log file: the owner writes, the group may read.
const MODE: u32 = 0o640;

/// The mode of every lock file.
const LOCK_MODE: u32 = 0o600;

/// The log's directory.
#[derive(Debug, Clone)]
pub(super) struct LogDirectory {
    held: Arc<directory::Directory>,
}

/// The segments of one stream, in order, each with its number and its name.
pub(super) type Segments = Vec<(u32, String)>;

/// The contents of a log's directory.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The streams, oldest first. A segment has its name without the suffix of the compressed form.
    pub(super) streams: BTreeMap<String, Segments>,
    /// The segments whose plain form exists, and those whose compressed form does.
    pub(super) plain: BTreeSet<String>,
    pub(super) compressed: BTreeSet<String>,
    /// Files with the extension of a segment and an invalid name.
    pub(super) strangers: Vec<String>,
}

/// Whether a process writes a stream.
#[derive(Debug)]
pub(super) enum Life {
    /// A process writes it.
    Alive,
    /// No process writes it, and none can start to while this is held.
    Dead(Option<File>),
}

impl LogDirectory {
    /// Creates the directory, if it does not exist.
    pub(super) fn make(place: &Location) -> io::Result<Self> {
        Ok(Self::holding(place.make(0o750)?))
    }

    /// Opens an existing directory to read it.
    pub(super) fn open(place: &Location) -> io::Result<Self> {
        Ok(Self::holding(place.open()?))
    }

    fn holding(held: directory::Directory) -> Self {
        Self {
            held: Arc::new(held),
        }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        self.held.path()
    }

    /// The path of a file in it, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Locks the registry exclusively, until the file is dropped. Waits for other processes that hold it.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = self.held.lock_file(LOCK, LOCK_MODE)?;
        // Earlier builds let the group open it.
        directory::tighten(&file, LOCK_MODE)?;
        directory::lock(&file, &self.path_of(LOCK))?;
        Ok(file)
    }

    /// Locks the registry shared: waits until no process changes it. `None` if there is no lock file, as in a copy of a log, and
    /// for a user who may only read.
    pub(super) fn lock_shared(&self) -> io::Result<Option<File>> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        match self.read(LOCK) {
            Ok(file) => directory::lock_shared(&file, &self.path_of(LOCK)).map(|()| Some(file)),
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock of the retention; `None` if another process has it.
    pub(super) fn lock_retention(&self) -> io::Result<Option<File>> {
        let file = self.held.lock_file(RETENTION_LOCK, LOCK_MODE)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Creates the file whose lock shows that a stream is being written. It is locked before it gets its final name, so that
    /// other processes never see it unlocked.
    pub(super) fn enliven(&self, stream: &str) -> io::Result<File> {
        let name = live_name(stream);
        let draft = format!("{name}{DRAFT}");
        let file = self.held.create_new(&draft, LOCK_MODE)?;
        file.lock()?;
        self.held.rename(&draft, &name)?;
        Ok(file)
    }

    /// Whether a stream is being written. Called while the registry is locked.
    ///
    /// A file that this process may not open is damage: each belongs to the directory's owner.
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

    /// The file that its process keeps locked. A file under this name that more users may open and lock is ignored.
    fn sign_of_life(&self, stream: &str) -> io::Result<Option<File>> {
        let file = match self.held.read(&live_name(stream)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let metadata = file.metadata()?;
        let is_ours = metadata.mode() & 0o7777 == LOCK_MODE && metadata.len() == 0;
        Ok(is_ours.then_some(file))
    }

    /// Like [`LogDirectory::life`], without the lock; `None` if it is unknown, since a reader may not open the file.
    pub(super) fn seems_alive(&self, stream: &str) -> Option<bool> {
        match self.sign_of_life(stream) {
            Ok(None) => Some(false),
            Ok(Some(file)) => match file.try_lock_shared() {
                Ok(()) => Some(false),
                Err(TryLockError::WouldBlock) => Some(true),
                Err(TryLockError::Error(_)) => None,
            },
            // A symbolic link, or a file of another user.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Some(false),
            Err(_) => None,
        }
    }

    /// Removes the lock file of a stream.
    pub(super) fn bury(&self, stream: &str) -> io::Result<()> {
        self.held.remove(&live_name(stream))
    }

    /// Creates a new file.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.held.create_new(name, MODE)
    }

    /// A new file without a name, which gets one when it is complete.
    pub(super) fn draft(&self) -> io::Result<directory::Draft> {
        self.held.draft(MODE)
    }

    /// Opens an existing file to append to it.
    pub(super) fn append_to(&self, name: &str) -> io::Result<File> {
        self.held.append(name, MODE)
    }

    /// Replaces a file by a text atomically.
    pub(super) fn replace(&self, name: &str, text: &[u8]) -> io::Result<()> {
        self.held.replace(name, text, MODE)
    }

    /// Removes a file, if it exists.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.held.remove(name)
    }

    /// Removes the drafts and lock files that dead processes left.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let names = self.held.names()?.into_iter();
        for name in names.filter_map(|name| name.into_string().ok()) {
            if let Some(stream) = name.strip_suffix(&format!(".{LIVE}")) {
                if matches!(self.life(stream), Ok(Life::Dead(_))) {
                    self.bury(stream)?;
                }
            } else if name.ends_with(DRAFT) {
                // Other files are left alone.
                let modified = self.held.modified(&name).ok().flatten();
                let age = modified.and_then(|modified| modified.elapsed().ok());
                if age.is_some_and(|age| age > ABANDONED_AFTER) {
                    self.remove(&name)?;
                }
            }
        }
        Ok(())
    }

    /// Syncs the directory, so that names are durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.held.sync()
    }

    /// Opens a regular file to read it. Links and other kinds of files are damage.
    pub(super) fn read(&self, name: &str) -> io::Result<File> {
        self.held
            .read_any(name)
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => io::Error::new(io::ErrorKind::InvalidData, error),
                _ => error,
            })
    }

    /// Opens a segment by its name, in either form. The plain form comes first: the compressed one takes its place while others read.
    pub(super) fn segment(&self, name: &str) -> io::Result<SegmentFile> {
        match self.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self
                .compressed_segment(name)
                .map_err(|other| match other.kind() {
                    io::ErrorKind::NotFound => error,
                    _ => other,
                }),
            opened => SegmentFile::plain(opened?, self.path_of(name)),
        }
    }

    /// When the last line of a segment was written; the earliest instant for one that was removed meanwhile.
    pub(super) fn modified(&self, name: &str) -> io::Result<SystemTime> {
        let of = |name: &str| self.held.modified(name);
        let found = match of(name)? {
            None => of(&compressed_name(name))?,
            found => found,
        };
        Ok(found.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// The facts of the plain form of a segment, if it exists.
    pub(super) fn plain_facts(&self, name: &str) -> io::Result<Option<fs::Metadata>> {
        match self.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => Ok(Some(opened?.metadata()?)),
        }
    }

    /// Opens the compressed form of a segment.
    pub(super) fn compressed_segment(&self, name: &str) -> io::Result<SegmentFile> {
        let name = compressed_name(name);
        SegmentFile::compressed(self.read(&name)?, self.path_of(&name))
    }

    /// Reads a note, if it exists. A file that is not UTF-8 is read as a text without a signature.
    pub(super) fn read_note(&self, name: &str) -> io::Result<Option<String>> {
        let file = match self.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_AUDIT_NOTE_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The contents of the directory.
    pub(super) fn contents(&self) -> io::Result<Contents> {
        let mut contents = Contents::default();
        for name in self.held.names()? {
            let file = name.to_string_lossy().into_owned();
            let short = file.strip_suffix(COMPRESSED);
            let name = short.unwrap_or(&file);
            if Path::new(name).extension().is_none_or(|end| end != SEGMENT) {
                continue;
            }
            // Each number has exactly one valid name, so that two files of a form cannot be the same segment.
            match segment_of(name) {
                Some((stream, number)) => {
                    let segments = contents.streams.entry(stream.to_owned()).or_default();
                    segments.push((number, name.to_owned()));
                    match short {
                        Some(_) => contents.compressed.insert(name.to_owned()),
                        None => contents.plain.insert(name.to_owned()),
                    };
                }
                None => contents.strangers.push(file),
            }
        }
        for segments in contents.streams.values_mut() {
            segments.sort();
            segments.dedup();
        }
        contents.strangers.sort();
        Ok(contents)
    }

    /// The names of all segments, oldest stream first. A file with an invalid name is damage, since its lines would be skipped.
    pub(super) fn segments(&self) -> io::Result<Vec<String>> {
        let Contents {
            streams, strangers, ..
        } = self.contents()?;
        if let Some(stranger) = strangers.first() {
            let sentence = format!(
                "{} is not named like a segment: move it out of the log's directory",
                self.path_of(stranger).display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
        }
        let segments = streams.into_values().flatten();
        Ok(segments.map(|(_, name)| name).collect())
    }
}

/// Reads a line with its newline, or the rest of the file; at most one byte more than the longest line.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    let most = MAX_AUDIT_LINE_BYTES as u64 + 1;
    reader.take(most).read_until(b'\n', line)
}

/// Whether the result of [`read_line`] is longer than a line may be.
pub(super) fn is_too_long(line: &[u8]) -> bool {
    line.len() > MAX_AUDIT_LINE_BYTES
}

/// Reads the rest after the beginning of an incomplete last line, and checks whether an interrupted write can have left it.
///
/// A power cut may leave a tail of zeros that is longer than any line, but no other byte after it.
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

/// The problem of zeros that are not at the end.
const HOLE: &str = "zero bytes come before other bytes after the last whole line: an interrupted write leaves them only at the end";

/// The problem of a line that is too long.
pub(super) const TOO_LONG: &str = "the line is longer than any audit record";

/// The stream and the number in the name of a segment; `None` if no segment has such a name.
pub(super) fn segment_of(name: &str) -> Option<(&str, u32)> {
    let parts: Vec<&str> = name.split('.').collect();
    let [stream, number, SEGMENT] = parts[..] else {
        return None;
    };
    let number = number.parse().ok()?;
    (segment_name(stream, number) == name).then_some((stream, number))
}

/// The name of a stream's segment; segments are numbered from 1.
pub(super) fn segment_name(stream: &str, number: u32) -> String {
    format!("{stream}.{number:04}.{SEGMENT}")
}

/// The name of the file with the bytes that were cut from a segment.
pub(super) fn torn_name(segment: &str) -> String {
    let stem = segment.strip_suffix(SEGMENT).unwrap_or(segment);
    format!("{stem}torn")
}

pub(super) fn live_name(stream: &str) -> String {
    format!("{stream}.{LIVE}")
}

/// Whether a path still names the file that is open.
pub(super) fn is_still(path: &Path, open: &File) -> io::Result<bool> {
    let (there, held) = (fs::symlink_metadata(path)?, open.metadata()?);
    Ok((there.dev(), there.ino()) == (held.dev(), held.ino()))
}
