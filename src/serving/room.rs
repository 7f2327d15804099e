//! How many connections there are, and which one is closed when there are too many.
//!
//! A connection waits until the head of a request has arrived, and again between two requests. A new connection beyond the limit
//! closes the one that has waited longest, so that silent and slow clients cannot keep others out. A connection whose request is
//! being answered is not closed for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;

/// The connections of one server.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionRoom {
    most: usize,
    state: Arc<Mutex<ServerRoomState>>,
}

#[derive(Debug, Default)]
struct ServerRoomState {
    open: usize,
    next_turn: u64,
    /// The connections that wait, the longest-waiting one first.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct RoomPlace {
    room: ConnectionRoom,
    close: Arc<Notify>,
    turn: Mutex<Option<u64>>,
}

impl ConnectionRoom {
    /// Room for so many connections, and for half of what the process may have open at most: the other half is for the files, queues, stores
    /// and relays of jobs.
    pub(crate) fn new(most: usize) -> Self {
        let open_files = getrlimit(Resource::Nofile).current;
        let open_files = open_files.map_or(usize::MAX, |most| {
            usize::try_from(most).unwrap_or(usize::MAX)
        });
        Self {
            most: most.min(open_files / 2),
            state: Arc::default(),
        }
    }

    /// How many connections there may be.
    pub(crate) const fn most(&self) -> usize {
        self.most
    }

    fn state(&self) -> MutexGuard<'_, ServerRoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. `None` if all places are taken by requests that are being answered.
    pub(crate) fn enter(&self) -> Option<Arc<RoomPlace>> {
        let is_full = self.state().open >= self.most;
        if is_full && !self.close_longest_waiting() {
            return None;
        }
        self.state().open += 1;
        let place = RoomPlace {
            room: self.clone(),
            close: Arc::default(),
            turn: Mutex::new(None),
        };
        place.waits();
        Some(Arc::new(place))
    }

    /// Closes the connection that has waited longest. `false` if none waits.
    pub(crate) fn close_longest_waiting(&self) -> bool {
        let longest = self.state().waiting.pop_first();
        longest.map(|(_, close)| close.notify_one()).is_some()
    }

    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.state().open
    }
}

impl RoomPlace {
    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection waits for a request.
    fn waits(&self) {
        let mut state = self.room.state();
        let turn = state.next_turn;
        state.next_turn += 1;
        state.waiting.insert(turn, Arc::clone(&self.close));
        drop(state);
        *self.turn() = Some(turn);
    }

    /// Whether no request of the connection is being answered.
    pub(crate) fn is_waiting(&self) -> bool {
        self.turn().is_some()
    }

    /// A request is being answered until the guard is dropped.
    pub(crate) fn answers(self: &Arc<Self>) -> AnswerGuard {
        let turn = self.turn().take();
        if let Some(turn) = turn {
            self.room.state().waiting.remove(&turn);
        }
        AnswerGuard(Arc::clone(self))
    }

    /// Waits until the connection must be closed for another.
    pub(crate) async fn must_close(&self) {
        self.close.notified().await;
    }
}

impl Drop for RoomPlace {
    fn drop(&mut self) {
        let turn = self.turn().take();
        let mut state = self.room.state();
        state.open -= 1;
        if let Some(turn) = turn {
            state.waiting.remove(&turn);
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct AnswerGuard(Arc<RoomPlace>);

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.0.waits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const MOST: usize = 100;

    #[tokio::test]
    async fn the_connection_that_waited_longest_makes_room() {
        let room = ConnectionRoom::new(MOST);
        let mut places: Vec<_> = (0..MOST).map(|_| room.enter().unwrap()).collect();
        let busy = places[0].answers();
        let newcomer = room.enter().unwrap();
        assert!(
            places[0].must_close().now_or_never().is_none(),
            "it answers"
        );
        assert!(places[1].must_close().now_or_never().is_some());
        assert!(places[2].must_close().now_or_never().is_none());
        drop(busy);
        places.remove(1);
        drop(newcomer);
        assert_eq!(room.open(), MOST - 1);
        assert!(room.close_longest_waiting());
        assert!(
            places[1].must_close().now_or_never().is_some(),
            "the first has just answered"
        );
    }

    #[test]
    fn while_all_answer_none_is_admitted() {
        let room = ConnectionRoom::new(MOST);
        let places: Vec<_> = (0..MOST).map(|_| room.enter().unwrap()).collect();
        let answers: Vec<_> = places.iter().map(RoomPlace::answers).collect();
        assert!(room.enter().is_none());
        drop(answers);
        assert!(room.enter().is_some());
    }
}
