//! Tests a signed link as a recipient would open it.

use jiff::SignedDuration;
use presign::PresignRequest;
use presign::PresignedUrl;

use crate::clock::Clock;
use crate::edge::{Egress, http};
use crate::job::Bucket;
use crate::keyring::nonce;

use crate::links::connection::Connection;
use crate::links::link_trial::{LinkAnswer, Obstacle, judge};
use crate::links::signer::{Signer, SignerError};
use crate::plan::{Bound, ExpiryGuard, Lifetime};
use crate::store::StoreError;

/// How far the link is backdated, for stores whose clock is behind, and its lifetime from then on, in seconds.
const BACK: SignedDuration = SignedDuration::from_secs(60);
const LIVES_SECS: u64 = 300;

/// Why the test of a link could not be made, or why the link failed.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The link does not open.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// The link cannot be signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The store did not return the bucket's region.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A link, and where it leads.
struct LinkTrial {
    url: PresignedUrl,
    origin: String,
    region: String,
}

impl Connection {
    /// Whether its links name another server than Handout itself calls.
    pub const fn has_public_endpoint(&self) -> bool {
        self.own_signer.is_some()
    }

    /// Opens a link to a missing object of `bucket`, at the server that links name and at the server that Handout calls. Returns
    /// the server that links name, if links open there.
    ///
    /// # Errors
    /// Why the link failed, or why it could not be signed.
    pub async fn try_links(&self, bucket: &Bucket, clock: Clock) -> Result<String, WayError> {
        let key = format!("handout-check-{}", nonce());
        let trial = self.trial(&self.signer, bucket, &key, clock).await?;
        let (origin, region) = (trial.origin, trial.region);
        let public = open(&trial.url, self.s3.egress()).await;
        let public = public.map_err(|reason| Obstacle::NotReachable {
            origin: origin.clone(),
            reason,
        })?;
        let own = match &self.own_signer {
            Some(signer) => {
                let trial = self.trial(signer, bucket, &key, clock).await?;
                open(&trial.url, self.s3.egress()).await.ok()
            }
            None => None,
        };
        judge(&origin, &region, &public, own.as_ref())?;
        Ok(origin)
    }

    async fn trial(
        &self,
        signer: &Signer,
        bucket: &Bucket,
        key: &str,
        clock: Clock,
    ) -> Result<LinkTrial, WayError> {
        let region = self.store.region(bucket).await?;
        let signed_at = clock().checked_sub(BACK).unwrap_or_else(|_| clock());
        let lives = SignedDuration::from_secs(LIVES_SECS.cast_signed());
        let expires_at = signed_at.checked_add(lives).unwrap_or(signed_at);
        let lifetime = Lifetime {
            signed_at,
            signed_for_secs: LIVES_SECS,
            expires_at,
            bound: Bound::Asked,
            fresh_until: expires_at,
        };
        let region = region.as_deref();
        let signing = signer.presigner(bucket, region, lifetime, ExpiryGuard::Ignore);
        let (presigner, _) = signing.await?;
        let ask = PresignRequest {
            key,
            ..PresignRequest::default()
        };
        Ok(LinkTrial {
            url: presigner.presign(&ask),
            origin: presigner.origin().to_owned(),
            region: region.unwrap_or_else(|| signer.region()).to_owned(),
        })
    }
}

/// The answer to a link, or why there is none.
async fn open(url: &PresignedUrl, egress: &Egress) -> Result<LinkAnswer, String> {
    let (status, body) = http::get(url.expose(), egress.clone()).await?;
    Ok(LinkAnswer::read(status, &body))
}
