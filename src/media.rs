//! What the first bytes of pictures tell: their size on the screen, and the small picture that cameras put inside.
//!
//! Nothing is decoded: headers are read, every number in them is bounded, and whatever is odd is "not known". A picture
//! that is not known costs its gallery a moment of layout, and never a job.

mod album;
mod boxes;
mod format;
mod head;
mod jpeg;
mod size;
mod thumbnail;
mod tiff;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use album::{PictureLoader, PictureSettings};

use crate::job::Key;

/// What is known of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// How wide it is shown, in pixels: after it was turned as its EXIF orientation says.
    pub width: u32,
    /// How high it is shown, in pixels.
    pub height: u32,
    /// The camera's own small picture as a `data:` URI of at most 8 KiB. It turns as the large one does, and is to cover
    /// its place: where shapes differ, cameras put black bars around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
}

impl Picture {
    /// Reads what a file's first bytes tell; nothing if they are odd, cut off, or of no format that is known.
    pub fn read(head: &[u8]) -> Option<Self> {
        format::read(head)
    }

    /// The same without its small picture.
    fn without_thumbnail(&self) -> Self {
        Self {
            thumbnail: None,
            ..*self
        }
    }
}

/// What is known of the pictures of a batch. A picture that is not in here is shown without a known size.
#[derive(Debug, Clone, Default)]
pub struct Pictures {
    by_key: HashMap<Key, Arc<Picture>>,
}

impl Pictures {
    /// What is known of a picture.
    pub fn of(&self, key: &Key) -> Option<&Picture> {
        self.by_key.get(key).map(|picture| &**picture)
    }

    /// Keeps what was found out.
    pub fn insert(&mut self, key: Key, picture: Arc<Picture>) {
        self.by_key.insert(key, picture);
    }
}
