//! `/metrics`, `/live` and `/ready`, for a supervisor and a scraper on this machine.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::metrics::{self, MetricsFormat};
use super::notify::Pulse;
use crate::audit::log::Watch;
use crate::audit::retention::RetentionCounts;
use crate::database::DatabaseWatch;
use crate::edge::health::Edges;
use crate::feedback_intake::FeedbackCounts;
use crate::intake::IntakeCounts;
use crate::mounted;
use crate::portal::PortalCounts;
use crate::progress::Progress;
use crate::scheduler::ScheduleCounts;
use crate::spans::SpanCounts;

/// The maximum duration of a connection: request, answer, and the client's reading of it. The answer is made from memory.
const CONNECTION_TIME: Duration = Duration::from_secs(5);

/// The maximum number of clients at once; a scraper and a supervisor are two. A further client closes the oldest connection, so
/// that idle or slow clients cannot block others.
const MAX_CONNECTIONS: usize = 32;

/// How many file descriptors are held back for connections, so that `/live` answers while the process has no other left, and
/// how often used ones are replaced.
const SPARE_DESCRIPTORS: usize = 4;
const REPLACED_EVERY: Duration = Duration::from_millis(50);

/// The sources of the answers.
#[derive(Debug, Clone, Default)]
pub struct Health {
    phase: Arc<Mutex<Phase>>,
}

#[derive(Debug)]
enum Phase {
    /// The program is starting; with the reason if it cannot start yet.
    Starting(Option<String>),
    /// The program is running.
    Running(Vitals),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Starting(None)
    }
}

/// The state of a running program.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// The counters.
    pub progress: Progress,
    /// Whether the worker makes progress; `None` where the portal runs alone.
    pub pulse: Option<Pulse>,
    /// Whether links can be recorded.
    pub audit: Watch,
    /// Whether the database is the one that was opened.
    pub database: DatabaseWatch,
    /// The dependencies of the jobs.
    pub edges: Edges,
    /// The portal, if it is served.
    pub portal: Option<PortalCounts>,
    /// The schedules, where a worker starts their jobs.
    pub schedules: Option<ScheduleCounts>,
    /// The intake, if it is served.
    pub intake: Option<IntakeCounts>,
    /// The retention of the audit log, if there is one.
    pub retention: Option<RetentionCounts>,
    /// Bounces and complaints, if they are taken in.
    pub feedback: Option<FeedbackCounts>,
    /// The spans that are exported.
    pub spans: SpanCounts,
}

impl Health {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records why the start is waiting.
    pub fn waits_for(&self, reason: String) {
        *self.phase() = Phase::Starting(Some(reason));
    }

    /// Whether the program is still starting.
    pub fn is_starting(&self) -> bool {
        matches!(&*self.phase(), Phase::Starting(_))
    }

    /// Records that the program is running.
    pub fn runs(&self, vitals: Vitals) {
        *self.phase() = Phase::Running(vitals);
    }

    /// The metrics; of a program that is starting, none.
    fn metrics(&self, format: MetricsFormat) -> String {
        match &*self.phase() {
            Phase::Starting(_) => match format {
                MetricsFormat::Text => String::new(),
                MetricsFormat::OpenMetrics => "# EOF\n".to_owned(),
            },
            Phase::Running(vitals) => {
                vitals.edges.look();
                metrics::text(vitals, format)
            }
        }
    }

    /// Why the program is not live; a restart helps.
    fn not_live(&self) -> Option<String> {
        match &*self.phase() {
            Phase::Running(vitals)
                if vitals
                    .pulse
                    .as_ref()
                    .is_some_and(|pulse| !pulse.is_beating()) =>
            {
                Some("the worker's loop has not moved for a minute and a half".to_owned())
            }
            Phase::Starting(_) | Phase::Running(_) => None,
        }
    }

    /// What does not work while the program is ready: one sentence for each outage.
    fn partly_ready(&self) -> Vec<String> {
        match &*self.phase() {
            Phase::Running(vitals) => {
                let outages = vitals.edges.partial_troubles();
                outages.iter().map(ToString::to_string).collect()
            }
            Phase::Starting(_) => Vec::new(),
        }
    }

    /// Why the program is not ready: one sentence for each reason.
    fn not_ready(&self) -> Vec<String> {
        match &*self.phase() {
            Phase::Starting(None) => vec!["starting".to_owned()],
            Phase::Starting(Some(reason)) => vec![format!("starting: {reason}")],
            Phase::Running(vitals) => {
                vitals.edges.look();
                let failed = vitals
                    .audit
                    .failure()
                    .map(|failure| crate::text::chain(failure));
                let replaced = vitals.database.failure().map(|error| error.to_string());
                let full = vitals
                    .audit
                    .room()
                    .check()
                    .err()
                    .map(|full| full.to_string());
                let outages = vitals.edges.troubles();
                let unheard = vitals.pulse.is_some()
                    && vitals.progress.snapshot().polls == 0
                    && outages.is_empty();
                let unheard = unheard.then(|| "the queue has not answered yet".to_owned());
                failed
                    .into_iter()
                    .chain(replaced)
                    .chain(full)
                    .chain(unheard)
                    .chain(outages.iter().map(ToString::to_string))
                    .chain(mounted::hanging())
                    .collect()
            }
        }
    }
}

/// Binds the address, so that a port conflict shows at start.
pub fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// File descriptors that are held back, as copies of the listener's. Clones are the same descriptors.
#[derive(Clone)]
struct SpareDescriptors {
    held: Arc<Mutex<Vec<OwnedFd>>>,
    of: Arc<OwnedFd>,
}

impl SpareDescriptors {
    fn of(listener: &std::net::TcpListener) -> io::Result<Self> {
        let spare = Self {
            held: Arc::default(),
            of: Arc::new(listener.as_fd().try_clone_to_owned()?),
        };
        spare.replace();
        Ok(spare)
    }

    fn held(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn are_missing(&self) -> bool {
        self.held().len() < SPARE_DESCRIPTORS
    }

    /// Takes descriptors until all are held, or the process has none left.
    fn replace(&self) {
        while self.are_missing() {
            let Ok(copy) = self.of.try_clone() else {
                return;
            };
            self.held().push(copy);
        }
    }

    /// Closes one, for the next connection. `false` if none is left.
    fn give_up_one(&self) -> bool {
        self.held().pop().is_some()
    }

    /// Closes a connection. While spare descriptors are missing its own becomes one in the same step, so that no other part of
    /// the program can take it in between.
    fn close(&self, stream: TcpStream) {
        if self.are_missing()
            && let Ok(stream) = stream.into_std()
        {
            let mut descriptor = OwnedFd::from(stream);
            if rustix::io::dup2(&self.of, &mut descriptor).is_ok() {
                self.held().push(descriptor);
            }
        }
    }
}

/// Whether a connection waits to be accepted.
fn is_waiting(listener: &TcpListener) -> bool {
    let mut readable = [PollFd::new(listener, PollFlags::IN)];
    rustix::event::poll(&mut readable, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Answers until the task is dropped. Fails if the runtime cannot watch the listener.
pub async fn serve(listener: std::net::TcpListener, health: Health) -> io::Result<Infallible> {
    let spare = SpareDescriptors::of(&listener)?;
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(REPLACED_EVERY), if spare.are_missing() => {
                spare.replace();
                continue;
            }
        };
        let Ok((stream, _)) = accepted else {
            // The process or the system is out of file descriptors. Linux says so before it looks for a connection.
            if !is_waiting(&listener) || !spare.give_up_one() {
                tokio::time::sleep(REPLACED_EVERY).await;
                spare.replace();
            }
            continue;
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|connection| !connection.is_finished());
        while oldest_first.len() >= MAX_CONNECTIONS {
            let oldest = oldest_first.pop_front();
            oldest.iter().for_each(AbortHandle::abort);
        }
        let (health, spare) = (health.clone(), spare.clone());
        oldest_first.push_back(connections.spawn(async move {
            let answers = service_fn(move |request: Request<hyper::body::Incoming>| {
                ready(Ok::<_, Infallible>(answer(&request, &health)))
            });
            let mut conversation = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(CONNECTION_TIME)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answers);
            let served = poll_fn(|context| conversation.poll_without_shutdown(context));
            // A client that disconnects or exceeds the time limit is not worth a log line.
            drop(timeout(CONNECTION_TIME, served).await);
            spare.close(conversation.into_parts().io.into_inner());
        }));
    }
}

fn answer<B>(request: &Request<B>, health: &Health) -> Response<Full<Bytes>> {
    let accepts = request.headers().get_all(hyper::header::ACCEPT).iter();
    let accepts: Vec<&str> = accepts.filter_map(|value| value.to_str().ok()).collect();
    let mut content_type = MetricsFormat::Text.content_type();
    let said = |reasons: &[String]| match reasons {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    };
    let (status, text) = match request.uri().path() {
        "/metrics" => {
            let format = MetricsFormat::accepted(&accepts.join(","));
            content_type = format.content_type();
            (StatusCode::OK, health.metrics(format))
        }
        "/live" => said(health.not_live().as_slice()),
        "/ready" => {
            let reasons: Vec<String> = health
                .not_live()
                .into_iter()
                .chain(health.not_ready())
                .collect();
            let (status, mut text) = said(&reasons);
            // A probe that took these for an outage would take all links from their readers.
            for outage in health.partly_ready() {
                text.push_str(&outage);
                text.push('\n');
            }
            (status, text)
        }
        _ => (
            StatusCode::NOT_FOUND,
            "there are /metrics, /live and /ready\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    // The formats have one address.
    headers.insert(
        hyper::header::VARY,
        hyper::header::HeaderValue::from_static("accept"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn clients_that_say_nothing_or_do_not_read_keep_no_other_from_its_answer() {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let asks = async {
            let mut idle = Vec::new();
            for number in 0..3 * MAX_CONNECTIONS {
                let mut stream = TcpStream::connect(address).await.unwrap();
                if number % 2 == 0 {
                    drop(stream.write_all(b"GET /ready HTTP/1.1\r\n").await);
                }
                idle.push(stream);
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /live HTTP/1.1\r\nHost: h\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            // To its end: the connection is closed after the answer.
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        };
        tokio::select! {
            ended = serve(listener, Health::default()) => panic!("{ended:?}"),
            asked = timeout(Duration::from_secs(2), asks) => asked.expect("it is answered at once"),
        }
    }
}
