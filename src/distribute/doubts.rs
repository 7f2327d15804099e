//! The mails of a job that are in doubt and have no verdict yet, by its records.

use std::collections::VecDeque;

use super::parts::doubtful_parts;
use crate::job::JobId;
use crate::ledger::status::{is_done, record_of};
use crate::ledger::{JobRecords, Kind, Ledger, LedgerError, RecipientStatus, Record, status_of};

/// How many jobs are searched for mails in doubt, the latest ones.
pub const MAX_JOBS_SEARCHED: usize = 1000;

/// A mail that may or may not have left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDoubt {
    /// The job, or the part of a job, whose records have it.
    pub job: JobId,
    /// The recipient's id.
    pub rid: String,
    /// The attempt, from 0.
    pub attempt: u32,
    /// When the attempt was recorded.
    pub intended_at: Option<String>,
    /// The mail's Message-ID.
    pub message_id: Option<String>,
}

/// The mails in doubt of a job and its parts, in the order of the parts and the recipients' ids.
///
/// # Errors
/// The ledger does not answer, or a record cannot be read.
pub async fn open_doubts(ledger: &dyn Ledger, job: &JobId) -> Result<Vec<OpenDoubt>, LedgerError> {
    let mut found = Vec::new();
    let mut jobs = VecDeque::from([job.clone()]);
    while let Some(job) = jobs.pop_front() {
        let of_job = ledger.records_of(&job, "").await?;
        if has_no_doubts(&of_job) {
            continue;
        }
        jobs.extend(doubtful_parts(ledger, &job, &of_job).await?);
        let job_records = JobRecords::new(ledger.records(&job).await?);
        for rid in job_records.recipients() {
            let records = job_records.of(rid);
            let RecipientStatus::InDoubt { n: attempt, .. } = status_of(records)? else {
                continue;
            };
            let intent = record_of(records, attempt, Kind::Intent);
            let field = |name| Some(intent?.body[name].as_str()?.to_owned());
            found.push(OpenDoubt {
                job: job.clone(),
                rid: rid.to_owned(),
                attempt,
                intended_at: field("at"),
                message_id: field("message_id"),
            });
        }
    }
    Ok(found)
}

/// Whether a job was done without doubts, so that its recipients need no check; from the records of the whole job.
pub(crate) fn has_no_doubts(of_job: &[Record]) -> bool {
    is_done(of_job)
        && of_job
            .iter()
            .filter(|record| record.kind == Kind::Done)
            .all(|done| done.body["unknown"] == 0)
}
