//! What is in the ZIPs of a job: drawn from its plan and its objects, before a byte is read.

use std::collections::HashSet;
use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::layout::{LARGEST_ZIP, MAX_PARTS, ZipEntry, ZipMeasure, ZipTime};
use super::names::{self, UniquePaths};
use super::{ArchiveError, ZipError};
use crate::bounds::{MAX_ZIP_FILES, MAX_ZIP_NOTE_BYTES, MAX_ZIPS};
use crate::job::Key;
use crate::links;
use crate::links::listing::{Entry, Listing};
use crate::plan::{Plan, ZipPlan};
use crate::store::{MAX_PAGE, ObjectMeta};
use crate::text::printable_line;

/// The file that names what is left out.
const NOTE: &str = "NOT INCLUDED.txt";

/// Why an object that can be linked is left out.
const CHANGED: &str = "it was changed or removed while the ZIP was made";

/// One ZIP before it is made.
#[derive(Debug)]
pub(crate) struct ZipVolume {
    /// Its name.
    pub(crate) file_name: String,
    /// Its files, in the job's order.
    pub(crate) entries: Vec<ZipEntry>,
    /// The bytes of each.
    pub(crate) sources: Vec<ZipSource>,
    /// The place of each in the job's listing; the last place for a text.
    pub(crate) places: Vec<u32>,
    /// Its lengths.
    pub(crate) measure: ZipMeasure,
    /// How many of its files are objects.
    pub(crate) files: u64,
    /// SHA-256 of all that the bytes follow from: the same layout gives the same ZIP.
    pub(crate) layout: [u8; 32],
}

/// The bytes of a file in a ZIP.
#[derive(Debug)]
pub(crate) enum ZipSource {
    /// An object, in the state in which it was listed.
    Object(ObjectMeta),
    /// The text of [`NOTE`].
    Note(Bytes),
}

/// The ZIPs of a job before they are made.
#[derive(Debug)]
pub(crate) struct ZipContents {
    /// Each ZIP; several if one would be too large.
    pub(crate) volumes: Vec<ZipVolume>,
    /// How many objects of the job are in none of them.
    pub(crate) left_out: u64,
}

/// Draws the ZIPs of a job. `changed` are objects that are not any more what was listed.
///
/// A hundred thousand files take some time: other tasks continue meanwhile.
pub(crate) async fn draw(
    plan: &Plan,
    wanted: &ZipPlan,
    listing: &Listing,
    changed: &HashSet<Key>,
) -> Result<ZipContents, ArchiveError> {
    let mut left_out = LeftOut::default();
    let (mut objects, mut paths) = (Vec::new(), UniquePaths::default());
    let mut places = 0..u32::MAX;
    for number in 0..listing.pages() {
        let page = listing.page(number)?.unwrap_or_default();
        for (entry, place) in page.into_iter().zip(places.by_ref()) {
            let object = match entry {
                Entry::Linkable(object) => object,
                Entry::Unavailable(key, reason) => {
                    left_out.add(plan, &key, &reason);
                    continue;
                }
            };
            if changed.contains(&object.key) {
                left_out.add(plan, object.key.as_str(), &CHANGED);
                continue;
            }
            if objects.len() >= MAX_ZIP_FILES {
                let limit = MAX_ZIP_FILES;
                return Err(ZipError::TooManyFiles { limit }.into());
            }
            let name = links::saved_name(plan, &object)?;
            let folder = below(plan, object.key.folder());
            let path = names::path(folder, &name);
            paths.add_folders(&path);
            objects.push((path, object, place));
        }
        tokio::task::yield_now().await;
    }
    let mut split = VolumeSplit::new(wanted);
    for (number, (path, object, place)) in objects.into_iter().enumerate() {
        let entry = ZipEntry {
            name: paths.unique(path),
            size_bytes: object.size_bytes,
            modified: ZipTime::new(object.modified, &plan.time_zone),
        };
        let stored = None;
        let source = ZipSource::Object(ObjectMeta { stored, ..object });
        split.push(entry, source, place);
        if number % MAX_PAGE == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut drafts = split.drafts;
    if left_out.count > 0
        && let Some(last) = drafts.last_mut()
    {
        let text = Bytes::from(left_out.text());
        last.push(
            ZipEntry {
                name: paths.unique(NOTE.to_owned()),
                size_bytes: text.len() as u64,
                modified: ZipTime::new(plan.dated(), &plan.time_zone),
            },
            ZipSource::Note(text),
            u32::MAX,
        );
    }
    if drafts.len() > MAX_ZIPS {
        let (count, limit) = (drafts.len(), MAX_ZIPS);
        return Err(ZipError::TooManyZips { count, limit }.into());
    }
    let of = drafts.len();
    let volumes = drafts.into_iter().zip(1..);
    Ok(ZipContents {
        volumes: volumes
            .map(|(draft, number)| draft.named(plan, wanted, number, of))
            .collect(),
        left_out: left_out.count,
    })
}

/// The folder of a key below the job's prefix.
fn below<'k>(plan: &Plan, folder: &'k str) -> &'k str {
    let prefix = plan.prefix();
    let base = prefix.rsplit_once('/').map_or("", |(base, _)| base);
    match folder.strip_prefix(base) {
        Some(below) if base.is_empty() || below.is_empty() || below.starts_with('/') => below,
        Some(_) | None => folder,
    }
}

/// Puts files into as few ZIPs as their limits allow, in order.
struct VolumeSplit {
    drafts: Vec<VolumeDraft>,
    largest: u64,
}

impl VolumeSplit {
    fn new(wanted: &ZipPlan) -> Self {
        Self {
            drafts: vec![VolumeDraft::default()],
            largest: wanted.split_bytes.unwrap_or(LARGEST_ZIP).min(LARGEST_ZIP),
        }
    }

    fn push(&mut self, entry: ZipEntry, source: ZipSource, place: u32) {
        let fits = |draft: &VolumeDraft| {
            let with = draft.measure.with(&entry);
            // One part is left for the note.
            with.length() <= self.largest && with.parts() < MAX_PARTS
        };
        match self.drafts.last_mut() {
            Some(last) if last.measure.count == 0 || fits(last) => last.push(entry, source, place),
            Some(_) | None => {
                let mut draft = VolumeDraft::default();
                draft.push(entry, source, place);
                self.drafts.push(draft);
            }
        }
    }
}

/// A ZIP in progress.
#[derive(Default)]
struct VolumeDraft {
    entries: Vec<ZipEntry>,
    sources: Vec<ZipSource>,
    places: Vec<u32>,
    measure: ZipMeasure,
}

impl VolumeDraft {
    fn push(&mut self, entry: ZipEntry, source: ZipSource, place: u32) {
        self.measure = self.measure.with(&entry);
        self.entries.push(entry);
        self.sources.push(source);
        self.places.push(place);
    }

    fn named(self, plan: &Plan, wanted: &ZipPlan, number: usize, of: usize) -> ZipVolume {
        let file_name = match of {
            1 => format!("{}.zip", wanted.stem),
            _ => format!("{} {number} of {of}.zip", wanted.stem),
        };
        let is_object = |source: &&ZipSource| matches!(source, ZipSource::Object(_));
        let files = self.sources.iter().filter(is_object).count() as u64;
        let mut layout = Sha256::new();
        layout.update("handout zip 1\n");
        push_text(&mut layout, plan.bucket.as_str());
        push_text(&mut layout, &file_name);
        for (entry, source) in self.entries.iter().zip(&self.sources) {
            push_text(&mut layout, &entry.name);
            layout.update(entry.size_bytes.to_be_bytes());
            layout.update(entry.modified.to_bytes());
            match source {
                ZipSource::Object(object) => {
                    push_text(&mut layout, object.key.as_str());
                    push_text(&mut layout, &object.etag);
                    push_text(&mut layout, object.version.as_deref().unwrap_or_default());
                }
                ZipSource::Note(text) => layout.update(text),
            }
        }
        let Self {
            entries,
            sources,
            places,
            measure,
        } = self;
        ZipVolume {
            file_name,
            entries,
            sources,
            places,
            measure,
            files,
            layout: layout.finalize().into(),
        }
    }
}

fn push_text(digest: &mut Sha256, text: &str) {
    digest.update((text.len() as u64).to_be_bytes());
    digest.update(text);
}

/// The objects that are in no ZIP, in words.
#[derive(Default)]
struct LeftOut {
    lines: String,
    count: u64,
    named: u64,
}

impl LeftOut {
    fn add(&mut self, plan: &Plan, key: &str, reason: &dyn std::fmt::Display) {
        self.count += 1;
        if self.lines.len() >= MAX_ZIP_NOTE_BYTES {
            return;
        }
        self.named += 1;
        let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
        let folder = below(plan, folder).trim_start_matches('/');
        let slash = if folder.is_empty() { "" } else { "/" };
        let path = format!("{folder}{slash}{name}");
        // Windows' editor has read other ends of lines since 2018 only.
        let line = write!(self.lines, "{}: {reason}\r\n", printable_line(&path));
        line.expect("writing to a string does not fail");
    }

    fn text(&self) -> String {
        let mut text = format!("These files are not in this ZIP:\r\n\r\n{}", self.lines);
        if self.count > self.named {
            let line = write!(text, "and {} more\r\n", self.count - self.named);
            line.expect("writing to a string does not fail");
        }
        text
    }
}
