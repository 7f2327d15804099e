//! `access.sqlite`: what access logs say of links, and how far each file was read.
//!
//! Rows, the ids of their requests and the places in the files change in one transaction, so that a read that was killed goes on without
//! a gap and without a double. Ids of requests are kept for slots of about four minutes, in which a double is looked for.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::identity::{Mangling, TrailRequest};
use super::row::AccessCounts;
use crate::database::{DatabaseError, open_connection};

/// The bits of a second within a slot: 256 seconds.
const SLOT_BITS: u32 = 8;

/// How long the key of a day is kept, in days: a line that arrives later is kept without its network.
const KEY_DAYS: i64 = 8;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS access (
    slot      INTEGER NOT NULL,
    link      INTEGER NOT NULL,
    open      INTEGER NOT NULL,
    client    INTEGER NOT NULL,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    requests  INTEGER NOT NULL,
    whole     INTEGER NOT NULL,
    short     INTEGER NOT NULL,
    longest   INTEGER NOT NULL,
    parts     INTEGER NOT NULL,
    peeks     INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    heads     INTEGER NOT NULL,
    unchanged INTEGER NOT NULL,
    late      INTEGER NOT NULL,
    died      INTEGER NOT NULL,
    mangled   INTEGER NOT NULL,
    denied    INTEGER NOT NULL,
    gone      INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    mangling  INTEGER NOT NULL,
    ranges    BLOB,
    PRIMARY KEY (slot, link, open, client)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS client (
    id  INTEGER PRIMARY KEY,
    net TEXT,
    ua  TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS seen (
    slot INTEGER PRIMARY KEY,
    ids  BLOB NOT NULL
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

const ADD_ROW: &str = "
INSERT INTO access VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24)
ON CONFLICT DO UPDATE SET
    first = min(first, excluded.first), last = max(last, excluded.last), requests = requests + excluded.requests,
    whole = whole + excluded.whole, short = short + excluded.short, longest = max(longest, excluded.longest),
    parts = parts + excluded.parts, peeks = peeks + excluded.peeks, bytes = bytes + excluded.bytes,
    size = max(size, excluded.size), heads = heads + excluded.heads, unchanged = unchanged + excluded.unchanged,
    late = late + excluded.late, died = died + excluded.died, mangled = mangled + excluded.mangled,
    denied = denied + excluded.denied, gone = gone + excluded.gone, failed = failed + excluded.failed,
    mangling = mangling | excluded.mangling,
    ranges = CASE WHEN ranges IS NULL THEN excluded.ranges WHEN excluded.ranges IS NULL THEN ranges ELSE CAST(ranges || excluded.ranges AS BLOB) END";

/// Why the reports' database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// Its file could not be opened.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// A statement failed; its transaction was rolled back.
    #[error("a request to access.sqlite failed")]
    Statement(#[from] rusqlite::Error),
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
    pub client: i64,
}

/// The slot of an instant, in seconds since 1970.
pub const fn slot_of(at: i64) -> i64 {
    at >> SLOT_BITS
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
    /// Rows to add.
    pub rows: Vec<(RowKey, AccessCounts)>,
    /// Clients that may be new: the id, the network, the name.
    pub clients: Vec<(i64, Option<String>, String)>,
    /// New ids of requests of a slot.
    pub seen: Vec<(i64, Vec<u64>)>,
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
        let connection = open_connection(&Self::path_in(state_dir), set_up)?;
        Ok(Self { connection })
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

    /// Whether requests of a slot were seen.
    pub fn has_seen(&self, slot: i64) -> Result<bool, BookError> {
        let sql = "SELECT 1 FROM seen WHERE slot = ?1";
        Ok(self.connection.prepare_cached(sql)?.exists([slot])?)
    }

    /// The ids of the requests of a slot.
    pub fn seen(&self, slot: i64) -> Result<Vec<u64>, BookError> {
        let sql = "SELECT ids FROM seen WHERE slot = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let ids: Option<Vec<u8>> = statement.query_row([slot], |row| row.get(0)).optional()?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        Ok(ids
            .unwrap_or_default()
            .chunks_exact(8)
            .map(number)
            .collect())
    }

    /// Writes all of a batch, or nothing. `now` is in seconds since 1970.
    pub fn write(&mut self, batch: &Batch, now: i64) -> Result<(), BookError> {
        let transaction = self.connection.transaction()?;
        {
            let mut add = transaction.prepare_cached(ADD_ROW)?;
            for (key, counts) in &batch.rows {
                add.execute(params![
                    key.slot,
                    key.link.cast_signed(),
                    key.open.cast_signed(),
                    key.client,
                    counts.first,
                    counts.last,
                    counts.requests.cast_signed(),
                    counts.whole.cast_signed(),
                    counts.short.cast_signed(),
                    counts.longest.cast_signed(),
                    counts.parts.cast_signed(),
                    counts.peeks.cast_signed(),
                    counts.bytes.cast_signed(),
                    counts.size.cast_signed(),
                    counts.heads.cast_signed(),
                    counts.unchanged.cast_signed(),
                    counts.late.cast_signed(),
                    counts.died.cast_signed(),
                    counts.mangled.cast_signed(),
                    counts.denied.cast_signed(),
                    counts.gone.cast_signed(),
                    counts.failed.cast_signed(),
                    counts.mangling.0,
                    counts.packed_ranges(),
                ])?;
            }
            let mut add =
                transaction.prepare_cached("INSERT OR IGNORE INTO client VALUES (?1, ?2, ?3)")?;
            for client in &batch.clients {
                add.execute(params![client.0, client.1, client.2])?;
            }
            let mut add =
                transaction.prepare_cached("INSERT INTO seen VALUES (?1, ?2) ON CONFLICT DO UPDATE SET ids = CAST(ids || excluded.ids AS BLOB)")?;
            for (slot, ids) in &batch.seen {
                let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                add.execute(params![slot, ids])?;
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
        let one = |sql: &str| -> Result<Option<i64>, BookError> {
            Ok(self
                .connection
                .query_row(sql, [], |row| row.get::<_, Option<i64>>(0))
                .optional()?
                .flatten())
        };
        // An aggregate of no rows is a row with NULL. A slot is an hour or so, and has rows of many links: neither its first row nor its last has the earliest or latest request.
        const FIRST: &str =
            "SELECT min(first) FROM access WHERE slot = (SELECT min(slot) FROM access)";
        const LAST: &str =
            "SELECT max(last) FROM access WHERE slot = (SELECT max(slot) FROM access)";
        Ok(one(FIRST)?.zip(one(LAST)?))
    }

    /// Calls `found` with each row from `since` on and before `until`, oldest first.
    pub fn rows(
        &self,
        since: Option<i64>,
        until: Option<i64>,
        mut found: impl FnMut(RowKey, AccessCounts),
    ) -> Result<(), BookError> {
        let sql = "SELECT * FROM access WHERE slot >= ?1 AND slot <= ?2 ORDER BY slot";
        let mut statement = self.connection.prepare(sql)?;
        let (since, until) = (since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
        let mut rows = statement.query([slot_of(since), slot_of(until)])?;
        while let Some(row) = rows.next()? {
            let (key, counts) = row_of(row)?;
            if counts.last >= since && counts.first < until {
                found(key, counts);
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

    /// A client's network and name.
    pub fn client(&self, id: i64) -> Result<(Option<String>, String), BookError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT net, ua FROM client WHERE id = ?1")?;
        let client = statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(client.optional()?.unwrap_or_default())
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
        let removed =
            transaction.execute("DELETE FROM access WHERE slot < ?1", [slot_of(before)])?;
        transaction.execute("DELETE FROM seen WHERE slot < ?1", [slot_of(before)])?;
        transaction.execute("DELETE FROM trail WHERE slot < ?1", [slot_of(before)])?;
        transaction.execute("DELETE FROM file WHERE read_at < ?1", [before])?;
        transaction.execute(
            "DELETE FROM day_key WHERE day < ?1",
            [now / 86_400 - KEY_DAYS],
        )?;
        if removed > 0 {
            transaction.execute(
                "DELETE FROM client WHERE id NOT IN (SELECT client FROM access)",
                [],
            )?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<(RowKey, AccessCounts)> {
    let key = RowKey {
        slot: row.get(0)?,
        link: unsigned(row, 1)?,
        open: unsigned(row, 2)?,
        client: row.get(3)?,
    };
    let mut counts = AccessCounts {
        first: row.get(4)?,
        last: row.get(5)?,
        requests: unsigned(row, 6)?,
        whole: unsigned(row, 7)?,
        short: unsigned(row, 8)?,
        longest: unsigned(row, 9)?,
        parts: unsigned(row, 10)?,
        peeks: unsigned(row, 11)?,
        bytes: unsigned(row, 12)?,
        size: unsigned(row, 13)?,
        heads: unsigned(row, 14)?,
        unchanged: unsigned(row, 15)?,
        late: unsigned(row, 16)?,
        died: unsigned(row, 17)?,
        mangled: unsigned(row, 18)?,
        denied: unsigned(row, 19)?,
        gone: unsigned(row, 20)?,
        failed: unsigned(row, 21)?,
        mangling: Mangling(row.get(22)?),
        ranges: Vec::new(),
    };
    // What earlier versions joined has the type text in SQLite.
    if let Some(packed) = row.get_ref(23)?.as_bytes_or_null()? {
        counts.unpack_ranges(packed);
    }
    Ok((key, counts))
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    // What a failing power supply takes is read again: the files are still there.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(SCHEMA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_without_rows_has_no_span() {
        let book = AccessBook::in_memory().unwrap();
        assert_eq!(book.span().unwrap(), None);
        assert_eq!(book.read_files().unwrap(), None);
        assert!(book.totals().unwrap().is_empty());
    }

    #[test]
    fn what_is_added_to_a_row_and_to_a_slot_is_read_again() {
        let mut book = AccessBook::in_memory().unwrap();
        let key = RowKey {
            slot: 7,
            link: 1,
            open: 0,
            client: 1,
        };
        for part in 0..3_u64 {
            let counts = AccessCounts {
                parts: 1,
                ranges: vec![(part * 200, part * 200 + 99)],
                ..AccessCounts::default()
            };
            let batch = Batch {
                rows: vec![(key, counts)],
                seen: vec![(7, vec![part << 60, u64::MAX - part])],
                ..Batch::default()
            };
            book.write(&batch, 0).unwrap();
        }
        let mut found = Vec::new();
        book.rows(None, None, |_, counts| found.push(counts))
            .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].ranges, [(0, 99), (200, 299), (400, 499)]);
        let ids: Vec<u64> = (0..3)
            .flat_map(|part| [part << 60, u64::MAX - part])
            .collect();
        assert_eq!(book.seen(7).unwrap(), ids);
        assert!(book.has_seen(7).unwrap() && !book.has_seen(8).unwrap());
    }
}
