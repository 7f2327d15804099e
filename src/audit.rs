//! One durable line for each link, before the link leaves.
//!
//! [`record()`] is the only way from [`Links`] to [`AuditedLinks`], and [`crate::render`] takes nothing else: an
//! unaudited link does not compile. It returns when the lines are on the disk (`fdatasync`), in groups with
//! whoever else waits. Each line carries the SHA-256 of the one before, so that a line cannot be changed or
//! taken out unseen; signed checkpoints and a registry of all streams say where a chain must end.

// A line, and what proves it.
pub mod chain;
pub mod checkpoint;
pub mod note;
pub mod record;
pub mod seal;
pub mod tree;

// The writer.
mod directory;
mod issued;
pub mod log;
mod recover;
mod registry;
pub mod remembered;
pub mod room;
mod segment;
mod stream;

// The readers.
mod course;
pub mod find;
pub mod schema;
pub mod stats;
pub mod table;
pub mod tail;
pub mod verify;

pub use issued::Issued;
pub use log::{AuditLog, AuditSettings, RecordError};
pub use record::AuditRecord;
pub use recover::{LossError, accept_loss};
pub use registry::REGISTRY;

use crate::links::{ExampleLinks, Link, Links, Unavailable};
use crate::plan::Lifetime;

/// A registry's text, read and written again. For the fuzz targets.
#[doc(hidden)]
pub fn rewrite_registry(text: &str) -> Option<String> {
    registry::Registry::parse(text).map(|registry| registry.text())
}

/// Links whose lines are durable. Can only be made by [`record()`].
#[derive(Debug)]
pub struct AuditedLinks(Links);

impl AuditedLinks {
    /// The links.
    pub fn links(&self) -> &[Link] {
        &self.0.links
    }

    /// What could not be linked.
    pub fn unavailable(&self) -> &[Unavailable] {
        &self.0.unavailable
    }

    /// From when until when they work.
    pub const fn lifetime(&self) -> Lifetime {
        self.0.lifetime
    }

    /// Links that open nothing, for a preview and for tests: there is nothing to record about them.
    pub(crate) fn examples(links: ExampleLinks) -> Self {
        Self(links.0)
    }

    /// Links as a renderer's unit test needs them; no program is built with this.
    #[cfg(test)]
    pub(crate) fn for_test(links: Links) -> Self {
        Self(links)
    }
}

/// Writes one line for each link and waits until all are durable.
pub async fn record(
    links: Links,
    context: &record::Context<'_>,
    log: &AuditLog,
) -> Result<AuditedLinks, RecordError> {
    log.append(record::lines(&links, context)).await?;
    Ok(AuditedLinks(links))
}
