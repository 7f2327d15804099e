//! Events of Amazon SES, in both dialects.
//!
//! Event publishing has `eventType`, identity notifications have `notificationType`. They come raw, in the envelope of SNS, or as the detail of an
//! event of EventBridge.
//!
//! <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html>,
//! <https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html>

use jiff::Timestamp;
use serde_json::Value;

use super::rules::{self, EnhancedStatus, SesBounce};
use super::{
    FeedbackEvent, FeedbackRead, FeedbackSource, FeedbackVerdict, IgnoredReport, MAX_PEOPLE,
    PersonFeedback, event_id, kept_words,
};

/// How many envelopes may be around each other: `EventBridge` to SNS to SQS has two.
const MAX_ENVELOPES: usize = 3;

/// Reads a message of the feedback queue.
pub fn read(text: &str) -> FeedbackRead {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return FeedbackRead::Ignored(IgnoredReport::Unreadable);
    };
    for _ in 0..MAX_ENVELOPES {
        let inner = match envelope(&value) {
            Wrapped::No => break,
            Wrapped::Inner(inner) => inner,
            Wrapped::Subscription => return FeedbackRead::Ignored(IgnoredReport::Subscription),
        };
        value = match inner {
            Some(inner) => inner,
            None => return FeedbackRead::Ignored(IgnoredReport::Unreadable),
        };
    }
    event(&value)
}

/// What a value is a wrapping of.
enum Wrapped {
    No,
    /// What is inside, if it can be read.
    Inner(Option<Value>),
    /// SNS asks to confirm a subscription, or ends one.
    Subscription,
}

fn envelope(value: &Value) -> Wrapped {
    match (text(value, "Type"), value.get("Message")) {
        (Some("Notification"), Some(message)) => {
            return Wrapped::Inner(
                message
                    .as_str()
                    .and_then(|text| serde_json::from_str(text).ok()),
            );
        }
        (Some("SubscriptionConfirmation" | "UnsubscribeConfirmation"), _) => {
            return Wrapped::Subscription;
        }
        _ => {}
    }
    match (text(value, "source"), value.get("detail")) {
        (Some("aws.ses"), Some(detail)) => Wrapped::Inner(Some(detail.clone())),
        _ => Wrapped::No,
    }
}

fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field).and_then(Value::as_str)
}

fn event(value: &Value) -> FeedbackRead {
    let kind = text(value, "eventType").or_else(|| text(value, "notificationType"));
    let (Some(kind), Some(mail)) = (kind, value.get("mail")) else {
        return FeedbackRead::Ignored(match kind {
            // What SES sends when a destination is set up.
            Some("AmazonSnsSubscriptionSucceeded") => IgnoredReport::Test,
            Some(_) => IgnoredReport::Unreadable,
            None => IgnoredReport::Unknown,
        });
    };
    let (field, people): (_, fn(&Value) -> Vec<PersonFeedback>) = match kind {
        "Bounce" => ("bounce", bounced),
        "Complaint" => ("complaint", complained),
        "Delivery" => ("delivery", delivered),
        "DeliveryDelay" => ("deliveryDelay", delayed),
        "Reject" => ("reject", rejected),
        "Send" => return FeedbackRead::Ignored(IgnoredReport::Send),
        "AmazonSnsSubscriptionSucceeded" => return FeedbackRead::Ignored(IgnoredReport::Test),
        _ => return FeedbackRead::Ignored(IgnoredReport::Unknown),
    };
    let Some(detail) = value.get(field) else {
        return FeedbackRead::Ignored(IgnoredReport::Unreadable);
    };
    let mut people = people(detail);
    people.truncate(MAX_PEOPLE);
    if people.is_empty() {
        return FeedbackRead::Ignored(IgnoredReport::Unreadable);
    }
    let at = text(detail, "timestamp")
        .or_else(|| text(mail, "timestamp"))
        .and_then(|at| at.parse::<Timestamp>().ok());
    let ses_id = text(mail, "messageId").unwrap_or_default();
    let stable = text(detail, "feedbackId")
        .map(ToOwned::to_owned)
        // Only bounces and complaints have an id.
        .unwrap_or_else(|| {
            format!(
                "{kind} {ses_id} {}",
                at.map_or_else(String::new, |at| at.to_string())
            )
        });
    FeedbackRead::Event(FeedbackEvent {
        id: event_id(&[b"ses", stable.as_bytes()]),
        at,
        source: FeedbackSource::Ses,
        senders: text(mail, "source")
            .map(ToOwned::to_owned)
            .into_iter()
            .collect(),
        message_ids: message_ids(mail),
        people,
    })
}

/// The Message-IDs that our mail may have: SES replaces it on the way, and keeps what we wrote in `headers`.
fn message_ids(mail: &Value) -> Vec<String> {
    let headers = mail.get("headers").and_then(Value::as_array);
    let of_headers = headers.into_iter().flatten().filter(|header| {
        text(header, "name").is_some_and(|name| name.eq_ignore_ascii_case("Message-ID"))
    });
    let of_headers = of_headers.filter_map(|header| text(header, "value"));
    let common = mail.get("commonHeaders");
    let common = common.and_then(|common| text(common, "messageId"));
    of_headers
        .chain(common)
        .take(4)
        .map(|id| id.trim().to_owned())
        .collect()
}

fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn person(
    address: Option<&str>,
    verdict: FeedbackVerdict,
    status: Option<EnhancedStatus>,
    words: Option<&str>,
) -> PersonFeedback {
    PersonFeedback {
        address: address.map(ToOwned::to_owned),
        verdict,
        status: status.map(|status| status.to_string()),
        words: kept_words(words.unwrap_or_default()),
    }
}

fn bounced(bounce: &Value) -> Vec<PersonFeedback> {
    let kind = match text(bounce, "bounceType") {
        Some("Permanent") => SesBounce::Permanent,
        Some("Transient") => SesBounce::Transient,
        _ => SesBounce::Undetermined,
    };
    let subtype = text(bounce, "bounceSubType").unwrap_or_default();
    let people = list(bounce, "bouncedRecipients").map(|recipient| {
        let written = text(recipient, "status");
        let status = written.and_then(EnhancedStatus::at_start);
        let diagnostic = text(recipient, "diagnosticCode");
        let action = text(recipient, "action");
        // A status that cannot be read is doubtful; one that is missing is not.
        let verdict = if written.is_some()
            && status.is_none()
            && subtype != "OnAccountSuppressionList"
            && subtype != "Suppressed"
        {
            FeedbackVerdict::Soft
        } else {
            rules::of_ses_bounce(kind, subtype, action, status, diagnostic)
        };
        person(text(recipient, "emailAddress"), verdict, status, diagnostic)
    });
    people.collect()
}

fn complained(complaint: &Value) -> Vec<PersonFeedback> {
    let of_list = matches!(
        text(complaint, "complaintSubType"),
        Some("OnAccountSuppressionList")
    );
    let kind = text(complaint, "complaintFeedbackType");
    let verdict = match of_list {
        true => FeedbackVerdict::ByRelay,
        false => rules::of_complaint(kind),
    };
    // All recipients of that domain, where a provider hides who complained. A mail of ours has one.
    let people = list(complaint, "complainedRecipients");
    people
        .map(|recipient| person(text(recipient, "emailAddress"), verdict, None, kind))
        .collect()
}

fn delivered(delivery: &Value) -> Vec<PersonFeedback> {
    let words = text(delivery, "smtpResponse");
    let people = list(delivery, "recipients").filter_map(Value::as_str);
    people
        .map(|address| person(Some(address), FeedbackVerdict::Delivered, None, words))
        .collect()
}

fn delayed(delay: &Value) -> Vec<PersonFeedback> {
    let people = list(delay, "delayedRecipients").map(|recipient| {
        let status = text(recipient, "status").and_then(EnhancedStatus::at_start);
        let words = text(recipient, "diagnosticCode");
        person(
            text(recipient, "emailAddress"),
            FeedbackVerdict::Delayed,
            status,
            words,
        )
    });
    people.collect()
}

/// A rejection names no recipient.
fn rejected(reject: &Value) -> Vec<PersonFeedback> {
    let reason = text(reject, "reason");
    vec![person(None, FeedbackVerdict::Rejected, None, reason)]
}
