//! How many messages are on the queue, for metrics: asked once a minute, with a deadline, and never by a job.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::assemble::Services;
use crate::edge::health::EdgeKind;
use crate::queue::Queue;

/// How long after the start the queue is asked first, and how often from then on. SQS bills each request.
const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(60);

/// How long its answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a queue for its depth, for as long as the future is polled. A queue that is down is not asked, and then no depth is known.
pub(super) async fn watch(queue: &dyn Queue, services: &Services) -> Infallible {
    sleep(FIRST).await;
    loop {
        let edge = services.edges.of(EdgeKind::Queue);
        let depth = match edge.is_some_and(|edge| edge.is_failing()) {
            true => None,
            false => {
                let answer = timeout(PATIENCE, queue.depth()).await;
                // The polls report what is wrong with the queue.
                answer.ok().and_then(Result::ok).flatten()
            }
        };
        services.progress.saw_queue(depth);
        sleep(EVERY).await;
    }
}
