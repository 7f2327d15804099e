//! Links without a job: `handout presign` signs links to objects that are named at the command line.
//!
//! No request is made. The size of an object, and whether it exists, stay unknown.

use std::sync::Arc;

use jiff::Timestamp;
use presign::PresignRequest;
use presign::disposition::push_content_disposition;

use super::presentation::{PresentationOptions, RequestedName, present};
use super::{LINK_ID, Link, Links, SignError, UrlSigner};
use crate::bounds::MAX_FILLED_NAME_BYTES;
use crate::job::phrase::PhraseError;
use crate::job::{Bucket, ContentDisposition, FileName, Key, PhraseScope};
use crate::keyring::Deriver;
use crate::plan::Audience;
use crate::plan::Lifetime;
use crate::store::{ObjectMeta, Storage};
use crate::text::charset::TextCharset;

/// The job's name of such links in the audit log.
pub const JOB: &str = "presign";

/// The options that all links share.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// The name under which files are saved, instead of their own.
    pub filename: Option<FileName>,
    /// What a browser does with the files.
    pub disposition: ContentDisposition,
    /// The media type that the store sends, instead of the object's own.
    pub content_type: Option<String>,
    /// The charset of texts that are shown.
    pub text_charset: TextCharset,
    /// The version to which the links are pinned.
    pub version_id: Option<String>,
    /// The link id that is signed in.
    pub identity: Identity,
    /// The audience of the links.
    pub audience: Audience,
}

/// The link id that is signed into a link.
#[derive(Debug, Clone)]
pub enum Identity {
    /// No id, where no audit log is written that would have it.
    None,
    /// An id given by the caller.
    Given(String),
    /// An id derived for each link, the same each time it is signed.
    Derived(Deriver),
}

/// Signs links to objects of one bucket.
pub fn sign(
    options: &LinkOptions,
    bucket: &Bucket,
    keys: Vec<Key>,
    hand: &UrlSigner,
    access_key_id: Arc<str>,
    lifetime: Lifetime,
) -> Result<Links, SignError> {
    let canonical = options.audience.canonical();
    let mut links = Vec::with_capacity(keys.len());
    let mut content_disposition = String::new();
    for key in keys {
        let given = options.given_name(&key)?;
        let shown = present(
            &key,
            None,
            &PresentationOptions {
                name: RequestedName::new(options.filename.as_ref(), given.as_deref()),
                disposition: options.disposition,
                content_type: options.content_type.as_deref(),
                text_charset: options.text_charset,
            },
        );
        content_disposition.clear();
        push_content_disposition(
            shown.disposition.into(),
            &shown.name,
            &mut content_disposition,
        );
        let id = options.link_id(&canonical, bucket, &key);
        let custom = Some((LINK_ID, id.as_str())).filter(|(_, id)| !id.is_empty());
        let request = PresignRequest {
            key: key.as_str(),
            content_disposition: Some(content_disposition.as_str()).filter(|_| shown.is_named),
            content_encoding: shown.content_encoding,
            content_type: shown.content_type.as_deref(),
            version_id: options.version_id.as_deref(),
            custom: custom.as_slice(),
        };
        let url = hand.sign(&request, 0)?;
        links.push(Link {
            id,
            bucket: bucket.clone(),
            object: unseen(key, options.version_id.clone()),
            name: shown.name,
            disposition: shown.disposition,
            url,
        });
    }
    Ok(Links {
        links,
        unavailable: Vec::new(),
        audience: options.audience.clone(),
        lifetime,
        access_key_id,
    })
}

impl LinkOptions {
    /// The name that the phrase gives to an object, if there is one.
    fn given_name(&self, key: &Key) -> Result<Option<String>, PhraseError> {
        let Some(phrase) = self.filename.as_ref().and_then(FileName::phrase) else {
            return Ok(None);
        };
        let scope = PhraseScope {
            recipient: self.audience.recipient(),
            object: Some(key),
            ..PhraseScope::default()
        };
        phrase.fill(&scope, MAX_FILLED_NAME_BYTES).map(Some)
    }

    /// The link id; empty if it has none.
    fn link_id(&self, canonical_audience: &str, bucket: &Bucket, key: &Key) -> String {
        match &self.identity {
            Identity::None => String::new(),
            Identity::Given(id) => id.clone(),
            Identity::Derived(deriver) => {
                let version = self.version_id.as_deref().unwrap_or_default();
                let parts = [
                    JOB,
                    canonical_audience,
                    bucket.as_str(),
                    key.as_str(),
                    version,
                ];
                deriver.id(&parts.map(str::as_bytes))
            }
        }
    }
}

/// The metadata of an object that was not looked up.
fn unseen(key: Key, version: Option<String>) -> ObjectMeta {
    ObjectMeta {
        key,
        size_bytes: 0,
        etag: String::new(),
        version,
        modified: Timestamp::UNIX_EPOCH,
        storage: Storage::Ready,
        stored: None,
    }
}
