//! The portal of the demo: short links that are signed when they are opened, one behind a code by mail, one revoked.

use anyhow::Context;
use handout::assemble::Services;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::job::JobId;
use handout::ledger::portal::{ChangeKind, ChangeTarget, LinkChange, PortalLedger};
use handout::portal::PortalServer;
use handout::serving::bind;
use tokio_util::sync::CancellationToken;

/// Revokes the links of a job, as `handout revoke job` does.
pub(super) async fn revoke(services: &Services, job: &JobId) -> anyhow::Result<()> {
    let records = services.recording.ledger.portal_records();
    let ledger = PortalLedger::new(records, &services.signing.keyring);
    let now = clock::system();
    let change = LinkChange {
        kind: ChangeKind::Revoked,
        target: ChangeTarget::Job { job: job.clone() },
        by: "demo".to_owned(),
        why: Some("to show what a reader sees".to_owned()),
        refs: Vec::new(),
        at: now,
        nonce: format!("demo-{}", now.as_nanosecond()),
    };
    ledger.add_change(0, &change).await?;
    Ok(())
}

/// Serves the portal until `stop`.
pub(super) async fn serve(
    config: &Config,
    services: &Services,
    environment: &Environment,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listen = config.portal.listen.context("the demo has a portal")?;
    let server = PortalServer::new(config, services, environment)?;
    let listener =
        bind(listen).with_context(|| format!("could not listen on {listen}; end the program that uses the address, or name another in portal.listen"))?;
    Ok(server.serve(listener, stop).await?)
}
