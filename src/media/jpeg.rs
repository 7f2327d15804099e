//! JPEG: the segments up to the frame header, including EXIF.
//!
//! <https://www.w3.org/Graphics/JPEG/itu-t81.pdf> annex B

use super::Picture;
use super::head::FileHead;
use super::size::{Orientation, PictureSize};
use super::thumbnail;
use super::tiff::{Tiff, TiffDirectory};

pub(super) const SOI: u8 = 0xD8;
pub(super) const EOI: u8 = 0xD9;
pub(super) const SOS: u8 = 0xDA;
const APP1: u8 = 0xE1;

/// The prefix of an APP1 segment with EXIF. Readers ignore its last byte. CIPA DC-008, 4.7.2
pub(super) const EXIF: &[u8] = b"Exif\0\0";

/// Whether a file is a JPEG.
pub(super) fn is(head: FileHead<'_>) -> bool {
    head.has(0, &[0xFF, SOI, 0xFF])
}

/// What a decoder needs to know besides the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JpegFacts {
    /// The size of its pixels.
    pub(super) stored: PictureSize,
    /// The size at which browsers show them, before they are turned.
    pub(super) shown: PictureSize,
    /// How they are turned.
    pub(super) orientation: Orientation,
    /// The samples of all components for each pixel, in quarters: 4 of a grey picture, 12 of one in full colours, 6 of most.
    pub(super) samples_in_quarters: u64,
}

/// Reads the facts for a decoder from a whole file.
pub(super) fn facts(head: FileHead<'_>) -> Option<JpegFacts> {
    let mut segments = JpegSegments::of(head);
    let headers = JpegHeaders::read(&mut segments)?;
    let frame = headers.frame?;
    let stored = frame_size(frame)?;
    let exif = headers.exif();
    let components = frame.get(6..)?.chunks_exact(3);
    let factors = components.map(|one| (u64::from(one[1] >> 4), u64::from(one[1] & 15)));
    let factors: Vec<(u64, u64)> = factors.collect();
    let widest = factors.iter().map(|(across, _)| *across).max()?;
    let highest = factors.iter().map(|(_, down)| *down).max()?;
    let samples: u64 = factors.iter().map(|(across, down)| across * down).sum();
    Some(JpegFacts {
        stored,
        shown: exif.map_or(stored, |exif| exif.corrected(stored)),
        orientation: exif.map_or(Orientation::UPRIGHT, TiffDirectory::orientation),
        samples_in_quarters: (4 * samples).div_ceil((widest * highest).max(1)),
    })
}

/// The segments before a picture's data that tell something about it.
#[derive(Debug, Default)]
struct JpegHeaders<'a> {
    exif: Option<&'a [u8]>,
    frame: Option<&'a [u8]>,
}

impl<'a> JpegHeaders<'a> {
    /// Reads them; `None` if a scan comes before the frame that it belongs to.
    fn read(segments: &mut JpegSegments<'a>) -> Option<Self> {
        let mut headers = Self::default();
        for segment in segments {
            match segment.marker {
                // Before or after the frame header: only the first counts.
                APP1 if headers.exif.is_none() => headers.exif = tiff_of(segment.body),
                SOS if headers.frame.is_none() => return None,
                SOS => break,
                marker if headers.frame.is_none() && is_frame(marker) => {
                    headers.frame = Some(segment.body);
                }
                _ => {}
            }
        }
        Some(headers)
    }

    /// The first directory of EXIF.
    fn exif(&self) -> Option<TiffDirectory<'a>> {
        Tiff::open(FileHead::new(self.exif?))?.first()
    }
}

/// Reads its size, rotated by EXIF, and the camera's embedded thumbnail.
///
/// If EXIF fills the first bytes and the frame header lies beyond them, the size in that EXIF is used.
pub(super) fn read(head: FileHead<'_>) -> Option<Picture> {
    let mut segments = JpegSegments::of(head);
    let headers = JpegHeaders::read(&mut segments)?;
    let exif = headers.exif();
    if let Some(frame) = headers.frame {
        return Some(picture(frame_size(frame)?, exif));
    }
    let exif = exif.filter(|_| segments.is_cut)?;
    Some(picture(exif.photo_size()?, Some(exif)))
}

/// The TIFF structure in an APP1 segment.
fn tiff_of(body: &[u8]) -> Option<&[u8]> {
    let (prefix, tiff) = body.split_at_checked(EXIF.len())?;
    (prefix[..EXIF.len() - 1] == EXIF[..EXIF.len() - 1]).then_some(tiff)
}

fn picture(stored: PictureSize, exif: Option<TiffDirectory<'_>>) -> Picture {
    let orientation = exif.map_or(Orientation::UPRIGHT, TiffDirectory::orientation);
    let thumbnail = exif.and_then(TiffDirectory::thumbnail);
    let corrected = exif.map_or(stored, |exif| exif.corrected(stored));
    Picture {
        thumbnail: thumbnail.and_then(|bytes| thumbnail::data_uri(bytes, stored, orientation)),
        ..Picture::of(corrected.turned(orientation))
    }
}

/// Whether a marker is a frame header's: SOF0 to SOF15, except for three numbers with other meanings.
pub(super) const fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

/// The size in a frame header. A height of 0 means that a DNL segment gives it later; encoders do not use that.
pub(super) fn frame_size(body: &[u8]) -> Option<PictureSize> {
    let body = FileHead::new(body);
    PictureSize::new(body.be16(3)?.into(), body.be16(1)?.into())
}

/// A marker and its data.
#[derive(Debug, Clone, Copy)]
pub(super) struct JpegSegment<'a> {
    pub(super) marker: u8,
    /// Without its length.
    pub(super) body: &'a [u8],
    /// The offset of its end.
    pub(super) end: usize,
}

/// The segments of a JPEG file, up to the first incomplete one.
#[derive(Debug)]
pub(super) struct JpegSegments<'a> {
    head: FileHead<'a>,
    at: usize,
    /// Whether they ended because the next segment exceeds the available bytes.
    is_cut: bool,
}

impl<'a> JpegSegments<'a> {
    /// The segments after the start marker.
    pub(super) const fn of(head: FileHead<'a>) -> Self {
        Self {
            head,
            at: 2,
            is_cut: false,
        }
    }

    /// Continues at an offset.
    pub(super) const fn go_on_at(&mut self, at: usize) {
        self.at = at;
    }
}

impl<'a> Iterator for JpegSegments<'a> {
    type Item = JpegSegment<'a>;

    fn next(&mut self) -> Option<JpegSegment<'a>> {
        self.is_cut = self.at >= self.head.bytes().len();
        if self.head.u8(self.at)? != 0xFF {
            return None;
        }
        // Any number of fill bytes may precede a marker.
        let fill = self.head.after(self.at)?.bytes().iter();
        let fill = fill.take_while(|byte| **byte == 0xFF).count();
        let at = self.at + fill;
        let marker = self.head.u8(at)?;
        let (body, length): (&[u8], usize) = match marker {
            0x00 => return None,
            // Standalone markers, without a length.
            0x01 | 0xD0..=0xD9 => (&[], 0),
            _ => {
                let length = usize::from(self.head.be16(at + 1)?);
                let body = self.head.get(at + 3, length.checked_sub(2)?);
                self.is_cut = body.is_none();
                (body?, length)
            }
        };
        self.at = at + 1 + length;
        Some(JpegSegment {
            marker,
            body,
            end: self.at,
        })
    }
}
