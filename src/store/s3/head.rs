//! HEAD of an object, and the reason of a refused HEAD.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use jiff::Timestamp;
use presign::disposition::{DispositionType, StoredDisposition, clean_name};

use super::{ServerClock, check_length, instant, plain_etag, size, storage};
use crate::bounds::{MAX_ETAG_BYTES, MAX_VERSION_BYTES};
use crate::edge::http::RequestTerms;
use crate::edge::{EdgeError, ErrorKind};
use crate::job::{Bucket, ContentDisposition, Key};
use crate::store::{ObjectMeta, Storage, StoreError, StoredHeaders};

/// The longest media type that is kept: more than any that is registered, with its parameters.
const MAX_MEDIA_TYPE_BYTES: usize = 255;

/// Gets the metadata of an object.
pub(super) async fn head(
    client: &Client,
    clock: &ServerClock,
    bucket: &Bucket,
    key: &Key,
) -> Result<ObjectMeta, StoreError> {
    let head = async || {
        let request = client.head_object().bucket(bucket.as_str());
        let request = request.key(key.as_str()).customize();
        let request = request.interceptor(RequestTerms::naming_a_key());
        let answer = request.interceptor(clock.clone()).send().await;
        let action = format!("get the metadata of s3://{bucket}/{key}");
        answer.map_err(|error| EdgeError::from_sdk(action, &error))
    };
    let answer = match head().await {
        Err(failed) if gives_no_reason(&failed) => {
            if !why_not(client, bucket, key).await? {
                return Ok(of_customer_key(key));
            }
            // The credentials may have been renewed by now.
            head().await.map_err(beside_get)?
        }
        answer => answer?,
    };
    let texts = [
        ("ETag", answer.e_tag.as_deref(), MAX_ETAG_BYTES),
        ("VersionId", answer.version_id.as_deref(), MAX_VERSION_BYTES),
    ];
    for (field, text, limit) in texts {
        check_length("answer", field, text.unwrap_or_default(), limit).map_err(|error| {
            let action = format!("get the metadata of s3://{bucket}/{key}");
            EdgeError::new(action, ErrorKind::Rejected, error)
        })?;
    }
    Ok(meta(key, answer))
}

fn meta(key: &Key, answer: HeadObjectOutput) -> ObjectMeta {
    let class = answer.storage_class.as_ref().map(|class| class.as_str());
    let restored = answer.restore.as_deref().and_then(restored_until);
    let expires = answer.expiration.as_deref().and_then(expiry_date);
    ObjectMeta {
        key: key.clone(),
        size_bytes: size(answer.content_length),
        etag: plain_etag(answer.e_tag.as_deref()),
        version: answer.version_id,
        modified: instant(answer.last_modified.as_ref()),
        storage: match (answer.archive_status, restored) {
            (Some(_), _) => Storage::Archived,
            (None, Some(until)) => Storage::Restored { until },
            (None, None) => match (storage(class), expires) {
                (Storage::Ready, Some(at)) => Storage::Expires { at },
                (storage, _) => storage,
            },
        },
        stored: stored(
            answer.content_disposition.as_deref(),
            answer.content_type.as_deref(),
        ),
    }
}

/// What the headers say of how a browser saves or shows the object.
fn stored(disposition: Option<&str>, content_type: Option<&str>) -> Option<Box<StoredHeaders>> {
    let disposition = disposition.map(StoredDisposition::read);
    let is_type =
        |text: &&str| text.len() <= MAX_MEDIA_TYPE_BYTES && text.contains('/') && text.is_ascii();
    let headers = StoredHeaders {
        disposition: disposition.as_ref().map(|read| match read.disposition {
            DispositionType::Attachment => ContentDisposition::Attachment,
            DispositionType::Inline => ContentDisposition::Inline,
        }),
        file_name: disposition
            .and_then(|read| read.file_name)
            .map(|name| clean_name(&name)),
        content_type: content_type.filter(is_type).map(ToOwned::to_owned),
    };
    (headers != StoredHeaders::default()).then(|| Box::new(headers))
}

/// Whether an answer to HEAD refuses without a reason, since it has no body: the access key may be unknown, its session may
/// have expired, the object may be encrypted with SSE-C, or reading may be denied. The answer to another request has a body
/// with the reason, and causes the source of credentials to be asked again where they are refused.
pub(super) fn gives_no_reason(failed: &EdgeError) -> bool {
    let status = failed.answer.as_ref().map(|answer| answer.status);
    matches!(status, Some(400 | 401 | 403)) && failed.fact != ErrorKind::Elsewhere
}

/// Gets a byte of an object whose HEAD was refused: true if it is returned, false for an object with SSE-C, and else the
/// error.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html>
async fn why_not(client: &Client, bucket: &Bucket, key: &Key) -> Result<bool, StoreError> {
    let request = client.get_object().bucket(bucket.as_str());
    let request = request.key(key.as_str()).range("bytes=0-0").customize();
    let Err(error) = request
        .interceptor(RequestTerms::naming_a_key())
        .send()
        .await
    else {
        return Ok(true);
    };
    match error.code() {
        Some("InvalidRequest") => Ok(false),
        // The object is empty.
        Some("InvalidRange") => Ok(true),
        _ => {
            let action = format!("get the metadata of s3://{bucket}/{key}");
            Err(EdgeError::from_sdk(action, &error))
        }
    }
}

/// The failure of a HEAD although a GET was answered.
fn beside_get(mut failed: EdgeError) -> EdgeError {
    if let Some(answer) = &failed.answer
        && gives_no_reason(&failed)
    {
        let status = answer.status;
        failed.source = format!("HEAD was refused with {status}, and GET was not").into();
    }
    failed
}

fn of_customer_key(key: &Key) -> ObjectMeta {
    ObjectMeta {
        key: key.clone(),
        size_bytes: 0,
        etag: String::new(),
        version: None,
        modified: Timestamp::UNIX_EPOCH,
        storage: Storage::CustomerKey,
        stored: None,
    }
}

/// Until when a restored copy exists: `ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
fn restored_until(header: &str) -> Option<Timestamp> {
    let is_done = header.contains("ongoing-request=\"false\"");
    expiry_date(header).filter(|_| is_done)
}

/// The date in `x-amz-restore`, and in `x-amz-expiration`: `expiry-date="Fri, 21 Dec 2012 00:00:00 GMT", rule-id="…"`, from
/// which on the bucket's lifecycle deletes the object.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
fn expiry_date(header: &str) -> Option<Timestamp> {
    let date = header.split_once("expiry-date=\"")?.1.split('"').next()?;
    let date = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(date.timestamp())
}
