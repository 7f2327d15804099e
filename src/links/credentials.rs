//! Where a connection's credentials come from: STS, a role of the machine or the container, SSO, a process, fixed keys.
//!
//! Signing and the requests to the store ask the same [`Source`], so that credentials which cannot be had are reported to one
//! edge, whichever needs them first.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::edge::health::{Edge, EdgeKind, FailureKind, Step};

/// How long a source may take: a process that hangs must not hang every job of its connection.
pub(crate) const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client of the SDK waits for credentials: for a turn and an answer. The source ends before, and reports.
pub(crate) const CLIENT_WAITS: Duration = Duration::from_secs(25);

/// A source of credentials, and what is known of its health. Clones are the same source.
#[derive(Clone)]
pub(crate) struct Source {
    provider: SharedCredentialsProvider,
    edge: Edge,
    /// Held by the one request that asks: the others want the same answer.
    turn: Arc<Mutex<()>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.edge).finish()
    }
}

impl Source {
    /// The source of a connection.
    pub(crate) fn new(connection: &str, provider: SharedCredentialsProvider) -> Self {
        let subject = format!("the source of the credentials of connections.{connection}");
        Self {
            provider,
            edge: Edge::new(EdgeKind::Credentials, connection, subject),
            turn: Arc::default(),
        }
    }

    pub(crate) const fn edge(&self) -> &Edge {
        &self.edge
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        self.ask_since(Instant::now()).await
    }

    /// Asks for credentials, unless the source was found down since the caller began to wait for its turn, or has its pause:
    /// then its outage is the answer.
    pub(crate) async fn ask_since(&self, began: Instant) -> Result<Credentials, CredentialsError> {
        let _turn = self.turn.lock().await;
        let outage = self.edge.outage();
        if let Some(outage) =
            outage.filter(|outage| !outage.left.is_zero() || self.edge.was_heard_since(began))
        {
            return Err(match outage.kind {
                FailureKind::Timeout => CredentialsError::provider_timed_out(CREDENTIALS_TIMEOUT),
                _ => CredentialsError::provider_error(outage),
            });
        }
        let _request = self.edge.asked(Step::only("credentials"));
        let asked = timeout(CREDENTIALS_TIMEOUT, self.provider.provide_credentials()).await;
        let asked = asked
            .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(CREDENTIALS_TIMEOUT)));
        match &asked {
            Ok(_) => self.edge.answered(),
            Err(CredentialsError::ProviderTimedOut(_)) => {
                let words = format!("none within {} s", CREDENTIALS_TIMEOUT.as_secs());
                self.edge.failed(FailureKind::Timeout, &words);
            }
            Err(error) => {
                let words = crate::error::chain(error);
                self.edge.failed(FailureKind::Denied, &words);
            }
        }
        asked
    }
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    /// Never says anything, and counts how often it was asked.
    #[derive(Debug, Clone, Default)]
    struct Hung(Arc<AtomicUsize>);

    impl ProvideCredentials for Hung {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.0.fetch_add(1, Ordering::Relaxed);
            future::ProvideCredentials::new(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_is_asked_once_for_all_that_wait_and_is_down_after_one_deadline() {
        let hung = Hung::default();
        let source = Source::new("reports", SharedCredentialsProvider::new(hung.clone()));
        let began = Instant::now();
        let asked = join_all((0..12).map(|_| source.ask())).await;
        assert!(asked.iter().all(Result::is_err));
        assert_eq!(began.elapsed(), CREDENTIALS_TIMEOUT);
        assert_eq!(hung.0.load(Ordering::Relaxed), 1);
        let outage = source.edge().outage().unwrap();
        assert_eq!(outage.kind, FailureKind::Timeout);
        assert!(source.ask().await.is_err());
        assert_eq!(hung.0.load(Ordering::Relaxed), 1, "it has its pause");
        tokio::time::sleep(outage.left).await;
        assert!(source.ask().await.is_err());
        assert_eq!(hung.0.load(Ordering::Relaxed), 2, "it is tried");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_source_is_seen_by_its_edge() {
        let source = Source::new("reports", SharedCredentialsProvider::new(Hung::default()));
        let jobs: Vec<_> = (0..3)
            .map(|n| source.edge().enter(&n.to_string(), 1).unwrap())
            .collect();
        let waits = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            jobs.iter().filter(|job| job.gives_way(1).is_some()).count()
        };
        tokio::select! {
            _ = source.ask() => unreachable!("it hangs"),
            giving_way = waits => assert_eq!(giving_way, 2),
        }
    }
}
