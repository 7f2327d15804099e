//! Requests that hang although the edge is well: it never answers about one name, and answers others.
//!
//! A damaged object, a firewall that drops a key, a relay that asks the servers of one domain. Each such request holds a slot until its
//! deadline, so that a few jobs could keep all others of the edge waiting. Half of the slots are theirs at most.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::Edge;
use super::requests::RequestNumber;

/// How long a request waits until it counts as hanging, while others are answered.
const HANGS: Duration = Duration::from_millis(3500);

/// The same, where the share of slots for such requests is taken.
const HANGS_BESIDE_MANY: Duration = Duration::from_secs(1);

/// How often a request that waits is judged.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The length of a span of time of [`LongestAnswers`].
const SPAN: Duration = Duration::from_secs(10);

/// A wait is unusual from so many times the longest answer on.
const UNUSUAL: u32 = 3;

/// For how long a name at which a request hung is not asked for again while others hang.
const NAME_HANGS: Duration = Duration::from_secs(30);

/// How many such names are remembered.
const MAX_HUNG_NAMES: usize = 1024;

/// The requests of an edge that hang.
#[derive(Debug, Default)]
pub(super) struct HangingRequests {
    /// How long the answers of the last ten to twenty seconds took, at most.
    longest_answers: LongestAnswers,
    /// The requests that hang, in the order in which they were found to.
    requests: BTreeMap<u64, Option<RequestNumber>>,
    next: u64,
    /// The names at which requests hung lately, by hash, and when.
    names: HashMap<u64, Instant>,
    /// How many requests may hang while there is other work; `None` where no slots are shared.
    share: Option<usize>,
}

impl HangingRequests {
    pub(super) fn has(&self, number: RequestNumber) -> bool {
        self.requests.values().any(|hangs| *hangs == Some(number))
    }

    fn has_hung_at(&self, name: u64) -> bool {
        let at = self.names.get(&name);
        at.is_some_and(|at| at.elapsed() < NAME_HANGS)
    }

    /// A request about a name has waited in vain: if requests hung there before, it hangs still.
    pub(super) fn waited_in_vain(&mut self, name: u64) {
        if self.has_hung_at(name) {
            self.names.insert(name, Instant::now());
        }
    }

    /// How long the answers of the last ten to twenty seconds took, at most.
    pub(super) fn longest_answer(&self) -> Duration {
        self.longest_answers.longest()
    }

    /// How many requests may hang while there is other work.
    pub(super) const fn share(&self) -> Option<usize> {
        self.share
    }
}

/// The longest times to an answer, of the current span of time and of the one before.
#[derive(Debug, Clone, Copy)]
struct LongestAnswers {
    since: Instant,
    now: Duration,
    before: Duration,
}

impl Default for LongestAnswers {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            now: Duration::ZERO,
            before: Duration::ZERO,
        }
    }
}

impl LongestAnswers {
    /// Begins a new span if the current one is over.
    fn turn(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= SPAN {
            self.before = match elapsed < 2 * SPAN {
                true => self.now,
                false => Duration::ZERO,
            };
            self.now = Duration::ZERO;
            self.since = Instant::now();
        }
    }

    fn add(&mut self, took: Duration) {
        self.turn();
        self.now = self.now.max(took);
    }

    fn longest(&self) -> Duration {
        let elapsed = self.since.elapsed();
        if elapsed < SPAN {
            return self.now.max(self.before);
        }
        match elapsed < 2 * SPAN {
            true => self.now,
            false => Duration::ZERO,
        }
    }
}

/// A request that hangs, until it is dropped.
#[derive(Debug)]
struct Hanging {
    edge: Edge,
    place: u64,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.edge.activity().hanging.requests.remove(&self.place);
    }
}

impl Edge {
    /// Records that an answer came after this time.
    pub fn answered_after(&self, took: Duration) {
        self.activity().hanging.longest_answers.add(took);
    }

    /// Whether such a wait for an answer is much longer than the last ones.
    pub fn is_unusual(&self, waited: Duration) -> bool {
        waited >= self.activity().hanging.longest_answers.longest() * UNUSUAL
    }

    /// Limits how many requests may hang at their names.
    pub fn limit_hanging(&self, share: usize) {
        self.activity().hanging.share = Some(share);
    }

    /// Waits until a request must not wait any longer: so many requests hang, all of them for longer than this one, that they have their
    /// share of the slots. `name` is the hash of what it asks for, and `waited` for how long it has waited while others were
    /// answered, if they were. A name at which a request hung lately is not waited for while others hang, or wait at such names.
    pub async fn until_it_hangs(
        &self,
        (name, number): (u64, Option<RequestNumber>),
        waited: impl Fn() -> Option<Duration>,
    ) {
        if self.hangs_at(name, number) {
            return;
        }
        let mut hangs: Option<Hanging> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(waited) = waited().filter(|waited| self.is_unusual(*waited)) else {
                continue;
            };
            if waited >= HANGS_BESIDE_MANY && self.has_its_share_hanging(hangs.as_ref()) {
                self.hung_at(name);
                return;
            }
            if waited >= HANGS && hangs.is_none() {
                hangs = Some(self.hangs(number));
            }
        }
    }

    fn hangs(&self, number: Option<RequestNumber>) -> Hanging {
        let mut activity = self.activity();
        let place = activity.hanging.next;
        activity.hanging.next += 1;
        activity.hanging.requests.insert(place, number);
        drop(activity);
        Hanging {
            edge: self.clone(),
            place,
        }
    }

    fn has_its_share_hanging(&self, hangs: Option<&Hanging>) -> bool {
        let hanging = &self.activity().hanging;
        let older = match hangs {
            Some(hangs) => hanging.requests.range(..hangs.place).count(),
            None => hanging.requests.len(),
        };
        hanging.share.is_some_and(|share| older >= share)
    }

    /// Whether a request about a name is not to wait: one hung there lately, and such requests have their share of the slots. `number` is that
    /// of the request, if it has begun.
    pub fn hangs_at(&self, name: u64, number: Option<RequestNumber>) -> bool {
        self.has_hung_at(name)
            && (self.has_its_share_hanging(None) || self.has_its_share_waiting(number))
    }

    /// Whether older requests about names at which requests hung have their share.
    fn has_its_share_waiting(&self, number: Option<RequestNumber>) -> bool {
        let activity = self.activity();
        let Some(share) = activity.hanging.share else {
            return false;
        };
        let number = number.unwrap_or(RequestNumber(activity.next_request));
        let older = activity.requests.range(..number);
        let names = older.filter_map(|(_, request)| request.name);
        names
            .filter(|name| activity.hanging.has_hung_at(*name))
            .count()
            >= share
    }

    /// Records that the edge answered about a name, by its hash.
    pub fn answered_about(&self, name: u64) {
        let mut activity = self.activity();
        activity.hanging.names.remove(&name);
        activity.silent_names.answered_about(name);
    }

    /// Records that a request hung at a name, by the hash of the name.
    pub fn hung_at(&self, name: u64) {
        let names = &mut self.activity().hanging.names;
        names.retain(|_, at| at.elapsed() < NAME_HANGS);
        if names.len() < MAX_HUNG_NAMES || names.contains_key(&name) {
            names.insert(name, Instant::now());
        }
    }

    fn has_hung_at(&self, name: u64) -> bool {
        self.activity().hanging.has_hung_at(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::{EdgeKind, Step};

    fn edge() -> Edge {
        let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
        edge.limit_hanging(1);
        edge
    }

    const STEP: Step = Step::only("RCPT");

    #[tokio::test(start_paused = true)]
    async fn beyond_the_share_a_request_that_others_overtake_ends_and_the_edge_is_not_silent() {
        let edge = edge();
        let [first, second] = [0, 1].map(|_| edge.asked(STEP));
        let waits = |name, number| {
            let edge = edge.clone();
            async move {
                let waited = || edge.overtaken_for(number);
                edge.until_it_hangs((name, Some(number)), waited).await;
            }
        };
        let replies = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                edge.replied(STEP);
            }
        };
        let began = Instant::now();
        tokio::select! {
            // The first is looked at first, as it would be if it had begun earlier.
            biased;
            () = waits(1, first.number()) => panic!("the oldest may wait"),
            () = waits(2, second.number()) => {}
            () = replies => {}
        }
        assert_eq!(began.elapsed().as_secs(), 3);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn at_a_name_where_requests_hung_the_share_alone_waits_until_it_answers() {
        let edge = edge();
        edge.hung_at(1);
        let [first, second, other] = [1, 1, 2].map(|name| edge.asked_about(name, STEP));
        let waits_at = async |name: u64, number| {
            let hangs = edge.until_it_hangs((name, Some(number)), || None);
            let soon = tokio::time::timeout(Duration::from_millis(10), hangs).await;
            soon.is_err()
        };
        assert!(waits_at(1, first.number()).await);
        assert!(!waits_at(1, second.number()).await);
        assert!(waits_at(2, other.number()).await);
        // What waited in vain prolongs it, and an answer ends it.
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(other);
        let fourth = edge.asked_about(1, STEP);
        drop(first);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!waits_at(1, fourth.number()).await);
        edge.answered_about(1);
        assert!(waits_at(1, fourth.number()).await);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_reply_to_others_or_beside_slow_answers_nothing_hangs() {
        for is_slow in [false, true] {
            let edge = edge();
            edge.limit_hanging(0);
            let request = edge.asked(STEP);
            let waited = || edge.overtaken_for(request.number());
            let hangs = edge.until_it_hangs((1, Some(request.number())), waited);
            let slow = async {
                for _ in 0..u32::MAX {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    if is_slow {
                        edge.answered_after(Duration::from_secs(5));
                        edge.replied(STEP);
                    }
                }
            };
            let both = async { tokio::join!(hangs, slow) };
            let ended = tokio::time::timeout(Duration::from_secs(14), both).await;
            assert!(ended.is_err(), "{is_slow}");
        }
    }
}
