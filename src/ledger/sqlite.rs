//! The ledger of a single machine, in the same file as its queue.
//!
//! It has no leases: the lock on the state directory lets one process at a time open it, so the writer of an intent
//! that is not this process is dead.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::picture_cache::PictureCache;
use super::portal::{PortalCreated, PortalRecords};
use super::{Created, Kind, Ledger, LedgerError, Record};
use crate::clock::Clock;
use crate::database::{Database, DatabaseError};
use crate::edge::health::Edge;
use crate::job::JobId;
use crate::job::occurrence::Sequencer;

/// Records in a table whose primary key makes them create-only.
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    database: Database,
    clock: Clock,
    edge: Option<Edge>,
}

/// A row as it is stored, before it is parsed.
struct StoredRow {
    job: String,
    rid: String,
    n: u32,
    kind: String,
    nonce: String,
    body: String,
}

impl SqliteLedger {
    /// A ledger in a database.
    pub const fn new(database: Database, clock: Clock) -> Self {
        Self {
            database,
            clock,
            edge: None,
        }
    }

    /// The same, with an edge of its own for the disk of its database.
    #[must_use]
    pub fn told_by(self, edge: Edge) -> Self {
        self.database.report_to(edge.clone());
        Self {
            edge: Some(edge),
            ..self
        }
    }
}

impl SqliteLedger {
    /// Deletes the jobs that are done and whose last record is older than an instant.
    ///
    /// A message of such a job that comes again is a new job, whose recipients are mailed again. So a message that waits in the queue of
    /// the same file, or is parked there, keeps all records from its first day on. A job in parts and its parts are deleted together: the
    /// records of a part alone say that its recipient has the mail. Pages of a job without any record go by their own age.
    pub async fn prune(&self, before: Timestamp) -> Result<Pruned, LedgerError> {
        self.prune_or_count(before, true).await
    }

    /// What [`Self::prune`] would delete.
    pub async fn count_prunable(&self, before: Timestamp) -> Result<Pruned, LedgerError> {
        self.prune_or_count(before, false).await
    }

    async fn prune_or_count(
        &self,
        before: Timestamp,
        deletes: bool,
    ) -> Result<Pruned, LedgerError> {
        let (before, now) = (before.as_millisecond(), (self.clock)().as_millisecond());
        let pruned = self.database.call(move |connection| {
            let oldest: Option<i64> =
                connection.query_row("SELECT min(enqueued_at) FROM message", [], |row| row.get(0))?;
            let held_back = oldest.filter(|oldest| *oldest < before);
            let before = held_back.unwrap_or(before);
            find_old(connection, before)?;
            let jobs = connection
                .query_row("SELECT count(DISTINCT whole) FROM old", [], |row| row.get::<_, i64>(0))?;
            let counted = (usize::try_from(jobs).unwrap_or_default(), held_back);
            if !deletes {
                return Ok(counted);
            }
            for table in ["record", "page"] {
                connection.execute(
                    &format!("DELETE FROM {table} WHERE job IN (SELECT job FROM old)"),
                    [],
                )?;
            }
            // Pages of an earlier version have no instant: from now on, this is theirs.
            connection.execute("UPDATE page SET at = ?1 WHERE at = 0", [now])?;
            // Of the served events of a key, the last one says for all before it that they come too late.
            connection.execute(
                "DELETE FROM record WHERE kind = 'served' AND at < ?1 AND EXISTS \
                     (SELECT 1 FROM record AS later WHERE later.job = record.job AND later.kind = 'served' AND later.rid > record.rid)",
                [before],
            )?;
            Ok(counted)
        });
        let (jobs, held_back) = pruned.await.map_err(not_written)?;
        Ok(Pruned {
            jobs,
            held_back: held_back.and_then(|at| Timestamp::from_millisecond(at).ok()),
        })
    }

    async fn select(
        &self,
        filter: &'static str,
        values: Vec<String>,
    ) -> Result<Vec<Record>, LedgerError> {
        let rows = self
            .database
            .call(move |connection| {
                let mut statement = connection.prepare_cached(&format!("{SELECT} {filter}"))?;
                statement
                    .query_map(rusqlite::params_from_iter(values), stored)?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await
            .map_err(not_read)?;
        rows.into_iter().map(StoredRow::understand).collect()
    }
}

/// What [`SqliteLedger::prune`] deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many jobs were deleted, without their parts.
    pub jobs: usize,
    /// When the oldest message of the queue was put there, if that kept records that are old enough.
    pub held_back: Option<Timestamp>,
}

/// The job to which a job's name belongs: itself, or the whole of which it is a part.
const WHOLE: &str = "CASE WHEN substr(job, -38, 6) = '.part.' AND substr(job, -32) NOT GLOB '*[^0-9a-f]*' \
     THEN substr(job, 1, length(job) - 38) ELSE job END";

/// Fills the table `old` with the jobs that are done and whose last record is older than an instant; and with those that have pages of this age
/// and no record, since their process was killed before they had a plan, and their message is gone.
fn find_old(connection: &Connection, before: i64) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS old (job TEXT PRIMARY KEY, whole TEXT); DELETE FROM old",
    )?;
    // As `status::is_done`: the last reopening is followed by a `done` of its own.
    let sql = format!(
        "WITH ended AS ( \
             SELECT job, {WHOLE} AS whole, max(at) AS last, \
                 coalesce(max(CASE kind WHEN 'done' THEN n END), -1) \
                     >= coalesce(max(CASE kind WHEN 'reopened' THEN n END), 0) AS is_done \
             FROM record WHERE kind <> 'served' GROUP BY job) \
         INSERT INTO old SELECT job, whole FROM ended WHERE whole IN \
             (SELECT whole FROM ended GROUP BY whole HAVING max(last) < ?1 AND min(is_done))"
    );
    connection.execute(&sql, [before])?;
    let sql = format!(
        "WITH stored AS (SELECT job, {WHOLE} AS whole, max(at) AS last, min(at) AS first FROM page GROUP BY job) \
         INSERT OR IGNORE INTO old SELECT job, whole FROM stored WHERE first > 0 AND last < ?1 \
             AND NOT EXISTS (SELECT 1 FROM record WHERE record.job = stored.job) \
             AND (whole IN (SELECT whole FROM old) \
                 OR NOT EXISTS (SELECT 1 FROM record WHERE record.job = stored.whole))"
    );
    connection.execute(&sql, [before]).map(drop)
}

/// How many entries the cache holds, the latest ones: with a small picture each, some 150 MB.
const SHELF_ROOM: i64 = 20_000;

/// How long it holds them, in milliseconds: thirty days.
const SHELF_LIFE_MS: i64 = 30 * 24 * 60 * 60 * 1000;

const SELECT: &str = "SELECT job, rid, n, kind, nonce, body FROM record";

#[async_trait]
impl Ledger for SqliteLedger {
    fn edge(&self) -> Option<&Edge> {
        self.edge.as_ref()
    }

    fn is_private(&self) -> bool {
        true
    }

    async fn create(&self, record: Record) -> Result<Created, LedgerError> {
        let at = (self.clock)().as_millisecond();
        let nonce = record.nonce.clone();
        let existing = self
            .database
            .call(move |connection| {
                let key = params![record.job.as_str(), record.rid, record.n, record.kind.as_str()];
                let inserted = connection.execute(
                    "INSERT INTO record (job, rid, n, kind, nonce, body, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                     ON CONFLICT DO NOTHING",
                    params![
                        record.job.as_str(),
                        record.rid,
                        record.n,
                        record.kind.as_str(),
                        record.nonce,
                        record.body.to_string(),
                        at
                    ],
                )?;
                if inserted == 1 {
                    return Ok(None);
                }
                // A record of our own that exists already: an earlier try whose reply was lost.
                let sql = format!("{SELECT} WHERE job = ?1 AND rid = ?2 AND n = ?3 AND kind = ?4");
                connection.query_row(&sql, key, stored).optional()
            })
            .await
            .map_err(not_written)?;
        match existing.map(StoredRow::understand).transpose()? {
            Some(existing) if existing.nonce != nonce => Ok(Created::Theirs(existing)),
            Some(_) | None => Ok(Created::Ours),
        }
    }

    async fn records(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        self.select("WHERE job = ?1", vec![job.to_string()]).await
    }

    async fn records_of(&self, job: &JobId, rid: &str) -> Result<Vec<Record>, LedgerError> {
        self.select(
            "WHERE job = ?1 AND rid = ?2",
            vec![job.to_string(), rid.to_owned()],
        )
        .await
    }

    async fn reports_of_parts(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        // The ids of parts lie side by side in the primary key: behind the dot comes the slash.
        let mut records = self
            .select(
                "WHERE job > ?1 AND job < ?2 AND rid <> '' AND EXISTS (SELECT 1 FROM record AS report \
                     WHERE report.job = record.job AND report.rid = record.rid AND report.kind IN ('d', 'b'))",
                vec![format!("{job}.part."), format!("{job}.part/")],
            )
            .await?;
        records.retain(|record| record.job.whole().as_ref() == Some(job));
        Ok(records)
    }

    async fn served_after(
        &self,
        series: &JobId,
        sequencer: &Sequencer,
    ) -> Result<Vec<Record>, LedgerError> {
        self.select(
            "WHERE job = ?1 AND rid > ?2 AND kind = 'served'",
            vec![series.to_string(), sequencer.as_str().to_owned()],
        )
        .await
    }

    async fn jobs(&self, limit: usize) -> Result<Vec<JobId>, LedgerError> {
        let names = self
            .database
            .call(move |connection| {
                // The parts of a job are found by the job: ten thousand of them would hide the other jobs.
                let mut statement = connection.prepare(&format!(
                    "SELECT job FROM record WHERE kind <> 'served' AND {WHOLE} = job GROUP BY job ORDER BY max(at) DESC, job LIMIT ?1"
                ))?;
                statement
                    .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?
                    .collect::<rusqlite::Result<Vec<String>>>()
            })
            .await
            .map_err(not_read)?;
        Ok(names
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    async fn keep_page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
        page: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let (job, listing) = (job.to_string(), listing.to_owned());
        let at = (self.clock)().as_millisecond();
        self.database
            .call(move |connection| {
                connection.execute(
                    "INSERT INTO page (job, listing, number, body, at) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT DO NOTHING",
                    params![job, listing, number, page, at],
                )
            })
            .await
            .map_err(not_written)?;
        Ok(())
    }

    async fn page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let (job, listing) = (job.to_string(), listing.to_owned());
        self.database
            .call(move |connection| {
                connection
                    .query_row(
                        "SELECT body FROM page WHERE job = ?1 AND listing = ?2 AND number = ?3",
                        params![job, listing, number],
                        |row| row.get(0),
                    )
                    .optional()
            })
            .await
            .map_err(not_read)
    }

    async fn forget_pages(&self, job: &JobId) -> Result<(), LedgerError> {
        let job = job.to_string();
        self.database
            .call(move |connection| connection.execute("DELETE FROM page WHERE job = ?1", [job]))
            .await
            .map_err(not_written)?;
        Ok(())
    }

    fn picture_cache(&self) -> Option<&dyn PictureCache> {
        Some(self)
    }

    fn portal_records(&self) -> Arc<dyn PortalRecords> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl PortalRecords for SqliteLedger {
    async fn create(&self, name: &str, body: Vec<u8>) -> Result<PortalCreated, LedgerError> {
        let (name, at) = (name.to_owned(), (self.clock)().as_millisecond());
        self.database
            .call(move |connection| {
                let inserted = connection.execute(
                    "INSERT INTO portal (name, body, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                    params![name, body, at],
                )?;
                if inserted == 1 {
                    return Ok(PortalCreated::Ours);
                }
                let existing: Vec<u8> =
                    connection.query_row(BODY_OF, params![name], |row| row.get(0))?;
                Ok(PortalCreated::of(&body, existing))
            })
            .await
            .map_err(not_written)
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let name = name.to_owned();
        self.database
            .call(move |connection| {
                connection
                    .prepare_cached(BODY_OF)?
                    .query_row(params![name], |row| row.get(0))
                    .optional()
            })
            .await
            .map_err(not_read)
    }

    async fn names(
        &self,
        below: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, LedgerError> {
        let below = below.to_owned();
        let after = format!("{below}{}", after.unwrap_or_default());
        self.database
            .call(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT substr(name, ?1) FROM portal WHERE name > ?2 AND name < ?3 ORDER BY name LIMIT ?4",
                )?;
                let end = end_of(&below);
                let from = i64::try_from(below.len() + 1).unwrap_or(i64::MAX);
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                statement
                    .query_map(params![from, after, end, limit], |row| row.get(0))?
                    .collect()
            })
            .await
            .map_err(not_read)
    }

    async fn forget(&self, below: &str, before: Timestamp) -> Result<(), LedgerError> {
        let (below, before) = (below.to_owned(), before.as_millisecond());
        self.database
            .call(move |connection| {
                connection.execute(
                    "DELETE FROM portal WHERE name > ?1 AND name < ?2 AND at < ?3",
                    params![below, end_of(&below), before],
                )
            })
            .await
            .map_err(not_written)?;
        Ok(())
    }

    async fn delete(&self, names: Vec<String>) -> Result<(), LedgerError> {
        self.database
            .call(move |connection| {
                let mut delete = connection.prepare_cached("DELETE FROM portal WHERE name = ?1")?;
                for name in &names {
                    delete.execute(params![name])?;
                }
                Ok(())
            })
            .await
            .map_err(not_written)
    }
}

/// Names are ASCII, so none that begins with `below` sorts behind this.
fn end_of(below: &str) -> String {
    format!("{below}\u{7f}")
}

const BODY_OF: &str = "SELECT body FROM portal WHERE name = ?1";

#[async_trait]
impl PictureCache for SqliteLedger {
    async fn recall(&self, names: &[String]) -> Result<Vec<Option<String>>, LedgerError> {
        let names = names.to_owned();
        let oldest = (self.clock)().as_millisecond() - SHELF_LIFE_MS;
        self.database
            .call(move |connection| {
                let mut statement = connection
                    .prepare_cached("SELECT body FROM shelf WHERE name = ?1 AND at > ?2")?;
                let body = |name: &String| {
                    let row = statement.query_row(params![name, oldest], |row| row.get(0));
                    row.optional()
                };
                names.iter().map(body).collect()
            })
            .await
            .map_err(not_read)
    }

    async fn keep(&self, things: &[(String, String)]) -> Result<(), LedgerError> {
        let things = things.to_owned();
        let now = (self.clock)().as_millisecond();
        self.database
            .call(move |connection| {
                let mut insert = connection.prepare_cached(
                    "INSERT OR REPLACE INTO shelf (name, body, at) VALUES (?1, ?2, ?3)",
                )?;
                for (name, body) in &things {
                    insert.execute(params![name, body, now])?;
                }
                connection.execute("DELETE FROM shelf WHERE at <= ?1", [now - SHELF_LIFE_MS])?;
                connection.execute(
                    "DELETE FROM shelf WHERE name IN \
                     (SELECT name FROM shelf ORDER BY at DESC, name LIMIT -1 OFFSET ?1)",
                    [SHELF_ROOM],
                )
            })
            .await
            .map_err(not_written)?;
        Ok(())
    }
}

fn not_read(source: DatabaseError) -> LedgerError {
    LedgerError::Database {
        action: "read",
        source,
    }
}

fn not_written(source: DatabaseError) -> LedgerError {
    LedgerError::Database {
        action: "write to",
        source,
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredRow> {
    Ok(StoredRow {
        job: row.get(0)?,
        rid: row.get(1)?,
        n: row.get(2)?,
        kind: row.get(3)?,
        nonce: row.get(4)?,
        body: row.get(5)?,
    })
}

impl StoredRow {
    fn understand(self) -> Result<Record, LedgerError> {
        let (job, kind, body) = (
            self.job.parse().ok(),
            Kind::from_word(&self.kind),
            serde_json::from_str(&self.body).ok(),
        );
        match (job, kind, body) {
            (Some(job), Some(kind), Some(body)) => Ok(Record {
                job,
                rid: self.rid,
                n: self.n,
                kind,
                nonce: self.nonce,
                body,
            }),
            _ => Err(LedgerError::Damaged {
                job: self.job,
                kind: self.kind,
                n: self.n,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
