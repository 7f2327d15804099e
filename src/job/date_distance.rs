//! How far a date in a phrase is moved: `-1d`, `+2w`, `-1m`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::{Span, ToSpan};

/// The most digits of a distance: ten thousand days are 27 years.
const MAX_DIGITS: usize = 4;

/// A distance in days, weeks or months, forwards or backwards. A month before the 31 March is the last of February.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DateDistance {
    count: i32,
    unit: DistanceUnit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DistanceUnit {
    Days,
    Weeks,
    Months,
}

/// The text is no distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoDistance;

impl DateDistance {
    /// The date so far from another; `None` if there is no such date.
    pub(super) fn from(self, date: DateTime) -> Option<DateTime> {
        date.checked_add(self.span()).ok()
    }

    fn span(self) -> Span {
        match self.unit {
            DistanceUnit::Days => self.count.days(),
            DistanceUnit::Weeks => self.count.weeks(),
            DistanceUnit::Months => self.count.months(),
        }
    }
}

impl FromStr for DateDistance {
    type Err = NoDistance;

    fn from_str(text: &str) -> Result<Self, NoDistance> {
        let (sign, rest) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => return Err(NoDistance),
        };
        let digits = rest.trim_end_matches(|c: char| !c.is_ascii_digit());
        let is_count = (1..=MAX_DIGITS).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        let unit = match &rest[digits.len()..] {
            "d" => DistanceUnit::Days,
            "w" => DistanceUnit::Weeks,
            "m" => DistanceUnit::Months,
            _ => return Err(NoDistance),
        };
        let count: i32 = digits.parse().map_err(|_| NoDistance)?;
        match is_count {
            true => Ok(Self {
                count: sign * count,
                unit,
            }),
            false => Err(NoDistance),
        }
    }
}

impl fmt::Display for DateDistance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            DistanceUnit::Days => 'd',
            DistanceUnit::Weeks => 'w',
            DistanceUnit::Months => 'm',
        };
        write!(f, "{:+}{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_a_sign_a_count_and_a_unit() {
        for text in ["-1d", "+2w", "-12m", "+0d", "-9999d"] {
            let distance: DateDistance = text.parse().unwrap();
            assert_eq!(distance.to_string(), text);
        }
        for text in [
            "", "-", "1d", "-d", "-1", "-1y", "-1 d", "--1d", "-99999d", "-1dd", "-١d", "-1.5d",
            "-1D",
        ] {
            assert_eq!(text.parse::<DateDistance>(), Err(NoDistance), "{text}");
        }
    }

    #[test]
    fn the_end_of_a_month_stays_in_its_month() {
        let moved = |date: &str, distance: &str| {
            let date: DateTime = date.parse().unwrap();
            let distance: DateDistance = distance.parse().unwrap();
            distance.from(date).map(|date| date.date().to_string())
        };
        for (date, distance, expected) in [
            ("2026-03-31T00:00:00", "-1m", "2026-02-28"),
            ("2028-02-29T12:00:00", "-12m", "2027-02-28"),
            ("2026-01-01T00:00:00", "-1d", "2025-12-31"),
            ("2026-12-28T00:00:00", "+1w", "2027-01-04"),
        ] {
            assert_eq!(
                moved(date, distance).as_deref(),
                Some(expected),
                "{date} {distance}"
            );
        }
        assert_eq!(moved("9999-12-31T00:00:00", "+1d"), None);
    }
}
