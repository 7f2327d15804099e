//! The names of records in keys.

use std::collections::BTreeSet;

use crate::ledger::Kind;

/// [`is_done`](crate::ledger::status::is_done) from the names of the job's own records, such as `done`, `reopened.1` and `done.1`.
pub(super) fn is_done_by_names<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let (mut done, mut reopened) = (BTreeSet::new(), 0);
    for name in names {
        let (word, n) = name.split_once('.').unwrap_or((name, "0"));
        match (Kind::from_word(word), n.parse::<u32>()) {
            (Some(Kind::Done), Ok(n)) => drop(done.insert(n)),
            (Some(Kind::Reopened), Ok(n)) => reopened = reopened.max(n),
            _ => {}
        }
    }
    done.contains(&reopened)
}

/// Encodes a text with characters that every server accepts in a key, reversibly: `!` and two digits stand for each
/// byte of any other character, and for a dot at the beginning.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
pub(super) fn spell(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => spelled.push(byte.into()),
            b'.' if at > 0 => spelled.push('.'),
            _ => {
                spelled.push('!');
                presign::hex::push_hex(&[byte], &mut spelled);
            }
        }
    }
    spelled
}

/// Decodes the output of [`spell`].
pub(super) fn read_spelled(spelled: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(spelled.len());
    let mut rest = spelled;
    while let Some(first) = rest.chars().next() {
        let (byte, length) = match first {
            '!' => (u8::from_str_radix(rest.get(1..3)?, 16).ok()?, 3),
            _ if first.is_ascii() => (u8::try_from(first).ok()?, 1),
            _ => return None,
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    String::from_utf8(bytes).ok()
}
