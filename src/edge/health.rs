//! The health of each dependency: whether it answers, since when it does not, and when it may be tried again.
//!
//! An [`Edge`] is one dependency of the program: a store, the ledger, a queue, the source of credentials, a relay, the queue
//! of results or of parked messages. Every
//! request reports to its edge. A job checks its edges before it does anything, so that an outage is logged once and not
//! for each job. While an edge is down, one request at a time tries it, after a pause with jitter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::random;
use crate::bounds::MAX_SHOWN_VALUE_BYTES;
use crate::text::printable;

/// The pause after the failure that made an edge count as down, and the longest pause. The pause doubles with each further
/// failure. The longest decides how late a recovery can be noticed.
const INITIAL_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How long the request that tries an edge which is down keeps all others waiting.
const TRIAL: Duration = Duration::from_secs(15);

/// How long one job (the scout) may try a silent edge, beyond the share of slots of the jobs that wait for the edge.
const SCOUT: Duration = Duration::from_secs(10);

/// The time at an edge after which a job counts as long.
const LONG_JOB: Duration = Duration::from_secs(4);

/// How long an edge must have been down for the jobs that wait for it to give their slots back.
const LONG_OUTAGE: Duration = Duration::from_secs(25);

/// The time without a byte after which an edge counts as silent, where other jobs need the slots of those that wait for it.
const SILENT: Duration = Duration::from_millis(3500);

/// The time without a byte, while requests wait for it, after which an edge is reported as silent. At that time no request
/// has failed yet: some deadlines of SMTP are minutes.
const SAID_SILENT: Duration = Duration::from_secs(18);

/// The waiting time of a job after which it is logged.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// How many requests in a row must be denied, and for how long, until a store is reported as denying all. A single denial is
/// not enough: the credentials may lack access to one bucket or object only.
const DENIALS: u32 = 2;
const DENIED_FOR: Duration = Duration::from_secs(5);

/// How long after a request of `/ready` or `/metrics` an unused edge is probed.
const LOOKED_AT: Duration = Duration::from_secs(60);

/// How long a job that gave its slot back waits before it is tried again.
const GIVEN_WAY: Duration = Duration::from_secs(5);

/// The time without a request after which the outage of a queue that only takes hand-overs is no longer reported. A waiting
/// message would try the queue more often, so none is waiting.
const UNWANTED: Duration = Duration::from_secs(120);

/// The pause after a refusal. An operator has to repair it, and a wrong password must not be repeated every few seconds.
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
    /// The queue that results are sent to.
    Results,
    /// The queue of parked messages.
    Parked,
    /// The audit log, whose disk may be full.
    Audit,
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
            Self::Results => "results",
            Self::Parked => "parked",
            Self::Audit => "audit",
        }
    }
}

/// How a request to an edge failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No answer, or no complete answer, within the deadline.
    Timeout,
    /// The connection failed or broke.
    Unreachable,
    /// An answer that says that the service is failing: a status of 500 and above.
    ServerError,
    /// An answer that asks to slow down.
    Throttled,
    /// An answer that rejects every request, not only this one.
    Refused,
    /// Credentials or a certificate are missing or not accepted: a retry does not help.
    Denied,
    /// A disk without room.
    Full,
    /// No failed request: long jobs hold the edge's share of the slots.
    Occupied,
}

impl FailureKind {
    /// Every kind of a failed request, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::Timeout,
        Self::Unreachable,
        Self::ServerError,
        Self::Throttled,
        Self::Refused,
        Self::Denied,
        Self::Full,
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
            Self::Full => "full",
            Self::Occupied => "occupied",
        }
    }

    /// How many failures in a row make an outage, and how long they must last.
    ///
    /// A single broken connection is not an outage, and some services answer one request in three with 503 for hours.
    const fn outage(self, edge: EdgeKind) -> (u32, Duration) {
        match self {
            // A poll without an answer has waited as long as two other requests.
            Self::Timeout if matches!(edge, EdgeKind::Queue) => (1, Duration::ZERO),
            // A source of credentials is asked one request at a time, and all jobs of its connection wait for it.
            Self::Timeout if matches!(edge, EdgeKind::Credentials) => (1, Duration::ZERO),
            Self::Denied | Self::Full => (1, Duration::ZERO),
            Self::Timeout | Self::Refused | Self::Unreachable => (2, Duration::ZERO),
            Self::ServerError | Self::Throttled | Self::Occupied => (2, Duration::from_secs(10)),
        }
    }

    /// How long an edge that is down is not tried after its n-th failure.
    fn pause(self, failures: u32) -> Duration {
        match self {
            Self::Refused | Self::Denied => REFUSED_PAUSE,
            Self::Timeout
            | Self::Unreachable
            | Self::ServerError
            | Self::Throttled
            | Self::Full
            | Self::Occupied => {
                let doublings = failures.saturating_sub(2).min(8);
                (INITIAL_PAUSE * (1 << doublings)).min(MAX_PAUSE)
            }
        }
    }
}

/// A dependency of the program, and its health. Clones are the same edge.
#[derive(Clone)]
pub struct Edge {
    inner: Arc<EdgeInner>,
}

struct EdgeInner {
    kind: EdgeKind,
    /// Its name among its kind: the name of a connection or a relay.
    name: String,
    /// The subject of a sentence about it: `the relay smtp.sender.example:587 (mail.smtp)`.
    subject: String,
    /// Whether outages are logged. A command that makes one request reports the failure itself.
    is_watched: AtomicBool,
    /// Whether a reload replaced the edge. The next attempt of each job uses the new edge.
    is_replaced: AtomicBool,
    state: Mutex<HealthState>,
    activity: Mutex<Activity>,
    failures: [AtomicU64; FailureKind::ALL.len()],
}

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
pub struct RequestNumber(u64);

/// The requests and jobs at an edge.
#[derive(Debug, Default)]
struct Activity {
    /// The requests that are under way, each with the step at which it waits and since when.
    requests: BTreeMap<RequestNumber, (Step, Instant)>,
    next_request: u64,
    /// When the last reply came at each step.
    replies: [Option<Instant>; STEPS],
    /// The jobs that need the edge, in the order in which they began.
    jobs: BTreeMap<u64, Stay>,
    next_job: u64,
    /// The maximum number of long jobs, if other edges of its kind need slots too.
    long_jobs: Option<usize>,
    /// The scout: the job beyond the share that tries the edge, and since when.
    scout: Option<(u64, Instant)>,
}

/// A job's time at an edge. A job lists and publishes at its store and mails at its relay, one at a time. The time at a slow
/// store does not count for the relay, which other jobs need.
#[derive(Debug)]
struct Stay {
    began: Instant,
    /// Since when it is at the edge, if it is there now.
    since: Option<Instant>,
    /// How long it was there in its earlier stays.
    spent: Duration,
    /// How many of its mails are under way.
    mails: usize,
}

impl Stay {
    fn new(kind: EdgeKind) -> Self {
        let began = Instant::now();
        Self {
            began,
            since: (kind != EdgeKind::Relay).then_some(began),
            spent: Duration::ZERO,
            mails: 0,
        }
    }

    fn has_mails(&mut self, mails: usize, kind: EdgeKind) {
        self.mails = mails;
        let is_here = (kind == EdgeKind::Relay) == (mails > 0);
        match (is_here, self.since) {
            (true, None) => self.since = Some(Instant::now()),
            (false, Some(since)) => {
                self.spent += since.elapsed();
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Since when the job is at the edge, if it takes long there.
    fn long_since(&self) -> Option<Instant> {
        let since = self.since?;
        (self.spent + since.elapsed() >= LONG_JOB).then_some(since)
    }

    /// Whether it may still turn out to be a short job.
    fn is_young(&self) -> bool {
        self.began.elapsed() < LONG_JOB
    }
}

/// How many of the jobs that wait for an edge may ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The edge is up: all may.
    All,
    /// The edge is down and may be tried: one job may.
    One,
    /// The edge is paused, or another job is trying it.
    Nothing,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub struct Request {
    edge: Edge,
    number: RequestNumber,
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
    /// Whether a scout is trying the edge. A scout without a result in time waits like other jobs: its connection may have died
    /// while the edge is up.
    fn has_scout(&self) -> bool {
        self.scout.is_some_and(|(_, since)| since.elapsed() < SCOUT)
    }

    /// The request that has waited longest, and since when. Replies to other requests at its step or at a later step count for
    /// it; replies at an earlier step do not, since a relay that greets may be silent at RCPT.
    fn silence(&self) -> Option<(Step, Instant)> {
        let waits = self.requests.values().map(|(step, since)| {
            let replied = self.replies[step.rank.min(STEPS - 1)..].iter().flatten();
            (*step, replied.copied().max().unwrap_or(*since).max(*since))
        });
        waits.min_by_key(|(_, since)| *since)
    }
}

/// A job that needs an edge, until it is dropped.
#[derive(Debug)]
pub struct JobAtEdge {
    edge: Edge,
    number: u64,
    job: String,
    began: Instant,
    is_scout: bool,
    /// Whether its long wait was logged.
    is_told: AtomicBool,
}

impl Drop for JobAtEdge {
    fn drop(&mut self) {
        let mut activity = self.edge.activity();
        activity.jobs.remove(&self.number);
        if activity
            .scout
            .is_some_and(|(scout, _)| scout == self.number)
        {
            activity.scout = None;
        }
        drop(activity);
        // If the job ended before it asked the edge, its trial is free for another job.
        let mut state = self.edge.state();
        if state.trial.as_ref().is_some_and(|(by, _)| *by == self.job) {
            state.trial = None;
        }
    }
}

/// A mail of a job is under way until this is dropped: meanwhile the job is at its relay and not at its store.
#[derive(Debug)]
pub struct Mailing<'a>(&'a [JobAtEdge]);

impl<'a> Mailing<'a> {
    /// A mail begins.
    pub fn begin(at: &'a [JobAtEdge]) -> Self {
        at.iter().for_each(|at| at.mails(|mails| mails + 1));
        Self(at)
    }
}

impl Drop for Mailing<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|at| at.mails(|mails| mails - 1));
    }
}

impl JobAtEdge {
    fn mails(&self, count: impl Fn(usize) -> usize) {
        let kind = self.edge.kind();
        if let Some(stay) = self.edge.activity().jobs.get_mut(&self.number) {
            stay.has_mails(count(stay.mails), kind);
        }
    }

    /// Whether the job is at this edge now and counts as long there.
    fn takes_long(&self) -> bool {
        let activity = self.edge.activity();
        let stay = activity.jobs.get(&self.number);
        stay.is_some_and(|stay| stay.long_since().is_some())
    }

    /// Logs, once, that the job has waited for long although no request has failed.
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

    /// Why the job has to give its slot back, if it has to: the edge has been down for long, or it is silent and older jobs that
    /// wait for it hold their share of the slots. The job that tries the edge keeps its slot. At a replaced edge no job waits:
    /// nothing tries that edge any more, and its share would add to the share of the new edge.
    pub fn gives_way(&self, share: usize) -> Option<Outage> {
        let edge = &self.edge;
        if edge.inner.is_replaced.load(Ordering::Relaxed) {
            return self.waits();
        }
        if edge.is_tried_by(&self.job) || self.is_scout && self.began.elapsed() < SCOUT {
            return None;
        }
        let lasting = edge.outage().filter(|_| edge.down_for() >= LONG_OUTAGE);
        let occupied = || edge.occupied(self.number).filter(|_| self.takes_long());
        lasting.or_else(occupied).or_else(|| {
            let older = edge.activity().jobs.range(..self.number).count();
            edge.crowded(older, share)
        })
    }

    /// The edge's outage, if it is down.
    pub fn outage(&self) -> Option<Outage> {
        self.edge.outage()
    }

    /// The edge's outage, or its silence, if it is down or silent.
    pub fn waits(&self) -> Option<Outage> {
        self.edge.outage().or_else(|| self.edge.silence(SILENT))
    }
}

#[derive(Debug, Default)]
struct HealthState {
    /// The number of failed requests since the last answer.
    failures: u32,
    /// When the first of these requests failed.
    failing_since: Option<(Instant, Timestamp)>,
    /// The kind and the message of the last failure.
    last: Option<(FailureKind, String)>,
    /// Whether they count as an outage, which has been logged.
    is_down: bool,
    /// Until when the edge is not tried while it is down.
    paused_until: Option<Instant>,
    /// The requests that were denied since the last that was allowed.
    denied: Option<Denials>,
    /// Whether a probe was ever allowed.
    is_probe_allowed: bool,
    /// When a request was answered last.
    answered_at: Option<Instant>,
    /// When a request was answered, or failed, last.
    heard_at: Option<Instant>,
    /// Which caller tries it then, and until when the others wait for the result.
    trial: Option<(String, Instant)>,
}

impl HealthState {
    /// Records an answer, which may be an error. Returns the beginning of the outage, if there was one.
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
    /// Whether they were logged.
    is_told: bool,
}

/// The outage of an edge, for log lines, `/ready` and a job's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Which edge, as metrics name it: `relay:default`.
    pub edge: String,
    /// The edge, as the subject of a sentence.
    pub subject: String,
    /// How requests fail.
    pub kind: FailureKind,
    /// The message of the last failure.
    pub words: String,
    /// Since when.
    pub since: Timestamp,
    /// How long the edge is still paused; zero if it may be tried.
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
            FailureKind::Full => "has no room",
            FailureKind::Occupied => "is occupied",
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
            inner: Arc::new(EdgeInner {
                kind,
                name: name.into(),
                subject: subject.into(),
                is_watched: AtomicBool::new(false),
                is_replaced: AtomicBool::new(false),
                state: Mutex::default(),
                activity: Mutex::default(),
                failures: [const { AtomicU64::new(0) }; FailureKind::ALL.len()],
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What kind of dependency it is.
    pub fn kind(&self) -> EdgeKind {
        self.inner.kind
    }

    /// Its name among its kind.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Kind and name, as metrics have them: `relay:default`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.inner.kind.as_str(), self.inner.name)
    }

    /// The edge as the subject of a sentence.
    pub fn subject(&self) -> &str {
        &self.inner.subject
    }

    /// How often requests failed in this way since the program began.
    pub fn count(&self, kind: FailureKind) -> u64 {
        self.inner.failures[kind as usize].load(Ordering::Relaxed)
    }

    /// Fails while the edge is down, except for one caller at a time: after the pause, the first caller tries the edge, and the
    /// rest wait for the result. A caller is identified by its name, such as a job's id, and may ask again.
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

    /// The current outage, if the edge is down.
    pub fn outage(&self) -> Option<Outage> {
        self.outage_of(&self.state())
    }

    /// Whether the last request failed.
    pub fn is_failing(&self) -> bool {
        self.state().failures > 0
    }

    /// How the last request failed; `None` if it was answered.
    pub fn last_failure(&self) -> Option<FailureKind> {
        self.state().last.as_ref().map(|(kind, _)| *kind)
    }

    fn outage_of(&self, state: &HealthState) -> Option<Outage> {
        let ((_, since), (kind, words)) = (state.failing_since?, state.last.clone()?);
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        state.is_down.then(|| Outage {
            edge: self.label(),
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

    /// Admits a job that needs the edge. Fails if the edge is down, except for the job that tries it (see
    /// [`Edge::may_be_tried`]). Fails also if the edge is silent and `share` jobs wait for it already, except for one scout, since
    /// connections can die while the edge is up.
    pub fn enter(&self, by: &str, share: usize) -> Result<JobAtEdge, Outage> {
        let (jobs, number) = {
            let mut activity = self.activity();
            let (jobs, number) = (activity.jobs.len(), activity.next_job);
            activity.next_job += 1;
            activity.jobs.insert(number, Stay::new(self.kind()));
            (jobs, number)
        };
        // If this returns early, dropping it releases what it has taken.
        let mut at = JobAtEdge {
            edge: self.clone(),
            number,
            job: by.to_owned(),
            began: Instant::now(),
            is_scout: false,
            is_told: AtomicBool::new(false),
        };
        // A job that may be short does not wait for long jobs.
        if let Some(occupied) = self.occupied(number)
            && self.has_young(number)
        {
            return Err(occupied);
        }
        if let Some(crowded) = self.crowded(jobs, share) {
            let mut activity = self.activity();
            if activity.has_scout() {
                drop(activity);
                return Err(crowded);
            }
            activity.scout = Some((number, Instant::now()));
            at.is_scout = true;
        }
        self.may_be_tried(by)?;
        Ok(at)
    }

    /// Whether this caller is trying the edge.
    fn is_tried_by(&self, by: &str) -> bool {
        let state = self.state();
        let trial = state.trial.as_ref();
        trial.is_some_and(|(other, until)| other == by && *until > Instant::now())
    }

    /// How many of the jobs that wait for the edge may try it.
    pub fn admits(&self) -> Admission {
        let (outage, is_tried) = {
            let state = self.state();
            let trial = state.trial.as_ref();
            let is_tried = trial.is_some_and(|(_, until)| *until > Instant::now());
            (self.outage_of(&state), is_tried)
        };
        let is_silent = self.is_silent();
        match outage {
            None if self.occupied(u64::MAX).is_some() => match self.has_young(u64::MAX) {
                true => Admission::Nothing,
                false => Admission::One,
            },
            None if !is_silent => Admission::All,
            None if !self.activity().has_scout() => Admission::One,
            Some(outage) if outage.left.is_zero() && !is_tried => Admission::One,
            None | Some(_) => Admission::Nothing,
        }
    }

    /// Whether requests wait for it and it is silent.
    pub fn is_silent(&self) -> bool {
        self.silence(SILENT).is_some()
    }

    /// Whether a request was answered since an instant.
    pub fn answered_since(&self, instant: Instant) -> bool {
        let answered_at = self.state().answered_at;
        answered_at.is_some_and(|answered| answered > instant)
    }

    /// Whether a reply came at a step, or at a later one, since an instant.
    pub fn replied_since(&self, step: Step, instant: Instant) -> bool {
        let activity = self.activity();
        let mut replies = activity.replies[step.rank.min(STEPS - 1)..]
            .iter()
            .flatten();
        replies.any(|at| *at >= instant)
    }

    /// The outage for a job that waits for a silent edge, if `jobs` other jobs already hold the edge's share of the slots.
    fn crowded(&self, jobs: usize, share: usize) -> Option<Outage> {
        let silence = self.silence(SILENT)?;
        (jobs >= share).then_some(silence)
    }

    /// Limits the slots that long jobs of the edge may hold, since other edges of its kind need slots too.
    pub fn limit_long_jobs(&self, most: Option<usize>) {
        self.activity().long_jobs = most;
    }

    /// The outage for a job if older long jobs hold the edge's share of the slots. Otherwise the jobs of a store that is slow, but
    /// never silent, would hold them all.
    fn occupied(&self, number: u64) -> Option<Outage> {
        let activity = self.activity();
        let most = activity.long_jobs?;
        let older = activity.jobs.range(..number);
        let mut took_long = older.filter_map(|(_, stay)| stay.long_since());
        let last = took_long.nth(most.saturating_sub(1))?;
        let since = SignedDuration::try_from(last.elapsed()).ok()?;
        Some(Outage {
            edge: self.label(),
            subject: self.inner.subject.clone(),
            kind: FailureKind::Occupied,
            words: format!("{most} jobs that take long have its share of the slots"),
            since: crate::clock::system() - since,
            left: GIVEN_WAY,
        })
    }

    /// Whether any of the jobs that began before this job may be short.
    fn has_young(&self, number: u64) -> bool {
        let activity = self.activity();
        let mut older = activity.jobs.range(..number);
        older.any(|(_, stay)| stay.is_young())
    }

    /// The edge's silence, if requests have waited for it for so long without a byte.
    fn silence(&self, at_least: Duration) -> Option<Outage> {
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

    /// Why the edge is not healthy, if it is not: it is down, it is silent, or it denies all requests.
    pub fn trouble(&self) -> Option<Outage> {
        let outage = self.outage().filter(|_| !self.is_unwanted());
        outage
            .or_else(|| self.silence(SAID_SILENT))
            .or_else(|| self.denial_of(&self.state()))
    }

    /// Whether no job waits for the edge any more, so that no request would notice its recovery.
    fn is_unwanted(&self) -> bool {
        let is_handed_to = matches!(self.kind(), EdgeKind::Results | EdgeKind::Parked);
        is_handed_to && self.is_quiet_for(UNWANTED)
    }

    fn denial_of(&self, state: &HealthState) -> Option<Outage> {
        let denied = state.denied.as_ref()?;
        let lasts = denied.times >= DENIALS && denied.began.elapsed() >= DENIED_FOR;
        lasts.then(|| Outage {
            edge: self.label(),
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

    /// Records an answer that denies the request, which ends an outage. Jobs continue to use the edge, since a denial of one
    /// request may not apply to another.
    ///
    /// A denied probe does not count where probes were never allowed: credentials need only the permissions of their
    /// jobs.
    pub fn denied(&self, is_probe: bool, words: &str) {
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

    /// Counts a denial, and returns what is to be logged, once.
    fn count_denial(&self, state: &mut HealthState, words: &str) -> Option<Outage> {
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

    /// Records that a probe was allowed.
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

    /// Whether no request was answered or failed for at least this time, and no request is under way.
    pub fn is_quiet_for(&self, at_least: Duration) -> bool {
        let heard_at = self.state().heard_at;
        self.activity().requests.is_empty() && heard_at.is_none_or(|at| at.elapsed() >= at_least)
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

    /// The step at which a request has waited for at least this time without a reply.
    pub fn silent_at(&self, at_least: Duration) -> Option<Step> {
        let (step, since) = self.activity().silence()?;
        (since.elapsed() >= at_least).then_some(step)
    }

    /// Records an answer: the edge is up.
    pub fn answered(&self) {
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

    /// Records that a request that began at `began` was not answered. If another request was answered since, its connection died
    /// in an outage that is over, and the failure does not count.
    pub fn failed_of(&self, began: Instant, kind: FailureKind, words: &str) {
        if self.answered_since(began) {
            self.inner.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
        } else {
            self.failed(kind, words);
        }
    }

    /// Records that a request was not answered, or that the answer says that the edge is failing.
    pub fn failed(&self, kind: FailureKind, words: &str) {
        self.failed_for(kind, words, Duration::ZERO);
    }

    /// Like [`failed`](Self::failed), with the pause that the edge asked for. A pause of more than a moment makes it count as
    /// down at once.
    pub fn failed_for(&self, kind: FailureKind, words: &str, left_alone: Duration) {
        self.inner.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.heard_at = Some(now);
        let (since, _) = *state
            .failing_since
            .get_or_insert_with(|| (now, crate::clock::system()));
        let mut words = printable(words, MAX_SHOWN_VALUE_BYTES).into_owned();
        if !left_alone.is_zero() {
            let asked = format!(" (it asks to come back in {} s)", left_alone.as_secs());
            words.push_str(&asked);
        }
        state.last = Some((kind, words));
        let was_down = state.is_down;
        let (failures, lasts) = kind.outage(self.inner.kind);
        state.is_down |= left_alone > MAX_PAUSE;
        state.is_down |= state.failures >= failures && now - since >= lasts;
        if !state.is_down {
            return;
        }
        state.trial = None;
        let pause = kind.pause(state.failures);
        let pause = pause.mul_f64(0.5 + 0.5 * random()).max(left_alone);
        // Of two answers at the same time, the longer pause counts.
        state.paused_until = state.paused_until.max(Some(now + pause));
        let outage = self.outage_of(&state);
        drop(state);
        if let Some(outage) = outage.filter(|_| !was_down) {
            self.warn(&outage, "; what needs it waits");
        }
    }
}

/// All edges of the program. Their outages are logged. Clones are the same collection.
#[derive(Debug, Clone, Default)]
pub struct Edges {
    edges: Arc<RwLock<Arc<[Edge]>>>,
    /// When their health was last asked for.
    looked_at: Arc<Mutex<Option<Instant>>>,
}

impl FromIterator<Edge> for Edges {
    fn from_iter<T: IntoIterator<Item = Edge>>(edges: T) -> Self {
        let all = Self::default();
        all.exchange(edges.into_iter().collect());
        all
    }
}

impl Edges {
    /// Replaces the edges. Outages of removed edges are not logged any more, and no job waits for them.
    pub fn exchange(&self, edges: Arc<[Edge]>) {
        let mut all = self.edges.write().unwrap_or_else(PoisonError::into_inner);
        let stay = |edges: &[Edge], stays: bool| {
            for Edge { inner } in edges {
                inner.is_watched.store(stays, Ordering::Relaxed);
                inner.is_replaced.store(!stays, Ordering::Relaxed);
            }
        };
        stay(&all, false);
        stay(&edges, true);
        *all = edges;
    }

    /// The edge with this label.
    pub fn labelled(&self, label: &str) -> Option<Edge> {
        self.iter().find(|edge| edge.label() == label)
    }

    /// Each edge.
    pub fn iter(&self) -> impl Iterator<Item = Edge> + use<> {
        let edges = Arc::clone(&self.edges.read().unwrap_or_else(PoisonError::into_inner));
        (0..edges.len()).map(move |index| edges[index].clone())
    }

    /// The first edge of a kind.
    pub fn of(&self, kind: EdgeKind) -> Option<Edge> {
        self.iter().find(|edge| edge.kind() == kind)
    }

    /// The outage of each edge that is not healthy.
    pub fn troubles(&self) -> Vec<Outage> {
        self.iter().filter_map(|edge| edge.trouble()).collect()
    }

    fn looked_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a supervisor or a scraper asked for their health.
    pub fn look(&self) {
        *self.looked_at() = Some(Instant::now());
    }

    /// Whether their health was asked for lately. If so, edges that no job uses are probed too.
    pub fn are_looked_at(&self) -> bool {
        self.looked_at()
            .is_some_and(|looked_at| looked_at.elapsed() <= LOOKED_AT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Step = Step::only("GET");

    fn edge() -> Edge {
        Edge::new(
            EdgeKind::Relay,
            "default",
            "the relay smtp.sender.example:25 (mail.smtp)",
        )
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_that_asks_for_time_is_down_at_once_and_left_alone_for_so_long() {
        let edge = edge();
        edge.failed_for(FailureKind::Throttled, "503", Duration::from_secs(2));
        assert_eq!(edge.outage(), None, "a moment is no outage");
        edge.failed_for(FailureKind::Throttled, "503", Duration::from_secs(40));
        // Another answer of the same time does not shorten it.
        edge.failed(FailureKind::ServerError, "500");
        after(39_000).await;
        assert!(edge.may_be_tried("a").is_err());
        after(1_000).await;
        assert!(edge.may_be_tried("a").is_ok());
        edge.answered();
        assert_eq!(edge.outage(), None);
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
        let request = edge.asked(GET);
        let giving_way = || jobs.iter().filter(|job| job.gives_way(2).is_some()).count();
        for _ in 0..10 {
            after(3000).await;
            edge.replied(GET);
            assert_eq!(giving_way(), 0, "bytes move");
        }
        after(3600).await;
        assert_eq!(giving_way(), 2, "the two youngest");
        assert!(jobs[0].gives_way(2).is_none());
        let scout = edge.enter("scout", 2).unwrap();
        assert!(edge.enter("new", 2).is_err(), "one finds out for all");
        assert!(scout.gives_way(2).is_none());
        after(10_000).await;
        assert!(scout.gives_way(2).is_some(), "it found out");
        drop(scout);
        drop(edge.enter("another", 2).unwrap());
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
    async fn jobs_that_take_long_at_an_edge_that_answers_keep_to_their_share_if_there_is_another() {
        let edge = Edge::new(EdgeKind::Store, "reports", "S3 (connections.reports)");
        let mut jobs: Vec<JobAtEdge> = (0..4)
            .map(|n| edge.enter(&n.to_string(), 2).unwrap())
            .collect();
        after(4000).await;
        let giving_way =
            |jobs: &[JobAtEdge]| jobs.iter().filter(|job| job.gives_way(2).is_some()).count();
        assert_eq!(giving_way(&jobs), 0, "it is the only one of its kind");
        edge.limit_long_jobs(Some(2));
        assert_eq!(giving_way(&jobs), 2);
        assert!(jobs[1].gives_way(2).is_none(), "the oldest go on");
        jobs.truncate(2);
        assert_eq!((edge.admits(), edge.trouble()), (Admission::One, None));
        let short = edge.enter("short", 2).unwrap();
        let occupied = edge.enter("new", 2).unwrap_err();
        assert_eq!(occupied.kind, FailureKind::Occupied);
        assert_eq!(edge.admits(), Admission::Nothing);
        after(3900).await;
        assert!(short.gives_way(2).is_none(), "it may be short");
        after(100).await;
        assert!(short.gives_way(2).is_some(), "it is not");
        drop(short);
        drop(jobs.remove(0));
        assert_eq!(edge.admits(), Admission::All);
        let young = edge.enter("new", 2).unwrap();
        assert!(young.gives_way(2).is_none());
        after(4000).await;
        assert!(young.gives_way(2).is_none(), "it is the second");
    }

    #[tokio::test(start_paused = true)]
    async fn time_at_a_slow_store_is_not_the_relays_nor_time_at_a_slow_relay_the_stores() {
        let store = Edge::new(EdgeKind::Store, "reports", "S3 (connections.reports)");
        let relay = edge();
        for edge in [&store, &relay] {
            edge.limit_long_jobs(Some(1));
        }
        let at = |job: &str| [&store, &relay].map(|edge| edge.enter(job, 2).unwrap());
        let (first, second) = (at("first"), at("second"));
        let gives_way = |at: &[JobAtEdge; 2]| [&at[0], &at[1]].map(|at| at.gives_way(2).is_some());
        after(4000).await;
        assert_eq!(gives_way(&second), [true, false], "both list");
        assert_eq!(relay.admits(), Admission::All);
        let (mailing, mailing_too) = (Mailing::begin(&first), Mailing::begin(&first));
        assert_eq!(gives_way(&second), [false, false], "the first mails");
        after(4000).await;
        drop(mailing_too);
        let second_mails = Mailing::begin(&second);
        after(3900).await;
        assert_eq!(
            gives_way(&second),
            [false, false],
            "it has not mailed for long"
        );
        after(100).await;
        assert_eq!(gives_way(&second), [false, true]);
        drop(mailing);
        assert_eq!(gives_way(&second), [false, false], "the first publishes");
        drop(second_mails);
        assert_eq!(gives_way(&second), [true, false]);
        assert_eq!(gives_way(&first), [false, false], "it is the oldest");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_hangs_as_long_as_the_others_keeps_no_other_from_finding_out() {
        let edge = edge();
        let mut jobs: Vec<JobAtEdge> = (0..2)
            .map(|n| edge.enter(&n.to_string(), 2).unwrap())
            .collect();
        let _request = edge.asked(GET);
        after(4000).await;
        let scout = edge.enter("scout", 2).unwrap();
        // An older job ends, so that the scout is within the share and stays.
        drop(jobs.pop());
        after(10_000).await;
        assert!(scout.gives_way(2).is_none());
        let next = edge.enter("next", 2);
        assert!(
            next.is_ok(),
            "its connection may have died while the edge is well"
        );
        assert!(edge.enter("new", 2).is_err(), "one at a time");
        drop(scout);
        assert!(edge.enter("new", 2).is_err(), "the scout is another by now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_came_to_nothing_is_free_for_another_and_one_that_lasts_is_not_cut() {
        let edge = edge();
        for _ in 0..2 {
            edge.failed(FailureKind::Timeout, "");
        }
        after(30_000).await;
        let job = edge.enter("job", 2).unwrap();
        assert!(
            job.gives_way(2).is_none(),
            "it has 15 s, however long the outage"
        );
        assert_eq!(edge.admits(), Admission::Nothing);
        assert!(edge.enter("other", 2).is_err());
        assert!(job.gives_way(2).is_none(), "the other took nothing from it");
        // It ends before it asks, for example because the job was done before.
        drop(job);
        assert_eq!(edge.admits(), Admission::One);
        let other = edge.enter("other", 2).unwrap();
        after(15_000).await;
        assert!(other.gives_way(2).is_some());
        edge.answered();
        assert_eq!(edge.admits(), Admission::All);
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
        let request = edge.asked(GET);
        assert!(!edge.is_quiet_for(Duration::ZERO), "a request is under way");
        after(17_000).await;
        assert_eq!(edge.trouble(), None);
        after(1_000).await;
        let said = edge.trouble().unwrap().to_string();
        assert!(said.contains("has not answered since 20"), "{said}");
        assert!(said.ends_with(": waiting at GET"), "{said}");
        assert_eq!(edge.may_be_tried("a"), Ok(()), "silence is no outage yet");
        edge.replied(GET);
        assert_eq!(edge.trouble(), None);
        drop(request);
        edge.answered();
        assert!(!edge.is_quiet_for(Duration::from_secs(10)));
        after(10_000).await;
        assert!(edge.is_quiet_for(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn replies_to_others_break_a_silence_at_their_step_and_at_earlier_ones_only() {
        let edge = edge();
        let step = |rank, name| Step { rank, name };
        let (greeting, rcpt, data) = (step(1, "greeting"), step(7, "RCPT"), step(8, "DATA"));
        let request = edge.asked(greeting);
        edge.waits_at(request.number(), rcpt);
        for _ in 0..10 {
            after(3000).await;
            edge.replied(greeting);
        }
        let silence = edge.trouble().unwrap().to_string();
        assert!(silence.ends_with(": waiting at RCPT"), "{silence}");
        assert_eq!(edge.silent_at(Duration::from_secs(30)), Some(rcpt));
        edge.replied(data);
        assert_eq!(edge.trouble(), None, "others get on");
        drop(request);
        edge.waits_at(RequestNumber(0), rcpt);
        assert_eq!(edge.silent_at(Duration::ZERO), None, "it is over");
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

    #[tokio::test(start_paused = true)]
    async fn an_outage_that_no_message_waits_for_is_not_told_for_ever() {
        for (kind, is_told) in [
            (EdgeKind::Results, false),
            (EdgeKind::Parked, false),
            (EdgeKind::Store, true),
        ] {
            let edge = Edge::new(kind, "queue", "the queue");
            edge.failed(FailureKind::Denied, "no");
            after(119_000).await;
            assert!(edge.trouble().is_some());
            after(1_000).await;
            assert_eq!(edge.trouble().is_some(), is_told, "{kind:?}");
            edge.failed(FailureKind::Denied, "no");
            assert!(edge.trouble().is_some(), "{kind:?}: a message wants it");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_job_waits_for_an_edge_that_was_replaced_and_those_that_get_on_go_on() {
        let (kept, replaced) = (edge(), edge());
        let edges = Edges::from_iter([kept.clone(), replaced.clone()]);
        let jobs = [&kept, &replaced].map(|edge| edge.enter("job", 2).unwrap());
        let _requests = [&kept, &replaced].map(|edge| edge.asked(GET));
        let giving_way = || [&jobs[0], &jobs[1]].map(|job| job.gives_way(2).is_some());
        edges.exchange(Arc::from([kept.clone(), edge()]));
        after(3_000).await;
        assert_eq!(giving_way(), [false, false]);
        replaced.replied(GET);
        after(3_000).await;
        assert_eq!(giving_way(), [false, false], "it answers");
        after(1_000).await;
        assert_eq!(giving_way(), [false, true]);
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
