//! The log's directory: which streams and segments are in it, and how files get into it and are read.
//!
//! Everything in it belongs to the directory's owner: a command that root runs must leave nothing that the daemon's user
//! cannot read, lock and mend. What is written is opened through [`crate::directory`], which follows no link; what is read
//! is a regular file, and no line and no note of it is longer than its bound.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bounds::{MAX_AUDIT_LINE_BYTES, MAX_AUDIT_NOTE_BYTES};
use crate::directory::{self, Location};

/// Held while the registry is changed, and while a stream gets into it.
const LOCK: &str = ".lock";

/// How a segment's name ends.
const SEGMENT: &str = "jsonl";

/// The mode of every file: the owner writes, the group may read.
const MODE: u32 = 0o640;

/// The log's directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    held: Arc<directory::Directory>,
}

/// The segments of one stream, in order, each with its number.
pub(super) type Segments = Vec<(u32, PathBuf)>;

impl Directory {
    /// Makes the directory, if it is not there.
    pub(super) fn open(place: &Location) -> io::Result<Self> {
        let held = place.make(0o750)?;
        Ok(Self {
            held: Arc::new(held),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.held.path()
    }

    /// Waits until no other process changes the registry, and keeps others from it until the file is dropped.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = self.held.lock_file(LOCK, MODE)?;
        file.lock()?;
        Ok(file)
    }

    /// Makes a file that is not there yet, locked before it has its name: a process that finds it finds it locked.
    pub(super) fn create_locked(&self, name: &str) -> io::Result<File> {
        let draft = format!("{name}.draft");
        // One that is there is a dead process's: the name is a stream's, and one process writes it or ends it.
        self.held.remove(&draft)?;
        let file = self.held.create_new(&draft, MODE)?;
        file.lock()?;
        self.held.rename(&draft, name)?;
        Ok(file)
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

    /// Makes names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.held.sync()
    }
}

/// Opens a file of a log to read it: a regular file, and no link. Another kind of file is damage.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    directory::read_unlinked(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            let sentence = format!("{error}: move it out of the log's directory");
            io::Error::new(io::ErrorKind::InvalidData, sentence)
        }
        _ => error,
    })
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

/// What is said of a line that is too long.
pub(super) const TOO_LONG: &str = "the line is longer than any audit record";

/// Reads a note, if it is there. What is not UTF-8 is none of ours, and is told as text that is not signed.
pub(super) fn read(dir: &Path, name: &str) -> io::Result<Option<String>> {
    let file = match open_to_read(&dir.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_AUDIT_NOTE_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Waits until no process changes the registry. `None` where there is nothing to lock: in a copy of a log, say.
pub(super) fn lock_shared(dir: &Path) -> io::Result<Option<File>> {
    match open_to_read(&dir.join(LOCK)) {
        Ok(file) => file.lock_shared().map(|()| Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of a stream's segment, which are numbered from 1.
pub(super) fn segment_name(stream: &str, number: u32) -> String {
    format!("{stream}.{number:04}.{SEGMENT}")
}

/// The streams of a directory and their segments, oldest first.
pub(super) fn streams(dir: &Path) -> io::Result<BTreeMap<String, Segments>> {
    let mut streams: BTreeMap<String, Segments> = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != SEGMENT) {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let (stream, number) = name.rsplit_once('.').unwrap_or((&name, ""));
        // A name that is none of ours is a stream that is not registered.
        let number = number.parse().unwrap_or(0);
        let segments = streams.entry(stream.to_owned()).or_default();
        segments.push((number, path));
    }
    for segments in streams.values_mut() {
        segments.sort();
    }
    Ok(streams)
}

/// All segments of a directory, oldest stream first.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let streams = streams(dir)?.into_values().flatten();
    Ok(streams.map(|(_, path)| path).collect())
}

/// Whether a path is still the file that is open.
pub(super) fn is_still(path: &Path, open: &File) -> io::Result<bool> {
    let (there, held) = (fs::symlink_metadata(path)?, open.metadata()?);
    Ok((there.dev(), there.ino()) == (held.dev(), held.ino()))
}
