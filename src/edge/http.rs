//! The HTTP client under every AWS SDK client: deadlines that cover the body, and reports to the edge.
//!
//! The SDK's own limits are for a whole attempt, however large its body, and end with the head of the answer. Here the
//! deadlines follow the transfer: an attempt continues while its bytes move, the answer is due within a few seconds of the
//! last byte sent, and the answer's body must arrive at a minimum rate. After an attempt without an answer all pooled
//! connections are dropped: a firewall that forgot one has forgotten the rest too, and each would cost another deadline.
//!
//! A load balancer or proxy in front of a store may answer in its place. Its 404 says nothing about an object, so
//! an answer must show that it is the store's own, see [`Judge`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ConnectorError};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::retries::ErrorKind;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::answer::{Asker, element, is_unknown_request, retry_after};
use super::egress::Egress;
use super::health::{Edge, FailureKind, Request, Step};
use super::kind_of_code;
use super::proxy::ProxyRoute;
use crate::bounds::{MAX_ANSWER_BYTES, MAX_ANSWER_TIME, MAX_JUDGED_BYTES, MAX_STORE_WORDS_BYTES};
use crate::redact::redacted;

/// How long the answer may take after the last byte was sent: at the first attempt, when a pooled connection may have died
/// silently, and at later attempts.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(20);

/// The minimum rate of a body, in bytes a second. A slower transfer counts as silent.
const FLOOR_RATE: u64 = 8 * 1024;

/// How long the connection setup may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept. Firewalls and NAT gateways drop idle connections silently.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP client for the SDK whose requests report to an edge. `edge` is `None` where the health depends on the answer's
/// meaning, which the caller judges.
pub(crate) fn client(edge: Option<Edge>, egress: Egress) -> SharedHttpClient {
    SharedHttpClient::new(EdgeClient {
        edge,
        egress,
        pool: Arc::default(),
    })
}

/// Gets a URL that needs no further authentication: the status and the body of the answer. It is not reported to an edge.
///
/// # Errors
/// Why there is no answer, in a text without the URL.
pub(crate) async fn get(url: &str, egress: Egress) -> Result<(u16, Bytes), String> {
    let client = EdgeClient {
        edge: None,
        egress,
        pool: Arc::default(),
    };
    let request = HttpRequest::get(url).map_err(|_| "it is no URL".to_owned())?;
    let answer = client.attempt(request).await;
    let answer = answer.map_err(|error| crate::text::chain(&error))?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await;
    Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
}

/// Properties of a request for this client, which the SDK does not know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestTerms {
    answer_within: Option<Duration>,
    is_probe: bool,
    names_a_key: bool,
}

impl RequestTerms {
    /// Sets a deadline for the answer of a long poll, or of the completion of an upload in parts.
    pub(crate) const fn answer_within(patience: Duration) -> Self {
        Self {
            answer_within: Some(patience),
            is_probe: false,
            names_a_key: false,
        }
    }

    /// The request is a probe. A denial does not count where probes were never allowed.
    pub(crate) const fn probe() -> Self {
        Self {
            answer_within: None,
            is_probe: true,
            names_a_key: false,
        }
    }

    /// The request names a key or a prefix. A proxy in front of a store may refuse it for that alone, as nginx does with `..` and a
    /// web application firewall with more: such a refusal says nothing about the store.
    pub(crate) const fn naming_a_key() -> Self {
        Self {
            answer_within: None,
            is_probe: false,
            names_a_key: true,
        }
    }

    fn of(request: &HttpRequest) -> Self {
        request.extension().copied().unwrap_or_default()
    }
}

impl Intercept for RequestTerms {
    fn name(&self) -> &'static str {
        "Terms"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().add_extension(*self);
        Ok(())
    }
}

/// Why an answer is not the store's own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Foreign(pub(super) String);

/// An established connection broke under a request that names a key. A proxy in front of a store may have closed it because
/// of the name, as nginx does with the status 444, so no edge is told.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct BrokenAtName(pub(super) BoxError);

/// The generation of the connections that a request uses, and when it began.
type HttpAttempt = (u64, Instant);

#[derive(Debug, Clone)]
struct EdgeClient {
    edge: Option<Edge>,
    egress: Egress,
    pool: Arc<Mutex<HttpPool>>,
}

/// The pooled connections; a new pool is made after each failure.
#[derive(Debug, Default)]
struct HttpPool {
    /// A connector for each route, made at its first use.
    connectors: [Option<SharedHttpConnector>; ProxyRoute::COUNT],
    generation: u64,
}

impl HttpClient for EdgeClient {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("hyper", Some("1.x".into())))
    }
}

impl EdgeClient {
    fn pool(&self) -> std::sync::MutexGuard<'_, HttpPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pooled connections of a route, and their generation.
    fn kept(&self, way: ProxyRoute) -> Option<(SharedHttpConnector, u64)> {
        let pool = self.pool();
        let kept = pool.connectors[way as usize].clone();
        Some((kept?, pool.generation))
    }

    /// The connections of a route and their generation, made if there are none.
    async fn connector(
        &self,
        way: ProxyRoute,
    ) -> Result<(SharedHttpConnector, u64), ConnectorError> {
        if let Some(kept) = self.kept(way) {
            return Ok(kept);
        }
        let tls = self.egress.tls_context().await;
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT);
        let connector = Connector::builder()
            .connector_settings(settings.build())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .proxy_config(self.egress.proxy(way))
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.map_err(|error| ConnectorError::user(error.into()))?);
        let connector = SharedHttpConnector::new(connector.build());
        let mut pool = self.pool();
        // Another request may have been first.
        let kept = pool.connectors[way as usize].get_or_insert(connector);
        let kept = kept.clone();
        Ok((kept, pool.generation))
    }

    /// Drops the connections of a generation; requests under way on them continue.
    fn drop_pool(&self, generation: u64) {
        let mut pool = self.pool();
        if pool.generation == generation {
            *pool = HttpPool {
                connectors: Default::default(),
                generation: generation + 1,
            };
        }
    }

    /// Records the failure of a request that was made on the connections of `generation` at `began`.
    fn failed(&self, (generation, began): HttpAttempt, kind: FailureKind, words: &str) {
        self.drop_pool(generation);
        if let Some(edge) = &self.edge {
            edge.failed_of(began, kind, words);
        }
    }

    /// Records an answer that is not the store's. For a request that names a key, the key may be the cause.
    fn refused(&self, attempt: HttpAttempt, asked: AskedRequest, foreign: &Foreign) {
        if !asked.names_a_key {
            self.failed(attempt, FailureKind::Unreachable, &foreign.0);
        }
    }

    async fn attempt(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let (patience, began) = (patience(&request), Instant::now());
        let asked = AskedRequest::by(&request);
        let asker = Asker::of(&request, self.egress.section.clone());
        let moved = MovedBytes::of(self.edge.clone());
        // A request with a longer deadline, such as the completion of an upload in parts, does not make the edge silent.
        let is_usual = patience <= ANSWER;
        let edge = self.edge.as_ref().filter(|_| is_usual);
        let under_way = edge.map(|edge| edge.asked(step(request.method())));
        let request = request.map(|body| {
            SdkBody::from_body_1_x(SendingBody {
                body,
                moved: moved.clone(),
            })
        });
        let way = self.egress.way(request.uri());
        let (connector, generation) = self.connector(way).await?;
        let answer = tokio::select! {
            answer = connector.call(request) => answer,
            () = moved.stopped_for(patience) => {
                let words = format!("no answer within {} s", patience.as_secs());
                self.failed((generation, began), FailureKind::Timeout, &words);
                return Err(ConnectorError::timeout(words.into()));
            }
        };
        let mut answer = answer.map_err(|error| {
            if has_too_long_a_head(&error) {
                // The store did answer, and the owner of the object may have caused such a head.
                self.edge.iter().for_each(Edge::answered);
                return error;
            }
            let kind = if error.is_timeout() {
                FailureKind::Timeout
            } else {
                FailureKind::Unreachable
            };
            let is_for_the_name = asked.names_a_key && broke_under_the_request(&error);
            let error = self.egress.explained(error, way);
            if is_for_the_name {
                self.drop_pool(generation);
                return ConnectorError::io(BrokenAtName(error.into()).into());
            }
            self.failed((generation, began), kind, &crate::text::chain(&error));
            error
        })?;
        let status = answer.status().as_u16();
        if status >= 300 {
            answer.add_extension(asker);
        }
        // Only stores have an edge here, and only their answers have a known form.
        let judge = match &self.edge {
            Some(_) => Judge::of(&answer, asked),
            None => Ok(Judge::trusting(status)),
        };
        let judge = judge.map_err(|foreign| {
            self.refused((generation, began), asked, &foreign);
            ConnectorError::other(foreign.into(), Some(ErrorKind::TransientError))
        })?;
        let report = AttemptReport {
            patience,
            _under_way: under_way,
            client: self,
            attempt: (generation, began),
            says: Says::of(&answer),
            left_alone: retry_after(status, answer.headers()).unwrap_or_default(),
            asked,
        };
        let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
        *answer.body_mut() = SdkBody::from_body_1_x(Limited::new(
            Receiving::new(body, judge, report),
            MAX_ANSWER_BYTES,
        ));
        Ok(answer)
    }
}

/// Whether the head of an answer was not read because it is too long or has more than a hundred headers: each entry of an
/// object's metadata is a header.
pub(super) fn has_too_long_a_head(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<hyper::Error>();
        cause.is_some_and(hyper::Error::is_parse_too_large)
    })
}

/// Whether an established connection ended before the answer.
fn broke_under_the_request(error: &ConnectorError) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    let sent = causes.find_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>());
    !error.is_timeout() && sent.is_some_and(|error| !error.is_connect())
}

impl HttpConnector for EdgeClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().attempt(request))
    }
}

/// The only step of a request over HTTP.
const ANY: Step = Step::only("a request");

fn step(method: &str) -> Step {
    const VERBS: [&str; 5] = ["GET", "HEAD", "PUT", "POST", "DELETE"];
    let known = VERBS.into_iter().find(|verb| *verb == method);
    known.map_or(ANY, Step::only)
}

/// How long the answer to a request may take after its last byte was sent.
fn patience(request: &HttpRequest) -> Duration {
    if let Some(patience) = RequestTerms::of(request).answer_within {
        return patience;
    }
    // `amz-sdk-request: attempt=1; max=3`, which the SDK writes into every request.
    let attempt = request.headers().get("amz-sdk-request").unwrap_or_default();
    if attempt.contains("attempt=1;") || attempt.is_empty() {
        FIRST_ANSWER
    } else {
        ANSWER
    }
}

/// When the last bytes of a request were handed to the connection, and how long they may take on the wire.
#[derive(Debug, Clone)]
struct MovedBytes {
    due: Arc<Mutex<Instant>>,
    edge: Option<Edge>,
}

impl MovedBytes {
    fn of(edge: Option<Edge>) -> Self {
        Self {
            due: Arc::new(Mutex::new(Instant::now())),
            edge,
        }
    }

    fn due(&self) -> Instant {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records bytes that were handed to the connection, which may take their time on the wire.
    fn handed_on(&self, bytes: usize) {
        self.edge.iter().for_each(|edge| edge.replied(ANY));
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) =
            Instant::now() + on_the_wire(bytes as u64);
    }

    /// Waits until nothing has moved for the given time.
    async fn stopped_for(&self, patience: Duration) {
        loop {
            let end = self.due() + patience;
            tokio::time::sleep_until(end).await;
            if self.due() + patience <= Instant::now() {
                return;
            }
        }
    }
}

/// How long a number of bytes may take.
fn on_the_wire(bytes: u64) -> Duration {
    Duration::from_secs(bytes / FLOOR_RATE)
}

/// A request's body, which records when its bytes are handed to the connection.
struct SendingBody {
    body: SdkBody,
    moved: MovedBytes,
}

impl Body for SendingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let bytes = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref());
        self.moved.handed_on(bytes.map_or(0, Bytes::len));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

/// The properties of a request that decide what the answer means.
#[derive(Debug, Clone, Copy)]
struct AskedRequest {
    is_head: bool,
    /// Whether a range of an object is requested, whose bytes may be anything.
    is_range: bool,
    is_probe: bool,
    names_a_key: bool,
    /// Whether objects or their versions are listed.
    is_listing: bool,
}

impl AskedRequest {
    fn by(request: &HttpRequest) -> Self {
        let terms = RequestTerms::of(request);
        Self {
            is_head: request.method() == "HEAD",
            is_range: request.headers().contains_key("range"),
            is_probe: terms.is_probe,
            names_a_key: terms.names_a_key,
            is_listing: request.method() == "GET" && is_listing(request.uri()),
        }
    }
}

/// Whether a URL asks for a listing: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>
fn is_listing(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut names = query
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or(pair));
    names.any(|name| matches!(name, "list-type" | "versions"))
}

/// How much of a body shows whether it is an HTML page, in bytes.
const PAGE_BYTES: usize = 64;

/// How much of a body shows whether it is a listing or a store's error, in bytes.
const LISTING_BYTES: usize = 1024;

/// Decides whether an answer is the store's own or that of a load balancer or proxy in front of it.
///
/// Except for HEAD, each error of S3 has an XML body with a code, and no request here expects an HTML page:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
struct Judge {
    status: u16,
    must: Must,
    seen: Vec<u8>,
}

/// What a body must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Nothing,
    BeNoPage,
    BeListing,
    HaveCode,
}

impl Judge {
    /// Accepts every body.
    fn trusting(status: u16) -> Self {
        Self {
            status,
            must: Must::Nothing,
            seen: Vec::new(),
        }
    }

    /// Judges an answer without a body, and decides for other answers what the body must contain.
    fn of(answer: &HttpResponse, asked: AskedRequest) -> Result<Self, Foreign> {
        let status = answer.status().as_u16();
        let headers = answer.headers();
        // A redirect of S3 may be its headers alone.
        let is_redirect = status < 400 && headers.contains_key("x-amz-bucket-region");
        let is_error = (300..500).contains(&status) && !is_redirect;
        let judge = Self {
            must: match is_error {
                _ if asked.is_head => Must::Nothing,
                true => Must::HaveCode,
                false if status < 300 && asked.is_listing => Must::BeListing,
                false if status < 300 && !asked.is_range => Must::BeNoPage,
                false => Must::Nothing,
            },
            ..Self::trusting(status)
        };
        let is_page = || {
            let media_type = headers.get("content-type").unwrap_or_default();
            media_type.starts_with("text/html")
                && !headers.iter().any(|(name, _)| name.starts_with("x-amz"))
        };
        match asked.is_head && is_error && is_page() {
            true => Err(judge.foreign()),
            false => Ok(judge),
        }
    }

    fn see(&mut self, bytes: &[u8]) {
        let most = match self.must {
            Must::BeNoPage => PAGE_BYTES,
            Must::BeListing => LISTING_BYTES,
            Must::Nothing if self.status < 300 => 0,
            Must::Nothing | Must::HaveCode => MAX_JUDGED_BYTES,
        };
        let room = most.saturating_sub(self.seen.len());
        self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The text of an element of an error.
    fn element(&self, name: &str) -> Option<&str> {
        element(std::str::from_utf8(&self.seen).ok()?, name)
    }

    /// The code of an error. The beginning of an object does not count: a page of the ledger holds keys, which senders choose.
    fn code(&self) -> Option<&str> {
        let is_error = self.status >= 300 || root(&self.seen) == b"Error";
        self.element("Code").filter(|_| is_error)
    }

    /// Why the body is not the store's, once it can be decided.
    fn refuses(&self, is_end: bool) -> Option<Foreign> {
        let is_foreign = match self.must {
            Must::Nothing => false,
            Must::BeNoPage | Must::BeListing => {
                let text = self.seen.trim_ascii_start();
                let begins = |with: &[u8]| {
                    let begin = text.get(..with.len());
                    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(with))
                };
                begins(b"<!doctype html") || begins(b"<html")
            }
            Must::HaveCode => is_end && self.code().is_none() && !self.is_bare_412(),
        };
        is_foreign.then(|| self.foreign())
    }

    /// Why the answer to a listing request is not a listing: it is the store's error, or not an answer of S3.
    fn lacks_listing(&self) -> Option<NoListing> {
        let root = root(&self.seen);
        let is_listing = matches!(root, b"ListBucketResult" | b"ListVersionsResult");
        (self.must == Must::BeListing && !is_listing).then(|| NoListing(self.words_of_failure()))
    }

    /// Garage 2.5 sends only this for a condition that does not hold, and the RFC does not require a body.
    /// <https://www.rfc-editor.org/rfc/rfc9110#section-15.5.13>
    fn is_bare_412(&self) -> bool {
        self.status == 412 && self.seen.is_empty()
    }

    fn foreign(&self) -> Foreign {
        let status = self.status;
        let what = match self.must {
            Must::BeNoPage | Must::BeListing => "is a page of HTML",
            Must::HaveCode | Must::Nothing => "has no error code of S3",
        };
        Foreign(format!(
            "the answer with the status {status} {what}: something in front of the store has answered in its place"
        ))
    }

    /// The answer's message, for a report.
    fn words(&self) -> String {
        let code = self.code().map(ToOwned::to_owned);
        code.unwrap_or_else(|| format!("status {}", self.status))
    }

    /// The message of a failing service: a full disk is recognized only by this text.
    fn words_of_failure(&self) -> String {
        let parts = [self.code(), self.element("Message")].into_iter().flatten();
        let said = parts.collect::<Vec<_>>().join(": ");
        match said.is_empty() {
            true if self.must == Must::BeListing => {
                format!("status {}, and no listing in the answer", self.status)
            }
            true => format!("status {}", self.status),
            false => format!(
                "status {}: {}",
                self.status,
                redacted(&said, MAX_STORE_WORDS_BYTES)
            ),
        }
    }
}

/// Why the answer to a listing request is not a listing.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not a listing of S3: {0}")]
struct NoListing(String);

/// The name of the first element of a text, without its prefix; empty if there is none.
fn root(text: &[u8]) -> &[u8] {
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    loop {
        rest = rest.trim_ascii_start();
        let end: &[u8] = match rest {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            _ => break,
        };
        let Some(at) = rest.windows(end.len()).position(|window| window == end) else {
            return b"";
        };
        rest = &rest[at + end.len()..];
    }
    let Some(rest) = rest.strip_prefix(b"<") else {
        return b"";
    };
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/');
    let name = rest.split(ends).next().unwrap_or_default();
    name.rsplit(|byte| *byte == b':').next().unwrap_or_default()
}

/// What a complete answer says about its edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Well,
    /// The service fails, or asks to slow down.
    Unwell(FailureKind),
    /// The service denies this request, and perhaps all.
    Denied,
}

impl Says {
    /// Judges the head of an answer.
    fn of(answer: &HttpResponse) -> Self {
        let names_region = answer.headers().contains_key("x-amz-bucket-region");
        match answer.status().as_u16() {
            429 | 503 => Self::Unwell(FailureKind::Throttled),
            401 | 403 => Self::Denied,
            // A timeout or a temporary redirect; a redirect that names a region is about a bucket.
            408 => Self::Unwell(FailureKind::ServerError),
            302 | 307 if !names_region => Self::Unwell(FailureKind::ServerError),
            status @ 500.. if !is_unknown_request(status) => Self::Unwell(FailureKind::ServerError),
            _ => Self::Well,
        }
    }

    /// Judges the whole answer: a failing service may say so only by a code.
    fn with_code(self, judge: &Judge, asked: AskedRequest) -> Self {
        let code = judge.code().unwrap_or_default();
        // About one object only, unless it answers a listing.
        let is_of_object =
            !asked.is_listing && (OF_OBJECT.contains(&code) || code.starts_with("KMS."));
        match kind_of_code(code) {
            Some(super::ErrorKind::Throttled) => Self::Unwell(FailureKind::Throttled),
            Some(super::ErrorKind::Failed) if !is_of_object => {
                Self::Unwell(FailureKind::ServerError)
            }
            Some(super::ErrorKind::Denied) if !is_of_object => Self::Denied,
            _ if judge.lacks_listing().is_some() => Self::Unwell(FailureKind::ServerError),
            _ => self,
        }
    }
}

/// Codes about one object that cannot be read or written now, and not about the store.
const OF_OBJECT: [&str; 3] = [
    "OperationAborted",
    "ConditionalRequestConflict",
    "NoSuchUpload",
];

/// Where the end of an answer is reported.
struct AttemptReport {
    /// How long the body may take beside its time on the wire.
    patience: Duration,
    _under_way: Option<Request>,
    client: EdgeClient,
    attempt: HttpAttempt,
    says: Says,
    /// The pause that the edge asks for.
    left_alone: Duration,
    asked: AskedRequest,
}

/// An answer's body, which must arrive at [`FLOOR_RATE`]. The answer is reported when its body is complete.
struct Receiving {
    body: SdkBody,
    judge: Judge,
    report: Option<AttemptReport>,
    due: Instant,
    received: u64,
    deadline: Pin<Box<Sleep>>,
    /// Whether bytes are waited for. If it is dropped then, the answer was abandoned and says nothing about the edge.
    is_waiting: bool,
}

impl Receiving {
    fn new(body: SdkBody, judge: Judge, report: AttemptReport) -> Self {
        let due = Instant::now() + report.patience;
        Self {
            body,
            judge,
            report: Some(report),
            due,
            received: 0,
            deadline: Box::pin(tokio::time::sleep_until(due)),
            is_waiting: false,
        }
    }

    /// Records bytes of the body. While a body arrives at the minimum rate, the edge is told once a second that it is not silent,
    /// however long the whole takes. A body that trickles more slowly does not count as activity.
    fn receive(&mut self, bytes: u64) {
        let before = self.received / FLOOR_RATE;
        self.received += bytes;
        if self.received / FLOOR_RATE > before
            && let Some(report) = &self.report
        {
            report.client.edge.iter().for_each(|edge| edge.replied(ANY));
        }
    }

    /// Reports how the answer ended, once.
    fn end(&mut self, failure: Option<(FailureKind, &str)>) {
        let Some(AttemptReport {
            client,
            attempt,
            says,
            left_alone,
            asked,
            ..
        }) = self.report.take()
        else {
            return;
        };
        if failure.is_none() {
            client.edge.iter().for_each(|edge| edge.replied(ANY));
        }
        match (failure, &client.edge) {
            (Some((kind, words)), _) => client.failed(attempt, kind, words),
            (None, Some(edge)) => match says.with_code(&self.judge, asked) {
                Says::Well if asked.is_probe => edge.probe_answered(),
                Says::Well => edge.answered(),
                Says::Denied => edge.denied(asked.is_probe, &self.judge.words()),
                Says::Unwell(kind) => {
                    edge.failed_for(kind, &self.judge.words_of_failure(), left_alone);
                }
            },
            (None, None) => {}
        }
    }

    /// Reports the end of a complete answer. Fails with the reason if the answer is not the store's.
    fn come(&mut self) -> Result<(), BoxError> {
        if let Some(foreign) = self.judge.refuses(true) {
            if let Some(report) = self.report.take() {
                report
                    .client
                    .refused(report.attempt, report.asked, &foreign);
            }
            return Err(foreign.into());
        }
        self.end(None);
        match self.judge.lacks_listing() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            self.is_waiting = true;
            ready!(self.deadline.as_mut().poll(context));
            const WORDS: &str = "the answer's body did not arrive in time";
            self.end(Some((FailureKind::Timeout, WORDS)));
            return Poll::Ready(Some(Err(WORDS.into())));
        };
        self.is_waiting = false;
        match &frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
                self.receive(data.len() as u64);
                self.judge.see(data);
                // Without this limit, a store that trickles would hold a slot indefinitely.
                let due = self.due + on_the_wire(self.received).min(MAX_ANSWER_TIME);
                self.deadline.as_mut().reset(due);
                let is_told = self.body.is_end_stream() || self.judge.refuses(false).is_some();
                if is_told && let Err(error) = self.come() {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            Some(Err(error)) => {
                let words = crate::text::chain(&**error);
                self.end(Some((FailureKind::Unreachable, &words)));
            }
            None => {
                if let Err(error) = self.come() {
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // An empty body is judged too, and so must be polled.
        self.body.is_end_stream() && self.report.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

impl Drop for Receiving {
    /// An answer whose rest is not read counts as complete, unless it was being waited for.
    fn drop(&mut self) {
        if !self.is_waiting {
            self.end(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::EdgeKind;
    use futures_util::StreamExt;
    use http_body_util::BodyExt;

    fn edge() -> Edge {
        Edge::new(EdgeKind::Store, "reports", "S3")
    }

    const GET: AskedRequest = AskedRequest {
        is_head: false,
        is_range: false,
        is_probe: false,
        names_a_key: false,
        is_listing: false,
    };

    fn receiving(body: SdkBody, edge: &Edge) -> Receiving {
        let client = EdgeClient {
            edge: Some(edge.clone()),
            egress: Egress::default(),
            pool: Arc::default(),
        };
        Receiving::new(
            body,
            Judge::trusting(200),
            AttemptReport {
                patience: ANSWER,
                _under_way: None,
                client,
                attempt: (0, Instant::now()),
                says: Says::Well,
                left_alone: Duration::ZERO,
                asked: GET,
            },
        )
    }

    /// The result of an answer to GET with this status and body.
    async fn judged(status: u16, body: &'static str, edge: &Edge) -> Result<Bytes, String> {
        judged_as(GET, status, body, edge).await
    }

    async fn judged_as(
        asked: AskedRequest,
        status: u16,
        body: &'static str,
        edge: &Edge,
    ) -> Result<Bytes, String> {
        let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        let judge = Judge::of(&answer, asked).unwrap();
        let says = Says::of(&answer);
        let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
        let mut receiving = receiving(body, edge);
        receiving.judge = judge;
        let report = receiving.report.as_mut().unwrap();
        (report.says, report.asked) = (says, asked);
        let whole = receiving.collect().await;
        whole
            .map(|body| body.to_bytes())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_connection_that_breaks_under_a_request_that_names_a_key_is_no_news_of_the_store() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/reports/x", listener.local_addr().unwrap());
        let mut closing = tokio::task::JoinSet::new();
        closing.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                drop(tokio::io::AsyncReadExt::read(&mut stream, &mut head).await);
            }
        });
        for (terms, failures) in [
            (RequestTerms::naming_a_key(), 0),
            (RequestTerms::probe(), 1),
        ] {
            let edge = edge();
            let client = EdgeClient {
                edge: Some(edge.clone()),
                egress: Egress::default(),
                pool: Arc::default(),
            };
            let mut request = HttpRequest::get(url.as_str()).unwrap();
            request.add_extension(terms);
            let error = client.attempt(request).await.unwrap_err();
            assert_eq!(edge.count(FailureKind::Unreachable), failures, "{terms:?}");
            let mut causes = std::iter::successors(
                Some(&error as &(dyn std::error::Error + 'static)),
                |error| error.source(),
            );
            assert_eq!(
                causes.any(|cause| cause.is::<BrokenAtName>()),
                failures == 0
            );
        }
    }

    #[tokio::test]
    async fn a_page_of_what_stands_in_front_of_a_store_is_no_answer_of_the_store() {
        const PAGE: &str = "<!DOCTYPE html><html><h1>404 Not Found</h1></html>";
        for (status, body) in [
            (404, PAGE),
            (405, ""),
            (412, PAGE),
            (403, "denied by policy"),
            (307, PAGE),
            (200, PAGE),
            (200, "\n<HTML lang=en>"),
        ] {
            let edge = edge();
            for _ in 0..2 {
                let words = judged(status, body, &edge).await.unwrap_err();
                assert!(words.contains("in front of the store"), "{words}");
            }
            let outage = edge.outage().unwrap();
            assert_eq!(outage.kind, FailureKind::Unreachable, "{status} {body}");
        }
        for (status, body) in [
            (404, "<Error><Code>NoSuchKey</Code></Error>"),
            (
                412,
                "<?xml?><Error>\n<Code>PreconditionFailed</Code></Error>",
            ),
            (200, "<?xml?><ListBucketResult/>"),
            (200, ""),
            (204, ""),
        ] {
            let edge = edge();
            for _ in 0..2 {
                judged(status, body, &edge).await.unwrap();
            }
            assert_eq!(edge.outage(), None, "{status} {body}");
            assert_eq!(edge.count(FailureKind::Unreachable), 0);
        }
    }

    const LISTING: AskedRequest = AskedRequest {
        names_a_key: true,
        is_listing: true,
        ..GET
    };

    #[tokio::test(start_paused = true)]
    async fn what_is_no_listing_is_a_failure_of_the_store_whatever_its_status() {
        use FailureKind::{ServerError, Throttled};
        const ABORTED: &str = "<Error><Code>OperationAborted</Code></Error>";
        for (status, body, kind) in [
            (200, "", ServerError),
            (200, "{\"ok\":true}", ServerError),
            (200, "welcome", ServerError),
            (
                200,
                "<?xml version=\"1.0\"?>\n<!-- <ListBucketResult> --><Other/>",
                ServerError,
            ),
            (
                200,
                "<Error><Code>InternalError</Code></Error>",
                ServerError,
            ),
            (200, "<Error><Code>SlowDown</Code></Error>", Throttled),
            (
                400,
                "<Error><Code>RequestTimeout</Code></Error>",
                ServerError,
            ),
            (
                307,
                "<Error><Code>TemporaryRedirect</Code></Error>",
                ServerError,
            ),
            (409, ABORTED, ServerError),
        ] {
            let edge = edge();
            for _ in 0..2 {
                let answer = judged_as(LISTING, status, body, &edge).await;
                assert_eq!(answer.is_err(), status == 200, "{body}");
                tokio::time::sleep(Duration::from_secs(11)).await;
            }
            assert_eq!(
                edge.outage().map(|outage| outage.kind),
                Some(kind),
                "{status} {body}"
            );
        }
        for (asked, status, body) in [
            (
                LISTING,
                200,
                "\u{feff}<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\"></ListBucketResult>",
            ),
            (LISTING, 200, "<s3:ListVersionsResult/>"),
            (GET, 200, "[{\"l\":[\"<Code>SlowDown</Code>.pdf\",5]}]"),
            (GET, 200, "<Code>InternalError</Code>"),
            (LISTING, 404, "<Error><Code>NoSuchBucket</Code></Error>"),
            (
                LISTING,
                301,
                "<Error><Code>PermanentRedirect</Code></Error>",
            ),
            // About one object.
            (GET, 409, ABORTED),
            (
                GET,
                400,
                "<Error><Code>KMS.DisabledException</Code></Error>",
            ),
            (GET, 200, ""),
        ] {
            let edge = edge();
            for _ in 0..2 {
                judged_as(asked, status, body, &edge).await.unwrap();
            }
            assert_eq!(edge.outage(), None, "{status} {body}");
            assert_eq!(edge.count(FailureKind::Denied), 0, "{body}");
        }
        for code in ["ExpiredToken", "InvalidToken"] {
            let edge = edge();
            let body = format!("<Error><Code>{code}</Code></Error>").leak();
            judged_as(LISTING, 400, body, &edge).await.unwrap();
            assert_eq!(edge.count(FailureKind::Denied), 1, "{code}");
        }
    }

    #[test]
    fn a_listing_is_known_by_its_url() {
        let s3 = "https://reports.s3.eu-west-1.amazonaws.com/";
        for (path, wanted) in [
            ("?list-type=2&prefix=a", true),
            ("?max-keys=1000&versions", true),
            ("?versions=&prefix=a", true),
            ("?location", false),
            ("?versionId=1", false),
            ("list-type=2?uploads", false),
            ("versions", false),
        ] {
            assert_eq!(is_listing(&format!("{s3}{path}")), wanted, "{path}");
        }
    }

    /// What Garage 2.5 answers to a ranged GET whose If-Match no longer matches.
    #[tokio::test]
    async fn a_file_that_changed_meanwhile_at_garage_is_no_outage_of_the_store() {
        let edge = edge();
        judged(412, "", &edge).await.unwrap();
        assert_eq!(edge.outage(), None);
    }

    #[test]
    fn a_page_without_a_body_is_known_by_its_headers() {
        let head = AskedRequest {
            is_head: true,
            ..GET
        };
        let answer = |headers: &[(&'static str, &'static str)]| {
            let mut answer = HttpResponse::new(404.try_into().unwrap(), SdkBody::empty());
            for (name, value) in headers {
                answer.headers_mut().insert(*name, *value);
            }
            Judge::of(&answer, head).is_ok()
        };
        assert!(!answer(&[("content-type", "text/html; charset=utf-8")]));
        assert!(answer(&[("content-type", "application/xml")]));
        assert!(answer(&[
            ("content-type", "text/html"),
            ("x-amz-request-id", "1")
        ]));
        assert!(answer(&[]));
    }

    /// A body of a number of pieces, each after a pause.
    fn trickling(pieces: usize, bytes: usize, pause: Duration) -> SdkBody {
        let pieces = futures_util::stream::unfold(0, move |sent| async move {
            if sent == pieces {
                return None;
            }
            tokio::time::sleep(pause).await;
            let frame = Frame::data(Bytes::from(vec![b'x'; bytes]));
            Some((Ok::<_, BoxError>(frame), sent + 1))
        });
        SdkBody::from_body_1_x(http_body_util::StreamBody::new(Box::pin(pieces.fuse())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_and_one_that_is_slow_but_moves_is_not() {
        let edge = edge();
        let began = Instant::now();
        let trickled = receiving(trickling(1000, 1, Duration::from_secs(1)), &edge)
            .collect()
            .await;
        assert!(trickled.is_err());
        assert_eq!(began.elapsed().as_secs(), ANSWER.as_secs());
        assert_eq!(edge.count(FailureKind::Timeout), 1);
        let slow = receiving(trickling(60, 50_000, Duration::from_secs(1)), &edge);
        assert_eq!(slow.collect().await.unwrap().to_bytes().len(), 3_000_000);
        assert_eq!(edge.count(FailureKind::Timeout), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moves_for_long_is_not_silence_and_one_that_trickles_is() {
        for (bytes, is_silent) in [(50_000, false), (10_000, false), (1, true)] {
            let edge = edge();
            let _under_way = edge.asked(step("GET"));
            let body = receiving(trickling(60, bytes, Duration::from_secs(1)), &edge);
            let received = tokio::time::timeout(Duration::from_millis(19_500), body.collect());
            assert!(received.await.is_err(), "it lasts");
            let said = edge.trouble().is_some();
            assert_eq!(
                (edge.is_silent(), said),
                (is_silent, is_silent),
                "{bytes} a second"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_when_its_body_has_arrived() {
        let edge = edge();
        for _ in 0..2 {
            let cut = receiving(trickling(1, 1, Duration::from_secs(60)), &edge);
            assert!(cut.collect().await.is_err());
        }
        assert!(
            edge.outage().is_some(),
            "the heads that came are no answers"
        );
        drop(
            receiving(SdkBody::from("whole"), &edge)
                .collect()
                .await
                .unwrap(),
        );
        assert_eq!(edge.outage(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_given_up_while_it_is_waited_for_is_none() {
        let edge = edge();
        for _ in 0..2 {
            edge.failed(FailureKind::Timeout, "");
        }
        let stuck = receiving(trickling(2, 1, Duration::from_secs(18)), &edge);
        let trial = tokio::time::timeout(Duration::from_secs(12), stuck.collect());
        assert!(trial.await.is_err());
        assert!(edge.outage().is_some(), "its head came, and no body");
        drop(receiving(SdkBody::from("not read"), &edge));
        assert_eq!(edge.outage(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_goes_on_while_its_bytes_move() {
        let moved = MovedBytes::of(None);
        let began = Instant::now();
        let sending = async {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                moved.handed_on(1);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = moved.stopped_for(FIRST_ANSWER) => {}
            () = sending => {}
        }
        assert_eq!(began.elapsed().as_secs(), 30 * 9 + FIRST_ANSWER.as_secs());
        let large = MovedBytes::of(None);
        large.handed_on(60 * usize::try_from(FLOOR_RATE).unwrap());
        let began = Instant::now();
        large.stopped_for(FIRST_ANSWER).await;
        assert_eq!(began.elapsed().as_secs(), 60 + FIRST_ANSWER.as_secs());
    }
}
