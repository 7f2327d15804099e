//! Sends finished spans to a receiver of OTLP, as protobuf by HTTP.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>
//!
//! The exporter works beside the jobs and the stop: a receiver that hangs or is down costs spans, which are counted, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::TracesConfig;
use crate::config_error::ConfigError;
use crate::edge::http::WebClient;
use crate::edge::{EdgeError, Egress, ErrorKind};
use crate::environment::Environment;
use crate::repeated::RepeatedLine;
use crate::spans::{FinishedSpan, SpanCounts, recorder};
use crate::text::chain;
use crate::text::percent::decode;

/// How many spans one request has at most.
const BATCH: usize = 512;

/// How long a request waits for more spans.
const EVERY: Duration = Duration::from_secs(5);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a batch is sent that the receiver may take later, and the pause before the second time, doubled before the third.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// How long the last spans may take at the stop, all together. They are not sent while the receiver fails.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What is attempted, in errors.
const ACTION: &str = "send spans to traces.url";

/// The variables of OpenTelemetry: <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
const HEADERS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// Sends spans.
#[derive(Debug)]
pub struct SpanExporter {
    queue: mpsc::Receiver<FinishedSpan>,
    receiver: SpanReceiver,
}

/// Where spans are sent.
#[derive(Debug)]
struct SpanReceiver {
    client: WebClient,
    url: String,
    headers: Vec<(String, String)>,
    resource: Resource,
    counts: SpanCounts,
    failed: RepeatedLine,
    /// Whether the last request was not answered as it should be.
    is_failing: AtomicBool,
}

impl SpanExporter {
    /// Begins to record spans, if the configuration or the environment names a receiver.
    ///
    /// # Errors
    /// The key or the variable with a wrong value.
    pub fn open(
        config: &TracesConfig,
        environment: &Environment,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(receiver) = config.receiver(environment)? else {
            return Ok(None);
        };
        let headers = HEADERS.iter().find_map(|name| environment.get(name));
        let headers = pairs(headers.unwrap_or_default());
        if !headers.is_empty() && !receiver.is_private {
            let reason = format!(
                "{} would be sent in the clear: write https, or name a receiver on this machine",
                HEADERS[1]
            );
            return Err(ConfigError::Variables { reason });
        }
        let egress = Egress::of("traces", config.ca_file.as_deref(), environment)?;
        // It is open already if the process runs twice, as tests do.
        let queue = recorder().open();
        Ok(queue.map(|queue| Self {
            queue,
            receiver: SpanReceiver {
                client: WebClient::new(egress),
                url: receiver.url,
                headers,
                resource: resource(environment),
                counts: recorder().counts().clone(),
                failed: RepeatedLine::default(),
                is_failing: AtomicBool::new(false),
            },
        }))
    }

    /// Sends spans until `stop`, and then those that are left, for at most a second.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            mut queue,
            receiver,
        } = self;
        let late = async {
            stop.cancelled().await;
            if !receiver.is_failing.load(Ordering::Relaxed) {
                sleep(LAST_SPANS).await;
            }
        };
        let is_late = tokio::select! {
            () = send_all(&mut queue, &receiver, &stop) => false,
            () = late => true,
        };
        if is_late {
            receiver.counts.dropped(queue.len());
        }
    }
}

/// Sends spans until `stop`, and then those that are left.
async fn send_all(
    queue: &mut mpsc::Receiver<FinishedSpan>,
    receiver: &SpanReceiver,
    stop: &CancellationToken,
) {
    loop {
        let mut batch = Vec::new();
        let filling = async {
            while batch.len() < BATCH
                && let Some(span) = queue.recv().await
            {
                batch.push(span);
            }
        };
        tokio::select! {
            biased;
            () = filling => {}
            () = stop.cancelled() => {}
            () = sleep(EVERY) => {}
        }
        match batch.is_empty() {
            true if stop.is_cancelled() => return,
            true => {}
            false => receiver.send(&batch).await,
        }
    }
}

impl SpanReceiver {
    /// Sends a batch; spans that the receiver does not take are dropped and counted.
    async fn send(&self, batch: &[FinishedSpan]) {
        let mut uncounted = DroppedUnlessSent {
            counts: &self.counts,
            spans: batch.len(),
        };
        let body = self.request(batch).encode_to_vec();
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let posted = self.post(&body).await;
            self.is_failing.store(posted.is_err(), Ordering::Relaxed);
            match posted {
                Ok(rejected) => {
                    let sent = uncounted.spans.saturating_sub(rejected);
                    self.counts.sent(sent);
                    uncounted.spans -= sent;
                    return;
                }
                Err(error) if attempt < ATTEMPTS && error.fact.may_pass() => {
                    sleep(error.retry_after().unwrap_or(pause).min(PATIENCE)).await;
                    pause *= 2;
                }
                Err(error) => {
                    if let Some(not_logged) = self.failed.due() {
                        let error = chain(&error);
                        tracing::warn!(
                            error,
                            not_logged,
                            "spans were dropped: their receiver does not take them"
                        );
                    }
                    return;
                }
            }
        }
    }

    /// Posts a request; how many of its spans the receiver rejects.
    async fn post(&self, body: &[u8]) -> Result<usize, EdgeError> {
        let posting = self.client.post_protobuf(
            ACTION,
            &self.url,
            &self.headers,
            body.to_vec(),
            MAX_ANSWER_BYTES,
        );
        let late = || EdgeError::new(ACTION, ErrorKind::Silent, "no answer within 10 s");
        let answer = timeout(PATIENCE, posting).await.map_err(|_| late())??;
        // <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>
        let fact = match answer.status {
            200..=299 => {
                let read = ExportTraceServiceResponse::decode(answer.body);
                let partial = read.ok().and_then(|read| read.partial_success);
                let rejected = partial.map_or(0, |partial| partial.rejected_spans);
                return Ok(usize::try_from(rejected).unwrap_or_default());
            }
            401 | 403 => ErrorKind::Denied,
            429 => ErrorKind::Throttled,
            502..=504 => ErrorKind::Failed,
            _ => ErrorKind::Rejected,
        };
        let words = format!("it answered with the status {}", answer.status);
        Err(EdgeError::new(ACTION, fact, words))
    }

    fn request(&self, batch: &[FinishedSpan]) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "handout".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans: batch.iter().map(span).collect(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        }
    }
}

/// Counts spans as dropped unless they were sent, also if sending is broken off at the stop.
struct DroppedUnlessSent<'a> {
    counts: &'a SpanCounts,
    spans: usize,
}

impl Drop for DroppedUnlessSent<'_> {
    fn drop(&mut self) {
        self.counts.dropped(self.spans);
    }
}

/// A span as OTLP has it. A message is consumed from a queue; all other steps are internal.
fn span(span: &FinishedSpan) -> Span {
    let kind = match span.name {
        "message" => SpanKind::Consumer,
        "deliver" => SpanKind::Client,
        _ => SpanKind::Internal,
    };
    let nanos = |at: jiff::Timestamp| u64::try_from(at.as_nanosecond()).unwrap_or_default();
    let status = span.has_failed.then(|| Status {
        code: StatusCode::Error.into(),
        ..Status::default()
    });
    let id = |id: u64| id.to_be_bytes().to_vec();
    let attributes = span.attributes.iter();
    Span {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: id(span.span_id),
        parent_span_id: span.parent_id.map(id).unwrap_or_default(),
        name: span.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.began),
        end_time_unix_nano: nanos(span.ended),
        attributes: attributes
            .map(|(name, value)| attribute(name, value))
            .collect(),
        status,
        ..Span::default()
    }
}

fn attribute(name: &str, value: &str) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// What all spans are of. `OTEL_SERVICE_NAME` stands above `service.name` of `OTEL_RESOURCE_ATTRIBUTES`.
/// <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>
fn resource(environment: &Environment) -> Resource {
    let given = pairs(environment.get(RESOURCE_ATTRIBUTES).unwrap_or_default());
    let named = environment.get(SERVICE_NAME);
    let mut attributes = vec![(
        "service.version".to_owned(),
        env!("CARGO_PKG_VERSION").to_owned(),
    )];
    attributes.extend(given);
    if let Some(name) = named {
        attributes.retain(|(key, _)| key != "service.name");
        attributes.push(("service.name".to_owned(), name.to_owned()));
    }
    if !attributes.iter().any(|(key, _)| key == "service.name") {
        attributes.push(("service.name".to_owned(), "handout".to_owned()));
    }
    let attributes = attributes.iter();
    Resource {
        attributes: attributes
            .map(|(name, value)| attribute(name, value))
            .collect(),
        ..Resource::default()
    }
}

/// The pairs of a list such as `api-key=secret,tenant=acme%20gmbh`.
fn pairs(list: &str) -> Vec<(String, String)> {
    let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| {
            let (name, value) = (name.trim().to_owned(), decode(value.trim()).into_owned());
            (name, value)
        })
        .filter(|(name, _)| !name.is_empty())
        .collect()
}
