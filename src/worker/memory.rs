//! What the worker remembers of messages and jobs: failures, rejections, and jobs in flight.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::job::JobId;

/// How often messages have failed here for a reason that a retry may resolve. The receive count says less: most
/// receipts may have been waits.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    by_message: Arc<Mutex<HashMap<String, u32>>>,
}

impl Failures {
    /// How many messages are remembered; a message that is dropped is tried a few times more.
    const MAX_KEPT: usize = 10_000;

    fn by_message(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        let by_message = self.by_message.lock();
        by_message.unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure; returns their number, this one included.
    pub(super) fn count(&self, message: &str) -> u32 {
        let mut by_message = self.by_message();
        if by_message.len() >= Self::MAX_KEPT && !by_message.contains_key(message) {
            by_message.clear();
        }
        let failures = by_message.entry(message.to_owned()).or_default();
        *failures += 1;
        *failures
    }

    pub(super) fn forget(&self, message: &str) {
        self.by_message().remove(message);
    }
}

/// Messages that were rejected and may still be in the queue.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusedMessages {
    pub(super) messages: Arc<Mutex<HashSet<String>>>,
}

impl RefusedMessages {
    /// How many are remembered; without a bound, a queue without a redrive policy and without `parked_url` would fill
    /// the memory.
    const MAX_KEPT: usize = 10_000;

    pub(super) fn messages(&self) -> MutexGuard<'_, HashSet<String>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, message: &str) -> bool {
        self.messages().contains(message)
    }

    pub(super) fn forget(&self, message: &str) {
        self.messages().remove(message);
    }

    pub(super) fn add(&self, message: &str) {
        let mut messages = self.messages();
        if messages.len() >= Self::MAX_KEPT {
            messages.clear();
        }
        messages.insert(message.to_owned());
    }
}

/// The jobs in progress in this process; a job runs once at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct JobsInFlight {
    pub(super) jobs: Arc<Mutex<HashSet<JobId>>>,
}

/// A job's place among those in flight, given up on drop.
pub(super) struct InFlightGuard {
    pub(super) in_flight: JobsInFlight,
    pub(super) job: JobId,
}

impl JobsInFlight {
    pub(super) fn take(&self, job: &JobId) -> Option<InFlightGuard> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(job.clone()).then(|| InFlightGuard {
            in_flight: self.clone(),
            job: job.clone(),
        })
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_message_until_it_is_gone_and_memory_is_bounded() {
        let failures = Failures::default();
        let counted = ["a", "a", "b", "a"].map(|message| failures.count(message));
        assert_eq!(counted, [1, 2, 1, 3]);
        failures.forget("a");
        assert_eq!(failures.count("a"), 1);
        for n in 0..=Failures::MAX_KEPT {
            failures.count(&n.to_string());
        }
        assert!(failures.by_message().len() <= Failures::MAX_KEPT);
    }
}
