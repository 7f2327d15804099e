//! `deliver = "stream"`: files through this process, for stores that readers cannot reach.
//!
//! A file is fetched in pieces, each by a request of its own with the deadlines of every request to a store. The next piece is
//! asked for when the reader has taken the one before, so a slow reader slows the store and fills no memory. Pieces of one
//! answer are of one version: after the first, each is asked for with its ETag (`If-Match`).

use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use futures_util::stream;
use presign::PresignedUrl;

use super::PortalServices;
use super::stream_places::StreamPlace;
use super::visitor::{Denial, Visitor};
use crate::bounds::{STREAM_PIECE_BYTES, STREAM_TRIES};
use crate::edge::http::{PieceAnswer, PieceRequest, WebClient};
use crate::edge::{EdgeError, ErrorKind};
use crate::portal_access::{
    AccessRefusal, LinkedObject, OpenMethod, ReaderSession, SignedOpen, Visit,
};
use crate::serving::TooMany;

/// What a streamed file may do in a browser: be shown. PDF viewers do not run in a sandbox.
const FILE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// After how long to try again when all places are taken.
pub(super) const NO_PLACE: TooMany = TooMany {
    retry_after: Duration::from_secs(10),
};

/// The pause before a piece is asked for again, times the number of tries.
pub(super) const PIECE_PAUSE: Duration = Duration::from_millis(300);

/// The headers of the store that readers get.
const PASSED_ON: [HeaderName; 4] = [CONTENT_TYPE, CONTENT_DISPOSITION, ETAG, LAST_MODIFIED];

/// The part of a file that a reader asks for (RFC 9110, 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskedPart {
    /// From an offset on, up to a last byte.
    From(u64, Option<u64>),
    /// The last bytes.
    Last(u64),
}

impl AskedPart {
    /// The one part of a `Range`; several parts, and what is none, are the whole file.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(RANGE)?.to_str().ok()?;
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u64>().ok()).flatten()
        };
        match (first, last) {
            ("", last) => number(last).map(Self::Last),
            (first, "") => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The first and the last byte of the part in a file of a size; `None` if it has none of them.
    fn within(self, size: u64) -> Option<(u64, u64)> {
        let end = size.checked_sub(1)?;
        match self {
            Self::From(first, last) => {
                (first <= end).then(|| (first, last.map_or(end, |last| last.min(end))))
            }
            Self::Last(0) => None,
            Self::Last(count) => Some((size.saturating_sub(count), end)),
        }
    }
}

/// The bytes of a file of known bytes that an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnsweredPart {
    /// The first, and the one behind the last.
    pub(super) first: u64,
    pub(super) end: u64,
    /// The size of the whole file.
    pub(super) size: u64,
    /// Whether a part was asked for.
    pub(super) is_part: bool,
}

impl AnsweredPart {
    /// The part that a request asks for of a file with this ETag; `None` if the file has none of it.
    pub(super) fn of(headers: &HeaderMap, etag: &str, size: u64) -> Option<Self> {
        let known = headers.get(IF_RANGE);
        // A reader who has a part of other bytes gets the whole file.
        let is_same = known.is_none_or(|known| known.as_bytes() == etag.as_bytes());
        let asked = AskedPart::of(headers).filter(|_| is_same);
        let (first, end, is_part) = match asked {
            None => (0, size, false),
            Some(asked) => {
                let (first, last) = asked.within(size)?;
                (first, last + 1, true)
            }
        };
        Some(Self {
            first,
            end,
            size,
            is_part,
        })
    }

    /// Says in `Content-Range` which part it is.
    pub(super) fn describe(self, response: &mut Response<Body>) {
        let Self {
            first, end, size, ..
        } = self;
        if self.is_part
            && let Ok(value) = HeaderValue::try_from(format!("bytes {first}-{}/{size}", end - 1))
        {
            response.headers_mut().insert(CONTENT_RANGE, value);
        }
    }
}

/// A file that is being streamed.
struct FileStream {
    client: WebClient,
    url: PresignedUrl,
    etag: String,
    /// The next byte, and the last.
    next: u64,
    last: u64,
    /// The first piece, which is there already.
    ready: Option<Bytes>,
    /// Each piece asks whether the link is revoked.
    services: Arc<PortalServices>,
    visit: Visit,
    session: Option<ReaderSession>,
    _place: StreamPlace,
}

/// Streams a file that was opened.
pub(super) async fn stream_file(
    visitor: &Visitor,
    visit: &Visit,
    object: &LinkedObject,
    opened: SignedOpen,
    method: OpenMethod,
) -> Result<Response<Body>, Denial> {
    let key = visitor.open_key(visit, &object.link_id);
    let place = visitor.portal.streams.take(&key).ok_or(NO_PLACE)?;
    let connections = &visitor.services.connections;
    let connection = connections.get(&visit.job.connection);
    let connection = connection.ok_or(AccessRefusal::ObjectGone)?;
    let client = WebClient::new(connection.s3.egress().clone());
    let size = object.size_bytes;
    let is_head = method == OpenMethod::Head;
    if is_head || size == 0 {
        let request = PieceRequest {
            url: opened.url.expose(),
            is_head,
            range: None,
            if_match: None,
        };
        let answer = client.piece(request, 1).await.map_err(unreachable)?;
        let mut response = visitor.answers().file(StatusCode::OK, Body::empty());
        let length = if is_head { answer.total(size) } else { 0 };
        describe(&mut response, judged(&answer)?, length, None);
        return Ok(response);
    }
    let mut part = AskedPart::of(&visitor.headers).map(|part| part.within(size));
    // Only an ETag says which version a reader has; a date is too coarse (RFC 9110, 13.1.5).
    let known = visitor.headers.get(IF_RANGE);
    let known = known.map(|known| known.to_str().unwrap_or_default());
    if known.is_some_and(|known| !known.starts_with('"')) {
        part = None;
    }
    if part == Some(None) {
        return Ok(unsatisfiable(visitor, size));
    }
    let mut part = part.flatten();
    let (mut first, mut last) = part.unwrap_or((0, size - 1));
    let known = known.filter(|_| part.is_some());
    let mut answer = piece(&client, &opened.url, (first, last), known)
        .await
        .map_err(unreachable)?;
    if answer.status == 412 && known.is_some() {
        // The reader has a part of another version, and gets the whole of this one.
        (part, first, last) = (None, 0, size - 1);
        answer = piece(&client, &opened.url, (first, last), None)
            .await
            .map_err(unreachable)?;
    }
    let head = judged(&answer)?.clone();
    let total = answer.total(size);
    // The object may have been replaced by one of another size since it was listed.
    let end = total.saturating_sub(1);
    let last = if part.is_some() { last.min(end) } else { end };
    let etag = head.get(ETAG).and_then(|etag| etag.to_str().ok());
    let file = FileStream {
        client,
        url: opened.url,
        etag: etag.unwrap_or_default().to_owned(),
        next: first + answer.body.len() as u64,
        last,
        ready: Some(answer.body),
        services: Arc::clone(&visitor.services),
        visit: visit.clone(),
        session: visitor.session.clone(),
        _place: place,
    };
    let status = match part {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let body = Body::from_stream(stream::try_unfold(file, next_piece));
    let mut response = visitor.answers().file(status, body);
    let range = part.map(|_| (first, last, total));
    describe(
        &mut response,
        &head,
        (last + 1).saturating_sub(first),
        range,
    );
    Ok(response)
}

/// The beginning of a part of a file, as long as a piece is.
async fn piece(
    client: &WebClient,
    url: &PresignedUrl,
    (first, last): (u64, u64),
    if_match: Option<&str>,
) -> Result<PieceAnswer, EdgeError> {
    let request = PieceRequest {
        url: url.expose(),
        is_head: false,
        range: Some((first, last.min(first + STREAM_PIECE_BYTES - 1))),
        if_match,
    };
    let most = usize::try_from(STREAM_PIECE_BYTES).unwrap_or(usize::MAX);
    client.piece(request, most).await
}

/// The next piece of a file, in its order.
async fn next_piece(mut file: FileStream) -> Result<Option<(Bytes, FileStream)>, BoxError> {
    if let Some(piece) = file.ready.take() {
        return Ok(Some((piece, file)));
    }
    if file.next > file.last {
        return Ok(None);
    }
    let now = (file.services.clock)();
    let access = &file.services.access;
    let still_open = access.is_still_open(&file.visit, file.session.as_ref(), now);
    still_open.await?;
    let mut tries = 0;
    loop {
        tries += 1;
        let known = Some(file.etag.as_str()).filter(|etag| !etag.is_empty());
        let asked = piece(&file.client, &file.url, (file.next, file.last), known);
        let failure = match asked.await {
            Ok(answer) if answer.status == 206 && !answer.body.is_empty() => {
                file.next += answer.body.len() as u64;
                return Ok(Some((answer.body, file)));
            }
            Ok(answer) if answer.status < 500 => return Err(answer.failure().into()),
            Ok(answer) => answer.failure(),
            Err(error) => error,
        };
        if tries >= STREAM_TRIES {
            return Err(failure.into());
        }
        tokio::time::sleep(PIECE_PAUSE * tries).await;
    }
}

/// The headers of an answer with the file; why there is no file otherwise.
fn judged(answer: &PieceAnswer) -> Result<&HeaderMap, Denial> {
    match answer.status {
        200 | 206 => Ok(&answer.headers),
        404 => Err(AccessRefusal::ObjectGone.into()),
        _ => Err(Denial::Store(StatusCode::BAD_GATEWAY, answer.failure())),
    }
}

fn unreachable(error: EdgeError) -> Denial {
    let status = match error.fact {
        ErrorKind::Silent => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    Denial::Store(status, error)
}

/// Sets the headers that tell what the body is.
fn describe(
    response: &mut Response<Body>,
    head: &HeaderMap,
    length: u64,
    range: Option<(u64, u64, u64)>,
) {
    let headers = response.headers_mut();
    for name in PASSED_ON {
        if let Some(value) = head.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some((first, last, total)) = range
        && let Ok(value) = HeaderValue::try_from(format!("bytes {first}-{last}/{total}"))
    {
        headers.insert(CONTENT_RANGE, value);
    }
    let kind = head
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    if !kind.starts_with(b"application/pdf") {
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(FILE_POLICY),
        );
    }
}

pub(super) fn unsatisfiable(visitor: &Visitor, size: u64) -> Response<Body> {
    let mut response = visitor
        .answers()
        .file(StatusCode::RANGE_NOT_SATISFIABLE, Body::empty());
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_read_and_everything_else_is_the_whole_file() {
        let part = |range: &'static str| {
            AskedPart::of(
                &[(RANGE, HeaderValue::from_static(range))]
                    .into_iter()
                    .collect(),
            )
        };
        for (range, size, expected) in [
            ("bytes=0-0", 10, Some(Some((0, 0)))),
            ("bytes=3-", 10, Some(Some((3, 9)))),
            ("bytes=3-99", 10, Some(Some((3, 9)))),
            ("bytes=-4", 10, Some(Some((6, 9)))),
            ("bytes=-40", 10, Some(Some((0, 9)))),
            ("bytes=10-", 10, Some(None)),
            ("bytes=-0", 10, Some(None)),
            ("bytes=0-", 0, Some(None)),
            ("bytes=5-3", 10, None),
            ("bytes=0-1,3-4", 10, None),
            ("bytes=+1-2", 10, None),
            ("bytes=-", 10, None),
            ("lines=1-2", 10, None),
            ("bytes=99999999999999999999-", 10, None),
        ] {
            assert_eq!(
                part(range).map(|part| part.within(size)),
                expected,
                "{range}"
            );
        }
    }
}
