//! What a relay's "no" means: for this mail, for the relay, for us. The one place that knows the codes.

use super::dialogue::Step;
use super::reply::Reply;

/// What a reply means that is not the hoped-for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This mail will never be taken: 5yz. The others may be.
    Never,
    /// This mail may be taken later: 4yz about its recipient.
    Later(Kind),
    /// The relay is given too much; everybody must slow down.
    TooFast,
    /// The relay takes nothing more today.
    QuotaSpent,
    /// The relay takes nothing now: 4yz that is not about this mail.
    NotNow,
    /// The relay ends this connection; another may serve.
    Closing,
    /// The relay wants to know who we are, or does not believe it.
    Login,
    /// TLS is refused.
    Insecure,
    /// The relay refuses whatever we send.
    Refuses,
    /// An answer to something else: nothing on this connection can be trusted.
    OutOfStep,
}

/// Why somebody is to be served later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Greylisting: a stranger's first attempt is turned away, and one that comes too soon again.
    Greylisted,
    /// A full mailbox, a lookup that failed and the like.
    Other,
}

/// Judges a reply to a step.
pub(super) fn judge(step: Step, reply: &Reply) -> Verdict {
    match reply.code {
        400..500 if reply.says("daily message quota exceeded") => Verdict::QuotaSpent,
        454 if step == Step::Starttls => Verdict::NotNow,
        // Amazon SES says so after the dot. To a recipient it may as well be about them.
        // <https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html>
        454 if step != Step::Rcpt || speaks_of_rates(reply) => Verdict::TooFast,
        400..500 if reply.says("maximum sending rate exceeded") || reply.says("throttling") => {
            Verdict::TooFast
        }
        421 => Verdict::Closing,
        400..500 if is_about_a_mail(step) && !is_about_the_system(reply) => {
            Verdict::Later(kind(reply))
        }
        400..500 => Verdict::NotNow,
        500..600 if step == Step::Starttls => Verdict::Insecure,
        500..600 if step == Step::Auth => Verdict::Login,
        // Asked for a login or for TLS, or the sequence of verbs found wrong: never about one mail, but after its text.
        503 | 530 | 534 | 535 | 538 if !is_about_a_text(step) => Verdict::Login,
        500..600 if is_about_a_mail(step) => Verdict::Never,
        500..600 => Verdict::Refuses,
        _ => Verdict::OutOfStep,
    }
}

fn speaks_of_rates(reply: &Reply) -> bool {
    reply.says("throttl") || reply.says("rate")
}

const fn is_about_a_text(step: Step) -> bool {
    matches!(step, Step::Text | Step::Dot)
}

/// What is said to MAIL, or before, is about us.
const fn is_about_a_mail(step: Step) -> bool {
    matches!(step, Step::Rcpt | Step::Data) || is_about_a_text(step)
}

/// X.3.Z: the mail system. X.4.Z: its network.
/// <https://www.rfc-editor.org/rfc/rfc3463#section-2>
fn is_about_the_system(reply: &Reply) -> bool {
    matches!(reply.enhanced(), Some((3 | 4, _)))
}

fn kind(reply: &Reply) -> Kind {
    let is_policy = matches!(reply.enhanced(), Some((7, _)));
    let says_so = reply.says("greylist") || reply.says("graylist");
    match matches!(reply.code, 450 | 451) && (is_policy || says_so) {
        true => Kind::Greylisted,
        false => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_no_is_judged_by_its_step_and_its_code() {
        use Verdict::{
            Closing, Insecure, Later, Login, Never, NotNow, OutOfStep, QuotaSpent, Refuses, TooFast,
        };
        let table = [
            (Step::Greeting, "554 go away", Refuses),
            (Step::Greeting, "421 4.3.2 closing", Closing),
            (Step::Ehlo, "502 what", Refuses),
            (Step::Starttls, "502 5.5.1 no", Insecure),
            (Step::Starttls, "454 4.7.0 TLS not available", NotNow),
            (Step::Auth, "535 5.7.8 wrong", Login),
            (Step::Auth, "454 4.7.0 temporary failure", TooFast),
            (Step::Auth, "432 4.7.12 later", NotNow),
            (Step::Mail, "550 5.7.60 sender not authorised", Refuses),
            (Step::Mail, "530 5.7.0 authentication required", Login),
            (Step::Mail, "451 4.7.1 later", NotNow),
            (Step::Rcpt, "550 5.1.1 no such user", Never),
            (Step::Rcpt, "530 5.7.0 authentication required", Login),
            (Step::Rcpt, "451 4.7.1 try later", Later(Kind::Greylisted)),
            (
                Step::Rcpt,
                "450 Greylisted, see you",
                Later(Kind::Greylisted),
            ),
            (Step::Rcpt, "452 4.2.2 mailbox full", Later(Kind::Other)),
            (Step::Rcpt, "452 4.3.1 disk full", NotNow),
            (Step::Rcpt, "454 4.7.1 access denied", Later(Kind::Other)),
            (Step::Rcpt, "454 4.7.0 Throttling failure", TooFast),
            (Step::Rcpt, "454 over your rate", TooFast),
            (Step::Rcpt, "421 4.4.2 bye", Closing),
            (Step::Data, "354 again", OutOfStep),
            (Step::Data, "250 ok", OutOfStep),
            (Step::Data, "554 5.7.1 policy", Never),
            (Step::Dot, "554 5.7.1 spam", Never),
            (Step::Dot, "535 Message rejected", Never),
            (Step::Dot, "451 4.7.1 later", Later(Kind::Greylisted)),
            (
                Step::Dot,
                "454 Throttling failure: Maximum sending rate exceeded.",
                TooFast,
            ),
            (
                Step::Dot,
                "454 Throttling failure: Daily message quota exceeded.",
                QuotaSpent,
            ),
            (Step::Dot, "450 Throttling", TooFast),
            (Step::Dot, "354 what", OutOfStep),
        ];
        for (step, text, wanted) in table {
            let (code, words) = text.split_once(' ').unwrap();
            let reply = Reply {
                code: code.parse().unwrap(),
                lines: vec![words.to_owned()],
                ..Reply::default()
            };
            assert_eq!(judge(step, &reply), wanted, "{step} {text}");
        }
    }
}
