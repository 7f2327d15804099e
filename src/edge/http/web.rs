//! Requests to a web service that is not a store: small answers of JSON, of which the caller judges every status.

use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
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

/// The answer to a request, with any status.
pub(crate) struct WebAnswer {
    /// The status of HTTP.
    pub(crate) status: u16,
    /// The pause that the service asks for.
    pub(crate) retry_after: Option<Duration>,
    /// The whole body.
    pub(crate) body: Bytes,
}

/// How much of a body that is not needed is read, in bytes, and for how long.
const MAX_UNREAD_BYTES: usize = 64 * 1024;
const UNREAD_FOR: Duration = Duration::from_secs(1);

/// What is asked for when a file is streamed.
const PIECE: &str = "get a part of a file";

/// The longest body of an answer that is an error, in bytes.
const MAX_PIECE_ERROR_BYTES: usize = 16 * 1024;

/// A request for a part of a file.
#[derive(Clone, Copy)]
pub(crate) struct PieceRequest<'a> {
    /// The signed URL.
    pub(crate) url: &'a str,
    /// Whether it is signed for HEAD.
    pub(crate) is_head: bool,
    /// The first and the last byte.
    pub(crate) range: Option<(u64, u64)>,
    /// The ETag that the file must have.
    pub(crate) if_match: Option<&'a str>,
}

/// A part of a file, or why there is none.
pub(crate) struct PieceAnswer {
    /// The status of HTTP.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: hyper::HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
}

impl PieceAnswer {
    /// The size of the whole file: of `Content-Range`, or `Content-Length` of an answer with all of it; else as it was listed.
    pub(crate) fn total(&self, listed: u64) -> u64 {
        let text = |name: &str| self.headers.get(name)?.to_str().ok();
        let total = match text("content-range") {
            Some(range) => range.rsplit_once('/').map(|(_, total)| total),
            None => text("content-length").filter(|_| self.status == 200),
        };
        total.and_then(|total| total.parse().ok()).unwrap_or(listed)
    }

    /// The error of an answer without the part.
    pub(crate) fn failure(&self) -> EdgeError {
        let words = format!("the store answered with the status {}", self.status);
        EdgeError::new(PIECE, ErrorKind::Failed, words)
    }
}

/// The name and the secret of a client, for HTTP Basic.
pub(crate) type BasicLogin<'a> = (&'a str, &'a str);

impl WebClient {
    /// A client whose requests leave by these settings.
    pub(crate) fn new(egress: Egress) -> Self {
        Self(EdgeClient {
            edge: None,
            egress,
            keys: super::KeyOrigin::OfJobs,
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

    /// Posts JSON, with headers besides. The head alone is the answer, and its body is empty: a receiver that has said what it does may send
    /// any page after it, or none to its end.
    ///
    /// # Errors
    /// There is no answer. The error begins with `action` and has no URL.
    pub(crate) async fn post_json(
        &self,
        action: &str,
        url: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<WebAnswer, EdgeError> {
        let mut request = HttpRequest::new(SdkBody::from(body));
        let set = request.headers_mut();
        set.insert("content-type", "application/json");
        for (name, value) in headers {
            let inserted = set.try_insert(*name, value.clone());
            inserted.map_err(|_| unsendable(action))?;
        }
        request.set_method("POST").map_err(|_| unsendable(action))?;
        let mut answer = self.send_request(action, url, request).await?;
        let (status, retry_after) = said_of(&answer);
        // So that the connection can be used again.
        let rest = std::mem::replace(answer.body_mut(), SdkBody::taken());
        let rest = Limited::new(rest, MAX_UNREAD_BYTES).collect();
        drop(tokio::time::timeout(UNREAD_FOR, rest).await);
        Ok(WebAnswer {
            status,
            retry_after,
            body: Bytes::new(),
        })
    }

    /// Posts protobuf, with headers besides.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    #[cfg(feature = "otlp")]
    pub(crate) async fn post_protobuf(
        &self,
        action: &str,
        url: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
        max_bytes: usize,
    ) -> Result<WebAnswer, EdgeError> {
        let mut request = HttpRequest::new(SdkBody::from(body));
        let set = request.headers_mut();
        for (name, value) in headers {
            let inserted = set.try_insert(name.clone(), value.clone());
            inserted.map_err(|_| unsendable(action))?;
        }
        set.insert("content-type", "application/x-protobuf");
        set.insert("accept", "application/x-protobuf");
        request.set_method("POST").map_err(|_| unsendable(action))?;
        self.send(action, url, request, max_bytes).await
    }

    /// Gets a part of a file by a signed URL, or asks for its head.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub(crate) async fn piece(
        &self,
        piece: PieceRequest<'_>,
        max_bytes: usize,
    ) -> Result<PieceAnswer, EdgeError> {
        let action = PIECE;
        let mut request = HttpRequest::new(SdkBody::empty());
        if piece.is_head {
            request.set_method("HEAD").map_err(|_| unsendable(action))?;
        }
        request.set_uri(piece.url).map_err(|_| unsendable(action))?;
        let headers = request.headers_mut();
        if let Some((first, last)) = piece.range {
            headers.insert("range", format!("bytes={first}-{last}"));
        }
        if let Some(etag) = piece.if_match {
            let set = headers.try_insert("if-match", etag.to_owned());
            set.map_err(|_| unsendable(action))?;
        }
        let sent = self.0.clone().attempt(request).await;
        let answer = sent.map_err(|error| unanswered(action, &error))?;
        let answer = answer.try_into_http1x().map_err(|_| unsendable(action))?;
        let (head, body) = answer.into_parts();
        // The text of an error is longer than the piece may be.
        let most = max_bytes.max(MAX_PIECE_ERROR_BYTES);
        let body = Limited::new(body, most).collect().await;
        let body = body.map_err(|error| {
            EdgeError::new(action, ErrorKind::Unreachable, crate::text::chain(&*error))
        })?;
        Ok(PieceAnswer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    async fn send_request(
        &self,
        action: &str,
        url: &str,
        mut request: HttpRequest,
    ) -> Result<HttpResponse, EdgeError> {
        request.set_uri(url).map_err(|_| unsendable(action))?;
        let headers = request.headers_mut();
        // An answer to protobuf is protobuf.
        if headers.get("accept").is_none() {
            headers.insert("accept", "application/json");
        }
        headers.insert("user-agent", concat!("handout/", env!("CARGO_PKG_VERSION")));
        let again = request.try_clone();
        let mut sent = self.0.clone().attempt(request).await;
        // A server may close an idle connection in the moment in which it is used. A request that was carried out twice gets a
        // refusal, at worst: a code is accepted once.
        if let (Err(error), Some(again)) = (&sent, again)
            && !error.is_timeout()
        {
            sent = self.0.clone().attempt(again).await;
        }
        sent.map_err(|error| unanswered(action, &error))
    }

    async fn send(
        &self,
        action: &str,
        url: &str,
        request: HttpRequest,
        max_bytes: usize,
    ) -> Result<WebAnswer, EdgeError> {
        let mut answer = self.send_request(action, url, request).await?;
        let (status, wait) = said_of(&answer);
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

/// The status of an answer, and for how long it asks to be left alone.
fn said_of(answer: &HttpResponse) -> (u16, Option<Duration>) {
    let status = answer.status().as_u16();
    (status, retry_after(status, answer.headers()))
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
