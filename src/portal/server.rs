//! The requests of the portal's connections: their bounds, and the routes that answer them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::timeout;

use super::answer;
use super::form;
use super::oidc::OIDC_CALLBACK_PATH;
use crate::bounds::{MAX_OIDC_CALLBACK_BYTES, MAX_PORTAL_ANSWER_TIME, MAX_TARGET_BYTES};
use crate::serving::{AnswerFuture, RequestAnswers, RoomPlace, held_by};

/// The address of the other side of a connection: the reader's, or a proxy's.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerAddress(pub(super) IpAddr);

/// The routes, for the requests of all connections.
#[derive(Clone)]
pub(super) struct PortalRequests(TowerToHyperService<Router>);

impl PortalRequests {
    pub(super) fn new(router: Router) -> Self {
        Self(TowerToHyperService::new(router))
    }
}

impl RequestAnswers for PortalRequests {
    fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        place: Arc<RoomPlace>,
    ) -> AnswerFuture {
        let target = request
            .uri()
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        let most = match request.uri().path() {
            // Authorization codes of some providers are long.
            OIDC_CALLBACK_PATH => MAX_OIDC_CALLBACK_BYTES,
            _ => MAX_TARGET_BYTES,
        };
        if target > most {
            return Box::pin(async { answer::plain(StatusCode::URI_TOO_LONG) });
        }
        request.extensions_mut().insert(PeerAddress(peer));
        let router = self.0.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let body = match parts.method {
                Method::POST => match form::collect(body).await {
                    Ok(bytes) => Body::from(bytes),
                    Err(fault) => {
                        parts.extensions.insert(fault);
                        Body::empty()
                    }
                },
                _ => Body::new(body),
            };
            let guard = place.answers();
            let answering = router.call(Request::from_parts(parts, body));
            // What an answer waits for has deadlines of its own; together they can be longer than readers wait.
            let answered = timeout(MAX_PORTAL_ANSWER_TIME, answering).await;
            let answered = match answered {
                Ok(Ok(answered)) => answered,
                Ok(Err(never)) => match never {},
                Err(_) => answer::late(),
            };
            // The guard goes with the body: an answer is being read until its end.
            answered.map(|body| held_by(body, guard))
        })
    }
}
