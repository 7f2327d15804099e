//! `encryption`: how a store is asked to encrypt what is put there.

use serde::{Deserialize, Serialize};

/// How a store encrypts what is put there: the values of `x-amz-server-side-encryption`.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Encryption {
    /// With keys of the store (SSE-S3).
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of KMS (SSE-KMS).
    #[serde(rename = "aws:kms")]
    Kms,
    /// Twice, with a key of KMS (DSSE-KMS).
    #[serde(rename = "aws:kms:dsse")]
    KmsDsse,
}

impl Encryption {
    /// Whether a key of KMS encrypts.
    pub const fn is_kms(self) -> bool {
        match self {
            Self::Kms | Self::KmsDsse => true,
            Self::Aes256 => false,
        }
    }
}
