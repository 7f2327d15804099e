//! The range and the conditions of a GET or HEAD, as HTTP defines them.
//!
//! A header that cannot be parsed is ignored, and the whole object is sent: RFC 9110 requires it of `Range` (section 14.2) and of
//! dates (13.1.3, 13.1.4). s3s would reject such a request.

use hyper::HeaderMap;
use hyper::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use s3s::dto::{Timestamp, TimestampFormat};

use crate::bucket::Stat;

/// What the conditions of a request say about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConditionVerdict {
    Send,
    NotModified,
    Failed,
}

/// Evaluates the conditions in the order of RFC 9110, section 13.2.2.
pub(crate) fn evaluate(headers: &HeaderMap, stat: &Stat) -> ConditionVerdict {
    let names_it = |header, comparison| is_named(headers, header, &stat.etag, comparison);
    let modified = Timestamp::from(stat.modified);
    let is_after = |header| Some(modified > date(headers, header)?);
    let holds = names_it(IF_MATCH, Comparison::Strong)
        .or_else(|| is_after(IF_UNMODIFIED_SINCE).map(|is_after| !is_after));
    if holds == Some(false) {
        return ConditionVerdict::Failed;
    }
    let is_known = names_it(IF_NONE_MATCH, Comparison::Weak)
        .or_else(|| is_after(IF_MODIFIED_SINCE).map(|is_after| !is_after));
    match is_known {
        Some(true) => ConditionVerdict::NotModified,
        Some(false) | None => ConditionVerdict::Send,
    }
}

/// Section 8.8.3.2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a header names this version, or any; `None` without the header. Clients of S3 leave out the quotes.
fn is_named(
    headers: &HeaderMap,
    header: HeaderName,
    etag: &str,
    comparison: Comparison,
) -> Option<bool> {
    let values = headers.get_all(header).iter();
    let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
    if values.is_empty() {
        return None;
    }
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    let mut names = texts.flat_map(|text| text.split(',')).map(str::trim);
    Some(names.any(|name| {
        let (name, is_weak) = match name.strip_prefix("W/") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let quoted = name.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        name == "*"
            || quoted.unwrap_or(name) == etag && (comparison == Comparison::Weak || !is_weak)
    }))
}

fn date(headers: &HeaderMap, header: HeaderName) -> Option<Timestamp> {
    let text = headers.get(header)?.to_str().ok()?;
    Timestamp::parse(TimestampFormat::HttpDate, text).ok()
}

/// The part of an object that a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole { length: u64 },
    Range { start: u64, end: u64 },
}

/// The range has no byte of the object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotSatisfiable;

impl Extent {
    pub(crate) fn of(headers: &HeaderMap, stat: &Stat) -> Result<Self, NotSatisfiable> {
        let whole = Self::Whole { length: stat.size };
        let mut ranges = headers.get_all(RANGE).iter();
        let range = match (ranges.next(), ranges.next()) {
            (Some(range), None) if may_be_ranged(headers, stat) => range.to_str().ok(),
            _ => None,
        };
        match range.and_then(ByteRange::parse) {
            None => Ok(whole),
            Some(ByteRange::Suffix(0)) => Err(NotSatisfiable),
            // As S3 does.
            Some(ByteRange::Suffix(_)) if stat.size == 0 => Ok(whole),
            Some(ByteRange::Suffix(length)) => Ok(Self::Range {
                start: stat.size.saturating_sub(length),
                end: stat.size,
            }),
            Some(ByteRange::From(start, _)) if start >= stat.size => Err(NotSatisfiable),
            Some(ByteRange::From(start, last)) => Ok(Self::Range {
                start,
                end: last.map_or(stat.size, |last| stat.size.min(last.saturating_add(1))),
            }),
        }
    }

    /// The first and only part of an object that was uploaded whole.
    pub(crate) fn first_part(stat: &Stat) -> Self {
        match stat.size {
            0 => Self::Whole { length: 0 },
            end => Self::Range { start: 0, end },
        }
    }

    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Whole { length } => *length,
            Self::Range { start, end } => end - start,
        }
    }

    /// The value of `Content-Range`; its presence makes the response a 206.
    pub(crate) fn header(&self, stat: &Stat) -> Option<String> {
        match self {
            Self::Whole { .. } => None,
            Self::Range { start, end } => Some(format!("bytes {start}-{}/{}", end - 1, stat.size)),
        }
    }
}

/// A single range of bytes.
#[derive(Debug, PartialEq, Eq)]
enum ByteRange {
    From(u64, Option<u64>),
    Suffix(u64),
}

impl ByteRange {
    /// `None` for another unit, for several ranges, which S3 ignores, and for what is no range.
    fn parse(text: &str) -> Option<Self> {
        let (unit, range) = text.trim().split_once('=')?;
        let (first, last) = range.split_once('-')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        match (first, last) {
            ("", last) => Some(Self::Suffix(position(last)?)),
            (first, "") => Some(Self::From(position(first)?, None)),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }
}

/// A number of digits alone; one that is too large is larger than each object.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Whether the object is still the one that a ranged download began with. <https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5>
fn may_be_ranged(headers: &HeaderMap, stat: &Stat) -> bool {
    let is_named = is_named(headers, IF_RANGE, &stat.etag, Comparison::Strong);
    is_named
        .is_none_or(|is_named| is_named || date(headers, IF_RANGE) == Some(stat.modified.into()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    /// 2026-11-23T12:00:00Z.
    const MODIFIED: u64 = 1_795_435_200;

    fn stat(size: u64) -> Stat {
        Stat {
            size,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED),
            etag: "1-2-3".to_owned(),
        }
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    fn range(text: &str, size: u64) -> String {
        match Extent::of(&headers(&[(RANGE, text)]), &stat(size)) {
            Ok(extent) => extent.header(&stat(size)).unwrap_or("whole".to_owned()),
            Err(NotSatisfiable) => "416".to_owned(),
        }
    }

    #[test]
    fn a_range_that_cannot_be_parsed_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=abc",
            "bytes=a-z",
            "bytes= -1",
            "bytes=--1",
            "bytes=0 -1",
            "bytes=0--1",
            "bytes=10-5",
            "bytes=+1-2",
            "bytes=100-x",
            "bytes=0-0,1-2",
            "foo=0-1",
            "0-1",
            "bytes:0-1",
        ] {
            assert_eq!(range(text, 100), "whole", "{text}");
        }
        for (text, expected) in [
            ("bytes=00-01", "bytes 0-1/100"),
            ("Bytes=0-0", "bytes 0-0/100"),
            ("bytes=-1", "bytes 99-99/100"),
            ("bytes=-101", "bytes 0-99/100"),
            ("bytes=50-", "bytes 50-99/100"),
            ("bytes=0-99999999999999999999999", "bytes 0-99/100"),
            ("bytes=-0", "416"),
            ("bytes=100-", "416"),
            ("bytes=99999999999999999999999-", "416"),
        ] {
            assert_eq!(range(text, 100), expected, "{text}");
        }
        for (text, expected) in [
            ("bytes=-1", "whole"),
            ("bytes=-0", "416"),
            ("bytes=0-", "416"),
        ] {
            assert_eq!(range(text, 0), expected, "{text}");
        }
    }

    #[test]
    fn a_range_is_for_the_version_that_if_range_names() {
        for (name, expected) in [
            ("\"1-2-3\"", true),
            ("1-2-3", true),
            ("W/\"1-2-3\"", false),
            ("\"other\"", false),
            ("Mon, 23 Nov 2026 12:00:00 GMT", true),
            ("Mon, 23 Nov 2026 12:00:01 GMT", false),
            ("soon", false),
        ] {
            let headers = headers(&[(RANGE, "bytes=1-"), (IF_RANGE, name)]);
            let extent = Extent::of(&headers, &stat(9)).unwrap();
            assert_eq!(extent.length() == 8, expected, "{name}");
        }
    }

    #[test]
    fn a_condition_is_one_with_and_without_quotes() {
        use ConditionVerdict::{Failed, NotModified, Send};
        let (before, then) = (
            "Mon, 23 Nov 2026 11:59:59 GMT",
            "Mon, 23 Nov 2026 12:00:00 GMT",
        );
        for (pairs, expected) in [
            (vec![(IF_MATCH, "\"1-2-3\"")], Send),
            (vec![(IF_MATCH, "1-2-3")], Send),
            (vec![(IF_MATCH, "*")], Send),
            (vec![(IF_MATCH, "\"a\", \"1-2-3\"")], Send),
            (vec![(IF_MATCH, "abc")], Failed),
            (vec![(IF_MATCH, "a_b")], Failed),
            (vec![(IF_MATCH, "\"1-2-3")], Failed),
            (vec![(IF_MATCH, "W/\"1-2-3\"")], Failed),
            (
                vec![(IF_MATCH, "1-2-3"), (IF_UNMODIFIED_SINCE, before)],
                Send,
            ),
            (vec![(IF_UNMODIFIED_SINCE, before)], Failed),
            (vec![(IF_UNMODIFIED_SINCE, then)], Send),
            (vec![(IF_UNMODIFIED_SINCE, "never")], Send),
            (vec![(IF_NONE_MATCH, "1-2-3")], NotModified),
            (vec![(IF_NONE_MATCH, "W/\"1-2-3\"")], NotModified),
            (vec![(IF_NONE_MATCH, "*")], NotModified),
            (vec![(IF_NONE_MATCH, "a,1-2-3")], NotModified),
            (
                vec![(IF_NONE_MATCH, "abc"), (IF_MODIFIED_SINCE, then)],
                Send,
            ),
            (vec![(IF_MODIFIED_SINCE, then)], NotModified),
            (vec![(IF_MODIFIED_SINCE, before)], Send),
            (vec![(IF_MODIFIED_SINCE, "yesterday")], Send),
            (vec![(IF_MATCH, "x"), (IF_NONE_MATCH, "1-2-3")], Failed),
        ] {
            assert_eq!(evaluate(&headers(&pairs), &stat(9)), expected, "{pairs:?}");
        }
    }
}
