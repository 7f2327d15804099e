//! What is known of a log outside its directory: that it has a registry, the registry's last generation, and the last state
//! of each stream that has not ended.
//!
//! Registry and states are signed, so they cannot be changed without the key. They can be taken away, though, or replaced by
//! those of yesterday, and all lines after them with fresh hashes. So what is written last is kept in the state directory too,
//! signed by the same key: a log without its registry, with an older one, or with other lines than the last state covers, is
//! damaged.

use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::note::{BadNote, PublicKey, SigningKey};
use super::registry::{state, state_name};
use crate::bounds::MAX_AUDIT_NOTE_BYTES;
use crate::directory::Directory;
use crate::keyring::sha256_hex;

/// The first line of the note.
const ORIGIN: &str = "handout/registry";

/// The note with the generation.
const REGISTRY: &str = "registry.note";

/// Where the last state of one log is kept.
#[derive(Debug, Clone)]
pub struct Memory {
    dir: PathBuf,
}

impl Memory {
    /// The memory of the log in `log`, below the directory `dir`: each log has its own.
    pub fn new(dir: &Path, log: &Path) -> Self {
        let digest = sha256_hex(place(log).as_os_str().as_encoded_bytes());
        Self {
            dir: dir.join(format!("audit-memory-{}", &digest[..16])),
        }
    }

    /// The directory, for a sentence about it.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    fn read(&self, name: &str) -> io::Result<Option<String>> {
        let bytes =
            Directory::open(&self.dir).and_then(|dir| dir.read_bounded(name, MAX_AUDIT_NOTE_BYTES));
        match bytes {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(String::from_utf8_lossy(&read?).into_owned())),
        }
    }

    fn changed(&self, name: &str) -> io::Error {
        let sentence = format!("{} was changed", self.dir.join(name).display());
        io::Error::new(io::ErrorKind::InvalidData, sentence)
    }

    fn put(&self, name: &str, note: &str) -> io::Result<()> {
        Directory::make(&self.dir, 0o700)?.replace(name, note.as_bytes(), 0o600)
    }

    /// The generation that is kept; nothing where none is. A note that was changed is an error.
    pub fn generation(&self, key: &PublicKey) -> io::Result<Option<u64>> {
        let Some(note) = self.read(REGISTRY)? else {
            return Ok(None);
        };
        let text = key.open(&note).map_err(|_| self.changed(REGISTRY))?;
        let generation = text
            .strip_prefix(ORIGIN)
            .and_then(|rest| rest.trim().parse().ok());
        generation.map(Some).ok_or_else(|| self.changed(REGISTRY))
    }

    /// Keeps a generation.
    pub(super) fn keep(&self, generation: u64, key: &SigningKey) -> io::Result<()> {
        self.put(REGISTRY, &key.sign(&format!("{ORIGIN}\n{generation}\n")))
    }

    /// The last state of a stream that is kept, if one is.
    pub(super) fn state(&self, stream: &str, key: &PublicKey) -> io::Result<Option<Checkpoint>> {
        let name = state_name(stream);
        let Some(note) = self.read(&name)? else {
            return Ok(None);
        };
        let state = Checkpoint::open(&note, key).map_err(|_| self.changed(&name))?;
        Ok(Some(state).filter(|state| state.stream == stream))
    }

    /// Keeps the last state of a stream, a signed checkpoint.
    pub(super) fn keep_state(&self, stream: &str, note: &str) -> io::Result<()> {
        self.put(&state_name(stream), note)
    }

    /// Forgets a stream that has ended: the registry has its end.
    pub(super) fn forget_state(&self, stream: &str) -> io::Result<()> {
        match Directory::open(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            dir => dir?.remove(&state_name(stream)),
        }
    }
}

/// An open stream's last state, if it has one: the log's own, or the one that is remembered if that is newer.
///
/// The one in the log's directory may be an earlier one that was put back, and all lines after it new.
pub(super) fn last_state(
    log: &Path,
    memory: Option<&Memory>,
    stream: &str,
    key: &PublicKey,
) -> io::Result<Option<Result<Checkpoint, BadNote>>> {
    let kept = memory.map(|memory| memory.state(stream, key));
    let kept = kept.transpose()?.flatten();
    let read = state(log, stream, key)?;
    Ok(read.map(|read| {
        let state = read?;
        Ok(kept
            .filter(|kept| kept.lines > state.lines)
            .unwrap_or(state))
    }))
}

/// One spelling of a directory's path, whether it is there already or not.
fn place(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut above = path.as_path();
    loop {
        if let Ok(real) = std::fs::canonicalize(above) {
            let below = path.strip_prefix(above).unwrap_or(Path::new(""));
            return real.components().chain(below.components()).collect();
        }
        match above.parent() {
            Some(parent) => above = parent,
            None => return path,
        }
    }
}
