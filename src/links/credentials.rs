//! Where a connection's credentials come from: STS, a role of the machine or the container, SSO, a process, files, fixed keys.
//!
//! Signing and the requests to the store use the same [`CredentialSource`], so that they have the same credentials, and a
//! failure to load them is reported to the same edge. A source follows its [`Origin`]: the origin's files are checked before
//! each use, ten times a second at most. When a service rejects the credentials, the origin is asked again, once ([`doubt`]).

mod clean;
pub(crate) mod doubt;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::clean::clean;
use self::doubt::Doubt;
use super::signer::SessionEnd;
use crate::edge::EdgeError;
use crate::edge::health::{Edge, EdgeKind, FailureKind, Request, Step};
use crate::plan::CredentialsEnd;
use crate::plan::expiry::noticed;
use crate::stamp::Stamps;
use crate::store::s3::ServerClock;

/// How long a source may take: a `credential_process` that hangs must not block every job of its connection.
pub(crate) const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long credentials without an expiry are used before the source is asked again. It may give others by then.
const USED_FOR: Duration = Duration::from_secs(5 * 60);

/// How long before their end credentials stop being used for requests, as in the SDK.
const ROOM: SignedDuration = SignedDuration::from_secs(10);

/// The pause after a source could not be read, while the credentials that it gave before are valid; longer where the source
/// asks for it.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// How long a check of the files is waited for while earlier credentials are valid. A file system that hangs must not delay
/// links that can be signed.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// The time after which a source that is down and does not answer is asked again: a process or a connection may hang
/// although the source is up again.
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// How long a check of the files is valid. A command signs thousands of batches a second, and each would check.
const LOOK_COUNTS: Duration = Duration::from_millis(100);

/// The origin of credentials: it builds their provider, and builds it again when a file changes.
#[async_trait]
pub(crate) trait Origin: Send + Sync + fmt::Debug {
    /// The files that it is built from. When one of them changes, the provider is built again.
    fn files(&self) -> Vec<PathBuf>;

    /// Reads the files and builds the provider.
    async fn provider(&self) -> Result<SharedCredentialsProvider, CredentialsError>;
}

/// A provider that does not depend on files.
#[async_trait]
impl Origin for SharedCredentialsProvider {
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    async fn provider(&self) -> Result<Self, CredentialsError> {
        Ok(self.clone())
    }
}

/// A source of credentials, and its health. Clones are the same source.
#[derive(Clone)]
pub(crate) struct CredentialSource {
    inner: Arc<SourceInner>,
}

struct SourceInner {
    /// The section of the configuration that it belongs to, such as `connections.reports`.
    section: String,
    origin: Arc<dyn Origin>,
    /// The end of a session, where its credentials do not include it.
    session_end: Option<SessionEnd>,
    edge: Edge,
    doubt: Doubt,
    /// The clock of the store that the credentials are for.
    clock: ServerClock,
    /// Held while the origin is asked: the callers that wait need the same answer.
    state: Mutex<SourceState>,
}

#[derive(Default)]
struct SourceState {
    provider: Option<SharedCredentialsProvider>,
    /// The files as they were when the provider was built from them.
    seen: Stamps,
    /// When they were last checked.
    looked_at: Option<Instant>,
    /// The check that is under way. It continues after its caller stopped waiting, so that only one thread hangs.
    looking: Option<JoinHandle<Stamps>>,
    kept: Option<KeptCredentials>,
    status: CredentialState,
    /// Until when a source that failed is not asked.
    left_alone: Option<Instant>,
}

/// The state of the cached credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum CredentialState {
    #[default]
    Good,
    /// A file of the source has changed. They are used while it cannot be read, since a rotation may be half done.
    Outdated,
    /// A service rejects them.
    Rejected,
}

impl SourceState {
    /// Whether the files were unchanged at a recent check, and no service rejects the credentials.
    fn has_looked(&self, doubt: &Doubt) -> bool {
        let counts = |looked_at: Instant| looked_at.elapsed() < LOOK_COUNTS;
        self.status == CredentialState::Good
            && self.looked_at.is_some_and(counts)
            && !doubt.is_left()
    }
}

/// Credentials as they were given.
#[derive(Clone)]
pub(crate) struct KeptCredentials {
    pub(crate) credentials: Credentials,
    pub(crate) end: CredentialsEnd,
    given_at: Instant,
}

/// The credentials that a source gives have expired, or expire within seconds.
#[derive(Debug, thiserror::Error)]
#[error(
    "the credentials that it gave ended at {at}, or end so soon that no job could use them: renew them, or correct the clock of this machine if that is wrong"
)]
struct EndedCredentials {
    at: Timestamp,
}

/// What credentials are needed for.
#[derive(Debug, Clone, Copy)]
enum Need {
    /// A request.
    Now,
    /// Links that are valid until then.
    Until(Timestamp),
}

impl KeptCredentials {
    fn serves(&self, need: Need) -> bool {
        match (self.end, need) {
            (CredentialsEnd::Unknown, Need::Now) | (CredentialsEnd::Never, _) => true,
            (end, Need::Until(until)) => end.reaches(until),
            (end @ CredentialsEnd::At(_), Need::Now) => {
                let soon = crate::clock::system().saturating_add(ROOM);
                end.reaches(soon.unwrap_or(Timestamp::MAX))
            }
        }
    }

    fn is_new_enough(&self) -> bool {
        matches!(self.end, CredentialsEnd::At(_)) || self.given_at.elapsed() < USED_FOR
    }

    fn has_keys_of(&self, other: &Self) -> bool {
        let (ours, others) = (&self.credentials, &other.credentials);
        ours.access_key_id() == others.access_key_id()
            && ours.secret_access_key() == others.secret_access_key()
            && ours.session_token() == others.session_token()
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.inner.edge).finish()
    }
}

impl CredentialSource {
    /// The source of a section of the configuration; `name` is that of its edge.
    pub(crate) fn new(
        name: &str,
        section: String,
        origin: Arc<dyn Origin>,
        session_end: Option<SessionEnd>,
    ) -> Self {
        let subject = format!("the source of the credentials of {section}");
        Self {
            inner: Arc::new(SourceInner {
                edge: Edge::new(EdgeKind::Credentials, name, subject),
                section,
                origin,
                session_end,
                doubt: Doubt::default(),
                clock: ServerClock::default(),
                state: Mutex::default(),
            }),
        }
    }

    /// Another source of the same section, with the same health and clock.
    pub(crate) fn with_origin(&self, origin: Arc<dyn Origin>) -> Self {
        let SourceInner {
            section,
            session_end,
            edge,
            clock,
            ..
        } = &*self.inner;
        Self {
            inner: Arc::new(SourceInner {
                section: section.clone(),
                origin,
                session_end: session_end.clone(),
                edge: edge.clone(),
                doubt: Doubt::default(),
                clock: clock.clone(),
                state: Mutex::default(),
            }),
        }
    }

    pub(crate) fn edge(&self) -> &Edge {
        &self.inner.edge
    }

    /// Whether a service rejects what the source gave.
    pub(crate) fn doubt(&self) -> &Doubt {
        &self.inner.doubt
    }

    /// The clock of the store that the credentials are for; the store's answers set it.
    pub(crate) fn clock(&self) -> &ServerClock {
        &self.inner.clock
    }

    /// The credentials for links that are valid until `needed_until`. If the cached credentials end before, the origin is asked;
    /// the credentials that it gives may still end too early.
    pub(crate) async fn lasting(
        &self,
        needed_until: Timestamp,
    ) -> Result<KeptCredentials, CredentialsError> {
        self.get(Need::Until(needed_until)).await
    }

    async fn get(&self, need: Need) -> Result<KeptCredentials, CredentialsError> {
        let began = Instant::now();
        let mut state = self.inner.state.lock().await;
        if self.inner.doubt.is_open() {
            state.status = CredentialState::Rejected;
            state.provider = None;
        }
        let good = state.kept.clone().filter(|kept| kept.serves(need));
        let good = good.filter(|_| state.status != CredentialState::Rejected);
        let is_left_alone = state.left_alone.is_some_and(|until| Instant::now() < until);
        if let Some(kept) = &good
            && (is_left_alone || state.has_looked(&self.inner.doubt) && kept.is_new_enough())
        {
            return Ok(kept.clone());
        }
        // The edge counts jobs that wait for a check.
        let _request = good.is_none().then(|| self.asked());
        let patience = match &good {
            Some(_) => LOOK_PATIENCE,
            None => CREDENTIALS_TIMEOUT,
        };
        let looked = timeout(patience, self.look(&mut state)).await;
        if let Some(kept) = &good
            && looked.is_ok()
            && state.status == CredentialState::Good
            && kept.is_new_enough()
        {
            return Ok(kept.clone());
        }
        if let Some(down) = self.down_since(began) {
            return good.ok_or(down);
        }
        let asked = match looked {
            Ok(()) => timeout(CREDENTIALS_TIMEOUT, self.ask(&mut state)).await,
            Err(hung) => Err(hung),
        };
        let asked = asked
            .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(CREDENTIALS_TIMEOUT)));
        match (asked, good) {
            (Ok(given), good) => Ok(self.take(&mut state, given, need, good)),
            (Err(error), Some(kept)) => {
                self.stay(&mut state, &error);
                Ok(kept)
            }
            (Err(error), None) => {
                self.fail(&state, &error);
                Err(error)
            }
        }
    }

    /// Checks whether the files have changed since the provider was built.
    async fn look(&self, state: &mut SourceState) {
        let began = Instant::now();
        let files = self.inner.origin.files();
        let seen = match files.is_empty() {
            true => Stamps::default(),
            false => {
                let looking = state.looking.get_or_insert_with(|| Stamps::looking(files));
                let seen = looking.await.unwrap_or_default();
                state.looking = None;
                seen
            }
        };
        if state.seen != seen {
            state.seen = seen;
            state.provider = None;
            if state.status == CredentialState::Good {
                state.status = CredentialState::Outdated;
            }
        }
        state.looked_at = Some(began);
    }

    /// The outage of a source that is paused, or that went down while the caller waited for the lock.
    fn down_since(&self, began: Instant) -> Option<CredentialsError> {
        let edge = &self.inner.edge;
        let outage = edge.outage()?;
        let is_answer = !outage.left.is_zero() || edge.was_heard_since(began);
        is_answer.then(|| match outage.kind {
            FailureKind::Timeout => CredentialsError::provider_timed_out(CREDENTIALS_TIMEOUT),
            _ => CredentialsError::provider_error(outage),
        })
    }

    fn asked(&self) -> Request {
        self.inner.edge.asked(Step::only("credentials"))
    }

    async fn ask(&self, state: &mut SourceState) -> Result<Credentials, CredentialsError> {
        let _request = self.asked();
        let provider = match &state.provider {
            Some(provider) => provider.clone(),
            None => {
                let made = self.inner.origin.provider().await?;
                state.provider.insert(made).clone()
            }
        };
        if !self.inner.edge.is_failing() {
            return clean(provider.provide_credentials().await?);
        }
        let mut asked = FuturesUnordered::new();
        loop {
            asked.push(provider.provide_credentials());
            tokio::select! {
                Some(given) = asked.next() => return clean(given?),
                () = sleep(ASKED_AGAIN) => {}
            }
        }
    }

    /// Caches what the source gave. A source that gives expired credentials has failed: earlier credentials stay in use while
    /// they are valid. Without those, the caller gets the expired ones and reports it.
    fn take(
        &self,
        state: &mut SourceState,
        given: Credentials,
        need: Need,
        good: Option<KeptCredentials>,
    ) -> KeptCredentials {
        let given = KeptCredentials {
            end: self.end_of(&given),
            credentials: given,
            given_at: Instant::now(),
        };
        let Some(ended) = self.ended(&given, need) else {
            return self.keep(state, given);
        };
        let error = CredentialsError::provider_error(ended);
        if let Some(kept) = good {
            self.stay(state, &error);
            return kept;
        }
        self.fail(state, &error);
        given
    }

    /// Whether credentials have expired by the clock of the store that they are for. Before the store's first answer its clock is
    /// unknown: then the store decides about a request, and this machine's clock about links.
    fn ended(&self, given: &KeptCredentials, need: Need) -> Option<EndedCredentials> {
        match (self.inner.clock.skew(), need) {
            (None, Need::Now) => None,
            (Some(_), Need::Now) => self.ended_at(given, SignedDuration::ZERO),
            // Links live for longer than requests.
            (Some(_) | None, Need::Until(_)) => self.ended_at(given, ROOM),
        }
    }

    /// Whether credentials will have ended in so long by the clock of the store, or by this machine's before the store's first answer.
    fn ended_at(&self, given: &KeptCredentials, room: SignedDuration) -> Option<EndedCredentials> {
        let CredentialsEnd::At(at) = given.end else {
            return None;
        };
        let skew = noticed(self.inner.clock.skew());
        let now = crate::clock::system().saturating_add(skew);
        let soon = now.and_then(|now| now.checked_add(room));
        soon.is_ok_and(|soon| at <= soon)
            .then_some(EndedCredentials { at })
    }

    fn keep(&self, state: &mut SourceState, kept: KeptCredentials) -> KeptCredentials {
        let SourceInner {
            section,
            edge,
            doubt,
            ..
        } = &*self.inner;
        // By this machine's clock alone they may have ended. They are tried, since that clock may be wrong, and show nothing about the
        // source.
        if self.ended_at(&kept, SignedDuration::ZERO).is_none() {
            edge.answered();
            edge.gave_until(match kept.end {
                CredentialsEnd::At(at) => Some(at),
                CredentialsEnd::Never | CredentialsEnd::Unknown => None,
            });
        }
        let before = state.kept.replace(kept.clone());
        let status = std::mem::take(&mut state.status);
        let is_other = before.is_some_and(|before| !before.has_keys_of(&kept));
        if status == CredentialState::Rejected {
            doubt.settle(is_other);
        }
        // Each session of a role has new keys; that is not logged.
        if is_other && (status != CredentialState::Good || kept.end == CredentialsEnd::Never) {
            tracing::info!(
                section,
                access_key_id = kept.credentials.access_key_id(),
                "the credentials changed; requests and links are signed with the new ones"
            );
        } else if state.left_alone.is_some() {
            tracing::info!(section, "the source of the credentials can be read again");
        }
        state.left_alone = None;
        kept
    }

    /// Handles a source that failed while its earlier credentials are valid.
    fn stay(&self, state: &mut SourceState, error: &CredentialsError) {
        let until = Instant::now() + EdgeError::left_alone_in(error).max(LEFT_ALONE);
        if state.left_alone.replace(until).is_none() {
            tracing::warn!(
                section = self.inner.section,
                error = crate::text::chain(error),
                "could not renew the credentials; the previous ones stay in use"
            );
        }
    }

    fn fail(&self, state: &SourceState, error: &CredentialsError) {
        let SourceInner { edge, doubt, .. } = &*self.inner;
        if state.status == CredentialState::Rejected {
            doubt.settle(false);
        }
        match error {
            CredentialsError::ProviderTimedOut(_) => {
                let words = format!("none within {} s", CREDENTIALS_TIMEOUT.as_secs());
                edge.failed(FailureKind::Timeout, &words);
            }
            error => {
                let left_alone = EdgeError::left_alone_in(error);
                let words = crate::text::chain(error);
                edge.failed_for(FailureKind::Denied, &words, left_alone);
            }
        }
    }

    fn end_of(&self, given: &Credentials) -> CredentialsEnd {
        let said = given.expiry().and_then(|end| Timestamp::try_from(end).ok());
        match (said, given.session_token()) {
            (Some(end), _) => CredentialsEnd::At(end),
            (None, None) => CredentialsEnd::Never,
            // Credentials with a token belong to a session, and a session ends even if its end is not given.
            (None, Some(token)) => {
                let session = self.inner.session_end.as_ref();
                session
                    .filter(|session| session.session_token == token)
                    .map_or(CredentialsEnd::Unknown, |session| {
                        CredentialsEnd::At(session.at)
                    })
            }
        }
    }
}

impl ProvideCredentials for CredentialSource {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { Ok(self.get(Need::Now).await?.credentials) })
    }
}

#[cfg(test)]
mod tests;
