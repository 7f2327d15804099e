//! Steps from their beginning to their end, and the queue of those that have ended.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::SpanCounts;
use crate::bounds::{MAX_SPAN_TEXT_BYTES, MAX_SPANS_QUEUED};
use crate::clock;
use crate::text::printable;
use crate::traceparent::TraceParent;

/// A step that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinishedSpan {
    pub(crate) name: &'static str,
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    /// The step around it, or the sender's.
    pub(crate) parent_id: Option<u64>,
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
    /// The ids of the step: its fields.
    pub(crate) attributes: Vec<(&'static str, String)>,
    /// Whether a line of the level `ERROR` was logged in it.
    pub(crate) has_failed: bool,
}

/// Where finished spans go. Clones are the same recorder.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpanRecorder {
    queue: Arc<OnceLock<mpsc::Sender<FinishedSpan>>>,
    counts: SpanCounts,
}

/// The recorder of this process. Logging starts before the configuration is read, which says whether spans are exported.
pub(crate) fn recorder() -> &'static SpanRecorder {
    static RECORDER: LazyLock<SpanRecorder> = LazyLock::new(SpanRecorder::default);
    &RECORDER
}

impl SpanRecorder {
    /// Records from now on; `None` if it does so already.
    pub(crate) fn open(&self) -> Option<mpsc::Receiver<FinishedSpan>> {
        let (sender, receiver) = mpsc::channel(MAX_SPANS_QUEUED);
        self.queue.set(sender).ok().map(|()| receiver)
    }

    pub(crate) fn counts(&self) -> &SpanCounts {
        &self.counts
    }
}

/// A step that has not ended.
#[derive(Debug)]
struct OpenSpan {
    trace_id: u128,
    span_id: u64,
    parent_id: Option<u64>,
    is_sampled: bool,
    began: Timestamp,
    attributes: Vec<(&'static str, String)>,
    has_failed: bool,
}

impl OpenSpan {
    /// A step in another one, or the first of a trace.
    fn new(parent: Option<&Self>) -> Self {
        let ids = random_ids();
        Self {
            trace_id: parent.map_or(ids.0, |parent| parent.trace_id),
            span_id: ids.1,
            parent_id: parent.map(|parent| parent.span_id),
            is_sampled: parent.is_none_or(|parent| parent.is_sampled),
            began: clock::system(),
            attributes: Vec::new(),
            has_failed: false,
        }
    }

    fn join(&mut self, trace: &TraceParent) {
        self.trace_id = trace.trace_number();
        self.parent_id = Some(trace.parent_number());
        self.is_sampled = trace.is_sampled();
    }
}

/// A random id of a trace and one of a span; neither is 0, which is no id.
fn random_ids() -> (u128, u64) {
    let mut bytes = [0; 24];
    // Without random bytes the ids are poor, and the job goes on.
    let filled = getrandom::fill(&mut bytes);
    let (trace, span) = bytes.split_at(16);
    let trace = trace.try_into().map(u128::from_be_bytes);
    let span = span.try_into().map(u64::from_be_bytes);
    match (filled, trace, span) {
        (Ok(()), Ok(trace), Ok(span)) => (trace.max(1), span.max(1)),
        _ => (1, 1),
    }
}

/// Makes a step a part of a trace. The steps in it that begin later follow.
pub(super) fn join(span: &Span, trace: &TraceParent) {
    span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>();
        let Some(span) = registry.and_then(|registry| registry.span(id)) else {
            return;
        };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            open.join(trace);
        }
    });
}

/// Collects the fields of a span. They are ids, so that none is a URL or an address.
struct SpanFields<'a>(&'a mut Vec<(&'static str, String)>);

impl Visit for SpanFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        // It is the id of the span's trace.
        if name == "trace_id" {
            return;
        }
        let value = format!("{value:?}");
        let value = printable(&value, MAX_SPAN_TEXT_BYTES).into_owned();
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// The layer that records spans while the recorder is open.
#[derive(Debug)]
pub(crate) struct SpanLayer(SpanRecorder);

impl SpanLayer {
    pub(crate) fn new(recorder: &SpanRecorder) -> Self {
        Self(recorder.clone())
    }
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let (Some(_), Some(span)) = (self.0.queue.get(), context.span(id)) else {
            return;
        };
        let mut open = match span.parent() {
            Some(parent) => OpenSpan::new(parent.extensions().get::<OpenSpan>()),
            None => OpenSpan::new(None),
        };
        attributes.record(&mut SpanFields(&mut open.attributes));
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            values.record(&mut SpanFields(&mut open.attributes));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        let Some(span) = context.event_span(event) else {
            return;
        };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            open.has_failed = true;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let (Some(queue), Some(span)) = (self.0.queue.get(), context.span(&id)) else {
            return;
        };
        let open = span.extensions_mut().remove::<OpenSpan>();
        let Some(open) = open.filter(|open| open.is_sampled) else {
            return;
        };
        let finished = FinishedSpan {
            name: span.name(),
            trace_id: open.trace_id,
            span_id: open.span_id,
            parent_id: open.parent_id,
            began: open.began,
            ended: clock::system(),
            attributes: open.attributes,
            has_failed: open.has_failed,
        };
        if queue.try_send(finished).is_err() {
            self.0.counts.dropped(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// The spans that `work` makes, by their names, in the order of their ends.
    fn recorded(recorder: &SpanRecorder, work: impl FnOnce()) -> Vec<FinishedSpan> {
        let mut queue = recorder.open().unwrap();
        let subscriber = Registry::default().with(SpanLayer::new(recorder));
        tracing::subscriber::with_default(subscriber, work);
        std::iter::from_fn(|| queue.try_recv().ok()).collect()
    }

    fn trace(flags: &str) -> TraceParent {
        let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        TraceParent::read(&value).unwrap()
    }

    /// A message, its job, and a mail that fails.
    fn steps(trace: Option<TraceParent>) {
        let message = tracing::info_span!(
            "message",
            message.id = "m-1",
            trace_id = tracing::field::Empty
        );
        if let Some(trace) = trace {
            crate::spans::join(&message, &trace);
        }
        let _message = message.entered();
        let _job = tracing::info_span!("job", job.id = %"daily").entered();
        let _mail = tracing::info_span!("mail", recipient.rid = "ann").entered();
        tracing::error!("no mail");
    }

    #[test]
    fn steps_are_spans_of_the_senders_trace() {
        let spans = recorded(&SpanRecorder::default(), || steps(Some(trace("01"))));
        let [mail, job, message] = &spans[..] else {
            panic!("{spans:?}")
        };
        assert_eq!(
            [mail.name, job.name, message.name],
            ["mail", "job", "message"]
        );
        assert_eq!(message.parent_id, Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(job.parent_id, Some(message.span_id));
        assert_eq!(mail.parent_id, Some(job.span_id));
        for span in &spans {
            assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
            assert!(span.began <= span.ended);
        }
        assert_eq!(message.attributes, [("message.id", "m-1".to_owned())]);
        assert_eq!(job.attributes, [("job.id", "daily".to_owned())]);
        assert_eq!(mail.attributes, [("recipient.rid", "ann".to_owned())]);
        assert_eq!([mail.has_failed, job.has_failed], [true, false]);
    }

    #[test]
    fn a_message_without_a_trace_begins_one() {
        let spans = recorded(&SpanRecorder::default(), || {
            steps(None);
            steps(None);
        });
        let first = spans.iter().filter(|span| span.parent_id.is_none());
        let traces: Vec<u128> = first.map(|span| span.trace_id).collect();
        assert_eq!(traces.len(), 2);
        assert_ne!(traces[0], traces[1]);
        assert_eq!(spans[0].trace_id, spans[2].trace_id);
    }

    #[test]
    fn a_trace_that_its_sender_does_not_record_is_not_exported() {
        let recorder = SpanRecorder::default();
        assert_eq!(recorded(&recorder, || steps(Some(trace("00")))), []);
        assert_eq!(recorder.counts().snapshot(), [0, 0]);
    }

    #[test]
    fn a_full_queue_drops_spans_and_counts_them() {
        let recorder = SpanRecorder::default();
        let spans = recorded(&recorder, || {
            for _ in 0..MAX_SPANS_QUEUED + 7 {
                drop(tracing::info_span!("step"));
            }
        });
        assert_eq!(spans.len(), MAX_SPANS_QUEUED);
        assert_eq!(recorder.counts().snapshot(), [0, 7]);
    }

    #[test]
    fn nothing_is_recorded_before_an_exporter_opens_the_queue() {
        let recorder = SpanRecorder::default();
        let subscriber = Registry::default().with(SpanLayer::new(&recorder));
        tracing::subscriber::with_default(subscriber, || steps(Some(trace("01"))));
        assert_eq!(recorder.counts().snapshot(), [0, 0]);
    }
}
