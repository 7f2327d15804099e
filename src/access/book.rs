//! `access.sqlite`: what access logs say of links, and how far each file was read.
//!
//! Rows, the ids of their requests and the places in the files change in one transaction, so that a read that was killed goes on without
//! a gap and without a double. Both are kept for slots of about four minutes, in which a double is looked for.
//!
//! A slot has parts, which are packed rows or sorted ids. What is read is written as another part, and small parts are merged into it, so
//! that a slot has few: adding takes no search for each row, and what is merged is always less than twice what is added, or small.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::client::client_id;
use super::identity::TrailRequest;
use super::packed::{DamagedPart, PartReader, merged};
use super::row::AccessCounts;
use crate::bounds::MAX_GROWING_PART_BYTES;
use crate::database::{DatabaseError, open_connection};

/// The bits of a second within a slot: 256 seconds.
const SLOT_BITS: u32 = 8;

/// How long the key of a day is kept, in days: a line that arrives later is kept without its network.
const KEY_DAYS: i64 = 8;

/// The version of the tables, in SQLite's `user_version`. Files before the first version have 0, and a table `access`.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS part (
    what   INTEGER NOT NULL,
    slot   INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body   BLOB    NOT NULL,
    PRIMARY KEY (what, slot, number)
);
CREATE TABLE IF NOT EXISTS trail (
    slot  INTEGER NOT NULL,
    id    INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (slot, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (
    name     TEXT    PRIMARY KEY,
    size     INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    head     INTEGER NOT NULL,
    read_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (
    name TEXT PRIMARY KEY,
    n    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS day_key (
    day INTEGER PRIMARY KEY,
    key BLOB NOT NULL
);
";

/// What a part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotPartKind {
    /// Rows and their clients.
    Rows,
    /// The ids of requests, 8 bytes each, in their order.
    Ids,
}

impl SlotPartKind {
    /// Its number in the table.
    const fn number(self) -> i64 {
        match self {
            Self::Rows => 0,
            Self::Ids => 1,
        }
    }

    /// Several parts of a slot as one.
    fn merged(self, slot: i64, parts: &[Vec<u8>]) -> Result<Vec<u8>, DamagedPart> {
        match self {
            Self::Rows => merged(slot, parts),
            Self::Ids => {
                let mut ids: Vec<u64> = parts.iter().flat_map(|part| ids_of(part)).collect();
                // The stable sort finds the parts in it, and merges them.
                ids.sort();
                Ok(bytes_of(&ids))
            }
        }
    }
}

fn ids_of(part: &[u8]) -> impl Iterator<Item = u64> {
    part.as_chunks().0.iter().map(|id| u64::from_le_bytes(*id))
}

fn bytes_of(ids: &[u64]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Why the reports' database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// Its file could not be opened.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// A statement failed; its transaction was rolled back.
    #[error("a request to access.sqlite failed")]
    Statement(#[from] rusqlite::Error),
    /// Its tables are those of another version of the program.
    #[error("could not use {}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it has, and what is to be done.
        source: io::Error,
    },
    /// What it has of a slot is damaged.
    #[error(
        "access.sqlite is damaged: restore it from a backup, or move it away and read the logs again"
    )]
    Damaged(#[source] io::Error),
}

impl From<DamagedPart> for BookError {
    fn from(error: DamagedPart) -> Self {
        Self::Damaged(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The rows of a slot are of one link, one open and one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// The slot of about four minutes.
    pub slot: i64,
    /// The link.
    pub link: u64,
    /// The open; 0 for a link that the portal did not hand out.
    pub open: u64,
    /// The client.
    pub client: u64,
}

/// What the logs say of one link, one open and one client within a slot. What was read at another time may be a row of its own, whose
/// counts add.
#[derive(Debug)]
pub struct AccessRow<'a> {
    /// What it is about.
    pub key: RowKey,
    /// What became of the requests.
    pub counts: AccessCounts,
    /// What is kept of the client's network.
    pub net: Option<&'a str>,
    /// What the client calls itself.
    pub agent: &'a str,
}

/// The slot of an instant, in seconds since 1970.
pub const fn slot_of(at: i64) -> i64 {
    at >> SLOT_BITS
}

/// When a slot begins, in seconds since 1970.
pub(super) const fn begin_of(slot: i64) -> i64 {
    slot << SLOT_BITS
}

/// How far a file was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileMark {
    /// Its size when it was read.
    pub size: u64,
    /// When it was changed, in seconds since 1970.
    pub modified: i64,
    /// How many of its bytes, uncompressed, were read.
    pub consumed: u64,
    /// A hash of its beginning: another file of the same name begins otherwise.
    pub head: u64,
}

/// What is written together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Packed rows of slots.
    pub(super) parts: Vec<(i64, Vec<u8>)>,
    /// New ids of requests of slots, in their order.
    pub(super) seen: Vec<(i64, Vec<u64>)>,
    /// Requests that CloudTrail has.
    pub trail: Vec<TrailRequest>,
    /// How far files were read.
    pub marks: Vec<(String, FileMark)>,
    /// Numbers to add, by their names.
    pub totals: Vec<(&'static str, u64)>,
}

/// The database.
#[derive(Debug)]
pub struct AccessBook {
    connection: Connection,
}

impl AccessBook {
    /// The file in a state directory.
    pub fn path_in(state_dir: &Path) -> PathBuf {
        state_dir.join("access.sqlite")
    }

    /// Opens `access.sqlite` in the state directory, and creates it if it does not exist.
    pub fn open(state_dir: &Path) -> Result<Self, BookError> {
        let path = Self::path_in(state_dir);
        let mut found = None;
        let connection = open_connection(&path, |connection| {
            found = set_up(connection)?;
            Ok(())
        })?;
        match found {
            None => Ok(Self { connection }),
            Some(found) => {
                let sentence = format!(
                    "its tables have the version {found}, and this version of Handout knows {SCHEMA_VERSION}: move the file away, and run `handout access read` again"
                );
                let source = io::Error::new(io::ErrorKind::InvalidData, sentence);
                Err(BookError::Version { path, source })
            }
        }
    }

    /// A database in memory.
    pub fn in_memory() -> Result<Self, BookError> {
        let connection = Connection::open_in_memory()?;
        set_up(&connection)?;
        Ok(Self { connection })
    }

    /// How far a file was read.
    pub fn mark(&self, name: &str) -> Result<Option<FileMark>, BookError> {
        let sql = "SELECT size, modified, consumed, head FROM file WHERE name = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mark = |row: &Row<'_>| {
            Ok(FileMark {
                size: unsigned(row, 0)?,
                modified: row.get(1)?,
                consumed: unsigned(row, 2)?,
                head: unsigned(row, 3)?,
            })
        };
        Ok(statement.query_row([name], mark).optional()?)
    }

    /// Notes that a file that was read is still there, so that its mark is kept. `now` is in seconds since 1970.
    pub fn is_there(&self, name: &str, now: i64) -> Result<(), BookError> {
        // Once a day is enough.
        let sql = "UPDATE file SET read_at = ?2 WHERE name = ?1 AND read_at < ?2 - 86400";
        self.connection
            .prepare_cached(sql)?
            .execute(params![name, now])?;
        Ok(())
    }

    /// Calls `found` with each part of the ids of a slot's requests, in their order as bytes.
    pub(super) fn seen_parts(
        &self,
        slot: i64,
        mut found: impl FnMut(&[[u8; 8]]),
    ) -> Result<(), BookError> {
        let sql = "SELECT body FROM part WHERE what = ?1 AND slot = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut parts = statement.query(params![SlotPartKind::Ids.number(), slot])?;
        while let Some(part) = parts.next()? {
            found(
                part.get_ref(0)?
                    .as_blob()
                    .map_err(rusqlite::Error::from)?
                    .as_chunks()
                    .0,
            );
        }
        Ok(())
    }

    /// The ids of the requests of a slot.
    pub fn seen(&self, slot: i64) -> Result<Vec<u64>, BookError> {
        let mut ids = Vec::new();
        self.seen_parts(slot, |part| {
            ids.extend(part.iter().map(|id| u64::from_le_bytes(*id)));
        })?;
        Ok(ids)
    }

    /// Writes all of a batch, or nothing. `now` is in seconds since 1970.
    pub fn write(&mut self, batch: &Batch, now: i64) -> Result<(), BookError> {
        let transaction = self.connection.transaction()?;
        {
            for (slot, part) in batch.parts.iter().filter(|(_, part)| !part.is_empty()) {
                add_part(&transaction, SlotPartKind::Rows, *slot, part)?;
            }
            for (slot, ids) in batch.seen.iter().filter(|(_, ids)| !ids.is_empty()) {
                add_part(&transaction, SlotPartKind::Ids, *slot, &bytes_of(ids))?;
            }
            let mut add = transaction
                .prepare_cached("INSERT OR IGNORE INTO trail VALUES (?1, ?2, ?3, ?4)")?;
            for TrailRequest { at, id, place } in &batch.trail {
                let (id, place) = (id.cast_signed(), place.cast_signed());
                add.execute(params![slot_of(*at), id, at, place])?;
            }
            let sql = "INSERT OR REPLACE INTO file VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut add = transaction.prepare_cached(sql)?;
            for (name, mark) in &batch.marks {
                add.execute(params![
                    name,
                    mark.size.cast_signed(),
                    mark.modified,
                    mark.consumed.cast_signed(),
                    mark.head.cast_signed(),
                    now,
                ])?;
            }
            let sql =
                "INSERT INTO total VALUES (?1, ?2) ON CONFLICT DO UPDATE SET n = n + excluded.n";
            let mut add = transaction.prepare_cached(sql)?;
            for (name, count) in batch.totals.iter().filter(|(_, count)| *count > 0) {
                add.execute(params![name, count.cast_signed()])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The numbers that were added up, by their names.
    pub fn totals(&self) -> Result<Vec<(String, u64)>, BookError> {
        let mut statement = self
            .connection
            .prepare("SELECT name, n FROM total ORDER BY name")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// When files were read first and last, in seconds since 1970, and how many.
    pub fn read_files(&self) -> Result<Option<(i64, i64, u64)>, BookError> {
        let sql = "SELECT min(read_at), max(read_at), count(*) FROM file";
        let read = self.connection.query_row(sql, [], |row| {
            let (first, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok((first, last, unsigned(row, 2)?))
        })?;
        Ok(read
            .0
            .zip(read.1)
            .map(|(first, last)| (first, last, read.2)))
    }

    /// The first and the last request of all rows, in seconds since 1970.
    pub fn span(&self) -> Result<Option<(i64, i64)>, BookError> {
        let sql = "SELECT min(slot), max(slot) FROM part WHERE what = ?1";
        let slots = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let slots: (Option<i64>, Option<i64>) =
            self.connection
                .query_row(sql, [SlotPartKind::Rows.number()], slots)?;
        let (Some(first), Some(last)) = slots else {
            return Ok(None);
        };
        // A slot has rows of many links: neither its first row nor its last has the earliest or latest request.
        let (mut from, mut until) = (None::<i64>, None::<i64>);
        self.rows_in(
            (first, first),
            |_| true,
            |row| {
                from = Some(from.map_or(row.counts.first, |from| from.min(row.counts.first)));
            },
        )?;
        self.rows_in(
            (last, last),
            |_| true,
            |row| {
                until = until.max(Some(row.counts.last));
            },
        )?;
        Ok(from.zip(until))
    }

    /// Calls `found` with each row of a link that is wanted from `since` on and before `until`, oldest slot first.
    pub fn rows(
        &self,
        since: Option<i64>,
        until: Option<i64>,
        wanted: impl FnMut(u64) -> bool,
        mut found: impl FnMut(AccessRow<'_>),
    ) -> Result<(), BookError> {
        let (since, until) = (since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
        self.rows_in((slot_of(since), slot_of(until)), wanted, |row| {
            if row.counts.last >= since && row.counts.first < until {
                found(row);
            }
        })
    }

    /// The same for whole slots.
    fn rows_in(
        &self,
        (first, last): (i64, i64),
        mut wanted: impl FnMut(u64) -> bool,
        mut found: impl FnMut(AccessRow<'_>),
    ) -> Result<(), BookError> {
        let sql = "SELECT slot, body FROM part WHERE what = ?1 AND slot >= ?2 AND slot <= ?3 ORDER BY slot, number";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut parts = statement.query(params![SlotPartKind::Rows.number(), first, last])?;
        while let Some(part) = parts.next()? {
            let slot = part.get(0)?;
            let body = part.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let mut reader = PartReader::new(slot, body)?;
            while let Some(row) = reader.next(&mut wanted)? {
                found(AccessRow {
                    key: RowKey {
                        slot,
                        link: row.link,
                        open: row.open,
                        client: client_id(row.net, row.agent),
                    },
                    counts: row.counts,
                    net: row.net,
                    agent: row.agent,
                });
            }
        }
        Ok(())
    }

    /// Calls `found` with each request that CloudTrail has from `since` on and before `until`, by slots, the oldest first.
    pub fn trail(
        &self,
        since: Option<i64>,
        until: Option<i64>,
        mut found: impl FnMut(TrailRequest) -> Result<(), BookError>,
    ) -> Result<(), BookError> {
        let sql = "SELECT at, id, place FROM trail WHERE slot >= ?1 AND slot <= ?2 ORDER BY slot";
        let mut statement = self.connection.prepare(sql)?;
        let (since, until) = (since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
        let mut rows = statement.query([slot_of(since), slot_of(until)])?;
        while let Some(row) = rows.next()? {
            let request = TrailRequest {
                at: row.get(0)?,
                id: unsigned(row, 1)?,
                place: unsigned(row, 2)?,
            };
            if request.at >= since && request.at < until {
                found(request)?;
            }
        }
        Ok(())
    }

    /// The key of a day, in days since 1970: `fresh` for a day that has none. `None` for a day whose key was removed.
    pub fn day_key(
        &self,
        day: i64,
        today: i64,
        fresh: [u8; 32],
    ) -> Result<Option<[u8; 32]>, BookError> {
        if day + KEY_DAYS >= today {
            self.connection.execute(
                "INSERT OR IGNORE INTO day_key VALUES (?1, ?2)",
                params![day, fresh],
            )?;
        }
        let sql = "SELECT key FROM day_key WHERE day = ?1";
        let key: Option<Vec<u8>> = self
            .connection
            .query_row(sql, [day], |row| row.get(0))
            .optional()?;
        Ok(key.and_then(|key| key.try_into().ok()))
    }

    /// Removes what is older than `before`, and keys of days that have ended long ago; both in seconds since 1970.
    pub fn forget(&mut self, before: i64, now: i64) -> Result<(), BookError> {
        let transaction = self.connection.transaction()?;
        for what in [SlotPartKind::Rows, SlotPartKind::Ids] {
            let sql = "DELETE FROM part WHERE what = ?1 AND slot < ?2";
            transaction.execute(sql, [what.number(), slot_of(before)])?;
        }
        transaction.execute("DELETE FROM trail WHERE slot < ?1", [slot_of(before)])?;
        transaction.execute("DELETE FROM file WHERE read_at < ?1", [before])?;
        transaction.execute(
            "DELETE FROM day_key WHERE day < ?1",
            [now / 86_400 - KEY_DAYS],
        )?;
        transaction.commit()?;
        Ok(())
    }
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

/// Adds a part to a slot. From the newest on, parts that are less than twice as large are merged with it, so that each is more than twice as
/// large as the next one: a slot has few, and what is in it is written a few times.
fn add_part(
    transaction: &Transaction<'_>,
    what: SlotPartKind,
    slot: i64,
    part: &[u8],
) -> Result<(), BookError> {
    let sql =
        "SELECT number, length(body) FROM part WHERE what = ?1 AND slot = ?2 ORDER BY number DESC";
    let mut sizes = transaction.prepare_cached(sql)?;
    let mut rows = sizes.query(params![what.number(), slot])?;
    let (mut size, mut next) = (part.len(), None);
    let mut merged = Vec::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        next.get_or_insert(number + 1);
        let length = usize::try_from(row.get::<_, i64>(1)?).unwrap_or(usize::MAX);
        if length / 2 > size || size.saturating_add(length) > MAX_GROWING_PART_BYTES {
            break;
        }
        size += length;
        merged.push(number);
    }
    drop(rows);
    let number = merged.last().copied().or(next).unwrap_or_default();
    if merged.is_empty() {
        return put_part(transaction, (what, slot, number), part);
    }
    let sql = "SELECT body FROM part WHERE what = ?1 AND slot = ?2 AND number >= ?3";
    let mut bodies = transaction.prepare_cached(sql)?;
    let key = params![what.number(), slot, number];
    let bodies = bodies.query_map(key, |row| row.get::<_, Vec<u8>>(0))?;
    let mut parts: Vec<Vec<u8>> = bodies.collect::<Result<_, _>>()?;
    parts.push(part.to_vec());
    let whole = what.merged(slot, &parts)?;
    let sql = "DELETE FROM part WHERE what = ?1 AND slot = ?2 AND number >= ?3";
    transaction.prepare_cached(sql)?.execute(key)?;
    put_part(transaction, (what, slot, number), &whole)
}

fn put_part(
    transaction: &Transaction<'_>,
    (what, slot, number): (SlotPartKind, i64, i64),
    body: &[u8],
) -> Result<(), BookError> {
    let mut put = transaction.prepare_cached("INSERT INTO part VALUES (?1, ?2, ?3, ?4)")?;
    put.execute(params![what.number(), slot, number, body])?;
    Ok(())
}

/// Makes the tables. Returns the version of those that are there, if it is another one.
fn set_up(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'access'";
    let is_old = found == 0 && connection.prepare(sql)?.exists([])?;
    if is_old || found > SCHEMA_VERSION {
        return Ok(Some(found));
    }
    // What a failing power supply takes is read again: the files are still there.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(SCHEMA)?;
    if found != SCHEMA_VERSION {
        connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::packed::PartWriter;
    use super::*;

    #[test]
    fn a_book_without_rows_has_no_span() {
        let book = AccessBook::in_memory().unwrap();
        assert_eq!(book.span().unwrap(), None);
        assert_eq!(book.read_files().unwrap(), None);
        assert!(book.totals().unwrap().is_empty());
    }

    /// A part with a row.
    fn part(slot: i64, counts: &AccessCounts) -> Vec<u8> {
        let mut part = PartWriter::new(slot);
        let agent = part.agent("curl/8");
        let client = part.client(Some("198.51.100.0/24"), agent);
        part.row((1, 0), client, counts);
        part.finish()
    }

    fn parts(book: &AccessBook, what: SlotPartKind) -> Vec<(i64, usize)> {
        let sql = "SELECT slot, length(body) FROM part WHERE what = ?1 ORDER BY slot, number";
        let mut statement = book.connection.prepare(sql).unwrap();
        let rows = statement.query_map([what.number()], |row| {
            Ok((row.get(0)?, usize::try_from(row.get::<_, i64>(1)?).unwrap()))
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_is_added_to_a_row_and_to_a_slot_is_read_again() {
        let mut book = AccessBook::in_memory().unwrap();
        for number in 0..3_u64 {
            let counts = AccessCounts {
                parts: 1,
                requests: 1,
                ranges: vec![(number * 200, number * 200 + 99)],
                ..AccessCounts::default()
            };
            let batch = Batch {
                parts: vec![(7, part(7, &counts))],
                seen: vec![(7, vec![number << 60, u64::MAX - number])],
                ..Batch::default()
            };
            book.write(&batch, 0).unwrap();
        }
        let mut found = Vec::new();
        book.rows(
            None,
            None,
            |link| link == 1,
            |row| {
                assert_eq!((row.net, row.agent), (Some("198.51.100.0/24"), "curl/8"));
                found.push(row.counts);
            },
        )
        .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].parts, found[0].requests), (3, 3));
        assert_eq!(found[0].ranges, [(0, 99), (200, 299), (400, 499)]);
        book.rows(None, None, |link| link == 2, |_| panic!("of another link"))
            .unwrap();
        let mut ids: Vec<u64> = (0..3)
            .flat_map(|part| [part << 60, u64::MAX - part])
            .collect();
        ids.sort_unstable();
        assert_eq!(book.seen(7).unwrap(), ids);
        assert!(book.seen(8).unwrap().is_empty());
    }

    #[test]
    fn a_slot_has_few_parts_however_often_it_is_added_to() {
        let mut book = AccessBook::in_memory().unwrap();
        let big: Vec<u64> = (0..MAX_GROWING_PART_BYTES as u64 / 8).collect();
        let mut all = big.len();
        let mut seen = vec![(7, big)];
        for number in 0..400_u64 {
            let ids = vec![(1 << 40) + number, (1 << 41) + number];
            all += ids.len();
            seen.push((7, ids));
            let batch = Batch {
                seen: std::mem::take(&mut seen),
                ..Batch::default()
            };
            book.write(&batch, 0).unwrap();
            let sizes = parts(&book, SlotPartKind::Ids);
            assert!(sizes.len() < 12, "{sizes:?}");
            assert_eq!(
                sizes[0].1, MAX_GROWING_PART_BYTES,
                "it is not written again"
            );
        }
        let mut ids = book.seen(7).unwrap();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
        book.seen_parts(7, |part| {
            assert!(part.is_sorted_by_key(|id| u64::from_le_bytes(*id)));
        })
        .unwrap();
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = AccessBook::open(folder.path()).unwrap();
        let batch = Batch {
            parts: vec![(7, vec![0xff, 0xff, 1])],
            ..Batch::default()
        };
        book.write(&batch, 0).unwrap();
        let read = book.rows(None, None, |_| true, |_| {});
        assert!(matches!(read, Err(BookError::Damaged(_))), "{read:?}");
        for (sql, version) in [
            ("PRAGMA user_version = 2", "version 2"),
            (
                "PRAGMA user_version = 0; CREATE TABLE access (slot)",
                "version 0",
            ),
        ] {
            book.connection.execute_batch(sql).unwrap();
            let error = AccessBook::open(folder.path()).unwrap_err();
            let said = crate::text::chain(&error);
            assert!(
                said.contains(version) && said.contains("move the file away"),
                "{said}"
            );
        }
    }
}
