//! Handles credentials that a service rejects: their source is asked again, and the request is retried once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use tokio::time::Instant;

use crate::edge::{code_of, message_of};

/// How long the answer of a source that was asked again counts, so that it is not asked for each rejected request.
const COUNTS_FOR: Duration = Duration::from_secs(20);

/// The codes for an unknown key, a wrong signature, or an expired session.
///
/// S3: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>. SQS and STS:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>. A wrong clock and a policy that denies have
/// other codes.
const REJECTIONS: [&str; 9] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "ExpiredTokenException",
    "InvalidSignatureException",
];

/// What the message of Garage begins with in these cases; its code is `AccessDenied` for every rejection.
const REJECTIONS_OF_GARAGE: [&str; 2] = ["Forbidden: No such key", "Forbidden: Invalid signature"];

/// What services answered about a source's credentials.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doubt(Arc<Mutex<DoubtState>>);

#[derive(Debug, Clone, Copy, Default)]
enum DoubtState {
    /// No service rejects them.
    #[default]
    Closed,
    /// They were rejected, and the source has not been asked since.
    Open,
    /// The source was asked at that time; `is_other` is true if it gave different credentials.
    Settled { at: Instant, is_other: bool },
}

impl Doubt {
    fn state(&self) -> MutexGuard<'_, DoubtState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the source has to be asked again.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.state(), DoubtState::Open)
    }

    /// Whether the source was recently asked again, and gave the same rejected credentials.
    pub(crate) fn is_left(&self) -> bool {
        matches!(*self.state(), DoubtState::Settled { at, is_other: false } if at.elapsed() < COUNTS_FOR)
    }

    /// Records that the source was asked again.
    pub(crate) fn settle(&self, is_other: bool) {
        let at = Instant::now();
        *self.state() = DoubtState::Settled { at, is_other };
    }

    /// Records that credentials of the source were rejected, and returns whether a retry can succeed. Requests that were under
    /// way while the source gave new credentials were signed with the earlier ones.
    fn is_worth_an_attempt(&self) -> bool {
        let mut state = self.state();
        match *state {
            DoubtState::Settled { at, is_other } if at.elapsed() < COUNTS_FOR => is_other,
            DoubtState::Closed | DoubtState::Open | DoubtState::Settled { .. } => {
                *state = DoubtState::Open;
                true
            }
        }
    }
}

/// Retries requests whose credentials were rejected. Each attempt asks the source for its credentials.
#[derive(Debug)]
pub(crate) struct OnceMore(pub(crate) Doubt);

impl ClassifyRetry for OnceMore {
    fn name(&self) -> &'static str {
        "OnceMore"
    }

    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let has_failed = matches!(context.output_or_error(), Some(Err(_)));
        match has_failed && context.response().is_some_and(rejects) && self.0.is_worth_an_attempt()
        {
            true => RetryAction::transient_error(),
            false => RetryAction::NoActionIndicated,
        }
    }
}

/// Whether an answer rejects the credentials of its request. An answer to HEAD has no body and so gives no reason; after a
/// refused HEAD, another request finds the reason (`store/s3.rs`).
fn rejects(answer: &HttpResponse) -> bool {
    let says =
        |text: &str, beginnings: &[&str]| beginnings.iter().any(|begin| text.starts_with(begin));
    matches!(answer.status().as_u16(), 400 | 401 | 403)
        && (code_of(answer).is_some_and(|code| REJECTIONS.contains(&&*code))
            || message_of(answer).is_some_and(|message| says(message, &REJECTIONS_OF_GARAGE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::primitives::SdkBody;

    #[test]
    fn an_answer_about_the_keys_is_told_from_one_about_the_request() {
        let said = |status: u16, body: &str| {
            rejects(&HttpResponse::new(
                status.try_into().unwrap(),
                SdkBody::from(body),
            ))
        };
        let xml = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        for code in [
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
        ] {
            assert!(said(403, &xml(code)), "{code}");
            assert!(said(400, &xml(code)), "{code}");
            assert!(!said(500, &xml(code)), "{code}");
        }
        let json = "{\"__type\":\"com.amazonaws.sqs#InvalidClientTokenId\",\"message\":\"m\"}";
        assert!(said(403, json));
        let garage = "<Error><Code>AccessDenied</Code><Message>Forbidden: No such key: GK1</Message></Error>";
        assert!(said(403, garage));
        for code in [
            "AccessDenied",
            "RequestTimeTooSkewed",
            "InvalidTokenId",
            "NoSuchKey",
        ] {
            assert!(!said(403, &xml(code)), "{code}");
        }
        assert!(!said(403, ""));
    }

    #[test]
    fn a_key_in_an_answer_is_no_word_about_the_credentials() {
        let said = |code: &str, key: &str| {
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>User: u is not authorized to perform: s3:GetObject on \
                 resource: &quot;arn:aws:s3:::reports/{key}&quot;</Message><Key>{key}</Key><Resource>/reports/{key}</Resource></Error>"
            );
            rejects(&HttpResponse::new(
                403.try_into().unwrap(),
                SdkBody::from(body),
            ))
        };
        for key in REJECTIONS.into_iter().chain(REJECTIONS_OF_GARAGE) {
            assert!(!said("AccessDenied", &format!("2026/{key}/a.pdf")), "{key}");
        }
        assert!(said("ExpiredToken", "2026/a.pdf"));
        let json =
            "{\"__type\":\"com.amazonaws.sqs#AccessDenied\",\"message\":\"no queue ExpiredToken\"}";
        assert!(!rejects(&HttpResponse::new(
            403.try_into().unwrap(),
            SdkBody::from(json)
        )));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_gives_the_same_again_is_asked_once_in_a_while_and_not_for_each_request()
    {
        let doubt = Doubt::default();
        assert!(!doubt.is_open());
        assert!(doubt.is_worth_an_attempt() && doubt.is_open());
        assert!(doubt.is_worth_an_attempt(), "another that was under way");
        doubt.settle(false);
        assert!(!doubt.is_worth_an_attempt() && !doubt.is_open());
        assert!(doubt.is_left(), "the files are looked at before each use");
        tokio::time::sleep(COUNTS_FOR).await;
        assert!(!doubt.is_left());
        assert!(doubt.is_worth_an_attempt() && doubt.is_open());
        doubt.settle(true);
        assert!(
            doubt.is_worth_an_attempt(),
            "it was signed with those before"
        );
        assert!(!doubt.is_open());
    }
}
