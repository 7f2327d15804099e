//! The state of a log that is stored outside its directory: its id, its registry's last generation with the hash of its text,
//! and the last state of each stream that has not ended.
//!
//! Registry and states are signed, so they cannot be changed without the key. But they can be removed, or replaced by older
//! ones or by those of another log of the same key, with new lines and hashes after them. So the last state is stored in the
//! state directory too, signed by the same key. A log is damaged if it has another id, if it lacks its registry or has an
//! older one, if it lacks a stream of which lines are remembered, or if its lines differ from those that the last state covers.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use directory::Location;

use super::checkpoint::Checkpoint;
use super::directory::LogDirectory;
use super::note::{BadNote, PublicKey, SigningKey};
use super::registry::{Registry, STATE, state, state_name};
use crate::bounds::MAX_AUDIT_NOTE_BYTES;
use crate::keyring::sha256_hex;

/// The first line of the note.
const ORIGIN: &str = "handout/registry";

/// The note with the generation.
const REGISTRY: &str = "registry.note";

/// Where the last state of a log is stored.
#[derive(Debug, Clone)]
pub struct Memory {
    place: Location,
}

/// The remembered state of a registry.
#[derive(Debug)]
struct KeptState {
    log: String,
    generation: u64,
    hash: String,
}

impl Memory {
    /// The memory of the log in `log`, below the directory `dir`; each log has a separate one.
    pub fn new(dir: &Path, log: &Path) -> Self {
        let digest = sha256_hex(place(log).as_os_str().as_encoded_bytes());
        Self {
            place: Location::below(dir, &format!("audit-memory-{}", &digest[..16])),
        }
    }

    /// The directory, for messages.
    pub fn path(&self) -> &Path {
        &self.place
    }

    fn read(&self, name: &str) -> io::Result<Option<String>> {
        let bytes = self
            .place
            .open()
            .and_then(|dir| dir.read_bounded(name, MAX_AUDIT_NOTE_BYTES));
        match bytes {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(String::from_utf8_lossy(&read?).into_owned())),
        }
    }

    fn changed(&self, name: &str) -> io::Error {
        let sentence = format!("{} was changed", self.place.join(name).display());
        io::Error::new(io::ErrorKind::InvalidData, sentence)
    }

    fn put(&self, name: &str, note: &str) -> io::Result<()> {
        let dir = self.place.make(0o700)?;
        dir.replace(name, note.as_bytes(), 0o600)
    }

    /// The remembered state of the registry, if there is one. A changed note is an error.
    fn kept(&self, key: &PublicKey) -> io::Result<Option<KeptState>> {
        let Some(note) = self.read(REGISTRY)? else {
            return Ok(None);
        };
        let text = key.open(&note).map_err(|_| self.changed(REGISTRY))?;
        match text.lines().collect::<Vec<_>>()[..] {
            [ORIGIN, log, generation, hash] => {
                generation.parse().ok().map(|generation| KeptState {
                    log: log.to_owned(),
                    generation,
                    hash: hash.to_owned(),
                })
            }
            _ => None,
        }
        .map(Some)
        .ok_or_else(|| self.changed(REGISTRY))
    }

    /// Stores the state of a registry.
    pub(super) fn keep(&self, registry: &Registry, key: &SigningKey) -> io::Result<()> {
        let (log, generation, hash) = (&registry.log, registry.generation, registry.hash());
        let text = format!("{ORIGIN}\n{log}\n{generation}\n{hash}\n");
        self.put(REGISTRY, &key.sign(&text))
    }

    /// Compares a log's registry, or its absence, with the remembered state. Returns the problem, or `None`.
    pub(super) fn judge(
        &self,
        registry: Option<&Registry>,
        key: &PublicKey,
    ) -> io::Result<Option<String>> {
        let Some(kept) = self.kept(key)? else {
            return Ok(None);
        };
        let memory = self.path().display();
        let Some(registry) = registry else {
            return Ok(Some(format!(
                "is missing, but {memory} records that there was one. {}",
                restored(&memory)
            )));
        };
        if registry.log != kept.log {
            return Ok(Some(format!(
                "is of another log than the one that was written here ({} instead of {}, as {memory} says): another directory of the same key is in its place",
                registry.log, kept.log
            )));
        }
        let restored = restored(&memory);
        let (read, written) = (registry.generation, kept.generation);
        if read < written {
            return Ok(Some(format!(
                "is older than the one that was written last (generation {read} of {written}, as {memory} says): it, or the whole directory, was put back to an earlier state. {restored}"
            )));
        }
        if read == written && registry.hash() != kept.hash {
            return Ok(Some(format!(
                "differs from the one that was written last, as {memory} says: it, or the whole directory, was replaced. {restored}"
            )));
        }
        for stream in self.streams()? {
            let state = self.state(&stream, registry)?;
            // A start that was interrupted before it had registered its stream leaves a state without lines.
            let has_lines = state.is_some_and(|state| state.lines > 0);
            if has_lines && !registry.streams.contains_key(&stream) {
                return Ok(Some(format!(
                    "does not know the stream {stream}, of which {memory} remembers lines. {restored}"
                )));
            }
        }
        Ok(None)
    }

    /// The streams with a stored state.
    pub(super) fn streams(&self) -> io::Result<Vec<String>> {
        let names = match self.place.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            dir => dir?.names()?.into_iter(),
        };
        let names = names.filter_map(|name| name.into_string().ok());
        let stream = |name: String| Some(name.strip_suffix(STATE)?.to_owned());
        Ok(names.filter_map(stream).collect())
    }

    /// The stored last state of a stream, if there is one.
    pub(super) fn state(
        &self,
        stream: &str,
        registry: &Registry,
    ) -> io::Result<Option<Checkpoint>> {
        let name = state_name(stream);
        let Some(note) = self.read(&name)? else {
            return Ok(None);
        };
        let state = Checkpoint::open(&note, &registry.key).map_err(|_| self.changed(&name))?;
        Ok(Some(state).filter(|state| state.stream == stream && state.log == registry.log))
    }

    /// Stores the last state of a stream, a signed checkpoint.
    pub(super) fn keep_state(&self, stream: &str, note: &str) -> io::Result<()> {
        self.put(&state_name(stream), note)
    }

    /// Removes the state of a stream that has ended: the registry has its end.
    pub(super) fn forget_state(&self, stream: &str) -> io::Result<()> {
        match self.place.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            dir => dir?.remove(&state_name(stream)),
        }
    }
}

/// An open stream's last state, if it has one: the log's own, or the remembered one if that is newer.
///
/// The state in the log's directory may be an earlier copy that was put back, with forged lines after it.
pub(super) fn last_state(
    directory: &LogDirectory,
    memory: Option<&Memory>,
    registry: &Registry,
    stream: &str,
) -> io::Result<Option<Result<Checkpoint, BadNote>>> {
    let kept = memory.map(|memory| memory.state(stream, registry));
    let kept = kept.transpose()?.flatten();
    let read = state(directory, registry, stream)?;
    Ok(read.map(|read| {
        let state = read?;
        Ok(kept
            .filter(|kept| kept.lines > state.lines)
            .unwrap_or(state))
    }))
}

/// A canonical path of a directory, whether it exists or not. A symbolic link in its place is not followed, so that a log that
/// is replaced by a link to another log is found missing.
fn place(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let named = path.file_name().and(path.parent());
    let mut above = named.unwrap_or(&path);
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
/// What to do after a backup of the log was restored.
fn restored(memory: &impl fmt::Display) -> String {
    format!("If you restored a backup, remove {memory}, and not the audit log")
}
