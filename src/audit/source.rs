//! What the readers of a log read: its directory, and the archive with the segments that were removed from it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use directory::Location;

use super::compressed::{SegmentFile, compressed_name};
use super::directory::{LogDirectory, segment_name, segment_of};
use super::registry::{REGISTRY, Registry};

/// A place with the compressed segments that were removed from logs. Each log has a folder there, named by its id.
pub trait SegmentArchive: fmt::Debug + Send + Sync {
    /// Opens the file `name` of the log with the id `log`, and says what it is for messages; `None` if the archive does not have it.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn open(&self, log: &str, name: &str) -> io::Result<Option<(File, PathBuf)>>;
}

/// A directory to which an archive was downloaded: with a folder for each log, or with the segments of one.
#[derive(Debug)]
pub struct ArchiveFolder(pub Location);

impl SegmentArchive for ArchiveFolder {
    fn open(&self, log: &str, name: &str) -> io::Result<Option<(File, PathBuf)>> {
        let folder = self.0.open()?;
        let held = match folder.enter_existing(log.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => folder,
            entered => entered?,
        };
        match held.read_any(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => Ok(Some((opened?, held.path().join(name)))),
        }
    }
}

/// A log's directory, and its archive if that is to be read too.
#[derive(Debug, Clone)]
pub struct LogSource {
    /// The directory.
    pub place: Location,
    /// The archive.
    pub archive: Option<Arc<dyn SegmentArchive>>,
}

impl<T: Into<Location>> From<T> for LogSource {
    fn from(place: T) -> Self {
        Self {
            place: place.into(),
            archive: None,
        }
    }
}

impl From<&Self> for LogSource {
    fn from(source: &Self) -> Self {
        source.clone()
    }
}

/// What was removed from a log after `audit.keep`, as its registry says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemovedSegments {
    /// How many segments.
    pub segments: u64,
    /// How many of them are of streams whose removed segments all went to the archive.
    pub archived: u64,
    /// How many lines they had.
    pub lines: u64,
}

impl RemovedSegments {
    pub(super) fn of(registry: &Registry) -> Self {
        let mut sum = Self::default();
        for removed in registry.removed.values() {
            sum.segments += u64::from(removed.segments);
            sum.lines += removed.lines;
            if removed.is_archived {
                sum.archived += u64::from(removed.segments);
            }
        }
        sum
    }
}

/// What was removed from the log in a directory. A log without a registry that can be read says nothing.
///
/// # Errors
/// The directory cannot be read.
pub fn removed_from(place: impl Into<Location>) -> io::Result<RemovedSegments> {
    let directory = LogDirectory::open(&place.into())?;
    let registry = Registry::load(&directory, None)?;
    let registry = registry.and_then(Result::ok);
    Ok(registry.map_or_else(RemovedSegments::default, |registry| {
        RemovedSegments::of(&registry)
    }))
}

/// Whether a directory holds an audit log: a segment, a file that is named otherwise, or the registry of a log.
///
/// # Errors
/// The directory cannot be read.
pub fn holds_log(place: impl Into<Location>) -> io::Result<bool> {
    let directory = LogDirectory::open(&place.into())?;
    let contents = directory.contents()?;
    let has_segments = !(contents.streams.is_empty() && contents.strangers.is_empty());
    Ok(has_segments || directory.read_note(REGISTRY)?.is_some())
}

/// A segment that was removed, in an archive.
#[derive(Debug, Clone)]
pub(super) struct ArchivedSegment {
    archive: Arc<dyn SegmentArchive>,
    log: String,
    name: String,
    /// Whether the registry says that the archive has it.
    is_expected: bool,
}

impl ArchivedSegment {
    /// The removed segments of a stream, each with its number.
    pub(super) fn of_stream(
        archive: &Arc<dyn SegmentArchive>,
        registry: &Registry,
        stream: &str,
    ) -> Vec<(u32, Self)> {
        let Some(removed) = registry.removed.get(stream) else {
            return Vec::new();
        };
        let segment = |number| {
            let segment = Self {
                archive: Arc::clone(archive),
                log: registry.log.clone(),
                name: segment_name(stream, number),
                is_expected: removed.is_archived,
            };
            (number, segment)
        };
        (1..=removed.segments).map(segment).collect()
    }

    /// The segment's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Opens it; `None` if the archive does not have it and need not.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the archive must have it.
    pub(super) fn open(&self) -> io::Result<Option<SegmentFile>> {
        let name = compressed_name(&self.name);
        match self.archive.open(&self.log, &name)? {
            Some((file, path)) => SegmentFile::compressed(file, path).map(Some),
            None if !self.is_expected => Ok(None),
            None => {
                let sentence = format!(
                    "{name} is not in the archive, which had it when it was removed from the log's directory"
                );
                Err(io::Error::new(io::ErrorKind::NotFound, sentence))
            }
        }
    }
}

/// A segment that is read, and where it is.
#[derive(Debug, Clone)]
pub(super) enum SegmentPlace {
    Here(String),
    Archived(ArchivedSegment),
}

impl SegmentPlace {
    /// The segments of a log, oldest stream first: those of its directory, and those that were removed from it, if the archive is to
    /// be read.
    pub(super) fn all(directory: &LogDirectory, source: &LogSource) -> io::Result<Vec<Self>> {
        let mut found = BTreeMap::new();
        if let Some(archive) = &source.archive {
            let registry = registry_in(directory)?;
            for stream in registry.removed.keys() {
                for (number, segment) in ArchivedSegment::of_stream(archive, &registry, stream) {
                    found.insert((stream.clone(), number), Self::Archived(segment));
                }
            }
        }
        for name in directory.segments()? {
            if let Some((stream, number)) = segment_of(&name) {
                found.insert((stream.to_owned(), number), Self::Here(name));
            }
        }
        Ok(found.into_values().collect())
    }

    /// The segment's name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Here(name) => name,
            Self::Archived(segment) => segment.name(),
        }
    }

    /// Opens it; `None` if the archive does not have it and need not.
    pub(super) fn open(&self, directory: &LogDirectory) -> io::Result<Option<SegmentFile>> {
        match self {
            Self::Here(name) => directory.segment(name).map(Some),
            Self::Archived(segment) => segment.open(),
        }
    }
}

/// The registry, which says what was removed.
fn registry_in(directory: &LogDirectory) -> io::Result<Registry> {
    let failed = |reason: &str| {
        let dir = directory.path().display();
        let sentence = format!(
            "the registry in {dir}, which says what was removed from the log, {reason}: read the archive by itself"
        );
        io::Error::new(io::ErrorKind::InvalidData, sentence)
    };
    let read = Registry::load(directory, None)?.ok_or_else(|| failed("is missing"))?;
    read.map_err(|_| failed("was changed"))
}
