//! Uploads whose parts are ranges of other objects, and reading of ranges.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use base64ct::{Base64, Encoding};
use bytes::{Bytes, BytesMut};

use super::parts::putting_together;
use super::{Payload, S3Store, StoreError, check_length, plain_etag, size};
use crate::bounds::MAX_ETAG_BYTES;
use crate::edge::http::RequestTerms;
use crate::edge::{EdgeError, ErrorKind};
use crate::job::{Bucket, Key};
use crate::store::multipart::{
    LearnedWay, Multipart, PartsUpload, PartsWay, StoredPart, WholeObject,
};
use crate::store::{Content, ObjectMeta};
use crate::text::percent::encode;

/// How long a store may take to copy a part of `bytes`; it answers when the copy is complete. Many copies of a store share its disks.
/// The answer to a small one is missed sooner, if its connection died.
fn copying(bytes: u64) -> Duration {
    const SMALL: (Duration, u64) = (Duration::from_secs(20), 2_000_000);
    const LARGE: (Duration, u64) = (Duration::from_secs(60), 20_000_000);
    let within = |(least, per_sec): (Duration, u64)| least + Duration::from_secs(bytes / per_sec);
    within(SMALL).min(within(LARGE))
}

/// The most parts in a page of a list, and the most pages: an upload has at most 10,000 parts.
const MAX_PART_PAGES: usize = 100;

#[async_trait]
impl Multipart for S3Store {
    fn learned(&self) -> LearnedWay {
        self.parts_way.clone()
    }

    async fn begin(
        &self,
        bucket: &Bucket,
        key: &Key,
        content: Content,
    ) -> Result<PartsUpload, StoreError> {
        let way = self.parts_way.get();
        let is_summed = way == PartsWay::Summed;
        let action = format!("start the upload of s3://{bucket}/{key}");
        let client = self.client(bucket).await?;
        let request = client.create_multipart_upload().bucket(bucket.as_str());
        let request = request
            .key(key.as_str())
            .content_type(content.media_type)
            .cache_control(content.cache_control)
            .set_checksum_algorithm(is_summed.then_some(ChecksumAlgorithm::Crc32))
            .set_checksum_type(is_summed.then_some(ChecksumType::FullObject));
        let request = self.puts.of_upload(request).customize();
        let request = request.interceptor(RequestTerms::naming_a_key());
        let begun = request.send().await.map_err(|error| {
            let error = EdgeError::from_sdk(action.clone(), &error);
            self.puts.explained(error)
        })?;
        let no_id = || EdgeError::new(action, ErrorKind::Rejected, "the upload was given no id");
        Ok(PartsUpload {
            bucket: bucket.clone(),
            key: key.clone(),
            id: begun.upload_id.ok_or_else(no_id)?,
            way,
        })
    }

    async fn parts(&self, upload: &PartsUpload) -> Result<Option<Vec<StoredPart>>, StoreError> {
        let PartsUpload {
            bucket, key, id, ..
        } = upload;
        let action = || format!("list the parts of s3://{bucket}/{key}");
        let client = self.client(bucket).await?;
        let (mut parts, mut after) = (Vec::new(), None);
        for _ in 0..MAX_PART_PAGES {
            let request = client.list_parts().bucket(bucket.as_str());
            let request = request
                .key(key.as_str())
                .upload_id(id)
                .set_part_number_marker(after)
                .customize();
            let request = request.interceptor(RequestTerms::naming_a_key());
            let page = match request.send().await {
                Ok(page) => page,
                Err(error) => {
                    let error = EdgeError::from_sdk(action(), &error);
                    let answer = error.answer.as_deref();
                    let code = answer.and_then(|answer| answer.code.as_deref());
                    return match code == Some("NoSuchUpload") {
                        true => Ok(None),
                        false => Err(error),
                    };
                }
            };
            for part in page.parts.unwrap_or_default() {
                let number = part.part_number.unwrap_or_default();
                let crc32 = part.checksum_crc32.as_deref();
                parts.push(stored_part(
                    number,
                    size(part.size),
                    part.e_tag,
                    crc32,
                    action,
                )?);
            }
            after = page.next_part_number_marker;
            if page.is_truncated != Some(true) || after.is_none() {
                break;
            }
        }
        Ok(Some(parts))
    }

    async fn copy_part(
        &self,
        upload: &PartsUpload,
        number: u32,
        source: (&Bucket, &ObjectMeta),
        range: Range<u64>,
    ) -> Result<StoredPart, StoreError> {
        let (from, object) = source;
        let action = || format!("copy s3://{from}/{} into a part", object.key);
        let mut copied = format!("{from}/{}", encode(object.key.as_str(), b"/"));
        if let Some(version) = &object.version {
            copied.push_str("?versionId=");
            copied.push_str(&encode(version, b""));
        }
        let length = range.end - range.start;
        let terms = RequestTerms::answer_within(copying(length)).and_names_a_key();
        let request = self.client(&upload.bucket).await?.upload_part_copy();
        let request = request
            .bucket(upload.bucket.as_str())
            .key(upload.key.as_str())
            .upload_id(&upload.id)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .copy_source(copied)
            .copy_source_range(format!("bytes={}-{}", range.start, range.end - 1))
            .set_copy_source_if_match(tag(object));
        let answer = request.customize().interceptor(terms).send().await;
        let answer = answer.map_err(|error| EdgeError::from_sdk(action(), &error))?;
        let Some(copy) = answer.copy_part_result else {
            let reason = "the answer has no entity tag of the copy";
            return Err(EdgeError::new(action(), ErrorKind::Failed, reason));
        };
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let crc32 = copy.checksum_crc32.as_deref();
        stored_part(number, length, copy.e_tag, crc32, action)
    }

    async fn put_part(
        &self,
        upload: &PartsUpload,
        number: u32,
        bytes: Bytes,
        crc32: u32,
    ) -> Result<StoredPart, StoreError> {
        let PartsUpload { bucket, key, .. } = upload;
        let action = || format!("upload part {number} of s3://{bucket}/{key}");
        let unreadable =
            |error: std::io::Error| EdgeError::new(action(), ErrorKind::Rejected, error);
        let client = self.client(bucket).await?;
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let length = bytes.len() as u64;
        let payload = Payload::Bytes(bytes);
        let own_sum = (upload.way == PartsWay::Summed).then(|| written(crc32));
        loop {
            let sums = self.puts.sums(&client, bucket, &payload).await;
            let sums = sums.map_err(unreadable)?;
            let request = client.upload_part().bucket(bucket.as_str());
            let request = request
                .key(key.as_str())
                .upload_id(&upload.id)
                .part_number(number)
                .set_checksum_crc32(own_sum.clone().or_else(|| sums.crc32.clone()))
                .set_content_md5(sums.md5.clone())
                .body(payload.body().await.map_err(unreadable)?);
            let request = request
                .customize()
                .interceptor(RequestTerms::naming_a_key());
            let error = match request.send().await {
                Ok(part) => {
                    let stored = stored_part(number, length, part.e_tag, None, action)?;
                    return Ok(StoredPart {
                        crc32: Some(crc32),
                        ..stored
                    });
                }
                Err(error) => EdgeError::from_sdk(action(), &error),
            };
            if !self.puts.learns(bucket, &sums, &error) {
                return Err(self.puts.explained(error));
            }
        }
    }

    async fn complete(
        &self,
        upload: &PartsUpload,
        parts: &[StoredPart],
        whole: WholeObject,
    ) -> Result<(), StoreError> {
        let PartsUpload {
            bucket, key, way, ..
        } = upload;
        let is_summed = *way == PartsWay::Summed;
        let part = |part: &StoredPart| {
            CompletedPart::builder()
                .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
                .e_tag(&part.etag)
                .set_checksum_crc32(part.crc32.filter(|_| is_summed).map(written))
                .build()
        };
        let listed = parts.iter().map(part).collect();
        let listed = CompletedMultipartUpload::builder().set_parts(Some(listed));
        let request = self.client(bucket).await?.complete_multipart_upload();
        let request = request
            .bucket(bucket.as_str())
            .key(key.as_str())
            .upload_id(&upload.id)
            .multipart_upload(listed.build())
            .set_checksum_crc32(is_summed.then(|| written(whole.crc32)))
            .set_checksum_type(is_summed.then_some(ChecksumType::FullObject))
            .set_mpu_object_size(is_summed.then(|| whole.size_bytes.cast_signed()));
        let terms = RequestTerms::answer_within(putting_together(whole.size_bytes));
        let completed = request
            .customize()
            .interceptor(terms.and_names_a_key())
            .send()
            .await;
        let action = || format!("put s3://{bucket}/{key} together");
        completed
            .map(drop)
            .map_err(|error| EdgeError::from_sdk(action(), &error))
    }

    async fn abort(&self, upload: &PartsUpload) -> Result<(), StoreError> {
        let PartsUpload {
            bucket, key, id, ..
        } = upload;
        let request = self.client(bucket).await?.abort_multipart_upload();
        let request = request
            .bucket(bucket.as_str())
            .key(key.as_str())
            .upload_id(id);
        let request = request
            .customize()
            .interceptor(RequestTerms::naming_a_key());
        let action = || format!("abort the upload of s3://{bucket}/{key}");
        let aborted = request.send().await;
        aborted
            .map(drop)
            .map_err(|error| EdgeError::from_sdk(action(), &error))
    }
}

impl S3Store {
    /// Reads a range of an object in the state in which it was listed.
    pub(super) async fn read_range(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let action = || format!("read s3://{bucket}/{}", object.key);
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let request = self.client(bucket).await?.get_object();
        let request = request
            .bucket(bucket.as_str())
            .key(object.key.as_str())
            .set_version_id(object.version.clone())
            .set_if_match(tag(object))
            .range(format!("bytes={}-{}", range.start, range.end - 1))
            .customize()
            .interceptor(RequestTerms::naming_a_key());
        let answer = request.send().await;
        let answer = answer.map_err(|error| EdgeError::from_sdk(action(), &error))?;
        let mut body = answer.body;
        let mut bytes = BytesMut::with_capacity(wanted);
        while let Some(some) = body.next().await {
            let some =
                some.map_err(|error| EdgeError::new(action(), ErrorKind::Unreachable, error))?;
            if bytes.len() + some.len() > wanted {
                let reason = format!("more than the {wanted} bytes that were asked for");
                return Err(EdgeError::new(action(), ErrorKind::Rejected, reason));
            }
            bytes.extend_from_slice(&some);
        }
        match bytes.len() == wanted {
            true => Ok(bytes.freeze()),
            false => {
                let reason = format!("{} of {wanted} bytes were sent", bytes.len());
                Err(EdgeError::new(action(), ErrorKind::Unreachable, reason))
            }
        }
    }

    /// The CRC-32 of all bytes of an object, where the store keeps it and the object is as it was listed.
    pub(super) async fn kept_crc32(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
    ) -> Result<Option<u32>, StoreError> {
        let action = || format!("get the checksum of s3://{bucket}/{}", object.key);
        let request = self.client(bucket).await?.head_object();
        let request = request
            .bucket(bucket.as_str())
            .key(object.key.as_str())
            .set_version_id(object.version.clone())
            .checksum_mode(ChecksumMode::Enabled)
            .customize()
            .interceptor(RequestTerms::naming_a_key());
        let answer = request.send().await;
        let answer = answer.map_err(|error| EdgeError::from_sdk(action(), &error))?;
        let is_whole = answer
            .checksum_type
            .as_ref()
            .is_none_or(|kind| *kind == ChecksumType::FullObject);
        let is_listed = plain_etag(answer.e_tag.as_deref()) == object.etag;
        let kept = answer.checksum_crc32.as_deref().and_then(read_sum);
        Ok(kept.filter(|_| is_whole && is_listed))
    }
}

/// The condition that an object is as it was listed.
fn tag(object: &ObjectMeta) -> Option<String> {
    (!object.etag.is_empty()).then(|| format!("\"{}\"", object.etag))
}

fn stored_part(
    number: i32,
    size_bytes: u64,
    etag: Option<String>,
    crc32: Option<&str>,
    action: impl Fn() -> String,
) -> Result<StoredPart, StoreError> {
    let rejected = |reason: String| EdgeError::new(action(), ErrorKind::Failed, reason);
    let etag = etag.ok_or_else(|| rejected("the answer has no entity tag".to_owned()))?;
    check_length("answer", "ETag", &etag, MAX_ETAG_BYTES).map_err(rejected)?;
    Ok(StoredPart {
        number: number.unsigned_abs(),
        size_bytes,
        etag,
        crc32: crc32.and_then(read_sum),
    })
}

/// A checksum as headers have it: its four bytes in Base64.
fn written(crc32: u32) -> String {
    Base64::encode_string(&crc32.to_be_bytes())
}

/// Reads a checksum; `None` for that of several parts, which ends in their number.
fn read_sum(text: &str) -> Option<u32> {
    let mut bytes = [0; 4];
    let read = Base64::decode(text, &mut bytes).ok()?;
    Some(u32::from_be_bytes(read.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_copy_is_missed_within_half_a_minute_and_a_large_one_has_minutes() {
        let seconds = |bytes| copying(bytes).as_secs();
        assert_eq!(seconds(0), 20);
        assert_eq!(seconds(12 << 20), 26);
        assert_eq!(seconds(100_000_000), 65);
        assert_eq!(seconds(5 << 30), 328);
        let seconds = |bytes| putting_together(bytes).as_secs();
        assert_eq!(
            (seconds(0), seconds(1 << 30), seconds(48 << 40)),
            (20, 73, 600)
        );
    }

    #[test]
    fn a_checksum_is_read_as_it_is_written_and_one_of_parts_is_none() {
        assert_eq!(written(0xcbf4_3926), "y/Q5Jg==");
        assert_eq!(read_sum("y/Q5Jg=="), Some(0xcbf4_3926));
        for other in ["y/Q5Jg==-3", "", "y/Q5", "no base64"] {
            assert_eq!(read_sum(other), None, "{other}");
        }
    }
}
