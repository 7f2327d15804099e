//! A mail's text, its end of DATA, and the final reply.

use std::fmt;

use tokio::time::Instant;

use super::dialogue::{Cause, Dialogue, DialogueStep, Failure, TextEnd};
use super::refusals::Addressee;
use super::reply::Reply;
use super::trouble::Trouble;
use super::verdict::{DeferralKind, ReplyVerdict, judge};
use super::{ANOTHER_CONNECTION, ConnectionSlot, Relay};
use crate::edge::health::{FailureKind, Request};
use crate::ledger::Outcome;

/// What became of a mail that was sent.
#[derive(Debug)]
pub(in crate::deliver) struct Sent {
    /// The outcome that is recorded.
    pub(in crate::deliver) outcome: Outcome,
    /// Where the mail was not sent: what the reason is about.
    pub(in crate::deliver) about: DeferralScope,
    /// Where the relay rejected us: what must be repaired.
    pub(in crate::deliver) refusal: Option<Trouble>,
}

impl Sent {
    const fn new(outcome: Outcome, about: DeferralScope) -> Self {
        Self {
            outcome,
            about,
            refusal: None,
        }
    }
}

/// What a deferral is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::deliver) enum DeferralScope {
    /// This mail.
    Mail(DeferralKind),
    /// The relay or this mail: a single reply does not show which.
    Either,
    /// The relay.
    Relay,
}

/// A mail that the relay waits for. If it is dropped instead of sent, its connection closes and the relay discards it.
pub(in crate::deliver) struct Transaction<'a> {
    pub(super) relay: &'a Relay,
    pub(super) dialogue: Dialogue,
    pub(super) addressee: Addressee,
    pub(super) slot: ConnectionSlot,
    pub(super) _under_way: Request,
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction({})", self.relay.place())
    }
}

impl Transaction<'_> {
    /// The relay of the transaction.
    pub(in crate::deliver) const fn relay(&self) -> &Relay {
        self.relay
    }

    /// Sends the text and the end of DATA, and waits for the final reply.
    pub(in crate::deliver) async fn send(mut self, text: &[u8]) -> Sent {
        // Before the signatures, which do not cover them: the relay takes its own headers out, or adds others.
        let text = [self.relay.inner.headers.as_bytes(), text].concat();
        let began = Instant::now();
        let failure = |step, cause| Failure { step, cause, began };
        let ended = {
            let sending = self.dialogue.text(&text);
            let mut sending = std::pin::pin!(sending);
            tokio::select! {
                ended = &mut sending => ended,
                () = tokio::time::sleep(ANOTHER_CONNECTION) => {
                    // The reply may take minutes; other mails may open connections meanwhile.
                    self.slot = None;
                    sending.await
                }
            }
        };
        match ended {
            TextEnd::Answered(reply) => self.answered(reply),
            TextEnd::NotSent(Cause::Said(reply)) => self.relay.broken_off(reply, self.addressee),
            TextEnd::NotSent(cause) => {
                let words = format!("before the end of the mail's text: {}", cause.words());
                self.relay.broke(&failure(DialogueStep::Text, cause));
                Sent::new(
                    Outcome::NotSent { code: None, words },
                    DeferralScope::Either,
                )
            }
            TextEnd::NoAnswer(cause) => {
                let words = cause.words();
                self.relay.broke(&failure(DialogueStep::Dot, cause));
                Sent::new(Outcome::Unknown { words }, DeferralScope::Relay)
            }
        }
    }

    fn answered(self, reply: Reply) -> Sent {
        let Self {
            relay,
            mut dialogue,
            addressee,
            ..
        } = self;
        let is_in_order = match reply.code {
            250 => {
                dialogue.took();
                true
            }
            _ => judge(DialogueStep::Dot, &reply).leaves_usable(&mut dialogue),
        };
        let sent = relay.judged(reply, addressee);
        if is_in_order {
            relay.inner.pool.keep(dialogue);
        }
        sent
    }
}

impl Relay {
    /// What the reply to the end of DATA means.
    fn judged(&self, reply: Reply, addressee: Addressee) -> Sent {
        let (code, words) = (reply.code, reply.words());
        if code == 250 {
            self.took(addressee);
            return Sent::new(
                Outcome::Accepted { words },
                DeferralScope::Mail(DeferralKind::Other),
            );
        }
        let verdict = judge(DialogueStep::Dot, &reply);
        self.apply(verdict, &words);
        let not_sent = |words| Outcome::NotSent {
            code: Some(code),
            words,
        };
        match verdict {
            ReplyVerdict::Never => {
                self.got_as_far_as(DialogueStep::Dot);
                Sent::new(
                    Outcome::Rejected { code, words },
                    DeferralScope::Mail(DeferralKind::Other),
                )
            }
            ReplyVerdict::Later(kind) => {
                self.got_as_far_as(DialogueStep::Dot);
                Sent::new(not_sent(words), DeferralScope::Mail(kind))
            }
            // Nothing is known against the mail.
            ReplyVerdict::Refuses | ReplyVerdict::Login | ReplyVerdict::Insecure => Sent {
                refusal: Some(self.refused_at_the_dot(FailureKind::Refused, reply, addressee)),
                ..Sent::new(not_sent(words), DeferralScope::Either)
            },
            ReplyVerdict::NotNow | ReplyVerdict::Closing => {
                self.refused_at_the_dot(FailureKind::ServerError, reply, addressee);
                Sent::new(not_sent(words), DeferralScope::Either)
            }
            ReplyVerdict::TooFast | ReplyVerdict::QuotaSpent => {
                self.refused_at_the_dot(FailureKind::Throttled, reply, addressee);
                Sent::new(not_sent(words), DeferralScope::Relay)
            }
            // Any other positive reply answers another command.
            ReplyVerdict::OutOfStep => {
                let words = format!("the text was answered with {words}");
                self.broke(&Failure::now(DialogueStep::Dot, Cause::Said(reply)));
                Sent::new(Outcome::Unknown { words }, DeferralScope::Relay)
            }
        }
    }

    fn refused_at_the_dot(&self, kind: FailureKind, reply: Reply, addressee: Addressee) -> Trouble {
        let failure = Failure::now(DialogueStep::Dot, Cause::Said(reply));
        let trouble = Trouble::of(&failure, self.inner.config.tls);
        self.refused_mail(kind, &failure, trouble.clone(), addressee);
        trouble
    }

    /// What a reply means that came before the end of the text. The end of DATA was not sent, so a positive reply does
    /// not count.
    fn broken_off(&self, reply: Reply, addressee: Addressee) -> Sent {
        if (400..600).contains(&reply.code) {
            return self.judged(reply, addressee);
        }
        let words = reply.words();
        let words = format!("before the end of the mail's text it said {words}");
        self.broke(&Failure::now(DialogueStep::Text, Cause::Said(reply)));
        Sent::new(
            Outcome::NotSent { code: None, words },
            DeferralScope::Either,
        )
    }
}
