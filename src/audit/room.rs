//! The free space on the log's disk: messages are only received while there is space to record them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::quantity::Size;

/// How long a measurement counts.
const COUNTS_FOR: Duration = Duration::from_millis(200);

/// How long a caller waits for a measurement; after that it gets the last one. A disk answers within microseconds.
const WAITED_FOR: Duration = Duration::from_millis(20);

/// After how long without an answer the disk counts as silent.
const SILENT: Duration = Duration::from_secs(10);

/// The disk under a directory, and how much of it must be free. Clones share the measurements.
///
/// The directory may be on a mount whose server is gone, where `statvfs` does not return. So it is measured on a thread of its own,
/// and no caller waits for it.
#[derive(Debug, Clone)]
pub struct DiskRoom {
    min_free: Size,
    shared: Arc<SharedRoom>,
}

#[derive(Debug)]
struct SharedRoom {
    dir: PathBuf,
    measured: Mutex<Measured>,
    has_ended: Condvar,
}

#[derive(Debug, Default)]
struct Measured {
    /// The free space in bytes, and when it was measured; `None` of bytes if the disk gave an error.
    last: Option<(Option<u64>, Instant)>,
    /// Since when a measurement is under way.
    since: Option<Instant>,
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
            min_free,
            shared: Arc::new(SharedRoom {
                dir: dir.to_owned(),
                measured: Mutex::default(),
                has_ended: Condvar::new(),
            }),
        }
    }

    /// Checks the free space, within milliseconds. An error of the disk is ignored here and found by the next write.
    ///
    /// # Errors
    /// The disk is nearly full, or has not answered for ten seconds.
    pub fn check(&self) -> Result<(), DiskTrouble> {
        let dir = || self.shared.dir.clone();
        match self.shared.free_bytes() {
            Err(DiskIsSilent) => Err(DiskTrouble::Silent { dir: dir() }),
            Ok(Some(free)) if free < self.min_free.as_bytes() => Err(DiskTrouble::NearlyFull {
                dir: dir(),
                free,
                min_free: self.min_free,
            }),
            Ok(_) => Ok(()),
        }
    }

    /// Whether a number of bytes may fit. An error of the disk is ignored here and found by the next write. The caller may wait for
    /// the disk, since it writes to it next.
    pub(super) fn has(&self, bytes: u64) -> bool {
        measure(&self.shared.dir).map_or(true, |free| free >= bytes)
    }
}

/// The disk has not answered for [`SILENT`].
struct DiskIsSilent;

impl SharedRoom {
    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The free space; `None` if it is not known.
    fn free_bytes(self: &Arc<Self>) -> Result<Option<u64>, DiskIsSilent> {
        let mut measured = self.measured();
        if let Some((free, at)) = measured.last
            && at.elapsed() < COUNTS_FOR
        {
            return Ok(free);
        }
        if measured.since.is_none() {
            let shared = Arc::clone(self);
            let measuring = std::thread::Builder::new().name("disk-room".to_owned());
            let is_begun = measuring.spawn(move || shared.end(measure(&shared.dir).ok()));
            // Without a thread the last measurement counts, and the next caller tries again.
            measured.since = is_begun.ok().map(|_| Instant::now());
        }
        let is_under_way = |measured: &mut Measured| measured.since.is_some();
        let waited = self
            .has_ended
            .wait_timeout_while(measured, WAITED_FOR, is_under_way);
        let (measured, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match measured.since {
            Some(since) if since.elapsed() >= SILENT => Err(DiskIsSilent),
            Some(_) | None => Ok(measured.last.and_then(|(free, _)| free)),
        }
    }

    fn end(&self, free: Option<u64>) {
        let mut measured = self.measured();
        measured.last = Some((free, Instant::now()));
        measured.since = None;
        drop(measured);
        self.has_ended.notify_all();
    }
}

/// The free space for users without privileges, in bytes.
fn measure(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_nearly_full_when_less_is_free_than_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let room = |min_free: &str| DiskRoom::new(dir.path(), min_free.parse().unwrap());
        assert_eq!(room("1KB").check(), Ok(()));
        let full = room("8000000GB");
        // A measurement that took longer than a caller waits counts at the next call.
        let error = (0..500).find_map(|_| full.check().err()).unwrap();
        let error = error.to_string();
        assert!(error.contains("audit.min_free is 8000000GB"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_keeps_no_caller_and_is_told() {
        let room = DiskRoom::new(Path::new("/srv/audit"), "1KB".parse().unwrap());
        // As if statvfs had begun and did not return.
        room.shared.measured().since = Some(Instant::now());
        assert_eq!(room.check(), Ok(()));
        tokio::time::advance(SILENT).await;
        let trouble = room.check().unwrap_err().to_string();
        assert!(
            trouble
                .starts_with("the disk of the audit log in /srv/audit has not answered for 10 s"),
            "{trouble}"
        );
        room.shared.end(Some(1_000_000));
        assert_eq!(room.check(), Ok(()));
    }
}
