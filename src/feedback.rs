//! What mail systems report about mails that a relay had accepted: bounces, complaints, deliveries. Pure.
//!
//! Three sources are read: events of Amazon SES ([`ses`]), and as mails delivery reports (DSN, RFC 3464) and complaints (ARF, RFC 5965), in
//! [`report`]. [`rules`] judges each; what is doubtful suppresses no recipient. Which recipient of ours an event is about says the token in
//! its envelope sender, see [`crate::person_token`]; the addresses in an event are not believed for that.

pub mod report;
pub mod rules;
pub mod ses;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keyring::sha256_hex;
use crate::person_token::{FoundToken, PersonKeys};
use crate::redact::redacted;

/// The longest text of a receiving server that is kept, in bytes.
const MAX_WORDS: usize = 300;

/// The most recipients of one event. A mail of ours has one.
const MAX_PEOPLE: usize = 50;

/// What an event means for a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackVerdict {
    /// The mailbox or its domain does not exist: suppressed until it is lifted.
    Hard,
    /// The relay has the address on a list of its own: suppressed until it is lifted, here and there.
    ByRelay,
    /// The recipient complained: suppressed until it is lifted.
    Complaint,
    /// The mail did not arrive for now; several of them suppress for a time.
    Soft,
    /// The mail itself was refused, for its content, its size or a policy: says nothing of the recipient.
    MailFault,
    /// The relay refused the mail before it tried to deliver it.
    Rejected,
    /// The mail is delayed.
    Delayed,
    /// The receiving server took the mail.
    Delivered,
    /// Noted and nothing else: a complaint that is none, a relayed mail.
    Noted,
}

impl FeedbackVerdict {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Hard,
        Self::ByRelay,
        Self::Complaint,
        Self::Soft,
        Self::MailFault,
        Self::Rejected,
        Self::Delayed,
        Self::Delivered,
        Self::Noted,
    ];

    /// The word in records, lines and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::ByRelay => "by_relay",
            Self::Complaint => "complaint",
            Self::Soft => "soft",
            Self::MailFault => "mail_fault",
            Self::Rejected => "rejected",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Noted => "noted",
        }
    }

    /// Whether it alone suppresses its recipient.
    pub const fn suppresses(self) -> bool {
        matches!(self, Self::Hard | Self::ByRelay | Self::Complaint)
    }
}

impl fmt::Display for FeedbackVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackSource {
    /// An event of Amazon SES.
    Ses,
    /// A delivery report, or a bounce in free text.
    Dsn,
    /// A complaint of a mailbox provider.
    Arf,
}

/// An event about one mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackEvent {
    /// Sixteen hexadecimal digits, the same each time that the event comes.
    pub id: String,
    /// When it happened, if the event says it.
    pub at: Option<Timestamp>,
    /// Where it came from.
    pub source: FeedbackSource,
    /// Texts that may be the envelope sender of the mail.
    pub senders: Vec<String>,
    /// Message-IDs that may be the mail's, with their angle brackets.
    pub message_ids: Vec<String>,
    /// The recipients that it names, and what it means for each.
    pub people: Vec<PersonFeedback>,
}

/// What an event says of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonFeedback {
    /// The address as the event has it; it may be redacted, or that of a forwarding.
    pub address: Option<String>,
    /// What it means.
    pub verdict: FeedbackVerdict,
    /// The enhanced status code, such as `5.1.1`.
    pub status: Option<String>,
    /// The words of the receiving server, without addresses and links.
    pub words: String,
}

/// Why an event or a mail is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoredReport {
    /// An automatic reply of a person's mail program.
    AutoReply,
    /// Its token was not made here.
    Forged,
    /// A mail that is no report.
    NoReport,
    /// It is about no mail of ours.
    NotOurs,
    /// SES took a mail, which the relay's reply said already.
    Send,
    /// A topic of SNS wants to be confirmed.
    Subscription,
    /// SES tested the destination.
    Test,
    /// An event of a kind that is not known.
    Unknown,
    /// It cannot be read.
    Unreadable,
}

impl IgnoredReport {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AutoReply,
        Self::Forged,
        Self::NoReport,
        Self::NotOurs,
        Self::Send,
        Self::Subscription,
        Self::Test,
        Self::Unknown,
        Self::Unreadable,
    ];

    /// The word in lines and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AutoReply => "auto_reply",
            Self::Forged => "forged",
            Self::NoReport => "no_report",
            Self::NotOurs => "not_ours",
            Self::Send => "send",
            Self::Subscription => "subscription",
            Self::Test => "test",
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a text or a mail was read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedbackRead {
    /// An event about a mail.
    Event(FeedbackEvent),
    /// Nothing that is acted on: the reason, for a counter and a log line.
    Ignored(IgnoredReport),
}

impl FeedbackEvent {
    /// The one verdict of an event about a mail of ours, which has one recipient: what its recipients have in common.
    ///
    /// An event that says different things of several recipients is doubtful, and the least of them holds.
    pub fn verdict(&self) -> FeedbackVerdict {
        let verdicts = self.people.iter().map(|person| person.verdict);
        verdicts.max().unwrap_or(FeedbackVerdict::Noted)
    }

    /// The recipient whose verdict is that of the event.
    pub fn person(&self) -> Option<&PersonFeedback> {
        self.people.iter().max_by_key(|person| person.verdict)
    }

    /// The token of the mail's envelope sender. One that is forged stands for none.
    pub fn token(&self, keys: &PersonKeys) -> FoundToken {
        let mut found = FoundToken::Missing;
        for sender in &self.senders {
            match keys.find(sender) {
                FoundToken::Ours(token) => return FoundToken::Ours(token),
                FoundToken::Forged => found = FoundToken::Forged,
                FoundToken::Missing => {}
            }
        }
        found
    }
}

/// The id of an event, from what is the same each time that it comes.
fn event_id(parts: &[&[u8]]) -> String {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part);
    }
    let mut id = sha256_hex(&all);
    id.truncate(16);
    id
}

/// The words of a server, fit to be kept.
fn kept_words(words: &str) -> String {
    redacted(words, MAX_WORDS)
}

#[cfg(test)]
mod tests;
