//! What a failure of a dialogue means for the relay and for the mail.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::adaptive_rate::Slowed;
use super::dialogue::{Cause, DialogueStep, Failure};
use super::refusals::Addressee;
use super::reply::Reply;
use super::trouble::{RelayError, Trouble};
use super::verdict::{ReplyVerdict, judge};
use super::{BUSY_PAUSE, LastFailure, PATIENCE, Relay, verdict};
use crate::edge::health::FailureKind;

impl Relay {
    /// Whether the relay rejected a connection because others of ours are open. The mail then waits for one of these:
    /// slowing down would not help, and each complaint doubles a pause in which no mail is sent.
    pub(super) fn is_full(&self, failure: &Failure) -> bool {
        let is_full = !failure.step.is_of_a_mail()
            && self.inner.pool.is_open()
            && matches!(&failure.cause, Cause::Said(reply) if verdict::is_of_connections(reply));
        if is_full && let Some(most) = self.inner.pool.is_full(self.inner.config.connections) {
            tracing::warn!(
                relay = self.place(),
                connections = most,
                words = failure.words(),
                "the relay takes no more connections; it is served with those that it has taken"
            );
        }
        is_full
    }

    /// Reports a failed step to the edge. A relay that replies to a mail, even negatively, is up. A relay that rejects
    /// connections before a mail is down, with any reply.
    pub(super) fn failed(&self, failure: &Failure, addressee: Option<Addressee>) -> RelayError {
        let mut error = self.error(failure);
        if let Some(addressee) = addressee
            && let Some(kind) = failure.refuses_a_mail()
        {
            self.refused_mail(kind, failure, error.trouble.clone(), addressee);
            return error;
        }
        let kind = match (&error.trouble, &failure.cause) {
            (_, Cause::Said(reply)) if judge(failure.step, reply).slows_down() => {
                Some(FailureKind::Throttled)
            }
            (Trouble::Paused { .. }, _) => None,
            (Trouble::NotNow { .. }, Cause::Said(reply)) if failure.turns_away(reply) => {
                Some(FailureKind::Unreachable)
            }
            (Trouble::NotNow { .. }, _) => None,
            (_, Cause::Said(_)) if failure.step.is_of_a_mail() => None,
            (Trouble::NoLogin { .. } | Trouble::Login { .. } | Trouble::Insecure { .. }, _) => {
                Some(FailureKind::Denied)
            }
            (Trouble::Refuses { .. }, _) => Some(FailureKind::Refused),
            (_, Cause::Late) => Some(FailureKind::Timeout),
            _ => Some(FailureKind::Unreachable),
        };
        match kind {
            None => self.got_as_far_as(failure.step),
            Some(kind) => {
                self.down(kind, failure, error.trouble.clone());
                // Probes notice when connections are accepted again, so the job comes back at the end of the pause, and
                // not as late as its receive count would give. A failure in a mail is tried again by a job, which signs
                // its links anew.
                let outage = self.inner.edge.outage();
                let outage = outage.filter(|_| !failure.step.is_of_a_mail());
                error.left = outage.map(|outage| outage.left).unwrap_or_default();
            }
        }
        error
    }

    /// The relay rejected a mail for a reason about us, or about itself.
    pub(super) fn refused_mail(
        &self,
        kind: FailureKind,
        failure: &Failure,
        trouble: Trouble,
        addressee: Addressee,
    ) {
        let closes = failure.is_about_the_connection();
        let is_news = self.inner.refusals.add(failure.step, addressee, closes);
        // A complaint about the rate is never about the recipient.
        let is_for_all = kind == FailureKind::Throttled;
        if is_news || is_for_all || self.inner.edge.outage().is_some() {
            self.down(kind, failure, trouble);
        }
    }

    /// A mail or a connection got as far as a step: the relay is up, unless it rejects mails at a later step.
    pub(super) fn got_as_far_as(&self, step: DialogueStep) {
        if self.inner.refusals.pass(step) {
            self.inner.edge.answered();
        }
    }

    /// The relay accepted a mail.
    pub(super) fn took(&self, addressee: Addressee) {
        // In another outage, the recipient's next mail may give its connection up once more.
        self.overtaken().forget(addressee);
        self.inner.accepted.fetch_add(1, Ordering::Relaxed);
        self.inner.adaptive_rate.accepted();
        self.got_as_far_as(DialogueStep::Dot);
    }

    pub(super) fn down(&self, kind: FailureKind, failure: &Failure, trouble: Trouble) {
        self.down_and_rests(kind, failure, trouble, Duration::ZERO);
    }

    /// The same, where the relay is left alone for at least `rest` while it is down.
    fn down_and_rests(
        &self,
        kind: FailureKind,
        failure: &Failure,
        trouble: Trouble,
        rest: Duration,
    ) {
        let Failure { step, began, .. } = failure;
        // Its connection died in an outage that is over.
        if self.inner.edge.answered_since(*began) {
            return;
        }
        *self.last_failure() = Some(LastFailure {
            trouble,
            in_mail: step.is_of_a_mail(),
            at: Instant::now(),
        });
        let mut words = format!("{step}: {}", failure.words());
        let pause = self.inner.adaptive_rate.pause();
        let pause = pause.filter(|_| kind == FailureKind::Throttled);
        let pause = pause.unwrap_or_default();
        if pause > PATIENCE {
            words = format!("{words}; it gets no mail until {}", self.until(pause));
        }
        let rest = rest.max(pause);
        self.inner.edge.failed_and_rests(kind, &words, rest);
    }

    pub(super) fn trouble(&self, trouble: Trouble) -> RelayError {
        RelayError {
            host: self.place(),
            section: self.inner.section.clone(),
            trouble,
            left: Duration::ZERO,
        }
    }

    pub(super) fn error(&self, failure: &Failure) -> RelayError {
        if let Cause::Said(reply) = &failure.cause {
            self.apply(judge(failure.step, reply), &failure.words());
        }
        match self.inner.adaptive_rate.pause() {
            Some(left) if left > PATIENCE => self.paused(left),
            Some(_) | None => self.trouble(Trouble::of(failure, self.inner.config.tls)),
        }
    }

    /// All connections were busy for as long as a mail may wait in its slot.
    pub(super) fn busy(&self) -> RelayError {
        let connections = self.inner.config.connections;
        let words = format!("its {connections} connections are busy");
        RelayError {
            left: BUSY_PAUSE,
            ..self.trouble(Trouble::NotNow {
                step: "waiting for a connection",
                words,
            })
        }
    }

    pub(super) fn paused(&self, left: Duration) -> RelayError {
        let until = self.until(left);
        self.trouble(Trouble::Paused { left, until })
    }

    /// The end of a pause.
    fn until(&self, left: Duration) -> jiff::Timestamp {
        let until = (self.inner.clock)().saturating_add(left);
        until.unwrap_or(jiff::Timestamp::MAX)
    }

    /// A connection broke, or fell silent, in the middle of a mail's text or after it; or its last reply means nothing there.
    pub(super) fn broke(&self, failure: &Failure) {
        // Its connection died in an outage that is over.
        if self.inner.edge.answered_since(failure.began) {
            return;
        }
        let rest = self.inner.refusals.broke(failure.step);
        let kind = match failure.cause {
            Cause::Late => FailureKind::Timeout,
            _ => FailureKind::Unreachable,
        };
        let trouble = Trouble::Unreachable {
            step: failure.step.as_str(),
            words: failure.words(),
        };
        self.down_and_rests(kind, failure, trouble, rest);
    }

    /// The relay received the mail's text and gave a reply that is not final: the job comes back.
    pub(in crate::deliver) fn not_sent(
        &self,
        words: String,
        refusal: Option<Trouble>,
    ) -> RelayError {
        let step = DialogueStep::Dot.as_str();
        self.trouble(match self.inner.adaptive_rate.pause() {
            Some(left) if left > PATIENCE => return self.paused(left),
            Some(_) | None => refusal.unwrap_or(Trouble::NotNow { step, words }),
        })
    }

    /// The relay received the mail's text and did not reply.
    pub(in crate::deliver) fn no_reply(&self) -> RelayError {
        let step = DialogueStep::Dot.as_str();
        let words = "no reply came".to_owned();
        self.trouble(Trouble::Unreachable { step, words })
    }

    /// Slows the whole relay down if the reply asks for it; logged once, however many connections get such a reply.
    pub(super) fn apply(&self, verdict: ReplyVerdict, words: &str) {
        let slowed = match verdict {
            ReplyVerdict::TooFast => self.inner.adaptive_rate.slow_down(),
            ReplyVerdict::QuotaSpent => self.inner.adaptive_rate.rest(),
            _ => None,
        };
        let Some(Slowed { pause, cost }) = slowed else {
            return;
        };
        self.inner.progress.slowed_down();
        let until = (self.inner.clock)().saturating_add(pause).ok();
        tracing::warn!(
            relay = self.place(),
            until = until.map(tracing::field::display),
            part_of_rate = format!("1/{cost}"),
            words,
            "the relay is given too much; slowing down"
        );
    }
}

impl Failure {
    /// Whether a reply closes or defers the connection before a mail: 421, or another 4xx, which every other connection
    /// would get as well. Replies that ask for a slower rate belong to the brake.
    fn turns_away(&self, reply: &Reply) -> bool {
        let verdict = judge(self.step, reply);
        !self.step.is_of_a_mail() && matches!(verdict, ReplyVerdict::Closing | ReplyVerdict::NotNow)
    }

    /// Whether the relay rejects the user name and password.
    pub(super) fn refuses_the_login(&self) -> bool {
        let refuses = |reply| judge(self.step, reply) == ReplyVerdict::Login;
        self.step == DialogueStep::Auth
            && matches!(&self.cause, Cause::Said(reply) if refuses(reply))
    }

    /// How a mail is rejected, if that is for a reason about us, or if the relay is not well: it closes the connection,
    /// or defers for a reason other than the mailbox.
    fn refuses_a_mail(&self) -> Option<FailureKind> {
        let Cause::Said(reply) = &self.cause else {
            return None;
        };
        let kind = match judge(self.step, reply) {
            ReplyVerdict::Refuses | ReplyVerdict::Login => FailureKind::Refused,
            ReplyVerdict::Closing | ReplyVerdict::NotNow => FailureKind::ServerError,
            ReplyVerdict::TooFast | ReplyVerdict::QuotaSpent => FailureKind::Throttled,
            _ => return None,
        };
        self.step.is_of_a_mail().then_some(kind)
    }

    /// Whether another connection may work.
    pub(super) fn is_about_the_connection(&self) -> bool {
        match &self.cause {
            Cause::Said(reply) => judge(self.step, reply) == ReplyVerdict::Closing,
            Cause::Unasked(_) | Cause::Wire(_) => true,
            // The wait was long enough.
            Cause::Late | Cause::Lacks(_) | Cause::NoLogin(_) => false,
        }
    }
}
