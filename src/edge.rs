//! What the outside may answer, apart from yes: a few facts, the same for S3, SQS and everything else.
//!
//! An edge turns the outside's own error into a fact once, and keeps the error as the source. What follows from
//! a fact is not decided here but in [`crate::error`].

pub mod health;
pub(crate) mod http;

use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{BuildError, ProvideErrorMetadata, SdkError};
use http_body_util::LengthLimitError;

use self::health::FailureKind;
use crate::bounds::{MAX_ANSWER_BYTES, MAX_STORE_WORDS_BYTES};
use crate::redact::redacted;

/// What an edge may answer, apart from yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// There is no such bucket, object, queue or message.
    NotFound,
    /// The credentials may not do this, or there are none.
    Denied,
    /// Too many requests.
    Throttled,
    /// No connection, or one that broke, or an error of the service: the request may or may not have been carried out.
    Unreachable,
    /// No answer in time: the request may or may not have been carried out.
    Silent,
    /// The request is not taken as it is.
    Rejected,
}

/// A request to the outside that did not succeed.
#[derive(Debug)]
pub struct EdgeError {
    /// What was tried, with its coordinates: `list s3://reports/2026/`.
    pub action: String,
    /// What it means.
    pub fact: Fact,
    /// What the outside said, without secrets.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for EdgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = match self.fact {
            Fact::NotFound => "it does not exist",
            Fact::Denied => "the credentials do not allow it",
            Fact::Throttled => "the service asks to slow down",
            Fact::Unreachable => "the service could not be reached",
            Fact::Silent => "the service did not answer in time",
            Fact::Rejected => "the service refused the request",
        };
        write!(f, "could not {}: {because}", self.action)
    }
}

impl std::error::Error for EdgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

impl EdgeError {
    /// An error of an edge that is not the AWS SDK.
    pub(crate) fn new(
        action: impl Into<String>,
        fact: Fact,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            action: action.into(),
            fact,
            source: source.into(),
        }
    }

    /// How the request failed, for the edge's health.
    pub fn failure_kind(&self) -> FailureKind {
        match self.fact {
            Fact::Unreachable => FailureKind::Unreachable,
            Fact::Silent => FailureKind::Timeout,
            Fact::Throttled => FailureKind::Throttled,
            Fact::Denied => FailureKind::Denied,
            Fact::NotFound | Fact::Rejected => FailureKind::Refused,
        }
    }

    /// Judges an error of the AWS SDK, which is the same shape for every service.
    pub(crate) fn from_sdk<E>(action: impl Into<String>, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let fact = match error {
            _ if waits_for_credentials(error) => Fact::Silent,
            SdkError::ServiceError(answer) => fact_of(
                answer.err().code().unwrap_or_default(),
                answer.raw().status().as_u16(),
            ),
            // Credentials that cannot be had surface as a construction or dispatch failure.
            SdkError::DispatchFailure(failure) if failure.is_user() => Fact::Denied,
            SdkError::ConstructionFailure(_) if is_input(error) => Fact::Rejected,
            SdkError::ConstructionFailure(_) => Fact::Denied,
            // It would be as long the next time.
            SdkError::ResponseError(_) if is_too_long(error) => Fact::Rejected,
            SdkError::TimeoutError(_) => Fact::Silent,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Fact::Silent,
            SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => Fact::Unreachable,
            // The enum is open to later SDKs; an answer nobody knows yet is tried again.
            _ => Fact::Unreachable,
        };
        Self {
            action: action.into(),
            fact,
            source: words(error).into(),
        }
    }
}

/// Whether the SDK could not make a request of what it was given: no credentials repair that.
fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    is_because_of::<BuildError>(error)
}

/// Whether a request could not be signed because its source of credentials was silent.
fn waits_for_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let credentials = causes.find_map(|cause| cause.downcast_ref::<CredentialsError>());
    matches!(credentials, Some(CredentialsError::ProviderTimedOut(_)))
}

/// Whether an error, or one of its causes, is of a kind.
fn is_because_of<E: std::error::Error + 'static>(
    error: &(dyn std::error::Error + 'static),
) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<E>())
}

/// What the service or the network said, in a line, without the URLs and tokens that it repeats.
fn words<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let said = match error {
        SdkError::ServiceError(answer) => {
            let (status, error) = (answer.raw().status().as_u16(), answer.err());
            match (error.code(), error.message()) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                (Some(code), None) => code.to_owned(),
                (None, _) => format!("the answer had the status {status}"),
            }
        }
        error if is_too_long(error) => {
            format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")
        }
        error => crate::error::chain(error),
    };
    redacted(&said, MAX_STORE_WORDS_BYTES)
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn fact_of(code: &str, status: u16) -> Fact {
    match code {
        "NoSuchBucket"
        | "NoSuchKey"
        | "NotFound"
        | "QueueDoesNotExist"
        | "AWS.SimpleQueueService.NonExistentQueue"
        | "ReceiptHandleIsInvalid"
        | "MessageNotInflight" => Fact::NotFound,
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "ExpiredTokenException" => {
            Fact::Denied
        }
        "RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict" | "InternalError" => {
            Fact::Unreachable
        }
        // Completed by a request whose answer was lost, or aborted by somebody: another upload may be begun.
        "NoSuchUpload" => Fact::Unreachable,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "TooManyRequestsException"
        | "OverLimit"
        | "KmsThrottled" => Fact::Throttled,
        _ => match status {
            // Another place, for good: the SDK follows no redirect, since its signature would not hold there.
            301 | 308 => Fact::Rejected,
            404 => Fact::NotFound,
            401 | 403 => Fact::Denied,
            429 | 503 => Fact::Throttled,
            400..=499 => Fact::Rejected,
            _ => Fact::Unreachable,
        },
    }
}

/// Whether an answer was ended because it is too long.
fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    is_because_of::<LengthLimitError>(error)
}

/// A number between 0 and 1, to spread waits; no more random than that needs.
pub(crate) fn random() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

/// Three attempts with jittered backoff; what still fails goes back to the queue, which waits longer.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}
