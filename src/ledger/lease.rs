//! Who works a job now, where several workers share a ledger: the one record that changes.
//!
//! A lease is for liveness alone. It lets a worker that finds an intent without an outcome tell a living colleague,
//! for whom it waits, from a dead one, whose doubt it records. A lease that is wrong costs a wait or a needless doubt; what
//! keeps a mail from being sent twice without anybody's decision are the records that never change.
//!
//! How old a lease is says the store, by its own clock alone: the workers' clocks do not matter.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::LedgerError;
use crate::cancellation::Cancellation;
use crate::job::JobId;
use crate::keyring::nonce;
use crate::text::chain;

/// How long a lease lasts; renewed at a third of it.
pub const LEASE: Duration = Duration::from_secs(60);

/// How much longer a lease is respected than it lasts: stores tell time in whole seconds, and a renewal takes its time.
pub const MARGIN: Duration = Duration::from_secs(15);

/// How long giving a lease back may take: it ends by itself otherwise.
const RELEASE: Duration = Duration::from_secs(5);

/// A process that works jobs: another one at every start of the program, so that none is taken for its dead predecessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(Arc<str>);

impl Owner {
    /// Somebody who has never been.
    pub fn new() -> Self {
        Self(nonce().into())
    }

    /// The name, as records have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// Who works the job.
    pub owner: String,
    /// Different at every write: tells ours from another's.
    pub nonce: String,
    /// For how long from the instant at which it was written; 0 when it was given back.
    pub lasts_secs: u64,
}

impl LeaseTerms {
    /// New terms for an owner.
    pub fn new(owner: &Owner, lasts: Duration) -> Self {
        Self {
            owner: owner.to_string(),
            nonce: nonce(),
            lasts_secs: lasts.as_secs(),
        }
    }
}

/// What names one state of a lease: an entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTag(pub String);

/// A lease as it was found.
#[derive(Debug, Clone)]
pub struct SeenLease {
    /// What it says.
    pub terms: LeaseTerms,
    /// How long ago it was written, by the store's clock.
    pub age: Duration,
    /// Which state of it this is.
    pub tag: LeaseTag,
}

impl SeenLease {
    /// For how long its owner still counts as living; nothing when it does not.
    fn left(&self) -> Option<Duration> {
        let lasts = Duration::from_secs(self.terms.lasts_secs);
        if lasts.is_zero() {
            return None;
        }
        (lasts + MARGIN)
            .checked_sub(self.age)
            .filter(|left| !left.is_zero())
    }
}

/// Where leases are kept.
#[async_trait]
pub trait Leases: Send + Sync {
    /// The lease on a job, if anybody ever had one.
    async fn lease(&self, job: &JobId) -> Result<Option<SeenLease>, LedgerError>;

    /// Writes a lease in place of the state `over`, or of none; nothing is written, and returned, when there is another.
    async fn put_lease(
        &self,
        job: &JobId,
        over: Option<&LeaseTag>,
        terms: &LeaseTerms,
    ) -> Result<Option<LeaseTag>, LedgerError>;
}

/// Whether the job is ours to work.
#[derive(Debug)]
pub enum Taken<'a> {
    /// It is.
    Held(LeaseHold<'a>),
    /// Somebody who lives works it: `busy-wait`.
    Busy {
        /// When it is worth another look.
        left: Duration,
    },
}

/// A lease that is ours.
pub struct LeaseHold<'a> {
    leases: &'a dyn Leases,
    job: JobId,
    owner: Owner,
    tag: LeaseTag,
    renewed_at: Instant,
}

impl fmt::Debug for LeaseHold<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("job", &self.job)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Takes the lease on a job, unless somebody who lives has it.
pub async fn take<'a>(
    leases: &'a dyn Leases,
    job: &JobId,
    owner: &Owner,
) -> Result<Taken<'a>, LedgerError> {
    let began = Instant::now();
    let terms = LeaseTerms::new(owner, LEASE);
    // Most jobs are new, and then this is all.
    let mut tag = leases.put_lease(job, None, &terms).await?;
    if tag.is_none() {
        let seen = leases.lease(job).await?;
        if let Some(seen) = &seen
            && seen.terms.owner != owner.as_str()
            && let Some(left) = seen.left()
        {
            return Ok(Taken::Busy { left });
        }
        let over = seen.map(|seen| seen.tag);
        tag = leases.put_lease(job, over.as_ref(), &terms).await?;
    }
    Ok(match tag {
        Some(tag) => Taken::Held(LeaseHold {
            leases,
            job: job.clone(),
            owner: owner.clone(),
            tag,
            renewed_at: began,
        }),
        None => Taken::Busy { left: LEASE },
    })
}

impl LeaseHold<'_> {
    /// Works `work` to its end while renewing the lease. When it is lost, `stop` is asked, so that the work ends before its
    /// next step that cannot be undone.
    pub async fn hold_while<T>(&mut self, work: impl Future<Output = T>, stop: &Cancellation) -> T {
        let renewing = self.renew_until_lost(stop);
        tokio::select! {
            biased;
            result = work => result,
            never = renewing => never,
        }
    }

    async fn renew_until_lost<T>(&mut self, stop: &Cancellation) -> T {
        let mut third = tokio::time::interval(LEASE / 3);
        third.reset();
        loop {
            third.tick().await;
            let now = Instant::now();
            let terms = LeaseTerms::new(&self.owner, LEASE);
            match self
                .leases
                .put_lease(&self.job, Some(&self.tag), &terms)
                .await
            {
                Ok(Some(tag)) => {
                    self.tag = tag;
                    self.renewed_at = now;
                }
                Ok(None) => {
                    tracing::warn!(job.id = %self.job, "another worker has taken the job for a dead one's; stopping");
                    break;
                }
                Err(error) => {
                    tracing::warn!(job.id = %self.job, error = chain(&error), "could not renew the lease on a job; trying again");
                    if self.renewed_at.elapsed() >= LEASE {
                        break;
                    }
                }
            }
        }
        stop.cancel();
        std::future::pending().await
    }

    /// Gives the lease back, so that the next worker need not wait for its end.
    pub async fn release(self) {
        let over = LeaseTerms::new(&self.owner, Duration::ZERO);
        let released = self.leases.put_lease(&self.job, Some(&self.tag), &over);
        if let Ok(Err(error)) = tokio::time::timeout(RELEASE, released).await {
            tracing::debug!(job.id = %self.job, error = chain(&error), "could not give the lease on a job back; it ends by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::MemoryLedger;

    fn job() -> JobId {
        "job".parse().unwrap()
    }

    async fn is_busy(ledger: &MemoryLedger, owner: &Owner) -> bool {
        matches!(
            take(ledger, &job(), owner).await.unwrap(),
            Taken::Busy { .. }
        )
    }

    async fn held<'a>(ledger: &'a MemoryLedger, owner: &Owner) -> LeaseHold<'a> {
        match take(ledger, &job(), owner).await.unwrap() {
            Taken::Held(hold) => hold,
            Taken::Busy { left } => panic!("busy for {left:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_living_owner_keeps_the_job_and_a_dead_one_loses_it() {
        let ledger = MemoryLedger::default();
        let (one, other) = (Owner::new(), Owner::new());
        let mut hold = held(&ledger, &one).await;
        let work = tokio::time::sleep(Duration::from_secs(600));
        let looking = async {
            tokio::time::sleep(Duration::from_secs(590)).await;
            assert!(is_busy(&ledger, &other).await, "it was renewed");
        };
        let stop = Cancellation::default();
        tokio::join!(hold.hold_while(work, &stop), looking);
        assert!(stop.check().is_ok());
        // It dies here: nothing renews, and nobody gives it back.
        tokio::time::sleep(LEASE + MARGIN - Duration::from_secs(25)).await;
        assert!(is_busy(&ledger, &other).await, "it may only have been slow");
        tokio::time::sleep(Duration::from_secs(26)).await;
        assert!(!is_busy(&ledger, &other).await);
        assert!(is_busy(&ledger, &one).await, "now it is the other's");
    }

    #[tokio::test(start_paused = true)]
    async fn work_whose_lease_is_lost_is_asked_to_stop() {
        let ledger = MemoryLedger::default();
        let mut hold = held(&ledger, &Owner::new()).await;
        let stolen = LeaseTerms::new(&Owner::new(), LEASE);
        let tag = hold.tag.clone();
        ledger
            .put_lease(&job(), Some(&tag), &stolen)
            .await
            .unwrap()
            .unwrap();
        let stop = Cancellation::default();
        let work = async {
            while stop.check().is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Instant::now()
        };
        let began = Instant::now();
        let ended = hold.hold_while(work, &stop).await;
        assert!(ended - began <= LEASE / 3 + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_can_be_taken_at_once_also_by_its_owner() {
        let ledger = MemoryLedger::default();
        let (one, other) = (Owner::new(), Owner::new());
        held(&ledger, &one).await.release().await;
        drop(held(&ledger, &other).await);
        drop(held(&ledger, &other).await);
        assert!(is_busy(&ledger, &one).await);
    }
}
