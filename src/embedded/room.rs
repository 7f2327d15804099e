//! Room for connections: how many may wait for a request, and how many requests are answered at once.
//!
//! A connection has proved nothing until a request on it was signed by a key of ours. Until then, and between two
//! requests, it only waits, and of those that wait the one that did so longest is closed when another comes: connections
//! that are held open keep no other out. A request that is signed leaves that crowd. One by a link takes a slot of the
//! links; one that the holder of the secret signed in its header, which is the daemon itself, takes a slot that no link
//! can take.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::bounds::{
    MAX_ENDPOINT_LINKS, MAX_ENDPOINT_OWN_REQUESTS, MAX_ENDPOINT_SAME_LINK, MAX_ENDPOINT_WAITING,
};

/// Who signed a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signer {
    /// The holder of a link: the signature, which is in the query, is this.
    Link(String),
    /// The holder of the secret: the signature is in the header.
    Own,
}

/// The room of one endpoint.
#[derive(Clone)]
pub(super) struct Room {
    waiting: Arc<Mutex<Waiting>>,
    links: Arc<Semaphore>,
    own: Arc<Semaphore>,
    same: SameLink,
}

/// How many slots each link has.
type SameLink = Arc<Mutex<BTreeMap<String, usize>>>;

/// What a request that is answered takes up.
struct Slot {
    _permit: OwnedSemaphorePermit,
    link: Option<(SameLink, String)>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some((same, link)) = self.link.take() else {
            return;
        };
        let mut same = lock(&same);
        if let Some(count) = same.get_mut(&link) {
            *count -= 1;
            if *count == 0 {
                same.remove(&link);
            }
        }
    }
}

/// The connections without a request that is answered, in the order in which they began to wait.
#[derive(Default)]
struct Waiting {
    next_turn: u64,
    by_turn: BTreeMap<u64, Arc<Notify>>,
}

/// One connection's place in the room.
#[derive(Clone)]
pub(super) struct Place(Arc<Inner>);

struct Inner {
    room: Room,
    close: Arc<Notify>,
    state: Mutex<State>,
}

/// Where the connection is: among those that wait, or in a slot.
#[derive(Default)]
struct State {
    turn: Option<u64>,
    slot: Option<Slot>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            waiting: Arc::default(),
            links: Arc::new(Semaphore::new(MAX_ENDPOINT_LINKS)),
            own: Arc::new(Semaphore::new(MAX_ENDPOINT_OWN_REQUESTS)),
            same: Arc::default(),
        }
    }

    fn slot_of(&self, link: String) -> Option<Slot> {
        let mut same = lock(&self.same);
        let count = same.get(&link).copied().unwrap_or_default();
        if count >= MAX_ENDPOINT_SAME_LINK {
            return None;
        }
        let permit = Arc::clone(&self.links).try_acquire_owned().ok()?;
        same.insert(link.clone(), count + 1);
        Some(Slot {
            _permit: permit,
            link: Some((Arc::clone(&self.same), link)),
        })
    }

    /// Takes a connection in, and tells the one that waited longest to go if there are too many.
    pub(super) fn enter(&self) -> Place {
        let place = Place(Arc::new(Inner {
            room: self.clone(),
            close: Arc::default(),
            state: Mutex::default(),
        }));
        place.wait();
        place
    }
}

impl Place {
    /// Ends when the connection must go.
    pub(super) async fn must_close(&self) {
        self.0.close.notified().await;
    }

    /// Takes a slot for a request whose signature was verified; `false` if the links have none left, or this link has its share.
    ///
    /// The daemon's own requests wait for theirs.
    pub(super) async fn begin(&self, signer: Signer) -> bool {
        self.0.leave();
        let room = &self.0.room;
        let slot = match signer {
            Signer::Link(link) => room.slot_of(link),
            Signer::Own => {
                let permit = Arc::clone(&room.own).acquire_owned().await.ok();
                permit.map(|permit| Slot {
                    _permit: permit,
                    link: None,
                })
            }
        };
        let has_slot = slot.is_some();
        lock(&self.0.state).slot = slot;
        has_slot
    }

    /// The request that has a slot; it ends when this is dropped.
    pub(super) fn served(&self) -> Option<Served> {
        let has_slot = lock(&self.0.state).slot.is_some();
        has_slot.then(|| Served(self.clone()))
    }

    fn wait(&self) {
        let mut waiting = lock(&self.0.room.waiting);
        while waiting.by_turn.len() >= MAX_ENDPOINT_WAITING {
            if let Some((_, longest)) = waiting.by_turn.pop_first() {
                longest.notify_one();
            }
        }
        let turn = waiting.next_turn;
        waiting.next_turn += 1;
        waiting.by_turn.insert(turn, Arc::clone(&self.0.close));
        let mut state = lock(&self.0.state);
        *state = State {
            turn: Some(turn),
            slot: None,
        };
    }
}

impl Inner {
    fn leave(&self) {
        let turn = lock(&self.state).turn.take();
        if let Some(turn) = turn {
            lock(&self.room.waiting).by_turn.remove(&turn);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request that is being answered, until the last byte of the answer is handed on.
pub(super) struct Served(Place);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// A panic elsewhere leaves these maps whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn must_close(place: &Place) -> bool {
        place.must_close().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_connection_that_waited_longest_goes_and_one_that_is_served_stays() {
        let room = Room::new();
        let (served, first) = (room.enter(), room.enter());
        assert!(served.begin(link(0)).await);
        let answer = served.served().unwrap();
        let mut others: Vec<Place> = (1..MAX_ENDPOINT_WAITING).map(|_| room.enter()).collect();
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

    fn link(number: usize) -> Signer {
        Signer::Link(number.to_string())
    }

    #[tokio::test]
    async fn one_link_keeps_no_other_out() {
        let room = Room::new();
        let mut held = Vec::new();
        for _ in 0..MAX_ENDPOINT_SAME_LINK {
            let place = room.enter();
            assert!(place.begin(link(0)).await);
            held.push(place.served().unwrap());
        }
        assert!(!room.enter().begin(link(0)).await);
        assert!(room.enter().begin(link(1)).await);
        held.pop();
        assert!(room.enter().begin(link(0)).await);
        held.clear();
        assert!(lock(&room.same).is_empty());
    }

    #[tokio::test]
    async fn links_take_no_slot_of_the_daemon() {
        let room = Room::new();
        let mut links = Vec::new();
        for number in 0..MAX_ENDPOINT_LINKS {
            let place = room.enter();
            assert!(place.begin(link(number)).await);
            links.push(place.served().unwrap());
        }
        let another = room.enter();
        assert!(!another.begin(link(1000)).await && another.served().is_none());
        assert!(room.enter().begin(Signer::Own).await);
        links.pop();
        assert!(room.enter().begin(link(1000)).await);
    }
}
