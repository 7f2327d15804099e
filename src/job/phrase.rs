//! A short text with `{{names}}` in it, as a job may carry one: a file name, a subject, a prefix.
//!
//! The syntax is the plain-expression part of handlebars only: a job is untrusted, and nested blocks can overflow the
//! engine's stack (handlebars-rust issue 386). So a phrase has no blocks, partials or helpers, and an unknown name is an
//! error and not an empty text.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use presign::disposition::file_extension;
use serde_json::{Map, Value};

use super::date_distance::DateDistance;
use super::recipient::Recipient;
use super::{JobId, Key};
use crate::bounds::MAX_PHRASE_BYTES;

/// How many known names an error lists.
const MAX_NAMES_SHOWN: usize = 20;

/// Why a phrase could not be parsed or filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Too long to be a name or a subject.
    #[error("has {length} bytes: at most {MAX_PHRASE_BYTES} are allowed")]
    TooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// `{{` without `}}`.
    #[error("opens \"{{{{\" and does not close it")]
    Unclosed,
    /// The text between the braces is not a name.
    #[error(
        "has {{{{…}}}} at its byte {0}: only plain names such as {{{{customer}}}}, {{{{object.name}}}} or {{{{date:-1d}}}} can stand there, no blocks, helpers or partials"
    )]
    NotAName(usize),
    /// The name has no value.
    #[error("uses {{{{{name}}}}}, which has no value here; known are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that have a value.
        known: String,
    },
    /// The name is a part of `scheduled_at`, which the job does not have.
    #[error(
        "uses {{{{{0}}}}}, which is a part of scheduled_at, and the job has none: give it one, such as \"scheduled_at\": \"2026-11-23T06:00:00Z\""
    )]
    NoInstant(String),
    /// A distance in days, weeks or months stands at a name that is no date.
    #[error(
        "uses {{{{{0}}}}}, and only a date can be moved: {{{{date:-1d}}}}, {{{{month:-1m}}}}, {{{{utc.week:+2w}}}}"
    )]
    NotADate(String),
    /// The moved date is before the first or after the last that there is.
    #[error("uses {{{{{0}}}}}, which is no date: use a smaller distance")]
    NoSuchDate(String),
    /// The name's value is a list or an object.
    #[error("uses {{{{{0}}}}}, which is not a text, a number or true/false")]
    NotText(String),
    /// The filled-in text is too long for its use.
    #[error("has more than {limit} bytes when it is filled in: use shorter values")]
    Overlong {
        /// How many bytes it may have.
        limit: usize,
    },
}

/// A parsed phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase {
    source: String,
    parts: Vec<PhrasePart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PhrasePart {
    Literal(String),
    Name(PhraseName),
}

/// A name in a phrase: `object.name`, or `date:-1d`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PhraseName {
    path: Vec<String>,
    /// How far a date is moved.
    moved: Option<DateDistance>,
}

impl fmt::Display for PhraseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path.join("."))?;
        match &self.moved {
            Some(moved) => write!(f, ":{moved}"),
            None => Ok(()),
        }
    }
}

impl Phrase {
    /// Fills the names in from `scope`. The result has at most `limit` bytes; a longer text is never built.
    pub fn fill(&self, scope: &PhraseScope<'_>, limit: usize) -> Result<String, PhraseError> {
        let mut filled = Filled {
            text: String::with_capacity((self.source.len() * 2).min(limit)),
            limit,
        };
        for part in &self.parts {
            match part {
                PhrasePart::Literal(literal) => filled.push(literal)?,
                PhrasePart::Name(name) => scope.push(name, &mut filled)?,
            }
        }
        Ok(filled.text)
    }

    /// Whether its text differs for each recipient; if not, it is filled in once for a job.
    pub fn names_recipient(&self) -> bool {
        let is_of_recipient = |part: &PhrasePart| matches!(part, PhrasePart::Name(name) if name.path[0] == "recipient");
        self.parts.iter().any(is_of_recipient)
    }
}

/// The text of a phrase as it grows.
struct Filled {
    text: String,
    limit: usize,
}

impl Filled {
    fn push(&mut self, value: &str) -> Result<(), PhraseError> {
        if value.len() > self.limit - self.text.len() {
            return Err(PhraseError::Overlong { limit: self.limit });
        }
        self.text.push_str(value);
        Ok(())
    }
}

impl FromStr for Phrase {
    type Err = PhraseError;

    fn from_str(source: &str) -> Result<Self, PhraseError> {
        if source.len() > MAX_PHRASE_BYTES {
            return Err(PhraseError::TooLong {
                length: source.len(),
            });
        }
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((literal, opened)) = rest.split_once("{{") {
            let (inside, after) = opened.split_once("}}").ok_or(PhraseError::Unclosed)?;
            if !literal.is_empty() {
                parts.push(PhrasePart::Literal(literal.to_owned()));
            }
            let at = source.len() - opened.len();
            parts.push(PhrasePart::Name(
                parse_name(inside).ok_or(PhraseError::NotAName(at))?,
            ));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(PhrasePart::Literal(rest.to_owned()));
        }
        Ok(Self {
            source: source.to_owned(),
            parts,
        })
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

fn parse_name(inside: &str) -> Option<PhraseName> {
    let inside = inside.trim();
    let (path, moved) = match inside.split_once(':') {
        Some((path, distance)) => (path, Some(distance.parse().ok()?)),
        None => (inside, None),
    };
    let words = path.split('.');
    let path = words.map(|word| is_word(word).then(|| word.to_owned()));
    Some(PhraseName {
        path: path.collect::<Option<_>>()?,
        moved,
    })
}

/// Whether a phrase can use this as a variable's name.
fn is_word(word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    !word.is_empty() && word.chars().all(is_part)
}

/// The values of the names in a phrase; where there is no object, for example, `object` is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PhraseScope<'a> {
    /// The job's own variables, found as `{{name}}` and as `{{vars.name}}`.
    pub vars: Option<&'a Map<String, Value>>,
    /// The recipient, as `{{recipient.name}}`, `.address`, `.locale` and `.vars.…`.
    pub recipient: Option<&'a Recipient>,
    /// The object, as `{{object.name}}`, `.stem`, `.extension`, `.folder` and `.key`.
    pub object: Option<&'a Key>,
    /// The job, as `{{job.id}}`.
    pub job: Option<&'a JobId>,
    /// The instant that the job is about, as `{{date}}` (2026-11-23), `{{year}}`, `{{month}}`, `{{day}}`, `{{week}}` and
    /// `{{week_year}}`, in UTC as `{{utc.date}}` and so on, and moved as `{{date:-1d}}`.
    pub scheduled_at: Option<Timestamp>,
    /// The time zone of these dates; UTC when left out.
    pub time_zone: Option<&'a TimeZone>,
    /// The fields of the event, as `{{event.bucket}}`, `.key`, `.folder`, `.stem`, `.time` and `.name`.
    pub event: Option<&'a Map<String, Value>>,
}

impl PhraseScope<'_> {
    fn push(&self, name: &PhraseName, text: &mut Filled) -> Result<(), PhraseError> {
        let words: Vec<&str> = name.path.iter().map(String::as_str).collect();
        let utc = &TimeZone::UTC;
        let date = match *words.as_slice() {
            [field] => spelling_of(field).zip(Some(self.time_zone.unwrap_or(utc))),
            ["utc", field] => spelling_of(field).zip(Some(utc)),
            _ => None,
        };
        match (date, self.scheduled_at, &name.moved) {
            (Some((spelling, zone)), Some(at), moved) => {
                let at = zone.to_datetime(at);
                let at = match moved {
                    Some(moved) => moved.from(at),
                    None => Some(at),
                };
                let at = at.ok_or_else(|| PhraseError::NoSuchDate(name.to_string()))?;
                return text.push(&at.strftime(spelling).to_string());
            }
            (Some(_), None, Some(_)) => return Err(PhraseError::NoInstant(name.to_string())),
            (None, _, Some(_)) => return Err(PhraseError::NotADate(name.to_string())),
            (Some(_) | None, _, None) => {}
        }
        let plain = match *words.as_slice() {
            ["recipient", field] => self
                .recipient
                .and_then(|recipient| recipient_field(recipient, field)),
            ["object", field] => self.object.and_then(|key| object_field(key, field)),
            ["job", "id"] => self.job.map(JobId::as_str),
            _ => None,
        };
        if let Some(plain) = plain {
            return text.push(plain);
        }
        let value = match *words.as_slice() {
            ["vars", ref inner @ ..] => self.vars.and_then(|vars| dig(vars, inner)),
            ["event", ref inner @ ..] => self.event.and_then(|event| dig(event, inner)),
            ["recipient", "vars", ref inner @ ..] => self
                .recipient
                .and_then(|recipient| dig(&recipient.vars, inner)),
            _ => self.vars.and_then(|vars| dig(vars, &words)),
        };
        match value {
            Some(Value::String(value)) => text.push(value),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => text.push(&value.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => {
                Err(PhraseError::NotText(name.to_string()))
            }
            None if date.is_some() => Err(PhraseError::NoInstant(name.to_string())),
            None => Err(PhraseError::Unknown {
                name: name.to_string(),
                known: self.known(),
            }),
        }
    }

    /// The names with a value, for the error that lists them.
    fn known(&self) -> String {
        let mut names: Vec<String> = self
            .vars
            .into_iter()
            .flat_map(Map::keys)
            // A name of another form cannot be used in a phrase, and may be an address.
            .filter(|name| is_word(name))
            .take(MAX_NAMES_SHOWN)
            .map(ToOwned::to_owned)
            .collect();
        if self.recipient.is_some() {
            names.extend(["name", "address", "locale"].map(|field| format!("recipient.{field}")));
        }
        if self.object.is_some() {
            names.extend(OBJECT_FIELDS.map(|field| format!("object.{field}")));
        }
        if self.scheduled_at.is_some() {
            names.extend(DATE_FIELDS.map(|(field, _)| field.to_owned()));
            names.push("utc.date".to_owned());
        }
        if self.job.is_some() {
            names.push("job.id".to_owned());
        }
        names.extend(
            self.event
                .into_iter()
                .flat_map(Map::keys)
                .map(|field| format!("event.{field}")),
        );
        // A job may have thousands; the first few show their form.
        names.truncate(MAX_NAMES_SHOWN);
        names.join(", ").chars().take(MAX_PHRASE_BYTES).collect()
    }
}

/// The names for the instant that a job is about, and how each is spelled.
const DATE_FIELDS: [(&str, &str); 6] = [
    ("date", "%Y-%m-%d"),
    ("year", "%Y"),
    ("month", "%m"),
    ("day", "%d"),
    // The week of ISO 8601, and the year that it belongs to: the first of January 2027 is in week 53 of 2026.
    ("week", "%V"),
    ("week_year", "%G"),
];

fn spelling_of(field: &str) -> Option<&'static str> {
    DATE_FIELDS
        .into_iter()
        .find(|(name, _)| *name == field)
        .map(|(_, spelling)| spelling)
}

const OBJECT_FIELDS: [&str; 5] = ["name", "stem", "extension", "folder", "key"];

fn object_field<'a>(key: &'a Key, field: &str) -> Option<&'a str> {
    let name = key.file_name();
    let (stem, extension) = stem_and_extension(name);
    match field {
        "name" => Some(name),
        "stem" => Some(stem),
        "extension" => Some(extension),
        "folder" => Some(key.folder()),
        "key" => Some(key.as_str()),
        _ => None,
    }
}

/// A file name without its extension, and the extension without its dot.
pub(super) fn stem_and_extension(name: &str) -> (&str, &str) {
    let extension = file_extension(name).unwrap_or_default();
    match extension.len() {
        0 => (name, ""),
        length => (&name[..name.len() - length - 1], extension),
    }
}

fn recipient_field<'a>(recipient: &'a Recipient, field: &str) -> Option<&'a str> {
    match field {
        "name" => Some(recipient.display_name()),
        "address" => Some(recipient.address.as_ref()),
        "locale" => recipient.locale.as_ref().map(|locale| locale.as_str()),
        _ => None,
    }
}

fn dig<'a>(map: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(map.get(*first)?, |value, word| value.get(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fill(source: &str) -> Result<String, PhraseError> {
        let vars = json!({ "customer": "ACME", "year": 2026, "deep": { "er": "x" }, "list": [] });
        let key: Key = "2026/11/a b.pdf".parse().unwrap();
        let scope = PhraseScope {
            vars: vars.as_object(),
            object: Some(&key),
            ..PhraseScope::default()
        };
        source.parse::<Phrase>()?.fill(&scope, MAX_PHRASE_BYTES)
    }

    #[test]
    fn names_are_filled_in() {
        assert_eq!(
            fill("{{customer}} - {{ object.name }}").unwrap(),
            "ACME - a b.pdf"
        );
        assert_eq!(
            fill("{{vars.year}}/{{deep.er}}/{{object.stem}}").unwrap(),
            "2026/x/a b"
        );
        assert_eq!(fill("plain } text { ok").unwrap(), "plain } text { ok");
    }

    #[test]
    fn what_cannot_be_filled_in_is_an_error_that_says_what_can() {
        let errors = [
            "{{costumer}}",
            "{{#if x}}",
            "{{{raw}}}",
            "{{> p}}",
            "{{open",
            "{{list}}",
            "{{}}",
        ]
        .map(|source| format!("{source}: {}", fill(source).unwrap_err()));
        insta::assert_snapshot!(errors.join("\n"), @r#"
        {{costumer}}: uses {{costumer}}, which has no value here; known are: customer, deep, list, year, object.name, object.stem, object.extension, object.folder, object.key
        {{#if x}}: has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        {{{raw}}}: has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        {{> p}}: has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        {{open: opens "{{" and does not close it
        {{list}}: uses {{list}}, which is not a text, a number or true/false
        {{}}: has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        "#);
    }

    #[test]
    fn a_phrase_never_becomes_longer_than_its_bound() {
        let vars = json!({ "a": "x".repeat(900_000), "b": "yz", "n": 12 });
        let scope = PhraseScope {
            vars: vars.as_object(),
            ..PhraseScope::default()
        };
        let filled = |source: &str, limit| source.parse::<Phrase>().unwrap().fill(&scope, limit);
        let overlong = |limit| Err(PhraseError::Overlong { limit });
        assert_eq!(filled(&"{{a}}".repeat(204), 998), overlong(998));
        assert_eq!(filled("{{b}}{{n}}", 3), overlong(3));
        assert_eq!(filled("{{b}}{{n}}", 4).unwrap(), "yz12");
        assert_eq!(filled("{{b}}!", 2), overlong(2));
    }

    #[test]
    fn an_error_repeats_no_value_and_no_name_that_may_be_an_address() {
        let vars = json!({ "ann@acme.example": 1, "customer": 2 });
        let scope = PhraseScope {
            vars: vars.as_object(),
            ..PhraseScope::default()
        };
        for source in [
            "{{nobody}}",
            "{{ann@acme.example}}",
            "ü {{https://x.example/?t=s}}",
        ] {
            let filled = source.parse::<Phrase>();
            let error = filled.and_then(|phrase| phrase.fill(&scope, 100));
            let error = error.unwrap_err().to_string();
            assert!(
                !error.contains("acme") && !error.contains("https"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_phrase_knows_whether_it_names_the_recipient() {
        for (source, names) in [
            ("{{recipient.name}}", true),
            ("a {{ recipient.vars.x }}", true),
            ("{{customer.recipient}} {{object.name}}", false),
            ("recipient", false),
        ] {
            assert_eq!(source.parse::<Phrase>().unwrap().names_recipient(), names);
        }
    }

    #[test]
    fn a_date_is_the_one_that_the_job_is_about() {
        let scope = PhraseScope {
            scheduled_at: Some("2026-03-05T23:59:00Z".parse().unwrap()),
            ..PhraseScope::default()
        };
        let phrase: Phrase = "{{year}}/{{month}}/{{day}}/report-{{date}}"
            .parse()
            .unwrap();
        assert_eq!(
            phrase.fill(&scope, 1000).unwrap(),
            "2026/03/05/report-2026-03-05"
        );
        assert!(matches!(
            phrase.fill(&PhraseScope::default(), 1000),
            Err(PhraseError::NoInstant(name)) if name == "year"
        ));
    }

    #[test]
    fn yesterday_last_month_and_the_week_are_dates_of_the_jobs_time_zone() {
        let zone = crate::clock::time_zone("Asia/Tokyo").unwrap();
        let fill = |at: &str, phrase: &str| {
            let scope = PhraseScope {
                scheduled_at: Some(at.parse().unwrap()),
                time_zone: Some(&zone),
                ..PhraseScope::default()
            };
            phrase.parse::<Phrase>().unwrap().fill(&scope, 100)
        };
        for (at, phrase, expected) in [
            ("2026-11-23T06:00:00Z", "{{date:-1d}}", "2026-11-22"),
            (
                "2026-11-23T22:00:00Z",
                "{{date:-1d}} {{utc.date:-1d}}",
                "2026-11-23 2026-11-22",
            ),
            (
                "2026-03-31T06:00:00Z",
                "{{year:-1m}}/{{month:-1m}}/{{day:-1m}}",
                "2026/02/28",
            ),
            (
                "2026-01-05T06:00:00Z",
                "{{ year:-1w }}-{{month:-1w}}",
                "2025-12",
            ),
            (
                "2026-12-31T14:00:00Z",
                "{{week_year}}-W{{week}}",
                "2026-W53",
            ),
            (
                "2026-12-31T16:00:00Z",
                "{{year}} {{week_year}}-W{{week}}",
                "2027 2026-W53",
            ),
            (
                "2026-01-01T06:00:00Z",
                "W{{week:+1w}}, W{{week}}",
                "W02, W01",
            ),
        ] {
            assert_eq!(fill(at, phrase).as_deref(), Ok(expected), "{at} {phrase}");
        }
        let at = "2026-11-23T06:00:00Z";
        assert_eq!(
            fill(at, "{{job.id:-1d}}"),
            Err(PhraseError::NotADate("job.id:-1d".to_owned()))
        );
        assert_eq!(
            fill("9999-12-30T00:00:00Z", "{{date:+9999d}}"),
            Err(PhraseError::NoSuchDate("date:+9999d".to_owned()))
        );
        let nameless = "{{date:-1d}}".parse::<Phrase>().unwrap();
        assert_eq!(
            nameless.fill(&PhraseScope::default(), 100),
            Err(PhraseError::NoInstant("date:-1d".to_owned()))
        );
        for phrase in [
            "{{date:-1y}}",
            "{{date:1d}}",
            "{{date:}}",
            "{{:-1d}}",
            "{{date:-1d:-1d}}",
        ] {
            assert_eq!(
                phrase.parse::<Phrase>(),
                Err(PhraseError::NotAName(2)),
                "{phrase}"
            );
        }
    }

    #[test]
    fn a_date_is_that_of_the_jobs_time_zone_and_utc_is_named() {
        let filled = |at: &str, zone: &str, phrase: &str| {
            let zone = crate::clock::time_zone(zone).unwrap();
            let scope = PhraseScope {
                scheduled_at: Some(at.parse().unwrap()),
                time_zone: Some(&zone),
                ..PhraseScope::default()
            };
            phrase.parse::<Phrase>().unwrap().fill(&scope, 100).unwrap()
        };
        for (at, zone, theirs, utc) in [
            (
                "2026-11-23T22:00:00Z",
                "Asia/Tokyo",
                "2026-11-24",
                "2026-11-23",
            ),
            (
                "2026-12-31T10:00:00Z",
                "Pacific/Kiritimati",
                "2027-01-01",
                "2026-12-31",
            ),
            (
                "2027-01-01T10:59:59Z",
                "Pacific/Pago_Pago",
                "2026-12-31",
                "2027-01-01",
            ),
            // The clocks of Berlin go from 02:00 to 03:00, and back from 03:00 to 02:00.
            (
                "2026-03-28T23:30:00Z",
                "Europe/Berlin",
                "2026-03-29",
                "2026-03-28",
            ),
            (
                "2026-10-25T22:30:00Z",
                "Europe/Berlin",
                "2026-10-25",
                "2026-10-25",
            ),
            (
                "2028-02-28T15:00:00Z",
                "Asia/Tokyo",
                "2028-02-29",
                "2028-02-28",
            ),
            ("2026-11-23T22:00:00Z", "UTC", "2026-11-23", "2026-11-23"),
        ] {
            let (parts, utc_parts) = (theirs.replace('-', "/"), utc.replace('-', "/"));
            assert_eq!(
                filled(at, zone, "{{date}} {{year}}/{{month}}/{{day}}"),
                format!("{theirs} {parts}")
            );
            let phrase = "{{utc.date}} {{utc.year}}/{{utc.month}}/{{utc.day}}";
            assert_eq!(
                filled(at, zone, phrase),
                format!("{utc} {utc_parts}"),
                "{zone}"
            );
        }
    }

    #[test]
    fn a_value_is_never_read_as_a_phrase_again() {
        let vars = json!({ "a": "{{b}}", "b": "secret" });
        let scope = PhraseScope {
            vars: vars.as_object(),
            ..PhraseScope::default()
        };
        assert_eq!(
            "{{a}}"
                .parse::<Phrase>()
                .unwrap()
                .fill(&scope, 1000)
                .unwrap(),
            "{{b}}"
        );
    }
}
