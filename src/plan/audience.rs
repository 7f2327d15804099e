//! The audience of links: the recipients who share them.

use std::sync::Arc;

use crate::job::Recipient;

/// The audience of a link.
#[derive(Debug, Clone)]
pub enum Audience {
    /// All recipients of the job; the link does not identify a recipient.
    Everyone,
    /// A single recipient.
    Recipient(Arc<Recipient>),
}

impl Audience {
    /// The recipient, if it is a single one.
    pub fn recipient(&self) -> Option<&Recipient> {
        match self {
            Self::Everyone => None,
            Self::Recipient(recipient) => Some(recipient),
        }
    }

    /// The canonical text from which ids are derived for this audience.
    pub fn canonical(&self) -> String {
        self.recipient()
            .map_or_else(|| "everyone".to_owned(), Recipient::canonical_address)
    }
}
