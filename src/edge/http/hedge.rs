//! Second requests beside the first: an answer that takes unusually long may wait on a dead connection.
//!
//! A load balancer that still knows a dead server sends every second connection to it, and a NAT gateway forgets connections. The
//! deadline of an attempt is ten seconds, and the next attempt may meet the same server. So a request that waits for three
//! times as long as the longest answer of the last ten to twenty seconds is sent once more, on a connection of its own, and the first answer counts.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use aws_sdk_s3::error::ConnectorError;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::body::MovedBytes;
use super::{EdgeClient, FailedAtName, HttpAttempt, interim};
use crate::edge::health::{Edge, FailureKind, RequestNumber};
use crate::edge::proxy::ProxyRoute;

/// How long a request waits for its answer before it is sent once more, and then again.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(2500);

/// How many copies of a request are sent at most: of connections to a balancer with a dead server, each second one is dead.
const COPIES: u32 = 2;

/// How often a request that waits is judged.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The longest body that is sent twice: a record of the ledger, no page.
const MAX_BODY_SENT_AGAIN: usize = 64 * 1024;

/// A copy of a request, if the request may be sent twice at once.
///
/// Reads may. A conditional write may, too: the server carries out one of the two, and its sender judges the refusal of the other
/// as it does after a lost answer.
pub(super) fn copy_of(request: &HttpRequest) -> Option<HttpRequest> {
    let headers = request.headers();
    let is_conditional = headers.get("if-none-match").or(headers.get("if-match"));
    let is_write = request.method() == "PUT" && is_conditional.is_some();
    let body = request.body().bytes()?;
    let may_be_sent_again = is_read(request) && body.is_empty() || is_write;
    (may_be_sent_again && body.len() <= MAX_BODY_SENT_AGAIN).then(|| request.try_clone())?
}

/// The hash of what a request asks for.
pub(super) fn name_of(request: &HttpRequest) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.uri().hash(&mut hasher);
    hasher.finish()
}

/// Whether a request only reads.
fn is_read(request: &HttpRequest) -> bool {
    matches!(request.method(), "GET" | "HEAD")
}

impl EdgeClient {
    /// Waits until a request must not wait any longer for its name, see [`Edge::until_it_hangs`]: it was sent, and others were answered
    /// meanwhile.
    pub(super) async fn hangs_at_its_name(
        &self,
        (name, number): (u64, Option<RequestNumber>),
        began: Instant,
        moved: &MovedBytes,
    ) {
        let Some(edge) = &self.edge else {
            return std::future::pending().await;
        };
        let waited = || edge.answered_since(began).then(|| moved.handed_on_before());
        edge.until_it_hangs((name, number), waited).await;
    }

    /// The failure of a request that hangs at its name.
    pub(super) fn gives_up(&self, began: Instant) -> ConnectorError {
        self.edge
            .iter()
            .for_each(|edge| edge.doubted(FailureKind::Timeout));
        let words = format!(
            "no answer within {} s; the store answers other requests, and others wait like this one",
            began.elapsed().as_secs()
        );
        ConnectorError::other(FailedAtName(words.into()).into(), None)
    }

    /// Sends a request, and copies of it on other connections while the answer takes unusually long.
    pub(super) async fn call(
        &self,
        connector: &SharedHttpConnector,
        (request, copy): (HttpRequest, Option<HttpRequest>),
        attempt: HttpAttempt,
        way: ProxyRoute,
    ) -> Result<HttpResponse, ConnectorError> {
        let (Some(copy), Some(edge)) = (copy, &self.edge) else {
            return self.timed(connector.clone(), request).await.1;
        };
        let began = Instant::now();
        let mut calls = FuturesUnordered::new();
        calls.push(self.timed(connector.clone(), request));
        let mut copies = 0;
        loop {
            let late = is_unusual(edge, began, SENT_AGAIN_AFTER * (copies + 1));
            tokio::select! {
                Some((on, answer)) = calls.next() => match answer {
                    Ok(answer) => {
                        if copies > 0 {
                            self.adopt(&on, attempt, way);
                        }
                        return Ok(answer);
                    }
                    Err(error) if calls.is_empty() => return Err(error),
                    Err(_) => {}
                },
                () = late, if copies < COPIES => {
                    let again = copy.try_clone().ok_or_else(|| {
                        ConnectorError::other("a request could not be copied".into(), None)
                    })?;
                    let other = self.new_connector(way).await?;
                    calls.push(self.timed(other, again));
                    copies += 1;
                }
            }
        }
    }

    /// Sends a request, and records how long its answer took.
    async fn timed(
        &self,
        connector: SharedHttpConnector,
        request: HttpRequest,
    ) -> (SharedHttpConnector, Result<HttpResponse, ConnectorError>) {
        let began = Instant::now();
        let answer = interim::answer(&connector, request).await;
        if let (Ok(_), Some(edge)) = (&answer, &self.edge) {
            edge.answered_after(began.elapsed());
        }
        (connector, answer)
    }

    /// Takes the connections on which one of several calls was answered in place of the pooled ones, if none of those brought an answer
    /// meanwhile: a gateway that has forgotten one has forgotten the rest.
    fn adopt(
        &self,
        other: &SharedHttpConnector,
        (generation, began): HttpAttempt,
        way: ProxyRoute,
    ) {
        let is_well = |edge: &Edge| edge.answered_since(began);
        if self.edge.as_ref().is_some_and(is_well) {
            return;
        }
        let mut pool = self.pool();
        if pool.generation == generation {
            pool.renew();
            pool.connectors[way as usize] = Some(other.clone());
        }
    }
}

/// Waits until a request has waited for `at_least`, and for much longer than the requests that were answered lately.
async fn is_unusual(edge: &Edge, began: Instant, at_least: Duration) {
    tokio::time::sleep_until(began + at_least).await;
    while !edge.is_unusual(began.elapsed()) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use aws_sdk_s3::primitives::SdkBody;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;

    use super::super::tests::{client_of, edge};
    use super::super::{FIRST_ANSWER, RequestTerms};
    use super::*;

    /// A server behind a balancer: whether a connection has a live server is decided when it opens.
    struct Balanced {
        url: String,
        requests: Arc<AtomicUsize>,
        _serving: JoinSet<()>,
    }

    async fn balanced(is_live: impl Fn(usize) -> bool + Send + 'static) -> Balanced {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/reports/x", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        let seen = Arc::clone(&requests);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            for opened in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, is_live(opened), Arc::clone(&seen)));
            }
        });
        Balanced {
            url,
            requests,
            _serving: serving,
        }
    }

    async fn serve(mut stream: TcpStream, is_live: bool, requests: Arc<AtomicUsize>) {
        let mut piece = [0; 4096];
        while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {
            requests.fetch_add(1, Ordering::Relaxed);
            if is_live {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        }
    }

    fn request(method: &str, url: &str, headers: &[(&'static str, &'static str)]) -> HttpRequest {
        let body = match method {
            "PUT" => SdkBody::from("record"),
            _ => SdkBody::empty(),
        };
        let mut request = HttpRequest::new(body);
        request.set_method(method).unwrap();
        request.set_uri(url).unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, *value);
        }
        request
    }

    #[tokio::test]
    async fn a_request_on_a_dead_connection_is_answered_on_another_if_it_may_be_sent_twice() {
        for (method, headers, is_answered) in [
            ("GET", &[][..], true),
            ("HEAD", &[], true),
            ("PUT", &[("if-none-match", "*")], true),
            ("PUT", &[("if-match", "\"etag\"")], true),
            ("PUT", &[], false),
            ("DELETE", &[], false),
        ] {
            let server = balanced(|opened| opened != 0).await;
            let client = client_of(&edge());
            let answer = client.attempt(request(method, &server.url, headers));
            let within = tokio::time::timeout(SENT_AGAIN_AFTER * 2, answer).await;
            assert_eq!(within.is_ok(), is_answered, "{method} {headers:?}");
            let expected = if is_answered { 2 } else { 1 };
            assert_eq!(server.requests.load(Ordering::Relaxed), expected);
        }
    }

    /// Each new connection that is needed has a live server in one of two cases.
    #[tokio::test]
    async fn requests_one_after_another_meet_a_dead_server_once() {
        let server = balanced(|opened| opened % 2 == 1).await;
        let (edge, began) = (edge(), Instant::now());
        let client = client_of(&edge);
        for _ in 0..6 {
            let answer = client.clone().attempt(request("GET", &server.url, &[]));
            let body = answer.await.unwrap().into_body();
            http_body_util::BodyExt::collect(body).await.unwrap();
        }
        assert!(began.elapsed() < SENT_AGAIN_AFTER * 2);
        assert!(!edge.is_failing());
    }

    #[tokio::test]
    async fn a_store_that_answers_slowly_is_asked_once() {
        let edge = edge();
        edge.answered_after(SENT_AGAIN_AFTER);
        let server = balanced(|opened| opened != 0).await;
        let answer = client_of(&edge).attempt(request("GET", &server.url, &[]));
        let waited = tokio::time::timeout(SENT_AGAIN_AFTER * 2, answer).await;
        assert!(waited.is_err());
        assert_eq!(server.requests.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_long_body_is_sent_once() {
        let copied = |length: usize| {
            let mut request = request("PUT", "http://127.0.0.1/x", &[("if-none-match", "*")]);
            *request.body_mut() = SdkBody::from(vec![0; length]);
            copy_of(&request).is_some()
        };
        assert!(copied(MAX_BODY_SENT_AGAIN));
        assert!(!copied(MAX_BODY_SENT_AGAIN + 1));
    }

    /// Four requests hang at their names while the store answers others: two may wait to their end.
    #[tokio::test]
    async fn requests_that_hang_beside_others_keep_to_their_share() {
        let edge = edge();
        edge.limit_hanging(2);
        let server = balanced(|_| false).await;
        let ended = Arc::new(Mutex::new(Vec::new()));
        let mut asking = JoinSet::new();
        for number in 0..4 {
            let (client, ended) = (client_of(&edge), Arc::clone(&ended));
            let mut request = request("HEAD", &server.url, &[]);
            request.add_extension(RequestTerms::naming_a_key());
            asking.spawn(async move {
                let began = Instant::now();
                tokio::time::sleep(Duration::from_millis(10 * number)).await;
                let error = client.attempt(request).await.unwrap_err();
                let words = crate::text::chain(&error);
                ended.lock().unwrap().push((words, began.elapsed()));
            });
        }
        while asking.len() > 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            edge.answered();
            while asking.try_join_next().is_some() {}
        }
        let ended = ended.lock().unwrap().clone();
        for (words, took) in ended {
            assert!(words.contains("others wait like this one"), "{words}");
            assert!(took < FIRST_ANSWER / 2, "{took:?}");
        }
        assert!(!edge.is_failing());
        // The name is known now, and the others hang still.
        let mut known = request("HEAD", &server.url, &[]);
        known.add_extension(RequestTerms::naming_a_key());
        let at_once = tokio::time::timeout(LOOK_EVERY, client_of(&edge).attempt(known)).await;
        assert!(at_once.unwrap().is_err());
        let mut other = request("HEAD", &format!("{}y", server.url), &[]);
        other.add_extension(RequestTerms::naming_a_key());
        let waits = tokio::time::timeout(LOOK_EVERY, client_of(&edge).attempt(other)).await;
        assert!(waits.is_err());
        drop(asking);
    }
}
