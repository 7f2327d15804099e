//! A faulty HTTP proxy in front of a working server: it rejects requests, loses answers, and delays.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The faults of a proxy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// The percentage of failing requests: a third each is rejected with 500, is rejected with 409 or 503, and loses its answer
    /// after the request was executed.
    pub(crate) percent: u32,
    /// The number of first writes whose conditions are ignored.
    pub(crate) careless: u32,
    /// The maximum delay of a request, in milliseconds.
    pub(crate) latency_ms: u32,
    /// How long each answer takes at least, in milliseconds.
    pub(crate) steady_ms: u32,
    /// A part of the URLs of requests that are denied.
    pub(crate) denied: Option<&'static str>,
    /// Rejects requests that the server itself would take.
    pub(crate) judge: Option<Judge>,
}

/// Why a request is rejected, if it is: the status and the code.
pub(crate) type Judge = fn(&Request<Bytes>) -> Option<(StatusCode, &'static str)>;

/// A request that the proxy has answered.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    /// The method, and the path with the query, such as `PUT /ledger/jobs/daily/plan`.
    pub(crate) what: String,
    /// When it came.
    pub(crate) began: Instant,
    /// When its answer left.
    pub(crate) ended: Instant,
}

/// A running proxy; it ends with the test.
pub(crate) struct FaultyProxy {
    /// The URL of the proxy.
    pub(crate) url: String,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    dice: AtomicU64,
    requests: AtomicU32,
    failed: AtomicU32,
    lost: AtomicU32,
    /// How many of the next answers are lost.
    to_lose: AtomicU32,
    /// A part of the bodies of requests that are answered with this text, or never.
    odd: Mutex<Option<(&'static str, Option<&'static str>)>>,
    /// The operation (of AWS's JSON protocols) that is rejected with 400, and its error text.
    refused: Mutex<Option<(&'static str, &'static str)>>,
    writes: AtomicU32,
    /// No request is denied any more.
    allows_all: AtomicBool,
    /// The requests that were answered, in the order of their answers.
    answered: Mutex<Vec<Answered>>,
}

/// The handling of a request.
enum Fate {
    Carried,
    Refused(StatusCode, &'static str),
    Lost,
}

impl FaultyProxy {
    /// A proxy in front of `upstream`, such as `http://127.0.0.1:5000`.
    pub(crate) async fn start(upstream: &str, faults: Faults) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let counts = Arc::new(Counts::default());
        let (upstream, shared) = (Arc::<str>::from(upstream), Arc::clone(&counts));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut conversations = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (upstream, counts) = (Arc::clone(&upstream), Arc::clone(&shared));
                conversations.spawn(async move {
                    let answer = service_fn(|request| answer(request, &upstream, faults, &counts));
                    let conversation =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                    // A lost answer ends the connection.
                    drop(conversation.await);
                });
            }
        });
        Self {
            url,
            counts,
            _tasks: tasks,
        }
    }

    /// Loses the next answers, after their requests were executed.
    pub(crate) fn lose_next(&self, count: u32) {
        self.counts.to_lose.store(count, Ordering::SeqCst);
    }

    /// Answers requests with `part` in their body with this text, or never; `None` restores the default.
    pub(crate) fn answers(&self, odd: Option<(&'static str, Option<&'static str>)>) {
        *self.counts.odd.lock().unwrap() = odd;
    }

    /// Rejects an operation, such as `AmazonSQS.ReceiveMessage`, with this text.
    pub(crate) fn refuses(&self, operation: &'static str, text: &'static str) {
        *self.counts.refused.lock().unwrap() = Some((operation, text));
    }

    /// Denies no request from now on; [`Faults::denied`] has no effect any more.
    pub(crate) fn allows_all(&self) {
        self.counts.allows_all.store(true, Ordering::SeqCst);
    }

    /// Rejects no operation from now on.
    pub(crate) fn refuses_nothing(&self) {
        *self.counts.refused.lock().unwrap() = None;
    }

    /// The requests that were answered since the last call.
    pub(crate) fn take_answered(&self) -> Vec<Answered> {
        std::mem::take(&mut *self.counts.answered.lock().unwrap())
    }

    /// The numbers of requests, of rejected requests, and of lost answers.
    pub(crate) fn counts(&self) -> (u32, u32, u32) {
        let read = |counter: &AtomicU32| counter.load(Ordering::SeqCst);
        (
            read(&self.counts.requests),
            read(&self.counts.failed),
            read(&self.counts.lost),
        )
    }
}

impl Counts {
    /// The next number of a pseudo-random sequence that is the same in every run (`SplitMix64`).
    fn roll(&self, sides: u32) -> u32 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self
            .dice
            .fetch_add(STEP, Ordering::SeqCst)
            .wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(sides.max(1))).unwrap()
    }

    fn fate(&self, percent: u32, method: &Method) -> Fate {
        let less = |count: u32| count.checked_sub(1);
        if self
            .to_lose
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
        {
            return Fate::Lost;
        }
        match self.roll(300) {
            roll if roll < percent => {
                Fate::Refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
            }
            roll if roll < 2 * percent && method == Method::PUT => {
                Fate::Refused(StatusCode::CONFLICT, "ConditionalRequestConflict")
            }
            roll if roll < 2 * percent => {
                Fate::Refused(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")
            }
            roll if roll < 3 * percent => Fate::Lost,
            _ => Fate::Carried,
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    upstream: &str,
    faults: Faults,
    counts: &Counts,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (what, began) = (
        format!("{} {}", request.method(), request.uri()),
        Instant::now(),
    );
    let steady = Duration::from_millis(faults.steady_ms.into());
    let answer = decide(request, upstream, faults, counts);
    let (answer, ()) = tokio::join!(answer, tokio::time::sleep(steady));
    counts.answered.lock().unwrap().push(Answered {
        what,
        began,
        ended: Instant::now(),
    });
    answer
}

async fn decide(
    request: Request<Incoming>,
    upstream: &str,
    faults: Faults,
    counts: &Counts,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    counts.requests.fetch_add(1, Ordering::SeqCst);
    let patience = Duration::from_millis(counts.roll(faults.latency_ms + 1).into());
    tokio::time::sleep(patience).await;
    let target = request.uri().to_string();
    let (head, body) = request.into_parts();
    // A connection that closes in the middle of a request is another fault.
    let body = body.collect().await.unwrap_or_default().to_bytes();
    let odd = *counts.odd.lock().unwrap();
    if let Some((_, text)) =
        odd.filter(|(part, _)| memchr::memmem::find(&body, part.as_bytes()).is_some())
    {
        match text {
            Some(text) => return Ok(Response::new(Full::new(Bytes::from(text)))),
            None => return std::future::pending().await,
        }
    }
    let refused = *counts.refused.lock().unwrap();
    let operation = head.headers.get("x-amz-target");
    if let Some((_, text)) =
        refused.filter(|(refused, _)| operation.is_some_and(|it| it == refused))
    {
        let mut refusal = Response::new(Full::new(Bytes::from(text)));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refusal);
    }
    let request = Request::from_parts(head, body);
    let judged = faults.judge.and_then(|judge| judge(&request));
    let allows_all = counts.allows_all.load(Ordering::SeqCst);
    let fate = match (judged, faults.denied.filter(|_| !allows_all)) {
        (Some((status, code)), _) => Fate::Refused(status, code),
        (None, Some(part)) if target.contains(part) => {
            Fate::Refused(StatusCode::FORBIDDEN, "AccessDenied")
        }
        (None, _) => counts.fate(faults.percent, request.method()),
    };
    match fate {
        Fate::Carried => Ok(carry(request, upstream, faults, counts).await),
        Fate::Refused(status, code) => {
            counts.failed.fetch_add(1, Ordering::SeqCst);
            let body = format!("<Error><Code>{code}</Code><Message>so it is</Message></Error>");
            let mut refusal = Response::new(Full::new(Bytes::from(body)));
            *refusal.status_mut() = status;
            Ok(refusal)
        }
        Fate::Lost => {
            carry(request, upstream, faults, counts).await;
            counts.lost.fetch_add(1, Ordering::SeqCst);
            Err(std::io::Error::other("the answer is lost"))
        }
    }
}

async fn carry(
    request: Request<Bytes>,
    upstream: &str,
    faults: Faults,
    counts: &Counts,
) -> Response<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().unwrap().as_str();
    head.uri = format!("{upstream}{path}").parse().unwrap();
    if head.method == Method::PUT && counts.writes.fetch_add(1, Ordering::SeqCst) < faults.careless
    {
        head.headers.remove("if-none-match");
        head.headers.remove("if-match");
    }
    let body = Full::new(body);
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client
        .request(Request::from_parts(head, body))
        .await
        .unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Response::from_parts(head, Full::new(bytes))
}
