//! Escaping for HTML; every value of a job in a page or mail passes through it.

/// Escapes for HTML text and quoted attributes; templates use values only there.
///
/// The engine's own function also escapes `=` and `` ` ``, which only unquoted attributes need: five bytes for each
/// parameter of each link, of the 90,000 bytes that a mail may have.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    escape_into(text, &mut escaped);
    escaped
}

/// Appends an escaped text, as [`escape`] does it.
///
/// A page is links for the most part, and those have no quotes: then there are three bytes to look for, and a search for three
/// looks at many at once.
pub(crate) fn escape_into(text: &str, escaped: &mut String) {
    let bytes = text.as_bytes();
    let mut from = 0;
    let put = |at: usize| {
        escaped.push_str(&text[from..at]);
        escaped.push_str(reference(bytes[at]).unwrap_or_default());
        from = at + 1;
    };
    if memchr::memchr2(b'"', b'\'', bytes).is_none() {
        memchr::memchr3_iter(b'&', b'<', b'>', bytes).for_each(put);
    } else {
        let is_escaped = |at: &usize| reference(bytes[*at]).is_some();
        (0..bytes.len()).filter(is_escaped).for_each(put);
    }
    escaped.push_str(&text[from..]);
}

/// The reference for a byte that must be escaped.
const fn reference(byte: u8) -> Option<&'static str> {
    match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'"' => Some("&quot;"),
        b'\'' => Some("&#39;"),
        _ => None,
    }
}

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
