//! The names that an edge was silent about: requests that waited for an answer in vain asked about them.
//!
//! A relay that is silent about one domain, and is asked about no other, looks like one that is silent about all. So a silent edge is tried
//! by a job that asks about another name, however many jobs of that name wait. And a request that was left behind by the end of a
//! silence may be on a connection that died in it; where that happens at its name again and again, the name is the cause.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::requests::{RequestAtStep, RequestNumber, SILENT};
use super::{Activity, Edge};

/// For how long such a name is remembered.
const KEPT: Duration = Duration::from_secs(60);

/// How many names are remembered.
const MAX_NAMES: usize = 1024;

/// The names that an edge was silent about, by hash.
#[derive(Debug, Default)]
pub(super) struct SilentNames {
    /// The names that were asked about in vain since the last silence began, and when.
    in_vain: HashMap<u64, Instant>,
    /// The names of requests that a silence left behind, and the end of that silence.
    left_behind: HashMap<u64, Instant>,
}

/// Adds a name to a bounded map, from which expired ones are dropped.
fn keep(names: &mut HashMap<u64, Instant>, name: u64, at: Instant) {
    names.retain(|_, at| at.elapsed() < KEPT);
    if names.len() < MAX_NAMES || names.contains_key(&name) {
        names.insert(name, at);
    }
}

impl SilentNames {
    /// The edge has answered about a name.
    pub(super) fn answered_about(&mut self, name: u64) {
        self.in_vain.remove(&name);
        self.left_behind.remove(&name);
    }

    /// The edge has answered.
    pub(super) fn silence_ended(&mut self) {
        self.in_vain.clear();
    }
}

impl Activity {
    /// A request ends. Its name is kept if it waited in vain.
    pub(super) fn keep_silent_name(&mut self, request: &RequestAtStep) {
        let has_waited = request.since.elapsed() >= SILENT;
        let Some(name) = request.name.filter(|_| has_waited) else {
            return;
        };
        self.hanging.waited_in_vain(name);
        if !self.has_replied_since(request) {
            keep(&mut self.silent_names.in_vain, name, Instant::now());
        }
    }

    /// Whether the edge may answer about one of the names, as far as is known: no request about it waits for long, or has waited in vain.
    pub(super) fn may_answer_about(&self, names: &[u64]) -> bool {
        let is_silent = |name: &u64| {
            let in_vain = self.silent_names.in_vain.get(name);
            let waits = |request: &RequestAtStep| {
                request.name == Some(*name) && request.since.elapsed() >= SILENT
            };
            in_vain.is_some_and(|at| at.elapsed() < KEPT) || self.requests.values().any(waits)
        };
        !names.iter().all(is_silent)
    }
}

impl Edge {
    /// Whether a request is one that a silence has left behind for the first time at its name: then its connection may be dead.
    pub fn is_first_left_behind(&self, number: RequestNumber) -> bool {
        let mut activity = self.activity();
        let Some(request) = activity.requests.get(&number) else {
            return false;
        };
        let (since, name) = (request.since, request.name);
        // A request that has waited for so long since does not wait for a dead connection.
        let is_of_it = |at: &Instant| *at > since && at.elapsed() < KEPT;
        let Some(spoke_at) = activity.spoke_at.filter(is_of_it) else {
            return false;
        };
        let Some(name) = name else {
            return true;
        };
        let names = &mut activity.silent_names.left_behind;
        match names.get(&name).filter(|at| at.elapsed() < KEPT) {
            Some(before) => *before >= spoke_at,
            None => {
                keep(names, name, spoke_at);
                true
            }
        }
    }
}
