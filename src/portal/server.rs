//! Accepts connections and serves requests on them until it is told to stop, then lets the requests that are being answered end.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;

use super::answer;
use super::form;
use super::oidc::OIDC_CALLBACK_PATH;
use super::room::{PortalRoom, RoomPlace};
use super::tls::PortalTls;
use crate::bounds::{
    MAX_OIDC_CALLBACK_BYTES, MAX_PORTAL_ANSWER_TIME, MAX_PORTAL_HANDSHAKE_TIME,
    MAX_PORTAL_HEAD_BYTES, MAX_PORTAL_HEAD_TIME, MAX_PORTAL_TARGET_BYTES, MAX_PORTAL_WRITE_STALL,
};
use crate::repeated::RepeatedLine;

/// How often it is looked, after the stop, whether an answer is complete.
const STOP_TICK: Duration = Duration::from_millis(500);

/// The size of the kernel's buffer for a reader, in bytes; Linux doubles it.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// The pause after a connection could not be accepted, because descriptors are missing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address of the other side of a connection: the reader's, or a proxy's.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerAddress(pub(super) IpAddr);

/// Binds the address, so that a conflict shows at the start.
///
/// # Errors
/// What the operating system said.
pub fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What connections are served with.
#[derive(Clone)]
pub(super) struct ServedRoutes {
    pub(super) router: Router,
    pub(super) tls: Option<PortalTls>,
    pub(super) room: PortalRoom,
    /// How long requests that are being answered may take after the stop.
    pub(super) grace: Duration,
}

/// Serves until `stop`, then waits for the requests that are being answered.
///
/// # Errors
/// The runtime cannot watch the listener.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    served: ServedRoutes,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let follows = async {
        match &served.tls {
            Some(tls) => tls.follow_files().await,
            None => std::future::pending().await,
        }
    };
    let mut follows = std::pin::pin!(follows);
    let (mut connections, not_accepted) = (JoinSet::new(), RepeatedLine::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
            () = &mut follows => continue,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                // While all connections are being answered, a further one is closed at once.
                if let Some(place) = served.room.enter() {
                    let converse = converse(stream, peer.ip(), served.clone(), place, stop.clone());
                    connections.spawn(converse);
                }
            }
            Err(error) => {
                let is_closed = served.room.close_longest_waiting();
                if !is_closed && let Some(not_logged) = not_accepted.due() {
                    tracing::warn!(%error, not_logged, "the portal could not accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closed first, so that a new client gets an error instead of waiting.
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// The handshake, if TLS ends here, and the requests of one connection.
async fn converse(
    stream: TcpStream,
    peer: IpAddr,
    served: ServedRoutes,
    place: Arc<RoomPlace>,
    stop: CancellationToken,
) {
    // Answers are written at once; there is nothing to collect.
    drop(stream.set_nodelay(true));
    // A slow reader is written to in small steps: a large buffer of the kernel takes longer to become writable than
    // `MAX_PORTAL_WRITE_STALL`, and costs memory for each connection.
    drop(SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES));
    let grace = served.grace;
    let Some(tls) = &served.tls else {
        return serve_requests(stream, peer, served.router, place, (stop, grace)).await;
    };
    let handshake = timeout(MAX_PORTAL_HANDSHAKE_TIME, tls.acceptor().accept(stream));
    let stream = tokio::select! {
        stream = handshake => stream,
        () = place.must_close() => return,
        () = stop.cancelled() => return,
    };
    match stream {
        Ok(Ok(stream)) => {
            serve_requests(stream, peer, served.router, place, (stop, grace)).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the portal failed"),
        Err(_) => tracing::debug!("a TLS handshake with the portal took too long"),
    }
}

async fn serve_requests(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    peer: IpAddr,
    router: Router,
    place: Arc<RoomPlace>,
    (stop, grace): (CancellationToken, Duration),
) {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(MAX_PORTAL_WRITE_STALL));
    let requests = PortalRequests {
        router: TowerToHyperService::new(router),
        peer: PeerAddress(peer),
        place: Arc::clone(&place),
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_PORTAL_HEAD_TIME)
        .max_buf_size(MAX_PORTAL_HEAD_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), requests);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.must_close() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let Some(ended) = last_answer(connection.as_mut(), &place, grace).await else {
                return;
            };
            ended
        }
    };
    if let Err(error) = ended {
        // Clients disconnect at any time.
        tracing::debug!(%error, "a connection to the portal ended early");
    }
}

/// Waits after the stop for the answer that a connection is about, at most for `grace`. A connection whose request is not there
/// yet is not waited for. `None` if it must be closed.
async fn last_answer<T>(
    mut connection: Pin<&mut impl Future<Output = T>>,
    place: &RoomPlace,
    grace: Duration,
) -> Option<T> {
    let (stopped, mut waited) = (Instant::now(), false);
    loop {
        if let Ok(ended) = timeout(STOP_TICK, connection.as_mut()).await {
            return Some(ended);
        }
        // An answer that has just ended may have bytes that are not sent yet.
        if place.is_waiting() && waited || stopped.elapsed() >= grace {
            return None;
        }
        waited = place.is_waiting();
    }
}

/// The routes, for the requests of one connection.
struct PortalRequests {
    router: TowerToHyperService<Router>,
    peer: PeerAddress,
    place: Arc<RoomPlace>,
}

impl Service<Request<Incoming>> for PortalRequests {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let target = request
            .uri()
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        let most = match request.uri().path() {
            // Authorization codes of some providers are long.
            OIDC_CALLBACK_PATH => MAX_OIDC_CALLBACK_BYTES,
            _ => MAX_PORTAL_TARGET_BYTES,
        };
        if target > most {
            return Box::pin(async { Ok(answer::plain(StatusCode::URI_TOO_LONG)) });
        }
        request.extensions_mut().insert(self.peer);
        let (router, place) = (self.router.clone(), Arc::clone(&self.place));
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let body = match parts.method {
                Method::POST => match form::collect(body).await {
                    Ok(bytes) => Body::from(bytes),
                    Err(fault) => {
                        parts.extensions.insert(fault);
                        Body::empty()
                    }
                },
                _ => Body::new(body),
            };
            let guard = place.answers();
            let answering = router.call(Request::from_parts(parts, body));
            // What an answer waits for has deadlines of its own; together they can be longer than readers wait.
            let answered = timeout(MAX_PORTAL_ANSWER_TIME, answering).await;
            let answered = answered.unwrap_or_else(|_| Ok(answer::late()));
            // The guard goes with the body: an answer is being read until its end.
            answered.map(|answered| answered.map(|body| answer::held_by(body, guard)))
        })
    }
}
