//! For whom links are made.

use std::sync::Arc;

use crate::job::Recipient;

/// For whom a link was made.
#[derive(Debug, Clone)]
pub enum Audience {
    /// Everybody that the job serves; nobody can be told from the link.
    Everyone,
    /// One person.
    Recipient(Arc<Recipient>),
}

impl Audience {
    /// The person, if it is one.
    pub fn recipient(&self) -> Option<&Recipient> {
        match self {
            Self::Everyone => None,
            Self::Recipient(recipient) => Some(recipient),
        }
    }

    /// The one spelling under which ids are derived for this audience.
    pub fn canonical(&self) -> String {
        self.recipient()
            .map_or_else(|| "everyone".to_owned(), Recipient::canonical_address)
    }
}
