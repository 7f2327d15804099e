//! Which requests are taken: by their path, their token and the rate.

use std::net::IpAddr;

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};

use super::answer::{COME_BACK, IntakeAnswer};
use super::counts::IntakeCount;
use super::{Intake, IntakeRoute};
use crate::bounds::{MAX_INTAKE_WAIT, MAX_TARGET_BYTES};
use crate::serving::ClientNetwork;
use crate::text::percent::decode;

impl Intake {
    /// What a request asks for, or why it is not taken; its body is not read yet.
    pub(super) fn admit(&self, parts: &Parts, peer: IpAddr) -> Result<IntakeRoute, IntakeAnswer> {
        let target = parts.uri.path_and_query();
        if target.map_or(0, |target| target.as_str().len()) > MAX_TARGET_BYTES {
            let sentence = format!("the path has more than {MAX_TARGET_BYTES} bytes");
            let status = StatusCode::URI_TOO_LONG;
            return Err(IntakeAnswer::error(status, sentence, IntakeCount::Refused));
        }
        let token = bearer_token(parts);
        if !token.is_some_and(|token| self.0.tokens.have(token)) {
            return Err(self.wrong_token(token.is_some(), peer));
        }
        if self.0.stop.is_cancelled() {
            return Err(IntakeAnswer::unavailable(
                "the daemon is stopping: send the request again",
                COME_BACK,
            ));
        }
        let route = route(parts)?;
        let wait = self.0.rate.wait();
        match wait > MAX_INTAKE_WAIT {
            true => Err(IntakeAnswer::limited(
                "there are more requests than intake.rate allows: send this one again later",
                wait,
            )),
            false => Ok(route),
        }
    }

    /// The answer to a wrong token, or to too many of a network. A right one is never limited by its network.
    fn wrong_token(&self, has_token: bool, peer: IpAddr) -> IntakeAnswer {
        if let Err(many) = self.0.wrong_tokens.pass(&ClientNetwork::of(peer)) {
            let sentence = "too many requests without a valid token came from this network";
            return IntakeAnswer::limited(sentence, many.retry_after);
        }
        if has_token && let Some(not_logged) = self.0.lines.wrong_tokens.due() {
            tracing::warn!(not_logged, "a request to the intake had a wrong token");
        }
        IntakeAnswer::unauthorized(has_token)
    }
}

/// The token of a request; the scheme is written in any case. <https://www.rfc-editor.org/rfc/rfc9110#section-11.1>
fn bearer_token(parts: &Parts) -> Option<&[u8]> {
    let value = parts.headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

fn route(parts: &Parts) -> Result<IntakeRoute, IntakeAnswer> {
    let (path, method) = (parts.uri.path(), &parts.method);
    let is_get = matches!(*method, Method::GET | Method::HEAD);
    match (path, method) {
        ("/jobs", &Method::POST) => return Ok(IntakeRoute::Job),
        ("/events", &Method::POST) => return Ok(IntakeRoute::Events),
        ("/jobs" | "/events", _) => return Err(IntakeAnswer::other_method("POST")),
        _ => {}
    }
    let id = path.strip_prefix("/jobs/").filter(|id| !id.is_empty());
    match id {
        Some(id) if is_get => Ok(IntakeRoute::State(decode(id).into_owned())),
        Some(_) => Err(IntakeAnswer::other_method("GET, HEAD")),
        None => {
            let sentence = "there are POST /jobs, POST /events and GET /jobs/ID";
            let status = StatusCode::NOT_FOUND;
            Err(IntakeAnswer::error(status, sentence, IntakeCount::Refused))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn parts(method: &str, path: &str, authorization: Option<&str>) -> Parts {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_path_has_its_methods() {
        let said = |method, path| match route(&parts(method, path, None)) {
            Ok(route) => format!("{route:?}"),
            Err(denied) => denied.sentence().unwrap().to_owned(),
        };
        for (method, path, expected) in [
            ("POST", "/jobs", "Job"),
            ("POST", "/events?from=minio", "Events"),
            ("GET", "/jobs/daily%2F1", "State(\"daily/1\")"),
            ("HEAD", "/jobs/a/b", "State(\"a/b\")"),
            ("GET", "/jobs", "this path takes POST"),
            ("POST", "/jobs/a", "this path takes GET, HEAD"),
            (
                "GET",
                "/jobs/",
                "there are POST /jobs, POST /events and GET /jobs/ID",
            ),
        ] {
            assert_eq!(said(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_token_follows_its_scheme() {
        let token = |value| {
            let parts = parts("POST", "/jobs", value);
            bearer_token(&parts).map(|token| String::from_utf8(token.to_vec()).unwrap())
        };
        assert_eq!(token(Some("Bearer abc")).as_deref(), Some("abc"));
        assert_eq!(token(Some("bearer  abc ")).as_deref(), Some("abc"));
        assert_eq!(token(Some("Basic abc")), None);
        assert_eq!(token(Some("Bearer")), None);
        assert_eq!(token(None), None);
    }
}
