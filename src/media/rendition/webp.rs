//! Decodes a WebP, or the first frame of an animated one.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::raster::{Channels, RowReducer};
use super::{DecodedPicture, IsCancelled, MAX_DECODING_BYTES, RenditionError};
use super::{check_memory, check_pixels, profile};
use crate::media::size::Orientation;

pub(super) fn decode(
    bytes: &[u8],
    is_cancelled: IsCancelled<'_>,
) -> Result<DecodedPicture, RenditionError> {
    let decoder = WebPDecoder::new(Cursor::new(bytes));
    let mut decoder = decoder.map_err(RenditionError::malformed)?;
    let full = decoder.dimensions();
    let pixels = check_pixels(full.0, full.1)?;
    let (has_alpha, is_animated) = (decoder.has_alpha(), decoder.is_animated());
    // The frame in its own colours or with alpha, and the pixels; an animation is drawn on a canvas.
    let each = match (decoder.is_lossy() && !has_alpha, is_animated) {
        (true, false) => 5,
        (true, true) => 9,
        (false, false) => 8,
        (false, true) => 12,
    };
    check_memory(pixels * each + RowReducer::bytes(full, Channels::Rgb))?;
    let limit = usize::try_from(MAX_DECODING_BYTES).unwrap_or(usize::MAX);
    decoder.set_memory_limit(limit);
    let profile = decoder.icc_profile().map_err(RenditionError::malformed)?;
    let profile = profile::kept(profile, Channels::Rgb)?;
    let size = decoder.output_buffer_size();
    let mut all = vec![0; size.ok_or(RenditionError::Memory(u64::MAX))?];
    if is_cancelled() {
        return Err(RenditionError::Cancelled);
    }
    let read = match is_animated {
        true => decoder.read_frame(&mut all).map(drop),
        false => decoder.read_image(&mut all),
    };
    read.map_err(RenditionError::malformed)?;
    let count = if has_alpha { 4 } else { 3 };
    let mut reducer = RowReducer::new(full, Channels::Rgb);
    let mut opaque = Vec::new();
    for row in all.chunks_exact(full.0 as usize * count) {
        if !has_alpha {
            reducer.push(row);
            continue;
        }
        opaque.clear();
        for pixel in row.chunks_exact(4) {
            if pixel[3] != u8::MAX {
                return Err(RenditionError::Transparent);
            }
            opaque.extend_from_slice(&pixel[..3]);
        }
        reducer.push(&opaque);
    }
    Ok(DecodedPicture {
        raster: reducer.finish()?,
        orientation: Orientation::UPRIGHT,
        profile,
        is_animated,
    })
}
