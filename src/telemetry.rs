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

/// What is logged where nobody says it. The libraries below log requests, and with them URLs, at their debug level.
const LIBRARIES: &str = "aws_config=warn,aws_runtime=warn,aws_sdk_s3=warn,aws_sdk_sqs=warn,aws_sigv4=off,aws_smithy_runtime=warn,hyper=warn,hyper_util=warn,s3s=off";

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
    let level = match verbosity {
        Verbosity::Jobs => "info",
        Verbosity::Warnings => "warn",
    };
    // The libraries' directives come last, whatever is wanted: a request's URL must not be in a log at any level.
    let wanted = format!("{},{LIBRARIES}", environment.get(LOG).unwrap_or(level));
    let filter = EnvFilter::try_new(wanted)
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},{LIBRARIES}")));
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
