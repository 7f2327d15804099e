//! The recipients of a mail, and whom its headers show.
//!
//! Each recipient gets a separate mail: `cc` and `visibility` only change its headers, and an envelope never has two
//! recipients.

use std::collections::HashSet;
use std::str::FromStr;

use super::message::{self, ReaderMessage};
use super::wire::{self, Overflow, ToFields, Visibility};
use super::{ListId, ListName, Locale, ParseJobError, Phrase, Recipient, RelayName, TemplateName};
use super::{parse_field, parse_optional, place, recipient, vars};

/// The most recipients of one job; larger campaigns are split into several jobs.
pub const MAX_RECIPIENTS: usize = 10_000;

/// The most recipients that one header shows. With the longest names and addresses they take less than the
/// 102,400 bytes at which postfix truncates a header (`header_size_limit`).
pub const MAX_SHOWN: usize = 100;

/// The mails of a job.
#[derive(Debug, Clone)]
pub struct EmailOrder {
    /// The recipients in `To`, without duplicates. Empty only in a job whose recipients are those of a list.
    pub to: Vec<Recipient>,
    /// The list with the recipients, if the job names them so.
    pub list: Option<ListName>,
    /// More recipients, whom all mails show. None of them is in `to`.
    pub cc: Vec<Recipient>,
    /// Whether mails show all recipients in `to`.
    pub visibility: Visibility,
    /// The list that the mails belong to, where the job says it.
    pub list_id: Option<ListId>,
    /// The address for replies.
    pub reply_to: Option<Recipient>,
    /// The subject, if it is not the template's.
    pub subject: Option<Phrase>,
    /// The message to the recipients.
    pub message: Option<ReaderMessage>,
    /// The template.
    pub template: Option<TemplateName>,
    /// The relay, if the job names one.
    pub relay: Option<RelayName>,
    /// What to do when a mail has no room for all files.
    pub overflow: Overflow,
}

impl EmailOrder {
    /// All recipients, each once.
    pub fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        self.to.iter().chain(&self.cc)
    }

    /// Whom the mail to `reader` shows in `To`. Never empty: spam filters suspect mails without `To`.
    pub fn shown_to<'a>(&'a self, reader: &'a Recipient) -> &'a [Recipient] {
        match self.visibility {
            Visibility::To => &self.to,
            Visibility::Individual => std::slice::from_ref(reader),
        }
    }

    /// Whom the mail to `reader` shows in `Cc`: the `cc` recipients who are not in `To` already.
    pub fn shown_cc(&self, reader: &Recipient) -> impl Iterator<Item = &Recipient> {
        let is_shown_to = move |person: &Recipient| {
            self.visibility == Visibility::Individual && person.address == reader.address
        };
        self.cc.iter().filter(move |person| !is_shown_to(person))
    }
}

/// Parses the mails of a job.
pub(super) fn order(email: wire::Email) -> Result<EmailOrder, ParseJobError> {
    let (to, list) = match email.to {
        ToFields::Named(to) if to.is_empty() => {
            return Err(ParseJobError::field(
                "email.to",
                "is empty: a mail needs at least one recipient",
            ));
        }
        ToFields::Named(to) => (to, None),
        ToFields::List(fields) => (
            Vec::new(),
            Some(parse_field("email.to.list", &fields.list)?),
        ),
    };
    let count = to.len() + email.cc.len();
    if count > MAX_RECIPIENTS {
        let reason = format!("has {count} recipients: at most {MAX_RECIPIENTS} are allowed");
        return Err(ParseJobError::field("email.to", reason));
    }
    let mut seen = HashSet::with_capacity(count);
    let order = EmailOrder {
        to: people("email.to", to, &mut seen)?,
        list,
        cc: people("email.cc", email.cc, &mut seen)?,
        visibility: email.visibility,
        list_id: parse_optional("email.list_id", email.list_id.as_deref())?,
        reply_to: email.reply_to.as_deref().map(reply_to).transpose()?,
        subject: email.subject.as_deref().map(subject).transpose()?,
        message: message::parse("email.message", email.message)?,
        template: parse_optional("email.template", email.template.as_deref())?,
        relay: parse_optional("email.relay", email.relay.as_deref())?,
        overflow: email.overflow,
    };
    if order.visibility == Visibility::To {
        check_shown("email.to", &order.to)?;
    }
    check_shown("email.cc", &order.cc)?;
    Ok(order)
}

/// Parses a list of recipients. Duplicates are dropped, so that each recipient gets one mail.
fn people(
    list: &str,
    people: Vec<wire::RecipientFields>,
    seen: &mut HashSet<String>,
) -> Result<Vec<Recipient>, ParseJobError> {
    let mut parsed = Vec::with_capacity(people.len());
    for (index, wire) in people.into_iter().enumerate() {
        let recipient = recipient(&format!("{list}[{index}]"), wire)?;
        if seen.insert(recipient.canonical_address()) {
            parsed.push(recipient);
        }
    }
    Ok(parsed)
}

pub(super) fn recipient(
    field: &str,
    wire: wire::RecipientFields,
) -> Result<Recipient, ParseJobError> {
    match wire {
        wire::RecipientFields::Short(text) => {
            Recipient::parse(&text).map_err(|error| ParseJobError::field(field, error))
        }
        wire::RecipientFields::Full(full) => {
            let mut recipient = Recipient::from_parts(&full.address, full.name.as_deref())
                .map_err(|error| ParseJobError::field(field, error))?;
            let locale = full.locale.as_deref().map(Locale::from_str).transpose();
            recipient.locale =
                locale.map_err(|error| ParseJobError::field(format!("{field}.locale"), error))?;
            let zone = full.time_zone.as_deref().map(recipient::time_zone);
            recipient.time_zone = zone
                .transpose()
                .map_err(|error| ParseJobError::field(format!("{field}.time_zone"), error))?;
            recipient.vars = vars::checked(&format!("{field}.vars"), full.vars)?;
            Ok(recipient)
        }
    }
}

fn reply_to(text: &str) -> Result<Recipient, ParseJobError> {
    const FIELD: &str = "email.reply_to";
    let reply_to = Recipient::parse(text).map_err(|error| ParseJobError::field(FIELD, error))?;
    check_shown(FIELD, std::slice::from_ref(&reply_to))?;
    Ok(reply_to)
}

/// A control character is rejected although a subject is written as one line anyway: it is an attempt to add a header.
fn subject(text: &str) -> Result<Phrase, ParseJobError> {
    const FIELD: &str = "email.subject";
    place::refuse_control(text).map_err(|error| ParseJobError::field(FIELD, error))?;
    parse_field(FIELD, text)
}

/// Checks that these recipients can be shown in the headers of other recipients' mails.
fn check_shown(field: &str, people: &[Recipient]) -> Result<(), ParseJobError> {
    if people.len() > MAX_SHOWN {
        let reason = format!(
            "has {} addresses that every mail would show: at most {MAX_SHOWN} are allowed; with visibility \"individual\" those in email.to are not shown",
            people.len()
        );
        return Err(ParseJobError::field(field, reason));
    }
    // Such an address needs a relay with SMTPUTF8. Shown in headers, it would require that for the mails of all recipients.
    match people.iter().find(|person| person.needs_smtputf8()) {
        None => Ok(()),
        Some(person) => {
            let reason = format!(
                "would show {} to other recipients, and an address that is not ASCII before its \"@\" needs a relay with SMTPUTF8: only its own mail may show it, so put it into email.to with visibility \"individual\"",
                person.masked()
            );
            Err(ParseJobError::field(field, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(email: serde_json::Value) -> Result<EmailOrder, String> {
        let wire = serde_json::from_value(email).unwrap();
        order(wire).map_err(|error| error.to_string())
    }

    /// The headers of each mail of an order: `reader: To; Cc`.
    fn shown(order: &EmailOrder) -> Vec<String> {
        let names = |people: &mut dyn Iterator<Item = &Recipient>| {
            let names: Vec<&str> = people.map(Recipient::display_name).collect();
            names.join(",")
        };
        let line = |reader: &Recipient| {
            let to = names(&mut order.shown_to(reader).iter());
            let cc = names(&mut order.shown_cc(reader));
            format!("{}: {to}; {cc}", reader.display_name())
        };
        order.recipients().map(line).collect()
    }

    #[test]
    fn a_mail_shows_its_reader_or_all_and_those_in_cc() {
        let mut email =
            json!({ "to": ["a@x.example", "b@x.example"], "cc": ["c@x.example", "d@x.example"] });
        let order = read(email.clone()).unwrap();
        assert_eq!(
            shown(&order),
            ["a: a; c,d", "b: b; c,d", "c: c; d", "d: d; c"]
        );
        email["visibility"] = json!("to");
        let order = read(email).unwrap();
        assert_eq!(
            shown(&order),
            ["a: a,b; c,d", "b: a,b; c,d", "c: a,b; c,d", "d: a,b; c,d"]
        );
    }

    #[test]
    fn an_address_in_both_lists_is_one_recipient() {
        let email = json!({
            "to": ["Ann <ann@bücher.example>", "ANN@xn--bcher-kva.example"],
            "cc": ["ann@bücher.example", "bo@acme.example", "Bo@acme.example"],
        });
        let order = read(email).unwrap();
        assert_eq!(shown(&order), ["Ann: Ann; bo", "bo: bo; "]);
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused_by_its_field() {
        let many: Vec<String> = (0..=MAX_SHOWN).map(|n| format!("p{n}@x.example")).collect();
        let table = [
            json!({ "to": ["a@x.example"], "cc": many }),
            json!({ "to": many, "visibility": "to" }),
            json!({ "to": ["jörg@x.example"], "visibility": "to" }),
            json!({ "to": ["a@x.example"], "cc": ["a@x.example\r\nBcc: b@x.example"] }),
            json!({ "to": [{ "address": "a@x.example", "name": "A\0" }] }),
            json!({ "to": ["a@x.example"], "reply_to": "Desk\n <desk@x.example>" }),
            json!({ "to": ["a@x.example"], "reply_to": "jörg@x.example" }),
            json!({ "to": ["a@x.example"], "subject": "Report\r\nBcc: b@x.example" }),
            json!({ "to": ["a@x.example"], "list_id": "Daily\n <daily.x.example>" }),
            json!({ "to": ["a@x.example"], "list_id": "daily" }),
        ]
        .map(|email| read(email).unwrap_err());
        insta::assert_snapshot!(table.join("\n"), @r#"
        the job's field email.cc has 101 addresses that every mail would show: at most 100 are allowed; with visibility "individual" those in email.to are not shown
        the job's field email.to has 101 addresses that every mail would show: at most 100 are allowed; with visibility "individual" those in email.to are not shown
        the job's field email.to would show j…@x.example to other recipients, and an address that is not ASCII before its "@" needs a relay with SMTPUTF8: only its own mail may show it, so put it into email.to with visibility "individual"
        the job's field email.cc[0] holds the character '\r', which could forge a mail's header or hide a name
        the job's field email.to[0] holds the character '\0', which could forge a mail's header or hide a name
        the job's field email.reply_to holds the character '\n', which could forge a mail's header or hide a name
        the job's field email.reply_to would show j…@x.example to other recipients, and an address that is not ASCII before its "@" needs a relay with SMTPUTF8: only its own mail may show it, so put it into email.to with visibility "individual"
        the job's field email.subject holds the control character '\r', which no mail or page can carry
        the job's field email.list_id holds the character '\n', which could forge a mail's header or hide a name
        the job's field email.list_id is not the id of a list: write "daily.sender.example" or "Daily reports <daily.sender.example>"
        "#);
        assert!(read(json!({ "to": many })).is_ok(), "they are not shown");
        assert!(read(json!({ "to": ["jörg@x.example"] })).is_ok());
    }
}
