//! `POST /events`: an event of a store is put on the queue if a rule makes a job of it.

use std::fmt::Write;
use std::sync::Arc;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Intake;
use super::answer::IntakeAnswer;
use super::counts::IntakeCount;
use super::jobs::{read_aside, unreadable};
use crate::bounds::MAX_INTAKE_ANSWER_TIME;
use crate::job::envelope::{self, OpenedMessage, PendingJob};
use crate::job::{JobId, ParseJobError};
use crate::text::percent::decode;
use crate::traceparent::TraceParent;

/// The beginning of the headers of a `CloudEvent` in binary mode.
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#31-binary-content-mode>
const CLOUD_EVENT: &str = "ce-";

impl Intake {
    /// Takes the events of a body: 202 once their message is durable, 200 if no rule wants any of them.
    pub(super) async fn take_events(
        &self,
        body: Arc<str>,
        headers: &HeaderMap,
        trace: Option<TraceParent>,
    ) -> Result<IntakeAnswer, IntakeAnswer> {
        self.0.rate.pass(1).await;
        let deadline = Instant::now() + MAX_INTAKE_ANSWER_TIME;
        self.queue_is_up()?;
        let body: Arc<str> = structured(&body, headers).map_or(body, Into::into);
        let turn = self.turn(deadline).await?;
        let (text, rules) = (Arc::clone(&body), self.current().rules);
        let read = read_aside(move || envelope::open(&text, &rules).map(EventsRead::of));
        let read = match read.await? {
            Ok(read) => read,
            Err(ParseJobError::NoRule { .. }) => {
                drop(turn);
                let ignored = IgnoredEvents {
                    unwanted: 1,
                    ..IgnoredEvents::default()
                };
                return Ok(self.ignored(&ignored));
            }
            Err(error) => return Err(unreadable(&error)),
        };
        drop(turn);
        let EventsRead { jobs, ignored, .. } = match read {
            EventsRead { is_job: true, .. } => {
                return Err(IntakeAnswer::refused("the body is a job: post it to /jobs"));
            }
            EventsRead {
                wanted: 0, ignored, ..
            } => return Ok(self.ignored(&ignored)),
            read => read,
        };
        self.count_ignored(&ignored);
        let message = self.put(&body, trace, deadline).await?;
        self.record(&jobs, &message).await;
        let first = jobs.first().map(tracing::field::display);
        tracing::info!(
            job.id = first,
            jobs = jobs.len(),
            message.id = message,
            trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
            "the intake put an event on the queue"
        );
        let told = json!({ "jobs": jobs, "message": message });
        let answer = IntakeAnswer::done(StatusCode::ACCEPTED, told, IntakeCount::Accepted);
        Ok(match &jobs[..] {
            [job] => answer.at_job(job.as_str()),
            _ => answer,
        })
    }

    fn ignored(&self, ignored: &IgnoredEvents) -> IntakeAnswer {
        self.count_ignored(ignored);
        let reason = match ignored {
            IgnoredEvents { is_test: true, .. } => "it is the test event of a store",
            IgnoredEvents { unwanted: 0, .. } => "it is of a folder marker",
            _ => "no [[on_event]] rule wants it",
        };
        let told = json!({ "ignored": reason });
        IntakeAnswer::done(StatusCode::OK, told, IntakeCount::Ignored)
    }

    fn count_ignored(&self, ignored: &IgnoredEvents) {
        let counts = &self.0.counts;
        counts.add(IntakeCount::WithoutRule, ignored.unwanted);
        counts.add(IntakeCount::FolderMarker, ignored.folder_markers);
        counts.add(IntakeCount::TestEvent, usize::from(ignored.is_test));
    }
}

/// The events of a message that make no job.
#[derive(Debug, Default)]
struct IgnoredEvents {
    unwanted: usize,
    folder_markers: usize,
    is_test: bool,
}

/// What a body was read as.
#[derive(Debug)]
struct EventsRead {
    is_job: bool,
    /// How many events a rule wants.
    wanted: usize,
    /// The jobs of these events. A rule whose job file is wrong for an event makes none here: the worker parks such a message with
    /// its reason, and a store that were told of the error would send the event for ever.
    jobs: Vec<JobId>,
    ignored: IgnoredEvents,
}

impl EventsRead {
    fn of(opened: OpenedMessage) -> Self {
        let is_job = |pending: &PendingJob| matches!(pending, PendingJob::Job(_));
        Self {
            is_job: opened.jobs.iter().any(is_job),
            wanted: opened.jobs.len(),
            ignored: IgnoredEvents {
                unwanted: opened.unwanted,
                folder_markers: opened.folder_markers,
                is_test: opened.test_event,
            },
            jobs: opened
                .jobs
                .into_iter()
                .filter_map(|pending| pending.open().ok().map(|job| job.id))
                .collect(),
        }
    }
}

/// A `CloudEvent` of binary mode in structured mode, which the queue's message is in; `None` for other bodies.
fn structured(body: &str, headers: &HeaderMap) -> Option<String> {
    headers.get("ce-specversion")?;
    let mut text = String::from("{");
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(CLOUD_EVENT) else {
            continue;
        };
        let value = decode(value.to_str().unwrap_or_default()).into_owned();
        let (name, value) = (Value::from(name), Value::from(value));
        write!(text, "{name}:{value},").expect("writing to a string does not fail");
    }
    if let Some(kind) = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
    {
        let kind = Value::from(kind);
        write!(text, "\"datacontenttype\":{kind},").expect("writing to a string does not fail");
    }
    // The data is parsed with the rest, within the bounds of a message.
    let data = if body.trim().is_empty() { "null" } else { body };
    write!(text, "\"data\":{data}}}").expect("writing to a string does not fail");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        let pairs = pairs.map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn a_cloud_event_of_binary_mode_becomes_one_of_structured_mode() {
        let headers = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-type", "com.acme.object.created"),
            ("ce-id", "17"),
            ("ce-subject", "caf%C3%A9 \"x\""),
            ("content-type", "application/json"),
            ("host", "localhost"),
        ]);
        let text = structured(r#"{"bucket":"b","name":"k"}"#, &headers).unwrap();
        let read: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "specversion": "1.0", "type": "com.acme.object.created", "id": "17", "subject": "café \"x\"",
            "datacontenttype": "application/json", "data": { "bucket": "b", "name": "k" },
        });
        assert_eq!(read, expected);
        assert_eq!(structured("{}", &HeaderMap::new()), None);
    }
}
