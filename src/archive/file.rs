//! Writes a ZIP as a file: for a directory, and for a store that takes objects as a whole only.
//!
//! The bytes pass through here once, some at a time. A header is written when the checksum of its file is known.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::contents::{ZipSource, ZipVolume};
use super::{ArchiveError, ArchiveWork, ZipError, ZipIdentity, layout};
use crate::deliver::publish::Publisher;
use crate::store::zip_memory::ZipRoom;

/// How much of a file is read at a time, and how many reads are under way.
const READ_BYTES: u64 = 4 << 20;
const READS_AT_ONCE: usize = 6;

/// How much is written between two syncs. Each step on a file system has ten seconds, also the sync of the complete file.
const SYNC_BYTES: u64 = 64 << 20;

/// Finds a ZIP that an earlier attempt wrote into a directory.
pub(super) async fn find(
    publisher: &Publisher,
    volume: &Arc<ZipVolume>,
) -> Result<Option<ZipIdentity>, ArchiveError> {
    let of_volume = Arc::clone(volume);
    let found = publisher.read_end(&volume.file_name, move |file| {
        let measure = of_volume.measure;
        if file.metadata()?.len() != measure.length() {
            return Ok(None);
        }
        let length = usize::try_from(measure.tail_bytes()).map_err(io::Error::other)?;
        let mut tail = vec![0; length];
        file.read_exact_at(&mut tail, measure.offset)?;
        let is_expected = layout::sums_of(&of_volume.entries, &tail).is_some();
        Ok(is_expected.then(|| ZipIdentity::of(&of_volume, &tail)))
    });
    Ok(found.await?.flatten())
}

/// A range of a file in the ZIP, and where it goes.
struct FileRange {
    entry: usize,
    range: Range<u64>,
    at: u64,
}

/// The ranges of all files, in order. An empty file has one range, which is empty, so that its header is written too.
struct FileRanges {
    volume: Arc<ZipVolume>,
    entry: usize,
    from: u64,
    /// Where the header of the file is.
    offset: u64,
}

impl Iterator for FileRanges {
    type Item = FileRange;

    fn next(&mut self) -> Option<FileRange> {
        let entry = self.volume.entries.get(self.entry)?;
        let (from, size) = (self.from, entry.size_bytes);
        let to = size.min(from + READ_BYTES);
        let begin = self.offset + entry.header_bytes();
        let chunk = FileRange {
            entry: self.entry,
            range: from..to,
            at: begin + from,
        };
        if to < size {
            self.from = to;
        } else {
            (self.entry, self.from, self.offset) = (self.entry + 1, 0, begin + size);
        }
        Some(chunk)
    }
}

/// Writes a ZIP and publishes it.
pub(super) async fn write(
    work: &ArchiveWork<'_>,
    publisher: &Publisher,
    volume: &Arc<ZipVolume>,
) -> Result<ZipIdentity, ArchiveError> {
    let mut draft = publisher.begin(&volume.file_name, work.spool_dir).await?;
    let mut sums = Vec::with_capacity(volume.entries.len());
    let chunks = FileRanges {
        volume: Arc::clone(volume),
        entry: 0,
        from: 0,
        offset: 0,
    };
    let read = stream::iter(chunks)
        .map(|chunk: FileRange| read(work, volume, chunk))
        .buffered(READS_AT_ONCE);
    let mut read = std::pin::pin!(read);
    let (mut sum, mut unsynced) = (0, 0);
    while let Some((chunk, bytes, _room)) = read.try_next().await? {
        work.stop.check()?;
        let FileRange { entry, range, at } = chunk;
        let (volume, before) = (Arc::clone(volume), sum);
        let is_last = range.end == volume.entries[entry].size_bytes;
        unsynced += bytes.len() as u64;
        let is_synced = unsynced >= SYNC_BYTES;
        unsynced = if is_synced { 0 } else { unsynced };
        let written = draft.write(move |file| {
            let of_bytes = layout::crc32(&bytes);
            let sum = layout::joined(before, of_bytes, bytes.len() as u64);
            file.write_all_at(&bytes, at)?;
            if is_last {
                let of_entry = &volume.entries[entry];
                let mut header = Vec::new();
                of_entry.push_header(sum, &mut header);
                file.write_all_at(&header, at - range.start - of_entry.header_bytes())?;
            }
            if is_synced {
                file.sync_data()?;
            }
            Ok(sum)
        });
        sum = written.await?;
        if is_last {
            sums.push(std::mem::take(&mut sum));
            (work.got_on)();
        }
    }
    if sums.len() != volume.entries.len() {
        return Err(ZipError::Contradiction.into());
    }
    let of_volume = Arc::clone(volume);
    let written = draft.write(move |file| {
        let tail = layout::directory(&of_volume.entries, &sums);
        file.write_all_at(&tail, of_volume.measure.offset)?;
        Ok(ZipIdentity::of(&of_volume, &tail))
    });
    let made = written.await?;
    work.stop.check()?;
    let length = draft.finish("application/zip").await?;
    match length == made.size_bytes {
        true => Ok(made),
        false => Err(ZipError::Contradiction.into()),
    }
}

async fn read(
    work: &ArchiveWork<'_>,
    volume: &ZipVolume,
    chunk: FileRange,
) -> Result<(FileRange, Bytes, ZipRoom), ArchiveError> {
    let room = work.room(chunk.range.end - chunk.range.start).await?;
    let bytes = match &volume.sources[chunk.entry] {
        ZipSource::Object(object) => {
            let (store, bucket) = (work.store, &work.plan.bucket);
            store.range(bucket, object, chunk.range.clone()).await?
        }
        ZipSource::Note(text) => {
            let at = |end| usize::try_from(end).unwrap_or(usize::MAX);
            text.slice(at(chunk.range.start)..at(chunk.range.end))
        }
    };
    Ok((chunk, bytes, room))
}
