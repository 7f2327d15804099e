//! A ZIP that is stored nowhere: the portal makes its bytes as they are read, from those of its files.
//!
//! Its layout and the checksums of its files are known when the job runs, and kept in the portal's records. So a download has a
//! length and can be resumed, and each has the bytes that the audit log names.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::contents::{ZipSource, ZipVolume};
use super::layout::{self, ZipEntry, ZipMeasure};
use super::sums::read_sum;
use super::{ArchiveError, ArchiveWork, ZipIdentity};

/// How many files are asked for their checksums, or read for them, at a time.
const SUMS_AT_ONCE: usize = 4;

/// Up to this size a file is read: a HEAD for its checksum would take as long.
const READ_DIRECTLY: u64 = 256 * 1024;

/// A file of a ZIP that is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamedFile {
    /// Its header.
    #[serde(rename = "e")]
    entry: ZipEntry,
    /// The checksum of its bytes.
    #[serde(rename = "c")]
    crc32: u32,
    /// Its bytes.
    #[serde(rename = "s")]
    source: StreamedSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum StreamedSource {
    /// Those of the object at this place of the job's listing.
    #[serde(rename = "o")]
    Object(u32),
    /// This text.
    #[serde(rename = "t")]
    Note(String),
}

/// Learns the checksums of a ZIP's files: from the store, or by reading them once.
pub(super) async fn sum(
    work: &ArchiveWork<'_>,
    volume: &Arc<ZipVolume>,
) -> Result<(Vec<StreamedFile>, ZipIdentity), ArchiveError> {
    let files = stream::iter(0..volume.entries.len())
        .map(|number| sum_one(work, volume, number))
        .buffered(SUMS_AT_ONCE);
    let files: Vec<StreamedFile> = files.try_collect().await?;
    let sums: Vec<u32> = files.iter().map(|file| file.crc32).collect();
    let of_volume = Arc::clone(volume);
    let made = tokio::task::spawn_blocking(move || {
        let tail = layout::directory(&of_volume.entries, &sums);
        ZipIdentity::of(&of_volume, &tail)
    });
    let made = made.await.map_err(|_| super::ZipError::Contradiction)?;
    Ok((files, made))
}

async fn sum_one(
    work: &ArchiveWork<'_>,
    volume: &ZipVolume,
    number: usize,
) -> Result<StreamedFile, ArchiveError> {
    let entry = volume.entries[number].clone();
    let (crc32, source) = match &volume.sources[number] {
        ZipSource::Object(object) => {
            work.stop.check()?;
            let bucket = &work.plan.bucket;
            let stored = match object.size_bytes > READ_DIRECTLY {
                true => work.store.stored_crc32(bucket, object).await?,
                false => None,
            };
            let crc32 = match stored {
                Some(crc32) => crc32,
                None => read_sum(work, object, 0).await?,
            };
            (work.got_on)();
            (crc32, StreamedSource::Object(volume.places[number]))
        }
        ZipSource::Note(text) => {
            let words = String::from_utf8_lossy(text).into_owned();
            (layout::crc32(text), StreamedSource::Note(words))
        }
    };
    Ok(StreamedFile {
        entry,
        crc32,
        source,
    })
}

/// A ZIP that is being read.
#[derive(Debug)]
pub(crate) struct StreamedZip {
    files: Vec<StreamedFile>,
    /// Where the header of each file is.
    starts: Vec<u64>,
    measure: ZipMeasure,
    /// The central directory and the records behind it.
    tail: Bytes,
}

/// Consecutive bytes of a ZIP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ZipStretch {
    /// These.
    Bytes(Bytes),
    /// A range of the object at this place of the job's listing.
    Object {
        /// The place.
        place: u32,
        /// The range.
        range: Range<u64>,
    },
}

impl ZipStretch {
    /// How many bytes they are.
    pub(crate) const fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Object { range, .. } => range.end - range.start,
        }
    }
}

impl StreamedZip {
    /// The ZIP of these files.
    pub(crate) fn new(files: Vec<StreamedFile>) -> Self {
        let (entries, sums): (Vec<ZipEntry>, Vec<u32>) = files
            .iter()
            .map(|file| (file.entry.clone(), file.crc32))
            .unzip();
        let mut offset = 0;
        let starts = entries.iter().map(|entry| {
            let start = offset;
            offset += entry.header_bytes() + entry.size_bytes;
            start
        });
        Self {
            starts: starts.collect(),
            measure: ZipMeasure::of(&entries),
            tail: layout::directory(&entries, &sums).into(),
            files,
        }
    }

    /// Its length.
    pub(crate) const fn size_bytes(&self) -> u64 {
        self.measure.length()
    }

    /// About what it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let names: usize = self.files.iter().map(|file| file.entry.name.len()).sum();
        self.tail.len() + names + self.files.len() * (size_of::<StreamedFile>() + 8)
    }

    /// SHA-256 of the entries of its directory.
    pub(crate) fn directory_sha256(&self) -> [u8; 32] {
        let entries = usize::try_from(self.measure.directory).unwrap_or(usize::MAX);
        Sha256::digest(&self.tail[..entries.min(self.tail.len())]).into()
    }

    /// The bytes from an offset on, as far as they come from one source; at most `most`, and none from the end on.
    pub(crate) fn stretch(&self, from: u64, most: u64) -> ZipStretch {
        if let Some(at) = from.checked_sub(self.measure.offset) {
            return ZipStretch::Bytes(slice(&self.tail, at, most));
        }
        // The first file is at 0, so one begins here or before.
        let number = self.starts.partition_point(|start| *start <= from) - 1;
        let StreamedFile {
            entry,
            crc32,
            source,
        } = &self.files[number];
        let at = from - self.starts[number];
        let Some(at) = at.checked_sub(entry.header_bytes()) else {
            let mut header = Vec::new();
            entry.push_header(*crc32, &mut header);
            return ZipStretch::Bytes(slice(&header.into(), at, most));
        };
        match source {
            StreamedSource::Object(place) => ZipStretch::Object {
                place: *place,
                range: at..entry.size_bytes.min(at.saturating_add(most)),
            },
            StreamedSource::Note(text) => {
                ZipStretch::Bytes(slice(&text.clone().into_bytes().into(), at, most))
            }
        }
    }
}

fn slice(bytes: &Bytes, from: u64, most: u64) -> Bytes {
    let at = |offset: u64| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    };
    bytes.slice(at(from)..at(from.saturating_add(most)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::super::layout::ZipTime;
    use super::*;

    /// The bytes of the objects of a listing: each is told from the others.
    fn object(place: u32, size: u64) -> Vec<u8> {
        (0..size)
            .map(|at| u8::try_from((u64::from(place) * 31 + at * 7) % 251).unwrap())
            .collect()
    }

    fn index(number: u64) -> usize {
        usize::try_from(number).unwrap()
    }

    fn files(sizes: &[u64]) -> Vec<StreamedFile> {
        let modified = ZipTime::new(Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        let file = |(place, size): (u32, &u64)| StreamedFile {
            entry: ZipEntry {
                name: format!("{place}.bin"),
                size_bytes: *size,
                modified,
            },
            crc32: layout::crc32(&object(place, *size)),
            source: StreamedSource::Object(place),
        };
        let mut files: Vec<StreamedFile> = (0..).zip(sizes).map(file).collect();
        let note = "why".to_owned();
        files.push(StreamedFile {
            entry: ZipEntry {
                name: "NOT INCLUDED.txt".to_owned(),
                size_bytes: 3,
                modified,
            },
            crc32: layout::crc32(note.as_bytes()),
            source: StreamedSource::Note(note),
        });
        files
    }

    fn read(zip: &StreamedZip, sizes: &[u64], range: Range<u64>, most: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let stretch = zip.stretch(at, most.min(range.end - at));
            assert!(stretch.len() > 0 && stretch.len() <= most);
            at += stretch.len();
            match stretch {
                ZipStretch::Bytes(bytes) => out.extend(&bytes),
                ZipStretch::Object { place, range } => {
                    let bytes = object(place, sizes[place as usize]);
                    out.extend(&bytes[index(range.start)..index(range.end)]);
                }
            }
        }
        out
    }

    #[test]
    fn a_zip_is_the_same_after_its_records_were_read_again() {
        let files = files(&[0, 5, 70_000]);
        let text = serde_json::to_vec(&files).unwrap();
        let begins = br#"[{"e":["0.bin",0,0,33,0],"c":0,"s":{"o":0}},{"e":["1.bin",5,0,33,0]"#;
        assert!(
            text.starts_with(begins),
            "{}",
            String::from_utf8_lossy(&text)
        );
        assert_eq!(
            serde_json::from_slice::<Vec<StreamedFile>>(&text).unwrap(),
            files
        );
    }

    proptest! {
        #[test]
        fn every_part_of_a_zip_is_that_of_the_whole(
            sizes in proptest::collection::vec(0_u64..3_000, 0..8),
            most in 1_u64..900,
            ends in (0_u64..=1_000, 0_u64..=1_000),
        ) {
            let zip = StreamedZip::new(files(&sizes));
            let length = zip.size_bytes();
            let whole = read(&zip, &sizes, 0..length, 1 << 20);
            prop_assert_eq!(whole.len() as u64, length);
            let at = |share: u64| length * share / 1_000;
            let (first, last) = (at(ends.0.min(ends.1)), at(ends.0.max(ends.1)));
            let part = read(&zip, &sizes, first..last, most);
            prop_assert_eq!(&part[..], &whole[index(first)..index(last)]);
            // The directory is where the end record says, and its digest is that of the audit line.
            let mut archive = zip::ZipArchive::new(std::io::Cursor::new(whole)).unwrap();
            prop_assert_eq!(archive.len(), sizes.len() + 1);
            for (place, size) in (0..).zip(&sizes) {
                let mut file = archive.by_name(&format!("{place}.bin")).unwrap();
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
                prop_assert_eq!(bytes, object(place, *size));
            }
        }
    }
}
