//! What a relay's negative reply means: for this mail, for the relay, for us. Only this module knows the codes and the
//! phrases.
//!
//! A reply about us (the sender, the relay, this machine, a login, a limit of our account) rejects no recipient: the
//! job waits, and the operator is notified. Only a reply about the mailbox or the message is final for a recipient. A
//! reply that may be about either is ambiguous: its recipient is retried for as long as the job's retry window lasts,
//! and other recipients do not wait for it.

mod table;
mod words;

use super::dialogue::{Dialogue, DialogueStep};
use super::reply::Reply;
use table::{Code, RULES, Rule};
use words::ReplyWords;

/// The meaning of a reply that is not the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyVerdict {
    /// This mail will never be accepted: 5xx about its mailbox or its message. Other mails may be.
    Never,
    /// This mail may be accepted later: 4xx about its recipient, or 5xx that may be about us.
    Later(DeferralKind),
    /// The relay is given too much: all mails to it must slow down.
    TooFast,
    /// The relay says that a quota of our account is spent.
    QuotaSpent,
    /// The relay accepts nothing now: 4xx that is not about this mail.
    NotNow,
    /// The relay ends this connection; another connection may work.
    Closing,
    /// The relay requires a login, or rejects it.
    Login,
    /// TLS is refused.
    Insecure,
    /// The relay rejects all of our mails: the sender, this machine or its name.
    Refuses,
    /// A reply to another command: the connection cannot be trusted any more.
    OutOfStep,
}

impl ReplyVerdict {
    /// Whether the relay accepts no mail now because it was given too many.
    pub(super) const fn slows_down(self) -> bool {
        match self {
            Self::TooFast | Self::QuotaSpent => true,
            Self::Never
            | Self::Later(_)
            | Self::NotNow
            | Self::Closing
            | Self::Login
            | Self::Insecure
            | Self::Refuses
            | Self::OutOfStep => false,
        }
    }

    /// Counts a deferral on the connection, and returns whether it can carry the next mail after a reply that means this.
    pub(super) fn leaves_usable(self, dialogue: &mut Dialogue) -> bool {
        let may_go_on = self == Self::Never || dialogue.may_go_on_after_a_deferral();
        may_go_on && self.leaves_the_connection_usable()
    }

    /// Whether the connection can carry the next mail. A connection on which the relay rejected us keeps that state:
    /// Postfix reports its objection to the name in EHLO at each RCPT. An ambiguous reply may be such a rejection.
    const fn leaves_the_connection_usable(self) -> bool {
        match self {
            Self::Never
            | Self::Later(DeferralKind::Greylisted | DeferralKind::Other)
            | Self::NotNow
            | Self::TooFast => true,
            Self::Later(DeferralKind::Doubtful)
            | Self::QuotaSpent
            | Self::Closing
            | Self::Login
            | Self::Insecure
            | Self::Refuses
            | Self::OutOfStep => false,
        }
    }
}

/// Why a mail is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferralKind {
    /// Greylisting: an unknown sender's first attempt is deferred, and so is a retry that comes too soon.
    Greylisted,
    /// A full mailbox, a failed lookup and the like.
    Other,
    /// 5xx that may be about the mailbox, the message or us.
    Doubtful,
}

/// What a reply is about, by the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// This connection has carried enough.
    Connection,
    /// Greylisting.
    Greylisting,
    /// The mailbox accepts nothing now.
    MailboxNow,
    /// The mailbox, or its domain.
    Mailbox,
    /// The message.
    Message,
    /// A limit of our account for a longer time.
    Quota,
    /// How fast we send.
    Rate,
    /// A login.
    Login,
    /// The sender, this machine, its name, its address.
    Us,
    /// The relay's own system and network.
    System,
    /// Either of these.
    Unclear,
}

/// Whether a reply complains about too many connections at once, and not about their rate.
pub(super) fn is_of_connections(reply: &Reply) -> bool {
    let words = ReplyWords::of(reply);
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.say(phrase));
    meaning(reply) == Meaning::Rate
        && says(&["connection*", "concurrent", "simultaneous", "session*"])
        && !says(&[
            "rate",
            "ratelimit*",
            "throttl*",
            "per minute",
            "per second",
            "per hour",
        ])
}

/// What a reply is about: the meaning of the first rule that matches.
fn meaning(reply: &Reply) -> Meaning {
    let (code, words) = ((reply.code, reply.enhanced()), ReplyWords::of(reply));
    let rule = RULES.iter().find(|rule| rule.fits(code, &words));
    rule.map_or(Meaning::Unclear, |rule| rule.meaning)
}

impl Rule {
    fn fits(&self, code: (u16, Option<(u16, u16)>), words: &ReplyWords) -> bool {
        (self.codes.is_empty() || self.codes.iter().any(|one| one.is_of(code)))
            && (self.says.is_empty() || self.says.iter().any(|phrase| words.say(phrase)))
    }
}

impl Code {
    fn is_of(self, (reply, enhanced): (u16, Option<(u16, u16)>)) -> bool {
        let is_permanent = reply >= 500;
        let is_within = |subject, first, last| {
            enhanced.is_some_and(|(s, detail)| s == subject && (first..=last).contains(&detail))
        };
        match self {
            Self::X(subject, detail) => is_within(subject, detail, detail),
            Self::Range(subject, first, last) => is_within(subject, first, last),
            Self::Permanent(subject, detail) => is_permanent && is_within(subject, detail, detail),
            Self::PermanentRange(subject, first, last) => {
                is_permanent && is_within(subject, first, last)
            }
            Self::Reply(code) => reply == code,
        }
    }
}

/// Judges a reply to a step.
pub(super) fn judge(step: DialogueStep, reply: &Reply) -> ReplyVerdict {
    let is_permanent = match reply.code {
        400..500 => false,
        500..600 => true,
        _ => return ReplyVerdict::OutOfStep,
    };
    if step == DialogueStep::Starttls {
        return match is_permanent {
            true => ReplyVerdict::Insecure,
            false => ReplyVerdict::NotNow,
        };
    }
    let meaning = match meaning(reply) {
        // The recipient's host says that to our relay.
        Meaning::Quota
        | Meaning::Rate
        | Meaning::Connection
        | Meaning::Us
        | Meaning::Login
        | Meaning::System
            if is_about_a_mail(step) && quotes_another_host(reply) =>
        {
            Meaning::Unclear
        }
        meaning => meaning,
    };
    match meaning {
        Meaning::Quota => ReplyVerdict::QuotaSpent,
        // Too many wrong passwords are not a rate problem.
        Meaning::Rate if !(is_permanent && step == DialogueStep::Auth) => ReplyVerdict::TooFast,
        meaning if is_permanent => judge_permanent(step, meaning),
        meaning => judge_transient(step, meaning, reply),
    }
}

fn judge_permanent(step: DialogueStep, meaning: Meaning) -> ReplyVerdict {
    match meaning {
        _ if step == DialogueStep::Auth => ReplyVerdict::Login,
        Meaning::Login => ReplyVerdict::Login,
        // A reply to MAIL, or before, is about us.
        _ if !is_about_a_mail(step) => ReplyVerdict::Refuses,
        Meaning::Us | Meaning::Connection | Meaning::Quota | Meaning::Rate => ReplyVerdict::Refuses,
        Meaning::Mailbox | Meaning::Message => ReplyVerdict::Never,
        Meaning::Greylisting => ReplyVerdict::Later(DeferralKind::Greylisted),
        Meaning::MailboxNow => ReplyVerdict::Later(DeferralKind::Other),
        Meaning::System | Meaning::Unclear => ReplyVerdict::Later(DeferralKind::Doubtful),
    }
}

fn judge_transient(step: DialogueStep, meaning: Meaning, reply: &Reply) -> ReplyVerdict {
    match meaning {
        Meaning::Connection => ReplyVerdict::Closing,
        // Amazon SES replies so after the end of DATA, with varying texts. As a reply to RCPT it may be about the
        // recipient.
        // <https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html>
        // As a reply to AUTH it is a temporary failure of the login (RFC 4954, section 6), unless there were too many.
        _ if reply.code == 454
            && step != DialogueStep::Rcpt
            && (step != DialogueStep::Auth || has_too_many(reply)) =>
        {
            ReplyVerdict::TooFast
        }
        _ if reply.code == 421 => ReplyVerdict::Closing,
        _ if !is_about_a_mail(step) => ReplyVerdict::NotNow,
        Meaning::Us => ReplyVerdict::Refuses,
        Meaning::System | Meaning::Login => ReplyVerdict::NotNow,
        Meaning::Greylisting => ReplyVerdict::Later(DeferralKind::Greylisted),
        Meaning::Unclear if is_policy(reply) => ReplyVerdict::Later(DeferralKind::Greylisted),
        Meaning::Unclear
        | Meaning::MailboxNow
        | Meaning::Mailbox
        | Meaning::Message
        | Meaning::Quota
        | Meaning::Rate => ReplyVerdict::Later(DeferralKind::Other),
    }
}

const fn is_about_a_mail(step: DialogueStep) -> bool {
    matches!(
        step,
        DialogueStep::Rcpt | DialogueStep::Data | DialogueStep::Text | DialogueStep::Dot
    )
}

/// Whether a reply repeats the reply of the recipient's host, which the relay had asked about the recipient. Exim calls
/// that a callout, and Postfix an address verification (`unverified address: host … said: …`).
/// <https://www.exim.org/exim-html-current/doc/html/spec_html/ch-access_control_lists.html#SECTcallver>,
/// <https://www.postfix.org/ADDRESS_VERIFICATION_README.html>
///
/// A relay that verifies the sender instead says so before the quotation. The words after it, the name of the quoted host included,
/// come from the recipient's side.
fn quotes_another_host(reply: &Reply) -> bool {
    let words = ReplyWords::of(reply);
    let quotes = ["host .. said", "callout .. failed", "response to .. was"];
    let own = quotes.into_iter().filter_map(|phrase| words.before(phrase));
    let own = own.min_by_key(|own| own.len());
    own.is_some_and(|own| !own.iter().any(|word| word.starts_with("sender")))
}

/// Whether a 450 or 451 is about a policy: greylisting without a text of its own looks so.
fn has_too_many(reply: &Reply) -> bool {
    reply.words().to_ascii_lowercase().contains("too many")
}

fn is_policy(reply: &Reply) -> bool {
    matches!(reply.code, 450 | 451) && matches!(reply.enhanced(), Some((7, _)))
}

#[cfg(test)]
mod tests;
