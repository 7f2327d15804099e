//! One durable line for each link, before the link leaves.
//!
//! [`record()`] is the only way from [`Links`] to [`AuditedLinks`], and [`crate::render`] takes nothing else: an
//! unaudited link does not compile. It returns when the lines are on the disk (`fdatasync`); concurrent callers share
//! a sync. Each line has the SHA-256 of the line before, so that a changed or removed line is detected. Signed checkpoints
//! and a registry of all streams record where a chain must end.

// Lines and their proofs.
pub mod chain;
pub mod checkpoint;
pub mod note;
pub mod portal;
pub mod record;
pub mod seal;
pub mod tree;

// The writer.
mod compressed;
mod directory;
mod issued;
pub mod log;
mod recover;
mod registry;
pub mod remembered;
pub mod room;
mod segment;
mod stream;

// The retention.
mod believed;
mod bucket;
mod retain;
pub mod retention;

// The readers.
mod course;
pub mod find;
pub mod schema;
pub mod source;
pub mod stats;
pub mod table;
pub mod tail;
pub mod verify;

pub use bucket::{ArchiveBucket, BucketReader};
pub use issued::Issued;
pub use log::{AuditLog, AuditSettings, RecordError};
pub use record::AuditRecord;
pub use recover::{LossError, accept_loss};
pub use registry::REGISTRY;

use crate::links::{ExampleLinks, Link, Links, Unavailable};
use crate::plan::Lifetime;

/// Parses a registry's text and writes it again. For the fuzz targets.
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

    /// The objects that could not be linked.
    pub fn unavailable(&self) -> &[Unavailable] {
        &self.0.unavailable
    }

    /// The lifetime of the links.
    pub const fn lifetime(&self) -> Lifetime {
        self.0.lifetime
    }

    /// Example links, for a preview and for tests: they open nothing, so no audit lines are needed.
    pub(crate) fn examples(links: ExampleLinks) -> Self {
        Self(links.0)
    }

    /// Links for unit tests of the renderer.
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
