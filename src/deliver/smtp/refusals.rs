//! When rejections of us count as an outage of the relay.
//!
//! A relay that rejects one recipient's mail for a reason about us may reject that recipient alone: it may not relay to
//! that domain. If a second recipient is rejected, with no mail between them that got as far, the relay rejects all of
//! our mails. So it does if it closes the connection at the same recipient twice: 421 says that the service is not available
//! (RFC 5321, section 3.8). From then on the relay is down for all jobs, one job at a time tries it, and the operator is notified
//! once.
//!
//! A relay whose connections break in the text of a mail, or after it, is down in the same way. Each mail after it could be one more in
//! doubt, so that it is tried with pauses that grow.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::address::Envelope;
use tokio::time::Instant;

use super::dialogue::DialogueStep;

/// How long a relay is left alone after a mail in doubt, for the first mails in a row and at most. The pause doubles with each further one.
const DOUBT_PAUSE: Duration = Duration::from_secs(3);
const SHORT_PAUSES: u32 = 15;
const MAX_DOUBT_PAUSE: Duration = Duration::from_secs(60);

/// How long after a connection broke in a mail only another mail shows that the relay is well.
const BREAK_STANDS: Duration = Duration::from_secs(90);

/// The recipient of a mail, as a hash: it tells recipients apart and keeps no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Addressee(u64);

impl Addressee {
    pub(super) fn of(envelope: &Envelope) -> Self {
        let mut hasher = DefaultHasher::new();
        let to = envelope.to().iter().map(AsRef::<str>::as_ref);
        to.for_each(|to| hasher.write(to.as_bytes()));
        Self(hasher.finish())
    }
}

/// The last mail that was rejected, while no later mail got as far.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<RelayRefusal>>);

#[derive(Debug)]
struct RelayRefusal {
    step: DialogueStep,
    cause: RefusalCause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefusalCause {
    /// A reply to the mail of this recipient.
    Reply(Addressee),
    /// The connection broke in the mail's text or after it, as so many before it in a row.
    Break { times: u32, at: Instant },
}

impl RelayRefusal {
    /// Whether only a mail that gets as far ends it.
    fn stands(&self) -> bool {
        match self.cause {
            RefusalCause::Reply(_) => true,
            RefusalCause::Break { at, .. } => at.elapsed() < BREAK_STANDS,
        }
    }
}

impl Refusals {
    fn last(&self) -> MutexGuard<'_, Option<RelayRefusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mail was rejected at a step. Returns whether another recipient than the last one is affected, or any: neither a rejection before
    /// the first RCPT is about a recipient, nor one that closes the connection.
    pub(super) fn add(&self, step: DialogueStep, addressee: Addressee, closes: bool) -> bool {
        let cause = RefusalCause::Reply(addressee);
        let refusal = RelayRefusal { step, cause };
        let before = self.last().replace(refusal);
        let is_before_rcpt = step.at_edge().rank < DialogueStep::Rcpt.at_edge().rank;
        closes || is_before_rcpt || before.is_none_or(|before| before.cause != cause)
    }

    /// A connection broke at the text of a mail or after it. Returns how long to leave the relay alone: a mail that was sent whole is in
    /// doubt.
    pub(super) fn broke(&self, step: DialogueStep) -> Duration {
        let mut last = self.last();
        let times = match last.as_ref().map(|last| last.cause) {
            Some(RefusalCause::Break { times, .. }) => times + 1,
            Some(RefusalCause::Reply(_)) | None => 1,
        };
        let at = Instant::now();
        *last = Some(RelayRefusal {
            step,
            cause: RefusalCause::Break { times, at },
        });
        match step == DialogueStep::Dot {
            true => doubt_pause(times),
            false => Duration::ZERO,
        }
    }

    /// A mail or a connection got as far as a step. Returns whether no rejection at this step or an earlier one
    /// remains.
    pub(super) fn pass(&self, step: DialogueStep) -> bool {
        let mut last = self.last();
        let is_later = |refusal: &&RelayRefusal| refusal.step.at_edge().rank > step.at_edge().rank;
        if let Some(refusal) = last.as_ref().filter(is_later) {
            // How often connections broke counts until a mail gets as far: the next pause is not the first one again.
            return !refusal.stands();
        }
        *last = None;
        true
    }

    /// Whether the last mail was rejected, or its connection broke.
    pub(super) fn last_one(&self) -> bool {
        self.last().as_ref().is_some_and(RelayRefusal::stands)
    }
}

/// The pause after so many mails in doubt in a row.
fn doubt_pause(times: u32) -> Duration {
    let doublings = times.saturating_sub(SHORT_PAUSES).min(8);
    (DOUBT_PAUSE * (1 << doublings)).min(MAX_DOUBT_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Addressee = Addressee(1);
    const BO: Addressee = Addressee(2);

    #[test]
    fn the_same_recipient_again_is_no_news() {
        let refusals = Refusals::default();
        let seen = [ANN, ANN, BO, BO, ANN].map(|of| refusals.add(DialogueStep::Rcpt, of, false));
        assert_eq!(seen, [true, false, true, false, true]);
        let at_mail = [ANN, ANN].map(|of| refusals.add(DialogueStep::Mail, of, false));
        assert_eq!(at_mail, [true, true], "no recipient was named");
        let closing = [ANN, ANN].map(|of| refusals.add(DialogueStep::Dot, of, true));
        assert_eq!(closing, [true, true], "421 is about the connection");
    }

    #[test]
    fn only_a_mail_that_gets_as_far_ends_them() {
        let refusals = Refusals::default();
        assert!(refusals.pass(DialogueStep::Greeting), "there is none");
        refusals.add(DialogueStep::Dot, ANN, false);
        for step in [DialogueStep::Noop, DialogueStep::Rcpt, DialogueStep::Data] {
            assert!(!refusals.pass(step) && refusals.last_one(), "{step}");
        }
        assert!(refusals.pass(DialogueStep::Dot) && !refusals.last_one());
        refusals.add(DialogueStep::Rcpt, ANN, false);
        assert!(refusals.pass(DialogueStep::Data) && !refusals.last_one());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mail_in_doubt_stands_until_a_mail_is_accepted_and_pauses_grow() {
        let refusals = Refusals::default();
        assert_eq!(refusals.broke(DialogueStep::Text), Duration::ZERO);
        let pauses: Vec<u64> = (0..21)
            .map(|_| refusals.broke(DialogueStep::Dot).as_secs())
            .collect();
        assert_eq!(pauses[..14], [3; 14]);
        assert_eq!(pauses[14..], [6, 12, 24, 48, 60, 60, 60]);
        assert!(!refusals.pass(DialogueStep::Data) && refusals.last_one());
        assert!(!refusals.pass(DialogueStep::Noop), "a probe");
        assert!(refusals.pass(DialogueStep::Dot) && !refusals.last_one());
        assert_eq!(
            refusals.broke(DialogueStep::Dot),
            DOUBT_PAUSE,
            "the next outage"
        );
        // Without another mail, a connection shows that the relay is there.
        tokio::time::sleep(BREAK_STANDS).await;
        assert!(!refusals.last_one() && refusals.pass(DialogueStep::Noop));
    }
}
