//! A ledger in memory, for tests.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;

use super::lease::{LeaseTag, LeaseTerms, Leases, SeenLease};
use super::picture_cache::PictureCache;
use super::portal::{PortalCreated, PortalRecords};
use super::{Created, Kind, Ledger, LedgerError, Record};
use crate::job::JobId;

/// The name of a listing's page: the job, the listing's name, the page's number.
type PageName = (JobId, String, u32);

/// Records in the order in which they were created.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    records: Mutex<Vec<Record>>,
    pages: Mutex<HashMap<PageName, Vec<u8>>>,
    leases: Mutex<HashMap<JobId, (LeaseTerms, Instant)>>,
    picture_cache: Mutex<HashMap<String, String>>,
    portal: Arc<MemoryPortal>,
}

/// Records of the portal in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryPortal {
    records: Mutex<BTreeMap<String, Vec<u8>>>,
}

#[async_trait]
impl PortalRecords for MemoryPortal {
    async fn create(&self, name: &str, body: Vec<u8>) -> Result<PortalCreated, LedgerError> {
        match lock(&self.records).entry(name.to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert(body);
                Ok(PortalCreated::Ours)
            }
            Entry::Occupied(existing) => Ok(PortalCreated::of(&body, existing.get().clone())),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(lock(&self.records).get(name).cloned())
    }

    async fn names(
        &self,
        below: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, LedgerError> {
        let records = lock(&self.records);
        let from = format!("{below}{}", after.unwrap_or_default());
        let names = records.range(from..).map(|(name, _)| name);
        let names = names.map_while(|name| name.strip_prefix(below));
        let later = names.filter(|name| after.is_none_or(|after| *name > after));
        Ok(later.take(limit).map(ToOwned::to_owned).collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn create(&self, record: Record) -> Result<Created, LedgerError> {
        let mut records = lock(&self.records);
        let same = |other: &&Record| {
            (&other.job, &other.rid, other.n, other.kind)
                == (&record.job, &record.rid, record.n, record.kind)
        };
        if let Some(existing) = records.iter().find(same) {
            if existing.nonce == record.nonce {
                return Ok(Created::Ours);
            }
            return Ok(Created::Theirs(existing.clone()));
        }
        records.push(record);
        Ok(Created::Ours)
    }

    async fn records(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        Ok(lock(&self.records)
            .iter()
            .filter(|record| record.job == *job)
            .cloned()
            .collect())
    }

    async fn records_of(&self, job: &JobId, rid: &str) -> Result<Vec<Record>, LedgerError> {
        Ok(self
            .records(job)
            .await?
            .into_iter()
            .filter(|record| record.rid == rid)
            .collect())
    }

    async fn reports_of_parts(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        let mut records = lock(&self.records).clone();
        records.retain(|record| record.job.whole().as_ref() == Some(job));
        let reported: Vec<JobId> = records
            .iter()
            .filter(|record| matches!(record.kind, Kind::Delivered | Kind::Bounced))
            .map(|record| record.job.clone())
            .collect();
        records.retain(|record| !record.rid.is_empty() && reported.contains(&record.job));
        Ok(records)
    }

    async fn jobs(&self, limit: usize) -> Result<Vec<JobId>, LedgerError> {
        let mut jobs: Vec<JobId> = Vec::new();
        for record in lock(&self.records).iter().rev() {
            let is_part = record.job.whole().is_some();
            if record.kind != Kind::Served && !is_part && !jobs.contains(&record.job) {
                jobs.push(record.job.clone());
            }
        }
        jobs.truncate(limit);
        Ok(jobs)
    }

    async fn keep_page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
        page: Vec<u8>,
    ) -> Result<(), LedgerError> {
        lock(&self.pages).insert((job.clone(), listing.to_owned(), number), page);
        Ok(())
    }

    async fn page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let name = (job.clone(), listing.to_owned(), number);
        Ok(lock(&self.pages).get(&name).cloned())
    }

    async fn forget_pages(&self, job: &JobId) -> Result<(), LedgerError> {
        lock(&self.pages).retain(|name, _| name.0 != *job);
        Ok(())
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn picture_cache(&self) -> Option<&dyn PictureCache> {
        Some(self)
    }

    fn portal_records(&self) -> Arc<dyn PortalRecords> {
        let records: Arc<MemoryPortal> = Arc::clone(&self.portal);
        records
    }
}

#[async_trait]
impl PictureCache for MemoryLedger {
    async fn recall(&self, names: &[String]) -> Result<Vec<Option<String>>, LedgerError> {
        let picture_cache = lock(&self.picture_cache);
        Ok(names
            .iter()
            .map(|name| picture_cache.get(name).cloned())
            .collect())
    }

    async fn keep(&self, things: &[(String, String)]) -> Result<(), LedgerError> {
        lock(&self.picture_cache).extend(things.iter().cloned());
        Ok(())
    }
}

#[async_trait]
impl Leases for MemoryLedger {
    async fn lease(&self, job: &JobId) -> Result<Option<SeenLease>, LedgerError> {
        Ok(lock(&self.leases)
            .get(job)
            .map(|(terms, written)| SeenLease {
                terms: terms.clone(),
                age: written.elapsed(),
                tag: LeaseTag(terms.nonce.clone()),
            }))
    }

    async fn put_lease(
        &self,
        job: &JobId,
        over: Option<&LeaseTag>,
        terms: &LeaseTerms,
    ) -> Result<Option<LeaseTag>, LedgerError> {
        let mut leases = lock(&self.leases);
        let present = leases
            .get(job)
            .map(|(terms, _)| LeaseTag(terms.nonce.clone()));
        let tag = LeaseTag(terms.nonce.clone());
        // An earlier try with these terms was carried out.
        if present.as_ref() == Some(&tag) {
            return Ok(present);
        }
        if present.as_ref() != over {
            return Ok(None);
        }
        leases.insert(job.clone(), (terms.clone(), Instant::now()));
        Ok(Some(tag))
    }
}
