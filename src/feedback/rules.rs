//! The rules: what a status, a type of bounce or a complaint means for the recipient. What is doubtful is soft, or says nothing.

use super::FeedbackVerdict;

/// An enhanced status code (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    pub subject: u16,
    /// The detail.
    pub detail: u16,
}

impl EnhancedStatus {
    /// Reads a code at the beginning of a text: `5.1.1`, `5.1.1 (bad destination mailbox address)`.
    pub fn at_start(text: &str) -> Option<Self> {
        let text = text.trim_start();
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let (code, rest) = text.split_at(end);
        let ends = rest.chars().next().is_none_or(|c| {
            c.is_whitespace() || matches!(c, '(' | ';' | ',' | ':' | '-' | ')' | ']')
        });
        Self::exact(code).filter(|_| ends)
    }

    fn exact(code: &str) -> Option<Self> {
        let mut parts = code.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |text: &str| {
            let is_number =
                (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| is_number)
        };
        let class = match class {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        parts.next().is_none().then_some(())?;
        Some(Self {
            class,
            subject: number(subject)?,
            detail: number(detail)?,
        })
    }

    /// The code in a server's reply, behind its reply code: `smtp; 550 5.1.1 …`, `550-5.1.1 …`, `#5.1.1 …`.
    pub fn in_reply(text: &str) -> Option<Self> {
        let mut words =
            text.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '[' | ';'));
        words.find_map(|word| {
            let word = word.trim_start_matches('#').trim_start_matches('(');
            let behind = word
                .get(..4)
                .filter(|code| {
                    code.bytes().take(3).all(|b| b.is_ascii_digit()) && code.ends_with('-')
                })
                .map_or(word, |_| &word[4..]);
            Self::at_start(behind)
        })
    }
}

impl std::fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// What a failure with this status means.
pub fn of_failure(status: EnhancedStatus) -> FeedbackVerdict {
    use FeedbackVerdict::{Hard, MailFault, Noted, Soft};
    let EnhancedStatus {
        class,
        subject,
        detail,
    } = status;
    match (class, subject, detail) {
        // 5.1.7 and 5.1.8 are about the sender's address, 5.1.9 about a relay on the way.
        (5, 1, 7..=9) => MailFault,
        (5, 1, _) | (5, 2, 1) | (5, 4, 4) => Hard,
        (5, 2 | 3, 3 | 4) | (5, 6 | 7, _) => MailFault,
        (4 | 5, ..) => Soft,
        _ => Noted,
    }
}

/// What a delivery report says of a recipient: its `Action`, its `Status`, and the reply in its `Diagnostic-Code`.
pub fn of_report(
    action: Option<&str>,
    status: Option<EnhancedStatus>,
    diagnostic: Option<&str>,
) -> FeedbackVerdict {
    use FeedbackVerdict::{Delayed, Delivered, Noted, Soft};
    let action = action.map(|action| action.trim().to_ascii_lowercase());
    match action.as_deref() {
        Some("failed") => {}
        Some("delayed") => return Delayed,
        // Another class contradicts the word.
        Some("delivered") if status.is_none_or(|status| status.class == 2) => return Delivered,
        _ => return Noted,
    }
    let replied = diagnostic.and_then(EnhancedStatus::in_reply);
    match (status, replied) {
        // Exim and others have 5.0.0 for all, and the server's own code in its reply.
        (
            Some(EnhancedStatus {
                class: 5,
                subject: 0,
                ..
            })
            | None,
            Some(replied),
        ) => of_failure(replied),
        (None, None) => Soft,
        (Some(status), None) => of_failure(status),
        (Some(status), Some(replied)) => agreed(of_failure(status), of_failure(replied)),
    }
}

/// The type of a bounce of SES.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SesBounce {
    /// `Permanent`
    Permanent,
    /// `Transient`
    Transient,
    /// `Undetermined`, and types that are not known.
    Undetermined,
}

/// What a bounce of SES means.
pub fn of_ses_bounce(
    kind: SesBounce,
    subtype: &str,
    action: Option<&str>,
    status: Option<EnhancedStatus>,
    diagnostic: Option<&str>,
) -> FeedbackVerdict {
    use FeedbackVerdict::{ByRelay, Hard, MailFault, Soft};
    let of_content = matches!(
        subtype,
        "ContentRejected" | "AttachmentRejected" | "MessageTooLarge"
    );
    if of_content {
        return MailFault;
    }
    let codes = [status, diagnostic.and_then(EnhancedStatus::in_reply)];
    let told = codes.into_iter().flatten().map(of_failure).max();
    match (kind, subtype) {
        (SesBounce::Permanent, "Suppressed" | "OnAccountSuppressionList") => ByRelay,
        (SesBounce::Permanent, "General" | "NoEmail") => match action {
            // What SES calls permanent and its receiver delayed is doubtful.
            Some(action) if !action.eq_ignore_ascii_case("failed") => Soft,
            // Of another 5.x.x than the table names, SES's own word holds.
            _ if told == Some(MailFault) => MailFault,
            _ if codes.into_iter().flatten().any(may_pass) => Soft,
            _ => Hard,
        },
        // No such domain: SES calls it transient.
        (SesBounce::Transient, _)
            if status.is_some_and(|status| {
                (status.class, status.subject, status.detail) == (5, 4, 4)
            }) =>
        {
            Hard
        }
        _ if told == Some(MailFault) => MailFault,
        _ => Soft,
    }
}

/// Whether what a code tells of may pass: it is no permanent one, or the mailbox is full.
const fn may_pass(status: EnhancedStatus) -> bool {
    status.class != 5 || (status.subject == 2 && status.detail == 2)
}

/// Two sources that differ are doubtful: the one that says less of the recipient holds.
fn agreed(one: FeedbackVerdict, other: FeedbackVerdict) -> FeedbackVerdict {
    one.max(other)
}

/// What a complaint means, by its type (RFC 5965, section 3.5; SES has the same words). SES sends complaints without a type.
pub fn of_complaint(kind: Option<&str>) -> FeedbackVerdict {
    use FeedbackVerdict::{Complaint, Noted};
    match kind.map(|kind| kind.trim().to_ascii_lowercase()).as_deref() {
        None | Some("abuse" | "fraud" | "virus" | "other") => Complaint,
        Some(_) => Noted,
    }
}
