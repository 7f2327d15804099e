//! Results as signed POSTs, by the rules of Standard Webhooks: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//!
//! A receiver takes a result with a status of 2xx. The signature covers the id, the instant and the body, so that a receiver can tell that
//! a request is ours, is not old, and is not one that it has had before.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64ct::{Base64, Base64Unpadded, Encoding};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::JobResult;
use crate::edge::health::{Edge, EdgeKind};
use crate::edge::http::{WebAnswer, WebClient};
use crate::edge::{EdgeError, Egress, ErrorKind, ServiceAnswer};
use crate::keyring::sha256_hex;
use crate::queue::HAND_OVER;

/// What is attempted, in errors.
const ACTION: &str = "post the job's result to results.url";

/// The beginning of a secret as Standard Webhooks writes it.
const PREFIX: &str = "whsec_";

/// How many bytes a secret has.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How many secrets sign at the same time, while one replaces another.
const MAX_SECRETS: usize = 4;

/// How long a result waits for its answer, while the receiver is down, before it is posted once more.
const POSTED_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// Why a file holds no secrets for webhooks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookSecretError {
    /// Not in the form of Standard Webhooks.
    #[error(
        "holds a line that is no secret: write \"whsec_\" and the Base64 of 24 to 64 random bytes, as `echo whsec_$(openssl rand -base64 32)` prints it"
    )]
    NoSecret,
    /// No line, or too many.
    #[error(
        "holds {0} secrets: write one, or up to {MAX_SECRETS} while one replaces another, each on a line"
    )]
    Count(usize),
}

/// A receiver of results by HTTP. Clones share their connections.
#[derive(Clone)]
pub struct Webhook {
    url: Arc<str>,
    client: WebClient,
    keys: Arc<[hmac::Key]>,
    pub(super) edge: Edge,
}

impl fmt::Debug for Webhook {
    // The URL of some services is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

impl Webhook {
    /// A receiver at a URL. `host` is what logs name. `secrets` has one secret a line; none if the receiver needs no signature.
    ///
    /// # Errors
    /// A line is no secret, or there are too many.
    pub(crate) fn new(
        url: &str,
        host: &str,
        secrets: Option<&str>,
        egress: Egress,
    ) -> Result<Self, WebhookSecretError> {
        let subject = format!("the receiver of results at {host} (results.url)");
        Ok(Self {
            url: url.into(),
            client: WebClient::new(egress),
            keys: secrets.map(keys).transpose()?.unwrap_or_default().into(),
            edge: Edge::new(EdgeKind::Results, "webhook", subject),
        })
    }

    /// The receiver, as logs name it.
    pub fn subject(&self) -> &str {
        self.edge.subject()
    }

    /// Posts a result. While the receiver is down, it is posted again every few seconds, on connections of their own: a connection that
    /// began in an outage may stay dead after its end. A receiver tells the copies by their `webhook-id`.
    ///
    /// # Errors
    /// As for [`post_once`](Self::post_once).
    pub(super) async fn post(&self, result: &JobResult<'_>, body: String) -> Result<(), EdgeError> {
        let mut posts = FuturesUnordered::new();
        posts.push(self.post_once(result, body.clone()));
        let mut failed = None;
        loop {
            tokio::select! {
                Some(posted) = posts.next() => match posted {
                    Ok(()) => return Ok(()),
                    // A receiver that works on one request may reject its copy: each is waited for, and a rejection counts if all are.
                    Err(error) => {
                        let other = failed.take().filter(|other: &EdgeError| other.fact != ErrorKind::Rejected);
                        let error = other.unwrap_or(error);
                        if posts.is_empty() {
                            return Err(error);
                        }
                        failed = Some(error);
                    }
                },
                () = tokio::time::sleep(POSTED_AGAIN_AFTER), if failed.is_none() => {
                    if self.edge.is_failing() {
                        posts.push(self.post_once(result, body.clone()));
                    }
                }
            }
        }
    }

    /// Posts a result with one request.
    ///
    /// # Errors
    /// There is no answer, or one that is not 2xx; [`ErrorKind::Rejected`] if the receiver rejects this result and not all of them.
    async fn post_once(&self, result: &JobResult<'_>, body: String) -> Result<(), EdgeError> {
        let id = id_of(result);
        let instant = crate::clock::system().as_second().to_string();
        let mut headers = vec![
            ("webhook-id", id.clone()),
            ("webhook-timestamp", instant.clone()),
        ];
        if !self.keys.is_empty() {
            let signed = format!("{id}.{instant}.{body}");
            let signatures = self.keys.iter().map(|key| {
                let tag = hmac::sign(key, signed.as_bytes());
                format!("v1,{}", Base64::encode_string(tag.as_ref()))
            });
            let signatures: Vec<String> = signatures.collect();
            headers.push(("webhook-signature", signatures.join(" ")));
        }
        let posting = self.client.post_json(ACTION, &self.url, &headers, body);
        judge(&posting.await?)
    }
}

/// The id of a result: the same for each try, and another for each result. A message that is put back may be parked again.
fn id_of(result: &JobResult<'_>) -> String {
    let job = result.job.map_or("", |job| job.as_str());
    let outcome = serde_json::to_string(&result.outcome).expect("a word is plain data");
    let reason = result.reason.unwrap_or_default();
    let parts = [result.message, job, &outcome, reason].join("\n");
    format!("msg_{}", &sha256_hex(parts.as_bytes())[..32])
}

/// What an answer means. A receiver that refuses one result because of what it holds refuses it again, and takes others.
fn judge(answer: &WebAnswer) -> Result<(), EdgeError> {
    let fact = match answer.status {
        200..=299 => return Ok(()),
        400 | 409 | 413 | 422 => ErrorKind::Rejected,
        401 | 403 | 407 => ErrorKind::Denied,
        408 => ErrorKind::Silent,
        429 => ErrorKind::Throttled,
        300..=499 => ErrorKind::NotFound,
        _ => ErrorKind::Failed,
    };
    let words = match answer.status {
        300..=399 => format!(
            "it answered with the status {}, which points elsewhere: write the URL that takes results",
            answer.status
        ),
        status => format!("it answered with the status {status}"),
    };
    Err(EdgeError {
        answer: Some(Box::new(ServiceAnswer {
            status: answer.status,
            code: None,
            place: None,
            retry_after: answer.retry_after,
            section: None,
        })),
        ..EdgeError::new(ACTION, fact, words)
    })
}

/// The error of a receiver that did not answer within [`HAND_OVER`].
pub(super) fn late() -> EdgeError {
    let words = format!("no answer within {} s", HAND_OVER.as_secs());
    EdgeError::new(ACTION, ErrorKind::Silent, words)
}

/// The keys of a file's lines.
fn keys(text: &str) -> Result<Vec<hmac::Key>, WebhookSecretError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines.map(|line| {
        // The reference libraries take Base64 without its padding, too.
        let text = line
            .strip_prefix(PREFIX)
            .map(|text| text.trim_end_matches('='));
        let bytes = text.map(Base64Unpadded::decode_vec);
        let bytes = bytes
            .and_then(Result::ok)
            .filter(|bytes| SECRET_BYTES.contains(&bytes.len()));
        let bytes = bytes.ok_or(WebhookSecretError::NoSecret)?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    match (1..=MAX_SECRETS).contains(&keys.len()) {
        true => Ok(keys),
        false => Err(WebhookSecretError::Count(keys.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secrets_of_the_standard_are_secrets() {
        let good = format!("{PREFIX}{}", Base64::encode_string(&[7; 32]));
        assert_eq!(keys(&good).unwrap().len(), 1);
        assert_eq!(keys(&format!("\n{good}\r\n{good}\n")).unwrap().len(), 2);
        for (text, error) in [
            (String::new(), WebhookSecretError::Count(0)),
            (format!("{good}\n").repeat(5), WebhookSecretError::Count(5)),
            ("hunter2".to_owned(), WebhookSecretError::NoSecret),
            (good[6..].to_owned(), WebhookSecretError::NoSecret),
            (
                format!("{PREFIX}{}", Base64::encode_string(&[7; 16])),
                WebhookSecretError::NoSecret,
            ),
            (format!("{good}\nwhsec_?"), WebhookSecretError::NoSecret),
        ] {
            assert_eq!(keys(&text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn each_result_has_an_id_and_each_try_at_it_the_same() {
        let job = "daily".parse().unwrap();
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let parked =
            |reason, second| id_of(&JobResult::parked(Some(&job), "7", reason, at(second)));
        assert_eq!(parked("no rule", 1), parked("no rule", 2));
        let report = crate::report::JobReport::default();
        let done = id_of(&JobResult::done(&job, "7", &report, at(3)));
        let ids = [done, parked("no rule", 1), parked("no object", 1)];
        let different: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
    }

    #[test]
    fn an_answer_says_whether_the_result_or_the_receiver_is_wrong() {
        let fact = |status| {
            let answer = WebAnswer {
                status,
                retry_after: None,
                body: bytes::Bytes::new(),
            };
            judge(&answer).map_err(|error| error.fact)
        };
        for (status, wanted) in [
            (200, Ok(())),
            (204, Ok(())),
            (302, Err(ErrorKind::NotFound)),
            (400, Err(ErrorKind::Rejected)),
            (401, Err(ErrorKind::Denied)),
            (404, Err(ErrorKind::NotFound)),
            (410, Err(ErrorKind::NotFound)),
            (422, Err(ErrorKind::Rejected)),
            (429, Err(ErrorKind::Throttled)),
            (500, Err(ErrorKind::Failed)),
            (503, Err(ErrorKind::Failed)),
        ] {
            assert_eq!(fact(status), wanted, "{status}");
        }
    }
}
