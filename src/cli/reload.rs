//! Reloads the configuration on SIGHUP while jobs run.

use std::sync::Arc;

use handout::assemble::{Changes, Opened, look_at_files};
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
    portal: Option<&Arc<PortalReload>>,
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
                    schedules: Arc::from(opened.schedules.clone()),
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
    portal: Option<&Arc<PortalReload>>,
) -> anyhow::Result<Changes> {
    let named = arguments.clone();
    let config = aside(environment, move |environment| named.load(environment)).await?;
    if let Some(portal) = portal {
        look_at_files(&config).await;
        let (portal, config) = (Arc::clone(portal), config.clone());
        // Before anything is taken over, since a configuration is valid as a whole or not at all.
        aside(environment, move |environment| {
            Ok(portal.check(&config, environment)?)
        })
        .await?;
    }
    let changes = opened.reload(&config, environment).await?;
    if let Some(portal) = portal {
        let (portal, services) = (Arc::clone(portal), opened.services.clone());
        let reloading =
            move |environment: &_| Ok(portal.reload(&config, &services, environment)?);
        aside(environment, reloading).await?;
    }
    Ok(changes)
}

/// Runs a step that reads files on a blocking thread: a mount that does not respond would hold up jobs, readers and signals.
async fn aside<T: Send + 'static>(
    environment: &Environment,
    step: impl FnOnce(&Environment) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let environment = environment.clone();
    tokio::task::spawn_blocking(move || step(&environment)).await?
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
