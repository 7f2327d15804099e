//! A relay's reply: a code, and words for people. RFC 5321, section 4.2.

use crate::bounds::MAX_RELAY_WORDS_BYTES;
use crate::redact::{Secrets, redacted, redacted_of};

/// The longest reply that is read, in bytes, and its longest line; Postfix has the same limits.
pub(super) const MAX_BYTES: usize = 100_000;
pub(super) const MAX_LINE: usize = 2_000;

/// A reply of a relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// The three digits of the reply code.
    pub(super) code: u16,
    /// The text, line by line.
    pub(super) lines: Vec<String>,
    /// What its text must not repeat: the recipient of the mail.
    pub(super) secrets: Secrets,
}

/// One line of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplyLine {
    pub(super) code: u16,
    pub(super) is_last: bool,
    pub(super) words: String,
}

impl ReplyLine {
    /// Reads `250-words` or `250 words`; also `250` alone, which is valid (RFC 5321, section 4.2).
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (digits, rest) = bytes.split_at_checked(3)?;
        let is_code = matches!(digits, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']);
        let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let (is_last, words) = match rest {
            [] => (true, rest),
            [b' ', words @ ..] => (true, words),
            [b'-', words @ ..] => (false, words),
            _ => return None,
        };
        is_code.then(|| Self {
            code,
            is_last,
            words: String::from_utf8_lossy(words).into_owned(),
        })
    }
}

impl Reply {
    /// The code and the text, in a form that may be stored and logged.
    pub(super) fn words(&self) -> String {
        let words = format!("{} {}", self.code, self.lines.join(" "));
        redacted_of(&words, &self.secrets, MAX_RELAY_WORDS_BYTES)
    }

    /// The code and the enhanced code alone: a text about a login may repeat the login.
    pub(super) fn numbers(&self) -> String {
        let code = self.code;
        match self.enhanced() {
            Some((subject, detail)) => format!("{code} {}.{subject}.{detail}", code / 100),
            None => code.to_string(),
        }
    }

    /// Subject and detail of the enhanced status code: `(7, 1)` of `4.7.1` (RFC 3463). The code begins a line, or
    /// stands in the text with a `#`, as qmail and others write it. A code of another class than the reply's is
    /// ignored.
    pub(super) fn enhanced(&self) -> Option<(u16, u16)> {
        let of_reply = |word: &str| {
            let (class, subject, detail) = enhanced_code(word)?;
            (class == self.code / 100).then_some((subject, detail))
        };
        let first_words = self
            .lines
            .iter()
            .filter_map(|line| line.split_whitespace().next());
        let words = self.lines.iter().flat_map(|line| line.split_whitespace());
        let marked = words.filter(|word| word.trim_start_matches('(').starts_with('#'));
        first_words.chain(marked).find_map(of_reply)
    }
}

/// An enhanced status code: `(4, 7, 1)` of `4.7.1`, `#4.7.1` and `(#4.7.1)`.
pub(super) fn enhanced_code(word: &str) -> Option<(u16, u16, u16)> {
    let code = word
        .trim_start_matches(['(', '#'])
        .trim_end_matches([')', ',', ':', ';', '.']);
    let is_number = |part: &&str| part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = code
        .split('.')
        .map(|part| Some(part).filter(is_number)?.parse().ok());
    let code = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(code)
}

/// A relay's text in a form that may be stored and logged: one line, bounded, without the addresses and links that it
/// repeats.
pub(super) fn clean(words: &str) -> String {
    redacted(words, MAX_RELAY_WORDS_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<(u16, bool, String)> {
        ReplyLine::parse(text.as_bytes()).map(|line| (line.code, line.is_last, line.words))
    }

    #[test]
    fn a_line_is_a_code_and_words_or_nothing() {
        assert_eq!(line("250 ok"), Some((250, true, "ok".to_owned())));
        assert_eq!(line("250-SIZE 1"), Some((250, false, "SIZE 1".to_owned())));
        assert_eq!(line("354"), Some((354, true, String::new())));
        for garbage in [
            "",
            "25",
            "2x0 ok",
            "250ok",
            "650 ok",
            "HTTP/1.1 400",
            "\u{fc}\u{fc}",
        ] {
            assert_eq!(line(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn an_enhanced_code_counts_when_it_agrees_with_the_code() {
        let enhanced = |code, words: &str| {
            let lines = vec![words.to_owned()];
            let reply = Reply {
                code,
                lines,
                ..Reply::default()
            };
            reply.enhanced()
        };
        assert_eq!(enhanced(451, "4.7.1 later"), Some((7, 1)));
        assert_eq!(enhanced(451, "5.7.1 later"), None);
        assert_eq!(enhanced(451, "4.7.1.2 later"), None);
        for wrong in ["later", "4.15220.1", "4.7.+1", "4..1"] {
            assert_eq!(enhanced(451, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_relays_words_are_redacted() {
        let lines = vec!["5.1.1 <bo@acme.example> ann%40acme.example".to_owned()];
        let ann = crate::job::Recipient::parse("annsecret@acme.example").unwrap();
        let mut reply = Reply {
            code: 550,
            lines,
            ..Reply::default()
        };
        assert_eq!(reply.words(), "550 5.1.1 (address) (hidden)");
        reply.lines = vec![
            "5.1.1 no such user".to_owned(),
            "'annsecret' here".to_owned(),
        ];
        reply.secrets = Secrets::of_recipient(&ann.address, ann.name.as_deref());
        assert_eq!(reply.words(), "550 5.1.1 no such user (hidden) here");
    }
}
