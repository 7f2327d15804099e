//! Why no link was signed, with advice.

use std::io;
use std::path::PathBuf;

use aws_credential_types::provider::error::CredentialsError;
use handout::edge::EdgeError;
use handout::job::Bucket;
use handout::job::phrase::PhraseError;
use handout::plan::{ExpiryGuard, Limit, Shortfall};
use presign::cloudfront::CloudFrontError;

/// Why no link was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PresignError {
    /// No setting names the region.
    #[error(
        "no region is known: give --region, have it looked up by --find-region, or set AWS_REGION or a region in the profile"
    )]
    NoRegion,
    /// There are no credentials.
    #[error(
        "there are no credentials to sign with: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile by --profile or AWS_PROFILE, or a connection by --connection"
    )]
    NoCredentials(#[source] CredentialsError),
    /// There is no directory for the audit log.
    #[error(
        "no directory for the audit log: set XDG_STATE_HOME, or state_dir in a configuration that --config names, or do without the log by --no-audit"
    )]
    NoState,
    /// The directory for the audit log cannot be written.
    #[error(
        "no directory for the audit log: {} cannot be prepared: set state_dir in the configuration, or XDG_STATE_HOME, to a place that can be written, or do without the log by --no-audit",
        path.display()
    )]
    NoPlace {
        /// The state directory.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A placeholder in --filename has no value.
    #[error("--filename {0}")]
    Filename(#[source] PhraseError),
    /// CloudFront does not support such a link.
    #[error(transparent)]
    CloudFront(#[from] CloudFrontError),
    /// There is no distribution.
    #[error(
        "connection {connection} has no distribution in front of s3://{bucket}/: see [connections.{connection}.cloudfront], or leave out --via"
    )]
    NoCloudFront {
        /// The connection.
        connection: String,
        /// The bucket that the link should open.
        bucket: Bucket,
    },
    /// S3 did not return the bucket's region.
    #[error("the bucket's region could not be found out; give --region")]
    NoRegionFound(#[source] EdgeError),
    /// The links could not live as long as requested.
    #[error("--expires-in asks for {}, but {}; {advice}", shortfall.asked, shortfall.limit)]
    TooShort {
        /// The requested lifetime and its limit.
        shortfall: Shortfall,
        /// Advice.
        advice: &'static str,
    },
}

/// Advice for links that cannot live as long as requested.
pub(super) const fn advice(limit: Limit, guard: ExpiryGuard) -> &'static str {
    match (limit, guard) {
        (Limit::CredentialsUnknown, _) => {
            "set it to their end, as `aws configure export-credentials --format env` does, sign with a long-term key, or take links that end with the session by --expiry-guard ignore"
        }
        (Limit::CredentialsEnded(_), _)
        | (Limit::CredentialsEnd(_) | Limit::CredentialsEnding(_), ExpiryGuard::Clamp) => {
            "renew the credentials, or sign with others"
        }
        (Limit::CredentialsEnd(_) | Limit::CredentialsEnding(_), _) => {
            "ask for less, take the real end by --expiry-guard clamp, or sign with other credentials"
        }
        (Limit::S3 | Limit::CloudFront | Limit::Portal | Limit::Rule(_), _) => {
            "ask for less, or take the real end by --expiry-guard clamp"
        }
    }
}
