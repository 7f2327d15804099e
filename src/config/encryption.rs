//! `encryption`: the server-side encryption of uploaded objects.

use serde::{Deserialize, Serialize};

/// Server-side encryption of uploaded objects: the values of `x-amz-server-side-encryption`.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Encryption {
    /// With keys of S3 (SSE-S3).
    #[serde(rename = "AES256")]
    Aes256,
    /// With a KMS key (SSE-KMS).
    #[serde(rename = "aws:kms")]
    Kms,
    /// Dual-layer, with a KMS key (DSSE-KMS).
    #[serde(rename = "aws:kms:dsse")]
    KmsDsse,
}

impl Encryption {
    /// Whether a KMS key encrypts.
    pub const fn is_kms(self) -> bool {
        match self {
            Self::Kms | Self::KmsDsse => true,
            Self::Aes256 => false,
        }
    }
}
