//! One request: who sends it, what the browser carries, and the services of the moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use jiff::Timestamp;

use super::answer::{self, AnswerHeaders, PageSources, set_cookie};
use super::client::{self, RequestSigns, client_address};
use super::cookies::{BrowserNonce, PortalCookie};
use super::counts::PortalCount;
use super::server::PeerAddress;
use super::{Portal, PortalServices};
use crate::clock;
use crate::edge::EdgeError;
use crate::job::Locale;
use crate::ledger::portal::PortalJob;
use crate::portal_access::{AccessRefusal, OpenEvidence, ReaderSession, Visit};
use crate::portal_token::PortalToken;
use crate::render::portal::{PageSender, PortalPage, PortalReader, PortalTrouble, PortalWriter};
use crate::serving::{ClientNetwork, TooMany};
use crate::text::chain;

/// A request, as far as it has been understood.
pub(super) struct Visitor {
    pub(super) portal: Portal,
    /// The services, the same until the answer is complete.
    pub(super) services: Arc<PortalServices>,
    pub(super) now: Timestamp,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) signs: RequestSigns,
    pub(super) address: IpAddr,
    pub(super) session: Option<ReaderSession>,
    pub(super) browser: Option<BrowserNonce>,
    pub(super) user_agent: String,
    sec_fetch: Option<String>,
}

/// Why a request is answered without a file.
pub(super) enum Denial {
    /// The link does not open.
    Refused(AccessRefusal),
    /// Too many requests.
    TooMany(TooMany),
    /// The store gave no file that was to be streamed.
    Store(StatusCode, EdgeError),
    /// The request is none of a page of the portal: another site's form, an unreadable one.
    NotOurs(StatusCode),
    /// The portal has no such path: `/`, `/favicon.ico`, what scanners try.
    NoSuchPath,
}

impl From<AccessRefusal> for Denial {
    fn from(refusal: AccessRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<TooMany> for Denial {
    fn from(many: TooMany) -> Self {
        Self::TooMany(many)
    }
}

/// The longest value of `Sec-Fetch-*` that goes into an audit line, in bytes.
const MAX_FETCH_VALUE: usize = 16;

impl Visitor {
    pub(super) fn of(portal: &Portal, parts: &Parts) -> Self {
        let services = portal.services();
        let now = (services.clock)();
        let peer = parts.extensions.get::<PeerAddress>();
        let peer = peer.map_or(client::UNKNOWN_ADDRESS, |peer| peer.0);
        let headers = parts.headers.clone();
        let signs = RequestSigns::of(&headers);
        let session = PortalCookie::Session.read(&headers);
        let session = session.and_then(|cookie| portal.sessions.read(cookie, now));
        Self {
            address: client_address(peer, &headers, &services.settings.trusted_proxies),
            browser: BrowserNonce::read(&headers),
            user_agent: client::user_agent(&headers),
            sec_fetch: signs.has_fetch_headers.then(|| sec_fetch(&headers)),
            portal: portal.clone(),
            services,
            now,
            method: parts.method.clone(),
            headers,
            signs,
            session,
        }
    }

    /// What an audit line says of the request.
    pub(super) fn evidence(&self, after_page: Option<Duration>) -> OpenEvidence<'_> {
        OpenEvidence {
            address: Some(self.address),
            user_agent: Some(&*self.user_agent).filter(|agent| !agent.is_empty()),
            after_page,
            sec_fetch: self.sec_fetch.as_deref(),
            purpose: self.signs.is_prefetch.then_some("prefetch"),
            has_range: self.signs.has_range,
        }
    }

    /// An answer that sets the nonce of its tickets, unless the browser has one.
    pub(super) fn with_nonce(
        &self,
        mut response: Response<Body>,
        nonce: &BrowserNonce,
    ) -> Response<Body> {
        if self.browser.is_none() {
            set_cookie(&mut response, nonce.set());
        }
        response
    }

    pub(super) fn network(&self) -> ClientNetwork {
        ClientNetwork::of(self.address)
    }

    pub(super) fn count(&self, what: PortalCount) {
        self.portal.counts.count(what);
    }

    /// The token of a text, if it was made here. Forged ones are counted, and limited by network.
    pub(super) fn token(&self, text: &str) -> Result<PortalToken, Denial> {
        let read = self.services.access.read(text);
        if read.is_err() {
            self.portal.limits.forged(self.network())?;
        }
        Ok(read?)
    }

    pub(super) fn answers(&self) -> AnswerHeaders {
        AnswerHeaders {
            hsts: self.services.settings.tls.is_some(),
            embeddable: self.services.settings.embeddable,
        }
    }

    /// By what the opens of a link are counted: by the link, and where all recipients share it by the visitor's network, too.
    pub(super) fn open_key(&self, visit: &Visit, link: &str) -> String {
        match visit.reader {
            Some(_) => link.to_owned(),
            None => format!("{link} {:?}", self.network()),
        }
    }

    /// The origins at which the links of a page open. Without one, the page shows no pictures and its button is for Firefox
    /// alone; the open itself tells why.
    pub(super) async fn stores(&self, visit: &Visit) -> Vec<String> {
        let origins = self.services.access.origins(visit, self.now).await;
        origins.unwrap_or_default()
    }

    /// Writes pages in the language of the reader, with the contact of the job if it has one.
    pub(super) fn page_of(
        &self,
        visit: Option<&Visit>,
        job: Option<&PortalJob>,
        write: impl FnOnce(&PortalWriter<'_>) -> PortalPage,
    ) -> PortalPage {
        let job = job.or(visit.map(|visit| &*visit.job));
        let reader = visit.and_then(|visit| visit.reader.as_deref());
        let locale: Option<Locale> = reader
            .and_then(|reader| reader.locale.as_deref())
            .and_then(|locale| locale.parse().ok());
        let zone = reader
            .and_then(|reader| reader.time_zone.as_deref())
            .or(job.map(|job| job.time_zone.as_str()))
            .and_then(clock::time_zone);
        let presenting = &self.services.presenting;
        let contact = job.and_then(|job| job.contact.as_deref());
        let writer = PortalWriter::new(
            &presenting.templates,
            &presenting.mail,
            PageSender {
                name: None,
                contact: contact.or(self.services.settings.contact.as_deref()),
            },
            PortalReader {
                locale: locale.as_ref(),
                time_zone: zone.as_ref(),
                languages: client::languages(&self.headers),
            },
        );
        write(&writer)
    }

    /// An answer with a page that leads to no store.
    pub(super) fn plain_page(&self, status: StatusCode, page: PortalPage) -> Response<Body> {
        self.answers().page(status, page, &PageSources::default())
    }

    /// The answer to a request that gets no file. Nothing of the request is in it.
    pub(super) fn denied(&self, denial: &Denial) -> Response<Body> {
        let told = Told::of(denial);
        self.count(told.count);
        match denial {
            Denial::Refused(AccessRefusal::Unavailable { source, .. }) => {
                if let Some(not_logged) = self.portal.lines.opens.due() {
                    let error = chain(&**source);
                    tracing::warn!(error, not_logged, "a portal link could not be opened");
                }
            }
            Denial::Store(_, error) => {
                if let Some(not_logged) = self.portal.lines.streams.due() {
                    let error = chain(error);
                    tracing::warn!(error, not_logged, "a file could not be streamed");
                }
            }
            Denial::Refused(_) | Denial::TooMany(_) | Denial::NotOurs(_) | Denial::NoSuchPath => {}
        }
        let mut response = if self.signs.accepts_html {
            let page = self.page_of(None, told.job, |writer| match denial {
                Denial::Refused(AccessRefusal::OtherReader) => writer.other_person(""),
                _ => writer.trouble(told.trouble),
            });
            self.plain_page(told.status, page)
        } else {
            self.answers().line(told.status, told.line)
        };
        if let Some(after) = told.retry_after {
            answer::retry_after(&mut response, after);
        }
        response
    }
}

/// What an answer says of a denial.
struct Told<'a> {
    status: StatusCode,
    trouble: PortalTrouble,
    /// For programs, in English.
    line: &'static str,
    retry_after: Option<Duration>,
    job: Option<&'a PortalJob>,
    count: PortalCount,
}

/// The time after which a link that is not ready is tried again.
const NOT_YET: Duration = Duration::from_secs(30);

impl<'a> Told<'a> {
    fn of(denial: &'a Denial) -> Self {
        let told = |status, trouble, line, count| Self {
            status,
            trouble,
            line,
            retry_after: None,
            job: None,
            count,
        };
        match denial {
            Denial::Refused(refusal) => match refusal {
                AccessRefusal::Forged => told(
                    StatusCode::NOT_FOUND,
                    PortalTrouble::Unknown,
                    "this link does not work: it may have been cut off",
                    PortalCount::Forged,
                ),
                AccessRefusal::Ended { at, job } => Self {
                    job: Some(job),
                    ..told(
                        StatusCode::GONE,
                        PortalTrouble::Ended { at: Some(*at) },
                        "this link has ended",
                        PortalCount::Ended,
                    )
                },
                AccessRefusal::Revoked { job, .. } => Self {
                    job: Some(job),
                    ..told(
                        StatusCode::GONE,
                        PortalTrouble::Revoked,
                        "this link was withdrawn by the sender",
                        PortalCount::Revoked,
                    )
                },
                AccessRefusal::SignIn { .. } => told(
                    StatusCode::UNAUTHORIZED,
                    PortalTrouble::Refused,
                    "this link asks for a sign-in: open it in a browser",
                    PortalCount::NotSignedIn,
                ),
                AccessRefusal::OtherReader => told(
                    StatusCode::FORBIDDEN,
                    PortalTrouble::Refused,
                    "this link is for another address",
                    PortalCount::OtherReader,
                ),
                AccessRefusal::ObjectGone => told(
                    StatusCode::GONE,
                    PortalTrouble::Gone,
                    "the file is no longer there",
                    PortalCount::Gone,
                ),
                AccessRefusal::Archived => told(
                    StatusCode::CONFLICT,
                    PortalTrouble::Archived,
                    "the file is in an archive and has to be restored first",
                    PortalCount::Gone,
                ),
                AccessRefusal::NotYet => Self {
                    retry_after: Some(NOT_YET),
                    ..told(
                        StatusCode::SERVICE_UNAVAILABLE,
                        PortalTrouble::NotYet,
                        "this link is not ready yet",
                        PortalCount::Unavailable,
                    )
                },
                AccessRefusal::Unavailable { retry_after, .. } => Self {
                    retry_after: Some(*retry_after),
                    ..told(
                        StatusCode::SERVICE_UNAVAILABLE,
                        PortalTrouble::Unavailable,
                        "this link cannot be opened right now",
                        PortalCount::Unavailable,
                    )
                },
            },
            Denial::TooMany(many) => Self {
                retry_after: Some(many.retry_after),
                ..told(
                    StatusCode::TOO_MANY_REQUESTS,
                    PortalTrouble::TooMany,
                    "too many requests",
                    PortalCount::Limited,
                )
            },
            Denial::Store(status, _) => told(
                *status,
                PortalTrouble::Unavailable,
                "the file cannot be fetched right now",
                PortalCount::Unavailable,
            ),
            // The same answer as to a forged token: paths are no secret, and tell nothing.
            Denial::NoSuchPath => told(
                StatusCode::NOT_FOUND,
                PortalTrouble::Unknown,
                "this link does not work: it may have been cut off",
                PortalCount::OtherPath,
            ),
            Denial::NotOurs(status) => told(
                *status,
                PortalTrouble::Refused,
                "this request is not one of the portal's pages",
                PortalCount::Forged,
            ),
        }
    }
}

/// `site/mode/dest/user`, each part short and of letters, or `-`.
fn sec_fetch(headers: &HeaderMap) -> String {
    let part = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        let is_plain = |value: &&str| {
            value.len() <= MAX_FETCH_VALUE
                && value
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'?'))
        };
        value.filter(is_plain).unwrap_or("-").to_owned()
    };
    [
        "sec-fetch-site",
        "sec-fetch-mode",
        "sec-fetch-dest",
        "sec-fetch-user",
    ]
    .map(part)
    .join("/")
}
