//! The values for the templates of pages.

use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

use super::super::brand::BrandView;
use super::super::paragraphs::MessageView;
use super::super::view::{InstantView, LanguageView, Missed};
use super::super::zips::ZipsView;
use super::ask::RenewalMail;
use super::landing::GallerySummary;
use super::page::{self, GalleryPage, Item, Neighbours};

/// The values that all pages of a gallery share.
#[derive(Serialize)]
pub(super) struct PageFrame<'a> {
    pub(super) language: LanguageView<'a>,
    pub(super) title: String,
    /// The number of files on all pages.
    pub(super) total: u64,
    /// The recipient, if the links belong to one.
    pub(super) recipient: Option<&'a str>,
    pub(super) sender: &'a str,
    pub(super) brand: BrandView<'a>,
    /// What the job says to the readers.
    pub(super) message: Option<MessageView>,
    /// How to ask for new links.
    pub(super) ask: RenewalMail,
    pub(super) made_at: InstantView,
    pub(super) expires_at: InstantView,
    pub(super) sooner: Option<&'static str>,
    pub(super) zip: Option<ZipsView>,
    /// Whether a link displays its file instead of saving it.
    pub(super) opens: bool,
    /// On a page of the portal whose reader is signed in: the token of the page.
    pub(super) signed_in: Option<&'a str>,
}

#[derive(Default, Serialize)]
pub(super) struct PageHead<'a> {
    pub(super) title: &'a str,
    pub(super) policy: String,
    /// What requests of the page say of it: a `Referrer-Policy`.
    pub(super) referrer: &'static str,
    /// The style sheet with the colours of the brand.
    pub(super) palette: Option<&'a str>,
}

/// The values for the template of a page.
#[derive(Serialize)]
pub(super) struct PageView<'a> {
    pub(super) head: PageHead<'a>,
    #[serde(flatten)]
    pub(super) frame: &'a PageFrame<'a>,
    pub(super) count: u64,
    pub(super) size_bytes: u64,
    /// The numbers of its first and last file, counted over all pages.
    pub(super) first: u64,
    pub(super) last: u64,
    /// Its number, and how many there are.
    pub(super) page: u64,
    pub(super) pages: u64,
    /// Whether there are several.
    pub(super) paged: bool,
    pub(super) index: Option<&'a str>,
    pub(super) previous: Option<&'a str>,
    pub(super) next: Option<&'a str>,
    pub(super) has_photos: bool,
    pub(super) missed: Option<MissedFiles<'a>>,
    /// The folders with a heading, if there are several.
    pub(super) contents: Vec<GalleryEntry<'a>>,
    /// For templates that loop over the files themselves. Costly, so other templates do not get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) folders: Option<Vec<FolderView<'a>>>,
}

/// A folder in the list of contents.
#[derive(Default, Serialize)]
pub(super) struct GalleryEntry<'a> {
    anchor: String,
    name: &'a str,
    count: u64,
}

/// A folder, for templates that loop over folders.
#[derive(Default, Serialize)]
pub(super) struct FolderView<'a> {
    anchor: String,
    /// Empty for files outside of folders.
    name: &'a str,
    trail: Vec<CrumbView<'a>>,
    count: u64,
    /// Whether the size of any of its photos is known.
    sized: bool,
    photos: Vec<ItemView<'a>>,
    videos: Vec<ItemView<'a>>,
    sounds: Vec<ItemView<'a>>,
    files: Vec<ItemView<'a>>,
}

#[derive(Default, Serialize)]
struct CrumbView<'a> {
    name: &'a str,
    anchor: Option<String>,
}

#[derive(Default, Serialize)]
struct ItemView<'a> {
    /// Counted over all pages, from 1.
    nth: u64,
    name: &'a str,
    label: String,
    size_bytes: u64,
    modified: InstantView,
    /// The same in seconds since 1970, for sorting.
    seconds: i64,
    url: &'a str,
    width: Option<u32>,
    height: Option<u32>,
    /// The class of its shape.
    shape: Option<String>,
    thumbnail: Option<&'a str>,
    /// The renditions and their widths in pixels.
    small: Option<&'a str>,
    small_width: Option<u32>,
    large: Option<&'a str>,
    large_width: Option<u32>,
    /// Whether the small one is the picture itself.
    whole: bool,
    /// Whether it is seen before scrolling.
    early: bool,
    /// The neighbouring photos.
    previous: Option<u64>,
    next: Option<u64>,
    note: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct MissedFiles<'a> {
    count: u64,
    files: &'a [Missed],
    more: Option<u64>,
}

/// The values for the template of an index.
#[derive(Serialize)]
pub(super) struct IndexView<'a> {
    pub(super) head: PageHead<'a>,
    #[serde(flatten)]
    pub(super) frame: &'a PageFrame<'a>,
    pub(super) count: u64,
    pub(super) size_bytes: u64,
    pub(super) pages: &'a [GallerySummary],
    /// The number of files that are found by name, if that is not all.
    pub(super) indexed: Option<u64>,
}

/// The anchor of a section on its page.
fn anchor(section: usize) -> String {
    format!("f{}", section + 1)
}

pub(super) fn contents(page: &GalleryPage) -> Vec<GalleryEntry<'_>> {
    let named: Vec<GalleryEntry<'_>> = page
        .folders
        .iter()
        .enumerate()
        .filter(|(_, folder)| !folder.trail.is_empty())
        .map(|(at, folder)| GalleryEntry {
            anchor: anchor(at),
            name: &folder.name,
            count: folder.count,
        })
        .collect();
    if named.len() > 1 { named } else { Vec::new() }
}

pub(super) fn missed(page: &GalleryPage) -> Option<MissedFiles<'_>> {
    let more = page.missed_count - page.missed.len() as u64;
    (page.missed_count > 0).then(|| MissedFiles {
        count: page.missed_count,
        files: &page.missed,
        more: (more > 0).then_some(more),
    })
}

pub(super) fn folders<'p>(page: &'p GalleryPage, time_zone: &TimeZone) -> Vec<FolderView<'p>> {
    let mut photos = Neighbours::of(page);
    let item = |item| ItemView::of(page, item, false, (None, None), time_zone);
    page.folders
        .iter()
        .enumerate()
        .map(|(at, folder)| FolderView {
            anchor: anchor(at),
            name: &folder.name,
            trail: folder
                .trail
                .iter()
                .map(|crumb| CrumbView {
                    name: &crumb.name,
                    anchor: crumb.section.map(anchor),
                })
                .collect(),
            count: folder.count,
            sized: folder.photos.iter().any(|item| item.size.is_some()),
            photos: folder
                .photos
                .iter()
                .map(|item| {
                    let is_early = photos.is_early();
                    ItemView::of(page, item, is_early, photos.beside_the_next(), time_zone)
                })
                .collect(),
            videos: folder.videos.iter().map(item).collect(),
            sounds: folder.sounds.iter().map(item).collect(),
            files: folder.files.iter().map(item).collect(),
        })
        .collect()
}

impl<'p> ItemView<'p> {
    fn of(
        page: &'p GalleryPage,
        item: &'p Item,
        early: bool,
        beside: (Option<u64>, Option<u64>),
        time_zone: &TimeZone,
    ) -> Self {
        let name = page.name(item);
        let (small, large) = (page.small(item), page.large(item));
        Self {
            nth: item.nth,
            name,
            label: page::label(name).collect(),
            size_bytes: item.size_bytes,
            modified: InstantView::new(item.modified, time_zone),
            seconds: item.modified.as_second(),
            url: page.url(item),
            width: item.size.map(|(width, _)| width),
            height: item.size.map(|(_, height)| height),
            shape: item.shape().map(|shape| format!("r{shape}")),
            thumbnail: item.thumbnail.as_deref(),
            small: small.map(|(url, _)| url),
            small_width: small.map(|(_, width)| width),
            large: large.map(|(url, _)| url),
            large_width: large.map(|(_, width)| width),
            whole: item.is_whole,
            early,
            previous: beside.0,
            next: beside.1,
            note: item.note,
        }
    }
}

/// The sample against which page templates are checked: a view in which every value is present.
pub(in super::super) fn page_sample() -> Value {
    let items = || vec![ItemView::default()];
    let folder = FolderView {
        trail: vec![CrumbView::default()],
        photos: items(),
        videos: items(),
        sounds: items(),
        files: items(),
        ..FolderView::default()
    };
    sample(&PageView {
        head: head_sample(),
        frame: &frame_sample(),
        count: 1,
        size_bytes: 0,
        first: 1,
        last: 1,
        page: 1,
        pages: 1,
        paged: true,
        index: Some(""),
        previous: Some(""),
        next: Some(""),
        has_photos: true,
        missed: Some(MissedFiles {
            count: 1,
            files: &[Missed::default()],
            more: Some(1),
        }),
        contents: vec![GalleryEntry::default()],
        folders: Some(vec![folder]),
    })
}

/// The sample against which index templates are checked.
pub(in super::super) fn index_sample() -> Value {
    sample(&IndexView {
        head: head_sample(),
        frame: &frame_sample(),
        count: 1,
        size_bytes: 0,
        pages: &[GallerySummary::sample()],
        indexed: Some(1),
    })
}

fn head_sample() -> PageHead<'static> {
    PageHead {
        palette: Some(""),
        ..PageHead::default()
    }
}

fn frame_sample() -> PageFrame<'static> {
    PageFrame {
        language: LanguageView::default(),
        title: String::new(),
        total: 1,
        recipient: Some(""),
        sender: "",
        brand: BrandView::sample(),
        message: Some(MessageView::sample()),
        zip: Some(ZipsView::sample()),
        ask: RenewalMail::default(),
        made_at: InstantView::default(),
        expires_at: InstantView::default(),
        sooner: Some("sooner_policy"),
        opens: true,
        signed_in: Some(""),
    }
}

fn sample(view: &impl Serialize) -> Value {
    serde_json::to_value(view).expect("a view has text keys only")
}
