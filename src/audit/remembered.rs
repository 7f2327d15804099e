//! What is known of a log outside its directory: its id, its registry's last generation with the hash of its text, and the
//! last state of each stream that has not ended.
//!
//! Registry and states are signed, so they cannot be changed without the key. They can be taken away, though, or replaced by
//! those of yesterday or of another log of the same key, and all lines after them with fresh hashes. So what is written last
//! is kept in the state directory too, signed by the same key: a log with another id, without its registry, with an older
//! one, without a stream of which lines are remembered, or with other lines than the last state covers, is damaged.

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

/// Where the last state of one log is kept.
#[derive(Debug, Clone)]
pub struct Memory {
    place: Location,
}

/// What is remembered of a registry.
#[derive(Debug)]
struct KeptState {
    log: String,
    generation: u64,
    hash: String,
}

impl Memory {
    /// The memory of the log in `log`, below the directory `dir`: each log has its own.
    pub fn new(dir: &Path, log: &Path) -> Self {
        let digest = sha256_hex(place(log).as_os_str().as_encoded_bytes());
        Self {
            place: Location::below(dir, &format!("audit-memory-{}", &digest[..16])),
        }
    }

    /// The directory, for a sentence about it.
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

    /// What is kept of the registry; nothing where nothing is. A note that was changed is an error.
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

    /// Keeps what a registry is.
    pub(super) fn keep(&self, registry: &Registry, key: &SigningKey) -> io::Result<()> {
        let (log, generation, hash) = (&registry.log, registry.generation, registry.hash());
        let text = format!("{ORIGIN}\n{log}\n{generation}\n{hash}\n");
        self.put(REGISTRY, &key.sign(&text))
    }

    /// What is wrong with a log's registry, or with its absence, by what is remembered; nothing if all is as it may be.
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
                "is missing, and {memory} says that there was one"
            )));
        };
        if registry.log != kept.log {
            return Ok(Some(format!(
                "is of another log than the one that was written here ({} instead of {}, as {memory} says): another directory of the same key is in its place",
                registry.log, kept.log
            )));
        }
        let restored = "If you restored a backup, remove that directory";
        let (read, written) = (registry.generation, kept.generation);
        if read < written {
            return Ok(Some(format!(
                "is older than the one that was written last (generation {read} of {written}, as {memory} says): it, or the whole directory, was put back to an earlier state. {restored}"
            )));
        }
        if read == written && registry.hash() != kept.hash {
            return Ok(Some(format!(
                "is another one than was written last, as {memory} says: it, or the whole directory, was exchanged. {restored}"
            )));
        }
        for stream in self.streams()? {
            let state = self.state(&stream, registry)?;
            // A start that broke off before it had registered its stream leaves a state without lines.
            let has_lines = state.is_some_and(|state| state.lines > 0);
            if has_lines && !registry.streams.contains_key(&stream) {
                return Ok(Some(format!(
                    "does not know the stream {stream}, of which {memory} remembers lines. {restored}"
                )));
            }
        }
        Ok(None)
    }

    /// The streams of which a state is kept.
    pub(super) fn streams(&self) -> io::Result<Vec<String>> {
        let names = match self.place.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            dir => dir?.names()?.into_iter(),
        };
        let names = names.filter_map(|name| name.into_string().ok());
        let stream = |name: String| Some(name.strip_suffix(STATE)?.to_owned());
        Ok(names.filter_map(stream).collect())
    }

    /// The last state of a stream that is kept, if one is.
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

    /// Keeps the last state of a stream, a signed checkpoint.
    pub(super) fn keep_state(&self, stream: &str, note: &str) -> io::Result<()> {
        self.put(&state_name(stream), note)
    }

    /// Forgets a stream that has ended: the registry has its end.
    pub(super) fn forget_state(&self, stream: &str) -> io::Result<()> {
        match self.place.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            dir => dir?.remove(&state_name(stream)),
        }
    }
}

/// An open stream's last state, if it has one: the log's own, or the one that is remembered if that is newer.
///
/// The one in the log's directory may be an earlier one that was put back, and all lines after it new.
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

/// One spelling of a directory's path, whether it is there already or not. A link in its place is not followed: a log that is
/// exchanged for a link to another is missed.
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
