//! What the portal counts, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use crate::bounds::MAX_PORTAL_CONNECTIONS;
use crate::progress::CounterFamily;
use crate::progress::times::HistogramFamily;
use crate::serving::ConnectionRoom;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortalCount {
    OpenedByButton,
    OpenedDirectly,
    OpenedInPage,
    Probed,
    Viewed,
    Forged,
    OtherPath,
    Ended,
    Revoked,
    NotSignedIn,
    OtherReader,
    Gone,
    Limited,
    Unavailable,
    CodeMailed,
    CodeFailed,
    CodeHeldBack,
    SignedInByCode,
    SignedInByIssuer,
    Left,
}

const COUNTS: usize = PortalCount::Left as usize + 1;

/// The bounds of the histogram of opened links, in seconds.
const OPEN_BOUNDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The counters of a portal, and how many connections it has.
#[derive(Debug, Clone)]
pub struct PortalCounts {
    counts: Arc<[AtomicU64; COUNTS]>,
    opens: Histogram,
    pub(super) room: ConnectionRoom,
}

impl Default for PortalCounts {
    fn default() -> Self {
        Self {
            counts: Arc::default(),
            opens: Histogram::new(OPEN_BOUNDS),
            room: ConnectionRoom::new(MAX_PORTAL_CONNECTIONS),
        }
    }
}

impl PortalCounts {
    pub(super) fn count(&self, what: PortalCount) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self, what: PortalCount) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// Observes a link that was opened by a request which began at an instant.
    pub(super) fn opened(&self, began: Instant) {
        self.opens.observe(began.elapsed().as_secs_f64());
    }

    /// The time from requests to the answers that open a link.
    pub fn open_times(&self) -> HistogramFamily {
        HistogramFamily {
            name: "handout_portal_open_duration_seconds",
            help: "Links that the portal opened: from the request to the signed link, whose audit line is durable.",
            label: "",
            samples: vec![("", self.opens.clone())],
        }
    }

    /// How many connections there may be at once.
    pub fn most_connections(&self) -> usize {
        self.room.most()
    }

    /// How many connections there are.
    pub fn connections(&self) -> u64 {
        self.room.open() as u64
    }

    /// The counters as families of Prometheus.
    pub fn families(&self) -> Vec<CounterFamily> {
        use PortalCount as Count;
        let family = |name, help, label, samples: &[(&'static str, PortalCount)]| {
            CounterFamily::counted([name, help, label], samples, |count| self.get(count))
        };
        vec![
            family(
                "handout_portal_opens_total",
                "Links that the portal opened, by how they were asked for; a probe is a HEAD request.",
                "how",
                &[
                    ("button", Count::OpenedByButton),
                    ("direct", Count::OpenedDirectly),
                    ("embed", Count::OpenedInPage),
                    ("probe", Count::Probed),
                ],
            ),
            family(
                "handout_portal_views_total",
                "Pages of files that the portal showed.",
                "",
                &[("", Count::Viewed)],
            ),
            family(
                "handout_portal_refused_total",
                "Requests that got no file, by the reason.",
                "reason",
                &[
                    ("forged", Count::Forged),
                    ("other_path", Count::OtherPath),
                    ("ended", Count::Ended),
                    ("revoked", Count::Revoked),
                    ("sign_in", Count::NotSignedIn),
                    ("other_reader", Count::OtherReader),
                    ("gone", Count::Gone),
                    ("limited", Count::Limited),
                    ("unavailable", Count::Unavailable),
                ],
            ),
            family(
                "handout_portal_left_total",
                "Recipients who left a list.",
                "",
                &[("", Count::Left)],
            ),
            family(
                "handout_portal_codes_total",
                "Codes that were asked for with the right address, by what became of their mail.",
                "result",
                &[
                    ("mailed", Count::CodeMailed),
                    ("failed", Count::CodeFailed),
                    ("held_back", Count::CodeHeldBack),
                ],
            ),
            family(
                "handout_portal_sign_ins_total",
                "Sign-ins, by how.",
                "how",
                &[
                    ("code", Count::SignedInByCode),
                    ("oidc", Count::SignedInByIssuer),
                ],
            ),
        ]
    }
}
