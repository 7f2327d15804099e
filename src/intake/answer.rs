//! The answers of the intake: JSON, and what a program needs to come back.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::counts::IntakeCount;
use crate::text::percent::encode;

/// When to come back while a dependency is down that says nothing about it.
pub(super) const COME_BACK: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Debug)]
pub(super) struct IntakeAnswer {
    status: StatusCode,
    body: Value,
    count: IntakeCount,
    retry_after: Option<Duration>,
    location: Option<String>,
    allow: Option<&'static str>,
    challenge: Option<&'static str>,
}

impl IntakeAnswer {
    /// An answer that is no error.
    pub(super) const fn done(status: StatusCode, body: Value, count: IntakeCount) -> Self {
        Self {
            status,
            body,
            count,
            retry_after: None,
            location: None,
            allow: None,
            challenge: None,
        }
    }

    /// An error in a sentence.
    pub(super) fn error(
        status: StatusCode,
        sentence: impl Into<String>,
        count: IntakeCount,
    ) -> Self {
        Self::done(status, json!({ "error": sentence.into() }), count)
    }

    /// The request is wrong, and stays wrong.
    pub(super) fn refused(sentence: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, sentence, IntakeCount::Refused)
    }

    /// Another job has the id.
    pub(super) fn conflict(sentence: impl Into<String>) -> Self {
        Self::error(StatusCode::CONFLICT, sentence, IntakeCount::Refused)
    }

    /// The same request may be taken later.
    pub(super) fn unavailable(sentence: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::error(
                StatusCode::SERVICE_UNAVAILABLE,
                sentence,
                IntakeCount::Unavailable,
            )
        }
    }

    /// There were too many requests.
    pub(super) fn limited(sentence: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::error(
                StatusCode::TOO_MANY_REQUESTS,
                sentence,
                IntakeCount::Limited,
            )
        }
    }

    /// There is no token, or a wrong one. <https://www.rfc-editor.org/rfc/rfc6750#section-3>
    pub(super) fn unauthorized(has_token: bool) -> Self {
        let challenge = match has_token {
            true => "Bearer realm=\"handout\", error=\"invalid_token\"",
            false => "Bearer realm=\"handout\"",
        };
        let sentence = "send a token of intake.token_file, as in \"Authorization: Bearer TOKEN\"";
        Self {
            challenge: Some(challenge),
            ..Self::error(
                StatusCode::UNAUTHORIZED,
                sentence,
                IntakeCount::Unauthorized,
            )
        }
    }

    /// The path takes other methods.
    pub(super) fn other_method(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::error(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("this path takes {allow}"),
                IntakeCount::Refused,
            )
        }
    }

    /// The same answer with the path of a job's state.
    pub(super) fn at_job(self, id: &str) -> Self {
        Self {
            location: Some(format!("/jobs/{}", encode(id, b"-._~"))),
            ..self
        }
    }

    /// The same answer with the rejected value, which goes to the caller alone: it may be an address.
    pub(super) fn that_said(mut self, said: Option<String>) -> Self {
        if let Some(said) = said {
            self.body["said"] = Value::from(said);
        }
        self
    }

    pub(super) const fn count(&self) -> IntakeCount {
        self.count
    }

    /// The sentence of an error.
    pub(super) fn sentence(&self) -> Option<&str> {
        self.body.get("error").and_then(Value::as_str)
    }

    /// The answer as HTTP. After the stop, the connection takes no further request.
    pub(super) fn into_response(self, is_last: bool) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("{}\n", self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(location) = self.location.and_then(|path| path.try_into().ok()) {
            headers.insert(LOCATION, location);
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if is_last {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
