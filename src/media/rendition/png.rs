//! Decodes a PNG row by row.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::raster::{Channels, RowReducer};
use super::{DecodedPicture, IsCancelled, RenditionError};
use super::{check_memory, check_pixels, profile};
use crate::media::head::FileHead;

/// The gamma of sRGB, and the chromaticities of its white point and its primaries, as a PNG writes them in `gAMA` and `cHRM`.
const SRGB_GAMMA: f32 = 0.45455;
const SRGB_CHROMATICITIES: [f32; 8] = [0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06];

/// How much room the chunks beside the pixels may take, in bytes: compressed, and each again when it is unpacked. A colour profile that
/// takes more is ignored, as browsers ignore a broken one; those of displays have 4,000 bytes.
const MAX_CHUNK_BYTES: usize = 8 << 20;

/// The bytes of a pixel of four channels with sixteen bits.
const MAX_PIXEL_BYTES: usize = 8;

pub(super) fn decode(
    bytes: &[u8],
    is_cancelled: IsCancelled<'_>,
) -> Result<DecodedPicture, RenditionError> {
    let limits = |bytes| Limits { bytes };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits(MAX_CHUNK_BYTES));
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let info = decoder
        .read_header_info()
        .map_err(RenditionError::malformed)?;
    let (full, is_interlaced) = ((info.width, info.height), info.interlaced);
    let pixels = check_pixels(full.0, full.1)?;
    let row = usize::try_from(full.0).unwrap_or(usize::MAX);
    let row = row.saturating_mul(MAX_PIXEL_BYTES);
    decoder.set_limits(limits(row.saturating_add(MAX_CHUNK_BYTES)));
    if is_interlaced {
        check_memory(pixels * 4)?;
    }
    let mut reader = decoder.read_info().map_err(RenditionError::malformed)?;
    let (colours, depth) = reader.output_color_type();
    let info = reader.info();
    let is_animated = info.animation_control().is_some_and(|a| a.num_frames > 1);
    check_colours(info)?;
    let channels = match colours {
        ColorType::Grayscale | ColorType::GrayscaleAlpha => Channels::Grey,
        ColorType::Rgb | ColorType::Rgba => Channels::Rgb,
        ColorType::Indexed => return Err(RenditionError::Colours("an unknown palette")),
    };
    if depth != BitDepth::Eight {
        return Err(RenditionError::Colours("more than eight bits"));
    }
    let is_srgb = info.srgb.is_some();
    let profile = info.icc_profile.as_ref().map(|profile| profile.to_vec());
    let profile = profile::kept(profile.filter(|_| !is_srgb), channels)?;
    let has_alpha = matches!(colours, ColorType::GrayscaleAlpha | ColorType::Rgba);
    check_memory(RowReducer::bytes(full, channels) + if is_interlaced { pixels * 4 } else { 0 })?;
    let mut reducer = RowReducer::new(full, channels);
    let mut opaque = Vec::new();
    let mut push = |row: &[u8]| {
        if is_cancelled() {
            return Err(RenditionError::Cancelled);
        }
        if !has_alpha {
            reducer.push(row);
            return Ok(());
        }
        opaque.clear();
        for pixel in row.chunks_exact(channels.count() + 1) {
            let (colour, alpha) = pixel.split_at(channels.count());
            if alpha != [u8::MAX] {
                return Err(RenditionError::Transparent);
            }
            opaque.extend_from_slice(colour);
        }
        reducer.push(&opaque);
        Ok(())
    };
    if is_interlaced {
        let size = reader.output_buffer_size();
        let size = size.ok_or(RenditionError::Memory(u64::MAX))?;
        let mut all = vec![0; size];
        let frame = reader.next_frame(&mut all);
        let frame = frame.map_err(RenditionError::malformed)?;
        for row in all.chunks_exact(frame.line_size) {
            push(row)?;
        }
    } else {
        while let Some(row) = reader.next_row().map_err(RenditionError::malformed)? {
            push(row.data())?;
        }
    }
    Ok(DecodedPicture {
        raster: reducer.finish()?,
        orientation: super::super::png::orientation(FileHead::new(bytes)),
        profile,
        is_animated,
    })
}

/// Accepts colours that a profile describes or that are those of sRGB; a browser converts others by formulas of their own.
fn check_colours(info: &png::Info<'_>) -> Result<(), RenditionError> {
    if info.coding_independent_code_points.is_some() {
        return Err(RenditionError::Colours("code points of video (cICP)"));
    }
    if info.srgb.is_some() || info.icc_profile.is_some() {
        return Ok(());
    }
    let is_near = |value: f32, wanted: f32| (value - wanted).abs() < 0.01;
    let gamma = info.gama_chunk.map(png::ScaledFloat::into_value);
    if gamma.is_some_and(|gamma| !is_near(gamma, SRGB_GAMMA)) {
        return Err(RenditionError::Colours("a gamma of its own"));
    }
    let Some(chromaticities) = info.chrm_chunk else {
        return Ok(());
    };
    let (white, red) = (chromaticities.white, chromaticities.red);
    let (green, blue) = (chromaticities.green, chromaticities.blue);
    let found = [white, red, green, blue].into_iter();
    let found = found.flat_map(|(x, y)| [x.into_value(), y.into_value()]);
    match found.zip(SRGB_CHROMATICITIES).all(|(a, b)| is_near(a, b)) {
        true => Ok(()),
        false => Err(RenditionError::Colours("primaries of its own")),
    }
}
