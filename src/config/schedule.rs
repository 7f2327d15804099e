//! `[[schedule]]`: the jobs that the workers themselves start.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Config;
use crate::clock::bundled_time_zone;
use crate::config_error::ConfigError;
use crate::quantity::Span;
use crate::schedule::{CatchUp, Schedule, ScheduleName, Timing};

/// The longest `within`: a month. Records of occurrences in a bucket may expire after three.
const MAX_WITHIN: Span = Span::days(31);

/// The longest `spread`. Occurrences of a schedule start in their order.
const MAX_SPREAD: Span = Span::hours(24);

/// `[[schedule]]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The name, which job ids begin with.
    pub name: ScheduleName,
    /// When the job is due, as a cron expression of five fields.
    pub cron: Option<String>,
    /// When the job is due, as an interval from midnight.
    pub every: Option<Span>,
    /// The time zone of both; `mail.time_zone` if absent.
    pub time_zone: Option<String>,
    /// The file with the job, without `id` and `scheduled_at`.
    pub job_file: PathBuf,
    /// Which occurrences are started that were missed while no worker ran.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// How old a missed occurrence may be to be started.
    #[serde(default = "default_within")]
    pub within: Span,
    /// The job starts at a fixed time below this after each occurrence.
    #[serde(default)]
    pub spread: Option<Span>,
}

const fn default_within() -> Span {
    Span::hours(12)
}

impl Config {
    /// The schedules.
    ///
    /// # Errors
    ///
    /// A schedule is not valid, or two have one name.
    pub fn schedules(&self) -> Result<Vec<Schedule>, ConfigError> {
        let mut all: Vec<Schedule> = Vec::new();
        for (index, wanted) in self.schedule.iter().enumerate() {
            let schedule = self.schedule_of(index, wanted)?;
            if let Some(first) = all.iter().position(|other| other.name == schedule.name) {
                let reason = format!(
                    "is {:?}, and so is schedule[{first}].name: give each schedule a name of its own",
                    schedule.name.as_str()
                );
                return Err(ConfigError::value(
                    format!("schedule[{index}].name"),
                    reason,
                ));
            }
            all.push(schedule);
        }
        Ok(all)
    }

    fn schedule_of(&self, index: usize, wanted: &ScheduleConfig) -> Result<Schedule, ConfigError> {
        let key = |field: &str| format!("schedule[{index}].{field}");
        let timing = match (&wanted.cron, wanted.every) {
            (Some(text), None) => Timing::cron(text)
                .map_err(|error| ConfigError::value(key("cron"), error.to_string()))?,
            (None, Some(interval)) => Timing::every(interval)
                .map_err(|error| ConfigError::value(key("every"), error.to_string()))?,
            (Some(_), Some(_)) => {
                let reason = "stands beside `cron`: a schedule has one of the two";
                return Err(ConfigError::value(key("every"), reason));
            }
            (None, None) => {
                let reason = "is missing: write `cron = \"0 7 * * MON-FRI\"` or `every = \"6h\"`";
                return Err(ConfigError::value(key("cron"), reason));
            }
        };
        let zone_name = wanted.time_zone.as_ref().unwrap_or(&self.mail.time_zone);
        let zone = bundled_time_zone(zone_name).ok_or_else(|| {
            let reason =
                format!("is {zone_name:?}, which is not an IANA name, such as Europe/Berlin");
            ConfigError::value(key("time_zone"), reason)
        })?;
        let spread = wanted.spread.unwrap_or(Span::seconds(0));
        for (field, value, most) in [
            ("within", wanted.within, MAX_WITHIN),
            ("spread", spread, MAX_SPREAD),
        ] {
            if value > most {
                let reason = format!("is {value}: it may be at most {most}");
                return Err(ConfigError::value(key(field), reason));
            }
        }
        Ok(Schedule {
            delay: Schedule::delay_of(&wanted.name, spread),
            name: wanted.name.clone(),
            timing,
            zone,
            zone_name: zone_name.clone(),
            catch_up: wanted.catch_up,
            within: wanted.within,
        })
    }
}
