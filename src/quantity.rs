//! Durations, sizes and rates as text: `"24h"`, `"10MB"`, `"14/s"`.
//!
//! Used by the job format and by the configuration, so that both accept the same forms.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Why a quantity could not be parsed; the message names the accepted forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a duration.
    #[error(
        "{0:?} is not a duration: write a whole number with a unit, such as \"90s\", \"15m\", \"24h\" or \"7d\""
    )]
    Span(String),
    /// Not a size.
    #[error("{0:?} is not a size: write a whole number with a unit, such as \"512KB\" or \"10MB\"")]
    Size(String),
    /// Not a rate.
    #[error(
        "{0:?} is not a rate: write a whole number above 0 for each second, minute or hour, such as \"14/s\", \"600/m\" or \"10/h\""
    )]
    Rate(String),
}

/// Units and their lengths, the longest first; the last is 1.
type Units<const N: usize> = [(&'static str, u64); N];

/// Reads `"24h"`; `None` if its unit is unknown or the product is too large.
fn read_in<const N: usize>(units: &Units<N>, text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let (_, length) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*length)
}

/// Writes a number in the longest unit of which it is a whole multiple.
fn write_in<const N: usize>(
    units: &Units<N>,
    number: u64,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let is_whole =
        |(_, length): &&(&str, u64)| *length == 1 || number != 0 && number.is_multiple_of(*length);
    let (unit, length) = units.iter().find(is_whole).unwrap_or(&("", 1));
    write!(f, "{}{unit}", number / length)
}

/// A length of time, in whole seconds: `"90s"`, `"15m"`, `"24h"`, `"7d"`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    seconds: u64,
}

impl Span {
    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self { seconds }
    }

    /// A span of whole minutes.
    pub const fn minutes(minutes: u64) -> Self {
        Self {
            seconds: minutes * 60,
        }
    }

    /// A span of whole hours.
    pub const fn hours(hours: u64) -> Self {
        Self {
            seconds: hours * 3600,
        }
    }

    /// A span of whole days of 24 hours.
    pub const fn days(days: u64) -> Self {
        Self {
            seconds: days * 86_400,
        }
    }

    /// The length in whole seconds.
    pub const fn as_secs(self) -> u64 {
        self.seconds
    }

    /// The length as the standard library's duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

const SPAN_UNITS: Units<4> = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in(&SPAN_UNITS, self.seconds, f)
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let seconds = read_in(&SPAN_UNITS, text);
        let seconds = seconds.ok_or_else(|| QuantityError::Span(text.to_owned()))?;
        Ok(Self { seconds })
    }
}

/// A number of bytes: `"512KB"`, `"10MB"`, `"2GB"` (powers of 1,000), `"64MiB"` (powers of 1,024), or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    bytes: u64,
}

const SIZE_UNITS: Units<7> = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl Size {
    /// A size of whole mebibytes.
    pub const fn mebibytes(mebibytes: u64) -> Self {
        Self {
            bytes: mebibytes << 20,
        }
    }

    /// A size of whole megabytes, of a million bytes each.
    pub const fn megabytes(megabytes: u64) -> Self {
        Self {
            bytes: megabytes * 1_000_000,
        }
    }

    /// The size in bytes.
    pub const fn as_bytes(self) -> u64 {
        self.bytes
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in(&SIZE_UNITS, self.bytes, f)
    }
}

impl FromStr for Size {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let bytes = read_in(&SIZE_UNITS, text);
        let bytes = bytes.ok_or_else(|| QuantityError::Size(text.to_owned()))?;
        Ok(Self { bytes })
    }
}

/// How often something may happen: `"5000/s"`, `"600/m"` or `"10/h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    every: RatePeriod,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RatePeriod {
    Second,
    Minute,
    Hour,
}

impl RatePeriod {
    const fn as_secs(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// `count` times a second; a count of 0 becomes 1, the slowest rate there is.
    pub const fn per_second(count: u32) -> Self {
        Self::new(count, RatePeriod::Second)
    }

    /// `count` times an hour; a count of 0 becomes 1.
    pub const fn per_hour(count: u32) -> Self {
        Self::new(count, RatePeriod::Hour)
    }

    const fn new(count: u32, every: RatePeriod) -> Self {
        let count = match NonZeroU32::new(count) {
            Some(count) => count,
            None => NonZeroU32::MIN,
        };
        Self { count, every }
    }

    /// How often it may happen within its period.
    pub const fn count(self) -> u32 {
        self.count.get()
    }

    /// The period.
    pub const fn period(self) -> Duration {
        Duration::from_secs(self.every.as_secs())
    }

    /// The interval between two events at this rate.
    pub fn interval(self) -> Duration {
        self.period() / self.count.get()
    }

    /// How many may pass at once: a tenth of a second's worth, and at least 1.
    pub fn burst(self) -> NonZeroU32 {
        let in_a_tenth = u64::from(self.count.get()) / (10 * self.every.as_secs());
        let in_a_tenth = u32::try_from(in_a_tenth).unwrap_or(u32::MAX);
        NonZeroU32::new(in_a_tenth).unwrap_or(NonZeroU32::MIN)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.every {
            RatePeriod::Second => "s",
            RatePeriod::Minute => "m",
            RatePeriod::Hour => "h",
        };
        write!(f, "{}/{period}", self.count)
    }
}

impl FromStr for Rate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let refuse = || QuantityError::Rate(text.to_owned());
        let (count, period) = text.split_once('/').ok_or_else(refuse)?;
        let every = match period {
            "s" => RatePeriod::Second,
            "m" => RatePeriod::Minute,
            "h" => RatePeriod::Hour,
            _ => return Err(refuse()),
        };
        // `parse` alone would take a sign.
        let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse().ok().filter(|_| is_number);
        Ok(Self {
            count: count.ok_or_else(refuse)?,
            every,
        })
    }
}

/// Splits `"24h"` into its whole number and its unit; signs, spaces and fractions are rejected.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    Some((number.parse().ok()?, unit))
}

/// Reads the number alone (`numbers`) or the text; one visitor serves the three types.
struct Quantity<T> {
    expecting: &'static str,
    number: fn(u64) -> Option<T>,
}

impl<T: FromStr<Err = QuantityError>> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.number)(number)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number)
            .ok()
            .and_then(self.number)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}

macro_rules! quantity_serde {
    ($type:ident, $expecting:literal, $number:expr, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Quantity { expecting: $expecting, number: $number })
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let number: fn(u64) -> Option<Self> = $number;
                let text = json_schema!({ "type": "string", "pattern": $pattern });
                match number(1) {
                    None => text,
                    Some(_) => json_schema!({ "anyOf": [text, { "type": "integer", "minimum": 0 }] }),
                }
            }
        }
    };
}

quantity_serde!(
    Span,
    "a duration such as \"24h\", or a whole number of seconds",
    |seconds| Some(Span { seconds }),
    "^[0-9]+[smhd]$"
);
quantity_serde!(
    Size,
    "a size such as \"10MB\", or a whole number of bytes",
    |bytes| Some(Size { bytes }),
    "^[0-9]+(B|KB|KiB|MB|MiB|GB|GiB)$"
);
quantity_serde!(
    Rate,
    "a rate such as \"14/s\", \"600/m\" or \"10/h\"",
    |_| None,
    "^[0-9]+/[smh]$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_alike() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.as_secs(), seconds);
        }
        assert_eq!(Span::hours(24).to_string(), "1d");
        assert_eq!(Span::seconds(90).to_string(), "90s");
        assert_eq!(Span::seconds(0).to_string(), "0s");
    }

    #[test]
    fn what_is_no_duration_says_what_would_be() {
        for text in [
            "",
            "h",
            "24",
            "-1h",
            "1.5h",
            "24 h",
            "24H",
            "1w",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(
                text.parse::<Span>().is_err(),
                "{text:?} was read as a duration"
            );
        }
        insta::assert_snapshot!("tomorrow".parse::<Span>().unwrap_err(), @r#""tomorrow" is not a duration: write a whole number with a unit, such as "90s", "15m", "24h" or "7d""#);
    }

    #[test]
    fn a_span_may_be_a_number_of_seconds_but_never_a_negative_one() {
        assert_eq!(
            serde_json::from_str::<Span>("90").unwrap(),
            Span::seconds(90)
        );
        assert!(serde_json::from_str::<Span>("-90").is_err());
        assert!(serde_json::from_str::<Span>("1.5").is_err());
    }

    #[test]
    fn sizes_and_rates_are_read_and_written_alike() {
        for text in ["10MB", "64MiB", "1GB", "3B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["14/s", "600/m", "10/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["0/s", "14", "14/d", "/s", "-1/s", "+1/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?} was read as a rate");
        }
    }
}
