//! The contents of an error answer: status, code and message, the location of a bucket, and `Retry-After`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::ErrorKind;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority,
};
use aws_smithy_runtime_api::http::Headers;
use serde_json::Value;

use crate::bounds::{MAX_JUDGED_BYTES, MAX_RETRY_AFTER};

/// The longest `Retry-After` that is waited for within a request. A job that has to wait for longer gives its slot
/// back.
pub(super) const WAITED_FOR_WITHIN: Duration = Duration::from_secs(5);

/// The error answer of a service. Its message is the source of the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAnswer {
    /// The status of HTTP.
    pub status: u16,
    /// The service's own code, if it gave one: `SlowDown`.
    pub code: Option<String>,
    /// Where the bucket is, if the answer says that it is in another region or at another address.
    pub place: Option<BucketPlace>,
    /// The pause that the service asks for, from now.
    pub retry_after: Option<Duration>,
    /// The section of the configuration that asked: `connections.reports`.
    pub section: Option<Arc<str>>,
}

impl ServiceAnswer {
    /// Its code, or its status.
    pub(crate) fn words(&self) -> String {
        let code = self.code.clone();
        code.unwrap_or_else(|| format!("status {}", self.status))
    }
}

/// Where a bucket is, and what made the request for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlace {
    /// Its region, if the answer names it.
    pub region: Option<String>,
    /// What made the request.
    pub asked: Asker,
}

/// What made a request: a section of the configuration and the region that it names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asker {
    /// The section: `connections.reports`.
    pub section: Option<Arc<str>>,
    /// The region for which the request was signed.
    pub region: Option<String>,
}

impl Asker {
    /// Reads what made a request from the scope of its signature.
    pub(super) fn of(request: &HttpRequest, section: Option<Arc<str>>) -> Self {
        let signed = request.headers().get("authorization").unwrap_or_default();
        let scope = signed
            .split_once("Credential=")
            .and_then(|(_, scope)| scope.split(',').next());
        // `<access key>/<date>/<region>/<service>/aws4_request`; only the access key may have slashes.
        let region = scope.and_then(|scope| scope.rsplit('/').nth(2));
        Self {
            section,
            region: region.map(ToOwned::to_owned),
        }
    }
}

impl fmt::Display for BucketPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.region {
            Some(region) => write!(f, "the bucket is in {region}")?,
            None => f.write_str("the bucket is at another address")?,
        }
        let Some(said) = &self.asked.region else {
            return Ok(());
        };
        let Some(section) = &self.asked.section else {
            return write!(f, ", the request says {said}");
        };
        let name = section.strip_prefix("connections.").unwrap_or(section);
        write!(
            f,
            ", connection {name} says {said}: correct {section}.region, and {section}.endpoint_url if that names a region"
        )
    }
}

impl ServiceAnswer {
    /// Reads an answer; `code` is the code that the SDK found in it.
    pub(super) fn of(code: Option<&str>, answer: &HttpResponse) -> Self {
        let status = answer.status().as_u16();
        Self {
            status,
            code: code.map(ToOwned::to_owned),
            place: place(status, code.unwrap_or_default(), answer),
            retry_after: comes_back(answer),
            section: answer
                .extension::<Asker>()
                .and_then(|asker| asker.section.clone()),
        }
    }
}

/// The codes by which services ask to slow down.
pub(super) const THROTTLES: [&str; 7] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "TooManyRequestsException",
    "OverLimit",
    "KmsThrottled",
];

/// The code of an error: the first `<Code>` of XML, or the type of JSON behind its `#`.
///
/// No other part of the answer counts: services repeat the key and the prefix of a request, which the sender of a job chose.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>,
/// <https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html#operation-error-serialization>
pub(crate) fn code_of(answer: &HttpResponse) -> Option<String> {
    let text = judged_text(answer)?;
    if text.starts_with('<') {
        return element(text, "Code").map(ToOwned::to_owned);
    }
    let fields: Value = serde_json::from_str(text).ok()?;
    let of_body = ["__type", "code"]
        .into_iter()
        .find_map(|name| fields[name].as_str());
    let code = answer.headers().get("x-amzn-errortype").or(of_body)?;
    let code = code.rsplit_once('#').map_or(code, |(_, code)| code);
    Some(code.split(':').next().unwrap_or(code).to_owned())
}

/// The message of an XML error.
pub(crate) fn message_of(answer: &HttpResponse) -> Option<&str> {
    element(judged_text(answer)?, "Message")
}

fn judged_text(answer: &HttpResponse) -> Option<&str> {
    let body = answer.body().bytes()?;
    let body = &body[..body.len().min(MAX_JUDGED_BYTES)];
    Some(std::str::from_utf8(body).ok()?.trim())
}

/// The message of an answer without a code: plain text, or the title of an HTML page.
pub(super) fn plain_words(answer: &HttpResponse) -> Option<&str> {
    let text = judged_text(answer)?;
    let text = match text.starts_with('<') {
        true => element(text, "title")?,
        false => text,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// The text of the first element of a name, as far as it is plain.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner.trim()).filter(|inner| !inner.is_empty())
}

/// Codes for a bucket that is in a different region from the request's.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
pub(super) const OF_REGION: [&str; 4] = [
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegion",
];

/// Where the bucket is, if the answer says it.
///
/// S3 names the region in a header, which alone is in answers to HEAD, and other servers in the body.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>
fn place(status: u16, code: &str, answer: &HttpResponse) -> Option<BucketPlace> {
    let body = answer.body().bytes().unwrap_or_default();
    let text = std::str::from_utf8(&body[..body.len().min(MAX_JUDGED_BYTES)]).unwrap_or_default();
    let of_region = OF_REGION.contains(&code);
    let expected = || Some(text.split_once("expecting '")?.1.split('\'').next()?.trim());
    let in_body = || element(text, "Region").or_else(expected);
    let named = answer.headers().get("x-amz-bucket-region");
    let region = named
        .or_else(|| in_body().filter(|_| of_region))
        .filter(|region| !region.is_empty() && is_region(region));
    let asked = answer.extension::<Asker>().cloned().unwrap_or_default();
    let is_other = region.is_some() && region != asked.region.as_deref();
    let is_elsewhere = match status {
        301 | 308 => region.is_none() || is_other,
        302 | 307 => is_other,
        // An answer to HEAD has no code.
        400 => is_other && (of_region || code.is_empty()),
        _ => is_other && of_region,
    };
    is_elsewhere.then(|| BucketPlace {
        region: region.map(ToOwned::to_owned),
        asked,
    })
}

/// Whether a service's word can be a region: it becomes a part of host names and signatures.
pub(crate) fn is_region(text: &str) -> bool {
    let is_of_region = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.len() <= 63 && text.bytes().all(is_of_region)
}

/// The pause that a failing service asks for: `Retry-After`, in seconds or as a date, at most [`MAX_RETRY_AFTER`].
///
/// A date is compared with the service's own clock, the `Date` of its answer. A pause of zero, or a date in the past, is
/// ignored. <https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3>
pub(super) fn retry_after(status: u16, headers: &Headers) -> Option<Duration> {
    if !matches!(status, 429 | 500..) || is_unknown_request(status) {
        return None;
    }
    let said = headers.get("retry-after")?.trim();
    let date = |text: &str| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp());
    let wait = match said.parse::<f64>() {
        // Some servers send fractions.
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX)
        }
        Ok(_) => return None,
        Err(_) if is_digits(said) => Duration::MAX,
        Err(_) => {
            let now = headers.get("date").and_then(date);
            let wait = date(said)?.duration_since(now.unwrap_or_else(crate::clock::system));
            Duration::try_from(wait).ok()?
        }
    };
    Some(wait.min(MAX_RETRY_AFTER)).filter(|wait| !wait.is_zero())
}

/// Like [`retry_after`], for any service: queues and STS ask to slow down by a code, with the status 400.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>
fn comes_back(answer: &HttpResponse) -> Option<Duration> {
    let status = match answer.status().as_u16() {
        400 if code_of(answer).is_some_and(|code| THROTTLES.contains(&&*code)) => 429,
        status => status,
    };
    retry_after(status, answer.headers())
}

/// Whether a status says that the service does not support such requests: a retry would fail too.
pub(super) const fn is_unknown_request(status: u16) -> bool {
    matches!(status, 501 | 505)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Makes the SDK wait for as long as the service asks before it retries, see [`WAITED_FOR_WITHIN`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeedsRetryAfter;

impl ClassifyRetry for HeedsRetryAfter {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let answer = context.response();
        let wait = answer.and_then(comes_back);
        match wait {
            None => RetryAction::NoActionIndicated,
            Some(wait) if wait <= WAITED_FOR_WITHIN => {
                RetryAction::retryable_error_with_explicit_delay(ErrorKind::ThrottlingError, wait)
            }
            Some(_) => RetryAction::RetryForbidden,
        }
    }

    fn name(&self) -> &'static str {
        "HeedsRetryAfter"
    }

    fn priority(&self) -> RetryClassifierPriority {
        // It runs last, so its decision counts.
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    #[test]
    fn a_service_says_in_seconds_or_by_a_date_when_to_come_back() {
        let asked = |status: u16, said: &str| {
            let mut headers = Headers::new();
            headers.insert("date", "Sat, 28 Nov 2026 10:00:00 GMT");
            headers.insert("retry-after", said.to_owned());
            retry_after(status, &headers).map(|wait| wait.as_secs())
        };
        for (said, seconds) in [
            ("4", Some(4)),
            (" 120 ", Some(120)),
            ("1.5", Some(2)),
            ("Sat, 28 Nov 2026 10:00:40 GMT", Some(40)),
            // Longer than a job waits for its retry.
            ("Sun, 28 Nov 2027 10:00:00 GMT", Some(900)),
            ("31536000", Some(900)),
            ("99999999999999999999999999", Some(900)),
            // No time to wait for.
            ("0", None),
            ("-5", None),
            ("Sat, 28 Nov 2026 09:00:00 GMT", None),
            ("soon", None),
            ("inf", None),
            ("NaN", None),
            ("", None),
        ] {
            assert_eq!(asked(503, said), seconds, "{said}");
            assert_eq!(asked(429, said), seconds, "{said}");
            assert_eq!(asked(301, said), None, "a redirect is no pause");
        }
    }

    #[test]
    fn a_queue_that_asks_to_slow_down_by_a_code_says_when_to_come_back_and_another_refusal_does_not()
     {
        let wait = |status: u16, body: &'static str| {
            let status = status.try_into().unwrap();
            let mut answer = HttpResponse::new(status, SdkBody::from(body));
            answer.headers_mut().insert("retry-after", "40");
            comes_back(&answer).map(|wait| wait.as_secs())
        };
        let json = "{\"__type\":\"com.amazonaws.sqs#RequestThrottled\",\"message\":\"m\"}";
        assert_eq!(wait(400, json), Some(40));
        assert_eq!(wait(400, "<Code>Throttling</Code>"), Some(40));
        assert_eq!(wait(400, "<Code>InvalidRequest</Code>"), None);
        assert_eq!(wait(400, "<Code>ThrottlingNever</Code>"), None);
        let of_key = "<Error><Code>KeyTooLongError</Code><Key>SlowDown</Key></Error>";
        assert_eq!(wait(400, of_key), None);
        assert_eq!(wait(403, "<Code>AccessDenied</Code>"), None);
        assert_eq!(wait(503, ""), Some(40));
    }

    #[test]
    fn a_signature_says_for_which_region_a_request_was_made() {
        let region = |authorization: &str| {
            let mut request = HttpRequest::empty();
            let headers = request.headers_mut();
            headers.insert("authorization", authorization.to_owned());
            Asker::of(&request, None).region
        };
        let signed = "AWS4-HMAC-SHA256 Credential=a/b/20261128/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        assert_eq!(region(signed).as_deref(), Some("eu-west-1"));
        assert_eq!(region("Bearer x"), None);
        assert_eq!(region("AWS4-HMAC-SHA256 Credential=a"), None);
    }
}
