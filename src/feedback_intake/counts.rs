//! What became of bounces and complaints, for metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::feedback::FeedbackVerdict;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedbackEnd {
    /// It is recorded, with this meaning.
    Recorded(FeedbackVerdict),
    /// It is about no mail of ours, or means nothing; the reason is a word.
    Ignored(&'static str),
}

impl FeedbackEnd {
    /// The word for metrics and lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Recorded(verdict) => verdict.as_str(),
            Self::Ignored(reason) => reason,
        }
    }
}

/// The counters of a feedback queue. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct FeedbackCounts(Arc<Mutex<FeedbackNumbers>>);

#[derive(Debug, Default)]
struct FeedbackNumbers {
    /// By whether they are recorded, and the word.
    events: BTreeMap<(bool, &'static str), u64>,
    last: Option<Timestamp>,
}

impl FeedbackCounts {
    fn numbers(&self) -> MutexGuard<'_, FeedbackNumbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, end: FeedbackEnd, now: Timestamp) {
        let mut numbers = self.numbers();
        let is_recorded = matches!(end, FeedbackEnd::Recorded(_));
        *numbers.events.entry((is_recorded, end.word())).or_default() += 1;
        numbers.last = Some(now);
    }

    /// The counters as text of Prometheus.
    pub fn text(&self) -> String {
        let numbers = self.numbers();
        let mut text = String::from(
            "# HELP handout_feedback_events_total Events of the feedback queue, by what they mean, or why they were ignored.\n\
             # TYPE handout_feedback_events_total counter\n",
        );
        for ((is_recorded, word), count) in &numbers.events {
            let label = if *is_recorded { "verdict" } else { "ignored" };
            let _ = writeln!(
                text,
                "handout_feedback_events_total{{{label}=\"{word}\"}} {count}"
            );
        }
        text.push_str(
            "# HELP handout_feedback_last_event_timestamp_seconds When the last event came.\n\
             # TYPE handout_feedback_last_event_timestamp_seconds gauge\n",
        );
        if let Some(last) = numbers.last {
            let _ = writeln!(
                text,
                "handout_feedback_last_event_timestamp_seconds {}",
                last.as_second()
            );
        }
        text
    }
}
