//! A listing in the order of the keys' bytes, of a store that lists in another order.
//!
//! Such stores keep folders, as `SeaweedFS`: `2026/a.pdf` precedes `2026 b.pdf` and `2026.pdf`, which precede it in byte order. The
//! whole is listed from token to token and sorted. Memory is bounded: what exceeds a limit goes to an unnamed file in sorted runs,
//! which are merged page by page.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::{mem, vec};

use directory::Location;

use super::as_listed::AsListed;
use super::lister::Under;
use super::listing::{Entry, GatherError, aside};
use super::ranges::bytes_of;
use crate::cancellation::Cancellation;
use crate::job::Key;
use crate::store::{MAX_PAGE, ObjectMeta, ObjectStore};

/// How many bytes of objects are sorted in memory; more are written out as a run.
const RUN_BYTES: usize = 32 * 1024 * 1024;

/// How many bytes of each run are in memory when runs are merged: 100,000,000 objects make a thousand runs or so.
const BLOCK_BYTES: usize = 32 * 1024;

/// Lists all, sorts it, and returns a listing.
pub(super) async fn sorted(
    under: Under<'_>,
    store: &dyn ObjectStore,
    spool_dir: &Location,
    stop: &Cancellation,
) -> Result<SortedListing, GatherError> {
    let mut sorter = Sorter::new(spool_dir, RUN_BYTES);
    let mut listed = AsListed::new(under, store, stop);
    while let Some(objects) = listed.page().await? {
        sorter.push(objects);
        if sorter.is_full() {
            sorter = aside(move || sorter.spill())
                .await
                .map_err(failed_in(spool_dir))?;
        }
    }
    aside(move || sorter.finish())
        .await
        .map_err(failed_in(spool_dir))
}

fn failed_in(dir: &Location) -> impl FnOnce(io::Error) -> GatherError {
    let dir = dir.display().to_string();
    move |source| GatherError::Spool { dir, source }
}

/// Objects on their way into an order.
struct Sorter {
    dir: Location,
    limit: usize,
    /// The objects that are not written out yet, and how many bytes they take.
    run: Vec<ObjectMeta>,
    bytes: usize,
    file: Option<File>,
    end: u64,
    runs: Vec<Vec<RunBlock>>,
}

/// Where a part of a run is in the file.
#[derive(Debug, Clone, Copy)]
struct RunBlock {
    start: u64,
    length: usize,
}

impl Sorter {
    fn new(dir: &Location, limit: usize) -> Self {
        Self {
            dir: dir.clone(),
            limit,
            run: Vec::new(),
            bytes: 0,
            file: None,
            end: 0,
            runs: Vec::new(),
        }
    }

    fn push(&mut self, objects: Vec<ObjectMeta>) {
        self.bytes += bytes_of(&objects);
        self.run.extend(objects);
    }

    const fn is_full(&self) -> bool {
        self.bytes >= self.limit
    }

    /// The objects of the run in their order.
    fn take_run(&mut self) -> Vec<ObjectMeta> {
        self.bytes = 0;
        let mut run = mem::take(&mut self.run);
        run.sort_by(|a, b| a.key.cmp(&b.key));
        run
    }

    /// Writes the run out.
    fn spill(mut self) -> io::Result<Self> {
        let (mut blocks, mut block, mut bytes) = (Vec::new(), Vec::new(), 0);
        for object in self.take_run() {
            bytes += bytes_of(std::slice::from_ref(&object));
            block.push(Entry::Linkable(object));
            if bytes >= BLOCK_BYTES {
                blocks.push(self.write(&mem::take(&mut block))?);
                bytes = 0;
            }
        }
        if !block.is_empty() {
            blocks.push(self.write(&block)?);
        }
        self.runs.push(blocks);
        Ok(self)
    }

    fn write(&mut self, block: &[Entry]) -> io::Result<RunBlock> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(self.dir.open_or_make(0o700)?.scratch()?),
        };
        let text = serde_json::to_vec(block)?;
        file.write_all_at(&text, self.end)?;
        let (start, length) = (self.end, text.len());
        self.end += length as u64;
        Ok(RunBlock { start, length })
    }

    fn finish(mut self) -> io::Result<SortedListing> {
        let mut listing = SortedListing::default();
        if self.runs.is_empty() {
            listing.add(Run {
                ready: self.take_run().into_iter(),
                blocks: Vec::new().into_iter(),
            })?;
            return Ok(listing);
        }
        let done = match self.run.is_empty() {
            true => self,
            false => self.spill()?,
        };
        listing.file = done.file;
        for blocks in done.runs {
            listing.add(Run {
                ready: Vec::new().into_iter(),
                blocks: blocks.into_iter(),
            })?;
        }
        Ok(listing)
    }
}

/// The objects in the order of their keys, each once.
#[derive(Default)]
pub(super) struct SortedListing {
    file: Option<File>,
    heads: BinaryHeap<Reverse<Head>>,
    last: Option<Key>,
}

/// The rest of a run: what is read already, and where the rest is.
struct Run {
    ready: vec::IntoIter<ObjectMeta>,
    blocks: vec::IntoIter<RunBlock>,
}

/// The first object of a run, and the rest of it.
struct Head {
    first: ObjectMeta,
    rest: Run,
}

impl SortedListing {
    /// The next page; nothing after the last.
    pub(super) fn page(
        &mut self,
        spool_dir: &Location,
    ) -> Result<Option<Vec<ObjectMeta>>, GatherError> {
        let page = self.merged().map_err(failed_in(spool_dir))?;
        Ok(Some(page).filter(|page| !page.is_empty()))
    }

    fn merged(&mut self) -> io::Result<Vec<ObjectMeta>> {
        let mut page = Vec::new();
        while page.len() < MAX_PAGE
            && let Some(mut head) = self.heads.peek_mut()
        {
            let object = match head.0.rest.next(self.file.as_ref())? {
                Some(next) => mem::replace(&mut head.0.first, next),
                None => PeekMut::pop(head).0.first,
            };
            if self.last.as_ref() != Some(&object.key) {
                self.last = Some(object.key.clone());
                page.push(object);
            }
        }
        Ok(page)
    }

    fn add(&mut self, mut run: Run) -> io::Result<()> {
        if let Some(first) = run.next(self.file.as_ref())? {
            self.heads.push(Reverse(Head { first, rest: run }));
        }
        Ok(())
    }
}

impl Run {
    fn next(&mut self, file: Option<&File>) -> io::Result<Option<ObjectMeta>> {
        if let Some(object) = self.ready.next() {
            return Ok(Some(object));
        }
        let (Some(block), Some(file)) = (self.blocks.next(), file) else {
            return Ok(None);
        };
        let mut text = vec![0; block.length];
        file.read_exact_at(&mut text, block.start)?;
        let entries: Vec<Entry> = serde_json::from_slice(&text)?;
        let objects = entries.into_iter().filter_map(|entry| match entry {
            Entry::Linkable(object) => Some(object),
            Entry::Unavailable(..) => None,
        });
        self.ready = objects.collect::<Vec<_>>().into_iter();
        Ok(self.ready.next())
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.first.key.cmp(&other.first.key)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::Storage;

    fn object(key: &str) -> ObjectMeta {
        ObjectMeta {
            key: key.parse().unwrap(),
            size_bytes: 1,
            etag: "e".repeat(32),
            version: None,
            modified: Timestamp::UNIX_EPOCH,
            storage: Storage::Ready,
            stored: None,
        }
    }

    /// The keys of pages in an order of their own, some of them twice, sorted with so many bytes of memory.
    fn sorted(limit: usize) -> (Vec<String>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::from(dir.path());
        let mut sorter = Sorter::new(&location, limit);
        for page in 0..50 {
            let keys = (0..100).map(|n| (page * 100 + n) * 7919 % 4000);
            sorter.push(keys.map(|n| object(&format!("r/{n:05}"))).collect());
            if sorter.is_full() {
                sorter = sorter.spill().unwrap();
            }
        }
        let runs = sorter.runs.len();
        let mut listing = sorter.finish().unwrap();
        let mut keys = Vec::new();
        while let Some(page) = listing.page(&location).unwrap() {
            assert!(page.len() <= MAX_PAGE);
            keys.extend(page.into_iter().map(|object| object.key.to_string()));
        }
        (keys, runs)
    }

    #[test]
    fn what_exceeds_the_memory_is_merged_from_runs_and_each_key_comes_once() {
        let expected: Vec<String> = (0..4000).map(|n| format!("r/{n:05}")).collect();
        let (in_memory, none) = sorted(usize::MAX);
        let (merged, runs) = sorted(100_000);
        assert_eq!((in_memory, none), (expected.clone(), 0));
        assert_eq!(merged, expected);
        assert!(runs > 3, "{runs}");
    }
}
