//! The check of a job before it is put on the queue, as `handout job submit` makes it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::IntakeAnswer;
use super::{Current, Intake};
use crate::bounds::{MAX_INTAKE_CHECK_TIME, MAX_INTAKE_CHECKS_OF_CONNECTION};
use crate::distribute::{JobBefore, job_before};
use crate::edge::health::{Edge, Outage};
use crate::error::{FailureClass, JobError};
use crate::job::{ConnectionName, Job};
use crate::mail_trial::Tried;
use crate::preview::check_job;
use crate::progress::Progress;
use crate::run::JobRun;
use crate::text::chain;

/// How long the ledger may take to say whether it has a job; without its answer, the worker finds out.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// Whether a job was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobCheck {
    /// It can be done, as far as a preview can tell.
    Passed,
    /// The store or another dependency did not answer in time, so the worker finds out; or the job is done.
    NotMade,
}

/// The checks at each connection: a silent store does not take all turns.
#[derive(Debug, Default)]
pub(super) struct ChecksUnderWay(Mutex<HashMap<ConnectionName, Arc<Semaphore>>>);

impl ChecksUnderWay {
    fn at(&self, connection: &ConnectionName) -> Arc<Semaphore> {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = checks.entry(connection.clone());
        let at = at.or_insert_with(|| Arc::new(Semaphore::new(MAX_INTAKE_CHECKS_OF_CONNECTION)));
        Arc::clone(at)
    }
}

/// Why a check would wait for a dependency of the job that does not answer.
fn waits_for(job: &Job, services: &crate::assemble::Services) -> Option<Outage> {
    let connection = services.signing.connections.get(&job.from.connection)?;
    let edges = [connection.s3.edge(), connection.signer.edge()];
    edges.into_iter().find_map(Edge::waits)
}

impl Intake {
    /// How far a job has come, as the ledger has it at this moment. A ledger that does not answer counts as one without the job.
    ///
    /// # Errors
    /// The answer to a job whose id another job has.
    pub(super) async fn before(
        &self,
        job: &Job,
        current: &Current,
    ) -> Result<JobBefore, IntakeAnswer> {
        let ledger = &*current.services.recording.ledger;
        if ledger.edge().is_some_and(|edge| edge.waits().is_some()) {
            return Ok(JobBefore::New);
        }
        match timeout(ASKED_WITHIN, job_before(job, ledger)).await {
            Ok(Ok(before)) => Ok(before),
            Ok(Err(error @ JobError::Conflict { .. })) => {
                Err(IntakeAnswer::conflict(chain(&error)).at_job(job.id.as_str()))
            }
            Ok(Err(_)) | Err(_) => Ok(JobBefore::New),
        }
    }

    /// Checks a job until `deadline`, or for [`MAX_INTAKE_CHECK_TIME`].
    ///
    /// # Errors
    /// Why the job cannot be done.
    pub(super) async fn check(
        &self,
        job: Job,
        current: Current,
        deadline: Instant,
    ) -> Result<JobCheck, JobError> {
        let clock = current.services.clock;
        let services = crate::assemble::Services {
            // What is found is counted when the job is done.
            progress: Progress::default(),
            tried: Tried::default(),
            ..current.services
        };
        let run = JobRun::first(job, clock());
        let until = deadline.min(Instant::now() + MAX_INTAKE_CHECK_TIME);
        let at = match services.signing.connections.get(&run.job.from.connection) {
            Some(_) => Some(self.0.checks.at(&run.job.from.connection)),
            // It is refused before a store is asked.
            None => None,
        };
        let checking = async {
            let _place = match &at {
                Some(at) => at.acquire().await.ok(),
                None => None,
            };
            if let Some(outage) = waits_for(&run.job, &services) {
                return Err(outage.into());
            }
            let _turn = self.0.at_once.acquire().await.ok();
            check_job(&run, &services).await
        };
        let reason = match timeout_at(until, Box::pin(checking)).await {
            Ok(Ok(())) => return Ok(JobCheck::Passed),
            Ok(Err(error)) => match error.class() {
                FailureClass::Permanent | FailureClass::Policy => return Err(error),
                FailureClass::Transient
                | FailureClass::Deferred
                | FailureClass::Edge
                | FailureClass::Busy
                | FailureClass::Disk => chain(&error),
            },
            Err(_) => {
                run.stop.cancel();
                format!("it took more than {} s", MAX_INTAKE_CHECK_TIME.as_secs())
            }
        };
        if let Some(not_logged) = self.0.lines.unchecked.due() {
            tracing::info!(
                job.id = %run.job.id,
                reason,
                not_logged,
                "the intake takes a job that it could not check"
            );
        }
        Ok(JobCheck::NotMade)
    }
}
