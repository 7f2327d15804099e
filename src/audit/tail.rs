//! The end of a log: its last lines, and new ones.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use directory::Location;

use super::chain::LineHead;
use super::compressed::SegmentFile;
use super::directory::{LogDirectory, TOO_LONG, is_too_long, read_line};
use crate::bounds::MAX_AUDIT_LINE_BYTES;

/// How much is read at once, from the end backwards.
const STEP: u64 = 64 << 10;

/// How many new bytes are read at once; the rest is read the next time.
const MAX_NEWS: u64 = 16 << 20;

/// The reading position in every segment.
#[derive(Debug, Default)]
pub struct Tail {
    read: BTreeMap<String, u64>,
}

impl Tail {
    /// The last `count` lines of all streams, in the order in which they were written. [`Tail::news`] returns the lines
    /// after them.
    pub fn of(dir: impl Into<Location>, count: usize) -> io::Result<(Self, Vec<String>)> {
        let mut tail = Self::default();
        let mut lines = Vec::new();
        let directory = LogDirectory::open(&dir.into())?;
        let mut changed: Vec<_> = directory
            .segments()?
            .into_iter()
            .map(|name| Ok((directory.modified(&name)?, name)))
            .collect::<io::Result<_>>()?;
        changed.sort();
        // The segments that changed last have the last lines, unless streams overlap: then the streams' names show which can.
        let mut oldest_wanted = String::new();
        for (changed, name) in changed.into_iter().rev() {
            let changed = jiff::Timestamp::try_from(changed)
                .map_or_else(|_| String::new(), super::stream::spelled);
            let Some(mut file) = unless_gone(directory.segment(&name))? else {
                continue;
            };
            let (end, last) = match lines.len() >= count && changed < oldest_wanted {
                true => (file.length(), Vec::new()),
                false => match file.as_plain() {
                    Some(file) => last_lines(file, count)?,
                    None => last_compressed(file, count)?,
                },
            };
            tail.read.insert(name, end);
            lines.extend(last);
            sort(&mut lines);
            lines.drain(..lines.len().saturating_sub(count));
            oldest_wanted = lines
                .first()
                .map(|line| written_at(line).to_owned())
                .unwrap_or_default();
        }
        Ok((tail, lines))
    }

    /// The new lines since the last call, in the order in which they were written.
    pub fn news(&mut self, dir: impl Into<Location>) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let directory = LogDirectory::open(&dir.into())?;
        for name in directory.segments()? {
            let Some(mut file) = unless_gone(directory.segment(&name))? else {
                continue;
            };
            let read = self.read.entry(name).or_default();
            let length = file.length();
            if length <= *read {
                continue;
            }
            match file.as_plain() {
                Some(file) => drop(file.seek(SeekFrom::Start(*read))?),
                // It was compressed before its last lines were read.
                None => drop(io::copy(&mut (&mut file).take(*read), &mut io::sink())?),
            }
            let mut bytes = Vec::new();
            file.take((length - *read).min(MAX_NEWS))
                .read_to_end(&mut bytes)?;
            check_lines(&bytes)?;
            // A line without a newline is still being written.
            let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |newline| newline + 1);
            *read += whole as u64;
            lines.extend(split(&bytes[..whole]));
        }
        sort(&mut lines);
        Ok(lines)
    }
}

/// An opened segment; `None` if it was removed since the directory was read.
fn unless_gone(opened: io::Result<SegmentFile>) -> io::Result<Option<SegmentFile>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// The last lines of a compressed segment, and where they end: it is read from its beginning.
fn last_compressed(file: SegmentFile, count: usize) -> io::Result<(u64, Vec<String>)> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut lines, mut line, mut end) = (VecDeque::new(), Vec::new(), 0);
    while read_line(&mut reader, &mut line)? > 0 {
        if is_too_long(&line) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, TOO_LONG));
        }
        end += line.len() as u64;
        lines.push_back(String::from_utf8_lossy(&line).into_owned());
        if lines.len() > count {
            lines.pop_front();
        }
    }
    Ok((end, lines.into()))
}

/// The last complete lines of a file, and where they end.
fn last_lines(file: &mut File, count: usize) -> io::Result<(u64, Vec<String>)> {
    let length = file.metadata()?.len();
    let mut from = length;
    loop {
        from = from.saturating_sub(STEP.max(length - from));
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.take(length - from).read_to_end(&mut bytes)?;
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |newline| newline + 1);
        let newlines = memchr::memchr_iter(b'\n', &bytes[..whole]).count();
        check_lines(&bytes)?;
        if newlines > count || from == 0 {
            let lines = split(&bytes[..whole]);
            let lines = lines.skip(newlines.saturating_sub(count)).collect();
            return Ok((from + whole as u64, lines));
        }
    }
}

/// Fails if a line is longer than any audit record, so that the buffer cannot grow without bound.
fn check_lines(bytes: &[u8]) -> io::Result<()> {
    let is_too_long = |line: &[u8]| line.len() > MAX_AUDIT_LINE_BYTES;
    match bytes.split(|byte| *byte == b'\n').any(is_too_long) {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, TOO_LONG)),
        false => Ok(()),
    }
}

fn split(bytes: &[u8]) -> impl Iterator<Item = String> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| String::from_utf8_lossy(line).into_owned())
}

/// Sorts lines by their instants; the lines of a stream stay in their order.
fn sort(lines: &mut [String]) {
    lines.sort_by(|one, other| written_at(one).cmp(written_at(other)));
}

fn written_at(line: &str) -> &str {
    LineHead::parse(line.as_bytes()).map_or("", |head| head.ts)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(seq: u32, at: u32) -> String {
        format!(
            "{{\"v\":2,\"ev\":\"x\",\"seq\":{seq},\"ts\":\"2026-11-23T10:00:{at:02}.000Z\",\"stream\":\"s\",\"prev\":\"sha256:{}\"}}\n",
            "0".repeat(64)
        )
    }

    #[test]
    fn the_last_lines_of_several_streams_come_in_their_order_and_then_the_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            dir.path().join("a.0001.jsonl"),
            dir.path().join("b.0001.jsonl"),
        );
        let many: String = (0..1000).map(|seq| line(seq, 1)).collect();
        fs::write(&one, many + &line(1000, 3)).unwrap();
        fs::write(&two, line(0, 2) + &line(1, 4) + "{\"half").unwrap();
        let (mut tail, lines) = Tail::of(dir.path(), 4).unwrap();
        assert_eq!(lines, [line(999, 1), line(0, 2), line(1000, 3), line(1, 4)]);
        let (_, all) = Tail::of(dir.path(), 5000).unwrap();
        assert_eq!(all.len(), 1003);

        assert_eq!(tail.news(dir.path()).unwrap(), [""; 0]);
        fs::write(&two, line(0, 2) + &line(1, 4) + &line(2, 6)).unwrap();
        fs::write(dir.path().join("c.0001.jsonl"), line(0, 5)).unwrap();
        assert_eq!(tail.news(dir.path()).unwrap(), [line(0, 5), line(2, 6)]);
    }
}
