//! What the portal counts, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bounds::MAX_PORTAL_CONNECTIONS;
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

/// The counters of a portal, and how many connections it has.
#[derive(Debug, Clone)]
pub struct PortalCounts {
    counts: Arc<[AtomicU64; COUNTS]>,
    pub(super) room: ConnectionRoom,
}

impl Default for PortalCounts {
    fn default() -> Self {
        Self {
            counts: Arc::default(),
            room: ConnectionRoom::new(MAX_PORTAL_CONNECTIONS),
        }
    }
}

/// A metric with its help text and its samples by label.
pub type PortalFamily = (&'static str, &'static str, Vec<(&'static str, u64)>);

impl PortalCounts {
    pub(super) fn count(&self, what: PortalCount) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self, what: PortalCount) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// How many connections there are.
    pub fn connections(&self) -> u64 {
        self.room.open() as u64
    }

    /// The counters as families of Prometheus.
    pub fn families(&self) -> Vec<PortalFamily> {
        use PortalCount as Count;
        let samples = |labels: &[(&'static str, PortalCount)]| {
            let samples = labels.iter();
            samples
                .map(|(label, what)| (*label, self.get(*what)))
                .collect()
        };
        vec![
            (
                "handout_portal_opens_total",
                "Links that the portal opened, by how they were asked for; a probe is a HEAD request.",
                samples(&[
                    ("{how=\"button\"}", Count::OpenedByButton),
                    ("{how=\"direct\"}", Count::OpenedDirectly),
                    ("{how=\"embed\"}", Count::OpenedInPage),
                    ("{how=\"probe\"}", Count::Probed),
                ]),
            ),
            (
                "handout_portal_views_total",
                "Pages of files that the portal showed.",
                samples(&[("", Count::Viewed)]),
            ),
            (
                "handout_portal_refused_total",
                "Requests that got no file, by the reason.",
                samples(&[
                    ("{reason=\"forged\"}", Count::Forged),
                    ("{reason=\"ended\"}", Count::Ended),
                    ("{reason=\"revoked\"}", Count::Revoked),
                    ("{reason=\"sign_in\"}", Count::NotSignedIn),
                    ("{reason=\"other_reader\"}", Count::OtherReader),
                    ("{reason=\"gone\"}", Count::Gone),
                    ("{reason=\"limited\"}", Count::Limited),
                    ("{reason=\"unavailable\"}", Count::Unavailable),
                ]),
            ),
            (
                "handout_portal_left_total",
                "Recipients who left a list.",
                samples(&[("", Count::Left)]),
            ),
            (
                "handout_portal_codes_total",
                "Codes that were asked for with the right address, by what became of their mail.",
                samples(&[
                    ("{result=\"mailed\"}", Count::CodeMailed),
                    ("{result=\"failed\"}", Count::CodeFailed),
                    ("{result=\"held_back\"}", Count::CodeHeldBack),
                ]),
            ),
            (
                "handout_portal_sign_ins_total",
                "Sign-ins, by how.",
                samples(&[
                    ("{how=\"code\"}", Count::SignedInByCode),
                    ("{how=\"oidc\"}", Count::SignedInByIssuer),
                ]),
            ),
        ]
    }
}
