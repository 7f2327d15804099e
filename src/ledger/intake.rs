//! The records of what arrived by HTTP: which messages a job has.
//!
//! ```text
//! intake/<hash of the job's id>/<instant>-<hash of the message's id>
//! ```
//!
//! A record is created after its message is on the queue, and says nothing about the job itself: without it, the state of a job is
//! not known until a worker begins the job.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::portal::PortalRecords;
use super::{Ledger, LedgerError, forget_expired};
use crate::edge::health::Edge;
use crate::job::JobId;
use crate::keyring::sha256_hex;

/// How many names are listed at once.
const NAMES_AT_ONCE: usize = 1000;

/// How many messages of a job are looked at, the latest of them.
const MAX_LOOKED_AT: usize = 10;

/// The records of what arrived by HTTP.
#[derive(Debug, Clone)]
pub struct IntakeRecords {
    records: Arc<dyn PortalRecords>,
}

/// A message of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedMessage {
    v: u32,
    job: JobId,
    /// The queue's id for it.
    pub message: String,
    /// When it was put on the queue.
    pub at: Timestamp,
}

impl IntakeRecords {
    /// The records in a ledger.
    pub fn of(ledger: &dyn Ledger) -> Self {
        Self {
            records: ledger.expiring_records(),
        }
    }

    /// The health of the service that keeps them; `None` if it is a file.
    pub fn edge(&self) -> Option<&Edge> {
        self.records.edge()
    }

    /// Records that a message with a job is on the queue.
    pub async fn accepted(
        &self,
        job: &JobId,
        message: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let accepted = AcceptedMessage {
            v: 1,
            job: job.clone(),
            message: message.to_owned(),
            at: now,
        };
        let body = serde_json::to_vec(&accepted).expect("a record is plain data");
        let hash = &sha256_hex(message.as_bytes())[..16];
        let name = format!("{}{:013}-{hash}", below(job), now.as_millisecond());
        self.records.create(&name, body).await.map(drop)
    }

    /// The latest messages of a job, the oldest of them first.
    pub async fn messages_of(&self, job: &JobId) -> Result<Vec<AcceptedMessage>, LedgerError> {
        let below = below(job);
        let names = self.records.names(&below, None, NAMES_AT_ONCE).await?;
        let mut messages = Vec::new();
        for name in &names[names.len().saturating_sub(MAX_LOOKED_AT)..] {
            let body = self.records.read(&format!("{below}{name}")).await?;
            let message = body.and_then(|body| serde_json::from_slice(&body).ok());
            messages.extend(message.filter(|message: &AcceptedMessage| message.job == *job));
        }
        Ok(messages)
    }

    /// Forgets old records, where the ledger is a database.
    pub async fn forget_old(&self, now: Timestamp) -> Result<(), LedgerError> {
        forget_expired(&*self.records, "intake/", now).await
    }
}

/// An id may have any printable character, and names of records are ASCII.
fn below(job: &JobId) -> String {
    format!("intake/{}/", &sha256_hex(job.as_str().as_bytes())[..32])
}
