//! What is known of a log outside its directory: that it has a registry, and the registry's last generation.
//!
//! The registry is signed, so it cannot be changed without the key. It can be taken away, though, or replaced by the one of
//! yesterday, and all streams with it. So each time that it is saved, its generation is kept in the state directory, signed
//! by the same key: a log without its registry, or with an older one, is damaged.

use std::io;
use std::path::{Path, PathBuf};

use super::note::{PublicKey, SigningKey};
use crate::bounds::MAX_AUDIT_NOTE_BYTES;
use crate::directory::Directory;
use crate::keyring::sha256_hex;

/// The first line of the note.
const ORIGIN: &str = "handout/registry";

/// Where the generation of one log's registry is kept.
#[derive(Debug, Clone)]
pub struct Memory {
    dir: PathBuf,
    name: String,
}

impl Memory {
    /// The memory of the log in `log`, in the directory `dir`: each log has its own.
    pub fn new(dir: &Path, log: &Path) -> Self {
        let log = std::fs::canonicalize(log).unwrap_or_else(|_| log.to_owned());
        let digest = sha256_hex(log.as_os_str().as_encoded_bytes());
        Self {
            dir: dir.to_owned(),
            name: format!("audit-registry-{}.note", &digest[..16]),
        }
    }

    /// The file, for a sentence about it.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// The generation that is kept; nothing where none is. A note that was changed is an error.
    pub fn generation(&self, key: &PublicKey) -> io::Result<Option<u64>> {
        let bytes = match Directory::open(&self.dir)
            .and_then(|dir| dir.read_bounded(&self.name, MAX_AUDIT_NOTE_BYTES))
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let changed = || {
            let sentence = format!("{} was changed", self.path().display());
            io::Error::new(io::ErrorKind::InvalidData, sentence)
        };
        let note = String::from_utf8(bytes).map_err(|_| changed())?;
        let text = key.open(&note).map_err(|_| changed())?;
        let generation = text
            .strip_prefix(ORIGIN)
            .and_then(|rest| rest.trim().parse().ok());
        generation.map(Some).ok_or_else(changed)
    }

    /// Keeps a generation.
    pub(super) fn keep(&self, generation: u64, key: &SigningKey) -> io::Result<()> {
        let note = key.sign(&format!("{ORIGIN}\n{generation}\n"));
        Directory::make(&self.dir, 0o700)?.replace(&self.name, note.as_bytes(), 0o600)
    }
}
