//! One file of a stream, and the watch over it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::directory::{Directory, is_still, segment_name};

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
    /// The disk failed.
    Disk(io::Error),
    /// Another hand changed the file.
    Changed(&'static str),
}

impl Segment {
    /// Makes a stream's segment of that number.
    pub(super) fn create(directory: &Directory, stream: &str, number: u32) -> io::Result<Self> {
        let name = segment_name(stream, number);
        Ok(Self {
            file: directory.create(&name)?,
            path: directory.path_of(&name),
            number,
            size: 0,
        })
    }

    /// Goes on with a file that is there and `size` bytes long.
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

    /// Writes lines and returns when they are on the disk.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.size += lines.len() as u64;
        Ok(())
    }

    /// Looks whether the file is still the one at its path and as long as we left it: a foreign rotation renames it or
    /// cuts it (`copytruncate`), and either would part the log from what was promised.
    pub(super) fn check_untouched(&self) -> Result<(), WriteError> {
        let held = self.file.metadata().map_err(WriteError::Disk)?;
        if held.len() != self.size {
            return Err(WriteError::Changed(
                "it is not as long as it was left: something else cuts it or writes to it",
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
