//! Schedules: at which instants a job of the configuration is due, and the job of each.
//!
//! Pure: the rules take instants as arguments. An *occurrence* is an instant in UTC, computed from a rule, a time zone and the time
//! zone database that is compiled in, so that workers on different machines compute the same. `scheduler.rs` starts the jobs.
//!
//! What happens when the clocks change:
//!
//! | rule | a local time that does not exist | a local time that exists twice |
//! |---|---|---|
//! | `cron` with fixed times (`0 7 * * *`, `30 2,14 * * MON`) | the first instant after the gap | once, the first time |
//! | `cron` with intervals (`*/15 * * * *`, `0 1-5 * * *`) | skipped | both times |
//! | `every` | skipped | both times |

mod timing;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::job::{Job, ParseJobError};
use crate::keyring::sha256_hex;
use crate::quantity::Span;

pub use timing::{CronRule, Timing, TimingError};

/// The most occurrences that are caught up at once; the others follow at the next look.
pub const MAX_CATCH_UP: usize = 24;

/// How late an occurrence may be noticed without being one that was missed: the loop looks every thirty seconds.
const LATE: Span = Span::seconds(60);

/// The longest name, in bytes: a job id has the name and an instant.
const MAX_NAME_BYTES: usize = 64;

/// The format of an instant in job ids and records, such as `20261127T060000Z`. It sorts in the order of time.
const STAMP: &str = "%Y%m%dT%H%M%SZ";

/// The name of a schedule: lower-case letters, digits and hyphens. It is part of job ids and of records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleName(String);

/// A text is no name of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a schedule: write 1 to {MAX_NAME_BYTES} lower-case letters, digits and hyphens, such as \"acme-daily\""
)]
pub struct ScheduleNameError(String);

impl ScheduleName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ScheduleName {
    type Err = ScheduleNameError;

    fn from_str(text: &str) -> Result<Self, ScheduleNameError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = (1..=MAX_NAME_BYTES).contains(&text.len())
            && text.bytes().all(|byte| is_plain(byte) || byte == b'-')
            && text.bytes().next().is_some_and(is_plain);
        match is_name {
            true => Ok(Self(text.to_owned())),
            false => Err(ScheduleNameError(
                crate::text::printable(text, MAX_NAME_BYTES).into_owned(),
            )),
        }
    }
}

impl TryFrom<String> for ScheduleName {
    type Error = ScheduleNameError;

    fn try_from(text: String) -> Result<Self, ScheduleNameError> {
        text.parse()
    }
}

impl From<ScheduleName> for String {
    fn from(name: ScheduleName) -> Self {
        name.0
    }
}

/// Which occurrences are started that were missed while no worker ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// None.
    None,
    /// The latest one.
    #[default]
    Latest,
    /// All, the oldest first.
    All,
}

/// When a job is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its name.
    pub name: ScheduleName,
    /// The rule.
    pub timing: Timing,
    /// The time zone of the rule.
    pub zone: TimeZone,
    /// The time zone's IANA name.
    pub zone_name: String,
    /// Which missed occurrences are started.
    pub catch_up: CatchUp,
    /// How old a missed occurrence may be to be started.
    pub within: Span,
    /// How long after each occurrence its job starts: the same for all occurrences of a schedule.
    pub delay: Span,
}

/// The occurrences that are due.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DueOccurrences {
    /// Those to start, the oldest first.
    pub start: Vec<Timestamp>,
    /// The first of those that are too old, or that `catch_up` leaves out.
    pub left_out: Option<Timestamp>,
    /// The last one that was looked at: the next search begins after it.
    pub until: Option<Timestamp>,
}

impl Schedule {
    /// The fixed delay of a schedule below `spread`: a part of the hash of its name, so that schedules of the same instant start one
    /// after another, and each at the same time every day.
    pub fn delay_of(name: &ScheduleName, spread: Span) -> Span {
        let hash = sha256_hex(name.as_str().as_bytes());
        let number = u64::from_str_radix(&hash[..12], 16).expect("hexadecimal digits");
        Span::seconds(match spread.as_secs() {
            0 => 0,
            seconds => number % seconds,
        })
    }

    /// The first occurrence after an instant; `None` if there is none.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.timing.next_after(after, &self.zone)
    }

    /// The last occurrence before an instant; `None` if there is none within thirty years.
    pub fn last_before(&self, before: Timestamp) -> Option<Timestamp> {
        // The longest look alone finds rare occurrences; the shorter ones pass over few of frequent ones.
        const LOOKS: [Span; 5] = [
            Span::hours(1),
            Span::days(1),
            Span::days(32),
            Span::days(366),
            Span::days(30 * 366),
        ];
        LOOKS.into_iter().find_map(|look| {
            let mut last = None;
            let mut after = moved(before, look, -1);
            while let Some(next) = self.next_after(after).filter(|next| *next < before) {
                last = Some(next);
                after = next;
            }
            last
        })
    }

    /// Whether an instant is an occurrence.
    pub fn is_occurrence(&self, at: Timestamp) -> bool {
        self.next_after(moved(at, Span::seconds(1), -1)) == Some(at)
    }

    /// When the job of an occurrence starts.
    pub fn starts_at(&self, occurrence: Timestamp) -> Timestamp {
        moved(occurrence, self.delay, 1)
    }

    /// The instant of which all occurrences up to it have started by `now`.
    pub fn looked_until(&self, now: Timestamp) -> Timestamp {
        moved(now, self.delay, -1)
    }

    /// The earliest occurrence that is not too old to be started.
    pub fn oldest_started(&self, now: Timestamp) -> Timestamp {
        moved(self.looked_until(now), self.within, -1)
    }

    /// The occurrences after `after` whose jobs are to start by `now`.
    pub fn due(&self, after: Timestamp, now: Timestamp) -> DueOccurrences {
        let until = self.looked_until(now);
        let mut due = DueOccurrences::default();
        let Some(first) = self.next_after(after).filter(|first| *first <= until) else {
            return due;
        };
        // An instant before the horizon, since the search begins after it.
        let horizon = self.oldest_started(now);
        let mut next = Some(first);
        if first < horizon {
            due.left_out = Some(first);
            due.until = Some(horizon);
            next = self.next_after(moved(horizon, Span::seconds(1), -1));
        }
        let fresh = moved(until, LATE, -1);
        while let Some(occurrence) = next.filter(|next| *next <= until) {
            if self.catch_up == CatchUp::All && due.start.len() == MAX_CATCH_UP {
                break;
            }
            due.until = Some(occurrence);
            let is_missed = self.catch_up == CatchUp::None && occurrence < fresh;
            if self.catch_up != CatchUp::All && !due.start.is_empty() {
                // The latest alone is started.
                due.left_out = due.left_out.or(due.start.pop());
            }
            match is_missed {
                true => due.left_out = due.left_out.or(Some(occurrence)),
                false => due.start.push(occurrence),
            }
            next = self.next_after(occurrence);
        }
        due
    }

    /// The rule and the time zone, for comparison: a schedule with another rule does not start occurrences of the past.
    pub fn fingerprint(&self) -> String {
        sha256_hex(format!("{}\n{}", self.timing, self.zone_name).as_bytes())
    }
}

/// An instant, moved by a span.
fn moved(at: Timestamp, by: Span, direction: i64) -> Timestamp {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX / 2);
    let by = jiff::SignedDuration::from_secs(direction * seconds);
    at.saturating_add(by).unwrap_or(at)
}

/// An occurrence as it stands in job ids and records: `20261127T060000Z`.
pub fn stamp(occurrence: Timestamp) -> String {
    occurrence.strftime(STAMP).to_string()
}

/// The occurrence of a stamp.
pub fn parse_stamp(text: &str) -> Option<Timestamp> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let at = TimeZone::UTC.to_timestamp(civil).ok()?;
    (stamp(at) == text).then_some(at)
}

/// Why the file of a schedule's job cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScheduledJobError {
    /// Not a JSON object.
    #[error("is not a JSON object: write a job without \"id\" and \"scheduled_at\"")]
    NotAnObject,
    /// A field that the schedule sets itself.
    #[error("has the field {0:?}, which the schedule sets itself: remove it")]
    OwnField(&'static str),
    /// No valid job.
    #[error(transparent)]
    Job(#[from] ParseJobError),
}

/// A schedule and its job.
#[derive(Debug, Clone)]
pub struct ScheduledJob {
    /// When it is due.
    pub schedule: Arc<Schedule>,
    template: Arc<Map<String, Value>>,
}

impl ScheduledJob {
    /// Reads the text of the job: a job without an id and without `scheduled_at`.
    ///
    /// # Errors
    ///
    /// The text is no such job.
    pub fn parse(schedule: Schedule, text: &str) -> Result<Self, ScheduledJobError> {
        let template = match serde_json::from_str(text) {
            Ok(Value::Object(template)) => template,
            Ok(_) => return Err(ScheduledJobError::NotAnObject),
            // The error of a job names the line.
            Err(source) => return Err(ParseJobError::NotJson { source }.into()),
        };
        for field in ["id", "scheduled_at"] {
            if template.contains_key(field) {
                return Err(ScheduledJobError::OwnField(field));
            }
        }
        let scheduled = Self {
            schedule: Arc::new(schedule),
            template: Arc::new(template),
        };
        Job::parse(&scheduled.body(Timestamp::UNIX_EPOCH))?;
        Ok(scheduled)
    }

    /// The id of the job of an occurrence.
    pub fn job_id(&self, occurrence: Timestamp) -> String {
        format!("{}.{}", self.schedule.name, stamp(occurrence))
    }

    /// The job of an occurrence, as JSON. Its dates are in the time zone of the schedule, unless the job names one: at half past
    /// midnight in Berlin it is still yesterday in UTC.
    pub fn body(&self, occurrence: Timestamp) -> String {
        let mut job = (*self.template).clone();
        job.insert("id".to_owned(), self.job_id(occurrence).into());
        job.insert("scheduled_at".to_owned(), occurrence.to_string().into());
        job.entry("time_zone")
            .or_insert_with(|| self.schedule.zone_name.clone().into());
        Value::Object(job).to_string()
    }
}

#[cfg(test)]
mod tests;
