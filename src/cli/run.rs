//! `handout run`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use handout::clock;
use handout::config::{Config, Environment, QueueKind};
use handout::error::RetryLimits;
use handout::telemetry::notify::{self, Pulse};
use handout::telemetry::{self, http::Health};
use handout::tools::{self, Serving};
use handout::worker::{Ended, Pace, Worker};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::exit;

/// How long a receive waits: an SQS poll that is under way at a signal is waited for, so not the full 20 s.
const SQS_POLL: Duration = Duration::from_secs(10);
const SQLITE_POLL: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT; a second signal does not wait for what is in flight.
pub(super) async fn run(config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    // Before anything is opened, so that a signal during the start is not lost.
    let mut signals = Signals::listen()?;
    let opened = tools::open(config, environment, clock::system, Serving::Links).await?;
    let listener = telemetry::http::bind(config.http.listen)
        .await
        .with_context(|| format!("could not listen on {} (http.listen)", config.http.listen))?;
    let pulse = Pulse::of(opened.tools.progress.clone());
    let audit = opened.tools.books.audit.watch();
    let health = Health {
        progress: opened.tools.progress.clone(),
        pulse: pulse.clone(),
        audit: audit.clone(),
    };
    let worker = Worker::new(
        Arc::clone(&opened.queue),
        opened.tools.clone(),
        opened.rules.clone(),
        pace(config),
        clock::system,
    );
    announce(config, listener.local_addr().ok());
    notify::ready();
    let (told, first) = oneshot::channel::<()>();
    let first = async { drop(first.await) };
    let both = async {
        signals.next().await;
        notify::stopping();
        drop(told);
        signals.next().await;
    };
    let ended = {
        let work = worker.run(first);
        let beside = async {
            tokio::join!(
                telemetry::http::serve(listener, health),
                notify::feed_watchdog(pulse)
            )
        };
        tokio::select! {
            ended = work => ended,
            () = both => {
                tracing::warn!("a second signal: not waiting for what is in flight");
                Ended::Drained
            }
            _ = beside => unreachable!("neither answers end"),
        }
    };
    opened.close().await;
    if let Some(failure) = audit.failure() {
        return Ok(exit::audit_code(failure).into());
    }
    match ended {
        Ended::Drained => {
            tracing::info!("everything came to its end");
            Ok(ExitCode::SUCCESS)
        }
        Ended::DiskFailed => Ok(exit::DISK.into()),
    }
}

/// How the worker works, as the configuration says.
pub(super) const fn pace(config: &Config) -> Pace {
    Pace {
        max_in_flight: config.queue.max_in_flight,
        visibility_timeout: config.queue.visibility_timeout.as_duration(),
        poll: match config.queue.kind {
            QueueKind::Sqs => SQS_POLL,
            QueueKind::Sqlite => SQLITE_POLL,
        },
        grace_period: config.queue.grace_period.as_duration(),
        limits: RetryLimits {
            max_receives: config.queue.max_receives,
            first_wait: Duration::from_secs(10),
            longest_wait: Duration::from_secs(15 * 60),
        },
    }
}

fn announce(config: &Config, http: Option<std::net::SocketAddr>) {
    let queue = match config.queue.kind {
        QueueKind::Sqlite => config.database_file().display().to_string(),
        QueueKind::Sqs => config.queue.url.clone().unwrap_or_default(),
    };
    let embedded = config
        .needs_embedded()
        .then(|| config.embedded.listen.to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        queue,
        embedded,
        http = http.map(tracing::field::display),
        rules = config.allow.len(),
        "ready"
    );
    if config.allow.is_empty() {
        tracing::warn!("no [[allow]] rule: every job will be refused");
    }
}

/// SIGTERM, from a supervisor, and SIGINT, from a terminal, mean the same.
pub(super) struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of either.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
