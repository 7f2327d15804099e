//! From a job to its plan, adjusted to its objects and its mails.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument as _;

use crate::assemble::Services;
use crate::error::JobError;
use crate::failpoint::{self, Failpoint};
use crate::links::listing::{self, Listing};
use crate::plan::expiry::asked_until;
use crate::plan::{self, ExpiryGuard, Plan, PlanError, Shortage, SignerFacts};
use crate::progress::times::TimedStep;
use crate::run::JobRun;

/// Lists the objects of a plan, and adjusts the plan to them.
pub(crate) async fn list(
    run: &JobRun,
    plan: Plan,
    services: &Services,
) -> Result<(Plan, Listing), JobError> {
    let store = &*services.signing.connection(&plan.connection)?.store;
    let knew_the_time = store.skew().is_some();
    let (spool_dir, progress) = (&services.presenting.spool_dir, &services.progress);
    let began = Instant::now();
    let listing = listing::list(&plan, store, spool_dir, &run.stop, progress);
    let listing = Box::pin(listing.instrument(tracing::info_span!("list"))).await?;
    progress.took(TimedStep::List, began);
    failpoint::pass(Failpoint::Listed);
    let plan = settle(run, plan, &listing, knew_the_time, services).await?;
    Ok((plan, listing))
}

/// The plan adjusted to the listing: dated by the store's clock, and with a page of all files if the mails have no room
/// for them.
pub(crate) async fn settle(
    run: &JobRun,
    mut plan: Plan,
    listing: &Listing,
    knew_the_time: bool,
    services: &Services,
) -> Result<Plan, JobError> {
    let store = &services.signing.connection(&plan.connection)?.store;
    // The listing may have been the first response with the store's time.
    if !knew_the_time && store.skew().is_some() {
        plan = plan_of(run, services).await?;
    }
    let skew = store.skew();
    let bounded = |mut plan: Plan| {
        if plan.expiry_guard != ExpiryGuard::Ignore {
            plan.lifetime = plan.lifetime.bounded_by(listing.ends_at, run.now, skew);
        }
        plan
    };
    let plan = bounded(plan);
    let Some(shortage) = Box::pin(services.mail_shortage(&plan, listing, &run.stop)).await? else {
        return Ok(plan);
    };
    let plan = bounded(plan_with(run, Some(shortage), services).await?);
    let (links, shown) = (shortage.links, shortage.shown);
    if let Some(shortage) = Box::pin(services.mail_shortage(&plan, listing, &run.stop)).await? {
        let template = plan.email().map(|_| plan.mail_template().to_owned());
        return Err(PlanError::Unlinked {
            template: template.unwrap_or_default(),
            shortage,
        }
        .into());
    }
    tracing::info!(job.id = %run.job.id, links, shown, "a mail cannot hold all files; publishing and linking a page or list of them");
    Ok(plan)
}

/// Builds the plan of a job, with credentials that last as long as possible.
pub(crate) async fn plan_of(run: &JobRun, services: &Services) -> Result<Plan, JobError> {
    plan_with(run, None, services).await
}

/// Builds the plan of a job, with a page or a list of all files if its mails do not show all of them.
async fn plan_with(
    run: &JobRun,
    shortage: Option<Shortage>,
    services: &Services,
) -> Result<Plan, JobError> {
    let job = &run.job;
    let connection = services.signing.connection(&job.from.connection)?;
    let asked = job
        .links
        .expires_in
        .unwrap_or(services.signing.policy.links.expires_in);
    let mut signer = SignerFacts {
        origin_scope: connection
            .distribution
            .as_ref()
            .map(|distribution| distribution.origin_scope.clone()),
        skew: connection.store.skew(),
        ..SignerFacts::default()
    };
    let needed_until = asked_until(asked, signer.time_there(run.now));
    let of_job = connection.signer_of(&job.id);
    signer.credentials_end = of_job.credentials_end(needed_until).await?;
    let (job, now) = (Arc::clone(job), run.now);
    let (policy, templates) = (
        Arc::clone(&services.signing.policy),
        Arc::clone(&services.presenting.templates),
    );
    // A message may make this long work: heartbeats, probes and signals continue meanwhile.
    let built = tokio::task::spawn_blocking(move || {
        plan::build_with(&job, &policy, &*templates, &signer, shortage, now)
    });
    let mut plan = built.await.map_err(|_| JobError::Panicked)??;
    // Links of the job that have their audit lines are handed out again while they are fresh and a new signature could
    // last as long: the same lifetime gives the same signatures.
    if let Some(issued) = services.recording.issued.lifetime(&run.job.id)
        && issued.is_fresh(run.now)
        && issued.expires_at <= plan.lifetime.expires_at
    {
        plan.lifetime = issued;
    }
    Ok(plan)
}
