//! PNG: the chunks before the picture's data.
//!
//! <https://www.w3.org/TR/png-3/#5Chunk-layout>

use flate2::Crc;

use super::head::FileHead;
use super::size::{Orientation, PictureSize};
use super::tiff::{Tiff, TiffDirectory};

/// The first bytes of every PNG.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1A\n";

/// The bytes of a chunk around its data: length, type and checksum.
const CHUNK_FRAME: usize = 12;

/// Reads its size, rotated by EXIF. If the first bytes end before the picture's data, EXIF behind them is not seen.
pub(super) fn size(head: FileHead<'_>) -> Option<PictureSize> {
    let is_header = head.has(SIGNATURE.len(), b"\0\0\0\x0DIHDR");
    let stored = is_header.then(|| PictureSize::new(head.be32(16)?, head.be32(20)?))??;
    Some(stored.turned(orientation(head)))
}

/// The orientation in the first `eXIf` chunk before the picture's data; browsers ignore one behind them.
pub(super) fn orientation(head: FileHead<'_>) -> Orientation {
    let mut before_data = chunks(head).take_while(|chunk| chunk.kind != b"IDAT");
    let exif = before_data.find(|chunk| chunk.kind == b"eXIf" && chunk.is_whole);
    exif.and_then(|chunk| Tiff::open(FileHead::new(chunk.data))?.first())
        .map_or(Orientation::UPRIGHT, TiffDirectory::orientation)
}

struct Chunk<'a> {
    kind: &'a [u8],
    data: &'a [u8],
    /// Whether its checksum is right; browsers skip other chunks of this kind.
    is_whole: bool,
}

/// The complete chunks of a file.
fn chunks(head: FileHead<'_>) -> impl Iterator<Item = Chunk<'_>> {
    let mut at = SIGNATURE.len();
    std::iter::from_fn(move || {
        let length = usize::try_from(head.be32(at)?).ok()?;
        let kind = head.get(at + 4, 4)?;
        let data = head.get(at + 8, length)?;
        let sum = head.be32(at + 8 + length)?;
        at += CHUNK_FRAME + length;
        // Only EXIF is read, so that nothing else is summed.
        let is_whole = kind == b"eXIf" && checksum(kind, data) == sum;
        Some(Chunk {
            kind,
            data,
            is_whole,
        })
    })
}

fn checksum(kind: &[u8], data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    crc.sum()
}
