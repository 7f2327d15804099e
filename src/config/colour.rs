//! Colours, and how well text of one colour can be read on another (WCAG 2.2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The contrast that text needs at the least. WCAG 2.2, 1.4.3, level AA:
/// <https://www.w3.org/TR/WCAG22/#contrast-minimum>
pub const MIN_CONTRAST: f64 = 4.5;

/// An opaque colour in sRGB, written as `#1f5f5b`: mail programs do not read shorter forms everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour {
    red: u8,
    green: u8,
    blue: u8,
}

/// A text that is no colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a colour: write \"#\" and six hexadecimal digits, such as \"#1f5f5b\"")]
pub struct ColourError;

impl Colour {
    /// White.
    pub const WHITE: Self = Self::new(0xFF, 0xFF, 0xFF);

    /// Black.
    pub const BLACK: Self = Self::new(0, 0, 0);

    /// A colour of its three parts.
    pub const fn new(red: u8, green: u8, blue: u8) -> Self {
        Self { red, green, blue }
    }

    /// The ratio of contrast to another colour, from 1 (the same) to 21 (black and white).
    pub fn contrast(self, other: Self) -> f64 {
        let (one, other) = (self.luminance() + 0.05, other.luminance() + 0.05);
        one.max(other) / one.min(other)
    }

    /// Whether text of this colour can be read on all of `grounds`.
    pub fn is_readable_on(self, grounds: &[Self]) -> bool {
        let mut grounds = grounds.iter();
        grounds.all(|ground| self.contrast(*ground) >= MIN_CONTRAST)
    }

    /// The colour with `percent` of another in it.
    pub fn mixed(self, other: Self, percent: u8) -> Self {
        let part = |one: u8, other: u8| {
            let percent = u32::from(percent.min(100));
            let sum = u32::from(one) * (100 - percent) + u32::from(other) * percent;
            u8::try_from((sum + 50) / 100).unwrap_or(u8::MAX)
        };
        Self {
            red: part(self.red, other.red),
            green: part(self.green, other.green),
            blue: part(self.blue, other.blue),
        }
    }

    /// The relative luminance. <https://www.w3.org/TR/WCAG22/#dfn-relative-luminance>
    fn luminance(self) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(self.red) + 0.7152 * linear(self.green) + 0.0722 * linear(self.blue)
    }
}

impl FromStr for Colour {
    type Err = ColourError;

    fn from_str(text: &str) -> Result<Self, ColourError> {
        let digits = text.strip_prefix('#').ok_or(ColourError)?;
        let is_hex = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hex {
            return Err(ColourError);
        }
        let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
        let parts = (part(0), part(2), part(4));
        match parts {
            (Ok(red), Ok(green), Ok(blue)) => Ok(Self::new(red, green, blue)),
            _ => Err(ColourError),
        }
    }
}

impl TryFrom<String> for Colour {
    type Error = ColourError;

    fn try_from(text: String) -> Result<Self, ColourError> {
        text.parse()
    }
}

impl From<Colour> for String {
    fn from(colour: Colour) -> Self {
        colour.to_string()
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colour(text: &str) -> Colour {
        text.parse().unwrap()
    }

    #[test]
    fn a_contrast_is_that_of_the_definition() {
        let ratio = |one: &str, other: &str| {
            let ratio = colour(one).contrast(colour(other));
            assert_eq!(ratio, colour(other).contrast(colour(one)));
            format!("{ratio:.2}")
        };
        assert_eq!(ratio("#000000", "#ffffff"), "21.00");
        assert_eq!(ratio("#777777", "#ffffff"), "4.48");
        assert_eq!(ratio("#767676", "#ffffff"), "4.54");
        assert_eq!(ratio("#ff0000", "#ffffff"), "4.00");
        assert_eq!(ratio("#ffcc00", "#ffffff"), "1.51");
        assert_eq!(ratio("#1f5f5b", "#1F5F5B"), "1.00");
        assert!(!colour("#777777").is_readable_on(&[Colour::BLACK, Colour::WHITE]));
        assert!(colour("#767676").is_readable_on(&[Colour::BLACK, Colour::WHITE]));
    }

    #[test]
    fn only_six_digits_are_a_colour() {
        assert_eq!(colour("#1F5f5b").to_string(), "#1f5f5b");
        for text in [
            "",
            "#",
            "1f5f5b",
            "#1f5f5",
            "#1f5f5b0",
            "#abc",
            "teal",
            "#+f5f5b",
            "#1f5f5ü",
            "#12345;",
            "rgb(0,0,0)",
        ] {
            assert_eq!(text.parse::<Colour>(), Err(ColourError), "{text}");
        }
    }

    #[test]
    fn a_mixture_lies_between() {
        let (white, black) = (Colour::WHITE, Colour::BLACK);
        assert_eq!(white.mixed(black, 0), white);
        assert_eq!(white.mixed(black, 100), black);
        assert_eq!(white.mixed(black, 50).to_string(), "#808080");
        assert_eq!(colour("#1f5f5b").mixed(white, 90).to_string(), "#e9efef");
    }
}
