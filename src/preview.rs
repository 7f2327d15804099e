//! What a job would send, without sending it: nothing is signed for use, recorded or delivered.
//!
//! The same plan, the same listing and the same templates as in earnest; only the links are examples that open nothing.

use std::sync::Arc;

use crate::audit::AuditedLinks;
use crate::deliver::Letter;
use crate::distribute::{Order, draw};
use crate::error::JobError;
use crate::job::Recipient;
use crate::links::{self, Audience, PresignedUrl, listing};
use crate::media::Pictures;
use crate::plan::Plan;
use crate::render::email::{self, Digest};
use crate::render::gallery::{Gallery, PageLinks};
use crate::render::{RenderedMail, RenderedPage};
use crate::tools::Tools;

/// What a job would send.
#[derive(Debug)]
pub struct Preview {
    /// The plan.
    pub plan: Plan,
    /// How many links it would make for each audience.
    pub links: u64,
    /// How many objects cannot be linked.
    pub unavailable: u64,
    /// One mail for each recipient.
    pub mails: Vec<PreviewedMail>,
    /// The pages of the first audience's gallery.
    pub pages: Vec<RenderedPage>,
}

/// A mail as it would be sent.
#[derive(Debug)]
pub struct PreviewedMail {
    /// To whom.
    pub recipient: Arc<Recipient>,
    /// Subject, text and HTML.
    pub rendered: RenderedMail,
    /// The whole letter.
    pub letter: Letter,
}

/// Previews a job.
pub async fn preview(order: &Order, tools: &Tools) -> Result<Preview, JobError> {
    let plan = draw(order, tools).await?;
    let connection = tools.connection(&plan.connection)?;
    let listing = listing::list(&plan, &*connection.store, &tools.spool_dir, &order.stop).await?;
    let mut mails = Vec::new();
    let mut pages = Vec::new();
    for (index, audience) in plan.audiences().into_iter().enumerate() {
        let mut digest = Digest::new(&plan);
        let mut gallery = match &plan.gallery {
            Some(_) if index == 0 => Some(Gallery::begin(
                &tools.templates,
                &plan,
                &audience,
                listing.linkable,
                PageLinks::Relative,
                &tools.mail,
            )?),
            Some(_) | None => None,
        };
        let mut number = 0;
        while let Some(page) = listing.page(number)? {
            let batch = AuditedLinks::examples(links::examples(&plan, page, &audience)?);
            digest.push(&batch);
            if let Some(gallery) = &mut gallery {
                pages.extend(gallery.push(&batch, &Pictures::default())?);
            }
            number += 1;
        }
        if let Some(gallery) = gallery {
            pages.extend(gallery.finish()?);
        }
        mails.extend(mails_for(order, &plan, &audience, &digest, tools)?);
    }
    Ok(Preview {
        links: listing.linkable,
        unavailable: listing.unavailable,
        plan,
        mails,
        pages,
    })
}

fn mails_for(
    order: &Order,
    plan: &Plan,
    audience: &Audience,
    digest: &Digest,
    tools: &Tools,
) -> Result<Vec<PreviewedMail>, JobError> {
    let gallery_url = plan
        .gallery
        .as_ref()
        .map(|_| PresignedUrl::example("gallery/index.html"));
    let manifest_url = plan
        .manifest
        .as_ref()
        .map(|_| PresignedUrl::example("manifest"));
    let mut mails = Vec::new();
    for recipient in plan.readers(audience) {
        let letter = email::Letter {
            plan,
            digest,
            recipient: &recipient,
            gallery_url: gallery_url.as_ref(),
            manifest_url: manifest_url.as_ref(),
            settings: &tools.mail,
        };
        let rendered = email::mail(&tools.templates, &letter)?;
        let reply_to = plan.email().and_then(|email| email.reply_to.as_ref());
        let letter = tools.sender.letter(
            &plan.job.id,
            &recipient,
            reply_to,
            rendered.clone(),
            order.now,
        )?;
        mails.push(PreviewedMail {
            recipient,
            rendered,
            letter,
        });
    }
    Ok(mails)
}
