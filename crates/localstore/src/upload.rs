//! Receives an upload into a draft, and verifies every digest that the client gave.
//!
//! s3s verifies what belongs to the signature (`x-amz-content-sha256`, signed chunks). This module verifies the rest: the length,
//! `Content-MD5` and the `x-amz-checksum-*` of headers and trailers.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>

use std::io;

use futures_util::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, PutObjectInput, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, TrailingHeaders};
use tokio::io::AsyncWriteExt;

/// The maximum size of an object in one PUT. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html>
pub(crate) const LARGEST_UPLOAD: u64 = 5 << 30;

/// The digests that are computed during the upload, and their expected values.
pub(crate) struct Expected {
    length: Option<u64>,
    md5: Option<String>,
    checksums: Checksum,
    /// Checksums that follow the body, by the names of their headers.
    trailers: Vec<String>,
    trailing_headers: Option<TrailingHeaders>,
}

impl Expected {
    /// The expectations of a request about its body.
    pub(crate) fn of(request: &mut S3Request<PutObjectInput>) -> S3Result<Self> {
        let announced = request
            .headers
            .get("x-amz-trailer")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let trailers: Vec<String> = announced
            .split(',')
            .map(|name| name.trim_ascii().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        let input = &mut request.input;
        let length = input
            .content_length
            .and_then(|length| u64::try_from(length).ok());
        if length.is_some_and(|length| length > LARGEST_UPLOAD) {
            return Err(too_large());
        }
        let checksums = Checksum {
            checksum_crc32: input.checksum_crc32.take(),
            checksum_crc32c: input.checksum_crc32c.take(),
            checksum_crc64nvme: input.checksum_crc64nvme.take(),
            checksum_sha1: input.checksum_sha1.take(),
            checksum_sha256: input.checksum_sha256.take(),
            ..Checksum::default()
        };
        let trailing_headers = request.trailing_headers.take();
        Ok(Self {
            length,
            md5: input.content_md5.take(),
            checksums,
            trailers,
            trailing_headers,
        })
    }

    fn hasher(&self) -> ChecksumHasher {
        let wanted = |header: &Option<String>, trailer: &str| {
            header.is_some() || self.trailers.iter().any(|name| name == trailer)
        };
        let sums = &self.checksums;
        ChecksumHasher {
            crc32: wanted(&sums.checksum_crc32, "x-amz-checksum-crc32").then(Crc32::new),
            crc32c: wanted(&sums.checksum_crc32c, "x-amz-checksum-crc32c").then(Crc32c::new),
            crc64nvme: wanted(&sums.checksum_crc64nvme, "x-amz-checksum-crc64nvme")
                .then(Crc64Nvme::new),
            sha1: wanted(&sums.checksum_sha1, "x-amz-checksum-sha1").then(Sha1::new),
            sha256: wanted(&sums.checksum_sha256, "x-amz-checksum-sha256").then(Sha256::new),
        }
    }

    /// Adds the checksums from the trailers.
    fn read_trailers(&mut self) -> S3Result<()> {
        let trailers = self
            .trailing_headers
            .as_ref()
            .and_then(TrailingHeaders::take)
            .unwrap_or_default();
        for name in &self.trailers {
            let sums = &mut self.checksums;
            let sum = match name.as_str() {
                "x-amz-checksum-crc32" => &mut sums.checksum_crc32,
                "x-amz-checksum-crc32c" => &mut sums.checksum_crc32c,
                "x-amz-checksum-crc64nvme" => &mut sums.checksum_crc64nvme,
                "x-amz-checksum-sha1" => &mut sums.checksum_sha1,
                "x-amz-checksum-sha256" => &mut sums.checksum_sha256,
                _ => continue,
            };
            let value = trailers.get(name).and_then(|value| value.to_str().ok());
            let missing = || {
                S3Error::with_message(
                    S3ErrorCode::InvalidRequest,
                    format!("{name} is missing after the body"),
                )
            };
            *sum = Some(value.ok_or_else(missing)?.to_owned());
        }
        Ok(())
    }
}

/// Writes a body into a draft; returns the verified checksums.
pub(crate) async fn receive(
    body: Option<StreamingBlob>,
    draft: &std::fs::File,
    mut expected: Expected,
) -> Result<Checksum, ReceiveError> {
    let mut file = tokio::fs::File::from_std(draft.try_clone()?);
    let mut hasher = expected.hasher();
    let mut md5 = expected.md5.is_some().then(Md5::new);
    let mut length = 0;
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| broken_body(&*error))?;
            length += chunk.len() as u64;
            if length > LARGEST_UPLOAD {
                return Err(too_large().into());
            }
            hasher.update(&chunk);
            if let Some(md5) = &mut md5 {
                md5.update(&chunk);
            }
            file.write_all(&chunk).await?;
        }
    }
    file.flush().await?;
    if expected.length.is_some_and(|expected| expected != length) {
        return Err(S3Error::new(S3ErrorCode::IncompleteBody).into());
    }
    expected.read_trailers()?;
    let md5 = md5.map(|md5| base64(md5.finalize().as_ref()));
    let sums = hasher.finalize();
    if md5 != expected.md5 || sums != expected.checksums {
        let message = "A digest that you specified did not match what we received.";
        return Err(S3Error::with_message(S3ErrorCode::BadDigest, message).into());
    }
    Ok(sums)
}

/// Why a body could not be received: a client error, or a disk error.
pub(crate) enum ReceiveError {
    Refused(S3Error),
    Disk(io::Error),
}

impl From<S3Error> for ReceiveError {
    fn from(error: S3Error) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// The error for a body that ended early or did not match its signature. The types that would tell which are private to s3s.
fn broken_body(error: &(dyn std::error::Error + 'static)) -> S3Error {
    let text = error.to_string();
    let code = match text.rsplit(' ').next() {
        Some("Sha256Mismatch") => S3ErrorCode::BadDigest,
        Some("SignatureMismatch") => S3ErrorCode::SignatureDoesNotMatch,
        _ => S3ErrorCode::IncompleteBody,
    };
    S3Error::with_message(code, "The body is not what the request announced.")
}

fn too_large() -> S3Error {
    let message = "Your proposed upload exceeds the maximum allowed object size.";
    S3Error::with_message(S3ErrorCode::EntityTooLarge, message)
}

/// Base64 is only needed for `Content-MD5`.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let triple = chunk
            .iter()
            .fold(0, |triple, byte| triple << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = triple >> (18 - 6 * place) & 63;
            text.push(if place <= chunk.len() {
                char::from(ALPHABET[sextet])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
