//! `/d/<token>`: one file. Its page, its button, and the redirect to a link that was signed for this open.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::Portal;
use super::answer::PageSources;
use super::client::is_own_post;
use super::cookies::BrowserNonce;
use super::counts::PortalCount;
use super::decision::{LinkDecision, LinkRequest, decide};
use super::form;
use super::stream::stream_file;
use super::visitor::{Denial, Visitor};
use super::zip_stream::stream_zip;
use crate::archive::streamed::StreamedZip;
use crate::config::PortalDelivery;
use crate::portal_access::{
    AccessRefusal, LinkedObject, OpenKind, OpenMethod, RenditionSize, SignedOpen, Visit,
};
use crate::render::portal::{FilePage, PortalMedia, ShownFile, ShownPreview};

/// The ticket of a picture, a video or a link of a page.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TicketQuery {
    #[serde(default)]
    t: String,
    /// The size in which an image of a page is asked for.
    #[serde(default)]
    s: String,
}

impl TicketQuery {
    /// The rendition that an image of a page asks for.
    fn size(&self) -> Option<RenditionSize> {
        match self.s.as_str() {
            "small" => Some(RenditionSize::Small),
            "large" => Some(RenditionSize::Large),
            _ => None,
        }
    }

    pub(super) fn into_text(self) -> String {
        self.t
    }
}

/// The button's form.
#[derive(Debug, Default, Deserialize)]
struct ButtonForm {
    #[serde(default)]
    ticket: String,
}

/// GET, HEAD and POST of `/d/<token>`.
pub(super) async fn link(
    State(portal): State<Portal>,
    token: Result<Path<String>, PathRejection>,
    query: Result<Query<TicketQuery>, QueryRejection>,
    request: Request,
) -> Response<Body> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let visitor = Visitor::of(&portal, &parts);
    // What is no text is no token and no ticket.
    let token = token.map(|Path(token)| token).unwrap_or_default();
    let query = query.map(|Query(query)| query).unwrap_or_default();
    let size = query.size();
    let query = query.into_text();
    let ticket = if parts.method == Method::POST {
        if !is_own_post(&visitor.headers, &visitor.services.settings.origin) {
            return visitor.denied(&Denial::NotOurs(StatusCode::FORBIDDEN));
        }
        match form::read::<ButtonForm>(parts, body).await {
            Ok(form) => form.ticket,
            Err(status) => return visitor.denied(&Denial::NotOurs(status)),
        }
    } else {
        query
    };
    match answer_link(&visitor, &token, (&ticket, size), began).await {
        Ok(response) => response,
        Err(denial) => visitor.denied(&denial),
    }
}

/// Steps 1 to 9 of an open. The access decides 1 to 5 and 7 to 8.
async fn answer_link(
    visitor: &Visitor,
    token: &str,
    (ticket, size): (&str, Option<RenditionSize>),
    began: Instant,
) -> Result<Response<Body>, Denial> {
    let read = visitor.token(token)?;
    if read.object.is_page() {
        let location = HeaderValue::try_from(format!("/j/{token}"));
        let location = location.map_err(|_| AccessRefusal::Forged)?;
        return Ok(visitor.answers().redirect(StatusCode::SEE_OTHER, location));
    }
    let (visit, object) = match visit_file(visitor, token).await {
        Ok(visited) => visited,
        Err(refusal) => {
            visitor.record_refusal(&read, &refusal).await;
            return Err(refusal.into());
        }
    };
    let access = &visitor.services.access;
    let session = visitor.session.as_ref();
    if let Err(refusal) = access.admit(&visit, session, visitor.now).await {
        visitor.record_refusal(&read, &refusal).await;
        return visitor.not_admitted(&visit, token, refusal);
    }
    let browser = visitor.browser.as_ref();
    let ticket = browser.and_then(|browser| {
        visitor
            .portal
            .tickets
            .check(ticket, token, browser, visitor.now)
    });
    let decision = decide(&LinkRequest {
        method: &visitor.method,
        mode: visit.open,
        signs: &visitor.signs,
        ticket,
        is_signed_in: session.is_some(),
    });
    let (how, method) = match (decision, size) {
        (LinkDecision::Page, _) => return Ok(file_page(visitor, &visit, &object, token).await),
        (LinkDecision::Open(OpenKind::Embed, method), Some(size)) => {
            (OpenKind::Rendition(size), method)
        }
        (LinkDecision::Open(how, method), _) => (how, method),
    };
    let is_zip = visit.streamed_zip().is_some();
    let is_streamed = is_zip || visitor.services.settings.deliver == PortalDelivery::Stream;
    if is_streamed && visitor.method == Method::POST {
        // A download that began with a form could not be resumed.
        return Ok(to_own_link(visitor, token));
    }
    visitor
        .portal
        .limits
        .open(&visitor.open_key(&visit, &object.link_id))?;
    let evidence = visitor.evidence(ticket);
    let opened = if is_zip {
        let opening = access.open_zip(&visit, how, method, &evidence, session, visitor.now);
        OpenedFile::Zip(opening.await?)
    } else {
        let opening = access.open(&visit, how, method, &evidence, session, visitor.now);
        OpenedFile::Signed(opening.await?)
    };
    visitor.portal.counts.opened(began);
    visitor.count(match (how, method) {
        (_, OpenMethod::Head) => PortalCount::Probed,
        (OpenKind::Button, OpenMethod::Get) => PortalCount::OpenedByButton,
        (OpenKind::Direct, OpenMethod::Get) => PortalCount::OpenedDirectly,
        (OpenKind::Embed | OpenKind::Rendition(_), OpenMethod::Get) => PortalCount::OpenedInPage,
    });
    match opened {
        OpenedFile::Zip(zip) => stream_zip(visitor, &visit, &object, zip, method),
        OpenedFile::Signed(opened) if is_streamed => {
            stream_file(visitor, &visit, &object, opened, method).await
        }
        OpenedFile::Signed(opened) => Ok(redirect(visitor, &opened)),
    }
}

/// A file whose audit line is durable.
enum OpenedFile {
    /// By a signed link.
    Signed(SignedOpen),
    /// A ZIP that is stored nowhere.
    Zip(Arc<StreamedZip>),
}

/// A redirect to the same link with a ticket: the file is got by the request that follows.
fn to_own_link(visitor: &Visitor, token: &str) -> Response<Body> {
    let browser = visitor.browser.unwrap_or_else(BrowserNonce::random);
    let ticket = visitor.portal.tickets.issue(token, &browser, visitor.now);
    let location = HeaderValue::try_from(format!("/d/{token}?t={ticket}"));
    let location = location.unwrap_or_else(|_| HeaderValue::from_static("/"));
    let response = visitor.answers().redirect(StatusCode::SEE_OTHER, location);
    visitor.with_nonce(response, &browser)
}

fn redirect(visitor: &Visitor, opened: &SignedOpen) -> Response<Body> {
    let status = match visitor.method {
        Method::POST => StatusCode::SEE_OTHER,
        _ => StatusCode::FOUND,
    };
    visitor.answers().signed(status, &opened.url)
}

async fn visit_file(
    visitor: &Visitor,
    token: &str,
) -> Result<(Visit, Arc<LinkedObject>), AccessRefusal> {
    let visit = visitor.services.access.visit(token, visitor.now).await?;
    let object = visit.object.clone().ok_or(AccessRefusal::Forged)?;
    Ok((visit, object))
}

/// The page with the button, and the ticket that it sends.
async fn file_page(
    visitor: &Visitor,
    visit: &Visit,
    object: &LinkedObject,
    token: &str,
) -> Response<Body> {
    let browser = visitor.browser.unwrap_or_else(BrowserNonce::random);
    let ticket = visitor.portal.tickets.issue(token, &browser, visitor.now);
    let (action, mut src) = (format!("/d/{token}"), format!("/d/{token}?t={ticket}"));
    let has_renditions = visit.job.renditions.is_some();
    let media = shown_media(object);
    if has_renditions && media == Some(PortalMedia::Picture) {
        src.push_str("&s=large");
    }
    let preview = media.filter(|_| object.is_inline);
    let page = visitor.page_of(Some(visit), None, |writer| {
        writer.file(&FilePage {
            file: ShownFile {
                name: &object.name,
                path: &object.path,
                size: object.size_bytes,
                modified: object.modified,
                href: &action,
                preview: preview.map(|media| ShownPreview {
                    media,
                    src: &src,
                    again: None,
                    renditions: None,
                }),
            },
            ticket: &ticket,
            opens: object.is_inline,
            title: visit.job.title.as_deref(),
            ends_at: visit.ends_at,
            signed_in: visitor.session.is_some(),
        })
    });
    let sources = PageSources {
        stores: visitor.stores(visit).await,
    };
    let response = visitor.answers().page(StatusCode::OK, page, &sources);
    visitor.with_nonce(response, &browser)
}

/// How a page can show an object.
pub(super) fn shown_media(object: &LinkedObject) -> Option<PortalMedia> {
    let (kind, _) = object.media_type?.split_once('/')?;
    match kind {
        "image" => Some(PortalMedia::Picture),
        "video" => Some(PortalMedia::Video),
        "audio" => Some(PortalMedia::Sound),
        _ => None,
    }
}
