//! From rendered to delivered: one mail for each recipient, once.
//!
//! A mail waits for its turn. Then the relay is asked (MAIL, RCPT, DATA); when it says "go on", the intent is recorded;
//! only then the text and its dot are sent, and the outcome is recorded. Whatever fails before the intent leaves no
//! trace and is tried again; whatever fails after it is never guessed about.

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

use lettre::Address;
use lettre::address::Envelope;

pub use message::Sender;
pub use outbox::Outbox;
pub use publish::Publisher;
pub use recorder::{AttemptRecord, DeliveryLedger};
pub use relays::Relays;
pub use smtp::{Relay, RelayError};

use crate::audit::RecordError;
use crate::cancellation::Commitment;
use crate::edge::EdgeError;
use crate::failpoint::{self, Failpoint};
use crate::job::{JobId, OnDoubt, Recipient, RelayName};
use crate::ledger::{LedgerError, Outcome};
use crate::redact::Secrets;

/// Why something could not be delivered.
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
    /// The configuration has no such relay any more.
    #[error("there is no relay {name}: see [mail.relays.{name}]")]
    NoRelay {
        /// Its name.
        name: String,
    },
    /// The relay said "later" about this mail: 4yz.
    #[error("the mail to {masked} is to be sent again in {} min: {words}", after.as_secs().div_ceil(60))]
    Later {
        /// To whom; masked.
        masked: String,
        /// How long there is no use in trying again.
        after: Duration,
        /// The relay's words, if it was asked just now.
        words: String,
    },
    /// A rate lets the mail pass later: its job does not hold a slot until then.
    #[error("the mail to {masked} waits for its turn at mail.domain_rate or mail.job_rate, in {} s", after.as_secs())]
    Paced {
        /// To whom; masked.
        masked: String,
        /// How long there is no use in trying again.
        after: Duration,
    },
    /// The notice to the operator did not leave.
    #[error("the notice to {masked} was not taken: {reason}")]
    Notice {
        /// To whom; masked.
        masked: String,
        /// Why not, in the relay's words.
        reason: String,
    },
    /// Another worker has taken up the attempt.
    #[error("another worker has taken up attempt {n} at the mail to {masked}")]
    Taken {
        /// To whom; masked.
        masked: String,
        /// Which attempt.
        n: u32,
    },
    /// Nobody knows of so many attempts whether they were sent that no other is made without a person's word.
    #[error(
        "the mail to {masked} was attempted {attempts} times, and each time nobody knows whether it left: `handout ledger resolve` lets it go or stay"
    )]
    Exhausted {
        /// To whom; masked.
        masked: String,
        /// How often it was tried.
        attempts: usize,
    },
}

/// How mails leave this machine. A closed set: both are for real use.
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
    /// From whom and to whom, as the relay is told.
    pub envelope: Envelope,
    /// Who the mail is for, which a relay's words about it must not repeat.
    pub secrets: Secrets,
    /// The same for every attempt at the same mail.
    pub message_id: String,
    /// Headers and body.
    pub bytes: Vec<u8>,
    /// The subject and the address, for an outbox's table of contents.
    pub summary: MailSummary,
}

/// What an outbox shows of a mail.
#[derive(Debug, Clone)]
pub struct MailSummary {
    /// To whom.
    pub to: Address,
    /// About what.
    pub subject: String,
    /// The mail as a page.
    pub html: String,
}

/// A way out whose turn it is to take a mail.
#[derive(Debug)]
pub enum Route<'a> {
    /// Into a directory.
    Outbox(&'a Outbox),
    /// Through a relay.
    Smtp(smtp::RelayPermit<'a>),
}

/// A mail that the other side is ready to take: one more step sends it.
#[derive(Debug)]
enum PreparedSend<'a> {
    Outbox(&'a Outbox),
    Smtp(Box<smtp::Transaction<'a>>),
}

/// What the other side said before the mail's text was sent.
#[derive(Debug)]
enum Handshake<'a> {
    Ready(PreparedSend<'a>),
    /// It will never take this mail.
    Never {
        code: u16,
        words: String,
    },
    /// It may take this mail later.
    Deferred(Deferral),
}

/// What became of a letter, and what is to be done where that is no end. Nothing that was not sent can be taken for an end.
#[derive(Debug)]
enum SendOutcome {
    /// It was accepted.
    Accepted { words: String },
    /// It was rejected.
    Rejected { code: u16, words: String },
    /// It was not sent, for certain.
    NotSent(Deferral),
    /// Nobody knows whether it was.
    Unknown { words: String, error: RelayError },
}

/// A letter that was not taken, and may be another time.
#[derive(Debug)]
struct Deferral {
    code: Option<u16>,
    words: String,
    because: DeferralReason,
}

/// Why a letter was not taken.
#[derive(Debug)]
enum DeferralReason {
    /// The relay said "later" and meant this mail.
    Later(smtp::DeferralKind),
    /// Something is wrong with the relay, or it will not have this mail; it had accepted so many others.
    Unclear { error: RelayError, accepted: u64 },
    /// Something is wrong with the way.
    Failed(DeliverError),
}

impl Mailer {
    /// Waits until one more mail of a job may be sent to a recipient: for the rates, for a connection, for a relay to want
    /// mail again. Can be left waiting at any moment.
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

    /// Who is to be served later.
    const fn later(&self) -> Option<&later::Later> {
        match self {
            Self::Outbox(_) => None,
            Self::Smtp(relays) => Some(&relays.later),
        }
    }

    /// Why there is no use in serving a recipient of a job yet, if there is none: a relay said "later", or a rate does.
    pub fn put_off(&self, job: &JobId, rid: &str, recipient: &Recipient) -> Option<DeliverError> {
        let Self::Smtp(relays) = self else {
            return None;
        };
        let Some(after) = relays.later.left(job, rid) else {
            return relays.paced(job, recipient).err();
        };
        Some(DeliverError::Later {
            masked: recipient.masked(),
            after,
            words: "the relay said so before".to_owned(),
        })
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
    /// Sends a letter that no ledger knows: a notice, a measurement. Nothing keeps it from being sent twice.
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
            Outcome::Unknown { words } => {
                let error = relay.no_reply();
                SendOutcome::Unknown { words, error }
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

/// How a recipient's turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryResult {
    /// In this turn.
    Ended(Outcome),
    /// Before this turn.
    EndedBefore(Outcome),
}

impl DeliveryResult {
    /// The end itself.
    pub const fn outcome(&self) -> &Outcome {
        match self {
            Self::Ended(outcome) | Self::EndedBefore(outcome) => outcome,
        }
    }
}

/// Whether a relay that says "later" about a mail is heeded, however often it has said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryWindow {
    /// It is asked again.
    Left,
    /// It was asked for as long as the links were to live: "later" is a no if it was said often.
    Over,
}

/// One attempt at one recipient of a job.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryAttempt<'a> {
    /// The job.
    pub job: &'a JobId,
    /// To whom.
    pub recipient: &'a Recipient,
    /// Which attempt; it was free when somebody looked.
    pub n: u32,
    /// What is done when nobody knows whether the mail left.
    pub on_doubt: OnDoubt,
    /// Whether a relay that says "later" is heeded.
    pub patience: RetryWindow,
}

/// Delivers one letter, when it is its turn.
///
/// `may_go_on` is asked when the other side has said "go on", which may have taken
/// long: a letter that may not be sent any more is dropped, and was not sent. What it returns is held until the outcome is
/// recorded.
///
/// # Errors
/// `E` is the caller's error: what `may_go_on` says, and what the relay, the ledger or the audit log failed with.
pub async fn deliver<E>(
    letter: &Letter,
    errand: &DeliveryAttempt<'_>,
    way: Route<'_>,
    mailer: &Mailer,
    books: &DeliveryLedger,
    may_go_on: impl Fn() -> Result<Commitment, E> + Send,
) -> Result<DeliveryResult, E>
where
    E: From<DeliverError> + From<LedgerError> + From<RecordError>,
{
    let DeliveryAttempt {
        job, recipient, n, ..
    } = *errand;
    let rid = books.rid(recipient);
    let attempt = AttemptRecord {
        job,
        rid: &rid,
        n,
        message_id: &letter.message_id,
    };
    let opening = match way.open(letter).await? {
        Handshake::Deferred(not_now) if !not_now.is_a_no(errand, &rid, mailer) => {
            return Err(not_now.put_off(errand, &rid, mailer).into());
        }
        opening => opening,
    };
    failpoint::pass(Failpoint::GoAhead);
    let _commitment = may_go_on()?;
    if !books.intend(&attempt).await? {
        // Somebody else has it. Where that leaves the recipient, the next delivery of the job looks.
        let masked = recipient.masked();
        return Err(DeliverError::Taken { masked, n }.into());
    }
    failpoint::pass(Failpoint::Intended);
    let sent = match opening {
        Handshake::Ready(opened) => match opened.send_and_tell(letter).await {
            SendOutcome::NotSent(not_now) if not_now.is_a_no(errand, &rid, mailer) => {
                not_now.given_up()
            }
            sent => sent,
        },
        Handshake::Never { code, words } => SendOutcome::Rejected { code, words },
        Handshake::Deferred(not_now) => not_now.given_up(),
    };
    failpoint::pass(Failpoint::Replied);
    let outcome = sent.outcome();
    books.conclude::<E>(&attempt, &outcome).await?;
    settle(errand, &rid, sent, mailer, books)?;
    if let Some(later) = mailer.later() {
        later.forget(job, &rid);
    }
    Ok(DeliveryResult::Ended(outcome))
}

/// Whether a recorded outcome ends the recipient's turn; why not, if it does not.
fn settle(
    errand: &DeliveryAttempt<'_>,
    rid: &str,
    sent: SendOutcome,
    mailer: &Mailer,
    books: &DeliveryLedger,
) -> Result<(), DeliverError> {
    match sent {
        SendOutcome::Accepted { .. } | SendOutcome::Rejected { .. } => Ok(()),
        SendOutcome::NotSent(not_now) => Err(not_now.put_off(errand, rid, mailer)),
        SendOutcome::Unknown { .. }
            if errand.on_doubt == OnDoubt::Hold && books.resolver.is_none() =>
        {
            Ok(())
        }
        // The next delivery begins with the decision; see `DeliveryLedger::look`.
        SendOutcome::Unknown { error, .. } => Err(error.into()),
    }
}

impl Deferral {
    /// The code of a mail that is given up without one: a connection broke in its text, time and again. RFC 5321, section
    /// 4.2.3: "local error in processing".
    const WITHOUT_CODE: u16 = 451;

    /// Whether it is the last of too many: it is about this mail, and it was said for too long.
    fn is_a_no(&self, errand: &DeliveryAttempt<'_>, rid: &str, mailer: &Mailer) -> bool {
        let (RetryWindow::Over, Some(later)) = (errand.patience, mailer.later()) else {
            return false;
        };
        match self.because {
            DeferralReason::Later(_) => later.is_often(errand.job, rid),
            DeferralReason::Unclear { accepted, .. } => {
                later.is_often_and_others_are_taken(errand.job, rid, accepted)
            }
            DeferralReason::Failed(_) => false,
        }
    }

    /// The end of a mail that was to be sent later for too long.
    fn given_up(self) -> SendOutcome {
        SendOutcome::Rejected {
            code: self.code.unwrap_or(Self::WITHOUT_CODE),
            words: format!(
                "given up, since it was to be sent later for too long: {}",
                self.words
            ),
        }
    }

    /// Remembers it, for the next time.
    fn put_off(self, errand: &DeliveryAttempt<'_>, rid: &str, mailer: &Mailer) -> DeliverError {
        let later = mailer.later();
        match self.because {
            DeferralReason::Later(kind) => DeliverError::Later {
                masked: errand.recipient.masked(),
                after: later
                    .map(|later| later.put_off(errand.job, rid, kind))
                    .unwrap_or_default(),
                words: self.words,
            },
            DeferralReason::Unclear { error, accepted } => {
                if let Some(later) = later {
                    later.note(errand.job, rid, accepted);
                    // The others of the job come first next time.
                    if error.needs_a_person() {
                        later.refused(errand.job, rid);
                    }
                }
                error.into()
            }
            DeferralReason::Failed(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancellation::Cancellation;
    use crate::error::JobError;
    use crate::ledger::{JobRecords, RecipientStatus};

    fn letter(recipient: &Recipient) -> Letter {
        let to = recipient.address.clone();
        Letter {
            envelope: Envelope::new(None, vec![to.clone()]).unwrap(),
            secrets: Secrets::default(),
            message_id: "<abc@sender.example>".to_owned(),
            bytes: b"Subject: x\r\n\r\nbody".to_vec(),
            summary: MailSummary {
                to,
                subject: String::new(),
                html: String::new(),
            },
        }
    }

    /// Looks where Ann stands and delivers her mail.
    async fn serve_ann(
        books: &DeliveryLedger,
        outbox: &Outbox,
        stop: &Cancellation,
    ) -> Result<DeliveryResult, JobError> {
        let (job, ann) = (
            "job".parse().unwrap(),
            Recipient::parse("ann@acme.example").unwrap(),
        );
        let sheet = JobRecords::new(books.ledger.records(&job).await?);
        let RecipientStatus::Ready { n } = books.look(&job, &sheet, &ann, OnDoubt::Hold).await?
        else {
            panic!("Ann has an end")
        };
        let errand = DeliveryAttempt {
            job: &job,
            recipient: &ann,
            n,
            on_doubt: OnDoubt::Hold,
            patience: RetryWindow::Left,
        };
        let (mailer, way) = (Mailer::Outbox(outbox.clone()), Route::Outbox(outbox));
        deliver(&letter(&ann), &errand, way, &mailer, books, || {
            Ok(stop.commit()?)
        })
        .await
    }

    #[tokio::test]
    async fn a_mail_that_could_not_be_written_is_no_end_and_is_written_after_the_repair() {
        let dir = tempfile::tempdir().unwrap();
        let books = recorder::tests::books(&dir.path().join("audit"), None);
        let outbox = Outbox::open(dir.path().join("outbox")).unwrap();
        std::fs::remove_dir(outbox.dir()).unwrap();
        for _ in 0..2 {
            let failed = serve_ann(&books, &outbox, &Cancellation::default()).await;
            assert!(
                matches!(
                    failed,
                    Err(JobError::Deliver(DeliverError::File { ref path, .. })) if path == outbox.dir()
                ),
                "{failed:?}"
            );
        }
        std::fs::create_dir(outbox.dir()).unwrap();
        let turn = serve_ann(&books, &outbox, &Cancellation::default())
            .await
            .unwrap();
        assert!(matches!(
            turn,
            DeliveryResult::Ended(Outcome::Accepted { .. })
        ));
        assert!(outbox.dir().join("abc.eml").exists());
    }
    #[tokio::test]
    async fn a_stop_between_the_go_ahead_and_the_intent_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let books = recorder::tests::books(&dir.path().join("audit"), None);
        let outbox = Outbox::open(dir.path().join("outbox")).unwrap();
        let stop = Cancellation::default();
        stop.cancel();
        let stopped = serve_ann(&books, &outbox, &stop).await.unwrap_err();
        assert!(stopped.is_stopped(), "{stopped}");
        let records = books.ledger.records(&"job".parse().unwrap()).await.unwrap();
        assert_eq!(records, []);
    }
}
