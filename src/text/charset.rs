//! Charsets of texts that browsers show.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The word that leaves the type to the store.
const STORED: &str = "stored";

/// Labels that browsers know, except rare aliases.
/// <https://encoding.spec.whatwg.org/#names-and-labels>
const LABELS: [&str; 62] = [
    "ascii",
    "big5",
    "big5-hkscs",
    "cp1250",
    "cp1251",
    "cp1252",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp1258",
    "cp866",
    "euc-jp",
    "euc-kr",
    "gb18030",
    "gb2312",
    "gbk",
    "ibm866",
    "iso-2022-jp",
    "iso-8859-1",
    "iso-8859-10",
    "iso-8859-13",
    "iso-8859-14",
    "iso-8859-15",
    "iso-8859-16",
    "iso-8859-2",
    "iso-8859-3",
    "iso-8859-4",
    "iso-8859-5",
    "iso-8859-6",
    "iso-8859-7",
    "iso-8859-8",
    "iso-8859-8-i",
    "iso-8859-9",
    "koi8-r",
    "koi8-u",
    "ks_c_5601-1987",
    "latin1",
    "macintosh",
    "ms_kanji",
    "shift-jis",
    "shift_jis",
    "sjis",
    "tis-620",
    "us-ascii",
    "utf-16",
    "utf-16be",
    "utf-16le",
    "utf-8",
    "utf8",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "windows-31j",
    "windows-874",
];

/// A charset by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset(&'static str);

impl Charset {
    /// UTF-8.
    pub const UTF_8: Self = Self("utf-8");
}

/// A label that browsers do not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {0:?}, which browsers do not know; supported: {known}", known = LABELS.join(", "))]
pub struct UnknownCharset(String);

impl FromStr for Charset {
    type Err = UnknownCharset;

    fn from_str(label: &str) -> Result<Self, UnknownCharset> {
        let known = LABELS
            .iter()
            .find(|known| known.eq_ignore_ascii_case(label));
        let known = known.ok_or_else(|| UnknownCharset(label.chars().take(40).collect()));
        known.map(|known| Self(known))
    }
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The charset of texts whose own is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TextCharset {
    /// The store's `Content-Type` is left as it is.
    Stored,
    /// This one.
    Of(Charset),
}

impl Default for TextCharset {
    fn default() -> Self {
        Self::Of(Charset::UTF_8)
    }
}

impl TryFrom<String> for TextCharset {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            STORED => Ok(Self::Stored),
            label => {
                let charset = label.parse();
                charset.map(Self::Of).map_err(|unknown: UnknownCharset| {
                    format!("{unknown}; {STORED:?} leaves the type as it is stored")
                })
            }
        }
    }
}

impl From<TextCharset> for String {
    fn from(charset: TextCharset) -> Self {
        match charset {
            TextCharset::Stored => STORED.to_owned(),
            TextCharset::Of(charset) => charset.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charset_is_one_that_browsers_know() {
        assert_eq!("UTF-8".parse(), Ok(Charset::UTF_8));
        assert_eq!(
            "Shift_JIS".parse::<Charset>().unwrap().to_string(),
            "shift_jis"
        );
        for label in ["", "utf-7", "stored", "utf-8; x", "\u{1b}"] {
            assert!(label.parse::<Charset>().is_err(), "{label}");
        }
    }
}
