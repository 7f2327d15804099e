//! The archive of the audit log, for commands that read it or put segments into it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use directory::Location;
use handout::audit::BucketReader;
use handout::audit::source::{ArchiveFolder, LogSource, SegmentArchive, removed_from};
use handout::clock;
use handout::config::{AuditArchivePlace, Config};
use handout::environment::Environment;
use handout::text::{agreeing, counted};

use super::super::connections::OpenConnections;
use super::super::exit::CommandError;
use super::super::terminal::complain;

#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct ArchiveArgs {
    /// Reads the segments that were removed after audit.keep, too: from audit.archive, or from another bucket or a directory to which
    /// the archive was downloaded.
    #[arg(
        long,
        value_name = "s3://BUCKET/PREFIX|DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub(in crate::cli) archive: Option<String>,
}

/// The archive that is read beside the logs, if any.
pub(in crate::cli) struct ReadArchive {
    archive: Option<Arc<dyn SegmentArchive>>,
    connections: Option<OpenConnections>,
}

impl ReadArchive {
    /// The archive that the arguments name.
    pub(in crate::cli) async fn of(
        arguments: &ArchiveArgs,
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let place = match arguments.archive.as_deref() {
            None => return Ok(Self::none()),
            Some("") => config.audit_archive()?.ok_or_else(|| {
                CommandError::Config(
                    "audit.archive is not set: name the archive, as --archive=s3://BUCKET/PREFIX or --archive=DIR".to_owned(),
                )
            })?,
            Some(named) if named.starts_with("s3://") => config.archive_at("audit.archive", named)?,
            Some(named) => {
                let folder = ArchiveFolder(Location::from(&PathBuf::from(named)));
                return Ok(Self {
                    archive: Some(Arc::new(folder)),
                    connections: None,
                });
            }
        };
        Self::at(place, config, environment).await
    }

    /// The archive of the arguments, or else the configured one.
    pub(super) async fn of_or_configured(
        arguments: &ArchiveArgs,
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        match config.audit_archive()? {
            Some(place) if arguments.archive.is_none() => {
                Self::at(place, config, environment).await
            }
            _ => Self::of(arguments, config, environment).await,
        }
    }

    /// No archive.
    pub(in crate::cli) const fn none() -> Self {
        Self {
            archive: None,
            connections: None,
        }
    }

    async fn at(
        place: AuditArchivePlace,
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let opened = OpenConnections::open(config, environment).await?;
        let bucket = config.archive_bucket(place, &opened.connections, clock::system)?;
        Ok(Self {
            archive: Some(Arc::new(BucketReader::new(bucket))),
            connections: Some(opened),
        })
    }

    /// A log with this archive.
    pub(in crate::cli) fn beside(&self, place: Location) -> LogSource {
        LogSource {
            place,
            archive: self.archive.clone(),
        }
    }

    pub(in crate::cli) async fn close(self) {
        if let Some(connections) = self.connections {
            connections.close().await;
        }
    }
}

/// Says on stderr which lines of a log were not searched, since they were removed.
pub(in crate::cli) fn tell_unread(source: &LogSource) {
    // A log that cannot be read was reported.
    let removed = removed_from(source.place.clone()).unwrap_or_default();
    let (gone, kept) = (removed.segments - removed.archived, removed.archived);
    let dir = source.place.display();
    if kept > 0 && source.archive.is_none() {
        complain(format_args!(
            "{} of {dir} {} removed after audit.keep, {} in the archive and {} not read: give --archive",
            counted(kept, "segment"),
            agreeing(kept, "was", "were"),
            agreeing(kept, "is", "are"),
            agreeing(kept, "was", "were")
        ));
    }
    if gone > 0 {
        complain(format_args!(
            "{} of {dir} {} removed after audit.keep without an archive: {} lines are gone",
            counted(gone, "segment"),
            agreeing(gone, "was", "were"),
            agreeing(gone, "its", "their")
        ));
    }
}
