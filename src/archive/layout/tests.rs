//! Layouts of any files, compared with what the format and S3 allow.

use std::io::{Read, Seek, SeekFrom};

use proptest::prelude::*;

use super::*;

fn time(seconds: i64) -> ZipTime {
    ZipTime::new(Timestamp::from_second(seconds).unwrap(), &TimeZone::UTC)
}

fn entry(name: &str, size_bytes: u64) -> ZipEntry {
    ZipEntry {
        name: name.to_owned(),
        size_bytes,
        modified: time(1_795_000_000),
    }
}

/// Sizes around each limit, and any others.
fn sizes() -> impl Strategy<Value = u64> {
    let around = |size: u64| (size.saturating_sub(100)..size + 100).boxed();
    prop_oneof![
        0..200_u64,
        0..UPLOAD_FROM * 2,
        around(SMALLEST_PART),
        around(2 * SMALLEST_PART),
        around(UPLOAD_FROM),
        around(u64::from(u32::MAX)),
        around(LARGEST_COPY),
        around(LARGEST_COPY + SMALLEST_PART),
        0..100 * LARGEST_COPY,
    ]
}

fn entries() -> impl Strategy<Value = Vec<ZipEntry>> {
    let seconds = prop_oneof![
        0..4_000_000_000_i64,
        Just(-100_000_000_000),
        Just(5_000_000_000)
    ];
    let one = ("[a-zé/]{1,40}", sizes(), seconds);
    let one = one.prop_map(|(name, size_bytes, seconds)| ZipEntry {
        name,
        size_bytes,
        modified: time(seconds),
    });
    prop::collection::vec(one, 0..60)
}

proptest! {
    #[test]
    fn parts_are_of_the_sizes_that_s3_takes_and_every_byte_is_in_one_of_them(entries in entries()) {
        let measure = ZipMeasure::of(&entries);
        let parts = parts(&entries);
        prop_assert_eq!(parts.len() as u64, measure.parts());
        let lengths: Vec<u64> = parts.iter().map(|part| part_bytes(part, &entries, measure)).collect();
        prop_assert_eq!(lengths.iter().sum::<u64>(), measure.length());
        for (length, part) in lengths.iter().zip(&parts).rev().skip(1) {
            let most = if matches!(part, ZipPart::Copied { .. }) { LARGEST_COPY } else { 64 << 20 };
            prop_assert!((SMALLEST_PART..=most).contains(length), "{}", length);
        }
        // The pieces, one after the other, are header and bytes of each file in order, without a gap.
        let mut expected = (0, None);
        for part in &parts {
            let pieces = match part {
                ZipPart::Uploaded(pieces) => pieces.clone(),
                ZipPart::Copied { entry, from, to } => {
                    prop_assert!(entries[*entry].size_bytes > SMALLEST_PART);
                    vec![Piece::Bytes { entry: *entry, from: *from, to: *to }]
                }
            };
            for piece in pieces {
                if expected.1 == Some(entries.get(expected.0).map_or(0, |entry| entry.size_bytes)) {
                    expected = (expected.0 + 1, None);
                }
                match piece {
                    Piece::Header(entry) => {
                        prop_assert_eq!((entry, None), expected);
                        expected.1 = Some(0);
                    }
                    Piece::Bytes { entry, from, to } => {
                        prop_assert_eq!((entry, Some(from)), expected);
                        prop_assert!(to > from);
                        expected.1 = Some(to);
                    }
                    Piece::Directory => prop_assert_eq!((entries.len(), None), expected),
                }
            }
        }
    }

    #[test]
    fn headers_and_directory_are_as_long_as_predicted_and_give_the_checksums_back(entries in entries()) {
        let sums: Vec<u32> = (0..).map(|n: u32| n.wrapping_mul(2_654_435_761)).take(entries.len()).collect();
        let measure = ZipMeasure::of(&entries);
        let mut header = Vec::new();
        for (entry, sum) in entries.iter().zip(&sums) {
            header.clear();
            entry.push_header(*sum, &mut header);
            prop_assert_eq!(header.len() as u64, entry.header_bytes());
        }
        let tail = directory(&entries, &sums);
        prop_assert_eq!(tail.len() as u64, measure.tail_bytes());
        prop_assert_eq!(sums_of(&entries, &tail), Some(sums));
        let mut changed = tail.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        prop_assert_eq!(sums_of(&entries, &changed), None);
        prop_assert_eq!(sums_of(&entries, &tail[..last]), None);
    }
}

/// The bytes of a ZIP whose files are zeros, however large.
struct OfZeros {
    headers: Vec<(u64, Vec<u8>)>,
    tail: (u64, Vec<u8>),
    at: u64,
}

impl OfZeros {
    fn new(entries: &[ZipEntry], sums: &[u32]) -> Self {
        let mut offset = 0;
        let headers = entries.iter().zip(sums).map(|(entry, sum)| {
            let mut header = Vec::new();
            entry.push_header(*sum, &mut header);
            let begin = offset;
            offset += header.len() as u64 + entry.size_bytes;
            (begin, header)
        });
        let headers = headers.collect();
        Self {
            headers,
            tail: (offset, directory(entries, sums)),
            at: 0,
        }
    }

    fn length(&self) -> u64 {
        self.tail.0 + self.tail.1.len() as u64
    }
}

impl Read for OfZeros {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.length() - self.at).unwrap_or(usize::MAX);
        let length = out.len().min(left);
        out[..length].fill(0);
        let end = self.at + length as u64;
        let first = self.headers.partition_point(|(begin, _)| *begin <= self.at);
        let near = self.headers[first.saturating_sub(1)..].iter();
        for (begin, bytes) in near
            .take_while(|(begin, _)| *begin < end)
            .chain([&self.tail])
        {
            for (at, byte) in (*begin..).zip(bytes) {
                if (self.at..end).contains(&at) {
                    out[usize::try_from(at - self.at).unwrap()] = *byte;
                }
            }
        }
        self.at = end;
        Ok(length)
    }
}

impl Seek for OfZeros {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at
            .map(|at| at.min(self.length()))
            .ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

proptest! {
    /// `PROPTEST_CASES=100000` is the long run.
    #[test]
    fn a_reader_that_is_not_ours_finds_every_file_where_it_is(entries in entries()) {
        let numbered = entries.into_iter().enumerate();
        let entries: Vec<ZipEntry> = numbered
            .map(|(n, entry)| ZipEntry { name: format!("{n}-{}", entry.name), ..entry })
            .collect();
        let sums: Vec<u32> = (1..).map(|n: u32| n.wrapping_mul(2_654_435_761)).take(entries.len()).collect();
        let mut archive = zip::ZipArchive::new(OfZeros::new(&entries, &sums)).unwrap();
        prop_assert_eq!(archive.len(), entries.len());
        let mut offset = 0;
        for (number, (entry, sum)) in entries.iter().zip(&sums).enumerate() {
            let found = archive.by_index_raw(number).unwrap();
            prop_assert_eq!(found.name().unwrap(), entry.name.as_str());
            prop_assert_eq!((found.size(), found.compressed_size()), (entry.size_bytes, entry.size_bytes));
            prop_assert_eq!(found.crc32(), *sum);
            prop_assert_eq!(found.header_start(), offset);
            offset += entry.header_bytes();
            prop_assert_eq!(found.data_start(), Some(offset));
            offset += entry.size_bytes;
        }
    }
}

#[test]
fn the_numbers_of_known_jobs_are_those_of_the_design() {
    for (count, size, parts) in [
        (100, 1_000_000_000, 201),
        (1_000, 100_000_000, 2_001),
        (2_000, 25_000_000, 4_001),
        (10_000, 8_000_000, 10_001),
        (4_900, 1_000_000_000, 9_801),
    ] {
        let entries: Vec<ZipEntry> = (0..count)
            .map(|n| entry(&format!("IMG_{n:05}.jpg"), size))
            .collect();
        let found = ZipMeasure::of(&entries).parts();
        // Ten thousand of 8 MB are two parts each for the most, and one for some.
        let least = if count == 10_000 { 6_000 } else { parts };
        assert!(
            (least..=parts).contains(&found),
            "{count} of {size}: {found}"
        );
    }
    // Of a hundred files of 1 GB half a percent is read.
    let entries: Vec<ZipEntry> = (0..100)
        .map(|n| entry(&format!("{n}.mov"), 1_000_000_000))
        .collect();
    let measure = ZipMeasure::of(&entries);
    let parts = parts(&entries);
    let uploaded = parts
        .iter()
        .filter(|part| matches!(part, ZipPart::Uploaded(_)));
    let uploaded = uploaded.map(|part| part_bytes(part, &entries, measure));
    let uploaded: u64 = uploaded.sum();
    assert!(uploaded * 10_000 <= measure.length() * 53, "{uploaded}");
}

#[test]
fn a_checksum_of_two_pieces_is_that_of_both() {
    let (first, second) = (b"12345".as_slice(), b"6789".as_slice());
    let sum = joined(crc32(first), crc32(second), second.len() as u64);
    // The check value of CRC-32.
    assert_eq!(sum, 0xcbf4_3926);
    assert_eq!(joined(sum, 0, 0), sum);
    assert_eq!(joined(0, sum, 9), sum);
}

#[test]
fn zip64_is_used_only_where_a_number_needs_it() {
    let version = |entry: &ZipEntry| {
        let mut header = Vec::new();
        entry.push_header(0, &mut header);
        (u16::from_le_bytes([header[4], header[5]]), header.len())
    };
    let (below, at) = (
        entry("a", u64::from(u32::MAX) - 1),
        entry("a", u64::from(u32::MAX)),
    );
    assert_eq!(version(&below), (PLAIN, 40));
    assert_eq!(version(&at), (ZIP64, 60));
    let many = |count: usize| -> Vec<ZipEntry> { vec![entry("a", 0); count] };
    for (count, is_zip64) in [(65_534, false), (65_535, true)] {
        let entries = many(count);
        assert_eq!(ZipMeasure::of(&entries).needs_zip64_end(), is_zip64);
    }
}

#[test]
fn the_time_of_a_file_is_local_in_dos_form_and_utc_in_the_other() {
    let berlin = TimeZone::posix("CET-1").unwrap();
    let instant = "2026-11-28T23:30:10Z".parse().unwrap();
    let ZipTime {
        unix,
        dos: [time, date],
    } = ZipTime::new(instant, &berlin);
    assert_eq!(unix, Some(1_795_908_610));
    assert_eq!((time >> 11, time >> 5 & 63, (time & 31) * 2), (0, 30, 10));
    assert_eq!(
        (1980 + (date >> 9), date >> 5 & 15, date & 31),
        (2026, 11, 29)
    );
    let early = ZipTime::new(Timestamp::UNIX_EPOCH, &berlin);
    assert_eq!(early.dos, [0, 33], "the first day of 1980");
    let late = ZipTime::new("2110-01-01T00:00:00Z".parse().unwrap(), &berlin);
    assert_eq!((late.unix, late.dos[1] >> 9), (None, 127));
}
