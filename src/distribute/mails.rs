//! One recipient's mail: rendered and delivered when it has a permit.

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::batches::may_go_on;
use crate::assemble::Services;
use crate::deliver::{self, DeliveryAttempt, DeliveryResult, RetryWindow};
use crate::error::JobError;
use crate::job::{EmailOrder, Overflow, Recipient};
use crate::ledger::{JobRecords, Kind, Record};
use crate::plan::{Plan, PlanError, Shortage};
use crate::progress::times::TimedStep;
use crate::publication;
use crate::quantity::Span;
use crate::render::email::{Digest, MailRequest, RenderedDigest};
use crate::run::JobRun;
use crate::run::lanes::Lanes;

/// The retry window of a mail that a relay defers: as long as the links live, within these bounds.
const MIN_PATIENCE: Span = Span::minutes(15);

const MAX_PATIENCE: Span = Span::hours(24);

/// Whether a deferred mail is retried: the job was started, or reopened, not too long ago.
pub(super) fn patience(run: &JobRun, plan: &Plan, job_records: &JobRecords) -> RetryWindow {
    let is_begin = |record: &&Record| matches!(record.kind, Kind::Plan | Kind::Reopened);
    let begins = job_records
        .of("")
        .iter()
        .filter(is_begin)
        .filter_map(|record| {
            let at = record.body.get("begun_at").or(record.body.get("at"))?;
            at.as_str()?.parse::<Timestamp>().ok()
        });
    let Some(begun_at) = begins.max() else {
        return RetryWindow::Left;
    };
    let life = plan
        .lifetime
        .expires_at
        .duration_since(plan.lifetime.signed_at);
    let life = Span::seconds(u64::try_from(life.as_secs()).unwrap_or_default());
    let longest = life.clamp(MIN_PATIENCE, MAX_PATIENCE);
    let waited = run.now.duration_since(begun_at);
    match u64::try_from(waited.as_secs()).unwrap_or_default() >= longest.as_secs() {
        true => RetryWindow::Over,
        false => RetryWindow::Left,
    }
}

/// A reader whose mail is next.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) reader: &'a Recipient,
    pub(super) n: u32,
    pub(super) patience: RetryWindow,
    /// The lanes of the job.
    pub(super) lanes: &'a Lanes,
}

/// Renders one reader's mail and delivers it, once it has a permit.
pub(super) async fn mail(
    run: &JobRun,
    plan: &Plan,
    digest: &Digest,
    published: &publication::Published,
    to: To<'_>,
    shown: &mut Option<u64>,
    services: &Services,
) -> Result<DeliveryResult, JobError> {
    let (job, reader, mailer) = (&plan.job.id, to.reader, &services.sending.mailer);
    let receiver = services.sending.sender.receiver(reader);
    let domain = reader.address.domain();
    let place = run.stop.or(to.lanes.place(domain)).await?;
    let way = run
        .stop
        .or(mailer.turn(&plan.relay, job, receiver))
        .await??;
    let letter = MailRequest {
        plan,
        digest,
        recipient: reader,
        gallery_url: published.gallery_url.as_ref(),
        manifest_url: published.manifest_url.as_ref(),
        zips: Some(&published.zips),
        settings: &services.presenting.mail,
    };
    let began = Instant::now();
    let rendering = tracing::info_span!("render");
    let built = rendering
        .in_scope(|| crate::render::email::build(&services.presenting.templates, &letter))?;
    services.progress.took(TimedStep::RenderMail, began);
    check_reach(plan, &built, shown)?;
    may_go_on(run, plan, services)?;
    let letter = services
        .sending
        .sender
        .letter(&plan.job, reader, built.mail, run.now);
    let delivery = DeliveryAttempt {
        job,
        recipient: reader,
        n: to.n,
        on_doubt: plan.on_doubt,
        patience: to.patience,
    };
    let may_go_on = || {
        may_go_on(run, plan, services)?;
        let commitment = run.stop.commit()?;
        // Attempts at a recipient are numbered and few, so a job cannot make progress in this way for ever.
        run.delivery.got_on();
        Ok(commitment)
    };
    let began = Instant::now();
    let delivered = deliver::deliver(
        &letter,
        &delivery,
        way,
        mailer,
        &services.recording,
        may_go_on,
    );
    let delivered = delivered.instrument(tracing::info_span!("deliver"));
    let delivered = to.lanes.deliver(domain, place, delivered).await;
    services.progress.took(TimedStep::Deliver, began);
    delivered
}

/// Rejects a mail that does not lead to all files, unless the job wants a summary; `shown` is then the smallest number
/// of files that a mail shows.
///
/// The trial rendering finds such a job before its links are recorded, unless a mail grew since.
fn check_reach(
    plan: &Plan,
    built: &RenderedDigest,
    shown: &mut Option<u64>,
) -> Result<(), PlanError> {
    if built.reaches_all() {
        return Ok(());
    }
    let summarizes = |email: &EmailOrder| email.overflow == Overflow::Summarize;
    if !plan.email().is_some_and(summarizes) {
        return Err(PlanError::NoRoom(Shortage {
            links: built.shown + built.more,
            shown: built.shown,
        }));
    }
    *shown = Some(shown.map_or(built.shown, |fewest| fewest.min(built.shown)));
    Ok(())
}
