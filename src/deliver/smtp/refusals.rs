//! When refusals of us are an outage of the relay.
//!
//! A relay that refuses one recipient's mail for a reason about us may refuse that recipient alone: it may not relay to
//! that domain. A second recipient, with no mail that got as far in between, shows that it refuses whatever we send. From
//! then on the relay is down for all jobs, one of which tries it at a time, and the operator is told once.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lettre::address::Envelope;

use super::dialogue::DialogueStep;

/// Who a mail is for, by a hash: one recipient is told from another, and no address is kept.
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

/// The last mail that was refused, while none got as far since.
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

    /// A mail was refused at a step. Returns whether that is news: another recipient's mail than the last.
    pub(super) fn add(&self, step: DialogueStep, addressee: Addressee) -> bool {
        let refusal = RelayRefusal { step, addressee };
        let before = self.last().replace(refusal);
        before.is_none_or(|before| before.addressee != addressee)
    }

    /// A mail got as far as a step, or a connection did. Returns whether no refusal at this step or before stands any more.
    pub(super) fn pass(&self, step: DialogueStep) -> bool {
        let mut last = self.last();
        let stands = |refusal: &RelayRefusal| refusal.step.at_edge().rank > step.at_edge().rank;
        if last.as_ref().is_some_and(stands) {
            return false;
        }
        *last = None;
        true
    }

    /// Whether the last mail was refused.
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
