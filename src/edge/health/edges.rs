//! All edges of the program.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::{Edge, EdgeKind, Outage};

/// How long after a request of `/ready` or `/metrics` an unused edge is probed.
const LOOKED_AT: Duration = Duration::from_secs(60);

/// All edges of the program. Their outages are logged. Clones are the same collection.
#[derive(Debug, Clone, Default)]
pub struct Edges {
    edges: Arc<RwLock<Arc<[Edge]>>>,
    /// When their health was last asked for.
    looked_at: Arc<Mutex<Option<Instant>>>,
}

impl FromIterator<Edge> for Edges {
    fn from_iter<T: IntoIterator<Item = Edge>>(edges: T) -> Self {
        let all = Self::default();
        all.exchange(edges.into_iter().collect());
        all
    }
}

/// Whether jobs and links do without an edge of this kind.
const fn is_partial(kind: EdgeKind) -> bool {
    matches!(
        kind,
        EdgeKind::Oidc | EdgeKind::Archive | EdgeKind::Feedback
    )
}

impl Edges {
    /// Replaces the edges. Outages of removed edges are not logged any more, and no job waits for them.
    pub fn exchange(&self, edges: Arc<[Edge]>) {
        let mut all = self.edges.write().unwrap_or_else(PoisonError::into_inner);
        let stay = |edges: &[Edge], stays: bool| {
            for Edge { inner } in edges {
                inner.is_watched.store(stays, Ordering::Relaxed);
                inner.is_replaced.store(!stays, Ordering::Relaxed);
            }
        };
        stay(&all, false);
        stay(&edges, true);
        *all = edges;
    }

    /// Replaces the edges of a kind, and leaves the others as they are.
    pub fn exchange_kind(&self, kind: EdgeKind, edges: impl Iterator<Item = Edge>) {
        let others = self.iter().filter(|edge| edge.kind() != kind);
        self.exchange(others.chain(edges).collect());
    }

    /// The edge with this label.
    pub fn labelled(&self, label: &str) -> Option<Edge> {
        self.iter().find(|edge| edge.label() == label)
    }

    /// Each edge.
    pub fn iter(&self) -> impl Iterator<Item = Edge> + use<> {
        let edges = Arc::clone(&self.edges.read().unwrap_or_else(PoisonError::into_inner));
        (0..edges.len()).map(move |index| edges[index].clone())
    }

    /// The first edge of a kind.
    pub fn of(&self, kind: EdgeKind) -> Option<Edge> {
        self.iter().find(|edge| edge.kind() == kind)
    }

    /// The outage of each edge that jobs or links need and that is not healthy.
    pub fn troubles(&self) -> Vec<Outage> {
        self.outages(|kind| !is_partial(kind))
    }

    /// The outage of each edge without which the program still does its main work: sign-ins at a provider fail, and all other
    /// links open; audit lines are written, and are archived later; bounces come later.
    pub fn partial_troubles(&self) -> Vec<Outage> {
        self.outages(is_partial)
    }

    fn outages(&self, of: impl Fn(EdgeKind) -> bool) -> Vec<Outage> {
        let edges = self.iter().filter(|edge| of(edge.kind()));
        edges.filter_map(|edge| edge.trouble()).collect()
    }

    fn looked_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a supervisor or a scraper asked for their health.
    pub fn look(&self) {
        *self.looked_at() = Some(Instant::now());
    }

    /// Whether their health was asked for lately. If so, edges that no job uses are probed too.
    pub fn are_looked_at(&self) -> bool {
        self.looked_at()
            .is_some_and(|looked_at| looked_at.elapsed() <= LOOKED_AT)
    }
}
