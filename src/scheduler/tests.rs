//! Several workers over simulated years: every occurrence is one job, and none is early. Processes are killed, workers pause, and clocks are late.

use std::collections::BTreeMap;

use super::*;
use crate::clock::bundled_time_zone;
use crate::ledger::Ledger;
use crate::ledger::memory::MemoryLedger;
use crate::quantity::Span;
use crate::queue::memory::MemoryQueue;
use crate::schedule::{Schedule, Timing};

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

const RULES: [&str; 5] = [
    "0 7 * * MON-FRI",
    "30 2 * * *",
    "0 0 1 * *",
    "15 0,12 * * *",
    "every 6h",
];

fn jobs(count: usize) -> Vec<ScheduledJob> {
    let text = r#"{"v":1,"from":{"connection":"local","bucket":"reports","prefix":"x/"},"email":{"to":["ann@acme.example"]}}"#;
    (0..count)
        .flat_map(|number| {
            ZONES.iter().enumerate().map(move |(at, zone)| {
                let rule = RULES[number % RULES.len()];
                let timing = match rule.strip_prefix("every ") {
                    Some(span) => Timing::every(span.parse().unwrap()),
                    None => Timing::cron(rule),
                };
                let name = format!("s{number}-{at}").parse().unwrap();
                let schedule = Schedule {
                    delay: Schedule::delay_of(&name, Span::minutes(5)),
                    name,
                    timing: timing.unwrap(),
                    zone: bundled_time_zone(zone).unwrap(),
                    zone_name: (*zone).to_owned(),
                    catch_up: CatchUp::All,
                    within: Span::days(3),
                };
                ScheduledJob::parse(schedule, text).unwrap()
            })
        })
        .collect()
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
}

/// `SCHEDULES=50 DAYS=3650` is the whole of it, which takes very long in a debug build.
#[tokio::test(start_paused = true)]
async fn every_occurrence_is_one_job_though_workers_die_pause_and_have_wrong_clocks() {
    let wanted = |name: &str, default: i64| {
        std::env::vars()
            .find(|(found, _)| found == name)
            .map_or(default, |(_, value)| value.parse().unwrap())
    };
    let (count, days) = (wanted("SCHEDULES", 2), wanted("DAYS", 120));
    let jobs = jobs(usize::try_from(count).unwrap());
    let ledger = MemoryLedger::default();
    let queue = Arc::new(MemoryQueue::default());
    let destinations = Destinations {
        queue: Arc::clone(&queue) as Arc<dyn Queue>,
        records: ScheduleRecords::of(&ledger),
        edges: Vec::new(),
        counts: ScheduleCounts::default(),
        is_shared: ledger.leases().is_some(),
    };
    let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let end = begin + jiff::SignedDuration::from_hours(24 * days);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let fresh = || -> Vec<Tracked> { jobs.iter().cloned().map(Tracked::new).collect() };
    let mut workers: Vec<Vec<Tracked>> = (0..3).map(|_| fresh()).collect();
    NOW.set(begin);
    for worker in &mut workers {
        for tracked in worker.iter_mut() {
            tracked.look(&destinations, simulated).await;
        }
    }
    // The first instant, by true time, at which a message of an id was on the queue.
    let mut seen: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut now = begin;
    while now < end {
        now += jiff::SignedDuration::from_secs(30 * 60 + i64::try_from(dice.below(3600)).unwrap());
        for worker in &mut workers {
            match dice.below(200) {
                // A pause: this worker sees nothing for a while.
                0..10 => continue,
                // A kill: what it knew is gone.
                10..13 => *worker = fresh(),
                _ => {}
            }
            // A clock that is up to an hour behind. One that is ahead starts jobs early by the true time, and never by its own.
            let behind = match dice.below(50) {
                0 => i64::try_from(dice.below(3600)).unwrap(),
                _ => 0,
            };
            NOW.set(now - jiff::SignedDuration::from_secs(behind));
            for tracked in worker.iter_mut() {
                tracked.look(&destinations, simulated).await;
            }
        }
        loop {
            let messages = queue
                .receive(10, Duration::from_secs(3600), Duration::ZERO)
                .await
                .unwrap();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
                let id = body["id"].as_str().unwrap().to_owned();
                let at: Timestamp = body["scheduled_at"].as_str().unwrap().parse().unwrap();
                assert!(at <= now, "{id} is early at {now}");
                seen.entry(id).or_insert(now);
                queue.delete(&message.receipt).await.unwrap();
            }
        }
    }
    let mut expected = 0;
    for job in &jobs {
        let mut after = begin;
        // What is due in the last hours may not have been looked at.
        let last = end - jiff::SignedDuration::from_hours(3);
        while let Some(next) = job.schedule.next_after(after).filter(|next| *next < last) {
            let id = job.job_id(next);
            assert!(seen.contains_key(&id), "{id} was lost");
            expected += 1;
            after = next;
        }
    }
    let known: std::collections::BTreeSet<_> = jobs
        .iter()
        .map(|job| job.schedule.name.to_string())
        .collect();
    for id in seen.keys() {
        let (name, at) = id.rsplit_once('.').unwrap();
        let job = jobs
            .iter()
            .find(|job| job.schedule.name.as_str() == name)
            .unwrap();
        let at = crate::schedule::parse_stamp(at).unwrap();
        let before = at - jiff::SignedDuration::from_secs(1);
        assert_eq!(
            job.schedule.next_after(before),
            Some(at),
            "{id} is no occurrence"
        );
    }
    assert!(expected > 1000 && known.len() == jobs.len(), "{expected}");
    assert!(seen.len() >= expected && seen.len() < expected + jobs.len() * 4);
}
