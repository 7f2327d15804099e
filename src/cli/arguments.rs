//! Arguments that several commands take, each with one name, one meaning and one parser.

use std::num::ParseIntError;

use clap::Args;
use handout::audit::record::Pseudonyms;
use handout::job::{Recipient, Rehearsal};
use handout::quantity::Span;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The form of a result.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct JsonArgs {
    /// Prints the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// The form of a result of many rows.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct JsonLinesArgs {
    /// Prints the result as JSON Lines: an object for each row.
    #[arg(long)]
    pub(super) json: bool,
}

/// An instant, or the beginning of a day (UTC).
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    let day = |text: &str| {
        let date: Date = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(date.into()).ok()
    };
    let instant = text.parse().ok().or_else(|| day(text));
    instant.ok_or_else(|| {
        "write an instant such as 2026-11-23T18:40:00Z, or a day such as 2026-11-23".to_owned()
    })
}

/// A duration of at least a second. A number without a unit is seconds, as older versions had it.
pub(super) fn time_limit(text: &str) -> Result<Span, String> {
    let seconds = text.parse().map(Span::seconds);
    let span: Result<Span, String> =
        seconds.or_else(|_| text.parse().map_err(|error| format!("{error}")));
    match span? {
        span if span.as_secs() == 0 => Err("give a second at least".to_owned()),
        span => Ok(span),
    }
}

/// A recipient as a command names it. Results, logs and the ledger have ids alone, so that a person copies one into the next command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamedRecipient {
    Address(Recipient),
    /// The id, in lower case.
    Id(String),
}

/// How many hexadecimal digits a recipient's id has.
const RID_DIGITS: usize = 32;

/// The recipient's id in a text, if it is one: no address is, since it has an "@".
pub(super) fn recipient_id(text: &str) -> Option<String> {
    let is_id = text.len() == RID_DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_id.then(|| text.to_ascii_lowercase())
}

/// An address, or a recipient's id.
pub(super) fn named_recipient(text: &str) -> Result<NamedRecipient, String> {
    if let Some(rid) = recipient_id(text) {
        return Ok(NamedRecipient::Id(rid));
    }
    match Recipient::parse(text) {
        Ok(recipient) => Ok(NamedRecipient::Address(recipient)),
        Err(error) if text.contains('@') => Err(error.to_string()),
        Err(error) => Err(format!(
            "{error}; it is no recipient's id either, which has {RID_DIGITS} hexadecimal digits"
        )),
    }
}

impl NamedRecipient {
    /// The id, as the audit log and the ledger have it.
    pub(super) fn rid(&self, names: &Pseudonyms) -> String {
        match self {
            Self::Address(recipient) => names.recipient_id(&recipient.canonical_address()),
            Self::Id(rid) => rid.clone(),
        }
    }

    /// As another command takes it.
    pub(super) fn typed(&self) -> String {
        match self {
            Self::Address(recipient) => recipient.canonical_address(),
            Self::Id(rid) => rid.clone(),
        }
    }

    pub(super) const fn address(&self) -> Option<&Recipient> {
        match self {
            Self::Address(recipient) => Some(recipient),
            Self::Id(_) => None,
        }
    }
}

/// A number of things, of which there is at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .map_err(|error: ParseIntError| error.to_string())?;
    match count {
        0 => Err("give 1 at least".to_owned()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_beginning_in_utc() {
        let day = instant("2026-12-01").unwrap();
        assert_eq!(day, instant("2026-12-01T00:00:00Z").unwrap());
        assert!(instant("tomorrow").is_err());
    }

    #[test]
    fn a_time_limit_is_a_span_or_a_number_of_seconds_and_never_none() {
        assert_eq!(time_limit("5"), Ok(Span::seconds(5)));
        assert_eq!(time_limit("5s"), Ok(Span::seconds(5)));
        assert_eq!(time_limit("2m"), Ok(Span::minutes(2)));
        for wrong in ["0", "0s", "", "-1", "soon"] {
            assert!(time_limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_recipient_is_named_by_an_address_or_by_an_id_in_either_case() {
        let keyring = handout::keyring::Keyring::new([7; 32]);
        let names = Pseudonyms::new(&keyring, false);
        let ann = named_recipient("Ann@ACME.example").unwrap();
        let rid = ann.rid(&names);
        for spelled in [rid.clone(), rid.to_ascii_uppercase()] {
            let by_id = named_recipient(&spelled).unwrap();
            assert_eq!((by_id.rid(&names), by_id.address()), (rid.clone(), None));
            assert_eq!(by_id.typed(), rid);
        }
        assert_eq!(ann.typed(), "ann@acme.example");
        let short = named_recipient(&rid[1..]).unwrap_err();
        assert!(short.contains("32 hexadecimal digits"), "{short}");
        let wrong = named_recipient("ann@").unwrap_err();
        assert!(!wrong.contains("hexadecimal"), "{wrong}");
    }

    #[test]
    fn a_count_is_at_least_1() {
        assert_eq!(count("1"), Ok(1));
        for wrong in ["0", "-1", "", "x"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}

/// A rehearsal instead of the job itself.
#[derive(Debug, Clone, Args)]
pub(crate) struct RehearsalArgs {
    /// Sends all mails of the job to this address instead.
    #[arg(long, value_name = "ADDRESS", value_parser = Recipient::parse)]
    rehearse: Option<Recipient>,
    /// With --rehearse, how many recipients it is for, the first of them: 1 to 100 [default: all; of a job in parts, 10]
    #[arg(long, value_name = "N", requires = "rehearse", value_parser = rehearsed)]
    mails: Option<usize>,
}

impl RehearsalArgs {
    /// The rehearsal, if one is wanted.
    pub(crate) fn rehearsal(&self) -> Option<Rehearsal> {
        Some(Rehearsal {
            to: self.rehearse.clone()?,
            recipients: self.mails,
        })
    }
}

fn rehearsed(value: &str) -> Result<usize, String> {
    let most = Rehearsal::MAX_RECIPIENTS;
    let number = value.parse().ok();
    let number = number.filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("is no number from 1 to {most}"))
}
