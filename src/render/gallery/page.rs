//! The links of one page, grouped by folder and by how they are shown.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use jiff::Timestamp;
use presign::{PresignedUrl, disposition};

use super::super::helpers::{is_portal_link, is_rendition_beside};
use super::super::portal::ShownRenditions;
use super::super::view::{self, Missed};
use super::policy::{OF_PAGE, origin};
use crate::links::{Link, Unavailable};
use crate::media::{Picture, PictureFormat, RenditionUrls};

/// The maximum number of files without a link that a page names.
const MAX_MISSED: usize = 200;

/// The maximum size of the embedded thumbnails of a page, in bytes: they do not compress, and the first ones are seen first.
const MAX_THUMBNAIL_BYTES: usize = 1_000_000;

/// The maximum number of folders in a heading, counted from the innermost. Deeper folders are identified by their name.
const MAX_CRUMBS: usize = 8;

/// The aspect ratios of the style sheet, in twentieths of the height: 8 is 2:5, 60 is 3:1. The overview crops pictures beyond
/// them.
pub(super) const SHAPES: std::ops::RangeInclusive<u32> = 8..=60;

/// How many photos load at once and first: on a phone, two are seen without scrolling; on a desk, a row of four.
const EARLY_PHOTOS: usize = 4;

/// The width of a picture that has no large rendition beside it, and so is not chosen by its width.
const UNKNOWN_WIDTH: u32 = 1;

/// The prefix of a thumbnail; the rest is Base64.
pub(super) const THUMBNAIL: &str = "data:image/jpeg;base64,";

/// The links of a page.
#[derive(Default)]
pub(super) struct GalleryPage {
    pub(super) folders: Vec<GalleryFolder>,
    pub(super) count: usize,
    pub(super) size_bytes: u64,
    /// The origins of pictures and sound.
    pub(super) origins: BTreeSet<String>,
    /// The origins of all files.
    pub(super) saved: BTreeSet<String>,
    pub(super) missed: Vec<Missed>,
    pub(super) missed_count: u64,
    /// The names and links of all files in one buffer, instead of a million allocations.
    text: String,
    /// The index in `folders` of a folder, until they are laid out.
    by_name: HashMap<String, usize>,
    /// Which folder the last link was in.
    last: Option<(String, usize)>,
    thumbnail_bytes: usize,
}

/// The files of a folder on a page.
#[derive(Default)]
pub(super) struct GalleryFolder {
    /// Its displayable path below the job's prefix; empty for files outside of folders.
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) photos: Vec<Item>,
    pub(super) videos: Vec<Item>,
    pub(super) sounds: Vec<Item>,
    pub(super) files: Vec<Item>,
    /// Its heading.
    pub(super) trail: Vec<Crumb>,
}

/// An ancestor of a folder.
pub(super) struct Crumb {
    pub(super) name: String,
    /// The index of its section on the page, if it has one.
    pub(super) section: Option<usize>,
}

/// A file of the portal.
pub(super) struct OnPortal<'a> {
    /// The folder below the prefix that all files share.
    pub(super) folder: &'a str,
    /// The name under which it is saved.
    pub(super) name: &'a str,
    pub(super) size_bytes: u64,
    pub(super) modified: Timestamp,
    /// The link of the portal that opens it.
    pub(super) href: &'a str,
    /// The signed link that shows it, if it is a picture.
    pub(super) picture: Option<&'a str>,
    /// Its renditions, if it has some.
    pub(super) renditions: Option<ShownRenditions<'a>>,
    /// Its number over all pages, from 1.
    pub(super) nth: u64,
}

/// A file with its link.
pub(super) struct Item {
    /// Counted over all pages, from 1.
    pub(super) nth: u64,
    /// The range of its name in the page's text.
    name: Range<usize>,
    pub(super) size_bytes: u64,
    pub(super) modified: Timestamp,
    /// The range of its link in the page's text.
    url: Range<usize>,
    /// Width and height in pixels, if known, so that the layout does not shift when the picture loads.
    pub(super) size: Option<(u32, u32)>,
    /// The thumbnail, in Base64; none beside a rendition, which loads as fast.
    pub(super) thumbnail: Option<String>,
    /// The range of the link to its small rendition in the page's text, and the width of that in pixels.
    small: Option<(Range<usize>, u32)>,
    /// The same of its large rendition.
    large: Option<(Range<usize>, u32)>,
    /// Whether the small rendition is the picture itself, by a link of its own.
    pub(super) is_whole: bool,
    /// The hint that a reader should see before opening it, as a key of the strings.
    pub(super) note: Option<&'static str>,
}

impl GalleryPage {
    /// An empty page that reuses the buffers of a finished one.
    pub(super) fn after(done: Self) -> Self {
        let mut text = done.text;
        text.clear();
        Self {
            text,
            ..Self::default()
        }
    }

    /// The displayable name of a file.
    pub(super) fn name(&self, item: &Item) -> &str {
        &self.text[item.name.clone()]
    }

    /// The link to a file.
    pub(super) fn url(&self, item: &Item) -> &str {
        &self.text[item.url.clone()]
    }

    /// The link to a picture's small rendition, and its width in pixels.
    pub(super) fn small(&self, item: &Item) -> Option<(&str, u32)> {
        self.rendition(item.small.as_ref())
    }

    /// The link to a picture's large rendition, and its width in pixels.
    pub(super) fn large(&self, item: &Item) -> Option<(&str, u32)> {
        self.rendition(item.large.as_ref())
    }

    fn rendition(&self, kept: Option<&(Range<usize>, u32)>) -> Option<(&str, u32)> {
        kept.map(|(range, width)| (&self.text[range.clone()], *width))
    }

    fn keep(&mut self, text: &str) -> Range<usize> {
        let from = self.text.len();
        self.text.push_str(text);
        from..self.text.len()
    }

    pub(super) fn add(
        &mut self,
        link: &Link,
        picture: Option<&Picture>,
        renditions: Option<&RenditionUrls>,
        nth: u64,
        base: &str,
    ) {
        let at = self.folder_of(view::folder(view::below(link.key().as_str(), base)));
        let kind = FileKind::of(&link.name, picture);
        let url = link.url.expose();
        if !is_of(url, self.saved.last()) {
            self.saved.extend(origin(url).map(ToOwned::to_owned));
        }
        if kind != FileKind::File {
            self.permit(url);
        }
        // Of a video, it is the cover that it carries.
        let renditions = renditions.filter(|_| matches!(kind, FileKind::Photo | FileKind::Video));
        let mut rendition = |link: &(PresignedUrl, u32)| {
            let url = link.0.expose();
            self.permit(url);
            (self.keep(url), link.1)
        };
        let small = renditions.map(|urls| rendition(&urls.small));
        let large = renditions.and_then(|urls| urls.large.as_ref());
        let large = large.map(&mut rendition);
        let thumbnail = picture.filter(|_| small.is_none());
        let item = Item {
            nth,
            name: self.keep(&view::shown(&link.name)),
            size_bytes: link.object.size_bytes,
            modified: link.object.modified,
            url: self.keep(url),
            size: picture
                .filter(|picture| picture.width > 0 && picture.height > 0)
                .map(|picture| (picture.width, picture.height)),
            thumbnail: thumbnail.and_then(|picture| self.thumbnail(picture)),
            small,
            large,
            is_whole: false,
            note: note(&link.name, picture),
        };
        self.place(at, kind, item);
    }

    /// Adds a file of the portal.
    pub(super) fn show(&mut self, file: &OnPortal<'_>) {
        let at = self.folder_of(file.folder);
        let kind = FileKind::of(file.name, None);
        let picture = file.picture.filter(|_| kind == FileKind::Photo);
        let has_some = matches!(kind, FileKind::Photo | FileKind::Video);
        let renditions = file.renditions.filter(|_| has_some);
        let is_whole = picture.is_some() && renditions.is_none();
        let small = renditions.map(|of| of.small);
        let small = small.or(picture.map(|url| (url, UNKNOWN_WIDTH)));
        let large = renditions.and_then(|of| of.large);
        let mut rendition = |(url, width): (&str, u32)| {
            self.permit(url);
            (self.keep(url), width)
        };
        let (small, large) = (small.map(&mut rendition), large.map(&mut rendition));
        let item = Item {
            nth: file.nth,
            name: self.keep(&view::shown(file.name)),
            size_bytes: file.size_bytes,
            modified: file.modified,
            url: self.keep(file.href),
            size: None,
            thumbnail: None,
            small,
            large,
            is_whole,
            note: note(file.name, None),
        };
        self.place(at, kind, item);
    }

    fn place(&mut self, at: usize, kind: FileKind, item: Item) {
        self.count += 1;
        self.size_bytes = self.size_bytes.saturating_add(item.size_bytes);
        let folder = &mut self.folders[at];
        folder.count += 1;
        match kind {
            FileKind::Photo => folder.photos.push(item),
            FileKind::Video => folder.videos.push(item),
            FileKind::Sound => folder.sounds.push(item),
            FileKind::File => folder.files.push(item),
        }
    }

    /// Lets the page load pictures and sound from where a link leads.
    fn permit(&mut self, url: &str) {
        if is_of(url, self.origins.last()) {
            return;
        }
        let is_here = is_rendition_beside(url) || is_portal_link(url);
        let of_page = is_here.then_some(OF_PAGE);
        let origin = of_page.or_else(|| origin(url));
        self.origins.extend(origin.map(ToOwned::to_owned));
    }

    /// Finds or adds a folder. Links are sorted by key, so it is usually the last folder.
    fn folder_of(&mut self, name: &str) -> usize {
        if let Some((last, at)) = &self.last
            && last == name
        {
            return *at;
        }
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.by_name.insert(name.to_owned(), self.folders.len());
                self.folders.push(GalleryFolder {
                    name: view::shown(name).into_owned(),
                    ..GalleryFolder::default()
                });
                self.folders.len() - 1
            }
        };
        self.last = Some((name.to_owned(), at));
        at
    }

    /// The thumbnail in Base64, while the page has room for it.
    fn thumbnail(&mut self, picture: &Picture) -> Option<String> {
        let base64 = picture.thumbnail.as_deref()?.strip_prefix(THUMBNAIL)?;
        let fits = self.thumbnail_bytes + base64.len() <= MAX_THUMBNAIL_BYTES;
        let is_base64 = base64
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
        (fits && is_base64).then(|| {
            self.thumbnail_bytes += base64.len();
            base64.to_owned()
        })
    }

    pub(super) fn miss(&mut self, missed: &Unavailable, base: &str) {
        self.lack(Missed {
            name: view::shown(view::below(&missed.key, base)).into_owned(),
            reason: view::reason(missed.reason),
        });
    }

    /// Adds a file without a link.
    pub(super) fn lack(&mut self, missed: Missed) {
        self.missed_count += 1;
        if self.missed.len() < MAX_MISSED {
            self.missed.push(missed);
        }
    }

    pub(super) fn has_photos(&self) -> bool {
        self.folders.iter().any(|folder| !folder.photos.is_empty())
    }

    /// Sorts the folders and gives them their headings.
    pub(super) fn lay_out(&mut self) {
        // Folders with photos come first; the sort is stable.
        self.folders.sort_by_key(|folder| folder.photos.is_empty());
        let sections: HashMap<&str, usize> = self
            .folders
            .iter()
            .enumerate()
            .map(|(at, folder)| (folder.name.as_str(), at))
            .collect();
        let trails: Vec<Vec<Crumb>> = self
            .folders
            .iter()
            .map(|folder| trail(&folder.name, &sections))
            .collect();
        for (folder, trail) in self.folders.iter_mut().zip(trails) {
            folder.trail = trail;
        }
    }
}

/// Whether a link belongs to an origin; nearly all links of a job share one.
fn is_of(url: &str, origin: Option<&String>) -> bool {
    let rest = origin.and_then(|origin| url.strip_prefix(origin.as_str()));
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// The ancestors of a folder, each with its section.
fn trail(path: &str, sections: &HashMap<&str, usize>) -> Vec<Crumb> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    let mut crumbs = Vec::new();
    let mut begin = 0;
    for end in ends.chain([path.len()]) {
        if end > begin {
            crumbs.push((&path[begin..end], &path[..end]));
        }
        begin = end + 1;
    }
    let hidden = crumbs.len().saturating_sub(MAX_CRUMBS);
    let ellipsis = (hidden > 0).then(|| Crumb {
        name: "…".to_owned(),
        section: None,
    });
    let shown = crumbs[hidden..].iter().map(|(name, parent)| Crumb {
        name: (*name).to_owned(),
        section: sections.get(parent).copied().filter(|_| *parent != path),
    });
    ellipsis.into_iter().chain(shown).collect()
}

impl Item {
    /// The nearest aspect ratio of the style sheet.
    pub(super) fn shape(&self) -> Option<u32> {
        let (width, height) = self.size?;
        let twentieths = (u64::from(width) * 20 + u64::from(height) / 2) / u64::from(height);
        let nearest = u32::try_from(twentieths).unwrap_or(u32::MAX);
        Some(nearest.clamp(*SHAPES.start(), *SHAPES.end()))
    }
}

/// The badge of a file: its extension, if that is a short word.
pub(super) fn label(name: &str) -> impl Iterator<Item = char> {
    let extension = disposition::extension(name).unwrap_or_default();
    let is_word =
        (1..=5).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_alphanumeric());
    let word = if is_word { extension } else { "" };
    word.chars().map(|letter| letter.to_ascii_uppercase())
}

/// The hint that a reader should see before opening a file.
fn note(name: &str, picture: Option<&Picture>) -> Option<&'static str> {
    let extension = disposition::extension(name).unwrap_or_default();
    let is_heic = picture.is_some_and(|picture| picture.format == PictureFormat::Heic)
        || ["heic", "heif"]
            .iter()
            .any(|heic| extension.eq_ignore_ascii_case(heic));
    is_heic.then_some("note_heic")
}

/// The photos of a page in display order.
pub(super) struct Neighbours {
    order: Vec<u64>,
    at: usize,
}

impl Neighbours {
    pub(super) fn of(page: &GalleryPage) -> Self {
        let photos = page.folders.iter().flat_map(|folder| &folder.photos);
        Self {
            order: photos.map(|item| item.nth).collect(),
            at: 0,
        }
    }

    /// Whether the next photo is among the first of the page, which a reader sees before scrolling.
    pub(super) const fn is_early(&self) -> bool {
        self.at < EARLY_PHOTOS
    }

    /// Advances to the next photo, and returns its neighbours.
    pub(super) fn beside_the_next(&mut self) -> (Option<u64>, Option<u64>) {
        let before = self.at.checked_sub(1);
        let beside = (
            before.and_then(|at| self.order.get(at)).copied(),
            self.order.get(self.at + 1).copied(),
        );
        self.at += 1;
        beside
    }
}

/// How a file is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Photo,
    Video,
    Sound,
    /// As a card: documents, all types that could run scripts, and pictures that browsers do not display.
    File,
}

impl FileKind {
    fn of(name: &str, picture: Option<&Picture>) -> Self {
        if picture.is_some_and(|picture| picture.format != PictureFormat::Displayed) {
            return Self::File;
        }
        let media_type = disposition::passive_type(name).unwrap_or_default();
        match media_type.split('/').next() {
            Some("image") => Self::Photo,
            Some("video") => Self::Video,
            Some("audio") => Self::Sound,
            _ => Self::File,
        }
    }
}

#[cfg(test)]
mod tests;
