//! What a job would send, without sending it: nothing is signed for use, recorded or delivered.
//!
//! The same plan, the same listing and the same templates as in earnest; only the links are examples that open nothing.
//! They are as long as real ones, so that a mail that would not fit shows it here. Mails are made one after the other as
//! they are asked for: a thousand of them need no more memory than one.

use std::sync::Arc;

use crate::audit::AuditedLinks;
use crate::deliver::Letter;
use crate::distribute::{Order, draw};
use crate::error::JobError;
use crate::job::Recipient;
use crate::links::listing::{self, Entry, Listing};
use crate::links::{self, Audience, PresignedUrl, Unavailable};
use crate::media::Album;
use crate::plan::Plan;
use crate::render::RenderedPage;
use crate::render::email::{self, Digest, Drawn};
use crate::render::gallery::{Gallery, PageLinks};
use crate::tools::Tools;

/// A job, planned and listed, of which mails and pages can be made.
pub struct Preview<'t> {
    /// The plan.
    pub plan: Plan,
    listing: Listing,
    /// By how many bytes real links are longer than plain examples.
    padding: usize,
    order: &'t Order,
    tools: &'t Tools,
}

/// A mail as it would be sent.
#[derive(Debug)]
pub struct PreviewedMail {
    /// To whom.
    pub recipient: Arc<Recipient>,
    /// Subject, text and HTML, and how much of the job is in them.
    pub drawn: Drawn,
    /// The whole letter.
    pub letter: Letter,
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
    pub async fn begin(order: &'t Order, tools: &'t Tools) -> Result<Self, JobError> {
        let plan = draw(order, tools).await?;
        let store = &*tools.connection(&plan.connection)?.store;
        let listing =
            listing::list(&plan, store, &tools.spool_dir, &order.stop, &tools.progress).await?;
        let padding = padding(&plan, &listing, tools).await?;
        Ok(Self {
            plan,
            listing,
            padding,
            order,
            tools,
        })
    }

    /// How many links it would make for each audience.
    pub const fn links(&self) -> u64 {
        self.listing.linkable
    }

    /// How many objects cannot be linked.
    pub const fn unavailable(&self) -> u64 {
        self.listing.unavailable
    }

    /// The first `most` objects that cannot be linked, and why.
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

    /// How many pages the gallery of an audience would have.
    pub fn page_count(&self) -> usize {
        self.plan.gallery.as_ref().map_or(0, |gallery| {
            Gallery::file_names(self.listing.linkable, gallery.page_size).len()
        })
    }

    /// The first pages of the first audience's gallery: at least `most` of them, if there are so many.
    pub async fn pages(&self, most: usize) -> Result<Vec<RenderedPage>, JobError> {
        let audience = self.plan.audiences().into_iter().next();
        let (Some(_), Some(audience)) = (&self.plan.gallery, audience) else {
            return Ok(Vec::new());
        };
        let mut gallery = Gallery::begin(
            &self.tools.templates,
            &self.plan,
            &audience,
            self.listing.linkable,
            PageLinks::Relative,
            &self.tools.mail,
        )?;
        let album = Album::new(&self.plan, self.tools, &self.order.stop)?;
        let mut pages = Vec::new();
        for number in 0..self.listing.pages() {
            let page = self.listing.page(number)?.unwrap_or_default();
            let pictures = album.page(number, &page).await;
            pages.extend(gallery.push(&self.batch(number, &audience)?, &pictures)?);
            if pages.len() >= most {
                return Ok(pages);
            }
        }
        pages.extend(gallery.finish()?);
        Ok(pages)
    }

    /// The mails, in the order of the recipients, each made when it is asked for.
    pub fn mails(&self) -> impl Iterator<Item = Result<PreviewedMail, JobError>> + '_ {
        let audiences = self.plan.audiences().into_iter();
        audiences.flat_map(move |audience| self.mails_of(&audience))
    }

    fn mails_of(
        &self,
        audience: &Audience,
    ) -> Box<dyn Iterator<Item = Result<PreviewedMail, JobError>> + '_> {
        let readers = self.plan.readers(audience).into_iter();
        match self.digest(audience) {
            Ok(digest) => Box::new(readers.map(move |reader| self.mail(&digest, reader))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn digest(&self, audience: &Audience) -> Result<Digest, JobError> {
        let mut digest = Digest::new(&self.plan);
        for number in 0..self.listing.pages() {
            digest.push(&self.batch(number, audience)?);
        }
        Ok(digest)
    }

    /// A page of the listing, with examples in place of links.
    fn batch(&self, number: usize, audience: &Audience) -> Result<AuditedLinks, JobError> {
        let page = self.listing.page(number)?.unwrap_or_default();
        let examples = links::examples(&self.plan, page, audience, self.padding)?;
        Ok(AuditedLinks::examples(examples))
    }

    fn mail(&self, digest: &Digest, recipient: Arc<Recipient>) -> Result<PreviewedMail, JobError> {
        let (plan, tools) = (&self.plan, self.tools);
        let example = |name| PresignedUrl::example(name, self.padding);
        let gallery_url = plan.gallery.as_ref().map(|_| example("gallery/index.html"));
        let manifest_url = plan.manifest.as_ref().map(|_| example("manifest"));
        let letter = email::Letter {
            plan,
            digest,
            recipient: &recipient,
            gallery_url: gallery_url.as_ref(),
            manifest_url: manifest_url.as_ref(),
            settings: &tools.mail,
        };
        let drawn = email::draw(&tools.templates, &letter)?;
        let letter = tools
            .sender
            .letter(&plan.job, &recipient, drawn.mail.clone(), self.order.now);
        Ok(PreviewedMail {
            recipient,
            drawn,
            letter,
        })
    }
}

/// Finds how much longer a real link is, by one that is measured and thrown away.
async fn padding(plan: &Plan, listing: &Listing, tools: &Tools) -> Result<usize, JobError> {
    let mut entries = listing.page(0)?.unwrap_or_default().into_iter();
    let first = entries.find_map(|entry| match entry {
        Entry::Linkable(object) => Some(object),
        Entry::Unavailable(..) => None,
    });
    let audience = plan.audiences().into_iter().next();
    let (Some(object), Some(audience)) = (first, audience) else {
        return Ok(0);
    };
    let example = PresignedUrl::example(object.key.as_str(), 0);
    let signing = tools.signing(plan).await?;
    let signed = links::sign(plan, vec![Entry::Linkable(object)], &audience, &signing)?;
    let real = signed.links.first();
    let longer = real.map_or(0, |link| link.url.byte_len());
    Ok(longer.saturating_sub(example.byte_len()))
}
