//! Tries how many files the mails of a plan show, before a link is signed for use.
//!
//! Mail programs limit the size of a mail, so not every job's files fit. The result decides whether a page is published as well.
//! It must be known before the first link is recorded, because no link may be recorded as handed out if its recipient cannot
//! reach it. The trial renders the real mails, with sample links of the same length that open nothing.
//!
//! A trial may render ten thousand mails, and a rate-limited job returns for a few recipients at a time. The result is therefore
//! remembered ([`Tried`]) until the job is done, and reused while nothing has changed that affects a mail's length.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use presign::PresignedUrl;

use crate::archive::{self, ForeseenZip};
use crate::audit::AuditedLinks;
use crate::bounds::MAX_TRIED_JOBS;
use crate::cancellation::Cancellation;
use crate::error::JobError;
use crate::job::{EmailOrder, FileName, JobId, Overflow, Phrase, Recipient};
use crate::links::connection::Connections;
use crate::links::listing::{Entry, Listing};
use crate::links::{self, LinkSigner};
use crate::plan::Audience;
use crate::plan::{Bound, Plan, Policy, PublishTarget, Shortage, ZipPlan};
use crate::render::email::{self, Digest, MAX_ROWS, RenderedDigest};
use crate::render::{MailSettings, Templates, ZipLink, ZipLinks};
use crate::run::{Presenting, Signing};

/// The part of a mail's budget that the trial leaves empty, as its reciprocal: a signature can be some bytes longer than the
/// measured one.
const SPARE_PART: usize = 100;

/// The results of trials of unfinished jobs. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tried {
    verdicts: Arc<Mutex<HashMap<JobId, Vec<TrialResult>>>>,
}

/// The result of one trial. A job has two: of the plan as requested, and with the additional publication.
#[derive(Debug)]
struct TrialResult {
    of: Conditions,
    shortage: Option<Shortage>,
}

/// Everything that affects the length of a job's mails, except for the instants in them, for which the spare part leaves room.
#[derive(Debug, Clone)]
struct Conditions {
    /// The recipients, the variables and the phrases.
    body_sha256: String,
    /// The place of the additional publication.
    supplement: Option<PublishTarget>,
    /// Whether the mails link the page of the portal.
    links_portal_page: bool,
    /// The number of linked objects, and of objects without a link.
    objects: (u64, u64),
    /// What limits the lifetime of the links: mails state it.
    bound: Bound,
    /// The access key of their signatures: links of a session are longer.
    access_key_id: Arc<str>,
    templates: Arc<Templates>,
    settings: Arc<MailSettings>,
    policy: Arc<Policy>,
    connections: Arc<Connections>,
}

impl Conditions {
    fn of(
        plan: &Plan,
        listing: &Listing,
        signer: &LinkSigner,
        signing: &Signing,
        presenting: &Presenting,
    ) -> Self {
        Self {
            body_sha256: plan.job.body_sha256.clone(),
            supplement: plan.supplement().cloned(),
            links_portal_page: links_portal_page(plan),
            objects: (listing.linkable, listing.unavailable),
            bound: plan.lifetime.bound,
            access_key_id: Arc::clone(&signer.access_key_id),
            templates: Arc::clone(&presenting.templates),
            settings: Arc::clone(&presenting.mail),
            policy: Arc::clone(&signing.policy),
            connections: Arc::clone(&signing.connections),
        }
    }

    /// Whether these are the same. A reload replaces changed services by new instances.
    fn are(&self, other: &Self) -> bool {
        self.body_sha256 == other.body_sha256
            && self.supplement == other.supplement
            && self.links_portal_page == other.links_portal_page
            && self.objects == other.objects
            && self.bound == other.bound
            && self.access_key_id == other.access_key_id
            && Arc::ptr_eq(&self.templates, &other.templates)
            && Arc::ptr_eq(&self.settings, &other.settings)
            && Arc::ptr_eq(&self.policy, &other.policy)
            && Arc::ptr_eq(&self.connections, &other.connections)
    }
}

impl Tried {
    fn verdicts(&self) -> MutexGuard<'_, HashMap<JobId, Vec<TrialResult>>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result of a trial under these conditions, if known.
    fn recall(&self, job: &JobId, conditions: &Conditions) -> Option<Option<Shortage>> {
        let verdicts = self.verdicts();
        let mut of_job = verdicts.get(job)?.iter();
        let same = of_job.find(|verdict| verdict.of.are(conditions))?;
        Some(same.shortage)
    }

    /// Stores the result of a trial, and replaces one of the same plan under other conditions.
    fn remember(&self, job: &JobId, of: Conditions, shortage: Option<Shortage>) {
        let mut verdicts = self.verdicts();
        if verdicts.len() >= MAX_TRIED_JOBS && !verdicts.contains_key(job) {
            verdicts.clear();
        }
        let of_job = verdicts.entry(job.clone()).or_default();
        let kind = |of: &Conditions| (of.supplement.is_some(), of.links_portal_page);
        let same_plan = |verdict: &TrialResult| kind(&verdict.of) == kind(&of);
        of_job.retain(|verdict| !same_plan(verdict));
        of_job.push(TrialResult { of, shortage });
    }

    /// Drops the results of a job that is done.
    pub(crate) fn forget(&self, job: &JobId) {
        self.verdicts().remove(job);
    }
}

/// Renders mails of a plan with links that open nothing.
pub(crate) struct MailTrial<'a> {
    plan: &'a Plan,
    listing: &'a Listing,
    presenting: &'a Presenting,
    measure: LinkSigner,
    /// The ZIPs that the mails will link, and how many files are in none.
    zips: (Vec<ForeseenZip>, u64),
}

impl<'a> MailTrial<'a> {
    /// A trial of a plan and its objects. Fetches the credentials, since links with a session token are longer.
    pub(crate) async fn new(
        plan: &'a Plan,
        listing: &'a Listing,
        signing: &Signing,
        presenting: &'a Presenting,
    ) -> Result<Self, JobError> {
        let signer = signing.link_signer(plan).await?;
        Self::with(plan, listing, &signer, presenting).await
    }

    async fn with(
        plan: &'a Plan,
        listing: &'a Listing,
        signer: &LinkSigner,
        presenting: &'a Presenting,
    ) -> Result<Self, JobError> {
        let zips = match plan.zip.as_ref().filter(|_| !listing.is_empty()) {
            Some(wanted) if is_linked(wanted) => archive::foresee(plan, wanted, listing).await?,
            Some(_) | None => <(Vec<ForeseenZip>, u64)>::default(),
        };
        Ok(Self {
            plan,
            listing,
            presenting,
            measure: signer.to_measure()?,
            zips,
        })
    }

    /// A page of the listing, with sample links.
    pub(crate) fn batch(
        &self,
        number: usize,
        audience: &Audience,
    ) -> Result<AuditedLinks, JobError> {
        let page = self.listing.page(number)?.unwrap_or_default();
        self.examples(page, audience)
    }

    fn examples(&self, page: Vec<Entry>, audience: &Audience) -> Result<AuditedLinks, JobError> {
        let examples = links::examples(self.plan, page, audience, &self.measure)?;
        Ok(AuditedLinks::examples(examples))
    }

    /// The digest of all objects.
    pub(crate) fn digest(&self, audience: &Audience) -> Result<Digest, JobError> {
        let mut digest = Digest::new(self.plan);
        for number in 0..self.listing.pages() {
            digest.push(&self.batch(number, audience)?);
        }
        Ok(digest)
    }

    /// The digest of the first objects: one more than any mail can show, if there are so many.
    pub(crate) async fn first_digest(&self, audience: &Audience) -> Result<Digest, JobError> {
        let mut digest = Digest::new(self.plan);
        let mut left = MAX_ROWS + 1;
        for number in 0..self.listing.pages() {
            let mut page = self.listing.page(number)?.unwrap_or_default();
            page.retain(|entry| match entry {
                Entry::Linkable(_) if left == 0 => false,
                Entry::Linkable(_) => {
                    left -= 1;
                    true
                }
                Entry::Unavailable(..) => true,
            });
            digest.push(&self.examples(page, audience)?);
            if left == 0 {
                break;
            }
            // There may be a thousand pages of objects that cannot be linked.
            tokio::task::yield_now().await;
        }
        Ok(digest)
    }

    /// Renders the mail of one recipient.
    pub(crate) fn build(
        &self,
        digest: &Digest,
        recipient: &Recipient,
        settings: &MailSettings,
    ) -> Result<RenderedDigest, JobError> {
        let plan = self.plan;
        let first = digest.first_url();
        let example = |place: &PublishTarget, name: &str| example_place(place, name, first);
        let gallery = plan.gallery.as_ref().map(|gallery| &gallery.place);
        let gallery_url = match links_portal_page(plan) {
            // A link to the page is as long as any link of the portal.
            true => digest.first_url().cloned(),
            false => gallery.and_then(|place| example(place, "index.html")),
        };
        let manifest = plan.manifest.as_ref().map(|manifest| &manifest.place);
        let manifest_url = manifest.and_then(|place| example(place, "manifest"));
        let zips = self.zip_links(first);
        let letter = email::MailRequest {
            plan,
            digest,
            recipient,
            gallery_url: gallery_url.as_ref(),
            manifest_url: manifest_url.as_ref(),
            zips: Some(&zips),
            settings,
        };
        Ok(email::build(&self.presenting.templates, &letter)?)
    }
}

impl MailTrial<'_> {
    /// The links to ZIPs that open nothing, for a mail or a page; `first` is the link of a file.
    pub(crate) fn zip_links(&self, first: Option<&PresignedUrl>) -> ZipLinks {
        let (foreseen, left_out) = &self.zips;
        let link = |zip: &ForeseenZip| {
            let wanted = self.plan.zip.as_ref()?;
            let url = match &wanted.place {
                // As long as any link of the portal.
                _ if self.plan.portal.is_some() && wanted.is_opened_by_portal() => first?.clone(),
                Some(place) => example_place(place, &zip.file_name, first)?,
                None => return None,
            };
            Some(ZipLink {
                url,
                file_name: zip.file_name.clone(),
                files: zip.files,
                size_bytes: zip.size_bytes,
            })
        };
        ZipLinks {
            zips: foreseen.iter().filter_map(link).collect(),
            left_out: *left_out,
        }
    }
}

/// Whether mails link a ZIP.
fn is_linked(wanted: &ZipPlan) -> bool {
    wanted.place.as_ref().is_none_or(PublishTarget::is_linked)
}

/// A link that opens nothing, of the length of a real one to what is published at a place.
fn example_place(
    place: &PublishTarget,
    name: &str,
    first: Option<&PresignedUrl>,
) -> Option<PresignedUrl> {
    match place {
        PublishTarget::Bucket(..) => Some(links::example_url(name, first?)),
        PublishTarget::Dir { url, .. } => {
            let (base, folder) = (url.as_ref()?, "0".repeat(32));
            Some(PresignedUrl::new(format!("{base}{folder}/{name}")))
        }
    }
}

/// Returns the shortage of the plan's mails, if a mail neither shows all files nor links a page or list of them.
pub(crate) async fn shortage(
    plan: &Plan,
    listing: &Listing,
    stop: &Cancellation,
    (signing, presenting): (&Signing, &Presenting),
    tried: &Tried,
) -> Result<Option<Shortage>, JobError> {
    let summarizes = |email: &EmailOrder| email.overflow == Overflow::Summarize;
    if listing.is_empty() || plan.email().is_none_or(summarizes) {
        return Ok(None);
    }
    let (job, signer) = (&plan.job.id, signing.link_signer(plan).await?);
    let conditions = Conditions::of(plan, listing, &signer, signing, presenting);
    if let Some(shortage) = tried.recall(job, &conditions) {
        return Ok(shortage);
    }
    let trial = MailTrial::with(plan, listing, &signer, presenting).await?;
    let shortage = try_mails(&trial, stop).await?;
    tried.remember(job, conditions, shortage);
    Ok(shortage)
}

/// Renders the mails until one of them lacks files.
async fn try_mails(
    trial: &MailTrial<'_>,
    stop: &Cancellation,
) -> Result<Option<Shortage>, JobError> {
    let (plan, presenting) = (trial.plan, trial.presenting);
    let full = presenting.mail.html_budget_bytes;
    let settings = MailSettings {
        html_budget_bytes: full - full / SPARE_PART,
        ..(*presenting.mail).clone()
    };
    let mut shared = None;
    for group in by_language(plan, presenting) {
        for (number, reader) in group.iter().enumerate() {
            stop.check()?;
            let own;
            let digest = if names_readers(plan) {
                let audience = Audience::Recipient(Arc::clone(reader));
                own = trial.first_digest(&audience).await?;
                &own
            } else {
                match &mut shared {
                    Some(digest) => &*digest,
                    shared @ None => shared.insert(trial.first_digest(&Audience::Everyone).await?),
                }
            };
            let built = trial.build(digest, reader, &settings)?;
            if !built.reaches_all() {
                return Ok(Some(Shortage {
                    links: trial.listing.linkable,
                    shown: built.shown,
                }));
            }
            // If the longest mail uses at most half of the budget, all others in its language fit.
            if number == 0 && built.html_bytes * 2 <= full {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(None)
}

fn links_portal_page(plan: &Plan) -> bool {
    let portal = plan.portal.as_ref();
    portal.is_some_and(|portal| portal.is_page_linked)
}

/// Whether the names of files differ between recipients.
fn names_readers(plan: &Plan) -> bool {
    let filename = plan.filename.as_ref().and_then(FileName::phrase);
    plan.per_recipient && filename.is_some_and(Phrase::names_recipient)
}

/// The recipients by the language of their mails, which several locales may share; in each, the recipient with the longest mail
/// comes first.
fn by_language(plan: &Plan, presenting: &Presenting) -> Vec<Vec<Arc<Recipient>>> {
    let mut groups: BTreeMap<&str, Vec<(usize, Arc<Recipient>)>> = BTreeMap::new();
    let strings = presenting.templates.strings();
    for audience in plan.audiences() {
        for reader in plan.readers(&audience) {
            let vars = serde_json::to_vec(&reader.vars).map_or(0, |vars| vars.len());
            let locale = reader.locale.as_ref().unwrap_or(&presenting.mail.locale);
            let language = strings.for_locale(locale).tag();
            let weight = vars + reader.display_name().len();
            groups.entry(language).or_default().push((weight, reader));
        }
    }
    let sorted = groups.into_values().map(|mut group| {
        group.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        group.into_iter().map(|(_, reader)| reader).collect()
    });
    sorted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::environment::Environment;

    fn conditions() -> Conditions {
        let config = Config::parse("", &Environment::default()).unwrap();
        Conditions {
            body_sha256: "1".to_owned(),
            supplement: None,
            links_portal_page: false,
            objects: (100, 1),
            bound: Bound::Asked,
            access_key_id: "AKIDEXAMPLE".into(),
            templates: Arc::new(Templates::load(None).unwrap()),
            settings: Arc::new(MailSettings {
                locale: "en".parse().unwrap(),
                sender_name: String::new(),
                sender_address: String::new(),
                html_budget_bytes: 1,
                brand: crate::render::Brand::default(),
            }),
            policy: Arc::new(config.policy().unwrap()),
            connections: Arc::default(),
        }
    }

    #[test]
    fn what_a_trial_came_to_is_known_until_something_changes_that_mails_depend_on() {
        let (tried, plain) = (Tried::default(), conditions());
        let job: JobId = "daily".parse().unwrap();
        assert_eq!(tried.recall(&job, &plain), None);
        let (links, shown) = (100, 35);
        let shortage = Some(Shortage { links, shown });
        let place = PublishTarget::Bucket("pages".parse().unwrap(), "p/".parse().unwrap());
        let supplemented = Conditions {
            supplement: Some(place),
            ..plain.clone()
        };
        tried.remember(&job, plain.clone(), shortage);
        tried.remember(&job, supplemented.clone(), None);
        assert_eq!(tried.recall(&job, &plain), Some(shortage));
        assert_eq!(tried.recall(&job, &supplemented), Some(None));
        assert_eq!(tried.recall(&"other".parse().unwrap(), &plain), None);
        // A session's key, a vanished object, a reloaded configuration.
        for changed in [
            Conditions {
                access_key_id: "ASIAEXAMPLE".into(),
                ..plain.clone()
            },
            Conditions {
                objects: (99, 2),
                ..plain.clone()
            },
            Conditions {
                templates: Arc::new(Templates::load(None).unwrap()),
                ..plain.clone()
            },
            Conditions {
                body_sha256: "2".to_owned(),
                ..plain.clone()
            },
        ] {
            assert_eq!(tried.recall(&job, &changed), None);
            tried.remember(&job, changed.clone(), None);
            assert_eq!(tried.recall(&job, &changed), Some(None));
            assert_eq!(tried.recall(&job, &supplemented), Some(None), "still");
            tried.remember(&job, plain.clone(), shortage);
        }
        tried.forget(&job);
        assert_eq!(tried.recall(&job, &plain), None);
    }

    #[test]
    fn only_so_many_jobs_are_remembered() {
        let (tried, conditions) = (Tried::default(), conditions());
        for number in 0..=MAX_TRIED_JOBS {
            let job = number.to_string().parse().unwrap();
            tried.remember(&job, conditions.clone(), None);
        }
        assert!(tried.verdicts().len() <= MAX_TRIED_JOBS);
    }
}
