//! A camera's embedded thumbnail as a `data:` URI that contains only a picture.
//!
//! The JPEG is rewritten, segment by segment, with only what a decoder needs: without EXIF such as the place of the photo,
//! without comments or profiles, and without data after the end. Its orientation is written to a new EXIF segment with that one
//! value. Nothing is decoded. Cameras put black bars above and below a thumbnail whose aspect ratio differs from the picture's,
//! so it should cover the picture's place, as with `object-fit: cover`.

use base64ct::{Base64, Encoding};

use super::head::FileHead;
use super::jpeg::{EOI, EXIF, JpegSegments, SOI, SOS, frame_size};
use super::size::{Orientation, PictureSize};

/// The maximum length of the URI, in bytes.
const MAX_URI_BYTES: usize = 8 * 1024;

/// The minimum and maximum side, in pixels. Cameras write 160 × 120.
const SIDES: std::ops::RangeInclusive<u32> = 16..=512;

const URI_BEGIN: &str = "data:image/jpeg;base64,";

const DHT: u8 = 0xC4;
const DQT: u8 = 0xDB;
const DRI: u8 = 0xDD;
const APP1: u8 = 0xE1;
const APP14: u8 = 0xEE;

/// Builds the URI, unless the thumbnail is malformed. `stored` is the size of the picture before rotation.
pub(super) fn data_uri(
    jpeg: &[u8],
    stored: PictureSize,
    orientation: Orientation,
) -> Option<String> {
    let bytes = bare(jpeg, stored, orientation)?;
    let length = URI_BEGIN.len() + Base64::encoded_len(&bytes);
    (length <= MAX_URI_BYTES).then(|| format!("{URI_BEGIN}{}", Base64::encode_string(&bytes)))
}

/// The rewritten JPEG.
fn bare(jpeg: &[u8], stored: PictureSize, orientation: Orientation) -> Option<Vec<u8>> {
    let head = FileHead::new(jpeg);
    if !super::jpeg::is(head) || jpeg.len() > MAX_URI_BYTES {
        return None;
    }
    let mut bare = vec![0xFF, SOI];
    push_orientation(&mut bare, orientation);
    let mut seen = SeenEntries::default();
    let mut segments = JpegSegments::of(head);
    while let Some(segment) = segments.next() {
        match segment.marker {
            DQT => seen.quantization = true,
            DHT => seen.huffman = true,
            DRI => {}
            // Baseline and progressive, and only once.
            0xC0..=0xC2 if !seen.frame => {
                seen.frame = true;
                check_frame(segment.body, stored)?;
            }
            SOS if seen.all() => {
                push_segment(&mut bare, SOS, segment.body);
                let end = scan_end(head, segment.end)?;
                bare.extend_from_slice(head.part(segment.end, end)?.bytes());
                segments.go_on_at(end);
                seen.scan = true;
                continue;
            }
            EOI if seen.scan => {
                bare.extend_from_slice(&[0xFF, EOI]);
                return Some(bare);
            }
            // Adobe's marker changes the meaning of the colours; cameras do not write it.
            APP14 => return None,
            // All other application segments, and comments.
            0xE0..=0xEF | 0xFE => continue,
            _ => return None,
        }
        push_segment(&mut bare, segment.marker, segment.body);
    }
    None
}

#[derive(Debug, Default)]
struct SeenEntries {
    quantization: bool,
    huffman: bool,
    frame: bool,
    scan: bool,
}

impl SeenEntries {
    const fn all(&self) -> bool {
        self.quantization && self.huffman && self.frame
    }
}

/// Accepts a small frame of eight bits, in grey or colours, with about the aspect ratio of the picture. A thumbnail with another
/// aspect ratio was left behind by a program that cropped the picture, and may show what was cropped.
fn check_frame(body: &[u8], stored: PictureSize) -> Option<()> {
    let [8, .., components @ (1 | 3)] = body.get(..6)? else {
        return None;
    };
    let size = frame_size(body)?;
    let is_small = SIDES.contains(&size.width) && SIDES.contains(&size.height);
    let is_whole = body.len() == 6 + 3 * usize::from(*components);
    let (a, b) = (
        u64::from(size.width) * u64::from(stored.height),
        u64::from(stored.width) * u64::from(size.height),
    );
    // 16:9 within 4:3 with bars is the largest difference that cameras produce.
    let is_alike = 3 * a.max(b) <= 4 * a.min(b);
    (is_small && is_whole && is_alike).then_some(())
}

/// The end of a scan's data: the first marker that does not belong to them.
pub(super) fn scan_end(head: FileHead<'_>, begin: usize) -> Option<usize> {
    let data = head.after(begin)?.bytes();
    let is_end = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7);
    data.windows(2).position(is_end).map(|at| begin + at)
}

fn push_segment(bare: &mut Vec<u8>, marker: u8, body: &[u8]) {
    let length = u16::try_from(body.len() + 2).expect("a segment had a length of two bytes");
    bare.extend_from_slice(&[0xFF, marker]);
    bare.extend_from_slice(&length.to_be_bytes());
    bare.extend_from_slice(body);
}

/// EXIF with the orientation only.
fn push_orientation(bare: &mut Vec<u8>, orientation: Orientation) {
    if orientation == Orientation::UPRIGHT {
        return;
    }
    let mut exif = EXIF.to_vec();
    // The header; a directory of one entry: tag 0x112, a SHORT, one; no other directory.
    exif.extend_from_slice(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0");
    exif.extend_from_slice(&[orientation.number(), 0, 0, 0, 0, 0, 0]);
    push_segment(bare, APP1, &exif);
}
