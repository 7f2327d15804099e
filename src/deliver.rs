//! From rendered to delivered: one mail for each recipient, once.
//!
//! The relay is asked first (MAIL, RCPT, DATA); when it says "go on", the intent is recorded; only then the text
//! and its dot are sent, and the outcome is recorded. Whatever fails before the intent leaves no trace and is
//! tried again; whatever fails after it is never guessed about.

pub mod books;
pub mod message;
pub mod outbox;
pub mod publish;
pub mod smtp;

use std::io;
use std::path::PathBuf;

use lettre::Address;
use lettre::address::Envelope;

pub use books::{Attempt, Books};
pub use message::Sender;
pub use outbox::Outbox;
pub use publish::Publisher;
pub use smtp::{Relay, RelayError};

use crate::edge::EdgeError;
use crate::error::JobError;
use crate::failpoint::{self, Failpoint};
use crate::job::{JobId, OnDoubt, Recipient};
use crate::ledger::Outcome;

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

/// Delivers one letter to one recipient of a job, as attempt `n`, which was free when somebody looked.
pub async fn deliver(
    letter: &Letter,
    job: &JobId,
    recipient: &Recipient,
    n: u32,
    on_doubt: OnDoubt,
    mailer: &Mailer,
    books: &Books,
) -> Result<Turn, JobError> {
    let rid = books.rid(recipient);
    let attempt = Attempt {
        job,
        rid: &rid,
        n,
        message_id: &letter.message_id,
    };
    let opening = mailer.open(letter).await?;
    failpoint::pass(Failpoint::GoAhead);
    if !books.intend(&attempt).await? {
        // Somebody else has it. Where that leaves the recipient, the next delivery of the job looks.
        let masked = recipient.masked();
        return Err(DeliverError::Taken { masked, n }.into());
    }
    failpoint::pass(Failpoint::Intended);
    let outcome = match opening {
        Opening::Ready(opened) => opened.send(letter).await,
        Opening::Rejected { code, words } => Outcome::Rejected { code, words },
    };
    failpoint::pass(Failpoint::Replied);
    books.conclude(&attempt, &outcome).await?;
    match outcome {
        Outcome::NotSent { code, words } => {
            Err(DeliverError::Relay(RelayError::not_sent(mailer.place(), code, words)).into())
        }
        // The next delivery begins with the decision; see `Books::look`.
        Outcome::Unknown { .. } if on_doubt == OnDoubt::Resend || books.resolver.is_some() => {
            Err(DeliverError::Relay(RelayError::no_reply(mailer.place())).into())
        }
        Outcome::Accepted { .. } | Outcome::Rejected { .. } | Outcome::Unknown { .. } => {
            Ok(Turn::Ended(outcome))
        }
    }
}
