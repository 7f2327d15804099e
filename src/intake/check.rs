//! The check of a job before it is put on the queue, as `handout job submit` makes it.

use tokio::time::{Instant, timeout_at};

use super::{Current, Intake};
use crate::bounds::MAX_INTAKE_CHECK_TIME;
use crate::error::{FailureClass, JobError};
use crate::job::Job;
use crate::mail_trial::Tried;
use crate::preview::check_job;
use crate::progress::Progress;
use crate::run::JobRun;
use crate::text::chain;

/// Whether a job was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobCheck {
    /// It can be done, as far as a preview can tell.
    Passed,
    /// The store or another dependency did not answer in time; the worker finds out.
    NotMade,
}

impl Intake {
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
        let checking = check_job(&run, &services);
        let until = deadline.min(Instant::now() + MAX_INTAKE_CHECK_TIME);
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
