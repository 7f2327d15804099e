//! A short text with `{{names}}` in it, as a job may carry one: a file name, a subject, a prefix.
//!
//! The syntax is the plain-expression part of handlebars, and no more of it: a job is untrusted, and the engine
//! itself can be made to overflow its stack by nested blocks (handlebars-rust issue 386). So a phrase has no
//! blocks, no partials and no helpers, and a name that does not exist is an error, never an empty place.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::recipient::Recipient;
use super::{JobId, Key};

/// The longest phrase, in bytes.
pub const MAX_PHRASE_BYTES: usize = 1024;

/// How many known names an error lists.
const MAX_NAMES_SHOWN: usize = 20;

/// Why a phrase could not be read, or could not be filled in.
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
    /// More than a name between the braces.
    #[error(
        "has {{{{{0}}}}}: only plain names such as {{{{customer}}}} or {{{{object.name}}}} can stand there, no blocks, helpers or partials"
    )]
    NotAName(String),
    /// The name has no value.
    #[error("uses {{{{{name}}}}}, which has no value here; known are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that have a value.
        known: String,
    },
    /// The name stands for a list or an object.
    #[error("uses {{{{{0}}}}}, which is not a text, a number or true/false")]
    NotText(String),
}

/// A parsed phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name(Vec<String>),
}

impl Phrase {
    /// Fills the names in from `scope`.
    pub fn fill(&self, scope: &Scope<'_>) -> Result<String, PhraseError> {
        let mut text = String::with_capacity(self.source.len() * 2);
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Name(path) => scope.push(path, &mut text)?,
            }
        }
        Ok(text)
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
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Name(parse_name(inside)?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
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

fn parse_name(inside: &str) -> Result<Vec<String>, PhraseError> {
    let name = inside.trim();
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    };
    if !name.split('.').all(is_word) {
        return Err(PhraseError::NotAName(inside.to_owned()));
    }
    Ok(name.split('.').map(str::to_owned).collect())
}

/// What the names of a phrase can mean; a place that has no object, say, leaves it out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope<'a> {
    /// The job's own variables, found as `{{name}}` and as `{{vars.name}}`.
    pub vars: Option<&'a Map<String, Value>>,
    /// The person, as `{{recipient.name}}`, `.address`, `.locale` and `.vars.…`.
    pub recipient: Option<&'a Recipient>,
    /// The object, as `{{object.name}}`, `.stem`, `.extension`, `.folder` and `.key`.
    pub object: Option<&'a Key>,
    /// The job, as `{{job.id}}`.
    pub job: Option<&'a JobId>,
    /// The instant that the job is about, as `{{date}}` (2026-11-23), `{{year}}`, `{{month}}` and `{{day}}`, in UTC.
    pub scheduled_at: Option<Timestamp>,
    /// What the event said, as `{{event.bucket}}`, `.key`, `.time` and `.name`.
    pub event: Option<&'a Map<String, Value>>,
}

impl Scope<'_> {
    fn push(&self, path: &[String], text: &mut String) -> Result<(), PhraseError> {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let plain = match *words.as_slice() {
            ["recipient", field] => self
                .recipient
                .and_then(|recipient| recipient_field(recipient, field)),
            ["object", field] => self.object.and_then(|key| object_field(key, field)),
            ["job", "id"] => self.job.map(JobId::as_str),
            _ => None,
        };
        if let Some(plain) = plain {
            text.push_str(plain);
            return Ok(());
        }
        if let ([field], Some(at)) = (words.as_slice(), self.scheduled_at)
            && let Some(spelling) = spelling_of(field)
        {
            text.push_str(&at.strftime(spelling).to_string());
            return Ok(());
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
            Some(Value::String(value)) => text.push_str(value),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => text.push_str(&value.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => {
                return Err(PhraseError::NotText(path.join(".")));
            }
            None => {
                return Err(PhraseError::Unknown {
                    name: path.join("."),
                    known: self.known(),
                });
            }
        }
        Ok(())
    }

    /// The names that have a value, for the error that lists them.
    fn known(&self) -> String {
        let mut names: Vec<String> = self
            .vars
            .into_iter()
            .flat_map(Map::keys)
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
        // A job may have thousands; the first tell how names look.
        names.truncate(MAX_NAMES_SHOWN);
        names.join(", ").chars().take(MAX_PHRASE_BYTES).collect()
    }
}

/// The names for the instant that a job is about, and how each is spelled.
const DATE_FIELDS: [(&str, &str); 4] = [
    ("date", "%Y-%m-%d"),
    ("year", "%Y"),
    ("month", "%m"),
    ("day", "%d"),
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
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, extension),
        _ => (name, ""),
    };
    match field {
        "name" => Some(name),
        "stem" => Some(stem),
        "extension" => Some(extension),
        "folder" => Some(key.folder()),
        "key" => Some(key.as_str()),
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
mod tests {
    use super::*;
    use serde_json::json;

    fn fill(source: &str) -> Result<String, PhraseError> {
        let vars = json!({ "customer": "ACME", "year": 2026, "deep": { "er": "x" }, "list": [] });
        let key: Key = "2026/11/a b.pdf".parse().unwrap();
        let scope = Scope {
            vars: vars.as_object(),
            object: Some(&key),
            ..Scope::default()
        };
        source.parse::<Phrase>()?.fill(&scope)
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
        {{#if x}}: has {{#if x}}: only plain names such as {{customer}} or {{object.name}} can stand there, no blocks, helpers or partials
        {{{raw}}}: has {{{raw}}: only plain names such as {{customer}} or {{object.name}} can stand there, no blocks, helpers or partials
        {{> p}}: has {{> p}}: only plain names such as {{customer}} or {{object.name}} can stand there, no blocks, helpers or partials
        {{open: opens "{{" and does not close it
        {{list}}: uses {{list}}, which is not a text, a number or true/false
        {{}}: has {{}}: only plain names such as {{customer}} or {{object.name}} can stand there, no blocks, helpers or partials
        "#);
    }

    #[test]
    fn a_date_is_the_one_that_the_job_is_about() {
        let scope = Scope {
            scheduled_at: Some("2026-03-05T23:59:00Z".parse().unwrap()),
            ..Scope::default()
        };
        let phrase: Phrase = "{{year}}/{{month}}/{{day}}/report-{{date}}"
            .parse()
            .unwrap();
        assert_eq!(phrase.fill(&scope).unwrap(), "2026/03/05/report-2026-03-05");
        assert!(matches!(
            phrase.fill(&Scope::default()),
            Err(PhraseError::Unknown { .. })
        ));
    }

    #[test]
    fn a_value_is_never_read_as_a_phrase_again() {
        let vars = json!({ "a": "{{b}}", "b": "secret" });
        let scope = Scope {
            vars: vars.as_object(),
            ..Scope::default()
        };
        assert_eq!(
            "{{a}}".parse::<Phrase>().unwrap().fill(&scope).unwrap(),
            "{{b}}"
        );
    }
}
