//! Writes renditions as JPEG.
//!
//! A bench of encoders and settings is in `benches/renditions.rs`. Progressive files are larger at these sizes, and the Huffman
//! tables of a file's own save 2 % and cost half of the time: they pay for the small rendition only, which pages load by the dozen.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::raster::{Channels, Raster};
use super::{RenditionError, RenditionImage};

/// The quality of the small rendition, and of the large one.
const SMALL_QUALITY: u8 = 75;
const LARGE_QUALITY: u8 = 80;

/// Encodes a small rendition.
pub(super) fn small(
    raster: &Raster,
    profile: Option<&[u8]>,
) -> Result<RenditionImage, RenditionError> {
    encode(raster, profile, SMALL_QUALITY, true)
}

/// Encodes a large rendition.
pub(super) fn large(
    raster: &Raster,
    profile: Option<&[u8]>,
) -> Result<RenditionImage, RenditionError> {
    encode(raster, profile, LARGE_QUALITY, false)
}

fn encode(
    raster: &Raster,
    profile: Option<&[u8]>,
    quality: u8,
    has_own_tables: bool,
) -> Result<RenditionImage, RenditionError> {
    let side = |side: u32| u16::try_from(side).map_err(RenditionError::malformed);
    let (width, height) = (side(raster.width)?, side(raster.height)?);
    let mut jpeg = Vec::with_capacity(raster.pixels.len() / 12);
    let mut encoder = Encoder::new(&mut jpeg, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_optimized_huffman_tables(has_own_tables);
    if let Some(profile) = profile {
        let added = encoder.add_icc_profile(profile);
        added.map_err(RenditionError::malformed)?;
    }
    let colours = match raster.channels {
        Channels::Grey => ColorType::Luma,
        Channels::Rgb => ColorType::Rgb,
    };
    let encoded = encoder.encode(&raster.pixels, width, height, colours);
    encoded.map_err(RenditionError::malformed)?;
    Ok(RenditionImage {
        jpeg,
        width: raster.width,
        height: raster.height,
    })
}
