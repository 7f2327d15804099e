//! SVG: the attributes of its first element, found by a short look that is no XML parser.
//!
//! No entity is resolved and nothing is loaded. A document type with declarations of its own, and whatever else needs a parser
//! to be understood, is not known.

use super::head::Head;
use super::size::Size;

/// How far is looked, in bytes: far enough for the comments that drawing programs write.
const MAX_LOOK_BYTES: usize = 8 * 1024;

/// Whether a file may be one.
pub(super) fn may_be(head: Head<'_>) -> bool {
    first_element(head).is_some()
}

/// Reads its size: `width` and `height`, or else those of `viewBox`.
pub(super) fn size(head: Head<'_>) -> Option<Size> {
    let attributes = attributes(first_element(head)?)?;
    let attribute = |wanted: &str| {
        let found = attributes.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| *value)
    };
    let side = |name| pixels(attribute(name)?);
    if let (Some(width), Some(height)) = (side("width"), side("height")) {
        return whole(width, height);
    }
    let view_box = attribute("viewBox")?;
    let numbers = view_box.split([' ', ',', '\t', '\n', '\r']);
    let numbers = numbers.filter(|number| !number.is_empty());
    let numbers: Vec<f64> = numbers.map_while(|number| number.parse().ok()).collect();
    match numbers[..] {
        [_, _, width, height] => whole(width, height),
        _ => None,
    }
}

fn whole(width: f64, height: f64) -> Option<Size> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within bounds that were just looked at"
    )]
    let side = |length: f64| {
        let length = length.round();
        (1.0..=1e6).contains(&length).then_some(length as u32)
    };
    Size::new(side(width)?, side(height)?)
}

/// What stands between `<svg` and `>`.
fn first_element(head: Head<'_>) -> Option<&str> {
    let text = text(head.part(0, MAX_LOOK_BYTES)?.bytes());
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        rest = match rest {
            _ if rest.starts_with("<?xml") => after(rest, "?>")?,
            _ if rest.starts_with("<!--") => after(rest, "-->")?,
            _ if rest.starts_with("<!DOCTYPE svg") => {
                let (declaration, rest) = rest.split_once('>')?;
                (!declaration.contains('[')).then_some(rest)?
            }
            _ => break,
        }
        .trim_start();
    }
    let attributes = rest.strip_prefix("<svg")?;
    attributes
        .starts_with(|c: char| c.is_ascii_whitespace())
        .then_some(attributes)
}

/// The part that is UTF-8: a look that ends within a character must not fail.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

fn after<'a>(text: &'a str, end: &str) -> Option<&'a str> {
    text.split_once(end).map(|(_, rest)| rest)
}

/// The names and values of an element's attributes, up to its end, which must be there. An entity in a value stays as it is,
/// and so makes it no number.
fn attributes(mut rest: &str) -> Option<Vec<(&str, &str)>> {
    let mut all = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.starts_with(['>', '/']) {
            return Some(all);
        }
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, others) = value[1..].split_once(quote)?;
        all.push((name.trim_end(), value.trim()));
        rest = others;
    }
}

/// A length in CSS pixels. <https://www.w3.org/TR/css-values-3/#absolute-lengths>
fn pixels(length: &str) -> Option<f64> {
    let unit =
        length.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
    let number: f64 = length[..length.len() - unit.len()].parse().ok()?;
    let factor = match unit {
        "" | "px" => 1.0,
        "pt" => 96.0 / 72.0,
        "pc" => 16.0,
        "in" => 96.0,
        "cm" => 96.0 / 2.54,
        "mm" => 96.0 / 25.4,
        _ => return None,
    };
    Some(number * factor)
}
