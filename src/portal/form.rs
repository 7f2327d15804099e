//! Reads a form: bounded in bytes and in time.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Form, FromRequest, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::bounds::{MAX_PORTAL_FORM_BYTES, MAX_PORTAL_FORM_TIME};

/// The form of a POST; or the status of the answer, 413 for one that is too long and 408 for one that does not arrive.
pub(super) async fn read<F: DeserializeOwned>(parts: Parts, body: Body) -> Result<F, StatusCode> {
    let mut request = Request::from_parts(parts, body);
    DefaultBodyLimit::max(MAX_PORTAL_FORM_BYTES).apply(&mut request);
    match timeout(MAX_PORTAL_FORM_TIME, Form::<F>::from_request(request, &())).await {
        Ok(Ok(Form(form))) => Ok(form),
        Ok(Err(rejection)) => Err(rejection.status()),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}
