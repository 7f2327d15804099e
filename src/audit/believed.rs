//! Whether the clock may be believed when it says that segments are old enough to be removed.
//!
//! A clock that is set ahead once, as by a wrong time server or an empty battery, makes every segment old. Each run keeps the instant at
//! which it ran. After a leap from there nothing is removed for a day, in which the clock can be set right.

use std::io::{self, Read};

use directory::is_full;
use jiff::{SignedDuration, Timestamp};

use super::directory::LogDirectory;
use crate::quantity::Span;

/// The file with the instant of the last run, and that of a leap.
const FILE: &str = ".retention.clock";

/// The largest size of the file.
const MAX_BYTES: u64 = 200;

/// How long nothing is removed after a leap.
const HELD_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The least time without a run that counts as a leap.
const MIN_LEAP: SignedDuration = SignedDuration::from_hours(48);

/// The instants of earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunInstants {
    last: Timestamp,
    /// When a leap was seen, of which less than a day has passed.
    leap: Option<Timestamp>,
}

/// Judges the clock, which says `now`, and keeps the instant unless `dry`. A pause of more than a tenth of `keep`, and of more than two
/// days, is a leap. The inner error says until when nothing is removed.
pub(super) fn judge_clock(
    directory: &LogDirectory,
    now: Timestamp,
    keep: Span,
    dry: bool,
) -> io::Result<Result<(), String>> {
    let keep = SignedDuration::try_from(keep.as_duration()).unwrap_or(SignedDuration::MAX);
    let most = MIN_LEAP.max(keep / 10);
    let before = read(directory)?;
    let leap = before.and_then(|before| leap_of(before, now, most));
    if !dry {
        let leap = leap.map_or_else(String::new, |leap| format!("{leap}\n"));
        match directory.replace(FILE, format!("{now}\n{leap}").as_bytes()) {
            // Removals make room.
            Err(error) if !is_full(&error) => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(leap.map_or(Ok(()), |leap| {
        let until = leap.saturating_add(HELD_FOR).unwrap_or(leap);
        Err(format!(
            "the clock is far ahead of the last run of the retention: nothing is removed before {until}; set the clock if it is wrong"
        ))
    }))
}

/// The leap that holds removals now.
fn leap_of(before: RunInstants, now: Timestamp, most: SignedDuration) -> Option<Timestamp> {
    let RunInstants { last, leap } = before;
    match leap {
        // The clock was set back.
        _ if now < last => None,
        Some(leap) => Some(leap).filter(|leap| now.duration_since(*leap) < HELD_FOR),
        None => (now.duration_since(last) > most).then_some(now),
    }
}

/// What earlier runs kept. A file of another content is like none.
fn read(directory: &LogDirectory) -> io::Result<Option<RunInstants>> {
    let file = match directory.read(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut instants = text.lines().map(|line| line.parse().ok());
    Ok(instants.next().flatten().map(|last| RunInstants {
        last,
        leap: instants.next().flatten(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_leap_nothing_is_removed_for_a_day_and_a_clock_that_is_set_right_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = LogDirectory::make(&folder.path().into()).unwrap();
        let start: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
        let judged = |hours: i64, dry| {
            let now = start + SignedDuration::from_hours(hours);
            let judged = judge_clock(&directory, now, Span::days(30), dry).unwrap();
            judged.is_ok()
        };
        assert!(judged(0, false), "a first run has nothing to compare with");
        assert!(judged(71, false), "three days are a tenth of the time");
        assert!(!judged(12_000, true), "a dry run keeps nothing");
        assert!(!judged(12_000, false));
        assert!(!judged(12_023, false));
        assert!(judged(72, false), "the clock was set right");
        assert!(!judged(12_000, false));
        assert!(judged(12_024, false), "a day later it is believed");
        assert!(judged(12_025, false));
        std::fs::write(folder.path().join(FILE), b"\xff nonsense").unwrap();
        assert!(judged(0, false));
    }
}
