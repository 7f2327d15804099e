//! Which objects a link could open, before one is signed.
//!
//! Signing makes no request, so it gives a valid link to an object that no browser can fetch. An object that is known to
//! fail is not linked, and the mail says why.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::job::place::{self, refuse_control};
use crate::store::{ObjectMeta, Storage};

/// Why an object is not linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unlinkable {
    /// It is in an archive and must be restored first.
    Archived,
    /// It was restored from an archive, and the copy ends before the link expires.
    RestoreEnds,
    /// The bucket's lifecycle deletes it before a link could be opened.
    Expires,
    /// It is a folder's marker, which has no content.
    Folder,
    /// It could run scripts, and the distribution would serve it as a page.
    Active,
    /// A browser would rewrite `.` and `..` in the URL and ask for another object (URL Standard, path state).
    DotSegments,
    /// A control character, which mail and pages cannot carry.
    ControlCharacters,
    /// It is encrypted with a customer-provided key (SSE-C), which no browser sends.
    CustomerKey,
    /// The signing credentials may not read it.
    Forbidden,
    /// It was listed, but is gone now.
    Missing,
}

impl fmt::Display for Unlinkable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Archived => "it is archived and must be restored first",
            Self::RestoreEnds => {
                "it is archived, and its restored copy goes away before a link to it would end"
            }
            Self::Expires => {
                "a lifecycle rule of its bucket deletes it before a link to it could be opened"
            }
            Self::Folder => "it is a folder, not a file",
            Self::Active => {
                "it could run scripts, and the distribution cannot be asked to send it as a download (response_overrides = false)"
            }
            Self::DotSegments => "its key has \".\" or \"..\" as a folder, which browsers change",
            Self::ControlCharacters => "its name has control characters",
            Self::CustomerKey => {
                "it is encrypted with its owner's own key (SSE-C), which no browser can send"
            }
            Self::Forbidden => "the credentials that sign are not allowed to read it",
            Self::Missing => "it does not exist",
        })
    }
}

/// An object that is not linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: Unlinkable,
}

/// Whether the object is only a folder's marker.
pub fn is_folder_marker(object: &ObjectMeta) -> bool {
    place::is_folder_marker(object.key.as_str(), Some(object.size_bytes))
}

/// How long an object must still exist to be linked, counted from the date of the signature, which is dated back by a minute.
const MIN_LIFE: SignedDuration = SignedDuration::from_mins(2);

/// Finds the obstacle to a link to this object that is valid from `begin` to `end`.
///
/// Deletion by the bucket's lifecycle before `end` is not an obstacle: the links of the job end with the object.
pub fn obstacle(object: &ObjectMeta, begin: Timestamp, end: Timestamp) -> Option<Unlinkable> {
    match object.storage {
        Storage::Archived => Some(Unlinkable::Archived),
        Storage::Restored { until } if until < end => Some(Unlinkable::RestoreEnds),
        Storage::Expires { at } if at.duration_since(begin) < MIN_LIFE => Some(Unlinkable::Expires),
        Storage::CustomerKey => Some(Unlinkable::CustomerKey),
        Storage::Ready | Storage::Restored { .. } | Storage::Expires { .. }
            if is_folder_marker(object) =>
        {
            Some(Unlinkable::Folder)
        }
        Storage::Ready | Storage::Restored { .. } | Storage::Expires { .. } => {
            obstacle_in_name(object.key.as_str())
        }
    }
}

/// Finds the obstacle to a link that lies in the object's key.
pub fn obstacle_in_name(key: &str) -> Option<Unlinkable> {
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Some(Unlinkable::DotSegments);
    }
    refuse_control(key)
        .is_err()
        .then_some(Unlinkable::ControlCharacters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacle(object: &ObjectMeta) -> Option<Unlinkable> {
        let (begin, end) = ("2026-11-29T00:00:00Z", "2026-11-30T00:00:00Z");
        super::obstacle(object, begin.parse().unwrap(), end.parse().unwrap())
    }

    fn object(key: &str) -> ObjectMeta {
        ObjectMeta {
            key: key.parse().unwrap(),
            size_bytes: 0,
            etag: String::new(),
            version: None,
            modified: Timestamp::UNIX_EPOCH,
            storage: Storage::Ready,
            stored: None,
        }
    }

    #[test]
    fn what_no_browser_can_open_is_not_linked() {
        assert_eq!(obstacle(&object("a/../b")), Some(Unlinkable::DotSegments));
        assert_eq!(obstacle(&object("./b")), Some(Unlinkable::DotSegments));
        assert_eq!(
            obstacle(&object("a\nb")),
            Some(Unlinkable::ControlCharacters)
        );
        let archived = ObjectMeta {
            storage: Storage::Archived,
            ..object("a")
        };
        assert_eq!(obstacle(&archived), Some(Unlinkable::Archived));
        let restored = |until: &str| {
            let until = until.parse().unwrap();
            let storage = Storage::Restored { until };
            obstacle(&ObjectMeta {
                storage,
                ..object("a")
            })
        };
        assert_eq!(
            restored("2026-11-29T23:59:59Z"),
            Some(Unlinkable::RestoreEnds)
        );
        assert_eq!(restored("2026-11-30T00:00:00Z"), None);
        let expires = |at: &str| {
            let storage = Storage::Expires {
                at: at.parse().unwrap(),
            };
            obstacle(&ObjectMeta {
                storage,
                ..object("a")
            })
        };
        assert_eq!(expires("2026-11-29T00:01:59Z"), Some(Unlinkable::Expires));
        assert_eq!(expires("2026-11-29T12:00:00Z"), None, "the links end then");
        let storage = Storage::CustomerKey;
        let encrypted = ObjectMeta {
            storage,
            ..object("a")
        };
        assert_eq!(obstacle(&encrypted), Some(Unlinkable::CustomerKey));
        assert_eq!(obstacle(&object("photos/")), Some(Unlinkable::Folder));
        for key in ["a..b/c", "//x", "a b+c%2F.pdf", "emoji 🎉.png"] {
            assert_eq!(obstacle(&object(key)), None, "{key}");
        }
    }

    #[test]
    fn folder_markers_are_no_files() {
        assert!(is_folder_marker(&object("photos/")));
        assert!(is_folder_marker(&object("photos_$folder$")));
        assert!(!is_folder_marker(&object("photos/a")));
        let with_content = ObjectMeta {
            size_bytes: 1,
            ..object("photos_$folder$")
        };
        assert!(!is_folder_marker(&with_content));
    }
}
