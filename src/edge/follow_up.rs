//! Requests that follow one that is not answered, so that the recovery of an edge is noticed within seconds.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// After how long an unanswered request is followed by another, and how many run at once. The connection of the first
/// may have died in the outage, while the edge is up again.
const FOLLOWED_AFTER: Duration = Duration::from_secs(2);
const MAX_REQUESTS: usize = 6;

/// How long a request over HTTP may take: longer than its first attempt, which reports to the edge.
pub(crate) const TRIAL: Duration = Duration::from_millis(10_500);

pub(crate) type Boxed<'a, T = ()> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(crate) fn boxed<'a>(work: impl Future<Output = ()> + Send + 'a) -> Boxed<'a> {
    Box::pin(work)
}

/// Sends requests until one is answered, or all have failed. A request that is not answered soon is followed by
/// another.
pub(crate) async fn ask_until_answered<'a>(
    ask: &impl Fn() -> Boxed<'a>,
    is_answered: impl Fn() -> bool,
) {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::edge::health::{Edge, EdgeKind, FailureKind};

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
}
