//! Reads the size and the embedded thumbnail of a picture from its first bytes, and makes [`rendition`]s of whole pictures.
//!
//! Sizes need no decoding: only headers are read, every number in them is bounded, and malformed input counts as unknown. An unknown
//! picture shifts the gallery's layout while it loads, and never fails a job.

mod bitmap;
mod boxes;
mod format;
mod gif;
mod head;
mod jpeg;
mod loader;
mod png;
pub mod poster;
pub mod rendition;
mod rendition_places;
mod renditions;
mod size;
mod thumbnail;
mod tiff;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use format::PictureFormat;
pub use loader::{PictureLoader, PictureSettings};
pub use rendition_places::{RenditionPlace, RenditionPlaces};
pub use renditions::{
    PageRenditions, RenditionRow, RenditionSettings, RenditionUrls, Renditions, StoredImage,
    StoredRenditions, may_have_renditions,
};

use self::size::PictureSize;
use crate::job::Key;

/// The facts about a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// The displayed width, in pixels, after rotation by the EXIF orientation; 0 if it is not known.
    pub width: u32,
    /// The displayed height, in pixels; 0 if it is not known.
    pub height: u32,
    /// Whether browsers display it.
    #[serde(default, skip_serializing_if = "PictureFormat::is_default")]
    pub format: PictureFormat,
    /// The camera's embedded thumbnail as a `data:` URI of at most 8 KiB. It is rotated like the picture, and should cover its
    /// place: where aspect ratios differ, cameras add black bars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
}

impl Picture {
    /// Reads a file's first bytes; `None` if they are those of a picture, but malformed or truncated.
    pub fn read(head: &[u8]) -> Option<Self> {
        format::read(head)
    }

    /// A picture that browsers display.
    const fn of(PictureSize { width, height }: PictureSize) -> Self {
        Self {
            width,
            height,
            format: PictureFormat::Displayed,
            thumbnail: None,
        }
    }

    /// A file that no browser displays, of an unknown size.
    const fn not_displayed(format: PictureFormat) -> Self {
        Self {
            width: 0,
            height: 0,
            format,
            thumbnail: None,
        }
    }

    /// The same without its thumbnail.
    fn without_thumbnail(&self) -> Self {
        Self {
            thumbnail: None,
            ..*self
        }
    }
}

/// The facts about the pictures of a batch. A picture that is missing here is shown without a known size.
#[derive(Debug, Clone, Default)]
pub struct Pictures {
    by_key: HashMap<Key, Arc<Picture>>,
}

impl Pictures {
    /// The facts about a picture.
    pub fn of(&self, key: &Key) -> Option<&Picture> {
        self.by_key.get(key).map(|picture| &**picture)
    }

    /// Adds the facts about a picture.
    pub fn insert(&mut self, key: Key, picture: Arc<Picture>) {
        self.by_key.insert(key, picture);
    }
}
