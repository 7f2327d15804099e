//! `/mine`: all that was sent to a person who is signed in.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};

use super::Portal;
use super::visitor::{Denial, Visitor};
use crate::bounds::MAX_MINE;
use crate::job::SignIn;
use crate::render::portal::{MinePage, ShownDistribution};

/// GET and HEAD of `/mine`.
pub(super) async fn mine(State(portal): State<Portal>, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let visitor = Visitor::of(&portal, &parts);
    match answer_mine(&visitor).await {
        Ok(response) => response,
        Err(denial) => visitor.denied(&denial),
    }
}

async fn answer_mine(visitor: &Visitor) -> Result<Response<Body>, Denial> {
    if !visitor.services.settings.my_files {
        return Err(Denial::NotOurs(StatusCode::NOT_FOUND));
    }
    let ask = || visitor.sign_in_page(StatusCode::UNAUTHORIZED, None, None, SignIn::Any, None);
    let Some(session) = &visitor.session else {
        return Ok(ask());
    };
    if visitor.method == Method::HEAD {
        return Ok(visitor.answers().line(StatusCode::OK, ""));
    }
    let access = &visitor.services.access;
    if !access.is_valid(session, visitor.now).await? {
        return Ok(ask());
    }
    visitor
        .portal
        .limits
        .open(&format!("mine {}", session.rid))?;
    let visits = access.mine(session, MAX_MINE, visitor.now).await?;
    let sender = &visitor.services.presenting.mail.sender_name;
    let shown = visits.iter().map(|visit| {
        let title = visit.job.title.as_ref();
        let token = access.spell(&visit.token);
        ShownDistribution {
            title: title.unwrap_or(sender).clone(),
            href: format!("/j/{}", token.expose()),
            ends_at: visit.ends_at,
        }
    });
    let page = MinePage {
        distributions: shown.collect(),
    };
    let page = visitor.page_of(visits.first(), None, |writer| writer.mine(&page));
    Ok(visitor.plain_page(StatusCode::OK, page))
}
