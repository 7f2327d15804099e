//! A file that is too large for one PUT, uploaded in parts.
//!
//! The list of ten million links is such a file. S3 shows the object only when all parts are uploaded. The parts of an
//! interrupted upload cost money until a lifecycle rule of the bucket aborts it.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};

use super::puts::{Payload, Puts, has_checksums};
use crate::edge::http::RequestTerms;
use crate::edge::{EdgeError, ErrorKind};
use crate::job::{Bucket, Key};
use crate::store::{Content, StoreError};

/// The most bytes that S3 accepts in a PUT.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html>
pub(super) const LARGEST_PUT: u64 = 5_000_000_000;

/// The most parts of an upload, and the least bytes of each but the last.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MAX_PARTS: u64 = 10_000;
const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// The most parts of a file that is just too large for one PUT: after an error, a single part is sent again.
const PARTS_OF_LARGEST_PUT: u64 = 32;

/// How long S3 may take to put an object of `size_bytes` together from its parts, at most: "several minutes", its documentation says.
/// Servers that copy the parts take longer for more of them. The answer to a small one is missed sooner, if its connection died.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
pub(super) fn putting_together(size_bytes: u64) -> Duration {
    const LEAST: Duration = Duration::from_secs(20);
    const MOST: Duration = Duration::from_secs(10 * 60);
    const BYTES_PER_SEC: u64 = 20_000_000;
    (LEAST + Duration::from_secs(size_bytes / BYTES_PER_SEC)).min(MOST)
}

/// An upload in progress.
pub(super) struct Upload<'a> {
    client: &'a Client,
    puts: &'a Puts,
    bucket: &'a Bucket,
    key: &'a Key,
    id: String,
}

impl<'a> Upload<'a> {
    /// Starts an upload to a key; the object does not exist until [`Upload::complete`].
    pub(super) async fn begin(
        client: &'a Client,
        puts: &'a Puts,
        bucket: &'a Bucket,
        key: &'a Key,
        content: Content,
    ) -> Result<Self, StoreError> {
        let action = format!("start the upload of s3://{bucket}/{key}");
        let request = client.create_multipart_upload().bucket(bucket.as_str());
        let request = request
            .key(key.as_str())
            .content_type(content.media_type)
            .cache_control(content.cache_control)
            .set_content_encoding(content.encoding.map(ToOwned::to_owned))
            // S3 refuses parts with a checksum of another kind than the upload was started with.
            .set_checksum_algorithm(has_checksums(client).then_some(ChecksumAlgorithm::Crc32));
        let request = puts.of_upload(request).customize();
        let id = match request
            .interceptor(RequestTerms::naming_a_key())
            .send()
            .await
        {
            Ok(begun) => begun.upload_id,
            Err(error) => return Err(puts.explained(EdgeError::from_sdk(action, &error))),
        };
        let no_id = || EdgeError::new(action, ErrorKind::Rejected, "the upload was given no id");
        Ok(Self {
            client,
            puts,
            bucket,
            key,
            id: id.ok_or_else(no_id)?,
        })
    }

    /// Uploads a file as a whole: after an error, the upload is aborted.
    pub(super) async fn file(
        self,
        path: &Path,
        length: u64,
        largest_put: u64,
    ) -> Result<(), StoreError> {
        let uploaded = match self.parts(path, length, largest_put).await {
            Ok(parts) => self.complete(parts, length).await,
            Err(error) => Err(error),
        };
        if uploaded.is_err() {
            self.abort().await;
        }
        uploaded
    }

    async fn parts(
        &self,
        path: &Path,
        length: u64,
        largest_put: u64,
    ) -> Result<Vec<CompletedPart>, StoreError> {
        let part_length = part_length(length, largest_put);
        let mut parts = Vec::new();
        let mut from = 0;
        while from < length {
            let some = part_length.min(length - from);
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            parts.push(self.part(number, path, from, some).await?);
            from += some;
        }
        Ok(parts)
    }

    async fn part(
        &self,
        number: i32,
        path: &Path,
        from: u64,
        length: u64,
    ) -> Result<CompletedPart, StoreError> {
        let Self { bucket, key, .. } = *self;
        let action = || format!("upload part {number} of s3://{bucket}/{key}");
        let unreadable =
            |error: std::io::Error| EdgeError::new(action(), ErrorKind::Rejected, error);
        let payload = Payload::File {
            path: path.to_owned(),
            from,
            length,
        };
        loop {
            let sums = self.puts.sums(self.client, bucket, &payload).await;
            let sums = sums.map_err(unreadable)?;
            let request = self.client.upload_part().bucket(bucket.as_str());
            let request = request
                .key(key.as_str())
                .upload_id(&self.id)
                .part_number(number)
                .set_checksum_crc32(sums.crc32.clone())
                .set_content_md5(sums.md5.clone())
                .body(payload.body().await.map_err(unreadable)?);
            let request = request
                .customize()
                .interceptor(RequestTerms::naming_a_key());
            let error = match request.send().await {
                Ok(part) => {
                    return Ok(CompletedPart::builder()
                        .part_number(number)
                        .set_e_tag(part.e_tag)
                        .set_checksum_crc32(sums.crc32)
                        .build());
                }
                Err(error) => EdgeError::from_sdk(action(), &error),
            };
            if !self.puts.learns(bucket, &sums, &error) {
                return Err(self.puts.explained(error));
            }
        }
    }

    async fn complete(&self, parts: Vec<CompletedPart>, length: u64) -> Result<(), StoreError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(self.bucket.as_str())
            .key(self.key.as_str())
            .upload_id(&self.id)
            .multipart_upload(parts.build())
            .customize()
            .interceptor(RequestTerms::answer_within(putting_together(length)).and_names_a_key())
            .send()
            .await;
        let action = || format!("put s3://{}/{} together", self.bucket, self.key);
        completed
            .map(drop)
            .map_err(|error| EdgeError::from_sdk(action(), &error))
    }

    /// Aborts the upload. The cause is reported by the caller; a failure to abort is only logged.
    async fn abort(&self) {
        let aborted = self
            .client
            .abort_multipart_upload()
            .bucket(self.bucket.as_str())
            .key(self.key.as_str())
            .upload_id(&self.id)
            .customize()
            .interceptor(RequestTerms::naming_a_key())
            .send()
            .await;
        if let Err(error) = aborted {
            let action = format!("abort the upload of s3://{}/{}", self.bucket, self.key);
            let error = EdgeError::from_sdk(action, &error);
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(
                error,
                "parts of an aborted upload remain in the bucket; a lifecycle rule can remove them"
            );
        }
    }
}

/// The length of each part except the last: all are equal, which some servers require.
fn part_length(length: u64, largest_put: u64) -> u64 {
    (largest_put / PARTS_OF_LARGEST_PUT)
        .max(length.div_ceil(MAX_PARTS))
        .max(SMALLEST_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_has_more_parts_or_smaller_ones_than_s3_takes() {
        for (length, parts) in [
            (LARGEST_PUT + 1, 33),
            (100 * LARGEST_PUT, 3_200),
            (10_000 * LARGEST_PUT, 10_000),
        ] {
            let part = part_length(length, LARGEST_PUT);
            assert!((SMALLEST_PART..=LARGEST_PUT).contains(&part), "{length}");
            assert_eq!(length.div_ceil(part), parts, "{length}");
        }
        assert_eq!(part_length(7, 6), SMALLEST_PART);
    }
}
