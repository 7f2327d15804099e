//! A job's objects, saved with its plan, so that a job that is retried hands out the same objects.
//!
//! They are saved page by page, as they were listed, so that a million need no more memory than ten. The plan is created
//! once and names the listing that counts: when two workers list at the same time, the pages of one of them are never read.
//! A few objects are in the plan itself, so that a small job writes no page.

use std::cmp::Ordering;
use std::collections::VecDeque;

use directory::Location;
use futures_util::future::join_all;
use futures_util::{TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::linkable::Unlinkable;
use super::lister::{Lister, Under};
use super::listing::{self, Entry, GatherError, Listing};

use crate::cancellation::{Cancellation, Stopped};
use crate::job::{Job, JobId, Key, Order, WhenEmpty};
use crate::keyring::nonce;
use crate::ledger::{Ledger, LedgerError};
use crate::plan::policy::describe;
use crate::plan::{Objects, Plan, Refusal};
use crate::store::{ObjectMeta, ObjectStore, Versions};

/// How many pages are written to the ledger at the same time.
const PAGES_AT_ONCE: usize = 4;

/// How many bytes of objects a plan has at most: some thirty objects. A plan is read whenever its job is looked at.
const MAX_BYTES_IN_PLAN: usize = 4096;

/// Where a job's objects are saved; part of its plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectSnapshot {
    /// The listing's name.
    pub listing: String,
    /// How many pages it has.
    pub pages: u32,
    /// Its one page, if it is here and not in the ledger's pages. An earlier version does not find such a page, and lists again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<Vec<Entry>>,
}

impl ObjectSnapshot {
    /// Whether the ledger has pages of the listing.
    pub const fn has_pages(&self) -> bool {
        self.pages > 0 && self.page.is_none()
    }
}

/// Why a job's objects could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// They could not be listed or read.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The work was cancelled.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Saves the objects of a job. They count when the job's plan names them.
pub async fn save(
    listing: &Listing,
    plan: &Plan,
    ledger: &dyn Ledger,
    stop: &Cancellation,
) -> Result<ObjectSnapshot, SavedError> {
    let job = &plan.job.id;
    let mut kept = ObjectSnapshot {
        listing: nonce(),
        pages: u32::try_from(listing.pages()).unwrap_or(u32::MAX),
        page: None,
    };
    if kept.pages == 1 && may_be_in_plan(plan) {
        let page = listing.page_bytes(0)?.unwrap_or_default();
        if page.len() <= MAX_BYTES_IN_PLAN {
            kept.page = serde_json::from_slice(&page).ok();
        }
    }
    if !kept.has_pages() {
        return Ok(kept);
    }
    stream::iter((0..kept.pages).map(Ok))
        .try_for_each_concurrent(PAGES_AT_ONCE, |number| {
            let name = &kept.listing;
            async move {
                stop.check()?;
                let page = listing.page_bytes(number as usize)?.unwrap_or_default();
                Ok::<_, SavedError>(ledger.keep_page(job, name, number, page).await?)
            }
        })
        .await?;
    Ok(kept)
}

/// Whether the objects of a job may be in its plan. An earlier version would list again, and go on with the ZIP or with the portal's
/// records of the first listing.
const fn may_be_in_plan(plan: &Plan) -> bool {
    plan.zip.is_none() && plan.portal.is_none()
}

/// The name under which a job's message is saved beside its listings; names of listings are random and longer.
const MESSAGE: &str = "message";

/// Saves the message that brought a job, so that it can be sent again to recipients whom the job did not reach.
pub async fn save_message(job: &Job, ledger: &dyn Ledger) -> Result<(), LedgerError> {
    let message = job.message.as_bytes().to_vec();
    ledger.keep_page(&job.id, MESSAGE, 0, message).await
}

/// The message that brought a job, if it is saved.
pub async fn message(job: &JobId, ledger: &dyn Ledger) -> Result<Option<String>, LedgerError> {
    let message = ledger.page(job, MESSAGE, 0).await?;
    Ok(message.and_then(|bytes| String::from_utf8(bytes).ok()))
}

/// Loads the objects of a job, and checks each: an object that is gone since is not available. `None` if the ledger
/// does not have them.
pub async fn load(
    kept: &ObjectSnapshot,
    plan: &Plan,
    ledger: &dyn Ledger,
    store: &dyn ObjectStore,
    spool_dir: &Location,
    stop: &Cancellation,
) -> Result<Option<Listing>, SavedError> {
    let mut recalled = Listing::begin(spool_dir);
    let mut presence = Presence::of(plan, kept, store, spool_dir, stop);
    if let Some(page) = &kept.page {
        recalled.push(presence.look_again(page.clone()).await?)?;
    }
    let in_ledger = if kept.has_pages() { kept.pages } else { 0 };
    let numbers: Vec<u32> = (0..in_ledger).collect();
    // No page is requested while objects are checked: it would not be polled meanwhile, and its deadline would pass.
    for some in numbers.chunks(PAGES_AT_ONCE) {
        let pages = some
            .iter()
            .map(|number| ledger.page(&plan.job.id, &kept.listing, *number));
        for page in presence.meanwhile(join_all(pages)).await {
            stop.check()?;
            let read = |bytes: Vec<u8>| serde_json::from_slice::<Vec<Entry>>(&bytes).ok();
            let Some(page) = page?.and_then(read) else {
                return Ok(None);
            };
            recalled.push(presence.look_again(page).await?)?;
        }
    }
    if recalled.has_no_files(plan) && plan.when_empty == WhenEmpty::Refuse {
        let place = describe(&plan.bucket, &plan.objects);
        return Err(GatherError::from(Refusal::Empty { place }).into());
    }
    Ok(Some(recalled))
}

/// The objects that exist now, looked up in the order in which they were saved.
///
/// A job that streams is compared with a new listing, a thousand objects a request. Objects of other jobs, and objects that
/// the listing lacks, are looked up one by one.
struct Presence<'a> {
    plan: &'a Plan,
    store: &'a dyn ObjectStore,
    spool_dir: &'a Location,
    listed: Option<FreshListing<'a>>,
}

/// A listing under way, from the current key on.
struct FreshListing<'a> {
    lister: Lister<'a>,
    keys: VecDeque<Key>,
}

impl<'a> Presence<'a> {
    fn of(
        plan: &'a Plan,
        kept: &ObjectSnapshot,
        store: &'a dyn ObjectStore,
        spool_dir: &'a Location,
        stop: &'a Cancellation,
    ) -> Self {
        let listed = match &plan.objects {
            // The objects of a single page may be few and far apart.
            Objects::Under(prefix, _) if plan.order == Order::Key && kept.pages > 1 => {
                let under = Under {
                    bucket: &plan.bucket,
                    prefix: prefix.as_str(),
                    versions: Versions::Floating,
                    is_limited: plan.limit.is_some(),
                };
                Some(FreshListing {
                    lister: Lister::new(under, store, stop),
                    keys: VecDeque::new(),
                })
            }
            Objects::Under(..) | Objects::Named(_) => None,
        };
        Self {
            plan,
            store,
            spool_dir,
            listed,
        }
    }

    /// Waits for something else, while the new listing continues.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        match &mut self.listed {
            Some(listed) => listed.lister.meanwhile(work).await,
            None => work.await,
        }
    }

    /// Checks the objects of a page: those that are gone cannot be linked.
    async fn look_again(&mut self, page: Vec<Entry>) -> Result<Vec<Entry>, GatherError> {
        let mut in_question: Vec<ObjectMeta> = Vec::new();
        for entry in &page {
            if let Entry::Linkable(object) = entry
                && !self.is_listed(&object.key).await?
            {
                in_question.push(object.clone());
            }
        }
        let missing = listing::missing_of(&self.plan.bucket, &in_question, self.store);
        let missing = self.meanwhile(missing).await?;
        let again = page.into_iter().map(|entry| match entry {
            Entry::Linkable(object) if missing.contains(&object.key) => {
                Entry::Unavailable(object.key.to_string(), Unlinkable::Missing)
            }
            // A restored copy that lasted long enough for the earlier links may end too early for these.
            Entry::Linkable(object) => listing::judged(object, self.plan),
            entry @ Entry::Unavailable(..) => entry,
        });
        Ok(again.collect())
    }

    /// Whether a new listing has the key; false if there is no listing, and then the object is looked up.
    async fn is_listed(&mut self, key: &Key) -> Result<bool, GatherError> {
        let Some(listed) = &mut self.listed else {
            return Ok(false);
        };
        loop {
            while let Some(first) = listed.keys.front() {
                match first.cmp(key) {
                    Ordering::Less => drop(listed.keys.pop_front()),
                    Ordering::Equal => return Ok(true),
                    Ordering::Greater => return Ok(false),
                }
            }
            match listed.lister.page().await {
                Ok(Some(page)) => listed.keys.extend(page.into_iter().map(|o| o.key)),
                Ok(None) => return Ok(false),
                Err(GatherError::OutOfOrder { .. }) => listed.lister.sort(self.spool_dir),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Bucket;
    use crate::ledger::memory::MemoryLedger;
    use crate::plan::ZipPlan;
    use crate::progress::Progress;
    use crate::render::samples;
    use crate::store::memory::MemoryStore;
    use crate::store::{Body, Content, Cursor, Page, StoreError};
    use async_trait::async_trait;
    use jiff::Timestamp;
    use serde_json::json;

    fn store(keys: impl Iterator<Item = u32>) -> MemoryStore {
        let store = MemoryStore::new(1000);
        store.create_bucket("acme-reports");
        for number in keys {
            let key = format!("r/{number:05}");
            store.insert("acme-reports", &key, b"x", Timestamp::UNIX_EPOCH);
        }
        store
    }

    /// The loaded objects of 2,500 of which one is gone, and how many requests that took.
    async fn recalled(order: &str) -> (Listing, usize) {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, stop) = (MemoryLedger::default(), Cancellation::default());
        let spool = Location::from(dir.path());
        let from = json!({ "connection": "reports", "bucket": "acme-reports", "prefix": "r/", "order": order });
        let plan = Plan {
            max_links: 10_000,
            ..samples::plan("r/", &json!({ "from": from }))
        };
        let first = store(0..2500);
        let progress = Progress::default();
        let listing = listing::list(&plan, &first, &spool, &stop, &progress);
        let listing = listing.await.unwrap();
        let kept = save(&listing, &plan, &ledger, &stop).await.unwrap();
        assert_eq!((kept.pages, kept.has_pages()), (3, true));
        let now = store((0..2600).filter(|number| *number != 1234));
        let recalled = load(&kept, &plan, &ledger, &now, &spool, &stop);
        (recalled.await.unwrap().unwrap(), now.requests())
    }

    #[tokio::test]
    async fn what_was_kept_comes_back_and_what_has_vanished_is_not_available() {
        for order in ["key", "name"] {
            let (listing, requests) = recalled(order).await;
            assert_eq!(
                (listing.linkable, listing.unavailable),
                (2499, 1),
                "{order}"
            );
            let second = listing.page(1).unwrap().unwrap();
            let vanished = Entry::Unavailable("r/01234".to_owned(), Unlinkable::Missing);
            assert_eq!(second[234], vanished, "in its place");
            assert_eq!(
                listing.page(3).unwrap(),
                None,
                "and nothing that came later"
            );
            if order == "key" {
                assert!(
                    requests < 10,
                    "a million objects are not asked for one by one"
                );
            }
        }
    }

    /// The objects of a small job as they are saved, and the ledger.
    async fn saved_of(objects: u32, zip: Option<ZipPlan>) -> (ObjectSnapshot, MemoryLedger) {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, stop) = (MemoryLedger::default(), Cancellation::default());
        let progress = Progress::default();
        let plan = Plan {
            zip,
            ..samples::plan("r/", &json!({}))
        };
        let (first, spool) = (store(0..objects), Location::from(dir.path()));
        let listing = listing::list(&plan, &first, &spool, &stop, &progress);
        let listing = listing.await.unwrap();
        let kept = save(&listing, &plan, &ledger, &stop).await.unwrap();
        (kept, ledger)
    }

    #[tokio::test]
    async fn a_few_objects_are_in_the_plan_and_come_back_from_it() {
        let (kept, ledger) = saved_of(10, None).await;
        assert_eq!((kept.pages, kept.has_pages()), (1, false));
        let text = serde_json::to_string(&kept).unwrap();
        let kept: ObjectSnapshot = serde_json::from_str(&text).unwrap();
        let (plan, stop) = (samples::plan("r/", &json!({})), Cancellation::default());
        let job = &plan.job.id;
        assert_eq!(ledger.page(job, &kept.listing, 0).await.unwrap(), None);
        let dir = tempfile::tempdir().unwrap();
        // Since then one of them is gone, and one is new.
        let now = store((0..11).filter(|number| *number != 4));
        let recalled = load(&kept, &plan, &ledger, &now, &dir.path().into(), &stop).await;
        let listing = recalled.unwrap().unwrap();
        assert_eq!((listing.linkable, listing.unavailable), (9, 1));
        let page = listing.page(0).unwrap().unwrap();
        let vanished = Entry::Unavailable("r/00004".to_owned(), Unlinkable::Missing);
        assert_eq!((page.len(), &page[4]), (10, &vanished));
        assert!(listing.page(1).unwrap().is_none());
    }

    #[tokio::test]
    async fn what_a_plan_has_no_room_for_is_in_pages_and_so_is_what_an_earlier_version_saved() {
        let (kept, ledger) = saved_of(500, None).await;
        assert_eq!((kept.pages, kept.has_pages()), (1, true));
        // The form of earlier versions.
        let text = json!({ "listing": kept.listing, "pages": 1 });
        assert_eq!(serde_json::to_value(&kept).unwrap(), text);
        let (plan, stop) = (samples::plan("r/", &json!({})), Cancellation::default());
        let dir = tempfile::tempdir().unwrap();
        let now = store(0..500);
        let recalled = load(&kept, &plan, &ledger, &now, &dir.path().into(), &stop).await;
        assert_eq!(recalled.unwrap().unwrap().linkable, 500);
    }

    #[tokio::test]
    async fn a_job_with_a_zip_has_its_objects_in_pages() {
        let zip = ZipPlan {
            stem: "files".to_owned(),
            place: None,
            split_bytes: None,
        };
        let (kept, _) = saved_of(10, Some(zip)).await;
        assert!(kept.has_pages());
    }

    /// Lists from the last key to the first.
    #[derive(Debug)]
    struct Backwards(MemoryStore);

    #[async_trait]
    impl ObjectStore for Backwards {
        async fn list(
            &self,
            bucket: &Bucket,
            prefix: &str,
            versions: Versions,
            cursor: Cursor<'_>,
        ) -> Result<Page, StoreError> {
            let (mut objects, mut token) = (Vec::new(), None);
            loop {
                let from = token.as_deref().map_or(Cursor::Start, Cursor::Token);
                let page = self.0.list(bucket, prefix, versions, from).await?;
                objects.extend(page.objects);
                token = page.continuation_token;
                if token.is_none() {
                    break;
                }
            }
            objects.reverse();
            let from = match cursor {
                Cursor::Token(token) => token.parse().unwrap(),
                Cursor::Start | Cursor::After(_) => 0,
            };
            let until = objects.len().min(from + 1000);
            Ok(Page {
                continuation_token: (until < objects.len()).then(|| until.to_string()),
                objects: objects[from..until].to_vec(),
            })
        }

        async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError> {
            self.0.head(bucket, key).await
        }

        async fn beginning(
            &self,
            _: &Bucket,
            _: &ObjectMeta,
            _: usize,
        ) -> Result<Vec<u8>, StoreError> {
            unreachable!("nothing is read")
        }

        async fn put(&self, _: &Bucket, _: &Key, _: Body, _: Content) -> Result<(), StoreError> {
            unreachable!("nothing is put")
        }

        async fn probe(&self, _: &Bucket, _: &str) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_store_that_lists_in_another_order_gives_a_retried_job_the_same_objects() {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, stop) = (MemoryLedger::default(), Cancellation::default());
        let spool = Location::from(dir.path());
        let from = json!({ "connection": "reports", "bucket": "acme-reports", "prefix": "r/" });
        let plan = Plan {
            max_links: 10_000,
            ..samples::plan("r/", &json!({ "from": from }))
        };
        let keys_of = |listing: &Listing| {
            let pages = (0..).map_while(|number| listing.page(number).unwrap());
            let key = |entry| match entry {
                Entry::Linkable(object) => object.key.to_string(),
                Entry::Unavailable(key, _) => format!("no {key}"),
            };
            pages.flatten().map(key).collect::<Vec<_>>()
        };
        let first = Backwards(store(0..2500));
        let progress = Progress::default();
        let listing = listing::list(&plan, &first, &spool, &stop, &progress);
        let listing = listing.await.unwrap();
        let mut expected: Vec<String> = (0..2500).map(|n| format!("r/{n:05}")).collect();
        assert_eq!(keys_of(&listing), expected);
        let kept = save(&listing, &plan, &ledger, &stop).await.unwrap();
        let now = Backwards(store((0..2600).filter(|number| *number != 1234)));
        let recalled = load(&kept, &plan, &ledger, &now, &spool, &stop).await;
        expected[1234].insert_str(0, "no ");
        assert_eq!(keys_of(&recalled.unwrap().unwrap()), expected);
    }

    #[tokio::test]
    async fn what_is_not_kept_does_not_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let plan = samples::plan("r/", &json!({}));
        let kept = ObjectSnapshot {
            listing: "gone".to_owned(),
            pages: 1,
            page: None,
        };
        let (ledger, store, stop) = (
            MemoryLedger::default(),
            store(0..1),
            Cancellation::default(),
        );
        let recalled = load(&kept, &plan, &ledger, &store, &dir.path().into(), &stop).await;
        assert!(recalled.unwrap().is_none());
    }
}
