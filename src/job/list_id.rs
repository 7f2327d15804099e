//! The identity of a list (RFC 2919), by which mail programs sort and unsubscribe.

use std::fmt;
use std::str::FromStr;

use super::recipient::forges;

/// The longest id, in bytes: RFC 2919, section 2.
const MAX_ID_BYTES: usize = 255;

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// Why a text is not a list's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListIdError {
    /// The form is wrong.
    #[error(
        "is not the id of a list: write \"daily.sender.example\" or \"Daily reports <daily.sender.example>\""
    )]
    Form,
    /// A character that could end a header or hide a name.
    #[error("holds the character {0:?}, which could forge a mail's header or hide a name")]
    Character(char),
    /// Too long.
    #[error(
        "is too long: the id may have {MAX_ID_BYTES} bytes, and the name before it {MAX_NAME_BYTES}"
    )]
    TooLong,
}

/// A mailing list: its display name, and its stable id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListId {
    /// Its display name.
    pub name: Option<String>,
    id: String,
}

impl ListId {
    /// The id alone: words of ASCII with dots between them.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl FromStr for ListId {
    type Err = ListIdError;

    fn from_str(text: &str) -> Result<Self, ListIdError> {
        if let Some(found) = text.chars().find(|c| forges(*c)) {
            return Err(ListIdError::Character(found));
        }
        let (name, id) = match text.trim().strip_suffix('>') {
            Some(text) => text.split_once('<').ok_or(ListIdError::Form)?,
            None => ("", text.trim()),
        };
        let name = name.trim().trim_matches('"');
        if id.len() > MAX_ID_BYTES || name.len() > MAX_NAME_BYTES {
            return Err(ListIdError::TooLong);
        }
        // A label and a namespace: at least one dot.
        if !id.contains('.') || !id.split('.').all(is_word) {
            return Err(ListIdError::Form);
        }
        Ok(Self {
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            id: id.to_owned(),
        })
    }
}

/// Letters, digits, `-` and `_`: a subset of RFC 2919 that a URL carries without encoding.
fn is_word(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !word.is_empty() && word.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_an_id_and_perhaps_a_name() {
        for (text, name) in [
            ("daily.sender.example", None),
            ("<daily.sender.example>", None),
            ("Täglich <daily.sender.example>", Some("Täglich")),
            ("\"Daily, all\" <daily.sender.example>", Some("Daily, all")),
        ] {
            let list: ListId = text.parse().unwrap();
            assert_eq!(
                (list.name.as_deref(), list.id()),
                (name, "daily.sender.example")
            );
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "daily",
            "daily..example",
            "a b.example",
            "dä.example",
            "x <y.example",
            "a.b>",
        ] {
            assert_eq!(text.parse::<ListId>(), Err(ListIdError::Form), "{text}");
        }
        let long = format!("a.{}", "b".repeat(254));
        assert_eq!(long.parse::<ListId>(), Err(ListIdError::TooLong));
        assert_eq!(
            "a\u{202E} <a.b>".parse::<ListId>(),
            Err(ListIdError::Character('\u{202E}'))
        );
    }
}
