//! Links without a job: `handout presign` signs links to objects that are named at the command line.
//!
//! No request is made. The size of an object, and whether it exists, stay unknown.

use std::sync::Arc;

use jiff::Timestamp;
use presign::PresignRequest;
use presign::disposition::{
    clean_name, is_passive, passive_type, push_content_disposition, with_extension_of,
};

use super::{LINK_ID, Link, Links, SignError, UrlSigner};
use crate::bounds::MAX_FILLED_NAME_BYTES;
use crate::job::phrase::{Phrase, PhraseError};
use crate::job::{Bucket, ContentDisposition, Key, PhraseScope};
use crate::keyring::Deriver;
use crate::plan::Audience;
use crate::plan::Lifetime;
use crate::store::{ObjectMeta, Storage};

/// The job's name of such links in the audit log.
pub const JOB: &str = "presign";

/// The options that all links share.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// The name under which files are saved, instead of their own.
    pub filename: Option<Phrase>,
    /// What a browser does with the files.
    pub disposition: ContentDisposition,
    /// The media type that the store sends, instead of the object's own.
    pub content_type: Option<String>,
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
    wish: &LinkOptions,
    bucket: &Bucket,
    keys: Vec<Key>,
    hand: &UrlSigner,
    access_key_id: Arc<str>,
    lifetime: Lifetime,
) -> Result<Links, SignError> {
    let canonical = wish.audience.canonical();
    let mut links = Vec::with_capacity(keys.len());
    let mut content_disposition = String::new();
    for key in keys {
        let name = wish.name(&key)?;
        let passive = passive_type(key.file_name());
        let may_be_shown = wish
            .content_type
            .as_deref()
            .map_or(passive.is_some(), is_passive);
        // A file that could run scripts is saved, whatever was asked; see `passive_type`.
        let disposition = if may_be_shown {
            wish.disposition
        } else {
            ContentDisposition::Attachment
        };
        let own_type = passive.filter(|_| disposition == ContentDisposition::Inline);
        content_disposition.clear();
        push_content_disposition(disposition.into(), &name, &mut content_disposition);
        let id = wish.link_id(&canonical, bucket, &key);
        let url = hand.sign(&PresignRequest {
            key: key.as_str(),
            content_disposition: Some(&content_disposition),
            content_type: wish.content_type.as_deref().or(own_type),
            version_id: wish.version_id.as_deref(),
            custom: Some((LINK_ID, id.as_str())).filter(|(_, id)| !id.is_empty()),
        })?;
        links.push(Link {
            id,
            bucket: bucket.clone(),
            object: unseen(key, wish.version_id.clone()),
            name,
            disposition,
            url,
        });
    }
    Ok(Links {
        links,
        unavailable: Vec::new(),
        audience: wish.audience.clone(),
        lifetime,
        access_key_id,
    })
}

impl LinkOptions {
    fn name(&self, key: &Key) -> Result<String, PhraseError> {
        let Some(phrase) = &self.filename else {
            return Ok(clean_name(key.file_name()));
        };
        let scope = PhraseScope {
            recipient: self.audience.recipient(),
            object: Some(key),
            ..PhraseScope::default()
        };
        let name = with_extension_of(phrase.fill(&scope, MAX_FILLED_NAME_BYTES)?, key.file_name());
        Ok(clean_name(&name))
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
    }
}
