//! A job in progress: started, or resumed with the objects and records that it had.

use serde_json::json;

use super::planning::{list, settle};
use super::portal::PortalLinks;
use crate::archive::Archive;
use crate::assemble::Services;
use crate::error::JobError;
use crate::failpoint::{self, Failpoint};
use crate::job::Job;
use crate::ledger::status::is_done;
use crate::ledger::{Created, JobRecords, Kind, Record};
use crate::links::listing::Listing;
use crate::links::saved::{self, ObjectSnapshot};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::run::JobRun;

/// A job in progress: what it hands out and how, and what was done before.
pub(super) struct JobState {
    pub(super) plan: Plan,
    pub(super) listing: Listing,
    pub(super) job_records: JobRecords,
    /// Its ZIPs, once they are made.
    pub(super) archive: Option<Archive>,
    /// The name of the listing in the job's plan.
    pub(super) listing_name: String,
    /// What makes the portal's links, if the portal answers them.
    pub(super) portal: Option<PortalLinks>,
    /// Whether this run created the plan, so that no recipient was served before.
    pub(super) is_first: bool,
    /// Whether the ledger has pages of its objects, beside the plan.
    pub(super) has_pages: bool,
}

impl JobState {
    /// Tells the counters how many links and mails to expect.
    pub(super) fn expect(&self, progress: &Progress) {
        let audiences = self.plan.audiences();
        let readers = audiences.iter().map(|audience| self.plan.readers(audience));
        let mails = readers.map(|readers| readers.len()).sum();
        progress.expects(self.listing.linkable * audiences.len() as u64, mails);
    }
}

/// Starts a job: lists its objects, stores them, and takes the job's id. The process that creates the plan knows that
/// no recipient was served before, and need not read the records.
pub(super) async fn start(
    run: &JobRun,
    plan: Plan,
    services: &Services,
) -> Result<JobState, JobError> {
    let (job, ledger) = (&run.job, &*services.recording.ledger);
    let (plan, listing) = list(run, plan, services).await?;
    let objects = saved::save(&listing, &plan, ledger, &run.stop).await?;
    let body = json!({
        "body_sha256": job.body_sha256,
        "begun_at": run.now,
        "objects": objects,
    });
    let plan_record = Record::new(&job.id, "", 0, Kind::Plan, body);
    let created = ledger.create(plan_record).await?;
    failpoint::pass(Failpoint::Planned);
    match created {
        Created::Ours => {
            run.delivery.got_on();
            Ok(JobState {
                plan,
                listing,
                job_records: JobRecords::default(),
                archive: None,
                has_pages: objects.has_pages(),
                listing_name: objects.listing,
                portal: None,
                is_first: true,
            })
        }
        Created::Theirs(first) => {
            check_body(&run.job, &first)?;
            let of_job = ledger.records_of(&job.id, "").await?;
            resume(run, plan, (&first, &of_job), services).await
        }
    }
}

/// Resumes a job that was started before: with its stored objects, and for the recipients without a final status. `of_job` are the
/// records of the whole job, read before those of its recipients.
pub(super) async fn resume(
    run: &JobRun,
    plan: Plan,
    (first, of_job): (&Record, &[Record]),
    services: &Services,
) -> Result<JobState, JobError> {
    let ledger = &*services.recording.ledger;
    let job_records = JobRecords::after(of_job, ledger.records(&run.job.id).await?);
    let kept = serde_json::from_value::<ObjectSnapshot>(first.body["objects"].clone()).ok();
    let store = &*services.signing.connection(&plan.connection)?.store;
    let knew_the_time = store.skew().is_some();
    let recalled = match &kept {
        Some(kept) => {
            saved::load(
                kept,
                &plan,
                ledger,
                store,
                &services.presenting.spool_dir,
                &run.stop,
            )
            .await?
        }
        None => None,
    };
    let (plan, listing) = match recalled {
        Some(listing) if is_done(job_records.of("")) => (plan, listing),
        Some(listing) => (
            settle(run, plan, &listing, knew_the_time, services).await?,
            listing,
        ),
        None => {
            tracing::warn!(job.id = %run.job.id, "the job's object list is not stored; listing again");
            list(run, plan, services).await?
        }
    };
    Ok(JobState {
        plan,
        listing,
        job_records,
        archive: None,
        is_first: false,
        // Its message may be among them.
        has_pages: true,
        listing_name: kept.map(|kept| kept.listing).unwrap_or_default(),
        portal: None,
    })
}

/// The same id with another body is another job under a taken id.
pub(super) fn check_body(job: &Job, first: &Record) -> Result<(), JobError> {
    match first.body["body_sha256"].as_str() == Some(&job.body_sha256) {
        true => Ok(()),
        false => Err(JobError::Conflict {
            id: job.id.to_string(),
        }),
    }
}
