//! Escapes text from outside, so that it can be shown in a log line, a result, an audit line, an attribute of SQS or a terminal.
//!
//! [`printable`] is used everywhere. A job's fields, an object's key, a relay's or a store's message may have characters that
//! end a line, control a terminal, reorder the text around them, or are refused by SQS; and they may be a megabyte long.

pub(crate) mod base32;
mod causes;
pub mod charset;
pub(crate) mod csv;
pub(crate) mod forms;
pub(crate) mod html;
pub mod percent;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

pub use presign::disposition::is_bidi_control;

/// The mark that Windows programs write before UTF-8.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

pub use self::causes::{chain, nearest, with_nearest, without_value};

/// Decodes a file that a person wrote: UTF-8, with or without a byte order mark.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] for other bytes; the sentence names UTF-16, which PowerShell's `>` writes.
pub fn decode(bytes: Vec<u8>) -> io::Result<String> {
    let invalid = |sentence: &str| io::Error::new(io::ErrorKind::InvalidData, sentence);
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(invalid("it is UTF-16: save it as UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8 text"))?;
    Ok(match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => text.to_owned(),
        None => text,
    })
}

/// Escapes text so that it can be shown on one line.
///
/// Characters that [`is_printable`] does not accept are escaped as `\u{1b}`, and the result is at most `max_bytes` long. Of
/// longer text the beginning is kept, and `… (1048576 bytes)` says how long it was.
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

/// Escapes a line of a table: its columns are printable, and the tabs between them stay.
pub fn printable_line(line: &str) -> Cow<'_, str> {
    if line.chars().all(|c| c == '\t' || is_printable(c)) {
        return Cow::Borrowed(line);
    }
    let columns = line.split('\t').map(|column| printable(column, usize::MAX));
    Cow::Owned(columns.collect::<Vec<_>>().join("\t"))
}

/// Quotes text as an argument of a command that is copied into a shell (POSIX, XCU 2.2.2). Characters that are not
/// printable are escaped as in [`printable`], so they are not restored by the shell.
///
/// Quotes, backslashes and exclamation marks are put outside the quotes, each after a backslash: fish escapes by a backslash
/// within quotes, and csh expands an exclamation mark there.
///
/// An argument that may begin with `-` must follow `--` in the command.
pub fn shell_argument(text: &str) -> String {
    let mut argument = "'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' | '!' => argument.extend(["'\\", c.encode_utf8(&mut [0; 4]), "'"]),
            c => argument.push_str(&printable(c.encode_utf8(&mut [0; 4]), usize::MAX)),
        }
    }
    argument + "'"
}

/// A word of a command for a shell: plain text as it is, other text as [`shell_argument`] quotes it.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@=+,".contains(&byte);
    // zsh takes a word that begins with `=` for the path of a command.
    match !text.is_empty() && !text.starts_with('=') && text.bytes().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(shell_argument(text)),
    }
}

/// Escapes JSON so that it can be shown; it still parses to the same value.
///
/// Characters that are not printable are only in its strings, where `\u001b` means the same. Line ends between values stay.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if json.chars().all(|c| c == '\n' || is_printable(c)) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if c == '\n' || is_printable(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(shown, "\\u{unit:04x}").expect("writing to a string does not fail");
        }
    }
    Cow::Owned(shown)
}

/// Whether a character can be shown as it is.
///
/// It ends no line, controls no terminal (C0, C1), reorders no text (Unicode TR 9), is visible (no zero-width character, tag
/// or byte order mark), and is a character (noncharacters are refused by SQS:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>).
pub fn is_printable(c: char) -> bool {
    let is_noncharacter = matches!(c, '\u{FDD0}'..='\u{FDEF}') || (c as u32 & 0xFFFE) == 0xFFFE;
    !(c.is_control()
        || is_bidi_control(c)
        || matches!(c, '\u{2028}' | '\u{2029}')
        || is_noncharacter
        || is_invisible(c))
}

/// Invisible characters, which make two different texts look the same.
///
/// These are the code points with the Unicode property `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`) except
/// the variation selectors, which emojis use.
pub const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200D}' | '\u{2060}'..='\u{2065}' | '\u{206A}'..='\u{206F}' | '\u{3164}' | '\u{FEFF}'
        | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}

/// A number of things whose plural ends in "s", as in "1 link" and "2 links".
pub fn counted(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

/// The word that agrees with a number of things, as in "was" of one link and "were" of two.
pub const fn agreeing(count: u64, one: &'static str, many: &'static str) -> &'static str {
    match count {
        1 => one,
        _ => many,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_thing_has_no_plural() {
        let words = [0, 1, 2].map(|count| {
            let were = agreeing(count, "was", "were");
            format!("{} {were} read", counted(count, "file"))
        });
        let wanted = ["0 files were read", "1 file was read", "2 files were read"];
        assert_eq!(words, wanted);
    }

    #[test]
    fn plain_text_stays_as_it_is_and_is_not_copied() {
        for text in ["", "2026/11/Übersicht (1).pdf", "日本語 🎉 ❤\u{fe0f}"] {
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
            ("pay\u{200b}load", r"pay\u{200b}load"),
            (
                "\u{200c}\u{200d}\u{200e}\u{200f}",
                r"\u{200c}\u{200d}\u{200e}\u{200f}",
            ),
            (
                "\u{2060}\u{2064}\u{202a}\u{2069}",
                r"\u{2060}\u{2064}\u{202a}\u{2069}",
            ),
            ("\u{ad}\u{3164}", r"\u{ad}\u{3164}"),
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

    /// The arguments of a command as `sh` reads them.
    fn arguments(words: &str) -> String {
        let script = format!("printf '<%s>' {words}");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_shell_takes_an_argument_for_what_it_is_and_runs_nothing() {
        let table = [
            ("daily", "'daily'"),
            ("a'; echo b; echo '", r"'a'\''; echo b; echo '\'''"),
            (
                r#"$(echo a) `echo b` "!!" \"#,
                r#"'$(echo a) `echo b` "'\!''\!'" '\\''"#,
            ),
            ("--config=/tmp/evil.toml", "'--config=/tmp/evil.toml'"),
            ("", "''"),
        ];
        for (text, quoted) in table {
            assert_eq!(shell_argument(text), quoted);
            assert_eq!(arguments(quoted), format!("<{text}>"));
        }
        for word in ["2026/a.pdf", "-rf", "arn:aws:s3:::b", "a=b"] {
            assert_eq!(shell_word(word), word);
            assert_eq!(arguments(word), format!("<{word}>"));
        }
        for text in ["", "=ls", "~", "a b", "{a,b}", "it's", "#a"] {
            assert_eq!(shell_word(text), shell_argument(text));
            assert_eq!(arguments(&shell_word(text)), format!("<{text}>"));
        }
        assert_eq!(shell_argument("a\u{202e}\n'"), r"'a\u{202e}\u{a}'\'''");
        // Within quotes fish takes a backslash for an escape, and csh an exclamation mark for its history.
        assert_eq!(shell_argument(r"\'; echo b #"), r"''\\''\''; echo b #'");
    }

    proptest! {
        #[test]
        fn json_is_printable_and_reads_back_as_the_same(text in any::<String>(), odd in "[\u{7f}-\u{9f}\u{202e}\u{e0041}\u{ffff}a]{0,9}") {
            let value = serde_json::json!({ "a": text, odd: [1, null] });
            let json = value.to_string();
            let shown = printable_json(&json);
            prop_assert!(shown.chars().all(is_printable));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }

        #[test]
        fn a_line_keeps_its_tabs_and_nothing_else(text in any::<String>()) {
            let shown = printable_line(&text);
            prop_assert!(shown.chars().all(|c| c == '\t' || is_printable(c)));
            prop_assert_eq!(shown.matches('\t').count(), text.matches('\t').count());
        }

        #[test]
        fn whatever_comes_in_is_bounded_and_printable(text in any::<String>(), max in 32usize..200) {
            let shown = printable(&text, max);
            prop_assert!(shown.len() <= max);
            prop_assert!(shown.chars().all(is_printable));
        }
    }
}
