//! Reads files of access logs: which of them are new, from where, and how far.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::book::{BookError, FileMark};
use super::identity::mix;
use super::join::Joiner;
use super::lines::{LogLines, RawLine};
use super::parse::LogParser;
use super::trail;

/// How much of a file's beginning tells it from another of the same name, in bytes.
const HEAD_BYTES: usize = 512;

/// How deep the folders of a place are read: partitioned logs have seven levels.
const MAX_DEPTH: usize = 12;

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum LogReadError {
    /// The file could not be read.
    #[error("could not read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said, or the decompression.
        source: io::Error,
    },
    /// What was read could not be kept.
    #[error(transparent)]
    Book(#[from] BookError),
}

/// What was done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOutcome {
    /// It was read, from its beginning or from where the last read ended.
    Read,
    /// Nothing was added to it since.
    Known,
}

/// All files of a place, in the order of their names: the file itself, or those in a directory and below. Symbolic links and names that
/// begin with a dot are left out.
pub fn files_in(place: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    match std::fs::metadata(place)?.is_dir() {
        true => collect(place, 0, &mut files)?,
        false => files.push(place.to_owned()),
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && depth < MAX_DEPTH {
            collect(&entry.path(), depth + 1, files)?;
        }
    }
    Ok(())
}

/// Reads what is new in a file of this machine. A plain file may still be written. What was read is durable after [`Joiner::write`].
pub fn read_file(path: &Path, joiner: &mut Joiner<'_>) -> Result<FileOutcome, LogReadError> {
    let refused = |source| LogReadError::File {
        path: path.to_owned(),
        source,
    };
    let absolute = std::path::absolute(path).map_err(refused)?;
    let name = absolute.to_string_lossy().into_owned();
    let mut file = File::open(path).map_err(refused)?;
    let about = file.metadata().map_err(refused)?;
    let known = joiner.mark(&name)?;
    if known.is_some_and(|mark| mark.size == about.len() && mark.modified == about.mtime()) {
        return Ok(FileOutcome::Known);
    }
    let head = head_of(&mut file).map_err(refused)?;
    let mark = FileMark {
        size: about.len(),
        modified: about.mtime(),
        consumed: 0,
        head: hash_of(&head, known.map_or(head.len(), |mark| mark.head_length())),
    };
    let goes_on = known.filter(|known| {
        known.consumed <= mark.size
            && known.head == mark.head
            && !is_gzip(&head)
            && known.consumed > 0
    });
    let mark = FileMark {
        head: hash_of(&head, head.len()),
        ..mark
    };
    let mut parser = LogParser::new();
    let from = goes_on.map_or(0, |known| known.consumed);
    if from > 0 {
        // The columns stand at the beginning.
        for line in head
            .split(|byte| *byte == b'\n')
            .filter(|line| line.starts_with(b"#"))
        {
            parser.read(line);
        }
    }
    file.seek(SeekFrom::Start(from)).map_err(refused)?;
    read_lines(
        file.take(mark.size - from),
        from,
        false,
        &mut parser,
        joiner,
        |consumed| (name.clone(), FileMark { consumed, ..mark }),
    )
    .map_err(|error| match error {
        LinesError::Io(source) => refused(source),
        LinesError::Book(error) => error.into(),
    })?;
    Ok(FileOutcome::Read)
}

impl FileMark {
    /// How much of the file's beginning its hash covers.
    fn head_length(&self) -> usize {
        usize::try_from(self.size).map_or(HEAD_BYTES, |size| size.min(HEAD_BYTES))
    }
}

fn hash_of(head: &[u8], length: usize) -> u64 {
    mix(0, &head[..length.min(head.len())])
}

fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
}

fn head_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.by_ref()
        .take(HEAD_BYTES as u64)
        .read_to_end(&mut head)?;
    Ok(head)
}

/// Reads a complete file from elsewhere, which has `name`. What was read is durable after [`Joiner::write`].
pub fn read_whole(
    source: impl Read + Send,
    name: &str,
    mark: FileMark,
    joiner: &mut Joiner<'_>,
) -> Result<(), LogReadError> {
    let mut parser = LogParser::new();
    let marked = |consumed| (name.to_owned(), FileMark { consumed, ..mark });
    read_lines(source, 0, true, &mut parser, joiner, marked).map_err(|error| match error {
        LinesError::Io(source) => LogReadError::File {
            path: name.into(),
            source,
        },
        LinesError::Book(error) => error.into(),
    })
}

#[derive(Debug, thiserror::Error)]
enum LinesError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Book(#[from] BookError),
}

/// Takes all lines, and writes whenever much is held. `marked` is the mark after so many bytes.
fn read_lines(
    source: impl Read + Send,
    from: u64,
    is_complete: bool,
    parser: &mut LogParser,
    joiner: &mut Joiner<'_>,
    marked: impl Fn(u64) -> (String, FileMark),
) -> Result<(), LinesError> {
    let mut lines = LogLines::new(source)?;
    if from == 0 && trail::is_trail(lines.beginning()?) {
        return read_trail(lines.into_rest(), joiner, marked);
    }
    // What is compressed is not written any more.
    let is_complete = is_complete || lines.is_compressed();
    let unread = |(name, mark): (String, FileMark)| {
        // Until the file was read to its end, the next read must not take it for known.
        (
            name,
            FileMark {
                size: u64::MAX >> 1,
                ..mark
            },
        )
    };
    while let Some(line) = lines.next(is_complete)? {
        match line {
            RawLine::Whole(line) => joiner.take(parser.read(line))?,
            RawLine::TooLong => joiner.take_long(),
        }
        if joiner.is_full() {
            let consumed = match lines.is_compressed() {
                true => 0,
                false => from + lines.consumed(),
            };
            joiner.hold(unread(marked(consumed)))?;
        }
    }
    joiner.hold(marked(from + lines.consumed()))?;
    Ok(())
}

/// Takes all events of a file of CloudTrail, which is written at once. What is left of a file that was cut is counted as one line that
/// does not fit.
fn read_trail(
    source: impl Read,
    joiner: &mut Joiner<'_>,
    marked: impl Fn(u64) -> (String, FileMark),
) -> Result<(), LinesError> {
    match trail::read(source, |request| joiner.take_trail(request)) {
        Ok(()) => {}
        Err(error) if error.is_io() => return Err(io::Error::from(error).into()),
        Err(_) => joiner.take_long(),
    }
    let (name, mark) = marked(0);
    let consumed = mark.size;
    joiner.hold((name, FileMark { consumed, ..mark }))?;
    Ok(())
}

#[cfg(test)]
mod tests;
