//! The letter itself: headers and a body in two forms, the same bytes for the same mail.

use std::time::SystemTime;

use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::{DeliverError, Letter, Summary};
use crate::job::{JobId, Recipient};
use crate::keyring::{Keyring, Purpose};
use crate::render::RenderedMail;

/// Who sends.
#[derive(Debug, Clone)]
pub struct Sender {
    mailbox: Mailbox,
    keyring: Keyring,
}

impl Sender {
    /// A sender; its domain is also that of the Message-IDs.
    pub fn new(from: &Recipient, keyring: Keyring) -> Self {
        Self {
            mailbox: Mailbox::new(from.name.clone(), from.address.clone()),
            keyring,
        }
    }

    /// The name that recipients see.
    pub fn display_name(&self) -> &str {
        self.mailbox
            .name
            .as_deref()
            .unwrap_or_else(|| self.mailbox.email.as_ref())
    }

    /// The address that recipients see.
    pub fn address(&self) -> &str {
        self.mailbox.email.as_ref()
    }

    /// The Message-ID of a job's mail to a recipient: the same for every attempt, so that a mailbox that gets
    /// the mail twice can tell.
    pub fn message_id(&self, job: &JobId, recipient: &Recipient) -> String {
        let address = recipient.canonical_address();
        let id = self.keyring.id(
            Purpose::MessageId,
            &[job.as_str().as_bytes(), address.as_bytes()],
        );
        format!("<{id}@{}>", self.mailbox.email.domain())
    }

    /// Puts the letter together. `at` is what its `Date` says.
    pub fn letter(
        &self,
        job: &JobId,
        recipient: &Recipient,
        reply_to: Option<&Recipient>,
        mail: RenderedMail,
        at: jiff::Timestamp,
    ) -> Result<Letter, DeliverError> {
        let refuse = |reason: String| DeliverError::Message {
            masked: recipient.masked(),
            reason,
        };
        let message_id = self.message_id(job, recipient);
        // lettre panics on CR, LF and NUL in a name (measured, 0.11.23); `Recipient` cannot hold one.
        let to = Mailbox::new(recipient.name.clone(), recipient.address.clone());
        let envelope = Envelope::new(
            Some(self.mailbox.email.clone()),
            vec![recipient.address.clone()],
        )
        .map_err(|error| refuse(error.to_string()))?;
        let date = SystemTime::try_from(at).map_err(|error| refuse(error.to_string()))?;
        let mut builder = Message::builder()
            .from(self.mailbox.clone())
            .to(to)
            .subject(&mail.subject)
            .date(date)
            .message_id(Some(message_id.clone()))
            .raw_header(header("X-Handout-Job", job.as_str()))
            // RFC 3834: no vacation notice shall answer.
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("X-Auto-Response-Suppress", "All"));
        if let Some(reply_to) = reply_to {
            builder = builder.reply_to(Mailbox::new(
                reply_to.name.clone(),
                reply_to.address.clone(),
            ));
        }
        let boundary = format!(
            "=_{}",
            message_id
                .trim_matches(['<', '>'])
                .split('@')
                .next()
                .unwrap_or_default()
        );
        let body = MultiPart::alternative()
            .boundary(boundary)
            .singlepart(part(ContentType::TEXT_PLAIN, mail.text))
            .singlepart(part(ContentType::TEXT_HTML, mail.html.clone()));
        let message = builder
            .multipart(body)
            .map_err(|error| refuse(error.to_string()))?;
        let summary = Summary {
            to: recipient.address.clone(),
            subject: mail.subject,
            html: mail.html,
        };
        Ok(Letter {
            envelope,
            message_id,
            bytes: message.formatted(),
            summary,
        })
    }
}

/// Always quoted-printable: a signed URL is longer than the 998 octets that a line may have (RFC 5322 2.1.1).
fn part(kind: ContentType, text: String) -> SinglePart {
    SinglePart::builder()
        .header(kind)
        .header(ContentTransferEncoding::QuotedPrintable)
        .body(text)
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let from = Recipient::parse("Reports <reports@sender.example>").unwrap();
        let sender = Sender::new(&from, Keyring::new([1; 32]));
        let url = format!("https://example.com/{}", "a".repeat(4000));
        let mail = RenderedMail {
            subject: "Täglicher Bericht".to_owned(),
            text: format!("Link:\n{url}\n"),
            html: format!("<a href=\"{url}\">x</a>"),
        };
        let to = Recipient::parse("Ann Bell <ann@acme.example>").unwrap();
        sender
            .letter(
                &"job-1".parse().unwrap(),
                &to,
                Some(&from),
                mail,
                jiff::Timestamp::UNIX_EPOCH,
            )
            .unwrap()
    }

    #[test]
    fn no_line_is_longer_than_a_relay_must_take() {
        let text = String::from_utf8(letter().bytes).unwrap();
        assert!(text.lines().all(|line| line.len() <= 998));
        assert!(text.is_ascii());
    }

    #[test]
    fn the_same_mail_is_the_same_bytes_with_the_same_id() {
        assert_eq!(letter().bytes, letter().bytes);
        let text = String::from_utf8(letter().bytes).unwrap();
        let headers = text.split("\r\n\r\n").next().unwrap();
        for wanted in [
            "Auto-Submitted: auto-generated",
            "X-Handout-Job: job-1",
            "Reply-To: Reports <reports@sender.example>",
        ] {
            assert!(headers.contains(wanted), "{headers}");
        }
        assert!(
            headers.contains(&format!("Message-ID: {}", letter().message_id)),
            "{headers}"
        );
    }
}
