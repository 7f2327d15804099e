//! Escaping for HTML, which is where every value of a job goes through.

/// Escapes for HTML text and quoted attributes; values stand nowhere else.
///
/// The engine's own also escapes `=` and `` ` ``, which only unquoted attributes need: five bytes for each
/// parameter of each link, of the 90,000 that a mail may have.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    escape_into(text, &mut escaped);
    escaped
}

/// Appends an escaped text, as [`escape`] does it.
pub(super) fn escape_into(text: &str, escaped: &mut String) {
    let mut from = 0;
    while let Some(plain) = plain_length(&text.as_bytes()[from..]) {
        let at = from + plain;
        escaped.push_str(&text[from..at]);
        escaped.push_str(match text.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        });
        from = at + 1;
    }
    escaped.push_str(&text[from..]);
}

/// How many bytes come before the first that is escaped; nothing if none is.
///
/// A page is links for the most part, and few of their bytes are escaped: the compiler looks at sixteen at once.
fn plain_length(text: &[u8]) -> Option<usize> {
    let (chunks, rest) = text.as_chunks::<16>();
    let any = |chunk: &[u8; 16]| {
        chunk
            .iter()
            .fold(false, |any, byte| any | is_escaped(*byte))
    };
    let (from, some) = match chunks.iter().position(any) {
        Some(at) => (at * 16, chunks[at].as_slice()),
        None => (chunks.len() * 16, rest),
    };
    let at = some.iter().position(|byte| IS_ESCAPED[usize::from(*byte)]);
    at.map(|at| from + at)
}

const fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\'')
}

/// The same, to look a single byte up.
static IS_ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        table[byte as usize] = is_escaped(byte);
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_character_is_escaped_and_no_other(text in "[a-zü&<>\"'=` ]{0,70}|\\PC{0,40}") {
            let each = |c| match c {
                '&' => "&amp;".to_owned(),
                '<' => "&lt;".to_owned(),
                '>' => "&gt;".to_owned(),
                '"' => "&quot;".to_owned(),
                '\'' => "&#39;".to_owned(),
                c => c.to_string(),
            };
            prop_assert_eq!(escape(&text), text.chars().map(each).collect::<String>());
        }
    }
}
