//! A relay that cannot be connected to is left alone for a moment, however many mails wait for it.
//!
//! Else each of them would be another wrong password, or another wait for a host that is gone. One broken connection is no
//! outage, the second in a row is; a wrong password and TLS that is not trusted are at once: trying again repairs neither.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::trouble::Trouble;

/// How long a relay is left alone.
const PAUSE: Duration = Duration::from_secs(30);

/// Whether a relay can be connected to, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Outage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many connections failed in a row.
    failed: u32,
    /// Until when there is no use in another, and why.
    until: Option<(Instant, Trouble)>,
}

impl Outage {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no use in connecting now.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let state = self.state();
        let (until, trouble) = state.until.as_ref()?;
        (*until > Instant::now()).then(|| trouble.clone())
    }

    /// A connection could not be made.
    pub(super) fn failed(&self, trouble: &Trouble) {
        let enough = match trouble {
            Trouble::Login { .. } | Trouble::Insecure { .. } => 1,
            Trouble::Unreachable { .. } | Trouble::Refuses { .. } => 2,
            // It is there.
            Trouble::NotNow { .. } | Trouble::Paused { .. } => return,
        };
        let mut state = self.state();
        state.failed = state.failed.saturating_add(1);
        if state.failed >= enough {
            state.until = Some((Instant::now() + PAUSE, trouble.clone()));
        }
    }

    /// A connection was made.
    pub(super) fn ended(&self) {
        *self.state() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> Trouble {
        Trouble::Unreachable {
            step: "connecting",
            words: "refused".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_failure_in_a_row_is_an_outage_and_then_each_is() {
        let outage = Outage::default();
        outage.failed(&unreachable());
        assert_eq!(outage.trouble(), None);
        outage.ended();
        outage.failed(&unreachable());
        assert_eq!(outage.trouble(), None, "not in a row");
        outage.failed(&unreachable());
        assert_eq!(outage.trouble(), Some(unreachable()));
        tokio::time::sleep(PAUSE).await;
        assert_eq!(outage.trouble(), None, "it is tried again");
        outage.failed(&unreachable());
        assert_eq!(outage.trouble(), Some(unreachable()));
        outage.ended();
        assert_eq!(outage.trouble(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_password_is_tried_once() {
        let login = Trouble::Login {
            words: "535 5.7.8".to_owned(),
        };
        let outage = Outage::default();
        outage.failed(&login);
        assert_eq!(outage.trouble(), Some(login));
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_says_not_now_is_there() {
        let outage = Outage::default();
        for _ in 0..3 {
            outage.failed(&Trouble::NotNow {
                step: "greeting",
                words: "421".to_owned(),
            });
        }
        assert_eq!(outage.trouble(), None);
    }
}
