//! Tests of the deadlines of bodies, of whose an answer is, and of what an edge is told.

use super::judge::{LedgerAccess, is_listing};
use super::*;
use crate::edge::health::EdgeKind;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Frame;

pub(super) fn edge() -> Edge {
    Edge::new(EdgeKind::Store, "reports", "S3")
}

const GET: AskedRequest = AskedRequest {
    is_head: false,
    is_range: false,
    is_probe: false,
    names_a_key: false,
    is_listing: false,
    is_large: false,
    of_ledger: None,
};

pub(super) fn client_of(edge: &Edge) -> EdgeClient {
    EdgeClient {
        edge: Some(edge.clone()),
        egress: Egress::default(),
        keys: KeyOrigin::OfJobs,
        pool: Arc::default(),
    }
}

fn receiving(body: SdkBody, edge: &Edge) -> Receiving {
    receiving_by(client_of(edge), body, ANSWER)
}

fn receiving_by(client: EdgeClient, body: SdkBody, patience: Duration) -> Receiving {
    let (patience, longest) = client.time_for_the_body(patience);
    Receiving::new(
        body,
        Judge::trusting(200),
        AttemptReport {
            patience,
            longest,
            _under_way: None,
            client,
            attempt: (0, Instant::now()),
            says: Says::Well,
            clock_skew: None,
            left_alone: Duration::ZERO,
            asked: GET,
        },
        None,
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
    for (terms, is_doubt) in [
        (RequestTerms::naming_a_key(), true),
        (RequestTerms::probe(), false),
    ] {
        let edge = edge();
        let client = client_of(&edge);
        let mut request = HttpRequest::get(url.as_str()).unwrap();
        request.add_extension(terms);
        let error = client.attempt(request).await.unwrap_err();
        assert_eq!(edge.count(FailureKind::Unreachable), 1, "{terms:?}");
        assert_eq!(
            (edge.take_doubt(), edge.is_failing()),
            (is_doubt, !is_doubt)
        );
        let mut causes = std::iter::successors(
            Some(&error as &(dyn std::error::Error + 'static)),
            |error| error.source(),
        );
        assert_eq!(causes.any(|cause| cause.is::<FailedAtName>()), is_doubt);
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
    is_listing: true,
    ..GET
};

#[tokio::test]
async fn while_large_requests_are_not_answered_a_small_answer_leaves_the_outage_open() {
    let edge = edge();
    for _ in 0..2 {
        edge.failed_large_of(Instant::now(), "no answer within 10 s");
    }
    judged(200, "", &edge).await.unwrap();
    assert!(edge.outage().is_some());
    let large = AskedRequest {
        is_large: true,
        ..GET
    };
    judged_as(large, 200, "", &edge).await.unwrap();
    assert_eq!(edge.outage(), None);
}

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
        // Cut short by a server that announced too few bytes, which is valid HTTP.
        (200, "<ListBucketResult><Contents><Key>a", ServerError),
        (
            200,
            "<ListBucketResult><Contents></Contents></ListBucketRe",
            ServerError,
        ),
        (200, "<ListBucketResult>", ServerError),
        (200, "<ListVersionsResult><Version/>", ServerError),
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
        (
            LISTING,
            200,
            "<ListVersionsResult><Version/></ListVersionsResult >\n\n",
        ),
        (GET, 200, "[{\"l\":[\"<Code>SlowDown</Code>.pdf\",5]}]"),
        (GET, 200, "<Code>InternalError</Code>"),
        (LISTING, 404, "<Error><Code>NoSuchBucket</Code></Error>"),
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
    // Buckets in a region that the connection does not name are denied, too.
    for (status, code) in [
        (400, "ExpiredToken"),
        (400, "InvalidToken"),
        (301, "PermanentRedirect"),
        (400, "IllegalLocationConstraintException"),
    ] {
        let edge = edge();
        let body = format!("<Error><Code>{code}</Code></Error>").leak();
        judged_as(LISTING, status, body, &edge).await.unwrap();
        assert_eq!(edge.count(FailureKind::Denied), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_the_fault_of_a_key_or_a_prefix_is_a_doubt_and_no_outage() {
    const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code></Error>";
    const INTERNAL: &str = "<Error><Code>InternalError</Code></Error>";
    for asked in [GET, LISTING] {
        for names_a_key in [true, false] {
            let asked = AskedRequest {
                names_a_key,
                ..asked
            };
            for (status, body) in [
                (503, SLOW_DOWN),
                (500, INTERNAL),
                (502, "<html><h1>502 Bad Gateway</h1></html>"),
                (403, "<html>blocked</html>"),
                (200, "<html>blocked</html>"),
                (400, "<Error><Code>RequestTimeout</Code></Error>"),
            ] {
                let edge = edge();
                for _ in 0..4 {
                    drop(judged_as(asked, status, body, &edge).await);
                    tokio::time::sleep(Duration::from_secs(4)).await;
                }
                let said = (edge.outage().is_some(), edge.take_doubt());
                assert_eq!(said, (!names_a_key, names_a_key), "{status} {body}");
            }
            let edge = edge();
            for body in [cut_off, stalled] {
                for _ in 0..2 {
                    let mut receiving = receiving(body(), &edge);
                    receiving.report.as_mut().unwrap().asked = asked;
                    let attempt = receiving.collect();
                    let answered = async {
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        // Another request, as a probe.
                        if names_a_key {
                            edge.answered();
                        }
                    };
                    let (received, ()) = tokio::join!(attempt, answered);
                    assert!(received.is_err());
                }
            }
            let said = (edge.outage().is_some(), edge.take_doubt());
            assert_eq!(said, (!names_a_key, names_a_key));
        }
    }
    // A full disk is the store's, and a probe, which only reads, does not find it.
    let edge = edge();
    for _ in 0..4 {
        let named = AskedRequest {
            names_a_key: true,
            ..GET
        };
        let full = "<Error><Code>XMinioStorageFull</Code></Error>";
        judged_as(named, 507, full, &edge).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    assert!(edge.outage().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_rejects_a_request_of_the_ledger_is_down_at_once() {
    const READ: AskedRequest = AskedRequest {
        of_ledger: Some(LedgerAccess::Read),
        ..GET
    };
    const WRITE: AskedRequest = AskedRequest {
        of_ledger: Some(LedgerAccess::ConditionalWrite),
        ..GET
    };
    const REPEAT: AskedRequest = AskedRequest {
        of_ledger: Some(LedgerAccess::Write),
        ..GET
    };
    for (asked, status, code, outage) in [
        (WRITE, 400, "InvalidRequest", Some(FailureKind::Refused)),
        (WRITE, 403, "AccessDenied", Some(FailureKind::Refused)),
        (WRITE, 404, "NoSuchBucket", Some(FailureKind::Refused)),
        (WRITE, 405, "MethodNotAllowed", Some(FailureKind::Refused)),
        (
            WRITE,
            409,
            "BucketAlreadyExists",
            Some(FailureKind::Refused),
        ),
        (WRITE, 501, "NotImplemented", Some(FailureKind::Refused)),
        (WRITE, 409, "ConditionalRequestConflict", None),
        (WRITE, 412, "PreconditionFailed", None),
        (
            REPEAT,
            412,
            "PreconditionFailed",
            Some(FailureKind::Refused),
        ),
        (READ, 404, "NoSuchKey", None),
        (READ, 404, "NoSuchBucket", Some(FailureKind::Refused)),
        (READ, 400, "InvalidRequest", Some(FailureKind::Refused)),
        // Denials of reads are counted, since a key that does not exist is denied to credentials that may not list.
        (READ, 403, "AccessDenied", None),
        (READ, 400, "ExpiredToken", None),
        // The keys of jobs are not Handout's own.
        (GET, 404, "NoSuchBucket", None),
        (GET, 501, "NotImplemented", None),
    ] {
        let edge = Edge::new(EdgeKind::Ledger, "ledger", "the ledger");
        let body = format!("<Error><Code>{code}</Code></Error>").leak();
        judged_as(asked, status, body, &edge).await.unwrap();
        let seen = edge.outage().map(|outage| outage.kind);
        assert_eq!(seen, outage, "{asked:?} {status} {code}");
        if outage.is_some() {
            let unmet = "<Error><Code>PreconditionFailed</Code></Error>";
            judged_as(WRITE, 412, unmet, &edge).await.unwrap();
            let conflict = "<Error><Code>ConditionalRequestConflict</Code></Error>";
            judged_as(REPEAT, 409, conflict, &edge).await.unwrap();
            assert!(edge.outage().is_some(), "only a write ends it");
        }
        // Passwords are not repeated here: it is tried again soon.
        let left = edge.outage().map_or(Duration::ZERO, |outage| outage.left);
        assert!(left <= Duration::from_secs(2), "{left:?}");
    }
}

/// A body whose connection ends in the middle.
fn cut_off() -> SdkBody {
    let chunks = [
        Ok(Frame::data(Bytes::from_static(b"<ListBucketResult>"))),
        Err(BoxError::from("end of file before message length reached")),
    ];
    let chunks = futures_util::stream::iter(chunks);
    SdkBody::from_body_1_x(http_body_util::StreamBody::new(chunks))
}

/// A body of which nothing more comes.
fn stalled() -> SdkBody {
    trickling(1, 1, Duration::from_secs(1000))
}

/// A listing of this many bytes, in chunks.
fn long_listing(bytes: usize) -> SdkBody {
    let mut text = b"<ListBucketResult>".to_vec();
    text.resize(bytes, b' ');
    text.extend_from_slice(b"</ListBucketResult>");
    let chunks: Vec<_> = text
        .chunks(64 * 1024)
        .map(|chunk| Ok::<_, BoxError>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    let chunks = futures_util::stream::iter(chunks);
    SdkBody::from_body_1_x(http_body_util::StreamBody::new(chunks))
}

#[tokio::test(start_paused = true)]
async fn a_listing_without_end_is_a_failure_of_the_store_and_a_long_one_is_not() {
    for (bytes, is_failure) in [(MAX_ANSWER_BYTES - 64, false), (MAX_ANSWER_BYTES, true)] {
        let edge = edge();
        for _ in 0..2 {
            let mut receiving = receiving(long_listing(bytes), &edge);
            let head = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
            receiving.judge = Judge::of(&head, LISTING).unwrap();
            receiving.report.as_mut().unwrap().asked = LISTING;
            assert_eq!(receiving.collect().await.is_err(), is_failure);
            tokio::time::sleep(Duration::from_secs(11)).await;
        }
        let outage = edge.outage().map(|outage| outage.kind);
        assert_eq!(outage, is_failure.then_some(FailureKind::ServerError));
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
async fn an_answer_of_a_queue_has_seconds_however_much_of_it_moves() {
    let mut client = client_of(&edge());
    client.edge = None;
    let long_poll = Duration::from_secs(30);
    for (pieces, arrives) in [(10, true), (1000, false)] {
        let began = Instant::now();
        let body = trickling(pieces, 20_000, Duration::from_secs(1));
        let body = receiving_by(client.clone(), body, long_poll).collect();
        assert_eq!(body.await.is_ok(), arrives);
        assert!(began.elapsed() <= MAX_SMALL_ANSWER_TIME);
    }
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

#[tokio::test(start_paused = true)]
async fn a_large_body_that_left_fast_is_missed_as_soon_as_a_small_one_and_a_slow_one_has_time() {
    const BYTES: usize = 8 << 20;
    const PIECE: usize = 64 * 1024;
    for (pause, expected) in [(0, 10..=11), (3_277, 35..=37)] {
        let moved = MovedBytes::of(None);
        let (mut body, _until_end) = SendingBody::new(SdkBody::from(vec![7; BYTES]), moved.clone());
        let mut sent = 0;
        while sent < BYTES {
            let left = hyper::body::Body::size_hint(&body).exact();
            assert_eq!(left, Some((BYTES - sent) as u64));
            assert!(!hyper::body::Body::is_end_stream(&body));
            let frame = body.frame().await.unwrap().unwrap();
            sent += frame.into_data().unwrap().len();
            assert_eq!(sent % PIECE, 0);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        assert!(hyper::body::Body::is_end_stream(&body));
        let began = Instant::now();
        moved.stopped_for(FIRST_ANSWER).await;
        let took = began.elapsed() + Duration::from_millis(pause);
        assert!(expected.contains(&took.as_secs()), "{pause}: {took:?}");
    }
}

/// Bytes whose memory is watched.
struct WatchedBytes(Arc<Vec<u8>>);

impl AsRef<[u8]> for WatchedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[tokio::test]
async fn a_body_that_a_server_does_not_read_is_freed_when_its_request_ends() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/reports/x", listener.local_addr().unwrap());
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        let mut open = Vec::new();
        for answer in [
            Some("HTTP/1.1 503 Slow Down\r\ncontent-length: 4\r\n\r\nlate"),
            None,
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 512])
                .await
                .unwrap();
            if let Some(answer) = answer {
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes())
                    .await
                    .unwrap();
            }
            // What was sent stays unread, and the connection open.
            open.push(stream);
        }
        std::future::pending::<()>().await;
    });
    let client = EdgeClient {
        edge: None,
        egress: Egress::default(),
        keys: KeyOrigin::OfJobs,
        pool: Arc::default(),
    };
    for is_answered in [true, false] {
        let memory = Arc::new(vec![7; 32 << 20]);
        let body = Bytes::from_owner(WatchedBytes(Arc::clone(&memory)));
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("PUT").unwrap();
        request.set_uri(url.as_str()).unwrap();
        let attempt = client.clone().attempt(request);
        if is_answered {
            let answer = attempt.await.unwrap();
            assert_eq!(answer.status().as_u16(), 503);
            let body = answer.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "late");
        } else {
            let cut_off = tokio::time::timeout(Duration::from_millis(200), attempt);
            assert!(cut_off.await.is_err());
        }
        let freed = async {
            while Arc::strong_count(&memory) > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let freed = tokio::time::timeout(Duration::from_secs(5), freed).await;
        assert!(freed.is_ok(), "answered: {is_answered}");
    }
}

/// The time goes on while a process is stopped, and its timers are late.
#[tokio::test(start_paused = true)]
async fn an_answer_that_came_while_the_process_was_stopped_is_taken() {
    let moved = MovedBytes::of(None);
    let (send, answer) = tokio::sync::oneshot::channel();
    let asking = async {
        tokio::select! {
            answer = answer => answer.is_ok(),
            () = moved.stopped_for(FIRST_ANSWER) => false,
        }
    };
    let stopped = async {
        tokio::time::advance(FIRST_ANSWER + Duration::from_secs(30)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        send.send(()).unwrap();
    };
    let (is_taken, ()) = tokio::join!(asking, stopped);
    assert!(is_taken);
    let began = Instant::now();
    moved.stopped_for(Duration::ZERO).await;
    assert!(began.elapsed() <= Duration::from_secs(3));
}

/// A connection that was made during an outage may stay dead after it, behind a NAT gateway for example.
#[tokio::test(start_paused = true)]
async fn a_request_that_began_during_an_outage_is_made_again_soon_after_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/reports/x", listener.local_addr().unwrap());
    for (is_failing, names_a_key, expected) in
        [(true, true, 6), (false, true, 10), (true, false, 10)]
    {
        let edge = edge();
        if is_failing {
            edge.failed(FailureKind::Timeout, "no answer");
        }
        let client = client_of(&edge);
        let mut request = HttpRequest::get(url.as_str()).unwrap();
        if names_a_key {
            request.add_extension(RequestTerms::naming_a_key());
        }
        let began = Instant::now();
        let returns = async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            edge.answered();
        };
        let (answer, ()) = tokio::join!(client.attempt(request), returns);
        assert!(answer.unwrap_err().is_timeout());
        let took = began.elapsed().as_secs();
        assert_eq!(took, expected, "{is_failing} {names_a_key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_clock_is_far_from_ours_is_down_until_the_clocks_agree() {
    let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
    let skew = |date: &str| {
        let mut answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
        answer.headers_mut().insert("date", date.to_owned());
        clock_skew(&answer, now).map(|skew| skew.as_secs())
    };
    assert_eq!(skew("Sun, 29 Nov 2026 12:04:59 GMT"), None);
    assert_eq!(skew("Sun, 29 Nov 2026 12:10:00 GMT"), Some(600));
    assert_eq!(skew("Sun, 29 Nov 2026 11:50:00 GMT"), Some(-600));
    assert_eq!(skew("yesterday"), None);
    for names_a_key in [false, true] {
        let edge = edge();
        let answer = async |skew: Option<i64>| {
            let mut receiving = receiving(SdkBody::from("ok"), &edge);
            let report = receiving.report.as_mut().unwrap();
            report.clock_skew = skew.map(SignedDuration::from_secs);
            report.asked.names_a_key = names_a_key;
            receiving.collect().await.unwrap();
        };
        answer(Some(-600)).await;
        let outage = edge.outage().map(|outage| outage.to_string());
        assert_eq!(outage.is_some(), !names_a_key, "{outage:?}");
        assert_eq!(edge.take_doubt(), names_a_key);
        if let Some(outage) = outage {
            let words =
                "its clock is 600 s behind this machine's: set the clock that is wrong (NTP)";
            assert!(outage.ends_with(words), "{outage}");
        }
        // One server of several may be wrong.
        for _ in 0..3 {
            answer(None).await;
        }
        assert_eq!(edge.outage(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn one_server_of_several_with_a_wrong_clock_keeps_the_store_down_until_answers_agree() {
    let edge = edge();
    let answer = async |skew: Option<i64>| {
        let mut body = receiving(SdkBody::from("x"), &edge);
        let report = body.report.as_mut().unwrap();
        report.clock_skew = skew.map(SignedDuration::from_secs);
        body.collect().await.unwrap();
    };
    answer(Some(1200)).await;
    let since = edge.outage().unwrap().since;
    for _ in 0..5 {
        answer(None).await;
        answer(None).await;
        answer(Some(1200)).await;
        assert_eq!(edge.outage().unwrap().since, since, "it is one outage");
    }
    let mut failing = receiving(SdkBody::from("x"), &edge);
    failing.report.as_mut().unwrap().says = Says::Unwell(FailureKind::ServerError);
    failing.collect().await.unwrap();
    assert_eq!(edge.count(FailureKind::ServerError), 1, "it counts, too");
    answer(Some(1200)).await;
    for is_down in [true, true, false] {
        answer(None).await;
        assert_eq!(edge.outage().is_some(), is_down);
    }
    answer(None).await;
    assert_eq!(edge.outage(), None);
}

/// The completion of an upload may take minutes, and its connection may die in an outage meanwhile.
#[tokio::test(start_paused = true)]
async fn a_request_that_may_take_minutes_asks_for_probes_and_is_made_again_soon_after_an_outage() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/reports/x", listener.local_addr().unwrap());
    let minutes = RequestTerms::answer_within(Duration::from_secs(300)).and_names_a_key();
    let usual = RequestTerms::naming_a_key();
    for (terms, kind, expected, is_questioned) in [
        (minutes, Some(FailureKind::Timeout), 12, true),
        (minutes, Some(FailureKind::Throttled), 300, true),
        (minutes, None, 300, true),
        (usual, None, 10, false),
    ] {
        let edge = edge();
        let client = client_of(&edge);
        let mut request = HttpRequest::get(url.as_str()).unwrap();
        request.add_extension(terms);
        let began = Instant::now();
        let outage = async {
            tokio::time::sleep(Duration::from_millis(6_100)).await;
            let doubt = edge.take_doubt();
            if let Some(kind) = kind {
                edge.failed(kind, "no answer");
                tokio::time::sleep(Duration::from_secs(1)).await;
                edge.answered();
            }
            doubt
        };
        let (answer, doubt) = tokio::join!(client.attempt(request), outage);
        assert!(answer.unwrap_err().is_timeout());
        assert_eq!(
            (began.elapsed().as_secs(), doubt),
            (expected, is_questioned),
            "{kind:?}"
        );
    }
}

/// The statuses of two requests, one after the other, to a balancer whose first connection leads to a server that answers with this
/// status for ever.
async fn statuses_behind_a_balancer(status: &'static str) -> [u16; 2] {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/1/jobs", listener.local_addr().unwrap());
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        for opened in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let status = if opened == 0 { status } else { "200 OK" };
            connections.spawn(async move {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let mut piece = [0; 4096];
                while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let client = EdgeClient {
        edge: None,
        ..client_of(&edge())
    };
    let mut statuses = [0; 2];
    for seen in &mut statuses {
        let request = HttpRequest::get(&url).unwrap();
        let answer = client.clone().attempt(request).await.unwrap();
        *seen = answer.status().as_u16();
        answer.into_body().collect().await.unwrap();
    }
    statuses
}

#[tokio::test]
async fn a_server_that_rejects_requests_keeps_no_connection_of_a_balancer() {
    for status in ["400", "403", "429", "500", "503"] {
        let statuses = statuses_behind_a_balancer(status).await;
        assert_eq!(statuses[1], 200, "{statuses:?}");
    }
    for ordinary in ["404", "412"] {
        let statuses = statuses_behind_a_balancer(ordinary).await;
        assert_eq!(statuses[0], statuses[1], "the connection is kept");
    }
}
