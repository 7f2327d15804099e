//! Requests to a web service that is not a store: small answers of JSON, of which the caller judges every status.

use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64ct::{Base64, Encoding};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{EdgeClient, retry_after};
use crate::edge::egress::Egress;
use crate::edge::{EdgeError, ErrorKind, is_because_of};
use crate::text::percent;
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;

/// A client for a web service. Clones share their connections. It follows no redirects.
#[derive(Debug, Clone)]
pub(crate) struct WebClient(EdgeClient);

/// The answer to a request, whatever its status.
pub(crate) struct WebAnswer {
    /// The status of HTTP.
    pub(crate) status: u16,
    /// The pause that the service asks for.
    pub(crate) retry_after: Option<Duration>,
    /// The whole body.
    pub(crate) body: Bytes,
}

/// The name and the secret of a client, for HTTP Basic.
pub(crate) type BasicLogin<'a> = (&'a str, &'a str);

impl WebClient {
    /// A client whose requests leave by these settings.
    pub(crate) fn new(egress: Egress) -> Self {
        Self(EdgeClient {
            edge: None,
            egress,
            pool: Default::default(),
        })
    }

    /// Gets a URL, with a bearer token if there is one (RFC 6750, section 2.1).
    ///
    /// # Errors
    /// There is no answer, or it has more than `max_bytes`. The error begins with `action` and has no URL.
    pub(crate) async fn get(
        &self,
        action: &str,
        url: &str,
        bearer: Option<&str>,
        max_bytes: usize,
    ) -> Result<WebAnswer, EdgeError> {
        let mut request = HttpRequest::new(SdkBody::empty());
        if let Some(token) = bearer {
            let header = format!("Bearer {token}");
            let set = request.headers_mut().try_insert("authorization", header);
            set.map_err(|_| unsendable(action))?;
        }
        self.send(action, url, request, max_bytes).await
    }

    /// Posts a form. A client with a secret logs in by HTTP Basic, each half encoded as in a form (RFC 6749, section 2.3.1).
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub(crate) async fn post_form(
        &self,
        action: &str,
        url: &str,
        fields: &[(&str, &str)],
        login: Option<BasicLogin<'_>>,
        max_bytes: usize,
    ) -> Result<WebAnswer, EdgeError> {
        let form = percent::encode_form(fields);
        let mut request = HttpRequest::new(SdkBody::from(form));
        let headers = request.headers_mut();
        headers.insert("content-type", "application/x-www-form-urlencoded");
        if let Some((name, secret)) = login {
            let pair = [name, secret].map(|half| percent::encode(half, b""));
            let header = format!("Basic {}", Base64::encode_string(pair.join(":").as_bytes()));
            headers.insert("authorization", header);
        }
        request.set_method("POST").map_err(|_| unsendable(action))?;
        self.send(action, url, request, max_bytes).await
    }

    async fn send(
        &self,
        action: &str,
        url: &str,
        mut request: HttpRequest,
        max_bytes: usize,
    ) -> Result<WebAnswer, EdgeError> {
        request.set_uri(url).map_err(|_| unsendable(action))?;
        let headers = request.headers_mut();
        headers.insert("accept", "application/json");
        headers.insert("user-agent", concat!("handout/", env!("CARGO_PKG_VERSION")));
        let sent = self.0.clone().attempt(request).await;
        let mut answer = sent.map_err(|error| unanswered(action, &error))?;
        let status = answer.status().as_u16();
        let wait = retry_after(status, answer.headers());
        let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
        let body = Limited::new(body, max_bytes).collect().await;
        let body = body.map_err(|error| {
            let is_too_long = is_because_of::<LengthLimitError>(&*error);
            match is_too_long {
                true => EdgeError::new(
                    action,
                    ErrorKind::Rejected,
                    format!("the answer is longer than {max_bytes} bytes"),
                ),
                false => {
                    EdgeError::new(action, ErrorKind::Unreachable, crate::text::chain(&*error))
                }
            }
        })?;
        Ok(WebAnswer {
            status,
            retry_after: wait,
            body: body.to_bytes(),
        })
    }
}

fn unsendable(action: &str) -> EdgeError {
    EdgeError::new(
        action,
        ErrorKind::Rejected,
        "its URL or a header is invalid",
    )
}

fn unanswered(action: &str, error: &ConnectorError) -> EdgeError {
    let fact = match error.is_timeout() {
        true => ErrorKind::Silent,
        false => ErrorKind::Unreachable,
    };
    EdgeError::new(action, fact, crate::text::chain(error))
}
