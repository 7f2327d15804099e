//! Tries what is down, so that its return is noticed within seconds and without a job.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::connection::Connection;
use crate::deliver::{Mailer, Relay};
use crate::edge::health::Edge;
use crate::store::ObjectStore;
use crate::tools::Tools;

/// How often it is looked whether something is down and may be tried.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a trial may take.
const TRIAL: Duration = Duration::from_secs(12);

/// The name under which edges are tried.
const NAME: &str = "probe";

/// Tries edges that are down, for as long as it is polled. The queue is tried by the worker's own polls.
pub async fn probe(tools: &Tools) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let connections = tools.connections.iter().flat_map(|(name, connection)| {
            let bucket = tools
                .policy
                .rules
                .iter()
                .find(|rule| rule.connection == *name);
            let store = bucket.map(|rule| {
                let asked = async { drop(connection.s3.probe(&rule.bucket).await) };
                boxed(if_down(connection.s3.edge(), asked))
            });
            store.into_iter().chain([boxed(if_down(
                connection.signer.edge(),
                ask_for_credentials(connection),
            ))])
        });
        let ledger = tools.books.ledger.edge().map(|edge| {
            let asked = async { drop(tools.books.ledger.jobs(1).await) };
            boxed(if_down(edge, asked))
        });
        let relays = match &tools.mailer {
            Mailer::Smtp(relays) => relays.iter().map(|(_, relay)| relay).collect(),
            Mailer::Outbox(_) => Vec::new(),
        };
        // One that fails in the middle of mails is tried by a mail.
        let relays = relays.into_iter().filter(|relay| relay.can_be_probed());
        let relays = relays.map(|relay| boxed(if_down(relay.edge(), greet(relay))));
        join_all(connections.chain(ledger).chain(relays)).await;
    }
}

type Boxed<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn boxed<'a>(trial: impl Future<Output = ()> + Send + 'a) -> Boxed<'a> {
    Box::pin(trial)
}

/// Tries an edge if it is down and its pause is over. What comes of it, the request reports.
async fn if_down(edge: &Edge, trial: impl Future<Output = ()>) {
    if edge.outage().is_some_and(|outage| outage.left.is_zero()) && edge.may_be_tried(NAME).is_ok()
    {
        // One that takes too long is given up; it has reported by then.
        drop(tokio::time::timeout(TRIAL, trial).await);
    }
}

async fn ask_for_credentials(connection: &Connection) {
    // None last so long, so the source is asked.
    drop(connection.signer.credentials_end(Timestamp::MAX).await);
}

async fn greet(relay: &Relay) {
    drop(relay.probe().await);
}
