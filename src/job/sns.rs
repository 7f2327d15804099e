//! Notices of SNS about subscriptions, which come to a queue beside its messages.
//!
//! SNS asks the owner of a queue in another account to confirm a subscription: nothing is delivered before.
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>

use std::fmt;

use presign::partition::{before_suffix, is_region};
use presign::percent;
use serde_json::Value;

use crate::bounds::MAX_SHOWN_VALUE_BYTES;
use crate::text::printable;
use crate::traceparent::{TRACEPARENT, TraceParent};

/// The longest `SubscribeURL` that is shown, in bytes; SNS's have some 400.
const MAX_URL_BYTES: usize = 600;

/// A notice of SNS about a subscription of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionNotice {
    /// Whether the subscription begins, and is to be confirmed; else it has ended.
    begins: bool,
    /// The topic, printable.
    topic: String,
    /// The URL that confirms the subscription. It has a token, so it is shown only beside the message. `None` if it does
    /// anything else: anyone who may send to the queue can forge a notice.
    pub(super) url: Option<String>,
}

/// Reads a notice; `None` for any other message.
pub(super) fn notice(message: &Value) -> Option<SubscriptionNotice> {
    let text = |field: &str| message.get(field).and_then(Value::as_str);
    let begins = match text("Type")? {
        "SubscriptionConfirmation" => true,
        "UnsubscribeConfirmation" => false,
        _ => return None,
    };
    let topic = text("TopicArn")?;
    Some(SubscriptionNotice {
        begins,
        topic: printable(topic, MAX_SHOWN_VALUE_BYTES).into_owned(),
        url: text("SubscribeURL")
            .filter(|url| is_of_sns(url, topic))
            .map(ToOwned::to_owned),
    })
}

/// The trace that the publisher of a notification names in an attribute. SNS writes attributes into the body where a subscription has no
/// raw delivery.
pub(super) fn traceparent(message: &Value) -> Option<TraceParent> {
    let attribute = message.get("MessageAttributes")?.get(TRACEPARENT)?;
    TraceParent::read(attribute.get("Value")?.as_str()?)
}

/// Whether a URL confirms a subscription to the topic at SNS, and can be shown.
fn is_of_sns(url: &str, topic: &str) -> bool {
    let parts = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once("/?"));
    let Some((host, query)) = parts else {
        return false;
    };
    let is_sns = before_suffix(host)
        .and_then(|service| service.strip_prefix("sns."))
        .is_some_and(is_region);
    // Other actions of SNS need no token: an Unsubscribe ends a subscription.
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let confirms = pairs.all(|(name, value)| match name {
        "Action" => value == "ConfirmSubscription",
        "TopicArn" => percent::decode_lossy(value) == topic,
        "Token" => true,
        _ => false,
    });
    is_sns
        && confirms
        && query.contains("Action=")
        && url.len() <= MAX_URL_BYTES
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

impl fmt::Display for SubscriptionNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = &self.topic;
        match self.begins {
            true => write!(
                f,
                "the message is no job: SNS asks to confirm the subscription of this queue to the topic {topic}, and delivers nothing before; "
            )?,
            false => write!(
                f,
                "the message is no job: SNS has ended the subscription of this queue to the topic {topic}, and delivers nothing more; to subscribe again, "
            )?,
        }
        f.write_str(match self.url {
            Some(_) => "open the SubscribeURL of the message once, in any browser",
            None => "look at the SubscribeURL of the message before you open it: it does not confirm that at SNS",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(kind: &str, url: &str) -> (String, Option<String>) {
        let message = json!({
            "Type": kind, "MessageId": "1", "Token": "2336412f37", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:uploads",
            "Message": "You have chosen to subscribe", "SubscribeURL": url,
        });
        let notice = notice(&message).unwrap();
        (notice.to_string(), notice.url)
    }

    #[test]
    fn a_notice_says_what_it_is_and_its_token_is_only_in_the_url() {
        let url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:123456789012:uploads&Token=2336412f37";
        let (confirm, shown) = told("SubscriptionConfirmation", url);
        assert_eq!(shown.as_deref(), Some(url));
        assert!(!confirm.contains("2336412f37"));
        insta::assert_snapshot!(confirm, @"the message is no job: SNS asks to confirm the subscription of this queue to the topic arn:aws:sns:eu-west-1:123456789012:uploads, and delivers nothing before; open the SubscribeURL of the message once, in any browser");
        let (ended, _) = told("UnsubscribeConfirmation", url);
        insta::assert_snapshot!(ended, @"the message is no job: SNS has ended the subscription of this queue to the topic arn:aws:sns:eu-west-1:123456789012:uploads, and delivers nothing more; to subscribe again, open the SubscribeURL of the message once, in any browser");
    }

    #[test]
    fn a_forged_notice_shows_no_url() {
        for url in [
            "https://sns.eu-west-1.amazonaws.com.evil.example/?Token=1",
            "https://evil.example/sns.eu-west-1.amazonaws.com/",
            "https://sns.x@evil.example/",
            "http://sns.eu-west-1.amazonaws.com/?Token=1",
            "https://s3.eu-west-1.amazonaws.com/b/k",
            "https://sns.s3.amazonaws.com/evil",
            "https://sns.bucket.s3.eu-west-1.amazonaws.com/?Token=1",
            "https://sns.eu-west-1.amazonaws.com/\u{1b}[2J",
            "https://sns.eu-west-1.amazonaws.com/",
            "https://sns.eu-west-1.amazonaws.com/?Token=1",
            "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=arn:aws:sns:eu-west-1:123456789012:uploads:1",
            "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:666666666666:x&Token=1",
            "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Action=Unsubscribe&Token=1",
        ] {
            let (told, shown) = told("SubscriptionConfirmation", url);
            assert_eq!(shown, None, "{url}");
            assert!(told.ends_with("it does not confirm that at SNS"), "{told}");
        }
        assert_eq!(
            notice(&json!({ "Type": "Notification", "TopicArn": "arn:x" })),
            None
        );
        assert_eq!(notice(&json!({ "v": 1, "id": "x" })), None);
    }
}
