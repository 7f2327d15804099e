//! The renditions of a page's pictures, and the links to them.

use std::collections::HashMap;
use std::sync::Arc;

use presign::PresignedUrl;
use presign::disposition::passive_type;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::Picture;
use super::rendition::{LARGE_SIDE, SMALL_SIDE};
use super::rendition_places::RenditionPlaces;
use crate::audit::AuditedLinks;
use crate::job::Key;
use crate::links::listing::Entry;

/// Which of a gallery's pictures get renditions, and with how many threads.
#[derive(Debug, Clone)]
pub struct RenditionSettings {
    /// The maximum number of pictures of a job; the first ones get renditions. 0 makes none.
    pub limit: u64,
    /// A permit for each thread that decodes pictures. All jobs share them.
    pub threads: Arc<Semaphore>,
    /// A permit for each picture in memory: those that are decoded, and one that is fetched meanwhile. All jobs share them.
    pub in_memory: Arc<Semaphore>,
    /// The places of the jobs that make renditions.
    pub places: Arc<RenditionPlaces>,
    /// How many pictures of a job are worked on at once.
    pub at_once: usize,
    /// By how much the threads that decode give way to all others of the machine, from 0 to 19.
    pub niceness: i32,
}

/// Whether a file of this name may get renditions; others are not fetched.
pub fn may_have_renditions(name: &str) -> bool {
    matches!(
        passive_type(name),
        Some("image/jpeg" | "image/png" | "image/apng" | "image/gif" | "image/webp")
    )
}

/// A rendition that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredImage {
    /// The name of its file.
    pub file_name: String,
    /// About its width, in pixels: as it follows from the size of the picture.
    pub width: u32,
}

/// The stored renditions of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRenditions {
    /// The small one.
    pub small: StoredImage,
    /// The large one, if there is one.
    pub large: Option<StoredImage>,
}

impl StoredRenditions {
    /// The renditions under these names, of a picture whose size may be known.
    pub fn new(small: String, large: Option<String>, picture: Option<&Picture>) -> Self {
        let image = |file_name, side| StoredImage {
            file_name,
            width: width_within(picture, side),
        };
        Self {
            small: image(small, SMALL_SIDE),
            large: large.map(|name| image(name, LARGE_SIDE)),
        }
    }
}

/// The width of a picture whose long side is reduced to `side`; `side` itself if the size is not known.
fn width_within(picture: Option<&Picture>, side: u32) -> u32 {
    let known = picture.filter(|picture| picture.width > 0 && picture.height > 0);
    let Some(Picture { width, height, .. }) = known else {
        return side;
    };
    let long = u64::from(*width.max(height));
    let reduced = (u64::from(*width) * u64::from(side)).div_ceil(long);
    u32::try_from(reduced).unwrap_or(side).min(*width)
}

/// The stored renditions of a page's pictures, in the order of the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renditions {
    /// Each picture that has renditions.
    pub of_pictures: Vec<(Key, StoredRenditions)>,
}

/// The renditions of a picture, by its place in the job's listing.
pub type RenditionRow = (u32, StoredRenditions);

impl Renditions {
    /// The renditions by the places of their pictures in the listing, of which `page` has those from `first` on.
    pub fn rows(&self, first: u32, page: &[Entry]) -> Vec<RenditionRow> {
        let by_key: HashMap<&Key, &StoredRenditions> = self
            .of_pictures
            .iter()
            .map(|(key, stored)| (key, stored))
            .collect();
        let places = (first..).zip(page);
        let row = |(place, entry): (u32, &Entry)| match entry {
            Entry::Linkable(object) => Some((place, (*by_key.get(&object.key)?).clone())),
            Entry::Unavailable(..) => None,
        };
        places.filter_map(row).collect()
    }

    /// The names of all files, in an order that is the same for the same renditions.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        let stored = self.of_pictures.iter();
        stored.flat_map(|(_, stored)| {
            let images = std::iter::once(&stored.small).chain(&stored.large);
            images.map(|image| image.file_name.as_str())
        })
    }
}

/// The links to the renditions of a picture, each with the width of the rendition in pixels.
#[derive(Debug, Clone)]
pub struct RenditionUrls {
    /// The small one.
    pub small: (PresignedUrl, u32),
    /// The large one, if there is one.
    pub large: Option<(PresignedUrl, u32)>,
}

/// The links to the renditions of a page's pictures, for one audience.
#[derive(Debug, Clone, Default)]
pub struct PageRenditions {
    by_key: HashMap<Key, RenditionUrls>,
}

impl PageRenditions {
    /// Renditions in a bucket, by links that have their audit line: one for each of [`Renditions::file_names`].
    pub fn linked(renditions: &Renditions, links: &AuditedLinks) -> Self {
        let urls = links.links().iter().map(|link| link.url.clone());
        Self::of(renditions, urls)
    }

    /// Renditions beside the pages of a directory, which are not signed: `location` gives the place of a file relative to a page.
    pub fn beside(renditions: &Renditions, location: impl Fn(&str) -> String) -> Self {
        let urls = renditions.file_names().map(location);
        Self::of(renditions, urls.map(PresignedUrl::new))
    }

    fn of(renditions: &Renditions, mut urls: impl Iterator<Item = PresignedUrl>) -> Self {
        let mut by_key = HashMap::with_capacity(renditions.of_pictures.len());
        for (key, stored) in &renditions.of_pictures {
            let mut link = |image: &StoredImage| Some((urls.next()?, image.width));
            let Some(small) = link(&stored.small) else {
                break;
            };
            let large = stored.large.as_ref().and_then(&mut link);
            by_key.insert(key.clone(), RenditionUrls { small, large });
        }
        Self { by_key }
    }

    /// The links to the renditions of a picture.
    pub fn get(&self, key: &Key) -> Option<&RenditionUrls> {
        self.by_key.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_follows_from_the_size_of_the_picture() {
        let of = |width, height| {
            let picture = Picture {
                width,
                height,
                format: super::super::PictureFormat::Displayed,
                thumbnail: None,
            };
            [SMALL_SIDE, LARGE_SIDE].map(|side| width_within(Some(&picture), side))
        };
        assert_eq!(of(6000, 4000), [640, 2048]);
        assert_eq!(of(4000, 6000), [427, 1366]);
        assert_eq!(of(800, 600), [640, 800]);
        assert_eq!(of(0, 0), [640, 2048]);
        assert_eq!(width_within(None, 640), 640);
    }

    #[test]
    fn each_picture_has_its_own_links() {
        let key = |name: &str| name.parse::<Key>().unwrap();
        let stored = |name: &str, large: Option<&str>| {
            StoredRenditions::new(name.to_owned(), large.map(ToOwned::to_owned), None)
        };
        let of_pictures = vec![
            (key("a.jpg"), stored("a-small", Some("a-large"))),
            (key("b.gif"), stored("b-small", None)),
            (key("c.jpg"), stored("c-small", Some("c-large"))),
        ];
        let page = PageRenditions::beside(&Renditions { of_pictures }, |name| format!("../{name}"));
        let told = |name: &str| {
            let urls = page.get(&key(name)).unwrap();
            let large = urls.large.as_ref().map(|(url, _)| url.expose().to_owned());
            (urls.small.0.expose().to_owned(), large)
        };
        assert_eq!(
            told("a.jpg"),
            ("../a-small".into(), Some("../a-large".into()))
        );
        assert_eq!(told("b.gif"), ("../b-small".into(), None));
        assert_eq!(
            told("c.jpg"),
            ("../c-small".into(), Some("../c-large".into()))
        );
        assert!(page.get(&key("d.jpg")).is_none());
    }
}
