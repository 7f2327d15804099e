//! Probes edges that are down, so that their recovery is noticed within seconds and without a job.
//!
//! Edges that are not used are probed too, so that `/ready` reports their failure before a job needs them, and stores at which a
//! request failed whose key may be the cause.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use crate::assemble::Services;
use crate::deliver::{Mailer, Relay};
use crate::edge::follow_up::{Boxed, TRIAL, ask_until_answered, boxed};
use crate::edge::health::{Edge, Edges};
use crate::job::{Bucket, ConnectionName};
use crate::links::signer::Signer;
use crate::store::ObjectStore;

/// How often each edge is checked for a due probe.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After how long without news an edge is probed.
const QUIET: Duration = Duration::from_secs(8);

/// The same for an edge that denies requests: it may deny all, and may have been repaired.
const QUIET_DENIED: Duration = Duration::from_secs(3);

/// After how long without an answer to a request a store is probed: before it counts as silent.
const DOUBTED_AFTER: Duration = Duration::from_secs(2);

/// The name under which probes use edges.
const NAME: &str = "probe";

/// Probes edges that are down, and edges that are not used while a supervisor asks for their health, for as long as the
/// future is polled. The worker probes the queue (see [`crate::queue::answers`]).
pub async fn probe(services: &Services) {
    let mut watches: Vec<Boxed<'_>> = Vec::new();
    for (name, connection) in services.signing.connections.iter() {
        if let Some((bucket, prefix)) = place_of(name, services) {
            let ask = move || {
                let asked = timeout(TRIAL, connection.s3.probe(bucket, prefix));
                boxed(async { drop(asked.await) })
            };
            let edge = connection.s3.edge();
            let may_be_asked = || is_due(edge, Use::Often, &services.edges) || is_questioned(edge);
            watches.push(boxed(watch(edge, may_be_asked, ask)));
        }
        // Each probe would be a call of STS; credentials are renewed long before they expire.
        let ask = || boxed(ask_for_credentials(&connection.signer));
        let edge = connection.signer.edge();
        let may_be_asked = || is_due(edge, Use::Seldom, &services.edges);
        watches.push(boxed(watch(edge, may_be_asked, ask)));
    }
    if let Some(edge) = services.recording.ledger.edge() {
        let ask = || {
            let asked = timeout(TRIAL, services.recording.ledger.jobs(1));
            boxed(async { drop(asked.await) })
        };
        let may_be_asked = || is_due(edge, Use::Often, &services.edges);
        watches.push(boxed(watch(edge, may_be_asked, ask)));
    }
    if let Some(edge) = services.recording.ledger.write_edge() {
        let ask = || {
            let asked = timeout(TRIAL, services.recording.ledger.try_a_write());
            boxed(async { drop(asked.await) })
        };
        let may_be_asked = || is_due(edge, Use::Often, &services.edges);
        watches.push(boxed(watch(edge, may_be_asked, ask)));
    }
    match &services.sending.mailer {
        Mailer::Outbox(_) => {}
        Mailer::Smtp(relays) => {
            for (_, relay) in relays.iter() {
                watches.push(boxed(watch_relay(services, relay)));
            }
        }
    }
    join_all(watches).await;
}

/// The bucket and the prefix in which a connection is probed: those of one of its rules, or the bucket of the bodies of messages. A policy
/// of IAM may allow listings of that prefix alone (`s3:prefix`).
fn place_of<'a>(name: &ConnectionName, services: &'a Services) -> Option<(&'a Bucket, &'a str)> {
    let rules = &services.signing.policy.rules;
    let rule = rules.iter().find(|rule| rule.connection == *name);
    let payloads = &services.payloads;
    let of_payloads = || {
        let reads = payloads.connection.as_ref() == Some(name);
        let bucket = payloads.buckets.first().filter(|_| reads);
        bucket.map(|bucket| (bucket, ""))
    };
    rule.map(|rule| (&rule.bucket, rule.prefix.as_str()))
        .or_else(of_payloads)
}

/// Whether an unused edge is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Often,
    Seldom,
}

/// Probes one edge when it may be asked. The requests report the result.
async fn watch<'a>(edge: &'a Edge, may_be_asked: impl Fn() -> bool, ask: impl Fn() -> Boxed<'a>) {
    loop {
        sleep(LOOK_EVERY).await;
        if may_be_asked() {
            ask_until_answered(&ask, || !edge.is_failing()).await;
        }
    }
}

/// As [`watch`]. A relay that fails in the middle of mails is left to mails for a while, which test it better; a probe
/// would take their trial.
async fn watch_relay(services: &Services, relay: &Relay) {
    let ask = || boxed(async { drop(relay.probe().await) });
    loop {
        sleep(LOOK_EVERY).await;
        relay.close_idle();
        let may_be_asked = || is_due(relay.edge(), Use::Often, &services.edges);
        if relay.is_silent_before_rcpt() || relay.can_be_probed() && may_be_asked() {
            ask_until_answered(&ask, || !relay.edge().is_failing()).await;
        }
    }
}

/// Whether a probe has to decide if an edge is up: a request failed, or waits without an answer, and its name may be the cause.
fn is_questioned(edge: &Edge) -> bool {
    let is_doubted = edge.take_doubt();
    edge.outage().is_none() && (is_doubted || edge.silent_at(DOUBTED_AFTER).is_some())
}

fn is_due(edge: &Edge, used: Use, edges: &Edges) -> bool {
    match edge.outage() {
        Some(outage) => outage.left.is_zero() && edge.may_be_tried(NAME).is_ok(),
        None => {
            let is_looked_at = edges.are_looked_at();
            let quiet = match edge.is_denied() && is_looked_at {
                true => QUIET_DENIED,
                false => QUIET,
            };
            // Jobs that were denied wait for the end of a denial, also while no supervisor asks.
            let is_of_interest = is_looked_at || edge.denial().is_some();
            used == Use::Often && is_of_interest && edge.is_quiet_for(quiet)
        }
    }
}

async fn ask_for_credentials(signer: &Signer) {
    // No credentials last until then, so the source is asked. A request that takes too long is dropped; it has reported
    // by then.
    drop(timeout(TRIAL, signer.credentials_end(Timestamp::MAX)).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::{EdgeKind, FailureKind};

    fn edge() -> Edge {
        Edge::new(EdgeKind::Store, "reports", "S3")
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_is_looked_at_when_it_is_not_used_and_its_health_is_asked_for() {
        let edge = edge();
        let edges = Edges::from_iter([edge.clone()]);
        assert!(
            !is_due(&edge, Use::Often, &edges),
            "its health is not asked for"
        );
        edges.look();
        assert!(is_due(&edge, Use::Often, &edges));
        assert!(!is_due(&edge, Use::Seldom, &edges));
        edge.answered();
        assert!(!is_due(&edge, Use::Often, &edges), "it is used");
        sleep(QUIET).await;
        assert!(is_due(&edge, Use::Often, &edges));
        edge.failed(FailureKind::Denied, "");
        assert!(!is_due(&edge, Use::Often, &edges), "its pause is not over");
        sleep(Duration::from_secs(20)).await;
        assert!(is_due(&edge, Use::Seldom, &edges));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_denial_of_everything_is_looked_for_without_a_supervisor() {
        let edge = edge();
        let edges = Edges::from_iter([edge.clone()]);
        edge.denied(false, "AccessDenied");
        sleep(QUIET).await;
        assert!(!is_due(&edge, Use::Often, &edges), "one request alone");
        for _ in 0..4 {
            edge.denied(false, "AccessDenied");
            sleep(QUIET).await;
        }
        assert!(is_due(&edge, Use::Often, &edges));
        assert!(!is_due(&edge, Use::Seldom, &edges));
        edge.answered();
        sleep(QUIET).await;
        assert!(!is_due(&edge, Use::Often, &edges));
    }
}
