//! S3 and compatible stores, through the AWS SDK.

mod demands;
mod head;
mod kept;
mod lifecycle;
mod multipart;
mod page;
mod parts;
mod puts;
mod tags;
mod trial;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, Intercept, Region, RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{EncodingType, ObjectVersion};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

pub use self::demands::Demands;
use self::head::gives_no_reason;
pub use self::kept::{KeptObject, ObjectRetention};
pub use self::lifecycle::{Deleted, Deletion};
use self::page::PageReader;
use self::parts::{LARGEST_PUT, Upload};
pub(crate) use self::puts::Payload;
pub use self::puts::Puts;
pub use self::tags::REVOKED_TAG;
pub use self::trial::WriteTrial;
use super::multipart::{LearnedWay, Multipart};
use super::{
    Body, Content, Cursor, EdgeError, ErrorKind, MAX_PAGE, ObjectMeta, ObjectStore, Page, Storage,
    StoreError, Versions,
};
use crate::bounds::{MAX_ETAG_BYTES, MAX_SHOWN_VALUE_BYTES, MAX_VERSION_BYTES};
use crate::edge::health::{Edge, EdgeKind};
use crate::edge::{Egress, HeedsRetryAfter, http, is_region};
use crate::job::place::NameError;
use crate::job::{Bucket, Key};
use crate::text::percent::decode_form;
use crate::text::printable;

/// How much of a file is read at once, in bytes: each read is a call on another thread. The SDK's own choice is 64 KiB.
const READ_AT_ONCE: usize = 256 * 1024;

/// The error for a truncated listing without a token. If it were taken for the last page, further objects would be missed.
const MORE_NOWHERE: &str = "the listing is truncated and has no continuation token";

/// The results of the two readers of a listing as text; the first reads plain answers only. For the fuzz targets, which
/// compare them.
#[doc(hidden)]
pub fn read_listing(xml: &[u8]) -> (Option<String>, String) {
    page::read_by_both(xml)
}

/// An object store over a client of the AWS SDK.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    /// Clients for buckets in other regions; `None` for a server without regions.
    regions: Option<Arc<Mutex<HashMap<Bucket, Regional>>>>,
    clock: ServerClock,
    largest_put: u64,
    edge: Edge,
    egress: Egress,
    puts: Puts,
    parts_way: LearnedWay,
}

/// A bucket's region, and a client for it.
#[derive(Debug, Clone)]
struct Regional {
    region: String,
    client: Client,
}

impl S3Store {
    /// A store over a configured client, at a server with a single region or without regions.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the client is the store's from now on"
    )]
    pub fn new(client: Client) -> Self {
        let edge = Edge::new(EdgeKind::Store, "s3", "S3");
        let egress = Egress::default();
        Self {
            client: on_edge(&client, &edge, &egress),
            regions: None,
            clock: ServerClock::default(),
            largest_put: LARGEST_PUT,
            edge,
            egress,
            puts: Puts::default(),
            parts_way: LearnedWay::default(),
        }
    }

    /// The same store, whose requests report to `edge`.
    #[must_use]
    pub fn with_edge(self, edge: Edge) -> Self {
        Self {
            client: on_edge(&self.client, &edge, &self.egress),
            edge,
            ..self
        }
    }

    /// The same store, whose requests use this egress.
    #[must_use]
    pub fn through(self, egress: Egress) -> Self {
        Self {
            client: on_edge(&self.client, &self.edge, &egress),
            egress,
            ..self
        }
    }

    /// The same store, whose answers set this clock.
    #[must_use]
    pub(crate) fn with_clock(self, clock: ServerClock) -> Self {
        Self { clock, ..self }
    }

    /// The same store, with these settings for its PUTs.
    #[must_use]
    pub fn with_puts(self, puts: Puts) -> Self {
        Self { puts, ..self }
    }

    /// The settings of its PUTs.
    pub const fn puts(&self) -> &Puts {
        &self.puts
    }

    /// The egress of its requests.
    pub const fn egress(&self) -> &Egress {
        &self.egress
    }

    /// The health of the store.
    pub const fn edge(&self) -> &Edge {
        &self.edge
    }

    /// A store at AWS, where each bucket has a region: it is looked up once, and requests go there.
    pub fn regional(client: Client) -> Self {
        Self {
            regions: Some(Arc::default()),
            ..Self::new(client)
        }
    }

    /// Sets the size above which a file is uploaded in parts, instead of S3's limit for a PUT.
    #[must_use]
    pub fn with_largest_put(self, largest_put: u64) -> Self {
        Self {
            largest_put,
            ..self
        }
    }

    /// The client for a bucket. S3 redirects requests for a bucket of another region, and a redirect invalidates the signature.
    pub(crate) async fn client(&self, bucket: &Bucket) -> Result<Client, StoreError> {
        Ok(self
            .regional_client(bucket)
            .await?
            .map_or_else(|| self.client.clone(), |regional| regional.client))
    }

    async fn regional_client(&self, bucket: &Bucket) -> Result<Option<Regional>, StoreError> {
        let Some(regions) = &self.regions else {
            return Ok(None);
        };
        // The lock is not held during the request: several callers may look up the same bucket at once, and get the same answer.
        let known = || regions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regional) = known().get(bucket) {
            return Ok(Some(regional.clone()));
        }
        let region = self.look_up_region(bucket).await?;
        if !is_region(&region) {
            let region = printable(&region, MAX_SHOWN_VALUE_BYTES);
            let reason = format!("the answer names {region}, which is not a region");
            let action = format!("look up the region of s3://{bucket}");
            return Err(EdgeError::new(action, ErrorKind::Rejected, reason));
        }
        let config = self
            .client
            .config()
            .to_builder()
            .region(Region::new(region.clone()))
            .build();
        let regional = Regional {
            region,
            client: Client::from_conf(config),
        };
        known().insert(bucket.clone(), regional.clone());
        Ok(Some(regional))
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>: even a redirect names the region.
    async fn look_up_region(&self, bucket: &Bucket) -> Result<String, StoreError> {
        match self.head_bucket(bucket).await {
            Err(failed) if gives_no_reason(&failed) => {
                let listing = self.client.list_objects_v2().bucket(bucket.as_str());
                let listing = listing.max_keys(1).customize();
                let listing = listing.interceptor(http::RequestTerms::naming_a_key());
                let listing = listing.send().await;
                let action = || format!("look up the region of s3://{bucket}");
                listing.map_err(|error| EdgeError::from_sdk(action(), &error))?;
                // The credentials may have been renewed by now.
                self.head_bucket(bucket).await
            }
            region => region,
        }
    }

    async fn head_bucket(&self, bucket: &Bucket) -> Result<String, StoreError> {
        let request = self.client.head_bucket().bucket(bucket.as_str());
        let request = request.customize();
        match request
            .interceptor(http::RequestTerms::naming_a_key())
            .send()
            .await
        {
            Ok(answer) => Ok(answer.bucket_region.unwrap_or_else(|| self.own_region())),
            Err(error) => {
                let headers = error.raw_response().map(|answer| answer.headers());
                let region = headers.and_then(|headers| headers.get("x-amz-bucket-region"));
                let action = || format!("look up the region of s3://{bucket}");
                region
                    .map(ToOwned::to_owned)
                    .ok_or_else(|| EdgeError::from_sdk(action(), &error))
            }
        }
    }

    fn own_region(&self) -> String {
        self.client
            .config()
            .region()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Fails unless the store itself answers. A proxy in front of it that refuses a request with a key or a prefix may do so
    /// because of the name, and may not reach the store. After a broken connection, this request reports to the edge.
    async fn answers(&self, bucket: &Bucket) -> Result<(), StoreError> {
        match self.probe(bucket, "").await {
            Err(error) if error.fact.may_pass() => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn list_current(
        &self,
        bucket: &Bucket,
        prefix: &str,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError> {
        let action = || format!("list s3://{bucket}/{prefix}");
        let (after, token) = match cursor {
            Cursor::Start => (None, None),
            Cursor::After(key) => (Some(key.to_owned()), None),
            Cursor::Token(token) => (None, Some(token.to_owned())),
        };
        let reader = PageReader::default();
        self.client(bucket)
            .await?
            .list_objects_v2()
            .bucket(bucket.as_str())
            .prefix(prefix)
            .max_keys(i32::try_from(MAX_PAGE).unwrap_or(i32::MAX))
            .set_start_after(after)
            .set_continuation_token(token)
            // Otherwise a key with a control character makes an answer that is not XML.
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(http::RequestTerms::naming_a_key())
            .interceptor(self.clock.clone())
            .interceptor(reader.clone())
            .send()
            .await
            .map_err(|error| EdgeError::from_sdk(action(), &error))?;
        reader
            .take()
            .map_err(|reason| EdgeError::new(action(), ErrorKind::Rejected, reason))
    }

    /// Lists with versions; the token is the two markers of S3, concatenated.
    async fn list_versions(
        &self,
        bucket: &Bucket,
        prefix: &str,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError> {
        let action = || format!("list the versions of s3://{bucket}/{prefix}");
        let (version, key) = match cursor {
            Cursor::Start => (None, None),
            Cursor::After(key) => (None, Some(key)),
            Cursor::Token(token) => token.split_once(' ').unzip(),
        };
        let answer = self
            .client(bucket)
            .await?
            .list_object_versions()
            .bucket(bucket.as_str())
            .prefix(prefix)
            .max_keys(i32::try_from(MAX_PAGE).unwrap_or(i32::MAX))
            .set_key_marker(key.map(ToOwned::to_owned))
            .set_version_id_marker(
                version
                    .filter(|version| !version.is_empty())
                    .map(ToOwned::to_owned),
            )
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(http::RequestTerms::naming_a_key())
            .interceptor(self.clock.clone())
            .send()
            .await
            .map_err(|error| EdgeError::from_sdk(action(), &error))?;
        let encoded = answer.encoding_type == Some(EncodingType::Url);
        let current = answer.versions.unwrap_or_default().into_iter();
        let current = current.filter(|version| version.is_latest == Some(true));
        let objects = current
            .map(|version| version_meta(version, encoded))
            .collect::<Result<_, _>>();
        let next = answer.next_key_marker.filter(|key| !key.is_empty());
        let next = match (answer.is_truncated == Some(true), next) {
            (false, _) => None,
            (true, None) => {
                return Err(EdgeError::new(action(), ErrorKind::Rejected, MORE_NOWHERE));
            }
            (true, Some(key)) => {
                let key = match encoded {
                    true => decode_form(&key),
                    false => key.as_str().into(),
                };
                let version = answer.next_version_id_marker.unwrap_or_default();
                Some(format!("{version} {key}"))
            }
        };
        Ok(Page {
            objects: objects
                .map_err(|reason| EdgeError::new(action(), ErrorKind::Rejected, reason))?,
            continuation_token: next,
        })
    }
}

/// Reads the `Date` of answers: a free comparison of the server's clock with ours.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerClock {
    skew: Arc<Mutex<Option<SignedDuration>>>,
}

impl ServerClock {
    /// How far the server's clock was ahead of ours at its last answer; `None` before the first.
    pub(crate) fn skew(&self) -> Option<SignedDuration> {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, skew: SignedDuration) {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
    }
}

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "ServerClock"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
            let skew = date.timestamp().duration_since(crate::clock::system());
            self.set(skew);
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn list(
        &self,
        bucket: &Bucket,
        prefix: &str,
        versions: Versions,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError> {
        let list = async || match versions {
            Versions::Floating => self.list_current(bucket, prefix, cursor).await,
            Versions::Pinned => self.list_versions(bucket, prefix, cursor).await,
        };
        match list().await {
            Err(error) if error.is_foreign() => {
                self.answers(bucket).await?;
                list().await.map_err(refused_for_a_name)
            }
            Err(error) if error.has_failed_at_name() => self.answers(bucket).await.and(Err(error)),
            answer => answer,
        }
    }

    async fn region(&self, bucket: &Bucket) -> Result<Option<String>, StoreError> {
        Ok(self
            .regional_client(bucket)
            .await?
            .map(|regional| regional.region))
    }

    fn skew(&self) -> Option<SignedDuration> {
        self.clock.skew()
    }

    async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError> {
        let client = self.client(bucket).await?;
        let head = || head::head(&client, &self.clock, bucket, key);
        match head().await {
            Err(error) if error.is_foreign() => {
                self.answers(bucket).await?;
                head().await.map_err(refused_for_a_name)
            }
            Err(error) if error.has_failed_at_name() => self.answers(bucket).await.and(Err(error)),
            answer => answer,
        }
    }

    async fn beginning(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        most: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let key = &object.key;
        let action = || format!("read the beginning of s3://{bucket}/{key}");
        let etag = &object.etag;
        let request = self.client(bucket).await?.get_object();
        let request = request
            .bucket(bucket.as_str())
            .key(key.as_str())
            .set_version_id(object.version.clone())
            .set_if_match((!etag.is_empty()).then(|| format!("\"{etag}\"")))
            .range(format!("bytes=0-{}", most.saturating_sub(1)))
            .customize()
            .interceptor(http::RequestTerms::naming_a_key());
        let answer = request.send().await;
        let mut body = answer
            .map_err(|error| EdgeError::from_sdk(action(), &error))?
            .body;
        let mut bytes = Vec::new();
        // A server without support for ranges would send all of it.
        while bytes.len() < most
            && let Some(some) = body.next().await
        {
            let some =
                some.map_err(|error| EdgeError::new(action(), ErrorKind::Unreachable, error))?;
            bytes.extend_from_slice(&some[..some.len().min(most - bytes.len())]);
        }
        Ok(bytes)
    }

    async fn range(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.read_range(bucket, object, range).await
    }

    async fn stored_crc32(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
    ) -> Result<Option<u32>, StoreError> {
        self.kept_crc32(bucket, object).await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        Some(self)
    }

    async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        body: Body,
        content: Content,
    ) -> Result<(), StoreError> {
        let action = || format!("put s3://{bucket}/{key}");
        let unreadable =
            |error: std::io::Error| EdgeError::new(action(), ErrorKind::Rejected, error);
        let client = self.client(bucket).await?;
        let payload = match body {
            Body::Bytes(bytes) => Payload::Bytes(bytes.into()),
            Body::File(path) => {
                let length = tokio::fs::metadata(&path).await.map_err(unreadable)?.len();
                if length > self.largest_put {
                    let upload = async {
                        let begun = Upload::begin(&client, &self.puts, bucket, key, content).await;
                        begun?.file(&path, length, self.largest_put).await
                    };
                    let uploaded = upload.await;
                    let may_be_the_name =
                        |error: &StoreError| error.is_foreign() || error.has_failed_at_name();
                    if uploaded.as_ref().is_err_and(may_be_the_name) {
                        self.answers(bucket).await?;
                    }
                    return uploaded;
                }
                let from = 0;
                Payload::File { path, from, length }
            }
        };
        let mut is_asked_again = false;
        loop {
            let sums = self.puts.sums(&client, bucket, &payload).await;
            let sums = sums.map_err(unreadable)?;
            let request = client.put_object().bucket(bucket.as_str());
            let request = request
                .key(key.as_str())
                .content_type(content.media_type)
                .cache_control(content.cache_control)
                .set_content_encoding(content.encoding.map(ToOwned::to_owned))
                .body(payload.body().await.map_err(unreadable)?);
            let request = self.puts.of_object(request, &sums).customize();
            let put = request
                .interceptor(http::RequestTerms::naming_a_key())
                .send()
                .await;
            let Err(error) = put else { return Ok(()) };
            let error = EdgeError::from_sdk(action(), &error);
            if error.is_foreign() && !is_asked_again {
                self.answers(bucket).await?;
                is_asked_again = true;
                continue;
            }
            if error.has_failed_at_name() {
                self.answers(bucket).await?;
            }
            let error = refused_for_a_name(error);
            if !self.puts.learns(bucket, &sums, &error) {
                return Err(self.puts.explained(error));
            }
        }
    }

    async fn probe(&self, bucket: &Bucket, prefix: &str) -> Result<(), StoreError> {
        // HEAD answers have no error code, and a job needs a listing anyway.
        self.client(bucket)
            .await?
            .list_objects_v2()
            .bucket(bucket.as_str())
            .max_keys(1)
            .set_prefix(Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()))
            .customize()
            .interceptor(self.clock.clone())
            .interceptor(http::RequestTerms::probe())
            .send()
            .await
            .map(drop)
            .map_err(|error| EdgeError::from_sdk(format!("list s3://{bucket}"), &error))
    }
}

/// The error of a refused request, after which the store did answer: it was refused for its name, and would be refused again.
fn refused_for_a_name(error: StoreError) -> StoreError {
    match error.is_foreign() {
        true => EdgeError {
            fact: ErrorKind::Rejected,
            ..error
        },
        false => error,
    }
}

/// A client whose requests report to an edge, with the edge's deadlines in place of the SDK's.
fn on_edge(client: &Client, edge: &Edge, egress: &Egress) -> Client {
    let config = client.config().to_builder();
    let config = config
        .http_client(http::client(Some(edge.clone()), egress.clone()))
        .retry_classifier(HeedsRetryAfter)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(TimeoutConfig::disabled());
    Client::from_conf(config.build())
}

/// Converts an entry of a listing of versions.
fn version_meta(version: ObjectVersion, encoded: bool) -> Result<ObjectMeta, String> {
    let class = version.storage_class.as_ref().map(|class| class.as_str());
    let id = version.version_id.as_deref().unwrap_or_default();
    check_length("listing", "VersionId", id, MAX_VERSION_BYTES)?;
    let etag = version.e_tag.as_deref().unwrap_or_default();
    check_length("listing", "ETag", etag, MAX_ETAG_BYTES)?;
    Ok(ObjectMeta {
        key: listed_key(version.key.as_deref(), encoded)?,
        size_bytes: size(version.size),
        etag: plain_etag(version.e_tag.as_deref()),
        modified: instant(version.last_modified.as_ref()),
        storage: storage(class),
        version: version.version_id,
        stored: None,
    })
}

/// Rejects a text of an answer that is longer than its limit.
fn check_length(answer: &str, field: &str, text: &str, limit: usize) -> Result<(), String> {
    let length = text.len();
    match length > limit {
        true => Err(format!(
            "the {answer} has the {field} of {length} bytes: at most {limit} are allowed"
        )),
        false => Ok(()),
    }
}

/// The key of a listed object. A missing or invalid key is an error, since S3 does not send one.
fn listed_key(key: Option<&str>, encoded: bool) -> Result<Key, String> {
    let key = key.ok_or("an object in the listing has no key")?;
    let key = match encoded {
        true => decode_form(key),
        false => key.into(),
    };
    key.parse()
        .map_err(|error: NameError| format!("a key in the listing {error}"))
}

fn storage(class: Option<&str>) -> Storage {
    match class {
        Some("GLACIER" | "DEEP_ARCHIVE") => Storage::Archived,
        Some(_) | None => Storage::Ready,
    }
}

fn size(bytes: Option<i64>) -> u64 {
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or_default()
}

fn plain_etag(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

fn instant(time: Option<&DateTime>) -> Timestamp {
    time.and_then(|time| Timestamp::from_second(time.secs()).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
