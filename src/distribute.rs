//! The steps of a job, in order, and nothing else.
//!
//! Plan it, list its objects once, and then for each audience: sign a batch, record it, show it; publish the
//! page and the list; mail those who were not mailed yet. Whoever was served before stays served.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::stream::{self, Stream};
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use crate::audit::AuditedLinks;
use crate::audit::record::{Context, Kind as LineKind};
use crate::deliver::notice::Notice;
use crate::deliver::{self, DeliverError, Errand, Patience, Turn};
use crate::edge::health::{JobAtEdge, Mailing};
use crate::error::{Class, JobError, chain};
use crate::failpoint::{self, Failpoint};
use crate::job::occurrence::Occurrence;
use crate::job::{EmailOrder, Job, OnDoubt, Overflow, Recipient, WhenEmpty};
use crate::ledger::lease::{self, Taken};
use crate::ledger::standing::{is_done, last_done, reopenings};
use crate::ledger::{Created, Kind, MAX_DOUBTS, Outcome, Record, Sheet, Standing};
use crate::links::kept::{self, Kept};
use crate::links::listing::{self, Listing};
use crate::links::{self, Audience, Links, Signing};
use crate::mail_trial;
use crate::media::{Album, Pictures};
use crate::plan::expiry::asked_until;
use crate::plan::{self, Aged, ExpiryGuard, Plan, PlanError, Shortage, SignerFacts};
use crate::progress::is_milestone;
use crate::publication::{self, Publication};
use crate::quantity::Span;
use crate::render::email::{Digest, Drawn, Letter};
use crate::stop::{Stop, Stopped};
use crate::tools::Tools;
use crate::worker::delivery::Delivery;

/// A job and the message that brought it.
#[derive(Debug, Clone)]
pub struct Order {
    /// The job.
    pub job: Arc<Job>,
    /// The message's id, if it came in one.
    pub message_id: Option<String>,
    /// How often the message was received.
    pub attempt: u32,
    /// The instant at which this attempt began.
    pub now: Timestamp,
    /// Heeded before each step that cannot be undone.
    pub stop: Stop,
    /// Told when the job gets on, so that the deaths of its workers are counted anew.
    pub delivery: Delivery,
}

/// How many batches are on their way to the disk at once: two keep both the processor and the disk busy.
const BATCHES_AT_ONCE: usize = 2;

/// How many batches are ahead of the one that is shown: one more is being signed.
const BATCHES_AHEAD: usize = BATCHES_AT_ONCE + 1;

/// How many places and recipients a result names; more of them are only counted.
const MOST_TOLD: usize = 100;

/// What a job came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delivered {
    /// Whether all of it had been done before.
    #[serde(skip_deserializing)]
    pub done_before: bool,
    /// How often the job had been reopened: the number of its `done`.
    #[serde(skip)]
    pub reopenings: u32,
    /// Whether nothing was handed out since a later event of the same key had been served.
    pub superseded: bool,
    /// How many links were made at the last attempt.
    pub links: u64,
    /// How many objects could not be linked.
    pub unavailable: u64,
    /// Until when the links of the last attempt work.
    pub expires_at: Option<Timestamp>,
    /// Mails that the relay took.
    pub accepted: u64,
    /// Mails that it will never take.
    pub rejected: u64,
    /// Mails of which nobody knows, and which are not sent again.
    pub unknown: u64,
    /// Recipients without a mail that was accepted; at most a hundred.
    pub without_mail: Vec<WithoutMail>,
    /// How many files the shortest of the last attempt's mails shows, where mails lead to fewer than all
    /// (`email.overflow = "summarize"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<u64>,
    /// Where pages are; at most a hundred.
    pub galleries: Vec<String>,
    /// Where lists are; at most a hundred.
    pub manifests: Vec<String>,
}

/// A recipient without a mail that was accepted, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithoutMail {
    /// The recipient's id, as in the audit log and the ledger.
    pub rid: String,
    /// What became of the mail, and the relay's words.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// For how long a relay that says "later" about a mail is asked again: as long as the links live, within these.
const SHORTEST_PATIENCE: Span = Span::minutes(15);
const LONGEST_PATIENCE: Span = Span::hours(24);

/// Does a job, from its plan to its last mail, and tells the operator whom it did not reach.
pub async fn distribute(order: &Order, tools: &Tools) -> Result<Delivered, JobError> {
    let delivered = hand_out(order, tools).await?;
    if delivered.failed() > 0
        && tools.notices.are_wanted()
        && let Err(error) = notify(order, &delivered, tools).await
    {
        tracing::warn!(job.id = %order.job.id, error = chain(&error), "could not tell the operator (mail.notify)");
    }
    Ok(delivered)
}

/// Does a job; nobody else who lives does it meanwhile.
async fn hand_out(order: &Order, tools: &Tools) -> Result<Delivered, JobError> {
    let at = tools.enter(&order.job)?;
    let handed_out = Box::pin(at_edges(order, &at, tools)).await;
    // What failed because an edge is down comes back when the edge does.
    let down = || at.iter().find_map(JobAtEdge::outage);
    handed_out.map_err(|error| error.or_outage(tools.books.audit.edge().outage().or_else(down)))
}

/// Does a job that has begun at each of its edges.
async fn at_edges(order: &Order, at: &[JobAtEdge], tools: &Tools) -> Result<Delivered, JobError> {
    let (job, books, stop) = (&order.job.id, &tools.books, &order.stop);
    let records = stop.or(books.ledger.records_of(job, "")).await??;
    let first = records.iter().find(|record| record.kind == Kind::Plan);
    if let Some(first) = first {
        check_body(order, first)?;
    }
    if is_done(&records) {
        return Ok(Delivered::before(&records));
    }
    if first.is_none() && comes_too_late(order, tools).await? {
        return supersede(order, tools).await;
    }
    // On the heap: it is large, and whoever runs a job would hold room for it.
    let work = Box::pin(async {
        let mut work = pin!(stop.cut(work_if_relay_answers(order, first, at, tools)));
        tokio::select! {
            worked = &mut work => worked?,
            outage = tools.gives_way(at, &order.delivery) => {
                stop.ask();
                let ended = match work.as_mut().now_or_never() {
                    Some(ended) => ended,
                    // A mail is between its intent and its outcome: it is waited for, and others have the slot.
                    None => {
                        order.delivery.give_slot_back();
                        work.await
                    }
                };
                match ended {
                    // It came to its end all the same.
                    Ok(Ok(delivered)) => Ok(delivered),
                    Ok(Err(error)) if !error.is_stopped() => Err(error),
                    Ok(Err(_)) | Err(Stopped) => Err(outage.into()),
                }
            }
        }
    });
    let Some(leases) = books.ledger.leases() else {
        return work.await;
    };
    match stop.or(lease::take(leases, job, &books.owner)).await?? {
        Taken::Busy { left } => Err(JobError::Busy { left }),
        Taken::Held(mut hold) => {
            failpoint::pass(Failpoint::Leased);
            let worked = hold.hold_while(work, &order.stop).await;
            hold.release().await;
            worked
        }
    }
}

/// Whether a later event of the same key was served: what this one is about is not there any more.
async fn comes_too_late(order: &Order, tools: &Tools) -> Result<bool, JobError> {
    let Some(occurrence) = &order.job.occurrence else {
        return Ok(false);
    };
    let records = tools.books.ledger.records(&occurrence.series).await?;
    // A message may bring a job of the series' name, whose mails say nothing of an event.
    let mut served = records.iter().filter(|record| record.kind == Kind::Served);
    Ok(served.any(|record| occurrence.is_older_than(&record.rid, &record.body)))
}

/// Ends a job that comes too late, for good.
async fn supersede(order: &Order, tools: &Tools) -> Result<Delivered, JobError> {
    let delivered = Delivered {
        superseded: true,
        ..Delivered::default()
    };
    conclude(order, &delivered, tools).await?;
    Ok(delivered)
}

/// Works a job once its relay has answered: what is signed for a relay that is silent has audit lines and no mail.
async fn work_if_relay_answers(
    order: &Order,
    first: Option<&Record>,
    at: &[JobAtEdge],
    tools: &Tools,
) -> Result<Delivered, JobError> {
    tools.reach_relay(&order.job).await?;
    work(order, first, at, tools).await
}

/// Works a job; `first` is its plan, if it was begun before.
async fn work(
    order: &Order,
    first: Option<&Record>,
    at: &[JobAtEdge],
    tools: &Tools,
) -> Result<Delivered, JobError> {
    let plan = draw(order, tools).await?;
    let begun = match first {
        Some(first) => go_on(order, plan, first, tools).await?,
        None => begin(order, plan, tools).await?,
    };
    let Begun {
        plan,
        listing,
        sheet,
    } = &begun;
    if is_done(sheet.of("")) {
        return Ok(Delivered::before(sheet.of("")));
    }
    tools.progress.listed(plan, listing);
    let mut delivered = Delivered {
        reopenings: reopenings(sheet.of("")),
        unavailable: listing.unavailable,
        expires_at: Some(plan.lifetime.expires_at),
        ..Delivered::default()
    };
    if !(listing.is_empty() && plan.when_empty == WhenEmpty::Skip) {
        serve_everybody(order, &begun, at, tools, &mut delivered).await?;
        for audience in plan.audiences().iter().take(MOST_TOLD) {
            let places = publication::places(plan, listing, audience, tools)?;
            delivered.galleries.extend(places.gallery);
            delivered.manifests.extend(places.manifest);
        }
    }
    finish(order, &delivered, tools).await?;
    Ok(delivered)
}

/// A job under way: what it hands out and how, and what was done before.
struct Begun {
    plan: Plan,
    listing: Listing,
    sheet: Sheet,
}

/// Begins a job: lists its objects, keeps them, and takes the job's id. Whoever creates the plan knows that nobody was
/// served before, and need not look.
async fn begin(order: &Order, plan: Plan, tools: &Tools) -> Result<Begun, JobError> {
    let (job, ledger) = (&order.job, &*tools.books.ledger);
    let (plan, listing) = list(order, plan, tools).await?;
    let objects = kept::keep(&listing, &job.id, ledger, &order.stop).await?;
    let body = json!({
        "body_sha256": job.body_sha256,
        "begun_at": order.now,
        "objects": objects,
    });
    let plan_record = Record::new(&job.id, "", 0, Kind::Plan, body);
    let created = ledger.create(plan_record).await?;
    failpoint::pass(Failpoint::Planned);
    match created {
        Created::Ours => {
            order.delivery.got_on();
            Ok(Begun {
                plan,
                listing,
                sheet: Sheet::default(),
            })
        }
        Created::Theirs(first) => {
            check_body(order, &first)?;
            go_on(order, plan, &first, tools).await
        }
    }
}

/// Goes on with a job that was begun before: with the objects that it had then, and for those who have no end.
async fn go_on(
    order: &Order,
    plan: Plan,
    first: &Record,
    tools: &Tools,
) -> Result<Begun, JobError> {
    let ledger = &*tools.books.ledger;
    let sheet = Sheet::new(ledger.records(&order.job.id).await?);
    let kept = serde_json::from_value::<Kept>(first.body["objects"].clone()).ok();
    let store = &*tools.connection(&plan.connection)?.store;
    let knew_the_time = store.skew().is_some();
    let recalled = match &kept {
        Some(kept) => {
            kept::recall(kept, &plan, ledger, store, &tools.spool_dir, &order.stop).await?
        }
        None => None,
    };
    let (plan, listing) = match recalled {
        Some(listing) if is_done(sheet.of("")) => (plan, listing),
        Some(listing) => (
            settle(order, plan, &listing, knew_the_time, tools).await?,
            listing,
        ),
        None => {
            tracing::warn!(job.id = %order.job.id, "the job's objects are not kept; they are listed anew");
            list(order, plan, tools).await?
        }
    };
    Ok(Begun {
        plan,
        listing,
        sheet,
    })
}

/// Lists the objects of a plan, and settles the plan by what is there.
pub(crate) async fn list(
    order: &Order,
    plan: Plan,
    tools: &Tools,
) -> Result<(Plan, Listing), JobError> {
    let store = &*tools.connection(&plan.connection)?.store;
    let knew_the_time = store.skew().is_some();
    let (spool_dir, progress) = (&tools.spool_dir, &tools.progress);
    let listing = Box::pin(listing::list(
        &plan,
        store,
        spool_dir,
        &order.stop,
        progress,
    ))
    .await?;
    failpoint::pass(Failpoint::Listed);
    let plan = settle(order, plan, &listing, knew_the_time, tools).await?;
    Ok((plan, listing))
}

/// The plan as the listing lets it be: dated by the store's clock, and with a page of all files if the mails have no room for
/// them.
pub(crate) async fn settle(
    order: &Order,
    mut plan: Plan,
    listing: &Listing,
    knew_the_time: bool,
    tools: &Tools,
) -> Result<Plan, JobError> {
    let store = &tools.connection(&plan.connection)?.store;
    // The listing may have been the first to tell the time.
    if !knew_the_time && store.skew().is_some() {
        plan = draw(order, tools).await?;
    }
    let skew = store.skew();
    let bounded = |mut plan: Plan| {
        if plan.expiry_guard != ExpiryGuard::Ignore {
            plan.lifetime = plan.lifetime.bounded_by(listing.ends_at, order.now, skew);
        }
        plan
    };
    let plan = bounded(plan);
    let Some(shortage) = Box::pin(mail_trial::shortage(&plan, listing, &order.stop, tools)).await?
    else {
        return Ok(plan);
    };
    let plan = bounded(draw_with(order, Some(shortage), tools).await?);
    let (links, shown) = (shortage.links, shortage.shown);
    if let Some(shortage) =
        Box::pin(mail_trial::shortage(&plan, listing, &order.stop, tools)).await?
    {
        let template = plan.email().map(|email| email.template.to_string());
        return Err(PlanError::Unlinked {
            template: template.unwrap_or_default(),
            shortage,
        }
        .into());
    }
    tracing::info!(job.id = %order.job.id, links, shown, "a mail has no room for all files: a page or a list of all is published and linked");
    Ok(plan)
}

/// The same id with another body is another job under a taken name.
fn check_body(order: &Order, first: &Record) -> Result<(), JobError> {
    let job = &order.job;
    match first.body["body_sha256"].as_str() == Some(&job.body_sha256) {
        true => Ok(()),
        false => Err(JobError::Conflict {
            id: job.id.to_string(),
        }),
    }
}

/// Draws the plan of an order, with credentials that last as long as they can.
pub(crate) async fn draw(order: &Order, tools: &Tools) -> Result<Plan, JobError> {
    draw_with(order, None, tools).await
}

/// Draws the plan of an order, with a page or a list of all files if its mails have a shortage of them.
async fn draw_with(
    order: &Order,
    shortage: Option<Shortage>,
    tools: &Tools,
) -> Result<Plan, JobError> {
    let job = &order.job;
    let connection = tools.connection(&job.from.connection)?;
    let asked = job
        .links
        .expires_in
        .unwrap_or(tools.policy.links.expires_in);
    let mut signer = SignerFacts {
        reach: connection.front.as_ref().map(|front| front.reach.clone()),
        skew: connection.store.skew(),
        ..SignerFacts::default()
    };
    let needed_until = asked_until(asked, signer.time_there(order.now));
    signer.credentials_end = connection.signer.credentials_end(needed_until).await?;
    let (job, now) = (Arc::clone(job), order.now);
    let (policy, templates) = (Arc::clone(&tools.policy), Arc::clone(&tools.templates));
    // A message may make this long work: heartbeats, probes and signals go on meanwhile.
    let drawn = tokio::task::spawn_blocking(move || {
        plan::draw_with(&job, &policy, &*templates, &signer, shortage, now)
    });
    let mut plan = drawn.await.map_err(|_| JobError::Panicked)??;
    // Links of the job that have their audit lines are handed out again as long as they are fresh and could be signed for as
    // long now: the same signatures come of the same lifetime.
    if let Some(issued) = tools.books.issued.lifetime(&order.job.id)
        && issued.is_fresh(order.now)
        && issued.expires_at <= plan.lifetime.expires_at
    {
        plan.lifetime = issued;
    }
    Ok(plan)
}

/// Serves each audience, several at once; one that cannot be served now does not keep the others from their turn.
///
/// Nobody's turn is cut off for another's failure: a mail that was cut off in its last step would be a doubt.
async fn serve_everybody(
    order: &Order,
    begun: &Begun,
    at: &[JobAtEdge],
    tools: &Tools,
    delivered: &mut Delivered,
) -> Result<(), JobError> {
    let plan = &begun.plan;
    let album = Album::new(plan, tools, &order.stop)?;
    let turns = plan
        .audiences()
        .into_iter()
        .map(|audience| serve(order, begun, &album, audience, at, tools));
    let mut turns = std::pin::pin!(stream::iter(turns).buffer_unordered(tools.at_once));
    let mut failed = Vec::new();
    while let Some(turn) = turns.next().await {
        match turn {
            Ok(served) => {
                delivered.links += served.links;
                delivered.shown = delivered.shown.into_iter().chain(served.shown).min();
                for (reader, turn) in served.turns {
                    match turn {
                        Ok(turn) => delivered.count(turn.outcome(), || tools.books.rid(&reader)),
                        Err(error) => failed.push(error),
                    }
                }
            }
            Err(error) => failed.push(error),
        }
        if failed.iter().any(|error| error.class() == Class::Disk) {
            order.stop.ask();
        }
    }
    match JobError::deferred(failed) {
        None => Ok(()),
        Some(JobError::Deferred { first, .. }) if concerns_everybody(&first) => Err(*first),
        Some(error) => Err(error),
    }
}

/// Whether an error is the job's, however many recipients met it.
fn concerns_everybody(error: &JobError) -> bool {
    matches!(error, JobError::Stopped(_) | JobError::Aged(_)) || error.class() == Class::Disk
}

/// What one audience came to.
struct Served {
    links: u64,
    /// How many files a mail shows that leads to no others.
    shown: Option<u64>,
    turns: Vec<Ended>,
}

/// How a recipient's turn ended.
type Ended = (Arc<Recipient>, Result<Turn, JobError>);

/// Serves one audience: its links, its page and list, its mails.
async fn serve(
    order: &Order,
    begun: &Begun,
    album: &Album<'_>,
    audience: Audience,
    at: &[JobAtEdge],
    tools: &Tools,
) -> Result<Served, JobError> {
    let Begun {
        plan,
        listing,
        sheet,
    } = begun;
    let readers = plan.readers(&audience);
    let (waiting, turns) = who_waits(plan, sheet, &readers, tools).await?;
    let mut served = Served {
        links: 0,
        shown: None,
        turns,
    };
    if waiting.is_empty() && !readers.is_empty() {
        return Ok(served);
    }
    let signing = tools.signing(plan).await?;
    let mut publication = Publication::begin(order, plan, listing, &audience, tools).await?;
    let mut digest = Digest::new(plan);
    let (room, mut gathered): (Room, _) = mpsc::channel(BATCHES_AHEAD);
    let gather = gather(
        batches(order, begun, album, &audience, &signing, tools, &room),
        &room,
    );
    let show = async {
        while let Some(batch) = gathered.recv().await {
            let Some((batch, pictures)) = batch? else {
                break;
            };
            let before = served.links;
            served.links += batch.links().len() as u64;
            if is_milestone(before, served.links) {
                let (links, of) = (served.links, listing.linkable);
                tracing::info!(job.id = %order.job.id, links, of, "links are signed and recorded");
            }
            // Of a million links that nobody is mailed, no mail is made.
            if !waiting.is_empty() {
                digest.push(&batch);
            }
            publication.push(&batch, &pictures)?;
            publication.put_full().await?;
        }
        Ok::<_, JobError>(())
    };
    with(gather, show).await?;
    let published = publication.finish(order, tools).await?;
    failpoint::pass(Failpoint::Published);
    for (reader, n) in waiting {
        let to = To {
            reader: &reader,
            n,
            patience: patience(order, plan, sheet),
        };
        let shown = &mut served.shown;
        let _at_relay = Mailing::begin(at);
        let turn = mail(order, plan, &digest, &published, to, shown, tools).await;
        tools.progress.mailed(&turn);
        served.turns.push((reader, turn));
    }
    Ok(served)
}

/// Links that may be shown, and what is known of the pictures among them.
type Batch = (AuditedLinks, Arc<Pictures>);

/// Where batches wait to be shown, and a place there.
type Room = mpsc::Sender<Result<Option<Batch>, JobError>>;
type Place<'a> = mpsc::Permit<'a, Result<Option<Batch>, JobError>>;

/// Has the links of an audience signed and recorded, and sends each batch on; `None` is the end.
async fn gather(
    batches: impl Stream<Item = Result<(Place<'_>, Batch), JobError>> + Send,
    room: &Room,
) {
    let mut batches = pin!(batches);
    let end = loop {
        match batches.next().await {
            Some(Ok((place, batch))) => place.send(Ok(Some(batch))),
            Some(Err(error)) => break Err(error),
            None => break Ok(None),
        }
    };
    // Nobody is there any more if showing has failed, which is told then.
    drop(room.send(end).await);
}

/// Signs and records the links of an audience, batch by batch, in the order of the listing. While the lines of one batch are
/// on their way to the disk, the next is signed.
///
/// A batch has its place in `room` before it is begun. So whatever was begun can go on to its end, however long the batches
/// before it take: requests for pictures have a time limit, and a place in the log's queue is one that others wait for.
fn batches<'a>(
    order: &'a Order,
    begun: &'a Begun,
    album: &'a Album<'a>,
    audience: &'a Audience,
    signing: &'a Signing,
    tools: &'a Tools,
    room: &'a Room,
) -> impl Stream<Item = Result<(Place<'a>, Batch), JobError>> + Send + 'a {
    let signed = stream::try_unfold(0, move |number| async move {
        let Ok(place) = room.reserve().await else {
            return Ok(None);
        };
        let Some(page) = begun.listing.page(number)? else {
            return Ok(None);
        };
        let pictures = album.page(number, &page).await;
        let links = sign(order, &begun.plan, page, audience, signing, tools).await?;
        let recorded = record(order, &begun.plan, links, tools);
        let recorded = recorded.map_ok(move |links| (place, (links, pictures)));
        Ok::<_, JobError>(Some((recorded, number + 1)))
    });
    signed.try_buffered(BATCHES_AT_ONCE)
}

/// Does some work while other work, which serves it, goes on beside it for as long.
async fn with<T>(beside: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    match select(pin!(work), pin!(beside)).await {
        Either::Left((done, _)) => done,
        Either::Right(((), work)) => work.await,
    }
}

async fn sign(
    order: &Order,
    plan: &Plan,
    page: Vec<listing::Entry>,
    audience: &Audience,
    signing: &Signing,
    tools: &Tools,
) -> Result<Links, JobError> {
    may_go_on(order, plan, tools)?;
    let rate = &tools.connection(&plan.connection)?.link_rate;
    order.stop.or(rate.pass(page.len())).await?;
    let links = if signing.is_slow() {
        // On the heap: a future holds the room for it in every job, and few jobs need it.
        Box::pin(sign_aside(plan, page, audience, signing)).await?
    } else {
        links::sign(plan, page, audience, signing)?
    };
    failpoint::pass(Failpoint::Signed);
    Ok(links)
}

/// Records a batch: from here on its links may be shown.
async fn record(
    order: &Order,
    plan: &Plan,
    links: Links,
    tools: &Tools,
) -> Result<AuditedLinks, JobError> {
    may_go_on(order, plan, tools)?;
    let (context, books) = (context(order, LineKind::Object, tools), &tools.books);
    let audited = books.issued.record(links, &context, &books.audit).await?;
    failpoint::pass(Failpoint::Recorded);
    tools.progress.issued(audited.links().len());
    Ok(audited)
}

/// Signs a batch that takes long on a thread of its own: heartbeats and other jobs go on meanwhile.
async fn sign_aside(
    plan: &Plan,
    page: Vec<listing::Entry>,
    audience: &Audience,
    signing: &Signing,
) -> Result<Links, JobError> {
    let (plan, audience, signing) = (plan.clone(), audience.clone(), signing.clone());
    let signed = tokio::task::spawn_blocking(move || links::sign(&plan, page, &audience, &signing));
    Ok(signed.await.map_err(|_| JobError::Panicked)??)
}

/// Asked before each step that cannot be undone: whether the work shall go on, and whether its links are still what the
/// mail will promise.
fn may_go_on(order: &Order, plan: &Plan, tools: &Tools) -> Result<(), JobError> {
    order.stop.heed()?;
    if !plan.lifetime.is_fresh((tools.clock)()) {
        return Err(Aged.into());
    }
    Ok(())
}

/// Whose links are recorded, for this order.
pub(crate) fn context<'a>(order: &'a Order, kind: LineKind, tools: &'a Tools) -> Context<'a> {
    Context {
        job: order.job.id.as_str(),
        connection: order.job.from.connection.as_str(),
        role: tools
            .connections
            .get(&order.job.from.connection)
            .and_then(|connection| connection.role.as_deref()),
        message_id: order.message_id.as_deref(),
        attempt: order.attempt,
        kind,
        names: &tools.books.names,
    }
}

/// Someone who waits for a mail, and which attempt at it is next.
type Waiting = (Arc<Recipient>, u32);

/// Parts those who still wait for their mail from those whose turn has ended, one way or another.
async fn who_waits(
    plan: &Plan,
    sheet: &Sheet,
    readers: &[Arc<Recipient>],
    tools: &Tools,
) -> Result<(Vec<Waiting>, Vec<Ended>), JobError> {
    let mut waiting = Vec::new();
    let mut turns = Vec::new();
    for reader in readers {
        let masked = reader.masked();
        let found = tools
            .books
            .look(&plan.job.id, sheet, reader, plan.on_doubt)
            .await?;
        let turn = match found {
            Standing::Free { n } => {
                let rid = tools.books.rid(reader);
                match tools.mailer.put_off(&plan.job.id, &rid, reader) {
                    Some(error) => Err(error.into()),
                    None => {
                        waiting.push((Arc::clone(reader), n));
                        continue;
                    }
                }
            }
            Standing::Terminal { outcome, .. } => Ok(Turn::EndedBefore(outcome)),
            Standing::Busy { n } => Err(DeliverError::Taken { masked, n }.into()),
            Standing::Doubt { doubts, .. }
                if plan.on_doubt == OnDoubt::Resend && doubts >= MAX_DOUBTS =>
            {
                let attempts = doubts;
                Err(DeliverError::Exhausted { masked, attempts }.into())
            }
            Standing::Doubt { .. } => Ok(Turn::EndedBefore(Outcome::held())),
        };
        turns.push((Arc::clone(reader), turn));
    }
    Ok((waiting, turns))
}

/// Whether a relay that says "later" is asked again: the job was begun, or reopened, not too long ago.
fn patience(order: &Order, plan: &Plan, sheet: &Sheet) -> Patience {
    let is_begin = |record: &&Record| matches!(record.kind, Kind::Plan | Kind::Reopened);
    let begins = sheet.of("").iter().filter(is_begin).filter_map(|record| {
        let at = record.body.get("begun_at").or(record.body.get("at"))?;
        at.as_str()?.parse::<Timestamp>().ok()
    });
    let Some(begun_at) = begins.max() else {
        return Patience::Left;
    };
    let life = plan
        .lifetime
        .expires_at
        .duration_since(plan.lifetime.signed_at);
    let life = Span::seconds(u64::try_from(life.as_secs()).unwrap_or_default());
    let longest = life.clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE);
    let waited = order.now.duration_since(begun_at);
    match u64::try_from(waited.as_secs()).unwrap_or_default() >= longest.as_secs() {
        true => Patience::Over,
        false => Patience::Left,
    }
}

/// A reader whose mail is next.
#[derive(Clone, Copy)]
struct To<'a> {
    reader: &'a Recipient,
    n: u32,
    patience: Patience,
}

/// Renders one reader's mail and delivers it, when it is its turn.
async fn mail(
    order: &Order,
    plan: &Plan,
    digest: &Digest,
    published: &publication::Published,
    to: To<'_>,
    shown: &mut Option<u64>,
    tools: &Tools,
) -> Result<Turn, JobError> {
    let (job, reader, mailer) = (&plan.job.id, to.reader, &tools.mailer);
    let way = order
        .stop
        .or(mailer.turn(&plan.relay, job, reader))
        .await??;
    let letter = Letter {
        plan,
        digest,
        recipient: reader,
        gallery_url: published.gallery_url.as_ref(),
        manifest_url: published.manifest_url.as_ref(),
        settings: &tools.mail,
    };
    let drawn = crate::render::email::draw(&tools.templates, &letter)?;
    check_reach(plan, &drawn, shown)?;
    may_go_on(order, plan, tools)?;
    let letter = tools
        .sender
        .letter(&plan.job, reader, drawn.mail, order.now);
    let errand = Errand {
        job,
        recipient: reader,
        n: to.n,
        on_doubt: plan.on_doubt,
        patience: to.patience,
    };
    let may_go_on = || {
        may_go_on(order, plan, tools)?;
        let commitment = order.stop.commit()?;
        // Attempts at a recipient are numbered and few, so a job does not get on in this way for ever.
        order.delivery.got_on();
        Ok(commitment)
    };
    deliver::deliver(&letter, &errand, way, mailer, &tools.books, may_go_on).await
}

/// Refuses a mail that does not lead to all files, unless the job wants a summary; `shown` is then the fewest that a mail shows.
///
/// The trial of the mails has found such a job before its links were recorded, but for a mail that grew since.
fn check_reach(plan: &Plan, drawn: &Drawn, shown: &mut Option<u64>) -> Result<(), PlanError> {
    if drawn.reaches_all() {
        return Ok(());
    }
    let summarizes = |email: &EmailOrder| email.overflow == Overflow::Summarize;
    if !plan.email().is_some_and(summarizes) {
        return Err(PlanError::NoRoom(Shortage {
            links: drawn.shown + drawn.more,
            shown: drawn.shown,
        }));
    }
    *shown = Some(shown.map_or(drawn.shown, |fewest| fewest.min(drawn.shown)));
    Ok(())
}

/// Records that everybody has an end: only after this may the message be deleted.
async fn finish(order: &Order, delivered: &Delivered, tools: &Tools) -> Result<(), JobError> {
    let (job, ledger) = (&order.job.id, &tools.books.ledger);
    if let Some(occurrence) = &order.job.occurrence {
        let Occurrence {
            series, sequencer, ..
        } = occurrence;
        let body = occurrence.to_body(job, order.now);
        let served = Record::new(series, sequencer.as_str(), 0, Kind::Served, body);
        ledger.create(served).await?;
    }
    failpoint::pass(Failpoint::Served);
    if delivered.failed() > 0 {
        kept::keep_message(&order.job, &**ledger).await?;
    }
    conclude(order, delivered, tools).await?;
    failpoint::pass(Failpoint::Done);
    // Somebody's word may have come after the sheet was read; those whom it is about were not served yet.
    if !is_done(&ledger.records_of(job, "").await?) {
        return Err(JobError::Reopened);
    }
    // Those without a mail may yet get one, which has the same objects.
    if delivered.failed() == 0
        && let Err(error) = ledger.forget_pages(job).await
    {
        tracing::warn!(job.id = %job, error = chain(&error), "could not forget a job's objects");
    }
    Ok(())
}

async fn conclude(order: &Order, delivered: &Delivered, tools: &Tools) -> Result<(), JobError> {
    let body = serde_json::to_value(delivered).expect("what was delivered is plain data");
    let done = Record::new(&order.job.id, "", delivered.reopenings, Kind::Done, body);
    tools.books.ledger.create(done).await?;
    tools.books.issued.forget(&order.job.id);
    tools.tried.forget(&order.job.id);
    Ok(())
}

/// Tells the operator whom a job did not reach; at most once for each time that it is done, whoever dies meanwhile.
async fn notify(order: &Order, delivered: &Delivered, tools: &Tools) -> Result<(), JobError> {
    let (job, ledger) = (&order.job.id, &tools.books.ledger);
    let n = delivered.reopenings;
    let notified = Record::new(job, "", n, Kind::Notified, json!({ "at": order.now }));
    if let Created::Theirs(_) = ledger.create(notified).await? {
        return Ok(());
    }
    let notice = Notice {
        job,
        n,
        accepted: delivered.accepted,
        failed: delivered.failed(),
        named: delivered.in_clear(&order.job, |reader| tools.books.rid(reader)),
        at: order.now,
    };
    Ok(tools.notices.tell(&notice, &tools.mailer).await?)
}

impl Delivered {
    /// How many recipients have no mail that was accepted.
    pub const fn failed(&self) -> u64 {
        self.rejected + self.unknown
    }

    /// The addresses of those without a mail, as far as they are told, and what became of it.
    pub fn in_clear(
        &self,
        job: &Job,
        rid: impl Fn(&Recipient) -> String,
    ) -> Vec<(String, Outcome)> {
        let people = job.email.iter().flat_map(|email| email.recipients());
        let by_rid: HashMap<String, String> = people
            .map(|reader| (rid(reader), reader.address.to_string()))
            .collect();
        let told = self.without_mail.iter().filter_map(|without| {
            let address = by_rid.get(&without.rid)?;
            Some((address.clone(), without.outcome.clone()))
        });
        told.collect()
    }

    /// There was nothing left to do: what the `done` record says was done.
    fn before(records: &[Record]) -> Self {
        let done = last_done(records);
        let told = done.and_then(|done| serde_json::from_value(done.body.clone()).ok());
        Self {
            done_before: true,
            reopenings: done.map_or(0, |done| done.n),
            ..told.unwrap_or_default()
        }
    }

    fn count(&mut self, outcome: &Outcome, rid: impl FnOnce() -> String) {
        match outcome {
            Outcome::Accepted { .. } => {
                self.accepted += 1;
                return;
            }
            Outcome::Rejected { .. } => self.rejected += 1,
            Outcome::Unknown { .. } => self.unknown += 1,
            // Not an end: such a turn is an error, and the job comes back.
            Outcome::NotSent { .. } => return,
        }
        if self.without_mail.len() < MOST_TOLD {
            self.without_mail.push(WithoutMail {
                rid: rid(),
                outcome: outcome.clone(),
            });
        }
    }
}
