//! The supported S3 operations: translates requests of s3s to file operations.
//!
//! Every other operation is rejected before its input is read.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::Extensions;
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::{
    self, CommonPrefix, DeleteObjectTaggingInput, DeleteObjectTaggingOutput, ETag, ETagCondition,
    EncodingType, GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput,
    PutObjectOutput, PutObjectTaggingInput, PutObjectTaggingOutput, Timestamp,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::time::Instant;

use crate::bucket::{self, Bucket, Condition, PublishError, Stat};
use crate::claim::SIGNATURE;
use crate::description::Description;
use crate::listing::{self, ListingPage, ListingQuery, Mark};
use crate::query::SignedQuery;
use crate::room::{ConnectionPlace, KeyHolder};
use crate::scope::Sites;
use crate::tags;
use crate::upload::{self, Expected, ReceiveError};

/// The operations that are served besides those of `objects`, by the names of S3.
const OPERATIONS: [&str; 7] = [
    "DeleteObjectTagging",
    "GetObjectTagging",
    "HeadBucket",
    "ListBuckets",
    "ListObjectsV2",
    "PutObject",
    "PutObjectTagging",
];

/// The maximum page size of a listing. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
const MAX_PAGE: i32 = 1000;

/// Serves the objects of all sites.
#[derive(Clone)]
pub(crate) struct Backend {
    sites: Sites,
    /// Held by a writer while its object takes its name.
    turn: Arc<Mutex<()>>,
    /// The subscriber of our own events, since s3s runs without one.
    log: tracing::Dispatch,
    errors: Arc<Mutex<LoggedErrors>>,
}

/// The last error of a disk that was logged: a disk that is gone would fill the log with an error for each request.
#[derive(Default)]
struct LoggedErrors {
    last: Option<(String, Instant)>,
    since: u64,
}

/// How long the same error is only counted.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

impl LoggedErrors {
    /// How many equal errors were not logged since the last that was, if this one is to be logged.
    fn held_back(&mut self, error: &str) -> Option<u64> {
        let is_told = |(last, at): &(String, Instant)| last == error && at.elapsed() < LOGGED_EVERY;
        if self.last.as_ref().is_some_and(is_told) {
            self.since += 1;
            return None;
        }
        self.last = Some((error.to_owned(), Instant::now()));
        Some(std::mem::take(&mut self.since))
    }
}

impl Backend {
    pub(crate) fn new(sites: Sites) -> Self {
        Self {
            sites,
            turn: Arc::default(),
            log: tracing::dispatcher::get_default(Clone::clone),
            errors: Arc::default(),
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

    pub(crate) async fn bucket<T>(&self, request: &S3Request<T>, name: &str) -> S3Result<Bucket> {
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

    /// Runs blocking disk operations on a thread for them.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let done = tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| self.disk_error(what, &error))
    }

    /// Replaces the tags of an object.
    async fn tag(
        &self,
        bucket: Bucket,
        key: String,
        tags: BTreeMap<String, String>,
    ) -> S3Result<()> {
        let turn = Arc::clone(&self.turn);
        let tagged = self.blocking("tag an object", move || bucket.set_tags(&key, &tags, &turn));
        match tagged.await? {
            true => Ok(()),
            false => Err(tags::no_such_key()),
        }
    }

    /// Logs the cause for the operator, and returns only a generic error to the client.
    ///
    /// The content of a bucket's folder is controlled by all users with write access to it. An error caused by it denies the
    /// request, but must not mark the endpoint as unhealthy, since the daemon's other jobs would then wait.
    pub(crate) fn disk_error(&self, what: &'static str, error: &io::Error) -> S3Error {
        let logged = self.errors.lock();
        let mut logged = logged.unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = logged.held_back(&format!("{what}: {error}")) {
            tracing::dispatcher::with_default(&self.log, || {
                tracing::error!(target: crate::LOG_TARGET, %error, before, "the embedded endpoint could not {what}");
            });
        }
        drop(logged);
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
        let (headers, uri) = (context.headers().clone(), context.uri().clone());
        begin(&headers, &uri, context.extensions_mut()).await?;
        let name = context.s3_op().name();
        if OPERATIONS.contains(&name) {
            Ok(())
        } else {
            Err(not_implemented(name))
        }
    }
}

/// Assigns a slot to a request whose signature was verified.
pub(crate) async fn begin(headers: &HeaderMap, uri: &Uri, extensions: &Extensions) -> S3Result<()> {
    let signer = if headers.contains_key(AUTHORIZATION) {
        KeyHolder::Own
    } else {
        // Decoded: a link has many spellings, which share one limit.
        let query = SignedQuery::parse(uri.query().unwrap_or_default())?;
        let signature = query.only(SIGNATURE);
        KeyHolder::Link(signature.ok_or_else(|| s3_error!(AccessDenied))?.to_owned())
    };
    let place = extensions.get::<ConnectionPlace>();
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
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => Some(Mark::from_token(token).ok_or_else(|| {
                s3_error!(
                    InvalidArgument,
                    "The continuation token provided is incorrect"
                )
            })?),
            (None, Some(start)) if !start.is_empty() => {
                Some(Mark::after(start, &prefix, delimiter.as_deref()))
            }
            (None, _) => None,
        };
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

    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        tags::only_version(request.input.version_id.as_deref())?;
        let bucket = self.bucket(&request, &request.input.bucket).await?;
        let key = request.input.key;
        let found = self.blocking("read the tags of an object", move || bucket.find(&key));
        let object = found.await?.ok_or_else(tags::no_such_key)?;
        Ok(S3Response::new(GetObjectTaggingOutput {
            tag_set: tags::to_set(object.description.tags),
            ..GetObjectTaggingOutput::default()
        }))
    }

    async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        tags::only_version(request.input.version_id.as_deref())?;
        let tags = tags::of_set(&request.input.tagging.tag_set)?;
        let bucket = self.bucket(&request, &request.input.bucket).await?;
        self.tag(bucket, request.input.key, tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        tags::only_version(request.input.version_id.as_deref())?;
        let bucket = self.bucket(&request, &request.input.bucket).await?;
        let none = BTreeMap::new();
        self.tag(bucket, request.input.key, none).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput::default()))
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
            tags: BTreeMap::new(),
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

pub(crate) fn not_implemented(what: &str) -> S3Error {
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

/// Seconds since 1970; `None` before.
fn seconds(timestamp: &Timestamp) -> Option<u64> {
    let mut text = Vec::new();
    timestamp
        .format(dto::TimestampFormat::EpochSeconds, &mut text)
        .ok()?;
    String::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_error_for_each_request_is_logged_once_a_minute_and_another_at_once() {
        let mut errors = LoggedErrors::default();
        assert_eq!(errors.held_back("read: gone"), Some(0));
        assert_eq!(errors.held_back("read: gone"), None);
        assert_eq!(errors.held_back("read: gone"), None);
        assert_eq!(errors.held_back("write: full"), Some(2));
        tokio::time::advance(LOGGED_EVERY).await;
        assert_eq!(errors.held_back("write: full"), Some(0));
    }
}
