//! What the operator sees of a running program: log lines, numbers, health, and systemd's notices.
//!
//! A line is for a person, its fields are for queries. No line holds a URL, an address, a body or a credential:
//! jobs, keys, counts and masked addresses say enough.

pub mod http;
pub mod metrics;
pub mod notify;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::Environment;
use crate::config::load::LOG;

/// The libraries below log requests, and with them URLs, at their debug level.
const LIBRARIES: [&str; 7] = [
    "aws_config",
    "aws_runtime",
    "aws_sdk_s3",
    "aws_sdk_sqs",
    "aws_smithy_runtime",
    "hyper",
    "hyper_util",
];

/// Libraries that say nothing, whatever is wanted: what they log has signatures in it.
const SILENT: &str = "aws_sigv4=off,s3s=off";

/// How much is told on stderr where `HANDOUT_LOG` does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// What each job came to: a daemon's.
    Jobs,
    /// What somebody should know: a command's, whose results are on stdout.
    Warnings,
}

/// Writes log lines to stderr: for people on a terminal, as JSON elsewhere. `HANDOUT_LOG` filters.
pub fn start_logging(environment: &Environment, verbosity: Verbosity) {
    let wanted = environment.get(LOG);
    let (level, of_libraries) = match verbosity {
        Verbosity::Jobs => ("info", "warn"),
        Verbosity::Warnings if wanted.is_some() => ("warn", "warn"),
        // A command ends with a sentence of its own, which has the library's words in it.
        Verbosity::Warnings => ("warn", "error"),
    };
    let libraries = LIBRARIES.map(|library| format!("{library}={of_libraries}"));
    let libraries = format!("{},{SILENT}", libraries.join(","));
    // The libraries' directives come last, whatever is wanted: a request's URL must not be in a log at any level.
    let filter = EnvFilter::try_new(format!("{},{libraries}", wanted.unwrap_or(level)))
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},{libraries}")));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let started = if std::io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_target(false)
            .try_init()
    };
    // Somebody, a test perhaps, listens already: then there is nothing to start.
    drop(started);
}
