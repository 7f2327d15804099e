//! Steps 6 and 7: a signed link, which exists for the caller once its audit line is durable.

use std::sync::Arc;

use jiff::Timestamp;
use presign::PresignedUrl;
use presign::cloudfront::UrlPolicy;
use presign::disposition::passive_type;
use sha2::{Digest, Sha256};

use super::lifetime::{LinkUse, is_embedded};
use super::renditions::RenditionMap;
use super::{
    AccessRefusal, ClosedBecause, ClosedEntry, OpenEvidence, OpenKind, OpenMethod, PortalAccess,
    ReaderSession, SignedEntry, SignedOpen, SignedPage, Visit, linked, open_id, presentation,
    sid_of,
};
use crate::audit::portal as lines;
use crate::audit::portal::{OpenedFields, ViewFields};
use crate::config::PortalDelivery;
use crate::failpoint::{self, Failpoint};
use crate::job::{Bucket, ContentDisposition};
use crate::keyring::{Deriver, nonce};
use crate::ledger::portal::{
    ChangeTarget, PortalJob, PortalPerson, PortalRenditions, PortalZipPlace,
};
use crate::links::connection::Connection;
use crate::links::distribution::Distribution;
use crate::links::listing::Entry;
use crate::links::portal::{
    PortalName, PortalPresentation, link_id, link_ids, page_link_id, sign_rendition,
};
use crate::links::{SignError, UrlSigner};
use crate::media::{RenditionUrls, StoredImage};
use crate::plan::expiry::noticed;
use crate::plan::{CredentialsEnd, ExpiryGuard, Lifetime};
use crate::portal_token::{JobRef, ObjectSlot, PortalToken};
use crate::store::ObjectMeta;

/// A signer, the id of its key, and the lifetime of what it signs.
struct Prepared {
    signer: UrlSigner,
    access_key_id: Arc<str>,
    lifetime: Lifetime,
}

/// A link that is signed on a blocking thread.
struct UnsignedLink {
    meta: ObjectMeta,
    link_id: String,
    open: Option<String>,
}

/// The links of a page to files that it shows, of one use.
#[derive(Default)]
struct EmbeddedLinks {
    prepared: Option<Prepared>,
    unsigned: Vec<UnsignedLink>,
    /// Where the entries of `unsigned` are on the page.
    places: Vec<usize>,
}

/// Where the objects of signed links are.
#[derive(Clone, Copy)]
struct SignedPlace<'a> {
    bucket: &'a Bucket,
    /// What their keys begin with, if a distribution may answer the links. It is in front of the files of jobs alone.
    distributed: Option<&'a str>,
}

impl<'a> SignedPlace<'a> {
    /// Where the files of a job are.
    fn of(job: &'a PortalJob) -> Self {
        Self {
            bucket: &job.bucket,
            distributed: Some(&job.prefix),
        }
    }
}

/// What signs the renditions of a page.
struct ReducedLinks {
    map: Arc<RenditionMap>,
    place: PortalRenditions,
    link_id: String,
    prepared: Option<Prepared>,
}

impl SignedEntry {
    /// The signed links of the entry.
    fn urls(&self) -> impl Iterator<Item = &PresignedUrl> {
        let of_picture = self.renditions.iter();
        let of_picture = of_picture.flat_map(|of| [Some(&of.small), of.large.as_ref()]);
        let of_picture = of_picture.flatten().map(|(url, _)| url);
        self.embed.iter().chain(of_picture)
    }
}

/// The session of the signing credentials ends in a moment, and their source has not renewed it.
#[derive(Debug, thiserror::Error)]
#[error("the signing credentials end in less than a minute and are not renewed yet")]
struct CredentialsEnding;

impl PortalAccess {
    /// Signs a link to the object of a visit, and returns it once its audit line is durable: steps 5 to 7.
    ///
    /// # Errors
    /// The visitor is not signed in as the link asks, the link is a page's, or a service does not answer.
    pub async fn open(
        &self,
        visit: &Visit,
        how: OpenKind,
        method: OpenMethod,
        evidence: &OpenEvidence<'_>,
        session: Option<&ReaderSession>,
        now: Timestamp,
    ) -> Result<SignedOpen, AccessRefusal> {
        // The visit may have waited for the store.
        self.admit_open(visit, session, now).await?;
        let (Some(object), Some((bucket, meta))) = (&visit.object, self.meta(visit).await?) else {
            return Err(AccessRefusal::Forged);
        };
        let job = &visit.job;
        let rendition = match how {
            OpenKind::Rendition(size) => self.rendition(visit, size).await?,
            OpenKind::Button | OpenKind::Direct | OpenKind::Embed => None,
        };
        let is_rendition = rendition.is_some();
        let (bucket, meta) = rendition.unwrap_or((bucket, meta));
        let is_zip = visit.token.object.zip().is_some();
        let person = self.index.person(&visit.token, job).await?;
        let is_embed = matches!(how, OpenKind::Embed | OpenKind::Rendition(_));
        let is_shown = object.is_inline || is_embed;
        let of = LinkUse::of(&object.name, object.size_bytes, is_shown);
        let place = match is_zip || is_rendition {
            true => SignedPlace {
                bucket: &bucket,
                distributed: None,
            },
            false => SignedPlace::of(job),
        };
        let prepared = self.prepare(job, place, of, method, now).await?;
        let signed_at = prepared.lifetime.signed_at;
        let sid = sid_of(session);
        // A file that is shown has one URL in its window, so that the browser's cache has it; each save is an open of its own.
        let told_apart = match of {
            LinkUse::Saved { .. } => nonce(),
            LinkUse::Shown | LinkUse::Played => signed_at.to_string(),
        };
        let open = open_id(
            &self.opens,
            &[
                object.link_id.as_bytes(),
                sid.as_bytes(),
                told_apart.as_bytes(),
            ],
        );
        let url = if prepared.signer.is_slow() {
            let link = UnsignedLink {
                meta: meta.clone(),
                link_id: object.link_id.clone(),
                open: Some(open.clone()),
            };
            let signed = sign_aside(job, person, None, vec![link], &prepared.signer);
            signed.await?.pop().ok_or(AccessRefusal::Forged)?
        } else {
            let published = |disposition| PortalPresentation {
                disposition,
                name: PortalName::Own,
                text_charset: job.text_charset,
            };
            let shown = match (is_zip, is_rendition) {
                (true, _) => published(ContentDisposition::Attachment),
                (_, true) => published(ContentDisposition::Inline),
                (false, false) => presentation(job, person.as_ref(), None),
            };
            shown.sign(&meta, &object.link_id, Some(&open), &prepared.signer)?
        };
        failpoint::pass(Failpoint::OpenSigned);
        let fingerprint = self.names.fingerprint(url.signature());
        let rid = visit.rid(&self.index.everyone);
        let visitor = self
            .visitors
            .fields(evidence, session, visit.reader_id(), now)
            .await;
        let expires_at = prepared.lifetime.expires_at;
        let fields = OpenedFields {
            job: job.job.as_str(),
            rid,
            connection: job.connection.as_str(),
            bucket: bucket.as_str(),
            key: meta.key.as_str(),
            link_id: &object.link_id,
            open: &open,
            how: how.word(),
            link: &fingerprint,
            signed_at,
            expires_at,
            access_key_id: &prepared.access_key_id,
            visitor,
        };
        self.record_open(method, &fields).await?;
        Ok(SignedOpen {
            url,
            open_id: open,
            expires_at,
        })
    }

    /// Whether a link that is about to be opened is still open for the visitor.
    pub(super) async fn admit_open(
        &self,
        visit: &Visit,
        session: Option<&ReaderSession>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        self.is_still_open(visit, session, now).await?;
        failpoint::pass(Failpoint::OpenAdmitted);
        Ok(())
    }

    /// Records an open. Its bytes, or a link to them, may leave when this has returned: the line is durable.
    pub(super) async fn record_open(
        &self,
        method: OpenMethod,
        fields: &OpenedFields<'_>,
    ) -> Result<(), AccessRefusal> {
        self.append(match method {
            OpenMethod::Get => lines::opened(fields),
            OpenMethod::Head => lines::probe(fields),
        })
        .await?;
        failpoint::pass(Failpoint::OpenRecorded);
        Ok(())
    }

    /// Signs the links of one page of the job's objects, and returns them once their one audit line is durable.
    pub async fn view(
        &self,
        visit: &Visit,
        page: u32,
        evidence: &OpenEvidence<'_>,
        session: Option<&ReaderSession>,
        now: Timestamp,
    ) -> Result<SignedPage, AccessRefusal> {
        self.admit(visit, session, now).await?;
        let (job, reference) = (&visit.job, visit.token.job);
        let size = job.page_size.max(1);
        let pages = job.objects.div_ceil(size).max(1);
        if page >= pages {
            return Err(AccessRefusal::Forged);
        }
        let entries = self
            .index
            .cache
            .objects_from(reference, page * size, size)
            .await?;
        let person = self.index.person(&visit.token, job).await?;
        let rid = visit.rid(&self.index.everyone).to_owned();
        let ids = link_ids(&self.index.link_ids, &job.job, &rid, &job.bucket);
        let saved = presentation(job, person.as_ref(), None);
        let shown = presentation(job, person.as_ref(), Some(ContentDisposition::Inline));
        let closed = self.closed(job, &entries, &ids).await?;
        let (mut still, mut played) = (EmbeddedLinks::default(), EmbeddedLinks::default());
        let mut reduced = self.reduced(job, reference, &ids, page).await?;
        let mut signed: Vec<Result<SignedEntry, ClosedEntry>> = Vec::with_capacity(entries.len());
        for ((index, entry), is_revoked) in entries.into_iter().zip(closed) {
            let meta = match entry {
                Entry::Linkable(meta) if !is_revoked => meta,
                Entry::Linkable(meta) => {
                    signed.push(Err(closed_entry(
                        job,
                        meta.key.as_str(),
                        ClosedBecause::Revoked,
                    )));
                    continue;
                }
                Entry::Unavailable(key, reason) => {
                    let reason = ClosedBecause::Unlinkable(reason);
                    signed.push(Err(closed_entry(job, &key, reason)));
                    continue;
                }
            };
            let object = linked(job, index, &meta, link_id(&ids, &meta), &saved)?;
            let renditions = match &mut reduced {
                Some(reduced) => self.sign_reduced(job, reduced, index, now).await?,
                None => None,
            };
            let mut embed = None;
            if passive_type(&object.name).is_some_and(is_embedded) {
                let of = LinkUse::of(&object.name, object.size_bytes, true);
                let group = match of {
                    LinkUse::Played => &mut played,
                    LinkUse::Shown | LinkUse::Saved { .. } => &mut still,
                };
                if group.prepared.is_none() {
                    let place = SignedPlace::of(job);
                    let prepared = self.prepare(job, place, of, OpenMethod::Get, now);
                    group.prepared = Some(prepared.await?);
                }
                match &group.prepared {
                    Some(prepared) if prepared.signer.is_slow() => {
                        group.places.push(signed.len());
                        group.unsigned.push(UnsignedLink {
                            meta,
                            link_id: object.link_id.clone(),
                            open: None,
                        });
                    }
                    Some(prepared) => {
                        let signer = &prepared.signer;
                        embed = Some(shown.sign(&meta, &object.link_id, None, signer)?);
                    }
                    None => {}
                }
            }
            let token = self.index.keys.seal(&PortalToken {
                object: ObjectSlot(index),
                ..visit.token
            });
            signed.push(Ok(SignedEntry {
                object,
                embed,
                renditions,
                token,
            }));
        }
        let inline = Some(ContentDisposition::Inline);
        for group in [&mut still, &mut played] {
            let Some(prepared) = &group.prepared else {
                continue;
            };
            let unsigned = std::mem::take(&mut group.unsigned);
            if unsigned.is_empty() {
                continue;
            }
            let urls = sign_aside(job, person.clone(), inline, unsigned, &prepared.signer).await?;
            for (place, url) in group.places.iter().zip(urls) {
                if let Some(Ok(entry)) = signed.get_mut(*place) {
                    entry.embed = Some(url);
                }
            }
        }
        let (mut count, mut fingerprints) = (0, Sha256::new());
        for url in signed.iter().flatten().flat_map(SignedEntry::urls) {
            fingerprints.update(self.names.fingerprint(url.signature()));
            count += 1;
        }
        let of_reduced = reduced.and_then(|reduced| reduced.prepared);
        let prepared = [&still.prepared, &played.prepared, &of_reduced];
        let prepared = prepared.into_iter().flatten();
        let ends = prepared
            .clone()
            .map(|prepared| prepared.lifetime.expires_at);
        // The line counts for what still opens after a revocation: the last of its links ends then.
        let last_end = ends.clone().max();
        let expires_at = ends.min();
        let mut keys = prepared.map(|prepared| Arc::clone(&prepared.access_key_id));
        let access_key_id = keys.next().unwrap_or_else(|| "".into());
        let visitor = self
            .visitors
            .fields(evidence, session, visit.reader_id(), now)
            .await;
        let line = lines::view(&ViewFields {
            job: job.job.as_str(),
            rid: &rid,
            connection: job.connection.as_str(),
            link_id: &page_link_id(&self.index.link_ids, reference, &rid),
            page,
            objects: signed.len(),
            signed: count,
            links_sha256: &presign::hex::hex(&fingerprints.finalize()),
            expires_at: last_end.unwrap_or(now),
            access_key_id: &access_key_id,
            visitor,
        });
        self.append(line).await?;
        failpoint::pass(Failpoint::ViewRecorded);
        let zips = self.zips_of_page(visit, &rid).await?;
        Ok(SignedPage {
            entries: signed,
            zips,
            page,
            pages,
            expires_at,
        })
    }

    /// What signs the renditions of a job's pictures, if it has some.
    async fn reduced(
        &self,
        job: &PortalJob,
        reference: JobRef,
        ids: &Deriver,
        page: u32,
    ) -> Result<Option<ReducedLinks>, AccessRefusal> {
        let Some(place) = &job.renditions else {
            return Ok(None);
        };
        let map = self.index.cache.renditions(reference, place).await?;
        Ok(Some(ReducedLinks {
            map,
            place: place.clone(),
            link_id: ids.id(&[b"renditions", page.to_string().as_bytes()]),
            prepared: None,
        }))
    }

    /// Signs the renditions of one picture.
    async fn sign_reduced(
        &self,
        job: &PortalJob,
        reduced: &mut ReducedLinks,
        index: u32,
        now: Timestamp,
    ) -> Result<Option<RenditionUrls>, AccessRefusal> {
        let Some(stored) = reduced.map.get(&index) else {
            return Ok(None);
        };
        if reduced.prepared.is_none() {
            let place = SignedPlace {
                bucket: &reduced.place.bucket,
                distributed: None,
            };
            let prepared = self.prepare(job, place, LinkUse::Shown, OpenMethod::Get, now);
            reduced.prepared = Some(prepared.await?);
        }
        let Some(prepared) = &reduced.prepared else {
            return Ok(None);
        };
        let sign = |image: &StoredImage| -> Result<_, AccessRefusal> {
            let Some(key) = reduced.place.key(&image.file_name) else {
                return Ok(None);
            };
            let url = sign_rendition(&key, &reduced.link_id, &prepared.signer)?;
            Ok(Some((url, image.width)))
        };
        let Some(small) = sign(&stored.small)? else {
            return Ok(None);
        };
        let large = stored.large.as_ref().map(sign).transpose()?.flatten();
        Ok(Some(RenditionUrls { small, large }))
    }

    /// The origins at which the signed links of a visit's job open: `https://reports.s3.eu-central-1.amazonaws.com`. Renditions
    /// and ZIPs may be in other buckets than the files.
    pub async fn origins(
        &self,
        visit: &Visit,
        now: Timestamp,
    ) -> Result<Vec<String>, AccessRefusal> {
        let job = &visit.job;
        let renditions = job.renditions.iter().map(|place| &place.bucket);
        let zips = job.zips.zips.iter().filter_map(|zip| match &zip.place {
            PortalZipPlace::Stored { bucket, .. } => Some(bucket),
            PortalZipPlace::Streamed { .. } => None,
        });
        // All ZIPs of a job are in one bucket.
        let published = renditions.chain(zips.take(1)).map(|bucket| SignedPlace {
            bucket,
            distributed: None,
        });
        let mut origins: Vec<String> = Vec::new();
        for place in std::iter::once(SignedPlace::of(job)).chain(published) {
            let prepared = self.prepare(job, place, LinkUse::Shown, OpenMethod::Get, now);
            let origin = match prepared.await?.signer {
                UrlSigner::S3(presigner) => presigner.origin().to_owned(),
                UrlSigner::CloudFront(signing) => signing.origin().to_owned(),
                UrlSigner::Portal(_) => continue,
            };
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        Ok(origins)
    }

    /// Whether each of these objects, or its link, was revoked.
    async fn closed(
        &self,
        job: &PortalJob,
        entries: &[(u32, Entry)],
        ids: &Deriver,
    ) -> Result<Vec<bool>, AccessRefusal> {
        let closed = self.revocations.ask(|links| {
            if links.is_empty() {
                return vec![false; entries.len()];
            }
            let is_closed = |(_, entry): &(u32, Entry)| match entry {
                Entry::Linkable(object) => {
                    let targets = [
                        ChangeTarget::Object {
                            bucket: job.bucket.clone(),
                            key: object.key.as_str().to_owned(),
                        },
                        ChangeTarget::Link {
                            link_id: link_id(ids, object),
                        },
                    ];
                    targets.iter().any(|target| links.of(target).is_some())
                }
                Entry::Unavailable(..) => false,
            };
            entries.iter().map(is_closed).collect()
        });
        Ok(closed.await?)
    }

    /// The object of a visit and its bucket, as the records have it.
    async fn meta(&self, visit: &Visit) -> Result<Option<(Bucket, ObjectMeta)>, AccessRefusal> {
        let (token, job) = (&visit.token, &visit.job);
        if let Some(zip) = job.zip_of(token.object) {
            // One that is stored nowhere has no link.
            let stored = Some(zip).filter(|zip| !zip.is_streamed());
            return Ok(stored.map(|zip| zip.object(token.job, job)));
        }
        let Some(index) = token.object.index() else {
            return Ok(None);
        };
        let entry = self.index.cache.object(token.job, index).await?;
        Ok(entry.and_then(|entry| match entry {
            Entry::Linkable(object) => Some((job.bucket.clone(), object)),
            Entry::Unavailable(..) => None,
        }))
    }

    /// Prepares signed links to a job's objects. Credentials are renewed if they would not last.
    async fn prepare(
        &self,
        job: &PortalJob,
        SignedPlace {
            bucket,
            distributed,
        }: SignedPlace<'_>,
        of: LinkUse,
        method: OpenMethod,
        now: Timestamp,
    ) -> Result<Prepared, AccessRefusal> {
        let connection = self.connection(job)?;
        let distribution = distributed.and_then(|start| {
            let distribution = self.distribution(connection)?;
            let serves = distribution.serves_portal(bucket, start);
            serves.then_some(distribution)
        });
        if let Some(distribution) = distribution {
            return self.prepare_distribution(distribution, connection, of, now);
        }
        let region = connection.store.region(bucket).await;
        let region = region.map_err(AccessRefusal::unavailable)?;
        let there = clock_of(connection, now);
        let needed_until = self.lifetimes.needed_until(of, there);
        let end = connection.signer.credentials_end(needed_until).await?;
        let lifetime = self
            .lifetimes
            .lifetime(of, end, there)
            .ok_or_else(|| AccessRefusal::unavailable(CredentialsEnding))?;
        let (presigner, access_key_id) = connection
            .signer
            .presigner(bucket, region.as_deref(), lifetime, ExpiryGuard::Ignore)
            .await?;
        let presigner = match method {
            OpenMethod::Get => presigner,
            OpenMethod::Head => presigner.for_head(),
        };
        Ok(Prepared {
            signer: UrlSigner::S3(Box::new(presigner)),
            access_key_id,
            lifetime,
        })
    }

    /// The distribution that files are opened through, if there is one. Streamed files come from the store itself.
    fn distribution<'a>(&self, connection: &'a Connection) -> Option<&'a Arc<Distribution>> {
        let distribution = connection.distribution.as_ref();
        distribution.filter(|_| self.delivery == PortalDelivery::Redirect)
    }

    /// Prepares links to a distribution. Each is for its own file, also where mailed links share a signature for a whole
    /// prefix: who opens a file gets this file alone.
    fn prepare_distribution(
        &self,
        distribution: &Arc<Distribution>,
        connection: &Connection,
        of: LinkUse,
        now: Timestamp,
    ) -> Result<Prepared, AccessRefusal> {
        let there = clock_of(connection, now);
        let lifetime = self.lifetimes.lifetime(of, CredentialsEnd::Never, there);
        let lifetime = lifetime.ok_or_else(|| AccessRefusal::unavailable(CredentialsEnding))?;
        let policy = UrlPolicy::until(lifetime.expires_at);
        let signing = distribution
            .signing(policy, None)
            .map_err(SignError::from)?;
        Ok(Prepared {
            signer: UrlSigner::CloudFront(signing),
            access_key_id: Arc::clone(distribution.signer.key_pair_id()),
            lifetime,
        })
    }
}

/// The instant by the clock of a connection's store.
fn clock_of(connection: &Connection, now: Timestamp) -> Timestamp {
    let skew = noticed(connection.store.skew());
    now.saturating_add(skew).unwrap_or(now)
}

/// Signs links on a blocking thread: a signature of a distribution costs 0.1 ms (P-256) to 3 ms (RSA).
async fn sign_aside(
    job: &Arc<PortalJob>,
    person: Option<PortalPerson>,
    disposition: Option<ContentDisposition>,
    unsigned: Vec<UnsignedLink>,
    signer: &UrlSigner,
) -> Result<Vec<PresignedUrl>, AccessRefusal> {
    let (job, signer) = (Arc::clone(job), signer.clone());
    let signed = tokio::task::spawn_blocking(move || {
        let shown = presentation(&job, person.as_ref(), disposition);
        let sign = |link: &UnsignedLink| {
            shown.sign(&link.meta, &link.link_id, link.open.as_deref(), &signer)
        };
        unsigned.iter().map(sign).collect::<Result<Vec<_>, _>>()
    });
    Ok(signed.await.map_err(AccessRefusal::unavailable)??)
}

impl Visit {
    /// The recipient's id of the link; `None` if all share it.
    pub(super) fn reader_id(&self) -> Option<&str> {
        self.reader.as_ref().map(|reader| &*reader.rid)
    }

    /// The recipient's id of the link; `everyone`'s if all share it.
    pub(super) fn rid<'a>(&'a self, everyone: &'a str) -> &'a str {
        self.reader.as_ref().map_or(everyone, |reader| &reader.rid)
    }
}

impl OpenKind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Button => "button",
            Self::Direct => "direct",
            Self::Embed | Self::Rendition(_) => "embed",
        }
    }
}

fn closed_entry(job: &PortalJob, key: &str, reason: ClosedBecause) -> ClosedEntry {
    ClosedEntry {
        path: key.strip_prefix(&job.prefix).unwrap_or(key).to_owned(),
        reason,
    }
}
