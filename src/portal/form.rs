//! Reads a form: bounded in bytes and in time.

use axum::body::{Body, Bytes};
use axum::extract::{Form, FromRequest, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::bounds::{MAX_PORTAL_FORM_BYTES, MAX_PORTAL_FORM_TIME};

/// Why the body of a POST is not there; among the extensions of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormFault(StatusCode);

/// Reads the body of a POST before the request is answered: until then, its connection can be closed for another.
pub(super) async fn collect(body: Incoming) -> Result<Bytes, FormFault> {
    let limited = Limited::new(body, MAX_PORTAL_FORM_BYTES);
    match timeout(MAX_PORTAL_FORM_TIME, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(FormFault(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(_)) => Err(FormFault(StatusCode::BAD_REQUEST)),
        Err(_) => Err(FormFault(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// The form of a POST; or the status of the answer, 413 for one that is too long and 408 for one that does not arrive.
pub(super) async fn read<F: DeserializeOwned>(parts: Parts, body: Body) -> Result<F, StatusCode> {
    if let Some(FormFault(status)) = parts.extensions.get() {
        return Err(*status);
    }
    let request = Request::from_parts(parts, body);
    let form = Form::<F>::from_request(request, &()).await;
    form.map(|Form(form)| form)
        .map_err(|rejection| rejection.status())
}
