//! What a relay's "no" means: for this mail, for the relay, for us. The one place that knows the codes and the words.
//!
//! A reply about us (the sender, the relay, this machine, a login, a limit of our account) is nobody's rejection: the job
//! waits, and the operator is told. Only a reply about the mailbox or the message ends a recipient's mail. A reply that may
//! be either is in doubt: its recipient waits for as long as the job's patience lasts, and no other recipient waits for it.

mod table;
mod words;

use super::dialogue::DialogueStep;
use super::reply::Reply;
use table::{Code, RULES, Rule};
use words::ReplyWords;

/// What a reply means that is not the hoped-for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyVerdict {
    /// This mail will never be taken: 5yz about its mailbox or its message. The others may be.
    Never,
    /// This mail may be taken later: 4yz about its recipient, or 5yz that may be about us.
    Later(DeferralKind),
    /// The relay is given too much; everybody must slow down.
    TooFast,
    /// The relay says that a quota of ours is spent.
    QuotaSpent,
    /// The relay takes nothing now: 4yz that is not about this mail.
    NotNow,
    /// The relay ends this connection; another may serve.
    Closing,
    /// The relay wants to know who we are, or does not believe it.
    Login,
    /// TLS is refused.
    Insecure,
    /// The relay refuses whatever we send: the sender, this machine or its name.
    Refuses,
    /// An answer to something else: nothing on this connection can be trusted.
    OutOfStep,
}

impl ReplyVerdict {
    /// Whether the connection serves the next mail after it. One on which the relay refused us remembers that: Postfix
    /// says what it has against the name in EHLO to each RCPT. One in doubt may be such a one.
    pub(super) const fn leaves_the_connection_usable(self) -> bool {
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

/// Why a mail is to be sent later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferralKind {
    /// Greylisting: a stranger's first attempt is turned away, and one that comes too soon again.
    Greylisted,
    /// A full mailbox, a lookup that failed and the like.
    Other,
    /// 5yz that may be about the mailbox, the message or us.
    Doubtful,
}

/// What a reply is about, as the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// This connection has carried enough.
    Connection,
    /// Greylisting.
    Greylisting,
    /// The mailbox takes nothing now.
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

/// Whether a reply says that there are too many connections at once, and not that they come too fast.
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

/// What a reply is about: what the first rule says that fits it.
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
        // The host of the recipient says that, and to our relay.
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
        // Too many wrong passwords are no haste.
        Meaning::Rate if !(is_permanent && step == DialogueStep::Auth) => ReplyVerdict::TooFast,
        meaning if is_permanent => judge_permanent(step, meaning),
        meaning => judge_transient(step, meaning, reply),
    }
}

fn judge_permanent(step: DialogueStep, meaning: Meaning) -> ReplyVerdict {
    match meaning {
        _ if step == DialogueStep::Auth => ReplyVerdict::Login,
        Meaning::Login => ReplyVerdict::Login,
        // What is said to MAIL, or before, is about us.
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
        // Amazon SES says so after the dot, in whatever words. To a recipient it may as well be about them.
        // <https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html>
        _ if reply.code == 454 && step != DialogueStep::Rcpt => ReplyVerdict::TooFast,
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

/// Whether a reply repeats what the recipient's host said when the relay asked it about the recipient. Exim calls that a callout, and
/// Postfix an address verification (`unverified address: host … said: …`).
/// <https://www.exim.org/exim-html-current/doc/html/spec_html/ch-access_control_lists.html#SECTcallver>,
/// <https://www.postfix.org/ADDRESS_VERIFICATION_README.html>
///
/// Whether the sender was asked about instead, the relay says before it repeats anything. What comes after, the name of the host
/// included, is worded by the recipient's side.
fn quotes_another_host(reply: &Reply) -> bool {
    let words = ReplyWords::of(reply);
    let quotes = ["host .. said", "callout .. failed", "response to .. was"];
    let own = quotes.into_iter().filter_map(|phrase| words.before(phrase));
    let own = own.min_by_key(|own| own.len());
    own.is_some_and(|own| !own.iter().any(|word| word.starts_with("sender")))
}

/// Whether a 450 or 451 is about a policy, which is what greylisting says where it has no words for itself.
fn is_policy(reply: &Reply) -> bool {
    matches!(reply.code, 450 | 451) && matches!(reply.enhanced(), Some((7, _)))
}

#[cfg(test)]
mod tests;
