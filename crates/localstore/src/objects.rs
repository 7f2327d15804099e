//! `GetObject` and `HeadObject`: the operations of links.
//!
//! They are a route of s3s rather than operations of its trait: s3s verifies the signature, and this module reads the headers.
//! The types of the trait reject a range or a condition that they cannot parse, where HTTP and S3 ignore it.

use std::io;

use bytes::BytesMut;
use futures_util::stream;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue,
    LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::Extensions;
use hyper::{Method, StatusCode, Uri};
use presign::percent::decode;
use s3s::dto::{StreamingBlob, Timestamp, TimestampFormat};
use s3s::route::S3Route;
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::backend::{Backend, begin};
use crate::bucket::{Object, Stat};
use crate::conditions::{self, ConditionVerdict, Extent, NotSatisfiable};
use crate::description::{Description, content_type};
use crate::people::REVOKED;
use crate::query::SignedQuery;

/// How much of a file is read at once, which bounds the memory of a slow reader.
const CHUNK_SIZE: usize = 64 << 10;

/// The largest number of a part. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MAX_PART: u32 = 10_000;

/// Parameters that ask for something else than the object, such as its tags.
const OTHER_OPERATIONS: [&str; 7] = [
    "acl",
    "attributes",
    "legal-hold",
    "retention",
    "tagging",
    "torrent",
    "uploadId",
];

/// The parameters that replace a header of the object in the answer.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", CACHE_CONTROL),
    ("response-content-disposition", CONTENT_DISPOSITION),
    ("response-content-encoding", CONTENT_ENCODING),
    ("response-content-language", CONTENT_LANGUAGE),
    ("response-content-type", CONTENT_TYPE),
    ("response-expires", EXPIRES),
];

/// Answers GET and HEAD of an object.
pub(crate) struct ObjectRoute(pub(crate) Backend);

#[async_trait::async_trait]
impl S3Route for ObjectRoute {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let is_object = object_of(uri).is_some();
        let query = SignedQuery::parse(uri.query().unwrap_or_default());
        let asks_else =
            query.is_ok_and(|query| OTHER_OPERATIONS.iter().any(|name| query.has(name)));
        is_read && is_object && !asks_else
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result<()> {
        if request.credentials.is_none() {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        begin(&request.headers, &request.uri, &request.extensions).await
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let query = SignedQuery::parse(request.uri.query().unwrap_or_default())?;
        let wants_part = is_for_first_part(&query, &request.headers)?;
        refuse_versions(&query)?;
        let (bucket, key) = object_of(&request.uri).ok_or_else(|| s3_error!(InvalidURI))?;
        let bucket = self.0.bucket(&request, &bucket).await?;
        let place = key.clone();
        let found = self
            .0
            .blocking("read the object", move || bucket.find(&place));
        let object = found.await?;
        let object =
            object.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))?;
        if object.description.is_revoked() {
            return Err(s3_error!(AccessDenied, "Access Denied: {REVOKED}"));
        }
        match conditions::evaluate(&request.headers, &object.stat) {
            ConditionVerdict::Send => {}
            ConditionVerdict::NotModified => return Err(not_modified(&object.stat)),
            ConditionVerdict::Failed => {
                let message = "At least one of the pre-conditions you specified did not hold.";
                return Err(s3_error!(PreconditionFailed, "{message}"));
            }
        }
        let extent = match wants_part {
            true => Extent::first_part(&object.stat),
            false => Extent::of(&request.headers, &object.stat)
                .map_err(|NotSatisfiable| not_satisfiable(&object.stat))?,
        };
        let headers = headers(&key, &object, &extent, &query)?;
        let body = match request.method {
            Method::HEAD => Body::empty(),
            _ => read(&extent, object.file)
                .await
                .map_err(|error| self.0.disk_error("read the object", &error))?,
        };
        let mut response = S3Response::with_headers(body, headers);
        let is_part = extent.header(&object.stat).is_some();
        response.status = is_part.then_some(StatusCode::PARTIAL_CONTENT);
        Ok(response)
    }
}

/// The bucket and the key that a path names, decoded as s3s does it.
fn object_of(uri: &Uri) -> Option<(String, String)> {
    let path = decode(uri.path())?;
    let (bucket, key) = path.strip_prefix('/')?.split_once('/')?;
    (!key.is_empty()).then(|| (bucket.to_owned(), key.to_owned()))
}

/// Whether the request is for a part of the object: as each object was uploaded whole, that is the first.
fn is_for_first_part(query: &SignedQuery, headers: &HeaderMap) -> S3Result<bool> {
    if !query.has("partNumber") {
        return Ok(false);
    }
    let number = query.only("partNumber").and_then(|text| text.parse().ok());
    let number = number.filter(|number| (1..=MAX_PART).contains(number));
    let number = number.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "Part number must be an integer between 1 and 10000, inclusive."
        )
    })?;
    if headers.contains_key(RANGE) {
        let message = "Cannot specify both Range header and partNumber query parameter";
        return Err(s3_error!(InvalidRequest, "{message}"));
    }
    if number == 1 {
        return Ok(true);
    }
    let message = "The requested partnumber is not satisfiable.";
    let mut error = S3Error::with_message(S3ErrorCode::Custom("InvalidPartNumber".into()), message);
    error.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
    Err(error)
}

/// Rejects versions: the only one is "null".
fn refuse_versions(query: &SignedQuery) -> S3Result<()> {
    if !query.has("versionId") || query.only("versionId") == Some("null") {
        return Ok(());
    }
    Err(s3_error!(
        NoSuchVersion,
        "The specified version does not exist."
    ))
}

/// The headers of an answer: those of the object, or what the parameters ask for.
fn headers(
    key: &str,
    object: &Object,
    extent: &Extent,
    query: &SignedQuery,
) -> S3Result<HeaderMap> {
    let Object {
        stat, description, ..
    } = object;
    let mut headers = described(key, description)?;
    for (parameter, header) in OVERRIDES {
        if let Some(text) = query.only(parameter) {
            let value = HeaderValue::from_str(text);
            let value = value
                .map_err(|_| s3_error!(InvalidArgument, "The value of {parameter} is no header"))?;
            headers.insert(header, value);
        }
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(extent.length()));
    if let Some(range) = extent.header(stat) {
        headers.insert(CONTENT_RANGE, text_of(&range)?);
    }
    headers.insert(ETAG, text_of(&format!("\"{}\"", stat.etag))?);
    headers.insert(LAST_MODIFIED, date(&stat.modified.into())?);
    // S3 leaves it out for this class; versitygw and its client want it.
    let class = HeaderName::from_static("x-amz-storage-class");
    headers.insert(class, HeaderValue::from_static("STANDARD"));
    // Prevents browsers from running a script that was served as an image.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(headers)
}

/// The headers that were uploaded with an object.
fn described(key: &str, description: &Description) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let kind = description.content_type.as_deref();
    headers.insert(CONTENT_TYPE, text_of(kind.unwrap_or(content_type(key)))?);
    for (header, text) in [
        (CACHE_CONTROL, &description.cache_control),
        (CONTENT_DISPOSITION, &description.content_disposition),
        (CONTENT_ENCODING, &description.content_encoding),
        (CONTENT_LANGUAGE, &description.content_language),
    ] {
        if let Some(text) = text {
            headers.insert(header, text_of(text)?);
        }
    }
    if let Some(end) = description.expires {
        let end = std::time::Duration::from_secs(end);
        headers.insert(EXPIRES, date(&(std::time::UNIX_EPOCH + end).into())?);
    }
    for (name, text) in &description.metadata {
        let name = HeaderName::try_from(format!("x-amz-meta-{name}"));
        headers.insert(name.map_err(S3Error::internal_error)?, text_of(text)?);
    }
    Ok(headers)
}

fn text_of(text: &str) -> S3Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(S3Error::internal_error)
}

fn date(instant: &Timestamp) -> S3Result<HeaderValue> {
    let mut text = Vec::new();
    let written = instant.format(TimestampFormat::HttpDate, &mut text);
    written.map_err(S3Error::internal_error)?;
    HeaderValue::from_bytes(&text).map_err(S3Error::internal_error)
}

fn not_modified(stat: &Stat) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", stat.etag)) {
        error.set_headers(HeaderMap::from_iter([(ETAG, etag)]));
    }
    error
}

fn not_satisfiable(stat: &Stat) -> S3Error {
    let message = "The requested range is not satisfiable";
    let mut error = S3Error::with_message(S3ErrorCode::InvalidRange, message);
    if let Ok(size) = HeaderValue::from_str(&format!("bytes */{}", stat.size)) {
        error.set_headers(HeaderMap::from_iter([(CONTENT_RANGE, size)]));
    }
    error
}

/// Reads a part of a file in chunks.
async fn read(extent: &Extent, file: std::fs::File) -> io::Result<Body> {
    let mut file = tokio::fs::File::from_std(file);
    if let Extent::Range { start, .. } = extent {
        file.seek(io::SeekFrom::Start(*start)).await?;
    }
    let chunks = stream::try_unfold(file.take(extent.length()), |mut file| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK_SIZE);
        let length = file.read_buf(&mut chunk).await?;
        Ok::<_, io::Error>((length > 0).then(|| (chunk.freeze(), file)))
    });
    Ok(Body::from(StreamingBlob::wrap(chunks)))
}
