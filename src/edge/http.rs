//! The HTTP client under every AWS SDK client: deadlines that cover the body, and reports to the edge.
//!
//! The SDK's own limits are for a whole attempt, however large its body, and end with the head of the answer. Here the
//! relation is to what moves: an attempt goes on while its bytes do, the answer is due within a few seconds of the last
//! byte sent, and the answer's body must arrive at a floor rate. After an attempt that was not answered all kept
//! connections are dropped: a firewall that forgot one has forgotten the others too, and each would cost another deadline.

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
use bytes::Bytes;
use http_body_util::Limited;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::health::{Edge, FailureKind, Request, Step};
use crate::bounds::{MAX_ANSWER_BYTES, MAX_ANSWER_TIME};

/// How long the answer may take after the last byte was sent: at the first attempt, when the connection may be one that
/// died in silence, and at the others.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(20);

/// The slowest that a body may move, in bytes a second. What is slower counts as silent.
const FLOOR_RATE: u64 = 8 * 1024;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept. Firewalls and NAT gateways forget idle connections without a word.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP client for the SDK whose requests report to an edge; to none where the meaning of an answer, and not its
/// coming, says whether the edge is well.
pub(crate) fn client(edge: Option<Edge>) -> SharedHttpClient {
    SharedHttpClient::new(EdgeClient {
        edge,
        pool: Arc::default(),
    })
}

/// Gives a request more time for its answer than the usual: a long poll, or the end of an upload in parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerWithin(pub(crate) Duration);

impl Intercept for AnswerWithin {
    fn name(&self) -> &'static str {
        "AnswerWithin"
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

/// Which connections a request was made on, and when.
type Attempt = (u64, Instant);

#[derive(Debug, Clone)]
struct EdgeClient {
    edge: Option<Edge>,
    pool: Arc<Mutex<Pool>>,
}

/// The connections that are kept; another pool after each failure.
#[derive(Debug, Default)]
struct Pool {
    connector: Option<SharedHttpConnector>,
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
    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool of connections and its generation.
    fn connector(&self) -> (SharedHttpConnector, u64) {
        let mut pool = self.pool();
        let connector = pool.connector.get_or_insert_with(|| {
            let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT);
            let connector = Connector::builder()
                .connector_settings(settings.build())
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc));
            SharedHttpConnector::new(connector.build())
        });
        (connector.clone(), pool.generation)
    }

    /// Drops the connections of a generation; requests under way on them go on.
    fn drop_pool(&self, generation: u64) {
        let mut pool = self.pool();
        if pool.generation == generation {
            *pool = Pool {
                connector: None,
                generation: generation + 1,
            };
        }
    }

    /// A request failed that was made on the connections of `generation`, at an instant.
    fn failed(&self, (generation, began): Attempt, kind: FailureKind, words: &str) {
        self.drop_pool(generation);
        if let Some(edge) = &self.edge {
            edge.failed_of(began, kind, words);
        }
    }

    fn report(&self, kind: FailureKind, words: &str) {
        if let Some(edge) = &self.edge {
            edge.failed(kind, words);
        }
    }

    async fn attempt(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let (patience, began) = (patience(&request), Instant::now());
        let moved = Moved::of(self.edge.clone());
        // What is silent by agreement, such as the end of an upload in parts, is no silence of the edge.
        let is_usual = patience <= ANSWER;
        let edge = self.edge.as_ref().filter(|_| is_usual);
        let under_way = edge.map(|edge| edge.asked(step(request.method())));
        let request = request.map(|body| {
            SdkBody::from_body_1_x(Sending {
                body,
                moved: moved.clone(),
            })
        });
        let (connector, generation) = self.connector();
        let answer = tokio::select! {
            answer = connector.call(request) => answer,
            () = moved.stopped_for(patience) => {
                let words = format!("no answer within {} s", patience.as_secs());
                self.failed((generation, began), FailureKind::Timeout, &words);
                return Err(ConnectorError::timeout(words.into()));
            }
        };
        let mut answer = answer.inspect_err(|error| {
            let kind = if error.is_timeout() {
                FailureKind::Timeout
            } else {
                FailureKind::Unreachable
            };
            self.failed((generation, began), kind, &crate::error::chain(error));
        })?;
        let status = answer.status().as_u16();
        let failure = match status {
            429 | 503 => Some(FailureKind::Throttled),
            500.. => Some(FailureKind::ServerError),
            _ => None,
        };
        if let Some(kind) = failure {
            self.report(kind, &format!("status {status}"));
        }
        let report = Report {
            patience: patience.max(ANSWER),
            _under_way: under_way,
            client: self,
            attempt: (generation, began),
            is_well: failure.is_none(),
        };
        let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
        *answer.body_mut() =
            SdkBody::from_body_1_x(Limited::new(Receiving::new(body, report), MAX_ANSWER_BYTES));
        Ok(answer)
    }
}

impl HttpConnector for EdgeClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().attempt(request))
    }
}

/// The one step of a request over HTTP.
const ANY: Step = Step::only("a request");

fn step(method: &str) -> Step {
    const VERBS: [&str; 5] = ["GET", "HEAD", "PUT", "POST", "DELETE"];
    let known = VERBS.into_iter().find(|verb| *verb == method);
    known.map_or(ANY, Step::only)
}

/// How long the answer to a request may take after its last byte was sent.
fn patience(request: &HttpRequest) -> Duration {
    if let Some(AnswerWithin(patience)) = request.extension() {
        return *patience;
    }
    // `amz-sdk-request: attempt=1; max=3`, which the SDK writes into every request.
    let attempt = request.headers().get("amz-sdk-request").unwrap_or_default();
    if attempt.contains("attempt=1;") || attempt.is_empty() {
        FIRST_ANSWER
    } else {
        ANSWER
    }
}

/// When the last bytes of a request were handed on, and how long they may take on the wire.
#[derive(Debug, Clone)]
struct Moved {
    due: Arc<Mutex<Instant>>,
    edge: Option<Edge>,
}

impl Moved {
    fn of(edge: Option<Edge>) -> Self {
        Self {
            due: Arc::new(Mutex::new(Instant::now())),
            edge,
        }
    }

    fn due(&self) -> Instant {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes were handed on, and may take their time on the wire.
    fn handed_on(&self, bytes: usize) {
        self.edge.iter().for_each(|edge| edge.replied(ANY));
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) =
            Instant::now() + on_the_wire(bytes as u64);
    }

    /// Waits until nothing has moved for so long.
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

/// How long so many bytes may take.
fn on_the_wire(bytes: u64) -> Duration {
    Duration::from_secs(bytes / FLOOR_RATE)
}

/// A request's body, which says when its bytes are handed on.
struct Sending {
    body: SdkBody,
    moved: Moved,
}

impl Body for Sending {
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

/// What the end of an answer is reported to.
struct Report {
    /// How long the body may take beside its time on the wire.
    patience: Duration,
    _under_way: Option<Request>,
    client: EdgeClient,
    attempt: Attempt,
    is_well: bool,
}

/// An answer's body, which must arrive at [`FLOOR_RATE`]. Only an answer that arrived is one.
struct Receiving {
    body: SdkBody,
    report: Option<Report>,
    due: Instant,
    received: u64,
    deadline: Pin<Box<Sleep>>,
    /// Whether bytes are waited for: dropped then, the answer was given up and says nothing of the edge.
    is_waiting: bool,
}

impl Receiving {
    fn new(body: SdkBody, report: Report) -> Self {
        let due = Instant::now() + report.patience;
        Self {
            body,
            report: Some(report),
            due,
            received: 0,
            deadline: Box::pin(tokio::time::sleep_until(due)),
            is_waiting: false,
        }
    }

    /// Reports how the answer ended, once.
    fn end(&mut self, failure: Option<(FailureKind, &str)>) {
        let Some(Report {
            client,
            attempt,
            is_well,
            ..
        }) = self.report.take()
        else {
            return;
        };
        match failure {
            Some((kind, words)) => client.failed(attempt, kind, words),
            None if is_well => client.edge.iter().for_each(|edge| {
                edge.replied(ANY);
                edge.answered();
            }),
            None => {}
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
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                // Without an end to it, a store that trickles would hold a slot for as long as it likes.
                let due = self.due + on_the_wire(self.received).min(MAX_ANSWER_TIME);
                self.deadline.as_mut().reset(due);
                if self.body.is_end_stream() {
                    self.end(None);
                }
            }
            Some(Err(error)) => {
                let words = crate::error::chain(&**error);
                self.end(Some((FailureKind::Unreachable, &words)));
            }
            None => self.end(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

impl Drop for Receiving {
    /// An answer whose rest nothing wants has come as far as it was wanted, unless it was being waited for.
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

    fn receiving(body: SdkBody, edge: &Edge) -> Receiving {
        let client = EdgeClient {
            edge: Some(edge.clone()),
            pool: Arc::default(),
        };
        Receiving::new(
            body,
            Report {
                patience: ANSWER,
                _under_way: None,
                client,
                attempt: (0, Instant::now()),
                is_well: true,
            },
        )
    }

    /// A body of so many pieces, each after a pause.
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
        let moved = Moved::of(None);
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
        let large = Moved::of(None);
        large.handed_on(60 * usize::try_from(FLOOR_RATE).unwrap());
        let began = Instant::now();
        large.stopped_for(FIRST_ANSWER).await;
        assert_eq!(began.elapsed().as_secs(), 60 + FIRST_ANSWER.as_secs());
    }
}
