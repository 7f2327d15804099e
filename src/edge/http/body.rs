//! The bodies of requests and answers, with deadlines that follow their bytes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use jiff::SignedDuration;
use tokio::time::{Instant, Sleep};

use super::judge::{AskedRequest, Judge, Says, leaves_writes_open};
use super::{ANY, EdgeClient, FLOOR_RATE, HttpAttempt};
use crate::edge::health::{Edge, FailureKind, Request};

/// When the last bytes of a request were handed to the connection, and how long they may take on the wire.
#[derive(Debug, Clone)]
pub(super) struct MovedBytes {
    moved: Arc<Mutex<Moved>>,
    edge: Option<Edge>,
}

#[derive(Debug)]
struct Moved {
    began: Instant,
    /// How many bytes were handed to the connection.
    handed_on: u64,
    /// When the last ones were, or the request began.
    handed_at: Instant,
    /// When they must have arrived.
    due: Instant,
}

/// The most bytes that the connection and the kernel hold before they are sent: what is beyond them has left.
const IN_BUFFERS: u64 = 512 * 1024;

impl Moved {
    /// How long the bytes that may still be in buffers take on the wire: at the rate at which the ones before them left, if any did.
    fn still_on_the_wire(&self, now: Instant) -> Duration {
        let at_most = on_the_wire(self.handed_on.min(IN_BUFFERS));
        match self.handed_on.saturating_sub(IN_BUFFERS) {
            0 => at_most,
            have_left => {
                let seconds = now.duration_since(self.began).as_secs_f64();
                let rest = seconds * IN_BUFFERS as f64 / have_left as f64;
                at_most.min(Duration::from_secs_f64(rest))
            }
        }
    }
}

impl MovedBytes {
    pub(super) fn of(edge: Option<Edge>) -> Self {
        let now = Instant::now();
        let moved = Moved {
            began: now,
            handed_on: 0,
            handed_at: now,
            due: now,
        };
        Self {
            moved: Arc::new(Mutex::new(moved)),
            edge,
        }
    }

    fn moved(&self) -> MutexGuard<'_, Moved> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> Instant {
        self.moved().due
    }

    /// Records bytes that were handed to the connection, which may take their time on the wire.
    pub(super) fn handed_on(&self, bytes: usize) {
        self.edge.iter().for_each(|edge| edge.replied(ANY));
        let (mut moved, now) = (self.moved(), Instant::now());
        moved.handed_on += bytes as u64;
        moved.handed_at = now;
        moved.due = now + moved.still_on_the_wire(now);
    }

    /// How long ago the last bytes were handed to the connection; how long they take on the wire, other answers tell.
    pub(super) fn handed_on_before(&self) -> Duration {
        self.moved().handed_at.elapsed()
    }

    /// Waits until nothing has moved for the given time.
    pub(super) async fn stopped_for(&self, patience: Duration) {
        loop {
            let end = (self.due() + patience).max(Instant::now());
            tokio::time::sleep_until(end).await;
            if end.elapsed() > LATE {
                tokio::time::sleep(AFTER_A_STOP).await;
            }
            if self.due() + patience <= Instant::now() {
                return;
            }
        }
    }
}

/// A timer that is this late was not run: the process, or the machine, was stopped (SIGSTOP, a cgroup's freezer, a paused VM).
const LATE: Duration = Duration::from_secs(1);

/// How long an answer that came in the meantime, and waits in the socket, has after a stop. A dropped answer of a queue would hide
/// its messages for the visibility timeout.
const AFTER_A_STOP: Duration = Duration::from_secs(2);

/// How long a number of bytes may take.
pub(super) fn on_the_wire(bytes: u64) -> Duration {
    Duration::from_secs(bytes / FLOOR_RATE)
}

/// The most bytes that are handed to the connection at once. It takes further ones when it has sent most of those before: a part
/// of an upload that is handed over as a whole would count as on the wire for minutes, although nothing moves.
const HANDED_ON_AT_ONCE: usize = 64 * 1024;

/// A request's body, which records when its bytes are handed to the connection.
pub(super) struct SendingBody {
    unsent: Arc<Mutex<UnsentBody>>,
    moved: MovedBytes,
}

/// What has not been handed to the connection.
struct UnsentBody {
    body: SdkBody,
    /// The rest of a frame that is longer than [`HANDED_ON_AT_ONCE`].
    rest: Bytes,
    /// The request is over, and its body was freed.
    is_over: bool,
}

/// Frees the body of a request at the request's end. A server may answer without reading the body, and its connection would keep
/// a part of many MiB until the connection ends.
pub(super) struct BodyUntilEnd(Arc<Mutex<UnsentBody>>);

impl Drop for BodyUntilEnd {
    fn drop(&mut self) {
        let mut unsent = lock(&self.0);
        if !unsent.is_end() {
            unsent.body = SdkBody::taken();
            unsent.rest = Bytes::new();
            unsent.is_over = true;
        }
    }
}

fn lock(unsent: &Mutex<UnsentBody>) -> MutexGuard<'_, UnsentBody> {
    unsent.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UnsentBody {
    fn is_end(&self) -> bool {
        !self.is_over && self.rest.is_empty() && self.body.is_end_stream()
    }

    /// The next bytes of `rest`: a copy, where a slice would keep the whole frame in memory.
    fn piece(&mut self) -> Bytes {
        if self.rest.len() <= HANDED_ON_AT_ONCE {
            return std::mem::take(&mut self.rest);
        }
        let piece = Bytes::copy_from_slice(&self.rest[..HANDED_ON_AT_ONCE]);
        self.rest.advance(HANDED_ON_AT_ONCE);
        piece
    }
}

impl SendingBody {
    /// The body, and what frees it at the end of its request.
    pub(super) fn new(body: SdkBody, moved: MovedBytes) -> (Self, BodyUntilEnd) {
        let unsent = Arc::new(Mutex::new(UnsentBody {
            body,
            rest: Bytes::new(),
            is_over: false,
        }));
        let until_end = BodyUntilEnd(Arc::clone(&unsent));
        (Self { unsent, moved }, until_end)
    }
}

impl Body for SendingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut unsent = lock(&self.unsent);
        if unsent.is_over {
            let error = "the request ended before its body was sent";
            return Poll::Ready(Some(Err(error.into())));
        }
        if unsent.rest.is_empty() {
            match ready!(Pin::new(&mut unsent.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => unsent.rest = bytes,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => {
                    self.moved.handed_on(0);
                    return Poll::Ready(end);
                }
            }
        }
        let piece = unsent.piece();
        self.moved.handed_on(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.unsent).is_end()
    }

    fn size_hint(&self) -> SizeHint {
        let unsent = lock(&self.unsent);
        let (of_body, rest) = (Body::size_hint(&unsent.body), unsent.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(of_body.lower() + rest);
        hint
    }
}

/// Where the end of an answer is reported.
pub(super) struct AttemptReport {
    /// How long the body may take beside its time on the wire.
    pub(super) patience: Duration,
    /// How much time on the wire it may have at the most.
    pub(super) longest: Duration,
    pub(super) _under_way: Option<Request>,
    pub(super) client: EdgeClient,
    pub(super) attempt: HttpAttempt,
    pub(super) says: Says,
    /// How far the service's clock is ahead of ours, if it is too far.
    pub(super) clock_skew: Option<SignedDuration>,
    /// The pause that the edge asks for.
    pub(super) left_alone: Duration,
    pub(super) asked: AskedRequest,
}

/// An answer's body, which must arrive at [`FLOOR_RATE`]. The answer is reported when its body is complete.
pub(super) struct Receiving {
    body: SdkBody,
    pub(super) judge: Judge,
    pub(super) report: Option<AttemptReport>,
    due: Instant,
    longest: Duration,
    received: u64,
    deadline: Pin<Box<Sleep>>,
    /// Whether bytes are waited for. If it is dropped then, the answer was abandoned and says nothing about the edge.
    is_waiting: bool,
    _sent: Option<BodyUntilEnd>,
}

impl Receiving {
    pub(super) fn new(
        body: SdkBody,
        judge: Judge,
        report: AttemptReport,
        sent: Option<BodyUntilEnd>,
    ) -> Self {
        let due = Instant::now() + report.patience;
        Self {
            body,
            judge,
            longest: report.longest,
            report: Some(report),
            due,
            received: 0,
            deadline: Box::pin(tokio::time::sleep_until(due)),
            is_waiting: false,
            _sent: sent,
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
            clock_skew,
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
        if let (None, Some(edge), Some(skew)) = (failure, &client.edge, clock_skew) {
            match asked.names_a_key {
                // A proxy may repeat an old answer for one key.
                true => edge.doubted(FailureKind::ClockSkew),
                false => edge.failed(FailureKind::ClockSkew, &words_of_skew(skew)),
            }
            return;
        }
        match (failure, &client.edge) {
            (Some((kind, words)), _) => client.failed(attempt, asked.names_a_key, kind, words),
            (None, Some(edge)) => match says.with_code(&self.judge, asked) {
                Says::Well | Says::Denied if !edge.has_right_time() => {}
                // An outage of writes ends with a write.
                Says::Well if leaves_writes_open(&self.judge, asked) && edge.is_failing() => {}
                Says::Well if asked.is_large => edge.answered_large(),
                Says::Well if edge.needs_large() => edge.heard(),
                // An outage in which bodies do not arrive ends with a body.
                Says::Well if asked.is_head && edge.is_failing() => edge.heard(),
                Says::Well if asked.is_probe => edge.probe_answered(),
                Says::Well => edge.answered(),
                Says::Denied => edge.denied(asked.is_probe, &self.judge.words()),
                Says::Unwell(kind) if asked.names_a_key && !self.judge.is_of_the_disk() => {
                    edge.doubted(kind);
                }
                Says::Unwell(kind) => {
                    edge.failed_for(kind, &self.judge.words_of_outage(), left_alone);
                }
            },
            (None, None) => {}
        }
    }

    /// Reports the end of a complete answer. Fails with the reason if the answer is not the store's.
    fn come(&mut self) -> Result<(), BoxError> {
        self.judge.complete();
        if let Some(foreign) = self.judge.refuses(true) {
            if let Some(report) = self.report.take() {
                report.client.failed(
                    report.attempt,
                    report.asked.names_a_key,
                    FailureKind::Unreachable,
                    &foreign.0,
                );
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

fn words_of_skew(skew: SignedDuration) -> String {
    let direction = match skew.is_negative() {
        true => "behind",
        false => "ahead of",
    };
    format!(
        "its clock is {} s {direction} this machine's: set the clock that is wrong (NTP)",
        skew.unsigned_abs().as_secs()
    )
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
                if let Some(error) = self.judge.too_long(self.received) {
                    self.end(Some((FailureKind::ServerError, &error.to_string())));
                    return Poll::Ready(Some(Err(error.into())));
                }
                // Without this limit, a store that trickles would hold a slot indefinitely.
                let due = self.due + on_the_wire(self.received).min(self.longest);
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
