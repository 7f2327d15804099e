//! The strings of mails and pages, a file for each language, and that language's number and date formats.
//!
//! The files are compiled in from `templates/strings/`. A file of the same name in the directory of overrides replaces strings or
//! adds a language; strings that a language lacks are taken from English.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, DateTime};
use serde::{Deserialize, Serialize};

use super::templates::TemplateError;
use crate::job::Locale;

/// The complete language, which supplies missing strings.
const FALLBACK: &str = "en";

const BUILT_IN: [(&str, &str); 6] = [
    (FALLBACK, include_str!("../../templates/strings/en.toml")),
    ("ar", include_str!("../../templates/strings/ar.toml")),
    ("de", include_str!("../../templates/strings/de.toml")),
    ("es", include_str!("../../templates/strings/es.toml")),
    ("fr", include_str!("../../templates/strings/fr.toml")),
    ("ja", include_str!("../../templates/strings/ja.toml")),
];

/// The compiled-in files, each by its path in a directory of templates.
pub(super) fn built_in() -> impl Iterator<Item = (String, &'static str)> {
    let files = BUILT_IN.iter();
    files.map(|(tag, text)| (format!("strings/{tag}.toml"), *text))
}

/// All languages with strings.
#[derive(Debug)]
pub struct Strings {
    languages: BTreeMap<String, Language>,
}

/// One language.
#[derive(Debug, Clone)]
pub struct Language {
    tag: String,
    forms: Forms,
    words: BTreeMap<String, StringEntry>,
}

/// The text direction of a language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Left to right.
    #[default]
    Ltr,
    /// Right to left.
    Rtl,
}

/// The number, size and date formats of a language.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Forms {
    direction: Direction,
    plural: Plural,
    decimal: String,
    group: String,
    /// Numbers with fewer digits are not grouped: Spanish writes 1234, but 12.345.
    group_from_digits: usize,
    /// Bytes and their thousands.
    size_units: [String; 5],
    date: String,
    instant: String,
    /// How the first day of a month is written, if not 1: French writes 1er.
    first_of_month: Option<String>,
    /// From January.
    months: [String; 12],
    months_short: [String; 12],
    /// From Monday.
    weekdays: [String; 7],
}

/// The plural categories of a language. <https://cldr.unicode.org/index/cldr-spec/plural-rules>
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Plural {
    /// One form for all numbers: Japanese.
    Same,
    /// One, and other: English, German, Spanish.
    OneOther,
    /// Zero and one, and other: French.
    ZeroOneOther,
    /// Six forms.
    Arabic,
}

/// A string, or its forms by count.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a word is a text, or a table of its forms")]
enum StringEntry {
    Plain(String),
    Counted(BTreeMap<String, String>),
}

/// A file of strings; `language` may be left out where the language is known already.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    language: Option<Forms>,
    #[serde(default)]
    words: BTreeMap<String, StringEntry>,
}

impl Strings {
    /// Loads the compiled-in strings, and `overrides` over them: pairs of a language's tag and a file's text.
    pub(super) fn load(overrides: &[(String, String)]) -> Result<Self, TemplateError> {
        let mut strings = Self {
            languages: BTreeMap::new(),
        };
        let built_in = BUILT_IN.iter().copied();
        let overrides = overrides
            .iter()
            .map(|(tag, text)| (tag.as_str(), text.as_str()));
        for (tag, text) in built_in.chain(overrides) {
            strings.add(tag, text).map_err(|(line, reason)| {
                TemplateError::new(format!("strings/{tag}.toml"), line, reason)
            })?;
        }
        Ok(strings)
    }

    fn add(&mut self, tag: &str, text: &str) -> Result<(), (Option<usize>, String)> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| text[..span.start].matches('\n').count() + 1);
            (line, format!("is not a file of words: {}", error.message()))
        })?;
        self.check_placeholders(&file.words)
            .map_err(|reason| (None, reason))?;
        let mut language = match (self.languages.remove(tag), file.language) {
            (Some(known), None) => known,
            (Some(known), Some(forms)) => Language { forms, ..known },
            (None, Some(forms)) => {
                let words = self
                    .languages
                    .get(FALLBACK)
                    .map(|english| english.words.clone());
                Language {
                    tag: tag.to_owned(),
                    forms,
                    words: words.unwrap_or_default(),
                }
            }
            (None, None) => {
                let reason = "adds a language, and so needs a [language] table";
                return Err((None, reason.to_owned()));
            }
        };
        language.words.extend(file.words);
        self.languages.insert(tag.to_owned(), language);
        Ok(())
    }

    /// Rejects a string with a placeholder that its English counterpart lacks: it would never be filled in.
    fn check_placeholders(&self, words: &BTreeMap<String, StringEntry>) -> Result<(), String> {
        let Some(english) = self.languages.get(FALLBACK) else {
            return Ok(());
        };
        for (key, word) in words {
            let Some(model) = english.words.get(key) else {
                continue;
            };
            if let Some(stray) = word.placeholders().difference(&model.placeholders()).next() {
                return Err(format!(
                    "the word {key:?} has the placeholder {{{stray}}}, which has no value"
                ));
            }
        }
        Ok(())
    }

    /// The tags of the available languages.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.languages.keys().map(String::as_str)
    }

    /// The language that is nearest to a tag: `pt-BR`, else `pt`, else English.
    pub fn language(&self, tag: &str) -> &Language {
        let primary = tag
            .split('-')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        self.languages
            .get(tag)
            .or_else(|| self.languages.get(&primary))
            .or_else(|| self.languages.get(FALLBACK))
            .expect("English is compiled in")
    }

    /// The language for a recipient's or the configuration's locale.
    pub fn for_locale(&self, locale: &Locale) -> &Language {
        self.language(locale.as_str())
    }

    /// The names of all strings, and the placeholders of each.
    pub(super) fn keys(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let english = self.language(FALLBACK);
        english
            .words
            .iter()
            .map(|(key, word)| (key.as_str(), word.placeholders()))
            .collect()
    }
}

impl Language {
    /// The language's tag, for `lang`.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The direction of its script, for `dir`.
    pub const fn direction(&self) -> Direction {
        self.forms.direction
    }

    /// Formats a string with its values; a string with plural forms chooses by `count`.
    pub(super) fn say(
        &self,
        key: &str,
        count: Option<u64>,
        values: &BTreeMap<&str, String>,
    ) -> Result<String, String> {
        let word = self
            .words
            .get(key)
            .ok_or_else(|| format!("there is no word {key:?}"))?;
        let pattern = match (word, count) {
            (StringEntry::Plain(pattern), _) => pattern,
            (StringEntry::Counted(forms), Some(count)) => self.form(forms, count),
            (StringEntry::Counted(_), None) => {
                return Err(format!("the word {key:?} is counted: give it count=…"));
            }
        };
        fill(pattern, |place| {
            let value = values.get(place);
            value
                .map(|value| self.isolate(value))
                .ok_or_else(|| format!("the word {key:?} needs {place}=…"))
        })
    }

    /// Selects the plural form for a count from given forms; `other` is always among them.
    pub(super) fn form<'f>(&self, forms: &'f BTreeMap<String, String>, count: u64) -> &'f str {
        let category = self.forms.plural.category(count);
        forms
            .get(category)
            .or_else(|| forms.get("other"))
            .map_or("", String::as_str)
    }

    /// A whole number, grouped.
    pub fn number(&self, number: u64) -> String {
        let mut text = String::new();
        self.push_number(number, &mut text);
        text
    }

    fn push_number(&self, number: u64, text: &mut String) {
        let mut decimal = itoa::Buffer::new();
        let digits = decimal.format(number);
        if digits.len() < self.forms.group_from_digits {
            text.push_str(digits);
            return;
        }
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push_str(&self.forms.group);
            }
            text.push(digit);
        }
    }

    /// A size in powers of 1,000, as file managers show it: `850 KB`, `1.2 MB`.
    pub fn size(&self, bytes: u64) -> String {
        let mut text = String::new();
        self.push_size(bytes, &mut text);
        text
    }

    /// Appends a size, as [`Language::size`] writes it.
    pub(super) fn push_size(&self, bytes: u64, text: &mut String) {
        let (mut unit, mut scale) = (0, 1_u64);
        // 999.5 of a unit would be shown as 1,000 of it, so it becomes 1 of the next.
        while unit + 1 < self.forms.size_units.len()
            && bytes >= scale.saturating_mul(1000) - scale / 2
        {
            (unit, scale) = (unit + 1, scale.saturating_mul(1000));
        }
        let tenths = tenths(bytes, scale);
        match (tenths / 10, tenths % 10) {
            (whole @ 0..=9, tenth @ 1..=9) if unit > 0 => {
                self.push_number(whole, text);
                text.push_str(&self.forms.decimal);
                self.push_number(tenth, text);
            }
            (whole @ 0..=9, _) if unit > 0 => self.push_number(whole, text),
            _ => self.push_number(rounded(bytes, scale), text),
        }
        text.push(' ');
        text.push_str(&self.forms.size_units[unit]);
    }

    /// A day: `23 Nov 2026`.
    pub fn date(&self, date: Date) -> String {
        self.fill_date(&self.forms.date, date, |_| None)
    }

    /// A minute with the time zone that it is in: `Monday 30 November 2026, 18:40 CET`.
    pub fn instant(&self, local: DateTime, zone: &str) -> String {
        self.fill_date(&self.forms.instant, local.date(), |place| match place {
            "time" => Some(format!("{:02}:{:02}", local.hour(), local.minute())),
            "zone" => Some(zone.to_owned()),
            _ => None,
        })
    }

    fn fill_date(
        &self,
        pattern: &str,
        date: Date,
        more: impl Fn(&str) -> Option<String>,
    ) -> String {
        let month = usize::from(date.month().unsigned_abs()) - 1;
        let weekday = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        let filled = fill(pattern, |place| {
            Ok(match place {
                "day" => match &self.forms.first_of_month {
                    Some(first) if date.day() == 1 => first.clone(),
                    _ => date.day().to_string(),
                },
                "month" => self.forms.months[month].clone(),
                "month_short" => self.forms.months_short[month].clone(),
                "year" => date.year().to_string(),
                "weekday" => self.forms.weekdays[weekday].clone(),
                place => more(place).ok_or_else(String::new)?,
            })
        });
        // An unfilled placeholder would show in every mail, so the ISO date is used instead.
        filled.unwrap_or_else(|_: String| date.to_string())
    }

    /// Isolates a value from the text direction of the sentence around it.
    fn isolate(&self, value: &str) -> String {
        match self.forms.direction {
            Direction::Ltr => value.to_owned(),
            Direction::Rtl => format!("\u{2068}{value}\u{2069}"),
        }
    }
}

impl Plural {
    const fn category(self, count: u64) -> &'static str {
        match (self, count) {
            (Self::Same, _) => "other",
            (Self::OneOther, 1) | (Self::ZeroOneOther, 0 | 1) | (Self::Arabic, 1) => "one",
            (Self::OneOther | Self::ZeroOneOther, _) => "other",
            (Self::Arabic, 0) => "zero",
            (Self::Arabic, 2) => "two",
            (Self::Arabic, _) => match count % 100 {
                3..=10 => "few",
                11..=99 => "many",
                _ => "other",
            },
        }
    }
}

impl StringEntry {
    fn placeholders(&self) -> BTreeSet<String> {
        let mut places = BTreeSet::new();
        let patterns: Vec<&String> = match self {
            Self::Plain(pattern) => vec![pattern],
            Self::Counted(forms) => forms.values().collect(),
        };
        for pattern in patterns {
            let collected = fill::<()>(pattern, |place| {
                places.insert(place.to_owned());
                Ok(String::new())
            });
            collected.unwrap_or_default();
        }
        places
    }
}

/// Fills in the `{placeholders}` of a pattern; a brace that opens none is kept.
fn fill<E>(pattern: &str, mut value: impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
    let mut text = String::with_capacity(pattern.len() * 2);
    let mut rest = pattern;
    while let Some((literal, opened)) = rest.split_once('{') {
        let Some((place, after)) = opened.split_once('}') else {
            break;
        };
        text.push_str(literal);
        text.push_str(&value(place)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

const fn rounded(bytes: u64, scale: u64) -> u64 {
    bytes / scale
        + if bytes % scale >= scale.div_ceil(2) && scale > 1 {
            1
        } else {
            0
        }
}

/// Tenths of a unit, rounded; above 9.9 only if the whole number is.
fn tenths(bytes: u64, scale: u64) -> u64 {
    let tenth = (scale / 10).max(1);
    if scale == 1 {
        bytes * 10
    } else {
        rounded(bytes, tenth)
    }
}

#[cfg(test)]
mod tests;
