//! The SQLite database of a single machine: queue and ledger, one connection, one thread.
//!
//! Work is sent to the thread and answered after its transaction is on the disk. Work that has queued up meanwhile
//! shares a transaction, and so a sync. A single writer also avoids the WAL-reset bug of concurrent connections in
//! SQLite before 3.51.3.

mod files;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use directory::Directory;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use self::files::DatabaseWatch;
use self::files::{OpenFiles, file_id};
use crate::edge::health::{Edge, Step};

/// How many pieces of work the queue to the thread holds before callers wait.
const QUEUE: usize = 1024;

/// The most pieces of work in a transaction.
const MAX_GROUP: usize = 500;

/// The step of a transaction, for the edge of the database's disk.
const COMMITTING: Step = Step::only("a transaction");

/// How long SQLite waits for another process, such as `handout job submit`, to end its transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before a file is opened again that another process has locked, and how often it is.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
const MAX_OPENINGS: u32 = 500;

/// The first SQLite without the WAL-reset bug (fixed 2026-03-13), as SQLite spells versions: 3.51.3.
const FIRST_SOUND_SQLITE: i32 = 3_051_003;

/// The version of the tables, in SQLite's `user_version`; files before the first version have 0. A change after which an earlier program
/// would misread them raises it.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS message (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    body        TEXT    NOT NULL,
    state       TEXT    NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'parked')),
    visible_at  INTEGER NOT NULL,
    hidden_at   INTEGER NOT NULL DEFAULT 0,
    held        INTEGER NOT NULL DEFAULT 0,
    receives    INTEGER NOT NULL DEFAULT 0,
    receipt     TEXT,
    enqueued_at INTEGER NOT NULL,
    reason      TEXT,
    traceparent TEXT
);
CREATE INDEX IF NOT EXISTS message_ready ON message (state, visible_at);
CREATE TABLE IF NOT EXISTS record (
    job   TEXT    NOT NULL,
    rid   TEXT    NOT NULL,
    n     INTEGER NOT NULL,
    kind  TEXT    NOT NULL,
    nonce TEXT    NOT NULL,
    body  TEXT    NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (job, rid, n, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS page (
    job     TEXT    NOT NULL,
    listing TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    at      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, listing, number)
);
CREATE TABLE IF NOT EXISTS shelf (
    name TEXT    PRIMARY KEY,
    body TEXT    NOT NULL,
    at   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS shelf_at ON shelf (at);
CREATE TABLE IF NOT EXISTS portal (
    name TEXT    PRIMARY KEY,
    body BLOB    NOT NULL,
    at   INTEGER NOT NULL
) WITHOUT ROWID;
";

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It could not be opened.
    #[error("could not open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Its file could not be made, or may not be opened.
    #[error("could not open the database {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Another process did not let go of its lock in [`BUSY_TIMEOUT`].
    #[error(
        "the database {} has been locked by another process for {} seconds: try again when that process has finished, and let it go on if it was stopped",
        path.display(),
        BUSY_TIMEOUT.as_secs()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The bundled SQLite is too old to be trusted with a write-ahead log.
    #[error("this build has SQLite {0}: build with SQLite 3.51.3 or later")]
    TooOld(String),
    /// A later version of the program has changed the tables.
    #[error(
        "the database {} has the schema version {found}, and this version of Handout knows {SCHEMA_VERSION}: run the newer version again, or restore the backup from before the upgrade",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its tables.
        found: i64,
    },
    /// Its file, or one that SQLite keeps beside it, is not the one that was opened.
    #[error(
        "the database {} was removed or replaced while the program used it: put the file that is to be used in its place, and start the program again; stop the program before you restore a backup",
        path.display()
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// A statement failed; its work was rolled back.
    #[error("the database request failed")]
    Statement(#[source] rusqlite::Error),
    /// The thread has stopped.
    #[error("the database is closed")]
    Closed,
}

impl DatabaseError {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Open { source, .. } | Self::Locked { source, .. } | Self::Statement(source) => {
                source.sqlite_error_code()
            }
            Self::File { .. }
            | Self::TooOld(_)
            | Self::Newer { .. }
            | Self::Replaced { .. }
            | Self::Closed => None,
        }
    }

    /// Whether there is no space: on the disk for the database, its log, or the log's index (`-shm`), or in memory.
    pub fn is_full(&self) -> bool {
        let found = match self {
            Self::Open { source, .. } | Self::Statement(source) => source.sqlite_error(),
            Self::File { .. }
            | Self::Locked { .. }
            | Self::TooOld(_)
            | Self::Newer { .. }
            | Self::Replaced { .. }
            | Self::Closed => None,
        };
        found.is_some_and(|error| {
            error.code == ErrorCode::DiskFull
                || error.code == ErrorCode::OutOfMemory
                || matches!(
                    error.extended_code,
                    rusqlite::ffi::SQLITE_IOERR_SHMSIZE
                        | rusqlite::ffi::SQLITE_IOERR_SHMOPEN
                        | rusqlite::ffi::SQLITE_IOERR_NOMEM
                )
        })
    }

    /// Whether another process has locked it.
    pub fn is_busy(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        )
    }

    /// Whether the disk failed: an I/O error, or a damaged, removed or replaced file. A full disk does not count.
    pub fn is_disk(&self) -> bool {
        if matches!(self, Self::Replaced { .. }) {
            return true;
        }
        let is_bad = matches!(
            self.code(),
            Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt)
        );
        is_bad && !self.is_full()
    }
}

type DatabaseAnswer = Box<dyn FnOnce(Result<(), rusqlite::Error>) + Send>;
/// Runs its statements, or none if the transaction could not be started.
type DatabaseWork = Box<dyn FnOnce(rusqlite::Result<&Connection>) -> DatabaseAnswer + Send>;

/// A handle to the thread that owns the connection.
#[derive(Clone)]
pub struct Database {
    sender: mpsc::Sender<DatabaseWork>,
    watch: DatabaseWatch,
    /// The edge whose requests are those of this database. Clones share it.
    edge: Arc<OnceLock<Edge>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens the file, and creates it if it does not exist.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let failed = |source| DatabaseError::File {
            path: path.to_owned(),
            source,
        };
        let (mut found, mut opened) = (0, None);
        let connection = open_connection(path, |connection| {
            // Before the first statement, which may wait for another process.
            opened = Some(file_id(path));
            found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if found > SCHEMA_VERSION {
                return Ok(());
            }
            // NORMAL may lose committed transactions when power fails; a lost intent would be a second mail.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            add_missing_columns(connection)?;
            match found == SCHEMA_VERSION {
                true => Ok(()),
                false => connection.pragma_update(None, "user_version", SCHEMA_VERSION),
            }
        })?;
        if found > SCHEMA_VERSION {
            return Err(DatabaseError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        let opened = opened.unwrap_or_else(|| file_id(path)).map_err(failed)?;
        let watch = DatabaseWatch::of(path);
        let files = OpenFiles::of(path, opened, watch.clone()).map_err(failed)?;
        Self::of(connection, files, watch)
    }

    /// Opens an empty database in memory, for a command that reads a database which does not exist.
    pub fn in_memory() -> Result<Self, DatabaseError> {
        let opened = Connection::open_in_memory().and_then(|connection| {
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        });
        let memory = Path::new(":memory:");
        let connection = opened.map_err(|source| DatabaseError::Open {
            path: memory.into(),
            source,
        })?;
        let watch = DatabaseWatch::of(memory);
        Self::of(connection, OpenFiles::none(watch.clone()), watch)
    }

    fn of(
        connection: Connection,
        files: OpenFiles,
        watch: DatabaseWatch,
    ) -> Result<Self, DatabaseError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || work(&connection, &files, receiver))
            .map_err(|_| DatabaseError::Closed)?;
        Ok(Self {
            sender,
            watch,
            edge: Arc::default(),
        })
    }

    /// Has the edge of what the database keeps know which requests wait: a disk that hangs returns no error. The first edge stays.
    pub fn report_to(&self, edge: Edge) {
        drop(self.edge.set(edge));
    }

    /// Runs `statements` in the thread and returns when their changes are on the disk.
    pub async fn call<T: Send + 'static>(
        &self,
        statements: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (done, answered) = oneshot::channel();
        let work: DatabaseWork = Box::new(move |connection| {
            let result = connection.and_then(|connection| in_savepoint(connection, statements));
            Box::new(move |committed: Result<(), rusqlite::Error>| {
                // A caller that does not wait any more was cancelled; its work stays committed.
                drop(done.send(committed.and(result)));
            })
        });
        let edge = self.edge.get();
        let _under_way = edge.map(|edge| edge.asked(COMMITTING));
        self.sender
            .send(work)
            .await
            .map_err(|_| DatabaseError::Closed)?;
        let done = answered.await.map_err(|_| DatabaseError::Closed)?;
        edge.into_iter().for_each(|edge| edge.replied(COMMITTING));
        done.map_err(|error| self.watch.judge(error))
    }
}

/// The suffix of SQLite's rollback journal.
const JOURNAL: &str = "-journal";

/// Creates the file, and checks that neither it nor the files that SQLite keeps beside it are symbolic links. Returns its
/// path without links.
fn prepare(path: &Path) -> io::Result<PathBuf> {
    let (parent, name) = directory::split(path)?;
    let folder = Directory::make_own(parent)?;
    // The file has jobs with addresses and saved links. SQLite gives the files beside it the same mode.
    folder.inspect_or_create(name, 0o600)?;
    for beside in ["-wal", "-shm", JOURNAL] {
        folder.inspect(&format!("{name}{beside}"))?;
    }
    // This program's journal is the write-ahead log. A rollback journal may name files that SQLite then removes, and the
    // user that owns the directory may have planted it for root.
    let journal = folder.stat(format!("{name}{JOURNAL}"))?;
    if !folder.is_ours()? && journal.is_some_and(|journal| journal.st_size > 0) {
        let path = folder.path().join(format!("{name}{JOURNAL}"));
        let sentence = format!(
            "{} is a journal of another program: run the command as the directory's owner, or remove the file",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    }
    Ok(std::path::absolute(path)?
        .parent()
        .unwrap_or(parent)
        .canonicalize()?
        .join(name))
}

/// Opens a file of this program for its owner, and creates it if it does not exist. `set_up` makes its tables.
pub(crate) fn open_connection(
    path: &Path,
    mut set_up: impl FnMut(&Connection) -> rusqlite::Result<()>,
) -> Result<Connection, DatabaseError> {
    if rusqlite::version_number() < FIRST_SOUND_SQLITE {
        return Err(DatabaseError::TooOld(rusqlite::version().to_owned()));
    }
    let real = prepare(path).map_err(|source| DatabaseError::File {
        path: path.to_owned(),
        source,
    })?;
    let began = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let opened = connect(&real).and_then(|connection| {
            set_up(&connection)?;
            Ok(connection)
        });
        match opened {
            // Of two that change a new file's journal at once, SQLite rejects one without waiting for its busy timeout.
            // <https://sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode>
            Err(error)
                if is_locked(&error)
                    && began.elapsed() < BUSY_TIMEOUT
                    && attempts < MAX_OPENINGS =>
            {
                pause();
            }
            opened => {
                let path = path.to_owned();
                return opened.map_err(|source| match is_locked(&source) {
                    true => DatabaseError::Locked { path, source },
                    false => DatabaseError::Open { path, source },
                });
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "opening blocks its caller, as SQLite's own busy timeout does"
)]
fn pause() {
    std::thread::sleep(BUSY_PAUSE);
}

/// Whether another connection has the file's lock.
fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite refuses a link that was planted since.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // The schema may come from another user: code in it is not run, and no statement may write to the schema tables directly.
    // <https://sqlite.org/security.html>
    for (setting, is_on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, is_on)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Ok(connection)
}

fn work(connection: &Connection, files: &OpenFiles, mut receiver: mpsc::Receiver<DatabaseWork>) {
    while let Some(first) = receiver.blocking_recv() {
        let begun = files.check();
        let begun = begun.and_then(|()| connection.execute_batch("BEGIN IMMEDIATE"));
        let mut answers = vec![first(again(&begun).map(|()| connection))];
        while answers.len() < MAX_GROUP {
            let Ok(next) = receiver.try_recv() else { break };
            // Without a transaction, each statement would commit by itself although its caller gets an error.
            let open = again(&begun).and_then(|()| match connection.is_autocommit() {
                true => Err(rolled_back()),
                false => Ok(connection),
            });
            answers.push(next(open));
        }
        let committed = begun.and_then(|()| match connection.is_autocommit() {
            true => Err(rolled_back()),
            false => connection.execute_batch("COMMIT"),
        });
        // No caller is told that its work is durable in a file that the next start does not find.
        let committed = committed.and_then(|()| files.check());
        if committed.is_err() {
            // If BEGIN failed, there is nothing to roll back; otherwise the whole group is undone.
            drop(connection.execute_batch("ROLLBACK"));
        }
        for answer in answers {
            answer(again(&committed));
        }
    }
}

/// The error for a transaction that SQLite rolled back by itself, as it does when the disk is full.
fn rolled_back() -> rusqlite::Error {
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    rusqlite::Error::SqliteFailure(error, Some("the transaction was rolled back".to_owned()))
}

/// Adds the columns that a database of an earlier version lacks.
fn add_missing_columns(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let has = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
    // `hidden_at`: when a message was hidden, or arrived. A message that was hidden in the future is visible, since the clock
    // was set back. `held`: whether a process works it, or died while it worked it. `at` of a page: when it was stored; 0 is unknown.
    // `traceparent`: the trace of the message's sender.
    const COUNT: &str = "INTEGER NOT NULL DEFAULT 0";
    for (table, column, kind) in [
        ("message", "hidden_at", COUNT),
        ("message", "held", COUNT),
        ("message", "traceparent", "TEXT"),
        ("page", "at", COUNT),
    ] {
        if connection.query_row(has, [table, column], |row| row.get::<_, i64>(0))? == 0 {
            connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind}"))?;
        }
    }
    connection.execute_batch("COMMIT")
}

/// Runs a piece of work in a savepoint of its own, so that its failure does not affect the rest of the group.
fn in_savepoint<T>(
    connection: &Connection,
    statements: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.execute_batch("SAVEPOINT one")?;
    match statements(connection) {
        Ok(value) => connection.execute_batch("RELEASE one").map(|()| value),
        Err(error) => {
            // After a full disk SQLite has rolled back by itself and has no savepoint: the first error is reported.
            drop(connection.execute_batch("ROLLBACK TO one; RELEASE one"));
            Err(error)
        }
    }
}

/// Copies the result for each caller of the group; `rusqlite::Error` cannot be cloned.
fn again(committed: &rusqlite::Result<()>) -> rusqlite::Result<()> {
    match committed {
        Ok(()) => Ok(()),
        Err(rusqlite::Error::SqliteFailure(error, message)) => {
            Err(rusqlite::Error::SqliteFailure(*error, message.clone()))
        }
        Err(error) => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
            Some(error.to_string()),
        )),
    }
}

#[cfg(test)]
mod tests;
