//! Messages that are not jobs: S3 events, delivered directly, through SNS or through EventBridge.
//!
//! An `[[on_event]]` rule turns an event into a job: the rule's job file has names such as `{{event.key}}`. The job's id is
//! derived from the event and not from the time of its receipt, so that an event that is delivered twice is one job.

mod events;

use std::str::FromStr;
use std::sync::Arc;

use globset::GlobMatcher;
use serde_json::{Map, Value};

use self::events::{Events, ObjectEvent, is_event, is_test};

use super::occurrence::Occurrence;
use super::phrase::{Phrase, PhraseScope, stem_and_extension};
use super::place::is_folder_marker;
use super::pointer::PayloadPointer;
use super::{Bucket, Job, ParseJobError, glob, json, parts, sns, wire};
use crate::bounds::{MAX_SHOWN_VALUE_BYTES, MAX_VAR_BYTES};
use crate::text::printable;
use crate::traceparent::TraceParent;

/// How many layers of JSON text are unwrapped (SNS in SQS, a doubly encoded body).
pub(super) const MAX_WRAPPINGS: usize = 3;

/// How many events one message may have. S3 sends one; its documentation allows more.
pub(super) const MAX_RECORDS: usize = 100;

/// A rule that turns an event into a job.
#[derive(Debug, Clone)]
pub struct EventRule {
    /// The bucket of the event.
    pub bucket: Bucket,
    /// What the object's key must match.
    pub key: GlobMatcher,
    /// The names of the events.
    pub events: Vec<EventName>,
    /// The job, as JSON with `{{event.…}}` in its texts.
    pub template: Arc<Value>,
}

/// The event's name. Only events after which the object can be opened are supported: a removal or a tag starts no
/// job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventName {
    /// The object was created, in any way.
    Created,
    /// The object was created in one way: `Put`, `Post`, `Copy` or `CompleteMultipartUpload`.
    CreatedBy(&'static str),
    /// The object was restored from an archive.
    Restored,
}

/// The ways in which an object is created.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html>
const WAYS: [&str; 4] = ["Put", "Post", "Copy", "CompleteMultipartUpload"];

impl EventName {
    fn is_meant(&self, name: &str) -> bool {
        match (self, name.split_once(':')) {
            (Self::Created, Some(("ObjectCreated", _))) => true,
            (Self::CreatedBy(way), Some(("ObjectCreated", how))) => *way == how,
            (Self::Restored, Some(("ObjectRestore", "Completed"))) => true,
            (Self::Created | Self::CreatedBy(_) | Self::Restored, _) => false,
        }
    }
}

impl FromStr for EventName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_start_matches("s3:").split_once(':') {
            Some(("ObjectCreated", "*")) => return Ok(Self::Created),
            Some(("ObjectCreated", how)) => {
                if let Some(way) = WAYS.into_iter().find(|way| *way == how) {
                    return Ok(Self::CreatedBy(way));
                }
            }
            Some(("ObjectRestore", "Completed" | "*")) => return Ok(Self::Restored),
            Some(_) | None => {}
        }
        let ways = WAYS.map(|way| format!("ObjectCreated:{way}")).join(", ");
        Err(format!(
            "is {text:?}; supported: ObjectCreated:*, {ways}, ObjectRestore:Completed"
        ))
    }
}

/// The contents of a message.
#[derive(Debug, Default)]
pub struct OpenedMessage {
    /// The jobs, each built when it is worked; none for a test event.
    pub jobs: Vec<PendingJob>,
    /// The number of events in the message that match no rule.
    pub unwanted: usize,
    /// The number of events of folder markers, which make no job.
    pub folder_markers: usize,
    /// Why other events in the message make no job: an event with an invalid key does not prevent the rest from being worked.
    pub refused: Vec<ParseJobError>,
    /// The trace that the sender of an event names in it, or in a notification of SNS.
    pub trace: Option<TraceParent>,
    /// Whether this was the test event that S3 sends when a notification is set up.
    pub test_event: bool,
}

/// A job of a message, not built yet: a hundred events of one message, each with the rule's whole job file, would be large.
#[derive(Debug)]
pub enum PendingJob {
    /// The message is the job.
    Job(Box<Job>),
    /// The job of an event.
    Event(Box<EventOrder>),
}

/// An event and the job file of the rule that it matches.
#[derive(Debug)]
pub struct EventOrder {
    event: ObjectEvent,
    template: Arc<Value>,
    /// The message that delivers the event again.
    message: Arc<str>,
}

impl PendingJob {
    /// Builds the job.
    ///
    /// # Errors
    /// Why the rule's job file, filled in with the event's fields, is not a valid job.
    pub fn open(self) -> Result<Job, ParseJobError> {
        match self {
            Self::Job(job) => Ok(*job),
            Self::Event(order) => {
                let mut job = job_of(&order.template, &order.event)?;
                job.message = order.message;
                Ok(job)
            }
        }
    }
}

/// Parses a message.
pub fn open(body: &str, rules: &[EventRule]) -> Result<OpenedMessage, ParseJobError> {
    let parsed = json::parse(body)?;
    let trace = sns::traceparent(&parsed);
    let fields = match unwrap_event(parsed, MAX_WRAPPINGS)? {
        Unwrapped::Event(fields) => fields,
        Unwrapped::Other(value) => {
            if let Some(pointer) = PayloadPointer::read(body) {
                let PayloadPointer { bucket, .. } = pointer?;
                return Err(ParseJobError::Pointer { bucket });
            }
            if let Some(notice) = sns::notice(&value) {
                return Err(ParseJobError::OfSns(notice));
            }
            return Ok(OpenedMessage {
                jobs: vec![PendingJob::Job(Box::new(Job::of(body, value)?))],
                ..OpenedMessage::default()
            });
        }
    };
    if is_test(&fields) {
        return Ok(OpenedMessage {
            test_event: true,
            ..OpenedMessage::default()
        });
    }
    let events = Events::of(&fields)?;
    let mut opened = OpenedMessage {
        trace: trace.or_else(|| events::traceparent(&fields)),
        ..OpenedMessage::default()
    };
    let mut no_rule = ParseJobError::Event { field: "Records" };
    let Events { read, list } = events;
    for (index, event) in read.into_iter().enumerate() {
        let event = match event.and_then(ObjectEvent::bounded) {
            Ok(event) => event,
            Err(error) => {
                opened.refused.push(error);
                continue;
            }
        };
        if is_folder_marker(&event.key, event.size_bytes) {
            opened.folder_markers += 1;
            continue;
        }
        let Some(rule) = rules.iter().find(|rule| rule.wants(&event)) else {
            if opened.unwanted == 0 {
                no_rule = event.without_rule();
            }
            opened.unwanted += 1;
            continue;
        };
        // When the message is sent again for one event, it must not deliver the rest again.
        let message = list
            .alone(index)
            .map_or_else(|| body.into(), |alone| alone.into());
        opened.jobs.push(PendingJob::Event(Box::new(EventOrder {
            event,
            template: Arc::clone(&rule.template),
            message,
        })));
    }
    let is_of_markers =
        opened.folder_markers > 0 && opened.unwanted == 0 && opened.refused.is_empty();
    match opened.jobs.is_empty() && !is_of_markers {
        true => Err(opened.refused.into_iter().next().unwrap_or(no_rule)),
        false => Ok(opened),
    }
}

/// The kind of a message's JSON.
enum Unwrapped {
    /// An event, unwrapped.
    Event(Map<String, Value>),
    /// No event: the JSON itself must be the job.
    Other(Value),
}

/// Looks for an event, through at most `wrappings` layers.
fn unwrap_event(value: Value, wrappings: usize) -> Result<Unwrapped, ParseJobError> {
    let inner = match value {
        Value::Object(fields) if is_event(&fields) => return Ok(Unwrapped::Event(fields)),
        Value::Object(ref fields) if is_sns(fields) => fields.get("Message"),
        Value::String(_) => Some(&value),
        _ => None,
    };
    let text = inner.and_then(Value::as_str).filter(|_| wrappings > 0);
    match text.map(json::parse) {
        Some(Ok(inner)) => match unwrap_event(inner, wrappings - 1)? {
            Unwrapped::Event(fields) => Ok(Unwrapped::Event(fields)),
            Unwrapped::Other(_) => Ok(Unwrapped::Other(value)),
        },
        Some(Err(error @ ParseJobError::TooMuch { .. })) => Err(error),
        Some(Err(_)) | None => Ok(Unwrapped::Other(value)),
    }
}

fn is_sns(fields: &Map<String, Value>) -> bool {
    fields.get("Type").and_then(Value::as_str) == Some("Notification")
        && fields.contains_key("TopicArn")
}

fn shown(text: &str) -> String {
    printable(text, MAX_SHOWN_VALUE_BYTES).into_owned()
}

impl EventRule {
    fn wants(&self, event: &ObjectEvent) -> bool {
        self.events
            .iter()
            .any(|wanted| wanted.is_meant(&event.name))
            && event.bucket == self.bucket.as_str()
            && self.key.is_match(&event.key)
    }

    /// Keys that events of the rule may have: an example for its pattern alone, then examples below each of the prefixes.
    pub fn example_keys<'a>(&self, prefixes: impl Iterator<Item = &'a str>) -> Vec<String> {
        let of_pattern = glob::example(&self.key);
        let below = prefixes.map(|prefix| format!("{prefix}example.pdf"));
        let below = below.filter(|key| self.key.is_match(key));
        let mut keys: Vec<String> = of_pattern.into_iter().chain(below).collect();
        if keys.is_empty() {
            keys.push("example/file.pdf".to_owned());
        }
        keys.dedup();
        keys
    }

    /// The job of an example event, to check the rule before a real event arrives.
    ///
    /// # Errors
    /// Why the rule's job file is not a valid job.
    pub fn example(&self, key: &str) -> Result<Job, ParseJobError> {
        let name = match self.events.first() {
            Some(EventName::CreatedBy(way)) => format!("ObjectCreated:{way}"),
            Some(EventName::Restored) => "ObjectRestore:Completed".to_owned(),
            Some(EventName::Created) | None => "ObjectCreated:Put".to_owned(),
        };
        let event = ObjectEvent {
            name,
            time: "2026-01-01T00:00:00Z".to_owned(),
            ..ObjectEvent::of(self.bucket.as_str(), key)
        };
        job_of(&self.template, &event)
    }
}

/// Builds a job from a rule's job file and an event.
fn job_of(template: &Value, event: &ObjectEvent) -> Result<Job, ParseJobError> {
    let (folder, stem) = folder_and_stem(&event.key);
    let said: Map<String, Value> = [
        ("bucket", event.bucket.as_str()),
        ("key", &event.key),
        ("folder", folder),
        ("stem", stem),
        ("time", &event.time),
        ("name", &event.name),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Value::from(value)))
    .collect();
    let mut template = template.clone();
    fill(&mut template, &mut Vec::new(), &said)?;
    let identity = event.identity();
    let base = template
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or("event")
        .to_owned();
    let id = format!("{base}-{}", &identity[..32]);
    template["id"] = Value::from(id);
    // The event's identity takes the place of the body's hash: the rule's file may be edited between two deliveries of the
    // event, and each way of delivery spells the time differently.
    let mut job = Job::from_wire(wire::from_value(template)?, Some(said), identity)?;
    job.occurrence = event.sequencer.as_deref().and_then(|sequencer| {
        let object = (event.bucket.as_str(), event.key.as_str());
        // The event of a restored copy is not stale because a later version was served.
        let kind = event.name.split(':').next().unwrap_or_default();
        Occurrence::new((&base, kind), object, sequencer, &event.time)
    });
    // An event's job is about the instant of the event.
    job.scheduled_at = job.scheduled_at.or_else(|| event.time.parse().ok());
    Ok(job)
}

/// The folder of an event's key, without the slash at its end, and its file name without the extension, as an object's key has
/// them in phrases.
fn folder_and_stem(key: &str) -> (&str, &str) {
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    (folder, stem_and_extension(name).0)
}

/// The fields that are phrases: `{{event.key}}` in them is filled in later, with everything else, and once.
const PHRASES: [&[&str]; 8] = [
    &["from", "prefix"],
    &["links", "filename"],
    &["email", "subject"],
    &["gallery", "title"],
    &["gallery", "publish", "prefix"],
    &["manifest", "publish", "prefix"],
    &["zip", "name"],
    &["zip", "publish", "prefix"],
];

/// Fills the event's fields into the texts of a job file, except its phrases.
fn fill(
    value: &mut Value,
    path: &mut Vec<String>,
    event: &Map<String, Value>,
) -> Result<(), ParseJobError> {
    match value {
        Value::String(text) if text.contains("{{") && !is_phrase(path, text) => {
            let scope = PhraseScope {
                event: Some(event),
                ..PhraseScope::default()
            };
            let filled = text
                .parse::<Phrase>()
                .and_then(|phrase| phrase.fill(&scope, MAX_VAR_BYTES));
            *text = filled.map_err(|error| ParseJobError::field(path.join("."), error))?;
        }
        Value::Array(items) => {
            for item in items {
                fill(item, path, event)?;
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                path.push(name.clone());
                fill(field, path, event)?;
                path.pop();
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

fn is_phrase(path: &[String], text: &str) -> bool {
    let is_key = path == ["from", "keys"];
    PHRASES.iter().any(|phrase| phrase.iter().eq(path.iter()))
        || (is_key && parts::names_recipient(text))
}

#[cfg(test)]
mod tests;
