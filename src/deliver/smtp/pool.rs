//! The connections to a relay. Their number is bounded, and a connection is kept only after an exchange that ended in
//! order.
//!
//! lettre's pool bounds the parked connections, not the open ones, and parks connections whose exchange was cut. Here
//! the user of a connection owns it, and a connection that is not given back is closed.
//!
//! A relay that takes fewer connections than are configured rejects the one that is too many. The pool then uses as
//! many as the relay took, and one more after each quiet minute.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::dialogue::{Cause, Dialogue};

/// How long a connection is kept for the next mail: relays close idle ones after minutes, and firewalls forget them.
const KEEP: Duration = Duration::from_secs(60);

/// After how long idle a kept connection is checked before use, which costs a round trip.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// How long without a complaint about their number allows one more connection.
const CALM: Duration = Duration::from_secs(60);

/// How often a waiter for a kept connection checks whether the relay has any connection open.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The connections to one relay.
#[derive(Debug)]
pub(super) struct RelayPool {
    slots: Arc<Semaphore>,
    kept: Mutex<Vec<Dialogue>>,
    /// Wakes a waiter when a connection was kept.
    was_kept: Notify,
    /// How many connections are open, kept or in use.
    open: Arc<AtomicUsize>,
    fewer: Mutex<Fewer>,
    /// Whether another relay takes its place, so that connections are kept no more.
    is_retired: AtomicBool,
}

/// How many connections fewer than the pool has the relay takes.
#[derive(Debug, Default)]
struct Fewer {
    /// The number of connections that are too many.
    wanted: usize,
    /// The slots that are withheld for that.
    withheld: Vec<OwnedSemaphorePermit>,
    /// When the relay complained last, or one more connection was allowed.
    since: Option<Instant>,
}

/// Counts an open connection until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RelayPool {
    /// A pool of at most this many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(connections)),
            kept: Mutex::default(),
            was_kept: Notify::new(),
            open: Arc::default(),
            fewer: Mutex::default(),
            is_retired: AtomicBool::new(false),
        }
    }

    fn fewer(&self) -> MutexGuard<'_, Fewer> {
        self.fewer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to one connection; waits for it.
    pub(super) async fn slot(&self) -> OwnedSemaphorePermit {
        self.fewer().ease();
        loop {
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            let slot = slot.expect("the semaphore is never closed");
            let mut fewer = self.fewer();
            if fewer.withheld.len() >= fewer.wanted {
                return slot;
            }
            fewer.withheld.push(slot);
        }
    }

    /// Counts a new connection.
    pub(super) fn count(&self) -> Counted {
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.open))
    }

    /// Whether a connection is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// The relay rejected one more than `connections`. Returns the new maximum, if it is lower than before.
    pub(super) fn is_full(&self, connections: usize) -> Option<usize> {
        let most = self.open.load(Ordering::Relaxed).clamp(1, connections);
        let mut fewer = self.fewer();
        let before = fewer.since.replace(Instant::now());
        let is_news = connections - most > fewer.wanted;
        fewer.wanted = fewer.wanted.max(connections - most);
        (is_news && before.is_none_or(|before| before.elapsed() >= CALM * 2)).then_some(most)
    }

    /// Waits for a connection that another user gives back. `None` if no connection is open.
    pub(super) async fn another(&self) -> Option<Dialogue> {
        loop {
            if let Some(kept) = self.take().await {
                return Some(kept);
            }
            if !self.is_open() {
                return None;
            }
            tokio::select! {
                () = self.was_kept.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Dialogue>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept connection that is still alive, if there is one. It is checked if it had no reply for longer than
    /// `ask_after`.
    async fn take_idle_for(&self, ask_after: Duration) -> Option<Dialogue> {
        loop {
            let mut kept = self.kept().pop()?;
            let idle = kept.idle();
            if idle >= KEEP {
                continue;
            }
            if idle < ask_after {
                return Some(kept);
            }
            match kept.is_there().await {
                Ok(()) => return Some(kept),
                Err(failure) if matches!(failure.cause, Cause::Late) => self.forget(),
                // Closed by the relay, as relays do with idle connections.
                Err(_) => {}
            }
        }
    }

    /// Closes the connections that were kept for long enough.
    pub(super) fn close_idle(&self) {
        self.kept().retain(|kept| kept.idle() < KEEP);
    }

    /// Closes the kept connections, and each other one after its mail.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
        self.kept().clear();
    }

    /// Drops the kept connections, after one that died in silence: a firewall that dropped one has probably dropped the
    /// others too, and each would cost a deadline.
    pub(super) fn forget(&self) {
        self.kept().clear();
    }

    /// A kept connection for a mail, if there is one.
    pub(super) async fn take(&self) -> Option<Dialogue> {
        self.take_idle_for(ASK_AFTER).await
    }

    /// A kept connection that has just answered a check, if there is one.
    pub(super) async fn take_asked(&self) -> Option<Dialogue> {
        self.take_idle_for(Duration::ZERO).await
    }

    /// Keeps a connection for the next mail.
    pub(super) fn keep(&self, dialogue: Dialogue) {
        if !self.is_retired.load(Ordering::Relaxed) {
            self.kept().push(dialogue);
        }
        self.was_kept.notify_one();
    }
}

impl Fewer {
    /// Allows one more connection after each quiet minute.
    fn ease(&mut self) {
        if self.wanted > 0 && self.since.is_some_and(|since| since.elapsed() >= CALM) {
            self.wanted -= 1;
            self.since = Some(Instant::now());
            let most = self.wanted;
            self.withheld.truncate(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_takes_fewer_connections_is_given_fewer_and_one_more_after_a_minute() {
        let pool = RelayPool::new(4);
        let connections = [pool.count(), pool.count()];
        let slots = [pool.slot().await, pool.slot().await, pool.slot().await];
        assert_eq!(pool.is_full(4), Some(2));
        assert_eq!(pool.is_full(4), None, "it is told once");
        drop(slots);
        let slots = [pool.slot().await, pool.slot().await];
        let third = timeout(Duration::from_secs(9), pool.slot());
        assert!(third.await.is_err());
        sleep(CALM).await;
        let third = timeout(Duration::from_secs(9), pool.slot()).await;
        assert!(third.is_ok());
        let fourth = timeout(Duration::from_secs(9), pool.slot());
        assert!(fourth.await.is_err());
        drop((slots, third, connections));
        assert!(!pool.is_open());
        assert!(pool.another().await.is_none(), "there is none to wait for");
    }
}
