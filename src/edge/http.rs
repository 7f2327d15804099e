//! The HTTP client under every AWS SDK client: deadlines that cover the body, and reports to the edge.
//!
//! The SDK's own limits are for a whole attempt, however large its body, and end with the head of the answer. Here the
//! deadlines follow the transfer: an attempt continues while its bytes move, the answer is due within a few seconds of the
//! last byte sent, and the answer's body must arrive at a minimum rate. After an attempt without an answer all pooled
//! connections are dropped: a firewall that forgot one has forgotten the rest too, and each would cost another deadline.
//!
//! A load balancer or proxy in front of a store may answer in its place. Its 404 says nothing about an object, so
//! an answer must show that it is the store's own, see [`judge::Judge`].

mod body;
mod hedge;
mod interim;
mod judge;
mod web;

use std::sync::{Arc, Mutex, PoisonError};
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
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use self::body::{AttemptReport, MovedBytes, Receiving, SendingBody};
use self::interim::EndlessInterim;
pub(super) use self::judge::Foreign;
use self::judge::{AskedRequest, Judge, Says};
pub(crate) use self::web::{PieceAnswer, PieceRequest, WebAnswer, WebClient};
use super::answer::{Asker, retry_after};
use super::egress::Egress;
use super::health::{Edge, FailureKind, Request, Step};
use super::is_because_of;
use super::names::TurningResolver;
use super::proxy::ProxyRoute;
use crate::bounds::{MAX_ANSWER_BYTES, MAX_ANSWER_TIME, MAX_CLOCK_SKEW, MAX_SMALL_ANSWER_TIME};

/// How long the answer may take after the last byte was sent: at the first attempt, when a pooled connection may have died
/// silently, and at later attempts.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(20);

/// How long a request that began before the end of an outage may be unanswered, and move nothing, after the outage.
const LEFT_BEHIND: Duration = Duration::from_secs(5);

/// How often a probe is asked for while a request with a long deadline waits.
const QUESTIONED_EVERY: Duration = Duration::from_secs(4);

/// The minimum rate of a body, in bytes a second. A slower transfer counts as silent.
const FLOOR_RATE: u64 = 8 * 1024;

/// How long the connection setup may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept. Firewalls and NAT gateways drop idle connections silently.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The size from which a record of the ledger fills a packet, with the head of its request: 1,500 bytes is the MTU of Ethernet.
const LARGE_BODY: usize = 1024;

/// The header that makes a request as large, and its length. S3 takes heads of 8 KB:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
const PADDING: (&str, usize) = ("x-handout-padding", 1460);

/// How often connections are replaced at most because of answers that reject requests.
const REPLACED_EVERY: Duration = Duration::from_secs(2);

/// An HTTP client for the SDK whose requests report to an edge. `edge` is `None` where the health depends on the answer's
/// meaning, which the caller judges.
pub(crate) fn client(edge: Option<Edge>, egress: Egress) -> SharedHttpClient {
    SharedHttpClient::new(EdgeClient {
        edge,
        egress,
        keys: KeyOrigin::OfJobs,
        pool: Arc::default(),
    })
}

/// An HTTP client for the ledger in a bucket. All of its keys are Handout's own, so that a rejected request is a failure of the edge
/// and not of the request.
pub(crate) fn client_of_ledger(edge: Edge, egress: Egress) -> SharedHttpClient {
    SharedHttpClient::new(EdgeClient {
        edge: Some(edge),
        egress,
        keys: KeyOrigin::OfLedger,
        pool: Arc::default(),
    })
}

/// Where the keys of requests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyOrigin {
    /// From jobs: the store may reject a request because of its key.
    OfJobs,
    /// From Handout, for records of the ledger.
    OfLedger,
}

/// Gets a URL that needs no further authentication: the status and the body of the answer. It is not reported to an edge.
///
/// # Errors
/// Why there is no answer, in a text without the URL.
pub(crate) async fn get(url: &str, egress: Egress) -> Result<(u16, Bytes), String> {
    let client = EdgeClient {
        edge: None,
        egress,
        keys: KeyOrigin::OfJobs,
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
    is_padded: bool,
}

impl RequestTerms {
    const DEFAULT: Self = Self {
        answer_within: None,
        is_probe: false,
        names_a_key: false,
        is_padded: false,
    };

    /// Sets a deadline for the answer of a long poll, or of the completion of an upload in parts.
    pub(crate) const fn answer_within(patience: Duration) -> Self {
        Self {
            answer_within: Some(patience),
            ..Self::DEFAULT
        }
    }

    /// The request is a probe. A denial does not count where probes were never allowed.
    pub(crate) const fn probe() -> Self {
        Self {
            is_probe: true,
            ..Self::DEFAULT
        }
    }

    /// The request names a bucket, a key or a prefix of a job. A proxy, a firewall or the store itself may fail it for that alone:
    /// nginx refuses `..`, a firewall drops the packets, one damaged object has no quorum, S3 throttles one prefix. Such a failure
    /// is a doubt about the store, which a probe without a key decides, see [`Edge::doubted`].
    pub(crate) const fn naming_a_key() -> Self {
        Self::DEFAULT.and_names_a_key()
    }

    /// The same for a request that names a key, see [`naming_a_key`](Self::naming_a_key).
    pub(crate) const fn and_names_a_key(self) -> Self {
        Self {
            names_a_key: true,
            ..self
        }
    }

    /// The request fills a packet: it shows whether large ones arrive.
    pub(crate) const fn padded() -> Self {
        Self {
            is_padded: true,
            ..Self::DEFAULT
        }
    }

    fn is_large(self, request: &HttpRequest) -> bool {
        let body = request.body().bytes();
        self.is_padded || body.is_some_and(|body| body.len() > LARGE_BODY)
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
        if self.is_padded {
            let (name, length) = PADDING;
            let headers = context.request_mut().headers_mut();
            headers.try_insert(name, "x".repeat(length))?;
        }
        Ok(())
    }
}

/// A request that names a key got no answer: its established connection broke, or it was silent while other requests were
/// answered. A proxy in front of a store may do so because of the name, as nginx does with the status 444.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct FailedAtName(pub(super) BoxError);

/// The generation of the connections that a request uses, and when it began.
type HttpAttempt = (u64, Instant);

#[derive(Debug, Clone)]
struct EdgeClient {
    edge: Option<Edge>,
    egress: Egress,
    keys: KeyOrigin,
    pool: Arc<Mutex<HttpPool>>,
}

/// The pooled connections; a new pool is made after each failure.
#[derive(Debug, Default)]
struct HttpPool {
    /// A connector for each route, made at its first use.
    connectors: [Option<SharedHttpConnector>; ProxyRoute::COUNT],
    generation: u64,
    /// When connections were replaced last because of an answer.
    replaced_at: Option<Instant>,
}

impl HttpPool {
    /// Begins the next generation, without connections.
    fn renew(&mut self) {
        self.connectors = Default::default();
        self.generation += 1;
    }
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
        let connector = self.new_connector(way).await?;
        let mut pool = self.pool();
        // Another request may have been first.
        let kept = pool.connectors[way as usize].get_or_insert(connector);
        let kept = kept.clone();
        Ok((kept, pool.generation))
    }

    /// A connector without connections.
    async fn new_connector(&self, way: ProxyRoute) -> Result<SharedHttpConnector, ConnectorError> {
        let tls = self.egress.tls_context().await;
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT);
        let turn = self.pool().generation;
        let connector = Connector::builder()
            .connector_settings(settings.build())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .proxy_config(self.egress.proxy(way))
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.map_err(|error| ConnectorError::user(error.into()))?);
        let connector = connector.build_with_resolver(TurningResolver { turn });
        Ok(SharedHttpConnector::new(connector))
    }

    /// How long the body of an answer may take: beside its time on the wire, and on the wire. A client without an edge asks SQS or STS,
    /// whose answers are small: the body of a poll that does not wait takes no longer than its head may.
    fn time_for_the_body(&self, patience: Duration) -> (Duration, Duration) {
        match &self.edge {
            Some(_) => (patience, MAX_ANSWER_TIME),
            None => (MAX_SMALL_ANSWER_TIME.min(patience), Duration::ZERO),
        }
    }

    /// Drops the connections of a generation; requests under way on them continue.
    fn drop_pool(&self, generation: u64) {
        let mut pool = self.pool();
        if pool.generation == generation {
            pool.renew();
        }
    }

    /// Drops the connections of a generation after an answer that rejects a request, if none were dropped so a moment ago.
    ///
    /// A balancer of connections keeps each with its server. One that is ill, or that a reload has left with old keys, would answer every
    /// later request on it, probes too, while each new connection would be well.
    fn replace_pool(&self, generation: u64) {
        let mut pool = self.pool();
        let was_replaced = |at: Instant| at.elapsed() < REPLACED_EVERY;
        if pool.generation == generation && !pool.replaced_at.is_some_and(was_replaced) {
            pool.renew();
            pool.replaced_at = Some(Instant::now());
        }
    }

    /// Records the failure of a request that was made on the connections of `generation` at `began`. The silence of a request that
    /// names a key counts unless the store answered another meanwhile.
    fn failed(
        &self,
        (generation, began): HttpAttempt,
        names_a_key: bool,
        kind: FailureKind,
        words: &str,
    ) {
        self.drop_pool(generation);
        let Some(edge) = &self.edge else { return };
        if names_a_key && (kind != FailureKind::Timeout || edge.answered_since(began)) {
            edge.doubted(kind);
        } else {
            edge.failed_of(began, kind, words);
        }
    }

    /// Whether the size of a large request may be why it was not answered: its connection did not die in an outage that is over.
    fn fails_large(&self, began: Instant, began_in_outage: bool) -> bool {
        let edge = self.edge.as_ref();
        edge.is_some_and(|edge| {
            edge.needs_large() || !began_in_outage && !edge.came_back_since(began)
        })
    }

    fn failed_large(&self, (generation, began): HttpAttempt, words: &str) {
        self.drop_pool(generation);
        let Some(edge) = &self.edge else { return };
        let words = match edge.answered_since(began) || edge.needs_large() {
            true => format!(
                "{words} to a request of more than {LARGE_BODY} bytes; it answers smaller ones, so look for a path that drops large packets (MTU)"
            ),
            false => words.to_owned(),
        };
        edge.failed_large_of(began, &words);
    }

    /// Waits until an outage is over that began before the request or while it waited, and the request has no answer although
    /// others have: its connection died with the outage, and a further attempt makes another.
    async fn left_behind(
        &self,
        began: Instant,
        (began_in_outage, is_usual): (bool, bool),
        moved: &MovedBytes,
    ) {
        const LOOK_EVERY: Duration = Duration::from_millis(500);
        let Some(edge) = &self.edge else {
            return std::future::pending().await;
        };
        let is_over = || match began_in_outage {
            true => edge.answered_since(began),
            false => edge.came_back_since(began),
        };
        let mut questioned_at = began;
        while !is_over() {
            tokio::time::sleep(LOOK_EVERY).await;
            // Of a request with a long deadline, the edge learns nothing for minutes. A probe does.
            if !is_usual && questioned_at.elapsed() >= QUESTIONED_EVERY {
                questioned_at = Instant::now();
                edge.questioned();
            }
        }
        tokio::time::sleep(LEFT_BEHIND).await;
        moved.stopped_for(LEFT_BEHIND).await;
    }

    async fn attempt(self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let (patience, is_first) = (patience(&request), is_first_attempt(&request));
        let began = Instant::now();
        let asked = AskedRequest::by(&request, self.keys);
        let asker = Asker::of(&request, self.egress.section.clone());
        let moved = MovedBytes::of(self.edge.clone());
        // A request with a longer deadline, such as the completion of an upload in parts, does not make the edge silent.
        let is_usual = patience <= ANSWER;
        let edge = self.edge.as_ref().filter(|_| is_usual);
        let under_way = edge.map(|edge| edge.asked(step(request.method())));
        let (copy, name) = (hedge::copy_of(&request), hedge::name_of(&request));
        let number = under_way.as_ref().map(Request::number);
        let body = std::mem::replace(request.body_mut(), SdkBody::taken());
        let (body, sent) = SendingBody::new(body, moved.clone());
        *request.body_mut() = SdkBody::from_body_1_x(body);
        let way = self.egress.way(request.uri());
        let began_in_outage = self.edge.as_ref().is_some_and(Edge::is_failing);
        let (connector, generation) = self.connector(way).await?;
        let answer = tokio::select! {
            answer = self.call(&connector, (request, copy), (generation, began), way) => answer,
            () = self.hangs_at_its_name((name, number), began, &moved), if asked.names_a_key && is_usual => {
                return Err(self.gives_up(began));
            }
            () = self.left_behind(began, (began_in_outage, is_usual), &moved), if asked.names_a_key => {
                self.drop_pool(generation);
                let words = "the store was silent and answers other requests again, but not this one";
                return Err(ConnectorError::timeout(words.into()));
            }
            () = moved.stopped_for(patience) => {
                let words = format!("no answer within {} s", patience.as_secs());
                match asked.is_large && self.fails_large(began, began_in_outage) {
                    true => self.failed_large((generation, began), &words),
                    false => self.failed((generation, began), asked.names_a_key, FailureKind::Timeout, &words),
                }
                let is_for_the_name = asked.names_a_key && !is_first;
                return Err(match &self.edge {
                    // The connection of the first attempt may have died. Now only the name can be the cause, and a further attempt
                    // would keep the job's slot for nothing.
                    Some(edge) if is_for_the_name && edge.answered_since(began) => {
                        edge.hung_at(name);
                        ConnectorError::other(FailedAtName(words.into()).into(), None)
                    }
                    Some(_) | None => ConnectorError::timeout(words.into()),
                });
            }
        };
        let mut answer = answer.map_err(|error| {
            let is_too_long = has_too_long_a_head(&error);
            let is_of_an_object = asked.names_a_key && !asked.is_listing;
            if is_too_long && is_of_an_object && self.keys == KeyOrigin::OfJobs {
                // The store did answer, and the owner of the object may have caused such a head.
                self.edge.iter().for_each(Edge::answered);
                return error;
            }
            if is_too_long {
                // No object's metadata can be the cause: every such request would fail.
                let words = "the head of the answer is too long";
                self.failed((generation, began), false, FailureKind::ServerError, words);
                return ConnectorError::io(Foreign(words.to_owned()).into());
            }
            let kind = if error.is_timeout() {
                FailureKind::Timeout
            } else {
                FailureKind::Unreachable
            };
            let broke = broke_under_the_request(&error) || is_because_of::<EndlessInterim>(&error);
            let is_for_the_name = asked.names_a_key && !error.is_timeout() && broke;
            let error = self.egress.explained(error, way);
            let words = crate::text::chain(&error);
            self.failed((generation, began), is_for_the_name, kind, &words);
            match is_for_the_name {
                true => ConnectorError::io(FailedAtName(error.into()).into()),
                false => error,
            }
        })?;
        let status = answer.status().as_u16();
        if status >= 300 {
            answer.add_extension(asker);
        }
        if may_be_of_its_server(status) {
            self.replace_pool(generation);
        }
        // Only stores have an edge here, and only their answers have a known form.
        let judge = match &self.edge {
            Some(_) => Judge::of(&answer, asked),
            None => Ok(Judge::trusting(status)),
        };
        let judge = judge.map_err(|foreign| {
            self.failed(
                (generation, began),
                asked.names_a_key,
                FailureKind::Unreachable,
                &foreign.0,
            );
            ConnectorError::other(foreign.into(), Some(ErrorKind::TransientError))
        })?;
        let (patience, longest) = self.time_for_the_body(patience);
        let report = AttemptReport {
            patience,
            longest,
            _under_way: under_way,
            client: self,
            attempt: (generation, began),
            says: Says::of(&answer),
            clock_skew: clock_skew(&answer, crate::clock::system()),
            left_alone: retry_after(status, answer.headers()).unwrap_or_default(),
            asked,
        };
        let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
        *answer.body_mut() = SdkBody::from_body_1_x(Limited::new(
            Receiving::new(body, judge, report, Some(sent)),
            MAX_ANSWER_BYTES,
        ));
        Ok(answer)
    }
}

/// Whether another server of the service may answer otherwise: it rejects, throttles or fails. That an object is not there, or that a
/// condition does not hold, is an ordinary answer.
const fn may_be_of_its_server(status: u16) -> bool {
    status >= 400 && !matches!(status, 404 | 409 | 412 | 416)
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
pub(crate) fn broke_under_the_request(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let sent = causes.find_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>());
    sent.is_some_and(|error| !error.is_connect())
}

impl HttpConnector for EdgeClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().attempt(request))
    }
}

/// How far the service's clock is ahead of ours, if it is more than [`MAX_CLOCK_SKEW`].
fn clock_skew(answer: &HttpResponse, now: Timestamp) -> Option<SignedDuration> {
    let date = answer.headers().get("date")?;
    let date = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let skew = date.duration_since(now);
    (skew.unsigned_abs() > MAX_CLOCK_SKEW).then_some(skew)
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
    match is_first_attempt(request) {
        true => FIRST_ANSWER,
        false => ANSWER,
    }
}

fn is_first_attempt(request: &HttpRequest) -> bool {
    // `amz-sdk-request: attempt=1; max=3`, which the SDK writes into every request.
    let attempt = request.headers().get("amz-sdk-request").unwrap_or_default();
    attempt.contains("attempt=1;") || attempt.is_empty()
}

#[cfg(test)]
mod tests;
