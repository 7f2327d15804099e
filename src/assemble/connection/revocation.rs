//! What `handout revoke` does at the store of one connection: it tags objects, and tries whether their links are refused.

use std::time::Duration;

use jiff::SignedDuration;
use presign::{PresignRequest, PresignedUrl};
use tokio::time::{Instant, sleep, timeout_at};

use super::{ConnectionRoute, embedded_sites, store_of_site};
use crate::assemble::OpenError;
use crate::clock::Clock;
use crate::config::Config;
use crate::config_error::ConfigError;
use crate::edge::Egress;
use crate::edge::http::{PieceRequest, WebClient};
use crate::environment::Environment;
use crate::job::Bucket;
use crate::keyring::Keyring;
use crate::links::signer::{Signer, SignerError};
use crate::plan::{Bound, ExpiryGuard, Lifetime};
use crate::store::s3::S3Store;
use crate::store::{ObjectStore, StoreError};

/// How far the link of the probe is backdated, for stores whose clock is behind.
const BACK: SignedDuration = SignedDuration::from_secs(60);

/// The pause before the second request of a probe, and the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// How long a single request may take.
const ONE_ANSWER: Duration = Duration::from_secs(10);

/// The longest answer to a probe that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// The store of a connection, and a signer of links to it.
#[derive(Debug)]
pub struct RevocationAccess {
    store: S3Store,
    signer: Signer,
    egress: Egress,
}

/// Why a probe could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The link cannot be signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The store did not say the bucket's region.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a probe's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The link was refused, this long after the first request.
    Refused(Duration),
    /// The link opened until the deadline.
    Opens,
    /// There is no object, or not this version of it.
    NotThere,
    /// There was no answer that says so until the deadline: the last status, or why there was none.
    Unknown(String),
}

/// Opens the store of a connection. `embedded` is the address at which this process serves directories.
///
/// # Errors
/// The configuration has no such connection, or it cannot be used.
pub async fn revocation_access(
    config: &Config,
    keyring: &Keyring,
    name: &str,
    embedded: Option<std::net::SocketAddr>,
    environment: &Environment,
) -> Result<RevocationAccess, OpenError> {
    let Some(wanted) = config.connections.get(name) else {
        let known: Vec<&str> = config.connections.keys().map(String::as_str).collect();
        let reason = format!("have none named {name:?}; known: {}", known.join(", "));
        return Err(ConfigError::value("connections", reason).into());
    };
    if wanted.directory.is_some() {
        let sites = embedded_sites(config, keyring);
        let site = sites.into_iter().find(|site| site.connection == name);
        let (site, address) = site.zip(embedded).ok_or_else(|| super::no_embedded(name))?;
        return Ok(RevocationAccess {
            store: store_of_site(&site, address),
            signer: site.signer(&config.embedded.public_url),
            egress: Egress::of_environment(environment)?,
        });
    }
    let route = Box::pin(ConnectionRoute::of_connection(name, wanted, environment)).await?;
    Ok(RevocationAccess {
        store: route.store(),
        signer: route.signer(),
        egress: route.egress,
    })
}

impl RevocationAccess {
    /// Adds the tag that revokes the links to an object, or removes it. Returns whether it was changed.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn mark(
        &self,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
        is_revoked: bool,
    ) -> Result<bool, StoreError> {
        self.store
            .mark_revoked(bucket, key, version, is_revoked)
            .await
    }

    /// Opens a link of its own to an object once, for its first byte.
    ///
    /// # Errors
    /// The link cannot be signed.
    pub async fn opens(
        &self,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
        clock: Clock,
    ) -> Result<ProbeOutcome, ProbeError> {
        let url = self
            .own_link(bucket, key, version, ONE_ANSWER, clock)
            .await?;
        let client = WebClient::new(self.egress.clone());
        let deadline = Instant::now() + ONE_ANSWER;
        Ok(open(&client, &url, deadline).await)
    }

    /// Opens a link of its own to an object, for its first byte, until the link is refused or `within` has passed. The link is made
    /// here and leaves this process for the store alone.
    ///
    /// # Errors
    /// The link cannot be signed.
    pub async fn probe(
        &self,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
        within: Duration,
        clock: Clock,
    ) -> Result<ProbeOutcome, ProbeError> {
        let url = self.own_link(bucket, key, version, within, clock).await?;
        let client = WebClient::new(self.egress.clone());
        let began = Instant::now();
        let deadline = began + within;
        let mut pause = FIRST_PAUSE;
        loop {
            let last = open(&client, &url, deadline).await;
            match last {
                ProbeOutcome::Refused(_) => return Ok(ProbeOutcome::Refused(began.elapsed())),
                ProbeOutcome::NotThere => return Ok(ProbeOutcome::NotThere),
                ProbeOutcome::Opens | ProbeOutcome::Unknown(_) => {}
            }
            if Instant::now() + pause >= deadline {
                return Ok(last);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn own_link(
        &self,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
        within: Duration,
        clock: Clock,
    ) -> Result<PresignedUrl, ProbeError> {
        let region = self.store.region(bucket).await?;
        let signed_at = clock().checked_sub(BACK).unwrap_or_else(|_| clock());
        // A link that ends while it is tried would be refused for that.
        let lives = within.as_secs() + 10 * 60;
        let expires_at = signed_at.checked_add(Duration::from_secs(lives));
        let expires_at = expires_at.unwrap_or(signed_at);
        let lifetime = Lifetime {
            signed_at,
            signed_for_secs: lives,
            expires_at,
            bound: Bound::Asked,
            fresh_until: expires_at,
        };
        let signing =
            self.signer
                .presigner(bucket, region.as_deref(), lifetime, ExpiryGuard::Ignore);
        let (presigner, _) = signing.await?;
        Ok(presigner.presign(&PresignRequest {
            key,
            version_id: version,
            ..PresignRequest::default()
        }))
    }
}

/// Opens a link once.
async fn open(client: &WebClient, url: &PresignedUrl, deadline: Instant) -> ProbeOutcome {
    let request = PieceRequest {
        url: url.expose(),
        is_head: false,
        range: Some((0, 0)),
        if_match: None,
    };
    let began = Instant::now();
    match timeout_at(deadline, client.piece(request, MAX_ANSWER)).await {
        Err(_) => ProbeOutcome::Unknown("no answer".to_owned()),
        Ok(Ok(answer)) => match answer.status {
            403 | 410 => ProbeOutcome::Refused(began.elapsed()),
            404 => ProbeOutcome::NotThere,
            // 416: of an empty object.
            200 | 206 | 416 => ProbeOutcome::Opens,
            status => ProbeOutcome::Unknown(format!("the status {status}")),
        },
        Ok(Err(error)) => ProbeOutcome::Unknown(crate::text::chain(&error)),
    }
}
