//! Accepts, limits and closes connections.
//!
//! This module handles HTTP. Its only knowledge of S3 is that `Sites` admits a request and s3s then answers it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, DATE, HeaderValue};
use hyper::http::request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::Body;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::instrument::WithSubscriber;

use crate::access_log::{AccessLogSlot, LoggedRequest};
use crate::backend::{Backend, OurOperations};
use crate::below::PublicUrl;
use crate::bounds::{MAX_HEAD_BYTES, MAX_HEAD_TIME, MAX_WRITE_STALL, MIN_WRITTEN_BYTES};
use crate::claim::{now, wrong_signature};
use crate::objects::ObjectRoute;
use crate::patience::Patient;
use crate::people::{PagesSlot, Reader};
use crate::rejection::{Rejection, code_of, with_message};
use crate::room::{ConnectionPlace, Room, ServedResponse};
use crate::scope::Sites;

/// The pause when the system is out of file descriptors; an immediate retry would only use CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests.
#[derive(Clone)]
pub(crate) struct Service {
    sites: Sites,
    public_url: PublicUrl,
    /// Whether the operator was told that a proxy changes `Host`.
    told_of_host: Arc<AtomicBool>,
    s3: S3Service,
    pages: PagesSlot,
    log: AccessLogSlot,
}

impl Service {
    pub(crate) fn new(
        sites: Sites,
        public_url: PublicUrl,
        pages: PagesSlot,
        log: AccessLogSlot,
    ) -> Self {
        let backend = Backend::new(sites.clone());
        let mut builder = S3ServiceBuilder::new(backend.clone());
        builder.set_route(ObjectRoute(backend));
        builder.set_auth(sites.clone());
        builder.set_access(OurOperations);
        Self {
            sites,
            public_url,
            told_of_host: Arc::default(),
            s3: builder.build(),
            pages,
            log,
        }
    }

    /// Answers a request. A connection without a signed request is closed after the answer.
    async fn respond(
        &self,
        request: Request<Incoming>,
        place: &ConnectionPlace,
        peer: SocketAddr,
    ) -> Response<HttpAnswer> {
        let (head, body) = request.into_parts();
        let reader = Reader::of(&head);
        let log = self.log.as_ref();
        let mut logged = log.map(|log| LoggedRequest::new(log, &head, peer));
        let answer = self.answer(Request::from_parts(head, body), place).await;
        if let Some(logged) = &mut logged {
            logged.answers(&answer, code_of(&answer));
        }
        let mut response = match reader {
            Some(reader) => reader.told(answer, &self.pages),
            None => answer,
        };
        // hyper dates answers too, but its clock stands still after the system's clock was set back, until that has caught up.
        // <https://docs.rs/hyper/1/hyper/server/conn/http1/struct.Builder.html#method.auto_date_header>
        if let Ok(date) =
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now())
            && let Ok(date) = HeaderValue::from_str(&date)
        {
            response.headers_mut().insert(DATE, date);
        }
        let served = place.served();
        if served.is_none() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response.map(|body| HttpAnswer {
            body,
            logged,
            _served: served,
        })
    }

    async fn answer(&self, request: Request<Incoming>, place: &ConnectionPlace) -> Response<Body> {
        let (head, body) = request.into_parts();
        if let Err(rejection) = self.sites.admit(&head, now()) {
            return rejection.into_response();
        }
        // s3s takes the request; only a link with another host is looked at again.
        let is_suspect = self.public_url.other_host(&head).is_some();
        let arrived = is_suspect.then(|| head.clone());
        let response = self.admitted(head, body, place).await;
        let is_wrong = || code_of(&response).as_deref() == Some("SignatureDoesNotMatch");
        match arrived.filter(|_| is_wrong()) {
            Some(head) if self.public_url.was_signed_for_it(&self.sites, &head) => {
                self.host_changed(&head).into_response()
            }
            Some(_) | None => with_message(response),
        }
    }

    async fn admitted(
        &self,
        mut head: request::Parts,
        body: Incoming,
        place: &ConnectionPlace,
    ) -> Response<Body> {
        if let Err(rejection) = self.public_url.take_off(&self.sites, &mut head) {
            return rejection.into_response();
        }
        // For the access check, which runs after the signature was verified.
        head.extensions.insert(place.clone());
        let request = Request::from_parts(head, Body::from(body));
        // s3s writes requests, including signatures, to its debug log. A working link must not be in a log at any level.
        let answered = self
            .s3
            .call(request)
            .with_subscriber(tracing::Dispatch::none())
            .await;
        answered.unwrap_or_else(|_| internal_error())
    }

    /// The answer to a link whose host a proxy has changed. The operator is told once: each link has the same fault.
    fn host_changed(&self, head: &request::Parts) -> Rejection {
        let (expected, arrived) = self.public_url.other_host(head).unwrap_or_default();
        if !self.told_of_host.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: crate::LOG_TARGET,
                arrived,
                expected,
                "a proxy in front of the embedded endpoint changes the Host header: links do not open until it passes Host unchanged"
            );
        }
        wrong_signature(&format!(
            "The link is for {expected}, and the Host header was changed on the way here: the proxy must pass Host unchanged."
        ))
    }
}

/// The response body, and the slot that it holds until it is sent.
struct HttpAnswer {
    body: Body,
    /// The request's line in the access log.
    logged: Option<LoggedRequest>,
    _served: Option<ServedResponse>,
}

impl hyper::body::Body for HttpAnswer {
    type Data = Bytes;
    type Error = <Body as hyper::body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let this = &mut *self;
        if let (Poll::Ready(Some(Ok(frame))), Some(logged)) = (&frame, &mut this.logged) {
            logged.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn internal_error() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Accepts connections until the stop signal, then waits for the open ones.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Service,
    mut stop: watch::Receiver<bool>,
) {
    let room = Room::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(converse(
                    (stream, peer),
                    service.clone(),
                    room.enter(),
                    stop.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(target: crate::LOG_TARGET, %error, "the embedded endpoint could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closed first, so that a new client gets an error instead of waiting.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits for the stop signal; a dropped sender counts as one.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _told = stop.wait_for(|stop| *stop).await;
}

/// Serves the requests of one connection; after the stop signal, it finishes the current one.
async fn converse(
    (stream, peer): (TcpStream, SocketAddr),
    service: Service,
    place: ConnectionPlace,
    mut stop: watch::Receiver<bool>,
) {
    let respond = service_fn(async |request| {
        Ok::<_, Infallible>(service.respond(request, &place, peer).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(
            TokioIo::new(Patient::new(
                stream,
                MAX_WRITE_STALL,
                MIN_WRITTEN_BYTES,
                place.moved(),
            )),
            respond,
        );
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.must_close() => return,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients disconnect at any time.
        tracing::debug!(target: crate::LOG_TARGET, %error, "a connection to the embedded endpoint ended early");
    }
}
