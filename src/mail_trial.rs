//! What the mails of a plan show, tried before a link is signed for use.
//!
//! A mail is as long as its readers' programs allow, so not every job's files fit. Whether they do decides what else is
//! published, and that must be known before the first link is recorded: no link may be recorded as handed out that its
//! recipient cannot reach. The trial renders the very mails, with links that take the same room and open nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::AuditedLinks;
use crate::error::JobError;
use crate::job::{EmailOrder, Overflow, Phrase, Recipient};
use crate::links::listing::{Entry, Listing};
use crate::links::{self, Audience, PresignedUrl, Signing};
use crate::plan::{Place, Plan, Shortage};
use crate::render::MailSettings;
use crate::render::email::{self, Digest, Drawn, MAX_ROWS};
use crate::stop::Stop;
use crate::tools::Tools;

/// The part of a mail's room that the trial leaves empty, as its reciprocal: a signature can be some bytes longer than the one
/// that was measured.
const SPARE_PART: usize = 100;

/// Makes mails of a plan that open nothing.
pub(crate) struct MailTrial<'a> {
    plan: &'a Plan,
    listing: &'a Listing,
    tools: &'a Tools,
    measure: Signing,
}

impl<'a> MailTrial<'a> {
    /// A trial of a plan and its objects. Asks for the credentials, since a link with a session's token is longer.
    pub(crate) async fn new(
        plan: &'a Plan,
        listing: &'a Listing,
        tools: &'a Tools,
    ) -> Result<Self, JobError> {
        Ok(Self {
            plan,
            listing,
            tools,
            measure: tools.signing(plan).await?.to_measure()?,
        })
    }

    /// A page of the listing, with examples in place of links.
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

    /// What a mail can show of all objects.
    pub(crate) fn digest(&self, audience: &Audience) -> Result<Digest, JobError> {
        let mut digest = Digest::new(self.plan);
        for number in 0..self.listing.pages() {
            digest.push(&self.batch(number, audience)?);
        }
        Ok(digest)
    }

    /// What a mail can show of the first objects: one more than any mail has room for, if there are so many.
    pub(crate) fn first_digest(&self, audience: &Audience) -> Result<Digest, JobError> {
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
        }
        Ok(digest)
    }

    /// The mail of one reader.
    pub(crate) fn draw(
        &self,
        digest: &Digest,
        recipient: &Recipient,
        settings: &MailSettings,
    ) -> Result<Drawn, JobError> {
        let plan = self.plan;
        let example = |place: &Place, name| match place {
            Place::Bucket(..) => Some(PresignedUrl::example(name, digest.first_url()?)),
            Place::Dir { .. } => None,
        };
        let gallery = plan.gallery.as_ref().map(|gallery| &gallery.place);
        let gallery_url = gallery.and_then(|place| example(place, "gallery/index.html"));
        let manifest = plan.manifest.as_ref().map(|manifest| &manifest.place);
        let manifest_url = manifest.and_then(|place| example(place, "manifest"));
        let letter = email::Letter {
            plan,
            digest,
            recipient,
            gallery_url: gallery_url.as_ref(),
            manifest_url: manifest_url.as_ref(),
            settings,
        };
        Ok(email::draw(&self.tools.templates, &letter)?)
    }
}

/// Finds whether a mail of the plan neither shows all files nor links what has them.
pub(crate) async fn shortage(
    plan: &Plan,
    listing: &Listing,
    stop: &Stop,
    tools: &Tools,
) -> Result<Option<Shortage>, JobError> {
    let summarizes = |email: &EmailOrder| email.overflow == Overflow::Summarize;
    if listing.is_empty() || plan.email().is_none_or(summarizes) {
        return Ok(None);
    }
    let trial = MailTrial::new(plan, listing, tools).await?;
    let full = tools.mail.html_budget_bytes;
    let settings = MailSettings {
        html_budget_bytes: full - full / SPARE_PART,
        ..(*tools.mail).clone()
    };
    let mut shared = None;
    for group in by_language(plan) {
        for (number, reader) in group.iter().enumerate() {
            stop.heed()?;
            let own;
            let digest = if names_readers(plan) {
                own = trial.first_digest(&Audience::Recipient(Arc::clone(reader)))?;
                &own
            } else {
                match &mut shared {
                    Some(digest) => &*digest,
                    shared @ None => shared.insert(trial.first_digest(&Audience::Everyone)?),
                }
            };
            let drawn = trial.draw(digest, reader, &settings)?;
            if !drawn.reaches_all() {
                return Ok(Some(Shortage {
                    links: listing.linkable,
                    shown: drawn.shown,
                }));
            }
            // Where the mail with the most to say leaves half of its room, the others of its language fit.
            if number == 0 && drawn.html_bytes * 2 <= full {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(None)
}

/// Whether the names of files differ from reader to reader.
fn names_readers(plan: &Plan) -> bool {
    let filename = plan.filename.as_ref();
    plan.per_recipient && filename.is_some_and(Phrase::names_recipient)
}

/// The readers by language; of each, that one first of whom a mail has the most to say.
fn by_language(plan: &Plan) -> Vec<Vec<Arc<Recipient>>> {
    let mut groups: BTreeMap<Option<String>, Vec<(usize, Arc<Recipient>)>> = BTreeMap::new();
    for audience in plan.audiences() {
        for reader in plan.readers(&audience) {
            let vars = serde_json::to_vec(&reader.vars).map_or(0, |vars| vars.len());
            let language = reader.locale.as_ref().map(ToString::to_string);
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
