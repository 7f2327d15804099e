//! Makes a ZIP inside a store: large files are copied there, and only their first bytes pass through here.
//!
//! The parts follow from the layout. The copies come first, since a header carries the checksum of the whole file, and the store
//! computes that of what it copies. Then the bytes between them are read and uploaded, and the directory at last.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use presign::hex::hex;

use super::contents::{ZipSource, ZipVolume};
use super::layout::{self, Piece, ZipPart};
use super::record::UploadRecords;
use super::sums::read_sum;
use super::underway::until_failure;
use super::{ArchiveError, ArchiveWork, ZipError, ZipIdentity};
use crate::deliver::publish::NO_CACHE;
use crate::failpoint::{self, Failpoint};
use crate::job::{Bucket, Key};
use crate::store::multipart::{Multipart, PartsUpload, PartsWay, StoredPart, WholeObject};
use crate::store::{Content, ErrorKind, StoreError};

/// How many parts are copied at a time: the store works, and nothing of it passes through here.
const COPIES_AT_ONCE: usize = 32;

/// How many parts are uploaded at a time, and how many files are read for each.
const UPLOADS_AT_ONCE: usize = 2;
const READS_AT_ONCE: usize = 16;

/// How many files are asked for their checksums, or read for them, at a time.
const SUMS_AT_ONCE: usize = 8;

const CONTENT: Content = Content {
    media_type: "application/zip",
    cache_control: NO_CACHE,
    encoding: None,
};

/// What is known of the checksum of a file before its first bytes are read.
#[derive(Debug, Clone, Copy)]
enum KnownSum {
    /// That of the whole file.
    Whole(u32),
    /// That of its last bytes, and their number.
    Rest(RestSum),
    /// Both: they must agree.
    Both(u32, RestSum),
}

/// The checksum of the last bytes of a file, and their number.
#[derive(Debug, Clone, Copy)]
struct RestSum {
    crc32: u32,
    bytes: u64,
}

impl KnownSum {
    /// The checksum of a file whose first bytes have this one.
    fn with_first(self, first: u32) -> Result<u32, ZipError> {
        let joined = |rest: RestSum| layout::joined(first, rest.crc32, rest.bytes);
        match self {
            Self::Whole(whole) => Ok(whole),
            Self::Rest(rest) => Ok(joined(rest)),
            Self::Both(whole, rest) if joined(rest) == whole => Ok(whole),
            Self::Both(..) => Err(ZipError::WrongSums),
        }
    }
}

/// How an attempt ended in which the store refused the way.
pub(super) enum UploadEnd {
    /// The ZIP is complete.
    Complete(ZipIdentity),
    /// The store takes another way.
    OtherWay(PartsWay),
}

/// One ZIP and where it goes.
struct Making<'a> {
    work: &'a ArchiveWork<'a>,
    volume: &'a Arc<ZipVolume>,
    parts: Vec<ZipPart>,
    store: &'a dyn Multipart,
    upload: PartsUpload,
    /// The parts that the store has already, by number.
    had: HashMap<u32, StoredPart>,
}

/// Makes a ZIP at `key`, or continues it.
pub(super) async fn make(
    work: &ArchiveWork<'_>,
    volume: &Arc<ZipVolume>,
    (bucket, key): (&Bucket, &Key),
    store: &dyn Multipart,
) -> Result<UploadEnd, ArchiveError> {
    let (job, ledger) = (&work.plan.job.id, work.ledger);
    let layout = hex(&volume.layout);
    let way = store.learned().get();
    let records = UploadRecords::of(job, ledger).await?;
    let mut continued = None;
    if let Some(upload) = records.last(&layout, way, (bucket, key))
        && let Some(parts) = store.parts(&upload).await?
    {
        continued = Some((upload, parts));
    }
    let (upload, parts) = match continued {
        Some(continued) => continued,
        None => {
            let upload = match store.begin(bucket, key, CONTENT).await {
                Ok(upload) => upload,
                Err(error) => return other_way(way, error).map(UploadEnd::OtherWay),
            };
            let first = records.record(job, &layout, &upload, ledger).await?;
            failpoint::pass(Failpoint::ZipBegun);
            match first {
                None => (upload, Vec::new()),
                Some(theirs) => {
                    abort(store, &upload).await;
                    let parts = store.parts(&theirs).await?.unwrap_or_default();
                    (theirs, parts)
                }
            }
        }
    };
    let had = parts.into_iter().map(|part| (part.number, part)).collect();
    let making = Making {
        work,
        volume,
        parts: layout::parts(&volume.entries),
        store,
        upload,
        had,
    };
    match Box::pin(making.run()).await {
        // The sums that the store returned are not those by which it verifies.
        Err(ArchiveError::Zip(ZipError::WrongSums)) if way == PartsWay::Summed => {
            abort(store, &making.upload).await;
            Ok(UploadEnd::OtherWay(PartsWay::Plain))
        }
        Err(ArchiveError::Store(error)) if is_code(&error, BAD_DIGEST) => {
            abort(store, &making.upload).await;
            match way {
                PartsWay::Summed => Ok(UploadEnd::OtherWay(PartsWay::Plain)),
                PartsWay::Plain | PartsWay::Unsupported => Err(error.into()),
            }
        }
        Err(ArchiveError::Store(error)) if is_refused(&error) && way == PartsWay::Summed => {
            abort(store, &making.upload).await;
            other_way(way, error).map(UploadEnd::OtherWay)
        }
        Err(error) if error.is_change() => {
            // The ZIP without the file is another one.
            abort(store, &making.upload).await;
            Err(error)
        }
        made => made.map(UploadEnd::Complete),
    }
}

/// S3's code for bytes that do not have the checksum that was sent with them.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
const BAD_DIGEST: &str = "BadDigest";

/// Whether a store has no such upload any more.
pub(super) fn is_gone(error: &ArchiveError) -> bool {
    matches!(error, ArchiveError::Store(error) if is_code(error, "NoSuchUpload"))
}

fn is_code(error: &StoreError, code: &str) -> bool {
    let answer = error.answer.as_deref();
    answer.is_some_and(|answer| answer.code.as_deref() == Some(code))
}

/// Whether a store refused a request as it is, and not because a file was changed.
fn is_refused(error: &StoreError) -> bool {
    let status = error.answer.as_deref().map(|answer| answer.status);
    matches!(status, Some(400 | 405 | 501)) && error.fact == ErrorKind::Rejected
}

/// The way to try after a store refused this one.
fn other_way(way: PartsWay, error: StoreError) -> Result<PartsWay, ArchiveError> {
    let answer = error.answer.as_deref();
    let is_unknown = answer.is_some_and(|answer| {
        matches!(answer.status, 405 | 501) || answer.code.as_deref() == Some("NotImplemented")
    });
    match way {
        _ if is_unknown => Ok(PartsWay::Unsupported),
        PartsWay::Summed if is_refused(&error) => Ok(PartsWay::Plain),
        PartsWay::Summed | PartsWay::Plain | PartsWay::Unsupported => Err(error.into()),
    }
}

/// Aborts an upload that is not used. The bucket's lifecycle removes what is left if that fails.
async fn abort(store: &dyn Multipart, upload: &PartsUpload) {
    if let Err(error) = store.abort(upload).await {
        let error = &error as &(dyn std::error::Error + 'static);
        tracing::warn!(
            error,
            "parts of an aborted upload remain in the bucket; a lifecycle rule can remove them"
        );
    }
}

impl Making<'_> {
    async fn run(&self) -> Result<ZipIdentity, ArchiveError> {
        let copies = self.copy().await?;
        let known = self.known_sums(&copies).await?;
        let (mut parts, mut sums) = (copies, vec![0; self.volume.entries.len()]);
        let last = self.parts.len() - 1;
        let is_upload = |at: &usize| matches!(self.parts[*at], ZipPart::Uploaded(_));
        let uploads: Vec<usize> = (0..last).filter(is_upload).collect();
        let known = Arc::new(known);
        let upload = |at: usize| self.upload(at, &known, None);
        for (part, of_part) in until_failure(uploads, UPLOADS_AT_ONCE, upload).await? {
            parts.insert(part.number, part);
            for (entry, sum) in of_part {
                sums[entry] = sum;
            }
        }
        let (part, of_part) = self.upload(last, &known, Some(&sums)).await?;
        parts.insert(part.number, part);
        for (entry, sum) in of_part {
            sums[entry] = sum;
        }
        let mut parts: Vec<StoredPart> = parts.into_values().collect();
        parts.sort_unstable_by_key(|part| part.number);
        let volume = Arc::clone(self.volume);
        let ended = tokio::task::spawn_blocking(move || {
            let directory = layout::directory(&volume.entries, &sums);
            let crc32 = whole_sum(&volume, &sums, &directory);
            (crc32, ZipIdentity::of(&volume, &directory))
        });
        let (crc32, made) = ended.await.map_err(|_| ZipError::Contradiction)?;
        let size_bytes = self.volume.measure.length();
        failpoint::pass(Failpoint::ZipFilled);
        let whole = WholeObject { size_bytes, crc32 };
        self.work.stop.check()?;
        self.store.complete(&self.upload, &parts, whole).await?;
        Ok(made)
    }

    /// The part of this number, if the store has it with this length.
    fn had(&self, number: u32, size_bytes: u64) -> Option<&StoredPart> {
        let part = self.had.get(&number)?;
        (part.size_bytes == size_bytes).then_some(part)
    }

    /// Has the store copy what it does not have yet.
    async fn copy(&self) -> Result<HashMap<u32, StoredPart>, ArchiveError> {
        let numbered = (1..).zip(&self.parts);
        let copies = numbered.filter_map(|(number, part)| match part {
            ZipPart::Copied { entry, from, to } => Some((number, *entry, *from..*to)),
            ZipPart::Uploaded(_) => None,
        });
        let copies: Vec<(u32, usize, Range<u64>)> = copies.collect();
        let copy = |(number, entry, range)| self.copy_one(number, entry, range);
        let copied = until_failure(copies, COPIES_AT_ONCE, copy).await?;
        Ok(copied.into_iter().map(|part| (part.number, part)).collect())
    }

    async fn copy_one(
        &self,
        number: u32,
        entry: usize,
        range: Range<u64>,
    ) -> Result<StoredPart, ArchiveError> {
        if let Some(had) = self.had(number, range.end - range.start) {
            return Ok(had.clone());
        }
        self.work.stop.check()?;
        let ZipSource::Object(object) = &self.volume.sources[entry] else {
            return Err(ZipError::Contradiction.into());
        };
        let source = (&self.work.plan.bucket, object);
        let copied = self.store.copy_part(&self.upload, number, source, range);
        let copied = copied.await?;
        failpoint::pass(Failpoint::ZipCopied);
        (self.work.got_on)();
        Ok(copied)
    }

    /// The checksums of the files that the store copied: what it says of the copies and of the files, or else computed.
    ///
    /// What it says of copies is believed only where the upload has checksums, and only if it agrees with what it says of the
    /// file, if that has one.
    async fn known_sums(
        &self,
        copies: &HashMap<u32, StoredPart>,
    ) -> Result<Vec<Option<KnownSum>>, ArchiveError> {
        let mut copied: Vec<CopiedFile> = Vec::new();
        for (number, part) in (1..).zip(&self.parts) {
            let ZipPart::Copied { entry, from, to } = part else {
                continue;
            };
            let bytes = to - from;
            let crc32 = copies.get(&number).and_then(|copy| copy.crc32);
            let crc32 = crc32.filter(|_| self.upload.way == PartsWay::Summed);
            let of_part = crc32.map(|crc32| RestSum { crc32, bytes });
            match copied.last_mut() {
                Some(last) if last.entry == *entry => {
                    last.rest = last.rest.zip(of_part).map(|(rest, part)| RestSum {
                        crc32: layout::joined(rest.crc32, part.crc32, part.bytes),
                        bytes: rest.bytes + part.bytes,
                    });
                }
                Some(_) | None => copied.push(CopiedFile {
                    entry: *entry,
                    from: *from,
                    rest: of_part,
                }),
            }
        }
        let mut known = vec![None; self.volume.entries.len()];
        let found = stream::iter(copied)
            .map(|file: CopiedFile| self.known_sum(file))
            .buffer_unordered(SUMS_AT_ONCE);
        let mut found = std::pin::pin!(found);
        while let Some((entry, sum)) = found.try_next().await? {
            known[entry] = Some(sum);
        }
        Ok(known)
    }

    /// What is known of the checksum of a file that was copied; computed if the store knows nothing.
    async fn known_sum(&self, file: CopiedFile) -> Result<(usize, KnownSum), ArchiveError> {
        let CopiedFile { entry, from, rest } = file;
        let ZipSource::Object(object) = &self.volume.sources[entry] else {
            return Err(ZipError::Contradiction.into());
        };
        let (store, bucket) = (self.work.store, &self.work.plan.bucket);
        self.work.stop.check()?;
        let whole = store.stored_crc32(bucket, object).await?;
        match (whole, rest) {
            (Some(whole), Some(rest)) => return Ok((entry, KnownSum::Both(whole, rest))),
            (Some(whole), None) => return Ok((entry, KnownSum::Whole(whole))),
            (None, Some(rest)) => return Ok((entry, KnownSum::Rest(rest))),
            (None, None) => {}
        }
        let crc32 = read_sum(self.work, object, from).await?;
        let bytes = object.size_bytes - from;
        Ok((entry, KnownSum::Rest(RestSum { crc32, bytes })))
    }

    /// Uploads part `at`, unless the store has it, and returns the checksums of the files that begin in it. The last part needs
    /// the checksums of all files before it.
    async fn upload(
        &self,
        at: usize,
        known: &Arc<Vec<Option<KnownSum>>>,
        all: Option<&[u32]>,
    ) -> Result<(StoredPart, Vec<(usize, u32)>), ArchiveError> {
        self.work.stop.check()?;
        let ZipPart::Uploaded(pieces) = &self.parts[at] else {
            return Err(ZipError::Contradiction.into());
        };
        let pieces = pieces.clone();
        let (entries, measure) = (&self.volume.entries, self.volume.measure);
        let length = layout::part_bytes(&self.parts[at], entries, measure);
        // The pieces that follow are on their way while a piece is copied.
        let largest = pieces.iter().map(Piece::read_bytes).max();
        let _room = self.work.room(length + largest.unwrap_or(0)).await?;
        let mut read = stream::iter(pieces.clone())
            .map(|piece: Piece| self.read(piece))
            .buffered(READS_AT_ONCE);
        let mut filling = FillingPart::new(self.volume, length);
        for piece in pieces {
            let bytes = read.try_next().await?.unwrap_or_default();
            filling.push(piece, &bytes, known)?;
        }
        drop(read);
        let all = all.map(ToOwned::to_owned);
        let known = Arc::clone(known);
        let filled = tokio::task::spawn_blocking(move || filling.end(&known, all));
        let filled = filled.await.map_err(|_| ZipError::Contradiction)??;
        if filled.bytes.len() as u64 != length {
            return Err(ZipError::Contradiction.into());
        }
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let has_other = |sum: Option<u32>| sum.is_some_and(|sum| sum != filled.crc32);
        let had = self.had(number, filled.bytes.len() as u64);
        let part = match had.filter(|had| !has_other(had.crc32)) {
            Some(had) => StoredPart {
                crc32: Some(filled.crc32),
                ..had.clone()
            },
            None => {
                let (bytes, crc32) = (filled.bytes, filled.crc32);
                let put = self.store.put_part(&self.upload, number, bytes, crc32);
                let put = put.await?;
                failpoint::pass(Failpoint::ZipUploaded);
                (self.work.got_on)();
                put
            }
        };
        Ok((part, filled.sums))
    }

    /// The bytes of a piece that are in an object; empty for others.
    async fn read(&self, piece: Piece) -> Result<Bytes, ArchiveError> {
        let Piece::Bytes { entry, from, to } = piece else {
            return Ok(Bytes::new());
        };
        match &self.volume.sources[entry] {
            ZipSource::Object(object) => {
                let bucket = &self.work.plan.bucket;
                Ok(self.work.store.range(bucket, object, from..to).await?)
            }
            ZipSource::Note(text) => Ok(text.clone()),
        }
    }
}

/// A file that the store copied, but for its first bytes.
struct CopiedFile {
    entry: usize,
    /// Where its copied bytes begin.
    from: u64,
    /// What the store says of them.
    rest: Option<RestSum>,
}

/// A part that is ready to be uploaded.
struct FilledPart {
    bytes: Bytes,
    crc32: u32,
    /// The checksums of the files that begin in it.
    sums: Vec<(usize, u32)>,
}

/// A part that is put together. Each piece is copied as it comes, so that a part is in memory once.
struct FillingPart {
    volume: Arc<ZipVolume>,
    out: Vec<u8>,
    /// The file whose header comes next: it carries the checksum of the first bytes, which follow it in the same part.
    begun: Option<usize>,
    sums: Vec<(usize, u32)>,
    has_directory: bool,
}

impl FillingPart {
    fn new(volume: &Arc<ZipVolume>, length: u64) -> Self {
        Self {
            volume: Arc::clone(volume),
            out: Vec::with_capacity(usize::try_from(length).unwrap_or_default()),
            begun: None,
            sums: Vec::new(),
            has_directory: false,
        }
    }

    /// Takes the next piece; `bytes` is what was read for it.
    fn push(
        &mut self,
        piece: Piece,
        bytes: &[u8],
        known: &[Option<KnownSum>],
    ) -> Result<(), ZipError> {
        match piece {
            Piece::Header(entry) => {
                self.end_header(0, known)?;
                self.begun = Some(entry);
            }
            Piece::Bytes { .. } => {
                if self.begun.is_some() {
                    self.end_header(layout::crc32(bytes), known)?;
                }
                self.out.extend_from_slice(bytes);
            }
            Piece::Directory => self.has_directory = true,
        }
        Ok(())
    }

    /// Writes the header of the file that has begun, whose first bytes have this checksum.
    fn end_header(&mut self, first: u32, known: &[Option<KnownSum>]) -> Result<(), ZipError> {
        let Some(entry) = self.begun.take() else {
            return Ok(());
        };
        let sum = match known[entry] {
            Some(known) => known.with_first(first)?,
            None => first,
        };
        self.volume.entries[entry].push_header(sum, &mut self.out);
        self.sums.push((entry, sum));
        Ok(())
    }

    /// The part with all of its pieces; `all` has the checksums of the files before the last part.
    fn end(
        mut self,
        known: &[Option<KnownSum>],
        all: Option<Vec<u32>>,
    ) -> Result<FilledPart, ZipError> {
        self.end_header(0, known)?;
        if self.has_directory {
            let mut all = all.unwrap_or_default();
            for (entry, sum) in &self.sums {
                all[*entry] = *sum;
            }
            self.out
                .extend(layout::directory(&self.volume.entries, &all));
        }
        let bytes = Bytes::from(self.out);
        Ok(FilledPart {
            crc32: layout::crc32(&bytes),
            bytes,
            sums: self.sums,
        })
    }
}

/// The checksum of a whole ZIP, from those of its files.
fn whole_sum(volume: &ZipVolume, sums: &[u32], directory: &[u8]) -> u32 {
    let (mut whole, mut header) = (0, Vec::new());
    for (entry, sum) in volume.entries.iter().zip(sums) {
        header.clear();
        entry.push_header(*sum, &mut header);
        whole = layout::joined(whole, layout::crc32(&header), header.len() as u64);
        whole = layout::joined(whole, *sum, entry.size_bytes);
    }
    layout::joined(whole, layout::crc32(directory), directory.len() as u64)
}
