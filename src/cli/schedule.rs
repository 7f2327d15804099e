//! `handout schedule`: lists schedules, shows what comes next, and starts, rehearses or previews a job by hand.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use handout::assemble;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::ledger::schedules::ScheduleRecords;
use handout::schedule::{Schedule, ScheduleName, ScheduledJob};
use handout::text::chain;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::arguments::{JsonArgs, RehearsalArgs, instant};
use super::exit::CommandError;
use super::job::PreviewOutput;
use super::schemas::OutputSchema;
use super::terminal::complain;
use super::{ConfigArgs, say, say_json};

/// How many occurrences are shown at most.
const MAX_SHOWN: u16 = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Lists the schedules: the rule, the last occurrence whose job was started, by a worker or by `run`, and the next one.
    #[command(after_help = "Example:\n  handout schedule list")]
    List {
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Prints the next occurrences of a schedule, in its time zone and in UTC.
    #[command(after_help = "Example:\n  handout schedule next acme-daily -n 5")]
    Next {
        /// The schedule's name.
        name: ScheduleName,
        /// The number of occurrences.
        #[arg(
            short = 'n',
            long,
            alias = "count",
            default_value_t = 5,
            value_name = "N",
            value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_SHOWN))
        )]
        limit: u16,
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Puts the job of a schedule on the queue now, or that of an occurrence which was missed.
    #[command(after_help = "\
With --at, the job has the id of that occurrence: a job that was done already is not done again. Without it, the occurrence is now, and the job has an id of its own.

With --rehearse, each of its mails is sent to ADDRESS, and nothing is recorded for the occurrence. The job runs at once, as with `handout job run --rehearse`. While a daemon works with the same state_dir, the rehearsal is put on the queue instead, as with `handout job submit --rehearse`.

Examples:
  handout schedule run acme-daily
  handout schedule run acme-daily --at 2026-11-27T06:00:00Z
  handout schedule run acme-daily --rehearse me@acme.example")]
    Run(RunArgs),
    /// Writes what the job of a schedule would send, as `handout job preview` does. Its links open nothing, and nothing is delivered.
    #[command(after_help = "\
With --at, the job is that of an occurrence. Without it, the occurrence is now.

Examples:
  handout schedule preview acme-daily --out preview
  handout schedule preview acme-daily --at 2026-11-27T06:00:00Z")]
    Preview(PreviewOccurrenceArgs),
}

/// The occurrence of a schedule.
#[derive(Debug, Args)]
pub(crate) struct OccurrenceArgs {
    /// The schedule's name.
    name: ScheduleName,
    /// The instant of the occurrence, such as 2026-11-27T06:00:00Z, or a day (UTC).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    occurrence: OccurrenceArgs,
    #[command(flatten)]
    rehearsal: RehearsalArgs,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PreviewOccurrenceArgs {
    #[command(flatten)]
    occurrence: OccurrenceArgs,
    #[command(flatten)]
    output: PreviewOutput,
    #[command(flatten)]
    config: ConfigArgs,
}

/// The schedules, as `--json` prints them.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct SchedulesReport {
    schedules: Vec<ShownSchedule>,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ShownSchedule {
    name: String,
    /// The cron expression or the interval.
    rule: String,
    /// The same in words.
    words: String,
    time_zone: String,
    /// The last occurrence whose job was put on the queue, by a worker or by `schedule run`.
    #[schemars(with = "Option<String>")]
    last: Option<Timestamp>,
    #[schemars(with = "Option<String>")]
    next: Option<Timestamp>,
    /// When the job of the next occurrence starts.
    #[schemars(with = "Option<String>")]
    starts_at: Option<Timestamp>,
}

/// The next occurrences of a schedule, as `--json` prints them.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct NextReport {
    name: String,
    next: Vec<ShownOccurrence>,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ShownOccurrence {
    #[schemars(with = "String")]
    occurrence: Timestamp,
    /// The same instant in the schedule's time zone, with its offset (RFC 3339).
    local: String,
    /// When its job starts: later by `spread`.
    #[schemars(with = "String")]
    starts_at: Timestamp,
    /// The id of its job.
    job: String,
}

/// Runs the command.
pub(super) async fn schedule(
    command: ScheduleCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        ScheduleCommand::List { form, config } => {
            list(&config.load(environment)?, environment, form.json).await
        }
        ScheduleCommand::Next {
            name,
            limit,
            form,
            config,
        } => next(&config.load(environment)?, &name, limit, form.json),
        ScheduleCommand::Run(arguments) => {
            let config = arguments.config.load(environment)?;
            run(&config, environment, arguments).await
        }
        ScheduleCommand::Preview(PreviewOccurrenceArgs {
            occurrence,
            output,
            config,
        }) => {
            let config = config.load(environment)?;
            let (job, at) = occurrence.find(&config)?;
            let body = job.body(at);
            Box::pin(super::job::show_body(&body, &config, environment, &output)).await
        }
    }
}

async fn list(config: &Config, environment: &Environment, json: bool) -> anyhow::Result<ExitCode> {
    let jobs = config.scheduled_jobs()?;
    if jobs.is_empty() && !json {
        say("The configuration has no [[schedule]].")?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = clock::system();
    let opened = assemble::open_ledger(config, environment, clock::system).await?;
    let records = ScheduleRecords::of(&*opened.ledger);
    let mut rows = Vec::new();
    for job in &jobs {
        let schedule = &job.schedule;
        let last = records.last_run(&schedule.name).await?;
        let next = schedule.next_after(schedule.looked_until(now));
        rows.push((job, last, next));
    }
    opened.close().await;
    if json {
        let schedules = rows.iter().map(|(job, last, next)| ShownSchedule {
            name: job.schedule.name.to_string(),
            rule: job.schedule.timing.to_string(),
            words: job.schedule.timing.words(),
            time_zone: job.schedule.zone_name.clone(),
            last: *last,
            next: *next,
            starts_at: next.map(|next| job.schedule.starts_at(next)),
        });
        say_json(&SchedulesReport {
            schedules: schedules.collect(),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    for (job, last, next) in rows {
        let schedule = &job.schedule;
        let instant = |at: Option<Timestamp>, none: &str| {
            at.map_or_else(|| none.to_owned(), |at| at.to_string())
        };
        say(format_args!(
            "{}\t{} ({})\tlast started {}\tnext {}",
            schedule.name,
            schedule.timing,
            schedule.zone_name,
            instant(last, "never"),
            instant(next, "never"),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn next(config: &Config, name: &ScheduleName, count: u16, json: bool) -> anyhow::Result<ExitCode> {
    let job = named(config, name)?;
    let schedule = &job.schedule;
    let mut after = schedule.looked_until(clock::system());
    let mut all = Vec::new();
    for _ in 0..count {
        let Some(next) = schedule.next_after(after) else {
            break;
        };
        all.push(next);
        after = next;
    }
    if json {
        let next = all.iter().map(|occurrence| ShownOccurrence {
            occurrence: *occurrence,
            local: rfc_3339(*occurrence, &schedule.zone),
            starts_at: schedule.starts_at(*occurrence),
            job: job.job_id(*occurrence),
        });
        say_json(&NextReport {
            name: name.to_string(),
            next: next.collect(),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    for occurrence in all {
        let starts_at = schedule.starts_at(occurrence);
        let later = match starts_at == occurrence {
            true => String::new(),
            false => format!("\tstarts {}", in_both(starts_at, &schedule.zone)),
        };
        say(format_args!(
            "{}\t{}{later}",
            in_both(occurrence, &schedule.zone),
            job.job_id(occurrence)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(
    config: &Config,
    environment: &Environment,
    arguments: RunArgs,
) -> anyhow::Result<ExitCode> {
    let (job, at) = arguments.occurrence.find(config)?;
    if let Some(rehearsal) = arguments.rehearsal.rehearsal() {
        let (body, form) = (job.body(at), arguments.form);
        let now = Some(rehearsal.clone());
        let ran = Box::pin(super::job::run(&body, config, environment, now, form)).await;
        return match ran {
            Err(error) if super::job::is_locked(&error) => {
                let putting =
                    super::job::submit_rehearsal(&body, &rehearsal, config, environment, form);
                Box::pin(putting).await
            }
            ran => ran,
        };
    }
    let queue = assemble::open_queue(config, environment, clock::system).await?;
    let id = job.job_id(at);
    let name = arguments.occurrence.name.as_str();
    let message = queue.submit_in_group(&job.body(at), name, &id).await?;
    // The job is on the queue: a list that does not show it is no failure.
    if let Err(error) = Box::pin(note_start(config, environment, &job, at)).await {
        complain(format_args!(
            "`handout schedule list` will not show this run: {}",
            chain(&*error)
        ));
    }
    super::job::tell_submitted(&[id], &message, &[], arguments.form.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Records that a command has put the job of an occurrence on the queue.
async fn note_start(
    config: &Config,
    environment: &Environment,
    job: &ScheduledJob,
    at: Timestamp,
) -> anyhow::Result<()> {
    let opened = assemble::open_ledger(config, environment, clock::system).await?;
    let records = ScheduleRecords::of(&*opened.ledger);
    let noted = records.started_by_hand(job, at, clock::system()).await;
    opened.close().await;
    Ok(noted?)
}

impl OccurrenceArgs {
    /// The schedule with its job, and the instant: that of `--at`, which must be an occurrence, or now.
    fn find(&self, config: &Config) -> anyhow::Result<(ScheduledJob, Timestamp)> {
        let job = named(config, &self.name)?;
        let at = self.at.unwrap_or_else(clock::system);
        let at = Timestamp::from_second(at.as_second()).context("--at is out of range")?;
        if self.at.is_some() && !job.schedule.is_occurrence(at) {
            return Err(CommandError::Usage(no_occurrence(&job.schedule, at)).into());
        }
        Ok((job, at))
    }
}

/// That an instant is no occurrence of a schedule, with the occurrences around it.
fn no_occurrence(schedule: &Schedule, at: Timestamp) -> String {
    let Schedule { name, zone, .. } = schedule;
    let shown = |at: Timestamp| format!("{at} ({})", local(at, zone));
    let before = schedule.last_before(at).map(shown);
    let after = schedule.next_after(at).map(shown);
    let before = before.map(|before| format!("the occurrence before it is {before}"));
    let after = after.map(|after| format!("the one after it is {after}"));
    let around: Vec<String> = before.into_iter().chain(after).collect();
    format!(
        "--at {at} is no occurrence of the schedule {name}: {}; write one of these, or leave --at out for a job about now",
        around.join(", ")
    )
}

/// The schedule of a name.
fn named(config: &Config, name: &ScheduleName) -> anyhow::Result<ScheduledJob> {
    let jobs = config.scheduled_jobs()?;
    let names: Vec<_> = jobs
        .iter()
        .map(|job| job.schedule.name.to_string())
        .collect();
    let found = jobs.into_iter().find(|job| job.schedule.name == *name);
    let unknown = || match names.is_empty() {
        true => format!("unknown schedule \"{name}\": the configuration has no [[schedule]]"),
        false => format!(
            "unknown schedule \"{name}\"; configured: {}",
            names.join(", ")
        ),
    };
    found.ok_or_else(|| CommandError::Found(unknown()).into())
}

/// An instant as a clock on the wall shows it, with the weekday and the offset.
pub(super) fn local(at: Timestamp, zone: &TimeZone) -> String {
    let local = at.to_zoned_datetime(zone.clone());
    local.strftime("%a %Y-%m-%d %H:%M%:z").to_string()
}

/// An instant in the time zone of a schedule, and in UTC.
fn in_both(at: Timestamp, zone: &TimeZone) -> String {
    let local = at.to_zoned_datetime(zone.clone());
    format!("{}\t{at}", local.strftime("%a %Y-%m-%d %H:%M:%S%:z"))
}

/// An instant in a time zone with its offset, for programs.
fn rfc_3339(at: Timestamp, zone: &TimeZone) -> String {
    at.display_with_offset(zone.to_offset(at)).to_string()
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![
        OutputSchema::of::<SchedulesReport>("schedule-list", "handout schedule list"),
        OutputSchema::of::<NextReport>("schedule-next", "handout schedule next"),
    ]
}
