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
mod tests;
