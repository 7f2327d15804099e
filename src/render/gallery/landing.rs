//! The landing page of a gallery with several pages: what each page has, a glimpse of it, and the names by which its files are
//! found.
//!
//! Pages are forgotten once they are rendered, so what the landing page shows of them is bounded: the names and the small pictures
//! of a million files would be a page that no phone opens.

use std::collections::BTreeSet;

use serde::Serialize;

use super::page::{GalleryFolder, GalleryPage, Item, THUMBNAIL};

/// The most bytes of names that can be searched; those of some ten to twenty thousand files.
const MAX_NAME_BYTES: usize = 512 * 1024;

/// The most bytes of small pictures: of thumbnails in Base64, or of links.
const MAX_COVER_BYTES: usize = 256 * 1024;

/// The most small pictures of one page.
const MAX_COVERS: usize = 4;

/// What separates the names of a page: no displayable name has a line end.
const SEPARATOR: char = '\n';

/// The pages that are done, as the landing page lists them.
#[derive(Default)]
pub(super) struct Landing {
    pages: Vec<GallerySummary>,
    name_bytes: usize,
    cover_bytes: usize,
    origins: BTreeSet<String>,
    /// The number of files that are found by name.
    indexed: u64,
    /// Whether the names of a page were left out: those of later pages are, too.
    is_full: bool,
}

/// A page, as the landing page lists it.
#[derive(Default, Serialize)]
pub(super) struct GallerySummary {
    page: u64,
    href: String,
    count: u64,
    size_bytes: u64,
    /// Its first and last folder.
    first: Option<String>,
    last: Option<String>,
    /// Its first and last file, if it has one folder.
    first_file: Option<String>,
    last_file: Option<String>,
    /// Where its first small pictures are: `data:` URLs, or links.
    covers: Vec<String>,
    /// The number of its first file, counted over all pages.
    from: u64,
    /// The names of its files with their folders, one a line, if there was room for them.
    names: Option<String>,
}

impl Landing {
    /// Adds a page that is done. `from` is the number of its first file.
    pub(super) fn add(&mut self, page: &GalleryPage, number: usize, href: &str, from: u64) {
        let files = in_order(page);
        let names = self.names(page, &files);
        let covers = self.covers(page);
        let is_one = page.folders.len() == 1;
        let file = |file: Option<&(&GalleryFolder, &Item)>| {
            file.filter(|_| is_one)
                .map(|(_, item)| page.name(item).to_owned())
        };
        let folder = |folder: Option<&GalleryFolder>| {
            folder
                .map(|folder| folder.name.clone())
                .filter(|name| !name.is_empty())
        };
        self.pages.push(GallerySummary {
            page: number as u64,
            href: href.to_owned(),
            count: page.count as u64,
            size_bytes: page.size_bytes,
            first: folder(page.folders.first()),
            last: folder(page.folders.last()).filter(|_| !is_one),
            first_file: file(files.first()),
            last_file: file(files.last()).filter(|_| files.len() > 1),
            covers,
            from,
            names,
        });
    }

    /// The pages so far.
    pub(super) fn pages(&self) -> &[GallerySummary] {
        &self.pages
    }

    /// The number of files that are found by name, if that is not all.
    pub(super) fn indexed(&self) -> Option<u64> {
        self.is_full.then_some(self.indexed)
    }

    /// The names of a page's files, while there is room.
    fn names(&mut self, page: &GalleryPage, files: &[(&GalleryFolder, &Item)]) -> Option<String> {
        if self.is_full {
            return None;
        }
        let mut names = String::new();
        for (at, (folder, item)) in files.iter().enumerate() {
            if at > 0 {
                names.push(SEPARATOR);
            }
            if !folder.name.is_empty() {
                names.push_str(&folder.name);
                names.push('/');
            }
            names.push_str(page.name(item));
        }
        if self.name_bytes + names.len() > MAX_NAME_BYTES {
            self.is_full = true;
            return None;
        }
        self.name_bytes += names.len();
        self.indexed += files.len() as u64;
        Some(names)
    }

    /// The first small pictures of a page, while there is room: their thumbnails, or else their small renditions.
    fn covers(&mut self, page: &GalleryPage) -> Vec<String> {
        let photos = page.folders.iter().flat_map(|folder| &folder.photos);
        let sources = photos.filter_map(|item| match &item.thumbnail {
            Some(base64) => Some(format!("{THUMBNAIL}{base64}")),
            None => page.small(item).map(|(url, _)| url.to_owned()),
        });
        let mut covers = Vec::new();
        for source in sources.take(MAX_COVERS) {
            if self.cover_bytes + source.len() > MAX_COVER_BYTES {
                break;
            }
            self.cover_bytes += source.len();
            if !source.starts_with(THUMBNAIL) {
                self.origins.extend(page.origins.iter().cloned());
            }
            covers.push(source);
        }
        covers
    }

    /// The origins of the small pictures that the page does not carry itself.
    pub(super) const fn origins(&self) -> &BTreeSet<String> {
        &self.origins
    }
}

/// The files of a page with their folders, in the order in which they are counted.
fn in_order(page: &GalleryPage) -> Vec<(&GalleryFolder, &Item)> {
    let mut files: Vec<(&GalleryFolder, &Item)> = Vec::with_capacity(page.count);
    for folder in &page.folders {
        let kinds = [
            &folder.photos,
            &folder.videos,
            &folder.sounds,
            &folder.files,
        ];
        files.extend(kinds.into_iter().flatten().map(|item| (folder, item)));
    }
    files.sort_by_key(|(_, item)| item.nth);
    files
}

impl GallerySummary {
    /// A page for which every value is present.
    pub(super) fn sample() -> Self {
        let text = || Some(String::new());
        Self {
            first: text(),
            last: text(),
            first_file: text(),
            last_file: text(),
            covers: vec![String::new()],
            names: text(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::link;
    use super::*;
    use crate::media::{PageRenditions, Renditions, StoredRenditions};

    /// A page with these keys, whose first file has that number.
    fn page(from: u64, keys: &[&str]) -> GalleryPage {
        let mut page = GalleryPage::default();
        for (key, nth) in keys.iter().zip(from..) {
            page.add(&link(key, 1), None, None, nth, "photos/");
        }
        page.lay_out();
        page
    }

    #[test]
    fn a_file_is_found_by_its_folder_and_its_name_in_the_order_of_its_number() {
        let mut landing = Landing::default();
        let keys = [
            "photos/a.pdf",
            "photos/Day 1/z.jpg",
            "photos/b.mp4",
            "photos/Day 1/y.txt",
        ];
        landing.add(&page(11, &keys), 2, "page-2.html", 11);
        let summary = &landing.pages()[0];
        let names = "a.pdf\nDay 1/z.jpg\nb.mp4\nDay 1/y.txt";
        assert_eq!(summary.names.as_deref(), Some(names));
        assert_eq!((summary.from, summary.count), (11, 4));
        assert_eq!(summary.first_file, None, "there are two folders");
        assert_eq!(landing.indexed(), None, "that is all");
    }

    #[test]
    fn a_page_of_one_folder_is_known_by_its_files() {
        let mut landing = Landing::default();
        landing.add(&page(1, &["photos/1.jpg", "photos/2.jpg"]), 1, "", 1);
        landing.add(&page(3, &["photos/Day 1/3.jpg"]), 2, "", 3);
        let told = landing.pages().iter().map(|page| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            [&page.first, &page.last, &page.first_file, &page.last_file]
                .map(text)
                .join("|")
        });
        assert_eq!(told.collect::<Vec<_>>(), ["||1.jpg|2.jpg", "Day 1||3.jpg|"]);
    }

    #[test]
    fn a_page_without_thumbnails_is_shown_by_its_renditions() {
        let picture = link("photos/a.jpg", 1);
        let stored = StoredRenditions::new("0af1-640.jpg".to_owned(), None, None);
        let of_pictures = vec![(picture.key().clone(), stored)];
        let location = |name: &str| format!("https://out.example/g/{name}?X-Amz-Signature=a");
        let renditions = PageRenditions::beside(&Renditions { of_pictures }, location);
        let mut page = GalleryPage::default();
        page.add(&picture, None, renditions.get(picture.key()), 1, "photos/");
        page.lay_out();
        let mut landing = Landing::default();
        landing.add(&page, 1, "page-1.html", 1);
        let covers = &landing.pages()[0].covers;
        let expected = "https://out.example/g/0af1-640.jpg?X-Amz-Signature=a";
        assert_eq!(covers, &[expected]);
        assert!(landing.origins().contains("https://out.example"));
    }

    #[test]
    fn a_landing_page_has_a_bound() {
        let long = "n".repeat(900);
        let keys: Vec<String> = (0..100).map(|n| format!("photos/{n}{long}.jpg")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut landing = Landing::default();
        for number in 0..60_u64 {
            let mut page = page(number * 100 + 1, &keys);
            for item in &mut page.folders[0].photos {
                item.thumbnail = Some("A".repeat(8 * 1024));
            }
            landing.add(&page, 1, "", number * 100 + 1);
        }
        let names = landing
            .pages()
            .iter()
            .filter_map(|page| page.names.as_ref());
        let names: usize = names.map(String::len).sum();
        assert!(
            (MAX_NAME_BYTES / 2..=MAX_NAME_BYTES).contains(&names),
            "{names}"
        );
        let of_page = names
            / landing
                .pages()
                .iter()
                .filter(|page| page.names.is_some())
                .count();
        assert_eq!(landing.indexed(), Some(100 * (names / of_page) as u64));
        let covers = landing.pages().iter().flat_map(|page| &page.covers);
        assert_eq!(
            covers.count(),
            MAX_COVER_BYTES / (8 * 1024 + THUMBNAIL.len())
        );
        assert!(landing.origins().is_empty(), "the page carries them itself");
    }
}
