//! From rendered to delivered: one mail for each recipient, once.
//!
//! The relay is asked first (MAIL, RCPT, DATA); when it says "go on", the intent is recorded; only then the text
//! and its dot are sent, and the outcome is recorded. Whatever fails before the intent leaves no trace and is
//! tried again; whatever fails after it is never guessed about.

pub mod message;
pub mod outbox;
pub mod publish;
pub mod smtp;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lettre::Address;
use lettre::address::Envelope;
use serde_json::json;

pub use message::Sender;
pub use outbox::Outbox;
pub use publish::Publisher;
pub use smtp::{Relay, RelayError};

use crate::audit::{AuditLog, record};
use crate::config::OnDoubt;
use crate::edge::EdgeError;
use crate::job::{JobId, Recipient};
use crate::ledger::{Created, Kind, Ledger, LedgerError, Outcome, Record, Standing, standing};

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
    /// The mail could not be put together.
    #[error("the mail to {masked} could not be put together: {reason}")]
    Message {
        /// To whom; masked.
        masked: String,
        /// Why not.
        reason: String,
    },
    /// Nobody knows of so many attempts whether they were sent that no other is made.
    #[error(
        "the mail to {masked} was attempted {attempts} times, and each time nobody knows whether it left"
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
    /// Through a relay.
    Smtp(Relay),
}

/// A mail, ready to be handed over.
#[derive(Debug)]
pub struct Letter {
    /// From whom and to whom, as the relay is told.
    pub envelope: Envelope,
    /// The same for every attempt at the same mail.
    pub message_id: String,
    /// Headers and body.
    pub bytes: Vec<u8>,
    /// The subject and the address, for an outbox's table of contents.
    pub summary: Summary,
}

/// What an outbox shows of a mail.
#[derive(Debug, Clone)]
pub struct Summary {
    /// To whom.
    pub to: Address,
    /// About what.
    pub subject: String,
    /// The mail as a page.
    pub html: String,
}

/// A mail that the other side is ready to take: one more step sends it.
#[derive(Debug)]
enum Opened<'a> {
    Outbox(&'a Outbox),
    Smtp(Box<smtp::Transaction<'a>>),
}

/// What the other side said before the mail's text was sent.
#[derive(Debug)]
enum Opening<'a> {
    Ready(Opened<'a>),
    /// It will never take this mail.
    Rejected {
        code: u16,
        words: String,
    },
}

impl Mailer {
    /// Where mails go, for a sentence about it.
    fn place(&self) -> String {
        match self {
            Self::Outbox(outbox) => outbox.dir().display().to_string(),
            Self::Smtp(relay) => relay.place(),
        }
    }

    async fn open(&self, letter: &Letter) -> Result<Opening<'_>, DeliverError> {
        match self {
            Self::Outbox(outbox) => Ok(Opening::Ready(Opened::Outbox(outbox))),
            Self::Smtp(relay) => match relay.open(&letter.envelope).await {
                Ok(transaction) => Ok(Opening::Ready(Opened::Smtp(Box::new(transaction)))),
                Err(smtp::OpenError::Rejected { code, words }) => {
                    Ok(Opening::Rejected { code, words })
                }
                Err(smtp::OpenError::Relay(error)) => Err(error.into()),
            },
        }
    }
}

impl Opened<'_> {
    /// The irreversible step.
    async fn send(self, letter: &Letter) -> Outcome {
        match self {
            Opened::Outbox(outbox) => outbox.put(letter).await,
            Opened::Smtp(transaction) => transaction.send(&letter.bytes).await,
        }
    }
}

/// How a recipient's turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// In this turn.
    Ended(Outcome),
    /// Before this turn.
    EndedBefore(Outcome),
}

impl Turn {
    /// The end itself.
    pub const fn outcome(&self) -> &Outcome {
        match self {
            Self::Ended(outcome) | Self::EndedBefore(outcome) => outcome,
        }
    }
}

/// Where records of deliveries are kept: the ledger decides, the audit log tells.
#[derive(Debug, Clone)]
pub struct Books {
    /// What was already done.
    pub ledger: Arc<dyn Ledger>,
    /// Who was given what.
    pub audit: AuditLog,
    /// How people are named in both.
    pub names: record::Names,
    /// What to do when nobody knows whether a mail left.
    pub on_doubt: OnDoubt,
}

impl Books {
    /// Where a recipient stands; a doubt that a dead process left is recorded, and decided, here.
    pub async fn standing(
        &self,
        job: &JobId,
        recipient: &Recipient,
    ) -> Result<Standing, LedgerError> {
        let rid = self.rid(recipient);
        let found = standing(&self.ledger.records_of(job, &rid).await?, &rid)?;
        let n = match found {
            // No living process works this job (the state directory is locked, and the worker has it once): whoever
            // wrote the intent is dead, and whether its mail left, nobody here knows.
            Standing::Busy { n } => {
                tracing::warn!(job.id = %job, rid, n, on_doubt = ?self.on_doubt, "a mail may or may not have left before a crash");
                let words = "the process ended between its intent and its outcome".to_owned();
                let doubt = serde_json::to_value(Outcome::Unknown { words })
                    .expect("an outcome is plain data");
                self.ledger
                    .create(Record::new(job, &rid, n, Kind::Outcome, doubt))
                    .await?;
                n
            }
            // Decided here alone, so that a crash between a doubt and its verdict does not leave a mail unsent.
            Standing::Terminal {
                n,
                outcome: Outcome::Unknown { .. },
            } if self.on_doubt == OnDoubt::Resend => n,
            Standing::Free { .. } | Standing::Terminal { .. } | Standing::Exhausted => {
                return Ok(found);
            }
        };
        if self.on_doubt == OnDoubt::Resend {
            let verdict = json!({ "verdict": "resend_ok", "by": "on_doubt" });
            self.ledger
                .create(Record::new(job, &rid, n, Kind::Verdict, verdict))
                .await?;
        }
        standing(&self.ledger.records_of(job, &rid).await?, &rid)
    }

    /// The recipient's id.
    pub fn rid(&self, recipient: &Recipient) -> String {
        self.names.recipient_id(&recipient.canonical_address())
    }

    async fn intend(
        &self,
        job: &JobId,
        rid: &str,
        n: u32,
        message_id: &str,
    ) -> Result<bool, LedgerError> {
        let intent = Record::new(
            job,
            rid,
            n,
            Kind::Intent,
            json!({ "message_id": message_id }),
        );
        Ok(self.ledger.create(intent).await? == Created::Ours)
    }

    async fn conclude(
        &self,
        job: &JobId,
        rid: &str,
        n: u32,
        outcome: &Outcome,
        message_id: &str,
    ) -> Result<(), crate::error::JobError> {
        let body = serde_json::to_value(outcome).expect("an outcome is plain data");
        self.create_surely(Record::new(job, rid, n, Kind::Outcome, body))
            .await?;
        let (word, code) = (outcome.word(), outcome.code());
        let line = record::outcome(&record::Outcome {
            job: job.as_str(),
            rid,
            n,
            outcome: word,
            code,
            message_id,
        });
        Ok(self.audit.append(vec![line]).await?)
    }
}

impl Books {
    /// Creates a record of what is known now and would be forgotten otherwise: an outcome that is not recorded is a doubt,
    /// and a doubt may be a second mail. So a ledger that does not answer is asked again for a while.
    async fn create_surely(&self, record: Record) -> Result<(), LedgerError> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.ledger.create(record.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if pause > LONGEST_PAUSE => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        error = crate::error::chain(&error),
                        "an outcome is not recorded yet; trying again"
                    );
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}

/// Until which pause the recording of an outcome is tried again: a minute and a half in all.
const LONGEST_PAUSE: Duration = Duration::from_secs(50);

/// Delivers one letter to one recipient of a job, unless it was delivered before.
pub async fn deliver(
    letter: &Letter,
    job: &JobId,
    recipient: &Recipient,
    mailer: &Mailer,
    books: &Books,
) -> Result<Turn, crate::error::JobError> {
    let rid = books.rid(recipient);
    let n = match books.standing(job, recipient).await? {
        Standing::Free { n } => n,
        Standing::Terminal { outcome, .. } => return Ok(Turn::EndedBefore(outcome)),
        Standing::Busy { n } => return Err(someone_else(recipient, n).into()),
        Standing::Exhausted => {
            let attempts = crate::ledger::MAX_DOUBTS;
            return Err(DeliverError::Exhausted {
                masked: recipient.masked(),
                attempts,
            }
            .into());
        }
    };
    let opening = mailer.open(letter).await?;
    if !books.intend(job, &rid, n, &letter.message_id).await? {
        return Err(someone_else(recipient, n).into());
    }
    let outcome = match opening {
        Opening::Ready(opened) => opened.send(letter).await,
        Opening::Rejected { code, words } => Outcome::Rejected { code, words },
    };
    books
        .conclude(job, &rid, n, &outcome, &letter.message_id)
        .await?;
    match outcome {
        Outcome::NotSent { code, words } => {
            Err(DeliverError::Relay(RelayError::not_sent(mailer.place(), code, words)).into())
        }
        // The next attempt begins with the verdict; see `Books::standing`.
        Outcome::Unknown { .. } if books.on_doubt == OnDoubt::Resend => {
            Err(DeliverError::Relay(RelayError::no_reply(mailer.place())).into())
        }
        Outcome::Accepted { .. } | Outcome::Rejected { .. } | Outcome::Unknown { .. } => {
            Ok(Turn::Ended(outcome))
        }
    }
}

fn someone_else(recipient: &Recipient, n: u32) -> DeliverError {
    let reason = format!(
        "somebody else has taken up attempt {n}; is another process working with the same ledger?"
    );
    DeliverError::Message {
        masked: recipient.masked(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;
    use crate::ledger::memory::MemoryLedger;

    /// Where Ann stands, whose first mail is a doubt that the process recorded before it died.
    async fn standing_after_a_doubt(on_doubt: OnDoubt) -> Standing {
        let dir = tempfile::tempdir().unwrap();
        let (audit, _writer) = AuditLog::open(dir.path(), "test", crate::clock::system).unwrap();
        let names = record::Names::new(&Keyring::new([1; 32]), false);
        let books = Books {
            ledger: Arc::new(MemoryLedger::default()),
            audit,
            names,
            on_doubt,
        };
        let (job, ann) = (
            "job".parse().unwrap(),
            Recipient::parse("ann@acme.example").unwrap(),
        );
        let unknown = json!({ "outcome": "unknown", "words": "" });
        for (kind, body) in [(Kind::Intent, json!({})), (Kind::Outcome, unknown)] {
            books
                .ledger
                .create(Record::new(&job, &books.rid(&ann), 0, kind, body))
                .await
                .unwrap();
        }
        books.standing(&job, &ann).await.unwrap()
    }

    #[tokio::test]
    async fn a_doubt_without_a_verdict_is_still_decided() {
        assert_eq!(
            standing_after_a_doubt(OnDoubt::Resend).await,
            Standing::Free { n: 1 }
        );
        let held = standing_after_a_doubt(OnDoubt::Hold).await;
        assert!(matches!(
            held,
            Standing::Terminal {
                n: 0,
                outcome: Outcome::Unknown { .. }
            }
        ));
    }
}
