//! What the runs of `handout feedback` took in, for the counters of the daemons of the ledger.
//!
//! ```text
//! feedback/taken/<seconds>.<nonce>     how many reports of each meaning a run took
//! feedback/counted/<seconds>.<nonce>   a daemon counts this run, and no other daemon does
//! ```
//!
//! A daemon that ends between the second record and a scrape takes the numbers with it, as it does with those of the queue. The records
//! may expire: what the reports mean is kept below `people/`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::portal::{PortalCreated, PortalRecords};
use super::{Ledger, LedgerError, forget_expired};
use crate::keyring::nonce;

/// Where the records of runs begin.
const TAKEN: &str = "feedback/taken/";

/// Where the records of counted runs begin.
const COUNTED: &str = "feedback/counted/";

/// How many names are listed at once.
const NAMES_AT_ONCE: usize = 1000;

/// The records of what commands took in.
#[derive(Debug, Clone)]
pub struct TakenReports {
    records: Arc<dyn PortalRecords>,
}

/// What one run of the command took in: how many mails, by the words of metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TakenRun {
    v: u32,
    /// Those that are recorded, by what they mean.
    pub recorded: BTreeMap<String, u64>,
    /// Those that are ignored, by the reason.
    pub ignored: BTreeMap<String, u64>,
}

impl TakenRun {
    /// Whether the run took no mail.
    pub fn is_empty(&self) -> bool {
        self.recorded.is_empty() && self.ignored.is_empty()
    }
}

impl TakenReports {
    /// The records in a ledger.
    pub fn of(ledger: &dyn Ledger) -> Self {
        Self {
            records: ledger.expiring_records(),
        }
    }

    /// Keeps what a run took in. Durable when it returns.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub async fn keep(&self, run: &TakenRun, now: Timestamp) -> Result<(), LedgerError> {
        let body = serde_json::to_vec(&TakenRun {
            v: 1,
            ..run.clone()
        });
        let body = body.expect("numbers are plain data");
        let name = format!("{TAKEN}{}.{}", spelled(now), &nonce()[..16]);
        self.records.create(&name, body).await.map(drop)
    }

    /// Gives each run since an instant that no daemon has counted, and records that this one counts it.
    ///
    /// # Errors
    /// The ledger does not answer; the runs that were given are counted.
    pub async fn claim_since(
        &self,
        since: Timestamp,
        mut count: impl FnMut(TakenRun),
    ) -> Result<(), LedgerError> {
        let since = spelled(since);
        let taken = self.names(TAKEN, &since).await?;
        if taken.is_empty() {
            return Ok(());
        }
        let counted: BTreeSet<String> = self.names(COUNTED, &since).await?.into_iter().collect();
        for name in taken.iter().filter(|name| !counted.contains(*name)) {
            let body = self.records.read(&format!("{TAKEN}{name}")).await?;
            let run = body.and_then(|body| serde_json::from_slice::<TakenRun>(&body).ok());
            let (claim, nonce) = (format!("{COUNTED}{name}"), nonce().into_bytes());
            let claimed = self.records.create(&claim, nonce).await?;
            if let (PortalCreated::Ours, Some(run)) = (claimed, run) {
                count(run);
            }
        }
        Ok(())
    }

    /// All names after an instant.
    async fn names(&self, below: &str, since: &str) -> Result<Vec<String>, LedgerError> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map_or(since, String::as_str);
            let some = self.records.names(below, Some(after), NAMES_AT_ONCE);
            let some = some.await?;
            let is_last = some.len() < NAMES_AT_ONCE;
            all.extend(some);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Forgets old records, where the ledger is a database.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub async fn forget_old(&self, now: Timestamp) -> Result<(), LedgerError> {
        forget_expired(&*self.records, "feedback/", now).await
    }
}

/// The seconds of an instant, which sort in the order of time.
fn spelled(at: Timestamp) -> String {
    format!("{:012}", at.as_second().max(0))
}
