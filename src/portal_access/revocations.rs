//! What was revoked, restored or moved, as of a check that is not older than the configuration allows.
//!
//! Changes are a log of records with ordinals. A check asks for the ordinal behind the last known one until there is none. A
//! read of the ledger finds every record that was created before it began, so a process that begins a check after a revocation
//! returned knows of it. Opens share checks: an open waits for a check that began at most `revocation_check` before it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use crate::edge::{EdgeError, ErrorKind};
use crate::job::{Bucket, JobId};
use crate::ledger::LedgerError;
use crate::ledger::portal::{ChangeKind, ChangeTarget, LinkChange, PortalLedger};

/// How long a check may take before its opens count as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a failed check is shared at least, so that opens in an outage do not each wait for one.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// The revocations that this process knows, and how fresh they are.
#[derive(Debug)]
pub struct Revocations {
    records: PortalLedger,
    check_age: Duration,
    stale_max: Duration,
    known: RwLock<RevokedLinks>,
    checks: Mutex<Checks>,
    /// One check at a time.
    checking: tokio::sync::Mutex<()>,
}

/// When the last checks began.
#[derive(Debug, Default, Clone, Copy)]
struct Checks {
    good: Option<Instant>,
    failed: Option<Instant>,
    /// Whether the last check found a damaged record.
    is_damaged: bool,
}

/// What is revoked now, and which ends were moved.
#[derive(Debug, Default)]
pub struct RevokedLinks {
    /// How many changes it reflects; `None` before the first check.
    changes: Option<u64>,
    revoked: HashMap<ChangeTarget, Timestamp>,
    ends: HashMap<JobId, Timestamp>,
}

impl RevokedLinks {
    /// Takes the changes in their order.
    pub fn apply(&mut self, change: LinkChange) {
        let LinkChange {
            kind, target, at, ..
        } = change;
        match (kind, target) {
            (ChangeKind::Revoked, target) => {
                self.revoked.insert(target, at);
            }
            (ChangeKind::Restored, target) => {
                self.revoked.remove(&target);
            }
            (ChangeKind::Moved { until }, ChangeTarget::Job { job }) => {
                self.ends.insert(job, until);
            }
            // Only the links of a job have an end that can be moved.
            (ChangeKind::Moved { .. }, _) => {}
        }
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// When a target was revoked, if it is.
    pub fn of(&self, target: &ChangeTarget) -> Option<Timestamp> {
        self.revoked.get(target).copied()
    }

    /// When a link was revoked, if it is: by its job, its recipient, its object or itself.
    pub fn link(
        &self,
        job: &JobId,
        rid: &str,
        object: Option<(&Bucket, &str)>,
        link_id: &str,
    ) -> Option<Timestamp> {
        if self.revoked.is_empty() {
            return None;
        }
        let mut targets = vec![
            ChangeTarget::Job { job: job.clone() },
            ChangeTarget::Link {
                link_id: link_id.to_owned(),
            },
        ];
        targets.extend(object.map(|(bucket, key)| ChangeTarget::Object {
            bucket: bucket.clone(),
            key: key.to_owned(),
        }));
        let of_recipient = self.recipient(job, rid);
        of_recipient.or_else(|| targets.iter().find_map(|target| self.of(target)))
    }

    /// When a recipient was revoked, in a job or in all.
    pub fn recipient(&self, job: &JobId, rid: &str) -> Option<Timestamp> {
        let of = |job| {
            let rid = rid.to_owned();
            self.of(&ChangeTarget::Recipient { rid, job })
        };
        if self.revoked.is_empty() {
            return None;
        }
        of(None).or_else(|| of(Some(job.clone())))
    }

    /// The moved end of a job's links, if it was moved.
    pub fn end_of(&self, job: &JobId) -> Option<Timestamp> {
        self.ends.get(job).copied()
    }

    /// The instant before which sessions of a recipient do not count, if there is one.
    pub fn sessions_of(&self, rid: &str) -> Option<Timestamp> {
        self.of(&ChangeTarget::Sessions {
            rid: rid.to_owned(),
        })
    }
}

impl Revocations {
    /// Revocations in these records. `check_age` is how old a check may be when a link opens, and `stale_max` how old it may be
    /// while the ledger does not answer.
    pub fn new(records: PortalLedger, check_age: Duration, stale_max: Duration) -> Self {
        Self {
            records,
            check_age,
            stale_max,
            known: RwLock::default(),
            checks: Mutex::default(),
            checking: tokio::sync::Mutex::new(()),
        }
    }

    /// Asks what is known, as of a check that is young enough.
    ///
    /// # Errors
    /// The ledger does not answer, and the last good check is older than `stale_max`; or a record is damaged.
    pub async fn ask<T>(
        &self,
        question: impl FnOnce(&RevokedLinks) -> T,
    ) -> Result<T, LedgerError> {
        self.refresh().await?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Ok(question(&known))
    }

    fn checks(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh(&self) -> Result<(), LedgerError> {
        let arrived = Instant::now();
        let is_young = |began: Option<Instant>, age: Duration| {
            began.is_some_and(|began| began + age >= arrived)
        };
        if is_young(self.checks().good, self.check_age) {
            return Ok(());
        }
        let _one = self.checking.lock().await;
        // Another open may have made the check meanwhile.
        let checks = *self.checks();
        if is_young(checks.good, self.check_age) {
            return Ok(());
        }
        // What a damaged record hides may be a revocation, so each open looks again.
        if !checks.is_damaged && is_young(checks.failed, self.check_age.max(FAILED_FOR)) {
            return self.stale(checks, arrived, silent());
        }
        let began = Instant::now();
        let checked = timeout(CHECK_TIMEOUT, self.check()).await;
        match checked.unwrap_or_else(|_| Err(silent())) {
            Ok(()) => {
                *self.checks() = Checks {
                    good: Some(began),
                    ..Checks::default()
                };
                Ok(())
            }
            Err(error) => {
                let mut failed = self.checks();
                failed.failed = Some(Instant::now());
                failed.is_damaged = !may_pass(&error);
                drop(failed);
                self.stale(checks, arrived, error)
            }
        }
    }

    /// Goes on with what is known, if the last good check is not too old. Damage is no outage: what it hides may be a revocation.
    fn stale(
        &self,
        checks: Checks,
        arrived: Instant,
        error: LedgerError,
    ) -> Result<(), LedgerError> {
        let is_recent = checks
            .good
            .is_some_and(|began| began + self.stale_max >= arrived);
        match may_pass(&error) && is_recent {
            true => Ok(()),
            false => Err(error),
        }
    }

    async fn check(&self) -> Result<(), LedgerError> {
        let known = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .changes;
        let mut next = match known {
            Some(known) => known,
            None => {
                let all = self.records.changes().await?;
                let mut links = self.known.write().unwrap_or_else(PoisonError::into_inner);
                let count = all.len() as u64;
                all.into_iter().for_each(|change| links.apply(change));
                links.changes = Some(count);
                count
            }
        };
        while let Some(change) = self.records.change(next).await? {
            next += 1;
            let mut links = self.known.write().unwrap_or_else(PoisonError::into_inner);
            links.apply(change);
            links.changes = Some(next);
        }
        Ok(())
    }
}

/// Whether a check failed because the ledger does not answer.
const fn may_pass(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Store(_) | LedgerError::Database { .. })
}

/// The error of a check that was not answered in time.
fn silent() -> LedgerError {
    let action = "read the revocations in the ledger".to_owned();
    EdgeError::new(action, ErrorKind::Silent, "no answer in time").into()
}

#[cfg(test)]
mod tests;
