//! Checks that a bucket accepts objects to publish, without leaving one behind.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;

use super::S3Store;
use super::puts::Sums;
use crate::edge::EdgeError;
use crate::job::Bucket;
use crate::store::StoreError;

/// The name below the prefix that the trial uses. Such an object never exists.
const NAME: &str = ".handout-check";

/// The MD5 of the empty text, which differs from that of [`BODY`] (RFC 1864).
const OTHER_MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";
const BODY: &[u8] = b"handout check";

/// An entity tag that no object has.
const OTHER_ETAG: &str = "\"handout-check\"";

/// The error codes for a PUT that only fails its condition or its checksum.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
const OBJECTIONS: [&str; 5] = [
    "PreconditionFailed",
    "NoSuchKey",
    "BadDigest",
    "InvalidDigest",
    "ConditionalRequestConflict",
];

/// The result of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteTrial {
    /// The bucket would accept an object.
    Taken,
    /// The server checks neither conditions nor checksums: it has stored an object of a few bytes under this key.
    Left(String),
}

impl S3Store {
    /// Puts an object below `prefix` that a server must refuse: its condition cannot hold, and its `Content-MD5` is wrong.
    /// Servers check permissions before both. The request has the same encryption headers as real ones.
    ///
    /// # Errors
    /// Why publishing there would fail: no permission, no bucket, no answer.
    pub async fn try_put(&self, bucket: &Bucket, prefix: &str) -> Result<WriteTrial, StoreError> {
        let key = format!("{prefix}{NAME}");
        let request = self.client(bucket).await?.put_object();
        let request = request.bucket(bucket.as_str()).key(&key);
        let request = request.if_match(OTHER_ETAG);
        let wrong = Sums {
            md5: Some(OTHER_MD5.to_owned()),
            ..Sums::default()
        };
        let request = self.puts.of_object(request, &wrong);
        let put = request.body(ByteStream::from_static(BODY)).send().await;
        match put {
            Ok(_) => Ok(WriteTrial::Left(key)),
            Err(error) if error.code().is_some_and(|code| OBJECTIONS.contains(&code)) => {
                Ok(WriteTrial::Taken)
            }
            Err(error) => {
                let action = format!("put s3://{bucket}/{key}");
                Err(self.puts.explained(EdgeError::from_sdk(action, &error)))
            }
        }
    }
}
