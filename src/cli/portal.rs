//! `handout portal`: the portal alone; and the portal beside the worker of `handout run`.

use std::process::ExitCode;

use anyhow::Context;
use handout::assemble::Services;
use handout::config::Config;
use handout::environment::Environment;
use handout::portal::{PortalCounts, PortalReload, PortalServer};
use handout::telemetry;
use handout::telemetry::http::{Health, Vitals};
use handout::telemetry::notify;
use handout::text::chain;
use handout::worker::probe::probe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::reload::reload_when_told;
use super::run::start;
use super::supervision::Beside;
use super::{ConfigArgs, exit};

/// A portal with its listener, before it is served.
pub(super) struct BoundPortal {
    server: PortalServer,
    listener: std::net::TcpListener,
}

impl BoundPortal {
    /// The portal of a configuration with `portal.listen`; `None` without.
    pub(super) fn bind(
        config: &Config,
        services: &Services,
        environment: &Environment,
    ) -> anyhow::Result<Option<Self>> {
        let Some(listen) = config.portal.listen else {
            return Ok(None);
        };
        let server = PortalServer::new(config, services, environment)?;
        let listener = handout::portal::bind(listen)
            .with_context(|| format!("could not listen on {listen}; end the program that uses the address, or name another in portal.listen"))?;
        Ok(Some(Self { server, listener }))
    }

    pub(super) fn counts(&self) -> PortalCounts {
        self.server.counts()
    }

    pub(super) fn reloads(&self) -> PortalReload {
        self.server.reloads()
    }

    /// Serves until `stop`, and ends after the requests that are being answered.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let listen = self.listener.local_addr().ok().map(tracing::field::display);
        tracing::info!(listen, "the portal is open");
        if let Err(error) = self.server.serve(self.listener, stop).await {
            tracing::error!(%error, "the portal could not be served");
        }
    }
}

/// Runs until SIGTERM or SIGINT; a second signal does not wait for requests that are being answered. SIGHUP reloads the
/// configuration.
pub(super) async fn portal(
    arguments: &ConfigArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = &arguments.load(environment)?;
    config
        .portal
        .listen
        .context("portal.listen is not set: name the address that the portal listens on, such as \"127.0.0.1:9480\"")?;
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
    let Some(bound) = BoundPortal::bind(config, &opened.services, environment)? else {
        anyhow::bail!("portal.listen is not set");
    };
    let audit = opened.services.recording.audit.watch();
    health.runs(Vitals {
        progress: opened.services.progress.clone(),
        pulse: None,
        audit: audit.clone(),
        edges: opened.services.edges.clone(),
        portal: Some(bound.counts()),
    });
    let stop = CancellationToken::new();
    let (renew, mut renewed) = watch::channel(None);
    let (reloads, portal_reloads) = (beside.reloads(), bound.reloads());
    let first = opened.services.clone();
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
    let serving = bound.serve(stop.clone());
    let told = async {
        beside.told(1).await;
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
    }
    // The log closes when its last handle is gone.
    drop((first, renew, renewed, portal_reloads));
    opened.close().await;
    if let Some(failure) = audit.failure().filter(|failure| !failure.lacks_end()) {
        tracing::error!(error = chain(failure), "the audit log failed");
        return Ok(exit::audit_code(failure).into());
    }
    tracing::info!("shutdown complete");
    Ok(ExitCode::SUCCESS)
}
