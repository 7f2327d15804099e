//! The rule of a schedule: a cron expression, or an interval.

use std::cmp::Ordering;
use std::fmt;

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{CivilDateTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan, ZonedDateTime};

use crate::quantity::Span;

/// How many seconds a day has without a change of the clocks.
const DAY: u64 = 24 * 60 * 60;

/// How many fixed times a day an expression may list.
const MAX_FIXED_TIMES: usize = 288;

/// How many days are searched for the next occurrence where a whole day does not exist (Samoa, 30 December 2011).
const MAX_SKIPPED_DAYS: i64 = 3;

/// How many minutes are passed over at most where the clock shows a time again: a change of the clocks is three hours at most.
const MAX_REPEATED_MINUTES: usize = 200;

/// Why a rule is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// No cron expression.
    #[error(
        "is not a cron expression of five fields (minute, hour, day of the month, month, day of the week), such as \"0 7 * * MON-FRI\": {0}"
    )]
    Cron(String),
    /// A cron expression without an occurrence.
    #[error("has no occurrence: no year has such a day")]
    Never,
    /// An interval that is no part of a day.
    #[error(
        "is {0}: an interval begins anew at midnight, so write one of which a day is a whole multiple, from \"1m\" to \"24h\", or use `cron`"
    )]
    Interval(Span),
}

/// The rule of a schedule.
#[derive(Debug, Clone)]
pub enum Timing {
    /// A cron expression.
    Cron(CronRule),
    /// An interval from midnight in the time zone.
    Every(Span),
}

/// A cron expression of five fields.
#[derive(Debug, Clone)]
pub struct CronRule {
    text: String,
    /// One pattern; several where the expression lists times of the day, each of which is fixed.
    patterns: Vec<Cron>,
}

impl Timing {
    /// Parses a cron expression.
    ///
    /// # Errors
    ///
    /// The text is no expression of five fields, or it has no occurrence.
    pub fn cron(text: &str) -> Result<Self, TimingError> {
        let invalid = |reason: String| TimingError::Cron(reason);
        // Six fields would mean seconds first: `0 7 * * MON-FRI *` would be due at seven minutes past each hour.
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let parse = |text: &str| {
            parser
                .parse(text)
                .map_err(|error| invalid(error.to_string().trim_end_matches('.').to_owned()))
        };
        let whole = parse(text)?;
        let patterns = match fixed_times(text) {
            None => vec![whole],
            Some(texts) => texts
                .iter()
                .map(|text| parse(text))
                .collect::<Result<_, _>>()?,
        };
        let rule = CronRule {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            patterns,
        };
        // Leap days are at most eight years apart; a day that never comes is found by the library's own limit.
        match rule.next_after(Timestamp::UNIX_EPOCH, &TimeZone::UTC) {
            Some(_) => Ok(Self::Cron(rule)),
            None => Err(TimingError::Never),
        }
    }

    /// An interval from midnight.
    ///
    /// # Errors
    ///
    /// A day is no whole multiple of it, or it is below a minute.
    pub fn every(interval: Span) -> Result<Self, TimingError> {
        let seconds = interval.as_secs();
        match seconds >= 60 && DAY.is_multiple_of(seconds) {
            true => Ok(Self::Every(interval)),
            false => Err(TimingError::Interval(interval)),
        }
    }

    /// The first occurrence after an instant; `None` if there is none.
    pub(super) fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Cron(rule) => rule.next_after(after, zone),
            Self::Every(interval) => next_interval(*interval, after, zone),
        }
    }

    /// The rule in words.
    pub fn words(&self) -> String {
        match self {
            Self::Every(interval) => format!("Every {interval}, from midnight."),
            Self::Cron(rule) => match rule.patterns.as_slice() {
                [pattern] => pattern.describe(),
                patterns => {
                    let all: Vec<_> = patterns.iter().map(Cron::describe).collect();
                    all.join(" ")
                }
            },
        }
    }
}

/// As the configuration writes it.
impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(rule) => f.write_str(&rule.text),
            Self::Every(interval) => write!(f, "every {interval}"),
        }
    }
}

impl CronRule {
    fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let of_each = self
            .patterns
            .iter()
            .filter_map(|pattern| next_of(pattern, after, zone));
        of_each.min()
    }
}

/// The next occurrence of one pattern.
fn next_of(pattern: &Cron, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut from = Local(after.to_zoned_datetime(zone.clone()));
    let mut is_inclusive = false;
    let mut skipped_days = 0;
    for _ in 0..=MAX_REPEATED_MINUTES {
        from = match pattern.find_next_occurrence(&from, is_inclusive) {
            Ok(next) if next.0.timestamp() > after => return Some(next.0.timestamp()),
            // In a fold the library may repeat an instant that is not later.
            Ok(_) => Local(from.0.checked_add(1.minute()).ok()?),
            // A day that does not exist ends the search of the library: it goes on with the first instant of the day after.
            Err(CronError::TimeSearchLimitExceeded | CronError::InvalidTime) => {
                skipped_days += 1;
                if skipped_days > MAX_SKIPPED_DAYS {
                    return None;
                }
                Local(from.0.tomorrow().ok()?.start_of_day().ok()?)
            }
            Err(_) => return None,
        };
        is_inclusive = true;
    }
    None
}

/// The expressions for each time of the day, if the first two fields list plain numbers and more than one time.
///
/// The library takes a list for an interval, which is skipped where the clocks go forward. A person who lists times means each of them.
fn fixed_times(text: &str) -> Option<Vec<String>> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days @ ..] = fields.as_slice() else {
        return None;
    };
    let numbers = |field: &str| -> Option<Vec<u8>> {
        let all = field.split(',').map(|number| number.parse().ok());
        all.collect()
    };
    let (minutes, hours) = (numbers(minutes)?, numbers(hours)?);
    let count = minutes.len().saturating_mul(hours.len());
    let days = days.join(" ");
    let times = hours.iter().flat_map(|hour| {
        let days = &days;
        minutes
            .iter()
            .map(move |minute| format!("{minute} {hour} {days}"))
    });
    (2..=MAX_FIXED_TIMES)
        .contains(&count)
        .then(|| times.collect())
}

/// The next multiple of an interval since midnight, by the clock on the wall.
fn next_interval(interval: Span, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let today = zone.to_datetime(after).date();
    let seconds = i64::try_from(interval.as_secs()).ok()?;
    // A day that does not exist has no instants, so a later one is tried.
    for distance in -1..=MAX_SKIPPED_DAYS {
        let midnight = today
            .checked_add(distance.days())
            .ok()?
            .to_datetime(Time::midnight());
        let times = (0..DAY / interval.as_secs()).map_while(|number| {
            let past = SignedDuration::from_secs(seconds * i64::try_from(number).ok()?);
            midnight.checked_add(past).ok()
        });
        let next = times
            .flat_map(|time| instants(time, zone))
            .filter(|instant| *instant > after)
            .min();
        // What the day before has after `after` may be later than what today has, where the clock goes back at midnight.
        match next {
            Some(next) if distance >= 0 => return Some(next),
            Some(_) | None => {}
        }
    }
    None
}

/// The instants at which a clock on the wall shows a time: none in a gap, two in a fold.
fn instants(time: DateTime, zone: &TimeZone) -> Vec<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(time);
    let found = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => vec![ambiguous.unambiguous()],
        AmbiguousOffset::Gap { .. } => vec![],
        AmbiguousOffset::Fold { .. } => {
            vec![ambiguous.earlier(), ambiguous.later()]
        }
    };
    found.into_iter().flatten().collect()
}

/// A time of a time zone, as the library searches it. Its own implementation is for jiff 0.2.
#[derive(Debug, Clone)]
struct Local(ZonedDateTime);

impl CronDateTime for Local {
    fn to_civil(&self) -> CivilDateTime {
        let time = self.0.datetime();
        let part = |part: i8| u32::from(part.unsigned_abs());
        let civil = CivilDateTime::from_ymd_hms(
            i32::from(time.year()),
            part(time.month()),
            part(time.day()),
            part(time.hour()),
            part(time.minute()),
            part(time.second()),
        );
        civil.expect("a date of jiff is a date")
    }

    fn civil_weekday(&self) -> Weekday {
        let days = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(days.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |part: u32| i8::try_from(part).map_err(|_| CronError::InvalidTime);
        let time = DateTime::new(
            i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?,
            part(civil.month())?,
            part(civil.day())?,
            part(civil.hour())?,
            part(civil.minute())?,
            part(civil.second())?,
            0,
        );
        let time = time.map_err(|_| CronError::InvalidDate)?;
        let zone = self.0.time_zone();
        let local = |instant: Timestamp| Self(instant.to_zoned_datetime(zone.clone()));
        Ok(match *instants(time, zone).as_slice() {
            [] => Resolution::Gap,
            [only] => Resolution::Single(local(only)),
            [earlier, later, ..] => Resolution::Ambiguous(local(earlier), local(later)),
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let moved = self.0.checked_add(SignedDuration::from_secs(seconds));
        moved.ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}
