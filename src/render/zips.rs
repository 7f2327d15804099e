//! The links to the ZIPs of a job, for mails and pages.

use presign::PresignedUrl;
use serde::Serialize;

use super::portal::ShownZip;

/// The links to the ZIPs of a job.
#[derive(Debug, Clone, Default)]
pub struct ZipLinks {
    /// A link to each.
    pub zips: Vec<ZipLink>,
    /// How many of the job's objects are in none of them.
    pub left_out: u64,
}

/// A link to a ZIP.
#[derive(Debug, Clone)]
pub struct ZipLink {
    /// The link.
    pub url: PresignedUrl,
    /// The name of the ZIP.
    pub file_name: String,
    /// How many objects are in it.
    pub files: u64,
    /// Its length.
    pub size_bytes: u64,
}

/// The ZIPs as templates see them.
#[derive(Serialize)]
pub(super) struct ZipsView {
    files: Vec<ZipView>,
    /// How many files are in none of them, if any.
    missing: Option<u64>,
}

#[derive(Default, Serialize)]
struct ZipView {
    url: String,
    name: String,
    count: u64,
    size_bytes: u64,
    /// Whether there are several.
    split: bool,
    number: u64,
    total: u64,
}

impl ZipsView {
    /// The view of links; `None` if there are none.
    pub(super) fn of(links: &ZipLinks) -> Option<Self> {
        let total = links.zips.len() as u64;
        let zips = links.zips.iter().zip(1..).map(|(zip, number)| ZipView {
            url: zip.url.expose().to_owned(),
            name: zip.file_name.clone(),
            count: zip.files,
            size_bytes: zip.size_bytes,
            split: total > 1,
            number,
            total,
        });
        (total > 0).then(|| Self {
            files: zips.collect(),
            missing: Some(links.left_out).filter(|missing| *missing > 0),
        })
    }

    /// The view of the links of a portal's page; `None` if there are none.
    pub(super) fn of_portal(shown: &[ShownZip<'_>], left_out: u64) -> Option<Self> {
        let total = shown.len() as u64;
        let zips = shown.iter().zip(1..).map(|(zip, number)| ZipView {
            url: zip.href.to_owned(),
            name: String::new(),
            count: zip.files,
            size_bytes: zip.size,
            split: total > 1,
            number,
            total,
        });
        (total > 0).then(|| Self {
            files: zips.collect(),
            missing: Some(left_out).filter(|missing| *missing > 0),
        })
    }

    /// The sample against which templates are checked: every value is present.
    pub(super) fn sample() -> Self {
        Self {
            files: vec![ZipView {
                split: true,
                ..ZipView::default()
            }],
            missing: Some(1),
        }
    }
}
