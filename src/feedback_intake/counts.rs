//! What became of bounces and complaints, for metrics.

use std::collections::BTreeMap;
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

    /// The events by whether they are recorded, and the word for what they mean or why they were ignored.
    pub fn events(&self) -> Vec<(bool, &'static str, u64)> {
        let numbers = self.numbers();
        let events = numbers.events.iter();
        events
            .map(|((is_recorded, word), count)| (*is_recorded, *word, *count))
            .collect()
    }

    /// When the last event came.
    pub fn last(&self) -> Option<Timestamp> {
        self.numbers().last
    }
}
