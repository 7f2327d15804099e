//! Limits connections: how many may wait for a request, and how many requests are answered at once.
//!
//! A connection is unauthenticated until a request on it was signed by a configured key. Until then, and between two requests, it
//! waits; a new connection beyond the limit closes the longest-waiting one, so that idle connections cannot block others. A
//! signed request leaves that set. A request by a link takes a slot for links. A request that is signed in its header comes from
//! the daemon itself, and takes a slot that links cannot take.
//!
//! If all slots for links are taken, another request takes the slot of an answer that is read too slowly, which is closed
//! ([`Answers::make_room`]). Slow readers therefore cannot block others either, however many links they have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::bounds::{
    MAX_LINKS, MAX_OWN_REQUESTS, MAX_SAME_LINK, MAX_WAITING, MIN_PACE_BYTES, PACE_PERIOD,
};
use crate::patience::MovedResponse;

/// The signer of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyHolder {
    /// The holder of a link, identified by the signature in the query.
    Link(String),
    /// The holder of the secret: the signature is in the header.
    Own,
}

/// The limits and the connections of one endpoint.
#[derive(Clone)]
pub(crate) struct Room {
    waiting: Arc<Mutex<WaitingResponse>>,
    answers: Arc<Mutex<Answers>>,
    own: Arc<Semaphore>,
}

/// The slot of a request that is being answered.
enum ResponseSlot {
    Link(Arc<Mutex<Answers>>, u64),
    Own(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit),
}

impl Drop for ResponseSlot {
    fn drop(&mut self) {
        if let Self::Link(answers, turn) = self {
            lock(answers).by_turn.remove(turn);
        }
    }
}

/// The answers to links, in the order of their start.
#[derive(Default)]
struct Answers {
    next_turn: u64,
    by_turn: BTreeMap<u64, RoomAnswer>,
}

/// An answer to a link.
struct RoomAnswer {
    link: String,
    began: Instant,
    moved: Arc<MovedResponse>,
    close: Arc<Notify>,
}

impl Answers {
    fn share(&self, link: &str) -> usize {
        self.by_turn
            .values()
            .filter(|answer| answer.link == link)
            .count()
    }

    fn begin(&mut self, answer: RoomAnswer) -> Option<u64> {
        let share = self.share(&answer.link);
        let is_full = self.by_turn.len() >= MAX_LINKS;
        if share >= MAX_SAME_LINK || is_full && !self.make_room(share) {
            return None;
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        self.by_turn.insert(turn, answer);
        Some(turn)
    }

    /// Closes an answer for a request of a link that already has `share` answers; `false` if none can be closed.
    ///
    /// It closes the answer with the lowest recent throughput, if that is below [`MIN_PACE_BYTES`]; of equal ones, the oldest. If
    /// all have just started or are read fast enough, it closes the slowest answer of the link with the most answers, provided
    /// that this link keeps more answers than the requesting link gets.
    fn make_room(&mut self, share: usize) -> bool {
        let slow = self.slowest(|answer| {
            answer.began.elapsed() >= PACE_PERIOD && answer.moved.lately() < MIN_PACE_BYTES
        });
        let Some(turn) = slow.or_else(|| self.slowest_of_the_largest_share(share)) else {
            return false;
        };
        if let Some(answer) = self.by_turn.remove(&turn) {
            answer.close.notify_one();
        }
        true
    }

    fn slowest(&self, of: impl Fn(&RoomAnswer) -> bool) -> Option<u64> {
        let candidates = self.by_turn.iter().filter(|(_, answer)| of(answer));
        let slowest = candidates.min_by_key(|(_, answer)| answer.moved.lately());
        slowest.map(|(turn, _)| *turn)
    }

    fn slowest_of_the_largest_share(&self, share: usize) -> Option<u64> {
        let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in self.by_turn.values() {
            *shares.entry(&answer.link).or_default() += 1;
        }
        let largest = shares.values().copied().max()?;
        let is_larger = largest > share + 1;
        let of_largest = |answer: &RoomAnswer| shares.get(&*answer.link) == Some(&largest);
        is_larger.then(|| self.slowest(of_largest)).flatten()
    }
}

/// The connections without a request in progress, in the order in which they began to wait.
#[derive(Default)]
struct WaitingResponse {
    next_turn: u64,
    by_turn: BTreeMap<u64, Arc<Notify>>,
}

/// A connection's entry in the room.
#[derive(Clone)]
pub(crate) struct ConnectionPlace(Arc<RoomInner>);

struct RoomInner {
    room: Room,
    close: Arc<Notify>,
    moved: Arc<MovedResponse>,
    state: Mutex<RoomState>,
}

/// The state of the connection: waiting, or in a slot.
#[derive(Default)]
struct RoomState {
    turn: Option<u64>,
    slot: Option<ResponseSlot>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Arc::default(),
            answers: Arc::default(),
            own: Arc::new(Semaphore::new(MAX_OWN_REQUESTS)),
        }
    }

    /// Registers a connection, and closes the longest-waiting one if there are too many.
    pub(crate) fn enter(&self) -> ConnectionPlace {
        let place = ConnectionPlace(Arc::new(RoomInner {
            room: self.clone(),
            close: Arc::default(),
            moved: Arc::default(),
            state: Mutex::default(),
        }));
        place.wait();
        place
    }
}

impl ConnectionPlace {
    /// Returns when the connection must be closed.
    pub(crate) async fn must_close(&self) {
        self.0.close.notified().await;
    }

    /// The throughput of its client.
    pub(crate) fn moved(&self) -> Arc<MovedResponse> {
        Arc::clone(&self.0.moved)
    }

    /// Takes a slot for a request whose signature was verified; `false` if no slot for links can be freed, or this link has
    /// reached its share.
    ///
    /// The daemon's own requests wait for their slots.
    pub(crate) async fn begin(&self, signer: KeyHolder) -> bool {
        self.0.leave();
        let room = &self.0.room;
        let slot = match signer {
            KeyHolder::Link(link) => {
                let answer = RoomAnswer {
                    link,
                    began: Instant::now(),
                    moved: self.moved(),
                    close: Arc::clone(&self.0.close),
                };
                let turn = lock(&room.answers).begin(answer);
                turn.map(|turn| ResponseSlot::Link(Arc::clone(&room.answers), turn))
            }
            KeyHolder::Own => {
                let permit = Arc::clone(&room.own).acquire_owned().await.ok();
                permit.map(ResponseSlot::Own)
            }
        };
        let has_slot = slot.is_some();
        lock(&self.0.state).slot = slot;
        has_slot
    }

    /// The request that has a slot; it ends when this is dropped.
    pub(crate) fn served(&self) -> Option<ServedResponse> {
        let has_slot = lock(&self.0.state).slot.is_some();
        has_slot.then(|| ServedResponse(self.clone()))
    }

    fn wait(&self) {
        let mut waiting = lock(&self.0.room.waiting);
        while waiting.by_turn.len() >= MAX_WAITING {
            if let Some((_, longest)) = waiting.by_turn.pop_first() {
                longest.notify_one();
            }
        }
        let turn = waiting.next_turn;
        waiting.next_turn += 1;
        waiting.by_turn.insert(turn, Arc::clone(&self.0.close));
        let mut state = lock(&self.0.state);
        *state = RoomState {
            turn: Some(turn),
            slot: None,
        };
    }
}

impl RoomInner {
    fn leave(&self) {
        let turn = lock(&self.state).turn.take();
        if let Some(turn) = turn {
            lock(&self.room.waiting).by_turn.remove(&turn);
        }
    }
}

impl Drop for RoomInner {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request in progress, until the last byte of the answer is passed on.
pub(crate) struct ServedResponse(ConnectionPlace);

impl Drop for ServedResponse {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// The maps are consistent even after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn must_close(place: &ConnectionPlace) -> bool {
        place.must_close().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_connection_that_waited_longest_goes_and_one_that_is_served_stays() {
        let room = Room::new();
        let (served, first) = (room.enter(), room.enter());
        assert!(served.begin(link(0)).await);
        let answer = served.served().unwrap();
        let mut others: Vec<ConnectionPlace> = (1..MAX_WAITING).map(|_| room.enter()).collect();
        assert!(!must_close(&first), "there is room for it");
        others.push(room.enter());
        assert!(must_close(&first) && !must_close(&others[0]) && !must_close(&served));
        drop(answer);
        assert!(must_close(&others[0]), "the served one waits again");
        assert!(served.served().is_none() && !must_close(&served));
        drop(others);
        drop((served, first));
        assert!(lock(&room.waiting).by_turn.is_empty());
    }

    fn link(number: usize) -> KeyHolder {
        KeyHolder::Link(number.to_string())
    }

    #[tokio::test]
    async fn one_link_keeps_no_other_out() {
        let room = Room::new();
        let mut held = Vec::new();
        for _ in 0..MAX_SAME_LINK {
            let place = room.enter();
            assert!(place.begin(link(0)).await);
            held.push(place.served().unwrap());
        }
        assert!(!room.enter().begin(link(0)).await);
        assert!(room.enter().begin(link(1)).await);
        held.pop();
        assert!(room.enter().begin(link(0)).await);
        held.clear();
        assert!(lock(&room.answers).by_turn.is_empty());
    }

    async fn answered(room: &Room, number: usize) -> (ConnectionPlace, ServedResponse) {
        let place = room.enter();
        assert!(place.begin(link(number)).await, "{number}");
        let served = place.served().unwrap();
        (place, served)
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_that_is_read_slowest_gives_way_and_one_that_is_read_well_does_not() {
        let room = Room::new();
        let mut held = Vec::new();
        for number in 0..MAX_LINKS {
            held.push(answered(&room, number).await);
        }
        assert!(!room.enter().begin(link(1000)).await, "all have just begun");
        tokio::time::sleep(2 * PACE_PERIOD).await;
        for (number, (place, _)) in held.iter().enumerate() {
            let bytes = if number == 7 { 10 } else { 20 + number };
            place
                .moved()
                .add(if number < 9 { bytes } else { MIN_PACE_BYTES });
        }
        for (number, slowest) in [7, 0, 1, 2, 3, 4, 5, 6, 8].into_iter().enumerate() {
            let closed: Vec<usize> = (0..held.len())
                .filter(|at| must_close(&held[*at].0))
                .collect();
            assert!(closed.is_empty(), "{closed:?}");
            held.push(answered(&room, 1000 + number).await);
            assert!(must_close(&held[slowest].0), "{slowest}");
        }
        assert!(
            !room.enter().begin(link(2000)).await,
            "the others are read well, or have just begun"
        );
        assert_eq!(lock(&room.answers).by_turn.len(), MAX_LINKS);
    }

    #[tokio::test]
    async fn a_few_links_with_all_slots_make_room_for_another_at_once() {
        let room = Room::new();
        let mut held = Vec::new();
        for number in 0..MAX_LINKS {
            held.push(answered(&room, number / MAX_SAME_LINK).await);
        }
        for _ in 0..4 {
            held.push(answered(&room, 1000).await);
        }
        assert_eq!(lock(&room.answers).share("1000"), 4);
        assert_eq!(
            held.iter().filter(|(place, _)| must_close(place)).count(),
            4
        );
    }

    #[tokio::test]
    async fn links_take_no_slot_of_the_daemon() {
        let room = Room::new();
        let mut links = Vec::new();
        for number in 0..MAX_LINKS {
            let place = room.enter();
            assert!(place.begin(link(number)).await);
            links.push(place.served().unwrap());
        }
        let another = room.enter();
        assert!(!another.begin(link(1000)).await && another.served().is_none());
        assert!(room.enter().begin(KeyHolder::Own).await);
        links.pop();
        assert!(room.enter().begin(link(1000)).await);
    }
}
