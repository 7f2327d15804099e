//! A letter: headers and a body in two forms. The same mail always has the same bytes.
//!
//! Its content was parsed before (`job/recipient.rs`, `job/email.rs`), so building a letter cannot fail.

pub mod dkim;
mod headers;
pub mod list;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::SinglePart;
use lettre::message::header::{ContentTransferEncoding, ContentType};

use super::{Letter, MailSummary};
use crate::config::MailingList;
use crate::job::{Job, JobId, ListId, Recipient};
use crate::keyring::{Keyring, Purpose};
use crate::person_token::{PersonKeys, PersonTag, PersonTokenKind};
use crate::redact::Secrets;
use crate::render::{Logo, RenderedMail};
use headers::Headers;

/// The sender of mails.
#[derive(Debug, Clone)]
pub struct Sender {
    from: Recipient,
    keyring: Keyring,
    list: MailingList,
    signers: Arc<[dkim::DkimSigner]>,
    rehearsal: Option<Arc<Recipient>>,
    people: PersonKeys,
    bounces: Option<Address>,
    leave_url: Option<Arc<str>>,
}

impl Sender {
    /// A sender; its domain is also that of the Message-IDs.
    pub fn new(from: Recipient, keyring: Keyring) -> Self {
        Self {
            people: PersonKeys::new(&keyring),
            from,
            keyring,
            list: MailingList::default(),
            signers: Arc::default(),
            rehearsal: None,
            bounces: None,
            leave_url: None,
        }
    }

    /// The same sender, whose mails name their recipient in the envelope sender: `bounces@` becomes `bounces+token@`.
    pub fn with_bounces(self, bounces: Option<Address>) -> Self {
        Self { bounces, ..self }
    }

    /// The same sender, whose mails of a list have a link to leave it below this URL: the portal's.
    pub fn with_leave_url(self, leave_url: Option<String>) -> Self {
        let leave_url = leave_url.map(Arc::from);
        Self { leave_url, ..self }
    }

    /// The list that a mail of a job belongs to.
    fn list_of<'a>(&'a self, job: &'a Job) -> Option<&'a ListId> {
        let of_job = job.email.as_ref().and_then(|email| email.list_id.as_ref());
        of_job.or(self.list.id.as_ref())
    }

    /// The tag of the list that a mail of a job belongs to.
    pub fn list_tag(&self, job: &Job) -> Option<PersonTag> {
        self.list_of(job)
            .map(|list| self.people.list_tag(list.id()))
    }

    /// The envelope sender of the mail to a recipient. The same for each attempt, since greylisting compares it.
    fn envelope_sender(&self, job: &JobId, recipient: &Recipient) -> Address {
        let token = || {
            let bounces = self.bounces.as_ref().filter(|_| self.rehearsal.is_none())?;
            let tag = self.people.job_tag(job.as_str());
            let token = self
                .people
                .spell(PersonTokenKind::Bounce, &self.rid(recipient), tag)?;
            Address::new(format!("{}+{token}", bounces.user()), bounces.domain()).ok()
        };
        token().unwrap_or_else(|| self.from.address.clone())
    }

    /// The portal's link by which a recipient leaves the list of a job.
    fn leave_link(&self, job: &Job, recipient: &Recipient) -> Option<String> {
        let (base, list) = (self.leave_url.as_ref()?, self.list_of(job)?);
        let tag = self.people.list_tag(list.id());
        let token = self
            .people
            .spell(PersonTokenKind::Leave, &self.rid(recipient), tag)?;
        Some(format!("{base}/leave/{token}"))
    }

    /// The same sender, for mails of a list that recipients can unsubscribe from.
    pub fn with_list(self, list: MailingList) -> Self {
        Self { list, ..self }
    }

    /// The same sender, with mails signed once with each key.
    pub fn signed_by(self, signers: Vec<dkim::DkimSigner>) -> Self {
        let signers = signers.into();
        Self { signers, ..self }
    }

    /// The same sender, which sends all mails of jobs to one address. The subject names the recipient for whom a mail was made.
    ///
    /// Such a mail has no `Cc` and no `List-Unsubscribe`: nothing that is done with it is about the recipient.
    pub fn rehearsing(self, to: Recipient) -> Self {
        let rehearsal = Some(Arc::new(to));
        Self { rehearsal, ..self }
    }

    /// Who gets all mails, in a rehearsal.
    pub fn rehearsed_to(&self) -> Option<&Recipient> {
        self.rehearsal.as_deref()
    }

    /// The receiver of the mail that is made for a recipient. In a rehearsal, it is another one.
    pub fn receiver<'a>(&'a self, recipient: &'a Recipient) -> &'a Recipient {
        self.rehearsed_to().unwrap_or(recipient)
    }

    /// The name that recipients see.
    pub fn display_name(&self) -> &str {
        let address = || self.from.address.as_ref();
        self.from.name.as_deref().unwrap_or_else(address)
    }

    /// The address that recipients see.
    pub fn address(&self) -> &str {
        self.from.address.as_ref()
    }

    /// The Message-ID of a job's mail to a recipient. It is the same for every attempt, so that a mail program can
    /// detect a duplicate.
    pub fn message_id(&self, job: &JobId, recipient: &Recipient) -> String {
        format!(
            "<{}@{}>",
            self.mail_id(job, recipient),
            self.from.address.domain()
        )
    }

    fn mail_id(&self, job: &JobId, recipient: &Recipient) -> String {
        let address = recipient.canonical_address();
        self.keyring.id(
            Purpose::MessageId,
            &[job.as_str().as_bytes(), address.as_bytes()],
        )
    }

    /// Builds the letter to one of a job's recipients. `at` becomes its `Date`.
    pub fn letter(
        &self,
        job: &Job,
        recipient: &Recipient,
        mail: RenderedMail,
        at: Timestamp,
    ) -> Letter {
        let boundary = format!("=_{}", self.mail_id(&job.id, recipient));
        let message_id = self.message_id(&job.id, recipient);
        let subject = match &self.rehearsal {
            Some(_) => format!("[{}] {}", recipient.address, mail.subject),
            None => mail.subject.clone(),
        };
        let headers = self.headers(job, recipient, &subject, &boundary, at);
        let page = mail.page();
        let html = part(ContentType::TEXT_HTML, mail.html);
        let html = match &mail.logo {
            Some(logo) => related(&boundary, &html, logo),
            None => html,
        };
        let body = alternative(&boundary, mail.text, &html);
        let bytes = self.signed(&headers, &body, at).into_bytes();
        let from = self.envelope_sender(&job.id, recipient);
        self.letter_of(
            from,
            self.receiver(recipient),
            message_id,
            bytes,
            subject,
            page,
        )
    }

    /// Builds a letter of plain text that belongs to no job: a notice. `parts` make its Message-ID unique.
    pub fn notice(
        &self,
        parts: &[&[u8]],
        to: &Recipient,
        subject: String,
        text: &str,
        at: Timestamp,
    ) -> Letter {
        let id = self.keyring.id(Purpose::MessageId, parts);
        let message_id = format!("<{id}@{}>", self.from.address.domain());
        let mut headers = Headers::default();
        headers.people("From", [&self.from]);
        headers.people("To", [to]);
        headers.text("Subject", &subject);
        put_machine(&mut headers, &message_id, at);
        headers.put("MIME-Version", "1.0");
        headers.put("Content-Type", "text/plain; charset=utf-8");
        headers.put("Content-Transfer-Encoding", "quoted-printable");
        let whole = part(ContentType::TEXT_PLAIN, text.to_owned());
        let (_, body) = whole.split_once("\r\n\r\n").expect("a part has headers");
        let bytes = self.signed(&headers, body, at).into_bytes();
        let html = format!("<pre>{}</pre>\n", handlebars::html_escape(text));
        let from = self.from.address.clone();
        self.letter_of(from, to, message_id, bytes, subject, html)
    }

    fn letter_of(
        &self,
        from: Address,
        to: &Recipient,
        message_id: String,
        bytes: Vec<u8>,
        subject: String,
        html: String,
    ) -> Letter {
        let secrets = Secrets::of_recipient(&to.address, to.name.as_deref());
        let to = to.address.clone();
        Letter {
            secrets,
            envelope: Envelope::new(Some(from), vec![to.clone()]).expect("there is a recipient"),
            message_id,
            bytes,
            summary: MailSummary { to, subject, html },
        }
    }

    fn headers(
        &self,
        job: &Job,
        recipient: &Recipient,
        subject: &str,
        boundary: &str,
        at: Timestamp,
    ) -> Headers {
        let mut headers = Headers::default();
        headers.people("From", [&self.from]);
        match (&job.email, self.rehearsal.as_deref()) {
            (email, Some(to)) => {
                headers.people("To", [to]);
                let reply_to = email.iter().flat_map(|email| &email.reply_to);
                headers.people("Reply-To", reply_to);
            }
            (Some(email), None) => {
                headers.people("To", email.shown_to(recipient));
                headers.people("Cc", email.shown_cc(recipient));
                headers.people("Reply-To", &email.reply_to);
            }
            (None, None) => headers.people("To", [recipient]),
        }
        headers.text("Subject", subject);
        put_machine(&mut headers, &self.message_id(&job.id, recipient), at);
        if self.rehearsal.is_none() {
            let list_id = job.email.as_ref().and_then(|email| email.list_id.as_ref());
            let own = self.leave_link(job, recipient);
            list::put(&self.list, list_id, &self.rid(recipient), own, &mut headers);
        }
        headers.word("X-Handout-Job", job.id.as_str());
        headers.put("MIME-Version", "1.0");
        headers.put(
            "Content-Type",
            format!("multipart/alternative;\r\n boundary=\"{boundary}\""),
        );
        headers
    }

    /// The recipient's id, as the ledger and the audit log have it.
    fn rid(&self, recipient: &Recipient) -> String {
        let address = recipient.canonical_address();
        self.keyring.id(Purpose::RecipientId, &[address.as_bytes()])
    }

    /// The whole mail, with its signatures before it.
    fn signed(&self, headers: &Headers, body: &str, at: Timestamp) -> String {
        let body_hash = match self.signers.is_empty() {
            true => String::new(),
            false => dkim::body_hash(body),
        };
        let signatures = self.signers.iter();
        let mut mail: String = signatures
            .map(|signer| signer.sign(headers, &body_hash, at).line())
            .collect();
        mail.extend(headers.iter().map(headers::Header::line));
        mail.push_str("\r\n");
        mail.push_str(body);
        mail
    }
}

/// The headers that say when the mail was made, its Message-ID, and that a program made it.
fn put_machine(headers: &mut Headers, message_id: &str, at: Timestamp) {
    headers.put("Date", date(at));
    headers.put("Message-ID", message_id);
    // RFC 3834: vacation responders must not answer. Exchange and Outlook look for their own header.
    headers.put("Auto-Submitted", "auto-generated");
    headers.put("X-Auto-Response-Suppress", "All");
}

/// An instant as a mail's `Date` has it (RFC 5322, section 3.3).
fn date(at: Timestamp) -> String {
    rfc2822::to_string(&at.to_zoned_datetime(TimeZone::UTC))
        .expect("no clock shows a year before 0")
}

/// Two forms of one content, the preferred one last (RFC 2046, section 5.1.4).
fn alternative(boundary: &str, text: String, html: &str) -> String {
    let text = part(ContentType::TEXT_PLAIN, text);
    format!("--{boundary}\r\n{text}--{boundary}\r\n{html}--{boundary}--\r\n")
}

/// The HTML and the picture that it refers to (RFC 2387). The boundary is in no Base64 or quoted-printable text, which have no `=_`,
/// and that of the parts around it is not the beginning of it: parsers compare beginnings of lines (RFC 2046, section 5.1.1).
fn related(around: &str, html: &str, logo: &Logo) -> String {
    let boundary = around.replacen("=_", "=_r", 1);
    let kind = logo.media_type();
    let (id, name) = (logo.content_id(), logo.file_name());
    let picture = logo.base64_lines();
    format!(
        "Content-Type: multipart/related;\r\n type=\"text/html\";\r\n boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n{html}\
         --{boundary}\r\nContent-Type: {kind}; name=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <{id}>\r\n\
         Content-Disposition: inline; filename=\"{name}\"\r\n\r\n{picture}--{boundary}--\r\n"
    )
}

/// Always quoted-printable: a signed URL is longer than the 998 octets that a line may have (RFC 5322 2.1.1).
fn part(kind: ContentType, text: String) -> String {
    let part = SinglePart::builder()
        .header(kind)
        .header(ContentTransferEncoding::QuotedPrintable)
        .body(text);
    String::from_utf8(part.formatted()).expect("quoted-printable is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let job = serde_json::json!({
            "v": 1, "id": "job-1",
            "from": { "connection": "local", "bucket": "reports", "prefix": "" },
            "email": {
                "to": ["Ann Bell <ann@acme.example>", "bo@bücher.example"],
                "cc": ["Cleo <cleo@acme.example>"],
                "reply_to": "Reports <reports@sender.example>",
            },
        });
        Job::parse(&job.to_string()).unwrap()
    }

    fn letter() -> Letter {
        let from = Recipient::parse("Reports <reports@sender.example>").unwrap();
        let sender = Sender::new(from, Keyring::new([1; 32]));
        let url = format!("https://example.com/{}", "a".repeat(4000));
        let mail = RenderedMail {
            subject: "Täglicher Bericht".to_owned(),
            text: format!("Link:\n{url}\n"),
            html: format!("<a href=\"{url}\">x</a>"),
            logo: None,
        };
        let job = job();
        let to = &job.email.as_ref().unwrap().to[0];
        sender.letter(&job, to, mail, Timestamp::UNIX_EPOCH)
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
        assert!(
            headers.contains(&format!("Message-ID: {}", letter().message_id)),
            "{headers}"
        );
        insta::assert_snapshot!(headers, @r#"
        From: Reports <reports@sender.example>
        To: "Ann Bell" <ann@acme.example>
        Cc: Cleo <cleo@acme.example>
        Reply-To: Reports <reports@sender.example>
        Subject: =?utf-8?b?VMOkZ2xpY2hlciBCZXJpY2h0?=
        Date: Thu, 1 Jan 1970 00:00:00 +0000
        Message-ID: <558ba92b05a4c1b8bd11598974c27ae6@sender.example>
        Auto-Submitted: auto-generated
        X-Auto-Response-Suppress: All
        X-Handout-Job: job-1
        MIME-Version: 1.0
        Content-Type: multipart/alternative;
         boundary="=_558ba92b05a4c1b8bd11598974c27ae6"
        "#);
    }

    #[test]
    fn a_logo_is_a_part_that_the_html_refers_to() {
        let png = include_bytes!("../../tests/fixtures/pictures/plain.png");
        let logo = Logo::read(png.to_vec()).unwrap();
        let from = Recipient::parse("Reports <reports@sender.example>").unwrap();
        let sender = Sender::new(from, Keyring::new([1; 32]));
        let mail = RenderedMail {
            subject: "x".to_owned(),
            text: "x\n".to_owned(),
            html: format!("<img src=\"cid:{}\">\n", logo.content_id()),
            logo: Some(Arc::new(logo)),
        };
        let job = job();
        let to = &job.email.as_ref().unwrap().to[0];
        let letter = sender.letter(&job, to, mail, Timestamp::UNIX_EPOCH);
        let text = String::from_utf8(letter.bytes).unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let lines: Vec<&str> = body
            .lines()
            .filter(|line| line.len() < 60 || !line.ends_with('='))
            .collect();
        let lines: Vec<&str> = lines.into_iter().filter(|line| line.len() != 76).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        --=_558ba92b05a4c1b8bd11598974c27ae6
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        x

        --=_558ba92b05a4c1b8bd11598974c27ae6
        Content-Type: multipart/related;
         type="text/html";
         boundary="=_r558ba92b05a4c1b8bd11598974c27ae6"

        --=_r558ba92b05a4c1b8bd11598974c27ae6
        Content-Type: text/html; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        <img src=3D"cid:logo.c312e2977648d92a@brand">

        --=_r558ba92b05a4c1b8bd11598974c27ae6
        Content-Type: image/png; name="logo.png"
        Content-Transfer-Encoding: base64
        Content-ID: <logo.c312e2977648d92a@brand>
        Content-Disposition: inline; filename="logo.png"

        wM1ATzBq36h9o/aN2kc7+3jobN9wD89R+0btG7VvoOwDAEEbApWeAtaFAAAAAElFTkSuQmCC
        --=_r558ba92b05a4c1b8bd11598974c27ae6--
        --=_558ba92b05a4c1b8bd11598974c27ae6--
        "#);
        assert!(letter.summary.html.contains("src=\"data:image/png;base64,"));
    }

    #[test]
    fn the_envelope_is_one_persons_whatever_the_mail_shows() {
        let letter = letter();
        let to: Vec<&str> = letter.envelope.to().iter().map(AsRef::as_ref).collect();
        assert_eq!(to, ["ann@acme.example"]);
    }
}
