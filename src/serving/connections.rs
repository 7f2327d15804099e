//! Accepts connections and serves requests on them until it is told to stop, then lets the requests that are being answered end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;

use super::room::{AnswerGuard, ConnectionRoom, RoomPlace};
use super::tls::ServerTls;
use crate::bounds::{MAX_HANDSHAKE_TIME, MAX_HEAD_BYTES, MAX_HEAD_TIME, MAX_WRITE_STALL};
use crate::repeated::RepeatedLine;

/// How often it is looked, after the stop, whether an answer is complete.
const STOP_TICK: Duration = Duration::from_millis(500);

/// The size of the kernel's buffer for a reader, in bytes; Linux doubles it.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// The pause after a connection could not be accepted, because descriptors are missing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An answer on its way.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Answers the requests of a server.
pub(crate) trait RequestAnswers: Clone + Send + Sync + 'static {
    /// Answers a request of a connection from `peer`: the client's address, or a proxy's. While the request is not complete, the
    /// connection may be closed for another; see [`RoomPlace::answers`].
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        place: Arc<RoomPlace>,
    ) -> AnswerFuture;
}

/// What connections are served with.
#[derive(Clone)]
pub(crate) struct ServedConnections<A> {
    /// The server's name in log lines, which is that of its section of the configuration.
    pub(crate) name: &'static str,
    pub(crate) answers: A,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) room: ConnectionRoom,
    /// How long requests that are being answered may take after the stop.
    pub(crate) grace: Duration,
}

/// What becomes of connections that arrive after the stop.
pub(crate) enum Drain {
    /// The system refuses them, so that a client gets an error instead of waiting.
    Closed,
    /// They are served until the token is cancelled, each for one request, which is told that it is late.
    Served(CancellationToken),
}

/// Binds the address, so that a conflict shows at the start.
///
/// # Errors
/// What the operating system said.
pub fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until `stop`, then waits for the requests that are being answered.
///
/// # Errors
/// The runtime cannot watch the listener.
pub(crate) async fn serve<A: RequestAnswers>(
    listener: std::net::TcpListener,
    served: ServedConnections<A>,
    stop: CancellationToken,
    drain: Drain,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let tls = served.tls.clone();
    let follows = async {
        match &tls {
            Some(tls) => tls.follow_files().await,
            None => pending().await,
        }
    };
    let mut follows = std::pin::pin!(follows);
    let acceptor = Acceptor {
        listener,
        served,
        not_accepted: RepeatedLine::default(),
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.next() => accepted,
            () = stop.cancelled() => break,
            () = &mut follows => continue,
            Some(_) = connections.join_next() => continue,
        };
        if let Some(connection) = accepted {
            connections.spawn(connection.converse(stop.clone(), false));
        }
    }
    match drain {
        Drain::Closed => drop(acceptor),
        Drain::Served(drained) => {
            let mut late = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = acceptor.next() => accepted,
                    () = drained.cancelled() => break,
                    Some(_) = connections.join_next() => continue,
                    Some(_) = late.join_next() => continue,
                };
                if let Some(connection) = accepted {
                    late.spawn(connection.converse(CancellationToken::new(), true));
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Accepts the connections of a server.
struct Acceptor<A> {
    listener: TcpListener,
    served: ServedConnections<A>,
    not_accepted: RepeatedLine,
}

/// A connection that has a place.
struct AcceptedConnection<A> {
    stream: TcpStream,
    peer: IpAddr,
    served: ServedConnections<A>,
    place: Arc<RoomPlace>,
}

impl<A: RequestAnswers> Acceptor<A> {
    /// The next connection; `None` if it was closed at once, or could not be accepted.
    async fn next(&self) -> Option<AcceptedConnection<A>> {
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                // While all connections are being answered, a further one is closed at once.
                let place = self.served.room.enter()?;
                Some(AcceptedConnection {
                    stream,
                    peer: peer.ip(),
                    served: self.served.clone(),
                    place,
                })
            }
            Err(error) => {
                let is_closed = self.served.room.close_longest_waiting();
                if !is_closed && let Some(not_logged) = self.not_accepted.due() {
                    let server = self.served.name;
                    tracing::warn!(server, %error, not_logged, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

impl<A: RequestAnswers> AcceptedConnection<A> {
    /// The handshake, if TLS ends here, and the requests of one connection; a single one of a connection that came late.
    async fn converse(self, stop: CancellationToken, is_late: bool) {
        let Self {
            stream,
            peer,
            served,
            place,
        } = self;
        // RequestAnswers are written at once; there is nothing to collect.
        drop(stream.set_nodelay(true));
        // A slow reader is written to in small steps: a large buffer of the kernel takes longer to become writable than
        // `MAX_WRITE_STALL`, and costs memory for each connection.
        drop(SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES));
        let server = served.name;
        let requests = ConnectionRequests {
            answers: served.answers,
            peer,
            place,
        };
        let course = ConnectionCourse {
            stop,
            grace: served.grace,
            is_late,
            server,
        };
        let Some(tls) = &served.tls else {
            return serve_requests(stream, requests, course).await;
        };
        let handshake = timeout(MAX_HANDSHAKE_TIME, tls.acceptor().accept(stream));
        let stream = tokio::select! {
            stream = handshake => stream,
            () = requests.place.must_close() => return,
            () = course.stop.cancelled() => return,
        };
        match stream {
            Ok(Ok(stream)) => serve_requests(stream, requests, course).await,
            Ok(Err(error)) => tracing::debug!(server, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(server, "a TLS handshake took too long"),
        }
    }
}

/// How a connection ends.
struct ConnectionCourse {
    stop: CancellationToken,
    grace: Duration,
    is_late: bool,
    server: &'static str,
}

async fn serve_requests<A: RequestAnswers>(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    requests: ConnectionRequests<A>,
    course: ConnectionCourse,
) {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(MAX_WRITE_STALL));
    let place = Arc::clone(&requests.place);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(!course.is_late)
        .serve_connection(TokioIo::new(Box::pin(stream)), requests);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.must_close() => return,
        () = course.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let Some(ended) = last_answer(connection.as_mut(), &place, course.grace).await else {
                return;
            };
            ended
        }
    };
    if let Err(error) = ended {
        // Clients disconnect at any time.
        tracing::debug!(server = course.server, %error, "a connection ended early");
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

/// The requests of one connection.
struct ConnectionRequests<A> {
    answers: A,
    peer: IpAddr,
    place: Arc<RoomPlace>,
}

impl<A: RequestAnswers> Service<Request<Incoming>> for ConnectionRequests<A> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = self
            .answers
            .answer(request, self.peer, Arc::clone(&self.place));
        Box::pin(async { Ok(answer.await) })
    }
}

/// A body that keeps its connection from being closed for another until it is sent.
pub(crate) fn held_by(body: Body, guard: AnswerGuard) -> Body {
    Body::new(HeldBody {
        body,
        _guard: guard,
    })
}

struct HeldBody {
    body: Body,
    _guard: AnswerGuard,
}

impl hyper::body::Body for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
