//! What was revoked, restored or moved, as of a check that is not older than the configuration allows.
//!
//! Changes are a log of records with ordinals. A check asks for the ordinal behind the last known one until there is none. A
//! read of the ledger finds every record that was created before it began, so a process that begins a check after a revocation
//! returned knows of it. Opens share checks: an open waits for a check that began at most `revocation_check` before it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use crate::edge::{EdgeError, ErrorKind};
use crate::job::{Bucket, JobId};
use crate::ledger::LedgerError;
use crate::ledger::portal::{ChangeKind, ChangeTarget, LinkChange, PortalLedger};
use crate::portal_token::JobRef;

/// How long a check may take before its opens count as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for the checks that read what was revoked before the start: an open has nothing to go on with, and has ten seconds.
const FIRST_CHECKS_TIMEOUT: Duration = Duration::from_secs(9);

/// How long a failed check is shared at least, so that opens in an outage do not each wait for one.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// The revocations that this process knows, and how fresh they are.
#[derive(Debug)]
pub struct Revocations {
    records: PortalLedger,
    check_age: Duration,
    stale_max: Duration,
    known: RwLock<RevokedLinks>,
    /// Whether the changes that were made before the first check are known.
    is_read: AtomicBool,
    /// How many these are, once they were counted.
    made_before: Mutex<Option<u64>>,
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
    /// How many changes it reflects.
    count: u64,
    revoked: HashMap<ChangeTarget, RevokedMark>,
    ends: HashMap<JobId, MovedEnd>,
}

/// A revocation that stands.
#[derive(Debug)]
struct RevokedMark {
    at: Timestamp,
    /// The number of its change, from 1.
    number: u64,
    refs: Vec<JobRef>,
}

/// The end of a job's links that was moved.
#[derive(Debug)]
struct MovedEnd {
    until: Timestamp,
    refs: Vec<JobRef>,
}

/// Whether a change that names these records of a job means this one.
fn means(refs: &[JobRef], reference: JobRef) -> bool {
    refs.is_empty() || refs.contains(&reference)
}

impl RevokedLinks {
    /// Takes the changes in their order.
    pub fn apply(&mut self, change: LinkChange) {
        let LinkChange {
            kind,
            target,
            refs,
            at,
            ..
        } = change;
        self.count += 1;
        match (kind, target) {
            (ChangeKind::Revoked, target) => {
                let number = self.count;
                self.revoked
                    .insert(target, RevokedMark { at, number, refs });
            }
            (ChangeKind::Restored, target) => {
                self.revoked.remove(&target);
            }
            (ChangeKind::Moved { until }, ChangeTarget::Job { job }) => {
                self.ends.insert(job, MovedEnd { until, refs });
            }
            // Only the links of a job have an end that can be moved.
            (ChangeKind::Moved { .. }, _) => {}
        }
    }

    /// How many changes it reflects.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// When a target was revoked, if it is.
    pub fn of(&self, target: &ChangeTarget) -> Option<Timestamp> {
        self.revoked.get(target).map(|mark| mark.at)
    }

    /// Whether a target is revoked with all these records of its job.
    pub fn covers(&self, target: &ChangeTarget, refs: &[JobRef]) -> bool {
        let mark = self.revoked.get(target);
        mark.is_some_and(|mark| refs.iter().all(|reference| means(&mark.refs, *reference)))
    }

    fn of_record(&self, target: &ChangeTarget, reference: JobRef) -> Option<Timestamp> {
        let mark = self.revoked.get(target)?;
        means(&mark.refs, reference).then_some(mark.at)
    }

    /// When a link was revoked, if it is: by its job, its recipient, its object or itself. `reference` is the job's record.
    pub fn link(
        &self,
        job: &JobId,
        reference: JobRef,
        rid: &str,
        object: Option<(&Bucket, &str)>,
        link_id: &str,
    ) -> Option<Timestamp> {
        if self.revoked.is_empty() {
            return None;
        }
        if let Some(whole) = job.whole()
            && let Some(at) = self.of(&ChangeTarget::Job { job: whole })
        {
            return Some(at);
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
        let mut targets = targets.iter();
        let of_recipient = self.recipient(job, reference, rid);
        of_recipient.or_else(|| targets.find_map(|target| self.of_record(target, reference)))
    }

    /// When an object below a prefix was revoked, if one is.
    pub fn object_below(&self, bucket: &Bucket, prefix: &str) -> Option<Timestamp> {
        self.revoked.iter().find_map(|(target, mark)| match target {
            ChangeTarget::Object { bucket: of, key } if of == bucket && key.starts_with(prefix) => {
                Some(mark.at)
            }
            _ => None,
        })
    }

    /// When a recipient was revoked, in a job or in all.
    pub fn recipient(&self, job: &JobId, reference: JobRef, rid: &str) -> Option<Timestamp> {
        if self.revoked.is_empty() {
            return None;
        }
        let of = |job| {
            let rid = rid.to_owned();
            self.of_record(&ChangeTarget::Recipient { rid, job }, reference)
        };
        of(None)
            .or_else(|| of(Some(job.clone())))
            .or_else(|| of(Some(job.whole()?)))
    }

    /// The moved end of a job's links, if it was moved.
    pub fn end_of(&self, job: &JobId, reference: JobRef) -> Option<Timestamp> {
        let end = self.ends.get(job)?;
        means(&end.refs, reference).then_some(end.until)
    }

    /// Whether the sessions of a recipient were revoked after this number of changes. No clock decides it.
    pub fn sessions_ended(&self, rid: &str, known_changes: u64) -> bool {
        let target = ChangeTarget::Sessions {
            rid: rid.to_owned(),
        };
        let mark = self.revoked.get(&target);
        mark.is_some_and(|mark| mark.number > known_changes)
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
            is_read: AtomicBool::new(false),
            made_before: Mutex::default(),
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
        let patience = match self.is_read.load(Ordering::Acquire) {
            true => CHECK_TIMEOUT,
            false => FIRST_CHECKS_TIMEOUT,
        };
        let checked = timeout(patience, self.check()).await;
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
        if !self.is_read.load(Ordering::Acquire) {
            // A check whose time is over leaves to the next one what it did not read.
            let missing = self.count()..self.made_before().await?;
            let reading = self.records.read_changes(missing, |change| {
                self.apply(vec![change]);
            });
            reading.await?;
            self.is_read.store(true, Ordering::Release);
        }
        // Nearly always there is none, and then one. Where there are two, there may be many.
        let mut found = 0;
        while let Some(change) = self.records.change(self.count()).await? {
            self.apply(vec![change]);
            found += 1;
            if found > 1 {
                let more = self.records.changes_from(self.count()).await?;
                self.apply(more);
            }
        }
        Ok(())
    }

    async fn made_before(&self) -> Result<u64, LedgerError> {
        let counted = || {
            self.made_before
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let known = *counted();
        let made = match known {
            Some(made) => made,
            None => self.records.change_count().await?,
        };
        *counted() = Some(made);
        Ok(made)
    }

    fn count(&self) -> u64 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.count()
    }

    fn apply(&self, changes: Vec<LinkChange>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        changes.into_iter().for_each(|change| known.apply(change));
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
