//! The audiences of a job: links, page and mails of each.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::batches::{BATCHES_AHEAD, BatchSender, PictureParts, batches, gather, with};
use super::mails::{To, mail, patience};
use super::state::JobState;
use crate::assemble::Services;
use crate::deliver::{DeliverError, DeliveryResult, PutOff};
use crate::edge::health::{JobAtEdge, Mailing};
use crate::error::{FailureClass, JobError};
use crate::failpoint::{self, Failpoint};
use crate::job::{OnDoubt, Recipient};
use crate::ledger::{JobRecords, MAX_DOUBTS, Outcome, RecipientStatus};
use crate::plan::{Audience, Plan};
use crate::progress::times::TimedStep;
use crate::progress::{MailEnd, is_milestone};
use crate::render::email::Digest;
use crate::report::JobReport;
use crate::run::JobRun;
use crate::run::lanes::Lanes;

/// The report of one audience.
struct AudienceReport {
    links: u64,
    /// How many files a mail shows, if it leads to no others.
    shown: Option<u64>,
    turns: Vec<RecipientEnd>,
}

/// A recipient and the result of the delivery.
type RecipientEnd = (Arc<Recipient>, Result<DeliveryResult, JobError>);

/// Serves each audience, several at once; an audience that cannot be served now does not block the others. Returns whether every mail was
/// accepted in this run, so that no verdict can come.
///
/// A delivery is never cut off for another's failure: a mail cut off in its last step would be in doubt.
pub(super) async fn deliver_all(
    run: &JobRun,
    state: &JobState,
    at: &[JobAtEdge],
    services: &Services,
    delivered: &mut JobReport,
) -> Result<bool, JobError> {
    let plan = &state.plan;
    let loader = services.loader(plan, &run.stop)?;
    let mut renditions = services.renditions(run, plan)?;
    if let Some(portal) = &state.portal {
        renditions = portal.tell_of(renditions, services);
    }
    let parts = PictureParts {
        loader: &loader,
        renditions: &renditions,
    };
    let lanes = Lanes::new(services.at_once);
    // A part is one of the recipients of its job.
    let of_mails = run.lanes.as_deref().unwrap_or(&lanes);
    let (mut failed, mut are_certain) = (Vec::new(), true);
    let work = |audience| serve(run, state, parts, audience, (at, of_mails), services);
    let end = |turn: Result<AudienceReport, JobError>| {
        match turn {
            Ok(served) => {
                delivered.links += served.links;
                delivered.shown = delivered.shown.into_iter().chain(served.shown).min();
                for (reader, turn) in served.turns {
                    match turn {
                        Ok(turn) => {
                            are_certain &= is_certain(&turn);
                            delivered.count(turn.outcome(), || services.recording.rid(&reader));
                        }
                        Err(error) => failed.push(error),
                    }
                }
            }
            Err(error) => failed.push(error),
        }
        if failed
            .iter()
            .any(|error| error.class() == FailureClass::Disk)
        {
            run.stop.cancel();
        }
    };
    lanes.run(plan.audiences(), domain_of, work, end).await;
    delivered.pictures_without_renditions = renditions.pictures_without().await;
    match JobError::deferred(failed) {
        None => Ok(are_certain),
        Some(JobError::Deferred { first, .. }) if is_of_the_job(&first) => Err(*first),
        Some(error) => Err(error),
    }
}

/// Whether an error belongs to the job, however many recipients met it.
fn is_of_the_job(error: &JobError) -> bool {
    matches!(error, JobError::Stopped(_) | JobError::Aged(_)) || error.class() == FailureClass::Disk
}

/// Serves one audience: its links, its page and list, its mails.
async fn serve(
    run: &JobRun,
    state: &JobState,
    parts: PictureParts<'_>,
    audience: Audience,
    (at, of_mails): (&[JobAtEdge], &Lanes),
    services: &Services,
) -> Result<AudienceReport, JobError> {
    let JobState {
        plan,
        listing,
        job_records,
        archive,
        portal,
        ..
    } = state;
    let readers = plan.readers(&audience);
    let (waiting, turns) = pending_recipients(plan, job_records, &readers, services).await?;
    let mut served = AudienceReport {
        links: 0,
        shown: None,
        turns,
    };
    if waiting.is_empty() && !readers.is_empty() {
        return Ok(served);
    }
    let signing = match portal {
        Some(portal) => portal.link_signer(&audience, services),
        None => services.signing.link_signer(plan).await?,
    };
    let publishing = services.publishing(run, plan, archive.as_ref());
    let mut publication = publishing.begin(listing, &audience).await?;
    let mut digest = Digest::new(plan);
    let (room, mut gathered): (BatchSender, _) = mpsc::channel(BATCHES_AHEAD);
    let gather = gather(
        batches(run, state, parts, &audience, &signing, services, &room),
        &room,
    );
    let show = async {
        while let Some(batch) = gathered.recv().await {
            let Some((batch, pictures, renditions)) = batch? else {
                break;
            };
            let before = served.links;
            served.links += batch.links().len() as u64;
            if is_milestone(before, served.links) {
                let (links, of) = (served.links, listing.linkable);
                tracing::info!(job.id = %run.job.id, links, of, "links signed and recorded");
            }
            // A job without recipients needs no mail, even for a million links.
            if !waiting.is_empty() {
                digest.push(&batch);
            }
            let began = Instant::now();
            publication.push(&batch, &pictures, &renditions).await?;
            if publication.has_pages() {
                services.progress.took(TimedStep::RenderPages, began);
            }
            publication.put_full().await?;
        }
        Ok::<_, JobError>(())
    };
    with(gather, show).await?;
    let published = publication.finish();
    let publishing = tracing::info_span!("publish");
    let mut published = Box::pin(published.instrument(publishing)).await?;
    if let Some(portal) = portal {
        published.gallery_url = portal.page(run, plan, &audience, services).await?;
        let zips = portal.zips(run, plan, &audience, services).await?;
        // Those that a web server serves have their links.
        if !zips.zips.is_empty() {
            published.zips = zips;
        }
    }
    failpoint::pass(Failpoint::Published);
    let mailing = async |(reader, n): Pending, lanes: &Lanes| {
        let to = To {
            reader: &reader,
            n,
            patience: patience(run, plan, job_records),
            lanes,
        };
        let mut shown = None;
        let _at_relay = Mailing::begin(at);
        let turn = mail(run, plan, &digest, &published, to, &mut shown, services);
        let rid = services.recording.rid(&reader);
        let span = tracing::info_span!("mail", recipient.rid = rid);
        let turn = turn.instrument(span).await;
        if let Some(end) = end_of(&turn) {
            services.progress.mailed(end);
        }
        (shown, (reader, turn))
    };
    // Recipients who share their links have lanes of their own. A single one has that of the audience.
    let shared = Lanes::new(services.at_once);
    let lanes = if waiting.len() > 1 { &shared } else { of_mails };
    let end = |(shown, turn)| {
        served.shown = served.shown.into_iter().chain(shown).min();
        served.turns.push(turn);
    };
    shared
        .run(waiting, domain_of_pending, |to| mailing(to, lanes), end)
        .await;
    Ok(served)
}

/// The domain of an audience of one recipient.
fn domain_of(audience: &Audience) -> Option<&str> {
    audience.recipient().map(|reader| reader.address.domain())
}

fn domain_of_pending((reader, _): &Pending) -> Option<&str> {
    Some(reader.address.domain())
}

/// How an attempt at a mail ended, if it was made in this run.
const fn end_of(turn: &Result<DeliveryResult, JobError>) -> Option<MailEnd> {
    let outcome = match turn {
        Ok(DeliveryResult::Ended(outcome) | DeliveryResult::EndedLate(outcome)) => outcome,
        Ok(DeliveryResult::EndedBefore(_)) => return None,
        Err(_) => return Some(MailEnd::Deferred),
    };
    Some(match outcome {
        Outcome::Accepted { .. } => MailEnd::Accepted,
        Outcome::Rejected { .. } => MailEnd::Rejected,
        Outcome::Unknown { .. } => MailEnd::Unknown,
        Outcome::NotSent { .. } => MailEnd::Deferred,
        Outcome::Suppressed { .. } => MailEnd::Suppressed,
    })
}

/// Whether the mail was accepted in this run, and its outcome is recorded as its owner saw it: no verdict about it can come.
const fn is_certain(turn: &DeliveryResult) -> bool {
    matches!(turn, DeliveryResult::Ended(Outcome::Accepted { .. }))
}

/// A recipient who waits for a mail, and the number of the next attempt.
type Pending = (Arc<Recipient>, u32);

/// Separates the recipients who still wait for their mail from those whose delivery has ended.
async fn pending_recipients(
    plan: &Plan,
    job_records: &JobRecords,
    readers: &[Arc<Recipient>],
    services: &Services,
) -> Result<(Vec<Pending>, Vec<RecipientEnd>), JobError> {
    let mut waiting = Vec::new();
    let mut turns = Vec::new();
    for reader in readers {
        let masked = reader.masked();
        let found = services
            .recording
            .look::<JobError>(&plan.job.id, job_records, reader, plan.on_doubt)
            .await?;
        let turn = match found {
            RecipientStatus::Ready { n } => {
                let rid = services.recording.rid(reader);
                // On the heap: each job's future would reserve the space.
                let suppressed = Box::pin(services.suppressed(&plan.job, &rid)).await?;
                if let Some(suppressed) = suppressed {
                    let recording = &services.recording;
                    let recorded =
                        recording.suppress::<JobError>(&plan.job.id, &rid, n, &suppressed);
                    let outcome = Box::pin(recorded).await?;
                    services.progress.mailed(MailEnd::Suppressed);
                    turns.push((Arc::clone(reader), Ok(DeliveryResult::Ended(outcome))));
                    continue;
                }
                let mailer = &services.sending.mailer;
                match mailer.put_off(&plan.relay, &plan.job.id, &rid, reader) {
                    Some(PutOff::Recipient(error)) => Err(error.into()),
                    Some(PutOff::Relay { outage, after }) => Err(JobError::Spared {
                        outage: Box::new(outage),
                        after,
                    }),
                    None => {
                        waiting.push((Arc::clone(reader), n));
                        continue;
                    }
                }
            }
            RecipientStatus::Final { outcome, .. } => Ok(DeliveryResult::EndedBefore(outcome)),
            RecipientStatus::InFlight { n } => Err(DeliverError::Taken { masked, n }.into()),
            RecipientStatus::InDoubt { doubts, .. }
                if plan.on_doubt == OnDoubt::Resend && doubts >= MAX_DOUBTS =>
            {
                let attempts = doubts;
                Err(DeliverError::Exhausted { masked, attempts }.into())
            }
            RecipientStatus::InDoubt { .. } => Ok(DeliveryResult::EndedBefore(Outcome::held())),
        };
        turns.push((Arc::clone(reader), turn));
    }
    Ok((waiting, turns))
}
