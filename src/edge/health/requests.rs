//! The requests that are under way at an edge, and how long they have waited without a reply.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

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
    /// How long the answers of the last ten to twenty seconds took, at most.
    longest_answers: LongestAnswers,
    /// The requests that hang at their names, in the order in which they were found to.
    hanging: BTreeSet<u64>,
    next_hanging: u64,
    /// The names at which requests hung lately, by hash, and when.
    hung_names: HashMap<u64, Instant>,
    /// How many requests may hang while there is other work; `None` where no slots are shared.
    pub(super) hanging_share: Option<usize>,
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

/// The longest times to an answer, of the current span of time and of the one before.
#[derive(Debug, Clone, Copy)]
struct LongestAnswers {
    since: Instant,
    now: Duration,
    before: Duration,
}

/// The length of such a span.
const SPAN: Duration = Duration::from_secs(10);

/// A wait is unusual from so many times the longest answer on.
const UNUSUAL: u32 = 3;

impl Default for LongestAnswers {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            now: Duration::ZERO,
            before: Duration::ZERO,
        }
    }
}

impl LongestAnswers {
    /// Begins a new span if the current one is over.
    fn turn(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= SPAN {
            self.before = match elapsed < 2 * SPAN {
                true => self.now,
                false => Duration::ZERO,
            };
            self.now = Duration::ZERO;
            self.since = Instant::now();
        }
    }

    fn add(&mut self, took: Duration) {
        self.turn();
        self.now = self.now.max(took);
    }

    fn longest(&mut self) -> Duration {
        self.turn();
        self.now.max(self.before)
    }
}

/// For how long a name at which a request hung is not asked for again while others hang.
const NAME_HANGS: Duration = Duration::from_secs(30);

/// How many such names are remembered.
const MAX_HUNG_NAMES: usize = 1024;

/// A request that hangs at its name, until it is dropped.
#[derive(Debug)]
pub struct Hanging {
    edge: Edge,
    number: u64,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.edge.activity().hanging.remove(&self.number);
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
        let waits = self.requests.values().map(|(step, since)| {
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

    /// Records that an answer came after this time.
    pub fn answered_after(&self, took: Duration) {
        self.activity().longest_answers.add(took);
    }

    /// Whether such a wait for an answer is much longer than the last ones.
    pub fn is_unusual(&self, waited: Duration) -> bool {
        waited >= self.activity().longest_answers.longest() * UNUSUAL
    }

    /// Counts a request as hanging.
    pub fn hangs(&self) -> Hanging {
        let mut activity = self.activity();
        let number = activity.next_hanging;
        activity.next_hanging += 1;
        activity.hanging.insert(number);
        drop(activity);
        Hanging {
            edge: self.clone(),
            number,
        }
    }

    /// Whether so many requests hang, all of them for longer than this one, that they have their share of the slots.
    pub fn has_its_share_hanging(&self, hangs: Option<&Hanging>) -> bool {
        let activity = self.activity();
        let older = match hangs {
            Some(hangs) => activity.hanging.range(..hangs.number).count(),
            None => activity.hanging.len(),
        };
        activity.hanging_share.is_some_and(|share| older >= share)
    }

    /// Records that a request hung at a name, by the hash of the name.
    pub fn hung_at(&self, name: u64) {
        let mut activity = self.activity();
        let names = &mut activity.hung_names;
        names.retain(|_, at| at.elapsed() < NAME_HANGS);
        if names.len() < MAX_HUNG_NAMES {
            names.insert(name, Instant::now());
        }
    }

    /// Whether a request hung at a name lately.
    pub fn has_hung_at(&self, name: u64) -> bool {
        let activity = self.activity();
        let at = activity.hung_names.get(&name);
        at.is_some_and(|at| at.elapsed() < NAME_HANGS)
    }

    /// Limits how many requests may hang at their names.
    pub fn limit_hanging(&self, share: usize) {
        self.activity().hanging_share = Some(share);
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
