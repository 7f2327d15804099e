//! A ledger in memory, for tests.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Created, Ledger, LedgerError, Record};
use crate::job::JobId;

/// Records in the order in which they were created.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    records: Mutex<Vec<Record>>,
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn create(&self, record: Record) -> Result<Created, LedgerError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |other: &&Record| {
            (&other.job, &other.rid, other.n, other.kind)
                == (&record.job, &record.rid, record.n, record.kind)
        };
        if let Some(existing) = records.iter().find(same) {
            return Ok(Created::Theirs(existing.clone()));
        }
        records.push(record);
        Ok(Created::Ours)
    }

    async fn records(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records
            .iter()
            .filter(|record| record.job == *job)
            .cloned()
            .collect())
    }

    async fn records_of(&self, job: &JobId, rid: &str) -> Result<Vec<Record>, LedgerError> {
        Ok(self
            .records(job)
            .await?
            .into_iter()
            .filter(|record| record.rid == rid)
            .collect())
    }

    async fn jobs(&self, limit: usize) -> Result<Vec<JobId>, LedgerError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut jobs: Vec<JobId> = Vec::new();
        for record in records.iter().rev() {
            if !jobs.contains(&record.job) {
                jobs.push(record.job.clone());
            }
        }
        jobs.truncate(limit);
        Ok(jobs)
    }
}
