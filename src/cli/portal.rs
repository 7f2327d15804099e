//! `handout portal`: the portal alone; and the portal beside the worker of `handout run`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use handout::assemble::Services;
use handout::audit::retention::RetentionCounts;
use handout::config::{Config, ConfigError};
use handout::environment::Environment;
use handout::portal::{PortalCounts, PortalReload, PortalServer};
use handout::spans::SpanCounts;
use handout::telemetry;
use handout::telemetry::http::{Health, Vitals};
use handout::telemetry::notify;
use handout::text::chain;
use handout::worker::probe::probe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::reload::reload_when_told;
use super::run::{keep_audit, retried, start};
use super::supervision::Beside;
use super::{ConfigArgs, exit};

/// How long a stop waits for answers that are being read, after the grace period.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A portal with its listener, before it is served.
pub(super) struct BoundPortal {
    server: PortalServer,
    listener: std::net::TcpListener,
}

impl BoundPortal {
    /// The portal of a configuration with `portal.listen`; `None` without. An error that may pass is retried, such as a
    /// certificate on a mount that does not respond.
    pub(super) async fn bind_in_time(
        config: &Config,
        services: &Services,
        environment: &Environment,
        health: &Health,
    ) -> anyhow::Result<Option<Self>> {
        let may_pass = |error: &anyhow::Error| {
            let is_late = matches!(error.downcast_ref(), Some(ConfigError::Late { .. }));
            is_late.then(|| chain(&**error))
        };
        let binding = async || {
            let (config, services) = (config.clone(), services.clone());
            let environment = environment.clone();
            // It reads files, which may be on a mount that does not respond.
            let binding = move || Self::bind(&config, &services, &environment);
            tokio::task::spawn_blocking(binding).await?
        };
        retried(health, may_pass, binding).await
    }

    fn bind(
        config: &Config,
        services: &Services,
        environment: &Environment,
    ) -> anyhow::Result<Option<Self>> {
        let Some(listen) = config.portal.listen else {
            return Ok(None);
        };
        let server = PortalServer::new(config, services, environment)?;
        let listener = handout::serving::bind(listen)
            .with_context(|| format!("could not listen on {listen}; end the program that uses the address, or name another in portal.listen"))?;
        Ok(Some(Self { server, listener }))
    }

    pub(super) fn counts(&self) -> PortalCounts {
        self.server.counts()
    }

    pub(super) fn reloads(&self) -> Arc<PortalReload> {
        Arc::new(self.server.reloads())
    }

    /// Serves until `stop`, and ends after the requests that are being answered, or somewhat later than `grace` after `stop`.
    pub(super) async fn serve(self, stop: CancellationToken, grace: Duration) {
        let listen = self.listener.local_addr().ok().map(tracing::field::display);
        let connections = self.counts().most_connections();
        tracing::info!(listen, connections, "the portal is open");
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(grace + LAST_ANSWERS).await;
        };
        let serving = self.server.serve(self.listener, stop.clone());
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::error!(%error, "the portal could not be served");
            },
            () = late => tracing::warn!("the portal does not wait longer for readers of its answers"),
        }
    }
}

/// A restart does not mend it, so that it is an error of the configuration.
fn without_listen() -> exit::CommandError {
    exit::CommandError::Config(
        "portal.listen is not set: name the address that the portal listens on, such as \"127.0.0.1:9480\"".to_owned(),
    )
}

/// Runs until SIGTERM or SIGINT; a second signal does not wait for requests that are being answered. SIGHUP reloads the
/// configuration.
pub(super) async fn portal(
    arguments: &ConfigArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = &arguments.load(environment)?;
    if config.portal.listen.is_none() {
        return Err(without_listen().into());
    }
    let health = Health::default();
    let listen = config.http.listen;
    let listener = telemetry::http::bind(listen)
        .with_context(|| format!("could not listen on {listen}; end the program that uses the address, or name another in http.listen"))?;
    let grace = config.queue.grace_period.as_duration();
    let mut beside = Beside::start(Some(listener), health.clone(), grace)?;
    let mut opened = tokio::select! {
        opened = Box::pin(start(config, environment, &health)) => opened?,
        () = beside.told(1) => {
            tracing::info!("shutdown requested during the start");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let services = opened.services.clone();
    let binding = BoundPortal::bind_in_time(config, &services, environment, &health);
    let bound = tokio::select! {
        bound = Box::pin(binding) => bound?,
        () = beside.told(1) => {
            tracing::info!("shutdown requested during the start");
            drop(services);
            opened.close().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let Some(bound) = bound else {
        return Err(without_listen().into());
    };
    let audit = opened.services.recording.audit.watch();
    let database = opened.database.clone();
    let retention_counts = RetentionCounts::default();
    health.runs(Vitals {
        progress: opened.services.progress.clone(),
        pulse: None,
        audit: audit.clone(),
        database: database.watch(),
        edges: opened.services.edges.clone(),
        portal: Some(bound.counts()),
        schedules: None,
        intake: None,
        retention: opened.retention.as_ref().map(|_| retention_counts.clone()),
        feedback: None,
        spans: SpanCounts::default(),
    });
    let retaining = keep_audit(opened.retention.take(), retention_counts);
    let stop = CancellationToken::new();
    let (renew, mut renewed) = watch::channel(None);
    let (reloads, portal_reloads) = (beside.reloads(), bound.reloads());
    let first = services;
    let probing = async {
        loop {
            let services = renewed.borrow_and_update().clone();
            let services = services.map_or_else(
                || first.clone(),
                |renewed: handout::worker::Renewed| renewed.services,
            );
            tokio::select! {
                () = probe(&services) => {}
                changed = renewed.changed() => changed.expect("the sender lives as long as the portal"),
            }
        }
    };
    let serving = bound.serve(stop.clone(), grace);
    // No link opens without the audit log and its records: their failure stops the portal as a signal does.
    let told = async {
        tokio::select! {
            () = beside.told(1) => {}
            () = audit.failed() => {}
            error = database.replaced() => tracing::error!(%error, "the database has failed; no more links are opened"),
        }
        notify::stopping();
        stop.cancel();
        beside.told(2).await;
    };
    notify::ready();
    let reloading = reload_when_told(
        arguments,
        environment,
        &mut opened,
        reloads,
        &renew,
        Some(&portal_reloads),
    );
    tokio::select! {
        () = serving => {}
        () = told => tracing::warn!("second signal; not waiting for requests that are being answered"),
        () = reloading => unreachable!("it does not end"),
        () = probing => unreachable!("it does not end"),
        () = Box::pin(retaining) => unreachable!("it does not end"),
    }
    let has_failed = audit.failure().is_some();
    // The log closes when its last handle is gone.
    drop((first, renew, renewed, portal_reloads));
    opened.close().await;
    // A missing end of the stream is written by the next start; it is no failure of the portal.
    let failure = audit.failure();
    if let Some(failure) = failure.filter(|failure| has_failed || !failure.lacks_end()) {
        tracing::error!(error = chain(failure), "the audit log failed");
        return Ok(exit::audit_code(failure).into());
    }
    if let Some(error) = database.watch().failure() {
        return Ok(exit::database_code(&error).into());
    }
    tracing::info!("shutdown complete");
    Ok(ExitCode::SUCCESS)
}
