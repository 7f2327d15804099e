//! A durable queue in a file: the default on one machine.
//!
//! Its rules are SQS's: a receipt hides a message for a while, and a later receipt makes the earlier handle void. A
//! parked message stays with its reason until an operator looks at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{
    EdgeError, ErrorKind, Message, MessagePlace, Parked, ParkedMessage, Queue, QueueError, Receipt,
};
use crate::clock::Clock;
use crate::database::{Database, DatabaseError};
use crate::keyring::nonce;
use crate::progress::QueueDepth;
use crate::traceparent::TraceParent;

/// How often a waiting receiver looks for messages from other processes.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How far the clock may be set back before messages hidden by the earlier time are shown.
const CLOCK_STEP_MS: i64 = 5_000;

/// The parked messages that had been put on the queue before an instant.
const PARKED_BEFORE: &str = "FROM message WHERE state = 'parked' AND enqueued_at < ?1";

/// Messages in a table.
#[derive(Debug, Clone)]
pub struct SqliteQueue {
    database: Database,
    clock: Clock,
    arrived: Arc<Notify>,
    /// The latest instant at which messages were received, in milliseconds.
    latest: Arc<AtomicI64>,
}

impl SqliteQueue {
    /// A queue in a database.
    pub fn new(database: Database, clock: Clock) -> Self {
        Self {
            database,
            clock,
            arrived: Arc::default(),
            latest: Arc::new(AtomicI64::new(i64::MAX)),
        }
    }

    /// How many messages are parked.
    pub async fn count_parked(&self) -> Result<u64, QueueError> {
        let sql = "SELECT count(*) FROM message WHERE state = 'parked'";
        let count = self
            .database
            .call(move |connection| connection.query_row(sql, [], |row| row.get::<_, i64>(0)));
        let count = count
            .await
            .map_err(|error| failed("count the parked messages", error))?;
        Ok(count.unsigned_abs())
    }

    /// How many parked messages [`Self::prune_parked`] would delete.
    pub async fn count_prunable(&self, before: Timestamp) -> Result<u64, QueueError> {
        let before = before.as_millisecond();
        let sql = format!("SELECT count(*) {PARKED_BEFORE}");
        let count = self.database.call(move |connection| {
            connection.query_row(&sql, [before], |row| row.get::<_, i64>(0))
        });
        let count = count
            .await
            .map_err(|error| failed("count the parked messages", error))?;
        Ok(count.unsigned_abs())
    }

    /// Deletes parked messages that had been put on the queue before an instant; returns their number.
    pub async fn prune_parked(&self, before: Timestamp) -> Result<usize, QueueError> {
        let before = before.as_millisecond();
        let sql = format!("DELETE {PARKED_BEFORE}");
        let pruned = self
            .database
            .call(move |connection| connection.execute(&sql, [before]));
        pruned
            .await
            .map_err(|error| failed("prune the parked messages", error))
    }

    /// The parked messages, oldest first, at most `limit`, from the one after `after` on.
    pub async fn parked(&self, after: i64, limit: usize) -> Result<Vec<ParkedMessage>, QueueError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .call(move |connection| {
                let mut statement = connection
                    .prepare("SELECT id, body, coalesce(reason, '') FROM message WHERE state = 'parked' AND id > ?1 ORDER BY id LIMIT ?2")?;
                statement
                    .query_map([after, limit], |row| {
                        Ok(ParkedMessage { id: row.get::<_, i64>(0)?.to_string(), body: row.get(1)?, reason: row.get(2)? })
                    })?
                    .collect()
            })
            .await
            .map_err(|error| failed("read the parked messages", error))
    }

    /// Puts parked messages back on the queue: all of them, or the one with this id; returns their number.
    pub async fn unpark(&self, id: Option<&str>) -> Result<u64, QueueError> {
        let (id, now) = (id.map(ToOwned::to_owned), self.now());
        let changed = self
            .database
            .call(move |connection| {
                connection.execute(
                    "UPDATE message SET state = 'ready', receives = 0, reason = NULL, visible_at = ?2, hidden_at = ?2 \
                     WHERE (?1 IS NULL OR id = ?1) AND state = 'parked'",
                    params![id, now],
                )
            })
            .await
            .map_err(|error| failed("put parked messages back", error))?;
        self.arrived.notify_waiters();
        Ok(changed as u64)
    }

    fn now(&self) -> i64 {
        (self.clock)().as_millisecond()
    }

    /// Shows messages again that were hidden by a clock which was ahead and was set back: they were hidden at an
    /// instant in the future. Runs at the first receive, and whenever the clock goes backwards.
    async fn heed_clock(&self, now: i64) -> Result<(), QueueError> {
        let latest = self.latest.swap(now, Ordering::Relaxed);
        if now >= latest.saturating_sub(CLOCK_STEP_MS) && latest != i64::MAX {
            return Ok(());
        }
        let sql =
            "UPDATE message SET visible_at = ?1 WHERE state = 'ready' AND hidden_at > ?1 + ?2";
        let shown = self
            .database
            .call(move |connection| connection.execute(sql, params![now, CLOCK_STEP_MS]))
            .await
            .map_err(|error| failed("count the messages of the queue", error))?;
        if shown > 0 {
            tracing::warn!(
                messages = shown,
                "the clock was set back; messages that it hid for longer are visible again"
            );
        }
        Ok(())
    }

    async fn take(&self, max: usize, visibility: Duration) -> Result<Vec<Message>, QueueError> {
        let now = self.now();
        self.heed_clock(now).await?;
        let until = now.saturating_add(milliseconds(visibility));
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let nonce = nonce();
        self.database
            .call(move |connection| {
                let mut statement = connection.prepare_cached(
                    "UPDATE message SET visible_at = ?2, hidden_at = ?1, held = 1, receives = receives + 1, receipt = ?3 || '-' || id \
                     WHERE id IN (SELECT id FROM message WHERE state = 'ready' AND visible_at <= ?1 \
                                  ORDER BY visible_at, id LIMIT ?4) \
                     RETURNING id, body, receipt, receives, traceparent",
                )?;
                statement
                    .query_map(params![now, until, nonce, max], |row| {
                        Ok(Message {
                            id: row.get::<_, i64>(0)?.to_string(),
                            body: row.get(1)?,
                            receipt: Receipt::new(row.get(2)?),
                            receive_count: row.get(3)?,
                            group: None,
                            attributes: Vec::new(),
                            trace: row
                                .get::<_, Option<String>>(4)?
                                .and_then(|trace| TraceParent::read(&trace)),
                        })
                    })?
                    .collect()
            })
            .await
            .map_err(|error| failed("receive from the queue", error))
    }

    /// Shows the messages again that a process was working when it died; returns their number.
    ///
    /// The caller holds the lock on the state directory, which proves that the process is dead. Messages that were
    /// given back for later are not among them.
    pub async fn take_over(&self) -> Result<usize, DatabaseError> {
        let now = self.now();
        let sql = "UPDATE message SET visible_at = ?1, hidden_at = ?1, held = 0 WHERE state = 'ready' AND held = 1";
        let shown = self
            .database
            .call(move |connection| connection.execute(sql, [now]));
        shown.await
    }

    /// Hides the one message that `receipt` holds until `visibility` has passed.
    async fn hide(
        &self,
        action: &'static str,
        statement: &'static str,
        receipt: &Receipt,
        visibility: Duration,
    ) -> Result<(), QueueError> {
        let (receipt, now) = (receipt.expose().to_owned(), self.now());
        let until = now.saturating_add(milliseconds(visibility));
        let changed = self
            .database
            .call(move |connection| connection.execute(statement, params![receipt, until, now]))
            .await
            .map_err(|error| failed(action, error))?;
        one(action, changed)
    }

    /// Changes the one message that `receipt` holds. A void receipt changes no message and gives an error.
    async fn change(
        &self,
        action: &'static str,
        receipt: &Receipt,
        statement: &'static str,
        value: rusqlite::types::Value,
    ) -> Result<(), QueueError> {
        let receipt = receipt.expose().to_owned();
        let changed = self
            .database
            .call(move |connection| connection.execute(statement, params![receipt, value]))
            .await
            .map_err(|error| failed(action, error))?;
        one(action, changed)
    }
}

/// An error if a void receipt changed no message.
fn one(action: &'static str, changed: usize) -> Result<(), QueueError> {
    match changed {
        1 => Ok(()),
        _ => Err(EdgeError::new(
            action,
            ErrorKind::NotFound,
            "the receipt is void: the message was received again",
        )),
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        let deadline = Instant::now() + wait;
        loop {
            let arrived = self.arrived.notified();
            let messages = self.take(max, visibility).await?;
            if !messages.is_empty() || Instant::now() >= deadline {
                return Ok(messages);
            }
            let look_again = deadline.min(Instant::now() + LOOK_EVERY);
            // The table is read again in either case; the timeout is not an error.
            drop(tokio::time::timeout_at(look_again, arrived).await);
        }
    }

    async fn delete(&self, receipt: &Receipt) -> Result<(), QueueError> {
        let sql = "DELETE FROM message WHERE receipt = ?1 AND state = 'ready' AND ?2 IS NULL";
        self.change(
            "delete a message",
            receipt,
            sql,
            rusqlite::types::Value::Null,
        )
        .await
    }

    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), QueueError> {
        let sql = "UPDATE message SET visible_at = ?2, hidden_at = ?3 WHERE receipt = ?1 AND state = 'ready'";
        self.hide(
            "extend the visibility of a message",
            sql,
            receipt,
            visibility,
        )
        .await
    }

    async fn release(&self, receipt: &Receipt, after: Duration) -> Result<(), QueueError> {
        let sql = "UPDATE message SET visible_at = ?2, hidden_at = ?3, held = 0 WHERE receipt = ?1 AND state = 'ready'";
        self.hide("give a message back", sql, receipt, after)
            .await?;
        if after.is_zero() {
            self.arrived.notify_waiters();
        }
        Ok(())
    }

    async fn park(&self, message: &Message, reason: &str) -> Result<Parked, QueueError> {
        let sql = "UPDATE message SET state = 'parked', reason = ?2 WHERE receipt = ?1 AND state = 'ready'";
        self.change(
            "park a message",
            &message.receipt,
            sql,
            reason.to_owned().into(),
        )
        .await?;
        Ok(Parked::Aside)
    }

    async fn submit_traced(
        &self,
        body: &str,
        trace: Option<TraceParent>,
    ) -> Result<String, QueueError> {
        let (body, now) = (body.to_owned(), self.now());
        let trace = trace.map(|trace| trace.to_string());
        let id = self
            .database
            .call(move |connection| {
                connection.execute(
                    "INSERT INTO message (body, visible_at, hidden_at, enqueued_at, traceparent) VALUES (?1, ?2, ?2, ?2, ?3)",
                    params![body, now, trace],
                )?;
                Ok(connection.last_insert_rowid())
            })
            .await
            .map_err(|error| failed("submit a message", error))?;
        self.arrived.notify_waiters();
        Ok(id.to_string())
    }

    async fn place(&self, id: &str) -> Result<Option<MessagePlace>, QueueError> {
        let id = id.to_owned();
        let sql = "SELECT state, coalesce(reason, '') FROM message WHERE id = ?1";
        let found = self.database.call(move |connection| {
            let found = connection.query_row(sql, [id], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            });
            found.optional()
        });
        let found = found
            .await
            .map_err(|error| failed("look for a message", error))?;
        Ok(Some(match found {
            Some((state, reason)) if state == "parked" => MessagePlace::Parked { reason },
            Some(_) => MessagePlace::OnQueue,
            None => MessagePlace::Gone,
        }))
    }

    async fn depth(&self) -> Result<Option<QueueDepth>, QueueError> {
        let sql = "SELECT count(*), coalesce(sum(held), 0), min(enqueued_at) FROM message WHERE state = 'ready'";
        let counted = self.database.call(move |connection| {
            connection.query_row(sql, [], |row| {
                let (all, held): (i64, i64) = (row.get(0)?, row.get(1)?);
                Ok((all, held, row.get::<_, Option<i64>>(2)?))
            })
        });
        let counted = counted.await;
        let (all, held, oldest) =
            counted.map_err(|error| failed("count the messages of the queue", error))?;
        let age = oldest
            .map(|at| Duration::from_millis(self.now().saturating_sub(at).max(0).unsigned_abs()));
        Ok(Some(QueueDepth {
            waiting: all.saturating_sub(held).unsigned_abs(),
            in_flight: held.unsigned_abs(),
            oldest: age,
        }))
    }

    async fn waiting(&self) -> Result<u64, QueueError> {
        self.database
            .call(|connection| {
                connection.query_row(
                    "SELECT count(*) FROM message WHERE state = 'ready'",
                    [],
                    |row| row.get::<_, i64>(0),
                )
            })
            .await
            .map(|count| count.unsigned_abs())
            .map_err(|error| failed("count the messages of the queue", error))
    }
}

fn failed(action: &'static str, error: DatabaseError) -> QueueError {
    EdgeError::new(action, ErrorKind::Unreachable, error)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
