//! What stands beside the body of a message: the attributes of its sender, and ours on a parked one.

use std::collections::HashMap;

use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::MessageAttributeValue;

use super::parked::{MESSAGE_ID, REASON};
use crate::queue::{AttributeValue, MessageAttribute};
use crate::traceparent::{TRACEPARENT, TraceParent};

/// Asks for all attributes of a message.
pub(super) const ALL: &str = "All";

/// The most attributes of a message.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>
const MOST: usize = 10;

/// Attributes without which readers misread the body: the extended client's mark of a pointer, new and old.
const READERS: [&str; 2] = ["ExtendedPayloadSize", "SQSLargePayloadSize"];

type Attributes = HashMap<String, MessageAttributeValue>;

/// The sender's attributes, in the order of their names; those that readers need first.
pub(super) fn read(attributes: Attributes) -> Vec<MessageAttribute> {
    let is_ours = |name: &str| matches!(name, REASON | MESSAGE_ID);
    let mut read: Vec<MessageAttribute> = attributes
        .into_iter()
        .filter(|(name, _)| !is_ours(name))
        .filter_map(|(name, attribute)| {
            let value = match (attribute.string_value, attribute.binary_value) {
                (Some(text), _) => AttributeValue::Text(text),
                (None, Some(bytes)) => AttributeValue::Bytes(bytes.into_inner()),
                (None, None) => return None,
            };
            let data_type = attribute.data_type;
            Some(MessageAttribute {
                name,
                data_type,
                value,
            })
        })
        .collect();
    read.sort_by(|a, b| {
        let rank = |one: &MessageAttribute| !READERS.contains(&one.name.as_str());
        rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name))
    });
    read
}

/// The attribute that names a trace.
pub(super) fn of_trace(trace: TraceParent) -> MessageAttribute {
    MessageAttribute {
        name: TRACEPARENT.to_owned(),
        data_type: "String".to_owned(),
        value: AttributeValue::Text(trace.to_string()),
    }
}

/// The attributes as the sender wrote them, as a redrive policy moves them.
pub(super) fn of_sender(attributes: &[MessageAttribute]) -> Attributes {
    let written = attributes.iter().take(MOST).filter_map(written);
    written.collect()
}

/// Our attributes and the sender's: the first of ours always, then the sender's, then the others of ours, as many as there may be.
pub(super) fn with_ours<const N: usize>(
    ours: [(&str, String); N],
    attributes: &[MessageAttribute],
) -> Attributes {
    let mut ours = ours.into_iter().filter_map(|(name, value)| {
        written(&MessageAttribute {
            name: name.to_owned(),
            data_type: "String".to_owned(),
            value: AttributeValue::Text(value),
        })
    });
    let first = ours.next();
    let senders = attributes.iter().filter_map(written);
    first
        .into_iter()
        .chain(senders)
        .chain(ours)
        .take(MOST)
        .collect()
}

/// The sender's attribute for which there is no room beside the first of ours.
pub(super) fn left_out(attributes: &[MessageAttribute]) -> Option<&str> {
    attributes
        .get(MOST - 1)
        .map(|attribute| attribute.name.as_str())
}

fn written(attribute: &MessageAttribute) -> Option<(String, MessageAttributeValue)> {
    let builder = MessageAttributeValue::builder().data_type(&attribute.data_type);
    let builder = match &attribute.value {
        AttributeValue::Text(text) => builder.string_value(text),
        AttributeValue::Bytes(bytes) => builder.binary_value(Blob::new(bytes.clone())),
    };
    Some((attribute.name.clone(), builder.build().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str) -> MessageAttribute {
        MessageAttribute {
            name: name.to_owned(),
            data_type: "Number.int".to_owned(),
            value: AttributeValue::Text("7".to_owned()),
        }
    }

    #[test]
    fn of_ten_attributes_the_reason_and_what_readers_need_are_there() {
        let names = |count: usize| -> Vec<String> {
            let of_sender: Attributes = (0..count)
                .map(|n| format!("a{n}"))
                .chain(["ExtendedPayloadSize".to_owned(), REASON.to_owned()])
                .filter_map(|name| written(&attribute(&name)))
                .collect();
            let read = read(of_sender);
            let ours = [(REASON, "no".to_owned()), (MESSAGE_ID, "1".to_owned())];
            let mut names: Vec<String> = with_ours(ours, &read).into_keys().collect();
            names.sort();
            names
        };
        assert_eq!(names(1), ["ExtendedPayloadSize", "a0", MESSAGE_ID, REASON]);
        let full = names(9);
        assert_eq!(full.len(), MOST);
        assert!(
            full.contains(&REASON.to_owned()) && full.contains(&"ExtendedPayloadSize".to_owned())
        );
        assert!(!full.contains(&MESSAGE_ID.to_owned()) && !full.contains(&"a8".to_owned()));
    }
}
