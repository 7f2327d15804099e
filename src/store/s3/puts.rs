//! The headers of a PUT: how the store encrypts the object, and the checksums by which it verifies the bytes.
//!
//! A checksum is a header that is computed before the bytes are sent, never a trailer behind them: a trailer makes an
//! `aws-chunked` body of them, which some S3-compatible servers reject or store as the object's own `Content-Encoding`.
//!
//! | the client's `request_checksum_calculation` | with the bytes |
//! |---|---|
//! | `when_supported`: AWS, or as the environment says | `x-amz-checksum-crc32` |
//! | `when_required`: other servers | nothing |
//! | either, at a bucket that once asked for more | `Content-MD5` besides |

use std::collections::HashSet;
use std::io::{self, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::ServerSideEncryption;
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use flate2::Crc;
use md5::{Digest, Md5};

use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::timeout;

use super::READ_AT_ONCE;
use crate::config::Encryption;
use crate::edge::{EdgeError, ErrorKind};
use crate::job::Bucket;

/// How long a read of a file may take.
const READ_PATIENCE: Duration = Duration::from_secs(10);

const fn sse(encryption: Encryption) -> ServerSideEncryption {
    match encryption {
        Encryption::Aes256 => ServerSideEncryption::Aes256,
        Encryption::Kms => ServerSideEncryption::AwsKms,
        Encryption::KmsDsse => ServerSideEncryption::AwsKmsDsse,
    }
}

/// The settings of all PUTs of a connection. Clones share what they learn about buckets.
#[derive(Debug, Clone, Default)]
pub struct Puts {
    /// The section of the configuration with the settings, such as `connections.reports`; `None` without one.
    section: Option<Arc<str>>,
    encryption: Option<Encryption>,
    kms_key_id: Option<String>,
    /// The buckets that require a checksum.
    asked_by: Arc<Mutex<HashSet<Bucket>>>,
}

/// The checksums of bytes, in Base64.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(super) crc32: Option<String>,
    pub(super) md5: Option<String>,
}

impl Puts {
    /// The settings of a section of the configuration.
    pub fn new(section: &str, encryption: Option<Encryption>, kms_key_id: Option<String>) -> Self {
        Self {
            section: Some(section.into()),
            encryption,
            kms_key_id,
            asked_by: Arc::default(),
        }
    }

    fn asked_by(&self) -> MutexGuard<'_, HashSet<Bucket>> {
        self.asked_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes the checksums of these bytes, as far as the client sends them and the bucket requires them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) async fn sums(
        &self,
        client: &Client,
        bucket: &Bucket,
        payload: &Payload,
    ) -> io::Result<Sums> {
        let wants_md5 = self.asked_by().contains(bucket);
        payload.sums(has_checksums(client), wants_md5).await
    }

    /// Whether the bucket requires a checksum that the refused request lacked. Then the request is retried with it, and all
    /// later requests have it.
    pub(crate) fn learns(&self, bucket: &Bucket, sums: &Sums, error: &EdgeError) -> bool {
        let is_asked = sums.md5.is_none() && asks_for_checksum(error);
        if is_asked {
            self.asked_by().insert(bucket.clone());
        }
        is_asked
    }

    /// A PUT with its encryption and checksum headers.
    pub(crate) fn of_object(
        &self,
        request: PutObjectFluentBuilder,
        sums: &Sums,
    ) -> PutObjectFluentBuilder {
        request
            .set_server_side_encryption(self.encryption.map(sse))
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_checksum_crc32(sums.crc32.clone())
            .set_content_md5(sums.md5.clone())
    }

    /// The start of an upload in parts, with the headers for all parts.
    pub(super) fn of_upload(
        &self,
        request: CreateMultipartUploadFluentBuilder,
    ) -> CreateMultipartUploadFluentBuilder {
        request
            .set_server_side_encryption(self.encryption.map(sse))
            .set_ssekms_key_id(self.kms_key_id.clone())
    }

    /// Adds advice to a refused PUT where encryption may be the cause: S3 denies without naming the policy.
    pub(crate) fn explained(&self, mut error: EdgeError) -> EdgeError {
        if let Some(section) = &self.section
            && let Some(hint) = self.hint(section, error.fact)
        {
            error.source = format!("{}; {hint}", error.source).into();
        }
        error
    }

    fn hint(&self, section: &str, fact: ErrorKind) -> Option<String> {
        match (self.encryption, fact) {
            (None, ErrorKind::Denied) => Some(format!(
                "if the bucket's policy requires encryption, set {section}.sse"
            )),
            (Some(encryption), ErrorKind::Denied | ErrorKind::Rejected) => {
                let header = sse(encryption);
                let needs = match encryption.is_kms() {
                    true => {
                        ", and the credentials kms:GenerateDataKey and kms:Decrypt with its key"
                    }
                    false => "",
                };
                Some(format!(
                    "{section}.sse asks for {header}: the bucket and its policy must allow that{needs}"
                ))
            }
            _ => None,
        }
    }
}

/// Whether a client sends checksums where a request does not require them.
pub(super) fn has_checksums(client: &Client) -> bool {
    let calculation = client.config().request_checksum_calculation();
    calculation != Some(&RequestChecksumCalculation::WhenRequired)
}

/// Whether a store requires a checksum, as S3 does in buckets with Object Lock: `InvalidRequest`,
/// "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters".
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html#object-lock-put-object>
///
/// Servers use several codes (MinIO: `MissingContentMD5`), and all name the header.
fn asks_for_checksum(error: &EdgeError) -> bool {
    let words = error.source.to_string().to_ascii_lowercase();
    let status = error.answer.as_ref().map(|answer| answer.status);
    let names_one = ["content-md5", "contentmd5", "x-amz-checksum"];
    matches!(status, Some(400 | 403 | 411 | 412))
        && names_one.iter().any(|header| words.contains(header))
}

/// The bytes of a PUT, or of a part.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// From memory.
    Bytes(Bytes),
    /// From a file: a number of bytes from an offset.
    File {
        path: PathBuf,
        from: u64,
        length: u64,
    },
}

impl Payload {
    /// The bytes as a body for the SDK, from the beginning.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) async fn body(&self) -> io::Result<ByteStream> {
        match self {
            Self::Bytes(bytes) => Ok(ByteStream::from(bytes.clone())),
            Self::File { path, from, length } => {
                let file = ByteStream::read_from()
                    .path(path)
                    .offset(*from)
                    .length(Length::Exact(*length))
                    .buffer_size(READ_AT_ONCE);
                file.build().await.map_err(io::Error::other)
            }
        }
    }

    async fn sums(&self, crc32: bool, md5: bool) -> io::Result<Sums> {
        let mut summing = Summing {
            crc32: crc32.then(Crc::new),
            md5: md5.then(Md5::new),
        };
        match self {
            Self::Bytes(bytes) => summing.update(bytes),
            Self::File { .. } if !(crc32 || md5) => {}
            Self::File { path, from, length } => {
                let mut file = tokio::fs::File::open(path).await?;
                file.set_max_buf_size(READ_AT_ONCE);
                file.seek(SeekFrom::Start(*from)).await?;
                let (mut file, mut some) = (file.take(*length), vec![0; READ_AT_ONCE]);
                loop {
                    // A mount whose server is gone returns neither bytes nor an error.
                    match timeout(READ_PATIENCE, file.read(&mut some)).await?? {
                        0 => break,
                        read => summing.update(&some[..read]),
                    }
                }
            }
        }
        Ok(summing.end())
    }
}

struct Summing {
    crc32: Option<Crc>,
    md5: Option<Md5>,
}

impl Summing {
    fn update(&mut self, bytes: &[u8]) {
        if let Some(crc32) = &mut self.crc32 {
            crc32.update(bytes);
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }

    fn end(self) -> Sums {
        let crc32 = self.crc32.map(|crc32| crc32.sum().to_be_bytes());
        Sums {
            crc32: crc32.map(|crc32| Base64::encode_string(&crc32)),
            md5: self.md5.map(|md5| Base64::encode_string(&md5.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::ServiceAnswer;

    #[tokio::test]
    async fn bytes_and_a_part_of_a_file_have_the_checksums_that_every_program_computes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let padding = vec![b'-'; READ_AT_ONCE + 7];
        std::fs::write(&path, [&padding[..], b"123456789", b"rest"].concat()).unwrap();
        let part = Payload::File {
            path,
            from: padding.len() as u64,
            length: 9,
        };
        for payload in [Payload::Bytes(Bytes::from_static(b"123456789")), part] {
            let Sums { crc32, md5 } = payload.sums(true, true).await.unwrap();
            // 0xcbf43926, the check value of CRC-32, and `printf 123456789 | openssl md5 -binary | base64`.
            assert_eq!(crc32.as_deref(), Some("y/Q5Jg=="));
            assert_eq!(md5.as_deref(), Some("JfnnlDI7RTiF9RgfG2JNCw=="));
            let none = payload.sums(false, false).await.unwrap();
            assert_eq!((none.crc32, none.md5), (None, None));
        }
    }

    fn refused(status: u16, words: &str) -> EdgeError {
        EdgeError {
            answer: Some(Box::new(ServiceAnswer {
                status,
                code: None,
                place: None,
                retry_after: None,
                section: None,
            })),
            ..EdgeError::new("put s3://b/k", ErrorKind::Rejected, words)
        }
    }

    #[test]
    fn a_bucket_that_asks_for_a_checksum_gets_content_md5_from_then_on_and_is_told_apart_from_others()
     {
        let bucket: Bucket = "locked".parse().unwrap();
        for words in [
            "InvalidRequest: Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
            "InvalidRequest: Content-MD5 HTTP header is required for Put Part requests with Object Lock parameters",
            "MissingContentMD5: Missing required header for this request: Content-Md5.",
        ] {
            let puts = Puts::default();
            assert!(puts.learns(&bucket, &Sums::default(), &refused(400, words)));
            assert!(puts.clone().asked_by().contains(&bucket), "{words}");
            let sent = Sums {
                md5: Some("x".to_owned()),
                ..Sums::default()
            };
            assert!(
                !puts.learns(&bucket, &sent, &refused(400, words)),
                "once only"
            );
        }
        for (status, words) in [
            (500, "InternalError: Content-MD5 could not be computed"),
            (400, "InvalidRequest: the encryption is not supported"),
            (403, "AccessDenied: Access Denied"),
        ] {
            let puts = Puts::default();
            let error = refused(status, words);
            assert!(!puts.learns(&bucket, &Sums::default(), &error), "{words}");
        }
    }
}
