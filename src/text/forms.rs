//! Unicode's forms of one text: `ü` is a letter, or `u` with a mark that follows it.
//!
//! macOS writes names with marks (NFD), people and most programs type letters (NFC). Both look the same, and a store takes them
//! for different keys. <https://www.unicode.org/reports/tr15/>

use std::borrow::Cow;

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

/// The text with its marks in their letters (NFC).
pub(crate) fn composed(text: &str) -> Cow<'_, str> {
    const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();
    match text.is_ascii() {
        true => text.into(),
        false => NFC.normalize(text),
    }
}

/// The text with its marks beside their letters (NFD).
fn decomposed(text: &str) -> Cow<'_, str> {
    const NFD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizerBorrowed::new_nfd();
    match text.is_ascii() {
        true => text.into(),
        false => NFD.normalize(text),
    }
}

/// The other forms of a text, if it has any.
pub(crate) fn other_forms(text: &str) -> Vec<String> {
    let forms = [composed(text), decomposed(text)].into_iter();
    forms
        .filter(|form| form != text)
        .map(Cow::into_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_other_forms_where_a_letter_has_a_mark() {
        assert_eq!(other_forms("\u{dc}ber"), ["U\u{308}ber"]);
        assert_eq!(other_forms("U\u{308}ber"), ["\u{dc}ber"]);
        assert_eq!(other_forms("\u{dc}U\u{308}").len(), 2);
        assert_eq!(other_forms("Uber \u{1f389}"), [""; 0]);
    }
}
