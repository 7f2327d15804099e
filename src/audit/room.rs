//! The free space on the log's disk: messages are only received while there is space to record them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::quantity::Size;

/// The disk under a directory, and how much of it must be free.
#[derive(Debug, Clone)]
pub struct DiskRoom {
    dir: PathBuf,
    min_free: Size,
}

/// The disk has less free space than is required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearlyFull {
    dir: PathBuf,
    free: u64,
    min_free: Size,
}

impl fmt::Display for NearlyFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the disk of the audit log in {} has {} MB left, and audit.min_free is {}: no message is received until there is room again",
            self.dir.display(),
            self.free / 1_000_000,
            self.min_free
        )
    }
}

impl DiskRoom {
    /// Checks the disk under `dir`.
    pub fn new(dir: &Path, min_free: Size) -> Self {
        Self {
            dir: dir.to_owned(),
            min_free,
        }
    }

    /// Checks the free space. An error of the disk is ignored here and found by the next write.
    pub fn check(&self) -> Result<(), NearlyFull> {
        match self.free_bytes() {
            Ok(free) if free < self.min_free.as_bytes() => Err(NearlyFull {
                dir: self.dir.clone(),
                free,
                min_free: self.min_free,
            }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether a number of bytes may fit. An error of the disk is ignored here and found by the next write.
    pub(super) fn has(&self, bytes: u64) -> bool {
        self.free_bytes().map_or(true, |free| free >= bytes)
    }

    /// The free space for users without privileges, in bytes.
    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_nearly_full_when_less_is_free_than_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let room = |min_free: &str| DiskRoom::new(dir.path(), min_free.parse().unwrap());
        assert_eq!(room("1KB").check(), Ok(()));
        let error = room("8000000GB").check().unwrap_err().to_string();
        assert!(error.contains("audit.min_free is 8000000GB"), "{error}");
    }
}
