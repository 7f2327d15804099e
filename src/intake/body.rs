//! The body of a request: bounded in bytes and in time.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::answer::IntakeAnswer;
use super::counts::IntakeCount;
use crate::bounds::MAX_INTAKE_BODY_TIME;
use crate::job::MAX_BODY_BYTES;
use crate::text::decode;

/// How much of a body that is not wanted is read, and for how long: a client that still writes may not see an answer.
const MAX_DISCARDED_BYTES: usize = 2 * MAX_BODY_BYTES;
const MAX_DISCARD_TIME: Duration = Duration::from_secs(2);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFault {
    TooLarge,
    TooSlow,
    Broken,
    NotText,
    Encoded,
}

impl From<BodyFault> for IntakeAnswer {
    fn from(fault: BodyFault) -> Self {
        let (status, sentence) = match fault {
            BodyFault::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body has more than {MAX_BODY_BYTES} bytes: make several jobs of it"),
            ),
            BodyFault::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the body did not arrive within {} s: send it again",
                    MAX_INTAKE_BODY_TIME.as_secs()
                ),
            ),
            BodyFault::Broken => (
                StatusCode::BAD_REQUEST,
                "the body ended early: send it again".to_owned(),
            ),
            BodyFault::NotText => (
                StatusCode::BAD_REQUEST,
                "the body is not UTF-8 text: send JSON".to_owned(),
            ),
            BodyFault::Encoded => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body has a Content-Encoding: send it as it is".to_owned(),
            ),
        };
        Self::error(status, sentence, IntakeCount::Refused)
    }
}

/// Reads a body.
pub(super) async fn read(body: Incoming, parts: &Parts) -> Result<String, BodyFault> {
    let encoding = parts.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        discard(body).await;
        return Err(BodyFault::Encoded);
    }
    let most = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        discard(body).await;
        return Err(BodyFault::TooLarge);
    }
    let limited = Limited::new(body, MAX_BODY_BYTES);
    match timeout(MAX_INTAKE_BODY_TIME, limited.collect()).await {
        Ok(Ok(body)) => decode(body.to_bytes().to_vec()).map_err(|_| BodyFault::NotText),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLarge),
        Ok(Err(_)) => Err(BodyFault::Broken),
        Err(_) => Err(BodyFault::TooSlow),
    }
}

/// Reads a body that is not wanted, and keeps nothing of it.
pub(super) async fn discard(body: Incoming) {
    let reading = async {
        let (mut body, mut left) = (body, MAX_DISCARDED_BYTES);
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, bytes::Bytes::len);
            let Some(rest) = left.checked_sub(length) else {
                return;
            };
            left = rest;
        }
    };
    // The answer follows in any case.
    drop(timeout(MAX_DISCARD_TIME, reading).await);
}
