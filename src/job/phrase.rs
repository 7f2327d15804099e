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
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::date_distance::DateDistance;
use super::recipient::{Recipient, forges};
use super::{JobId, Key};
use crate::bounds::MAX_PHRASE_BYTES;

/// How many known names an error lists.
const MAX_NAMES_SHOWN: usize = 20;

/// Why a phrase could not be parsed or filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Too long to be a name or a subject.
    #[error("has {length} bytes: at most {limit} are allowed")]
    TooLong {
        /// How many bytes it has.
        length: usize,
        /// How many it may have.
        limit: usize,
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
    /// A value of the recipient that could lead out of the recipient's place.
    #[error(
        "uses {{{{{name}}}}}, whose value for this recipient {reason}: in a prefix or key it must be a part of one folder's name"
    )]
    Place {
        /// The name.
        name: String,
        /// What is wrong with its value, without the value.
        reason: &'static str,
    },
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

impl PhrasePart {
    fn is_of_recipient(&self) -> bool {
        matches!(self, Self::Name(name) if name.path[0] == "recipient")
    }
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
        self.parts.iter().any(PhrasePart::is_of_recipient)
    }

    /// Whether a `/` stands after each name of the recipient, before the next such name and, with `to_its_end`, before the end.
    ///
    /// No value contains a `/`. So two recipients with different values have different texts, and with `to_its_end` no text
    /// begins with another's: the prefix of customer 1 would otherwise have the files of customer 12.
    pub fn separates_recipients(&self, to_its_end: bool) -> bool {
        let mut is_open = false;
        for part in &self.parts {
            match part {
                PhrasePart::Literal(text) => is_open &= !text.contains('/'),
                PhrasePart::Name(_) if !part.is_of_recipient() => {}
                PhrasePart::Name(_) if is_open => return false,
                PhrasePart::Name(_) => is_open = true,
            }
        }
        !(is_open && to_its_end)
    }
}

impl Phrase {
    /// Fills in every name but those of the object, which [`NamePattern::fill`] fills in later.
    pub fn for_objects(
        &self,
        scope: &PhraseScope<'_>,
        limit: usize,
    ) -> Result<NamePattern, PhraseError> {
        let mut parts: Vec<NamePart> = Vec::new();
        for part in &self.parts {
            let mut filled = Filled {
                text: String::new(),
                limit,
            };
            match part {
                PhrasePart::Literal(literal) => filled.push(literal)?,
                PhrasePart::Name(name) => match name.path.as_slice() {
                    [object, field]
                        if object == "object"
                            && name.moved.is_none()
                            && OBJECT_FIELDS.contains(&field.as_str()) =>
                    {
                        parts.push(NamePart::Object {
                            object: field.clone(),
                        });
                        continue;
                    }
                    _ => scope.push(name, &mut filled)?,
                },
            }
            match parts.last_mut() {
                Some(NamePart::Text(text)) => text.push_str(&filled.text),
                _ => parts.push(NamePart::Text(filled.text)),
            }
        }
        Ok(NamePattern(parts))
    }
}

/// A phrase for file names, of which only the object's names are left to fill in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePattern(Vec<NamePart>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum NamePart {
    Text(String),
    Object { object: String },
}

impl NamePattern {
    /// The name of an object; it has at most `limit` bytes.
    pub fn fill(&self, key: &Key, limit: usize) -> Result<String, PhraseError> {
        let mut filled = Filled {
            text: String::new(),
            limit,
        };
        for part in &self.0 {
            match part {
                NamePart::Text(text) => filled.push(text)?,
                NamePart::Object { object } => {
                    filled.push(object_field(key, object).unwrap_or_default())?;
                }
            }
        }
        Ok(filled.text)
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
        Self::parse(source, MAX_PHRASE_BYTES)
    }
}

impl Phrase {
    /// Parses a phrase that has at most `limit` bytes before it is filled in.
    pub fn parse(source: &str, limit: usize) -> Result<Self, PhraseError> {
        if source.len() > limit {
            return Err(PhraseError::TooLong {
                length: source.len(),
                limit,
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
    /// Whether the text is a prefix or a key: the recipient's values must be parts of a folder's name.
    pub is_place: bool,
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
        let is_checked = self.is_place && words[0] == "recipient";
        let check = |value: &str| match check_in_place(value).filter(|_| is_checked) {
            Some(reason) => Err(PhraseError::Place {
                name: name.to_string(),
                reason,
            }),
            None => Ok(()),
        };
        if let Some(plain) = plain {
            check(plain)?;
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
            Some(Value::String(value)) => {
                check(value)?;
                text.push(value)
            }
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

/// What keeps a recipient's value from being a part of one folder's name. Addresses and variables are chosen by others than the
/// author of the prefix.
fn check_in_place(value: &str) -> Option<&'static str> {
    match value {
        "" => Some("is empty"),
        _ if value.contains('/') => Some("contains \"/\""),
        _ if value.contains('\\') => Some("contains a backslash"),
        _ if value.contains("..") => Some("contains \"..\""),
        _ if value.chars().any(forges) => Some("contains a control character"),
        _ if value.trim() != value => Some("begins or ends with white space"),
        _ => None,
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
mod tests;
