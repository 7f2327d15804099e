//! The connections: accepting them, bounding them, and ending them.
//!
//! It knows HTTP and nothing of S3 but that a request is admitted by `Sites` and then answered by s3s.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::Body;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::instrument::WithSubscriber;

use super::backend::{Backend, OurOperations};
use super::patience::Patient;
use super::scope::Sites;

/// Most connections at once; more wait in the kernel's queue. A file and two buffers each, this is far below the
/// 1,024 open files that a process gets by default.
const MOST_CONNECTIONS: usize = 256;

/// Longest time for the head of a request, and between two requests. Who holds a connection without asking for anything
/// keeps it from others.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest request head: a link with a session token takes 5 KB, and S3 itself stops at 8 KB of headers.
const LONGEST_HEAD: usize = 32 << 10;

/// Longest time in which a client takes nothing of what we send.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait when the system has no more files for a connection; trying at once again would only heat the room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests.
#[derive(Clone)]
pub(super) struct Service {
    sites: Sites,
    s3: S3Service,
}

impl Service {
    pub(super) fn new(sites: Sites) -> Self {
        let mut builder = S3ServiceBuilder::new(Backend::new(sites.clone()));
        builder.set_auth(sites.clone());
        builder.set_access(OurOperations);
        Self {
            sites,
            s3: builder.build(),
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if let Err(refusal) = self.sites.admit(&head) {
            return refusal
                .to_http_response()
                .unwrap_or_else(|_| internal_error());
        }
        let request = Request::from_parts(head, Body::from(body));
        // s3s writes requests into its debug log, signatures and all. A link that works must not be in a log at any level.
        let answered = self
            .s3
            .call(request)
            .with_subscriber(tracing::Dispatch::none())
            .await;
        answered.unwrap_or_else(|_| internal_error())
    }
}

fn internal_error() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Accepts connections until told to stop, then waits for those that are open.
pub(super) async fn serve(
    listener: TcpListener,
    service: Service,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, slot)) => {
                let (service, stop) = (service.clone(), stop.clone());
                connections.spawn(async move {
                    converse(stream, service, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the embedded endpoint could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closed first, so that a client who comes now is told, rather than left waiting.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _peer): (_, SocketAddr) = listener.accept().await?;
    Ok((stream, slot))
}

/// Waits until told to stop; a sender that is gone says so too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _told = stop.wait_for(|stop| *stop).await;
}

/// Serves the requests of one connection; told to stop, it finishes the one in progress.
async fn converse(stream: TcpStream, service: Service, mut stop: watch::Receiver<bool>) {
    let respond = service_fn(|request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(Patient::new(stream, READ_TIMEOUT)), respond);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients go away as they please.
        tracing::debug!(%error, "a connection to the embedded endpoint broke off");
    }
}
