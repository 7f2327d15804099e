//! The objects of a plan, listed once and kept for every audience.
//!
//! A listing is read once for a job, however many recipients get separate links, so that all get the same
//! objects. The first pages are kept in memory; more go to an unnamed file, a page at a time, so that memory stays flat.

mod gathering;
mod lookup;
mod pages;

use std::io;
use std::sync::Arc;

use directory::Location;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::gathering::{Gathering, Wants};
use self::lookup::gather_named;
pub(super) use self::lookup::{judged, missing_of};
use self::pages::Pages;
use super::linkable::{self, Unlinkable};
use super::lister::{Lister, Under};
use crate::bounds::{MAX_CLOCK_SKEW, MAX_LISTED_OBJECTS, MAX_PATTERN_WORK, MAX_SHOWN_VALUE_BYTES};
use crate::cancellation::{Cancellation, Stopped};
use crate::job::{Filter, Order, WhenEmpty};
use crate::plan::policy::describe;
use crate::plan::{Objects, Plan, Refusal};
use crate::progress::{Progress, is_milestone};
use crate::store::{
    EndlessListing, MAX_PAGE, ObjectMeta, ObjectStore, Storage, StoreError, Versions,
};
use crate::text::forms::other_forms;
use crate::text::printable;

/// How many pages stay in memory: enough that most jobs never touch a file.
const PAGES_IN_MEMORY: usize = 4;

/// How many named objects are looked up at once.
const HEADS_AT_ONCE: usize = 8;

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

    /// Whether there is nothing to hand out: no object, or none of the keys that are one recipient's.
    pub fn has_no_files(&self, plan: &Plan) -> bool {
        let is_of_keys = matches!(plan.objects, Objects::Named(_)) && plan.job.part.is_some();
        self.is_empty() || (is_of_keys && self.linkable == 0 && self.missing == self.unavailable)
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
    if listing.has_no_files(plan) && plan.when_empty == WhenEmpty::Refuse {
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
        // Keys outside the requested prefix are ignored, and folder markers are left out silently. So is what jobs have published.
        objects.retain(|object| {
            object.key.as_str().starts_with(prefix)
                && !linkable::is_folder_marker(object)
                && !plan.is_published(object.key.as_str())
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

/// Checks the store's clock. If it is far from ours, the store rejects fresh links as not yet valid, or expires them at another
/// instant than the mail says.
pub(super) fn check_clock(store: &dyn ObjectStore) -> Result<(), GatherError> {
    match store.skew() {
        Some(skew) if skew.unsigned_abs() > MAX_CLOCK_SKEW => {
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

#[cfg(test)]
mod tests;
