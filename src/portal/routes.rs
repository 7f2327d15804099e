//! The paths of the portal, and what is answered at others.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};

use super::visitor::{Denial, Visitor};
use super::{Portal, issuers, leave, link, list, mine, sign_in};

/// What `/robots.txt` says; it is the same for every portal.
pub(super) const ROBOTS: &str = "User-agent: *\nDisallow: /";

/// Routes requests. axum answers other methods with `Allow`.
pub(super) fn router(portal: Portal) -> Router {
    Router::new()
        .route("/d/{token}", get(link::link).post(link::link))
        .route("/j/{token}", get(list::first_page))
        .route("/j/{token}/{page}", get(list::page))
        .route("/sign-in", post(sign_in::ask_for_code))
        .route("/sign-in/code", post(sign_in::take_code))
        .route("/sign-in/oidc/callback", get(issuers::callback))
        .route("/sign-in/oidc/{name}", get(issuers::begin_for_mine))
        .route("/sign-in/oidc/{name}/{token}", get(issuers::begin))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/mine", get(mine::mine))
        .route("/leave/{token}", get(leave::page).post(leave::leave))
        .route("/robots.txt", get(robots))
        .method_not_allowed_fallback(other_method)
        .fallback(unknown)
        .with_state(portal)
}

async fn robots(State(portal): State<Portal>, request: Request) -> Response<Body> {
    let visitor = Visitor::of(&portal, &request.into_parts().0);
    visitor.answers().line(StatusCode::OK, ROBOTS)
}

async fn unknown(State(portal): State<Portal>, request: Request) -> Response<Body> {
    let visitor = Visitor::of(&portal, &request.into_parts().0);
    visitor.denied(&Denial::NoSuchPath)
}

async fn other_method(State(portal): State<Portal>, request: Request) -> Response<Body> {
    let visitor = Visitor::of(&portal, &request.into_parts().0);
    visitor.denied(&Denial::NotOurs(StatusCode::METHOD_NOT_ALLOWED))
}
