//! Reloads the configuration on SIGHUP while jobs run.

use std::sync::Arc;

use handout::assemble::{Changes, Opened};
use handout::config::Config;
use handout::environment::Environment;
use handout::portal::PortalReload;
use handout::telemetry::notify;
use handout::text::chain;
use handout::worker::Renewed;
use tokio::sync::watch;

use super::ConfigArgs;

/// Reloads the configuration for each change of `told`, while it is polled. Messages that start later use the new configuration;
/// an invalid one changes nothing.
pub(super) async fn reload_when_told(
    arguments: &ConfigArgs,
    environment: &Environment,
    opened: &mut Opened,
    mut told: watch::Receiver<u32>,
    renew: &watch::Sender<Option<Renewed>>,
    portal: Option<&PortalReload>,
) {
    // A signal during the start counts: the file may have changed after it was read.
    let mut seen = 0;
    loop {
        match told.wait_for(|count| *count > seen).await {
            Ok(count) => seen = *count,
            // The thread that listens for signals has ended.
            Err(_) => return std::future::pending().await,
        }
        // Until the first poll is answered, the supervisor still waits for the start.
        let is_ready = opened.services.progress.snapshot().polls > 0 || portal.is_some();
        if is_ready {
            notify::reloading();
        }
        match Box::pin(reload(arguments, environment, opened, portal)).await {
            Ok(changes) => {
                tell(&changes);
                renew.send_replace(Some(Renewed {
                    services: opened.services.clone(),
                    rules: Arc::from(opened.rules.clone()),
                }));
            }
            Err(error) => tracing::error!(
                error = chain(&*error),
                "could not reload the configuration; the previous one stays in use"
            ),
        }
        if is_ready {
            notify::reloaded();
        }
    }
}

async fn reload(
    arguments: &ConfigArgs,
    environment: &Environment,
    opened: &mut Opened,
    portal: Option<&PortalReload>,
) -> anyhow::Result<Changes> {
    let config: Config = arguments.load(environment)?;
    if let Some(portal) = portal {
        // Before anything is taken over, since a configuration is valid as a whole or not at all.
        portal.check(&config, environment)?;
    }
    let changes = opened.reload(&config, environment).await?;
    if let Some(portal) = portal {
        portal.reload(&config, &opened.services, environment)?;
    }
    Ok(changes)
}

fn tell(changes: &Changes) {
    let Changes {
        taken_over,
        needs_restart,
        ..
    } = changes;
    if !needs_restart.is_empty() {
        tracing::warn!(
            keys = needs_restart.join(", "),
            "these configuration changes need a restart"
        );
    }
    match taken_over.is_empty() {
        true => tracing::info!("configuration reloaded; no changes applied"),
        false => tracing::info!(
            keys = taken_over.join(", "),
            "configuration reloaded; new jobs use it"
        ),
    }
}
