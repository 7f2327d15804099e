//! The page and the list of one audience, on their way out batch by batch.
//!
//! How many pages there will be is known from the listing, so the links from page to page are signed and recorded
//! before the first page is rendered, and no page is kept in memory after it is full.

use std::sync::Arc;

use jiff::Timestamp;
use presign::PresignedUrl;

use crate::audit::AuditedLinks;
use crate::audit::record::{self, Kind as LineKind};
use crate::deliver::publish::{Draft, Publisher};
use crate::distribute::{Order, context};
use crate::error::JobError;
use crate::job::{Disposition, ManifestFormat};
use crate::links::listing::Listing;
use crate::links::{self, Audience, Links, SignError};
use crate::media::Pictures;
use crate::plan::{Place, Plan};
use crate::render::RenderedPage;
use crate::render::gallery::{Gallery, PageLinks};
use crate::render::manifest::Manifest;
use crate::store::{ObjectMeta, Storage};
use crate::tools::Tools;

const HTML: &str = "text/html; charset=utf-8";

/// The page and the list that a job asked for; either may be absent.
pub struct Publication<'a> {
    audience: Audience,
    gallery: Option<(Gallery<'a>, Publisher, PublishedPages)>,
    /// Pages that are full and not put yet.
    full: Vec<RenderedPage>,
    manifest: Option<(Manifest, Draft, PublishedList)>,
}

impl std::fmt::Debug for Publication<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication")
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// What was published, and the links to it.
#[derive(Debug, Default)]
pub struct Published {
    /// The link to the first page, when it is in a bucket.
    pub gallery_url: Option<PresignedUrl>,
    /// The link to the list, when it is in a bucket.
    pub manifest_url: Option<PresignedUrl>,
}

/// Where the page and the list of an audience are, in words: the same at every attempt.
#[derive(Debug, Default)]
pub struct Places {
    /// The first page.
    pub gallery: Option<String>,
    /// The list.
    pub manifest: Option<String>,
}

/// Says where a plan's page and list are for an audience, published now or before.
pub fn places(
    plan: &Plan,
    listing: &Listing,
    audience: &Audience,
    tools: &Tools,
) -> Result<Places, JobError> {
    let gallery = plan.gallery.as_ref().map(|wanted| -> Result<_, JobError> {
        let names = Gallery::file_names(listing.linkable, wanted.page_size);
        let publisher = publisher(plan, &wanted.place, audience, "gallery", tools)?;
        Ok(publisher.describe(&names[0]))
    });
    let manifest = plan.manifest.as_ref().map(|wanted| -> Result<_, JobError> {
        let publisher = publisher(plan, &wanted.place, audience, "manifest", tools)?;
        Ok(publisher.describe(list_kind(wanted.format).0))
    });
    Ok(Places {
        gallery: gallery.transpose()?,
        manifest: manifest.transpose()?,
    })
}

#[derive(Debug)]
struct PublishedPages {
    url: Option<PresignedUrl>,
    bytes: u64,
    place: String,
}

#[derive(Debug)]
struct PublishedList {
    url: Option<PresignedUrl>,
    media_type: &'static str,
    place: String,
}

impl<'a> Publication<'a> {
    /// Begins what the plan asks for.
    pub async fn begin(
        order: &Order,
        plan: &'a Plan,
        listing: &Listing,
        audience: &'a Audience,
        tools: &'a Tools,
    ) -> Result<Self, JobError> {
        let gallery = match &plan.gallery {
            Some(_) => Some(begin_gallery(order, plan, listing, audience, tools).await?),
            None => None,
        };
        let manifest = match &plan.manifest {
            Some(_) => Some(begin_manifest(order, plan, audience, tools).await?),
            None => None,
        };
        Ok(Self {
            audience: audience.clone(),
            gallery,
            full: Vec::new(),
            manifest,
        })
    }

    /// Shows a batch. The pages that it fills are to be put before the next.
    pub fn push(&mut self, batch: &AuditedLinks, pictures: &Pictures) -> Result<(), JobError> {
        if let Some((gallery, ..)) = &mut self.gallery {
            self.full.extend(gallery.push(batch, pictures)?);
        }
        if let Some((manifest, draft, _)) = &mut self.manifest {
            draft.append(manifest.push(batch))?;
        }
        Ok(())
    }

    /// Publishes the pages that are full.
    pub async fn put_full(&mut self) -> Result<(), JobError> {
        if let Some((_, publisher, pages)) = &mut self.gallery {
            for page in self.full.drain(..) {
                pages.put(publisher, page).await?;
            }
        }
        Ok(())
    }

    /// Publishes what is left and says where everything is.
    pub async fn finish(mut self, order: &Order, tools: &Tools) -> Result<Published, JobError> {
        self.put_full().await?;
        let mut published = Published::default();
        let mut lines = Vec::new();
        let mut note = |place: &str, bytes: u64| {
            lines.push(record::published(
                order.job.id.as_str(),
                &self.audience,
                &tools.books.names,
                place,
                bytes,
            ));
        };
        if let Some((gallery, publisher, mut pages)) = self.gallery {
            for page in gallery.finish()? {
                pages.put(&publisher, page).await?;
            }
            note(&pages.place, pages.bytes);
            published.gallery_url = pages.url;
        }
        if let Some((_, draft, list)) = self.manifest {
            let bytes = draft.finish(list.media_type).await?;
            note(&list.place, bytes);
            published.manifest_url = list.url;
        }
        tools.books.audit.append(lines).await?;
        Ok(published)
    }
}

impl PublishedPages {
    async fn put(&mut self, publisher: &Publisher, page: RenderedPage) -> Result<(), JobError> {
        self.bytes += publisher.put_page(&page.file_name, page.html, HTML).await?;
        Ok(())
    }
}

fn publisher(
    plan: &Plan,
    place: &Place,
    audience: &Audience,
    what: &str,
    tools: &Tools,
) -> Result<Publisher, JobError> {
    let store = Arc::clone(&tools.connection(&plan.connection)?.store);
    let (keyring, job) = (&tools.keyring, &plan.job.id);
    Ok(Publisher::new(
        store,
        place.clone(),
        keyring,
        job,
        audience,
        what,
    ))
}

/// The file name and the media type of a list.
const fn list_kind(format: ManifestFormat) -> (&'static str, &'static str) {
    match format {
        ManifestFormat::Csv => ("manifest.csv", "text/csv; charset=utf-8"),
        ManifestFormat::Jsonl => ("manifest.jsonl", "application/jsonl"),
        ManifestFormat::Urls => ("urls.txt", "text/plain; charset=utf-8"),
    }
}

async fn begin_gallery<'a>(
    order: &Order,
    plan: &'a Plan,
    listing: &Listing,
    audience: &'a Audience,
    tools: &'a Tools,
) -> Result<(Gallery<'a>, Publisher, PublishedPages), JobError> {
    let wanted = plan.gallery.as_ref().expect("the caller saw it");
    let publisher = publisher(plan, &wanted.place, audience, "gallery", tools)?;
    let names = Gallery::file_names(listing.linkable, wanted.page_size);
    let urls = sign_files(
        order,
        plan,
        audience,
        &publisher,
        &names,
        Shown::InBrowser,
        LineKind::Gallery,
        tools,
    )
    .await?;
    let first = urls.first().cloned();
    let place = publisher.describe(&names[0]);
    let page_links = if urls.is_empty() {
        PageLinks::Relative
    } else {
        PageLinks::Signed(urls)
    };
    let gallery = Gallery::begin(
        &tools.templates,
        plan,
        audience,
        listing.linkable,
        page_links,
        &tools.mail,
    )?;
    Ok((
        gallery,
        publisher,
        PublishedPages {
            url: first,
            bytes: 0,
            place,
        },
    ))
}

async fn begin_manifest(
    order: &Order,
    plan: &Plan,
    audience: &Audience,
    tools: &Tools,
) -> Result<(Manifest, Draft, PublishedList), JobError> {
    let wanted = plan.manifest.as_ref().expect("the caller saw it");
    let publisher = publisher(plan, &wanted.place, audience, "manifest", tools)?;
    let (name, media_type) = list_kind(wanted.format);
    let names = [name.to_owned()];
    let urls = sign_files(
        order,
        plan,
        audience,
        &publisher,
        &names,
        Shown::Saved(media_type),
        LineKind::Manifest,
        tools,
    )
    .await?;
    let mut draft = publisher.begin(name, &tools.spool_dir).await?;
    let (manifest, head) = Manifest::begin(wanted.format, plan.lifetime);
    draft.append(&head)?;
    let list = PublishedList {
        url: urls.into_iter().next(),
        media_type,
        place: publisher.describe(name),
    };
    Ok((manifest, draft, list))
}

#[derive(Clone, Copy)]
enum Shown {
    InBrowser,
    Saved(&'static str),
}

/// Signs and records the links to what will be published; none when it goes into a directory.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a different thing, and both callers have them all"
)]
async fn sign_files(
    order: &Order,
    plan: &Plan,
    audience: &Audience,
    publisher: &Publisher,
    names: &[String],
    shown: Shown,
    kind: LineKind,
    tools: &Tools,
) -> Result<Vec<PresignedUrl>, JobError> {
    let objects: Vec<_> = names
        .iter()
        .filter_map(|name| publisher.object(name))
        .collect();
    let Some((bucket, _)) = objects.first() else {
        return Ok(Vec::new());
    };
    let signing = tools.published_signing(plan, bucket).await?;
    let (disposition, media_type) = match shown {
        Shown::InBrowser => (Disposition::Inline, HTML),
        Shown::Saved(media_type) => (Disposition::Attachment, media_type),
    };
    let sign = |(bucket, key)| {
        let object = ObjectMeta {
            key,
            size_bytes: 0,
            etag: String::new(),
            version: None,
            modified: Timestamp::UNIX_EPOCH,
            storage: Storage::Ready,
        };
        links::sign_published(
            plan,
            object,
            &bucket,
            disposition,
            media_type,
            audience,
            &signing,
        )
    };
    let signed: Result<_, SignError> = objects.into_iter().map(sign).collect();
    let links = Links {
        links: signed?,
        unavailable: Vec::new(),
        audience: audience.clone(),
        lifetime: plan.lifetime,
        access_key_id: Arc::clone(&signing.access_key_id),
    };
    let (context, books) = (context(order, kind, tools), &tools.books);
    let audited = books.issued.record(links, &context, &books.audit).await?;
    Ok(audited
        .links()
        .iter()
        .map(|link| link.url.clone())
        .collect())
}
