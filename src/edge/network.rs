//! How requests of one section of the configuration get out of this machine.

use std::sync::Arc;

/// The way out for one section's requests. Clones are the same way.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The section that names it: `connections.reports`; nothing for a server of this process.
    pub(super) section: Option<Arc<str>>,
}

impl Network {
    /// The way for a section of the configuration.
    pub fn of(section: &str) -> Self {
        Self {
            section: Some(section.into()),
        }
    }
}
