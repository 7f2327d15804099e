//! What the first bytes of pictures tell: their size on the screen, and the small picture that cameras put inside.
//!
//! Nothing is decoded: headers are read, every number in them is bounded, and whatever is odd is "not known".

use std::collections::HashMap;
use std::sync::Arc;

use crate::job::Key;

/// What is known of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// How wide it is shown, in pixels: after it was turned as its EXIF orientation says.
    pub width: u32,
    /// How high it is shown, in pixels.
    pub height: u32,
    /// The camera's own small picture, turned already or of an orientation that needs no turning, as a `data:` URI.
    pub thumbnail: Option<String>,
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
