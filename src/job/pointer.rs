//! Pointers of the extended client of SQS: a message that is too long for the queue is an object, and the queue has its place.
//!
//! The clients for Java, .NET and Python write `["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":…,"s3Key":…}]`.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-managing-large-messages.html>

use serde_json::Value;

use super::envelope::MAX_WRAPPINGS;
use super::{Bucket, Key, ParseJobError, json};

/// The classes of pointers, without their packages: that of today, and that of the client's first version.
const CLASSES: [&str; 2] = ["PayloadS3Pointer", "MessageS3Pointer"];

/// Every pointer has this in its body.
const MARK: &str = "S3Pointer";

/// The longest pointer, in bytes: a key has at most 1,024, and SNS wraps it in less than a page.
const MAX_POINTER_BYTES: usize = 16 * 1024;

/// Where the body of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadPointer {
    /// The bucket.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
}

impl PayloadPointer {
    /// The pointer that is the body of a message, bare or through SNS; `None` if the body is none.
    ///
    /// # Errors
    /// The body is a pointer that names no object.
    pub fn read(body: &str) -> Option<Result<Self, ParseJobError>> {
        if body.len() > MAX_POINTER_BYTES || !body.contains(MARK) {
            return None;
        }
        Self::of(&json::parse(body).ok()?, MAX_WRAPPINGS)
    }

    fn of(value: &Value, wrappings: usize) -> Option<Result<Self, ParseJobError>> {
        if let Some([class, place]) = value.as_array().map(Vec::as_slice) {
            let class = class.as_str()?.rsplit('.').next()?;
            return CLASSES
                .contains(&class)
                .then(|| Self::at(place).ok_or(ParseJobError::LostPointer));
        }
        let inner = match value {
            Value::Object(fields) if fields.contains_key("TopicArn") => fields.get("Message")?,
            Value::String(_) => value,
            _ => return None,
        };
        let inner = inner.as_str().filter(|_| wrappings > 0)?;
        Self::of(&json::parse(inner).ok()?, wrappings - 1)
    }

    fn at(place: &Value) -> Option<Self> {
        let text = |name: &str| place.get(name).and_then(Value::as_str);
        Some(Self {
            bucket: text("s3BucketName")?.parse().ok()?,
            key: text("s3Key")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointer(class: &str) -> Value {
        json!([class, { "s3BucketName": "acme-payloads", "s3Key": "2026/4f1c0a" }])
    }

    #[test]
    fn a_pointer_is_read_as_each_client_writes_it_and_through_sns() {
        let bare = pointer("software.amazon.payloadoffloading.PayloadS3Pointer");
        let old = pointer("com.amazon.sqs.javamessaging.MessageS3Pointer");
        let through_sns = json!({
            "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:jobs", "Message": bare.to_string()
        });
        for body in [&bare, &old, &through_sns, &json!(bare.to_string())] {
            let read = PayloadPointer::read(&body.to_string()).unwrap().unwrap();
            assert_eq!(
                (read.bucket.as_str(), read.key.as_str()),
                ("acme-payloads", "2026/4f1c0a")
            );
        }
    }

    #[test]
    fn a_pointer_without_a_place_is_an_error_and_other_messages_are_no_pointers() {
        let class = "software.amazon.payloadoffloading.PayloadS3Pointer";
        for place in [
            json!({}),
            json!({ "s3BucketName": "B/..", "s3Key": "k" }),
            json!({ "s3BucketName": "acme-payloads", "s3Key": "" }),
            json!("s3://acme-payloads/k"),
        ] {
            let read = PayloadPointer::read(&json!([class, place]).to_string()).unwrap();
            assert!(matches!(read, Err(ParseJobError::LostPointer)), "{place}");
        }
        for body in [
            json!([1, 2]),
            json!(["acme.S3Pointer", {}]),
            json!([class]),
            json!({ "v": 1, "id": "S3Pointer" }),
            json!({ "Message": "S3Pointer" }),
        ] {
            assert!(PayloadPointer::read(&body.to_string()).is_none(), "{body}");
        }
    }
}
