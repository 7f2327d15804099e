//! Starts the jobs of schedules: puts each on the queue when it is due.
//!
//! Every worker does this, and none leads. For each occurrence a worker (a) looks for its record in the ledger, (b) sends the job's message
//! if there is none, and (c) creates the record. Two workers that do so at once send one job twice, and its id makes it one.
//!
//! The loop compares wall clocks at least every thirty seconds: a clock may be set, and a suspended machine has no timers.

mod counts;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::edge::health::{Edge, EdgeKind};
use crate::edge::random;
use crate::failpoint::{self, Failpoint};
use crate::ledger::LedgerError;
use crate::ledger::schedules::ScheduleRecords;
use crate::queue::{HAND_OVER, Queue, QueueError};
use crate::schedule::{CatchUp, ScheduledJob, stamp};
use crate::text::chain;
use crate::worker::Renewed;

pub use counts::{LATENESS_BUCKETS, ScheduleCount, ScheduleCounts};

/// How long the loop sleeps at most.
const TURN: Duration = Duration::from_secs(30);

/// How long it sleeps at least, and after a failure.
const SHORT_TURN: Duration = Duration::from_millis(5);
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How many schedules are looked at concurrently.
const AT_ONCE: usize = 16;

/// How long a request to the ledger may take.
const LOOK: Duration = Duration::from_secs(10);

/// Workers of one ledger wait a random time below this, so that mostly one of them sends the message of an occurrence.
const APART: Duration = Duration::from_millis(300);

/// Why the job of an occurrence was not started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("{0} did not answer within {secs} s", secs = LOOK.as_secs())]
    Silent(&'static str),
    #[error("{0} is down")]
    Down(String),
}

/// Starts the jobs of schedules.
#[derive(Debug)]
pub struct Scheduler {
    destinations: Destinations,
    schedules: Vec<Tracked>,
    clock: Clock,
}

/// Where jobs and records go.
#[derive(Debug, Clone)]
struct Destinations {
    queue: Arc<dyn Queue>,
    records: ScheduleRecords,
    /// The health of the queue and of the ledger.
    edges: Vec<Edge>,
    counts: ScheduleCounts,
    /// Whether other workers may look at the same schedules.
    is_shared: bool,
}

/// A schedule, and how far it was worked.
#[derive(Debug)]
struct Tracked {
    job: ScheduledJob,
    fingerprint: String,
    /// All occurrences up to this instant were started, are pending, or are left out; `None` until the ledger was read.
    until: Option<Timestamp>,
    /// Occurrences that are due and were not started yet.
    pending: VecDeque<Timestamp>,
    /// Up to which instant occurrences were due at the first look, until the ledger was read.
    first_looked: Option<Timestamp>,
    /// Whether the last try failed: the first failure is logged, and the success after it.
    is_failing: bool,
}

impl Scheduler {
    /// A scheduler; it starts nothing before [`Scheduler::run`].
    pub fn new(
        schedules: &[ScheduledJob],
        queue: Arc<dyn Queue>,
        services: &crate::assemble::Services,
        counts: ScheduleCounts,
    ) -> Self {
        let ledger = &services.recording.ledger;
        let queue_edge = services.edges.of(EdgeKind::Queue).into_iter();
        let edges = queue_edge.chain(ledger.edges().into_iter().cloned());
        Self {
            destinations: Destinations {
                records: ScheduleRecords::of(&**ledger),
                edges: edges.collect(),
                is_shared: ledger.leases().is_some(),
                queue,
                counts,
            },
            schedules: schedules.iter().cloned().map(Tracked::new).collect(),
            clock: services.clock,
        }
    }

    /// Starts jobs for as long as the future is polled; a new configuration replaces the schedules. It may be dropped at any time.
    pub async fn run(mut self, mut renewed: watch::Receiver<Option<Renewed>>) {
        loop {
            let next = self.look().await;
            let changed = tokio::select! {
                () = tokio::time::sleep(next) => continue,
                changed = renewed.changed() => changed,
            };
            if changed.is_err() {
                return std::future::pending().await;
            }
            let schedules = renewed
                .borrow_and_update()
                .as_ref()
                .map(|new| Arc::clone(&new.schedules));
            if let Some(schedules) = schedules {
                self.exchange(&schedules);
            }
        }
    }

    /// Starts what is due; how long to wait before the next look.
    async fn look(&mut self) -> Duration {
        let (destinations, clock) = (&self.destinations, self.clock);
        let waits = stream::iter(&mut self.schedules)
            .map(|tracked| tracked.look(destinations, clock))
            .buffer_unordered(AT_ONCE);
        let longest = TURN;
        waits
            .fold(longest, async |least, wait| least.min(wait))
            .await
    }

    /// Replaces the schedules; those that are the same go on.
    fn exchange(&mut self, schedules: &[ScheduledJob]) {
        let mut old = std::mem::take(&mut self.schedules);
        self.schedules = schedules
            .iter()
            .cloned()
            .map(|job| {
                let new = Tracked::new(job);
                let same = old.iter().position(|old| {
                    old.job.schedule.name == new.job.schedule.name
                        && old.fingerprint == new.fingerprint
                });
                match same.map(|at| old.swap_remove(at)) {
                    Some(old) => Tracked {
                        job: new.job,
                        ..old
                    },
                    None => new,
                }
            })
            .collect();
        let names = self
            .schedules
            .iter()
            .map(|tracked| &tracked.job.schedule.name);
        self.destinations.counts.keep_only(names);
    }
}

impl Tracked {
    fn new(job: ScheduledJob) -> Self {
        Self {
            fingerprint: job.schedule.fingerprint(),
            job,
            until: None,
            pending: VecDeque::new(),
            first_looked: None,
            is_failing: false,
        }
    }

    /// Starts what is due; how long to wait before the next look.
    async fn look(&mut self, destinations: &Destinations, clock: Clock) -> Duration {
        let looked = self.start_due(destinations, clock).await;
        let next = self.next_start(clock());
        let counts = &destinations.counts;
        counts.waits_for(&self.job.schedule.name, next);
        match looked {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(schedule = %self.job.schedule.name, "the schedule goes on");
                }
                self.time_left(clock())
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(
                        schedule = %self.job.schedule.name,
                        error = chain(&error),
                        "a schedule could not start its job; it tries again until the job is too old"
                    );
                }
                AFTER_FAILURE.mul_f64(0.5 + random())
            }
        }
    }

    /// When the job of the next occurrence starts; of one that is due and was not started, when it should have.
    fn next_start(&mut self, now: Timestamp) -> Option<Timestamp> {
        let schedule = &self.job.schedule;
        // Before the ledger was read, it is not known what was started: what is due after the first look is late.
        let known = self.until.unwrap_or_else(|| {
            *self
                .first_looked
                .get_or_insert_with(|| schedule.looked_until(now))
        });
        let pending = self.pending.front().copied();
        let next = pending.or_else(|| schedule.next_after(known));
        next.map(|next| schedule.starts_at(next))
    }

    async fn start_due(
        &mut self,
        destinations: &Destinations,
        clock: Clock,
    ) -> Result<(), StartError> {
        let now = clock();
        let until = match self.until {
            Some(until) => until,
            None => self.first_look(destinations, now).await?,
        };
        self.until = Some(self.note_due(until, now, &destinations.counts));
        while let Some(occurrence) = self.pending.front().copied() {
            if destinations.is_shared {
                tokio::time::sleep(APART.mul_f64(random())).await;
            }
            self.start(occurrence, destinations, clock).await?;
            self.pending.pop_front();
        }
        Ok(())
    }

    /// Up to which instant other processes, or an earlier one, have worked the schedule.
    async fn first_look(
        &self,
        destinations: &Destinations,
        now: Timestamp,
    ) -> Result<Timestamp, StartError> {
        let schedule = &self.job.schedule;
        destinations.answer()?;
        let since = in_time("the ledger", destinations.records.since(schedule, now)).await??;
        let until = schedule.looked_until(now);
        if schedule.catch_up == CatchUp::None {
            return Ok(until);
        }
        // An occurrence is not before the instant at which the rule was seen first; older ones would be too old in any case.
        let within = jiff::SignedDuration::try_from(schedule.within.as_duration());
        let horizon = within
            .ok()
            .and_then(|within| until.checked_sub(within).ok());
        let horizon = horizon.unwrap_or(until).max(since.min(until));
        let last = destinations.records.last_started(&schedule.name, horizon);
        let last = in_time("the ledger", last).await??;
        if let Some(last) = last {
            destinations.counts.was_started(&schedule.name, last);
        }
        in_time(
            "the ledger",
            destinations.records.forget_old(&schedule.name, now),
        )
        .await??;
        Ok(last.unwrap_or(horizon).max(horizon))
    }

    /// Adds what is due to what is pending; the instant up to which the rule was looked at.
    fn note_due(&mut self, from: Timestamp, now: Timestamp, counts: &ScheduleCounts) -> Timestamp {
        let schedule = &self.job.schedule;
        let due = schedule.due(from, now);
        let mut left_out = due.left_out;
        self.pending.extend(due.start);
        if schedule.catch_up != CatchUp::All {
            // The latest alone.
            while self.pending.len() > 1 {
                left_out = left_out.or(self.pending.pop_front());
            }
        }
        let horizon = schedule.oldest_started(now);
        while self
            .pending
            .front()
            .is_some_and(|occurrence| *occurrence < horizon)
        {
            left_out = left_out.or(self.pending.pop_front());
        }
        if let Some(first) = left_out {
            counts.missed(&schedule.name);
            tracing::warn!(
                schedule = %schedule.name,
                first = %first,
                within = %schedule.within,
                "occurrences of a schedule were missed and are not started; start one with `handout schedule run --at`"
            );
        }
        due.until.unwrap_or(from)
    }

    /// Starts the job of an occurrence, unless a record says that it was started.
    async fn start(
        &self,
        occurrence: Timestamp,
        destinations: &Destinations,
        clock: Clock,
    ) -> Result<(), StartError> {
        let schedule = &self.job.schedule;
        destinations.answer()?;
        let looking = destinations.records.is_started(&schedule.name, occurrence);
        if in_time("the ledger", looking).await?? {
            destinations.counts.was_started(&schedule.name, occurrence);
            return Ok(());
        }
        let (group, id) = (schedule.name.as_str(), self.job.job_id(occurrence));
        let body = self.job.body(occurrence);
        let sending = destinations.queue.submit_in_group(&body, group, &id);
        let sent = tokio::time::timeout(HAND_OVER, sending).await;
        sent.map_err(|_| StartError::Silent("the queue"))??;
        failpoint::pass(Failpoint::ScheduleSent);
        let now = clock();
        let recording = destinations.records.started(&self.job, occurrence, now);
        in_time("the ledger", recording).await??;
        let late = now.duration_since(schedule.starts_at(occurrence));
        let late = Duration::try_from(late).unwrap_or_default();
        destinations
            .counts
            .started(&schedule.name, occurrence, late);
        tracing::info!(
            schedule = %schedule.name,
            job.id = id,
            occurrence = stamp(occurrence),
            late_secs = late.as_secs(),
            "a schedule put its job on the queue"
        );
        Ok(())
    }

    /// How long it is until the next occurrence.
    fn time_left(&self, now: Timestamp) -> Duration {
        let schedule = &self.job.schedule;
        let Some(until) = self.until else {
            return AFTER_FAILURE;
        };
        let next = schedule
            .next_after(until)
            .map(|next| schedule.starts_at(next));
        let left = next.map(|next| next.duration_since(now));
        let left = left.and_then(|left| Duration::try_from(left).ok());
        // A negative difference is none: the clock was set, and the next look finds what is due.
        match (next, left) {
            (Some(_), left) => left.unwrap_or_default().clamp(SHORT_TURN, TURN),
            (None, _) => TURN,
        }
    }
}

impl Destinations {
    /// Whether the queue and the ledger are up, or may be tried.
    fn answer(&self) -> Result<(), StartError> {
        let down = self
            .edges
            .iter()
            .find(|edge| edge.outage().is_some_and(|outage| !outage.left.is_zero()));
        match down {
            Some(edge) => Err(StartError::Down(edge.subject().to_owned())),
            None => Ok(()),
        }
    }
}

async fn in_time<T>(place: &'static str, answer: impl Future<Output = T>) -> Result<T, StartError> {
    let answer = tokio::time::timeout(LOOK, answer).await;
    answer.map_err(|_| StartError::Silent(place))
}

#[cfg(test)]
mod tests;
