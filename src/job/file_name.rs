//! The name under which a job has its files saved.

use std::fmt;
use std::str::FromStr;

use super::phrase::{Phrase, PhraseError};

/// The word that leaves the name to the store.
const STORED: &str = "stored";

/// The name under which an object is saved, where a job gives one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileName {
    /// The object's own `Content-Disposition`: the link asks for none.
    Stored,
    /// A phrase, which is filled in for each object.
    Phrase(Phrase),
}

impl FileName {
    /// The phrase, if the name is one.
    pub const fn phrase(&self) -> Option<&Phrase> {
        match self {
            Self::Stored => None,
            Self::Phrase(phrase) => Some(phrase),
        }
    }
}

impl FromStr for FileName {
    type Err = PhraseError;

    fn from_str(source: &str) -> Result<Self, PhraseError> {
        match source {
            STORED => Ok(Self::Stored),
            _ => source.parse().map(Self::Phrase),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored => f.write_str(STORED),
            Self::Phrase(phrase) => phrase.fmt(f),
        }
    }
}
