//! What the intake counts, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bounds::MAX_INTAKE_CONNECTIONS;
use crate::serving::ConnectionRoom;

/// What is counted: each request once, and ignored events by the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IntakeCount {
    Accepted,
    Ignored,
    Answered,
    Refused,
    Unauthorized,
    Limited,
    Unavailable,
    WithoutRule,
    FolderMarker,
    TestEvent,
}

const COUNTS: usize = IntakeCount::TestEvent as usize + 1;

/// The counters of the intake, and how many connections it has.
#[derive(Debug, Clone)]
pub struct IntakeCounts {
    counts: Arc<[AtomicU64; COUNTS]>,
    pub(super) room: ConnectionRoom,
}

/// A metric with its help text and its samples by label.
pub type IntakeFamily = (&'static str, &'static str, Vec<(&'static str, u64)>);

impl Default for IntakeCounts {
    fn default() -> Self {
        Self {
            counts: Arc::default(),
            room: ConnectionRoom::new(MAX_INTAKE_CONNECTIONS),
        }
    }
}

impl IntakeCounts {
    pub(super) fn count(&self, what: IntakeCount) {
        self.add(what, 1);
    }

    pub(super) fn add(&self, what: IntakeCount, count: usize) {
        self.counts[what as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self, what: IntakeCount) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// How many connections there are.
    pub fn connections(&self) -> u64 {
        self.room.open() as u64
    }

    /// The counters as families of Prometheus.
    pub fn families(&self) -> Vec<IntakeFamily> {
        use IntakeCount as Count;
        let samples = |labels: &[(&'static str, IntakeCount)]| {
            let samples = labels.iter();
            samples
                .map(|(label, what)| (*label, self.get(*what)))
                .collect()
        };
        vec![
            (
                "handout_intake_requests_total",
                "Requests to the intake, by what became of them.",
                samples(&[
                    ("{result=\"accepted\"}", Count::Accepted),
                    ("{result=\"ignored\"}", Count::Ignored),
                    ("{result=\"answered\"}", Count::Answered),
                    ("{result=\"refused\"}", Count::Refused),
                    ("{result=\"unauthorized\"}", Count::Unauthorized),
                    ("{result=\"limited\"}", Count::Limited),
                    ("{result=\"unavailable\"}", Count::Unavailable),
                ]),
            ),
            (
                "handout_intake_ignored_events_total",
                "Events that the intake ignored, by the reason.",
                samples(&[
                    ("{reason=\"no_rule\"}", Count::WithoutRule),
                    ("{reason=\"folder_marker\"}", Count::FolderMarker),
                    ("{reason=\"test\"}", Count::TestEvent),
                ]),
            ),
        ]
    }
}
