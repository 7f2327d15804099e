//! `handout run`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use handout::assemble;
use handout::assemble::{OpenError, Opened, Services, Serving};
use handout::audit::retention::{Retention, RetentionCounts, RetentionSettings};
use handout::clock;
use handout::config::{Config, QueueKind};
use handout::edge::health::EdgeKind;
use handout::environment::Environment;
use handout::error::RetryLimits;
use handout::feedback_intake::{CommandReports, FeedbackCounts, FeedbackRecorder, FeedbackWorker};
use handout::queue::Queue;
use handout::scheduler::{ScheduleCounts, Scheduler};
use handout::spans;
use handout::telemetry;
use handout::telemetry::SpansOut;
use handout::telemetry::http::{Health, Vitals};
use handout::telemetry::notify::{self, Pulse};
use handout::text::chain;
use handout::worker::probe::probe;
use handout::worker::{Ended, Renewed, Worker, WorkerOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::intake::BoundIntake;
use super::portal::BoundPortal;
use super::reload::reload_when_told;
use super::supervision::Beside;
use super::{ConfigArgs, exit};

/// The duration of a receive: a shutdown waits for a running SQS poll, so it is shorter than the maximum of 20 s.
const SQS_POLL: Duration = Duration::from_secs(10);
const SQLITE_POLL: Duration = Duration::from_secs(1);

/// The pause before the start is retried: the initial and the maximum value.
const INITIAL_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How long the end after a failure of the audit log may take beyond the grace period: longer than the worker and the portal take.
const LAST_WORK: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT; a second signal skips waiting for jobs in flight. SIGHUP reloads the configuration.
pub(super) async fn run(
    arguments: &ConfigArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = &arguments.load(environment)?;
    let health = Health::default();
    let (listener, taken) = match telemetry::http::bind(config.http.listen) {
        Ok(listener) => (Some(listener), None),
        Err(error) => (None, Some(error)),
    };
    let http = listener
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    // Before anything is opened, so that a signal during the start is not lost.
    let grace = config.queue.grace_period.as_duration();
    let mut beside = Beside::start(listener, health.clone(), grace)?;
    let starting = async {
        let Some(taken) = taken else {
            return Ok(start(config, environment, &health).await?);
        };
        // Another handout in the same directory also holds the port, and the directory's error is more helpful.
        assemble::open(config, environment, clock::system, Serving::Itself).await?;
        let listen = config.http.listen;
        Err(taken).with_context(|| format!("could not listen on {listen}; end the program that uses the address, or name another in http.listen"))
    };
    let mut opened = tokio::select! {
        opened = Box::pin(starting) => opened?,
        () = beside.told(1) => {
            tracing::info!("shutdown requested during the start");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let services = opened.services.clone();
    let pulse = Pulse::of(services.progress.clone());
    let audit = services.recording.audit.watch();
    let database = opened.database.clone();
    let binding = BoundPortal::bind_in_time(config, &services, environment, &health);
    let portal = tokio::select! {
        portal = Box::pin(binding) => portal?,
        () = beside.told(1) => {
            tracing::info!("shutdown requested during the start");
            drop(services);
            opened.close().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let portal_reloads = portal.as_ref().map(BoundPortal::reloads);
    let (renew, renewed) = watch::channel(None);
    let binding = BoundIntake::bind_in_time(config, &opened, &renewed, &health);
    let intake = tokio::select! {
        intake = Box::pin(binding) => intake?,
        () = beside.told(1) => {
            tracing::info!("shutdown requested during the start");
            drop((services, portal, portal_reloads));
            opened.close().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let feedback_counts = FeedbackCounts::default();
    let feedback = assemble::feedback_queue(config, environment).await?;
    let feedback = feedback.map(|(queue, url)| {
        let recorder = FeedbackRecorder::new(&services);
        let counts = feedback_counts.clone();
        FeedbackWorker::new(Arc::new(queue), &url, recorder, counts, clock::system)
    });
    if let Some(feedback) = &feedback {
        let edge = std::iter::once(feedback.edge());
        services.edges.exchange_kind(EdgeKind::Feedback, edge);
    }
    let command_reports = CommandReports::of(&services, feedback_counts.clone());
    let takes_feedback = feedback.is_some() || command_reports.is_some();
    let schedule_counts = ScheduleCounts::default();
    let scheduler = Scheduler::new(
        &opened.schedules,
        Arc::clone(&opened.queue),
        &services,
        schedule_counts.clone(),
    );
    let retention_counts = RetentionCounts::default();
    health.runs(Vitals {
        progress: services.progress.clone(),
        pulse: Some(pulse.clone()),
        audit: audit.clone(),
        database: database.watch(),
        edges: services.edges.clone(),
        portal: portal.as_ref().map(BoundPortal::counts),
        schedules: Some(schedule_counts.clone()),
        intake: intake.as_ref().map(BoundIntake::counts),
        retention: opened.retention.as_ref().map(|_| retention_counts.clone()),
        feedback: takes_feedback.then_some(feedback_counts),
        spans: spans::counts(),
    });
    let spans_stop = CancellationToken::new();
    let sending_spans = SpansOut::open(config, environment)?.run(spans_stop.clone());
    let mut sending_spans = Box::pin(sending_spans);
    let worker = Worker::new(
        Arc::clone(&opened.queue),
        services.clone(),
        opened.rules.clone(),
        options(config),
        clock::system,
    );
    let worker = worker.renewed_by(renewed.clone());
    let retaining = keep_audit(opened.retention.take(), retention_counts);
    let reloads = beside.reloads();
    let queue = Arc::clone(&opened.queue);
    announce(config, http);
    let (told, first) = oneshot::channel::<()>();
    let first = async { drop(first.await) };
    let portal_stop = CancellationToken::new();
    let drained = CancellationToken::new();
    // Nothing can be handed out without the audit log and the ledger: their failure stops the work as a signal does.
    let both = async {
        tokio::select! {
            () = beside.told(1) => {}
            () = audit.failed() => {}
            error = database.replaced() => tracing::error!(%error, "the database has failed; no more messages are received"),
        }
        notify::stopping();
        portal_stop.cancel();
        drop(told);
        beside.told(2).await;
    };
    let failed_late = async {
        tokio::select! {
            () = audit.failed() => {}
            _ = database.replaced() => {}
        }
        tokio::time::sleep(grace + LAST_WORK).await;
    };
    let ended = {
        // A portal whose worker ends because the disk failed ends, too.
        let work = async {
            let serving = async {
                if let Some(portal) = portal {
                    portal.serve(portal_stop.clone(), grace).await;
                }
            };
            let taking = async {
                if let Some(intake) = intake {
                    let stop = portal_stop.clone();
                    intake.serve(stop, drained.clone(), grace).await;
                }
            };
            let working = async {
                let ended = worker.run(first).await;
                portal_stop.cancel();
                drained.cancel();
                ended
            };
            let (ended, (), ()) = tokio::join!(working, serving, Box::pin(taking));
            ended
        };
        let feedback_stop = portal_stop.clone();
        let feedback_renewed = renewed.clone();
        let taking_feedback = async {
            match feedback {
                Some(feedback) => feedback.run(feedback_stop, feedback_renewed).await,
                None => std::future::pending().await,
            }
        };
        let counting_reports = async {
            match command_reports {
                Some(reports) => reports.run().await,
                None => std::future::pending().await,
            }
        };
        let meanwhile = async {
            tokio::join!(
                Box::pin(taking_feedback),
                Box::pin(counting_reports),
                reload_when_told(
                    arguments,
                    environment,
                    &mut opened,
                    reloads,
                    &renew,
                    portal_reloads.as_ref()
                ),
                probe_current(&services, renewed.clone()),
                scheduler.run(renewed),
                Box::pin(retaining),
                tell_in_flight(&*queue, config),
                notify::ready_when_polled(&services.progress),
                notify::feed_watchdog(pulse)
            )
        };
        tokio::select! {
            ended = work => ended,
            () = both => {
                tracing::warn!("second signal; not waiting for jobs in flight");
                Ended::Drained
            }
            () = failed_late => {
                tracing::warn!("the audit log or the database has failed; not waiting longer for jobs in flight");
                Ended::DiskFailed
            }
            _ = meanwhile => unreachable!("none of these ends"),
            () = &mut sending_spans => unreachable!("it has not been told to stop"),
        }
    };
    spans_stop.cancel();
    // The log closes when its last handle is gone.
    drop((services, renew, queue, portal_reloads));
    tokio::join!(opened.close(), sending_spans);
    match (audit.failure(), ended) {
        // The work has drained, and the next start completes the audit stream.
        (Some(failure), Ended::Drained) if failure.lacks_end() => {
            tracing::warn!(
                error = chain(failure),
                "could not close the audit log's stream; the next start closes it"
            );
        }
        (Some(failure), _) => return Ok(exit::audit_code(failure).into()),
        (None, _) => {}
    }
    if let Some(error) = database.watch().failure() {
        return Ok(exit::database_code(&error).into());
    }
    match ended {
        Ended::Drained => {
            tracing::info!("shutdown complete");
            Ok(ExitCode::SUCCESS)
        }
        Ended::DiskFailed => Ok(exit::DISK.into()),
    }
}

/// Compresses, archives and removes sealed segments of the audit log, for as long as the future is polled.
pub(super) async fn keep_audit(settings: Option<RetentionSettings>, counts: RetentionCounts) {
    match settings {
        Some(settings) => Retention::new(settings, clock::system, counts).run().await,
        None => std::future::pending().await,
    }
}

/// Probes the edges of the current services.
async fn probe_current(first: &Services, mut renewed: watch::Receiver<Option<Renewed>>) {
    loop {
        let services = renewed.borrow_and_update().clone();
        let services = services.map_or_else(|| first.clone(), |renewed| renewed.services);
        tokio::select! {
            () = probe(&services) => {}
            changed = renewed.changed() => changed.expect("the sender lives as long as the work"),
        }
    }
}

/// Opens everything. Errors that may pass, such as an unreachable store or a full disk, are retried: a supervisor that restarts
/// the program repeatedly would give up, and the program would stay down when the store is back.
pub(super) async fn start(
    config: &Config,
    environment: &Environment,
    health: &Health,
) -> Result<Opened, OpenError> {
    let may_pass = |error: &OpenError| error.may_pass().then(|| chain(error));
    let opening = || {
        let opening = assemble::open(config, environment, clock::system, Serving::Links);
        Box::pin(opening)
    };
    retried(health, may_pass, opening).await
}

/// Retries a step of the start while `may_pass` returns the reason of its error, which `/ready` says meanwhile.
pub(super) async fn retried<T, E, F: Future<Output = Result<T, E>>>(
    health: &Health,
    may_pass: impl Fn(&E) -> Option<String>,
    step: impl Fn() -> F,
) -> Result<T, E> {
    let mut pause = INITIAL_PAUSE;
    let mut is_told = false;
    loop {
        let error = match step().await {
            Err(error) => error,
            done => return done,
        };
        let Some(reason) = may_pass(&error) else {
            return Err(error);
        };
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(error = reason, "the start waits for what it needs");
        }
        health.waits_for(reason);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The worker's options from the configuration.
pub(super) const fn options(config: &Config) -> WorkerOptions {
    WorkerOptions {
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

/// Logs how many messages are hidden at the start, and until when at most: those of a killed process are hidden, and nothing else
/// would explain why no job starts.
async fn tell_in_flight(queue: &dyn Queue, config: &Config) {
    match queue.in_flight().await {
        Ok(None | Some(0)) => {}
        Ok(Some(messages)) => {
            let hidden = config.queue.visibility_timeout;
            let until = clock::system().saturating_add(hidden.as_duration());
            tracing::info!(
                messages,
                until = until.ok().map(tracing::field::display),
                "messages are in flight at other workers, or at a process that died; those of a dead process are visible again by then"
            );
        }
        Err(error) => tracing::debug!(
            error = chain(&error),
            "the number of messages in flight is unknown"
        ),
    }
}

/// SIGTERM, from a supervisor, and SIGINT, from a terminal, mean the same.
pub(super) struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Starts listening.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: None,
        })
    }

    /// The same for a command, which has no configuration to reload: SIGHUP, a closed terminal, ends it too.
    pub(super) fn listen_at_terminal() -> std::io::Result<Self> {
        Ok(Self {
            hangup: Some(signal(SignalKind::hangup())?),
            ..Self::listen()?
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = hangup => {}
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_start_is_retried_while_its_error_may_pass() {
        let health = Health::default();
        let ends_with = async |errors: &[&'static str]| {
            let tries = Cell::new(0);
            let step = async || {
                let error = errors.get(tries.replace(tries.get() + 1));
                error.map_or(Ok(()), |error| Err(*error))
            };
            let may_pass = |error: &&str| (*error == "late").then(|| (*error).to_owned());
            (retried(&health, may_pass, step).await, tries.get())
        };
        assert_eq!(ends_with(&[]).await, (Ok(()), 1));
        assert_eq!(ends_with(&["late", "late"]).await, (Ok(()), 3));
        assert_eq!(ends_with(&["late", "wrong"]).await, (Err("wrong"), 2));
    }
}
