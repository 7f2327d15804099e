//! Lines of a log, plain or compressed with gzip, within bounds.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use memchr::memchr;

use crate::bounds::MAX_LOG_LINE_BYTES;

/// How much is read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// By how many bytes the format of a whole file is told.
const BEGINNING: usize = 64;

/// The first bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The lines of a file and where they are in it.
pub struct LogLines<'a> {
    source: Box<dyn Read + Send + 'a>,
    buffer: Vec<u8>,
    /// The bytes of the buffer that were not returned yet.
    held: std::ops::Range<usize>,
    /// How many bytes of the file, uncompressed, were returned as complete lines.
    consumed: u64,
    is_compressed: bool,
    has_ended: bool,
    /// A line that is too long is being skipped.
    skipping: bool,
}

impl std::fmt::Debug for LogLines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogLines")
            .field("consumed", &self.consumed)
            .field("is_compressed", &self.is_compressed)
            .finish_non_exhaustive()
    }
}

/// A line of a log.
#[derive(Debug, PartialEq, Eq)]
pub enum RawLine<'a> {
    /// A line without its end.
    Whole(&'a [u8]),
    /// A line that is longer than the bound.
    TooLong,
}

impl<'a> LogLines<'a> {
    /// The lines of `source`, which is plain or gzip.
    pub fn new(mut source: impl Read + Send + 'a) -> io::Result<Self> {
        let mut head = [0; 2];
        let mut length = 0;
        while length < head.len() {
            let read = source.read(&mut head[length..])?;
            if read == 0 {
                break;
            }
            length += read;
        }
        let is_compressed = head[..length] == GZIP;
        let whole = io::Cursor::new(head).take(length as u64).chain(source);
        Ok(Self {
            source: match is_compressed {
                true => Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(
                    64 << 10,
                    whole,
                ))),
                false => Box::new(whole),
            },
            buffer: vec![0; CHUNK],
            held: 0..0,
            consumed: 0,
            is_compressed,
            has_ended: false,
            skipping: false,
        })
    }

    /// How the file begins, uncompressed: at least [`BEGINNING`] bytes, if it has as many.
    pub fn beginning(&mut self) -> io::Result<&[u8]> {
        while self.held.len() < BEGINNING && !self.has_ended {
            self.fill()?;
        }
        Ok(&self.buffer[self.held.clone()])
    }

    /// What was not returned as lines yet.
    pub fn into_rest(self) -> impl Read + 'a {
        let rest = self.buffer[self.held].to_vec();
        io::Cursor::new(rest).chain(self.source)
    }

    /// Whether the file is gzip, in which reading cannot begin in the middle.
    pub const fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// How many bytes were returned as complete lines, with their ends.
    pub const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The next line; `None` at the end. A last line without an end is returned only if the file is `complete`.
    pub fn next(&mut self, complete: bool) -> io::Result<Option<RawLine<'_>>> {
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[self.held.clone()]) {
                let start = self.held.start;
                self.held.start += length + 1;
                self.consumed += length as u64 + 1;
                if std::mem::take(&mut self.skipping) {
                    return Ok(Some(RawLine::TooLong));
                }
                return Ok(Some(RawLine::Whole(&self.buffer[start..start + length])));
            }
            if self.has_ended {
                let rest = std::mem::take(&mut self.held);
                if rest.is_empty() && !self.skipping || !complete {
                    return Ok(None);
                }
                self.consumed += rest.len() as u64;
                return Ok(Some(match std::mem::take(&mut self.skipping) {
                    true => RawLine::TooLong,
                    false => RawLine::Whole(&self.buffer[rest]),
                }));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.held.len() > MAX_LOG_LINE_BYTES {
            self.skipping = true;
        }
        if self.skipping {
            self.consumed += self.held.len() as u64;
            self.held = 0..0;
        }
        self.buffer.copy_within(self.held.clone(), 0);
        self.held = 0..self.held.len();
        let read = match self.source.read(&mut self.buffer[self.held.end..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            read => read?,
        };
        self.has_ended = read == 0;
        self.held.end += read;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(source: &[u8], complete: bool) -> (Vec<String>, u64) {
        let mut lines = LogLines::new(source).unwrap();
        let mut found = Vec::new();
        while let Some(line) = lines.next(complete).unwrap() {
            found.push(match line {
                RawLine::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                RawLine::TooLong => "too long".to_owned(),
            });
        }
        (found, lines.consumed())
    }

    #[test]
    fn a_line_that_is_being_written_waits_for_its_end() {
        assert_eq!(
            lines(b"a\n\nbc\nd", false),
            (vec!["a".to_owned(), String::new(), "bc".to_owned()], 6)
        );
        assert_eq!(
            lines(b"a\nd", true),
            (vec!["a".to_owned(), "d".to_owned()], 3)
        );
        assert_eq!(lines(b"", true), (vec![], 0));
        assert_eq!(lines(b"a", true), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn gzip_is_read_and_a_long_line_is_skipped_within_bounds() {
        let long = "x".repeat(MAX_LOG_LINE_BYTES + 2 * CHUNK);
        let text = format!("a\n{long}\nb\n");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let compressed = gzip.finish().unwrap();
        let expected = vec!["a".to_owned(), "too long".to_owned(), "b".to_owned()];
        for source in [text.as_bytes(), &compressed] {
            assert_eq!(lines(source, true), (expected.clone(), text.len() as u64));
        }
    }
}
