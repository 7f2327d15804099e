//! Checks the schedules: what they mean, what comes next, and whether the clocks change there.

use std::io;

use handout::assemble::Services;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::job::Job;
use handout::preview::check_job;
use handout::schedule::ScheduledJob;
use handout::text::chain;
use jiff::tz::AmbiguousOffset;

use super::report::{CheckReport, bounded};
use crate::cli::job::{Previewing, run_of};
use crate::cli::schedule::local;

/// How many occurrences are shown.
const SHOWN: usize = 3;

/// How many occurrences are searched for one in a gap or a fold: a year of days.
const SEARCHED: usize = 366;

/// Says for each schedule what its rule means and when it is due next, and checks the next job as `handout job submit` does.
pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    if config.schedule.is_empty() {
        return Ok(());
    }
    let jobs = match config.scheduled_jobs() {
        Ok(jobs) => jobs,
        Err(error) => return report.tell("schedule", Err(error.into())),
    };
    for job in &jobs {
        let what = format!("schedule {}", job.schedule.name);
        report.tell(&what, Ok(next_in_words(job)))?;
        if let Some(change) = next_change(job) {
            report.warn(&what, change)?;
        }
    }
    let previewing = match bounded(Previewing::open(config, environment)).await {
        Ok(Ok(previewing)) => previewing,
        Ok(Err(error)) => return report.tell("schedule jobs", Err(error.into())),
        Err(error) => return report.tell("schedule jobs", Err(error)),
    };
    for job in &jobs {
        let what = format!("schedule {} job", job.schedule.name);
        match bounded(judge(job, &previewing.services)).await {
            Ok(Ok(())) => report.tell(what, Ok("the next job can be done".to_owned()))?,
            // Its objects may come later.
            Ok(Err(reason)) => report.warn(
                what,
                format!("the next job could not be done now: {reason}"),
            )?,
            Err(error) => report.tell(what, Err(error))?,
        }
    }
    previewing.close().await;
    Ok(())
}

/// The rule in words, and the next occurrences in its zone and in UTC.
fn next_in_words(job: &ScheduledJob) -> String {
    let schedule = &job.schedule;
    let mut after = schedule.looked_until(clock::system());
    let mut next = Vec::new();
    while let Some(occurrence) = schedule.next_after(after).filter(|_| next.len() < SHOWN) {
        let local = local(occurrence, &schedule.zone);
        next.push(format!("{local} ({})", schedule.starts_at(occurrence)));
        after = occurrence;
    }
    format!(
        "{} In {}; next: {}",
        schedule.timing.words(),
        schedule.zone_name,
        next.join(", ")
    )
}

/// The next occurrence that a change of the clocks moves or repeats.
fn next_change(job: &ScheduledJob) -> Option<String> {
    let schedule = &job.schedule;
    let mut after = schedule.looked_until(clock::system());
    let zone = &schedule.zone;
    for _ in 0..SEARCHED {
        let occurrence = schedule.next_after(after)?;
        let time = occurrence.to_zoned_datetime(zone.clone()).datetime();
        let shown = local(occurrence, zone);
        if matches!(
            zone.to_ambiguous_timestamp(time).offset(),
            AmbiguousOffset::Fold { .. }
        ) {
            return Some(format!(
                "at {shown} the clocks are set back: fixed times are due once, intervals twice"
            ));
        }
        // The first instant after a gap: the second before it shows a time that is more than a second earlier.
        let before = occurrence
            .checked_sub(jiff::SignedDuration::from_secs(1))
            .ok()?;
        let earlier = before.to_zoned_datetime(zone.clone()).datetime();
        let step = time.duration_since(earlier);
        if step > jiff::SignedDuration::from_secs(1) {
            return Some(format!(
                "before {shown} the clocks are set forward: fixed times in the gap are due then, intervals are skipped"
            ));
        }
        after = occurrence;
    }
    None
}

/// Whether the job of the next occurrence can be done, as far as a preview can tell.
async fn judge(job: &ScheduledJob, services: &Services) -> Result<(), String> {
    let next = job.schedule.next_after(clock::system());
    let next = next.ok_or_else(|| "the schedule has no occurrence".to_owned())?;
    let job = Job::parse(&job.body(next)).map_err(|error| chain(&error))?;
    let run = run_of(job);
    let checked = check_job(&run, services);
    checked.await.map(drop).map_err(|error| chain(&error))
}
