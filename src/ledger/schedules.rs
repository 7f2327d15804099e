//! The records of schedules: which occurrences were started, and since when a rule holds.
//!
//! ```text
//! schedule/<name>/rule/<n>       the n-th rule of the schedule, and when a worker saw it first: what is earlier is not caught up
//! schedule/<name>/at/<instant>   the job of this occurrence is on the queue
//! schedule/<name>/hand/<instant> the same, put there by a command: no worker looks at it, so that it keeps no other occurrence from being caught up
//! ```
//!
//! They are created once and never changed. The message is on the queue before the record exists: a process that dies in between lets
//! another send it again under the same job id, and the `plan` of the job makes it one. The other order would lose an occurrence.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::portal::{PortalCreated, PortalRecords};
use super::{Ledger, LedgerError, forget_expired};
use crate::keyring::nonce;
use crate::schedule::{Schedule, ScheduleName, ScheduledJob, parse_stamp, stamp};

/// How many names are listed at once.
const NAMES_AT_ONCE: usize = 1000;

/// The records of schedules.
#[derive(Debug, Clone)]
pub struct ScheduleRecords {
    records: Arc<dyn PortalRecords>,
}

/// A rule that a schedule had.
#[derive(Debug, Serialize, Deserialize)]
struct StoredRule {
    v: u32,
    /// The fingerprint of rule and zone, and both in words for a reader.
    fingerprint: String,
    rule: String,
    time_zone: String,
    /// When a worker saw it first.
    at: Timestamp,
    nonce: String,
}

/// An occurrence that was started.
#[derive(Debug, Serialize, Deserialize)]
struct StoredStart {
    v: u32,
    job: String,
    at: Timestamp,
}

impl ScheduleRecords {
    /// The records in a ledger.
    pub fn of(ledger: &dyn Ledger) -> Self {
        Self {
            records: ledger.expiring_records(),
        }
    }

    /// Since when the rule of a schedule holds: now, if it is new.
    pub async fn since(
        &self,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Result<Timestamp, LedgerError> {
        let below = format!("schedule/{}/rule/", schedule.name);
        let fingerprint = schedule.fingerprint();
        let mut after: Option<String> = None;
        let mut number = 0_u32;
        loop {
            let names = self
                .records
                .names(&below, after.as_deref(), NAMES_AT_ONCE)
                .await?;
            if let Some(last) = names.last() {
                after = Some(last.clone());
                number = last.parse().unwrap_or(number);
                if names.len() == NAMES_AT_ONCE {
                    continue;
                }
            }
            if let Some(last) = &after {
                let body = self.records.read(&format!("{below}{last}")).await?;
                let rule = body.and_then(|body| serde_json::from_slice::<StoredRule>(&body).ok());
                if let Some(rule) = rule.filter(|rule| rule.fingerprint == fingerprint) {
                    return Ok(rule.at);
                }
            }
            let rule = StoredRule {
                v: 1,
                fingerprint: fingerprint.clone(),
                rule: schedule.timing.to_string(),
                time_zone: schedule.zone_name.clone(),
                at: now,
                nonce: nonce(),
            };
            let body = serde_json::to_vec(&rule).expect("a rule is plain data");
            let name = format!("{below}{:06}", number + 1);
            match self.records.create(&name, body).await? {
                PortalCreated::Ours => return Ok(now),
                // Another worker was first: its record is read.
                PortalCreated::Theirs(_) => {}
            }
        }
    }

    /// The last occurrence after an instant that a worker started, if there is one.
    pub async fn last_started(
        &self,
        name: &ScheduleName,
        after: Timestamp,
    ) -> Result<Option<Timestamp>, LedgerError> {
        self.last_below(&format!("schedule/{name}/at/"), after)
            .await
    }

    /// The last occurrence whose job was put on the queue, by a worker or by a command.
    pub async fn last_run(&self, name: &ScheduleName) -> Result<Option<Timestamp>, LedgerError> {
        let since = Timestamp::UNIX_EPOCH;
        let by_workers = self.last_started(name, since).await?;
        let by_hand = self.last_below(&by_hand(name), since).await?;
        Ok(by_workers.max(by_hand))
    }

    async fn last_below(
        &self,
        below: &str,
        after: Timestamp,
    ) -> Result<Option<Timestamp>, LedgerError> {
        let mut after = stamp(after);
        let mut last = None;
        loop {
            let names = self
                .records
                .names(below, Some(&after), NAMES_AT_ONCE)
                .await?;
            last = names
                .iter()
                .rev()
                .find_map(|name| parse_stamp(name))
                .or(last);
            match names.last() {
                Some(name) if names.len() == NAMES_AT_ONCE => after = name.clone(),
                Some(_) | None => return Ok(last),
            }
        }
    }

    /// Whether an occurrence was started.
    pub async fn is_started(
        &self,
        name: &ScheduleName,
        occurrence: Timestamp,
    ) -> Result<bool, LedgerError> {
        let record = self.records.read(&start_of(name, occurrence)).await?;
        Ok(record.is_some())
    }

    /// Records that the job of an occurrence is on the queue.
    pub async fn started(
        &self,
        job: &ScheduledJob,
        occurrence: Timestamp,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let name = start_of(&job.schedule.name, occurrence);
        self.keep_start(name, job, occurrence, now).await
    }

    /// Records that a command has put the job of an occurrence on the queue.
    pub async fn started_by_hand(
        &self,
        job: &ScheduledJob,
        occurrence: Timestamp,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let name = by_hand(&job.schedule.name) + &stamp(occurrence);
        self.keep_start(name, job, occurrence, now).await
    }

    async fn keep_start(
        &self,
        name: String,
        job: &ScheduledJob,
        occurrence: Timestamp,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let start = StoredStart {
            v: 1,
            job: job.job_id(occurrence),
            at: now,
        };
        let body = serde_json::to_vec(&start).expect("a start is plain data");
        self.records.create(&name, body).await.map(drop)
    }

    /// Forgets old occurrences of a schedule, where the ledger is a database.
    pub async fn forget_old(&self, name: &ScheduleName, now: Timestamp) -> Result<(), LedgerError> {
        for below in [format!("schedule/{name}/at/"), by_hand(name)] {
            forget_expired(&*self.records, &below, now).await?;
        }
        Ok(())
    }
}

/// Where the records of occurrences begin that commands started.
fn by_hand(name: &ScheduleName) -> String {
    format!("schedule/{name}/hand/")
}

fn start_of(name: &ScheduleName, occurrence: Timestamp) -> String {
    format!("schedule/{name}/at/{}", stamp(occurrence))
}
