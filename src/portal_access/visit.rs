//! A link on its way to be opened: what it is, who opens it, what comes of it, and why it does not open.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use presign::PresignedUrl;

use super::RenditionSize;
use crate::audit::RecordError;
use crate::job::phrase::PhraseError;
use crate::job::{OpenMode, SignIn};
use crate::ledger::LedgerError;
use crate::ledger::portal::{PortalJob, PortalPerson};
use crate::links::signer::SignerError;
use crate::links::{SignError, Unlinkable};
use crate::media::RenditionUrls;
use crate::portal_token::{PortalToken, TokenText};

/// Why a link does not open.
#[derive(Debug, thiserror::Error)]
pub enum AccessRefusal {
    /// The token is not of this installation, or is of a job, recipient or object that does not exist.
    #[error("the link is not valid")]
    Forged,
    /// The link has ended.
    #[error("the link ended at {at}")]
    Ended {
        /// When.
        at: Timestamp,
        /// Its job, for the page about it.
        job: Arc<PortalJob>,
    },
    /// The sender revoked the link.
    #[error("the link was revoked at {at}")]
    Revoked {
        /// When.
        at: Timestamp,
        /// Its job, for the page about it.
        job: Arc<PortalJob>,
    },
    /// The visitor has to sign in, or to sign in again.
    #[error("the link asks for a sign-in")]
    SignIn {
        /// How.
        demand: SignIn,
    },
    /// The visitor is signed in as another recipient.
    #[error("the link is of another recipient")]
    OtherReader,
    /// The object is not in the bucket any more.
    #[error("the object is gone")]
    ObjectGone,
    /// The object is archived, and S3 does not serve it before it is restored.
    #[error("the object is archived")]
    Archived,
    /// The job is being prepared; its links work in a moment.
    #[error("the link is not ready yet")]
    NotYet,
    /// A service that is needed does not answer.
    #[error("the link cannot be opened now")]
    Unavailable {
        /// After how long to try again.
        retry_after: Duration,
        /// Why, for the log.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How a visitor signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedInBy {
    /// By a code that was mailed to the address.
    Code,
    /// At the OIDC issuer of this name.
    Oidc(Arc<str>),
}

/// A sign-in of a visitor. The server makes its cookie and checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderSession {
    /// The recipient's id of the address that was proved.
    pub rid: String,
    /// How it was proved.
    pub how: SignedInBy,
    /// When it began.
    pub issued: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// Its id.
    pub sid: [u8; 8],
    /// How many changes to links were known when it began: later revocations of the recipient's sessions end it.
    pub known_changes: u64,
}

/// The recipient of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkReader {
    /// The recipient's id.
    pub rid: String,
    /// The language of the mail, if the job says it.
    pub locale: Option<String>,
    /// The time zone by its IANA name, if the job says it.
    pub time_zone: Option<String>,
    /// The recipient's name, if the job says it.
    pub name: Option<String>,
}

/// The object of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedObject {
    /// Its index in the job's listing.
    pub index: u32,
    /// Its key without the job's common prefix, for display.
    pub path: String,
    /// The name under which it is saved or shown.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last modified, as the job listed it.
    pub modified: Timestamp,
    /// The media type by its name, if it is one that a browser shows safely.
    pub media_type: Option<&'static str>,
    /// Whether a browser shows it, rather than saving it.
    pub is_inline: bool,
    /// The link id.
    pub link_id: String,
}

/// A link that is alive, before it is opened.
#[derive(Debug, Clone)]
pub struct Visit {
    /// What the token says.
    pub token: PortalToken,
    /// Its job.
    pub job: Arc<PortalJob>,
    /// Its recipient; `None` if all recipients share it.
    pub reader: Option<Arc<LinkReader>>,
    /// Its object; `None` for the page.
    pub object: Option<Arc<LinkedObject>>,
    /// How a visitor signs in.
    pub sign_in: SignIn,
    /// What the link answers first.
    pub open: OpenMode,
    /// When it ends, moved ends included.
    pub ends_at: Timestamp,
}

/// How an object is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenKind {
    /// By the button of its page.
    Button,
    /// By the link itself.
    Direct,
    /// By an image or a video of a page.
    Embed,
    /// By an image of a page that asks for a rendition. Without one, it is the picture itself.
    Rendition(RenditionSize),
}

/// The method that a signed link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMethod {
    /// GET.
    Get,
    /// HEAD: it is recorded as a probe, and is no open.
    Head,
}

/// What is known of a request, for the audit line. Nothing of it decides anything.
#[derive(Debug, Clone, Default)]
pub struct OpenEvidence<'a> {
    /// The visitor's network address.
    pub address: Option<IpAddr>,
    /// The `User-Agent`, of any length.
    pub user_agent: Option<&'a str>,
    /// How long after its page the button was pressed.
    pub after_page: Option<Duration>,
    /// The `Sec-Fetch-*` headers in the form `site/mode/dest/user`.
    pub sec_fetch: Option<&'a str>,
    /// The `Sec-Purpose` or `Purpose`.
    pub purpose: Option<&'a str>,
    /// Whether the request asks for a part of the object.
    pub has_range: bool,
}

/// A signed link whose audit line is durable.
#[derive(Debug)]
pub struct SignedOpen {
    /// The link.
    pub url: PresignedUrl,
    /// The id of this open: `x-handout-open` of the link.
    pub open_id: String,
    /// When the signed link ends.
    pub expires_at: Timestamp,
}

/// One object on a signed page.
#[derive(Debug)]
pub struct SignedEntry {
    /// The object.
    pub object: LinkedObject,
    /// A link that shows the object on the page, for pictures, video and audio.
    pub embed: Option<PresignedUrl>,
    /// Links to the renditions of a picture that has some.
    pub renditions: Option<RenditionUrls>,
    /// The token of the object's own link.
    pub token: TokenText,
}

/// A ZIP of the job on its page.
#[derive(Debug)]
pub struct SignedZip {
    /// The ZIP.
    pub object: LinkedObject,
    /// How many files are in it.
    pub files: u64,
    /// The token of its link.
    pub token: TokenText,
}

/// An object that cannot be opened, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedEntry {
    /// Its key without the job's common prefix.
    pub path: String,
    /// Why.
    pub reason: ClosedBecause,
}

/// Why an object of a page cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClosedBecause {
    /// It could not be linked when the job ran.
    Unlinkable(Unlinkable),
    /// The sender revoked it.
    Revoked,
}

/// One page of a job's objects, with links whose audit line is durable.
#[derive(Debug)]
pub struct SignedPage {
    /// The objects.
    pub entries: Vec<Result<SignedEntry, ClosedEntry>>,
    /// The ZIPs of all objects.
    pub zips: Vec<SignedZip>,
    /// The number of the page, from 0.
    pub page: u32,
    /// How many pages the job has.
    pub pages: u32,
    /// When the first of the signed links ends; `None` without any.
    pub expires_at: Option<Timestamp>,
}

impl From<LedgerError> for AccessRefusal {
    fn from(error: LedgerError) -> Self {
        Self::unavailable(error)
    }
}

impl From<RecordError> for AccessRefusal {
    fn from(error: RecordError) -> Self {
        Self::unavailable(error)
    }
}

impl From<SignerError> for AccessRefusal {
    fn from(error: SignerError) -> Self {
        Self::unavailable(error)
    }
}

impl From<SignError> for AccessRefusal {
    fn from(error: SignError) -> Self {
        Self::unavailable(error)
    }
}

impl From<PhraseError> for AccessRefusal {
    fn from(error: PhraseError) -> Self {
        Self::unavailable(error)
    }
}

impl AccessRefusal {
    pub(super) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable {
            retry_after: Duration::from_secs(5),
            source: Box::new(error),
        }
    }

    /// The word of audit lines; `None` for refusals that have no line.
    pub(super) const fn word(&self) -> Option<&'static str> {
        match self {
            Self::Ended { .. } => Some("ended"),
            Self::Revoked { .. } => Some("revoked"),
            Self::SignIn { .. } => Some("sign_in"),
            Self::OtherReader => Some("other_reader"),
            Self::ObjectGone => Some("object_gone"),
            Self::Archived => Some("archived"),
            Self::Forged | Self::NotYet | Self::Unavailable { .. } => None,
        }
    }
}

impl ReaderSession {
    /// Whether it was made in the way that a link asks for, at least: an OIDC issuer counts where a code would.
    pub(super) const fn satisfies(&self, demand: SignIn) -> bool {
        match (demand, &self.how) {
            (SignIn::None | SignIn::Any | SignIn::Code, _) => true,
            (SignIn::Oidc, SignedInBy::Oidc(_)) => true,
            (SignIn::Oidc, SignedInBy::Code) => false,
        }
    }
}

impl LinkReader {
    pub(super) fn of(person: PortalPerson) -> Self {
        Self {
            rid: person.rid,
            locale: person.locale,
            time_zone: person.time_zone,
            name: person.name,
        }
    }
}
