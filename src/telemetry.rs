//! What the operator sees of a running program: log lines, metrics, health, and notifications to systemd.
//!
//! A line's message is for people, its fields are for queries. No line contains a URL, an address, a body or a credential: jobs,
//! keys, counts and masked addresses identify what happened.

pub mod http;
mod lines;
pub mod metrics;
pub mod notify;
#[cfg(feature = "otlp")]
pub mod otlp;
mod stderr;

use std::io::{self, IsTerminal, Write};

use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{JsonFields, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::lines::LogLineFormat;
use self::stderr::{LineQueue, stderr};
pub use self::stderr::{flush, last_line};
use crate::bounds::MAX_LOG_FIELD_BYTES;
use crate::config::Config;
use crate::config::overrides::LOG;
use crate::config_error::ConfigError;
use crate::environment::Environment;
#[cfg(feature = "otlp")]
use crate::spans::{SpanLayer, recorder};
use crate::text::{printable, printable_json};

/// These libraries log requests, including URLs, at their debug level.
const LIBRARIES: [&str; 7] = [
    "aws_config",
    "aws_runtime",
    "aws_sdk_s3",
    "aws_sdk_sqs",
    "aws_smithy_runtime",
    "hyper",
    "hyper_util",
];

/// Libraries that are always silent: their log lines contain signatures.
const SILENT: &str = "aws_sigv4=off,s3s=off";

/// It warns of each connection that fails in a way that it does not know. The edge logs the outage, once.
const OF_EDGES: &str = "aws_smithy_http_client=error";

/// The default level on stderr, unless `HANDOUT_LOG` sets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// The result of each job, for a daemon.
    Jobs,
    /// Warnings only, for a command whose results are on stdout.
    Warnings,
}

/// Formats the fields of a line that is not JSON. Values are printable and bounded, so that none can forge a line.
fn printable_fields() -> impl for<'writer> tracing_subscriber::fmt::FormatFields<'writer> + 'static
{
    debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        let value = printable(&value, MAX_LOG_FIELD_BYTES);
        match field.name() {
            "message" => write!(writer, "{value}"),
            name => write!(writer, "{name}={value}"),
        }
    })
    .delimited(" ")
}

/// Writes lines of JSON without control characters.
struct JsonLines<W>(W);

impl<W: Write> Write for JsonLines<W> {
    /// Receives a whole line from the subscriber.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(printable_json(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The line that reports dropped lines, in the format of the others.
fn missing_lines(count: u64, is_json: bool) -> String {
    let now = crate::clock::system();
    let message = format!("{count} lines of this log are missing: stderr was not read in time");
    match is_json {
        true => {
            let line = serde_json::json!({
                "timestamp": now.to_string(), "level": "WARN", "message": message, "lines": count
            });
            format!("{line}\n")
        }
        false => format!("{now}  WARN {message}\n"),
    }
}

/// Writes log lines to stderr: as text on a terminal, as JSON elsewhere. `HANDOUT_LOG` filters. A thread writes the daemon's
/// lines, see [`flush`].
pub fn start_logging(environment: &Environment, verbosity: Verbosity) {
    let wanted = environment.get(LOG);
    let (level, of_libraries) = match verbosity {
        Verbosity::Jobs => ("info", "warn"),
        Verbosity::Warnings if wanted.is_some() => ("warn", "warn"),
        // A command ends with an error message of its own, which includes the library's.
        Verbosity::Warnings => ("warn", "error"),
    };
    let libraries = LIBRARIES.map(|library| format!("{library}={of_libraries}"));
    let libraries = format!("{},{OF_EDGES},{SILENT}", libraries.join(","));
    // The libraries' directives come last and cannot be overridden: a request's URL must not be in a log at any level.
    let filter = EnvFilter::try_new(format!("{},{libraries}", wanted.unwrap_or(level)))
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},{libraries}")));
    let is_json = !stderr().is_terminal();
    let written = match verbosity {
        Verbosity::Jobs if is_json => LineQueue::of_thread(|count| missing_lines(count, true)),
        Verbosity::Jobs => LineQueue::of_thread(|count| missing_lines(count, false)),
        Verbosity::Warnings => LineQueue::direct(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    // Their own errors would be reported on stderr, by a macro that panics when that fails.
    let started = if !is_json {
        let lines = tracing_subscriber::fmt::layer()
            .fmt_fields(printable_fields())
            .event_format(LogLineFormat::Text)
            .with_writer(written)
            .log_internal_errors(false);
        let registry = registry.with(lines);
        #[cfg(feature = "otlp")]
        let registry = registry.with(SpanLayer::new(recorder()));
        registry.try_init()
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(LogLineFormat::Json)
            .with_writer(move || JsonLines(written.make_writer()))
            .log_internal_errors(false);
        let registry = registry.with(lines);
        #[cfg(feature = "otlp")]
        let registry = registry.with(SpanLayer::new(recorder()));
        registry.try_init()
    };
    // If another subscriber is installed already, such as a test's, nothing is started.
    if started.is_ok() && verbosity == Verbosity::Jobs {
        // The default hook writes to stderr directly, and could block there for ever.
        std::panic::set_hook(Box::new(
            |panic| tracing::error!(%panic, "a thread panicked"),
        ));
    }
}

/// The way of finished spans out of the process: to the receiver of `[traces]`, or nowhere.
#[derive(Debug)]
pub struct SpansOut {
    #[cfg(feature = "otlp")]
    exporter: Option<otlp::SpanExporter>,
}

impl SpansOut {
    /// Begins to record spans, if the configuration or the environment names a receiver and the program has the feature `otlp`.
    ///
    /// # Errors
    /// The key or the variable with a wrong value.
    #[cfg_attr(
        not(feature = "otlp"),
        expect(unused_variables, reason = "there is no exporter")
    )]
    pub fn open(config: &Config, environment: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            #[cfg(feature = "otlp")]
            exporter: otlp::SpanExporter::open(&config.traces, environment)?,
        })
    }

    /// Sends spans until `stop`, and then those that are left, for at most a second.
    pub async fn run(self, stop: CancellationToken) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter {
            return exporter.run(stop).await;
        }
        stop.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;
    use crate::text::is_printable;

    /// Stores the written lines.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// Characters that affect a terminal, a line, or a parser of lines.
    const HOSTILE: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{7f}\r\nERROR forged\u{202e}\u{2028}\u{feff}";

    fn log() {
        tracing::error!(key = %HOSTILE, text = HOSTILE, ?HOSTILE, "{HOSTILE}");
    }

    #[test]
    fn a_hostile_field_is_one_printable_line_of_text() {
        let kept = Kept::default();
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .fmt_fields(printable_fields())
            .event_format(LogLineFormat::Text)
            .with_writer(kept.clone());
        tracing::subscriber::with_default(lines.finish(), log);
        let text = kept.text();
        let line = text.strip_suffix('\n').unwrap();
        assert!(line.chars().all(is_printable), "{line:?}");
        assert!(line.contains("forged"));
    }

    #[test]
    fn a_hostile_field_is_one_printable_line_of_json() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(LogLineFormat::Json)
            .with_writer(move || JsonLines(writer.clone()));
        tracing::subscriber::with_default(lines.finish(), log);
        let text = kept.text();
        let line = text.strip_suffix('\n').unwrap();
        assert!(line.chars().all(is_printable), "{line:?}");
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(read["key"], HOSTILE);
    }

    #[test]
    fn a_field_of_a_megabyte_is_cut() {
        let kept = Kept::default();
        let lines = tracing_subscriber::fmt()
            .fmt_fields(printable_fields())
            .with_writer(kept.clone());
        tracing::subscriber::with_default(lines.finish(), || {
            tracing::warn!(key = %"k".repeat(1 << 20), "long");
        });
        assert!(kept.text().len() < 2 * MAX_LOG_FIELD_BYTES);
    }
}
