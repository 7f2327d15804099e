//! `/leave/{token}`: leaving a list, by the one-click button of a mail program (RFC 8058) or by a page.
//!
//! Every answer to a token is the same, whether it is one of ours, so it does not tell who is a recipient. GET changes nothing, since scanners
//! follow each link of a mail. There are no cookies and no redirects, and no other origin is refused: a mail program posts from its own servers.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, Response, StatusCode};
use http_body_util::BodyExt;

use super::Portal;
use super::counts::PortalCount;
use super::visitor::Visitor;
use crate::audit::record;
use crate::ledger::people::{PersonDetail, PersonKind, PersonRecord};
use crate::person_token::{PERSON_TOKEN_LETTERS, PersonToken, PersonTokenKind};
use crate::text::chain;

/// What the body of a request to leave holds, urlencoded or as a part of multipart/form-data.
const ONE_CLICK: &[u8] = b"One-Click";

/// GET and HEAD: a page with a button.
pub(super) async fn page(
    State(portal): State<Portal>,
    Path(token): Path<String>,
    request: Request,
) -> Response<Body> {
    let visitor = Visitor::of(&portal, &request.into_parts().0);
    if visitor.method == Method::HEAD {
        return visitor.answers().line(StatusCode::OK, "");
    }
    // What is no token is not repeated. The form of one says nothing of whether it is ours.
    let is_shown = token.len() == PERSON_TOKEN_LETTERS
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let shown = if is_shown { &*token } else { "x" };
    let page = visitor.page_of(None, None, |writer| writer.leave(shown));
    visitor.plain_page(StatusCode::OK, page)
}

/// POST: leaves the list.
pub(super) async fn leave(
    State(portal): State<Portal>,
    Path(token): Path<String>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let visitor = Visitor::of(&portal, &parts);
    let body = body.collect().await.map(|body| body.to_bytes());
    let body = body.unwrap_or_default();
    let asks = body.windows(ONE_CLICK.len()).any(|part| part == ONE_CLICK);
    let read = visitor
        .services
        .person_keys
        .read(PersonTokenKind::Leave, &token);
    if let (Some(token), true) = (read, asks)
        && let Err(error) = record_leaving(&visitor, &token).await
    {
        if let Some(not_logged) = visitor.portal.lines.leaves.due() {
            tracing::warn!(error, not_logged, "a recipient could not leave a list");
        }
        // The mail program tries again.
        visitor.count(PortalCount::Unavailable);
        return visitor
            .answers()
            .line(StatusCode::SERVICE_UNAVAILABLE, "please try again later");
    }
    if !visitor.signs.accepts_html {
        return visitor.answers().line(StatusCode::OK, "done");
    }
    let page = visitor.page_of(None, None, |writer| writer.left());
    visitor.plain_page(StatusCode::OK, page)
}

/// Records that a recipient has left a list; the words of what kept it from being durable.
async fn record_leaving(visitor: &Visitor, token: &PersonToken) -> Result<(), String> {
    let services = &visitor.services;
    let before = services.people.of_person(&token.rid).await;
    let before = before.map_err(|error| chain(&error))?;
    let record = PersonRecord::left(visitor.now, token.tag, &before);
    let is_known = |known: &PersonRecord| known.kind == PersonKind::Left && known.id == record.id;
    if before.iter().any(is_known) {
        return Ok(());
    }
    let line = record::feedback(&record::MailFeedback {
        rid: &token.rid,
        job: None,
        verdict: "left",
        source: "portal",
        status: None,
        list: Some(&token.tag.to_string()),
    });
    let appended = services.audit.append(vec![line]).await;
    appended.map_err(|error| chain(&error))?;
    let detail = PersonDetail {
        source: "portal".to_owned(),
        list: Some(token.tag.to_string()),
        ..PersonDetail::default()
    };
    let added = services.people.add(&token.rid, &record, &detail).await;
    added.map_err(|error| chain(&error))?;
    visitor.count(PortalCount::Left);
    tracing::info!(rid = token.rid, list = %token.tag, "a recipient has left a list");
    Ok(())
}
