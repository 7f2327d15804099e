//! `/sign-in/oidc/…`: sign-ins at OpenID providers. The module `oidc` judges them; this one speaks HTTP.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderValue, Response, StatusCode};

use super::Portal;
use super::answer::{retry_after, set_cookie};
use super::cookies::PortalCookie;
use super::counts::PortalCount;
use super::oidc::{OidcFailure, OidcNotice, STATE_LIVES_FOR};
use super::visitor::{Denial, Visitor};
use crate::job::SignIn;
use crate::portal_access::{AccessRefusal, SignedInBy};
use crate::text::chain;

/// GET `/sign-in/oidc/<name>/<token>`: sends the browser to the provider. A token is a part of paths alone: queries reach the logs of
/// proxies, and statistics.
pub(super) async fn begin(
    State(portal): State<Portal>,
    place: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let (name, token) = place.map(|Path(place)| place).unwrap_or_default();
    begun(&portal, &name, &token, request).await
}

/// GET `/sign-in/oidc/<name>`: the same for a reader who comes without a link.
pub(super) async fn begin_for_mine(
    State(portal): State<Portal>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    begun(&portal, &name, "", request).await
}

async fn begun(portal: &Portal, name: &str, token: &str, request: Request) -> Response<Body> {
    let visitor = Visitor::of(portal, &request.into_parts().0);
    match answer_begin(&visitor, name, token).await {
        Ok(response) => response,
        Err(denial) => visitor.denied(&denial),
    }
}

async fn answer_begin(
    visitor: &Visitor,
    name: &str,
    token: &str,
) -> Result<Response<Body>, Denial> {
    visitor.portal.limits.sign_in(visitor.network())?;
    visitor.optional_token(token)?;
    let begun = match visitor
        .services
        .issuers
        .begin(name, token, visitor.now)
        .await
    {
        Ok(begun) => begun,
        Err(failure) => return Ok(failed(visitor, &failure).await),
    };
    let location = HeaderValue::try_from(begun.location).map_err(|_| AccessRefusal::Forged)?;
    let mut response = visitor.answers().redirect(StatusCode::SEE_OTHER, location);
    let cookie = PortalCookie::Issuer.set(&begun.cookie, Some(STATE_LIVES_FOR.as_secs()));
    set_cookie(&mut response, cookie);
    Ok(response)
}

/// GET `/sign-in/oidc/callback`: the provider sends the browser back.
pub(super) async fn callback(
    State(portal): State<Portal>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response<Body> {
    let visitor = Visitor::of(&portal, &request.into_parts().0);
    let mut response = match answer_callback(&visitor, &query.unwrap_or_default()).await {
        Ok(response) => response,
        Err(denial) => visitor.denied(&denial),
    };
    set_cookie(&mut response, PortalCookie::Issuer.remove());
    response
}

async fn answer_callback(visitor: &Visitor, query: &str) -> Result<Response<Body>, Denial> {
    visitor.portal.limits.sign_in(visitor.network())?;
    let cookie = PortalCookie::Issuer.read(&visitor.headers);
    let finished = visitor
        .services
        .issuers
        .finish(query, cookie, visitor.now)
        .await;
    let signed_in = match finished {
        Ok(signed_in) => signed_in,
        Err(failure) => return Ok(failed(visitor, &failure).await),
    };
    let token = visitor.optional_token(&signed_in.return_to)?;
    let rid = visitor.services.access.rid(signed_in.address.canonical());
    let how = SignedInBy::Oidc(signed_in.issuer.into());
    let response = visitor
        .sign_in(&rid, how, Some(&signed_in.return_to), token)
        .await?;
    visitor.count(PortalCount::SignedInByIssuer);
    Ok(response)
}

/// The page from which the visitor can sign in again.
async fn failed(visitor: &Visitor, failure: &OidcFailure) -> Response<Body> {
    let notice = failure.refusal.notice();
    let kind = match notice {
        OidcNotice::BeginAgain => 0,
        OidcNotice::Declined => 1,
        OidcNotice::OtherAccount => 2,
        OidcNotice::TryLater { .. } => 3,
        OidcNotice::AskOperator => 4,
    };
    if let Some(not_logged) = visitor.portal.lines.sign_ins[kind].due() {
        tracing::info!(
            issuer = failure.issuer,
            error = chain(&failure.refusal),
            not_logged,
            "a reader was not signed in at an OpenID provider"
        );
    }
    let words = match notice {
        OidcNotice::OtherAccount => "portal_issuer_other",
        OidcNotice::TryLater { .. } => "portal_busy_text",
        OidcNotice::BeginAgain | OidcNotice::Declined | OidcNotice::AskOperator => {
            "portal_issuer_failed"
        }
    };
    let return_to = failure.return_to.as_deref().unwrap_or_default();
    let visit = visitor
        .services
        .access
        .visit(return_to, visitor.now)
        .await
        .ok();
    let demand = visit.as_ref().map_or(SignIn::Any, |visit| visit.sign_in);
    let token = visit.as_ref().map(|_| return_to);
    let status = StatusCode::from_u16(notice.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = visitor.sign_in_page(status, visit.as_ref(), token, demand, Some(words));
    if let OidcNotice::TryLater { retry_after: after } = notice {
        retry_after(&mut response, after);
    }
    response
}
