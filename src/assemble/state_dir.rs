//! The state directory: private, locked for one process, and with an empty spool.

use std::fs::{self, File};
use std::path::Path;

use directory::{Directory, Location};

use super::OpenError;
use crate::mounted;

/// Runs a step of the start at a file or directory on a thread of its own: a file system that hangs is an error after ten seconds, and signals are
/// heeded meanwhile.
pub(super) async fn in_time<T: Send + 'static>(
    place: &Path,
    step: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let done = mounted::work_in_time(place, move || Ok(step())).await;
    done.map_err(|source| OpenError::Directory {
        path: place.to_owned(),
        source,
    })?
}

/// An empty directory for temporary files; a killed process leaves its drafts there.
pub(super) fn fresh_spool(state: &Directory, state_dir: &Path) -> Result<Location, OpenError> {
    const SPOOL: &str = "spool";
    let place = Location::below(state_dir, SPOOL);
    let emptied = || {
        let spool = state.private_below(SPOOL)?;
        let names = spool.names()?.into_iter();
        // Files with other names are left alone.
        for name in names.filter_map(|name| name.into_string().ok()) {
            spool.remove(&name)?;
        }
        Ok(())
    };
    match emptied() {
        Ok(()) => Ok(place),
        Err(source) => Err(OpenError::Directory {
            path: place.to_path_buf(),
            source,
        }),
    }
}

/// Opens or creates a state directory that only its owner may enter.
///
/// It contains mails with live links and the addresses of recipients.
pub fn private_dir(path: &Path) -> Result<Directory, OpenError> {
    Directory::private(path).map_err(|source| OpenError::StateDir {
        path: path.to_owned(),
        source,
    })
}

/// Locks the state directory for one process at a time: an intent without an outcome then belongs to a dead process.
pub(super) fn lock_state_dir(state_dir: &Path) -> Result<(Directory, File), OpenError> {
    let failed = |source| OpenError::StateDir {
        path: state_dir.to_owned(),
        source,
    };
    let directory = private_dir(state_dir)?;
    let lock = directory.lock_file(".lock", 0o600).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok((directory, lock)),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: state_dir.to_owned(),
        }),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}
