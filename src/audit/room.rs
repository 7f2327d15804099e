//! The free space on the log's disk: messages are only received while there is space to record them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::mounted::in_time;
use crate::quantity::Size;

/// How long a measurement counts.
const COUNTS_FOR: Duration = Duration::from_millis(200);

/// How long a caller waits for a measurement; after that it gets the last one. A disk answers within microseconds.
const WAITED_FOR: Duration = Duration::from_millis(20);

/// After how long without an answer the disk counts as silent.
const SILENT: Duration = Duration::from_secs(10);

/// The disk under a directory, and how much of it must be free. Clones share the measurements.
///
/// The directory may be on a mount whose server is gone, where `statvfs` does not return. So no caller waits for it.
#[derive(Debug, Clone)]
pub struct DiskRoom {
    dir: PathBuf,
    min_free: Size,
    measured: Arc<Mutex<Measured>>,
}

#[derive(Debug, Default)]
struct Measured {
    /// The free space in bytes; `None` if the disk gave an error.
    free: Option<u64>,
    at: Option<Instant>,
    /// Since when the disk does not answer.
    silent_since: Option<Instant>,
}

/// Why no message can be received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskTrouble {
    /// The disk has less free space than is required.
    NearlyFull {
        /// The directory of the log.
        dir: PathBuf,
        /// The free space, in bytes.
        free: u64,
        /// What must be free.
        min_free: Size,
    },
    /// The disk does not answer.
    Silent {
        /// The directory of the log.
        dir: PathBuf,
    },
}

impl fmt::Display for DiskTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NearlyFull {
                dir,
                free,
                min_free,
            } => write!(
                f,
                "the disk of the audit log in {} has {} MB left, and audit.min_free is {min_free}: no message is received until there is room again",
                dir.display(),
                free / 1_000_000,
            ),
            Self::Silent { dir } => write!(
                f,
                "the disk of the audit log in {} has not answered for {} s: check whether its file system responds; no message is received until it does",
                dir.display(),
                SILENT.as_secs()
            ),
        }
    }
}

impl DiskRoom {
    /// Checks the disk under `dir`.
    pub fn new(dir: &Path, min_free: Size) -> Self {
        Self {
            dir: dir.to_owned(),
            min_free,
            measured: Arc::default(),
        }
    }

    /// Checks the free space, within milliseconds. An error of the disk is ignored here and found by the next write.
    ///
    /// # Errors
    /// The disk is nearly full, or has not answered for ten seconds.
    pub fn check(&self) -> Result<(), DiskTrouble> {
        self.check_by(measure)
    }

    fn check_by(
        &self,
        measure: impl FnOnce(&Path) -> io::Result<u64> + Send + 'static,
    ) -> Result<(), DiskTrouble> {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = measured.at.is_some_and(|at| at.elapsed() < COUNTS_FOR);
        if !is_recent {
            match in_time(&self.dir, WAITED_FOR, measure) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let since = *measured.silent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= SILENT {
                        let dir = self.dir.clone();
                        return Err(DiskTrouble::Silent { dir });
                    }
                }
                answer => {
                    *measured = Measured {
                        free: answer.ok(),
                        at: Some(Instant::now()),
                        silent_since: None,
                    };
                }
            }
        }
        match measured.free {
            Some(free) if free < self.min_free.as_bytes() => Err(DiskTrouble::NearlyFull {
                dir: self.dir.clone(),
                free,
                min_free: self.min_free,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a number of bytes may fit. An error of the disk is ignored here and found by the next write. The caller may wait for
    /// the disk, since it writes to it next.
    pub(super) fn has(&self, bytes: u64) -> bool {
        measure(&self.dir).map_or(true, |free| free >= bytes)
    }
}

/// The free space for users without privileges, in bytes.
fn measure(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_disk_is_nearly_full_when_less_is_free_than_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let room = |min_free: &str| DiskRoom::new(dir.path(), min_free.parse().unwrap());
        assert_eq!(room("1KB").check(), Ok(()));
        // A measurement that took longer than a caller waits counts later.
        let full = room("8000000GB");
        let error = (0..500).find_map(|_| full.check().err()).unwrap();
        let error = error.to_string();
        assert!(error.contains("audit.min_free is 8000000GB"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_keeps_no_caller_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let room = DiskRoom::new(dir.path(), "1KB".parse().unwrap());
        let (comes, waits) = mpsc::channel::<()>();
        let hangs = room.check_by(move |_| {
            waits.recv().ok();
            Ok(0)
        });
        assert_eq!(hangs, Ok(()));
        tokio::time::advance(SILENT).await;
        let trouble = room.check().unwrap_err().to_string();
        assert!(trouble.contains(" has not answered for 10 s"), "{trouble}");
        drop(comes);
        // It ends on its own thread.
        let is_told = |_| {
            std::thread::yield_now();
            room.check().is_ok()
        };
        assert!((0..1_000_000).any(is_told));
    }
}
