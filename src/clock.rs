//! The system clock and the time zone database; no other module reads them.
//!
//! Time is an argument everywhere else: the worker reads the clock once for a job and passes `now` on, so
//! that a rule about time can be tested with any instant.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A source of the present instant; [`system`] in the program, a fixed value in a test.
pub type Clock = fn() -> Timestamp;

/// Reads the machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this file is the place the lint points to"
)]
pub fn system() -> Timestamp {
    Timestamp::now()
}

/// Finds a time zone by its IANA name in the bundled database alone.
///
/// Schedules use it: the database of the system may differ between machines, and two workers would then compute two instants, and two
/// jobs, for one occurrence.
pub fn bundled_time_zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Finds a time zone by its IANA name: in the system's database, since it may be newer, or else in the bundled one.
///
/// Small containers have no `/usr/share/zoneinfo`, or only a few zones in it.
#[expect(
    clippy::disallowed_methods,
    reason = "this file is the place the lint points to"
)]
pub fn time_zone(name: &str) -> Option<TimeZone> {
    let of_system = TimeZone::get(name);
    of_system
        .or_else(|_| TimeZoneDatabase::bundled().get(name))
        .ok()
}
