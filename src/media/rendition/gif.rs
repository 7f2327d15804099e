//! Decodes the first frame of a GIF.

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::raster::{Channels, RowReducer};
use super::{DecodedPicture, IsCancelled, MAX_DECODING_BYTES, RenditionError};
use super::{check_memory, check_pixels};
use crate::media::size::Orientation;

pub(super) fn decode(
    bytes: &[u8],
    is_cancelled: IsCancelled<'_>,
) -> Result<DecodedPicture, RenditionError> {
    let mut options = DecodeOptions::new();
    // An index of the palette for each pixel: a quarter of the memory.
    options.set_color_output(ColorOutput::Indexed);
    options.check_frame_consistency(true);
    let limit = std::num::NonZeroU64::new(MAX_DECODING_BYTES);
    options.set_memory_limit(limit.map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let decoder = options.read_info(bytes);
    let mut decoder = decoder.map_err(RenditionError::malformed)?;
    let full = (u32::from(decoder.width()), u32::from(decoder.height()));
    let pixels = check_pixels(full.0, full.1)?;
    check_memory(2 * pixels + RowReducer::bytes(full, Channels::Rgb))?;
    let palette = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder
        .read_next_frame()
        .map_err(RenditionError::malformed)?;
    let frame = frame.ok_or_else(|| RenditionError::malformed("it has no frame"))?;
    let is_whole = (frame.left, frame.top) == (0, 0)
        && (u32::from(frame.width), u32::from(frame.height)) == full;
    if !is_whole {
        return Err(RenditionError::Transparent);
    }
    let palette = frame.palette.clone().or(palette);
    let palette = palette.ok_or_else(|| RenditionError::malformed("it has no palette"))?;
    let transparent = frame.transparent;
    let mut reducer = RowReducer::new(full, Channels::Rgb);
    let mut colours = Vec::with_capacity(full.0 as usize * 3);
    for row in frame.buffer.chunks_exact(full.0 as usize) {
        if is_cancelled() {
            return Err(RenditionError::Cancelled);
        }
        colours.clear();
        for index in row {
            if Some(*index) == transparent {
                return Err(RenditionError::Transparent);
            }
            let at = 3 * usize::from(*index);
            // Browsers show a colour beyond the palette as transparent.
            let colour = palette.get(at..at + 3).ok_or(RenditionError::Transparent)?;
            colours.extend_from_slice(colour);
        }
        reducer.push(&colours);
    }
    let raster = reducer.finish()?;
    // What follows the first frame may be broken: then browsers show that frame alone.
    let is_animated = decoder.next_frame_info().is_ok_and(|next| next.is_some());
    Ok(DecodedPicture {
        raster,
        orientation: Orientation::UPRIGHT,
        profile: None,
        is_animated,
    })
}
