//! The portal's records of a job, durable before its first mail, and its links.

mod zips;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{TryStreamExt, stream};
use jiff::Timestamp;
use presign::PresignedUrl;

use super::state::JobState;
use crate::assemble::Services;
use crate::audit::record::LinkKind;
use crate::bounds::MAX_FILLED_NAME_BYTES;
use crate::error::JobError;
use crate::job::phrase::NamePattern;
use crate::job::{ContentDisposition, EmailOrder, FileName, Phrase, PhraseScope, Recipient};
use crate::ledger::portal::{
    PORTAL_PAGE, PortalFileNames, PortalJob, PortalLedger, PortalPerson, PortalRenditions,
};
use crate::links::listing::{Entry, Listing};
use crate::links::portal::{PortalSigner, page_link_id};
use crate::links::{Link, LinkSigner, Links};
use crate::plan::{Audience, Plan, PlanError, PortalPlan};
use crate::portal_token::{EVERYBODY, JobRef, PortalKeys};
use crate::renditions::{self, RenditionMaker};
use crate::run::JobRun;
use crate::store::{ObjectMeta, Storage};

/// How many records are written at the same time.
const RECORDS_AT_ONCE: usize = 8;

/// Makes the portal's links of a job.
pub(super) struct PortalLinks {
    keys: PortalKeys,
    url: Arc<str>,
    reference: JobRef,
    /// The portal's record of the job.
    record: PortalJob,
    /// The place of each recipient, by the canonical address.
    places: HashMap<String, u32>,
}

/// Makes the portal's records of a job durable and sets what makes its links. Does nothing for other jobs.
///
/// The records of the first attempt count: its links end when the first attempt said, also in the mails of a later one.
pub(super) async fn prepare(
    run: &JobRun,
    state: &mut JobState,
    kept: Option<PortalJob>,
    services: &Services,
) -> Result<(), JobError> {
    let Some(portal) = state.plan.portal.clone() else {
        return Ok(());
    };
    let (keys, reference) = reference(run, state, services);
    let stored = match kept {
        Some(kept) => kept,
        None => store(run, state, &portal, reference, services).await?,
    };
    let plan = &mut state.plan;
    plan.lifetime = plan.lifetime.ending_at(stored.ends_at, run.now);
    let places = (0..).zip(recipients(plan));
    state.portal = Some(PortalLinks {
        keys,
        url: portal.url,
        reference,
        record: stored,
        places: places
            .map(|(place, recipient)| (recipient.canonical_address(), place))
            .collect(),
    });
    Ok(())
}

fn reference(run: &JobRun, state: &JobState, services: &Services) -> (PortalKeys, JobRef) {
    let keys = PortalKeys::new(&services.signing.keyring);
    let reference = keys.job_ref(run.job.id.as_str(), &state.listing_name);
    (keys, reference)
}

fn ledger(services: &Services) -> PortalLedger {
    let records = services.recording.ledger.portal_records();
    PortalLedger::new(records, &services.signing.keyring)
}

/// The portal's record of a job, from an earlier attempt.
pub(super) async fn find(
    run: &JobRun,
    state: &JobState,
    services: &Services,
) -> Result<Option<PortalJob>, JobError> {
    if state.plan.portal.is_none() {
        return Ok(None);
    }
    let (_, reference) = reference(run, state, services);
    Ok(ledger(services).job(reference).await?)
}

fn recipients(plan: &Plan) -> impl Iterator<Item = &Recipient> {
    plan.email().into_iter().flat_map(EmailOrder::recipients)
}

/// Stores the objects and the people of a job, and then its record, which is the last: a job whose record exists is whole.
async fn store(
    run: &JobRun,
    state: &JobState,
    portal: &PortalPlan,
    reference: JobRef,
    services: &Services,
) -> Result<PortalJob, JobError> {
    let (plan, listing) = (&state.plan, &state.listing);
    let ledger = &ledger(services);
    let objects = store_objects(run, listing, reference, ledger).await?;
    let zips = zips::store(run, state.archive.as_ref(), reference, ledger).await?;
    let names = FileNames::of(plan)?;
    let people: Vec<PortalPerson> = recipients(plan)
        .map(|recipient| person(recipient, plan, &names, services))
        .collect::<Result<_, _>>()?;
    for (page, some) in (0..).zip(people.chunks(PORTAL_PAGE as usize)) {
        run.stop.check()?;
        ledger.keep_people(reference, page, some).await?;
    }
    let ends_at = plan.lifetime.expires_at;
    if portal.lists_files {
        stream::iter(people.iter().map(Ok))
            .try_for_each_concurrent(RECORDS_AT_ONCE, |person| {
                ledger.keep_mine(&person.rid, reference, ends_at)
            })
            .await?;
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let job = PortalJob {
        v: 1,
        job: run.job.id.clone(),
        connection: plan.connection.clone(),
        bucket: plan.bucket.clone(),
        listing: state.listing_name.clone(),
        objects,
        people: count(people.len()),
        per_recipient: plan.per_recipient,
        begun_at: run.now,
        ends_at,
        sign_in: portal.sign_in,
        open: portal.open,
        disposition: plan.disposition,
        file_names: names.stored(),
        text_charset: plan.text_charset,
        title: plan.title().map(ToOwned::to_owned),
        message: portal.message.clone(),
        is_gallery: portal.is_gallery,
        template: portal.template.clone(),
        contact: portal.contact.clone(),
        prefix: plan.prefix().to_owned(),
        page_size: count(portal.page_size),
        time_zone: plan.time_zone.iana_name().unwrap_or("UTC").to_owned(),
        renditions: renditions(plan, listing, services)?,
        zips,
    };
    Ok(ledger.create_job(reference, job).await?)
}

/// Where the portal finds the renditions of a job.
fn renditions(
    plan: &Plan,
    listing: &Listing,
    services: &Services,
) -> Result<Option<PortalRenditions>, JobError> {
    if services.presenting.renditions.limit == 0 {
        return Ok(None);
    }
    let publisher = renditions::publisher(plan, &services.signing)?;
    let place = publisher.and_then(|publisher| publisher.object(""));
    Ok(place.map(|(bucket, folder)| PortalRenditions {
        bucket,
        prefix: folder.as_str().to_owned(),
        pages: u32::try_from(listing.pages()).unwrap_or(u32::MAX),
    }))
}

/// Stores the objects in pages of one size, so that an object is found by its place; returns how many there are.
async fn store_objects(
    run: &JobRun,
    listing: &Listing,
    reference: JobRef,
    ledger: &PortalLedger,
) -> Result<u32, JobError> {
    let (mut waiting, mut page, mut total) = (Vec::<Entry>::new(), 0, 0);
    let size = PORTAL_PAGE as usize;
    for number in 0.. {
        let some = listing.page(number)?;
        let is_last = some.is_none();
        waiting.extend(some.into_iter().flatten());
        while waiting.len() >= size || (is_last && !waiting.is_empty()) {
            run.stop.check()?;
            let rest = waiting.split_off(size.min(waiting.len()));
            let body = serde_json::to_vec(&waiting).expect("entries are plain data");
            ledger.keep_objects(reference, page, body).await?;
            total += u32::try_from(waiting.len()).unwrap_or(u32::MAX);
            page += 1;
            waiting = rest;
        }
        if is_last {
            break;
        }
    }
    Ok(total)
}

/// The names of a job's files, as far as they are known without a recipient.
enum FileNames<'a> {
    Own,
    Stored,
    Pattern(NamePattern),
    OfRecipient(&'a Phrase),
}

impl<'a> FileNames<'a> {
    fn of(plan: &'a Plan) -> Result<Self, JobError> {
        Ok(match &plan.filename {
            None => Self::Own,
            Some(FileName::Stored) => Self::Stored,
            Some(FileName::Phrase(phrase)) if plan.per_recipient && phrase.names_recipient() => {
                Self::OfRecipient(phrase)
            }
            Some(FileName::Phrase(phrase)) => Self::Pattern(pattern(phrase, &plan.scope())?),
        })
    }

    fn stored(self) -> PortalFileNames {
        match self {
            Self::Own => PortalFileNames::Own,
            Self::Stored => PortalFileNames::Stored,
            Self::Pattern(pattern) => PortalFileNames::Pattern(pattern),
            Self::OfRecipient(_) => PortalFileNames::OfRecipient,
        }
    }
}

fn pattern(phrase: &Phrase, scope: &PhraseScope<'_>) -> Result<NamePattern, JobError> {
    let filled = phrase.for_objects(scope, MAX_FILLED_NAME_BYTES);
    Ok(filled.map_err(|source| PlanError::Phrase {
        field: "links.filename",
        source,
    })?)
}

fn person(
    recipient: &Recipient,
    plan: &Plan,
    names: &FileNames<'_>,
    services: &Services,
) -> Result<PortalPerson, JobError> {
    let file_names = match names {
        FileNames::OfRecipient(phrase) => {
            let scope = PhraseScope {
                recipient: Some(recipient),
                ..plan.scope()
            };
            Some(pattern(phrase, &scope)?)
        }
        FileNames::Own | FileNames::Stored | FileNames::Pattern(_) => None,
    };
    let time_zone = recipient.time_zone.as_ref();
    Ok(PortalPerson {
        rid: services.recording.rid(recipient),
        locale: recipient
            .locale
            .as_ref()
            .map(|locale| locale.as_str().to_owned()),
        time_zone: time_zone
            .and_then(|zone| zone.iana_name())
            .map(ToOwned::to_owned),
        name: recipient.name.clone(),
        file_names,
    })
}

impl PortalLinks {
    /// Has the portal learn of renditions.
    pub(super) fn tell_of<'a>(
        &self,
        renditions: RenditionMaker<'a>,
        services: &Services,
    ) -> RenditionMaker<'a> {
        renditions.told_to(ledger(services), self.reference)
    }

    fn signer(&self, audience: &Audience, services: &Services) -> PortalSigner {
        let canonical = audience.canonical();
        let place = audience
            .recipient()
            .and_then(|_| self.places.get(&canonical));
        PortalSigner {
            keys: self.keys.clone(),
            url: Arc::clone(&self.url),
            job: self.reference,
            recipient: place.copied().unwrap_or(EVERYBODY),
            rid: services.recording.names.recipient_id(&canonical).into(),
        }
    }

    /// The signer of an audience's links.
    pub(super) fn link_signer(&self, audience: &Audience, services: &Services) -> LinkSigner {
        let signer = self.signer(audience, services);
        services.signing.portal_signer(signer)
    }

    /// The link to an audience's page, with its audit line, if the mails link it.
    pub(super) async fn page(
        &self,
        run: &JobRun,
        plan: &Plan,
        audience: &Audience,
        services: &Services,
    ) -> Result<Option<PresignedUrl>, JobError> {
        let portal = plan.portal.as_ref();
        if !portal.is_some_and(|portal| portal.is_page_linked) {
            return Ok(None);
        }
        let page = self.signer(audience, services);
        let (url, rid) = (page.page_url(), Arc::clone(&page.rid));
        let signer = services.signing.portal_signer(page);
        let name = format!("portal/{}", self.reference);
        let link = Link {
            id: page_link_id(&signer.link_ids, self.reference, &rid),
            bucket: plan.bucket.clone(),
            object: ObjectMeta {
                key: name.parse().expect("the name is a key"),
                size_bytes: 0,
                etag: String::new(),
                version: None,
                modified: Timestamp::UNIX_EPOCH,
                storage: Storage::Ready,
                stored: None,
            },
            name,
            disposition: ContentDisposition::Inline,
            url,
        };
        let kind = LinkKind::Gallery;
        record(run, plan, audience, &signer, (kind, link), services).await
    }
}

/// Makes the audit line of one link durable, and returns the link.
async fn record(
    run: &JobRun,
    plan: &Plan,
    audience: &Audience,
    signer: &LinkSigner,
    (kind, link): (LinkKind, Link),
    services: &Services,
) -> Result<Option<PresignedUrl>, JobError> {
    let links = Links {
        links: vec![link],
        unavailable: Vec::new(),
        audience: audience.clone(),
        lifetime: plan.lifetime,
        access_key_id: Arc::clone(&signer.access_key_id),
    };
    let recording = &services.recording;
    let role = services.signing.role(&run.job.from.connection);
    let context = run.context(kind, role, &recording.names);
    // Lines that were written and not noted as issued would be written again by the next attempt.
    let _writing = run.stop.commit()?;
    let recorded = recording.issued.record(links, &context, &recording.audit);
    let audited = recorded.await?;
    Ok(audited.links().first().map(|link| link.url.clone()))
}
