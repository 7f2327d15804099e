//! The one place that asks what time it is, and in which time zone.
//!
//! Time is an argument everywhere else: the worker reads the clock once for a job and passes `now` on, so
//! that a rule about time can be tested by saying a time.

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

/// Finds a time zone by its IANA name: the system's, since it may be newer, or else that of this program.
///
/// Small containers have no `/usr/share/zoneinfo`, or one with a few zones in it.
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
