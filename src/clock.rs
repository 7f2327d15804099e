//! The one place that asks what time it is.
//!
//! Time is an argument everywhere else: the worker reads the clock once for a job and passes `now` on, so
//! that a rule about time can be tested by saying a time.

use jiff::Timestamp;

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
