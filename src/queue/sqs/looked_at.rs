//! What `handout check` reads from a queue.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;

use super::SqsQueue;
use crate::queue::{EdgeError, QueueError};

/// The check receives no message from a queue whose redrive policy moves messages after fewer receipts.
const SPARED_BELOW: u32 = 3;

/// The state of a queue in a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookedAt {
    /// About how many messages wait.
    pub waiting: u64,
    /// After how many receipts the queue's redrive policy moves a message away, if it has one.
    pub max_receive_count: Option<u32>,
    /// Whether the check received. It does not if the receipt could be the last one that the policy allows.
    pub received: bool,
}

impl SqsQueue {
    /// Reads the queue's attributes, and receives a message that others can have at once (a visibility timeout of
    /// zero).
    ///
    /// A queue with readable attributes may still deny receives: receiving and decrypting need rights of their own. The
    /// receive count of a received message goes up by one.
    ///
    /// # Errors
    /// The queue's error.
    pub async fn look_at(&self) -> Result<LookedAt, QueueError> {
        let (waiting, max_receive_count) = attributes(&self.client, &self.url).await?;
        let received = max_receive_count.is_none_or(|count| count >= SPARED_BELOW);
        if received {
            let receiving = self.client.receive_message().queue_url(&self.url);
            let receiving = receiving.max_number_of_messages(1).visibility_timeout(0);
            let received = receiving.wait_time_seconds(0).send().await;
            received.map_err(|error| {
                EdgeError::from_sdk(format!("receive from {}", self.url), &error)
            })?;
        }
        Ok(LookedAt {
            waiting,
            max_receive_count,
            received,
        })
    }
}

/// About how many messages wait, and after how many receipts one is moved away.
pub(super) async fn attributes(
    client: &Client,
    url: &str,
) -> Result<(u64, Option<u32>), QueueError> {
    let waiting = QueueAttributeName::ApproximateNumberOfMessages;
    let redrive = QueueAttributeName::RedrivePolicy;
    let asking = client.get_queue_attributes().queue_url(url);
    let asking = asking
        .attribute_names(waiting.clone())
        .attribute_names(redrive.clone());
    let answer = asking.send().await;
    let answer = answer
        .map_err(|error| EdgeError::from_sdk(format!("get the attributes of {url}"), &error))?;
    let attributes = answer.attributes.unwrap_or_default();
    let count = attributes
        .get(&waiting)
        .and_then(|count| count.parse().ok());
    let policy = attributes.get(&redrive).map(String::as_str);
    Ok((
        count.unwrap_or_default(),
        policy.and_then(max_receive_count),
    ))
}

/// The number in a redrive policy. SQS writes it as a number, and also accepts a string.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>
fn max_receive_count(policy: &str) -> Option<u32> {
    let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
    let count = &policy["maxReceiveCount"];
    let number = count.as_u64().or_else(|| count.as_str()?.parse().ok());
    number.and_then(|number| number.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::max_receive_count;

    #[test]
    fn the_count_of_a_redrive_policy_is_a_number_or_a_string() {
        let of = |count: &str| {
            max_receive_count(&format!(
                r#"{{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:d","maxReceiveCount":{count}}}"#
            ))
        };
        assert_eq!((of("5"), of("\"1000\"")), (Some(5), Some(1000)));
        assert_eq!((of("null"), of("-1"), of("\"x\"")), (None, None, None));
        assert_eq!(max_receive_count("not JSON"), None);
    }
}
