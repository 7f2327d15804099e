//! Links without a job: somebody names objects at a command line and gets links to them.
//!
//! Nothing is asked of any server. What is not known of an object, its size or whether it is there, stays unknown.

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

/// Under which job's name such links stand in the audit log.
pub const JOB: &str = "presign";

/// What is asked of all links alike.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// The name under which files are saved, instead of their own.
    pub filename: Option<Phrase>,
    /// What a browser does with them.
    pub disposition: ContentDisposition,
    /// The media type that the store shall send, instead of its own.
    pub content_type: Option<String>,
    /// The version to which they are pinned.
    pub version_id: Option<String>,
    /// What identity is signed in.
    pub identity: Identity,
    /// For whom they are.
    pub audience: Audience,
}

/// The identity that is signed into a link.
#[derive(Debug, Clone)]
pub enum Identity {
    /// None: nobody keeps books in which it would stand.
    None,
    /// The caller's own.
    Given(String),
    /// One of each link's own, the same whenever it is asked for again.
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
        // What could run scripts is saved, whatever was asked; see `passive_type`.
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

    /// The link's identity; empty if it has none.
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

/// All that is known of an object that nobody looked at.
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
