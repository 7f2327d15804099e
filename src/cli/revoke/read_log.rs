//! This machine's audit log, by which a revocation finds links.

use std::collections::BTreeMap;
use std::io;

use anyhow::Context;
use handout::assemble::OpenedLedger;
use handout::audit::find::{LinkQuery, find};
use handout::audit::source::{LogSource, removed_from};
use handout::config::Config;
use handout::environment::Environment;
use handout::ledger::portal::{ChangeKind, ChangeTarget, LinkChange};
use jiff::Timestamp;

use super::super::audit::{ArchiveArgs, ReadArchive, tell_unread};

/// The log, with its archive if that is to be read too, and what the ledger says of its lines.
pub(super) struct ReadLog {
    source: LogSource,
    archive: ReadArchive,
    /// The ends of jobs whose portal links were moved after their lines were written.
    moved: BTreeMap<String, Timestamp>,
}

impl ReadLog {
    /// Opens the archive that the arguments name.
    pub(super) async fn open(
        arguments: &ArchiveArgs,
        (config, opened): (&Config, &OpenedLedger),
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let archive = Box::pin(ReadArchive::of(arguments, config, environment)).await?;
        let changes = opened.portal().changes().await?;
        let moved = changes.into_iter().filter_map(|change| match change {
            LinkChange {
                kind: ChangeKind::Moved { until },
                target: ChangeTarget::Job { job },
                ..
            } => Some((job.to_string(), until)),
            _ => None,
        });
        Ok(Self {
            source: archive.beside(config.audit_place()),
            archive,
            moved: moved.collect(),
        })
    }

    /// The log in a directory, with moved ends of jobs.
    #[cfg(test)]
    pub(super) fn in_directory(dir: &std::path::Path, moved: BTreeMap<String, Timestamp>) -> Self {
        Self {
            source: dir.into(),
            archive: ReadArchive::none(),
            moved,
        }
    }

    /// Whether the end of a job's links was moved.
    pub(super) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The end of a job's links of the portal, if it was moved.
    pub(super) fn moved_end(&self, job: &str) -> Option<Timestamp> {
        self.moved.get(job).copied()
    }

    /// Each line that a query finds; none before anything was recorded here.
    pub(super) fn each_line(
        &self,
        query: &LinkQuery,
        mut judge: impl FnMut(&str),
    ) -> anyhow::Result<()> {
        let found = tokio::task::block_in_place(|| {
            find(&self.source, query, |line| {
                judge(line);
                Ok(())
            })
        });
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_there() => Ok(()),
            found => found.map(drop).with_context(|| {
                let place = self.source.place.display();
                format!("could not read the audit log in {place}")
            }),
        }
    }

    /// Whether anything was recorded here. A segment that is missing in the archive is no empty log.
    fn is_there(&self) -> bool {
        self.source.place.open().is_ok()
    }

    /// Whether lines were removed that are not read: of revocations, too.
    pub(super) fn lacks_lines(&self) -> bool {
        let removed = removed_from(self.source.place.clone()).unwrap_or_default();
        let is_read = self.source.archive.is_some() && removed.archived == removed.segments;
        removed.segments > 0 && !is_read
    }

    /// Says on stderr which lines are not searched, since they were removed.
    pub(super) fn tell_unread(&self) {
        tell_unread(&self.source);
    }

    pub(super) async fn close(self) {
        self.archive.close().await;
    }
}
