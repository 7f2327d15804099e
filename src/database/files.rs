//! Whether the files of a database are still those that were opened.
//!
//! SQLite goes on with a file that was removed, or replaced by a restored backup. What is committed there is lost at the next start, and
//! other commands already use the file that is at the path now.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Database, DatabaseError};

/// How often the files of an idle database are compared. Each request compares them besides.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What SQLite keeps beside the file for as long as a connection is open.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// The device and the number of a file.
type FileId = (u64, u64);

/// Whether a database was removed or replaced while it was open, for tasks that do not use it. It does not keep the database open.
#[derive(Debug, Clone)]
pub struct DatabaseWatch {
    path: Arc<Path>,
    /// Cancelled when the files are not those that were opened.
    is_replaced: CancellationToken,
}

impl DatabaseWatch {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.into(),
            is_replaced: CancellationToken::new(),
        }
    }

    /// The error of every request since the files were removed or replaced, if they were.
    pub fn failure(&self) -> Option<DatabaseError> {
        let is_replaced = self.is_replaced.is_cancelled();
        is_replaced.then(|| DatabaseError::Replaced {
            path: self.path.to_path_buf(),
        })
    }

    /// Judges the error of a statement: after a replacement, that is the cause.
    pub(super) fn judge(&self, error: rusqlite::Error) -> DatabaseError {
        self.failure().unwrap_or(DatabaseError::Statement(error))
    }
}

impl Database {
    /// The health of the database.
    pub fn watch(&self) -> DatabaseWatch {
        self.watch.clone()
    }

    /// Waits until the files of the database are removed or replaced, and compares them also while no request comes.
    pub async fn replaced(&self) -> DatabaseError {
        loop {
            if let Some(error) = self.watch.failure() {
                return error;
            }
            // The thread of the database compares them; other failures are those of the next request.
            drop(self.call(|_| Ok(())).await);
            drop(tokio::time::timeout(LOOK_EVERY, self.watch.is_replaced.cancelled()).await);
        }
    }
}

/// The files of an open database.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: Vec<(PathBuf, FileId)>,
    watch: DatabaseWatch,
}

impl OpenFiles {
    /// The files beside the file `opened`, which is at `path`.
    pub(super) fn of(path: &Path, opened: FileId, watch: DatabaseWatch) -> io::Result<Self> {
        // Links on the way are followed at each comparison: other commands follow them, too.
        let path = std::path::absolute(path)?;
        let mut files = vec![(path.clone(), opened)];
        for suffix in BESIDE {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            let beside = PathBuf::from(name);
            // Some file systems have no write-ahead log.
            if let Ok(id) = file_id(&beside) {
                files.push((beside, id));
            }
        }
        Ok(Self { files, watch })
    }

    /// No files, of a database in memory.
    pub(super) const fn none(watch: DatabaseWatch) -> Self {
        Self {
            files: Vec::new(),
            watch,
        }
    }

    /// Fails once a file is not the one that was opened, also if it is later. A path that cannot be looked at says nothing.
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        let is_still = |(path, opened): &(PathBuf, FileId)| match file_id(path) {
            Ok(found) => found == *opened,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ),
        };
        let is_replaced = &self.watch.is_replaced;
        if is_replaced.is_cancelled() || !self.files.iter().all(is_still) {
            is_replaced.cancel();
            let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED);
            return Err(rusqlite::Error::SqliteFailure(error, None));
        }
        Ok(())
    }
}

/// The device and the number of the file at a path.
pub(super) fn file_id(path: &Path) -> io::Result<FileId> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
