//! `/metrics`, `/live` and `/ready`, for a supervisor and a scraper on this machine.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
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
use crate::progress::Progress;

/// How long a client may take to say what it wants.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How many clients are answered at once; a scraper and a supervisor are two.
const MOST_CONNECTIONS: usize = 32;

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct Health {
    /// The counters.
    pub progress: Progress,
    /// Whether the worker moves.
    pub pulse: Pulse,
    /// Whether links can be recorded.
    pub audit: Watch,
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
    let (status, text) = match path {
        "/metrics" => (StatusCode::OK, metrics::text(&health.progress.snapshot())),
        "/live" | "/ready" if !health.pulse.is_beating() => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the worker does not get answers from its queue\n".to_owned(),
        ),
        "/ready" => match health.audit.room().check() {
            Err(full) => (StatusCode::SERVICE_UNAVAILABLE, format!("{full}\n")),
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        },
        "/live" => (StatusCode::OK, "ok\n".to_owned()),
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
