//! Lists the keys of a bucket in byte order, page by page.
//!
//! There is no index. A walk through the folders, sorted by name *with a trailing `/`*, visits the keys in order (`a-b` < `a/b` <
//! `a0`) and skips folders that cannot contain a key of the page. It holds only a window of the next names of a folder, so memory
//! does not grow with the bucket. A page of a flat folder reads all names in it, which costs about a microsecond each.
//!
//! Symbolic links, sockets and other special files are not objects.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>

use std::borrow::Cow;
use std::collections::BinaryHeap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use directory::Directory;

use crate::bucket::{Bucket, Stat, absent_is_none};
use crate::names::{self, NameReading};

/// How many nested folders are held by their descriptors; below them, only the folder that is being read is. Keys have up to 512
/// folders, and a process has few more descriptors.
const HELD: usize = 8;

/// The number of names of a folder in memory: a page of the maximum size, and one more that shows whether another page follows.
const WINDOW: usize = 1001;

/// The maximum number of folders that are entered for a page; a page that reaches it has fewer objects, or none.
///
/// Folders without objects have no keys, and all users with write access to the bucket can create millions. An answer that takes
/// longer than the daemon's timeout would count as an outage. A folder that is not cached takes milliseconds.
pub(crate) const FOLDERS: usize = 2000;

/// The parameters of a listing.
pub(crate) struct ListingQuery<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) delimiter: Option<&'a str>,
    /// The end of the previous page.
    pub(crate) after: Option<Mark>,
    /// The maximum number of objects and groups; at least 1.
    pub(crate) limit: usize,
    /// The maximum number of folders, such as [`FOLDERS`].
    pub(crate) folders: usize,
}

/// A position in the order of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// After this key.
    Key(String),
    /// After all keys with this prefix.
    Group(String),
}

impl Mark {
    /// The position of a `start-after`. A common prefix stands for all keys of its group, as in S3.
    pub(crate) fn after(start: &str, prefix: &str, delimiter: Option<&str>) -> Self {
        match group(start, prefix, delimiter) {
            Some(group) if group == start => Self::Group(start.to_owned()),
            Some(_) | None => Self::Key(start.to_owned()),
        }
    }

    /// Encodes the mark as an opaque continuation token.
    pub(crate) fn token(&self) -> String {
        let (kind, text) = match self {
            Self::Key(key) => ('k', key),
            Self::Group(group) => ('g', group),
        };
        text.bytes()
            .fold(kind.to_string(), |token, byte| format!("{token}{byte:02x}"))
    }

    /// Decodes a token; `None` if it is not a token of this module.
    pub(crate) fn from_token(token: &str) -> Option<Self> {
        let (kind, digits) = token.split_at_checked(1)?;
        let bytes: Option<Vec<u8>> = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [
                    high @ (b'0'..=b'9' | b'a'..=b'f'),
                    low @ (b'0'..=b'9' | b'a'..=b'f'),
                ] => {
                    let digit = |c: u8| if c < b'a' { c - b'0' } else { c - b'a' + 10 };
                    Some(digit(*high) << 4 | digit(*low))
                }
                _ => None,
            })
            .collect();
        let text = String::from_utf8(bytes?).ok()?;
        match kind {
            "k" => Some(Self::Key(text)),
            "g" => Some(Self::Group(text)),
            _ => None,
        }
    }
}

/// A page of a listing.
#[derive(Default)]
pub(crate) struct ListingPage {
    pub(crate) objects: Vec<(String, Stat)>,
    /// The common prefixes.
    pub(crate) groups: Vec<String>,
    /// The start of the next page, if there is one.
    pub(crate) next: Option<Mark>,
}

/// Lists a page.
pub(crate) fn list(bucket: &Bucket, query: &ListingQuery<'_>) -> io::Result<ListingPage> {
    let mut walk = ListingWalk {
        bucket,
        query,
        page: ListingPage::default(),
        last: None,
        entered: 0,
    };
    let (place, prefix) = match query.prefix.rsplit_once('/') {
        Some((folders, _)) => (names::folder(folders), &query.prefix[..=folders.len()]),
        None => (PathBuf::new(), ""),
    };
    if let Some(directory) = bucket.folder(&place)? {
        let folder = ListedFolder {
            place,
            depth: 0,
            directory: Some(directory),
        };
        let _: ControlFlow<()> = walk.visit(folder, prefix)?;
    }
    Ok(walk.page)
}

/// A name in a folder, in the order of its keys.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// The segment, with a `/` if it is a folder.
    text: String,
    kind: CandidateKind,
    /// Its place in the folder.
    place: PathBuf,
}

/// A regular file sorts before the one beside it, which it hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CandidateKind {
    Usual,
    Beside,
    Folder,
}

/// A folder of the bucket that is being listed.
struct ListedFolder {
    /// Its place in the bucket.
    place: PathBuf,
    /// The number of parent folders that are being listed.
    depth: usize,
    /// `None` while it is closed.
    directory: Option<Directory>,
}

impl ListedFolder {
    /// The folder; `None` if it is gone, or a link has taken its place.
    fn directory(&mut self, bucket: &Bucket) -> io::Result<Option<&Directory>> {
        if self.directory.is_none() {
            self.directory = bucket.folder(&self.place)?;
        }
        Ok(self.directory.as_ref())
    }

    /// Enters a child folder, and closes this one if too many are held.
    fn enter(&mut self, bucket: &Bucket, place: &Path) -> io::Result<Option<Self>> {
        let Some(here) = self.directory(bucket)? else {
            return Ok(None);
        };
        let Some(below) = absent_is_none(here.pass(place))? else {
            return Ok(None);
        };
        if self.depth >= HELD {
            self.directory = None;
        }
        Ok(Some(Self {
            place: self.place.join(place),
            depth: self.depth + 1,
            directory: Some(below),
        }))
    }

    /// Inspects a regular file in the folder.
    fn stat(&mut self, bucket: &Bucket, place: &Path) -> io::Result<Option<Stat>> {
        match self.directory(bucket)? {
            Some(here) => Stat::of_file(here, place),
            None => Ok(None),
        }
    }
}

struct ListingWalk<'a> {
    bucket: &'a Bucket,
    query: &'a ListingQuery<'a>,
    page: ListingPage,
    last: Option<Mark>,
    entered: usize,
}

impl ListingWalk<'_> {
    /// Visits the keys below `folder`, all of which begin with `prefix`; breaks when the page is full.
    fn visit(&mut self, mut folder: ListedFolder, prefix: &str) -> io::Result<ControlFlow<()>> {
        let mut cursor = None;
        while !self.is_grouped(prefix) {
            let Some(directory) = folder.directory(self.bucket)? else {
                break;
            };
            let window = self.window(directory, prefix, cursor.as_ref())?;
            let is_last = window.len() < WINDOW;
            for candidate in window {
                let key = format!("{prefix}{}", candidate.text);
                let flow = match candidate.kind {
                    CandidateKind::Folder => match folder.enter(self.bucket, &candidate.place)? {
                        Some(below) => match self.visit(below, &key)? {
                            ControlFlow::Continue(()) => self.leave(key),
                            full @ ControlFlow::Break(_) => full,
                        },
                        None => ControlFlow::Continue(()),
                    },
                    CandidateKind::Usual => self.meet(key, &mut folder, &candidate.place)?,
                    CandidateKind::Beside => {
                        let usual = names::segment(&candidate.text);
                        match folder.stat(self.bucket, &usual)? {
                            Some(_) => ControlFlow::Continue(()),
                            None => self.meet(key, &mut folder, &candidate.place)?,
                        }
                    }
                };
                if flow.is_break() {
                    return Ok(flow);
                }
                if self.is_grouped(prefix) {
                    return Ok(ControlFlow::Continue(()));
                }
                cursor = Some(candidate);
            }
            if is_last {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Counts a listed folder; ends the page after it once the limit is reached.
    fn leave(&mut self, key: String) -> ControlFlow<()> {
        self.entered += 1;
        // The rest of a group is skipped at once, and the next page must not start within it.
        if self.entered < self.query.folders || self.is_grouped(&key) {
            return ControlFlow::Continue(());
        }
        self.page.next = Some(Mark::Group(key));
        ControlFlow::Break(())
    }

    /// Adds a key, or the group that it belongs to, to the page.
    fn meet(
        &mut self,
        key: String,
        folder: &mut ListedFolder,
        place: &Path,
    ) -> io::Result<ControlFlow<()>> {
        if self.is_grouped(&key) {
            return Ok(ControlFlow::Continue(()));
        }
        // Removed since its name was read.
        let Some(stat) = folder.stat(self.bucket, place)? else {
            return Ok(ControlFlow::Continue(()));
        };
        if self.page.objects.len() + self.page.groups.len() == self.query.limit {
            self.page.next = self.last.take();
            return Ok(ControlFlow::Break(()));
        }
        match self.group(&key).map(str::to_owned) {
            Some(group) => {
                self.page.groups.push(group.clone());
                self.last = Some(Mark::Group(group));
            }
            None => {
                self.page.objects.push((key.clone(), stat));
                self.last = Some(Mark::Key(key));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The common prefix of a key, or of all keys that begin with `key`.
    fn group<'k>(&self, key: &'k str) -> Option<&'k str> {
        group(key, self.query.prefix, self.query.delimiter)
    }

    /// Whether the page already contains the group of this key, or of all keys that begin with it.
    fn is_grouped(&self, key: &str) -> bool {
        matches!((&self.last, self.group(key)), (Some(Mark::Group(last)), Some(group)) if last == group)
    }

    /// Reads the next names of a folder after `cursor`, in order.
    fn window(
        &self,
        folder: &Directory,
        prefix: &str,
        cursor: Option<&Candidate>,
    ) -> io::Result<Vec<Candidate>> {
        let mut window = ListingWindow {
            walk: self,
            prefix,
            cursor,
            smallest: BinaryHeap::new(),
        };
        window.scan(folder, Path::new(""), "")?;
        Ok(window.smallest.into_sorted_vec())
    }

    /// Whether a key may be on this page; for a folder, whether any key below it may.
    fn wants(&self, key: &str, kind: CandidateKind) -> bool {
        let is_folder = kind == CandidateKind::Folder;
        let begins =
            key.starts_with(self.query.prefix) || is_folder && self.query.prefix.starts_with(key);
        begins
            && key.len() <= names::MAX_KEY
            && match &self.query.after {
                None => true,
                Some(Mark::Key(after)) => {
                    key > after.as_str() || is_folder && after.starts_with(key)
                }
                Some(Mark::Group(group)) if key.starts_with(group) => false,
                Some(Mark::Group(group)) => {
                    key > group.as_str() || is_folder && group.starts_with(key)
                }
            }
    }
}

/// The common prefix of a key in a listing with a delimiter.
fn group<'k>(key: &'k str, prefix: &str, delimiter: Option<&str>) -> Option<&'k str> {
    let delimiter = delimiter?;
    let rest = key.strip_prefix(prefix)?;
    let end = rest.find(delimiter)? + delimiter.len();
    Some(&key[..prefix.len() + end])
}

/// The smallest names of a folder that a walk needs.
struct ListingWindow<'a> {
    walk: &'a ListingWalk<'a>,
    prefix: &'a str,
    cursor: Option<&'a Candidate>,
    smallest: BinaryHeap<Candidate>,
}

impl ListingWindow<'_> {
    /// Scans a folder, and the parts of long names in it. `inside` is the place of the scan, and `before` the text of the parts
    /// so far.
    fn scan(&mut self, folder: &Directory, inside: &Path, before: &str) -> io::Result<()> {
        for entry in folder.entries()? {
            let (name, kind) = entry?;
            // A name that is not UTF-8 is not a key.
            let Some(name) = name.to_str() else { continue };
            let Some(reading) = names::read(before, name) else {
                continue;
            };
            let place = || inside.join(name);
            match reading {
                NameReading::Segment(text) if kind.is_file() => {
                    self.consider(text, CandidateKind::Usual, place);
                }
                NameReading::Segment(text) if kind.is_dir() => {
                    self.consider(text + "/", CandidateKind::Folder, place);
                }
                NameReading::Beside(text) if kind.is_file() => {
                    self.consider(text.into(), CandidateKind::Beside, place);
                }
                NameReading::Part(text) if kind.is_dir() => {
                    if let Some(part) = absent_is_none(folder.pass(Path::new(name)))? {
                        self.scan(&part, &place(), &text)?;
                    }
                }
                NameReading::Segment(_) | NameReading::Beside(_) | NameReading::Part(_) => {}
            }
        }
        Ok(())
    }

    fn consider(
        &mut self,
        text: Cow<'_, str>,
        kind: CandidateKind,
        place: impl FnOnce() -> PathBuf,
    ) {
        if self.smallest.len() == WINDOW
            && self
                .smallest
                .peek()
                .is_some_and(|largest| *text > *largest.text)
        {
            return;
        }
        if self
            .cursor
            .is_some_and(|cursor| (&*text, kind) <= (cursor.text.as_str(), cursor.kind))
        {
            return;
        }
        if !self.walk.wants(&format!("{}{text}", self.prefix), kind) {
            return;
        }
        let candidate = Candidate {
            text: text.into_owned(),
            kind,
            place: place(),
        };
        if !is_canonical(&candidate) {
            return;
        }
        self.smallest.push(candidate);
        if self.smallest.len() > WINDOW {
            self.smallest.pop();
        }
    }
}

/// Whether the key leads to this place: parts of a long name could be arranged in other ways than `names` writes them.
fn is_canonical(candidate: &Candidate) -> bool {
    let segment = candidate.text.trim_end_matches('/');
    let place = match candidate.kind {
        CandidateKind::Usual | CandidateKind::Folder => names::segment(segment),
        CandidateKind::Beside => names::beside(segment),
    };
    place == candidate.place
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::bucket::Condition;
    use crate::create_bucket;
    use crate::description::Description;

    fn bucket_of(site: &Path, keys: &BTreeSet<String>) -> Bucket {
        create_bucket(site, "bucket").unwrap();
        let bucket = Bucket::open(&site.canonicalize().unwrap(), "bucket")
            .unwrap()
            .unwrap();
        for key in keys {
            let draft = bucket.draft().unwrap();
            let nothing = Description::default();
            bucket
                .publish(key, draft, &nothing, &Condition::Absent, &Mutex::new(()))
                .unwrap();
        }
        bucket
    }

    /// All pages, with the invariants of each page.
    fn all(
        bucket: &Bucket,
        prefix: &str,
        delimiter: Option<&str>,
        limit: usize,
        start: Option<&str>,
        folders: usize,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let mut after = start.map(|start| Mark::after(start, prefix, delimiter));
        loop {
            let query = ListingQuery {
                prefix,
                delimiter,
                after,
                limit,
                folders,
            };
            let page = list(bucket, &query).unwrap();
            let mut entries: Vec<String> = page
                .objects
                .into_iter()
                .map(|(key, _)| key)
                .chain(page.groups)
                .collect();
            entries.sort();
            let is_full = entries.len() == limit || page.next.is_none();
            assert!(entries.len() <= limit && (is_full || folders < usize::MAX));
            found.extend(entries);
            let Some(next) = page.next else { return found };
            after = Mark::from_token(&next.token());
            assert_eq!(after.as_ref(), Some(&next));
        }
    }

    /// A simple model of S3's listing.
    fn model(
        keys: &BTreeSet<String>,
        prefix: &str,
        delimiter: Option<&str>,
        start: Option<&str>,
    ) -> Vec<String> {
        let is_group = |start: &str| group(start, prefix, delimiter) == Some(start);
        let behind = keys.iter().filter(|key| {
            start.is_none_or(|start| {
                key.as_str() > start && !(is_group(start) && key.starts_with(start))
            })
        });
        let mut found: Vec<String> = behind
            .filter_map(|key| {
                let rest = key.strip_prefix(prefix)?;
                let group =
                    delimiter.and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
                Some(group.map_or(key.clone(), |end| key[..prefix.len() + end].to_owned()))
            })
            .collect();
        found.dedup();
        found
    }

    fn short_key() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a", "b", "-", "0", "/", "/", "//", ".", "..", "%", "%=", "\u{e9}", "\0",
        ]);
        prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn pages_of_any_size_are_the_listing_of_the_model(
            keys in prop::collection::btree_set(short_key(), 1..40),
            prefix in prop::sample::select(vec!["", "a", "a/", "/", "//", ".", "b/a", "%"]),
            delimiter in prop::sample::select(vec![None, Some("/"), Some("-"), Some("a"), Some("//")]),
            start in prop::option::of(short_key()),
            limit in 1_usize..8,
        ) {
            let site = tempfile::tempdir().unwrap();
            let bucket = bucket_of(site.path(), &keys);
            let expected = model(&keys, prefix, delimiter, start.as_deref());
            for folders in [1, 3, usize::MAX] {
                let found = all(&bucket, prefix, delimiter, limit, start.as_deref(), folders);
                prop_assert_eq!(&found, &expected, "{} folders", folders);
            }
            prop_assert_eq!(all(&bucket, "", None, limit, None, usize::MAX), Vec::from_iter(keys));
        }
    }

    #[test]
    fn a_page_ends_where_the_next_begins_even_in_a_folder_larger_than_the_window() {
        let site = tempfile::tempdir().unwrap();
        let bucket = bucket_of(site.path(), &BTreeSet::new());
        let folder = site.path().join("bucket");
        let keys: BTreeSet<String> = (0..2 * WINDOW)
            .map(|i| format!("{:05}", i * 7919 % 100_003))
            .collect();
        for key in &keys {
            std::fs::write(folder.join(key), "").unwrap();
        }
        let keys: Vec<String> = keys.into_iter().collect();
        assert_eq!(all(&bucket, "", None, 700, None, usize::MAX), keys);
        // A listing that needs two windows.
        let query = ListingQuery {
            prefix: "",
            delimiter: None,
            after: None,
            limit: keys.len(),
            folders: FOLDERS,
        };
        assert_eq!(list(&bucket, &query).unwrap().objects.len(), keys.len());
    }

    #[test]
    fn a_page_ends_after_so_many_folders_without_an_object() {
        let site = tempfile::tempdir().unwrap();
        let keys = BTreeSet::from(["a".to_owned(), "z/z".to_owned()]);
        let bucket = bucket_of(site.path(), &keys);
        for number in 0..10 {
            let folder = format!("m/{number}/below");
            std::fs::create_dir_all(
                bucket
                    .folder(Path::new(""))
                    .unwrap()
                    .unwrap()
                    .path()
                    .join(folder),
            )
            .unwrap();
        }
        for delimiter in [None, Some("/")] {
            let (mut after, mut pages, mut met) = (None, 0, Vec::new());
            loop {
                let query = ListingQuery {
                    prefix: "",
                    delimiter,
                    after,
                    limit: 1000,
                    folders: 3,
                };
                let page = list(&bucket, &query).unwrap();
                pages += 1;
                met.extend(page.objects.into_iter().map(|(key, _)| key));
                met.extend(page.groups);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let last = if delimiter.is_none() { "z/z" } else { "z/" };
            assert_eq!(met, ["a", last]);
            assert!((7..=9).contains(&pages), "{pages}");
        }
    }

    #[test]
    fn a_token_that_is_not_ours_is_refused() {
        for token in ["", "k1", "kzz", "x61", "k+1", "k\u{e9}", "kff"] {
            assert_eq!(Mark::from_token(token), None, "{token}");
        }
        assert_eq!(
            Mark::from_token("g612f"),
            Some(Mark::Group("a/".to_owned()))
        );
    }
}
