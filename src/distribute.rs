//! The story of a job, step by step.
//!
//! Plan it and list its objects once, and make its ZIP if it asks for one. Then for each audience: sign a batch, record it, render it; publish the page and
//! the list; mail each recipient without a final status. Work that was done before is not repeated.

mod audiences;
mod batches;
mod before;
mod doubts;
mod edges;
mod finish;
mod mails;
mod parts;
mod payload;
mod planning;
mod portal;
mod state;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use self::audiences::deliver_all;
pub use self::before::{JobBefore, job_before};
pub(crate) use self::doubts::has_no_doubts;
pub use self::doubts::{MAX_JOBS_SEARCHED, OpenDoubt, open_doubts};
use self::edges::{begin, under_lease, until_it_gives_way};
use self::finish::{Ending, comes_too_late, finish, notify, supersede};
pub(crate) use self::parts::first_parts;
pub use self::parts::{
    MAX_CHECKED_ROWS, PartsSoFar, addresses_in_list, all_bad_rows, count_recipients, is_in_parts,
    part_or_job, parts_so_far, recipient_of_job, refused_part, reopen_whole, resend_parts,
};
pub(crate) use self::planning::{list, plan_of, settle};
use self::state::{JobState, check_body, resume, start};
use crate::archive::FinishedZip;
use crate::assemble::Services;
use crate::edge::health::{JobAtEdge, Mailing};
use crate::error::JobError;
use crate::job::WhenEmpty;
use crate::ledger::portal::{PortalJob, PortalZip};
use crate::ledger::status::{is_done, reopenings};
use crate::ledger::{Kind, Record};
use crate::report::{JobReport, MAX_REPORTED};
use crate::run::JobRun;
use crate::text::chain;

/// Runs a job, from its plan to its last mail, and notifies the operator of the recipients it did not reach. A job that says that it is
/// a rehearsal sends all its mails to one address.
pub async fn distribute(run: &JobRun, services: &Services) -> Result<JobReport, JobError> {
    let Some(rehearsal) = &run.job.rehearsal else {
        return distribute_with(run, services).await;
    };
    let mut services = services.clone();
    services.rehearse(rehearsal.clone());
    Box::pin(distribute_with(run, &services)).await
}

async fn distribute_with(run: &JobRun, services: &Services) -> Result<JobReport, JobError> {
    let report = match run.job.is_in_parts() {
        true => in_parts(run, services).await?,
        false => Box::pin(whole(run, services)).await?,
    };
    if report.failed() > 0
        && services.sending.notices.are_wanted()
        && let Err(error) = notify(run, &report, services).await
    {
        tracing::warn!(job.id = %run.job.id, error = chain(&error), "could not send the notice to the operator (mail.notify)");
    }
    Ok(report)
}

/// Runs a job that is not in parts. A rehearsal may be for its first recipients alone.
async fn whole(run: &JobRun, services: &Services) -> Result<JobReport, JobError> {
    let first = services.recording.rehearsed;
    let Some(job) = first.and_then(|most| run.job.of_first(most)) else {
        return Box::pin(enter_and_run(run, false, services)).await;
    };
    // The rules judge all recipients, as they will when the job itself runs.
    plan_of(run, services).await?;
    let run = JobRun {
        job: Arc::new(job),
        ..run.clone()
    };
    Box::pin(enter_and_run(&run, false, services)).await
}

/// Runs a job in parts. The futures of its parts are not in the type of this one.
fn in_parts<'a>(
    run: &'a JobRun,
    services: &'a Services,
) -> BoxFuture<'a, Result<JobReport, JobError>> {
    Box::pin(parts::distribute_parts(run, services))
}

/// Runs a job, or the part of a job that is one recipient's, while it is known at each of its dependencies. `is_new` says that it is
/// known to be new.
async fn enter_and_run(
    run: &JobRun,
    is_new: bool,
    services: &Services,
) -> Result<JobReport, JobError> {
    let at = services.enter(&run.job)?;
    let ran = Box::pin(run_at_edges(run, is_new, &at, services)).await;
    // A failure caused by a dependency that is down comes back when the dependency does.
    let down = || at.iter().find_map(JobAtEdge::outage);
    let audit = || services.recording.audit.edge().outage();
    let denied = || at.iter().find_map(JobAtEdge::denial);
    ran.map_err(|error| match error.is_denial() {
        true => error.or_outage(audit().or_else(down).or_else(denied)),
        false => error.or_outage(audit().or_else(down)),
    })
}

/// Runs a job at the dependencies that it has entered, unless it is done or comes too late. No other process runs it
/// meanwhile.
async fn run_at_edges(
    run: &JobRun,
    is_new: bool,
    at: &[JobAtEdge],
    services: &Services,
) -> Result<JobReport, JobError> {
    let beginning = Box::pin(begin(run, is_new, services)).await?;
    let records = &beginning.records;
    let first = records.iter().find(|record| record.kind == Kind::Plan);
    if let Some(first) = first {
        check_body(&run.job, first)?;
    }
    if is_done(records) {
        return Ok(JobReport::before(records));
    }
    let work = async {
        if first.is_none() && comes_too_late(run, services).await? {
            return supersede(run, services).await;
        }
        run_if_relay_answers(run, first.map(|first| (first, &**records)), at, services).await
    };
    // On the heap: it is large, and each caller's future would reserve the space.
    let work = Box::pin(until_it_gives_way(run, at, services, work));
    under_lease(run, beginning.hold, services, work).await
}

/// Runs a job once its relay has answered: links signed for a silent relay would have audit lines and no mail.
async fn run_if_relay_answers(
    run: &JobRun,
    first: Option<(&Record, &[Record])>,
    at: &[JobAtEdge],
    services: &Services,
) -> Result<JobReport, JobError> {
    {
        // This wait is time at the relay. As time at the store it would take the share of slots of other jobs of the store.
        let _at_relay = Mailing::begin(at);
        services.reach_relay(&run.job).await?;
    }
    let plan = plan_of(run, services).await?;
    let mut state = match first {
        Some(first) => resume(run, plan, first, services).await?,
        None => start(run, plan, services).await?,
    };
    if is_done(state.job_records.of("")) {
        return Ok(JobReport::before(state.job_records.of("")));
    }
    let kept = portal::find(run, &state, services).await?;
    let is_kept = |job: &PortalJob| job.zips.zips.iter().any(PortalZip::is_streamed);
    // A ZIP that is stored nowhere is in the portal's records, and its files are not read again.
    if !kept.as_ref().is_some_and(is_kept) {
        state.archive = services.archive(run, &state.plan, &state.listing).await?;
    }
    portal::prepare(run, &mut state, kept, services).await?;
    state.expect(&services.progress);
    hand_out(run, &state, at, services).await
}

/// Hands the objects out, logs where pages and lists are, and records the end of the job.
async fn hand_out(
    run: &JobRun,
    state: &JobState,
    at: &[JobAtEdge],
    services: &Services,
) -> Result<JobReport, JobError> {
    let (plan, listing) = (&state.plan, &state.listing);
    let mut report = JobReport {
        reopenings: reopenings(state.job_records.of("")),
        unavailable: listing.unavailable,
        missing: listing.missing,
        expires_at: Some(plan.lifetime.expires_at),
        ..JobReport::default()
    };
    let mut ending = Ending {
        is_certain: state.is_first,
        has_pages: state.has_pages,
    };
    if listing.has_no_files(plan) && plan.when_empty == WhenEmpty::Skip {
        // Keys of a recipient's own that do not exist are no files that the job lost.
        (report.unavailable, report.missing) = (0, 0);
    } else {
        ending.is_certain &= deliver_all(run, state, at, services, &mut report).await?;
        let publishing = services.publishing(run, plan, state.archive.as_ref());
        for audience in plan.audiences().iter().take(MAX_REPORTED) {
            let places = publishing.places(listing, audience)?;
            report.galleries.extend(places.gallery);
            report.manifests.extend(places.manifest);
        }
        let zips = state.archive.iter().flat_map(|archive| &archive.zips);
        report.zips = zips.filter_map(FinishedZip::place).collect();
    }
    finish(run, &report, ending, services).await?;
    Ok(report)
}
