//! Progress counters: the steps of a job count, and the progress bar, the metrics and the watchdog read.

pub mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::times::{StepTimes, TimedStep};

/// A long job logs its progress each time it has worked this many objects.
const MILESTONE: u64 = 100_000;

/// Whether progress is logged when a count rises from `before` to `now`.
pub(crate) const fn is_milestone(before: u64, now: u64) -> bool {
    before / MILESTONE < now / MILESTONE
}

/// How an attempt at a mail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailEnd {
    /// A relay accepted it.
    Accepted,
    /// A relay rejected it permanently.
    Rejected,
    /// It is in doubt.
    Unknown,
    /// It will be tried again.
    Deferred,
    /// It is not sent: its recipient is suppressed.
    Suppressed,
}

/// How a message was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// It was deleted.
    Done,
    /// It will be delivered again.
    Retried,
    /// It was parked.
    Parked,
}

/// What a queue says of its messages, approximately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// How many wait.
    pub waiting: u64,
    /// How many are hidden, since a process works them.
    pub in_flight: u64,
    /// How long ago the oldest of all was put on the queue; `None` if there is none, or the queue does not say it.
    pub oldest: Option<Duration>,
}

/// How many mails in doubt are counted at most, so that their memory is bounded.
const MAX_OPEN_DOUBTS: usize = 10_000;

/// A mail in doubt: the name of its job, and the recipient's id.
pub type DoubtName = (String, String);

/// The mails in doubt that have no verdict, as far as they are known.
#[derive(Debug, Default)]
struct OpenDoubts {
    names: BTreeSet<DoubtName>,
    /// Whether the ledger was searched for those of before the start.
    is_searched: bool,
}

/// A counter as `/metrics` shows it: its samples by the values of one label, which has no name if there is one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterFamily {
    /// Its name, which ends in `_total`.
    pub name: &'static str,
    /// Its help text.
    pub help: &'static str,
    /// The label.
    pub label: &'static str,
    /// The samples.
    pub samples: Vec<(&'static str, u64)>,
}

impl CounterFamily {
    /// A family whose samples are counts that `get` reads, each under a value of the label.
    pub(crate) fn counted<C: Copy>(
        [name, help, label]: [&'static str; 3],
        counts: &[(&'static str, C)],
        get: impl Fn(C) -> u64,
    ) -> Self {
        let sample = |(value, count): &(&'static str, C)| (*value, get(*count));
        Self {
            name,
            help,
            label,
            samples: counts.iter().map(sample).collect(),
        }
    }
}

/// Counters that only rise.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    objects_found: AtomicU64,
    links_expected: AtomicU64,
    links_issued: AtomicU64,
    mails_expected: AtomicU64,
    mails_accepted: AtomicU64,
    mails_rejected: AtomicU64,
    mails_unknown: AtomicU64,
    mails_deferred: AtomicU64,
    mails_suppressed: AtomicU64,
    jobs_done: AtomicU64,
    jobs_retried: AtomicU64,
    jobs_parked: AtomicU64,
    polls: AtomicU64,
    doubts: AtomicU64,
    doubts_sent: AtomicU64,
    doubts_resent: AtomicU64,
    waits: AtomicU64,
    slowdowns: AtomicU64,
    markers_listed: AtomicU64,
    markers_in_events: AtomicU64,
    events_without_object: AtomicU64,
    turns: AtomicU64,
    /// The jobs that are being worked, by number, and since when.
    in_flight: Mutex<BTreeMap<u64, Instant>>,
    jobs_begun: AtomicU64,
    times: StepTimes,
    /// The depth of the queue, when it was last asked for.
    queue: Mutex<Option<QueueDepth>>,
    open_doubts: Mutex<OpenDoubts>,
}

/// A job that is being worked, until this is dropped.
#[derive(Debug)]
pub(crate) struct JobInFlight {
    progress: Progress,
    number: u64,
}

impl Drop for JobInFlight {
    fn drop(&mut self) {
        self.progress.in_flight().remove(&self.number);
    }
}

/// The counters at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Objects that were listed, including those that are left out.
    pub objects_found: u64,
    /// Links that the jobs so far will make.
    pub links_expected: u64,
    /// Links that were signed and recorded.
    pub links_issued: u64,
    /// Mails that the jobs so far will send.
    pub mails_expected: u64,
    /// Mails that a relay accepted.
    pub mails_accepted: u64,
    /// Mails that a relay rejected permanently.
    pub mails_rejected: u64,
    /// Mails that are in doubt.
    pub mails_unknown: u64,
    /// Mails that must be tried again.
    pub mails_deferred: u64,
    /// Mails that were not sent, since their recipient is suppressed.
    pub mails_suppressed: u64,
    /// Jobs that are done.
    pub jobs_done: u64,
    /// Jobs that will be tried again.
    pub jobs_retried: u64,
    /// Jobs that were parked.
    pub jobs_parked: u64,
    /// Answers from the queue, empty ones included.
    pub polls: u64,
    /// Mails that may or may not have left.
    pub doubts: u64,
    /// Doubts that were resolved as sent.
    pub doubts_sent: u64,
    /// Doubts that were resolved by sending again.
    pub doubts_resent: u64,
    /// Checks of the disk that found it full.
    pub waits: u64,
    /// How often a relay's rate was reduced.
    pub slowdowns: u64,
    /// Folder markers in listings, which are left out.
    pub markers_listed: u64,
    /// Events of folder markers, which make no job.
    pub markers_in_events: u64,
    /// Jobs of events that found no object.
    pub events_without_object: u64,
    /// Iterations of the worker's loop, also those in which the queue did not answer.
    pub turns: u64,
    /// Jobs that are being worked now.
    pub jobs_in_flight: u64,
    /// How long the oldest of them has been worked, in seconds.
    pub oldest_job_secs: u64,
}

impl Progress {
    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let counts = &*self.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let in_flight = self.in_flight();
        let oldest = in_flight.values().min();
        Snapshot {
            turns: read(&counts.turns),
            jobs_in_flight: in_flight.len() as u64,
            oldest_job_secs: oldest.map_or(0, |since| since.elapsed().as_secs()),
            objects_found: read(&counts.objects_found),
            links_expected: read(&counts.links_expected),
            links_issued: read(&counts.links_issued),
            mails_expected: read(&counts.mails_expected),
            mails_accepted: read(&counts.mails_accepted),
            mails_rejected: read(&counts.mails_rejected),
            mails_unknown: read(&counts.mails_unknown),
            mails_deferred: read(&counts.mails_deferred),
            mails_suppressed: read(&counts.mails_suppressed),
            jobs_done: read(&counts.jobs_done),
            jobs_retried: read(&counts.jobs_retried),
            jobs_parked: read(&counts.jobs_parked),
            polls: read(&counts.polls),
            doubts: read(&counts.doubts),
            doubts_sent: read(&counts.doubts_sent),
            doubts_resent: read(&counts.doubts_resent),
            waits: read(&counts.waits),
            slowdowns: read(&counts.slowdowns),
            markers_listed: read(&counts.markers_listed),
            markers_in_events: read(&counts.markers_in_events),
            events_without_object: read(&counts.events_without_object),
        }
    }

    /// The histograms of the steps of jobs.
    pub fn times(&self) -> &StepTimes {
        &self.counts.times
    }

    /// Observes a step that began at an instant and ends now.
    pub(crate) fn took(&self, step: TimedStep, began: Instant) {
        self.counts.times.observe(step, began.elapsed());
    }

    fn queue(&self) -> MutexGuard<'_, Option<QueueDepth>> {
        self.counts
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the queue said of its messages when it was last asked; `None` if it did not answer.
    pub fn queue_depth(&self) -> Option<QueueDepth> {
        *self.queue()
    }

    /// Keeps what the queue says of its messages.
    pub(crate) fn saw_queue(&self, depth: Option<QueueDepth>) {
        *self.queue() = depth;
    }

    fn doubts(&self) -> MutexGuard<'_, OpenDoubts> {
        let doubts = self.counts.open_doubts.lock();
        doubts.unwrap_or_else(PoisonError::into_inner)
    }

    /// How many mails are in doubt and have no verdict, up to ten thousand; `None` before the ledger was searched, unless one is known.
    pub fn open_doubts(&self) -> Option<usize> {
        let doubts = self.doubts();
        let count = doubts.names.len();
        (doubts.is_searched || count > 0).then_some(count)
    }

    /// A mail is in doubt until it has a verdict.
    pub(crate) fn doubt_is_open(&self, job: &str, rid: &str) {
        let mut doubts = self.doubts();
        if doubts.names.len() < MAX_OPEN_DOUBTS {
            doubts.names.insert((job.to_owned(), rid.to_owned()));
        }
    }

    /// A mail is not in doubt any more.
    pub(crate) fn doubt_is_closed(&self, name: &DoubtName) {
        self.doubts().names.remove(name);
    }

    /// The ledger was searched for mails in doubt.
    pub(crate) fn doubts_are_searched(&self) {
        self.doubts().is_searched = true;
    }

    /// At most `limit` mails in doubt: those whose names come after this one, and then those from the first on.
    pub(crate) fn doubts_after(&self, last: Option<&DoubtName>, limit: usize) -> Vec<DoubtName> {
        let doubts = self.doubts();
        let after = (
            last.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let later = doubts.names.range::<DoubtName, _>(after);
        let from_first = doubts.names.iter();
        later
            .chain(from_first)
            .take(limit.min(doubts.names.len()))
            .cloned()
            .collect()
    }

    fn in_flight(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        let in_flight = self.counts.in_flight.lock();
        in_flight.unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a job as being worked until the returned guard is dropped.
    pub(crate) fn working(&self) -> JobInFlight {
        let number = self.counts.jobs_begun.fetch_add(1, Ordering::Relaxed);
        self.in_flight().insert(number, Instant::now());
        JobInFlight {
            progress: self.clone(),
            number,
        }
    }

    /// Counts an iteration of the worker's loop.
    pub(crate) fn turned(&self) {
        add(&self.counts.turns, 1);
    }

    pub(crate) fn found(&self, objects: usize) {
        add(&self.counts.objects_found, objects as u64);
    }

    /// Folder markers that a listing leaves out.
    pub(crate) fn listed_markers(&self, count: usize) {
        add(&self.counts.markers_listed, count as u64);
    }

    /// Events of folder markers, which make no job.
    pub(crate) fn ignored_markers(&self, count: usize) {
        add(&self.counts.markers_in_events, count as u64);
    }

    /// The job of an event found no object.
    pub(crate) fn found_no_object(&self) {
        add(&self.counts.events_without_object, 1);
    }

    /// Adds the links and mails that a job will make.
    pub(crate) fn expects(&self, links: u64, mails: usize) {
        add(&self.counts.links_expected, links);
        add(&self.counts.mails_expected, mails as u64);
    }

    pub(crate) fn issued(&self, links: usize) {
        add(&self.counts.links_issued, links as u64);
    }

    pub(crate) fn mailed(&self, end: MailEnd) {
        let counter = match end {
            MailEnd::Accepted => &self.counts.mails_accepted,
            MailEnd::Rejected => &self.counts.mails_rejected,
            MailEnd::Unknown => &self.counts.mails_unknown,
            MailEnd::Deferred => &self.counts.mails_deferred,
            MailEnd::Suppressed => &self.counts.mails_suppressed,
        };
        add(counter, 1);
    }

    pub(crate) fn settled(&self, end: JobEnd) {
        let counter = match end {
            JobEnd::Done => &self.counts.jobs_done,
            JobEnd::Retried => &self.counts.jobs_retried,
            JobEnd::Parked => &self.counts.jobs_parked,
        };
        add(counter, 1);
    }

    pub(crate) fn doubted(&self) {
        add(&self.counts.doubts, 1);
    }

    /// A doubt was resolved: the mail was sent.
    pub(crate) fn resolved_as_sent(&self) {
        add(&self.counts.doubts_sent, 1);
    }

    /// A doubt was resolved: the mail may be sent again.
    pub(crate) fn resolved_for_resend(&self) {
        add(&self.counts.doubts_resent, 1);
    }

    pub(crate) fn polled(&self) {
        add(&self.counts.polls, 1);
    }

    pub(crate) fn slowed_down(&self) {
        add(&self.counts.slowdowns, 1);
    }

    pub(crate) fn waited(&self) {
        add(&self.counts.waits, 1);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
