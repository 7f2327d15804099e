//! Messages that are not jobs: S3 events, delivered directly, through SNS or through EventBridge.
//!
//! An `[[on_event]]` rule turns an event into a job: the rule's job file has names such as `{{event.key}}`. The job's id is
//! derived from the event and not from the time of its receipt, so that an event that is delivered twice is one job.

use std::str::FromStr;
use std::sync::Arc;

use globset::GlobMatcher;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::occurrence::Occurrence;
use super::phrase::{Phrase, PhraseScope, stem_and_extension};
use super::place::is_folder_marker;
use super::{Bucket, Job, ParseJobError, glob, json, sns, wire};
use crate::bounds::{MAX_EVENT_TEXT_BYTES, MAX_SHOWN_VALUE_BYTES, MAX_VAR_BYTES};
use crate::keyring::sha256_hex;
use crate::text::percent::decode_form;
use crate::text::printable;

/// How many layers of JSON text are unwrapped (SNS in SQS, a doubly encoded body).
const MAX_WRAPPINGS: usize = 3;

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
            "is {text:?}; there are: ObjectCreated:*, {ways}, ObjectRestore:Completed"
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
    let fields = match unwrap_event(json::parse(body)?, MAX_WRAPPINGS)? {
        Unwrapped::Event(fields) => fields,
        Unwrapped::Other(value) => {
            if let Some(notice) = sns::notice(&value) {
                return Err(ParseJobError::OfSns(notice));
            }
            return Ok(OpenedMessage {
                jobs: vec![PendingJob::Job(Box::new(Job::of(body, value)?))],
                ..OpenedMessage::default()
            });
        }
    };
    if fields.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        return Ok(OpenedMessage {
            test_event: true,
            ..OpenedMessage::default()
        });
    }
    let records = fields.get("Records").map(|records| {
        let records = records.as_array().map(Vec::as_slice);
        records.unwrap_or_default()
    });
    let events = match records {
        Some(records) => {
            if records.len() > MAX_RECORDS {
                return Err(ParseJobError::TooManyRecords {
                    count: records.len(),
                });
            }
            let events = records.iter().map(notification_record);
            events.collect()
        }
        None => vec![event_bridge(&fields)],
    };
    let mut opened = OpenedMessage::default();
    let mut no_rule = ParseJobError::Event { field: "Records" };
    for (index, event) in events.into_iter().enumerate() {
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
        let message = match records {
            // When the message is sent again for one event, it must not deliver the rest again.
            Some(records) if records.len() > 1 => {
                json!({ "Records": [records[index]] }).to_string().into()
            }
            Some(_) | None => body.into(),
        };
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

fn is_event(fields: &Map<String, Value>) -> bool {
    let text = |name| fields.get(name).and_then(Value::as_str);
    let is_notification = fields.get("Records").is_some_and(Value::is_array);
    let is_event_bridge = text("source") == Some("aws.s3") && fields.contains_key("detail");
    is_notification || is_event_bridge || text("Event") == Some("s3:TestEvent")
}

/// The fields of an event, whichever way it was delivered.
#[derive(Debug)]
struct ObjectEvent {
    name: String,
    bucket: String,
    key: String,
    /// `None` for an object of a bucket without versions, whose version is called `null`.
    version: Option<String>,
    sequencer: Option<String>,
    etag: Option<String>,
    size_bytes: Option<u64>,
    time: String,
    /// The time until which a restored copy exists.
    restored_until: Option<String>,
}

impl ObjectEvent {
    /// Checks the lengths of the event's texts against S3's limits: each is repeated in a job, its id, or an error.
    fn bounded(self) -> Result<Self, ParseJobError> {
        let texts = [
            ("name", Some(&self.name)),
            ("bucket", Some(&self.bucket)),
            ("key", Some(&self.key)),
            ("version", self.version.as_ref()),
            ("sequencer", self.sequencer.as_ref()),
            ("ETag", self.etag.as_ref()),
            ("time", Some(&self.time)),
            ("restore expiry", self.restored_until.as_ref()),
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

    fn without_rule(&self) -> ParseJobError {
        ParseJobError::NoRule {
            event: shown(&self.name),
            bucket: shown(&self.bucket),
            key: shown(&self.key),
        }
    }

    /// The event's identity: the same for each delivery of the event, by whichever way, and different for every other event. See
    /// the table in `docs/jobs/events.md`. Some servers send the same sequencer for all events, or none, so all fields count.
    fn identity(&self) -> String {
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
        let lengths = fields.map(|field| format!("{}:{field}", field.len()));
        sha256_hex(lengths.concat().as_bytes())
    }
}

/// An instant in one spelling, in whole seconds: notifications have milliseconds, and `EventBridge` has none.
fn to_the_second(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(at) => at.as_second().to_string(),
        Err(_) => time.to_owned(),
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
    })
}

/// A text of an event, if it has a meaning: an empty text has none, nor has the version `null` of an object in a bucket
/// without versions.
fn meaning(text: &str) -> Option<String> {
    (!matches!(text, "" | "null")).then(|| text.to_owned())
}

/// "Object Created" of EventBridge; its key is not encoded.
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
            bucket: self.bucket.to_string(),
            key: key.to_owned(),
            version: None,
            sequencer: None,
            etag: None,
            size_bytes: None,
            restored_until: None,
            time: "2026-01-01T00:00:00Z".to_owned(),
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
const PHRASES: [&[&str]; 6] = [
    &["from", "prefix"],
    &["links", "filename"],
    &["email", "subject"],
    &["gallery", "title"],
    &["gallery", "publish", "prefix"],
    &["manifest", "publish", "prefix"],
];

/// Fills the event's fields into the texts of a job file, except its phrases.
fn fill(
    value: &mut Value,
    path: &mut Vec<String>,
    event: &Map<String, Value>,
) -> Result<(), ParseJobError> {
    match value {
        Value::String(text) if text.contains("{{") && !is_phrase(path) => {
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

fn is_phrase(path: &[String]) -> bool {
    PHRASES.iter().any(|phrase| phrase.iter().eq(path.iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with all its jobs made.
    #[derive(Debug)]
    struct Whole {
        jobs: Vec<Job>,
        unwanted: usize,
        refused: Vec<ParseJobError>,
        test_event: bool,
    }

    fn open(body: &str, rules: &[EventRule]) -> Result<Whole, ParseJobError> {
        let opened = super::open(body, rules)?;
        let mut whole = Whole {
            jobs: Vec::new(),
            unwanted: opened.unwanted,
            refused: opened.refused,
            test_event: opened.test_event,
        };
        for order in opened.jobs {
            match order.open() {
                Ok(job) => whole.jobs.push(job),
                Err(error) => whole.refused.push(error),
            }
        }
        match (whole.jobs.is_empty(), whole.refused.is_empty()) {
            (true, false) => Err(whole.refused.remove(0)),
            _ => Ok(whole),
        }
    }

    /// A large job file is in memory only once for all events of a message.
    #[test]
    fn the_events_of_a_message_share_their_rules_job_file_until_each_is_made() {
        let records: Vec<Value> = (0..MAX_RECORDS)
            .map(|n| notification(&format!("incoming/{n}.pdf"), "1")["Records"][0].clone())
            .collect();
        let rules = rules();
        let opened = super::open(&json!({ "Records": records }).to_string(), &rules).unwrap();
        assert_eq!(opened.jobs.len(), MAX_RECORDS);
        for order in &opened.jobs {
            let PendingJob::Event(order) = order else {
                panic!("{order:?}");
            };
            let shared = rules
                .iter()
                .any(|rule| Arc::ptr_eq(&rule.template, &order.template));
            assert!(shared, "{order:?}");
        }
    }

    use globset::Glob;

    fn rules() -> Vec<EventRule> {
        let template = json!({
            "v": 1,
            "id": "upload",
            "from": { "connection": "local", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"] },
            "email": { "to": ["ann@acme.example"], "subject": "New: {{object.name}} {{event.key}}" },
            "vars": { "when": "{{event.time}}" }
        });
        vec![EventRule {
            bucket: "uploads".parse().unwrap(),
            key: Glob::new("incoming/**").unwrap().compile_matcher(),
            events: vec![EventName::Created],
            template: Arc::new(template),
        }]
    }

    fn notification(key: &str, sequencer: &str) -> Value {
        json!({ "Records": [{
            "eventVersion": "2.3", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "eventTime": "2026-11-23T18:40:00Z",
            "s3": { "bucket": { "name": "uploads" }, "object": { "key": key, "sequencer": sequencer, "size": 3 } }
        }] })
    }

    fn only_job(body: &Value) -> Job {
        let mut opened = open(&body.to_string(), &rules()).unwrap();
        assert_eq!(opened.jobs.len(), 1);
        opened.jobs.remove(0)
    }

    fn key_of(job: &Job) -> String {
        match &job.from.selection {
            crate::job::Selection::Keys(keys) => keys[0].to_string(),
            crate::job::Selection::Prefix(..) => panic!("a rule with keys gave a prefix"),
        }
    }

    #[test]
    fn a_notification_becomes_a_job_with_the_decoded_key() {
        let job = only_job(&notification("incoming/red+flower%2B%C3%BC.jpg", "0055"));
        assert_eq!(key_of(&job), "incoming/red flower+ü.jpg");
        assert_eq!(job.vars["when"], "2026-11-23T18:40:00Z");
    }

    #[test]
    fn the_same_event_is_the_same_job_however_it_is_wrapped() {
        let bare = notification("incoming/a.pdf", "0055");
        let sns = json!({ "Type": "Notification", "TopicArn": "arn:x", "MessageId": "1", "Message": bare.to_string() });
        let doubly = Value::String(bare.to_string());
        let ids = [&bare, &sns, &doubly].map(|body| only_job(body).id);
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids[0], ids[2]);
        assert_ne!(ids[0], only_job(&notification("incoming/a.pdf", "0056")).id);
    }

    #[test]
    fn a_job_of_several_keeps_a_message_that_brings_no_other() {
        let mut several = notification("incoming/a.pdf", "0055");
        for other in [
            notification("elsewhere/b.pdf", "0056"),
            notification("incoming/c.pdf", "0057"),
        ] {
            let records = several["Records"].as_array_mut().unwrap();
            records.push(other["Records"][0].clone());
        }
        let sns =
            json!({ "Type": "Notification", "TopicArn": "arn:x", "Message": several.to_string() });
        let jobs = open(&sns.to_string(), &rules()).unwrap().jobs;
        assert_eq!(jobs.len(), 2);
        for job in jobs {
            let again = open(&job.message, &rules()).unwrap();
            assert_eq!((again.jobs.len(), again.unwanted), (1, 0));
            assert_eq!(again.jobs[0].id, job.id);
            assert_eq!(again.jobs[0].body_sha256, job.body_sha256);
        }
        let one = notification("incoming/a.pdf", "0055").to_string();
        assert_eq!(&*open(&one, &rules()).unwrap().jobs[0].message, one);
    }

    #[test]
    fn an_event_that_makes_no_job_keeps_no_other_from_making_one() {
        let odd = [
            notification("incoming/%07.pdf", "1"),
            json!({ "Records": [{ "eventName": "ObjectCreated:Put" }] }),
            notification(&"k".repeat(2000), "2"),
        ];
        let of = |bodies: &[&Value]| {
            let records: Vec<&Value> = bodies.iter().map(|body| &body["Records"][0]).collect();
            open(&json!({ "Records": records }).to_string(), &rules())
        };
        let good = notification("incoming/a.pdf", "3");
        let opened = of(&[&odd[0], &odd[1], &good, &odd[2]]).unwrap();
        assert_eq!((opened.jobs.len(), opened.unwanted), (1, 0));
        assert_eq!(opened.jobs[0].id, only_job(&good).id);
        let alone = odd
            .each_ref()
            .map(|odd| of(&[odd]).unwrap_err().to_string());
        let mut refused: Vec<String> = opened.refused.iter().map(ToString::to_string).collect();
        // A job that cannot be built fails when it is worked.
        refused.rotate_right(1);
        assert_eq!(refused, alone);
        assert_eq!(of(&[&odd[1], &odd[0]]).unwrap_err().to_string(), alone[1]);
    }

    /// A record of a notification, changed at some places.
    fn changed(changes: &[(&str, Value)]) -> Value {
        let mut body = notification("incoming/a.pdf", "0055AED6DCD90281E5");
        let record = &mut body["Records"][0];
        record["s3"]["object"]["eTag"] = json!("d41d8cd98f00b204e9800998ecf8427e");
        for (path, value) in changes {
            let mut at = &mut *record;
            for name in path.split('.') {
                at = &mut at[name];
            }
            *at = value.clone();
        }
        body
    }

    #[test]
    fn two_events_are_one_when_everything_that_tells_them_apart_is_the_same() {
        let restored = |until: &str| {
            changed(&[
                ("eventName", json!("ObjectRestore:Completed")),
                ("s3.object.sequencer", json!("")),
                (
                    "glacierEventData.restoreEventData.lifecycleRestorationExpiryTime",
                    json!(until),
                ),
            ])
        };
        let of_version = |version: &str, sequencer: &str| {
            changed(&[
                ("s3.object.versionId", json!(version)),
                ("s3.object.sequencer", json!(sequencer)),
            ])
        };
        let nothing = [
            ("s3.object.sequencer", Value::Null),
            ("s3.object.eTag", Value::Null),
        ];
        let timed = |time: &str| changed(&[&nothing[..], &[("eventTime", json!(time))]].concat());
        let mut rules = rules();
        rules[0].events = ["ObjectCreated:*", "ObjectRestore:*"]
            .map(|name| name.parse().unwrap())
            .into();
        let id = |body: &Value| open(&body.to_string(), &rules).unwrap().jobs.remove(0).id;
        for (what, a, b) in [
            (
                "two restorations",
                restored("2026-06-08T00:00:00.000Z"),
                restored("2026-11-08T00:00:00.000Z"),
            ),
            (
                "a restoration and the creation",
                restored("2026-06-08T00:00:00.000Z"),
                changed(&[]),
            ),
            (
                "two uploads without versions",
                of_version("null", "0A"),
                of_version("null", "0B"),
            ),
            (
                "two versions with a constant sequencer",
                of_version("v1", "0A"),
                of_version("v2", "0A"),
            ),
            (
                "another content",
                changed(&[]),
                changed(&[("s3.object.eTag", json!("ff"))]),
            ),
            (
                "another time",
                changed(&[]),
                changed(&[("eventTime", json!("2026-11-27T18:40:00Z"))]),
            ),
            (
                "another time and nothing else",
                timed("2026-11-23T18:40:00Z"),
                timed("2026-11-23T18:40:01Z"),
            ),
            (
                "another way",
                changed(&[]),
                changed(&[("eventName", json!("ObjectCreated:Copy"))]),
            ),
        ] {
            assert_ne!(id(&a), id(&b), "{what}");
        }
        for (what, body) in [
            (
                "with a version that is none",
                changed(&[("s3.object.versionId", json!("null"))]),
            ),
            (
                "with an empty version",
                changed(&[("s3.object.versionId", json!(""))]),
            ),
            (
                "with quotes",
                changed(&[(
                    "s3.object.eTag",
                    json!("\"D41D8CD98F00B204E9800998ECF8427E\""),
                )]),
            ),
            (
                "with milliseconds",
                changed(&[("eventTime", json!("2026-11-23T18:40:00.712Z"))]),
            ),
            (
                "with an offset",
                changed(&[("eventTime", json!("2026-11-23T19:40:00+01:00"))]),
            ),
            (
                "with another case",
                changed(&[("s3.object.sequencer", json!("0055aed6dcd90281e5"))]),
            ),
        ] {
            assert_eq!(id(&changed(&[])), id(&body), "{what}");
        }
        let bridged = json!({
            "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T18:40:00Z",
            "detail": {
                "bucket": { "name": "uploads" },
                "object": { "key": "incoming/a.pdf", "sequencer": "0055AED6DCD90281E5", "etag": "d41d8cd98f00b204e9800998ecf8427e" },
                "reason": "PutObject"
            }
        });
        assert_eq!(id(&changed(&[])), id(&bridged), "by way of EventBridge");
    }

    #[test]
    fn event_bridge_keys_are_taken_as_they_are() {
        let job = only_job(&json!({
            "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T18:40:00Z",
            "detail": { "bucket": { "name": "uploads" }, "object": { "key": "incoming/a+b%20c.pdf", "sequencer": "1" } }
        }));
        assert_eq!(key_of(&job), "incoming/a+b%20c.pdf");
    }

    #[test]
    fn braces_in_a_key_stay_what_they_are() {
        let job = only_job(&notification("incoming/%7B%7Bvars.secret%7D%7D.pdf", "1"));
        assert_eq!(key_of(&job), "incoming/{{vars.secret}}.pdf");
        let subject = job.email.unwrap().subject.unwrap();
        let scope = PhraseScope {
            event: job.event.as_ref(),
            object: Some(&"x/y.pdf".parse().unwrap()),
            ..PhraseScope::default()
        };
        assert_eq!(
            subject.fill(&scope, 1000).unwrap(),
            "New: y.pdf incoming/{{vars.secret}}.pdf"
        );
    }

    #[test]
    fn what_minio_sends_is_the_same_job_as_what_s3_sends() {
        let mut minio = notification("incoming%2Fa+b.pdf", "17C3A5");
        minio["EventName"] = json!("s3:ObjectCreated:Put");
        minio["Key"] = json!("uploads/incoming/a b.pdf");
        minio["Records"][0]["eventName"] = json!("s3:ObjectCreated:Put");
        minio["Records"][0]["eventSource"] = json!("minio:s3");
        let job = only_job(&minio);
        assert_eq!(key_of(&job), "incoming/a b.pdf");
        assert_eq!(
            job.id,
            only_job(&notification("incoming/a+b.pdf", "17C3A5")).id
        );
    }

    #[test]
    fn the_scheduler_sends_a_job_whose_id_has_the_scheduled_time() {
        // EventBridge Scheduler puts in the instant for `<aws.scheduler.scheduled-time>` and sends the text as it then is.
        let input = r#"{ "v": 1, "id": "daily-<aws.scheduler.scheduled-time>", "scheduled_at": "<aws.scheduler.scheduled-time>",
            "from": { "connection": "local", "bucket": "reports", "prefix": "{{date}}/" }, "email": { "to": ["ann@acme.example"] } }"#;
        let sent = |time: &str| input.replace("<aws.scheduler.scheduled-time>", time);
        let opened = |body: &str| open(body, &[]).unwrap().jobs.remove(0);
        let job = opened(&sent("2026-11-23T06:00:00Z"));
        assert_eq!(job.id.as_str(), "daily-2026-11-23T06:00:00Z");
        assert_eq!(job.scheduled_at, "2026-11-23T06:00:00Z".parse().ok());
        assert_eq!(job.id, opened(&sent("2026-11-23T06:00:00Z")).id);
        assert_ne!(job.id, opened(&sent("2026-11-24T06:00:00Z")).id);
        // The placeholder is unfilled: the schedule's own text was sent to test the queue.
        let unfilled = open(input, &[]).unwrap_err();
        insta::assert_snapshot!(unfilled, @"the job's field scheduled_at cannot be read: it is not what this field takes: write it as \"2026-11-23T06:00:00Z\"");
    }

    #[test]
    fn a_rule_names_what_must_have_happened_in_the_words_of_a_notification() {
        let of = |events: &[&str]| {
            let mut rules = rules();
            rules[0].events = events.iter().map(|name| name.parse().unwrap()).collect();
            rules
        };
        let happened = |name: &str| {
            let mut body = notification("incoming/a.pdf", "1");
            body["Records"][0]["eventName"] = json!(name);
            body.to_string()
        };
        let bridged = |detail_type: &str, reason: &str| {
            json!({
                "source": "aws.s3", "detail-type": detail_type, "time": "2026-11-23T18:40:00Z",
                "detail": { "bucket": { "name": "uploads" }, "object": { "key": "incoming/a.pdf", "sequencer": "1" },
                            "reason": reason }
            })
            .to_string()
        };
        let restored = of(&["ObjectRestore:Completed", "s3:ObjectCreated:Copy"]);
        for (body, wanted) in [
            (happened("ObjectRestore:Completed"), true),
            (happened("ObjectRestore:Post"), false),
            (happened("ObjectCreated:Copy"), true),
            (happened("ObjectCreated:Put"), false),
            (happened("ObjectRemoved:Delete"), false),
            (bridged("Object Restore Completed", ""), true),
            (bridged("Object Created", "CopyObject"), true),
            (bridged("Object Created", "PutObject"), false),
            (bridged("Object Created", "something new"), false),
            (bridged("Object Deleted", "DeleteObject"), false),
        ] {
            assert_eq!(open(&body, &restored).is_ok(), wanted, "{body}");
        }
        let any = of(&["ObjectCreated:*"]);
        assert!(open(&bridged("Object Created", "something new"), &any).is_ok());
        let refused = "ObjectRemoved:*".parse::<EventName>().unwrap_err();
        insta::assert_snapshot!(refused, @r#"is "ObjectRemoved:*"; there are: ObjectCreated:*, ObjectCreated:Put, ObjectCreated:Post, ObjectCreated:Copy, ObjectCreated:CompleteMultipartUpload, ObjectRestore:Completed"#);
    }

    #[test]
    fn a_test_event_is_no_job_and_no_error() {
        let opened = open(
            r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"uploads"}"#,
            &[],
        )
        .unwrap();
        assert!(opened.test_event && opened.jobs.is_empty());
    }

    #[test]
    fn an_event_of_a_folder_marker_is_no_job_and_no_error() {
        let bridged = |key: &str| {
            json!({
                "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T18:40:00Z",
                "detail": { "bucket": { "name": "uploads" }, "object": { "key": key, "size": 0, "sequencer": "1" } }
            })
        };
        let sized = |key: &str, size: u64| {
            let mut body = notification(key, "1");
            body["Records"][0]["s3"]["object"]["size"] = json!(size);
            body
        };
        let mut unsized_marker = notification("incoming/", "1");
        let object = &mut unsized_marker["Records"][0]["s3"]["object"];
        object.as_object_mut().unwrap().remove("size");
        for marker in [
            sized("incoming/", 0),
            sized("incoming/2026/", 0),
            sized("incoming_%24folder%24", 0),
            sized("incoming/2026_$folder$", 0),
            sized("elsewhere/", 0),
            bridged("incoming/"),
            bridged("incoming_$folder$"),
            unsized_marker,
        ] {
            let opened = super::open(&marker.to_string(), &rules()).unwrap();
            assert_eq!(
                (opened.jobs.len(), opened.folder_markers),
                (0, 1),
                "{marker}"
            );
        }
        let content = open(&sized("incoming/a_$folder$", 3).to_string(), &rules()).unwrap();
        assert_eq!(content.jobs.len(), 1, "it has content");
        // Beside others it changes nothing.
        let mut several = sized("incoming/", 0);
        for other in [sized("incoming/a.pdf", 3), sized("elsewhere/a.pdf", 3)] {
            let records = several["Records"].as_array_mut().unwrap();
            records.push(other["Records"][0].clone());
        }
        let opened = super::open(&several.to_string(), &rules()).unwrap();
        let counts = (opened.jobs.len(), opened.folder_markers, opened.unwanted);
        assert_eq!(counts, (1, 1, 1));
        several["Records"].as_array_mut().unwrap().remove(1);
        assert!(
            super::open(&several.to_string(), &rules()).is_err(),
            "no rule wants the other"
        );
    }

    #[test]
    fn an_event_with_a_text_that_s3_cannot_have_written_is_rejected() {
        let long = "x".repeat(MAX_EVENT_TEXT_BYTES + 1);
        for pointer in [
            "/Records/0/s3/object/key",
            "/Records/0/s3/object/sequencer",
            "/Records/0/s3/bucket/name",
            "/Records/0/eventTime",
            "/Records/0/eventName",
        ] {
            let mut body = notification("incoming/a.pdf", "1");
            *body.pointer_mut(pointer).unwrap() = json!(long);
            let error = open(&body.to_string(), &rules()).unwrap_err().to_string();
            assert!(
                error.ends_with("has 1025 bytes: at most 1024 are allowed"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_event_without_a_rule_or_without_a_key_is_an_error() {
        let unwanted =
            open(&notification("elsewhere/a.pdf", "1").to_string(), &rules()).unwrap_err();
        insta::assert_snapshot!(unwanted, @"no [[on_event]] rule of the configuration matches the event ObjectCreated:Put for s3://uploads/elsewhere/a.pdf");
        let keyless = open(
            r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"sequencer":"1"}}}]}"#,
            &rules(),
        );
        insta::assert_snapshot!(keyless.unwrap_err(), @"the event has no /s3/bucket/name");
        assert!(open(r#"{"Records":[]}"#, &rules()).is_err());
        let removed = notification("incoming/a.pdf", "1")
            .to_string()
            .replace("ObjectCreated:Put", "ObjectRemoved:Delete");
        assert!(open(&removed, &rules()).is_err());
    }
}
