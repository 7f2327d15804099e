//! When rejections of us count as an outage of the relay.
//!
//! A relay that rejects one recipient's mail for a reason about us may reject that recipient alone: it may not relay to
//! that domain. If a second recipient is rejected, with no mail between them that got as far, the relay rejects all of
//! our mails. From then on the relay is down for all jobs, one job at a time tries it, and the operator is notified
//! once.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lettre::address::Envelope;

use super::dialogue::DialogueStep;

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
    addressee: Addressee,
}

impl Refusals {
    fn last(&self) -> MutexGuard<'_, Option<RelayRefusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mail was rejected at a step. Returns whether another recipient than the last one is affected, or any: a rejection before the
    /// first RCPT is not about a recipient.
    pub(super) fn add(&self, step: DialogueStep, addressee: Addressee) -> bool {
        let refusal = RelayRefusal { step, addressee };
        let before = self.last().replace(refusal);
        let is_before_rcpt = step.at_edge().rank < DialogueStep::Rcpt.at_edge().rank;
        is_before_rcpt || before.is_none_or(|before| before.addressee != addressee)
    }

    /// A mail or a connection got as far as a step. Returns whether no rejection at this step or an earlier one
    /// remains.
    pub(super) fn pass(&self, step: DialogueStep) -> bool {
        let mut last = self.last();
        let stands = |refusal: &RelayRefusal| refusal.step.at_edge().rank > step.at_edge().rank;
        if last.as_ref().is_some_and(stands) {
            return false;
        }
        *last = None;
        true
    }

    /// Whether the last mail was rejected.
    pub(super) fn last_one(&self) -> bool {
        self.last().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Addressee = Addressee(1);
    const BO: Addressee = Addressee(2);

    #[test]
    fn the_same_recipient_again_is_no_news() {
        let refusals = Refusals::default();
        let seen =
            [ANN, ANN, BO, BO, ANN].map(|addressee| refusals.add(DialogueStep::Rcpt, addressee));
        assert_eq!(seen, [true, false, true, false, true]);
        let at_mail = [ANN, ANN].map(|addressee| refusals.add(DialogueStep::Mail, addressee));
        assert_eq!(at_mail, [true, true], "no recipient was named");
    }

    #[test]
    fn only_a_mail_that_gets_as_far_ends_them() {
        let refusals = Refusals::default();
        assert!(refusals.pass(DialogueStep::Greeting), "there is none");
        refusals.add(DialogueStep::Dot, ANN);
        for step in [DialogueStep::Noop, DialogueStep::Rcpt, DialogueStep::Data] {
            assert!(!refusals.pass(step) && refusals.last_one(), "{step}");
        }
        assert!(refusals.pass(DialogueStep::Dot) && !refusals.last_one());
        refusals.add(DialogueStep::Rcpt, ANN);
        assert!(refusals.pass(DialogueStep::Data) && !refusals.last_one());
    }
}
