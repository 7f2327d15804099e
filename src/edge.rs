//! Errors of external services, as a few kinds that are the same for S3, SQS and every other dependency.
//!
//! An edge maps the service's own error to a kind once, and keeps the error as the source. What follows from
//! a kind is decided in [`crate::error`].

mod answer;
mod egress;
pub(crate) mod follow_up;
pub mod health;
pub(crate) mod http;
pub(crate) mod names;
pub(crate) mod program;
mod proxy;

use std::fmt;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{BuildError, ProvideErrorMetadata, SdkError};
use http_body_util::LengthLimitError;

pub use self::answer::{Asker, BucketPlace, ServiceAnswer};
pub(crate) use self::answer::{HeedsRetryAfter, code_of, is_region, message_of};
use self::answer::{OF_REGION, THROTTLES, is_unknown_request, plain_words};
pub use self::egress::Egress;
use self::health::{Edge, FailureKind};
use crate::bounds::{MAX_ANSWER_BYTES, MAX_LEFT_ALONE, MAX_STORE_WORDS_BYTES};
use crate::redact::redacted;

/// The kind of an error at an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bucket, object, queue or message does not exist.
    NotFound,
    /// The credentials lack the permission, or are missing.
    Denied,
    /// Too many requests.
    Throttled,
    /// The connection failed or broke: the request may or may not have been carried out.
    Unreachable,
    /// No answer in time: the request may or may not have been carried out.
    Silent,
    /// The service answered that it failed: the request may or may not have been carried out.
    Failed,
    /// The bucket is in another region, or at another address, than the configuration says.
    Elsewhere,
    /// The service rejects the request as invalid.
    Rejected,
}

impl ErrorKind {
    /// Whether the error is transient: the same request may succeed later without any change.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Throttled | Self::Unreachable | Self::Silent | Self::Failed => true,
            Self::NotFound | Self::Denied | Self::Elsewhere | Self::Rejected => false,
        }
    }
}

/// A request to an external service that failed.
#[derive(Debug)]
pub struct EdgeError {
    /// The action, with its coordinates: `list s3://reports/2026/`.
    pub action: String,
    /// The kind of the error.
    pub fact: ErrorKind,
    /// The service's answer, if there was one.
    pub answer: Option<Box<ServiceAnswer>>,
    /// The underlying error, without secrets.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for EdgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: ", self.action)?;
        let because = match self.fact {
            ErrorKind::NotFound => "it does not exist",
            ErrorKind::Denied => "the credentials do not allow it",
            ErrorKind::Throttled => "the service asks to slow down",
            ErrorKind::Unreachable => "the service could not be reached",
            ErrorKind::Silent => "the service did not answer in time",
            ErrorKind::Failed => "the service answered with an error",
            ErrorKind::Elsewhere => "the bucket is elsewhere",
            ErrorKind::Rejected => "the service refused the request",
        };
        let Some(answer) = self.answer.as_deref() else {
            return f.write_str(because);
        };
        match &answer.place {
            Some(place) if self.fact == ErrorKind::Elsewhere => write!(f, "{place}")?,
            Some(_) | None => f.write_str(because)?,
        }
        // Without a code, the source's text has the status.
        if matches!(self.fact, ErrorKind::Failed | ErrorKind::Rejected) && answer.code.is_some() {
            write!(f, " (status {})", answer.status)?;
        }
        match answer.retry_after {
            Some(wait) => write!(f, ", and to come back in {} s", wait.as_secs()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for EdgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

impl EdgeError {
    /// An error of an edge that does not use the AWS SDK.
    pub(crate) fn new(
        action: impl Into<String>,
        fact: ErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            action: action.into(),
            fact,
            answer: None,
            source: source.into(),
        }
    }

    /// For how long the service is left alone: as long as it asks for, and at most [`MAX_LEFT_ALONE`].
    pub fn left_alone(&self) -> Duration {
        self.retry_after().unwrap_or_default().min(MAX_LEFT_ALONE)
    }

    /// The pause that the service asks for (`Retry-After`), counted from its answer.
    pub fn retry_after(&self) -> Option<Duration> {
        self.answer.as_ref()?.retry_after
    }

    /// For how long a service is left alone, if an error of an edge is among the causes of this error.
    pub(crate) fn left_alone_in(error: &(dyn std::error::Error + 'static)) -> Duration {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let mut edges = causes.filter_map(|cause| cause.downcast_ref::<Self>());
        let wait = edges.find_map(|edge| (!edge.left_alone().is_zero()).then(|| edge.left_alone()));
        wait.unwrap_or_default()
    }

    /// Whether the service says that the session of the credentials has expired.
    pub(crate) fn is_of_session(&self) -> bool {
        let code = self
            .answer
            .as_ref()
            .and_then(|answer| answer.code.as_deref());
        code.is_some_and(|code| TOKEN_IS_OVER.contains(&code))
    }

    /// Whether the service says that the clock of this machine differs too much from its own.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList>
    pub(crate) fn is_of_clock(&self) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| answer.code.as_deref() == Some("RequestTimeTooSkewed"))
    }

    /// Whether the service accepts the credentials and denies them the permission.
    pub fn lacks_permission(&self) -> bool {
        let code = self
            .answer
            .as_ref()
            .and_then(|answer| answer.code.as_deref());
        code.is_some_and(|code| code.starts_with("AccessDenied"))
    }

    /// Reports the failure to the edge where it happened.
    pub(crate) fn report_to(&self, edge: &Edge) {
        let words = crate::text::chain(&*self.source);
        let left_alone = self.retry_after().unwrap_or_default();
        edge.failed_for(self.failure_kind(), &words, left_alone);
    }

    /// How the request failed, for the edge's health.
    pub fn failure_kind(&self) -> FailureKind {
        match self.fact {
            ErrorKind::Unreachable => FailureKind::Unreachable,
            ErrorKind::Silent => FailureKind::Timeout,
            ErrorKind::Throttled => FailureKind::Throttled,
            ErrorKind::Failed => FailureKind::ServerError,
            ErrorKind::Denied => FailureKind::Denied,
            ErrorKind::NotFound | ErrorKind::Elsewhere | ErrorKind::Rejected => {
                FailureKind::Refused
            }
        }
    }

    /// Maps an error of the AWS SDK, which has the same shape for every service.
    pub(crate) fn from_sdk<E>(action: impl Into<String>, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = match error {
            SdkError::ServiceError(answer) => {
                Some(ServiceAnswer::of(answer.err().code(), answer.raw()))
            }
            _ => None,
        };
        let fact = match error {
            _ if waits_for_credentials(error) => ErrorKind::Silent,
            SdkError::ServiceError(answer) if is_of_another(answer.err(), answer.raw()) => {
                ErrorKind::Unreachable
            }
            SdkError::ServiceError(_) => answer.as_ref().map_or(ErrorKind::Failed, kind_of),
            // Credentials that cannot be loaded surface as a construction or dispatch failure.
            SdkError::DispatchFailure(failure) if failure.is_user() => ErrorKind::Denied,
            SdkError::ConstructionFailure(_) if is_input(error) => ErrorKind::Rejected,
            SdkError::ConstructionFailure(_) => ErrorKind::Denied,
            // A retry would get an answer of the same length.
            SdkError::ResponseError(_) if is_too_long(error) => ErrorKind::Rejected,
            SdkError::DispatchFailure(_) if http::has_too_long_a_head(error) => ErrorKind::Rejected,
            SdkError::TimeoutError(_) => ErrorKind::Silent,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => ErrorKind::Silent,
            SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => ErrorKind::Unreachable,
            // The enum is non-exhaustive; a variant of a later SDK is retried.
            _ => ErrorKind::Unreachable,
        };
        Self {
            action: action.into(),
            fact,
            answer: answer.map(Box::new),
            source: if is_because_of::<http::Foreign>(error) {
                http::Foreign(words(error)).into()
            } else if is_because_of::<http::FailedAtName>(error) {
                http::FailedAtName(words(error).into()).into()
            } else {
                words(error).into()
            },
        }
    }

    /// Whether a request that names a key got no answer; the edge was not told that it is down.
    pub(crate) fn has_failed_at_name(&self) -> bool {
        self.source.is::<http::FailedAtName>()
    }

    /// Whether a proxy or load balancer answered in place of the store.
    pub(crate) fn is_foreign(&self) -> bool {
        self.source.is::<http::Foreign>()
    }
}

/// Whether the SDK could not build a request from its input: other credentials do not help.
fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    is_because_of::<BuildError>(error)
}

/// Whether an error has a body without a code. AWS services always send a code, so a load balancer or a proxy in front of
/// the service answered, and the answer does not concern the resource. For stores, `edge/http.rs` detects it earlier.
fn is_of_another(error: &impl ProvideErrorMetadata, answer: &HttpResponse) -> bool {
    let has_body = answer.body().bytes().is_none_or(|body| !body.is_empty());
    let names_region = answer.headers().contains_key("x-amz-bucket-region");
    error.code().is_none() && answer.status().as_u16() < 500 && has_body && !names_region
}

/// Whether a request could not be signed because its source of credentials did not answer.
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

/// The message of the service or the network in one line, without the URLs and tokens that it repeats.
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
                (None, message) => match message.or_else(|| plain_words(answer.raw())) {
                    Some(message) => format!("the answer had the status {status}: {message}"),
                    None => format!("the answer had the status {status}"),
                },
            }
        }
        error if http::has_too_long_a_head(error) => {
            "the head of the answer is too long: an object may have too many entries of metadata"
                .to_owned()
        }
        error if is_too_long(error) => {
            format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")
        }
        error => crate::text::chain(error),
    };
    redacted(&said, MAX_STORE_WORDS_BYTES)
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn kind_of(answer: &ServiceAnswer) -> ErrorKind {
    if answer.place.is_some() {
        return ErrorKind::Elsewhere;
    }
    // Signed for a region that the service does not take, and it names no other: the settings are wrong, and not the job.
    if OF_REGION.contains(&answer.code.as_deref().unwrap_or_default()) {
        return ErrorKind::Denied;
    }
    let by_code = answer.code.as_deref().and_then(kind_of_code);
    by_code.unwrap_or(match answer.status {
        404 => ErrorKind::NotFound,
        401 | 403 => ErrorKind::Denied,
        429 | 503 => ErrorKind::Throttled,
        408 => ErrorKind::Failed,
        // A temporary redirect: the SDK does not follow it, since the signature would be invalid there.
        302 | 307 => ErrorKind::Failed,
        300..=499 => ErrorKind::Rejected,
        status if is_unknown_request(status) => ErrorKind::Rejected,
        _ => ErrorKind::Failed,
    })
}

/// Codes for an expired or invalid session token: the source of the credentials gives another.
const TOKEN_IS_OVER: [&str; 4] = [
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "ExpiredTokenException",
];

/// Codes of denials, which queues and STS send with the status 400.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html#API_SendMessage_Errors>
const DENIAL_CODES: [&str; 14] = [
    "AccessDenied",
    "AccessDeniedException",
    "NotAuthorized",
    "OptInRequired",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "UnrecognizedClientException",
    "KmsAccessDenied",
    "KmsDisabled",
    "KmsInvalidKeyUsage",
    "KmsInvalidState",
    "KmsNotFound",
    "KmsOptInRequired",
];

/// The kind for a code, independent of the status.
fn kind_of_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "NoSuchBucket"
        | "NoSuchKey"
        | "NotFound"
        | "QueueDoesNotExist"
        | "AWS.SimpleQueueService.NonExistentQueue"
        | "ReceiptHandleIsInvalid"
        | "MessageNotInflight" => ErrorKind::NotFound,
        code if TOKEN_IS_OVER.contains(&code) => ErrorKind::Denied,
        // A KMS key that is disabled, deleted, or of the wrong kind: an operator must repair that.
        // <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#KMSErrorCodeList>
        code if code.starts_with("KMS.") => ErrorKind::Denied,
        code if DENIAL_CODES.contains(&code) => ErrorKind::Denied,
        "RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict" | "InternalError" => {
            ErrorKind::Failed
        }
        // Completed by a request whose answer was lost, or aborted by another client: a new upload may be started.
        "NoSuchUpload" => ErrorKind::Failed,
        "NotImplemented" => ErrorKind::Rejected,
        code if THROTTLES.contains(&code) => ErrorKind::Throttled,
        _ => return None,
    })
}

/// Whether reading an answer was stopped because it is too long.
fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    is_because_of::<LengthLimitError>(error)
}

/// A number between 0 and 1 for jitter; not cryptographically random.
pub(crate) fn random() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

/// Three attempts with jittered backoff. After that the job goes back to the queue, which waits longer.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    #[test]
    fn a_page_of_what_stands_in_front_of_a_service_says_nothing_about_what_was_asked_for() {
        let fact = |status: u16, code: Option<&str>, body: &'static str| {
            let mut error = ErrorMetadata::builder();
            if let Some(code) = code {
                error = error.code(code);
            }
            let answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
            let error = SdkError::service_error(error.build(), answer);
            EdgeError::from_sdk("send to the queue", &error).fact
        };
        assert_eq!(fact(404, None, "<html>"), ErrorKind::Unreachable);
        assert_eq!(fact(403, None, "blocked"), ErrorKind::Unreachable);
        assert_eq!(
            fact(404, Some("QueueDoesNotExist"), "{}"),
            ErrorKind::NotFound
        );
        assert_eq!(fact(400, Some("Other"), "{}"), ErrorKind::Rejected);
        // An answer to HEAD.
        assert_eq!(fact(403, None, ""), ErrorKind::Denied);
        assert_eq!(fact(503, None, "<html>"), ErrorKind::Throttled);
        for code in ["AccessDeniedException", "NotAuthorized", "KmsDisabled"] {
            assert_eq!(fact(400, Some(code), "{}"), ErrorKind::Denied, "{code}");
        }
        // About the key of KMS, and not about the job.
        let disabled = Some("KMS.DisabledException");
        assert_eq!(fact(400, disabled, "<Error>"), ErrorKind::Denied);
    }
}
