//! Text from outside, made fit to be shown: in a log line, a result, an audit line, an attribute of SQS, a terminal.
//!
//! [`printable`] is the one rule. A job's fields, an object's key, a relay's or a store's words may hold characters that
//! end a line, command a terminal, reorder what stands around them, or are refused by SQS; and they may be a megabyte long.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Makes text fit to be shown on one line.
///
/// What [`is_printable`] does not accept is escaped as `\u{1b}`, and the whole is at most `max_bytes` long. Of longer text the beginning is kept, and `… (1048576 bytes)` says how long it was.
///
/// `max_bytes` is at least 32, so that there is room for that note.
pub fn printable(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes && text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().min(max_bytes));
    let mut end = 0;
    let note = format!("… ({} bytes)", text.len());
    let room = max_bytes.saturating_sub(note.len());
    for c in text.chars() {
        if is_printable(c) {
            shown.push(c);
        } else {
            write!(shown, "{}", c.escape_unicode()).expect("writing to a string does not fail");
        }
        if shown.len() <= room {
            end = shown.len();
        }
        if shown.len() > max_bytes {
            shown.truncate(end);
            shown.push_str(&note);
            break;
        }
    }
    Cow::Owned(shown)
}

/// JSON in which no character stands that [`is_printable`] does not accept: it is escaped, and so reads as the same text.
pub fn printable_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_printable(c) || c == '\n' {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(escaped, "\\u{unit:04x}").expect("writing to a string does not fail");
            }
        }
    }
    escaped
}

/// Whether a character can be shown as it is.
///
/// It ends no line, commands no terminal (C0, C1), reorders no text
/// (Unicode TR 9), hides nothing (tags, the byte order mark), and is a character (noncharacters are refused by SQS:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>).
pub fn is_printable(c: char) -> bool {
    let is_noncharacter = matches!(c, '\u{FDD0}'..='\u{FDEF}') || (c as u32 & 0xFFFE) == 0xFFFE;
    let is_hidden = matches!(c, '\u{FEFF}' | '\u{E0000}'..='\u{E0FFF}' | '\u{FFF9}'..='\u{FFFB}');
    !(c.is_control()
        || is_bidi_control(c)
        || matches!(c, '\u{2028}' | '\u{2029}')
        || is_noncharacter
        || is_hidden)
}

/// The characters that reorder text around them (Unicode TR 9): used to disguise names and extensions.
pub const fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{061C}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_text_stays_as_it_is_and_is_not_copied() {
        for text in ["", "2026/11/Übersicht (1).pdf", "日本語 🎉 👨‍👩‍👧"] {
            assert!(matches!(printable(text, 100), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn what_commands_a_terminal_or_a_line_is_escaped() {
        let table = [
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\r\nlevel=ERROR", r"a\u{d}\u{a}level=ERROR"),
            ("\u{7}\u{9b}31m\u{7f}", r"\u{7}\u{9b}31m\u{7f}"),
            ("exe.\u{202E}fdp", r"exe.\u{202e}fdp"),
            (
                "\u{2028}\u{FFFF}\u{1FFFE}\u{FDD0}",
                r"\u{2028}\u{ffff}\u{1fffe}\u{fdd0}",
            ),
            ("\u{FEFF}\u{E0041}", r"\u{feff}\u{e0041}"),
        ];
        for (text, shown) in table {
            assert_eq!(printable(text, 100), shown);
        }
    }

    #[test]
    fn long_text_is_cut_and_says_how_long_it_was() {
        assert_eq!(
            printable(&"ä".repeat(500), 40),
            format!("{}… (1000 bytes)", "ä".repeat(12))
        );
        assert_eq!(printable(&"a".repeat(41), 40).len(), 40);
        assert_eq!(printable(&"a".repeat(40), 40), "a".repeat(40));
    }

    proptest! {
        #[test]
        fn printable_json_reads_as_the_same_and_has_no_other_characters(text in any::<String>()) {
            let hostile = format!("{text}\u{1b}\u{9b}\u{202E}\u{FFFF}\u{1FFFF}\u{7f}");
            let json = printable_json(&serde_json::to_string(&hostile).unwrap());
            prop_assert!(json.chars().all(is_printable), "{json:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
        }

        #[test]
        fn whatever_comes_in_is_bounded_and_printable(text in any::<String>(), max in 32usize..200) {
            let shown = printable(&text, max);
            prop_assert!(shown.len() <= max);
            prop_assert!(shown.chars().all(is_printable));
        }
    }
}
