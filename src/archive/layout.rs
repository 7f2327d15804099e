//! The bytes of a ZIP around the bytes of its files, and the parts of an upload that makes one. Pure.
//!
//! The files are stored, not compressed. The length of a ZIP, every offset in it and every part follow from the names, sizes and
//! times of its files: they are known before the first byte is read. Local headers carry the size and the checksum, so there are
//! no data descriptors, which Java and older versions of macOS do not read. ZIP64 fields exist only where a number needs them:
//! Finder takes them for damage elsewhere. <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>

use crc32fast::Hasher;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// The least bytes of a part, except of the last, and the most that are copied into one.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub(crate) const SMALLEST_PART: u64 = 5 << 20;
pub(crate) const LARGEST_COPY: u64 = 5 << 30;

/// The most parts of an upload. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub(crate) const MAX_PARTS: u64 = 10_000;

/// The most bytes of an object: S3's limit is a little above.
pub(crate) const LARGEST_ZIP: u64 = 48 << 40;

/// From this length on, small files that were collected become a part.
const UPLOAD_FROM: u64 = 16 << 20;

/// The value of a field of 32 bits whose number is in a ZIP64 field.
const IN_ZIP64: u32 = u32::MAX;

/// The same for a field of 16 bits.
const COUNT_IN_ZIP64: u16 = u16::MAX;

/// Bit 11: the name is UTF-8.
const UTF_8: u16 = 1 << 11;

/// "Made by" version 3.0 of a Unix program: with 0, `unzip` reads names as CP437.
const MADE_BY_UNIX: u16 = 3 << 8;

/// A regular file that its owner may write and all may read.
const REGULAR_FILE: u32 = 0o100_644 << 16;

/// The versions that readers need: of plain files, and of ZIP64.
const PLAIN: u16 = 20;
const ZIP64: u16 = 45;

const LOCAL_BYTES: u64 = 30;
const CENTRAL_BYTES: u64 = 46;
const TIME_FIELD_BYTES: u64 = 9;
const ZIP64_END_BYTES: u64 = 56 + 20;
const END_BYTES: u64 = 22;

/// A file in a ZIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EntryRow", from = "EntryRow")]
pub(crate) struct ZipEntry {
    /// Its path, with `/` between folders.
    pub(crate) name: String,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// When it was last changed.
    pub(crate) modified: ZipTime,
}

/// A file as records have it: name, size, DOS time and date, and seconds since 1970.
type EntryRow = (String, u64, u16, u16, Option<i32>);

impl From<ZipEntry> for EntryRow {
    fn from(entry: ZipEntry) -> Self {
        let ZipTime { unix, dos } = entry.modified;
        (entry.name, entry.size_bytes, dos[0], dos[1], unix)
    }
}

impl From<EntryRow> for ZipEntry {
    fn from((name, size_bytes, time, date, unix): EntryRow) -> Self {
        let dos = [time, date];
        Self {
            name,
            size_bytes,
            modified: ZipTime { unix, dos },
        }
    }
}

/// The time of a file in the two forms of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ZipTime {
    /// Seconds since 1970 (UTC), if they fit into the field.
    unix: Option<i32>,
    /// DOS time and date, which have no time zone: readers show them as they are.
    dos: [u16; 2],
}

impl ZipTime {
    /// An instant; its DOS time is the local time of `zone`, in steps of two seconds and between 1980 and 2107.
    pub(crate) fn new(instant: Timestamp, zone: &TimeZone) -> Self {
        let local = zone.to_datetime(instant);
        let dos = match local.year() {
            ..1980 => [0, (1 << 5) | 1],
            2108.. => [(23 << 11) | (59 << 5) | 29, (127 << 9) | (12 << 5) | 31],
            year => [
                (bits(local.hour()) << 11)
                    | (bits(local.minute()) << 5)
                    | (bits(local.second()) / 2),
                ((year - 1980).unsigned_abs() << 9)
                    | (bits(local.month()) << 5)
                    | bits(local.day()),
            ],
        };
        Self {
            unix: i32::try_from(instant.as_second()).ok(),
            dos,
        }
    }
}

impl ZipTime {
    /// Both forms as bytes, for a digest.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let [time, date] = self.dos.map(u16::to_be_bytes);
        let unix = self.unix.map(i32::to_be_bytes).unwrap_or_default();
        [&time[..], &date, &unix].concat()
    }
}

fn bits(number: i8) -> u16 {
    u16::from(number.unsigned_abs())
}

impl ZipEntry {
    const fn is_large(&self) -> bool {
        self.size_bytes >= IN_ZIP64 as u64
    }

    const fn name_bytes(&self) -> u64 {
        self.name.len() as u64
    }

    const fn time_field_bytes(&self) -> u64 {
        match self.modified.unix {
            Some(_) => TIME_FIELD_BYTES,
            None => 0,
        }
    }

    /// The length of its local header.
    pub(crate) const fn header_bytes(&self) -> u64 {
        let zip64 = if self.is_large() { 20 } else { 0 };
        LOCAL_BYTES + self.name_bytes() + zip64 + self.time_field_bytes()
    }

    /// Appends its local header. macOS rejects a size in ZIP64 form whose field the local header lacks.
    pub(crate) fn push_header(&self, crc32: u32, out: &mut Vec<u8>) {
        let mut extra = Vec::new();
        if self.is_large() {
            push_zip64(&[self.size_bytes, self.size_bytes], &mut extra);
        }
        self.push_time(&mut extra);
        out.extend(0x0403_4b50_u32.to_le_bytes());
        self.push_common(self.is_large(), crc32, &extra, out);
        out.extend(self.name.as_bytes());
        out.extend(extra);
    }

    /// The length of its entry in the central directory; `offset` is that of its local header.
    const fn central_bytes(&self, offset: u64) -> u64 {
        let sizes = if self.is_large() { 16 } else { 0 };
        let offsets = if offset >= IN_ZIP64 as u64 { 8 } else { 0 };
        let zip64 = match sizes + offsets {
            0 => 0,
            some => some + 4,
        };
        CENTRAL_BYTES + self.name_bytes() + zip64 + self.time_field_bytes()
    }

    fn push_central(&self, crc32: u32, offset: u64, out: &mut Vec<u8>) {
        let mut numbers = Vec::new();
        if self.is_large() {
            numbers.extend([self.size_bytes, self.size_bytes]);
        }
        if offset >= u64::from(IN_ZIP64) {
            numbers.push(offset);
        }
        let mut extra = Vec::new();
        if !numbers.is_empty() {
            push_zip64(&numbers, &mut extra);
        }
        self.push_time(&mut extra);
        let is_zip64 = !numbers.is_empty();
        let version = if is_zip64 { ZIP64 } else { PLAIN };
        out.extend(0x0201_4b50_u32.to_le_bytes());
        out.extend((MADE_BY_UNIX | version).to_le_bytes());
        self.push_common(is_zip64, crc32, &extra, out);
        // No comment, on the first disk, no internal attributes.
        out.extend([0; 6]);
        out.extend(REGULAR_FILE.to_le_bytes());
        out.extend(low_32(offset).to_le_bytes());
        out.extend(self.name.as_bytes());
        out.extend(extra);
    }

    /// The fields that both headers have, from the version to the lengths of name and extra fields.
    fn push_common(&self, is_zip64: bool, crc32: u32, extra: &[u8], out: &mut Vec<u8>) {
        let version = if is_zip64 { ZIP64 } else { PLAIN };
        let stored = 0;
        let [time, date] = self.modified.dos;
        for field in [version, UTF_8, stored, time, date] {
            out.extend(field.to_le_bytes());
        }
        let size = low_32(self.size_bytes);
        for field in [crc32, size, size] {
            out.extend(field.to_le_bytes());
        }
        for length in [self.name.len(), extra.len()] {
            out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        }
    }

    /// The extended timestamp of Info-ZIP: the time of the last change alone.
    fn push_time(&self, extra: &mut Vec<u8>) {
        let Some(unix) = self.modified.unix else {
            return;
        };
        extra.extend(0x5455_u16.to_le_bytes());
        extra.extend(5_u16.to_le_bytes());
        extra.push(1);
        extra.extend(unix.to_le_bytes());
    }
}

fn push_zip64(numbers: &[u64], extra: &mut Vec<u8>) {
    let length = u16::try_from(numbers.len() * 8).unwrap_or(u16::MAX);
    extra.extend(1_u16.to_le_bytes());
    extra.extend(length.to_le_bytes());
    for number in numbers {
        extra.extend(number.to_le_bytes());
    }
}

/// A number as a field of 32 bits, or the value which says that a ZIP64 field has it.
fn low_32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(IN_ZIP64)
}

/// The records behind the directory's entries.
fn push_end(measure: ZipMeasure, out: &mut Vec<u8>) {
    let ZipMeasure {
        count,
        offset,
        directory,
        ..
    } = measure;
    if measure.needs_zip64_end() {
        out.extend(0x0606_4b50_u32.to_le_bytes());
        out.extend(44_u64.to_le_bytes());
        out.extend([ZIP64, ZIP64].map(u16::to_le_bytes).concat());
        out.extend([0; 8]);
        for number in [count, count, directory, offset] {
            out.extend(number.to_le_bytes());
        }
        out.extend(0x0706_4b50_u32.to_le_bytes());
        out.extend([0; 4]);
        out.extend((offset + directory).to_le_bytes());
        out.extend(1_u32.to_le_bytes());
    }
    out.extend(0x0605_4b50_u32.to_le_bytes());
    out.extend([0; 4]);
    let count = u16::try_from(count).unwrap_or(COUNT_IN_ZIP64);
    out.extend([count, count].map(u16::to_le_bytes).concat());
    out.extend(
        [low_32(directory), low_32(offset)]
            .map(u32::to_le_bytes)
            .concat(),
    );
    // No comment.
    out.extend([0; 2]);
}

/// The lengths of a ZIP whose files are added one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ZipMeasure {
    /// How many files it has.
    pub(crate) count: u64,
    /// The length of their headers and bytes, which is where the directory begins.
    pub(crate) offset: u64,
    /// The length of the directory's entries.
    pub(crate) directory: u64,
    /// The parts of an upload so far, and the bytes for the next.
    parts: u64,
    carried: u64,
}

impl ZipMeasure {
    /// The measure with one more file.
    #[must_use]
    pub(crate) fn with(self, entry: &ZipEntry) -> Self {
        let carried = self.carried + entry.header_bytes();
        let (parts, carried) = match Placement::of(carried, entry.size_bytes) {
            Placement::Copied { copies, .. } => (self.parts + 1 + copies, 0),
            Placement::Carried { is_full: true } => (self.parts + 1, 0),
            Placement::Carried { is_full: false } => (self.parts, carried + entry.size_bytes),
        };
        Self {
            count: self.count + 1,
            offset: self.offset + entry.header_bytes() + entry.size_bytes,
            directory: self.directory + entry.central_bytes(self.offset),
            parts,
            carried,
        }
    }

    /// The measure of these files.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a ZipEntry>) -> Self {
        entries.into_iter().fold(Self::default(), Self::with)
    }

    const fn needs_zip64_end(self) -> bool {
        self.count >= COUNT_IN_ZIP64 as u64
            || self.directory >= IN_ZIP64 as u64
            || self.offset >= IN_ZIP64 as u64
    }

    /// The length of the directory with the records behind it: all bytes from `offset` to the end.
    pub(crate) const fn tail_bytes(self) -> u64 {
        let zip64 = if self.needs_zip64_end() {
            ZIP64_END_BYTES
        } else {
            0
        };
        self.directory + zip64 + END_BYTES
    }

    /// The length of the ZIP.
    pub(crate) const fn length(self) -> u64 {
        self.offset + self.tail_bytes()
    }

    /// How many parts an upload of the ZIP has.
    pub(crate) const fn parts(self) -> u64 {
        self.parts + 1
    }
}

/// How the bytes of a file get into an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// They are read, and uploaded with those before them; the part is full then, or not.
    Carried { is_full: bool },
    /// The first bytes complete the part before them; the store copies the rest.
    Copied { head: u64, copies: u64 },
}

impl Placement {
    /// The placement of a file of `size_bytes`; `carried` bytes wait before it, its header included.
    fn of(carried: u64, size_bytes: u64) -> Self {
        let head = SMALLEST_PART.saturating_sub(carried).min(size_bytes);
        let rest = size_bytes - head;
        // A range can be copied only out of an object of more than 5 MiB.
        if rest >= SMALLEST_PART && size_bytes > SMALLEST_PART {
            Self::Copied {
                head,
                copies: rest.div_ceil(LARGEST_COPY),
            }
        } else {
            Self::Carried {
                is_full: carried + size_bytes >= UPLOAD_FROM,
            }
        }
    }
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ZipPart {
    /// Bytes that are uploaded.
    Uploaded(Vec<Piece>),
    /// A range of a file that the store copies.
    Copied { entry: usize, from: u64, to: u64 },
}

/// A piece of an uploaded part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The local header of a file.
    Header(usize),
    /// A range of a file.
    Bytes { entry: usize, from: u64, to: u64 },
    /// The central directory and the records behind it.
    Directory,
}

impl Piece {
    /// How many bytes of a file are read for it.
    pub(crate) const fn read_bytes(&self) -> u64 {
        match self {
            Self::Bytes { from, to, .. } => *to - *from,
            Self::Header(_) | Self::Directory => 0,
        }
    }
}

/// The parts of an upload, in order. Each except the last has at least [`SMALLEST_PART`] bytes, and the last has the directory.
///
/// The first bytes of a large file are uploaded: they fill the part with its header up to the least size.
pub(crate) fn parts(entries: &[ZipEntry]) -> Vec<ZipPart> {
    let (mut parts, mut pieces, mut carried) = (Vec::new(), Vec::new(), 0);
    for (number, entry) in entries.iter().enumerate() {
        pieces.push(Piece::Header(number));
        carried += entry.header_bytes();
        let size = entry.size_bytes;
        let mut carry = |to| {
            if to > 0 {
                pieces.push(Piece::Bytes {
                    entry: number,
                    from: 0,
                    to,
                });
            }
        };
        match Placement::of(carried, size) {
            Placement::Copied { head, copies } => {
                carry(head);
                parts.push(ZipPart::Uploaded(std::mem::take(&mut pieces)));
                let rest = size - head;
                let at = |copy: u64| {
                    let share = u128::from(rest) * u128::from(copy) / u128::from(copies);
                    head + u64::try_from(share).unwrap_or(rest)
                };
                parts.extend((0..copies).map(|copy| ZipPart::Copied {
                    entry: number,
                    from: at(copy),
                    to: at(copy + 1),
                }));
                carried = 0;
            }
            Placement::Carried { is_full } => {
                carry(size);
                carried += size;
                if is_full {
                    parts.push(ZipPart::Uploaded(std::mem::take(&mut pieces)));
                    carried = 0;
                }
            }
        }
    }
    pieces.push(Piece::Directory);
    parts.push(ZipPart::Uploaded(pieces));
    parts
}

/// The length of a part.
pub(crate) fn part_bytes(part: &ZipPart, entries: &[ZipEntry], measure: ZipMeasure) -> u64 {
    let length = |piece: &Piece| match piece {
        Piece::Header(entry) => entries[*entry].header_bytes(),
        Piece::Bytes { from, to, .. } => to - from,
        Piece::Directory => measure.tail_bytes(),
    };
    match part {
        ZipPart::Uploaded(pieces) => pieces.iter().map(length).sum(),
        ZipPart::Copied { from, to, .. } => to - from,
    }
}

/// The central directory with the records behind it; `sums` are the checksums of the files, in order.
pub(crate) fn directory(entries: &[ZipEntry], sums: &[u32]) -> Vec<u8> {
    let measure = ZipMeasure::of(entries);
    let mut out = Vec::with_capacity(usize::try_from(measure.tail_bytes()).unwrap_or_default());
    let mut offset = 0;
    for (entry, sum) in entries.iter().zip(sums) {
        entry.push_central(*sum, offset, &mut out);
        offset += entry.header_bytes() + entry.size_bytes;
    }
    push_end(measure, &mut out);
    out
}

/// The checksums in the directory of a finished ZIP; `None` unless it is the directory of these files, byte for byte.
pub(crate) fn sums_of(entries: &[ZipEntry], tail: &[u8]) -> Option<Vec<u32>> {
    const AT: usize = 16;
    let (mut sums, mut offset, mut at) = (Vec::with_capacity(entries.len()), 0, 0);
    for entry in entries {
        let sum = tail.get(at + AT..at + AT + 4)?;
        sums.push(u32::from_le_bytes(sum.try_into().ok()?));
        at += usize::try_from(entry.central_bytes(offset)).ok()?;
        offset += entry.header_bytes() + entry.size_bytes;
    }
    (directory(entries, &sums) == tail).then_some(sums)
}

/// The CRC-32 of bytes.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The CRC-32 of two pieces together, from that of each and the length of the second.
pub(crate) fn joined(first: u32, second: u32, second_bytes: u64) -> u32 {
    let mut sum = Hasher::new_with_initial_len(first, 0);
    sum.combine(&Hasher::new_with_initial_len(second, second_bytes));
    sum.finalize()
}

#[cfg(test)]
mod tests;
