//! Events of other stores with S3's protocol, and of services that pass events on.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{ObjectEvent, meaning, notification_record};
use crate::bounds::MAX_SHOWN_VALUE_BYTES;
use crate::job::ParseJobError;
use crate::text::printable;

/// The event that Backblaze sends when a rule is made.
/// <https://www.backblaze.com/docs/cloud-storage-event-notifications-reference-guide>
pub(super) const TEST_OF_BACKBLAZE: &str = "b2:TestEvent";

/// The name of an event after the call that wrote the object: `PutObject` is `ObjectCreated:Put`. Other calls keep their names.
pub(super) fn written_by(call: &str) -> String {
    match call {
        "PutObject" => "ObjectCreated:Put",
        "PostObject" => "ObjectCreated:Post",
        "CopyObject" => "ObjectCreated:Copy",
        "CompleteMultipartUpload" => "ObjectCreated:CompleteMultipartUpload",
        other => other,
    }
    .to_owned()
}

/// The text at a pointer.
fn need<'a>(value: &'a Value, pointer: &'static str) -> Result<&'a str, ParseJobError> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.ok_or(ParseJobError::Event { field: pointer })
}

fn optional(value: &Value, pointer: &str) -> Option<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .and_then(meaning)
}

/// Whether a message is an event notification of Cloudflare R2.
pub(super) fn is_of_cloudflare(fields: &Map<String, Value>) -> bool {
    ["action", "bucket"]
        .iter()
        .all(|name| fields.get(*name).is_some_and(Value::is_string))
        && fields.get("object").is_some_and(Value::is_object)
}

/// The event of Cloudflare R2; its key is not encoded.
/// <https://developers.cloudflare.com/r2/buckets/event-notifications/#message-format>
pub(super) fn cloudflare_event(fields: &Map<String, Value>) -> Result<ObjectEvent, ParseJobError> {
    let event = Value::Object(fields.clone());
    Ok(ObjectEvent {
        name: written_by(need(&event, "/action")?),
        etag: optional(&event, "/object/eTag"),
        size_bytes: event.pointer("/object/size").and_then(Value::as_u64),
        time: need(&event, "/eventTime")?.to_owned(),
        ..ObjectEvent::of(need(&event, "/bucket")?, need(&event, "/object/key")?)
    })
}

/// Whether a message has events of Backblaze B2.
pub(super) fn is_of_backblaze(fields: &Map<String, Value>) -> bool {
    let is_event = |event: &Value| {
        let kind = event.get("eventType").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.starts_with("b2:"))
    };
    let events = fields.get("events").and_then(Value::as_array);
    events.is_some_and(|events| events.iter().any(is_event))
}

/// One event of Backblaze B2; its key is not encoded, and its time is in milliseconds.
/// <https://www.backblaze.com/docs/cloud-storage-event-notifications-reference-guide>
pub(super) fn backblaze_event(event: &Value) -> Result<ObjectEvent, ParseJobError> {
    let kind = need(event, "/eventType")?.trim_start_matches("b2:");
    let name = match kind.split_once(':') {
        Some(("ObjectCreated", "Upload")) => "ObjectCreated:Put",
        Some(("ObjectCreated", "MultipartUpload")) => "ObjectCreated:CompleteMultipartUpload",
        _ => kind,
    };
    let at = event.get("eventTimestamp").and_then(Value::as_i64);
    let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
    Ok(ObjectEvent {
        name: name.to_owned(),
        version: optional(event, "/objectVersionId"),
        size_bytes: event.get("objectSize").and_then(Value::as_u64),
        time: at
            .ok_or(ParseJobError::Event {
                field: "eventTimestamp",
            })?
            .to_string(),
        id: optional(event, "/eventId"),
        ..ObjectEvent::of(need(event, "/bucketName")?, need(event, "/objectName")?)
    })
}

/// Whether a message is a `CloudEvent` in structured mode.
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>
pub(super) fn is_cloud_event(fields: &Map<String, Value>) -> bool {
    let is_text = |name: &str| fields.get(name).is_some_and(Value::is_string);
    is_text("specversion") && is_text("type")
}

/// A `CloudEvent` whose data names an object: a record of an S3 notification, as adapters pass it on, Google's `StorageObjectData`,
/// or an event of Alibaba's OSS.
pub(super) fn cloud_event(fields: &Map<String, Value>) -> Result<ObjectEvent, ParseJobError> {
    let event = Value::Object(fields.clone());
    let data = event.get("data").unwrap_or(&Value::Null);
    let record = match data.get("Records").and_then(Value::as_array) {
        Some(records) => records.first().filter(|_| records.len() == 1),
        None => Some(data),
    };
    let id = Some(format!(
        "{} {}",
        need(&event, "/source")?,
        need(&event, "/id")?
    ));
    if let Some(record) = record.filter(|record| record.get("s3").is_some()) {
        return Ok(ObjectEvent {
            id,
            ..notification_record(record)?
        });
    }
    let text = |pointers: [&str; 3]| {
        let mut texts = pointers.iter().map(|pointer| data.pointer(pointer));
        texts.find_map(|text| text.and_then(Value::as_str))
    };
    let kind = need(&event, "/type")?;
    let (Some(bucket), Some(key)) = (
        text(["/bucket", "/bucket/name", "/oss/bucket/name"]),
        text(["/name", "/object/key", "/oss/object/key"]),
    ) else {
        let kind = printable(kind, MAX_SHOWN_VALUE_BYTES).into_owned();
        return Err(ParseJobError::NoObject { kind });
    };
    let size = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let sizes = ["/size", "/object/size", "/oss/object/size"];
    Ok(ObjectEvent {
        name: created(kind, text(["/eventName", "/reason", "/action"])),
        etag: text(["/etag", "/object/etag", "/oss/object/eTag"]).and_then(meaning),
        size_bytes: sizes
            .iter()
            .find_map(|pointer| size(data.pointer(pointer)?)),
        time: need(&event, "/time")?.to_owned(),
        id,
        ..ObjectEvent::of(bucket, key)
    })
}

/// The name of an event by its type, such as `google.cloud.storage.object.v1.finalized`, or by the call that it tells.
fn created(kind: &str, call: Option<&str>) -> String {
    let by_call = |call: &str| {
        let call = call.rsplit(':').next().unwrap_or(call);
        written_by(call)
    };
    let has = |text: &str, words: &[&str]| {
        let text = text.to_ascii_lowercase();
        words.iter().any(|word| text.contains(word))
    };
    // `ObjectRemoved:DeleteMarkerCreated` creates no object.
    let is_removal = |text: &str| has(text, &["remov", "delet", "marker"]);
    let is_creation = |kind: &str| {
        has(kind, &["finalized", "created"]) && !is_removal(kind) && !call.is_some_and(is_removal)
    };
    match call.map(by_call) {
        Some(name) if name.starts_with("ObjectCreated:") => name,
        _ if is_creation(kind) => "ObjectCreated:Put".to_owned(),
        _ => kind.to_owned(),
    }
}
