//! Writes all output of commands, so that untrusted text cannot control a terminal.
//!
//! `clippy.toml` forbids `std::io::stdout` and `std::io::stderr` elsewhere, so that a new command cannot bypass it.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the place where stdout and stderr are written"
)]

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use handout::text::{BYTE_ORDER_MARK, printable_json, printable_line};
use serde::Serialize;

/// Many lines to stdout, buffered.
pub(crate) struct TerminalLines(BufWriter<StdoutLock<'static>>);

impl TerminalLines {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes one line of text; of the characters that are not printable, only tabs are kept.
    pub(crate) fn text(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.0, "{}", printable_line(&line.to_string()))
    }

    /// Writes JSON, escaped so that it parses to the same value.
    pub(crate) fn json(&mut self, json: &str) -> io::Result<()> {
        writeln!(self.0, "{}", printable_json(json))
    }

    /// Writes a row of CSV (RFC 4180), which ends its line.
    pub(crate) fn csv(&mut self, row: &str) -> io::Result<()> {
        let row = row.strip_suffix("\r\n").unwrap_or(row);
        let begin = row.len() - row.trim_start_matches(BYTE_ORDER_MARK).len();
        let (mark, row) = row.split_at(begin);
        write!(self.0, "{mark}{}\r\n", printable_line(row))
    }

    pub(crate) fn flush(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes a line to stdout. A closed reader (`| head`) is an error, not a panic.
pub(crate) fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", printable_line(&line.to_string()))
}

/// Writes text of several lines to stdout. Untrusted parts of it must not contain line ends.
pub(crate) fn say_lines(text: impl Display) -> io::Result<()> {
    text.to_string().split('\n').try_for_each(say)
}

/// Writes a value to stdout as JSON on one line.
pub(crate) fn say_json(value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value)?;
    writeln!(io::stdout().lock(), "{}", printable_json(&json))
}

/// Writes a line to stderr. Errors are ignored, since there is no place to report them.
pub(crate) fn complain(line: impl Display) {
    let line = format!("handout: {line}");
    let line = printable_line(&line);
    if !handout::telemetry::last_line(&line) {
        drop(writeln!(io::stderr().lock(), "{line}"));
    }
}

/// Writes trusted bytes to stdout unchanged: signed URLs, which are ASCII, and scripts.
pub(crate) fn write_exactly(bytes: &[u8]) -> io::Result<()> {
    io::stdout().lock().write_all(bytes)
}

/// Whether stderr is a terminal.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}
