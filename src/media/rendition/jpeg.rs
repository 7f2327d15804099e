//! Decodes a JPEG at a half, a quarter or an eighth of its size.

use jpeg_decoder::{CodingProcess, Decoder, PixelFormat};

use super::super::head::FileHead;
use super::super::jpeg::{EOI, JpegSegments, SOS, facts, is_frame};
use super::raster::{Channels, Raster};
use super::{DecodedPicture, MAX_DECODING_BYTES, REDUCED_SIDE, RenditionError};
use super::{check_memory, check_pixels, profile};

/// The most scans. Each passes over the whole picture, and encoders write ten.
const MAX_SCANS: usize = 64;

pub(super) fn decode(bytes: &[u8]) -> Result<DecodedPicture, RenditionError> {
    check_scans(bytes)?;
    let facts = facts(FileHead::new(bytes));
    let facts = facts.ok_or_else(|| RenditionError::malformed("it has no frame"))?;
    if facts.shown != facts.stored {
        return Err(RenditionError::Colours("another size in EXIF"));
    }
    let mut decoder = Decoder::new(bytes);
    let limit = usize::try_from(MAX_DECODING_BYTES).unwrap_or(usize::MAX);
    decoder.set_max_decoding_buffer_size(limit);
    decoder.read_info().map_err(RenditionError::malformed)?;
    let info = decoder.info();
    let info = info.ok_or_else(|| RenditionError::malformed("it has no header"))?;
    let full = (u32::from(info.width), u32::from(info.height));
    let pixels = check_pixels(full.0, full.1)?;
    let channels = match info.pixel_format {
        PixelFormat::L8 => Channels::Grey,
        PixelFormat::RGB24 => Channels::Rgb,
        PixelFormat::L16 => return Err(RenditionError::Colours("more than eight bits")),
        PixelFormat::CMYK32 => return Err(RenditionError::Colours("four inks (CMYK)")),
    };
    let side = u16::try_from(REDUCED_SIDE).unwrap_or(u16::MAX);
    let scaled = decoder.scale(side, side);
    let (width, height) = scaled.map_err(RenditionError::malformed)?;
    let (width, height) = (u32::from(width), u32::from(height));
    // Planes and pixels at the reduced size; and of a progressive picture, all coefficients, of two bytes each.
    let count = channels.count() as u64;
    let reduced = u64::from(width) * u64::from(height) * count * 2;
    check_memory(match info.coding_process {
        CodingProcess::DctSequential => reduced,
        CodingProcess::DctProgressive => reduced + pixels * facts.samples_in_quarters / 4 * 2,
        CodingProcess::Lossless => return Err(RenditionError::Colours("a lossless coding")),
    })?;
    let pixels = decoder.decode().map_err(RenditionError::malformed)?;
    let profile = profile::kept(decoder.icc_profile(), channels)?;
    let factor = [1, 2, 4, 8].into_iter();
    let mut factor = factor.filter(|factor| full.0.div_ceil(*factor) == width);
    let factor = factor.next().unwrap_or(1);
    Ok(DecodedPicture {
        raster: Raster::reduced((width, height), channels, pixels, full, factor)?,
        orientation: facts.orientation,
        profile,
        is_animated: false,
    })
}

/// Counts the scans, up to the end of the picture, and allows one frame.
fn check_scans(bytes: &[u8]) -> Result<(), RenditionError> {
    let (mut scans, mut frames) = (0, 0);
    let head = FileHead::new(bytes);
    let mut segments = JpegSegments::of(head);
    while let Some(segment) = segments.next() {
        match segment.marker {
            SOS => {
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(RenditionError::Scans(MAX_SCANS));
                }
                match super::super::thumbnail::scan_end(head, segment.end) {
                    Some(end) => segments.go_on_at(end),
                    None => break,
                }
            }
            EOI => break,
            marker if is_frame(marker) => {
                frames += 1;
                if frames > 1 {
                    return Err(RenditionError::malformed("it has several frames"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
