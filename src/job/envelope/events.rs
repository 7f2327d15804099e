//! Events of object stores, in the formats in which they reach a queue: S3 notifications, `EventBridge`, `CloudEvents`, Cloudflare R2
//! and Backblaze B2.

mod foreign;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::foreign::{
    TEST_OF_BACKBLAZE, backblaze_event, cloud_event, cloudflare_event, is_cloud_event,
    is_of_backblaze, is_of_cloudflare, written_by,
};
use super::{MAX_RECORDS, shown};
use crate::bounds::MAX_EVENT_TEXT_BYTES;
use crate::job::ParseJobError;
use crate::keyring::sha256_hex;
use crate::text::percent::decode_form;
use crate::traceparent::{TRACEPARENT, TraceParent};

/// The fields of an event, whichever way it was delivered.
#[derive(Debug)]
pub(super) struct ObjectEvent {
    pub(super) name: String,
    pub(super) bucket: String,
    pub(super) key: String,
    /// `None` for an object of a bucket without versions, whose version is called `null`.
    pub(super) version: Option<String>,
    pub(super) sequencer: Option<String>,
    pub(super) etag: Option<String>,
    pub(super) size_bytes: Option<u64>,
    pub(super) time: String,
    /// The time until which a restored copy exists.
    pub(super) restored_until: Option<String>,
    /// The id that the event has by itself, as `CloudEvents` do.
    pub(super) id: Option<String>,
}

/// The trace that an event names: a field of the event, as `CloudEvents` have it, or of the `detail` of `EventBridge`.
/// <https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md>
pub(super) fn traceparent(event: &Map<String, Value>) -> Option<TraceParent> {
    let detail = event.get("detail").and_then(Value::as_object);
    [Some(event), detail]
        .into_iter()
        .flatten()
        .find_map(|fields| TraceParent::read(fields.get(TRACEPARENT)?.as_str()?))
}

impl ObjectEvent {
    /// An event of an object, of which nothing else is known.
    pub(super) fn of(bucket: &str, key: &str) -> Self {
        Self {
            name: String::new(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version: None,
            sequencer: None,
            etag: None,
            size_bytes: None,
            time: String::new(),
            restored_until: None,
            id: None,
        }
    }

    /// Checks the lengths of the event's texts against S3's limits: each is repeated in a job, its id, or an error.
    pub(super) fn bounded(self) -> Result<Self, ParseJobError> {
        let texts = [
            ("name", Some(&self.name)),
            ("bucket", Some(&self.bucket)),
            ("key", Some(&self.key)),
            ("version", self.version.as_ref()),
            ("sequencer", self.sequencer.as_ref()),
            ("ETag", self.etag.as_ref()),
            ("time", Some(&self.time)),
            ("restore expiry", self.restored_until.as_ref()),
            ("id", self.id.as_ref()),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(field, text)| Some((field, text?)));
        let long = |(_, text): &(&str, &String)| text.len() > MAX_EVENT_TEXT_BYTES;
        let long = { texts }.find(long);
        if let Some((field, text)) = long {
            return Err(ParseJobError::LongEvent {
                field,
                length: text.len(),
            });
        }
        Ok(self)
    }

    pub(super) fn without_rule(&self) -> ParseJobError {
        ParseJobError::NoRule {
            event: shown(&self.name),
            bucket: shown(&self.bucket),
            key: shown(&self.key),
        }
    }

    /// The event's identity: the same for each delivery of the event, by whichever way, and different for every other event. See
    /// the table in `docs/jobs/events.md`. Some servers send the same sequencer for all events, or none, so all fields count.
    pub(super) fn identity(&self) -> String {
        let absent = String::new();
        let optional = |text: &Option<String>| text.as_ref().unwrap_or(&absent).clone();
        let etag = optional(&self.etag);
        let fields = [
            self.name.clone(),
            self.bucket.clone(),
            self.key.clone(),
            optional(&self.version),
            optional(&self.sequencer).to_ascii_uppercase(),
            etag.trim_matches('"').to_ascii_lowercase(),
            to_the_second(&self.time),
            to_the_second(&optional(&self.restored_until)),
        ];
        // Each with its length: a key may hold any character that could separate two fields.
        let fields = fields.iter().chain(&self.id);
        let lengths = fields.map(|field| format!("{}:{field}", field.len()));
        sha256_hex(lengths.collect::<String>().as_bytes())
    }
}

/// An instant in one spelling, in whole seconds: notifications have milliseconds, and `EventBridge` has none.
fn to_the_second(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(at) => at.as_second().to_string(),
        Err(_) => time.to_owned(),
    }
}

/// The events of a message.
pub(super) struct Events<'a> {
    /// Each event, or why it is none.
    pub(super) read: Vec<Result<ObjectEvent, ParseJobError>>,
    /// The list that they come from.
    pub(super) list: EventList<'a>,
}

/// The field of a message that has a list of events, and the list; `None` for a message of one event.
pub(super) struct EventList<'a>(Option<(&'static str, &'a [Value])>);

impl EventList<'_> {
    /// A message with one of the events alone; `None` if there is no other.
    pub(super) fn alone(&self, index: usize) -> Option<String> {
        let (name, list) = self.0.filter(|(_, list)| list.len() > 1)?;
        Some(json!({ name: [list[index]] }).to_string())
    }
}

impl<'a> Events<'a> {
    /// The events of a message whose fields [`is_event`] accepts.
    pub(super) fn of(fields: &'a Map<String, Value>) -> Result<Self, ParseJobError> {
        let list = |name: &'static str| {
            let list = fields.get(name)?.as_array()?;
            Some((name, list.as_slice()))
        };
        let (list, read): (_, fn(&Value) -> _) = match (list("Records"), list("events")) {
            (Some(records), _) => (records, notification_record),
            (None, Some(events)) => (events, backblaze_event),
            (None, None) => {
                return Ok(Self {
                    read: vec![single(fields)],
                    list: EventList(None),
                });
            }
        };
        if list.1.len() > MAX_RECORDS {
            return Err(ParseJobError::TooManyRecords {
                count: list.1.len(),
            });
        }
        Ok(Self {
            read: list.1.iter().map(read).collect(),
            list: EventList(Some(list)),
        })
    }
}

/// Whether the fields of a message are those of an event, or of several.
pub(super) fn is_event(fields: &Map<String, Value>) -> bool {
    let text = |name| fields.get(name).and_then(Value::as_str);
    let is_notification = fields.get("Records").is_some_and(Value::is_array);
    let is_event_bridge = text("source") == Some("aws.s3") && fields.contains_key("detail");
    is_notification
        || is_event_bridge
        || is_cloud_event(fields)
        || is_of_backblaze(fields)
        || is_of_cloudflare(fields)
        || is_test(fields)
}

/// Whether the message is the test event that a store sends when a notification is set up.
pub(super) fn is_test(fields: &Map<String, Value>) -> bool {
    let text =
        |value: &Value, name| value.get(name).and_then(Value::as_str) == Some(TEST_OF_BACKBLAZE);
    let events = fields.get("events").and_then(Value::as_array);
    let is_of_s3 = fields.get("Event").and_then(Value::as_str) == Some("s3:TestEvent");
    // Events of objects beside a test event are no test.
    (is_of_s3 && !fields.contains_key("Records"))
        || events.is_some_and(|events| {
            !events.is_empty() && events.iter().all(|event| text(event, "eventType"))
        })
}

/// The event of a message that has one.
fn single(fields: &Map<String, Value>) -> Result<ObjectEvent, ParseJobError> {
    if is_cloud_event(fields) {
        cloud_event(fields)
    } else if is_of_cloudflare(fields) {
        cloudflare_event(fields)
    } else {
        event_bridge(fields)
    }
}

/// One record of an S3 notification. MinIO's has `s3:` before the event's name.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>
fn notification_record(record: &Value) -> Result<ObjectEvent, ParseJobError> {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let need = |field: &'static str| text(field).ok_or(ParseJobError::Event { field });
    let optional = |pointer: &str| text(pointer).and_then(meaning);
    Ok(ObjectEvent {
        name: need("/eventName")?.trim_start_matches("s3:").to_owned(),
        bucket: need("/s3/bucket/name")?.to_owned(),
        key: decode_form(need("/s3/object/key")?).into_owned(),
        version: optional("/s3/object/versionId"),
        sequencer: optional("/s3/object/sequencer"),
        etag: optional("/s3/object/eTag"),
        size_bytes: record.pointer("/s3/object/size").and_then(Value::as_u64),
        time: need("/eventTime")?.to_owned(),
        restored_until: optional(
            "/glacierEventData/restoreEventData/lifecycleRestorationExpiryTime",
        ),
        id: None,
    })
}

/// A text of an event, if it has a meaning: an empty text has none, nor has the version `null` of an object in a bucket
/// without versions.
fn meaning(text: &str) -> Option<String> {
    (!matches!(text, "" | "null")).then(|| text.to_owned())
}

/// "Object Created" of EventBridge, or the call that wrote the object, as `CloudTrail` tells it; keys are not encoded.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>
fn event_bridge(fields: &Map<String, Value>) -> Result<ObjectEvent, ParseJobError> {
    let detail = fields.get("detail").unwrap_or(&Value::Null);
    let text = |pointer: &str| detail.pointer(pointer).and_then(Value::as_str);
    let need = |field: &'static str| text(field).ok_or(ParseJobError::Event { field });
    let top = |field: &'static str| {
        fields
            .get(field)
            .and_then(Value::as_str)
            .ok_or(ParseJobError::Event { field })
    };
    let optional = |pointer: &str| text(pointer).and_then(meaning);
    if let (Some(bucket), Some(key)) = (
        text("/requestParameters/bucketName"),
        text("/requestParameters/key"),
    ) {
        return Ok(ObjectEvent {
            name: written_by(need("/eventName")?),
            time: top("time")?.to_owned(),
            id: optional("/requestID"),
            ..ObjectEvent::of(bucket, key)
        });
    }
    Ok(ObjectEvent {
        name: event_bridge_name(top("detail-type")?, text("/reason")),
        bucket: need("/bucket/name")?.to_owned(),
        key: need("/object/key")?.to_owned(),
        version: optional("/object/version-id"),
        sequencer: optional("/object/sequencer"),
        etag: optional("/object/etag"),
        size_bytes: detail.pointer("/object/size").and_then(Value::as_u64),
        time: top("time")?.to_owned(),
        restored_until: optional("/restore-expiry-time"),
        id: None,
    })
}

/// Translates `EventBridge`'s names to those of notifications, so that a rule's event names match both.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-mapping-troubleshooting.html>
fn event_bridge_name(detail_type: &str, reason: Option<&str>) -> String {
    match (detail_type, reason) {
        ("Object Created", Some("PutObject")) => "ObjectCreated:Put",
        ("Object Created", Some("POST Object")) => "ObjectCreated:Post",
        ("Object Created", Some("CopyObject")) => "ObjectCreated:Copy",
        ("Object Created", Some("CompleteMultipartUpload")) => {
            "ObjectCreated:CompleteMultipartUpload"
        }
        ("Object Created", _) => "ObjectCreated:",
        ("Object Restore Completed", _) => "ObjectRestore:Completed",
        (other, _) => other,
    }
    .to_owned()
}
