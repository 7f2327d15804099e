//! What became of bounces and complaints, for metrics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::feedback::{FeedbackVerdict, IgnoredReport};
use crate::ledger::taken_reports::TakenRun;

/// How many words are counted, and how long one is: some come from records of the ledger.
const MAX_WORDS: usize = 50;
const MAX_WORD_BYTES: usize = 40;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedbackEnd {
    /// It is recorded, with this meaning.
    Recorded(FeedbackVerdict),
    /// It is about no mail of ours, or means nothing.
    Ignored(IgnoredReport),
}

impl FeedbackEnd {
    /// The word for metrics and lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Recorded(verdict) => verdict.as_str(),
            Self::Ignored(reason) => reason.as_str(),
        }
    }

    /// Adds it to what a run of the command took in.
    pub fn count_in(self, run: &mut TakenRun) {
        let words = match self {
            Self::Recorded(_) => &mut run.recorded,
            Self::Ignored(_) => &mut run.ignored,
        };
        *words.entry(self.word().to_owned()).or_default() += 1;
    }
}

/// The counters of a feedback queue, and of the runs of `handout feedback`. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct FeedbackCounts(Arc<Mutex<FeedbackNumbers>>);

#[derive(Debug, Default)]
struct FeedbackNumbers {
    /// By whether they are recorded, and the word.
    events: BTreeMap<(bool, Cow<'static, str>), u64>,
    last: Option<Timestamp>,
}

impl FeedbackCounts {
    fn numbers(&self) -> MutexGuard<'_, FeedbackNumbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, end: FeedbackEnd, now: Timestamp) {
        let mut numbers = self.numbers();
        let is_recorded = matches!(end, FeedbackEnd::Recorded(_));
        *numbers
            .events
            .entry((is_recorded, end.word().into()))
            .or_default() += 1;
        numbers.last = Some(now);
    }

    /// Adds what a run of the command took in. It is no sign of life of the queue.
    pub(super) fn add(&self, is_recorded: bool, word: String, count: u64) {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if word.len() > MAX_WORD_BYTES || !word.bytes().all(is_word) {
            return;
        }
        let mut numbers = self.numbers();
        let key = (is_recorded, Cow::Owned(word));
        if numbers.events.len() < MAX_WORDS || numbers.events.contains_key(&key) {
            let known = numbers.events.entry(key).or_default();
            *known = known.saturating_add(count);
        }
    }

    /// The events by whether they are recorded, and the word for what they mean or why they were ignored.
    ///
    /// Each meaning and each reason is there from the start: an increase from nothing to one is none for Prometheus.
    pub fn events(&self) -> Vec<(bool, Cow<'static, str>, u64)> {
        let verdicts = FeedbackVerdict::ALL.map(|verdict| (true, verdict.as_str()));
        let reasons = IgnoredReport::ALL.map(|reason| (false, reason.as_str()));
        let known = verdicts.into_iter().chain(reasons);
        let mut all: BTreeMap<(bool, Cow<'static, str>), u64> = known
            .map(|(is_recorded, word)| ((is_recorded, word.into()), 0))
            .collect();
        all.extend(self.numbers().events.clone());
        all.iter()
            .map(|((is_recorded, word), count)| (*is_recorded, word.clone(), *count))
            .collect()
    }

    /// When the last event of the queue came.
    pub fn last(&self) -> Option<Timestamp> {
        self.numbers().last
    }
}
