//! What a portal link opens: from a token to a signed link, with every question between them answered in order.
//!
//! 1. Is the token ours? Without a look-up: forged tokens reach no ledger.
//! 2. Which job, recipient and object is it for?
//! 3. Has it ended? 4. Is it revoked? The check is at most `revocation_check` old.
//! 5. Is the visitor signed in as the job asks?
//! 6. Sign. 7. Make the audit line durable. Only then does the URL exist for the caller.
//!
//! The module knows no HTTP: the portal's server turns a [`Visit`] into a page, and a [`SignedOpen`] into a redirect.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use presign::PresignedUrl;

use crate::job::{OpenMode, SignIn};
use crate::ledger::portal::{PortalJob, PortalLedger};
use crate::portal_token::{PortalKeys, PortalToken, TokenText};

/// What the portal opens links with.
#[derive(Debug, Clone)]
pub struct PortalAccess {
    keys: PortalKeys,
    records: PortalLedger,
}

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
    /// How many networks asked for the link within two seconds.
    pub networks_2s: Option<u32>,
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
    /// The token of the object's own link.
    pub token: TokenText,
}

/// An object that cannot be opened, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedEntry {
    /// Its key without the job's common prefix.
    pub path: String,
    /// Why.
    pub reason: crate::links::Unlinkable,
}

/// One page of a job's objects, with links whose audit line is durable.
#[derive(Debug)]
pub struct SignedPage {
    /// The objects.
    pub entries: Vec<Result<SignedEntry, ClosedEntry>>,
    /// The number of the page, from 0.
    pub page: u32,
    /// How many pages the job has.
    pub pages: u32,
    /// When the first of the signed links ends.
    pub expires_at: Timestamp,
}

impl PortalAccess {
    /// What a text says, if it is a token of this installation. No look-up is made.
    pub fn read(&self, token: &str) -> Result<PortalToken, AccessRefusal> {
        self.keys.open(token).ok_or(AccessRefusal::Forged)
    }

    /// The records, for codes and sign-ins.
    pub const fn records(&self) -> &PortalLedger {
        &self.records
    }

    /// The link of a token: steps 1 to 4.
    pub async fn visit(&self, token: &str, now: Timestamp) -> Result<Visit, AccessRefusal> {
        let _ = (self.read(token)?, now);
        todo!()
    }

    /// Whether a visitor is signed in as the link asks: step 5. The sessions that were revoked are not.
    pub async fn admit(
        &self,
        visit: &Visit,
        session: Option<&ReaderSession>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        let _ = (visit, session, now);
        todo!()
    }

    /// Signs a link to the object of a visit, and returns it once its audit line is durable: steps 5 to 7.
    pub async fn open(
        &self,
        visit: &Visit,
        how: OpenKind,
        method: OpenMethod,
        evidence: &OpenEvidence<'_>,
        session: Option<&ReaderSession>,
        now: Timestamp,
    ) -> Result<SignedOpen, AccessRefusal> {
        let _ = (visit, how, method, evidence, session, now);
        todo!()
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
        let _ = (visit, page, evidence, session, now);
        todo!()
    }

    /// Records that a recipient signed in.
    pub async fn signed_in(
        &self,
        session: &ReaderSession,
        evidence: &OpenEvidence<'_>,
    ) -> Result<(), AccessRefusal> {
        let _ = (session, evidence);
        todo!()
    }

    /// Records that a recipient signed out.
    pub async fn signed_out(
        &self,
        session: &ReaderSession,
        evidence: &OpenEvidence<'_>,
    ) -> Result<(), AccessRefusal> {
        let _ = (session, evidence);
        todo!()
    }

    /// Records that a code was mailed to a recipient.
    pub async fn code_sent(
        &self,
        rid: &str,
        evidence: &OpenEvidence<'_>,
    ) -> Result<(), AccessRefusal> {
        let _ = (rid, evidence);
        todo!()
    }

    /// Records that a link did not open, at most once a minute for each link.
    pub async fn refused(
        &self,
        token: &PortalToken,
        refusal: &AccessRefusal,
        evidence: &OpenEvidence<'_>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        let _ = (token, refusal, evidence, now);
        todo!()
    }

    /// The jobs that a signed-in recipient has files of, the latest first: visits to their pages.
    pub async fn mine(
        &self,
        session: &ReaderSession,
        now: Timestamp,
    ) -> Result<Vec<Visit>, AccessRefusal> {
        let _ = (session, now);
        todo!()
    }
}
