//! The links of an audience, signed and recorded batch by batch.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::stream::{self, Stream};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::state::JobState;
use crate::assemble::Services;
use crate::audit::AuditedLinks;
use crate::audit::record::LinkKind;
use crate::error::JobError;
use crate::failpoint::{self, Failpoint};
use crate::links::listing;
use crate::links::{self, LinkSigner, Links};
use crate::media::{PageRenditions, PictureLoader, Pictures};
use crate::plan::{Aged, Audience, Plan};
use crate::progress::times::TimedStep;
use crate::renditions::RenditionMaker;
use crate::run::JobRun;

/// How many batches are written to the disk at once: two keep both the processor and the disk busy.
const BATCHES_AT_ONCE: usize = 2;

/// How many batches are ahead of the one being rendered: one more is being signed.
pub(super) const BATCHES_AHEAD: usize = BATCHES_AT_ONCE + 1;

/// Links that may be rendered, what is known of the pictures among them, and the links to their renditions.
type LinkBatch = (AuditedLinks, Arc<Pictures>, PageRenditions);

/// What knows the pictures of a job, and what makes their renditions.
#[derive(Clone, Copy)]
pub(super) struct PictureParts<'a> {
    pub(super) loader: &'a PictureLoader<'a>,
    pub(super) renditions: &'a RenditionMaker<'a>,
}

/// The channel of batches that wait to be rendered, and a slot in it.
pub(super) type BatchSender = mpsc::Sender<Result<Option<LinkBatch>, JobError>>;

type BatchSlot<'a> = mpsc::Permit<'a, Result<Option<LinkBatch>, JobError>>;

/// Signs and records the links of an audience, and sends each batch on; `None` marks the end.
pub(super) async fn gather(
    batches: impl Stream<Item = Result<(BatchSlot<'_>, LinkBatch), JobError>> + Send,
    room: &BatchSender,
) {
    let mut batches = pin!(batches);
    let end = loop {
        match batches.next().await {
            Some(Ok((place, batch))) => place.send(Ok(Some(batch))),
            Some(Err(error)) => break Err(error),
            None => break Ok(None),
        }
    };
    // The receiver is gone if rendering has failed; that error is returned then.
    drop(room.send(end).await);
}

/// Signs and records the links of an audience, batch by batch, in the order of the listing. While the lines of one
/// batch are being written to the disk, the next is signed.
///
/// A batch reserves its slot in `room` before it is started. So every started batch can complete, however long the
/// batches before it take: requests for pictures have a time limit, and other jobs wait for slots in the log's queue.
pub(super) fn batches<'a>(
    run: &'a JobRun,
    state: &'a JobState,
    parts: PictureParts<'a>,
    audience: &'a Audience,
    signing: &'a LinkSigner,
    services: &'a Services,
    room: &'a BatchSender,
) -> impl Stream<Item = Result<(BatchSlot<'a>, LinkBatch), JobError>> + Send + 'a {
    let signed = stream::try_unfold((0, 0), move |(number, first)| async move {
        let Ok(place) = room.reserve().await else {
            return Ok(None);
        };
        let PictureParts { loader, renditions } = parts;
        let Some(page) = state.listing.page(number)? else {
            renditions.has_all_pages().await;
            return Ok(None);
        };
        let pictures = loader.page(number, &page).await;
        let next = first + u32::try_from(page.len()).unwrap_or(u32::MAX);
        let made = renditions.page(number, (first, &page), &pictures).await?;
        let links = sign(run, &state.plan, (first, page), audience, signing, services);
        let links = links.instrument(tracing::info_span!("sign")).await?;
        let recorded = async move {
            let links = record(run, &state.plan, links, services);
            let links = links.instrument(tracing::info_span!("record")).await?;
            let linked = renditions.linked(number, &made, audience).await?;
            Ok((place, (links, pictures, linked)))
        };
        Ok::<_, JobError>(Some((recorded, (number + 1, next))))
    });
    signed.try_buffered(BATCHES_AT_ONCE)
}

/// Runs `work` while `beside`, which serves it, runs for as long.
pub(super) async fn with<T>(beside: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    match select(pin!(work), pin!(beside)).await {
        Either::Left((done, _)) => done,
        Either::Right(((), work)) => work.await,
    }
}

/// Signs a page whose first entry is at this place of the listing.
async fn sign(
    run: &JobRun,
    plan: &Plan,
    (first, page): (u32, Vec<listing::Entry>),
    audience: &Audience,
    signing: &LinkSigner,
    services: &Services,
) -> Result<Links, JobError> {
    may_go_on(run, plan, services)?;
    let rate = &services.signing.connection(&plan.connection)?.link_rate;
    run.stop.or(rate.pass(page.len())).await?;
    let began = Instant::now();
    let links = if signing.is_slow() {
        // On the heap: the future would reserve the space in every job, and few jobs need it.
        Box::pin(sign_aside(plan, page, audience, signing)).await?
    } else {
        links::sign(plan, page, first, audience, signing)?
    };
    services.progress.took(TimedStep::Sign, began);
    failpoint::pass(Failpoint::Signed);
    Ok(links)
}

/// Records a batch: from here on its links may be rendered.
async fn record(
    run: &JobRun,
    plan: &Plan,
    links: Links,
    services: &Services,
) -> Result<AuditedLinks, JobError> {
    may_go_on(run, plan, services)?;
    let recording = &services.recording;
    let role = services.signing.role(&run.job.from.connection);
    let context = run.context(LinkKind::Object, role, &recording.names);
    // Lines that were written and not noted as issued would be written again by the next attempt.
    let _writing = run.stop.commit()?;
    let began = Instant::now();
    let audited = recording
        .issued
        .record(links, &context, &recording.audit)
        .await?;
    services.progress.took(TimedStep::Record, began);
    failpoint::pass(Failpoint::Recorded);
    services.progress.issued(audited.links().len());
    Ok(audited)
}

/// Signs a long batch for a distribution on a blocking thread: heartbeats and other jobs continue meanwhile.
async fn sign_aside(
    plan: &Plan,
    page: Vec<listing::Entry>,
    audience: &Audience,
    signing: &LinkSigner,
) -> Result<Links, JobError> {
    let (plan, audience, signing) = (plan.clone(), audience.clone(), signing.clone());
    let signed =
        tokio::task::spawn_blocking(move || links::sign(&plan, page, 0, &audience, &signing));
    Ok(signed.await.map_err(|_| JobError::Panicked)??)
}

/// Called before each irreversible step: whether the run shall continue, and whether its links still live as long as
/// the mail will say.
pub(super) fn may_go_on(run: &JobRun, plan: &Plan, services: &Services) -> Result<(), JobError> {
    run.stop.check()?;
    if !plan.lifetime.is_fresh((services.clock)()) {
        return Err(Aged.into());
    }
    Ok(())
}
