//! The intake beside the worker of `handout run`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use handout::assemble::Opened;
use handout::config::{Config, ConfigError};
use handout::intake::{IntakeCounts, IntakeServer};
use handout::telemetry::http::Health;
use handout::text::chain;
use handout::worker::Renewed;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::run::retried;

/// How long a stop waits for answers that are being read, after the grace period.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The intake with its listener, before it is served.
pub(super) struct BoundIntake {
    server: IntakeServer,
    listener: std::net::TcpListener,
}

impl BoundIntake {
    /// The intake of a configuration with `intake.listen`; `None` without. An error that may pass is retried, such as a token on a
    /// mount that does not respond.
    pub(super) async fn bind_in_time(
        config: &Config,
        opened: &Opened,
        renewed: &watch::Receiver<Option<Renewed>>,
        health: &Health,
    ) -> anyhow::Result<Option<Self>> {
        let Some(listen) = config.intake.listen else {
            return Ok(None);
        };
        let may_pass = |error: &anyhow::Error| {
            let is_late = matches!(error.downcast_ref(), Some(ConfigError::Late { .. }));
            is_late.then(|| chain(&**error))
        };
        let binding = async || {
            let (config, queue) = (config.clone(), Arc::clone(&opened.queue));
            let (services, rules) = (opened.services.clone(), opened.rules.clone());
            let renewed = renewed.clone();
            // It reads files, which may be on a mount that does not respond.
            let binding = move || {
                let server = IntakeServer::new(&config, queue, &services, &rules, renewed)?;
                let listener = handout::serving::bind(listen)
                    .with_context(|| format!("could not listen on {listen}; end the program that uses the address, or name another in intake.listen"))?;
                Ok(Some(Self { server, listener }))
            };
            tokio::task::spawn_blocking(binding).await?
        };
        retried(health, may_pass, binding).await
    }

    pub(super) fn counts(&self) -> IntakeCounts {
        self.server.counts()
    }

    /// Serves until `stop`, refuses requests until `drained`, and ends after those that are being answered, or somewhat later than
    /// `grace` after `drained`.
    pub(super) async fn serve(
        self,
        stop: CancellationToken,
        drained: CancellationToken,
        grace: Duration,
    ) {
        let listen = self.listener.local_addr().ok().map(tracing::field::display);
        tracing::info!(listen, "the intake is open");
        let late = async {
            drained.cancelled().await;
            tokio::time::sleep(grace + LAST_ANSWERS).await;
        };
        let serving = self.server.serve(self.listener, stop, drained.clone());
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::error!(%error, "the intake could not be served");
            },
            () = late => tracing::warn!("the intake does not wait longer for readers of its answers"),
        }
    }
}
