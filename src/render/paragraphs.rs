//! The message of a job's author, as mails and pages show it: paragraphs of lines, never markup.

use serde::Serialize;

use super::RenderError;
use crate::bounds::MAX_MESSAGE_BYTES;
use crate::job::{FilledMessage, Locale, PhraseScope, ReaderMessage};
use crate::text::html::escape;

/// A message for templates.
#[derive(Debug, Default, Serialize)]
pub(super) struct MessageView {
    /// The tag of its language, if the job says it.
    language: Option<String>,
    /// Each is a list of lines.
    paragraphs: Vec<Vec<String>>,
}

impl MessageView {
    /// A message in the language of a reader, or else in `fallback`; `field` is the job's.
    pub(super) fn new(
        field: &'static str,
        message: &ReaderMessage,
        (wanted, fallback): (&Locale, &Locale),
        scope: &PhraseScope<'_>,
    ) -> Result<Self, RenderError> {
        let (language, text) = message.in_language(wanted, fallback);
        let filled = text
            .fill(scope, MAX_MESSAGE_BYTES)
            .map_err(|source| RenderError::Phrase { field, source })?;
        Ok(Self {
            language: language.map(ToString::to_string),
            paragraphs: paragraphs(&filled),
        })
    }

    /// A message whose names were filled in earlier.
    pub(super) fn of(
        message: &FilledMessage,
        (wanted, fallback): (&Locale, &Locale),
    ) -> Option<Self> {
        let (language, text) = message.in_language(wanted, fallback)?;
        Some(Self {
            language: language.map(ToString::to_string),
            paragraphs: paragraphs(text),
        })
    }

    /// The message as HTML, for a page without a template.
    pub(super) fn html(&self) -> String {
        let language = self.language.as_deref().map(escape);
        let language = language.map(|tag| format!(" lang=\"{tag}\""));
        let paragraphs = self.paragraphs.iter().map(|lines| {
            let lines: Vec<String> = lines.iter().map(|line| escape(line)).collect();
            format!("<p dir=\"auto\">{}</p>", lines.join("<br>"))
        });
        format!(
            "<div class=\"message\"{}>{}</div>",
            language.unwrap_or_default(),
            paragraphs.collect::<String>()
        )
    }

    /// A view in which every value is present.
    pub(super) fn sample() -> Self {
        Self {
            language: Some(String::new()),
            paragraphs: vec![vec![String::new()]],
        }
    }
}

/// Divides a text at empty lines.
fn paragraphs(text: &str) -> Vec<Vec<String>> {
    let mut paragraphs = vec![Vec::new()];
    for line in text.lines().map(visible) {
        match (line.is_empty(), paragraphs.last_mut()) {
            (false, Some(lines)) => lines.push(line),
            (true, Some(lines)) if !lines.is_empty() => paragraphs.push(Vec::new()),
            (true, _) | (false, None) => {}
        }
    }
    paragraphs.retain(|lines| !lines.is_empty());
    paragraphs
}

/// A line without characters that control a terminal or reorder other text. Marks that only say the direction of a letter stay:
/// texts in Arabic and Hebrew need them.
fn visible(line: &str) -> String {
    let reorders = |c: char| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let ends_line = |c: char| matches!(c, '\u{2028}' | '\u{2029}');
    let line: String = line
        .chars()
        .map(|c| if c == '\t' || ends_line(c) { ' ' } else { c })
        .filter(|c| !c.is_control() && !reorders(*c))
        .collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_ends_a_paragraph() {
        let told = |text: &str| {
            let paragraphs = paragraphs(text).into_iter();
            paragraphs
                .map(|lines| lines.join("/"))
                .collect::<Vec<_>>()
                .join(" ¶ ")
        };
        assert_eq!(told("a\nb\n\nc"), "a/b ¶ c");
        assert_eq!(told("\r\n a \r\nb\r\n \t\r\n\r\n\nc\n\n"), "a/b ¶ c");
        assert_eq!(told(" \n "), "");
        assert_eq!(
            told("a\tb \u{202E}c\u{202C}\u{7}\u{200F}d"),
            "a b c\u{200F}d"
        );
        assert_eq!(told("a\u{2028}b"), "a b");
    }
}
