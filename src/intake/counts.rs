//! What the intake counts, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bounds::MAX_INTAKE_CONNECTIONS;
use crate::progress::CounterFamily;
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
    pub fn families(&self) -> Vec<CounterFamily> {
        use IntakeCount as Count;
        let family = |name, help, label, samples: &[(&'static str, IntakeCount)]| {
            CounterFamily::counted([name, help, label], samples, |count| self.get(count))
        };
        vec![
            family(
                "handout_intake_requests_total",
                "Requests to the intake, by what became of them.",
                "result",
                &[
                    ("accepted", Count::Accepted),
                    ("ignored", Count::Ignored),
                    ("answered", Count::Answered),
                    ("refused", Count::Refused),
                    ("unauthorized", Count::Unauthorized),
                    ("limited", Count::Limited),
                    ("unavailable", Count::Unavailable),
                ],
            ),
            family(
                "handout_intake_ignored_events_total",
                "Events that the intake ignored, by the reason.",
                "reason",
                &[
                    ("no_rule", Count::WithoutRule),
                    ("folder_marker", Count::FolderMarker),
                    ("test", Count::TestEvent),
                ],
            ),
        ]
    }
}
