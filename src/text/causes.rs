//! Error messages: with their causes, and with the nearest known name.

use std::borrow::Cow;

use super::printable;
use crate::bounds::MAX_REASON_BYTES;

/// Formats an error and its causes as a sentence, each cause once.
///
/// The sentence is printable and at most [`MAX_REASON_BYTES`] long: it goes into logs, results and parked messages.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !words.is_empty() && !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    // Some libraries write lists with a line for each entry.
    if text.contains('\n') {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        text = lines.join("; ").replace(":; ", ": ");
    }
    match printable(&text, MAX_REASON_BYTES) {
        Cow::Borrowed(_) => text,
        Cow::Owned(shown) => shown,
    }
}

/// Adds the nearest right name to serde's sentence about an unknown one.
pub fn with_nearest(message: &str) -> String {
    match nearest(message) {
        Some(right) => format!("{message}; did you mean {right}?"),
        None => message.to_owned(),
    }
}

/// serde's sentence about a value that may be a secret: without the value, of which only the kind is said, and with the nearest right
/// name.
pub fn without_value(message: &str) -> String {
    let told = told_without_value(message);
    match nearest(message) {
        Some(right) => format!("{told}; did you mean {right}?"),
        None => told,
    }
}

fn told_without_value(message: &str) -> String {
    // A quantity's sentence begins with the value, in quotes.
    let quantity = message
        .strip_prefix('"')
        .and_then(|rest| rest.rsplit_once("\" is not a "));
    if let Some((_, form)) = quantity {
        return format!("the value is not a {form}");
    }
    // The value may hold anything: what is wanted stands behind the last of these words.
    let Some((what, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    for fault in ["invalid type", "invalid value"] {
        let value = what
            .strip_prefix(fault)
            .and_then(|rest| rest.strip_prefix(": "));
        if let Some(value) = value {
            let kind = value
                .split(['"', '`'])
                .next()
                .unwrap_or_default()
                .trim_end();
            let kind = match kind {
                "string" | "integer" | "boolean" | "floating point" | "map" | "sequence" => kind,
                _ => "another value",
            };
            return format!("{fault}: {kind}, expected {}", kind_of_number(expected));
        }
    }
    match what.starts_with("unknown variant `") {
        true => format!("unknown variant, expected {expected}"),
        false => message.to_owned(),
    }
}

/// What serde calls by the name of a type of Rust, in words.
fn kind_of_number(expected: &str) -> &str {
    match expected {
        "usize" | "u8" | "u16" | "u32" | "u64" => "a whole number, not below 0",
        "isize" | "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        other => other,
    }
}

/// The right name that is nearest to the unknown one in serde's sentence.
///
/// serde says ``unknown field `exipres_in`, expected one of `a`, `b` `` for JSON and TOML alike. The unknown name may hold
/// anything, so the right ones are taken from behind the last `, expected`.
pub fn nearest(message: &str) -> Option<&str> {
    const MAX_MISSPELLING: usize = 64;
    let (what, expected) = message.rsplit_once(", expected ")?;
    let (_, wrong) = what
        .rsplit_once("unknown field `")
        .or_else(|| what.rsplit_once("unknown variant `"))?;
    let wrong = wrong.trim_end_matches('`');
    if wrong.len() > MAX_MISSPELLING {
        return None;
    }
    let rights = expected.split('`').skip(1).step_by(2);
    let (_, right) = rights
        .map(|right| (strsim::damerau_levenshtein(wrong, right), right))
        .filter(|(distance, right)| *distance <= right.len().max(wrong.len()) / 2)
        .min()?;
    Some(right)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_nearest_name_is_offered_when_one_is_near() {
        let message = "unknown field `exipres_in`, expected one of `expires_in`, `filename`";
        assert!(with_nearest(message).ends_with("; did you mean expires_in?"));
        assert_eq!(
            with_nearest("unknown field `zzz`, expected `expires_in`"),
            "unknown field `zzz`, expected `expires_in`"
        );
        assert_eq!(with_nearest("missing field `id`"), "missing field `id`");
    }

    #[test]
    fn a_sentence_about_a_value_does_not_repeat_it() {
        let table = [
            r#"invalid type: string "hunter2, expected \"x\", expected y", expected struct MailConfig"#,
            "invalid type: integer `12345`, expected a string",
            "invalid type: map, expected path string",
            "invalid value: floating point `12.5`, expected a duration",
            "invalid type: hunter2, expected i128",
            "unknown variant `hunter2`, expected `starttls` or `none`",
            "unknown variant `nome`, expected `starttls` or `none`",
            "unknown field `exipres_in`, expected one of `expires_in`, `filename`",
            r#""hunter2\" is not a " is not a duration: write "90s""#,
            "missing field `id`",
        ];
        insta::assert_snapshot!(table.map(without_value).join("\n"), @r#"
        invalid type: string, expected struct MailConfig
        invalid type: integer, expected a string
        invalid type: map, expected path string
        invalid value: floating point, expected a duration
        invalid type: another value, expected i128
        unknown variant, expected `starttls` or `none`
        unknown variant, expected `starttls` or `none`; did you mean none?
        unknown field `exipres_in`, expected one of `expires_in`, `filename`; did you mean expires_in?
        the value is not a duration: write "90s"
        missing field `id`
        "#);
    }

    #[test]
    fn a_chain_is_printable_and_bounded() {
        let hostile = "\u{1b}[2J\r\nlevel=ERROR \u{9b}1m \u{202E}\u{FFFF}".repeat(100_000);
        let said = chain(&io::Error::other(hostile));
        assert!(said.len() <= MAX_REASON_BYTES, "{}", said.len());
        assert!(said.chars().all(crate::text::is_printable), "{said}");
        assert!(said.starts_with(r"\u{1b}[2J; level=ERROR"), "{said}");
    }
}
