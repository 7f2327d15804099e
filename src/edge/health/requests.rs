//! The requests that are under way at an edge, and how long they have waited without a reply.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::hanging::HangingRequests;
use super::jobs::Stay;
use super::{Edge, FailureKind, Outage};

/// The time without a byte after which an edge counts as silent, where other jobs need the slots of those that wait for it.
pub(super) const SILENT: Duration = Duration::from_millis(3500);

/// How long a job that gave its slot back waits before it is tried again.
pub(super) const GIVEN_WAY: Duration = Duration::from_secs(5);

/// A step of a request at which a reply is waited for. A dialogue has several, each with its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its place in the order, below [`STEPS`].
    pub rank: usize,
    /// Its name, as a sentence has it: `waiting at RCPT`.
    pub name: &'static str,
}

impl Step {
    /// The one step of a request without a dialogue.
    pub const fn only(name: &'static str) -> Self {
        Self { rank: 0, name }
    }

    /// The same step after a number of replies, where it has several.
    #[must_use]
    pub const fn after(self, replies: usize) -> Self {
        Self {
            rank: self.rank + replies,
            ..self
        }
    }
}

/// How many steps a dialogue can have.
pub const STEPS: usize = 15;

/// The number of a request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestNumber(pub(super) u64);

/// The requests and jobs at an edge.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The requests that are under way, each with the step at which it waits and since when.
    pub(super) requests: BTreeMap<RequestNumber, (Step, Instant)>,
    pub(super) next_request: u64,
    /// When the last reply came at each step.
    pub(super) replies: [Option<Instant>; STEPS],
    /// The jobs that need the edge, in the order in which they began.
    pub(super) jobs: BTreeMap<u64, Stay>,
    pub(super) next_job: u64,
    /// The maximum number of long jobs, if other edges of its kind need slots too.
    pub(super) long_jobs: Option<usize>,
    /// The requests that hang at their names, and what tells them from slow ones.
    pub(super) hanging: HangingRequests,
    /// The scout: the job beyond the share that tries the edge, and since when.
    pub(super) scout: Option<(u64, Instant)>,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub struct Request {
    pub(super) edge: Edge,
    pub(super) number: RequestNumber,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.edge.activity().requests.remove(&self.number);
    }
}

impl Request {
    /// Its number.
    pub const fn number(&self) -> RequestNumber {
        self.number
    }
}

impl Activity {
    /// The request that has waited longest, and since when. Replies to other requests at its step or at a later step count for
    /// it; replies at an earlier step do not, since a relay that greets may be silent at RCPT.
    pub(super) fn silence(&self) -> Option<(Step, Instant)> {
        let waiting = self.requests.iter();
        let waiting = waiting.filter(|(number, _)| !self.hanging.has(**number));
        let waits = waiting.map(|(_, (step, since))| {
            let replied = self.replies[step.rank.min(STEPS - 1)..].iter().flatten();
            (*step, replied.copied().max().unwrap_or(*since).max(*since))
        });
        waits.min_by_key(|(_, since)| *since)
    }
}

impl Edge {
    pub(super) fn activity(&self) -> MutexGuard<'_, Activity> {
        self.inner
            .activity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request, which is under way until the returned guard is dropped.
    pub fn asked(&self, step: Step) -> Request {
        let mut activity = self.activity();
        let number = RequestNumber(activity.next_request);
        activity.next_request += 1;
        activity.requests.insert(number, (step, Instant::now()));
        drop(activity);
        Request {
            edge: self.clone(),
            number,
        }
    }

    /// Moves a request to a step of its dialogue, at which it waits from now on.
    pub fn waits_at(&self, number: RequestNumber, step: Step) {
        if let Some(waiting) = self.activity().requests.get_mut(&number) {
            *waiting = (step, Instant::now());
        }
    }

    /// Since when a request waits at its step.
    pub fn waiting_since(&self, number: RequestNumber) -> Option<Instant> {
        let activity = self.activity();
        activity.requests.get(&number).map(|(_, since)| *since)
    }

    /// For how long a request has waited at its step while others got replies there, or at a later one.
    pub fn overtaken_for(&self, number: RequestNumber) -> Option<Duration> {
        let activity = self.activity();
        let (step, since) = activity.requests.get(&number)?;
        let mut replies = activity.replies[step.rank.min(STEPS - 1)..]
            .iter()
            .flatten();
        replies.any(|at| at > since).then(|| since.elapsed())
    }

    /// Records a reply, or a part of a reply, at a step.
    pub fn replied(&self, step: Step) {
        self.activity().replies[step.rank.min(STEPS - 1)] = Some(Instant::now());
    }

    /// Whether a reply came at a step, or at a later one, since an instant.
    pub fn replied_since(&self, step: Step, instant: Instant) -> bool {
        let activity = self.activity();
        let mut replies = activity.replies[step.rank.min(STEPS - 1)..]
            .iter()
            .flatten();
        replies.any(|at| *at >= instant)
    }

    /// Whether requests wait for it and it is silent.
    pub fn is_silent(&self) -> bool {
        self.silence(SILENT).is_some()
    }

    /// The edge's silence, if requests have waited for it for so long without a byte.
    pub(super) fn silence(&self, at_least: Duration) -> Option<Outage> {
        let (step, silent_since) = self.activity().silence()?;
        let silent_for = silent_since.elapsed();
        let since = crate::clock::system() - SignedDuration::try_from(silent_for).ok()?;
        (silent_for >= at_least).then(|| Outage {
            edge: self.label(),
            subject: self.inner.subject.clone(),
            kind: FailureKind::Timeout,
            words: format!("waiting at {}", step.name),
            since,
            left: GIVEN_WAY,
        })
    }

    /// The step at which a request has waited for at least this time without a reply.
    pub fn silent_at(&self, at_least: Duration) -> Option<Step> {
        let (step, since) = self.activity().silence()?;
        (since.elapsed() >= at_least).then_some(step)
    }
}
