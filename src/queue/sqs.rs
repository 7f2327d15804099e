//! Amazon SQS, or another server with its protocol, through the AWS SDK.

mod attributes;
mod looked_at;
mod parked;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use presign::partition::before_suffix;

use super::{EdgeError, ErrorKind, Message, Parked, Queue, QueueError, Receipt, hand_over};
use crate::bounds::MAX_MESSAGE_ID_BYTES;
use crate::bounds::MAX_VISIBILITY;
use crate::edge::health::{Edge, EdgeKind, FailureKind};
use crate::edge::http::{RequestTerms, broke_under_the_request};
use crate::keyring::nonce;
use crate::progress::QueueDepth;
use crate::traceparent::TraceParent;

pub use looked_at::LookedAt;
pub use parked::ParkedQueue;

/// The most messages that one call can receive.
const MAX_RECEIVE: usize = 10;

/// The longest that a call can wait for a message.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// How much longer than the poll its answer may take.
const POLL_MARGIN: Duration = Duration::from_secs(10);

/// How long the answer to a poll without a wait may take. A queue that may have recovered is polled so, and the next
/// poll uses another connection.
const ANSWER_NOW: Duration = Duration::from_secs(5);

/// The longest reason that is stored with a parked message, in characters.
const MAX_REASON: usize = 1000;

/// A queue by its URL, and the queue of parked messages.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
    parked: Option<Aside>,
    /// What the queue says to deletions, which polls do not show: a policy may permit one and deny the other.
    deletions: Edge,
}

/// The queue of parked messages.
#[derive(Debug, Clone)]
struct Aside {
    client: Client,
    url: String,
    edge: Edge,
}

impl SqsQueue {
    /// A queue over a configured client.
    pub fn new(client: Client, url: String) -> Self {
        let subject = format!("the queue {url} (deletions of messages)");
        Self {
            client,
            url,
            parked: None,
            deletions: Edge::new(EdgeKind::Queue, "deletions", subject),
        }
    }

    /// The same with a queue of parked messages, which may be in another region or at another server.
    #[must_use]
    pub fn with_parked(self, client: Client, url: String) -> Self {
        let subject = format!("the queue of parked messages {url} (queue.parked_url)");
        let edge = Edge::new(EdgeKind::Parked, "queue", subject);
        Self {
            parked: Some(Aside { client, url, edge }),
            ..self
        }
    }

    async fn send(
        &self,
        body: &str,
        fifo: Option<Fifo>,
        trace: Option<TraceParent>,
    ) -> Result<String, QueueError> {
        let (group, id) = fifo.as_ref().map(Fifo::parts).unzip();
        let trace = trace.map(|trace| attributes::of_sender(&[attributes::of_trace(trace)]));
        let answer = self
            .client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .set_message_group_id(group)
            .set_message_deduplication_id(id)
            .set_message_attributes(trace)
            .send()
            .await;
        let answer = answer.map_err(|error| {
            EdgeError::from_sdk(format!("submit a message to {}", self.url), &error)
        })?;
        Ok(answer.message_id.unwrap_or_default())
    }
}

/// About how many messages a queue reports in a state.
async fn count(
    client: &Client,
    url: &str,
    name: QueueAttributeName,
) -> Result<Option<u64>, QueueError> {
    let counts = counts(client, url, std::slice::from_ref(&name)).await?;
    Ok(counts.get(&name).copied())
}

/// About how many messages a queue reports in each of some states, in one request.
async fn counts(
    client: &Client,
    url: &str,
    names: &[QueueAttributeName],
) -> Result<HashMap<QueueAttributeName, u64>, QueueError> {
    let answer = client
        .get_queue_attributes()
        .queue_url(url)
        .set_attribute_names(Some(names.to_vec()))
        .send()
        .await;
    let answer = answer
        .map_err(|error| EdgeError::from_sdk(format!("get the attributes of {url}"), &error))?;
    let attributes = answer.attributes.unwrap_or_default().into_iter();
    Ok(attributes
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect())
}

/// The states of messages: those that wait, those that wait for a delay, and those that are worked.
const WAITING: QueueAttributeName = QueueAttributeName::ApproximateNumberOfMessages;
const DELAYED: QueueAttributeName = QueueAttributeName::ApproximateNumberOfMessagesDelayed;
const HIDDEN: QueueAttributeName = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;

/// About how many messages wait in a queue.
async fn waiting(client: &Client, url: &str) -> Result<u64, QueueError> {
    Ok(count(client, url, WAITING).await?.unwrap_or_default())
}

#[async_trait]
impl Queue for SqsQueue {
    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        let wait = wait.min(MAX_WAIT);
        let patience = match wait.is_zero() {
            true => ANSWER_NOW,
            false => wait + POLL_MARGIN,
        };
        // EventBridge and SNS pass a trace on beside the attributes. Other servers may refuse a name that they do not know.
        let trace_header =
            is_of_aws(&self.url).then_some(MessageSystemAttributeName::AwsTraceHeader);
        let system_attributes: Vec<_> = [
            MessageSystemAttributeName::ApproximateReceiveCount,
            MessageSystemAttributeName::MessageGroupId,
        ]
        .into_iter()
        .chain(trace_header)
        .collect();
        let poll = || {
            self.client
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(i32::try_from(max.clamp(1, MAX_RECEIVE)).unwrap_or(1))
                .visibility_timeout(seconds(visibility))
                .wait_time_seconds(seconds(wait))
                .set_message_system_attribute_names(Some(system_attributes.clone()))
                .message_attribute_names(attributes::ALL)
                .customize()
                // A long poll may last as long as its wait.
                .interceptor(RequestTerms::answer_within(patience))
                // The next poll is the retry.
                .config_override(
                    aws_sdk_sqs::config::Builder::new().retry_config(RetryConfig::disabled()),
                )
                .send()
        };
        let answer = match poll().await {
            // A proxy or a firewall may reset a connection at its second request. The next poll would come after another request on the
            // new connection, and break again.
            Err(error) if broke_under_the_request(&error) => poll().await,
            answer => answer,
        };
        let answer = answer
            .map_err(|error| EdgeError::from_sdk(format!("receive from {}", self.url), &error))?;
        Ok(answer
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(message)
            .collect())
    }

    async fn delete(&self, receipt: &Receipt) -> Result<(), QueueError> {
        let request = self
            .client
            .delete_message()
            .queue_url(&self.url)
            .receipt_handle(receipt.expose());
        let deleted = request
            .send()
            .await
            .map(drop)
            .map_err(|error| receipt_error("delete a message of", &self.url, &error));
        match &deleted {
            Ok(()) => self.deletions.answered(),
            Err(EdgeError {
                fact,
                answer: Some(answer),
                ..
            }) => match fact {
                ErrorKind::Denied => self.deletions.denied(false, &answer.words()),
                ErrorKind::Failed => {
                    let words = answer.words();
                    self.deletions.failed(FailureKind::ServerError, &words);
                }
                // About this receipt, or told by the queue's own edge.
                ErrorKind::NotFound
                | ErrorKind::Throttled
                | ErrorKind::Unreachable
                | ErrorKind::Silent
                | ErrorKind::Elsewhere
                | ErrorKind::Rejected => {}
            },
            Err(_) => {}
        }
        deleted
    }

    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), QueueError> {
        let request = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt.expose())
            .visibility_timeout(seconds(visibility.min(MAX_VISIBILITY)));
        request.send().await.map(drop).map_err(|error| {
            receipt_error("extend the visibility of a message of", &self.url, &error)
        })
    }

    fn parks(&self) -> bool {
        self.parked.is_some()
    }

    fn parked_edge(&self) -> Option<&Edge> {
        self.parked.as_ref().map(|aside| &aside.edge)
    }

    fn deletions_edge(&self) -> Option<&Edge> {
        Some(&self.deletions)
    }

    async fn park(&self, message: &Message, reason: &str) -> Result<Parked, QueueError> {
        let Some(Aside { client, url, edge }) = &self.parked else {
            return Ok(Parked::LeftToRedrive);
        };
        let fifo = Fifo::of(url, message.group.as_deref());
        let send = || {
            let (group, id) = fifo.as_ref().map(Fifo::parts).unzip();
            client
                .send_message()
                .queue_url(url)
                .message_body(&message.body)
                .set_message_group_id(group)
                .set_message_deduplication_id(id)
        };
        let parked = |error: &_| EdgeError::from_sdk(format!("park a message in {url}"), error);
        // Sends first and deletes then: a crash in between leaves two copies, never none.
        let with = |attributes| async move {
            let send = send().set_message_attributes(Some(attributes));
            send.send().await.map_err(|error| parked(&error))
        };
        let ours = [
            (parked::REASON, printable(reason)),
            (parked::MESSAGE_ID, message.id.clone()),
        ];
        if let Some(attribute) = attributes::left_out(&message.attributes) {
            tracing::warn!(
                message.id,
                attribute,
                "a parked message has no room for an attribute of its sender beside the reason"
            );
        }
        let sending = async {
            match with(attributes::with_ours(ours, &message.attributes)).await {
                // A body near the size limit leaves no room for more; the reason is in the audit log.
                Err(error) if error.fact == ErrorKind::Rejected => {
                    with(attributes::of_sender(&message.attributes)).await
                }
                sent => sent,
            }
        };
        hand_over(edge, || Box::pin(waiting(client, url)), sending).await?;
        self.delete(&message.receipt).await?;
        Ok(Parked::Aside)
    }

    async fn submit_traced(
        &self,
        body: &str,
        trace: Option<TraceParent>,
    ) -> Result<String, QueueError> {
        self.send(body, Fifo::of(&self.url, None), trace).await
    }

    async fn submit_in_group(
        &self,
        body: &str,
        group: &str,
        id: &str,
    ) -> Result<String, QueueError> {
        let fifo = Fifo::of(&self.url, Some(group)).map(|fifo| Fifo {
            deduplication_id: id.to_owned(),
            ..fifo
        });
        self.send(body, fifo, None).await
    }

    async fn depth(&self) -> Result<Option<QueueDepth>, QueueError> {
        let states = [WAITING, DELAYED, HIDDEN];
        let counts = counts(&self.client, &self.url, &states).await?;
        let of = |state: &QueueAttributeName| counts.get(state).copied().unwrap_or_default();
        Ok(Some(QueueDepth {
            waiting: of(&WAITING) + of(&DELAYED),
            in_flight: of(&HIDDEN),
            // SQS tells CloudWatch alone.
            oldest: None,
        }))
    }

    async fn waiting(&self) -> Result<u64, QueueError> {
        waiting(&self.client, &self.url).await
    }

    async fn in_flight(&self) -> Result<Option<u64>, QueueError> {
        count(&self.client, &self.url, HIDDEN).await
    }
}

/// A message without a receipt or a body can be neither worked nor deleted; SQS does not send one.
fn message(message: aws_sdk_sqs::types::Message) -> Option<Message> {
    let attribute = |name| message.attributes.as_ref()?.get(&name);
    let receives = attribute(MessageSystemAttributeName::ApproximateReceiveCount)
        .and_then(|count| count.parse().ok());
    let group = attribute(MessageSystemAttributeName::MessageGroupId).cloned();
    let trace = attribute(MessageSystemAttributeName::AwsTraceHeader)
        .and_then(|header| TraceParent::read_x_ray(header));
    let attributes = message.message_attributes.unwrap_or_default();
    Some(Message {
        // The id goes into log and audit lines.
        id: crate::text::printable(
            &message.message_id.unwrap_or_default(),
            MAX_MESSAGE_ID_BYTES,
        )
        .into_owned(),
        body: message.body?,
        receipt: Receipt::new(message.receipt_handle?),
        receive_count: receives.unwrap_or(1),
        group,
        attributes: attributes::read(attributes),
        trace,
    })
}

/// Whether a queue is one of SQS, by its URL.
fn is_of_aws(url: &str) -> bool {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    before_suffix(host).is_some()
}

/// The FIFO fields of a message: its group, and a unique deduplication id, since idempotency belongs to the job and not
/// to the text.
struct Fifo {
    group: String,
    deduplication_id: String,
}

impl Fifo {
    /// `None` for a standard queue, by its name.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/fifo-queue-message-identifiers.html>
    fn of(url: &str, group: Option<&str>) -> Option<Self> {
        url.ends_with(".fifo").then(|| {
            let deduplication_id = nonce();
            Self {
                // Jobs without an order have no group.
                group: group.map_or_else(|| deduplication_id.clone(), ToOwned::to_owned),
                deduplication_id,
            }
        })
    }

    fn parts(&self) -> (String, String) {
        (self.group.clone(), self.deduplication_id.clone())
    }
}

/// An invalid receipt handle means that the message is not ours any more, whatever status comes with it.
fn receipt_error<E>(
    action: &str,
    url: &str,
    error: &aws_sdk_sqs::error::SdkError<E, aws_sdk_sqs::config::http::HttpResponse>,
) -> QueueError
where
    E: aws_sdk_sqs::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    let error = EdgeError::from_sdk(format!("{action} {url}"), error);
    // "Message does not exist or is not available for visibility timeout change" comes as InvalidParameterValue.
    match error.fact {
        ErrorKind::Rejected => EdgeError {
            fact: ErrorKind::NotFound,
            ..error
        },
        _ => error,
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// SQS accepts XML 1.0's characters in attributes. Control characters are removed here, and long reasons are cut,
/// since their size is billed.
fn printable(reason: &str) -> String {
    reason
        .chars()
        .filter(|c| !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}'))
        .take(MAX_REASON)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_that_a_service_of_aws_passes_on_stands_behind_the_senders() {
        let header = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";
        let value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let received = aws_sdk_sqs::types::Message::builder();
        let received = received.message_id("1").body("{}").receipt_handle("r");
        let received = received.attributes(MessageSystemAttributeName::AwsTraceHeader, header);
        let passed_on = message(received.clone().build()).unwrap().traceparent();
        let passed_on = passed_on.map(|trace| trace.to_string());
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(passed_on.as_deref(), Some(expected));
        let trace = TraceParent::read(value).unwrap();
        let named = attributes::of_sender(&[attributes::of_trace(trace)]);
        let named = received.set_message_attributes(Some(named)).build();
        assert_eq!(message(named).unwrap().traceparent(), Some(trace));
    }

    #[test]
    fn a_queue_of_aws_is_known_by_its_host() {
        for (url, expected) in [
            (
                "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
                true,
            ),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/jobs",
                true,
            ),
            ("http://127.0.0.1:9324/000000000000/jobs", false),
            ("https://queue.acme.example/amazonaws.com/jobs", false),
        ] {
            assert_eq!(is_of_aws(url), expected, "{url}");
        }
    }

    #[test]
    fn an_id_of_a_message_is_fit_for_a_line_and_a_short_one_is_as_it_was() {
        let received = |id: &str| {
            let received = aws_sdk_sqs::types::Message::builder();
            let received = received.message_id(id).body("{}").receipt_handle("r");
            message(received.build()).unwrap().id
        };
        let usual = "219f8380-5770-4cc2-8c3e-5c715e145f5e";
        assert_eq!(received(usual), usual);
        for id in ["x".repeat(100_000), "\u{1b}]0;".repeat(10_000)] {
            let kept = received(&id);
            assert!(
                kept.len() <= MAX_MESSAGE_ID_BYTES && !kept.contains('\u{1b}'),
                "{kept}"
            );
        }
    }
}
