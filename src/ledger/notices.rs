//! The records of notices that the operator has got.
//!
//! ```text
//! notice/<hash of the job's id>/<n>
//! ```
//!
//! A notice is owed from its `notified.<n>` on, which says which process sends it. A process that is killed before the relay has the
//! notice leaves no record here, so that the next delivery of the job sends it, with the same Message-ID.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::lease::Owner;
use super::portal::PortalRecords;
use super::{Ledger, LedgerError, Record, forget_expired};
use crate::job::JobId;
use crate::keyring::sha256_hex;

/// How long the process that owes a notice may be sending it, where another process may run meanwhile.
const SENT_WITHIN: SignedDuration = SignedDuration::from_secs(3 * 60);

/// The records in a ledger.
#[derive(Debug, Clone)]
pub struct NoticeRecords {
    records: Arc<dyn PortalRecords>,
    /// Whether a process that is not this one may be alive.
    is_shared: bool,
}

impl NoticeRecords {
    /// The records in a ledger.
    pub fn of(ledger: &dyn Ledger) -> Self {
        Self {
            records: ledger.expiring_records(),
            is_shared: ledger.leases().is_some(),
        }
    }

    /// The body of `notified.<n>`.
    pub fn body(owner: &Owner, now: Timestamp) -> Value {
        json!({ "at": now, "by": owner.as_str() })
    }

    /// Whether a notice that a process began to send is to be sent by this one: that process is dead, and the operator has not got it.
    pub async fn is_owed(
        &self,
        begun: &Record,
        owner: &Owner,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        // Earlier versions wrote no owner, and nothing here.
        let Some(by) = begun.body["by"].as_str().filter(|by| *by != owner.as_str()) else {
            return Ok(false);
        };
        let at = begun.body["at"].as_str().and_then(|at| at.parse().ok());
        let is_late = |at: Timestamp| now.duration_since(at) > SENT_WITHIN;
        if self.is_shared && !at.is_some_and(is_late) {
            tracing::debug!(job.id = %begun.job, by, "another process may be sending the notice");
            return Ok(false);
        }
        let told = self.records.read(&name(&begun.job, begun.n)).await?;
        Ok(told.is_none())
    }

    /// Records that the relay has a notice.
    pub async fn sent(&self, job: &JobId, n: u32, now: Timestamp) -> Result<(), LedgerError> {
        let body = json!({ "v": 1, "job": job, "n": n }).to_string();
        self.records
            .create(&name(job, n), body.into_bytes())
            .await?;
        forget_expired(&*self.records, "notice/", now).await
    }
}

/// An id may have any printable character, and names of records are ASCII.
fn name(job: &JobId, n: u32) -> String {
    format!("notice/{}/{n}", &sha256_hex(job.as_str().as_bytes())[..32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Kind;
    use crate::ledger::memory::MemoryLedger;

    #[tokio::test]
    async fn a_notice_of_a_dead_process_is_owed_until_it_is_sent() {
        let ledger = MemoryLedger::default();
        let mut records = NoticeRecords::of(&ledger);
        records.is_shared = false;
        let (dead, owner, now) = (Owner::new(), Owner::new(), Timestamp::UNIX_EPOCH);
        let job: JobId = "daily".parse().unwrap();
        let begun = |body| Record::new(&job, "", 1, Kind::Notified, body);
        let of_dead = begun(NoticeRecords::body(&dead, now));
        assert!(records.is_owed(&of_dead, &owner, now).await.unwrap());
        let is_ours = records.is_owed(&of_dead, &dead, now).await.unwrap();
        assert!(!is_ours, "this process sends it, or has tried to");
        let earlier = begun(json!({ "at": now }));
        assert!(!records.is_owed(&earlier, &owner, now).await.unwrap());
        let shared = NoticeRecords {
            is_shared: true,
            ..records.clone()
        };
        assert!(!shared.is_owed(&of_dead, &owner, now).await.unwrap());
        let later = now + SENT_WITHIN + SignedDuration::from_secs(1);
        assert!(shared.is_owed(&of_dead, &owner, later).await.unwrap());
        records.sent(&job, 1, now).await.unwrap();
        assert!(!records.is_owed(&of_dead, &owner, now).await.unwrap());
        let next = Record::new(&job, "", 2, Kind::Notified, of_dead.body.clone());
        assert!(records.is_owed(&next, &owner, now).await.unwrap());
    }
}
