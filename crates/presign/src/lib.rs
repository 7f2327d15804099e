//! Presigned URLs for S3 and CloudFront: pure computation, without an SDK, without async, without I/O.
//!
//! A [`Presigner`] derives the signing key and everything that a batch of URLs shares once; each URL then costs one canonical
//! request and one HMAC. Its URLs are, byte for byte, those of the AWS SDK for Rust.
//!
//! ```
//! use std::time::Duration;
//!
//! use presign::{AccessKey, Addressing, BucketUrl, ExpiresIn, PresignRequest, Presigner};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bucket = BucketUrl::new(
//!     "https://s3.eu-west-1.amazonaws.com",
//!     "acme-reports",
//!     Addressing::VirtualHost,
//! )?;
//! let key = AccessKey {
//!     access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
//!     secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
//!     session_token: None,
//! };
//! let expires_in = ExpiresIn::new(Duration::from_secs(86_400))?;
//! let signed_at = "2026-11-23T08:00:00Z".parse()?;
//! let presigner = Presigner::new(bucket, &key, "eu-west-1", signed_at, expires_in);
//!
//! let url = presigner.presign(&PresignRequest {
//!     key: "2026/11/23/orders.csv",
//!     ..PresignRequest::default()
//! });
//! assert!(url.expose().starts_with(
//!     "https://acme-reports.s3.eu-west-1.amazonaws.com/2026/11/23/orders.csv?"
//! ));
//! // A presigned URL is a bearer token: it is not printed by accident.
//! assert_eq!(format!("{url:?}"), "PresignedUrl(****)");
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! - [`Presigner`], [`PresignRequest`], [`BucketUrl`], [`ServerUrl`]: `GetObject` with Signature Version 4 in the query
//! - [`cloudfront`]: signed URLs with canned and custom policies, RSA and ECDSA keys, SHA-1 and SHA-256
//! - [`disposition`]: file names and `Content-Disposition` values that are safe for any object key
//! - [`explain`]: what a presigned URL opens, which key signed it, when it ends and why it may fail
//! - [`wrapping`]: the signed URL in what a mail system made of it
//! - [`partition`]: AWS's partitions and the regional endpoints of S3
//! - [`midstate`], [`hex`], [`percent`], [`pem`]: building blocks of signatures, also for servers that verify them and for other
//!   uses of HMAC
//!
//! # Features
//!
//! - `cloudfront` (default): the signer of CloudFront URLs, with the RSA and ECDSA code that it needs. Without it, [`explain`] still
//!   reads them.
//!
//! # Scope
//!
//! The crate sends no requests and reads no clock: the caller passes the instant and the credentials. The caller also tracks when
//! credentials end: a URL that temporary credentials signed expires with their session, even if its `X-Amz-Expires` is longer.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html#PresignedUrl-Expiration>

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(feature = "cloudfront")]
pub mod cloudfront;
pub mod disposition;
mod endpoint;
pub mod explain;
pub mod hex;
pub mod midstate;
pub mod partition;
pub mod pem;
pub mod percent;
mod policy;
mod request;
pub mod sigv4;
mod url;
pub mod wrapping;

pub use endpoint::{Addressing, BucketUrl, ServerUrl, ServerUrlError};
pub use request::{CustomParameter, ExpiresIn, ExpiresInError, PresignRequest};
pub use sigv4::{AccessKey, Presigner};
pub use url::{PresignedUrl, signature_in};
