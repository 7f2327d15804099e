//! Forgets the jobs whose links have ended long ago.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{
    ChangeKind, ChangeTarget, PORTAL_PAGE, PortalJob, PortalLedger, folder_of, job_name, mine_name,
};
use crate::job::JobId;
use crate::ledger::LedgerError;
use crate::portal_token::JobRef;

/// Where the references of all jobs are.
const OF_JOBS: &str = "of/";

impl PortalLedger {
    /// Forgets the people, the objects, the renditions and the files of ZIPs of the jobs whose links ended before an instant, moved ends included; returns the number
    /// of jobs. The short record of a job stays, so that its links still say when they ended, and so do revocations.
    ///
    /// # Errors
    /// A record could not be read or deleted; a later call goes on.
    pub async fn forget_ended(&self, before: Timestamp) -> Result<usize, LedgerError> {
        let ended = self.ended(before).await?;
        let mut forgotten = 0;
        for reference in ended {
            // Another call may have forgotten it.
            if let Some(job) = self.get::<PortalJob>(&job_name(reference)).await? {
                self.forget_job(reference, &job).await?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// How many jobs [`Self::forget_ended`] would forget.
    ///
    /// # Errors
    /// A record could not be read.
    pub async fn count_ended(&self, before: Timestamp) -> Result<usize, LedgerError> {
        Ok(self.ended(before).await?.len())
    }

    /// The jobs whose links ended before an instant.
    async fn ended(&self, before: Timestamp) -> Result<Vec<JobRef>, LedgerError> {
        let moved = self.moved_ends().await?;
        let mut ended = Vec::new();
        for name in self.records.all_names(OF_JOBS).await? {
            let reference: Option<JobRef> = name
                .rsplit_once('/')
                .and_then(|(_, reference)| reference.parse().ok());
            let Some(reference) = reference else { continue };
            let Some(job) = self.get::<PortalJob>(&job_name(reference)).await? else {
                // It is being made.
                continue;
            };
            let moved = moved.get(&job.job).filter(|end| end.means(reference));
            if moved.map_or(job.ends_at, |end| end.until) < before {
                ended.push(reference);
            }
        }
        Ok(ended)
    }

    /// What finds the job goes last: a call that is interrupted is taken up by the next one.
    async fn forget_job(&self, reference: JobRef, job: &PortalJob) -> Result<(), LedgerError> {
        for page in 0..job.people.div_ceil(PORTAL_PAGE) {
            let people = self.people(reference, page).await?.unwrap_or_default();
            let names = people
                .iter()
                .map(|person| mine_name(&person.rid, reference, job.ends_at));
            self.records.delete(names.collect()).await?;
        }
        // All that is below the job but its own record, so that no kind of record is left behind.
        let short = job_name(reference);
        let below = format!("job/{reference}/");
        let names = self.records.all_names(&below).await?.into_iter();
        let names = names.map(|name| format!("{below}{name}"));
        let names = names.filter(|name| *name != short);
        self.records.delete(names.collect()).await?;
        let of = format!("{OF_JOBS}{}/{reference}", folder_of(&job.job));
        self.records.delete(vec![of]).await
    }

    /// The last moved end of each job.
    async fn moved_ends(&self) -> Result<HashMap<JobId, LastEnd>, LedgerError> {
        let mut ends = HashMap::new();
        for change in self.changes().await? {
            if let (ChangeKind::Moved { until }, ChangeTarget::Job { job }) =
                (change.kind, change.target)
            {
                let refs = change.refs;
                ends.insert(job, LastEnd { until, refs });
            }
        }
        Ok(ends)
    }
}

/// A moved end, and of which records of the job; of all, if none is named.
struct LastEnd {
    until: Timestamp,
    refs: Vec<JobRef>,
}

impl LastEnd {
    fn means(&self, reference: JobRef) -> bool {
        self.refs.is_empty() || self.refs.contains(&reference)
    }
}
