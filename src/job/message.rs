//! A message of the job's author to the readers of a mail or a page: plain text in paragraphs, in one language or in several.

use serde::{Deserialize, Serialize};

use super::phrase::PhraseError;
use super::wire::MessageFields;
use super::{Locale, ParseJobError, Phrase, PhraseScope};
use crate::bounds::{MAX_MESSAGE_BYTES, MAX_MESSAGE_LANGUAGES};

/// A message.
#[derive(Debug, Clone)]
pub struct ReaderMessage {
    /// In the order of the languages' tags. Not empty; without a language there is one text.
    texts: Vec<(Option<Locale>, Phrase)>,
}

impl ReaderMessage {
    /// The text for a reader, and its language if the job says it: that of the reader's language, or else of `fallback`, or else the
    /// first.
    pub fn in_language(&self, wanted: &Locale, fallback: &Locale) -> (Option<&Locale>, &Phrase) {
        let chosen = chosen(&self.texts, wanted, fallback);
        let (language, text) = chosen.expect("a message has a text");
        (language.as_ref(), text)
    }

    /// The texts of all languages.
    pub fn texts(&self) -> impl Iterator<Item = &Phrase> {
        self.texts.iter().map(|(_, text)| text)
    }

    /// The message with its names filled in, for readers who come when the job is over.
    ///
    /// # Errors
    /// A name has no value, or a text has more than [`MAX_MESSAGE_BYTES`].
    pub fn filled(&self, scope: &PhraseScope<'_>) -> Result<FilledMessage, PhraseError> {
        let texts = self.texts.iter().map(|(language, text)| {
            let text = text.fill(scope, MAX_MESSAGE_BYTES)?;
            Ok((language.clone(), text))
        });
        let texts = texts.collect::<Result<_, PhraseError>>()?;
        Ok(FilledMessage { texts })
    }
}

/// A message whose names are filled in, as records keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilledMessage {
    texts: Vec<(Option<Locale>, String)>,
}

impl FilledMessage {
    /// The text for a reader, as [`ReaderMessage::in_language`] chooses it.
    pub fn in_language(
        &self,
        wanted: &Locale,
        fallback: &Locale,
    ) -> Option<(Option<&Locale>, &str)> {
        let (language, text) = chosen(&self.texts, wanted, fallback)?;
        Some((language.as_ref(), text))
    }

    /// The length of all texts together, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.texts.iter().map(|(_, text)| text.len()).sum()
    }
}

/// The text of a language, or else one of the same language elsewhere; that of `fallback`, or else the first.
fn chosen<'t, T>(
    texts: &'t [(Option<Locale>, T)],
    wanted: &Locale,
    fallback: &Locale,
) -> Option<&'t (Option<Locale>, T)> {
    let find = |is_wanted: &dyn Fn(&Locale) -> bool| {
        let mut texts = texts.iter();
        texts.find(|(language, _)| language.as_ref().is_some_and(is_wanted))
    };
    let of = |tag: &Locale| {
        let is_same = |known: &Locale| known.language().eq_ignore_ascii_case(tag.language());
        find(&|known| known == tag).or_else(|| find(&is_same))
    };
    of(wanted).or_else(|| of(fallback)).or(texts.first())
}

/// Parses the message of a field.
pub(super) fn parse(
    field: &str,
    wire: Option<MessageFields>,
) -> Result<Option<ReaderMessage>, ParseJobError> {
    let texts = match wire {
        None => return Ok(None),
        Some(MessageFields::One(text)) => vec![(None, text_of(field, &text)?)],
        Some(MessageFields::Languages(texts)) => {
            let count = texts.len();
            if count == 0 || count > MAX_MESSAGE_LANGUAGES {
                let reason = format!("has {count} languages: give 1 to {MAX_MESSAGE_LANGUAGES}");
                return Err(ParseJobError::field(field, reason));
            }
            let texts = texts.iter().map(|(tag, text)| {
                // A tag may be anything, and so is not repeated unless it is one.
                let language: Locale = tag.parse().map_err(|_| {
                    let reason = "names a language that is no tag: write one such as \"en\", \"de\" or \"pt-BR\"";
                    ParseJobError::field(field, reason)
                })?;
                let text = text_of(&format!("{field}.{tag}"), text)?;
                Ok((Some(language), text))
            });
            texts.collect::<Result<_, _>>()?
        }
    };
    Ok(Some(ReaderMessage { texts }))
}

/// Parses a text. A line break and a tab are the only control characters: others are never meant.
fn text_of(field: &str, text: &str) -> Result<Phrase, ParseJobError> {
    if text.trim().is_empty() {
        let reason = "is empty: write a text, or leave it out";
        return Err(ParseJobError::field(field, reason));
    }
    let is_odd = |c: &char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if let Some(found) = text.chars().find(is_odd) {
        let reason =
            format!("holds the control character {found:?}, which no mail or page can carry");
        return Err(ParseJobError::field(field, reason));
    }
    Phrase::parse(text, MAX_MESSAGE_BYTES).map_err(|error| ParseJobError::field(field, error))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(message: Value) -> Result<ReaderMessage, String> {
        let wire: MessageFields =
            serde_json::from_value(message).map_err(|error| error.to_string())?;
        let parsed = parse("email.message", Some(wire)).map_err(|error| error.to_string());
        parsed.map(|message| message.expect("one was given"))
    }

    #[test]
    fn a_reader_gets_the_text_of_their_language() {
        let message =
            read(json!({ "de": "Deutsch", "pt-BR": "Brasil", "en": "English", "ar": "عربي" }));
        let message = message.unwrap();
        let told = |wanted: &str, fallback: &str| {
            let (language, text) =
                message.in_language(&wanted.parse().unwrap(), &fallback.parse().unwrap());
            format!("{} {text}", language.unwrap())
        };
        assert_eq!(told("de", "en"), "de Deutsch");
        assert_eq!(told("de-AT", "en"), "de Deutsch");
        assert_eq!(told("pt", "en"), "pt-BR Brasil");
        assert_eq!(told("fr", "en-GB"), "en English");
        assert_eq!(told("fr", "ja"), "ar عربي", "the first by tag");
        let filled = message.filled(&PhraseScope::default()).unwrap();
        let stored: FilledMessage =
            serde_json::from_str(&serde_json::to_string(&filled).unwrap()).unwrap();
        let (wanted, fallback) = ("pt".parse().unwrap(), "en".parse().unwrap());
        let (language, text) = stored.in_language(&wanted, &fallback).unwrap();
        assert_eq!((language.unwrap().as_str(), text), ("pt-BR", "Brasil"));
        assert_eq!(stored.len_bytes(), "DeutschBrasilEnglishعربي".len());
        let one = read(json!("Hello")).unwrap();
        let (language, text) = one.in_language(&"fr".parse().unwrap(), &"en".parse().unwrap());
        assert_eq!((language, text.to_string()), (None, "Hello".to_owned()));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let many: serde_json::Map<String, Value> = (0..51)
            .map(|n| (format!("de-{n:03}"), json!("x")))
            .collect();
        let table = [
            json!(""),
            json!(" \n "),
            json!("a\u{0}b"),
            json!("a\u{1b}[2Jb"),
            json!({}),
            json!({ "de_DE": "x" }),
            json!({ "de": "" }),
            json!({ "de": 7 }),
            json!(["x"]),
            json!("x".repeat(MAX_MESSAGE_BYTES + 1)),
            json!("{{#if x}}"),
            Value::Object(many),
        ]
        .map(|message| read(message).unwrap_err());
        insta::assert_snapshot!(table.join("\n"), @r#"
        the job's field email.message is empty: write a text, or leave it out
        the job's field email.message is empty: write a text, or leave it out
        the job's field email.message holds the control character '\0', which no mail or page can carry
        the job's field email.message holds the control character '\u{1b}', which no mail or page can carry
        the job's field email.message has 0 languages: give 1 to 50
        the job's field email.message names a language that is no tag: write one such as "en", "de" or "pt-BR"
        the job's field email.message.de is empty: write a text, or leave it out
        invalid type: integer `7`, expected a string
        invalid type: sequence, expected a text, or an object with a text for each language such as {"en": "…", "de": "…"}
        the job's field email.message has 4001 bytes: at most 4000 are allowed
        the job's field email.message has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        the job's field email.message has 51 languages: give 1 to 50
        "#);
        assert!(read(json!("a\r\n\tb\n\nc {{customer}}")).is_ok());
    }
}
