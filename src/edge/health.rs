//! What is known of each dependency: whether it answers, since when it does not, and when it may be tried again.
//!
//! An [`Edge`] is one dependency of the program: a store, the ledger, a queue, the source of credentials, a relay. Every
//! request reports to its edge. A job asks its edges before it does anything, so that an outage costs one sentence in the
//! log and not one for each job; while an edge is down, one request at a time tries it, after a pause with jitter.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::random;
use crate::bounds::MAX_SHOWN_VALUE_BYTES;
use crate::text::printable;

/// The pause after the failure that made an edge count as down, doubled with each further failure, and the longest. The
/// longest decides how long an edge that is back stays untried.
const INITIAL_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// How long the one request that tries an edge which is down keeps all others waiting.
const TRIAL: Duration = Duration::from_secs(15);

/// How long an edge must have been down for the jobs that wait for it to give their slots back.
const LONG_OUTAGE: Duration = Duration::from_secs(25);

/// After how long without a byte from it an edge counts as silent, where other jobs want the slots of those that wait for it.
const SILENT: Duration = Duration::from_millis(3500);

/// After how long without a byte, while requests wait for it, an edge is said to be silent. No request has failed yet: some
/// deadlines of SMTP are minutes.
const SAID_SILENT: Duration = Duration::from_secs(18);

/// After how long the log tells of a job that waits.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// How many requests in a row must be denied, and for how long, until a store is said to deny all. One is none: a bucket or
/// an object may be closed to credentials that others are open to.
const DENIALS: u32 = 2;
const DENIED_FOR: Duration = Duration::from_secs(5);

/// For how long after `/ready` or `/metrics` was asked an edge that is not used is looked at.
const LOOKED_AT: Duration = Duration::from_secs(60);

/// How long a job stays away that gave its slot back to others.
const GIVEN_WAY: Duration = Duration::from_secs(5);

/// The pause after a refusal. People repair those, and a wrong password must not be repeated every few seconds.
const REFUSED_PAUSE: Duration = Duration::from_secs(20);

/// What kind of dependency an edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// The S3 endpoint of a connection.
    Store,
    /// The bucket with the ledger.
    Ledger,
    /// The queue that jobs come from.
    Queue,
    /// The source of a connection's credentials.
    Credentials,
    /// An SMTP relay.
    Relay,
}

impl EdgeKind {
    /// The name in metrics and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Ledger => "ledger",
            Self::Queue => "queue",
            Self::Credentials => "credentials",
            Self::Relay => "relay",
        }
    }
}

/// How a request to an edge failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No answer, or no end of one, within the deadline.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
    /// An answer that says that the service is not well: a status of 500 and above.
    ServerError,
    /// An answer that asks to slow down.
    Throttled,
    /// An answer that rejects every request, and not this one alone.
    Refused,
    /// Credentials or a certificate that are not accepted, or none: trying again does not repair it.
    Denied,
}

impl FailureKind {
    /// Every kind, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::Timeout,
        Self::Unreachable,
        Self::ServerError,
        Self::Throttled,
        Self::Refused,
        Self::Denied,
    ];

    /// The name in metrics and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::ServerError => "server_error",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Denied => "denied",
        }
    }

    /// How many failures in a row make an outage, and for how long they must go on.
    ///
    /// One broken connection is none, and some services answer one request in three with 503 for hours.
    const fn outage(self, edge: EdgeKind) -> (u32, Duration) {
        match self {
            // A poll that was not answered has waited for as long as two other requests.
            Self::Timeout if matches!(edge, EdgeKind::Queue) => (1, Duration::ZERO),
            // A source of credentials has one request at a time, for which all jobs of its connection wait.
            Self::Timeout if matches!(edge, EdgeKind::Credentials) => (1, Duration::ZERO),
            Self::Denied => (1, Duration::ZERO),
            Self::Timeout | Self::Refused | Self::Unreachable => (2, Duration::ZERO),
            Self::ServerError | Self::Throttled => (2, Duration::from_secs(10)),
        }
    }

    /// How long an edge that is down is left alone after its n-th failure.
    fn pause(self, failures: u32) -> Duration {
        match self {
            Self::Refused | Self::Denied => REFUSED_PAUSE,
            Self::Timeout | Self::Unreachable | Self::ServerError | Self::Throttled => {
                let doublings = failures.saturating_sub(2).min(8);
                (INITIAL_PAUSE * (1 << doublings)).min(MAX_PAUSE)
            }
        }
    }
}

/// One dependency of the program, and what is known of it. Clones are the same edge.
#[derive(Clone)]
pub struct Edge {
    inner: Arc<Inner>,
}

struct Inner {
    kind: EdgeKind,
    /// Which of its kind: the name of a connection or a relay.
    name: String,
    /// The subject of a sentence about it: `the relay smtp.sender.example:587 (mail.smtp)`.
    subject: String,
    /// Whether outages are told in the log: not by a command that asks once and says itself what failed.
    is_watched: AtomicBool,
    state: Mutex<State>,
    activity: Mutex<Activity>,
    failures: [AtomicU64; FailureKind::ALL.len()],
}

/// What goes on at an edge.
#[derive(Debug, Default)]
struct Activity {
    /// How many requests are under way, and since when nothing has come of any.
    under_way: usize,
    silent_since: Option<Instant>,
    /// What the last request, or the last step of a dialogue, is.
    step: &'static str,
    /// The jobs that need the edge, in the order in which they began.
    jobs: BTreeSet<u64>,
    next_job: u64,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub struct Request {
    edge: Edge,
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut activity = self.edge.activity();
        activity.under_way -= 1;
        if activity.under_way == 0 {
            activity.silent_since = None;
        }
    }
}

/// A job that needs an edge, until it is dropped.
#[derive(Debug)]
pub struct JobAtEdge {
    edge: Edge,
    number: u64,
    job: String,
    /// Whether its long wait was told.
    is_told: AtomicBool,
}

impl Drop for JobAtEdge {
    fn drop(&mut self) {
        self.edge.activity().jobs.remove(&self.number);
    }
}

impl JobAtEdge {
    /// Tells the log, once, that the job has waited for long though no request has failed.
    pub fn tell_of_long_wait(&self) {
        if let Some(silence) = self.edge.silence(LONG_WAIT)
            && !self.is_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                job.id = self.job,
                edge = self.edge.kind().as_str(),
                edge.name = self.edge.name(),
                "a job has waited for {} s: {silence}",
                LONG_WAIT.as_secs()
            );
        }
    }

    /// Why the job is to give its slot back, if it is: the edge has been down for long, or it is silent and older jobs that
    /// wait for it hold their share of the slots.
    pub fn gives_way(&self, share: usize) -> Option<Outage> {
        let lasting = self
            .edge
            .outage()
            .filter(|_| self.edge.down_for() >= LONG_OUTAGE);
        lasting.or_else(|| {
            let older = self.edge.activity().jobs.range(..self.number).count();
            self.edge.crowded(older, share)
        })
    }
}

#[derive(Debug, Default)]
struct State {
    /// How many requests failed since the last that was answered.
    failures: u32,
    /// When the first of these failed.
    failing_since: Option<(Instant, Timestamp)>,
    /// What the last failure was.
    last: Option<(FailureKind, String)>,
    /// Whether they are an outage; the log has been told then.
    is_down: bool,
    /// Until when the edge is not tried while it is down.
    paused_until: Option<Instant>,
    /// The requests that were denied since one was allowed.
    denied: Option<Denials>,
    /// Whether a request that only asks whether the edge is well was ever allowed.
    is_probe_allowed: bool,
    /// When a request was answered last.
    answered_at: Option<Instant>,
    /// When a request was answered, or failed, last.
    heard_at: Option<Instant>,
    /// Which caller tries it then, and until when the others wait for that.
    trial: Option<(String, Instant)>,
}

impl State {
    /// A request was answered, whatever the answer says. Since when none had been, if that was an outage.
    fn forget_failures(&mut self) -> Option<Instant> {
        let since = self.failing_since.take().filter(|_| self.is_down);
        *self = Self {
            answered_at: Some(Instant::now()),
            heard_at: self.heard_at,
            denied: self.denied.take(),
            is_probe_allowed: self.is_probe_allowed,
            ..Self::default()
        };
        since.map(|(since, _)| since)
    }
}

/// Requests that were denied in a row.
#[derive(Debug)]
struct Denials {
    times: u32,
    began: Instant,
    since: Timestamp,
    words: String,
    /// Whether the log was told.
    is_told: bool,
}

/// An edge that does not answer, as a log line, `/ready` and a job's error say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// The edge, as the subject of a sentence.
    pub subject: String,
    /// How requests fail.
    pub kind: FailureKind,
    /// The words of the last failure.
    pub words: String,
    /// Since when.
    pub since: Timestamp,
    /// How long the edge is left alone; zero if it may be tried.
    pub left: Duration,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, since, words) = (&self.subject, self.since, &self.words);
        let what = match self.kind {
            FailureKind::Timeout => "has not answered",
            FailureKind::Unreachable => "cannot be reached",
            FailureKind::ServerError => "answers with errors",
            FailureKind::Throttled => "asks to slow down",
            FailureKind::Refused => "refuses requests",
            FailureKind::Denied => "cannot be used",
        };
        write!(f, "{subject} {what} since {since:.0}")?;
        if words.is_empty() {
            return Ok(());
        }
        write!(f, ": {words}")
    }
}

impl std::error::Error for Outage {}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Edge({}:{})", self.inner.kind.as_str(), self.inner.name)
    }
}

impl Edge {
    /// An edge that has not failed yet. `subject` begins a sentence about it.
    pub fn new(kind: EdgeKind, name: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                name: name.into(),
                subject: subject.into(),
                is_watched: AtomicBool::new(false),
                state: Mutex::default(),
                activity: Mutex::default(),
                failures: [const { AtomicU64::new(0) }; FailureKind::ALL.len()],
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What kind of dependency it is.
    pub fn kind(&self) -> EdgeKind {
        self.inner.kind
    }

    /// Which of its kind.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The edge as the subject of a sentence.
    pub fn subject(&self) -> &str {
        &self.inner.subject
    }

    /// How often requests failed in this way since the program began.
    pub fn count(&self, kind: FailureKind) -> u64 {
        self.inner.failures[kind as usize].load(Ordering::Relaxed)
    }

    /// Fails while the edge is down, but for one caller at a time: after the pause, the first to ask tries the edge, and the
    /// others wait for what becomes of that. A caller is known by its name, such as a job's id, and may ask again.
    pub fn may_be_tried(&self, by: &str) -> Result<(), Outage> {
        let mut state = self.state();
        let Some(outage) = self.outage_of(&state) else {
            return Ok(());
        };
        let now = Instant::now();
        let trial = state
            .trial
            .as_ref()
            .filter(|(other, until)| other != by && *until > now);
        let until = trial
            .map(|(_, until)| *until)
            .max(state.paused_until)
            .filter(|until| *until > now);
        match until {
            Some(until) => Err(Outage {
                left: until - now,
                ..outage
            }),
            None => {
                state.trial = Some((by.to_owned(), now + TRIAL));
                Ok(())
            }
        }
    }

    /// The outage that lasts, if one does.
    pub fn outage(&self) -> Option<Outage> {
        self.outage_of(&self.state())
    }

    /// Whether the last request failed.
    pub fn is_failing(&self) -> bool {
        self.state().failures > 0
    }

    fn outage_of(&self, state: &State) -> Option<Outage> {
        let ((_, since), (kind, words)) = (state.failing_since?, state.last.clone()?);
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        state.is_down.then(|| Outage {
            subject: self.inner.subject.clone(),
            kind,
            words,
            since,
            left: state.paused_until.map(left).unwrap_or_default(),
        })
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.inner
            .activity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins, and is under way until what is returned is dropped.
    pub fn asked(&self, step: &'static str) -> Request {
        let mut activity = self.activity();
        activity.under_way += 1;
        activity.step = step;
        activity.silent_since.get_or_insert_with(Instant::now);
        drop(activity);
        Request { edge: self.clone() }
    }

    /// Bytes of a request or of its answer have moved.
    pub fn moved(&self) {
        let mut activity = self.activity();
        if activity.under_way > 0 {
            activity.silent_since = Some(Instant::now());
        }
    }

    /// A request that is under way comes to a step of its dialogue.
    pub fn comes_to(&self, step: &'static str) {
        self.activity().step = step;
    }

    /// A job begins that needs the edge. Fails if the edge is down, but for the job that tries it (see
    /// [`Edge::may_be_tried`]), or if it is silent and `share` jobs wait for it already.
    pub fn enter(&self, by: &str, share: usize) -> Result<JobAtEdge, Outage> {
        let jobs = self.activity().jobs.len();
        if let Some(crowded) = self.crowded(jobs, share) {
            return Err(crowded);
        }
        self.may_be_tried(by)?;
        let mut activity = self.activity();
        let number = activity.next_job;
        activity.next_job += 1;
        activity.jobs.insert(number);
        drop(activity);
        Ok(JobAtEdge {
            edge: self.clone(),
            number,
            job: by.to_owned(),
            is_told: AtomicBool::new(false),
        })
    }

    /// What a job is told that waits for a silent edge beside `jobs` others, if these are its share of the slots.
    fn crowded(&self, jobs: usize, share: usize) -> Option<Outage> {
        let silence = self.silence(SILENT)?;
        (jobs >= share).then_some(silence)
    }

    /// The edge's silence, if requests have waited for it for so long without a byte.
    fn silence(&self, at_least: Duration) -> Option<Outage> {
        let (silent_for, step) = {
            let activity = self.activity();
            (activity.silent_since?.elapsed(), activity.step)
        };
        let since = crate::clock::system() - SignedDuration::try_from(silent_for).ok()?;
        (silent_for >= at_least).then(|| Outage {
            subject: self.inner.subject.clone(),
            kind: FailureKind::Timeout,
            words: format!("waiting at {step}"),
            since,
            left: GIVEN_WAY,
        })
    }

    /// Why the edge is not well, if it is not: it is down, requests wait for it and nothing comes, or it denies all.
    pub fn trouble(&self) -> Option<Outage> {
        self.outage()
            .or_else(|| self.silence(SAID_SILENT))
            .or_else(|| self.denial_of(&self.state()))
    }

    fn denial_of(&self, state: &State) -> Option<Outage> {
        let denied = state.denied.as_ref()?;
        let lasts = denied.times >= DENIALS && denied.began.elapsed() >= DENIED_FOR;
        lasts.then(|| Outage {
            subject: self.inner.subject.clone(),
            kind: FailureKind::Denied,
            words: denied.words.clone(),
            since: denied.since,
            left: Duration::ZERO,
        })
    }

    /// Whether the last request was denied.
    pub fn is_denied(&self) -> bool {
        self.state().denied.is_some()
    }

    /// A request was answered, and denied: an outage is over. Jobs go on to ask, since what is denied to one may be allowed to
    /// another.
    ///
    /// A request that only asks whether the edge is well says no more where it was never allowed: credentials need no more
    /// than their jobs do.
    pub fn denied(&self, is_probe: bool, words: &str) {
        self.moved();
        self.inner.failures[FailureKind::Denied as usize].fetch_add(1, Ordering::Relaxed);
        let (was_down_since, denial) = {
            let mut state = self.state();
            let since = state.forget_failures();
            if is_probe {
                state.heard_at = Some(Instant::now());
            }
            let counts = !is_probe || state.is_probe_allowed;
            (since, counts.then(|| self.count_denial(&mut state, words)))
        };
        self.tell_of_return(was_down_since);
        if let Some(outage) = denial.flatten() {
            self.warn(&outage, "");
        }
    }

    /// Counts one more denial; what the log is to be told, once.
    fn count_denial(&self, state: &mut State, words: &str) -> Option<Outage> {
        let denied = state.denied.get_or_insert_with(|| Denials {
            times: 0,
            began: Instant::now(),
            since: crate::clock::system(),
            words: String::new(),
            is_told: false,
        });
        denied.times += 1;
        denied.words = printable(words, MAX_SHOWN_VALUE_BYTES).into_owned();
        let outage = self.denial_of(state)?;
        let denied = state.denied.as_mut()?;
        (!std::mem::replace(&mut denied.is_told, true)).then_some(outage)
    }

    /// A request that only asks whether the edge is well was allowed.
    pub fn probe_answered(&self) {
        self.state().is_probe_allowed = true;
        self.answered();
    }

    fn warn(&self, outage: &Outage, what_follows: &str) {
        if self.inner.is_watched.load(Ordering::Relaxed) {
            tracing::warn!(
                edge = self.inner.kind.as_str(),
                edge.name = self.inner.name,
                failure = outage.kind.as_str(),
                "{outage}{what_follows}"
            );
        }
    }

    /// Whether nothing was heard of the edge for so long, and nothing is under way.
    pub fn is_quiet_for(&self, at_least: Duration) -> bool {
        let heard_at = self.state().heard_at;
        self.activity().under_way == 0 && heard_at.is_none_or(|at| at.elapsed() >= at_least)
    }

    /// Whether a request was answered, or failed, since an instant.
    pub fn was_heard_since(&self, instant: Instant) -> bool {
        self.state().heard_at.is_some_and(|at| at >= instant)
    }

    /// For how long the edge has been down.
    fn down_for(&self) -> Duration {
        let state = self.state();
        let since = state.failing_since.filter(|_| state.is_down);
        since.map_or(Duration::ZERO, |(since, _)| since.elapsed())
    }

    /// A request was answered: the edge is up.
    pub fn answered(&self) {
        self.moved();
        let (down, denied) = {
            let mut state = self.state();
            state.heard_at = Some(Instant::now());
            (state.forget_failures(), state.denied.take())
        };
        let denied = denied.filter(|denied| denied.is_told);
        self.tell_of_return(down.or(denied.map(|denied| denied.began)));
    }

    fn tell_of_return(&self, was_down_since: Option<Instant>) {
        let is_watched = self.inner.is_watched.load(Ordering::Relaxed);
        let Some(since) = was_down_since.filter(|_| is_watched) else {
            return;
        };
        tracing::info!(
            edge = self.inner.kind.as_str(),
            edge.name = self.inner.name,
            down_secs = since.elapsed().as_secs(),
            "{} is back",
            self.inner.subject
        );
    }

    /// A request that began at an instant was not answered. If another was since, its connection died in an outage that is
    /// over, and it says nothing about now.
    pub fn failed_of(&self, began: Instant, kind: FailureKind, words: &str) {
        if self
            .state()
            .answered_at
            .is_some_and(|answered| answered > began)
        {
            self.inner.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
        } else {
            self.failed(kind, words);
        }
    }

    /// A request was not answered, or the answer says that the edge is not well.
    pub fn failed(&self, kind: FailureKind, words: &str) {
        self.inner.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.heard_at = Some(now);
        let (since, _) = *state
            .failing_since
            .get_or_insert_with(|| (now, crate::clock::system()));
        state.last = Some((kind, printable(words, MAX_SHOWN_VALUE_BYTES).into_owned()));
        let was_down = state.is_down;
        let (failures, lasts) = kind.outage(self.inner.kind);
        state.is_down |= state.failures >= failures && now - since >= lasts;
        if !state.is_down {
            return;
        }
        state.trial = None;
        let pause = kind.pause(state.failures);
        state.paused_until = Some(now + pause.mul_f64(0.5 + 0.5 * random()));
        let outage = self.outage_of(&state);
        drop(state);
        if let Some(outage) = outage.filter(|_| !was_down) {
            self.warn(&outage, "; what needs it waits");
        }
    }
}

/// All edges of the program. Their outages are told in the log.
#[derive(Debug, Clone, Default)]
pub struct Edges {
    edges: Arc<[Edge]>,
    /// When their health was asked for last.
    looked_at: Arc<Mutex<Option<Instant>>>,
}

impl FromIterator<Edge> for Edges {
    fn from_iter<T: IntoIterator<Item = Edge>>(edges: T) -> Self {
        let edges: Arc<[Edge]> = edges.into_iter().collect();
        for edge in edges.iter() {
            edge.inner.is_watched.store(true, Ordering::Relaxed);
        }
        Self {
            edges,
            looked_at: Arc::default(),
        }
    }
}

impl Edges {
    /// Each edge.
    pub fn iter(&self) -> impl Iterator<Item = &Edge> {
        self.edges.iter()
    }

    /// The first edge of a kind.
    pub fn of(&self, kind: EdgeKind) -> Option<&Edge> {
        self.iter().find(|edge| edge.kind() == kind)
    }

    /// What is wrong with each that is not well.
    pub fn troubles(&self) -> Vec<Outage> {
        self.iter().filter_map(Edge::trouble).collect()
    }

    fn looked_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A supervisor or a scraper asks for their health.
    pub fn look(&self) {
        *self.looked_at() = Some(Instant::now());
    }

    /// Whether it was asked for lately: then the health of an edge that no job uses is found out, too.
    pub fn are_looked_at(&self) -> bool {
        self.looked_at()
            .is_some_and(|looked_at| looked_at.elapsed() <= LOOKED_AT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> Edge {
        Edge::new(
            EdgeKind::Relay,
            "default",
            "the relay smtp.sender.example:25 (mail.smtp)",
        )
    }

    async fn after(millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_is_no_outage_and_the_second_in_a_row_is() {
        let edge = edge();
        edge.failed(FailureKind::Timeout, "no answer");
        edge.answered();
        edge.failed(FailureKind::Timeout, "no answer");
        assert_eq!((edge.outage(), edge.may_be_tried("a")), (None, Ok(())));
        edge.failed(FailureKind::Timeout, "no answer");
        let outage = edge.may_be_tried("a").unwrap_err();
        assert!(outage.left <= INITIAL_PAUSE && !outage.left.is_zero());
        let said = outage.to_string();
        assert!(
            said.starts_with(
                "the relay smtp.sender.example:25 (mail.smtp) has not answered since 20"
            ),
            "{said}"
        );
        assert_eq!(edge.count(FailureKind::Timeout), 3);
        edge.answered();
        assert_eq!((edge.outage(), edge.may_be_tried("a")), (None, Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_some_requests_is_up() {
        let edge = edge();
        for kind in [FailureKind::ServerError, FailureKind::Throttled] {
            for _ in 0..5 {
                edge.failed(kind, "503");
                after(40).await;
            }
            assert_eq!(edge.outage(), None, "{kind:?}");
            edge.answered();
        }
        for _ in 0..12 {
            edge.failed(FailureKind::ServerError, "503");
            after(1000).await;
        }
        assert_eq!(edge.outage().unwrap().kind, FailureKind::ServerError);
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_is_down_one_request_at_a_time_tries_it_and_the_pause_is_bounded() {
        let edge = edge();
        for _ in 0..20 {
            edge.failed(FailureKind::Timeout, "");
        }
        let left = edge.may_be_tried("a").unwrap_err().left;
        assert!(left <= MAX_PAUSE && left >= MAX_PAUSE / 2, "{left:?}");
        tokio::time::sleep(left).await;
        assert_eq!(edge.may_be_tried("a"), Ok(()), "its pause is over");
        assert!(edge.may_be_tried("b").is_err(), "another tries it");
        assert_eq!(edge.may_be_tried("a"), Ok(()), "it goes on");
        tokio::time::sleep(TRIAL).await;
        assert_eq!(
            edge.may_be_tried("b"),
            Ok(()),
            "the one before was given up"
        );
        edge.failed(FailureKind::Timeout, "");
        assert!(edge.may_be_tried("b").is_err(), "its trial has failed");
        edge.answered();
        assert_eq!(
            (edge.may_be_tried("a"), edge.may_be_tried("b")),
            (Ok(()), Ok(()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_that_wait_for_a_silent_edge_keep_to_their_share_and_those_of_a_busy_one_do_not() {
        let edge = edge();
        let jobs: Vec<JobAtEdge> = (0..4)
            .map(|n| edge.enter(&n.to_string(), 2).unwrap())
            .collect();
        let request = edge.asked("GET");
        let giving_way = || jobs.iter().filter(|job| job.gives_way(2).is_some()).count();
        for _ in 0..10 {
            after(3000).await;
            edge.moved();
            assert_eq!(giving_way(), 0, "bytes move");
        }
        after(3600).await;
        assert_eq!(giving_way(), 2, "the two youngest");
        assert!(jobs[0].gives_way(2).is_none());
        assert!(edge.enter("new", 2).is_err());
        drop(request);
        assert_eq!(giving_way(), 0, "nothing is waited for");
        drop(jobs);
        for _ in 0..2 {
            edge.failed(FailureKind::Timeout, "");
        }
        tokio::time::sleep(edge.outage().unwrap().left).await;
        let trial = edge.enter("new", 2).unwrap();
        assert!(trial.gives_way(2).is_none());
        tokio::time::sleep(LONG_OUTAGE).await;
        assert!(trial.gives_way(2).is_some(), "it has been down for long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_began_before_the_last_answer_says_nothing_about_now() {
        let edge = edge();
        let began = Instant::now();
        after(1000).await;
        edge.answered();
        for _ in 0..3 {
            edge.failed_of(began, FailureKind::Timeout, "");
        }
        assert_eq!((edge.outage(), edge.count(FailureKind::Timeout)), (None, 3));
        for _ in 0..2 {
            edge.failed_of(Instant::now(), FailureKind::Timeout, "");
        }
        assert!(edge.outage().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_that_is_waited_for_in_vain_is_said_to_be_silent_before_a_request_fails() {
        let edge = edge();
        assert!(edge.is_quiet_for(Duration::from_secs(10)), "never used");
        let request = edge.asked("GET");
        assert!(!edge.is_quiet_for(Duration::ZERO), "a request is under way");
        after(17_000).await;
        assert_eq!(edge.trouble(), None);
        after(1_000).await;
        let said = edge.trouble().unwrap().to_string();
        assert!(said.contains("has not answered since 20"), "{said}");
        assert!(said.ends_with(": waiting at GET"), "{said}");
        assert_eq!(edge.may_be_tried("a"), Ok(()), "silence is no outage yet");
        edge.moved();
        assert_eq!(edge.trouble(), None);
        drop(request);
        edge.answered();
        assert!(!edge.is_quiet_for(Duration::from_secs(10)));
        after(10_000).await;
        assert!(edge.is_quiet_for(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_denies_all_is_said_to_and_one_that_denies_some_is_not() {
        let edge = edge();
        for _ in 0..5 {
            edge.denied(true, "AccessDenied");
            after(3000).await;
        }
        assert_eq!(edge.trouble(), None, "a look that was never allowed");
        edge.probe_answered();
        for _ in 0..5 {
            edge.denied(false, "AccessDenied");
            after(3000).await;
            edge.answered();
        }
        assert_eq!(edge.trouble(), None, "others are allowed");
        edge.denied(true, "AccessDenied");
        after(5000).await;
        assert_eq!(edge.trouble(), None, "once");
        edge.denied(true, "AccessDenied");
        let said = edge.trouble().unwrap().to_string();
        assert!(said.contains("cannot be used since 20"), "{said}");
        assert!(said.ends_with(": AccessDenied"), "{said}");
        assert_eq!(edge.may_be_tried("a"), Ok(()), "jobs go on to ask");
        edge.answered();
        assert_eq!(edge.trouble(), None);
    }

    #[test]
    fn an_answer_that_denies_ends_an_outage() {
        for is_probe in [true, false] {
            let edge = edge();
            for _ in 0..2 {
                edge.failed(FailureKind::Timeout, "");
            }
            edge.denied(is_probe, "AccessDenied");
            assert_eq!((edge.trouble(), edge.may_be_tried("a")), (None, Ok(())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn edges_are_looked_at_for_a_minute_after_their_health_was_asked_for() {
        let edges = Edges::from_iter([edge()]);
        assert!(!edges.are_looked_at());
        edges.look();
        after(60_000).await;
        assert!(edges.are_looked_at());
        after(1).await;
        assert!(!edges.are_looked_at());
    }

    #[test]
    fn the_registry_tells_of_those_that_are_down() {
        let store = Edge::new(EdgeKind::Store, "reports", "S3");
        let relay = Edge::new(EdgeKind::Relay, "default", "the relay");
        let edges = Edges::from_iter([store.clone(), relay.clone()]);
        store.failed(FailureKind::Timeout, "");
        store.failed(FailureKind::Timeout, "\u{1b}[2J");
        relay.failed(FailureKind::Timeout, "");
        let outages = edges.troubles();
        assert_eq!(outages.len(), 1);
        assert!(
            outages[0].to_string().ends_with(r": \u{1b}[2J"),
            "{}",
            outages[0]
        );
        assert_eq!(edges.iter().count(), 2);
    }
}
