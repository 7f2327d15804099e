//! Bounces and complaints that come as mails: delivery reports (RFC 3464), complaints (ARF, RFC 5965), and bounces in free text.
//!
//! `mail-parser` takes the MIME apart. An automatic reply to the envelope sender, of a person on holiday, is no bounce: it has no report.

use jiff::Timestamp;
use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders};

use super::rules::{self, EnhancedStatus};
use super::{
    FeedbackEvent, FeedbackRead, FeedbackSource, FeedbackVerdict, IgnoredReport, MAX_PEOPLE,
    PersonFeedback, event_id, kept_words,
};

/// The most fields of a block that are read.
const MAX_FIELDS: usize = 400;

/// The headers of a report that may name the envelope sender of the mail: it is the report's own recipient.
const RECIPIENT_HEADERS: [&str; 7] = [
    "Delivered-To",
    "X-Original-To",
    "Envelope-To",
    "X-Envelope-To",
    "X-Delivered-To",
    "To",
    "Resent-To",
];

/// The headers and fields of the returned mail that may name its envelope sender.
const SENDER_FIELDS: [&str; 4] = [
    "Return-Path",
    "X-Envelope-From",
    "Original-Mail-From",
    "X-Original-Return-Path",
];

/// The fields of a block: names and unfolded values, in their order.
type ReportFields = Vec<(String, String)>;

/// Reads a mail that came to the envelope sender.
pub fn read(mail: &[u8]) -> FeedbackRead {
    let Some(message) = MessageParser::new().parse(mail) else {
        return FeedbackRead::Ignored(IgnoredReport::Unreadable);
    };
    let headers = fields_of(&String::from_utf8_lossy(mail));
    let parts: Vec<&MessagePart<'_>> = message.parts.iter().collect();
    let part_of = |wanted: &str| {
        parts
            .iter()
            .copied()
            .find(|part| type_of(part).is_some_and(|kind| kind == wanted))
    };
    let (source, people) = if let Some(status) =
        part_of("message/delivery-status").or_else(|| part_of("message/global-delivery-status"))
    {
        (FeedbackSource::Dsn, of_status(&text_of(status)))
    } else if let Some(report) = part_of("message/feedback-report") {
        (FeedbackSource::Arf, of_complaint(&text_of(report)))
    } else {
        match of_free_text(&message, &headers) {
            Ok(person) => (FeedbackSource::Dsn, vec![person]),
            Err(reason) => return FeedbackRead::Ignored(reason),
        }
    };
    if people.is_empty() {
        return FeedbackRead::Ignored(IgnoredReport::Unreadable);
    }
    let returned: Vec<ReportFields> = parts
        .iter()
        .filter(|part| is_returned(part))
        .map(|part| fields_of(&text_of(part)))
        .collect();
    let report = part_of("message/feedback-report").map(|part| fields_of(&text_of(part)));
    let inner = returned.iter().chain(&report);
    let mut senders = values(&headers, &RECIPIENT_HEADERS);
    let mut message_ids = Vec::new();
    for fields in inner {
        senders.extend(values(fields, &SENDER_FIELDS));
        message_ids.extend(values(fields, &["Message-ID"]));
    }
    let own_id = first(&headers, "Message-ID").unwrap_or_default();
    let date = first(&headers, "Date").unwrap_or_default();
    // The same report, delivered again, has another Received; its text stays.
    let body = message
        .raw_message()
        .get(body_offset(&message)..)
        .unwrap_or_default();
    FeedbackRead::Event(FeedbackEvent {
        id: event_id(&[b"mail", own_id.as_bytes(), date.as_bytes(), body]),
        at: instant(&message),
        source,
        senders: senders.into_iter().take(MAX_PEOPLE).collect(),
        message_ids: message_ids
            .into_iter()
            .take(4)
            .map(|id| id.trim().to_owned())
            .collect(),
        people,
    })
}

fn body_offset(message: &Message<'_>) -> usize {
    message
        .parts
        .first()
        .map_or(0, |part| part.raw_body_offset() as usize)
}

fn instant(message: &Message<'_>) -> Option<Timestamp> {
    let seconds = message.date()?.to_timestamp();
    Timestamp::from_second(seconds).ok()
}

/// The type of a part, in lower case.
fn type_of(part: &MessagePart<'_>) -> Option<String> {
    let kind = part.content_type()?;
    let subtype = kind.subtype().unwrap_or_default();
    Some(format!("{}/{subtype}", kind.ctype()).to_ascii_lowercase())
}

fn is_returned(part: &MessagePart<'_>) -> bool {
    type_of(part).is_some_and(|kind| {
        matches!(
            kind.as_str(),
            "message/rfc822"
                | "text/rfc822-headers"
                | "message/rfc822-headers"
                | "message/global"
                | "message/global-headers"
        )
    })
}

fn text_of(part: &MessagePart<'_>) -> String {
    String::from_utf8_lossy(part.contents()).into_owned()
}

/// The fields up to the first empty line.
fn fields_of(text: &str) -> ReportFields {
    blocks(text).into_iter().next().unwrap_or_default()
}

/// The blocks of fields of a text, which empty lines separate. Folded values are unfolded; other lines are left out.
fn blocks(text: &str) -> Vec<ReportFields> {
    let mut blocks = Vec::new();
    let mut fields: ReportFields = Vec::new();
    let mut count = 0;
    for line in text.split('\n') {
        let line = line.trim_end_matches('\r');
        count += 1;
        if count > MAX_FIELDS {
            break;
        }
        if line.trim().is_empty() {
            if !fields.is_empty() {
                blocks.push(std::mem::take(&mut fields));
            }
            continue;
        }
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        if is_name {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    if !fields.is_empty() {
        blocks.push(fields);
    }
    blocks
}

/// The value of a field that stands there once; one that stands twice with different values is doubtful.
fn only<'f>(fields: &'f ReportFields, name: &str) -> Option<&'f str> {
    let mut all = fields
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let (_, first) = all.next()?;
    all.all(|(_, other)| other == first)
        .then_some(first.as_str())
}

fn first<'f>(fields: &'f ReportFields, name: &str) -> Option<&'f str> {
    let mut all = fields
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    all.next().map(|(_, value)| value.as_str())
}

fn values(fields: &ReportFields, names: &[&str]) -> Vec<String> {
    let is_wanted = |name: &String| names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
    let wanted = fields.iter().filter(|(name, _)| is_wanted(name));
    wanted.map(|(_, value)| value.clone()).collect()
}

/// The address of `rfc822; ann@acme.example`.
fn address_of(field: &str) -> Option<String> {
    let address = field.rsplit(';').next()?.trim();
    let address = address.trim_start_matches('<').trim_end_matches('>');
    address.contains('@').then(|| address.to_owned())
}

fn of_status(text: &str) -> Vec<PersonFeedback> {
    let people = blocks(text).into_iter().filter_map(|fields| {
        let recipient =
            only(&fields, "Final-Recipient").or_else(|| only(&fields, "Original-Recipient"))?;
        // What another system told of the recipient before a forwarding is not about the mail's recipient alone, but the mail
        // of ours has one.
        let address = only(&fields, "Original-Recipient")
            .and_then(address_of)
            .or_else(|| address_of(recipient));
        let written = only(&fields, "Status");
        let status = written.and_then(EnhancedStatus::at_start);
        let diagnostic = only(&fields, "Diagnostic-Code");
        let is_doubtful = first(&fields, "Status").is_some() && status.is_none();
        let verdict = match rules::of_report(only(&fields, "Action"), status, diagnostic) {
            verdict if is_doubtful && verdict.suppresses() => FeedbackVerdict::Soft,
            verdict => verdict,
        };
        Some(PersonFeedback {
            address,
            verdict,
            status: status.map(|status| status.to_string()),
            words: kept_words(diagnostic.unwrap_or_default()),
        })
    });
    people.take(MAX_PEOPLE).collect()
}

fn of_complaint(text: &str) -> Vec<PersonFeedback> {
    let fields = fields_of(text);
    let Some(kind) = only(&fields, "Feedback-Type") else {
        return Vec::new();
    };
    vec![PersonFeedback {
        address: first(&fields, "Original-Rcpt-To").and_then(address_of),
        verdict: rules::of_complaint(Some(kind)),
        status: None,
        words: kept_words(kind),
    }]
}

/// A bounce in free text, of qmail and old gateways: it is from a mailer, and never more than soft. Why it is none, if so.
fn of_free_text(
    message: &Message<'_>,
    headers: &ReportFields,
) -> Result<PersonFeedback, IgnoredReport> {
    if let Some(automatic) = first(headers, "Auto-Submitted")
        && automatic.to_ascii_lowercase().starts_with("auto-replied")
        && !is_from_mailer(headers)
    {
        return Err(IgnoredReport::AutoReply);
    }
    if !is_from_mailer(headers) {
        return Err(IgnoredReport::NoReport);
    }
    let text = message.body_text(0).unwrap_or_default();
    let replied = EnhancedStatus::in_reply(&text);
    let verdict = match replied.map(rules::of_failure) {
        Some(FeedbackVerdict::MailFault) => FeedbackVerdict::MailFault,
        // A text says what it says in any language and of any step: it is not believed for more.
        _ => FeedbackVerdict::Soft,
    };
    Ok(PersonFeedback {
        address: None,
        verdict,
        status: replied.map(|status| status.to_string()),
        words: String::new(),
    })
}

/// Whether a mail is from a mail system, as bounces are.
fn is_from_mailer(headers: &ReportFields) -> bool {
    let from = first(headers, "From")
        .unwrap_or_default()
        .to_ascii_lowercase();
    [
        "mailer-daemon",
        "postmaster@",
        "mail-daemon",
        "maildelivery",
    ]
    .iter()
    .any(|mailer| from.contains(mailer))
}
