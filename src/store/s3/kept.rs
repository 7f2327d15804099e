//! Objects that are put once and kept: with a checksum by which they are compared, and a retention that nothing shortens.

use std::io::Write;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ObjectLockEnabled, ObjectLockMode};
use base64ct::{Base64, Encoding};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::S3Store;
use super::puts::Sums;
use crate::config::ArchiveLockMode;
use crate::edge::{EdgeError, ErrorKind, http};
use crate::job::{Bucket, Key};
use crate::store::StoreError;

/// The retention of an object, for `x-amz-object-lock-mode` and `x-amz-object-lock-retain-until-date`.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectRetention {
    /// Who may shorten it.
    pub mode: ArchiveLockMode,
    /// Until when nothing deletes or replaces the version.
    pub until: Timestamp,
}

/// What a store says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptObject {
    /// Its size, in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, if the store keeps it.
    pub sha256: Option<[u8; 32]>,
}

impl S3Store {
    /// The size and the checksum of an object; `None` if there is none.
    ///
    /// # Errors
    /// The store's error.
    pub async fn kept(&self, bucket: &Bucket, key: &Key) -> Result<Option<KeptObject>, StoreError> {
        let request = self.client(bucket).await?.head_object();
        let request = request
            .bucket(bucket.as_str())
            .key(key.as_str())
            .checksum_mode(ChecksumMode::Enabled)
            .customize()
            .interceptor(http::RequestTerms::naming_a_key());
        let answer = request.send().await.map_err(|error| {
            let action = format!("get the metadata of s3://{bucket}/{key}");
            EdgeError::from_sdk(action, &error)
        });
        match answer {
            Err(error) if error.fact == ErrorKind::NotFound => Ok(None),
            answer => answer.map(|answer| {
                // A checksum of parts has their number behind it, and is no checksum of the bytes.
                let sum = answer.checksum_sha256.as_deref();
                let sum = sum.and_then(|sum| Base64::decode_vec(sum).ok());
                Some(KeptObject {
                    size: super::size(answer.content_length),
                    sha256: sum.and_then(|sum| sum.try_into().ok()),
                })
            }),
        }
    }

    /// Puts an object whose bytes have this SHA-256. With `is_new`, returns false if there is one under the key, which stays.
    ///
    /// # Errors
    /// The store's error.
    pub async fn put_kept(
        &self,
        bucket: &Bucket,
        key: &Key,
        (bytes, sha256): (Vec<u8>, &[u8; 32]),
        retention: Option<ObjectRetention>,
        is_new: bool,
    ) -> Result<bool, StoreError> {
        let action = || format!("put s3://{bucket}/{key}");
        let request = self.client(bucket).await?.put_object();
        let request = request.bucket(bucket.as_str()).key(key.as_str());
        let request = match retention {
            None => request,
            Some(ObjectRetention { mode, until }) => request
                .object_lock_mode(match mode {
                    ArchiveLockMode::Governance => ObjectLockMode::Governance,
                    ArchiveLockMode::Compliance => ObjectLockMode::Compliance,
                })
                .object_lock_retain_until_date(DateTime::from_secs(until.as_second())),
        };
        let request = self.puts.of_object(request, &Sums::default());
        let request = request
            // With a retention, S3 asks for the name of the algorithm, too.
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(Base64::encode_string(sha256))
            .set_if_none_match(is_new.then(|| "*".to_owned()))
            .content_type("application/octet-stream")
            .body(ByteStream::from(bytes))
            .customize()
            .interceptor(http::RequestTerms::naming_a_key());
        let Err(error) = request.send().await else {
            return Ok(true);
        };
        let error = EdgeError::from_sdk(action(), &error);
        let status = error.answer.as_ref().map(|answer| answer.status);
        match status {
            // The condition: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
            Some(412) if is_new => Ok(false),
            _ => Err(self.puts.explained(error)),
        }
    }

    /// Copies an object into `sink`, and returns its size and the SHA-256 of its bytes; `None` if there is none.
    ///
    /// # Errors
    /// The store's error, or that of `sink`.
    pub async fn copy_kept(
        &self,
        bucket: &Bucket,
        key: &Key,
        sink: &mut (impl Write + Send),
    ) -> Result<Option<KeptObject>, StoreError> {
        let action = || format!("read s3://{bucket}/{key}");
        let request = self.client(bucket).await?.get_object();
        let request = request
            .bucket(bucket.as_str())
            .key(key.as_str())
            .customize()
            .interceptor(http::RequestTerms::naming_a_key());
        let answer = request.send().await;
        let answer = answer.map_err(|error| EdgeError::from_sdk(action(), &error));
        let mut body = match answer {
            Err(error) if error.fact == ErrorKind::NotFound => return Ok(None),
            answer => answer?.body,
        };
        let (mut size, mut digest) = (0, Sha256::new());
        while let Some(some) = body.next().await {
            let some =
                some.map_err(|error| EdgeError::new(action(), ErrorKind::Unreachable, error))?;
            sink.write_all(&some)
                .map_err(|error| EdgeError::new(action(), ErrorKind::Rejected, error))?;
            digest.update(&some);
            size += some.len() as u64;
        }
        Ok(Some(KeptObject {
            size,
            sha256: Some(digest.finalize().into()),
        }))
    }

    /// Whether a bucket has Object Lock, so that objects can be put with a retention.
    ///
    /// # Errors
    /// The store's error, also if the credentials may not ask.
    pub async fn has_object_lock(&self, bucket: &Bucket) -> Result<bool, StoreError> {
        let request = self.client(bucket).await?.get_object_lock_configuration();
        let answer = request.bucket(bucket.as_str()).send().await;
        let answer = answer.map_err(|error| {
            let action = format!("read the Object Lock configuration of s3://{bucket}");
            EdgeError::from_sdk(action, &error)
        });
        match answer {
            // ObjectLockConfigurationNotFoundError
            Err(error) if error.fact == ErrorKind::NotFound => Ok(false),
            answer => Ok(answer?
                .object_lock_configuration
                .and_then(|found| found.object_lock_enabled)
                .is_some_and(|enabled| enabled == ObjectLockEnabled::Enabled)),
        }
    }
}
