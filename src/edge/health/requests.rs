//! The requests that are under way at an edge, and how long they have waited without a reply.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::hanging::HangingRequests;
use super::jobs::Stay;
use super::silent_names::SilentNames;
use super::{Edge, EdgeKind, FailureKind, Outage};

/// The time without a byte after which an edge counts as silent, where other jobs need the slots of those that wait for it.
pub(super) const SILENT: Duration = Duration::from_millis(3500);

/// A relay that takes long over each reply, as a tarpit does, counts as silent after one and a half times as long, up to this: mails that are
/// dropped half way would begin again and again.
const MAX_SILENT: Duration = Duration::from_secs(15);

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
    /// The requests that are under way.
    pub(super) requests: BTreeMap<RequestNumber, RequestAtStep>,
    pub(super) next_request: u64,
    /// When the last reply came at each step.
    pub(super) replies: [Option<Instant>; STEPS],
    /// When the last silence ended.
    pub(super) spoke_at: Option<Instant>,
    /// The jobs that need the edge, in the order in which they began.
    pub(super) jobs: BTreeMap<u64, Stay>,
    pub(super) next_job: u64,
    /// The maximum number of long jobs, if other edges of its kind need slots too.
    pub(super) long_jobs: Option<usize>,
    /// The requests that hang at their names, and what tells them from slow ones.
    pub(super) hanging: HangingRequests,
    /// The scouts: the jobs beyond the share that try the edge, by their roles, and since when.
    pub(super) scouts: [Option<(u64, Instant)>; 2],
    /// The names that the edge was silent about.
    pub(super) silent_names: SilentNames,
}

/// What a request that is under way waits for.
#[derive(Debug)]
pub(super) struct RequestAtStep {
    /// The step at which it waits.
    pub(super) step: Step,
    /// Since when it waits at this step.
    pub(super) since: Instant,
    /// The hash of the name that it asks about, if that may be the cause of a silence.
    pub(super) name: Option<u64>,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub struct Request {
    pub(super) edge: Edge,
    pub(super) number: RequestNumber,
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut activity = self.edge.activity();
        if let Some(request) = activity.requests.remove(&self.number) {
            activity.keep_silent_name(&request);
        }
    }
}

impl Request {
    /// Its number.
    pub const fn number(&self) -> RequestNumber {
        self.number
    }
}

impl Activity {
    /// The time without a byte after which an edge of this kind counts as silent.
    pub(super) fn silent_from(&self, kind: EdgeKind) -> Duration {
        if kind != EdgeKind::Relay {
            return SILENT;
        }
        let usual = self.hanging.longest_answer();
        (usual + usual / 2).clamp(SILENT, MAX_SILENT)
    }

    /// The request that has waited longest, and since when. Replies to other requests at its step or at a later step count for
    /// it; replies at an earlier step do not, since a relay that greets may be silent at RCPT. A request that had waited for long when
    /// another got a reply tells nothing about the edge.
    pub(super) fn silence(&self) -> Option<(Step, Instant)> {
        self.silence_up_to(STEPS)
    }

    /// The same of the requests that wait at a step of this rank or an earlier one.
    fn silence_up_to(&self, rank: usize) -> Option<(Step, Instant)> {
        let waiting = self.requests.iter();
        let waiting = waiting.filter(|(number, request)| {
            request.step.rank <= rank
                && !self.hanging.has(**number)
                && !self.is_long_overtaken(request)
        });
        let waits = waiting.map(|(_, RequestAtStep { step, since, .. })| {
            let last = self.last_reply(*step);
            (*step, last.unwrap_or(*since).max(*since))
        });
        waits.min_by_key(|(_, since)| *since)
    }

    /// When the edge last replied at a step, or at a later one.
    fn last_reply(&self, step: Step) -> Option<Instant> {
        let replies = self.replies[step.rank.min(STEPS - 1)..].iter();
        replies.flatten().copied().max()
    }

    /// Whether the edge has replied to others since a request waits, at its step or at a later one.
    pub(super) fn has_replied_since(&self, request: &RequestAtStep) -> bool {
        let last = self.last_reply(request.step);
        last.is_some_and(|at| at > request.since)
    }

    /// Whether a request of a dialogue had waited for long already when the edge replied to another. The bytes of a transfer, which has one
    /// step, are such replies, too, and may be its own.
    fn is_long_overtaken(&self, request: &RequestAtStep) -> bool {
        if request.step.rank == 0 {
            return false;
        }
        let last = self.last_reply(request.step);
        last.is_some_and(|at| at.saturating_duration_since(request.since) >= SILENT)
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
        self.asked_for(step, None)
    }

    /// Begins a request about a name, by its hash: the edge may be silent about this name alone.
    pub fn asked_about(&self, name: u64, step: Step) -> Request {
        self.asked_for(step, Some(name))
    }

    fn asked_for(&self, step: Step, name: Option<u64>) -> Request {
        let mut activity = self.activity();
        let number = RequestNumber(activity.next_request);
        activity.next_request += 1;
        let since = Instant::now();
        let request = RequestAtStep { step, since, name };
        activity.requests.insert(number, request);
        drop(activity);
        Request {
            edge: self.clone(),
            number,
        }
    }

    /// Moves a request to a step of its dialogue, at which it waits from now on.
    pub fn waits_at(&self, number: RequestNumber, step: Step) {
        if let Some(waiting) = self.activity().requests.get_mut(&number) {
            (waiting.step, waiting.since) = (step, Instant::now());
        }
    }

    /// Since when a request waits at its step.
    pub fn waiting_since(&self, number: RequestNumber) -> Option<Instant> {
        let activity = self.activity();
        activity.requests.get(&number).map(|request| request.since)
    }

    /// For how long a request has waited at its step while others got replies there, or at a later one.
    pub fn overtaken_for(&self, number: RequestNumber) -> Option<Duration> {
        let activity = self.activity();
        let request = activity.requests.get(&number)?;
        let is_overtaken = activity.has_replied_since(request);
        is_overtaken.then(|| request.since.elapsed())
    }

    /// Records a reply, or a part of a reply, at a step.
    pub fn replied(&self, step: Step) {
        let mut activity = self.activity();
        let now = Instant::now();
        if let Some((_, since)) = activity.silence_up_to(step.rank)
            && now - since >= SILENT
        {
            activity.spoke_at = Some(now);
            activity.silent_names.silence_ended();
        }
        activity.replies[step.rank.min(STEPS - 1)] = Some(now);
    }

    /// Records that a part of a request was sent at a step: it waits from now on. That is no reply.
    pub fn sent(&self, number: RequestNumber, step: Step) {
        let mut activity = self.activity();
        let now = Instant::now();
        if let Some(request) = activity.requests.get_mut(&number) {
            (request.step, request.since) = (step, now);
        }
        activity.replies[step.rank.min(STEPS - 1)] = Some(now);
    }

    /// For how long a request has waited at its step beyond the end of a silence in which it began to wait: its connection may have died in
    /// that silence.
    pub fn left_behind_for(&self, number: RequestNumber) -> Option<Duration> {
        let activity = self.activity();
        let since = activity.requests.get(&number)?.since;
        let spoke_at = activity.spoke_at.filter(|spoke_at| *spoke_at > since)?;
        Some(spoke_at.elapsed())
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
        self.silence(self.silent_from()).is_some()
    }

    /// The time without a byte after which it counts as silent.
    pub(super) fn silent_from(&self) -> Duration {
        self.activity().silent_from(self.kind())
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
