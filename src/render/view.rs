//! The values that templates of mails and pages share.
//!
//! A view is serialised for the engine. Templates are checked against its sample when they are loaded: an unknown name is an
//! error then, instead of an empty place in a mail.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::strings::{Direction, Language};
use crate::links::Unlinkable;
use crate::plan::Bound;
use crate::text::is_bidi_control;

/// The language of a document.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct LanguageView<'a> {
    pub(super) tag: &'a str,
    pub(super) direction: Direction,
    /// The sides of a line at which the language begins and ends: many mail programs know only left and right.
    start: &'static str,
    end: &'static str,
}

impl<'a> LanguageView<'a> {
    pub(super) fn of(language: &'a Language) -> Self {
        let direction = language.direction();
        let (start, end) = match direction {
            Direction::Ltr => ("left", "right"),
            Direction::Rtl => ("right", "left"),
        };
        Self {
            tag: language.tag(),
            direction,
            start,
            end,
        }
    }
}

/// An instant, machine-readable and in local time.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct InstantView {
    /// RFC 3339, for `<time datetime>`.
    pub(super) iso: String,
    /// The same in the time zone `zone`; the helpers format it.
    pub(super) local: DateTime,
    /// The zone as people write it behind a time: `CET`, or the distance from UTC where the zone has no letters.
    pub(super) zone: String,
}

impl InstantView {
    pub(super) fn new(instant: Timestamp, zone: &TimeZone) -> Self {
        let there = zone.to_offset_info(instant);
        let letters =
            Some(there.abbreviation()).filter(|name| name.starts_with(char::is_alphabetic));
        let name = letters.map_or_else(|| format!("UTC{}", there.offset()), ToOwned::to_owned);
        Self {
            iso: instant.to_string(),
            local: zone.to_datetime(instant),
            zone: name,
        }
    }
}

/// A file that has no link.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Missed {
    pub(super) name: String,
    /// The string of the reason.
    pub(super) reason: &'static str,
}

/// The word for a reason, in `templates/strings/`.
pub(super) const fn reason(reason: Unlinkable) -> &'static str {
    match reason {
        Unlinkable::Archived => "reason_archived",
        Unlinkable::RestoreEnds => "reason_restore_ends",
        Unlinkable::Expires => "reason_expires",
        Unlinkable::Folder => "reason_folder",
        Unlinkable::Active => "reason_active",
        Unlinkable::DotSegments => "reason_dot_segments",
        Unlinkable::ControlCharacters => "reason_control_characters",
        Unlinkable::CustomerKey => "reason_customer_key",
        Unlinkable::Forbidden => "reason_forbidden",
        Unlinkable::Missing => "reason_missing",
    }
}

/// Why links end sooner than requested, as a key of the strings; `None` if they do not.
pub(super) const fn sooner(bound: Bound) -> Option<&'static str> {
    match bound {
        Bound::Asked => None,
        Bound::Credentials => Some("sooner_credentials"),
        Bound::Lifecycle => Some("sooner_lifecycle"),
        Bound::Policy | Bound::S3 | Bound::Cloudfront | Bound::Portal => Some("sooner_policy"),
    }
}

/// Makes a name displayable: characters that end a line or reorder text become a visible mark.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return name.into();
    }
    let is_hidden =
        |c: char| c.is_control() || is_bidi_control(c) || matches!(c, '\u{2028}' | '\u{2029}');
    name.chars()
        .map(|c| {
            if is_hidden(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// Whether a text is of printable ASCII alone, as most names are.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The last folder of a prefix, with its slash: the common part of a job's keys, which is not displayed.
pub(super) fn base(prefix: &str) -> &str {
    &prefix[..prefix.rfind('/').map_or(0, |slash| slash + 1)]
}

/// The part of a key that differs among the objects of a job, after their [`base`].
pub(super) fn below<'k>(key: &'k str, base: &str) -> &'k str {
    key.strip_prefix(base).unwrap_or(key)
}

/// The folder of a path, without its last slash.
pub(super) fn folder(path: &str) -> &str {
    memchr::memrchr(b'/', path.as_bytes()).map_or("", |slash| &path[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_written_as_behind_a_clock_time() {
        let zone = |name: &str, instant: &str| {
            let zone = crate::clock::time_zone(name).unwrap();
            InstantView::new(instant.parse().unwrap(), &zone).zone
        };
        let (winter, summer) = ("2026-11-30T17:40:00Z", "2026-07-30T17:40:00Z");
        for (name, instant, written) in [
            ("Europe/Berlin", winter, "CET"),
            ("Europe/Berlin", summer, "CEST"),
            ("America/New_York", winter, "EST"),
            ("Asia/Tokyo", winter, "JST"),
            ("UTC", winter, "UTC"),
            ("America/Sao_Paulo", winter, "UTC-03"),
            ("Asia/Kathmandu", winter, "UTC+05:45"),
        ] {
            assert_eq!(zone(name, instant), written, "{name}");
        }
        let fixed = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            InstantView::new(Timestamp::UNIX_EPOCH, &fixed).zone,
            "UTC+02"
        );
    }
}
