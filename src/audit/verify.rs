//! Reads an audit log from its first byte and says whether it is whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Serialize;

use super::chain::Head;
use super::log::{is_last, segments, stream_of};

/// What a verification found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// How many streams were read.
    pub streams: usize,
    /// How many lines.
    pub lines: u64,
    /// What is wrong; empty for a log that is whole.
    pub problems: Vec<Problem>,
    /// Streams that a living process still writes.
    pub open: usize,
}

/// Something that is wrong with a log.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// The segment's file name.
    pub segment: String,
    /// The first bad line, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// Verifies every stream of a directory.
pub fn verify(dir: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    for path in segments(dir)? {
        report.streams += 1;
        verify_segment(&path, &mut report)?;
    }
    Ok(report)
}

fn verify_segment(path: &Path, report: &mut Report) -> io::Result<()> {
    let file = File::open(path)?;
    let alive = file.try_lock_shared().is_err();
    let segment = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut problem = |line: u64, reason: String| {
        report.problems.push(Problem {
            segment: segment.clone(),
            line,
            reason,
        });
    };
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut head = Head::new(&stream_of(path));
    let mut line = Vec::new();
    let mut over = false;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let number = head.len() + 1;
        if !line.ends_with(b"\n") {
            // A living writer may be in the middle of a line; a dead one was cut off.
            if !alive {
                problem(
                    number,
                    "the line is cut off: start `handout run` once to set it aside".to_owned(),
                );
            }
            break;
        }
        if over {
            problem(number, "the stream goes on after its last line".to_owned());
            break;
        }
        match head.check(&line) {
            // A process that was killed before its first line was whole leaves a stream that only says so.
            Ok(found) if number == 1 && !matches!(found.ev.as_str(), "open" | "recover") => {
                problem(
                    number,
                    "the stream does not begin with its first line".to_owned(),
                );
                break;
            }
            Ok(_) => over = is_last(&line),
            Err(error) => {
                problem(number, error.to_string());
                break;
            }
        }
    }
    if head.is_empty() && !alive {
        problem(1, "the stream has no line".to_owned());
    }
    report.lines += head.len();
    report.open += usize::from(alive);
    Ok(())
}
