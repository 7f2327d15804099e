//! The connections to a relay: at most so many at once, and those kept whose last exchange ended in order.
//!
//! lettre's pool bounds the parked connections, not the open ones, and parks those whose exchange was cut. Here whoever
//! uses a connection owns it, and what is not given back is closed.
//!
//! A relay that takes fewer connections than are configured says so to the one that is too many. It is served with as many as
//! it took then, and with one more after each quiet minute.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::dialogue::{Cause, Dialogue};

/// How long a connection is kept for the next mail: relays close idle ones after minutes, and firewalls forget them.
const KEEP: Duration = Duration::from_secs(60);

/// After how long a kept connection is asked whether it is still there, which costs a round trip.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// How long without a complaint about their number allows one connection more.
const CALM: Duration = Duration::from_secs(60);

/// How often one who waits for another's connection looks whether there is one at all.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The connections to one relay.
#[derive(Debug)]
pub(super) struct RelayPool {
    slots: Arc<Semaphore>,
    kept: Mutex<Vec<Dialogue>>,
    /// Tells one who waits for it that a connection was kept.
    was_kept: Notify,
    /// How many connections there are, kept or in use.
    open: Arc<AtomicUsize>,
    fewer: Mutex<Fewer>,
}

/// How many connections the relay takes less than the pool has.
#[derive(Debug, Default)]
struct Fewer {
    /// By how many.
    wanted: usize,
    /// The slots that are withheld for that.
    withheld: Vec<OwnedSemaphorePermit>,
    /// When it complained last, or one more was allowed.
    since: Option<Instant>,
}

/// A connection that is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RelayPool {
    /// A pool of at most so many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(connections)),
            kept: Mutex::default(),
            was_kept: Notify::new(),
            open: Arc::default(),
            fewer: Mutex::default(),
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

    /// Counts a connection that has come about.
    pub(super) fn count(&self) -> Counted {
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.open))
    }

    /// Whether there is a connection.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// The relay turned one more of `connections` away. Returns how many there are at most from now on, if these are fewer
    /// than before.
    pub(super) fn is_full(&self, connections: usize) -> Option<usize> {
        let most = self.open.load(Ordering::Relaxed).clamp(1, connections);
        let mut fewer = self.fewer();
        let before = fewer.since.replace(Instant::now());
        let is_news = connections - most > fewer.wanted;
        fewer.wanted = fewer.wanted.max(connections - most);
        (is_news && before.is_none_or(|before| before.elapsed() >= CALM * 2)).then_some(most)
    }

    /// Waits for a connection that another keeps. Nothing, if there is none to wait for.
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

    /// A kept connection that is still there, if there is one; asked whether it is after so long without a reply.
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
                // Closed, as relays do with idle ones.
                Err(_) => {}
            }
        }
    }

    /// Drops what is kept, after a connection that died in silence: a firewall that forgot one has forgotten the others too,
    /// and each would cost a deadline.
    pub(super) fn forget(&self) {
        self.kept().clear();
    }

    /// A kept connection for a mail, if there is one.
    pub(super) async fn take(&self) -> Option<Dialogue> {
        self.take_idle_for(ASK_AFTER).await
    }

    /// A kept connection that has answered just now, if there is one.
    pub(super) async fn take_asked(&self) -> Option<Dialogue> {
        self.take_idle_for(Duration::ZERO).await
    }

    /// Keeps a connection for the next mail.
    pub(super) fn keep(&self, dialogue: Dialogue) {
        self.kept().push(dialogue);
        self.was_kept.notify_one();
    }
}

impl Fewer {
    /// Allows one more after each quiet minute.
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
