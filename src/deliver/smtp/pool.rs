//! The connections to a relay: at most so many at once, and those kept whose last exchange ended in order.
//!
//! lettre's pool bounds the parked connections, not the open ones, and parks those whose exchange was cut. Here whoever
//! uses a connection owns it, and what is not given back is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::dialogue::{Cause, Dialogue};

/// How long a connection is kept for the next mail: relays close idle ones after minutes, and firewalls forget them.
const KEEP: Duration = Duration::from_secs(60);

/// After how long a kept connection is asked whether it is still there, which costs a round trip.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// The connections to one relay.
#[derive(Debug)]
pub(super) struct Pool {
    slots: Arc<Semaphore>,
    kept: Mutex<Vec<Dialogue>>,
}

impl Pool {
    /// A pool of at most so many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(connections)),
            kept: Mutex::default(),
        }
    }

    /// The right to one connection; waits for it.
    pub(super) async fn slot(&self) -> OwnedSemaphorePermit {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.expect("the semaphore is never closed")
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
    }
}
