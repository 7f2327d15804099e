//! A file of a stream, and the check that no other process changes it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use directory::is_full;

use super::directory::{LogDirectory, is_still, segment_name};

/// The file that a stream is being written to.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    number: u32,
    size: u64,
}

/// Why a segment could not be written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The disk failed, or is full: if it is full, the stream is unchanged and may be written again.
    Disk(io::Error),
    /// Another process changed the file.
    Changed(&'static str),
}

impl WriteError {
    /// The disk's error, if it is full.
    pub(super) fn full(&self) -> Option<&io::Error> {
        match self {
            Self::Disk(error) => Some(error).filter(|error| is_full(error)),
            Self::Changed(_) => None,
        }
    }
}

impl Segment {
    /// Creates a stream's segment of that number.
    pub(super) fn create(directory: &LogDirectory, stream: &str, number: u32) -> io::Result<Self> {
        let name = segment_name(stream, number);
        Ok(Self {
            file: directory.create(&name)?,
            path: directory.path_of(&name),
            number,
            size: 0,
        })
    }

    /// Continues an existing file that is `size` bytes long.
    pub(super) const fn resume(path: PathBuf, file: File, number: u32, size: u64) -> Self {
        Self {
            path,
            file,
            number,
            size,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Writes lines and returns when they are on the disk. If the disk is full, the file is unchanged.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let file = &mut self.file;
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if let Err(error) = written {
            if is_full(&error) {
                self.take_back().map_err(io::Error::other)?;
            }
            return Err(error);
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    /// Cuts off the written part of lines that did not fit. The bytes before were synced, so a sync that failed for lack of
    /// space has not lost any of them.
    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.size)?;
        self.file.seek(SeekFrom::Start(self.size))?;
        self.file.sync_data()
    }

    /// Checks that the file is still the one at its path and has the expected length. A foreign rotation renames it or
    /// truncates it (`copytruncate`), and later lines would be missing from the log.
    pub(super) fn check_untouched(&self) -> Result<(), WriteError> {
        let held = self.file.metadata().map_err(WriteError::Disk)?;
        if held.len() != self.size {
            return Err(WriteError::Changed(
                "its length has changed: another process truncates it or writes to it",
            ));
        }
        match is_still(&self.path, &self.file) {
            Ok(true) => Ok(()),
            Ok(false) => Err(WriteError::Changed("another file is in its place")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(WriteError::Changed("it was renamed or removed"))
            }
            Err(error) => Err(WriteError::Disk(error)),
        }
    }
}
