//! A provider: its metadata, its keys and its endpoints, reached through an edge.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::keys::KeySet;
use super::metadata::{self, ProviderMetadata};
use super::refusal::{OidcEndpoint, OidcRefusal, ProviderError};
use super::token::{self, Claims, TokenFault};
use crate::bounds::{
    MAX_LEFT_ALONE, MAX_OIDC_KEYS_BYTES, MAX_OIDC_METADATA_BYTES, MAX_OIDC_TOKEN_BYTES,
};
use crate::cancellation::Cancellation;
use crate::config::Secret;
use crate::edge::health::{Edge, EdgeKind, FailureKind};
use crate::edge::http::{WebAnswer, WebClient};
use crate::edge::{EdgeError, Egress};

/// How long metadata and keys are used before they are read again.
const REFRESH_EVERY: Duration = Duration::from_secs(60 * 60);

/// The pause after a failure, and how often it is looked whether a sign-in failed meanwhile: so late is the return of a provider
/// noticed.
const RETRY_PAUSE: Duration = Duration::from_secs(4);

/// How long a provider without metadata is not asked for readers after a failure.
const ASKED_AGAIN: Duration = Duration::from_secs(5);

/// How often a token with an unknown key makes the keys be read again.
const KEYS_EVERY: Duration = Duration::from_secs(60);

/// A provider of OpenID Connect.
#[derive(Debug)]
pub(super) struct OidcProvider {
    issuer: String,
    secret: Option<Secret>,
    web: WebClient,
    edge: Edge,
    /// What is known of it. It is replaced as a whole.
    known: RwLock<Option<Known>>,
    /// Held while metadata or keys are read, so that readers who wait for them cause one request.
    reading: Mutex<LastRead>,
}

#[derive(Debug, Clone)]
struct Known {
    metadata: Arc<ProviderMetadata>,
    keys: Arc<KeySet>,
}

#[derive(Debug, Default)]
struct LastRead {
    failed: Option<Instant>,
    keys: Option<Instant>,
}

/// What the token endpoint gave.
pub(super) struct Tokens {
    pub(super) id_token: String,
    pub(super) access_token: Option<String>,
}

impl OidcProvider {
    pub(super) fn new(name: &str, issuer: &str, secret: Option<Secret>, egress: Egress) -> Self {
        let subject = format!("the OpenID provider {name}");
        Self {
            issuer: issuer.to_owned(),
            secret,
            web: WebClient::new(egress),
            edge: Edge::new(EdgeKind::Oidc, name, subject),
            known: RwLock::default(),
            reading: Mutex::default(),
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn edge(&self) -> Edge {
        self.edge.clone()
    }

    fn known(&self) -> Option<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn learn(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// Knows what another has read of the same provider, as after a reload.
    pub(super) fn know_what(&self, other: &Self) {
        if let Some(known) = other.known() {
            self.learn(known);
        }
    }

    /// Refreshes what is known at the start and each hour, and sooner after a failure.
    pub(super) async fn keep_current(&self, cancellation: &Cancellation) {
        loop {
            let Ok(refreshed) = cancellation.or(self.refresh()).await else {
                return;
            };
            let waited = match refreshed {
                Ok(()) => cancellation.or(self.until_due()).await,
                Err(error) => {
                    let pause = RETRY_PAUSE.max(error.retry_after().min(MAX_LEFT_ALONE));
                    cancellation.or(sleep(pause)).await
                }
            };
            if waited.is_err() {
                return;
            }
        }
    }

    /// Waits for the next refresh, which an outage that sign-ins met brings forward: without readers, its end would be noticed
    /// after an hour.
    async fn until_due(&self) {
        let due = Instant::now() + REFRESH_EVERY;
        while Instant::now() < due && self.edge.trouble().is_none() {
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Reads metadata and keys. What was known before stays if that fails.
    pub(super) async fn refresh(&self) -> Result<(), ProviderError> {
        let mut last = self.reading.lock().await;
        self.read(&mut last).await
    }

    async fn read(&self, last: &mut LastRead) -> Result<(), ProviderError> {
        let read = async {
            let metadata = self.read_metadata().await?;
            let keys = self.read_keys(&metadata).await?;
            Ok((metadata, keys))
        };
        let read: Result<_, ProviderError> = read.await;
        self.report(&read);
        let now = Instant::now();
        match read {
            Ok((metadata, keys)) => {
                *last = LastRead {
                    failed: None,
                    keys: Some(now),
                };
                self.learn(Known {
                    metadata: Arc::new(metadata),
                    keys: Arc::new(keys),
                });
                Ok(())
            }
            Err(error) => {
                last.failed = Some(now);
                Err(error)
            }
        }
    }

    /// The metadata, read now if it never was.
    pub(super) async fn metadata(&self) -> Result<Arc<ProviderMetadata>, OidcRefusal> {
        Ok(self.known_or_read().await?.metadata)
    }

    async fn known_or_read(&self) -> Result<Known, OidcRefusal> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let mut last = self.reading.lock().await;
        let nothing = || OidcRefusal::Unavailable {
            retry_after: ASKED_AGAIN,
            source: None,
        };
        // Another reader may have been first, with or without success.
        let failed = last.failed.map(|at| at.elapsed());
        if self.known().is_none() && failed.is_none_or(|ago| ago >= ASKED_AGAIN) {
            self.read(&mut last).await?;
        }
        self.known().ok_or_else(nothing)
    }

    /// Verifies the signature of an ID token. If no key is known for it, the keys are read again, at most once a minute.
    pub(super) async fn verified(&self, id_token: &str) -> Result<Claims, OidcRefusal> {
        let known = self.known_or_read().await?;
        let judged = token::verified(id_token, &known.keys);
        let Err(TokenFault::UnknownKey) = judged else {
            return judged.map_err(OidcRefusal::Token);
        };
        let mut last = self.reading.lock().await;
        if last.keys.is_none_or(|read| read.elapsed() >= KEYS_EVERY) {
            let keys = self.read_keys(&known.metadata).await;
            self.report(&keys);
            last.keys = Some(Instant::now());
            self.learn(Known {
                metadata: known.metadata,
                keys: Arc::new(keys?),
            });
        }
        drop(last);
        let known = self.known_or_read().await?;
        token::verified(id_token, &known.keys).map_err(OidcRefusal::Token)
    }

    async fn read_metadata(&self) -> Result<ProviderMetadata, ProviderError> {
        let endpoint = OidcEndpoint::Metadata;
        let url = metadata::location(&self.issuer);
        let action = "read the metadata of the OpenID provider";
        let answer = self.web.get(action, &url, None, MAX_OIDC_METADATA_BYTES);
        let body = ok(endpoint, answer.await?)?.body;
        let parsed = ProviderMetadata::parse(&body, &self.issuer, self.secret.is_some());
        parsed.map_err(|reason| ProviderError::Answer { endpoint, reason })
    }

    async fn read_keys(&self, metadata: &ProviderMetadata) -> Result<KeySet, ProviderError> {
        let endpoint = OidcEndpoint::Keys;
        let action = "read the keys of the OpenID provider";
        let answer = self
            .web
            .get(action, &metadata.keys, None, MAX_OIDC_KEYS_BYTES);
        let body = ok(endpoint, answer.await?)?.body;
        KeySet::parse(&body).map_err(|reason| ProviderError::Answer { endpoint, reason })
    }

    /// Exchanges a code for tokens. A client without a secret names itself in the form.
    pub(super) async fn tokens(
        &self,
        metadata: &ProviderMetadata,
        client_id: &str,
        fields: &[(&str, &str)],
    ) -> Result<Tokens, OidcRefusal> {
        #[derive(Deserialize)]
        struct TokenAnswer {
            id_token: String,
            access_token: Option<String>,
        }
        let mut fields = fields.to_vec();
        let login = self
            .secret
            .as_ref()
            .map(|secret| (client_id, secret.expose()));
        if login.is_none() {
            fields.push(("client_id", client_id));
        }
        let action = "get the tokens of a sign-in";
        let url = &metadata.token;
        let sent = self
            .web
            .post_form(action, url, &fields, login, MAX_OIDC_TOKEN_BYTES);
        let sent = sent.await.map_err(ProviderError::from);
        let answer = sent.inspect_err(|error| self.failed(error))?;
        if answer.status != 200 {
            return Err(self.token_refusal(&answer));
        }
        self.edge.answered();
        let read: Result<TokenAnswer, _> = serde_json::from_slice(&answer.body);
        let read = read.map_err(|_| OidcRefusal::MalformedAnswer(OidcEndpoint::Token))?;
        Ok(Tokens {
            id_token: read.id_token,
            access_token: read.access_token,
        })
    }

    /// What an error of the token endpoint means: <https://www.rfc-editor.org/rfc/rfc6749#section-5.2>
    fn token_refusal(&self, answer: &WebAnswer) -> OidcRefusal {
        let endpoint = OidcEndpoint::Token;
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match (answer.status, told["error"].as_str()) {
            (400..=499, Some("invalid_grant")) => {
                self.edge.answered();
                OidcRefusal::CodeRejected
            }
            (400..=499, Some("invalid_client" | "unauthorized_client")) | (401, _) => {
                let words = "it does not accept this client";
                self.edge.failed(FailureKind::Denied, words);
                OidcRefusal::ClientRejected
            }
            (status, _) => {
                let error = ProviderError::Status {
                    endpoint,
                    status,
                    retry_after: answer.retry_after,
                };
                self.failed(&error);
                error.into()
            }
        }
    }

    /// The claims of the account to which an access token belongs (OpenID Connect Core, section 5.3).
    pub(super) async fn userinfo(
        &self,
        endpoint: &str,
        access_token: &str,
    ) -> Result<Claims, OidcRefusal> {
        let action = "read the claims of an account";
        let sent = self
            .web
            .get(action, endpoint, Some(access_token), MAX_OIDC_TOKEN_BYTES);
        let sent = sent.await.map_err(ProviderError::from);
        let answer = sent.and_then(|answer| ok(OidcEndpoint::Userinfo, answer));
        self.report(&answer);
        let claims = serde_json::from_slice(&answer?.body);
        claims.map_err(|_| OidcRefusal::MalformedAnswer(OidcEndpoint::Userinfo))
    }

    /// Reports to the edge how a request ended.
    fn report<T>(&self, result: &Result<T, ProviderError>) {
        match result {
            Ok(_) => self.edge.answered(),
            Err(error) => self.failed(error),
        }
    }

    fn failed(&self, error: &ProviderError) {
        let words = error.to_string();
        match error {
            ProviderError::Edge(error) => error.report_to(&self.edge),
            ProviderError::Status { status, .. } => {
                let kind = match status {
                    429 => FailureKind::Throttled,
                    500.. => FailureKind::ServerError,
                    _ => FailureKind::Refused,
                };
                self.edge.failed_for(kind, &words, error.retry_after());
            }
            ProviderError::Answer { .. } => self.edge.failed(FailureKind::Refused, &words),
        }
    }
}

/// An answer with the status 200.
fn ok(endpoint: OidcEndpoint, answer: WebAnswer) -> Result<WebAnswer, ProviderError> {
    match answer.status {
        200 => Ok(answer),
        status => Err(ProviderError::Status {
            endpoint,
            status,
            retry_after: answer.retry_after,
        }),
    }
}

impl ProviderError {
    /// The pause that the provider asks for.
    fn retry_after(&self) -> Duration {
        match self {
            Self::Edge(error) => EdgeError::left_alone_in(error),
            Self::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            Self::Answer { .. } => Duration::ZERO,
        }
    }
}

impl From<ProviderError> for OidcRefusal {
    fn from(error: ProviderError) -> Self {
        match error {
            // A retry does not cure it, but the next refresh may.
            ProviderError::Answer { .. } | ProviderError::Edge(_) => Self::unavailable(error),
            ProviderError::Status {
                status: 429 | 500..,
                ..
            } => Self::unavailable(error),
            ProviderError::Status {
                endpoint, status, ..
            } => Self::EndpointRejected { endpoint, status },
        }
    }
}

impl OidcRefusal {
    fn unavailable(error: ProviderError) -> Self {
        Self::Unavailable {
            retry_after: error.retry_after().max(ASKED_AGAIN),
            source: Some(error),
        }
    }
}
