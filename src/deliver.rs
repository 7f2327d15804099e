//! From rendered to delivered: one mail for each recipient, once.
//!
//! A mail first waits for a permit. Then it is announced to the relay (MAIL, RCPT, DATA). After the 354 reply the
//! intent is recorded. Only then the text and the end of DATA are sent, and the outcome is recorded. A failure before
//! the intent leaves no record and is retried. A failure after the intent is recorded as unknown, never guessed.

mod known;
mod later;
pub mod message;
pub mod notice;
pub mod outbox;
pub mod publish;
pub mod recorder;
pub mod relays;
pub mod smtp;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use self::later::RecipientWait;
use lettre::Address;
use lettre::address::Envelope;

pub use known::KnownOutcomes;
pub use message::Sender;
pub use outbox::Outbox;
pub use publish::Publisher;
use recorder::Concluded;
pub use recorder::{AttemptRecord, DeliveryLedger};
pub use relays::Relays;
pub(crate) use smtp::domains_hash;
pub use smtp::{Relay, RelayError};

use crate::audit::RecordError;
use crate::cancellation::Commitment;
use crate::edge::EdgeError;
use crate::edge::health::Outage;
use crate::failpoint::{self, Failpoint};
use crate::job::{JobId, OnDoubt, Recipient, RelayName};
use crate::ledger::{LedgerError, Outcome};
use crate::redact::Secrets;

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// A page or a list could not be put into its bucket.
    #[error(transparent)]
    Publish(EdgeError),
    /// A page, a list or a mail could not be put into its directory.
    #[error("could not write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The relay could not be used.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The configuration no longer has the relay.
    #[error("unknown relay {name}: configure [mail.relays.{name}]")]
    NoRelay {
        /// Its name.
        name: String,
    },
    /// The relay deferred this mail: 4xx.
    #[error("the mail to {masked} is deferred for {} min: {words}", after.as_secs().div_ceil(60))]
    Later {
        /// The recipient, masked.
        masked: String,
        /// How long to wait at least before the next try.
        after: Duration,
        /// The relay's text, if it was asked just now.
        words: String,
    },
    /// A rate delays the mail: its job gives its slot back until then.
    #[error("the mail to {masked} is deferred by {} for {} s", by.key(), after.as_secs())]
    Paced {
        /// The recipient, masked.
        masked: String,
        /// How long to wait at least before the next try.
        after: Duration,
        /// Which rate.
        by: PacedBy,
    },
    /// The notice to the operator was not sent.
    #[error("the notice to {masked} was not accepted: {reason}")]
    Notice {
        /// The recipient, masked.
        masked: String,
        /// The reason, in the relay's words.
        reason: String,
    },
    /// Another worker has the right to the attempt.
    #[error("another worker has started attempt {n} of the mail to {masked}")]
    Taken {
        /// The recipient, masked.
        masked: String,
        /// The attempt's number.
        n: u32,
    },
    /// So many attempts have an unknown outcome that another one needs an operator's decision.
    #[error(
        "the mail to {masked} was attempted {attempts} times, and each attempt is in doubt: find out whether it was sent, then run `handout ledger resolve`"
    )]
    Exhausted {
        /// The recipient, masked.
        masked: String,
        /// How many attempts were made.
        attempts: usize,
    },
}

/// Why a recipient is not served now.
#[derive(Debug)]
pub enum PutOff {
    /// For a reason of their own mail.
    Recipient(DeliverError),
    /// The relay is down, and the mail to this recipient is not the one to try it with for so long.
    Relay {
        /// The outage.
        outage: Outage,
        /// For how long.
        after: Duration,
    },
}

/// How mails leave this machine.
///
/// A further channel is a variant here and in [`Route`], and `Transport` of the configuration: each `match` over it names all
/// variants, so that the compiler leads to every place.
#[derive(Debug, Clone)]
pub enum Mailer {
    /// Into a directory.
    Outbox(Outbox),
    /// Through relays.
    Smtp(Relays),
}

/// A mail, ready to be handed over.
#[derive(Debug)]
pub struct Letter {
    /// Sender and recipient, as in MAIL and RCPT.
    pub envelope: Envelope,
    /// What identifies the recipient, which logged replies of the relay must not repeat.
    pub secrets: Secrets,
    /// The same for every attempt at the same mail.
    pub message_id: String,
    /// Headers and body.
    pub bytes: Vec<u8>,
    /// The subject and the address, for an outbox's table of contents.
    pub summary: MailSummary,
}

/// The mail as an outbox lists it.
#[derive(Debug, Clone)]
pub struct MailSummary {
    /// The recipient.
    pub to: Address,
    /// The subject.
    pub subject: String,
    /// The mail as a page.
    pub html: String,
}

/// A route with a permit to send one mail.
#[derive(Debug)]
pub enum Route<'a> {
    /// Into a directory.
    Outbox(&'a Outbox),
    /// Through a relay.
    Smtp(smtp::RelayPermit<'a>),
}

/// A mail that the other side is ready to receive: one more step sends it.
#[derive(Debug)]
enum PreparedSend<'a> {
    Outbox(&'a Outbox),
    Smtp(Box<smtp::Transaction<'a>>),
}

/// The other side's answer before the mail's text was sent.
#[derive(Debug)]
enum Handshake<'a> {
    Ready(PreparedSend<'a>),
    /// The mail will never be accepted.
    Never {
        code: u16,
        words: String,
    },
    /// The mail may be accepted later.
    Deferred(Deferral),
}

/// The outcome of a letter, and what follows if it is not final. A letter that was not sent never becomes final here.
#[derive(Debug)]
enum SendOutcome {
    /// It was accepted.
    Accepted { words: String },
    /// It was rejected.
    Rejected { code: u16, words: String },
    /// It was certainly not sent.
    NotSent(Deferral),
    /// The mail may or may not have been sent.
    Unknown {
        words: String,
        error: RelayError,
        /// How many mails the relay had accepted.
        accepted: u64,
    },
}

/// A letter that was not accepted, and may be accepted later.
#[derive(Debug)]
struct Deferral {
    code: Option<u16>,
    words: String,
    because: DeferralReason,
}

/// Why a letter was not accepted.
#[derive(Debug)]
enum DeferralReason {
    /// The relay deferred this mail.
    Later(smtp::DeferralKind),
    /// The relay is not well, or rejects this mail. `accepted` is its count of accepted mails.
    Unclear { error: RelayError, accepted: u64 },
    /// The route failed.
    Failed(DeliverError),
}

/// The rate that delays a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacedBy {
    /// That of the recipient's domain.
    DomainRate,
    /// That of the job, whose other mails wait too.
    JobRate,
}

impl PacedBy {
    /// Its key in the configuration.
    const fn key(self) -> &'static str {
        match self {
            Self::DomainRate => "mail.domain_rate",
            Self::JobRate => "mail.job_rate",
        }
    }
}

impl DeliverError {
    /// Whether it is about one recipient, and says nothing about the mails to others.
    pub const fn is_of_recipient(&self) -> bool {
        match self {
            Self::Later { .. }
            | Self::Taken { .. }
            | Self::Exhausted { .. }
            | Self::Paced {
                by: PacedBy::DomainRate,
                ..
            } => true,
            Self::Relay(error) => error.is_of_mail(),
            Self::Publish(_)
            | Self::File { .. }
            | Self::NoRelay { .. }
            | Self::Paced {
                by: PacedBy::JobRate,
                ..
            }
            | Self::Notice { .. } => false,
        }
    }
}

impl Mailer {
    /// Fails if the rate of the recipient's domain delays a mail for longer than its job may hold a slot.
    pub fn domain_paced(&self, recipient: &Recipient) -> Result<(), DeliverError> {
        match self {
            Self::Outbox(_) => Ok(()),
            Self::Smtp(relays) => relays.domain_paced(recipient),
        }
    }

    /// Waits until one more mail of a job may be sent to a recipient: for the rates, for a connection, for the end of
    /// the relay's pause. The future may be dropped at any time.
    pub async fn turn(
        &self,
        relay: &RelayName,
        job: &JobId,
        recipient: &Recipient,
    ) -> Result<Route<'_>, DeliverError> {
        Ok(match self {
            Self::Outbox(outbox) => Route::Outbox(outbox),
            Self::Smtp(relays) => Route::Smtp(relays.turn(relay, job, recipient).await?),
        })
    }

    /// Ends the connections of the relays that `successor` does not have.
    pub(crate) fn hand_over_to(&self, successor: &Self) {
        let relays = match self {
            Self::Outbox(_) => return,
            Self::Smtp(relays) => relays,
        };
        for (_, relay) in relays.iter() {
            let is_kept = match successor {
                Self::Smtp(others) => others.iter().any(|(_, other)| other.is(relay)),
                Self::Outbox(_) => false,
            };
            if !is_kept {
                relay.retire();
            }
        }
    }

    /// The deferred recipients.
    const fn later(&self) -> Option<&later::Later> {
        match self {
            Self::Outbox(_) => None,
            Self::Smtp(relays) => Some(&relays.later),
        }
    }

    /// Why a recipient of a job cannot be served yet, if so: the relay deferred the mail, or a rate applies.
    pub fn put_off(
        &self,
        name: &RelayName,
        job: &JobId,
        rid: &str,
        recipient: &Recipient,
    ) -> Option<PutOff> {
        let relays = match self {
            Self::Outbox(_) => return None,
            Self::Smtp(relays) => relays,
        };
        let relay = relays.get(name)?;
        let Some(wait) = relays.later.left(job, rid, relay) else {
            return relays.paced(job, recipient).err().map(PutOff::Recipient);
        };
        let (after, words) = match wait {
            RecipientWait::Mail(after) => (after, "the relay deferred an earlier attempt"),
            RecipientWait::Relay(after) => match relay.edge().outage() {
                Some(outage) => return Some(PutOff::Relay { outage, after }),
                None => (after, "the relay failed at an earlier attempt"),
            },
        };
        Some(PutOff::Recipient(DeliverError::Later {
            masked: recipient.masked(),
            after,
            words: words.to_owned(),
        }))
    }
}

impl<'a> Route<'a> {
    async fn open(self, letter: &Letter) -> Result<Handshake<'a>, DeliverError> {
        let turn = match self {
            Self::Outbox(outbox) => return Ok(Handshake::Ready(PreparedSend::Outbox(outbox))),
            Self::Smtp(turn) => turn,
        };
        let relay = turn.relay().clone();
        Ok(match turn.open(letter).await {
            Ok(transaction) => Handshake::Ready(PreparedSend::Smtp(Box::new(transaction))),
            Err(smtp::RelayOpenError::Never { code, words }) => Handshake::Never { code, words },
            Err(smtp::RelayOpenError::Later { kind, code, words }) => {
                Handshake::Deferred(Deferral {
                    code: Some(code),
                    words,
                    because: DeferralReason::Later(kind),
                })
            }
            Err(smtp::RelayOpenError::Unclear { code, words, error }) => {
                Handshake::Deferred(Deferral {
                    code: Some(code),
                    words,
                    because: DeferralReason::Unclear {
                        error,
                        accepted: relay.accepted(),
                    },
                })
            }
            Err(smtp::RelayOpenError::Relay(error)) => return Err(error.into()),
        })
    }
}

impl Route<'_> {
    /// Sends a letter without a ledger record: a notice, a measurement. It may be sent twice.
    pub async fn send_unrecorded(self, letter: &Letter) -> Result<Outcome, DeliverError> {
        Ok(match self.open(letter).await? {
            Handshake::Ready(opened) => opened.send_and_tell(letter).await.outcome(),
            Handshake::Never { code, words } => Outcome::Rejected { code, words },
            Handshake::Deferred(Deferral { code, words, .. }) => Outcome::NotSent { code, words },
        })
    }
}

impl PreparedSend<'_> {
    /// The irreversible step.
    async fn send_and_tell(self, letter: &Letter) -> SendOutcome {
        let transaction = match self {
            PreparedSend::Outbox(outbox) => {
                return match outbox.put(letter).await {
                    Ok(words) => SendOutcome::Accepted { words },
                    Err(error) => SendOutcome::not_written(outbox, error),
                };
            }
            PreparedSend::Smtp(transaction) => transaction,
        };
        let relay = transaction.relay().clone();
        let smtp::Sent {
            outcome,
            about,
            refusal,
        } = transaction.send(&letter.bytes).await;
        match outcome {
            Outcome::Accepted { words } => SendOutcome::Accepted { words },
            Outcome::Rejected { code, words } => SendOutcome::Rejected { code, words },
            Outcome::NotSent { code, words } => {
                let error = relay.not_sent(words.clone(), refusal);
                let because = match about {
                    smtp::DeferralScope::Mail(kind) => DeferralReason::Later(kind),
                    smtp::DeferralScope::Either => DeferralReason::Unclear {
                        error,
                        accepted: relay.accepted(),
                    },
                    smtp::DeferralScope::Relay => DeferralReason::Failed(error.into()),
                };
                SendOutcome::NotSent(Deferral {
                    code,
                    words,
                    because,
                })
            }
            Outcome::Unknown { words } | Outcome::Suppressed { words } => {
                let error = relay.no_reply();
                SendOutcome::Unknown {
                    words,
                    error,
                    accepted: relay.accepted(),
                }
            }
        }
    }
}

impl SendOutcome {
    /// A mail that could not be written.
    fn not_written(outbox: &Outbox, source: io::Error) -> Self {
        let path = outbox.dir().to_owned();
        Self::NotSent(Deferral {
            code: None,
            words: format!("could not write to {}: {source}", path.display()),
            because: DeferralReason::Failed(DeliverError::File { path, source }),
        })
    }

    /// What is recorded.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Accepted { words } => Outcome::Accepted {
                words: words.clone(),
            },
            Self::Rejected { code, words } => Outcome::Rejected {
                code: *code,
                words: words.clone(),
            },
            Self::NotSent(Deferral { code, words, .. }) => Outcome::NotSent {
                code: *code,
                words: words.clone(),
            },
            Self::Unknown { words, .. } => Outcome::Unknown {
                words: words.clone(),
            },
        }
    }
}

/// The result of a recipient's delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The outcome came in this delivery.
    Ended(Outcome),
    /// The outcome came in this delivery, after another worker had recorded the attempt as in doubt.
    EndedLate(Outcome),
    /// The outcome was recorded before.
    EndedBefore(Outcome),
}

impl DeliveryResult {
    /// The final outcome.
    pub const fn outcome(&self) -> &Outcome {
        match self {
            Self::Ended(outcome) | Self::EndedLate(outcome) | Self::EndedBefore(outcome) => outcome,
        }
    }
}

/// Whether a mail that a relay defers is retried, however often it was deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryWindow {
    /// The mail is retried.
    Left,
    /// The mail was retried for as long as the links were to live: a repeated deferral is now final.
    Over,
}

/// One attempt to deliver to a recipient of a job.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryAttempt<'a> {
    /// The job.
    pub job: &'a JobId,
    /// The recipient.
    pub recipient: &'a Recipient,
    /// The number of the attempt; it was free when the status was read.
    pub n: u32,
    /// What happens if the outcome is unknown.
    pub on_doubt: OnDoubt,
    /// Whether a deferred mail is retried.
    pub patience: RetryWindow,
}

/// Delivers one letter, once it has a permit.
///
/// `may_go_on` is called after the other side's "go on", which may have taken long. If it fails, the letter is dropped
/// and was not sent. Its return value is held until the outcome is recorded.
///
/// # Errors
/// `E` is the caller's error: from `may_go_on`, the relay, the ledger or the audit log.
pub async fn deliver<E>(
    letter: &Letter,
    delivery: &DeliveryAttempt<'_>,
    way: Route<'_>,
    mailer: &Mailer,
    recording: &DeliveryLedger,
    may_go_on: impl Fn() -> Result<Commitment, E> + Send,
) -> Result<DeliveryResult, E>
where
    E: From<DeliverError> + From<LedgerError> + From<RecordError>,
{
    let DeliveryAttempt {
        job, recipient, n, ..
    } = *delivery;
    let rid = recording.rid(recipient);
    let attempt = AttemptRecord {
        job,
        rid: &rid,
        to: &recipient.canonical_address(),
        n,
        message_id: &letter.message_id,
    };
    let opening = match way.open(letter).await? {
        Handshake::Deferred(not_now) if !not_now.is_a_no(delivery, &rid, mailer) => {
            return Err(not_now.put_off(delivery, &rid, mailer).into());
        }
        opening => opening,
    };
    failpoint::pass(Failpoint::GoAhead);
    let _commitment = may_go_on()?;
    let Some(intent) = recording.intend(&attempt).await? else {
        // Another worker has the attempt. The next delivery of the job reads the recipient's status.
        let masked = recipient.masked();
        return Err(DeliverError::Taken { masked, n }.into());
    };
    failpoint::pass(Failpoint::Intended);
    let sent = match opening {
        Handshake::Ready(opened) => match opened.send_and_tell(letter).await {
            SendOutcome::NotSent(not_now) if not_now.is_a_no(delivery, &rid, mailer) => {
                not_now.given_up()
            }
            sent => sent,
        },
        Handshake::Never { code, words } => SendOutcome::Rejected { code, words },
        Handshake::Deferred(not_now) => not_now.given_up(),
    };
    failpoint::pass(Failpoint::Replied);
    let outcome = sent.outcome();
    let concluded = recording.conclude::<E>(&attempt, &intent, &outcome).await?;
    settle(delivery, &rid, sent, mailer, recording)?;
    if let Some(later) = mailer.later() {
        later.forget(job, &rid);
    }
    Ok(match concluded {
        Concluded::First => DeliveryResult::Ended(outcome),
        Concluded::Late => DeliveryResult::EndedLate(outcome),
    })
}

/// Whether a recorded outcome is final for the recipient; the reason, if it is not.
fn settle(
    delivery: &DeliveryAttempt<'_>,
    rid: &str,
    sent: SendOutcome,
    mailer: &Mailer,
    recording: &DeliveryLedger,
) -> Result<(), DeliverError> {
    match sent {
        SendOutcome::Accepted { .. } | SendOutcome::Rejected { .. } => Ok(()),
        SendOutcome::NotSent(not_now) => Err(not_now.put_off(delivery, rid, mailer)),
        SendOutcome::Unknown { .. }
            if delivery.on_doubt == OnDoubt::Hold && recording.resolver.is_none() =>
        {
            Ok(())
        }
        // The next delivery resolves it first; see `DeliveryLedger::look`.
        SendOutcome::Unknown {
            error, accepted, ..
        } => {
            if let Some(later) = mailer.later() {
                later.doubted(delivery.job, rid, accepted);
            }
            Err(error.into())
        }
    }
}

impl Deferral {
    /// The reply code of a mail that failed for good without a reply: its connection broke in the text, repeatedly. RFC
    /// 5321, section 4.2.3: "local error in processing".
    const WITHOUT_CODE: u16 = 451;

    /// Whether the deferral becomes final: it is about this mail, and the mail was deferred for too long.
    fn is_a_no(&self, delivery: &DeliveryAttempt<'_>, rid: &str, mailer: &Mailer) -> bool {
        let (RetryWindow::Over, Some(later)) = (delivery.patience, mailer.later()) else {
            return false;
        };
        match self.because {
            DeferralReason::Later(_) => later.is_often(delivery.job, rid),
            DeferralReason::Unclear { accepted, .. } => {
                later.is_often_and_others_are_taken(delivery.job, rid, accepted)
            }
            DeferralReason::Failed(_) => false,
        }
    }

    /// The final outcome of a mail that was deferred for too long.
    fn given_up(self) -> SendOutcome {
        SendOutcome::Rejected {
            code: self.code.unwrap_or(Self::WITHOUT_CODE),
            words: format!("retries exhausted: {}", self.words),
        }
    }

    /// Records the deferral for the next delivery.
    fn put_off(self, delivery: &DeliveryAttempt<'_>, rid: &str, mailer: &Mailer) -> DeliverError {
        let later = mailer.later();
        match self.because {
            DeferralReason::Later(kind) => DeliverError::Later {
                masked: delivery.recipient.masked(),
                after: later
                    .map(|later| later.put_off(delivery.job, rid, kind))
                    .unwrap_or_default(),
                words: self.words,
            },
            DeferralReason::Unclear { error, accepted } => {
                if let Some(later) = later {
                    later.note(delivery.job, rid, accepted);
                    // The job's other recipients come first in the next delivery.
                    if error.needs_a_person() {
                        later.refused(delivery.job, rid);
                    }
                }
                error.into()
            }
            DeferralReason::Failed(error) => error,
        }
    }
}

#[cfg(test)]
mod tests;
