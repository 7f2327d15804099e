//! Headers as they stand in a mail: in order, encoded (RFC 2047) and folded (RFC 5322, section 2.2.3).
//!
//! Not lettre's own builder: it panics on a line end in a name (measured, 0.11.23), leaves words that merely look
//! encoded as they are, so that a reader decodes plain text, and writes names with dots as RFC 822 did. Here every
//! input gives exactly one header, and the header decodes to the input.

use std::fmt::Write as _;

use email_encoding::headers::rfc2047;
use email_encoding::headers::writer::EmailWriter;

use crate::job::Recipient;
use crate::job::recipient::forges;

/// A longer word is encoded, which splits it: no line may exceed 998 bytes.
const MAX_WORD: usize = 60;

/// The longest name and value of a header that has no place to be folded: a line has at most 998 bytes (RFC 5322, 2.1.1).
const MAX_WORD_LINE: usize = 990;

/// Headers in the order in which they were put.
#[derive(Default)]
pub(super) struct Headers(Vec<Header>);

/// A header. Its value is encoded and folded, and has no line end.
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) value: String,
}

impl Headers {
    /// Puts a header whose value is known to be ASCII and short.
    pub(super) fn put(&mut self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        self.0.push(Header { name, value });
    }

    /// Puts text for people: anything, on one line.
    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        let text: String = text.chars().filter(|c| !forges(*c)).collect();
        // Some relays squeeze runs of spaces; inside encoded words they are safe.
        let is_kept = is_plain(&text) && !text.contains("  ");
        self.put_with(name, |writer| match is_kept {
            true => writer.folding().write_str(&text),
            false => rfc2047::encode(&text, writer),
        });
    }

    /// Puts a text for programs: as it is if it is one word of ASCII, however long, and else like [`text`](Self::text). A filter of a
    /// mail program compares it.
    pub(super) fn word(&mut self, name: &'static str, text: &str) {
        let is_word = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains("=?");
        match is_word && name.len() + text.len() <= MAX_WORD_LINE {
            true => self.put(name, text),
            false => self.text(name, text),
        }
    }

    /// Puts mailboxes with name and address; nothing if there are none.
    pub(super) fn people<'a>(
        &mut self,
        name: &'static str,
        people: impl IntoIterator<Item = &'a Recipient>,
    ) {
        let mut people = people.into_iter().peekable();
        if people.peek().is_none() {
            return;
        }
        self.put_with(name, |writer| {
            while let Some(person) = people.next() {
                person_to(writer, person)?;
                if people.peek().is_some() {
                    writer.write_char(',')?;
                    writer.space();
                }
            }
            Ok(())
        });
    }

    /// Puts a phrase for people before an id in angle brackets: `Daily reports <daily.sender.example>`.
    pub(super) fn phrase_and_id(&mut self, name: &'static str, phrase: Option<&str>, id: &str) {
        self.put_with(name, |writer| {
            phrase_then(writer, phrase, &format!("<{id}>"))
        });
    }

    fn put_with(
        &mut self,
        name: &'static str,
        write: impl FnOnce(&mut EmailWriter<'_>) -> std::fmt::Result,
    ) {
        let mut value = String::new();
        let mut writer = EmailWriter::new(&mut value, name.len() + 2, 0, false);
        write(&mut writer).expect("writing to a string does not fail");
        drop(writer);
        self.put(name, value);
    }

    /// The headers in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }
}

impl Header {
    /// The header as it stands in the mail, with the line end.
    pub(super) fn line(&self) -> String {
        format!("{}: {}\r\n", self.name, self.value)
    }
}

fn person_to(writer: &mut EmailWriter<'_>, person: &Recipient) -> std::fmt::Result {
    let address: &str = person.address.as_ref();
    match &person.name {
        Some(_) => phrase_then(writer, person.name.as_deref(), &format!("<{address}>")),
        None => writer.folding().write_str(address),
    }
}

fn phrase_then(writer: &mut EmailWriter<'_>, phrase: Option<&str>, rest: &str) -> std::fmt::Result {
    if let Some(phrase) = phrase {
        write_phrase(writer, phrase)?;
        writer.space();
    }
    writer.folding().write_str(rest)
}

/// Writes a name as a word, a quoted string or encoded words, so that it decodes to exactly this name.
fn write_phrase(writer: &mut EmailWriter<'_>, phrase: &str) -> std::fmt::Result {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !is_plain(phrase) {
        return rfc2047::encode(phrase, writer);
    }
    if phrase.chars().all(is_word) {
        return writer.folding().write_str(phrase);
    }
    let escaped = phrase.replace('\\', "\\\\").replace('"', "\\\"");
    writer.folding().write_str(&format!("\"{escaped}\""))
}

/// Whether a text can stand as it is: printable ASCII, short words, none of which looks encoded.
fn is_plain(text: &str) -> bool {
    let is_printable = |c: char| c == ' ' || c.is_ascii_graphic();
    text.chars().all(is_printable)
        && !text.contains("=?")
        && text.split(' ').all(|word| word.len() <= MAX_WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        let mut headers = Headers::default();
        headers.text("Subject", text);
        headers.0[0].line()
    }

    #[test]
    fn an_id_is_not_encoded_however_long_it_is() {
        let line = |text: &str| {
            let mut headers = Headers::default();
            headers.word("X-Handout-Job", text);
            headers.0[0].line()
        };
        let part = format!("weekly.part.{}", "0a".repeat(16));
        for id in ["daily", part.as_str(), &"j".repeat(256)] {
            assert_eq!(line(id), format!("X-Handout-Job: {id}\r\n"));
        }
        for other in [
            "täglich",
            "=?utf-8?q?x?=",
            "a b",
            &"j".repeat(MAX_WORD_LINE),
        ] {
            let mut as_text = Headers::default();
            as_text.text("X-Handout-Job", other);
            assert_eq!(line(other), as_text.0[0].line());
        }
    }

    #[test]
    fn what_looks_encoded_is_encoded() {
        let table = [
            "Daily report",
            "Täglicher Bericht",
            "=?utf-8?q?not_encoded?=",
            "two  spaces",
            "a\r\nBcc: evil@x.example\u{202E}",
        ]
        .map(text);
        insta::assert_snapshot!(table.concat(), @r"
        Subject: Daily report
        Subject: =?utf-8?b?VMOkZ2xpY2hlciBCZXJpY2h0?=
        Subject: =?utf-8?b?PT91dGYtOD9xP25vdF9lbmNvZGVkPz0=?=
        Subject: =?utf-8?b?dHdvICBzcGFjZXM=?=
        Subject: aBcc: evil@x.example
        ");
    }

    #[test]
    fn no_header_has_a_long_line_however_long_its_words_are() {
        let long = "w".repeat(2000);
        let hundred =
            vec![Recipient::from_parts("ann@acme.example", Some(&"ü".repeat(100))).unwrap(); 100];
        let mut headers = Headers::default();
        headers.text("Subject", &long);
        headers.people("To", &hundred);
        for header in headers.iter() {
            assert!(
                header.line().lines().all(|line| line.len() <= 100),
                "{}",
                header.line()
            );
            assert!(header.line().is_ascii());
        }
    }

    /// Postfix truncates a header at 102,400 bytes.
    #[test]
    fn as_many_people_as_a_header_may_show_fit_into_it() {
        use crate::job::email::MAX_SHOWN;
        let address = format!(
            "{}@{}.example",
            "l".repeat(64),
            ["d".repeat(60).as_str(); 3].join(".")
        );
        let longest = Recipient::from_parts(&address, Some(&"ü".repeat(100))).unwrap();
        let mut headers = Headers::default();
        headers.people("Cc", &vec![longest; MAX_SHOWN]);
        assert!(
            headers.0[0].line().len() < 102_400,
            "{}",
            headers.0[0].line().len()
        );
    }

    #[test]
    fn a_name_is_a_word_a_quoted_string_or_encoded() {
        let name = |name: &str| {
            let person = Recipient::from_parts("a@x.example", Some(name)).unwrap();
            let mut headers = Headers::default();
            headers.people("To", [&person]);
            headers.0[0].value.clone()
        };
        let table = [
            "Ann",
            "Ann Bell",
            "Ann  Bell",
            "J.R. \"Bob\" \\",
            "Änn",
            "Bell, Ann",
            "=?x?=",
        ]
        .map(name);
        insta::assert_snapshot!(table.join("\n"), @r#"
        Ann <a@x.example>
        "Ann Bell" <a@x.example>
        "Ann  Bell" <a@x.example>
        "J.R. \"Bob\" \\" <a@x.example>
        =?utf-8?b?w4Rubg==?= <a@x.example>
        "Bell, Ann" <a@x.example>
        =?utf-8?b?PT94Pz0=?= <a@x.example>
        "#);
    }
}
