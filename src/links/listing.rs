//! The objects of a plan, listed once and kept for every audience.
//!
//! A listing is read once for a job, however many recipients get separate links, so that all get the same
//! objects. The first pages are kept in memory; more go to an unnamed file, a page at a time, so that memory stays flat.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use directory::Location;
use futures_util::future::join_all;
use jiff::Timestamp;
use presign::disposition::is_active;
use serde::{Deserialize, Serialize};

use super::linkable::{self, Unlinkable};
use super::lister::{Lister, Under};
use crate::bounds::{
    MAX_LEFT_OUT, MAX_LEFT_OUT_IN_ALL, MAX_LISTED_OBJECTS, MAX_PATTERN_WORK, MAX_SHOWN_VALUE_BYTES,
};
use crate::cancellation::{Cancellation, Stopped};
use crate::job::{Bucket, Filter, Key, Order, WhenEmpty};
use crate::plan::ResponseOverrides;
use crate::plan::policy::describe;
use crate::plan::{MAX_SORTED_OBJECTS, Objects, OnUnlinkable, Plan, Refusal};
use crate::progress::{Progress, is_milestone};
use crate::store::{
    EndlessListing, ErrorKind, MAX_PAGE, ObjectMeta, ObjectStore, Storage, StoreError, Versions,
};
use crate::text::forms::other_forms;
use crate::text::printable;

/// How many pages stay in memory: enough that most jobs never touch a file.
const PAGES_IN_MEMORY: usize = 4;

/// How many named objects are looked up at once.
const HEADS_AT_ONCE: usize = 8;

/// How far a store's clock may be from ours. A signature is dated back by a minute; beyond five, a clock must be corrected.
const LARGEST_SKEW: Duration = Duration::from_secs(5 * 60);

/// Why the objects could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A request to the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules do not allow what was found.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The file for long listings could not be written or read.
    #[error("could not keep the listing aside in {dir}")]
    Spool {
        /// The directory of the file.
        dir: String,
        /// What the file system said.
        source: io::Error,
    },
    /// The clocks differ too much.
    #[error(
        "the clock of S3 is {seconds} s {direction} this machine's; links would not begin or end when they say: set the clock (NTP)"
    )]
    Skew {
        /// By how much.
        seconds: u64,
        /// In which direction.
        direction: &'static str,
    },
    /// The store lists in another order than S3; see [`super::lister`].
    #[error(
        "the store lists {key:?} after {last:?}, which is not the order of the keys' bytes, in which S3 lists"
    )]
    OutOfOrder {
        /// The key.
        key: String,
        /// The one before it.
        last: String,
    },
    /// The store's listing does not end.
    #[error(transparent)]
    Endless(#[from] EndlessListing),
    /// More objects than a job may list, or leave out.
    #[error("more than {limit} objects {what}: name a narrower from.prefix")]
    TooMany {
        /// How many there may be.
        limit: u64,
        /// The kind of objects that is limited.
        what: &'static str,
    },
    /// The job's patterns would cause more work than is allowed.
    #[error(
        "the patterns of from.include and from.exclude take too long over so many keys: simplify them, or name a narrower from.prefix"
    )]
    TooLong,
    /// The work was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A listed object that can be linked, or that cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// It can be linked.
    #[serde(rename = "l", alias = "Linkable")]
    Linkable(#[serde(with = "row")] ObjectMeta),
    /// It cannot be linked.
    #[serde(rename = "u", alias = "Unavailable")]
    Unavailable(String, Unlinkable),
}

/// An object as a page stores it: a row without field names, with the instant in seconds, which is the precision of stores. A
/// million of them are written twice, and read. Pages that an earlier build stored have field names, and are read too.
mod row {
    use std::fmt;

    use jiff::Timestamp;
    use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
    use serde::de::{Error, MapAccess, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::job::Key;
    use crate::store::{ObjectMeta, Storage};

    pub(super) fn serialize<S: Serializer>(object: &ObjectMeta, to: S) -> Result<S::Ok, S::Error> {
        let ObjectMeta {
            key,
            size_bytes,
            etag,
            version,
            modified,
            storage,
            stored,
        } = object;
        let modified = modified.as_second();
        let row = (key, size_bytes, etag, version, modified, storage);
        match stored {
            None => row.serialize(to),
            Some(stored) => {
                let (key, size_bytes, etag, version, modified, storage) = row;
                (key, size_bytes, etag, version, modified, storage, stored).serialize(to)
            }
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
        from.deserialize_any(EitherOrder)
    }

    /// With field names, as earlier builds stored it.
    #[derive(Deserialize)]
    struct NamedKeys {
        key: Key,
        size_bytes: u64,
        etag: String,
        version: Option<String>,
        modified: Timestamp,
        storage: Storage,
    }

    struct EitherOrder;

    impl<'de> Visitor<'de> for EitherOrder {
        type Value = ObjectMeta;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of a listing")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<ObjectMeta, A::Error> {
            type Row = (Key, u64, String, Option<String>, i64, Storage);
            let first = Row::deserialize(SeqAccessDeserializer::new(&mut row))?;
            let (key, size_bytes, etag, version, modified, storage) = first;
            let stored = row.next_element()?;
            Ok(ObjectMeta {
                key,
                size_bytes,
                etag,
                version,
                modified: Timestamp::from_second(modified).map_err(A::Error::custom)?,
                storage,
                stored,
            })
        }

        fn visit_map<A: MapAccess<'de>>(self, named: A) -> Result<ObjectMeta, A::Error> {
            let named = NamedKeys::deserialize(MapAccessDeserializer::new(named))?;
            Ok(ObjectMeta {
                key: named.key,
                size_bytes: named.size_bytes,
                etag: named.etag,
                version: named.version,
                modified: named.modified,
                storage: named.storage,
                stored: None,
            })
        }
    }
}

impl Entry {
    const fn is_missing(&self) -> bool {
        matches!(self, Self::Unavailable(_, Unlinkable::Missing))
    }

    /// When the bucket's lifecycle deletes the object that is to be linked.
    fn ends_at(&self) -> Option<Timestamp> {
        match self {
            Self::Linkable(ObjectMeta {
                storage: Storage::Expires { at },
                ..
            }) => Some(*at),
            Self::Linkable(_) | Self::Unavailable(..) => None,
        }
    }
}

/// The objects of a job.
#[derive(Debug)]
pub struct Listing {
    /// How many can be linked.
    pub linkable: u64,
    /// How many cannot.
    pub unavailable: u64,
    /// How many of those do not exist.
    pub missing: u64,
    /// When the bucket's lifecycle deletes the first of the linkable objects, as far as the store has said.
    pub ends_at: Option<Timestamp>,
    pages: Pages,
    dir: Location,
}

impl Listing {
    /// Reads page `number` (from 0), or nothing after the last.
    pub fn page(&self, number: usize) -> Result<Option<Vec<Entry>>, GatherError> {
        self.pages
            .read(number)
            .map_err(|source| self.failed(source))
    }

    /// Page `number` as it is saved for another attempt: as JSON.
    pub(super) fn page_bytes(&self, number: usize) -> Result<Option<Vec<u8>>, GatherError> {
        self.pages
            .bytes(number)
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> GatherError {
        GatherError::Spool {
            dir: self.dir.display().to_string(),
            source,
        }
    }

    /// A listing that is built page by page; `spool_dir` takes the pages that do not fit into memory.
    pub(super) fn begin(spool_dir: &Location) -> Self {
        Self {
            linkable: 0,
            unavailable: 0,
            missing: 0,
            ends_at: None,
            pages: Pages::default(),
            dir: spool_dir.clone(),
        }
    }

    /// Adds a page.
    pub(super) fn push(&mut self, page: Vec<Entry>) -> Result<(), GatherError> {
        let linkable = page
            .iter()
            .filter(|entry| matches!(entry, Entry::Linkable(_)));
        let linkable = linkable.count() as u64;
        self.linkable += linkable;
        self.unavailable += page.len() as u64 - linkable;
        let missing = page.iter().filter(|entry| entry.is_missing());
        self.missing += missing.count() as u64;
        self.ends_at = page
            .iter()
            .filter_map(Entry::ends_at)
            .chain(self.ends_at)
            .min();
        self.pages
            .push(page, &self.dir)
            .map_err(|source| GatherError::Spool {
                dir: self.dir.display().to_string(),
                source,
            })
    }

    /// An example listing for a plan: the first keys that it names, or an object below its prefix.
    ///
    /// # Errors
    /// None, since a single page fits into memory.
    pub(crate) fn imagined(plan: &Plan, spool_dir: &Location) -> Result<Self, GatherError> {
        let keys = match &plan.objects {
            Objects::Named(keys) => keys.iter().take(MAX_PAGE).cloned().collect(),
            Objects::Under(prefix, _) => {
                Vec::from_iter(format!("{}example.pdf", prefix.as_str()).parse())
            }
        };
        let object = |key| {
            Entry::Linkable(ObjectMeta {
                key,
                size_bytes: 1,
                etag: String::new(),
                version: None,
                modified: plan.lifetime.signed_at,
                storage: Storage::Ready,
                stored: None,
            })
        };
        let mut listing = Self::begin(spool_dir);
        listing.push(keys.into_iter().map(object).collect())?;
        Ok(listing)
    }

    /// How many pages there are.
    pub const fn pages(&self) -> usize {
        self.pages.count()
    }

    /// Whether there is nothing to link.
    pub const fn is_empty(&self) -> bool {
        self.linkable == 0
    }
}

/// Lists the objects of a plan; `spool_dir` takes the pages that do not fit into memory.
pub async fn list(
    plan: &Plan,
    store: &dyn ObjectStore,
    spool_dir: &Location,
    stop: &Cancellation,
    progress: &Progress,
) -> Result<Listing, GatherError> {
    let mut gathering = Gathering::new(plan, spool_dir);
    match &plan.objects {
        Objects::Named(keys) => {
            gather_named(keys, store, stop, &mut gathering).await?;
        }
        Objects::Under(prefix, filter) => {
            let given = prefix.as_str();
            for prefix in [given.to_owned()].into_iter().chain(forms_of(given, plan)) {
                let under = (prefix.as_str(), filter);
                let found = gather_under(under, store, stop, progress, &mut gathering).await?;
                if found > 0 {
                    tell_form(plan, given, &prefix);
                    break;
                }
            }
        }
    }
    gathering.sort(stop).await?;
    let listing = gathering.finish()?;
    if listing.is_empty() && plan.when_empty == WhenEmpty::Refuse {
        return Err(Refusal::Empty {
            place: describe(&plan.bucket, &plan.objects),
        }
        .into());
    }
    Ok(listing)
}

async fn gather_under(
    (prefix, filter): (&str, &Filter),
    store: &dyn ObjectStore,
    stop: &Cancellation,
    progress: &Progress,
    gathering: &mut Gathering<'_>,
) -> Result<u64, GatherError> {
    let plan = gathering.plan;
    let under = Under {
        bucket: &plan.bucket,
        prefix,
        versions: match plan.pin_version {
            true => Versions::Pinned,
            false => Versions::Floating,
        },
        is_limited: plan.limit.is_some() && plan.order == Order::Key,
    };
    let filter = Arc::new(filter.clone());
    let (mut lister, mut found, mut work) = (Lister::new(under, store, stop), 0, 0_u64);
    loop {
        let mut objects = match lister.page().await {
            Ok(Some(objects)) => objects,
            Ok(None) => break,
            Err(GatherError::OutOfOrder { .. }) => {
                tracing::info!(
                    job.id = %plan.job.id,
                    bucket = %plan.bucket,
                    "the store does not list in the order of the keys' bytes; the whole listing is sorted"
                );
                lister.sort(gathering.spool_dir);
                *gathering = Gathering::new(plan, gathering.spool_dir);
                (found, work) = (0, 0);
                continue;
            }
            Err(error) => return Err(error),
        };
        stop.check()?;
        progress.found(objects.len());
        let markers = objects.iter().filter(|o| linkable::is_folder_marker(o));
        progress.listed_markers(markers.count());
        let before = found;
        found += objects.len() as u64;
        if found > MAX_LISTED_OBJECTS {
            return Err(GatherError::TooMany {
                limit: MAX_LISTED_OBJECTS,
                what: "are listed",
            });
        }
        if is_milestone(before, found) {
            tracing::info!(job.id = %plan.job.id, objects = found, "objects are listed");
        }
        // Keys outside the requested prefix are ignored, and folder markers are left out silently.
        objects.retain(|object| {
            object.key.as_str().starts_with(prefix) && !linkable::is_folder_marker(object)
        });
        if !filter.is_empty() {
            let paths = objects.iter().filter_map(|object| path(object, prefix));
            work = paths.fold(work, |work, path| work.saturating_add(filter.work(path)));
            if work > MAX_PATTERN_WORK {
                return Err(GatherError::TooLong);
            }
            let passed = passed(objects, prefix, &filter, stop);
            objects = lister.meanwhile(passed).await?;
        }
        let taken = gathering.take(objects, store, stop);
        if lister.meanwhile(taken).await? == Wants::NoMore {
            break;
        }
    }
    Ok(found)
}

/// The other Unicode forms of a key or a prefix, which look the same, as far as the job's rule allows them.
fn forms_of(text: &str, plan: &Plan) -> impl Iterator<Item = String> {
    let forms = other_forms(text).into_iter();
    forms.filter(|form| form.starts_with(plan.allowed.as_str()))
}

/// Tells the operator that a key or a prefix is there in another Unicode form, which looks the same.
fn tell_form(plan: &Plan, given: &str, found: &str) {
    if given != found {
        tracing::warn!(
            job.id = %plan.job.id,
            bucket = %plan.bucket,
            key = %printable(given, MAX_SHOWN_VALUE_BYTES),
            "the job names a key in one Unicode form (NFC or NFD), and it is stored in the other, which is handed out"
        );
    }
}

/// Does work that may be long, depending on the job, on a thread of its own: heartbeats, probes and signals continue meanwhile.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// An object's key without the prefix, which is matched against patterns.
fn path<'a>(object: &'a ObjectMeta, prefix: &str) -> Option<&'a str> {
    object.key.as_str().get(prefix.len()..)
}

/// The objects of a page that pass the filter. The patterns come from the job, and the longest take many milliseconds for a
/// key: so this runs on a thread of its own, and ends at the next key when the work is cancelled.
async fn passed(
    mut objects: Vec<ObjectMeta>,
    prefix: &str,
    filter: &Arc<Filter>,
    stop: &Cancellation,
) -> Result<Vec<ObjectMeta>, GatherError> {
    let (prefix, filter, asked) = (prefix.to_owned(), Arc::clone(filter), stop.clone());
    let passed = aside(move || {
        objects.retain(|object| {
            asked.check().is_ok()
                && path(object, &prefix).is_some_and(|path| filter.accepts(path, object.modified))
        });
        objects
    });
    let passed = stop.or(passed).await?;
    // A cancelled filter has left some objects out.
    stop.check()?;
    Ok(passed)
}

/// Looks a few objects up at once.
async fn heads_of<'a>(
    bucket: &Bucket,
    keys: impl Iterator<Item = &'a Key>,
    store: &dyn ObjectStore,
) -> Result<Vec<Result<ObjectMeta, StoreError>>, GatherError> {
    let heads = join_all(keys.map(|key| store.head(bucket, key))).await;
    check_clock(store)?;
    Ok(heads)
}

/// Which of these objects are gone.
pub(super) async fn missing_of(
    bucket: &Bucket,
    objects: &[ObjectMeta],
    store: &dyn ObjectStore,
) -> Result<HashSet<Key>, GatherError> {
    let mut missing = HashSet::new();
    for some in objects.chunks(HEADS_AT_ONCE) {
        let keys = some.iter().map(|object| &object.key);
        for (key, head) in keys.clone().zip(heads_of(bucket, keys, store).await?) {
            match head.map_err(|error| (error.fact, error)) {
                Err((ErrorKind::NotFound, _)) => drop(missing.insert(key.clone())),
                // An object that may not be looked up is still linked: a bucket policy may allow the readers' network only.
                Err((ErrorKind::Denied | ErrorKind::Rejected, _)) | Ok(_) => {}
                Err((
                    ErrorKind::Throttled
                    | ErrorKind::Unreachable
                    | ErrorKind::Silent
                    | ErrorKind::Failed
                    | ErrorKind::Elsewhere,
                    error,
                )) => return Err(error.into()),
            }
        }
    }
    Ok(missing)
}

/// Finds for each object what a listing does not show: whether the signing credentials can read it, and whether it is in an
/// archive now.
async fn look_at(
    objects: &[ObjectMeta],
    plan: &Plan,
    store: &dyn ObjectStore,
) -> Result<Vec<Entry>, GatherError> {
    let keys = objects.iter().map(|object| &object.key);
    let heads = heads_of(&plan.bucket, keys, store).await?;
    let looked = objects.iter().cloned().zip(heads);
    let looked = looked.map(|(object, head)| match head {
        Ok(head) => Ok(Entry::Linkable(ObjectMeta {
            storage: head.storage,
            stored: head.stored,
            ..object
        })),
        Err(error) => Ok(Entry::Unavailable(
            object.key.to_string(),
            obstacle_of(error)?,
        )),
    });
    looked.collect()
}

/// An object as it was found, or the reason why it cannot be linked.
pub(super) fn judged(object: ObjectMeta, plan: &Plan) -> Entry {
    let is_shown = plan.overrides == ResponseOverrides::Omitted;
    let active = (is_shown && is_active(object.key.file_name())).then_some(Unlinkable::Active);
    match linkable::obstacle(&object, plan.lifetime.signed_at, plan.lifetime.expires_at).or(active)
    {
        Some(reason) => Entry::Unavailable(object.key.to_string(), reason),
        None => Entry::Linkable(object),
    }
}

/// The obstacle that a refused HEAD shows; any other failure is an error of the job.
fn obstacle_of(error: StoreError) -> Result<Unlinkable, StoreError> {
    match error.fact {
        ErrorKind::NotFound => Ok(Unlinkable::Missing),
        ErrorKind::Denied => Ok(Unlinkable::Forbidden),
        ErrorKind::Rejected
        | ErrorKind::Throttled
        | ErrorKind::Unreachable
        | ErrorKind::Silent
        | ErrorKind::Failed
        | ErrorKind::Elsewhere => Err(error),
    }
}

async fn gather_named(
    keys: &[Key],
    store: &dyn ObjectStore,
    stop: &Cancellation,
    gathering: &mut Gathering<'_>,
) -> Result<(), GatherError> {
    for some in keys.chunks(HEADS_AT_ONCE) {
        stop.check()?;
        let heads = heads_of(&gathering.plan.bucket, some.iter(), store).await?;
        for (key, head) in some.iter().zip(heads) {
            let head = match head {
                Err(error) if matches!(error.fact, ErrorKind::NotFound | ErrorKind::Denied) => {
                    let other = in_another_form(key, keys, gathering.plan, store).await?;
                    other.ok_or(error)
                }
                head => head,
            };
            match head {
                Ok(object) => {
                    if gathering.add(object)? == Wants::NoMore {
                        return Ok(());
                    }
                }
                Err(error) if error.fact == ErrorKind::Denied => return Err(error.into()),
                Err(error) => gathering.leave_out(key.to_string(), obstacle_of(error)?)?,
            }
        }
    }
    Ok(())
}

/// The object of a missing key in another Unicode form, unless the job names that too. A store may deny a key that is missing.
async fn in_another_form(
    key: &Key,
    keys: &[Key],
    plan: &Plan,
    store: &dyn ObjectStore,
) -> Result<Option<ObjectMeta>, GatherError> {
    for form in forms_of(key.as_str(), plan) {
        let Ok(form) = form.parse::<Key>() else {
            continue;
        };
        if keys.contains(&form) {
            continue;
        }
        for head in heads_of(&plan.bucket, [&form].into_iter(), store).await? {
            match head {
                Ok(object) => {
                    tell_form(plan, key.as_str(), form.as_str());
                    return Ok(Some(object));
                }
                Err(error) => drop(obstacle_of(error)?),
            }
        }
    }
    Ok(None)
}

/// Checks the store's clock. If it is far from ours, the store rejects fresh links as not yet valid, or expires them at another
/// instant than the mail says.
pub(super) fn check_clock(store: &dyn ObjectStore) -> Result<(), GatherError> {
    match store.skew() {
        Some(skew) if skew.unsigned_abs() > LARGEST_SKEW => {
            let direction = if skew.is_negative() {
                "behind"
            } else {
                "ahead of"
            };
            Err(GatherError::Skew {
                seconds: skew.as_secs().unsigned_abs(),
                direction,
            })
        }
        Some(_) | None => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    More,
    NoMore,
}

/// Objects on their way into a [`Listing`].
struct Gathering<'a> {
    plan: &'a Plan,
    sorting: Vec<ObjectMeta>,
    pages: Pages,
    page: Vec<Entry>,
    linkable: u64,
    unavailable: u64,
    missing: u64,
    ends_at: Option<Timestamp>,
    audiences: u64,
    spool_dir: &'a Location,
}

impl<'a> Gathering<'a> {
    fn new(plan: &'a Plan, spool_dir: &'a Location) -> Self {
        Self {
            plan,
            sorting: Vec::new(),
            pages: Pages::default(),
            page: Vec::new(),
            linkable: 0,
            unavailable: 0,
            missing: 0,
            ends_at: None,
            audiences: plan.audiences().len() as u64,
            spool_dir,
        }
    }

    /// Adds objects. Where each is looked up first, a few are looked up at a time, and none beyond the limit.
    async fn take(
        &mut self,
        objects: Vec<ObjectMeta>,
        store: &dyn ObjectStore,
        stop: &Cancellation,
    ) -> Result<Wants, GatherError> {
        if !self.plan.preflight {
            let wants = self.take_in(objects.into_iter().map(Entry::Linkable))?;
            self.bound_sorting(stop).await?;
            return Ok(wants);
        }
        for some in objects.chunks(HEADS_AT_ONCE) {
            stop.check()?;
            let looked = look_at(some, self.plan, store).await?;
            if self.take_in(looked)? == Wants::NoMore {
                return Ok(Wants::NoMore);
            }
            self.bound_sorting(stop).await?;
        }
        Ok(Wants::More)
    }

    fn take_in(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<Wants, GatherError> {
        for entry in entries {
            let wants = match entry {
                Entry::Linkable(object) => self.add(object)?,
                Entry::Unavailable(key, reason) => {
                    self.leave_out(key, reason)?;
                    Wants::More
                }
            };
            if wants == Wants::NoMore {
                return Ok(wants);
            }
        }
        Ok(Wants::More)
    }

    fn add(&mut self, mut object: ObjectMeta) -> Result<Wants, GatherError> {
        object.version = object.version.filter(|_| self.plan.pin_version);
        let object = match judged(object, self.plan) {
            Entry::Linkable(object) => object,
            Entry::Unavailable(key, reason) => {
                self.leave_out(key, reason)?;
                return Ok(Wants::More);
            }
        };
        match self.plan.order {
            Order::Key => self.keep(object),
            Order::Newest | Order::Oldest | Order::Largest | Order::Name => {
                self.sorting.push(object);
                self.check_sorting()?;
                Ok(Wants::More)
            }
        }
    }

    fn keep(&mut self, object: ObjectMeta) -> Result<Wants, GatherError> {
        // Each audience gets a separate link to the object.
        let links = (self.linkable + 1).saturating_mul(self.audiences);
        if links > self.plan.max_links {
            return Err(Refusal::TooManyLinks {
                limit: self.plan.max_links,
            }
            .into());
        }
        self.linkable += 1;
        let entry = Entry::Linkable(object);
        self.ends_at = entry.ends_at().into_iter().chain(self.ends_at).min();
        self.push(entry)?;
        let full = self.plan.limit.is_some_and(|limit| self.linkable >= limit);
        Ok(if full { Wants::NoMore } else { Wants::More })
    }

    fn leave_out(&mut self, key: String, reason: Unlinkable) -> Result<(), GatherError> {
        if self.plan.on_unlinkable == OnUnlinkable::Refuse {
            let place = format!("s3://{}/{key}", self.plan.bucket);
            return Err(Refusal::Unlinkable {
                place,
                reason: reason.to_string(),
            }
            .into());
        }
        self.unavailable += 1;
        let limit = self.most_left_out();
        if self.unavailable > limit {
            let what = match limit {
                MAX_LEFT_OUT => "cannot be linked",
                _ => "cannot be linked, and so many recipients would each be told of them",
            };
            return Err(GatherError::TooMany { limit, what });
        }
        let entry = Entry::Unavailable(key, reason);
        self.missing += u64::from(entry.is_missing());
        self.push(entry)
    }

    /// How many objects may be left out: each audience gets the list of all of them.
    fn most_left_out(&self) -> u64 {
        MAX_LEFT_OUT.min(MAX_LEFT_OUT_IN_ALL / self.audiences.max(1))
    }

    /// The limit of the sorted part, of which only the first objects are kept.
    fn sorted_limit(&self) -> Option<usize> {
        let limit = self.plan.limit?;
        let limit = usize::try_from(limit).ok()?;
        (limit <= MAX_SORTED_OBJECTS).then_some(limit)
    }

    /// Without a limit, too many objects to sort are an error.
    fn check_sorting(&self) -> Result<(), Refusal> {
        if self.sorted_limit().is_some() || self.sorting.len() <= MAX_SORTED_OBJECTS {
            return Ok(());
        }
        Err(Refusal::TooManyToSort {
            place: describe(&self.plan.bucket, &self.plan.objects),
            limit: MAX_SORTED_OBJECTS,
            order: format!("{:?}", self.plan.order).to_lowercase(),
        })
    }

    /// Keeps the sorted part bounded: with a limit, only the first objects in the order are kept.
    async fn bound_sorting(&mut self, stop: &Cancellation) -> Result<(), Stopped> {
        if let Some(limit) = self.sorted_limit()
            && self.sorting.len() >= limit.saturating_mul(2).max(MAX_PAGE)
        {
            self.sort(stop).await?;
            self.sorting.truncate(limit);
        }
        Ok(())
    }

    /// Sorts on a thread of its own, since many long names with the same beginning may take long.
    async fn sort(&mut self, stop: &Cancellation) -> Result<(), Stopped> {
        let (mut sorting, order) = (std::mem::take(&mut self.sorting), self.plan.order);
        if !sorting.is_empty() {
            self.sorting = stop
                .or(aside(move || {
                    sort(&mut sorting, order);
                    sorting
                }))
                .await?;
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), GatherError> {
        self.page.push(entry);
        if self.page.len() == MAX_PAGE {
            self.turn_page()?;
        }
        Ok(())
    }

    fn turn_page(&mut self) -> Result<(), GatherError> {
        let page = std::mem::replace(&mut self.page, Vec::with_capacity(MAX_PAGE));
        self.pages
            .push(page, self.spool_dir)
            .map_err(|source| GatherError::Spool {
                dir: self.spool_dir.display().to_string(),
                source,
            })
    }

    fn finish(mut self) -> Result<Listing, GatherError> {
        let sorted = std::mem::take(&mut self.sorting);
        for object in sorted {
            if self.keep(object)? == Wants::NoMore {
                break;
            }
        }
        if !self.page.is_empty() {
            self.turn_page()?;
        }
        let dir = self.spool_dir.clone();
        Ok(Listing {
            linkable: self.linkable,
            unavailable: self.unavailable,
            missing: self.missing,
            ends_at: self.ends_at,
            pages: self.pages,
            dir,
        })
    }
}

fn sort(objects: &mut [ObjectMeta], order: Order) {
    match order {
        Order::Key => {}
        Order::Newest => {
            objects.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.key.cmp(&b.key)));
        }
        Order::Oldest => {
            objects.sort_by(|a, b| a.modified.cmp(&b.modified).then_with(|| a.key.cmp(&b.key)));
        }
        Order::Largest => objects.sort_by(|a, b| {
            b.size_bytes
                .cmp(&a.size_bytes)
                .then_with(|| a.key.cmp(&b.key))
        }),
        Order::Name => objects.sort_by(|a, b| {
            natural(a.key.file_name(), b.key.file_name()).then_with(|| a.key.cmp(&b.key))
        }),
    }
}

/// Compares names in natural order: runs of digits by their value, letters without regard to case.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let mut rest = (a, b);
    loop {
        let (Some(x), Some(y)) = (rest.0.chars().next(), rest.1.chars().next()) else {
            return rest.0.len().cmp(&rest.1.len());
        };
        let (step, ordering) = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (n, m) = (digits(rest.0), digits(rest.1));
            let (value_n, value_m) = (n.trim_start_matches('0'), m.trim_start_matches('0'));
            let by_value = value_n
                .len()
                .cmp(&value_m.len())
                .then_with(|| value_n.cmp(value_m));
            (
                (n.len(), m.len()),
                by_value.then_with(|| n.len().cmp(&m.len())),
            )
        } else {
            (
                (x.len_utf8(), y.len_utf8()),
                x.to_lowercase().cmp(y.to_lowercase()),
            )
        };
        if ordering.is_ne() {
            return ordering;
        }
        rest = (&rest.0[step.0..], &rest.1[step.1..]);
    }
}

fn digits(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    &text[..end]
}

/// Pages in memory, and further ones in an unnamed file that is removed with its handle.
#[derive(Debug, Default)]
struct Pages {
    memory: Vec<Vec<Entry>>,
    file: Option<File>,
    /// Where each page of the file begins and how long it is, in bytes.
    places: Vec<(u64, usize)>,
    end: u64,
}

impl Pages {
    fn push(&mut self, page: Vec<Entry>, dir: &Location) -> io::Result<()> {
        if self.memory.len() < PAGES_IN_MEMORY {
            self.memory.push(page);
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(dir.open()?.scratch()?);
        }
        let bytes = serde_json::to_vec(&page)?;
        self.file
            .as_mut()
            .expect("it was opened above")
            .write_all(&bytes)?;
        self.places.push((self.end, bytes.len()));
        self.end += bytes.len() as u64;
        Ok(())
    }

    const fn count(&self) -> usize {
        self.memory.len() + self.places.len()
    }

    fn read(&self, number: usize) -> io::Result<Option<Vec<Entry>>> {
        if let Some(page) = self.memory.get(number) {
            return Ok(Some(page.clone()));
        }
        let Some(bytes) = self.in_file(number)? else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// A page in the form that the file has.
    fn bytes(&self, number: usize) -> io::Result<Option<Vec<u8>>> {
        match self.memory.get(number) {
            Some(page) => Ok(Some(serde_json::to_vec(page)?)),
            None => self.in_file(number),
        }
    }

    fn in_file(&self, number: usize) -> io::Result<Option<Vec<u8>>> {
        let place = number
            .checked_sub(self.memory.len())
            .and_then(|number| self.places.get(number));
        let (Some((start, length)), Some(file)) = (place, &self.file) else {
            return Ok(None);
        };
        let mut bytes = vec![0; *length];
        file.read_exact_at(&mut bytes, *start)?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests;
