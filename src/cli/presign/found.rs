//! The keys under a prefix, as the store lists them, and the progress of that.

use std::io;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handout::clock;
use handout::error::JobError;
use handout::job::Filter;
use handout::links::linkable::obstacle;
use handout::links::walk::Walk;
use handout::plan::expiry::asked_until;
use handout::quantity::Span;
use handout::store::{ObjectMeta, ObjectStore};
use handout::text::counted;
use indicatif::{ProgressBar, ProgressStyle};

use super::PresignArgs;
use super::arguments::ObjectPlace;
use super::keys::{KeyBatch, RefusedKeys};
use crate::cli::terminal;

/// How often the terminal shows the counts.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// The objects under the places of the command line.
pub(super) struct FoundKeys<'a> {
    places: slice::Iter<'a, ObjectPlace>,
    current: Option<(&'a ObjectPlace, Walk)>,
    filter: Filter,
    expires_in: Span,
    store: Arc<dyn ObjectStore>,
    progress: ListingProgress,
}

impl<'a> FoundKeys<'a> {
    pub(super) fn new(
        arguments: &'a PresignArgs,
        filter: Filter,
        store: Arc<dyn ObjectStore>,
        progress: &ListingProgress,
    ) -> Self {
        Self {
            places: arguments.places.iter(),
            current: None,
            filter,
            expires_in: arguments.expires_in,
            store,
            progress: progress.clone(),
        }
    }

    /// The keys of the next page that can be linked; `None` after the last page.
    pub(super) async fn next_page(
        &mut self,
        refused: &mut RefusedKeys,
    ) -> anyhow::Result<Option<KeyBatch>> {
        loop {
            if self.current.is_none() {
                let Some(place) = self.places.next() else {
                    return Ok(None);
                };
                let store = Arc::clone(&self.store);
                let walk = Walk::start(place.bucket.clone(), place.key.clone(), store);
                self.current = Some((place, walk));
            }
            let Some((place, walk)) = &mut self.current else {
                continue;
            };
            let Some(objects) = walk.page().await.map_err(JobError::Gather)? else {
                self.current = None;
                continue;
            };
            self.progress.listed(objects.len());
            let bucket = place.bucket.clone();
            let wanted = objects
                .into_iter()
                .filter(|object| is_wanted(object, &place.key, &self.filter));
            let now = clock::system();
            let end = asked_until(self.expires_in, now);
            let keys = wanted.filter_map(|object| {
                self.progress.wanted();
                let what = || format!("s3://{bucket}/{}", object.key);
                match obstacle(&object, now, end) {
                    Some(reason) => refused.refuse(&what(), &reason),
                    None => refused.sort_out(object.key.as_str().as_bytes(), what),
                }
            });
            let keys = keys.collect();
            return Ok(Some(KeyBatch { bucket, keys }));
        }
    }
}

/// Whether the patterns take an object; they are for the path below the prefix.
fn is_wanted(object: &ObjectMeta, prefix: &str, filter: &Filter) -> bool {
    let path = object.key.as_str().get(prefix.len()..).unwrap_or_default();
    let path = path.strip_prefix('/').unwrap_or(path);
    filter.is_empty() || filter.accepts(path, object.modified)
}

/// Counts, which a terminal shows on stderr. Clones share them.
#[derive(Clone)]
pub(super) struct ListingProgress {
    bar: ProgressBar,
    listed: Arc<AtomicU64>,
    wanted: Arc<AtomicU64>,
}

impl ListingProgress {
    pub(super) fn new(is_listing: bool) -> Self {
        let bar = match is_listing && terminal::is_watched() {
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template("{spinner} {pos} links  {msg}  {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(BAR_EVERY);
        Self {
            bar,
            listed: Arc::default(),
            wanted: Arc::default(),
        }
    }

    fn listed(&self, count: usize) {
        let before = self.listed.fetch_add(count as u64, Ordering::Relaxed);
        let now = before + count as u64;
        self.bar
            .set_message(format!("{} listed", counted(now, "object")));
    }

    fn wanted(&self) {
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether no object was listed that the patterns take.
    pub(super) fn is_nothing(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == 0
    }

    /// Prints links, which may go to the terminal that shows the counts.
    pub(super) fn print(
        &self,
        count: usize,
        print: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        self.bar.inc(count as u64);
        self.bar.suspend(print)
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
