//! "Stop before the next step that cannot be undone."
//!
//! Work is not cut off in the middle of a mail: that would leave a doubt where an orderly end leaves none. It
//! asks here before each such step and ends there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop, shared by whoever makes it and whoever heeds it.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    wanted: Arc<AtomicBool>,
    /// Whoever stops everything stops this too; never the other way round.
    above: Option<Arc<AtomicBool>>,
}

/// The work was asked to stop, and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was stopped before its next step and goes on when the message comes again")]
pub struct Stopped;

impl Stop {
    /// A stop for a part of the work: it heeds its own request and this one's.
    pub fn child(&self) -> Self {
        Self {
            wanted: Arc::default(),
            above: Some(Arc::clone(&self.wanted)),
        }
    }

    /// Asks the work to stop.
    pub fn ask(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Ends the work here if it was asked to stop.
    pub fn heed(&self) -> Result<(), Stopped> {
        let asked = std::iter::once(&self.wanted)
            .chain(&self.above)
            .any(|flag| flag.load(Ordering::Relaxed));
        if asked { Err(Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_stops_does_not_stop_the_others() {
        let all = Stop::default();
        let (one, other) = (all.child(), all.child());
        one.ask();
        assert_eq!(
            (one.heed(), other.heed(), all.heed()),
            (Err(Stopped), Ok(()), Ok(()))
        );
        all.ask();
        assert_eq!(other.heed(), Err(Stopped));
    }
}
