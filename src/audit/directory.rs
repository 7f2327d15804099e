//! The log's directory: which streams and segments are in it, and how files get into it.
//!
//! Everything in it belongs to whoever the directory belongs to: a command that root runs must leave nothing that the
//! daemon's user cannot read, lock and mend.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Held while the registry is changed, and while a stream gets into it.
const LOCK: &str = ".lock";

/// How a segment's name ends.
const SEGMENT: &str = "jsonl";

/// The mode of every file: the owner writes, the group may read.
const MODE: u32 = 0o640;

/// The log's directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    path: PathBuf,
    owner: (u32, u32),
}

/// The segments of one stream, in order, each with its number.
pub(super) type Segments = Vec<(u32, PathBuf)>;

impl Directory {
    /// Makes the directory, if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            fs::create_dir_all(path)?;
            // A new directory belongs to whom the one above it belongs to.
            let above = fs::metadata(path.join(".."))?;
            give(&File::open(path)?, (above.uid(), above.gid()))?;
        }
        let metadata = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            owner: (metadata.uid(), metadata.gid()),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until nobody else changes the registry, and keeps others from it until the file is dropped.
    pub(super) fn lock(&self) -> io::Result<File> {
        let path = self.path.join(LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path)?;
        give(&file, self.owner)?;
        file.lock()?;
        Ok(file)
    }

    /// Makes a file that is not there yet, locked before it has its name: whoever finds it finds it locked.
    pub(super) fn create_locked(&self, name: &str) -> io::Result<File> {
        let draft = self.path.join(format!("{name}.draft"));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(MODE)
            .open(&draft)?;
        give(&file, self.owner)?;
        file.lock()?;
        fs::rename(&draft, self.path.join(name))?;
        Ok(file)
    }

    /// Puts a text in the place of a file, whole or not at all.
    pub(super) fn replace(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let draft = self.path.join(format!("{name}.draft"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .open(&draft)?;
        give(&file, self.owner)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&draft, self.path.join(name))
    }

    /// Makes names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Gives a file to its owner, if it is another's and we may.
fn give(file: &File, owner: (u32, u32)) -> io::Result<()> {
    let metadata = file.metadata()?;
    if (metadata.uid(), metadata.gid()) == owner {
        return Ok(());
    }
    match fchown(file, Some(owner.0), Some(owner.1)) {
        // Only root may. Whoever else writes here has rights of a group, and knows why.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// Reads a text file, if it is there. What is not UTF-8 is none of ours, and is told as text that nobody signed.
pub(super) fn read(dir: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until nobody changes the registry. `None` where there is nothing to lock: in a copy of a log, say.
pub(super) fn lock_shared(dir: &Path) -> io::Result<Option<File>> {
    match File::open(dir.join(LOCK)) {
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
        // A name that is none of ours is a stream that nobody registered.
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
