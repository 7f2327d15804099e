//! The health of each dependency: whether it answers, since when it does not, and when it may be tried again.
//!
//! An [`Edge`] is one dependency of the program: a store, the ledger, a queue, the source of credentials, a relay, the queue
//! of results or of parked messages. Every
//! request reports to its edge. A job checks its edges before it does anything, so that an outage is logged once and not
//! for each job. While an edge is down, one request at a time tries it, after a pause with jitter.

mod edges;
mod hanging;
mod jobs;
mod kinds;
mod requests;
mod silent_names;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

pub use self::edges::Edges;
pub use self::jobs::{Admission, JobAtEdge, Mailing};
use self::kinds::MAX_PAUSE;
pub use self::kinds::{EdgeKind, FailureKind, Outage};
use self::requests::Activity;
pub use self::requests::{Request, RequestNumber, STEPS, Step};
use super::random;
use crate::bounds::{MAX_LEFT_ALONE, MAX_SHOWN_VALUE_BYTES};
use crate::text::printable;

/// How long the request that tries an edge which is down keeps all others waiting.
const TRIAL: Duration = Duration::from_secs(15);

/// The time without a byte, while requests wait for it, after which an edge is reported as silent. At that time no request
/// has failed yet: some deadlines of SMTP are minutes.
const SAID_SILENT: Duration = Duration::from_secs(18);

/// How many requests in a row must be denied, and for how long, until a store is reported as denying all. A single denial is
/// not enough: the credentials may lack access to one bucket or object only.
const DENIALS: u32 = 2;

/// How many answers in a row with the right time end an outage of the clock.
const RIGHT_DATES: u32 = 3;
const DENIED_FOR: Duration = Duration::from_secs(5);

/// For how long an edge counts as one that answers small requests alone, after the last large one that it did not answer.
const SMALL_ONLY: Duration = Duration::from_secs(60);

/// The time without a request, and without a pause, after which the outage of a queue that only takes hand-overs is no longer reported. A
/// waiting message would try the queue more often, so none is waiting.
const UNWANTED: Duration = Duration::from_secs(120);

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
    /// The edge whose outage includes this one: it alone is reported then.
    whole: Option<Edge>,
    /// Whether outages are logged. A command that makes one request reports the failure itself.
    is_watched: AtomicBool,
    /// Whether a reload replaced the edge. The next attempt of each job uses the new edge.
    is_replaced: AtomicBool,
    state: Mutex<HealthState>,
    activity: Mutex<Activity>,
    failures: [AtomicU64; FailureKind::ALL.len()],
    /// When the credentials end that a source gave last.
    expires_at: Mutex<Option<Timestamp>>,
}

#[derive(Debug, Default)]
struct HealthState {
    /// The number of failed requests since the last answer.
    failures: u32,
    /// The number of answers with the right time since one with another time.
    right_dates: u32,
    /// When the first of these requests failed.
    failing_since: Option<(Instant, Timestamp)>,
    /// The kind and the message of the last failure.
    last: Option<(FailureKind, String)>,
    /// Whether they count as an outage.
    is_down: bool,
    /// Whether the outage was reported as one of the whole edge.
    is_of_whole: bool,
    /// Until when the edge is not tried while it is down.
    paused_until: Option<Instant>,
    /// The requests that were denied since the last that was allowed.
    denied: Option<Denials>,
    /// When a request was allowed after a denial of all.
    denial_ended_at: Option<Instant>,
    /// Whether a probe was ever allowed.
    is_probe_allowed: bool,
    /// When the last outage ended.
    back_at: Option<Instant>,
    /// When a request was answered last.
    answered_at: Option<Instant>,
    /// When a request was answered, or failed, last.
    heard_at: Option<Instant>,
    /// When a request was not answered last: no answer came in time, or the connection failed.
    unanswered_at: Option<Instant>,
    /// Which caller tries it then, and until when the others wait for the result.
    trial: Option<(String, Instant)>,
    /// Whether a request failed whose name may be the cause, and no probe has been sent since.
    is_doubted: bool,
    /// When a large request was not answered last, since the last answer.
    large_unanswered_at: Option<Instant>,
    /// When a large request was answered last.
    large_answered_at: Option<Instant>,
}

impl HealthState {
    /// Records an answer, which may be an error. Returns the beginning of the outage, if there was one.
    fn forget_failures(&mut self) -> Option<Instant> {
        let is_reported = self.is_down && !self.is_of_whole;
        let since = self.failing_since.take().filter(|_| is_reported);
        let now = Instant::now();
        *self = Self {
            back_at: self.is_down.then_some(now).or(self.back_at),
            answered_at: Some(now),
            heard_at: self.heard_at,
            unanswered_at: self.unanswered_at,
            denied: self.denied.take(),
            denial_ended_at: self.denial_ended_at,
            is_probe_allowed: self.is_probe_allowed,
            is_doubted: self.is_doubted,
            large_answered_at: self.large_answered_at,
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

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Edge({}:{})", self.inner.kind.as_str(), self.inner.name)
    }
}

impl Edge {
    /// An edge that has not failed yet. `subject` begins a sentence about it.
    pub fn new(kind: EdgeKind, name: impl Into<String>, subject: impl Into<String>) -> Self {
        Self::of(kind, name.into(), subject.into(), None)
    }

    /// An edge for some requests to the dependency of this one. While this one is down, the other is not reported.
    pub fn part(&self, name: impl Into<String>) -> Self {
        let name = name.into();
        let subject = format!("{} ({name})", self.subject());
        Self::of(self.kind(), name, subject, Some(self.clone()))
    }

    fn of(kind: EdgeKind, name: String, subject: String, whole: Option<Self>) -> Self {
        Self {
            inner: Arc::new(EdgeInner {
                kind,
                name,
                subject,
                whole,
                is_watched: AtomicBool::new(false),
                is_replaced: AtomicBool::new(false),
                state: Mutex::default(),
                activity: Mutex::default(),
                failures: [const { AtomicU64::new(0) }; FailureKind::ALL.len()],
                expires_at: Mutex::default(),
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

    /// When the credentials end that this source gave last; `None` if they do not end, or the edge is no source of credentials.
    pub fn expires_at(&self) -> Option<Timestamp> {
        *self.expiry()
    }

    /// Keeps when the credentials end that this source gave.
    pub(crate) fn gave_until(&self, end: Option<Timestamp>) {
        *self.expiry() = end;
    }

    fn expiry(&self) -> MutexGuard<'_, Option<Timestamp>> {
        let expires_at = self.inner.expires_at.lock();
        expires_at.unwrap_or_else(PoisonError::into_inner)
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

    /// The current outage, or the silence, if requests wait for an answer.
    pub fn waits(&self) -> Option<Outage> {
        self.outage().or_else(|| self.silence(self.silent_from()))
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

    /// Whether a request was answered since an instant.
    pub fn answered_since(&self, instant: Instant) -> bool {
        let answered_at = self.state().answered_at;
        answered_at.is_some_and(|answered| answered > instant)
    }

    /// Whether an outage has ended since an instant.
    pub fn is_back_since(&self, instant: Instant) -> bool {
        self.state().back_at.is_some_and(|back| back > instant)
    }

    /// Whether a request was not answered since an instant, and one after it was.
    pub fn came_back_since(&self, instant: Instant) -> bool {
        let state = self.state();
        let unanswered = state.unanswered_at.filter(|at| *at > instant);
        state.failures == 0 && unanswered.is_some_and(|at| state.answered_at > Some(at))
    }

    /// Why the edge is not healthy, if it is not: it is down, it is silent, or it denies all requests.
    pub fn trouble(&self) -> Option<Outage> {
        if self.is_whole_in_trouble() {
            return None;
        }
        let outage = self.outage().filter(|_| !self.is_unwanted());
        outage
            .or_else(|| self.silence(SAID_SILENT))
            .or_else(|| self.denial_of(&self.state()))
    }

    fn is_whole_in_trouble(&self) -> bool {
        let whole = self.inner.whole.as_ref();
        whole.is_some_and(|whole| whole.trouble().is_some())
    }

    /// Whether no job waits for the edge any more, so that no request would notice its recovery.
    fn is_unwanted(&self) -> bool {
        let is_handed_to = matches!(self.kind(), EdgeKind::Results | EdgeKind::Parked);
        let paused_until = self.state().paused_until;
        let may_be_tried = paused_until.is_none_or(|until| until.elapsed() >= UNWANTED);
        is_handed_to && may_be_tried && self.is_quiet_for(UNWANTED)
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

    /// The denial of all requests, if there is one. Jobs continue to ask.
    pub fn denial(&self) -> Option<Outage> {
        self.denial_of(&self.state())
    }

    /// Whether a denial of all requests has ended since an instant.
    pub fn allows_since(&self, instant: Instant) -> bool {
        let ended_at = self.state().denial_ended_at;
        ended_at.is_some_and(|ended| ended > instant)
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
            if !is_probe || state.is_probe_allowed {
                Self::count_denial(&mut state, words);
            }
            (since, self.untold_denial(&mut state))
        };
        self.tell_of_return(was_down_since);
        if let Some(outage) = denial {
            self.warn(&outage, "");
        }
    }

    fn count_denial(state: &mut HealthState, words: &str) {
        let denied = state.denied.get_or_insert_with(|| Denials {
            times: 0,
            began: Instant::now(),
            since: crate::clock::system(),
            words: String::new(),
            is_told: false,
        });
        denied.times += 1;
        denied.words = printable(words, MAX_SHOWN_VALUE_BYTES).into_owned();
    }

    /// What is to be logged of a denial of all requests, once. A few requests may begin it at the same moment, and time alone shows that
    /// it lasts.
    fn untold_denial(&self, state: &mut HealthState) -> Option<Outage> {
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

    /// Records an answer that does not show whether the edge is up.
    pub fn heard(&self) {
        self.state().heard_at = Some(Instant::now());
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

    /// Records an answer: the edge is up.
    pub fn answered(&self) {
        let (down, denied) = {
            let mut state = self.state();
            let now = Instant::now();
            state.heard_at = Some(now);
            if self.denial_of(&state).is_some() {
                state.denial_ended_at = Some(now);
            }
            let denied = state.denied.take().filter(|denied| denied.is_told);
            (state.forget_failures(), denied)
        };
        self.tell_of_return(down.or(denied.map(|denied| denied.began)));
    }

    /// Counts an answer with the right time; whether it shows that the edge's clock is right. After an answer with another time, that takes
    /// [`RIGHT_DATES`] in a row: behind a balancer, one server's clock may be wrong.
    pub fn has_right_time(&self) -> bool {
        let mut state = self.state();
        if !matches!(state.last, Some((FailureKind::ClockSkew, _))) {
            return true;
        }
        state.right_dates += 1;
        state.heard_at = Some(Instant::now());
        state.right_dates >= RIGHT_DATES
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

    /// Records that a large request that began at `began` was not answered, on any of its connections. Answers to small requests do not end
    /// such an outage: a path that drops large packets (RFC 2923, 2.1) carries them.
    pub fn failed_large_of(&self, began: Instant, words: &str) {
        let is_over = {
            let mut state = self.state();
            let is_over = state.large_answered_at > Some(began);
            if !is_over {
                state.large_unanswered_at = Some(Instant::now());
            }
            is_over
        };
        match is_over {
            true => self.failed_of(began, FailureKind::Timeout, words),
            false => self.failed(FailureKind::Timeout, words),
        }
    }

    /// Records an answer to a large request: the edge is up.
    pub fn answered_large(&self) {
        self.state().large_answered_at = Some(Instant::now());
        self.answered();
    }

    /// Whether only an answer to a large request shows that the edge is up.
    pub fn needs_large(&self) -> bool {
        let state = self.state();
        let at = state.large_unanswered_at;
        state.failures > 0 && at.is_some_and(|at| at.elapsed() < SMALL_ONLY)
    }

    /// Records that a request failed whose own key, prefix or bucket may be the cause. The failure does not count: otherwise the
    /// sender of a job could make the edge count as down for all others. A probe without a name decides, see
    /// [`take_doubt`](Self::take_doubt).
    pub fn doubted(&self, kind: FailureKind) {
        self.inner.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.state().is_doubted = true;
    }

    /// Asks for a probe: a request that may take long has no answer yet.
    pub fn questioned(&self) {
        self.state().is_doubted = true;
    }

    /// Whether the edge was doubted since this was last asked.
    pub fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.state().is_doubted)
    }

    /// Records that a request was not answered, or that the answer says that the edge is failing.
    pub fn failed(&self, kind: FailureKind, words: &str) {
        self.failed_for(kind, words, Duration::ZERO);
    }

    /// Like [`failed`](Self::failed), with the pause that the edge asked for. A pause of more than a moment makes it count as
    /// down at once. The edge is left alone for [`MAX_LEFT_ALONE`] at most; the receiver of results for as long as it asks.
    pub fn failed_for(&self, kind: FailureKind, words: &str, left_alone: Duration) {
        let mut words = printable(words, MAX_SHOWN_VALUE_BYTES).into_owned();
        if !left_alone.is_zero() {
            let asked = format!(" (it asks to come back in {} s)", left_alone.as_secs());
            words.push_str(&asked);
        }
        let most = match self.inner.kind == EdgeKind::Results {
            true => left_alone,
            false => left_alone.min(MAX_LEFT_ALONE),
        };
        self.count_failure(kind, words, most, left_alone > MAX_PAUSE);
    }

    /// Like [`failed`](Self::failed), where the caller leaves the edge alone for a time of its own: an outage is paused for as long. It is
    /// an outage at once if no job waits so long in its slot.
    pub fn failed_and_rests(&self, kind: FailureKind, words: &str, rest: Duration) {
        let words = printable(words, MAX_SHOWN_VALUE_BYTES).into_owned();
        self.count_failure(kind, words, rest, rest > MAX_LEFT_ALONE);
    }

    fn count_failure(
        &self,
        kind: FailureKind,
        words: String,
        left_alone: Duration,
        is_down_at_once: bool,
    ) {
        self.inner.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.right_dates = 0;
        state.heard_at = Some(now);
        if matches!(kind, FailureKind::Timeout | FailureKind::Unreachable) {
            state.unanswered_at = Some(now);
        }
        let (since, _) = *state
            .failing_since
            .get_or_insert_with(|| (now, crate::clock::system()));
        state.last = Some((kind, words));
        let was_down = state.is_down;
        let (failures, lasts) = kind.outage(self.inner.kind);
        state.is_down |= is_down_at_once;
        state.is_down |= state.failures >= failures && now - since >= lasts;
        if !state.is_down {
            return;
        }
        state.trial = None;
        let pause = kind.pause(self.inner.kind, state.failures);
        let pause = pause.mul_f64(0.5 + 0.5 * random()).max(left_alone);
        // Of two answers at the same time, the longer pause counts.
        state.paused_until = state.paused_until.max(Some(now + pause));
        if !was_down {
            state.is_of_whole = self.is_whole_in_trouble();
        }
        let is_reported = !was_down && !state.is_of_whole;
        let outage = self.outage_of(&state);
        drop(state);
        if let Some(outage) = outage.filter(|_| is_reported) {
            self.warn(&outage, "; what needs it waits");
        }
    }
}

#[cfg(test)]
mod tests;
