//! Keys from a file, a line each: what `handout presign --keys-from` reads.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use crate::job::place::MAX_KEY_BYTES;

/// How much of the file is read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// How much of a line is kept: a byte order mark, a key, the end of the line, and a byte that shows that the line is too long.
const LINE_BYTES: u64 = (MAX_KEY_BYTES + MARK.len()) as u64 + 3;

/// The byte order mark that Windows programs write before UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads lines of any length, and keeps at most the length of a key.
pub struct Lines {
    input: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    number: u64,
}

/// A line without its end.
#[derive(Debug)]
pub struct Line<'a> {
    /// Its bytes; of a line that is too long for a key, its beginning.
    pub text: &'a [u8],
    /// Its number, from 1.
    pub number: u64,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Lines {
    /// The lines of a file.
    pub fn new(input: Box<dyn Read>) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            line: Vec::new(),
            number: 0,
        }
    }

    /// The next line that is not empty, without its end.
    #[expect(
        clippy::should_implement_trait,
        reason = "a line is lent until the next is read"
    )]
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.line.clear();
            let mut head = self.input.by_ref().take(LINE_BYTES);
            if head.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.number == 1 && self.line.starts_with(MARK) {
                self.line.drain(..MARK.len());
            }
            match self.line.pop_if(|last| *last == b'\n') {
                Some(_) => drop(self.line.pop_if(|last| *last == b'\r')),
                None => drop(self.input.skip_until(b'\n')?),
            }
            if !self.line.is_empty() {
                return Ok(Some(Line {
                    text: &self.line,
                    number: self.number,
                }));
            }
        }
    }

    /// Whether a whole line is already in the buffer.
    pub fn has_another(&self) -> bool {
        self.input.buffer().contains(&b'\n')
    }
}
