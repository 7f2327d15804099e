//! What this process knows about its attempts, and could not record: the ledger did not answer.
//!
//! An intent without an outcome is a delivery in doubt, since its process may have died after the end of DATA. While the process lives, it
//! knows more: a mail whose intent was not confirmed was never sent, and the relay's reply to another is in memory. The knowledge belongs
//! to the nonce of the intent, which no other attempt has. A process that ends takes it with it, and the doubt remains.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ledger::Outcome;

/// How many outcomes are remembered. While a ledger is down, each try of a recipient adds one.
const MAX_KNOWN: usize = 10_000;

/// For how long. An intent that never reached the ledger is not asked about.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Outcomes without a record, by the nonces of their intents. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KnownOutcomes {
    by_nonce: Arc<Mutex<HashMap<String, (Outcome, Instant)>>>,
}

impl KnownOutcomes {
    fn by_nonce(&self) -> MutexGuard<'_, HashMap<String, (Outcome, Instant)>> {
        self.by_nonce.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the outcome of an attempt. Beyond the bound it is a doubt, as after the end of the process; a mail that was accepted takes
    /// the place of one that was not sent, whose doubt is no second mail.
    pub(super) fn keep(&self, nonce: &str, outcome: Outcome) {
        let was_sent = |outcome: &Outcome| !matches!(outcome, Outcome::NotSent { .. });
        let mut by_nonce = self.by_nonce();
        if by_nonce.len() >= MAX_KNOWN {
            by_nonce.retain(|_, (_, at)| at.elapsed() < KEPT);
        }
        if by_nonce.len() >= MAX_KNOWN && was_sent(&outcome) {
            let mut kept = by_nonce.iter();
            let not_sent = kept.find(|(_, (outcome, _))| !was_sent(outcome));
            if let Some(not_sent) = not_sent.map(|(nonce, _)| nonce.clone()) {
                by_nonce.remove(&not_sent);
            }
        }
        if by_nonce.len() < MAX_KNOWN {
            by_nonce.insert(nonce.to_owned(), (outcome, Instant::now()));
        }
    }

    /// The outcome of an attempt, if it is known here.
    pub(super) fn of(&self, nonce: &str) -> Option<Outcome> {
        let by_nonce = self.by_nonce();
        by_nonce.get(nonce).map(|(outcome, _)| outcome.clone())
    }

    /// The outcome of an attempt is recorded.
    pub(super) fn forget(&self, nonce: &str) {
        self.by_nonce().remove(nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_old_make_room() {
        let known = KnownOutcomes::default();
        let outcome = Outcome::Accepted {
            words: String::new(),
        };
        for n in 0..MAX_KNOWN {
            known.keep(&n.to_string(), outcome.clone());
        }
        known.keep("one more", outcome.clone());
        assert_eq!(known.of("one more"), None);
        tokio::time::sleep(KEPT).await;
        known.keep("one more", outcome.clone());
        assert_eq!(known.of("one more"), Some(outcome.clone()));
        known.forget("one more");
        assert_eq!(known.of("one more"), None);
        assert!(known.by_nonce().is_empty());
        let not_sent = Outcome::NotSent {
            code: None,
            words: String::new(),
        };
        for n in 0..=MAX_KNOWN {
            known.keep(&n.to_string(), not_sent.clone());
        }
        assert_eq!(known.of(&MAX_KNOWN.to_string()), None);
        known.keep("accepted", outcome.clone());
        assert_eq!(known.of("accepted"), Some(outcome));
        assert_eq!(known.by_nonce().len(), MAX_KNOWN);
    }
}
