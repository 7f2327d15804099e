//! What the ledger has of a job before a run of it: for commands and the intake, which take no job that the worker would park.

use super::state::check_body;
use crate::error::JobError;
use crate::job::Job;
use crate::ledger::status::{is_done, record_of};
use crate::ledger::{Kind, Ledger};

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobBefore {
    /// The ledger does not have it.
    New,
    /// It was begun: it runs, waits or was reopened.
    Begun,
    /// It is done: its message would be deleted, and nothing would be sent.
    Done,
}

/// How far a job has come by the ledger. A job of the same id that waits on the queue is not in the ledger yet.
///
/// # Errors
/// [`JobError::Conflict`] if the ledger has another job under the id; the ledger does not answer.
pub async fn job_before(job: &Job, ledger: &dyn Ledger) -> Result<JobBefore, JobError> {
    let records = ledger.records_of(&job.id, "").await?;
    let Some(first) = record_of(&records, 0, Kind::Plan) else {
        return Ok(JobBefore::New);
    };
    check_body(job, first)?;
    Ok(match is_done(&records) {
        true => JobBefore::Done,
        false => JobBefore::Begun,
    })
}
