//! A ZIP that is stored nowhere, made as it is read.
//!
//! Its length and its bytes are known before they are sent, so a download shows how much is left and can be resumed. A file that
//! was changed since the job ran breaks the answer off: a ZIP with other bytes would be damaged.

use std::sync::Arc;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, Response, StatusCode};
use futures_util::{StreamExt, stream};
use presign::disposition::push_content_disposition;
use presign::hex::hex;

use super::PortalServices;
use super::repeated::PortalLines;
use super::stream::{AnsweredPart, NO_PLACE, PIECE_PAUSE, unsatisfiable};
use super::stream_places::StreamPlace;
use super::visitor::{Denial, Visitor};
use crate::archive::streamed::{StreamedZip, ZipStretch};
use crate::bounds::{STREAM_PIECE_BYTES, STREAM_TRIES};
use crate::job::ContentDisposition;
use crate::portal_access::{LinkedObject, OpenMethod, ReaderSession, Visit};

/// How many pieces are read ahead: many small files are each a request.
const PIECES_AHEAD: usize = 2;

/// What reads the pieces of one answer.
struct ZipReader {
    zip: Arc<StreamedZip>,
    services: Arc<PortalServices>,
    visit: Visit,
    session: Option<ReaderSession>,
    lines: Arc<PortalLines>,
    _place: StreamPlace,
}

/// Streams a ZIP that was opened.
pub(super) fn stream_zip(
    visitor: &Visitor,
    visit: &Visit,
    object: &LinkedObject,
    zip: Arc<StreamedZip>,
    method: OpenMethod,
) -> Result<Response<Body>, Denial> {
    let key = visitor.open_key(visit, &object.link_id);
    let place = visitor.portal.streams.take(&key).ok_or(NO_PLACE)?;
    let size = zip.size_bytes();
    let etag = format!("\"{}\"", hex(&zip.directory_sha256()));
    let part = match method {
        OpenMethod::Head => AnsweredPart::whole(size),
        OpenMethod::Get => match AnsweredPart::of(&visitor.headers, &etag, size) {
            Some(part) => part,
            None => return Ok(unsatisfiable(visitor, size)),
        },
    };
    let body = match method {
        OpenMethod::Head => Body::empty(),
        OpenMethod::Get => {
            let reader = Arc::new(ZipReader {
                zip,
                services: Arc::clone(&visitor.services),
                visit: visit.clone(),
                session: visitor.session.clone(),
                lines: Arc::clone(&visitor.portal.lines),
                _place: place,
            });
            Body::from_stream(pieces(reader, part.first, part.end))
        }
    };
    let mut response = visitor.answers().file(part.status(), body);
    part.describe(&mut response);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.first));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    let mut disposition = String::new();
    push_content_disposition(
        ContentDisposition::Attachment.into(),
        &object.name,
        &mut disposition,
    );
    for (name, value) in [(ETAG, etag), (CONTENT_DISPOSITION, disposition)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// The pieces of a ZIP, in order. They are read as the reader takes them.
fn pieces(
    reader: Arc<ZipReader>,
    first: u64,
    end: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, BoxError>> {
    let zip = Arc::clone(&reader.zip);
    let stretches = stream::iter(std::iter::successors(
        stretch(&zip, first, end),
        move |(at, last)| stretch(&zip, at + last.len(), end),
    ));
    stretches
        .map(move |(_, stretch)| {
            let reader = Arc::clone(&reader);
            async move { reader.read(&stretch).await }
        })
        .buffered(PIECES_AHEAD)
}

fn stretch(zip: &StreamedZip, at: u64, end: u64) -> Option<(u64, ZipStretch)> {
    let left = end.checked_sub(at).filter(|left| *left > 0)?;
    Some((at, zip.stretch(at, left.min(STREAM_PIECE_BYTES))))
}

impl ZipReader {
    async fn read(&self, stretch: &ZipStretch) -> Result<Bytes, BoxError> {
        let access = &self.services.access;
        let mut tries = 0;
        loop {
            tries += 1;
            // Each piece asks whether the link is revoked.
            let now = (self.services.clock)();
            let session = self.session.as_ref();
            access.is_still_open(&self.visit, session, now).await?;
            match access.zip_bytes(&self.visit, stretch).await {
                Ok(bytes) if bytes.len() as u64 == stretch.len() => return Ok(bytes),
                Ok(_) => return Err("a file of the ZIP is shorter than it was".into()),
                Err(error) if tries >= STREAM_TRIES => {
                    if let Some(not_logged) = self.lines.streams.due() {
                        let error = crate::text::chain(&error);
                        tracing::warn!(error, not_logged, "a ZIP could not be streamed to its end");
                    }
                    return Err(error.into());
                }
                Err(_) => tokio::time::sleep(PIECE_PAUSE * tries).await,
            }
        }
    }
}

impl AnsweredPart {
    const fn whole(size: u64) -> Self {
        Self {
            first: 0,
            end: size,
            size,
            is_part: false,
        }
    }

    const fn status(&self) -> StatusCode {
        match self.is_part {
            true => StatusCode::PARTIAL_CONTENT,
            false => StatusCode::OK,
        }
    }
}
