//! What schedules have done, for metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::schedule::ScheduleName;

/// The upper bounds of the lateness histogram, in seconds.
pub const LATENESS_BUCKETS: [u64; 7] = [1, 5, 30, 60, 300, 3600, 43_200];

/// What one schedule has done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScheduleCount {
    /// The last occurrence that was started, by this process or another.
    pub last: Option<Timestamp>,
    /// When the job of the next occurrence starts, or should have started; `None` for a schedule without another occurrence.
    pub next: Option<Timestamp>,
    /// How often occurrences were left out.
    pub missed: u64,
    /// How many occurrences this process started, by the bucket of their lateness; the last is beyond all bounds.
    pub by_lateness: [u64; LATENESS_BUCKETS.len() + 1],
    /// The sum of their lateness.
    pub late: Duration,
}

/// The counts of all schedules, by their names.
#[derive(Debug, Clone, Default)]
pub struct ScheduleCounts(Arc<Mutex<BTreeMap<ScheduleName, ScheduleCount>>>);

impl ScheduleCounts {
    fn all(&self) -> MutexGuard<'_, BTreeMap<ScheduleName, ScheduleCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another process started an occurrence.
    pub(super) fn was_started(&self, name: &ScheduleName, occurrence: Timestamp) {
        let mut all = self.all();
        let count = all.entry(name.clone()).or_default();
        count.last = count.last.max(Some(occurrence));
    }

    /// This process started an occurrence, so much later than planned.
    pub(super) fn started(&self, name: &ScheduleName, occurrence: Timestamp, late: Duration) {
        let mut all = self.all();
        let count = all.entry(name.clone()).or_default();
        count.last = count.last.max(Some(occurrence));
        let bucket = LATENESS_BUCKETS
            .iter()
            .position(|bound| late <= Duration::from_secs(*bound));
        count.by_lateness[bucket.unwrap_or(LATENESS_BUCKETS.len())] += 1;
        count.late += late;
    }

    /// The job of the next occurrence starts at this instant.
    pub(super) fn waits_for(&self, name: &ScheduleName, next: Option<Timestamp>) {
        self.all().entry(name.clone()).or_default().next = next;
    }

    /// Occurrences were left out.
    pub(super) fn missed(&self, name: &ScheduleName) {
        self.all().entry(name.clone()).or_default().missed += 1;
    }

    /// Forgets all other schedules.
    pub(super) fn keep_only<'a>(&self, names: impl Iterator<Item = &'a ScheduleName>) {
        let names: BTreeSet<_> = names.collect();
        self.all().retain(|name, _| names.contains(name));
    }

    /// The counts now.
    pub fn snapshot(&self) -> BTreeMap<ScheduleName, ScheduleCount> {
        self.all().clone()
    }
}
