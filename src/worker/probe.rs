//! Probes edges that are down, so that their recovery is noticed within seconds and without a job. Also probes edges
//! that are not used, so that `/ready` reports their failure before a job needs them.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::assemble::Services;
use crate::deliver::{Mailer, Relay};
use crate::edge::health::{Edge, Edges, FailureKind};
use crate::links::signer::Signer;
use crate::queue::Queue;
use crate::store::ObjectStore;

/// How often each edge is checked for a due probe.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After how long without news an edge is probed.
const QUIET: Duration = Duration::from_secs(8);

/// The same for an edge that denies requests: it may deny all, and may have been repaired.
const QUIET_DENIED: Duration = Duration::from_secs(3);

/// After how long an unanswered request is followed by another, and how many run at once. The connection of the first
/// may have died in the outage, while the edge is up again.
const FOLLOWED_AFTER: Duration = Duration::from_secs(2);
const MAX_REQUESTS: usize = 6;

/// How long a request over HTTP may take: longer than its first attempt, which reports to the edge.
const TRIAL: Duration = Duration::from_millis(10_500);

/// The name under which probes use edges.
const NAME: &str = "probe";

type Boxed<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn boxed<'a>(work: impl Future<Output = ()> + Send + 'a) -> Boxed<'a> {
    Box::pin(work)
}

/// Probes edges that are down, and edges that are not used while a supervisor asks for their health, for as long as the
/// future is polled. The worker probes the queue (see [`queue_answers`]).
pub async fn probe(services: &Services) {
    let mut watches: Vec<Boxed<'_>> = Vec::new();
    for (name, connection) in services.signing.connections.iter() {
        let rules = &services.signing.policy.rules;
        if let Some(rule) = rules.iter().find(|rule| rule.connection == *name) {
            let ask = || {
                let asked = timeout(TRIAL, connection.s3.probe(&rule.bucket));
                boxed(async { drop(asked.await) })
            };
            watches.push(boxed(watch(
                services,
                connection.s3.edge(),
                Use::Often,
                ask,
            )));
        }
        // Each probe would be a call of STS; credentials are renewed long before they expire.
        let ask = || boxed(ask_for_credentials(&connection.signer));
        let edge = connection.signer.edge();
        watches.push(boxed(watch(services, edge, Use::Seldom, ask)));
    }
    if let Some(edge) = services.recording.ledger.edge() {
        let ask = || {
            let asked = timeout(TRIAL, services.recording.ledger.jobs(1));
            boxed(async { drop(asked.await) })
        };
        watches.push(boxed(watch(services, edge, Use::Often, ask)));
    }
    if let Mailer::Smtp(relays) = &services.sending.mailer {
        for (_, relay) in relays.iter() {
            watches.push(boxed(watch_relay(services, relay)));
        }
    }
    join_all(watches).await;
}

/// Whether an unused edge is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Often,
    Seldom,
}

/// Probes one edge when it is down and its pause is over, or when it is not used. The requests report the result.
async fn watch<'a>(services: &Services, edge: &Edge, used: Use, ask: impl Fn() -> Boxed<'a>) {
    loop {
        sleep(LOOK_EVERY).await;
        if is_due(edge, used, &services.edges) {
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
        let may_be_asked = || is_due(relay.edge(), Use::Often, &services.edges);
        if relay.is_silent_before_rcpt() || relay.can_be_probed() && may_be_asked() {
            ask_until_answered(&ask, || !relay.edge().is_failing()).await;
        }
    }
}

fn is_due(edge: &Edge, used: Use, edges: &Edges) -> bool {
    match edge.outage() {
        Some(outage) => outage.left.is_zero() && edge.may_be_tried(NAME).is_ok(),
        None => {
            let quiet = if edge.is_denied() {
                QUIET_DENIED
            } else {
                QUIET
            };
            used == Use::Often && edges.are_looked_at() && edge.is_quiet_for(quiet)
        }
    }
}

/// Sends requests until one is answered, or all have failed. A request that is not answered soon is followed by
/// another.
async fn ask_until_answered<'a>(ask: &impl Fn() -> Boxed<'a>, is_answered: impl Fn() -> bool) {
    let mut asked = vec![ask()];
    let mut follows_at = Instant::now() + FOLLOWED_AFTER;
    while !asked.is_empty() {
        let ended = poll_fn(|context| {
            let at = asked
                .iter_mut()
                .position(|one| one.as_mut().poll(context).is_ready());
            at.map_or(Poll::Pending, Poll::Ready)
        });
        tokio::select! {
            at = ended => {
                drop(asked.remove(at));
                if is_answered() {
                    return;
                }
            }
            () = sleep_until(follows_at) => {
                if asked.len() == MAX_REQUESTS {
                    // The first continues to its deadline, and reports.
                    drop(asked.remove(1));
                }
                asked.push(ask());
                follows_at += FOLLOWED_AFTER;
            }
        }
    }
}

/// Whether a queue answers that did not answer the last request: it is asked for its number of waiting messages, until
/// it answers or a request has failed, for at most eleven seconds. A queue that answered last is not asked.
///
/// A hanging receive cannot be followed by another, since the messages that it returns would stay hidden. The question
/// hides no messages. A denied question is an answer, too. The answer ends no outage, since a queue may answer it and
/// be silent to receives: the receive that follows ends it.
pub(super) async fn queue_answers(edge: &Edge, queue: &dyn Queue) -> bool {
    let is_silence = |kind| matches!(kind, FailureKind::Timeout | FailureKind::Unreachable);
    if !edge.last_failure().is_some_and(is_silence) {
        return true;
    }
    let answers = AtomicBool::new(false);
    let ask = || {
        boxed(async {
            match timeout(TRIAL, queue.waiting()).await {
                Ok(Err(error)) if is_silence(error.failure_kind()) => error.report_to(edge),
                Ok(_) => answers.store(true, Ordering::Relaxed),
                Err(_) => edge.failed(FailureKind::Timeout, "no answer"),
            }
        })
    };
    // The worker's loop continues meanwhile, and shows that it is alive.
    let asking = ask_until_answered(&ask, || answers.load(Ordering::Relaxed));
    drop(timeout(TRIAL + LOOK_EVERY, asking).await);
    answers.into_inner()
}

async fn ask_for_credentials(signer: &Signer) {
    // No credentials last until then, so the source is asked. A request that takes too long is dropped; it has reported
    // by then.
    drop(timeout(TRIAL, signer.credentials_end(Timestamp::MAX)).await);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::edge::health::EdgeKind;
    use crate::queue::ErrorKind;
    use crate::queue::memory::MemoryQueue;

    fn edge() -> Edge {
        Edge::new(EdgeKind::Store, "reports", "S3")
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_hangs_is_followed_by_others_and_the_first_answer_ends_them() {
        let (edge, asked) = (edge(), AtomicUsize::new(0));
        for _ in 0..2 {
            edge.failed(FailureKind::Timeout, "");
        }
        let ask = || {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            let edge = edge.clone();
            boxed(async move {
                match number {
                    0..9 => std::future::pending().await,
                    _ => edge.answered(),
                }
            })
        };
        let began = Instant::now();
        ask_until_answered(&ask, || !edge.is_failing()).await;
        assert_eq!(began.elapsed(), 9 * FOLLOWED_AFTER);
        assert_eq!((edge.outage(), asked.into_inner()), (None, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_whose_requests_are_refused_ends() {
        let (edge, asked) = (edge(), AtomicUsize::new(0));
        let ask = || {
            asked.fetch_add(1, Ordering::Relaxed);
            let edge = edge.clone();
            boxed(async move {
                sleep(Duration::from_secs(1)).await;
                edge.failed(FailureKind::Unreachable, "");
            })
        };
        ask_until_answered(&ask, || !edge.is_failing()).await;
        assert!(edge.is_failing());
        assert_eq!(asked.into_inner(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_did_not_answer_is_asked_what_hides_no_message() {
        let queue = MemoryQueue::default();
        queue.submit("job").await.unwrap();
        let edge = Edge::new(EdgeKind::Queue, "queue", "the queue");
        for (fact, answers) in [
            (ErrorKind::Silent, false),
            (ErrorKind::Unreachable, false),
            (ErrorKind::Denied, true),
            (ErrorKind::Failed, true),
        ] {
            edge.failed(FailureKind::Timeout, "");
            queue.fail_next(fact);
            assert_eq!(queue_answers(&edge, &queue).await, answers, "{fact:?}");
        }
        for _ in 0..2 {
            edge.failed(FailureKind::Unreachable, "");
            assert!(queue_answers(&edge, &queue).await);
        }
        assert!(edge.outage().is_some(), "no receive was answered yet");
        let received = queue.receive(1, QUIET, Duration::ZERO).await.unwrap();
        assert_eq!(received[0].receive_count, 1);
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
}
