//! Several workers over simulated years: every occurrence is one job, and none is early. Processes are killed, also between a message and its
//! record, workers pause, and clocks are set.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use jiff::SignedDuration;

use super::*;
use crate::clock::bundled_time_zone;
use crate::ledger::Ledger;
use crate::ledger::memory::MemoryLedger;
use crate::quantity::Span;
use crate::queue::{Message, Parked, Receipt};
use crate::schedule::{Schedule, Timing, parse_stamp};
use crate::traceparent::TraceParent;

thread_local! {
    static NOW: std::cell::Cell<Timestamp> = const { std::cell::Cell::new(Timestamp::UNIX_EPOCH) };
}

fn simulated() -> Timestamp {
    NOW.get()
}

const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Pacific/Chatham",
    "Pacific/Apia",
];

/// The rules: `@` is another minute in each schedule.
const RULES: [&str; 10] = [
    "@ 7 * * MON-FRI",
    "@ 2 * * *",
    "@ 0 1 * *",
    "@ 0,12 * * *",
    "every 6h",
    "*/20 1-3 * * SUN",
    "@ 23 L * *",
    "@ 1 * * MON#1",
    "every 12h",
    "@ 3 29 2 *",
];

/// How far a clock is set at the most, in seconds.
const STEP: i64 = 3600;

fn jobs(count: usize, zone: &str) -> Vec<ScheduledJob> {
    let text = r#"{"v":1,"from":{"connection":"local","bucket":"reports","prefix":"x/"},"email":{"to":["ann@acme.example"]}}"#;
    let jobs = (0..count).map(|number| {
        let rule = RULES[number % RULES.len()].replace('@', &(number * 7 % 60).to_string());
        let timing = match rule.strip_prefix("every ") {
            Some(span) => Timing::every(span.parse().unwrap()),
            None => Timing::cron(&rule),
        };
        let name = format!("s{number}").parse().unwrap();
        let schedule = Schedule {
            delay: Schedule::delay_of(&name, Span::minutes(5)),
            name,
            timing: timing.unwrap(),
            zone: bundled_time_zone(zone).unwrap(),
            zone_name: zone.to_owned(),
            catch_up: CatchUp::All,
            within: Span::days(3),
        };
        ScheduledJob::parse(schedule, text).unwrap()
    });
    jobs.collect()
}

/// A sequence of numbers that is the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn seconds_below(&mut self, end: i64) -> SignedDuration {
        let end = u64::try_from(end).unwrap();
        SignedDuration::from_secs(i64::try_from(self.below(end)).unwrap())
    }
}

/// When a process dies that sends a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Death {
    #[default]
    Never,
    /// Before the queue has the message.
    Before,
    /// When the queue has it, and nothing else is done.
    Between,
}

/// A queue that gives no answer to a sender that dies.
#[derive(Debug, Default)]
struct SilentQueue {
    sent: Mutex<Vec<String>>,
    death: Mutex<Death>,
}

impl SilentQueue {
    fn kills(&self, death: Death) {
        *self.death.lock().unwrap() = death;
    }
}

#[async_trait]
impl Queue for SilentQueue {
    async fn receive(
        &self,
        _: usize,
        _: Duration,
        _: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        unreachable!("the simulation looks at what was sent")
    }

    async fn delete(&self, _: &Receipt) -> Result<(), QueueError> {
        unreachable!("nothing is received")
    }

    async fn extend(&self, _: &Receipt, _: Duration) -> Result<(), QueueError> {
        unreachable!("nothing is received")
    }

    async fn park(&self, _: &Message, _: &str) -> Result<Parked, QueueError> {
        unreachable!("nothing is received")
    }

    async fn submit_traced(
        &self,
        body: &str,
        _: Option<TraceParent>,
    ) -> Result<String, QueueError> {
        let death = *self.death.lock().unwrap();
        if death != Death::Before {
            self.sent.lock().unwrap().push(body.to_owned());
        }
        if death != Death::Never {
            std::future::pending::<()>().await;
        }
        Ok(String::new())
    }

    async fn waiting(&self) -> Result<u64, QueueError> {
        Ok(0)
    }
}

/// A worker with a clock of its own.
struct SimulatedWorker {
    schedules: Vec<Tracked>,
    /// When the job of each schedule's next occurrence starts, by the worker's clock.
    next: Vec<Option<Timestamp>>,
    ahead: SignedDuration,
    asleep_until: Timestamp,
}

impl SimulatedWorker {
    fn new(jobs: &[ScheduledJob]) -> Self {
        Self {
            schedules: jobs.iter().cloned().map(Tracked::new).collect(),
            next: vec![None; jobs.len()],
            ahead: SignedDuration::ZERO,
            asleep_until: Timestamp::MIN,
        }
    }

    /// What its process knew is gone.
    fn is_killed(&mut self, jobs: &[ScheduledJob]) {
        let (ahead, asleep_until) = (self.ahead, self.asleep_until);
        *self = Self {
            ahead,
            asleep_until,
            ..Self::new(jobs)
        };
    }

    /// Something happens to it, or nothing.
    fn suffer(&mut self, jobs: &[ScheduledJob], now: Timestamp, dice: &mut Dice) {
        match dice.below(200) {
            0..4 => self.asleep_until = now + dice.seconds_below(36 * 3600),
            4..7 => self.is_killed(jobs),
            7..12 => {
                self.ahead = dice.seconds_below(2 * STEP + 1) - SignedDuration::from_secs(STEP);
            }
            12..24 => self.ahead = SignedDuration::ZERO,
            _ => {}
        }
    }
}

/// The schedules of one zone, their workers, and what these have sent.
struct Simulation {
    jobs: Vec<ScheduledJob>,
    queue: Arc<SilentQueue>,
    destinations: Destinations,
    dice: Dice,
    /// How often the job of each occurrence was sent, by its id.
    seen: BTreeMap<String, usize>,
    /// How many processes died between a message and its record.
    died_between: usize,
}

impl Simulation {
    fn new(count: usize, zone: &str, seed: u64) -> Self {
        let ledger = MemoryLedger::default();
        let queue = Arc::new(SilentQueue::default());
        Self {
            jobs: jobs(count, zone),
            destinations: Destinations {
                queue: Arc::clone(&queue) as Arc<dyn Queue>,
                records: ScheduleRecords::of(&ledger),
                edges: Vec::new(),
                counts: ScheduleCounts::default(),
                is_shared: ledger.leases().is_some(),
            },
            queue,
            dice: Dice(0x9E37_79B9_7F4A_7C15 ^ seed),
            seen: BTreeMap::new(),
            died_between: 0,
        }
    }

    /// Lets a worker look at its schedules: at all of them, or at those that are due and some others. A look at any other does nothing.
    async fn look(&mut self, worker: &mut SimulatedWorker, now: Timestamp, at_all: bool) {
        let clock = now + worker.ahead;
        NOW.set(clock);
        for (tracked, next) in worker.schedules.iter_mut().zip(&mut worker.next) {
            let is_due = next.is_none_or(|next| next <= clock);
            if !is_due && !at_all && self.dice.below(16) > 0 {
                continue;
            }
            let death = match (is_due, self.dice.below(200)) {
                (true, 0) => Death::Before,
                (true, 1..3) => Death::Between,
                _ => Death::Never,
            };
            self.queue.kills(death);
            tracked.look(&self.destinations, simulated).await;
            self.queue.kills(Death::Never);
            let sent = std::mem::take(&mut *self.queue.sent.lock().unwrap());
            if death != Death::Never {
                self.died_between += usize::from(!sent.is_empty());
                *tracked = Tracked::new(tracked.job.clone());
            }
            let schedule = &tracked.job.schedule;
            *next = tracked
                .until
                .filter(|_| tracked.pending.is_empty())
                .and_then(|until| schedule.next_after(until))
                .map(|next| schedule.starts_at(next));
            for body in sent {
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                let id = body["id"].as_str().unwrap();
                let at: Timestamp = body["scheduled_at"].as_str().unwrap().parse().unwrap();
                assert_eq!(id, tracked.job.job_id(at));
                assert!(schedule.starts_at(at) <= clock, "{id} is early at {clock}");
                *self.seen.entry(id.to_owned()).or_default() += 1;
            }
        }
    }

    async fn run(&mut self, begin: Timestamp, end: Timestamp) {
        let mut workers: Vec<SimulatedWorker> =
            (0..3).map(|_| SimulatedWorker::new(&self.jobs)).collect();
        for worker in &mut workers {
            self.look(worker, begin, true).await;
        }
        let mut now = begin;
        while now < end {
            now += SignedDuration::from_mins(30) + self.dice.seconds_below(3600);
            for worker in &mut workers {
                worker.suffer(&self.jobs, now, &mut self.dice);
                if worker.asleep_until <= now {
                    self.look(worker, now, false).await;
                }
            }
        }
        // At last, one worker that is awake and has the right time.
        let mut last = SimulatedWorker::new(&self.jobs);
        for _ in 0..8 {
            self.look(&mut last, now, true).await;
        }
    }

    /// How many occurrences there were, each of which has one job.
    fn judge(&self, zone: &str, begin: Timestamp, end: Timestamp) -> usize {
        let mut expected = std::collections::BTreeSet::new();
        for job in &self.jobs {
            let schedule = &job.schedule;
            let mut after = begin;
            while let Some(next) = schedule.next_after(after) {
                if schedule.starts_at(next) > end {
                    break;
                }
                expected.insert(job.job_id(next));
                after = next;
            }
        }
        let count = expected.len();
        for id in &expected {
            assert!(self.seen.contains_key(id), "{zone}: {id} was lost");
        }
        let mut repeated = 0;
        for (id, times) in &self.seen {
            repeated += times - 1;
            if expected.contains(id) {
                continue;
            }
            // A clock that is ahead may have started it by its own time.
            let (name, at) = id.rsplit_once('.').unwrap();
            let at = parse_stamp(at).unwrap();
            let mut jobs = self.jobs.iter();
            let job = jobs.find(|job| job.schedule.name.as_str() == name).unwrap();
            assert!(job.schedule.is_occurrence(at), "{zone}: {id} is none");
            assert!(at <= end + SignedDuration::from_secs(2 * STEP), "{id}");
        }
        assert!(
            repeated <= self.died_between,
            "{zone}: {repeated} messages were sent again, and {} processes died before the record",
            self.died_between
        );
        count
    }
}

/// The whole of it is `SCHEDULES=50 DAYS=3652`: ten years.
#[tokio::test(start_paused = true)]
async fn every_occurrence_is_one_job_though_workers_die_pause_and_have_wrong_clocks() {
    let wanted = |name: &str, default: i64| {
        std::env::vars()
            .find(|(found, _)| found == name)
            .map_or(default, |(_, value)| value.parse().unwrap())
    };
    let (count, days) = (wanted("SCHEDULES", 20), wanted("DAYS", 40));
    let count = usize::try_from(count).unwrap();
    // Most clocks of the northern hemisphere are set in these days, and some of the southern.
    let begin: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let end = begin + SignedDuration::from_hours(24 * days);
    let (mut occurrences, mut died_between) = (0, 0);
    for (seed, zone) in (1..).zip(ZONES) {
        let mut simulation = Simulation::new(count, zone, seed);
        NOW.set(begin);
        simulation.run(begin, end).await;
        occurrences += simulation.judge(zone, begin, end);
        died_between += simulation.died_between;
    }
    let least = usize::try_from(days).unwrap() * count * ZONES.len() / 2;
    assert!(occurrences > least, "{occurrences}");
    assert!(died_between > occurrences / 500, "{died_between}");
    println!(
        "{occurrences} occurrences, each one job; {died_between} processes died between a message and its record"
    );
}
