//! Previews a job: shows what it would send, and signs, records and delivers nothing.
//!
//! Plan, listing and templates are those of a real run; only the links are samples that open nothing. They are as long as real
//! links, so a mail that would not fit shows here. Mails are rendered on demand, one after the other: a thousand of them need no
//! more memory than one.

use std::sync::Arc;

use crate::assemble::Services;
use crate::deliver::Letter;
use crate::distribute::{first_parts, list, plan_of, settle};
use crate::error::JobError;
use crate::job::{Recipient, WhenEmpty};
use crate::links::Unavailable;
use crate::links::listing::{Entry, Listing};
use crate::mail_trial::MailTrial;
use crate::media::{PageRenditions, Pictures};
use crate::plan::Audience;
use crate::plan::Plan;
use crate::render::RenderedPage;
use crate::render::email::{Digest, RenderedDigest};
use crate::render::gallery::{Gallery, PageLinks};
use crate::report::PartsReport;
use crate::run::JobRun;

/// How many mails of each audience, and of how many audiences, a check renders.
const MAX_CHECKED_MAILS: usize = 100;

/// How many parts of a job in parts a check tries.
const MAX_CHECKED_PARTS: usize = 5;

/// Checks a job as far as it can be known beforehand. Of a job in parts, one of the first few must be one that can be done: a
/// recipient without files says nothing of the others.
///
/// # Errors
/// Any error that would keep the job from being done.
pub async fn check_job(run: &JobRun, services: &Services) -> Result<(), JobError> {
    try_parts(run, services, Objectless::Fails).await
}

/// Checks the example of a rule, as if its objects existed.
///
/// # Errors
/// Any error that would keep the job from being done.
pub async fn check_example(run: &JobRun, services: &Services) -> Result<(), JobError> {
    try_parts(run, services, Objectless::Imagines).await
}

/// What a check does about objects that do not exist.
#[derive(Debug, Clone, Copy)]
enum Objectless {
    /// It lists what there is.
    Fails,
    /// It imagines one.
    Imagines,
}

async fn try_parts(
    run: &JobRun,
    services: &Services,
    objectless: Objectless,
) -> Result<(), JobError> {
    let (parts, _) = runs(run, services, MAX_CHECKED_PARTS).await?;
    let mut first = None;
    for part in &parts {
        let checked = async {
            let preview = match objectless {
                Objectless::Fails => Preview::begin(part, services).await?,
                Objectless::Imagines => Preview::imagine(part, services).await?,
            };
            preview.check().await
        };
        match Box::pin(checked).await {
            Ok(()) => return Ok(()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(()), Err)
}

/// The runs that a preview shows: those of the first parts of a job in parts, at most `most`, or the run itself.
///
/// # Errors
/// The list of the job cannot be read.
pub async fn runs(
    run: &JobRun,
    services: &Services,
    most: usize,
) -> Result<(Vec<JobRun>, Option<PartsReport>), JobError> {
    if !run.job.is_in_parts() {
        return Ok((vec![run.clone()], None));
    }
    let (parts, report) = Box::pin(first_parts(run, services, most)).await?;
    Ok((parts, Some(report)))
}

/// A planned and listed job whose mails and pages can be rendered.
pub struct Preview<'t> {
    /// The plan.
    pub plan: Plan,
    listing: Listing,
    run: &'t JobRun,
    services: &'t Services,
}

/// Renders mails and pages of a job's preview.
pub struct TrialMails<'p> {
    preview: &'p Preview<'p>,
    mails: MailTrial<'p>,
}

/// A mail as it would be sent.
#[derive(Debug)]
pub struct PreviewedMail {
    /// The recipient.
    pub recipient: Arc<Recipient>,
    /// Subject, text and HTML, and how many of the job's files they show.
    pub built: RenderedDigest,
    /// The complete message.
    pub letter: Letter,
}

impl std::fmt::Debug for TrialMails<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trial").field(self.preview).finish()
    }
}

impl std::fmt::Debug for Preview<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preview")
            .field("plan", &self.plan)
            .field("listing", &self.listing)
            .finish_non_exhaustive()
    }
}

impl<'t> Preview<'t> {
    /// Plans a job and lists its objects.
    pub async fn begin(run: &'t JobRun, services: &'t Services) -> Result<Self, JobError> {
        let (plan, listing) = list(run, plan_of(run, services).await?, services).await?;
        Ok(Self {
            plan,
            listing,
            run,
            services,
        })
    }

    /// Plans a job as if its objects existed: for the example of a rule.
    pub async fn imagine(run: &'t JobRun, services: &'t Services) -> Result<Self, JobError> {
        let plan = plan_of(run, services).await?;
        let listing = Listing::imagined(&plan, &services.presenting.spool_dir)?;
        let plan = settle(run, plan, &listing, true, services).await?;
        Ok(Self {
            plan,
            listing,
            run,
            services,
        })
    }

    /// Renders the first mails and the start of the page, and discards them. This finds templates that lack a variable of the
    /// job.
    ///
    /// # Errors
    ///
    /// Any error that would keep the job from being done, as far as it can be known beforehand.
    pub async fn check(&self) -> Result<(), JobError> {
        let mails = self.services.mail_trial(&self.plan, &self.listing).await?;
        let audiences = self.plan.audiences();
        for audience in audiences.iter().take(MAX_CHECKED_MAILS) {
            let digest = mails.first_digest(audience).await?;
            for reader in self.plan.readers(audience).iter().take(MAX_CHECKED_MAILS) {
                mails.build(&digest, reader, &self.services.presenting.mail)?;
            }
        }
        let (Some(_), Some(audience)) = (&self.plan.gallery, audiences.first()) else {
            return Ok(());
        };
        let batch = mails.batch(0, audience)?;
        let links = batch.links().len() as u64;
        let mut gallery = Gallery::begin(
            &self.services.presenting.templates,
            &self.plan,
            audience,
            links,
            PageLinks::Relative,
            &self.services.presenting.mail,
        )?;
        let first = batch.links().first().map(|link| &link.url);
        gallery = gallery.with_zips(&mails.zip_links(first));
        gallery.push(&batch, &Pictures::default(), &PageRenditions::default())?;
        gallery.finish()?;
        Ok(())
    }

    /// Renders its mails and pages.
    pub async fn trial(&self) -> Result<TrialMails<'_>, JobError> {
        let mails = self.services.mail_trial(&self.plan, &self.listing).await?;
        Ok(TrialMails {
            preview: self,
            mails,
        })
    }

    /// Whether the job would send no mail, since it has no files.
    pub fn would_be_skipped(&self) -> bool {
        self.listing.has_no_files(&self.plan) && self.plan.when_empty == WhenEmpty::Skip
    }

    /// The number of links for each audience.
    pub const fn links(&self) -> u64 {
        self.listing.linkable
    }

    /// The number of objects without a link.
    pub const fn unavailable(&self) -> u64 {
        self.listing.unavailable
    }

    /// The first `most` objects without a link, and the reasons.
    pub fn first_unavailable(&self, most: usize) -> Result<Vec<Unavailable>, JobError> {
        let mut found = Vec::new();
        for number in 0..self.listing.pages() {
            let page = self.listing.page(number)?.unwrap_or_default();
            found.extend(page.into_iter().filter_map(|entry| match entry {
                Entry::Unavailable(key, reason) => Some(Unavailable { key, reason }),
                Entry::Linkable(_) => None,
            }));
            if found.len() >= most {
                break;
            }
        }
        found.truncate(most);
        Ok(found)
    }

    /// The number of pages of an audience's gallery.
    pub fn page_count(&self) -> usize {
        self.plan.gallery.as_ref().map_or(0, |gallery| {
            Gallery::file_names(self.listing.linkable, gallery.page_size).len()
        })
    }
}

impl TrialMails<'_> {
    /// The first pages of the first audience's gallery: at least `most` of them, if there are so many.
    pub async fn pages(&self, most: usize) -> Result<Vec<RenderedPage>, JobError> {
        let Preview {
            plan,
            listing,
            run,
            services,
        } = self.preview;
        let audience = plan.audiences().into_iter().next();
        let (Some(_), Some(audience)) = (&plan.gallery, audience) else {
            return Ok(Vec::new());
        };
        let mut gallery = Gallery::begin(
            &services.presenting.templates,
            plan,
            &audience,
            listing.linkable,
            PageLinks::Relative,
            &services.presenting.mail,
        )?;
        let loader = services.loader(plan, &run.stop)?;
        let mut pages = Vec::new();
        for number in 0..listing.pages() {
            let page = listing.page(number)?.unwrap_or_default();
            let pictures = loader.page(number, &page).await;
            let batch = self.mails.batch(number, &audience)?;
            if number == 0 {
                let first = batch.links().first().map(|link| &link.url);
                gallery = gallery.with_zips(&self.mails.zip_links(first));
            }
            pages.extend(gallery.push(&batch, &pictures, &PageRenditions::default())?);
            if pages.len() >= most {
                return Ok(pages);
            }
        }
        pages.extend(gallery.finish()?);
        Ok(pages)
    }

    /// The mails, in the order of the recipients, each rendered on demand.
    pub fn mails(&self) -> impl Iterator<Item = Result<PreviewedMail, JobError>> + '_ {
        let audiences = self.preview.plan.audiences().into_iter();
        audiences.flat_map(move |audience| self.mails_of(&audience))
    }

    fn mails_of(
        &self,
        audience: &Audience,
    ) -> Box<dyn Iterator<Item = Result<PreviewedMail, JobError>> + '_> {
        let readers = self.preview.plan.readers(audience).into_iter();
        match self.mails.digest(audience) {
            Ok(digest) => Box::new(readers.map(move |reader| self.mail(&digest, reader))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn mail(&self, digest: &Digest, recipient: Arc<Recipient>) -> Result<PreviewedMail, JobError> {
        let Preview {
            plan,
            run,
            services,
            ..
        } = self.preview;
        let built = self
            .mails
            .build(digest, &recipient, &services.presenting.mail)?;
        let letter =
            services
                .sending
                .sender
                .letter(&plan.job, &recipient, built.mail.clone(), run.now);
        Ok(PreviewedMail {
            recipient,
            built,
            letter,
        })
    }
}
