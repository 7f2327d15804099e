//! Publishes the page and the manifest of one audience, batch by batch.
//!
//! The number of pages follows from the listing. Links between pages are therefore signed and recorded before the first page is
//! rendered, and no page is kept in memory after it is full.

use std::sync::Arc;

use presign::PresignedUrl;

use crate::archive::{Archive, FinishedZip, ZipIdentity};
use crate::audit::AuditedLinks;
use crate::audit::record::{self, LinkKind, ZipFacts};
use crate::deliver::DeliveryLedger;
use crate::deliver::publish::{ListDraft, Publisher};
use crate::error::JobError;
use crate::job::{ContentDisposition, FileName, ManifestFormat};
use crate::links::listing::Listing;
use crate::links::{self, Links, SignError};

use crate::media::{PageRenditions, Pictures};
use crate::plan::Audience;
use crate::plan::{GalleryPlan, ManifestPlan, Plan, PublishTarget};
use crate::render::gallery::{Gallery, PageLinks};
use crate::render::manifest::Manifest;
use crate::render::{RenderedPage, ZipLink, ZipLinks};
use crate::run::{JobRun, Presenting, Signing};
use crate::store::ObjectMeta;

const HTML: &str = "text/html; charset=utf-8";
const ZIP: &str = "application/zip";

/// The services that publish a run's pages and manifests.
#[derive(Debug, Clone, Copy)]
pub struct Publishing<'a> {
    run: &'a JobRun,
    plan: &'a Plan,
    signing: &'a Signing,
    recording: &'a DeliveryLedger,
    presenting: &'a Presenting,
    /// The ZIPs of the job, which are complete.
    archive: Option<&'a Archive>,
}

/// The page and the manifest of a job; either may be absent.
pub struct Publication<'a> {
    publishing: Publishing<'a>,
    audience: Audience,
    gallery: Option<(Gallery<'a>, Publisher, PublishedPages)>,
    /// Full pages that are not published yet.
    full: Vec<RenderedPage>,
    manifest: Option<(Manifest, ListDraft, PublishedList)>,
    zips: ZipLinks,
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
    /// The link to the first page, if a mail can link it.
    pub gallery_url: Option<PresignedUrl>,
    /// The link to the manifest, if a mail can link it.
    pub manifest_url: Option<PresignedUrl>,
    /// The links to the ZIPs that a mail can link.
    pub zips: ZipLinks,
}

/// Where the page and the manifest of an audience are, for display: the same at every attempt.
#[derive(Debug, Default)]
pub struct Places {
    /// The first page.
    pub gallery: Option<String>,
    /// The manifest.
    pub manifest: Option<String>,
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

impl<'a> Publishing<'a> {
    /// For a run's plan.
    pub(crate) const fn new(
        run: &'a JobRun,
        plan: &'a Plan,
        signing: &'a Signing,
        recording: &'a DeliveryLedger,
        presenting: &'a Presenting,
        archive: Option<&'a Archive>,
    ) -> Self {
        Self {
            run,
            plan,
            signing,
            recording,
            presenting,
            archive,
        }
    }

    /// The locations of the plan's page and manifest for an audience, published now or before.
    pub fn places(self, listing: &Listing, audience: &Audience) -> Result<Places, JobError> {
        let plan = self.plan;
        let gallery = plan.gallery.as_ref().map(|wanted| -> Result<_, JobError> {
            let names = Gallery::file_names(listing.linkable, wanted.page_size);
            let publisher = self.publisher(&wanted.place, audience, "gallery")?;
            Ok(publisher.describe(&names[0]))
        });
        let manifest = plan.manifest.as_ref().map(|wanted| -> Result<_, JobError> {
            let publisher = self.publisher(&wanted.place, audience, "manifest")?;
            Ok(publisher.describe(list_kind(wanted.format).0))
        });
        Ok(Places {
            gallery: gallery.transpose()?,
            manifest: manifest.transpose()?,
        })
    }

    /// Starts the publication that the plan requests.
    pub async fn begin(
        self,
        listing: &Listing,
        audience: &'a Audience,
    ) -> Result<Publication<'a>, JobError> {
        let zips = self.link_zips(audience).await?;
        let gallery = match &self.plan.gallery {
            Some(wanted) => Some(self.begin_gallery(wanted, listing, audience, &zips).await?),
            None => None,
        };
        let manifest = match &self.plan.manifest {
            Some(wanted) => Some(self.begin_manifest(wanted, audience).await?),
            None => None,
        };
        Ok(Publication {
            publishing: self,
            audience: audience.clone(),
            gallery,
            full: Vec::new(),
            manifest,
            zips,
        })
    }

    fn publisher(
        self,
        place: &PublishTarget,
        audience: &Audience,
        what: &str,
    ) -> Result<Publisher, JobError> {
        let store = Arc::clone(&self.signing.connection(&self.plan.connection)?.store);
        let (keyring, job) = (&self.signing.keyring, &self.plan.job.id);
        Ok(Publisher::new(
            store,
            place.clone(),
            keyring,
            job,
            audience,
            what,
        ))
    }

    async fn begin_gallery(
        self,
        wanted: &GalleryPlan,
        listing: &Listing,
        audience: &'a Audience,
        zips: &ZipLinks,
    ) -> Result<(Gallery<'a>, Publisher, PublishedPages), JobError> {
        let publisher = self.publisher(&wanted.place, audience, "gallery")?;
        let names = Gallery::file_names(listing.linkable, wanted.page_size);
        let urls = self.sign_files(audience, &publisher, &names, ShownAs::InBrowser);
        let urls = urls.await?;
        let pages = PublishedPages {
            url: urls.first().cloned().or_else(|| publisher.url(&names[0])),
            bytes: 0,
            place: publisher.describe(&names[0]),
        };
        let page_links = if urls.is_empty() {
            PageLinks::Relative
        } else {
            PageLinks::Signed(urls)
        };
        let gallery = Gallery::begin(
            &self.presenting.templates,
            self.plan,
            audience,
            listing.linkable,
            page_links,
            &self.presenting.mail,
        )?;
        Ok((gallery.with_zips(zips), publisher, pages))
    }

    /// Signs and records an audience's links to the ZIPs of the job; none to those in a directory that no web server serves.
    async fn link_zips(self, audience: &Audience) -> Result<ZipLinks, JobError> {
        let mut links = ZipLinks::default();
        let Some(archive) = self.archive else {
            return Ok(links);
        };
        // Links of the portal open those in buckets.
        let of_portal = self.plan.portal.is_some();
        for zip in &archive.zips {
            let FinishedZip {
                file_name, made, ..
            } = zip;
            let Some(publisher) = zip.publisher() else {
                continue;
            };
            if of_portal && publisher.object(file_name).is_some() {
                continue;
            }
            let names = std::slice::from_ref(file_name);
            let urls = self.sign_files(audience, publisher, names, ShownAs::Zip(*made));
            let url = urls.await?.into_iter().next();
            let Some(url) = url.or_else(|| publisher.url(file_name)) else {
                continue;
            };
            links.zips.push(ZipLink {
                url,
                file_name: file_name.clone(),
                files: made.files,
                size_bytes: made.size_bytes,
            });
        }
        links.left_out = archive.left_out;
        Ok(links)
    }

    async fn begin_manifest(
        self,
        wanted: &ManifestPlan,
        audience: &Audience,
    ) -> Result<(Manifest, ListDraft, PublishedList), JobError> {
        let publisher = self.publisher(&wanted.place, audience, "manifest")?;
        let (name, media_type) = list_kind(wanted.format);
        let names = [name.to_owned()];
        let urls = self.sign_files(audience, &publisher, &names, ShownAs::Saved(media_type));
        let urls = urls.await?;
        let mut draft = publisher.begin(name, &self.presenting.spool_dir).await?;
        let format = match (wanted.format, &self.plan.filename) {
            // The names are the store's, and aria2 takes them from there.
            (ManifestFormat::Aria2, Some(FileName::Stored)) => ManifestFormat::Urls,
            (format, _) => format,
        };
        let (manifest, head) = Manifest::begin(format, self.plan);
        draft.append(head).await?;
        let list = PublishedList {
            url: urls.into_iter().next().or_else(|| publisher.url(name)),
            media_type,
            place: publisher.describe(name),
        };
        Ok((manifest, draft, list))
    }

    /// Signs and records the links to what will be published; none for a directory.
    async fn sign_files(
        self,
        audience: &Audience,
        publisher: &Publisher,
        names: &[String],
        shown: ShownAs,
    ) -> Result<Vec<PresignedUrl>, JobError> {
        let (plan, recording) = (self.plan, self.recording);
        let objects: Vec<_> = names
            .iter()
            .filter_map(|name| publisher.object(name))
            .collect();
        let Some((bucket, _)) = objects.first() else {
            return Ok(Vec::new());
        };
        let signer = self.signing.published_link_signer(plan, bucket).await?;
        let attachment = ContentDisposition::Attachment;
        let (disposition, media_type, kind, size_bytes) = match shown {
            ShownAs::InBrowser => (ContentDisposition::Inline, HTML, LinkKind::Gallery, 0),
            ShownAs::Saved(media_type) => (attachment, media_type, LinkKind::Manifest, 0),
            ShownAs::Zip(made) => {
                let ZipIdentity {
                    files,
                    size_bytes,
                    directory,
                } = made;
                let kind = LinkKind::Zip(ZipFacts { files, directory });
                (attachment, ZIP, kind, size_bytes)
            }
        };
        let sign = |(bucket, key)| {
            let object = ObjectMeta {
                size_bytes,
                ..ObjectMeta::published(key)
            };
            links::sign_published(
                plan,
                object,
                &bucket,
                disposition,
                media_type,
                audience,
                &signer,
            )
        };
        let signed: Result<_, SignError> = objects.into_iter().map(sign).collect();
        let links = Links {
            links: signed?,
            unavailable: Vec::new(),
            audience: audience.clone(),
            lifetime: plan.lifetime,
            access_key_id: Arc::clone(&signer.access_key_id),
        };
        let role = self.signing.role(&self.run.job.from.connection);
        let context = self.run.context(kind, role, &recording.names);
        // Lines that were written and not noted as issued would be written again by the next attempt.
        let _writing = self.run.stop.commit()?;
        let recording = recording.issued.record(links, &context, &recording.audit);
        let audited = recording.await?;
        Ok(audited
            .links()
            .iter()
            .map(|link| link.url.clone())
            .collect())
    }
}

impl Publication<'_> {
    /// Whether there is a page or a list.
    pub(crate) const fn has_pages(&self) -> bool {
        self.gallery.is_some() || self.manifest.is_some()
    }

    /// Adds a batch. The pages that it fills must be published before the next batch.
    pub async fn push(
        &mut self,
        batch: &AuditedLinks,
        pictures: &Pictures,
        renditions: &PageRenditions,
    ) -> Result<(), JobError> {
        if let Some((gallery, ..)) = &mut self.gallery {
            self.full.extend(gallery.push(batch, pictures, renditions)?);
        }
        if let Some((manifest, draft, _)) = &mut self.manifest {
            draft.append(manifest.push(batch).to_vec()).await?;
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

    /// Publishes the rest and returns the locations.
    pub async fn finish(mut self) -> Result<Published, JobError> {
        let Publishing { run, recording, .. } = self.publishing;
        self.put_full().await?;
        let mut published = Published {
            zips: self.zips,
            ..Published::default()
        };
        let mut lines = Vec::new();
        let mut note = |place: &str, bytes: u64| {
            lines.push(record::published(
                run.job.id.as_str(),
                &self.audience,
                &recording.names,
                place,
                bytes,
            ));
        };
        for zip in self.publishing.archive.iter().flat_map(|of| &of.zips) {
            if let Some(place) = zip.place() {
                note(&place, zip.made.size_bytes);
            }
        }
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
        recording.audit.append(lines).await?;
        Ok(published)
    }
}

impl PublishedPages {
    async fn put(&mut self, publisher: &Publisher, page: RenderedPage) -> Result<(), JobError> {
        self.bytes += publisher.put_page(&page.file_name, page.html, HTML).await?;
        Ok(())
    }
}

/// The file name and the media type of a manifest.
const fn list_kind(format: ManifestFormat) -> (&'static str, &'static str) {
    match format {
        ManifestFormat::Csv => ("manifest.csv", "text/csv; charset=utf-8"),
        ManifestFormat::Jsonl => ("manifest.jsonl", "application/jsonl"),
        ManifestFormat::Urls => ("urls.txt", "text/plain; charset=utf-8"),
        ManifestFormat::Aria2 => ("aria2.txt", "text/plain; charset=utf-8"),
    }
}

#[derive(Clone, Copy)]
enum ShownAs {
    InBrowser,
    Saved(&'static str),
    Zip(ZipIdentity),
}
