//! The steps of jobs as spans of a trace: a layer of the log's subscriber gives each finished step to a bounded queue.
//!
//! Without the feature `otlp`, and while no exporter has opened the queue, the layer does nothing. A full queue drops spans and counts
//! them: an exporter that hangs delays no step.

#[cfg(feature = "otlp")]
mod recorded;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Span;

use crate::traceparent::TraceParent;

#[cfg(feature = "otlp")]
pub(crate) use self::recorded::{FinishedSpan, SpanLayer, recorder};

/// How many spans became what. Clones are the same counters.
#[derive(Debug, Clone, Default)]
pub struct SpanCounts(Arc<[AtomicU64; 2]>);

impl SpanCounts {
    /// Spans that a receiver took.
    #[cfg(feature = "otlp")]
    pub(crate) fn sent(&self, spans: usize) {
        self.0[0].fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// Spans that were dropped: the queue was full, or the receiver did not take them.
    #[cfg(feature = "otlp")]
    pub(crate) fn dropped(&self, spans: usize) {
        self.0[1].fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// The spans that were sent, and those that were dropped.
    pub fn snapshot(&self) -> [u64; 2] {
        [0, 1].map(|at| self.0[at].load(Ordering::Relaxed))
    }
}

/// The counters of this process.
pub fn counts() -> SpanCounts {
    #[cfg(feature = "otlp")]
    return recorder().counts().clone();
    #[cfg(not(feature = "otlp"))]
    SpanCounts::default()
}

/// Makes a step a part of the trace that its message names: its lines have the `trace_id`, and its span the sender's as its parent.
pub(crate) fn join(span: &Span, trace: &TraceParent) {
    span.record("trace_id", tracing::field::display(trace.trace_id()));
    #[cfg(feature = "otlp")]
    recorded::join(span, trace);
}
