//! Counts what `handout feedback` takes in beside the daemon, so that metrics and alerts know of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use super::FeedbackCounts;
use crate::assemble::Services;
use crate::clock::Clock;
use crate::ledger::taken_reports::{TakenReports, TakenRun};
use crate::repeated::RepeatedLine;
use crate::text::chain;

/// How often the ledger is asked for new runs of the command.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How far back the first look goes: the command goes on while no daemon runs.
const FIRST_LOOK: SignedDuration = SignedDuration::from_hours(24);

/// How far back the others go: clocks differ, and a record may be late.
const LATER_LOOKS: SignedDuration = SignedDuration::from_hours(1);

/// How often old records are forgotten.
const FORGETS_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Counts what runs of the command took in. Of several daemons with one ledger, one counts a run.
#[derive(Debug)]
pub struct CommandReports {
    taken: TakenReports,
    counts: FeedbackCounts,
    unread: RepeatedLine,
    clock: Clock,
}

impl CommandReports {
    /// Counts into `counts`; `None` where no recipient is suppressed, so that the command takes nothing.
    pub fn of(services: &Services, counts: FeedbackCounts) -> Option<Self> {
        services.people.as_ref()?;
        Some(Self {
            taken: TakenReports::of(&*services.recording.ledger),
            counts,
            unread: RepeatedLine::default(),
            clock: services.clock,
        })
    }

    /// Looks and counts while it is polled.
    pub async fn run(self) {
        let mut back = FIRST_LOOK;
        let mut forgotten: Option<Instant> = None;
        loop {
            let now = (self.clock)();
            let since = now.checked_sub(back).unwrap_or(Timestamp::MIN);
            let looked = self.taken.claim_since(since, |run| self.count(run)).await;
            match looked {
                Ok(()) => back = LATER_LOOKS,
                Err(error) => {
                    if let Some(not_logged) = self.unread.due() {
                        tracing::warn!(
                            error = chain(&error),
                            not_logged,
                            "could not count what handout feedback took in; it is counted later"
                        );
                    }
                }
            }
            if forgotten.is_none_or(|at| at.elapsed() >= FORGETS_EVERY)
                && self.taken.forget_old(now).await.is_ok()
            {
                forgotten = Some(Instant::now());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn count(&self, run: TakenRun) {
        for (is_recorded, words) in [(true, run.recorded), (false, run.ignored)] {
            for (word, count) in words {
                self.counts.add(is_recorded, word, count);
            }
        }
    }
}
