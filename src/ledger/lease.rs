//! Which worker runs a job, where several workers share a ledger: the one record that changes.
//!
//! A lease is about liveness only. With it, a worker that finds an intent without an outcome can tell a living owner,
//! for which it waits, from a dead one, whose attempt it records as in doubt. A wrong lease costs a wait or an
//! unnecessary doubt. The immutable records are what prevents a second mail without a decision.
//!
//! The age of a lease is measured by the store's clock alone: the workers' clocks do not matter.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::LedgerError;
use crate::cancellation::Cancellation;
use crate::edge::{EdgeError, ErrorKind};
use crate::job::JobId;
use crate::keyring::nonce;
use crate::text::chain;

/// How long a lease lasts; it is renewed at a third of that.
pub const LEASE: Duration = Duration::from_secs(60);

/// How much longer a lease is respected than it lasts: stores keep time in whole seconds, and a renewal takes its time.
pub const MARGIN: Duration = Duration::from_secs(15);

/// How long the release of a lease may take: otherwise it expires by itself.
const RELEASE: Duration = Duration::from_secs(5);

/// A process that works jobs: a new one at every start of the program, so that a process is never taken for its dead
/// predecessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(Arc<str>);

impl Owner {
    /// An owner with a new random name.
    pub fn new() -> Self {
        Self(nonce().into())
    }

    /// The name, as in records.
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

/// The content of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// The owner, which works the job.
    pub owner: String,
    /// Different at every write: it tells our lease from another's.
    pub nonce: String,
    /// How long it lasts, from the instant at which it was written; 0 when it was given back.
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

/// Identifies one state of a lease: an entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTag(pub String);

/// A lease as it was found.
#[derive(Debug, Clone)]
pub struct SeenLease {
    /// The content.
    pub terms: LeaseTerms,
    /// How long ago it was written, by the store's clock.
    pub age: Duration,
    /// The tag of this state.
    pub tag: LeaseTag,
}

impl SeenLease {
    /// How long its owner still counts as alive; `None` if it does not.
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

/// The store of leases.
#[async_trait]
pub trait Leases: Send + Sync {
    /// The lease on a job, if there ever was one.
    async fn lease(&self, job: &JobId) -> Result<Option<SeenLease>, LedgerError>;

    /// Writes a lease in place of the state `over`, or of none. Writes nothing and returns `None` if the lease is in
    /// another state.
    async fn put_lease(
        &self,
        job: &JobId,
        over: Option<&LeaseTag>,
        terms: &LeaseTerms,
    ) -> Result<Option<LeaseTag>, LedgerError>;

    /// The error of a store that contradicts itself about the lease on a job (see [`CONTRADICTION`]). A store with an edge for
    /// writes reports the failure there.
    fn contradicted(&self, job: &JobId) -> LedgerError {
        let action = format!("take the ledger's lease on the job {job}");
        EdgeError::new(action, ErrorKind::Failed, CONTRADICTION).into()
    }
}

/// A store that rejects a write because the object exists, and then has no such object: a fault of the store, since the ledger
/// deletes nothing.
pub const CONTRADICTION: &str =
    "the store rejected the write because the object exists, and has no such object";

/// Whether the lease on the job is ours.
#[derive(Debug)]
pub enum Taken<'a> {
    /// The lease is ours.
    Held(LeaseHold<'a>),
    /// A living worker has it: `busy-wait`.
    Busy {
        /// When to look again.
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

/// Takes the lease on a job that never had one; `None` if there is one.
///
/// Most jobs are new, and this succeeds. It is no proof that the job is new, since a lease may expire with its bucket's lifecycle: the
/// plan, which is created once, decides.
pub async fn take_first<'a>(
    leases: &'a dyn Leases,
    job: &JobId,
    owner: &Owner,
) -> Result<Option<LeaseHold<'a>>, LedgerError> {
    let began = Instant::now();
    let terms = LeaseTerms::new(owner, LEASE);
    let tag = leases.put_lease(job, None, &terms).await?;
    Ok(tag.map(|tag| LeaseHold::new(leases, job, owner, tag, began)))
}

/// Takes the lease on a job that has one, unless a living worker has it.
pub async fn take_over<'a>(
    leases: &'a dyn Leases,
    job: &JobId,
    owner: &Owner,
) -> Result<Taken<'a>, LedgerError> {
    let began = Instant::now();
    let terms = LeaseTerms::new(owner, LEASE);
    let seen = leases.lease(job).await?;
    if let Some(seen) = &seen
        && seen.terms.owner != owner.as_str()
        && let Some(left) = seen.left()
    {
        return Ok(Taken::Busy { left });
    }
    let over = seen.map(|seen| seen.tag);
    let tag = leases.put_lease(job, over.as_ref(), &terms).await?;
    // Otherwise the job would wait for a worker that does not exist.
    if tag.is_none() && over.is_none() && leases.lease(job).await?.is_none() {
        return Err(leases.contradicted(job));
    }
    Ok(match tag {
        Some(tag) => Taken::Held(LeaseHold::new(leases, job, owner, tag, began)),
        None => Taken::Busy { left: LEASE },
    })
}

impl<'a> LeaseHold<'a> {
    fn new(
        leases: &'a dyn Leases,
        job: &JobId,
        owner: &Owner,
        tag: LeaseTag,
        renewed_at: Instant,
    ) -> Self {
        Self {
            leases,
            job: job.clone(),
            owner: owner.clone(),
            tag,
            renewed_at,
        }
    }
}

impl LeaseHold<'_> {
    /// Runs `work` to its end while renewing the lease. When the lease is lost, `stop` is cancelled, so that the work ends
    /// before its next irreversible step.
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
        let mut unanswered = None;
        loop {
            third.tick().await;
            // A renewal whose answer was lost may have been carried out: with the same terms the next one finds its own.
            let renewal = unanswered
                .get_or_insert_with(|| (LeaseTerms::new(&self.owner, LEASE), Instant::now()));
            let (terms, began) = &*renewal;
            let put = self.leases.put_lease(&self.job, Some(&self.tag), terms);
            match tokio::time::timeout_at(self.renewed_at + LEASE, put).await {
                Ok(Ok(Some(tag))) => {
                    self.tag = tag;
                    self.renewed_at = *began;
                    unanswered = None;
                }
                Ok(Ok(None)) => {
                    tracing::warn!(job.id = %self.job, "another worker has taken over the job's lease; stopping");
                    break;
                }
                Ok(Err(error)) => {
                    tracing::warn!(job.id = %self.job, error = chain(&error), "could not renew the lease on a job; retrying");
                }
                // Other workers may take the job over soon.
                Err(_) => {
                    tracing::warn!(job.id = %self.job, "could not renew the lease on a job before it expired; stopping");
                    break;
                }
            }
        }
        stop.cancel();
        std::future::pending().await
    }

    /// Gives the lease back, so that the next worker need not wait until it expires.
    pub async fn release(self) {
        let over = LeaseTerms::new(&self.owner, Duration::ZERO);
        let released = self.leases.put_lease(&self.job, Some(&self.tag), &over);
        if let Ok(Err(error)) = tokio::time::timeout(RELEASE, released).await {
            tracing::debug!(job.id = %self.job, error = chain(&error), "could not release the lease on a job; it will expire");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::ledger::memory::MemoryLedger;

    fn job() -> JobId {
        "job".parse().unwrap()
    }

    /// As a worker does it.
    async fn take<'a>(
        ledger: &'a MemoryLedger,
        job: &JobId,
        owner: &Owner,
    ) -> Result<Taken<'a>, LedgerError> {
        match take_first(ledger, job, owner).await? {
            Some(hold) => Ok(Taken::Held(hold)),
            None => take_over(ledger, job, owner).await,
        }
    }

    #[tokio::test]
    async fn only_the_first_lease_on_a_job_is_new() {
        let ledger = MemoryLedger::default();
        let first = async |owner| take_first(&ledger, &job(), owner).await.unwrap();
        let (one, other) = (Owner::new(), Owner::new());
        let hold = first(&one).await.expect("there was none");
        assert!(first(&other).await.is_none());
        assert!(first(&one).await.is_none(), "not even for its owner");
        hold.release().await;
        assert!(first(&other).await.is_none(), "one was given back");
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
        // The owner dies here: the lease is neither renewed nor given back.
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

    /// Leases of which the first renewals are carried out, and their answers are lost; then no request is answered.
    #[derive(Debug)]
    struct LostAnswers {
        ledger: MemoryLedger,
        lost: AtomicU32,
        is_silent: bool,
    }

    #[async_trait]
    impl Leases for LostAnswers {
        async fn lease(&self, job: &JobId) -> Result<Option<SeenLease>, LedgerError> {
            self.ledger.lease(job).await
        }

        async fn put_lease(
            &self,
            job: &JobId,
            over: Option<&LeaseTag>,
            terms: &LeaseTerms,
        ) -> Result<Option<LeaseTag>, LedgerError> {
            let tag = self.ledger.put_lease(job, over, terms).await;
            let is_renewal = over.is_some();
            if is_renewal && self.is_silent {
                return std::future::pending().await;
            }
            let lost = |left: u32| left.checked_sub(1);
            match is_renewal && self.lost.fetch_update(Relaxed, Relaxed, lost).is_ok() {
                true => Err(self.contradicted(job)),
                false => tag,
            }
        }
    }

    async fn held_for(leases: &LostAnswers, work: Duration) -> (bool, Duration) {
        let taken = take_first(leases, &job(), &Owner::new()).await;
        let mut hold = taken.unwrap().expect("there was none");
        let (stop, began) = (Cancellation::default(), Instant::now());
        let working = async {
            while began.elapsed() < work && stop.check().is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            began.elapsed()
        };
        let ended = hold.hold_while(working, &stop).await;
        (stop.check().is_ok(), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_whose_answers_were_lost_are_its_own() {
        let leases = LostAnswers {
            ledger: MemoryLedger::default(),
            lost: AtomicU32::new(2),
            is_silent: false,
        };
        let (is_held, _) = held_for(&leases, Duration::from_secs(600)).await;
        assert!(is_held, "no other worker has taken it");
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_when_the_lease_does_although_its_renewal_has_no_answer() {
        let leases = LostAnswers {
            ledger: MemoryLedger::default(),
            lost: AtomicU32::new(0),
            is_silent: true,
        };
        let (is_held, ended) = held_for(&leases, Duration::from_secs(600)).await;
        assert!(!is_held);
        assert!(ended <= LEASE + Duration::from_secs(1), "{ended:?}");
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
