//! ZIPs of files of zeros, for tests: the layouts of real jobs, however large, in a sparse file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::layout::{self, ZipEntry, ZipTime};

/// Writes a ZIP of files of these names and sizes.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, files: &[(String, u64)]) -> io::Result<()> {
    let modified = ZipTime::new(Timestamp::UNIX_EPOCH, &TimeZone::UTC);
    let entry = |(name, size_bytes): &(String, u64)| ZipEntry {
        name: name.clone(),
        size_bytes: *size_bytes,
        modified,
    };
    let entries: Vec<ZipEntry> = files.iter().map(entry).collect();
    let sums: Vec<u32> = files.iter().map(|(_, size)| of_zeros(*size)).collect();
    let file = File::create(path)?;
    let (mut offset, mut header) = (0, Vec::new());
    for (entry, sum) in entries.iter().zip(&sums) {
        header.clear();
        entry.push_header(*sum, &mut header);
        file.write_all_at(&header, offset)?;
        offset += entry.header_bytes() + entry.size_bytes;
    }
    file.write_all_at(&layout::directory(&entries, &sums), offset)
}

/// The checksum of so many zeros.
fn of_zeros(mut count: u64) -> u32 {
    let (mut sum, mut block, mut length) = (0, layout::crc32(&[0]), 1);
    while count > 0 {
        if count & 1 == 1 {
            sum = layout::joined(sum, block, length);
        }
        count >>= 1;
        if count > 0 {
            block = layout::joined(block, block, length);
            length *= 2;
        }
    }
    sum
}
