//! From objects to links: list what is there, sign a link for each and for each audience, in batches.
//!
//! A batch is one page of a listing. Signing keeps one page in memory, and listing keeps pages that were requested ahead,
//! bounded in number and bytes ([`ranges`]); so ten million objects need no more memory than a hundred thousand. Links leave
//! this module as [`Links`], which only [`crate::audit::record()`] accepts.

mod as_listed;
pub mod connection;
pub(crate) mod credentials;
pub mod direct;
pub mod distribution;
mod example;
pub mod lines;
pub mod link_trial;
pub mod linkable;
mod lister;
pub mod listing;
pub mod order;
pub mod portal;
mod presentation;
mod ranges;
pub mod saved;
pub(crate) mod sessions;
pub mod signer;
mod sorted;
pub mod walk;

use std::sync::Arc;

use jiff::Timestamp;
use presign::cloudfront::CloudFrontError;
use presign::disposition::{clean_name, push_content_disposition};
use presign::{PresignRequest, Presigner};

pub(crate) use example::example_url;
pub use linkable::{Unavailable, Unlinkable};
use presign::{CustomParameter, PresignedUrl};

use crate::bounds::MAX_FILLED_NAME_BYTES;
use crate::job::phrase::PhraseError;
use crate::job::{Bucket, ContentDisposition, FileName, Key, Phrase, PhraseScope};
use crate::keyring::Deriver;
use crate::links::distribution::DistributionSigning;
use crate::links::listing::Entry;
use crate::links::portal::PortalSigner;
use crate::links::presentation::{PresentationOptions, RequestedName, present};

use crate::plan::Audience;
use crate::plan::{Lifetime, Plan};
use crate::store::ObjectMeta;

/// The URL parameter with the link id.
pub const LINK_ID: CustomParameter = CustomParameter::new("x-handout");

/// A signed link to one object.
#[derive(Debug, Clone)]
pub struct Link {
    /// The link id signed into it: 32 hexadecimal digits, the same for the same job, audience and object. Empty only
    /// for links without an id ([`direct`]).
    pub id: String,
    /// The bucket.
    pub bucket: Bucket,
    /// The object that it opens.
    pub object: ObjectMeta,
    /// The name under which the file is saved or shown.
    pub name: String,
    /// What a browser does with the file.
    pub disposition: ContentDisposition,
    /// The link.
    pub url: PresignedUrl,
}

impl Link {
    /// The object's key.
    pub const fn key(&self) -> &Key {
        &self.object.key
    }
}

/// A batch of links whose audit lines are not written yet.
#[derive(Debug)]
pub struct Links {
    /// The links.
    pub links: Vec<Link>,
    /// The objects that could not be linked, and why.
    pub unavailable: Vec<Unavailable>,
    /// The audience of the links.
    pub audience: Audience,
    /// The lifetime of the links.
    pub lifetime: Lifetime,
    /// The id of the access key that signed; never its secret.
    pub access_key_id: Arc<str>,
}

impl Links {
    /// When the links expire.
    pub const fn expires_at(&self) -> Timestamp {
        self.lifetime.expires_at
    }
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Its name could not be filled in.
    #[error("the job's field links.filename {0}")]
    FileName(#[from] PhraseError),
    /// CloudFront cannot sign such a link.
    #[error(transparent)]
    CloudFront(#[from] CloudFrontError),
}

/// Links whose URLs are examples and open nothing. Can only be made by [`examples`].
#[derive(Debug)]
pub struct ExampleLinks(pub(crate) Links);

/// Makes links of the same length as a page's real ones, which open nothing.
///
/// Real links are signed to measure their length, and dropped.
pub fn examples(
    plan: &Plan,
    page: Vec<Entry>,
    audience: &Audience,
    measure: &LinkSigner,
) -> Result<ExampleLinks, SignError> {
    let mut signed = sign(plan, page, 0, audience, measure)?;
    for link in &mut signed.links {
        link.url = example_url(link.key().as_str(), &link.url);
        link.id = "0".repeat(link.id.len());
    }
    Ok(ExampleLinks(signed))
}

/// The key that signs a link, by the service that verifies it.
#[derive(Debug, Clone)]
pub enum UrlSigner {
    /// S3 verifies it.
    S3(Box<Presigner>),
    /// CloudFront verifies it.
    CloudFront(DistributionSigning),
    /// The portal answers it.
    Portal(Box<PortalSigner>),
}

/// Signs the links of a job.
#[derive(Debug, Clone)]
pub struct LinkSigner {
    /// Signs.
    pub url_signer: UrlSigner,
    /// The id of the access key that it signs with.
    pub access_key_id: Arc<str>,
    /// Derives the link ids.
    pub link_ids: Deriver,
}

impl UrlSigner {
    /// Signs a link to the object at this place of the job's listing.
    fn sign(&self, ask: &PresignRequest<'_>, index: u32) -> Result<PresignedUrl, CloudFrontError> {
        match self {
            Self::S3(presigner) => Ok(presigner.presign(ask)),
            Self::CloudFront(signing) => signing.sign(ask),
            Self::Portal(signer) => Ok(signer.object_url(index)),
        }
    }

    /// Whether a signature costs arithmetic with a private key.
    pub const fn is_slow(&self) -> bool {
        match self {
            Self::S3(_) | Self::Portal(_) => false,
            Self::CloudFront(signing) => signing.is_slow(),
        }
    }
}

impl LinkSigner {
    /// A copy that signs quickly, for links that are only measured: CloudFront links share a signature, whose length differs
    /// from a real one's by a few bytes at most.
    pub fn to_measure(&self) -> Result<Self, SignError> {
        let url_signer = match &self.url_signer {
            UrlSigner::S3(presigner) => UrlSigner::S3(presigner.clone()),
            UrlSigner::CloudFront(signing) => UrlSigner::CloudFront(signing.to_measure()?),
            UrlSigner::Portal(signer) => UrlSigner::Portal(signer.clone()),
        };
        Ok(Self {
            url_signer,
            ..self.clone()
        })
    }

    /// Whether signing a page of links is slow enough to run on a thread of its own.
    pub const fn is_slow(&self) -> bool {
        self.url_signer.is_slow()
    }
}

/// Signs a page of a listing for an audience. Arithmetic alone: no request is made. `first` is the place of the page's first
/// entry in the listing.
pub fn sign(
    plan: &Plan,
    page: Vec<Entry>,
    first: u32,
    audience: &Audience,
    signing: &LinkSigner,
) -> Result<Links, SignError> {
    let mut links = Vec::with_capacity(page.len());
    let mut unavailable = Vec::new();
    let link_ids = link_ids(signing, plan, &plan.bucket, audience);
    let mut content_disposition = String::new();
    for (index, entry) in (first..).zip(page) {
        match entry {
            Entry::Linkable(object) => {
                content_disposition.clear();
                let given = given_name(plan, &object.key, audience)?;
                let options = options(plan, given.as_deref());
                let scratch = &mut content_disposition;
                links.push(sign_one(
                    plan, object, index, &options, signing, &link_ids, scratch,
                )?);
            }
            Entry::Unavailable(key, reason) => unavailable.push(Unavailable { key, reason }),
        }
    }
    Ok(Links {
        links,
        unavailable,
        audience: audience.clone(),
        lifetime: plan.lifetime,
        access_key_id: Arc::clone(&signing.access_key_id),
    })
}

/// Derives the link ids of an audience's links to objects of a bucket, from their keys and versions.
fn link_ids(signing: &LinkSigner, plan: &Plan, bucket: &Bucket, audience: &Audience) -> Deriver {
    if let UrlSigner::Portal(signer) = &signing.url_signer {
        return portal::link_ids(&signing.link_ids, &plan.job.id, &signer.rid, bucket);
    }
    let (job, audience) = (plan.job.id.as_str(), audience.canonical());
    let parts = [job, &audience, bucket.as_str()];
    signing.link_ids.after(&parts.map(str::as_bytes))
}

/// Signs a link; `content_disposition` is an empty buffer.
fn sign_one(
    plan: &Plan,
    object: ObjectMeta,
    index: u32,
    options: &PresentationOptions<'_>,
    signing: &LinkSigner,
    link_ids: &Deriver,
    content_disposition: &mut String,
) -> Result<Link, SignError> {
    let shown = present(&object.key, object.stored.as_deref(), options);
    let key = object.key.as_str();
    let id = portal::link_id(link_ids, &object);
    push_content_disposition(shown.disposition.into(), &shown.name, content_disposition);
    let request = PresignRequest {
        key,
        content_disposition: Some(content_disposition.as_str()).filter(|_| shown.is_named),
        content_encoding: shown.content_encoding,
        content_type: shown.content_type.as_deref(),
        version_id: object.version.as_deref(),
        custom: &[(LINK_ID, &id)],
    };
    let url = signing.url_signer.sign(&request, index)?;
    Ok(Link {
        id,
        bucket: plan.bucket.clone(),
        name: shown.name,
        disposition: shown.disposition,
        object,
        url,
    })
}

/// The name under which an object is saved from what is the same for all recipients: its own where the job's names differ
/// between recipients.
pub(crate) fn saved_name(plan: &Plan, object: &ObjectMeta) -> Result<String, SignError> {
    let phrase = plan.filename.as_ref().and_then(FileName::phrase);
    let given = match phrase.is_some_and(Phrase::names_recipient) {
        true => None,
        false => given_name(plan, &object.key, &Audience::Everyone)?,
    };
    let options = options(plan, given.as_deref());
    Ok(present(&object.key, object.stored.as_deref(), &options).name)
}

/// The name that the job's phrase gives to an object, if it has one.
fn given_name(plan: &Plan, key: &Key, audience: &Audience) -> Result<Option<String>, PhraseError> {
    let Some(phrase) = plan.filename.as_ref().and_then(FileName::phrase) else {
        return Ok(None);
    };
    let scope = PhraseScope {
        recipient: audience.recipient(),
        object: Some(key),
        ..plan.scope()
    };
    phrase.fill(&scope, MAX_FILLED_NAME_BYTES).map(Some)
}

/// What a plan's links ask for; `given` is the name that its phrase gives.
const fn options<'a>(plan: &'a Plan, given: Option<&'a str>) -> PresentationOptions<'a> {
    PresentationOptions {
        name: RequestedName::new(plan.filename.as_ref(), given),
        disposition: plan.disposition,
        content_type: None,
        text_charset: plan.text_charset,
    }
}

/// Signs the links to the renditions of the pictures on page `page` of a listing, in the order of `keys`. They share a link id,
/// by which their one audit line is found.
pub fn sign_renditions(
    plan: &Plan,
    bucket: &Bucket,
    keys: Vec<Key>,
    page: usize,
    audience: &Audience,
    signing: &LinkSigner,
) -> Result<Links, SignError> {
    let link_ids = link_ids(signing, plan, bucket, audience);
    let id = link_ids.id(&[b"renditions", page.to_string().as_bytes()]);
    let sign = |key: Key| {
        let url = portal::sign_rendition(&key, &id, &signing.url_signer)?;
        Ok(Link {
            id: id.clone(),
            bucket: bucket.clone(),
            name: key.file_name().to_owned(),
            disposition: ContentDisposition::Inline,
            object: ObjectMeta::published(key),
            url,
        })
    };
    let signed: Result<_, SignError> = keys.into_iter().map(sign).collect();
    Ok(Links {
        links: signed?,
        unavailable: Vec::new(),
        audience: audience.clone(),
        lifetime: plan.lifetime,
        access_key_id: Arc::clone(&signing.access_key_id),
    })
}

/// Signs a link to a page or a list that the job itself publishes, shown in a browser or saved under `name`.
pub fn sign_published(
    plan: &Plan,
    object: ObjectMeta,
    bucket: &Bucket,
    disposition: ContentDisposition,
    media_type: &str,
    audience: &Audience,
    signing: &LinkSigner,
) -> Result<Link, SignError> {
    let key = object.key.as_str();
    let name = clean_name(object.key.file_name());
    let link_ids = link_ids(signing, plan, bucket, audience);
    let id = link_ids.id(&[key.as_bytes(), b"published"]);
    let mut content_disposition = String::new();
    push_content_disposition(disposition.into(), &name, &mut content_disposition);
    let request = PresignRequest {
        key,
        content_disposition: Some(&content_disposition),
        content_encoding: None,
        content_type: Some(media_type),
        version_id: None,
        custom: &[(LINK_ID, &id)],
    };
    let url = signing.url_signer.sign(&request, 0)?;
    Ok(Link {
        id,
        bucket: bucket.clone(),
        object,
        name,
        disposition,
        url,
    })
}
