//! Links of the portal: short ones in mails, and the signed ones that they become when they are opened.
//!
//! A short link names a job, a recipient and an object by their places in the portal's records ([`crate::portal_token`]), so the
//! same job has the same links at every attempt, and their length does not depend on keys or credentials.

use std::fmt;
use std::sync::Arc;

use presign::disposition::push_content_disposition;
use presign::{CustomParameter, PresignRequest, PresignedUrl};

use super::presentation::{Presentation, PresentationOptions, RequestedName, present};
use super::{LINK_ID, SignError, UrlSigner};
use crate::bounds::MAX_FILLED_NAME_BYTES;
use crate::job::phrase::{NamePattern, PhraseError};
use crate::job::{Bucket, ContentDisposition, JobId, Key};
use crate::keyring::Deriver;
use crate::portal_token::{EVERYBODY, JobRef, ObjectSlot, PortalKeys, PortalToken};
use crate::store::ObjectMeta;
use crate::text::charset::TextCharset;

/// The URL parameter with the id of an open.
pub const OPEN_ID: CustomParameter = CustomParameter::new("x-handout-open");

/// Makes the short links of one audience; prints no key.
#[derive(Clone)]
pub struct PortalSigner {
    /// The keys of tokens.
    pub keys: PortalKeys,
    /// The URL of the portal, without a slash at its end.
    pub url: Arc<str>,
    /// The job's reference.
    pub job: JobRef,
    /// The recipient's place in the job's people, or [`EVERYBODY`].
    pub recipient: u32,
    /// The recipient's id.
    pub rid: Arc<str>,
}

impl fmt::Debug for PortalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortalSigner")
            .field("job", &self.job)
            .field("recipient", &self.recipient)
            .finish_non_exhaustive()
    }
}

impl PortalSigner {
    /// A signer whose links have the length of real ones and open nothing.
    pub fn to_measure(keys: PortalKeys, url: Arc<str>) -> Self {
        Self {
            keys,
            url,
            job: JobRef([0; 8]),
            recipient: EVERYBODY,
            rid: "".into(),
        }
    }

    /// The link to the object at this place of the job's listing.
    pub fn object_url(&self, index: u32) -> PresignedUrl {
        self.link('d', ObjectSlot(index))
    }

    /// The link to the page of all objects.
    pub fn page_url(&self) -> PresignedUrl {
        self.link('j', ObjectSlot::PAGE)
    }

    /// The link to the ZIP of this number, from 0.
    pub fn zip_url(&self, number: u32) -> PresignedUrl {
        self.link('d', ObjectSlot::of_zip(number))
    }

    fn link(&self, kind: char, object: ObjectSlot) -> PresignedUrl {
        let token = self.keys.seal(&PortalToken {
            job: self.job,
            recipient: self.recipient,
            object,
        });
        PresignedUrl::new(format!("{}/{kind}/{}", self.url, token.expose()))
    }
}

/// Derives the link ids of a recipient's links to objects of a bucket, from their keys and versions. The portal knows a recipient
/// by id alone, so the id takes the place of the address.
pub fn link_ids(deriver: &Deriver, job: &JobId, rid: &str, bucket: &Bucket) -> Deriver {
    deriver.after(&["portal", job.as_str(), rid, bucket.as_str()].map(str::as_bytes))
}

/// The id of a link to an object, among those of [`link_ids`].
pub fn link_id(of_reader: &Deriver, object: &ObjectMeta) -> String {
    let version = object.version.as_deref().unwrap_or(&object.etag);
    of_reader.id(&[object.key.as_str().as_bytes(), version.as_bytes()])
}

/// The id of a recipient's link to the page of a job.
pub fn page_link_id(deriver: &Deriver, job: JobRef, rid: &str) -> String {
    deriver.id(&[b"portal-page", &job.0, rid.as_bytes()])
}

/// What audit lines of the portal's links have in the place of a key's id.
pub const OF_PORTAL: &str = "portal";

/// The part of a link by which the audit log knows it, without keeping the link: the signature, or the token.
pub fn secret_of(url: &PresignedUrl) -> &str {
    match url.signature() {
        "" => url.expose().rsplit('/').next().unwrap_or_default(),
        signature => signature,
    }
}

/// The token in a link of the portal at `portal`, in any case and with the page's number behind it.
pub fn token_in<'a>(url: &'a str, portal: &str) -> Option<&'a str> {
    let at = portal.len();
    let (origin, path) = (url.get(..at)?, url.get(at..)?);
    if !origin.eq_ignore_ascii_case(portal) {
        return None;
    }
    let mut parts = path.strip_prefix('/')?.split(['/', '?', '#']);
    let kind = parts.next()?;
    if !["d", "j"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
    {
        return None;
    }
    parts.next().filter(|token| !token.is_empty())
}

/// How the portal presents the files of a job.
#[derive(Debug, Clone, Copy)]
pub struct PortalPresentation<'a> {
    /// What a browser does with the files.
    pub disposition: ContentDisposition,
    /// The names that the job gives to files.
    pub name: PortalName<'a>,
    /// The charset of texts that are shown and whose own is not known.
    pub text_charset: TextCharset,
}

/// The names that a job gives to files.
#[derive(Debug, Clone, Copy)]
pub enum PortalName<'a> {
    /// None: files have their own.
    Own,
    /// The stored `Content-Disposition` decides.
    Stored,
    /// A pattern.
    Pattern(&'a NamePattern),
}

/// A file as the portal presents it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedFile {
    /// The name under which it is saved or shown.
    pub name: String,
    /// What a browser does with it.
    pub disposition: ContentDisposition,
}

impl PortalPresentation<'_> {
    fn given(&self, object: &ObjectMeta) -> Result<Option<String>, PhraseError> {
        match self.name {
            PortalName::Pattern(pattern) => {
                pattern.fill(&object.key, MAX_FILLED_NAME_BYTES).map(Some)
            }
            PortalName::Own | PortalName::Stored => Ok(None),
        }
    }

    fn options<'a>(&self, given: Option<&'a str>) -> PresentationOptions<'a> {
        PresentationOptions {
            name: match (self.name, given) {
                (PortalName::Stored, _) => RequestedName::Stored,
                (_, Some(given)) => RequestedName::Given(given),
                (_, None) => RequestedName::Own,
            },
            disposition: self.disposition,
            content_type: None,
            text_charset: self.text_charset,
        }
    }

    /// The name of a file, and what a browser does with it.
    pub fn file(&self, object: &ObjectMeta) -> Result<PresentedFile, PhraseError> {
        let given = self.given(object)?;
        let stored = object.stored.as_deref();
        let Presentation {
            name, disposition, ..
        } = present(&object.key, stored, &self.options(given.as_deref()));
        Ok(PresentedFile { name, disposition })
    }

    /// Signs a link to an object: with the link's id, and with the id of the open where it is one.
    pub fn sign(
        &self,
        object: &ObjectMeta,
        link_id: &str,
        open_id: Option<&str>,
        signer: &UrlSigner,
    ) -> Result<PresignedUrl, SignError> {
        let given = self.given(object)?;
        let shown = present(
            &object.key,
            object.stored.as_deref(),
            &self.options(given.as_deref()),
        );
        let mut content_disposition = String::new();
        push_content_disposition(
            shown.disposition.into(),
            &shown.name,
            &mut content_disposition,
        );
        let ids = [(LINK_ID, link_id), (OPEN_ID, open_id.unwrap_or_default())];
        let url = signer.sign(
            &PresignRequest {
                key: object.key.as_str(),
                content_disposition: Some(content_disposition.as_str()).filter(|_| shown.is_named),
                content_encoding: shown.content_encoding,
                content_type: shown.content_type.as_deref(),
                version_id: object.version.as_deref(),
                custom: &ids[..1 + usize::from(open_id.is_some())],
            },
            0,
        )?;
        Ok(url)
    }
}

/// Signs a link to a rendition; it is shown under no name. The signer is none of short links: those have a place in a listing, and
/// renditions are in none.
pub fn sign_rendition(
    key: &Key,
    link_id: &str,
    signer: &UrlSigner,
) -> Result<PresignedUrl, SignError> {
    let request = PresignRequest {
        key: key.as_str(),
        content_disposition: None,
        content_encoding: None,
        content_type: None,
        version_id: None,
        custom: &[(LINK_ID, link_id)],
    };
    Ok(signer.sign(&request, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;

    fn signer(url: &str) -> PortalSigner {
        let keys = PortalKeys::new(&Keyring::new([7; 32]));
        PortalSigner {
            rid: "rid".into(),
            recipient: 3,
            job: JobRef([1; 8]),
            ..PortalSigner::to_measure(keys, url.into())
        }
    }

    #[test]
    fn a_link_is_short_and_its_token_is_found_in_it_again() {
        let portal = "https://files.acme.example";
        let signer = signer(portal);
        let link = signer.object_url(7);
        assert_eq!(link.expose().len(), portal.len() + 47);
        let token = secret_of(&link);
        let opened = signer.keys.open(token).unwrap();
        assert_eq!((opened.recipient, opened.object.index()), (3, Some(7)));
        for url in [
            link.expose().to_owned(),
            link.expose().to_ascii_uppercase(),
            format!("{}?utm_source=x", link.expose()),
            format!("{}/2", link.expose()),
            format!("{}#top", link.expose()),
        ] {
            let found = token_in(&url, portal).unwrap();
            assert_eq!(signer.keys.open(found), Some(opened), "{url}");
        }
        for url in [
            "https://files.acme.example/x/abc",
            "https://files.acme.example/d/",
            "https://files.acme.example.evil/d/abc",
            "ü",
        ] {
            assert_eq!(token_in(url, portal), None, "{url}");
        }
        let page = signer.page_url();
        assert!(page.expose().starts_with("https://files.acme.example/j/"));
        let page = signer.keys.open(secret_of(&page)).unwrap();
        assert_eq!(page.object, ObjectSlot::PAGE);
    }
}
