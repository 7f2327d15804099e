//! Jobs, people and objects that links were opened for, within a bound on memory.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::AccessRefusal;
use super::renditions::RenditionMap;
use crate::archive::streamed::StreamedZip;
use crate::bounds::MAX_PORTAL_CACHE_BYTES;
use crate::job::FilledMessage;
use crate::ledger::LedgerError;
use crate::ledger::portal::{PORTAL_PAGE, PortalJob, PortalLedger, PortalPerson};
use crate::links::listing::Entry;
use crate::portal_token::JobRef;

/// What a thing in the cache costs besides its texts, in bytes.
const OVERHEAD: usize = 256;

/// How many places of readers among the people of jobs are remembered: some 100 bytes each.
const MAX_PLACES: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is not zero");

/// The places of recipients among the people of jobs, by the id; `None` for a job that they are no recipients of.
type KnownPlaces = Mutex<LruCache<(JobRef, String), Option<u32>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum CacheKey {
    Job(JobRef),
    People(JobRef, u32),
    Objects(JobRef, u32),
    Zip(JobRef, u32),
    Renditions(JobRef),
}

#[derive(Debug, Clone)]
enum Cached {
    Job(Arc<PortalJob>),
    People(Arc<Vec<PortalPerson>>),
    Objects(Arc<Vec<Entry>>),
    Zip(Arc<StreamedZip>),
    Renditions(Arc<RenditionMap>),
}

/// The records that were read last. They never change, so they never are too old.
#[derive(Debug)]
pub(super) struct RecordCache {
    records: PortalLedger,
    places: KnownPlaces,
    kept: Mutex<CacheContents>,
}

#[derive(Debug)]
struct CacheContents {
    things: LruCache<CacheKey, (Cached, usize)>,
    bytes: usize,
    most: usize,
}

impl CacheContents {
    fn insert(&mut self, key: CacheKey, thing: Cached, bytes: usize) {
        if let Some((_, before)) = self.things.put(key, (thing, bytes)) {
            self.bytes -= before;
        }
        self.bytes += bytes;
        while self.bytes > self.most
            && let Some((_, (_, bytes))) = self.things.pop_lru()
        {
            self.bytes -= bytes;
        }
    }
}

impl RecordCache {
    pub(super) fn new(records: PortalLedger) -> Self {
        Self {
            records,
            places: Mutex::new(LruCache::new(MAX_PLACES)),
            kept: Mutex::new(CacheContents {
                things: LruCache::unbounded(),
                bytes: 0,
                most: MAX_PORTAL_CACHE_BYTES,
            }),
        }
    }

    pub(super) const fn records(&self) -> &PortalLedger {
        &self.records
    }

    fn kept(&self) -> MutexGuard<'_, CacheContents> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: CacheKey) -> Option<Cached> {
        self.kept().things.get(&key).map(|(thing, _)| thing.clone())
    }

    /// The record of a job; not known before its links are mailed.
    pub(super) async fn job(&self, reference: JobRef) -> Result<Arc<PortalJob>, AccessRefusal> {
        let key = CacheKey::Job(reference);
        if let Some(Cached::Job(job)) = self.get(key) {
            return Ok(job);
        }
        let job = self.records.job(reference).await?;
        let job = Arc::new(job.ok_or(AccessRefusal::NotYet)?);
        let texts = [
            Some(job.prefix.len()),
            job.title.as_ref().map(String::len),
            job.message.as_ref().map(FilledMessage::len_bytes),
        ];
        let bytes = 4 * OVERHEAD + texts.into_iter().flatten().sum::<usize>();
        self.kept()
            .insert(key, Cached::Job(Arc::clone(&job)), bytes);
        Ok(job)
    }

    async fn people(
        &self,
        reference: JobRef,
        page: u32,
    ) -> Result<Option<Arc<Vec<PortalPerson>>>, LedgerError> {
        let key = CacheKey::People(reference, page);
        if let Some(Cached::People(people)) = self.get(key) {
            return Ok(Some(people));
        }
        let Some(people) = self.records.people(reference, page).await? else {
            return Ok(None);
        };
        let people = Arc::new(people);
        let names = people.iter().filter_map(|person| person.name.as_ref());
        let bytes = people.len() * 2 * OVERHEAD + names.map(String::len).sum::<usize>();
        self.kept()
            .insert(key, Cached::People(Arc::clone(&people)), bytes);
        Ok(Some(people))
    }

    /// A recipient by the place in the job's people.
    pub(super) async fn person(
        &self,
        reference: JobRef,
        place: u32,
    ) -> Result<Option<PortalPerson>, LedgerError> {
        let people = self.people(reference, place / PORTAL_PAGE).await?;
        let at = (place % PORTAL_PAGE) as usize;
        Ok(people.and_then(|people| people.get(at).cloned()))
    }

    /// The place of a recipient in the job's people, by the id.
    pub(super) async fn place_of(
        &self,
        reference: JobRef,
        job: &PortalJob,
        rid: &str,
    ) -> Result<Option<u32>, LedgerError> {
        let lock = || self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (reference, rid.to_owned());
        let known = lock().get(&key).copied();
        if let Some(place) = known {
            return Ok(place);
        }
        // The people of a job are never changed.
        let place = self.found_place(reference, job, rid).await?;
        lock().put(key, place);
        Ok(place)
    }

    /// Looks through the pages of a job's people.
    async fn found_place(
        &self,
        reference: JobRef,
        job: &PortalJob,
        rid: &str,
    ) -> Result<Option<u32>, LedgerError> {
        for page in 0..job.people.div_ceil(PORTAL_PAGE) {
            let Some(people) = self.people(reference, page).await? else {
                continue;
            };
            let places = (page * PORTAL_PAGE..).zip(people.iter());
            let mut found = places.filter(|(_, person)| person.rid == rid);
            if let Some((place, _)) = found.next() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    async fn objects(
        &self,
        reference: JobRef,
        page: u32,
    ) -> Result<Option<Arc<Vec<Entry>>>, LedgerError> {
        let key = CacheKey::Objects(reference, page);
        if let Some(Cached::Objects(objects)) = self.get(key) {
            return Ok(Some(objects));
        }
        let Some(body) = self.records.objects(reference, page).await? else {
            return Ok(None);
        };
        let objects = serde_json::from_slice(&body);
        let objects: Vec<Entry> = objects.map_err(|_| LedgerError::Unreadable {
            key: format!("job/{reference}/objects/{page:07}"),
        })?;
        let objects = Arc::new(objects);
        let bytes = objects.len() * OVERHEAD + body.len();
        self.kept()
            .insert(key, Cached::Objects(Arc::clone(&objects)), bytes);
        Ok(Some(objects))
    }

    /// A ZIP that was kept.
    pub(super) fn kept_zip(&self, reference: JobRef, number: u32) -> Option<Arc<StreamedZip>> {
        match self.get(CacheKey::Zip(reference, number))? {
            Cached::Zip(zip) => Some(zip),
            _ => None,
        }
    }

    /// The renditions of a job that were kept.
    pub(super) fn kept_renditions(&self, reference: JobRef) -> Option<Arc<RenditionMap>> {
        match self.get(CacheKey::Renditions(reference))? {
            Cached::Renditions(map) => Some(map),
            _ => None,
        }
    }

    /// Keeps the renditions of a job.
    pub(super) fn keep_renditions(&self, reference: JobRef, map: &Arc<RenditionMap>, bytes: usize) {
        let (key, thing) = (
            CacheKey::Renditions(reference),
            Cached::Renditions(Arc::clone(map)),
        );
        self.kept().insert(key, thing, OVERHEAD + bytes);
    }

    /// Keeps a ZIP that is stored nowhere: its names, checksums and directory.
    pub(super) fn keep_zip(&self, reference: JobRef, number: u32, zip: &Arc<StreamedZip>) {
        let (key, bytes) = (CacheKey::Zip(reference, number), zip.memory_bytes());
        self.kept()
            .insert(key, Cached::Zip(Arc::clone(zip)), OVERHEAD + bytes);
    }

    /// An object by its place in the job's listing.
    pub(super) async fn object(
        &self,
        reference: JobRef,
        place: u32,
    ) -> Result<Option<Entry>, LedgerError> {
        let objects = self.objects(reference, place / PORTAL_PAGE).await?;
        let at = (place % PORTAL_PAGE) as usize;
        Ok(objects.and_then(|objects| objects.get(at).cloned()))
    }

    /// Some objects of the job's listing, from a place on.
    pub(super) async fn objects_from(
        &self,
        reference: JobRef,
        first: u32,
        count: u32,
    ) -> Result<Vec<(u32, Entry)>, LedgerError> {
        let mut some = Vec::with_capacity(count as usize);
        let end = first.saturating_add(count);
        let mut place = first;
        while place < end {
            let Some(objects) = self.objects(reference, place / PORTAL_PAGE).await? else {
                break;
            };
            let page_end = (place / PORTAL_PAGE + 1)
                .saturating_mul(PORTAL_PAGE)
                .min(end);
            for place in place..page_end {
                let entry = objects.get((place % PORTAL_PAGE) as usize);
                some.extend(entry.map(|entry| (place, entry.clone())));
            }
            place = page_end;
        }
        Ok(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let mut kept = CacheContents {
            things: LruCache::unbounded(),
            bytes: 0,
            most: 100,
        };
        let key = |number| CacheKey::People(JobRef([0; 8]), number);
        let thing = || Cached::People(Arc::new(Vec::new()));
        for number in 0..3 {
            kept.insert(key(number), thing(), 40);
            kept.things.get(&key(0));
        }
        assert!(kept.things.contains(&key(0)) && kept.things.contains(&key(2)));
        assert!(!kept.things.contains(&key(1)));
        kept.insert(key(2), thing(), 20);
        assert_eq!(kept.bytes, 60);
        kept.insert(key(3), thing(), 1000);
        assert_eq!((kept.bytes, kept.things.len()), (0, 0), "too large for it");
    }
}
