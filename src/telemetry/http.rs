//! `/metrics`, `/live` and `/ready`, for a supervisor and a scraper on this machine.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::metrics;
use super::notify::Pulse;
use crate::audit::log::Watch;
use crate::edge::health::Edges;
use crate::progress::Progress;

/// How long a client may take to say what it wants.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How many clients are answered at once; a scraper and a supervisor are two.
const MOST_CONNECTIONS: usize = 32;

/// What the answers are made of.
#[derive(Debug, Clone, Default)]
pub struct Health {
    phase: Arc<Mutex<Phase>>,
}

#[derive(Debug)]
enum Phase {
    /// The program starts; why it cannot yet, if it cannot.
    Starting(Option<String>),
    /// It works.
    Running(Vitals),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Starting(None)
    }
}

/// What is known of a program that works.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// The counters.
    pub progress: Progress,
    /// Whether the worker moves.
    pub pulse: Pulse,
    /// Whether links can be recorded.
    pub audit: Watch,
    /// What it needs.
    pub edges: Edges,
}

impl Health {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start waits for something.
    pub fn waits_for(&self, reason: String) {
        *self.phase() = Phase::Starting(Some(reason));
    }

    /// The start is over.
    pub fn runs(&self, vitals: Vitals) {
        *self.phase() = Phase::Running(vitals);
    }

    fn metrics(&self) -> String {
        match &*self.phase() {
            Phase::Starting(_) => String::new(),
            Phase::Running(vitals) => {
                vitals.edges.look();
                metrics::text(&vitals.progress.snapshot(), &vitals.edges)
            }
        }
    }

    /// Why the program does not live; a restart helps.
    fn not_live(&self) -> Option<String> {
        match &*self.phase() {
            Phase::Running(vitals) if !vitals.pulse.is_beating() => {
                Some("the worker's loop has not moved for a minute and a half".to_owned())
            }
            Phase::Starting(_) | Phase::Running(_) => None,
        }
    }

    /// Why the program is not ready: one sentence for each reason.
    fn not_ready(&self) -> Vec<String> {
        match &*self.phase() {
            Phase::Starting(None) => vec!["starting".to_owned()],
            Phase::Starting(Some(reason)) => vec![format!("starting: {reason}")],
            Phase::Running(vitals) => {
                vitals.edges.look();
                let full = vitals
                    .audit
                    .room()
                    .check()
                    .err()
                    .map(|full| full.to_string());
                let outages = vitals.edges.troubles();
                let unheard = vitals.progress.snapshot().polls == 0 && outages.is_empty();
                let unheard = unheard.then(|| "the queue has not answered yet".to_owned());
                full.into_iter()
                    .chain(unheard)
                    .chain(outages.iter().map(ToString::to_string))
                    .collect()
            }
        }
    }
}

/// Binds the address, so that a port that is taken shows at the start.
pub async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

/// Answers until the task is dropped.
pub async fn serve(listener: TcpListener, health: Health) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let health = health.clone();
        connections.spawn(async move {
            let answers = service_fn(move |request: Request<hyper::body::Incoming>| {
                let response = answer(request.uri().path(), &health);
                async move { Ok::<_, Infallible>(response) }
            });
            let conversation = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answers);
            // A client that goes away is no news.
            drop(conversation.await);
        });
    }
}

fn answer(path: &str, health: &Health) -> Response<Full<Bytes>> {
    let said = |reasons: &[String]| match reasons {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    };
    let (status, text) = match path {
        "/metrics" => (StatusCode::OK, health.metrics()),
        "/live" => said(health.not_live().as_slice()),
        "/ready" => {
            let reasons: Vec<String> = health
                .not_live()
                .into_iter()
                .chain(health.not_ready())
                .collect();
            said(&reasons)
        }
        _ => (
            StatusCode::NOT_FOUND,
            "there are /metrics, /live and /ready\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, plain);
    response
}
