//! Writes log lines to stderr, which may be closed, or a pipe without a reader.
//!
//! A daemon must continue in both cases, so a dedicated thread writes its lines from a bounded queue. Lines that do not fit are
//! dropped and counted, and the next line that is written reports their number. A command writes its few lines directly. Errors
//! are ignored in both cases: there is no place to report them.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// The capacity of the thread's queue, in lines. A line has at most a few kilobytes.
const WAITING: usize = 4096;

/// How long a shutdown waits for the remaining lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Formats the line about dropped lines.
type Missing = fn(u64) -> String;

enum SentLine {
    Line(Vec<u8>),
    /// Acknowledged once all lines before it are written.
    End(SyncSender<()>),
}

/// A sink for whole log lines. Clones write to the same place.
#[derive(Clone)]
pub(super) struct LineQueue {
    way: LogWriter,
}

#[derive(Clone)]
enum LogWriter {
    Direct,
    Thread {
        sender: SyncSender<SentLine>,
        dropped: Arc<AtomicU64>,
    },
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is logged is escaped before"
)]
pub(super) fn stderr() -> io::Stderr {
    io::stderr()
}

/// The queue of the daemon's log thread, once it has started.
static THREAD: OnceLock<SyncSender<SentLine>> = OnceLock::new();

impl LineQueue {
    /// Writes lines directly, on the thread that logs them.
    pub(super) const fn direct() -> Self {
        Self {
            way: LogWriter::Direct,
        }
    }

    /// Writes lines to stderr on a dedicated thread, or directly if no thread can be started.
    pub(super) fn of_thread(missing: Missing) -> Self {
        let (lines, receiver) = Self::queued(WAITING);
        let LogWriter::Thread { sender, dropped } = &lines.way else {
            return lines;
        };
        let dropped = Arc::clone(dropped);
        let thread = std::thread::Builder::new().name("log".to_owned());
        match thread.spawn(move || write_lines(&receiver, &dropped, missing, &mut stderr())) {
            Ok(_) => {
                drop(THREAD.set(sender.clone()));
                lines
            }
            Err(_) => Self::direct(),
        }
    }

    fn queued(waiting: usize) -> (Self, Receiver<SentLine>) {
        let (sender, receiver) = sync_channel(waiting);
        let dropped = Arc::default();
        let way = LogWriter::Thread { sender, dropped };
        (Self { way }, receiver)
    }

    fn write(&self, line: Vec<u8>) {
        match &self.way {
            LogWriter::Direct => drop(stderr().write_all(&line)),
            LogWriter::Thread { sender, dropped } => {
                if sender.try_send(SentLine::Line(line)).is_err() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Writes lines until the end of the program.
fn write_lines(
    receiver: &Receiver<SentLine>,
    dropped: &AtomicU64,
    missing: Missing,
    to: &mut impl Write,
) {
    for sent in receiver {
        match sent {
            SentLine::Line(line) => drop(to.write_all(&line)),
            SentLine::End(written) => drop(written.try_send(())),
        }
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            drop(to.write_all(missing(count).as_bytes()));
        }
    }
}

/// Waits at most a second until all queued lines are written. Returns whether they were.
pub fn flush() -> bool {
    THREAD.get().is_none_or(flush_through)
}

/// Queues the daemon's last line and waits at most a second for it. Returns whether a log thread exists.
pub fn last_line(line: &str) -> bool {
    let Some(sender) = THREAD.get() else {
        return false;
    };
    drop(sender.try_send(SentLine::Line(format!("{line}\n").into_bytes())));
    flush_through(sender);
    true
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program ends, and nothing else is to be done"
)]
fn flush_through(sender: &SyncSender<SentLine>) -> bool {
    let until = Instant::now() + LAST_LINES;
    let (written, end) = sync_channel(1);
    let mut sent = SentLine::End(written);
    while let Err(TrySendError::Full(back)) = sender.try_send(sent) {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
        sent = back;
    }
    let left = until.saturating_duration_since(Instant::now());
    !matches!(end.recv_timeout(left), Err(RecvTimeoutError::Timeout))
}

/// One line from the subscriber; it is written whole when it is dropped.
pub(super) struct LogLine {
    lines: LineQueue,
    text: Vec<u8>,
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.lines.write(std::mem::take(&mut self.text));
        }
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine {
            lines: self.clone(),
            text: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_fit_are_dropped_and_counted_and_none_waits() {
        let (lines, receiver) = LineQueue::queued(2);
        for number in 0..5 {
            let mut line = lines.make_writer();
            write!(line, "line ").unwrap();
            writeln!(line, "{number}").unwrap();
        }
        let LogWriter::Thread { sender, dropped } = lines.way else {
            unreachable!("it is queued");
        };
        let began = Instant::now();
        assert!(!flush_through(&sender), "nothing reads");
        assert!(began.elapsed() < 2 * LAST_LINES);
        drop(sender);
        let mut written = Vec::new();
        write_lines(
            &receiver,
            &dropped,
            |count| format!("{count} missing\n"),
            &mut written,
        );
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, "line 0\n3 missing\nline 1\n");
    }

    #[test]
    fn what_was_said_is_written_when_the_flush_ends() {
        let (lines, receiver) = LineQueue::queued(8);
        let LogWriter::Thread { sender, dropped } = lines.way.clone() else {
            unreachable!("it is queued");
        };
        let thread = std::thread::spawn(move || {
            let mut written = Vec::new();
            write_lines(&receiver, &dropped, |_| String::new(), &mut written);
            written
        });
        drop(lines.make_writer());
        writeln!(lines.make_writer(), "last").unwrap();
        assert!(flush_through(&sender));
        drop((sender, lines));
        assert_eq!(thread.join().unwrap(), b"last\n");
    }
}
