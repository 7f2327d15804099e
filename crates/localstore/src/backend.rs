//! The supported S3 operations: translates requests of s3s to file operations.
//!
//! Every other operation is rejected before its input is read.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use futures_util::stream;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, IF_RANGE, X_CONTENT_TYPE_OPTIONS};
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::{
    self, CommonPrefix, ETag, ETagCondition, EncodingType, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput,
    StreamingBlob, Timestamp,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::bucket::{self, Bucket, Condition, Object, PublishError, Stat};
use crate::description::{Description, content_type};
use crate::listing::{self, ListingPage, ListingQuery, Mark};
use crate::room::{ConnectionPlace, KeyHolder};
use crate::scope::{self, SIGNATURE, Sites};
use crate::upload::{self, Expected, ReceiveError};

/// The operations that are served, by the names of S3.
const OPERATIONS: [&str; 6] = [
    "GetObject",
    "HeadBucket",
    "HeadObject",
    "ListBuckets",
    "ListObjectsV2",
    "PutObject",
];

/// The maximum page size of a listing. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
const MAX_PAGE: i32 = 1000;

/// How much of a file is read at once, which bounds the memory of a slow reader.
const CHUNK_SIZE: usize = 64 << 10;

/// Serves the objects of all sites.
pub(crate) struct Backend {
    sites: Sites,
    /// Held by a writer while its object takes its name.
    turn: Arc<Mutex<()>>,
    /// The subscriber of our own events, since s3s runs without one.
    log: tracing::Dispatch,
}

impl Backend {
    pub(crate) fn new(sites: Sites) -> Self {
        Self {
            sites,
            turn: Arc::default(),
            log: tracing::dispatcher::get_default(Clone::clone),
        }
    }

    /// The directory of the site whose key signed the request.
    fn directory<T>(&self, request: &S3Request<T>) -> S3Result<PathBuf> {
        let credentials = request
            .credentials
            .as_ref()
            .ok_or_else(|| s3_error!(AccessDenied))?;
        Ok(self.sites.site(&credentials.access_key)?.directory.clone())
    }

    async fn bucket<T>(&self, request: &S3Request<T>, name: &str) -> S3Result<Bucket> {
        let (directory, name) = (self.directory(request)?, name.to_owned());
        let bucket = self
            .blocking("open the bucket", move || Bucket::open(&directory, &name))
            .await?;
        bucket.ok_or_else(|| {
            S3Error::with_message(
                S3ErrorCode::NoSuchBucket,
                "The specified bucket does not exist",
            )
        })
    }

    /// Opens the object of a GET or HEAD if its conditions hold, and returns the requested range.
    async fn find<T>(
        &self,
        request: &S3Request<T>,
        wanted: Wanted<'_>,
    ) -> S3Result<(Object, Extent)> {
        wanted.refuse_versions()?;
        let bucket = self.bucket(request, wanted.bucket).await?;
        let key = wanted.key.to_owned();
        let object = self
            .blocking("read the object", move || bucket.find(&key))
            .await?;
        let object =
            object.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))?;
        wanted.check(&object.stat)?;
        let range = wanted
            .range
            .filter(|_| may_be_ranged(&request.headers, &object.stat));
        let extent = Extent::of(range, &object.stat)?;
        Ok((object, extent))
    }

    /// Runs blocking disk operations on a thread for them.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let done = tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| self.disk_error(what, &error))
    }

    /// Logs the cause for the operator, and returns only a generic error to the client.
    ///
    /// The content of a bucket's folder is controlled by all users with write access to it. An error caused by it denies the
    /// request, but must not mark the endpoint as unhealthy, since the daemon's other jobs would then wait.
    fn disk_error(&self, what: &'static str, error: &io::Error) -> S3Error {
        tracing::dispatcher::with_default(&self.log, || {
            tracing::error!(target: crate::LOG_TARGET, %error, "the embedded endpoint could not {what}");
        });
        if is_of_the_folder(error) {
            return S3Error::with_message(
                S3ErrorCode::AccessDenied,
                "Access Denied: what lies in the bucket's folder does not let the endpoint do this",
            );
        }
        S3Error::with_message(
            S3ErrorCode::InternalError,
            "We encountered an internal error. Please try again.",
        )
    }
}

/// Whether an error is caused by the content of a bucket's folder, not by the disk or the process: a file or folder that is not
/// readable, that another program holds (`F_SETLEASE`), or whose place is taken by something else.
fn is_of_the_folder(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::PermissionDenied
            | Kind::WouldBlock
            | Kind::ResourceBusy
            | Kind::ExecutableFileBusy
            | Kind::NotFound
            | Kind::AlreadyExists
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::DirectoryNotEmpty
            | Kind::InvalidInput
            | Kind::InvalidData
            | Kind::UnexpectedEof
            | Kind::InvalidFilename
            | Kind::CrossesDevices
            | Kind::TooManyLinks
    )
}

/// Admits supported operations, for requests that are signed and have a slot.
pub(crate) struct OurOperations;

#[async_trait::async_trait]
impl S3Access for OurOperations {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Anonymous access is not allowed"));
        }
        begin(context).await?;
        let name = context.s3_op().name();
        if OPERATIONS.contains(&name) {
            Ok(())
        } else {
            Err(not_implemented(name))
        }
    }
}

/// Assigns a slot to a request whose signature was verified.
async fn begin(context: &mut S3AccessContext<'_>) -> S3Result<()> {
    let signer = if context.headers().contains_key(AUTHORIZATION) {
        KeyHolder::Own
    } else {
        // Decoded: a link has many spellings, which share one limit.
        let query = scope::SignedQuery::parse(context.uri().query().unwrap_or_default())?;
        let signature = query.only(SIGNATURE);
        KeyHolder::Link(signature.ok_or_else(|| s3_error!(AccessDenied))?.to_owned())
    };
    let place = context.extensions_mut().get::<ConnectionPlace>().cloned();
    let place = place.ok_or_else(|| s3_error!(InternalError))?;
    if place.begin(signer).await {
        Ok(())
    } else {
        Err(s3_error!(SlowDown, "Please reduce your request rate."))
    }
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let directory = self.directory(&request)?;
        let names = self
            .blocking("list the buckets", move || bucket::names_in(&directory))
            .await?;
        let bucket = |name| dto::Bucket {
            name: Some(name),
            ..dto::Bucket::default()
        };
        let buckets = Some(names.into_iter().map(bucket).collect());
        Ok(S3Response::new(ListBucketsOutput {
            buckets,
            ..ListBucketsOutput::default()
        }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&request, &request.input.bucket).await?;
        let bucket_region = request
            .region
            .as_ref()
            .map(|region| region.as_str().to_owned());
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region,
            ..HeadBucketOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let bucket = self.bucket(&request, &request.input.bucket).await?;
        let input = request.input;
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => Some(Mark::from_token(token).ok_or_else(|| {
                s3_error!(
                    InvalidArgument,
                    "The continuation token provided is incorrect"
                )
            })?),
            (None, Some(key)) if !key.is_empty() => Some(Mark::Key(key.clone())),
            (None, _) => None,
        };
        let max_keys = input.max_keys.unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let limit = usize::try_from(max_keys).map_err(|_| {
            s3_error!(
                InvalidArgument,
                "Argument maxKeys must be an integer between 0 and 2147483647"
            )
        })?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input
            .delimiter
            .clone()
            .filter(|delimiter| !delimiter.is_empty());
        let page = self.blocking("list the bucket", move || match limit {
            0 => Ok(ListingPage::default()),
            _ => listing::list(
                &bucket,
                &ListingQuery {
                    prefix: &prefix,
                    delimiter: delimiter.as_deref(),
                    after,
                    limit,
                    folders: listing::FOLDERS,
                },
            ),
        });
        Ok(S3Response::new(list_output(input, page.await?, max_keys)))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let (
            Object {
                stat, description, ..
            },
            extent,
        ) = self.find(&request, wanted!(request.input)).await?;
        let input = request.input;
        let content_type = description
            .content_type
            .unwrap_or_else(|| content_type(&input.key).to_owned());
        // For GET, s3s applies the response-* parameters itself.
        let output = HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: input.response_cache_control.or(description.cache_control),
            content_disposition: input
                .response_content_disposition
                .or(description.content_disposition),
            content_encoding: input
                .response_content_encoding
                .or(description.content_encoding),
            content_language: input
                .response_content_language
                .or(description.content_language),
            content_length: Some(extent.length().cast_signed()),
            content_range: extent.header(&stat),
            content_type: input.response_content_type.or(Some(content_type)),
            e_tag: Some(ETag::Strong(stat.etag)),
            expires: input
                .response_expires
                .or(description.expires.map(timestamp)),
            last_modified: Some(stat.modified.into()),
            metadata: Some(description.metadata.into_iter().collect()),
            ..HeadObjectOutput::default()
        };
        Ok(S3Response::with_headers(output, no_sniffing()))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let (
            Object {
                file,
                stat,
                description,
            },
            extent,
        ) = self.find(&request, wanted!(request.input)).await?;
        let body = extent.read(file).await;
        let body = body.map_err(|error| self.disk_error("read the object", &error))?;
        let content_type = description
            .content_type
            .unwrap_or_else(|| content_type(&request.input.key).to_owned());
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(body),
            cache_control: description.cache_control,
            content_disposition: description.content_disposition,
            content_encoding: description.content_encoding,
            content_language: description.content_language,
            content_length: Some(extent.length().cast_signed()),
            content_range: extent.header(&stat),
            content_type: Some(content_type),
            e_tag: Some(ETag::Strong(stat.etag)),
            expires: description.expires.map(timestamp),
            last_modified: Some(stat.modified.into()),
            metadata: Some(description.metadata.into_iter().collect()),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::with_headers(output, no_sniffing()))
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        if let Some(what) = wish_that_we_do_not_grant(&request.input) {
            return Err(not_implemented(what));
        }
        let condition = condition(&request.input)?;
        let bucket = Arc::new(self.bucket(&request, &request.input.bucket).await?);
        let expected = Expected::of(&mut request)?;
        let input = request.input;
        let draft = {
            let bucket = Arc::clone(&bucket);
            self.blocking("begin an object", move || bucket.draft())
                .await?
        };
        let sums = upload::receive(input.body, &draft.file, expected)
            .await
            .map_err(|error| match error {
                ReceiveError::Refused(error) => error,
                ReceiveError::Disk(error) => self.disk_error("write an object", &error),
            })?;
        let description = Description {
            content_type: input.content_type,
            content_encoding: input
                .content_encoding
                .as_deref()
                .and_then(without_transfer_coding),
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            expires: input.expires.as_ref().and_then(seconds),
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        };
        if !description.can_be_sent() {
            return Err(s3_error!(
                InvalidArgument,
                "The headers of the object cannot be stored"
            ));
        }
        let (key, turn) = (input.key, Arc::clone(&self.turn));
        let published = self.blocking("publish an object", move || {
            match bucket.publish(&key, draft, &description, &condition, &turn) {
                Ok(stat) => Ok(Ok(stat)),
                Err(PublishError::Condition) => Ok(Err(S3ErrorCode::PreconditionFailed)),
                Err(PublishError::NoSuchKey) => Ok(Err(S3ErrorCode::NoSuchKey)),
                Err(PublishError::Io(error)) => Err(error),
            }
        });
        let stat = published.await??;
        Ok(S3Response::new(PutObjectOutput {
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            e_tag: Some(ETag::Strong(stat.etag)),
            ..PutObjectOutput::default()
        }))
    }
}

fn list_output(input: ListObjectsV2Input, page: ListingPage, max_keys: i32) -> ListObjectsV2Output {
    // Requested by clients whose XML cannot represent every key: XML 1.0 excludes control characters.
    let is_encoded = input
        .encoding_type
        .as_ref()
        .is_some_and(|kind| kind.as_str() == EncodingType::URL);
    let encoded = |text: String| {
        if is_encoded {
            percent_encoded(&text)
        } else {
            text
        }
    };
    let count = i32::try_from(page.objects.len() + page.groups.len()).unwrap_or(max_keys);
    let object = |(key, stat): (String, Stat)| dto::Object {
        key: Some(encoded(key)),
        size: Some(stat.size.cast_signed()),
        e_tag: Some(ETag::Strong(stat.etag)),
        last_modified: Some(stat.modified.into()),
        storage_class: Some(dto::ObjectStorageClass::from_static(
            dto::ObjectStorageClass::STANDARD,
        )),
        ..dto::Object::default()
    };
    let group = |prefix| CommonPrefix {
        prefix: Some(encoded(prefix)),
    };
    ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: input.prefix.map(encoded),
        delimiter: input.delimiter.map(encoded),
        start_after: input.start_after.map(encoded),
        max_keys: Some(max_keys),
        key_count: Some(count),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|mark| mark.token()),
        contents: Some(page.objects.into_iter().map(object).collect()),
        common_prefixes: Some(page.groups.into_iter().map(group).collect()),
        encoding_type: input.encoding_type,
        ..ListObjectsV2Output::default()
    }
}

/// Encodes all but the unreserved characters of RFC 3986 and `/`, as S3 does for `encoding-type=url`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The request of a GET or HEAD.
struct Wanted<'a> {
    bucket: &'a str,
    key: &'a str,
    version_id: Option<&'a str>,
    part_number: Option<i32>,
    range: Option<dto::Range>,
    if_match: Option<&'a ETagCondition>,
    if_none_match: Option<&'a ETagCondition>,
    if_modified_since: Option<&'a Timestamp>,
    if_unmodified_since: Option<&'a Timestamp>,
}

/// Converts the inputs of both operations: two types with the same fields.
macro_rules! wanted {
    ($input:expr) => {
        Wanted {
            bucket: &$input.bucket,
            key: &$input.key,
            version_id: $input.version_id.as_deref(),
            part_number: $input.part_number,
            range: $input.range,
            if_match: $input.if_match.as_ref(),
            if_none_match: $input.if_none_match.as_ref(),
            if_modified_since: $input.if_modified_since.as_ref(),
            if_unmodified_since: $input.if_unmodified_since.as_ref(),
        }
    };
}
use wanted;

impl Wanted<'_> {
    /// Rejects versions and parts: the only version is "null", and there are no parts.
    fn refuse_versions(&self) -> S3Result<()> {
        match (self.version_id, self.part_number) {
            (None | Some("null"), None) => Ok(()),
            (None | Some("null"), Some(_)) => Err(not_implemented("partNumber")),
            (Some(_), _) => Err(s3_error!(
                NoSuchVersion,
                "The specified version does not exist."
            )),
        }
    }

    /// Evaluates the conditions in the order of RFC 9110, section 13.2.2.
    fn check(&self, stat: &Stat) -> S3Result<()> {
        let is_it = |condition: &ETagCondition| {
            condition
                .as_etag()
                .is_none_or(|etag| etag.value() == stat.etag)
        };
        let modified = Timestamp::from(stat.modified);
        let holds = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => is_it(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !holds {
            let message = "At least one of the pre-conditions you specified did not hold";
            return Err(S3Error::with_message(
                S3ErrorCode::PreconditionFailed,
                message,
            ));
        }
        let is_known = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => is_it(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if is_known {
            Err(not_modified(stat))
        } else {
            Ok(())
        }
    }
}

fn not_modified(stat: &Stat) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", stat.etag)) {
        error.set_headers(HeaderMap::from_iter([(hyper::header::ETAG, etag)]));
    }
    error
}

/// Whether the object is still the one that a ranged download began with. <https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5>
fn may_be_ranged(headers: &HeaderMap, stat: &Stat) -> bool {
    headers
        .get(IF_RANGE)
        .is_none_or(|value| *value == format!("\"{}\"", stat.etag))
}

/// The requested part of an object.
enum Extent {
    Whole { length: u64 },
    Range { start: u64, end: u64 },
}

impl Extent {
    fn of(range: Option<dto::Range>, stat: &Stat) -> S3Result<Self> {
        let Some(range) = range else {
            return Ok(Self::Whole { length: stat.size });
        };
        match range.check(stat.size) {
            Ok(range) if !range.is_empty() => Ok(Self::Range {
                start: range.start,
                end: range.end,
            }),
            Ok(_) | Err(_) => {
                let message = "The requested range is not satisfiable";
                let mut error = S3Error::with_message(S3ErrorCode::InvalidRange, message);
                if let Ok(size) = HeaderValue::from_str(&format!("bytes */{}", stat.size)) {
                    error.set_headers(HeaderMap::from_iter([(hyper::header::CONTENT_RANGE, size)]));
                }
                Err(error)
            }
        }
    }

    fn length(&self) -> u64 {
        match self {
            Self::Whole { length } => *length,
            Self::Range { start, end } => end - start,
        }
    }

    /// The value of `Content-Range`; its presence makes the response a 206.
    fn header(&self, stat: &Stat) -> Option<String> {
        match self {
            Self::Whole { .. } => None,
            Self::Range { start, end } => Some(format!("bytes {start}-{}/{}", end - 1, stat.size)),
        }
    }

    /// Reads the part from a file in chunks.
    async fn read(&self, file: std::fs::File) -> io::Result<StreamingBlob> {
        let mut file = tokio::fs::File::from_std(file);
        if let Self::Range { start, .. } = self {
            file.seek(io::SeekFrom::Start(*start)).await?;
        }
        let chunks = stream::try_unfold(file.take(self.length()), |mut file| async move {
            let mut chunk = BytesMut::with_capacity(CHUNK_SIZE);
            let length = file.read_buf(&mut chunk).await?;
            Ok::<_, io::Error>((length > 0).then(|| (chunk.freeze(), file)))
        });
        Ok(StreamingBlob::wrap(chunks))
    }
}

/// Prevents browsers from running a script that was served as an image.
fn no_sniffing() -> HeaderMap {
    HeaderMap::from_iter([(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))])
}

/// Returns an option of a PUT that is not supported and must not be ignored silently.
fn wish_that_we_do_not_grant(input: &PutObjectInput) -> Option<&'static str> {
    let wishes = [
        (
            input.server_side_encryption.is_some() || input.sse_customer_algorithm.is_some(),
            "server-side encryption",
        ),
        (
            input.object_lock_mode.is_some() || input.object_lock_legal_hold_status.is_some(),
            "object lock",
        ),
        (input.tagging.is_some(), "tagging"),
        (
            input
                .acl
                .as_ref()
                .is_some_and(|acl| acl.as_str() != dto::ObjectCannedACL::PRIVATE),
            "access control lists",
        ),
        (
            input.website_redirect_location.is_some(),
            "website redirects",
        ),
        (input.write_offset_bytes.is_some(), "appending"),
    ];
    wishes
        .into_iter()
        .find_map(|(is_wished, what)| is_wished.then_some(what))
}

fn condition(input: &PutObjectInput) -> S3Result<Condition> {
    match (&input.if_match, &input.if_none_match) {
        (None, None) => Ok(Condition::Anything),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::Any), None) => Ok(Condition::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::Version(etag.value().to_owned())),
        (_, Some(_)) => Err(not_implemented("If-None-Match with anything but *")),
    }
}

fn not_implemented(what: &str) -> S3Error {
    let message =
        format!("A header you provided implies functionality that is not implemented: {what}");
    S3Error::with_message(S3ErrorCode::NotImplemented, message)
}

/// `aws-chunked` describes the transfer of the body, and is not a property of the object.
fn without_transfer_coding(content_encoding: &str) -> Option<String> {
    let codings = content_encoding.split(',').map(str::trim_ascii);
    let kept: Vec<&str> = codings
        .filter(|coding| !matches!(*coding, "" | "aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

fn timestamp(seconds: u64) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Seconds since 1970; `None` before.
fn seconds(timestamp: &Timestamp) -> Option<u64> {
    let mut text = Vec::new();
    timestamp
        .format(dto::TimestampFormat::EpochSeconds, &mut text)
        .ok()?;
    String::from_utf8(text).ok()?.parse().ok()
}
