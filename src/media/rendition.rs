//! Makes renditions: small copies of a picture for a page, in two sizes, upright and without EXIF.
//!
//! A picture is untrusted. Its header is read before anything is decoded, and pixels, memory and scans have bounds. A decoder
//! gives a reduced raster: a JPEG is decoded at a fraction of its size, and the rows of a PNG and a GIF are averaged as they come.
//! What cannot be made exactly as browsers show it is left to them: the page then shows the picture itself.

mod encode;
mod gif;
mod jpeg;
mod png;
mod profile;
mod raster;
mod webp;

use self::raster::Raster;
use super::head::FileHead;
use super::size::Orientation;
use crate::bounds::MAX_SHOWN_VALUE_BYTES;
use crate::text::printable;

/// The long side of the small rendition, in pixels.
pub const SMALL_SIDE: u32 = 640;

/// The long side of the large rendition, in pixels.
pub const LARGE_SIDE: u32 = 2048;

/// The least long side to which a decoder reduces a picture. A camera's 4,000 pixels are halved, and not enlarged to 2,048.
const REDUCED_SIDE: u32 = 1920;

/// The most pixels of a picture. Medium format cameras make 102 million.
const MAX_PIXELS: u64 = 160_000_000;

/// The most memory that decoding a picture may take besides its bytes, in bytes, as far as its header tells.
const MAX_DECODING_BYTES: u64 = 160 * 1024 * 1024;

/// A rendition: a JPEG.
#[derive(Clone, PartialEq, Eq)]
pub struct RenditionImage {
    /// Its bytes.
    pub jpeg: Vec<u8>,
    /// Its width, in pixels.
    pub width: u32,
    /// Its height, in pixels.
    pub height: u32,
}

/// The renditions of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeRenditions {
    /// The small one.
    pub small: RenditionImage,
    /// The large one; `None` if it would show no more than the small one, has more bytes than the picture, or would show one
    /// frame of an animation.
    pub large: Option<RenditionImage>,
}

impl std::fmt::Debug for RenditionImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (width, height, bytes) = (self.width, self.height, self.jpeg.len());
        write!(f, "RenditionImage({width} × {height}, {bytes} bytes)")
    }
}

/// Why a picture has no renditions. The page shows the picture itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenditionError {
    /// Not JPEG, PNG, GIF or WebP.
    #[error("the file is no JPEG, PNG, GIF or WebP")]
    Format,
    /// More pixels than [`MAX_PIXELS`].
    #[error("the picture has {0} pixels: at most {MAX_PIXELS} are decoded")]
    Pixels(u64),
    /// More memory than [`MAX_DECODING_BYTES`].
    #[error("decoding the picture takes {0} bytes: at most {MAX_DECODING_BYTES} are allowed")]
    Memory(u64),
    /// More scans than a JPEG needs.
    #[error("the JPEG has more than {0} scans")]
    Scans(usize),
    /// It has transparent pixels, and a JPEG has none.
    #[error("the picture is transparent")]
    Transparent,
    /// Its colours are of a kind that a rendition cannot keep.
    #[error("the picture has {0}, which a rendition cannot keep")]
    Colours(&'static str),
    /// The decoder rejects it.
    #[error("the picture cannot be decoded: {0}")]
    Malformed(String),
    /// A rendition would have as many bytes as the picture.
    #[error("the picture is as small as a rendition")]
    Small,
    /// The work was cancelled.
    #[error("the work was cancelled")]
    Cancelled,
}

impl RenditionError {
    fn malformed(error: impl std::fmt::Display) -> Self {
        Self::Malformed(printable(&error.to_string(), MAX_SHOWN_VALUE_BYTES).into_owned())
    }
}

/// A decoded picture.
struct DecodedPicture {
    raster: Raster,
    /// How it is turned for display.
    orientation: Orientation,
    /// The ICC profile of its colours, if they are not sRGB.
    profile: Option<Vec<u8>>,
    is_animated: bool,
}

/// Whether work that takes long shall end.
type IsCancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// Makes the renditions of a picture. CPU-heavy: it runs on a blocking thread. `is_cancelled` is asked between rows, where a
/// decoder gives rows.
///
/// # Errors
/// [`RenditionError`] if the picture cannot be decoded within its bounds, or not as browsers show it.
pub fn make(bytes: &[u8], is_cancelled: IsCancelled<'_>) -> Result<MadeRenditions, RenditionError> {
    let decoded = decode(bytes, is_cancelled)?;
    let profile = decoded.profile.as_deref();
    let upright = |raster: Raster| raster.turned(decoded.orientation);
    let large = upright(decoded.raster.within(LARGE_SIDE)?);
    let small = large.within_ref(SMALL_SIDE)?;
    let is_larger = small.is_some();
    let small = small.as_ref().unwrap_or(&large);
    let small = encode::small(small, profile)?;
    if small.jpeg.len() >= bytes.len() {
        return Err(RenditionError::Small);
    }
    let large = match is_larger && !decoded.is_animated && !is_cancelled() {
        true => Some(encode::large(&large, profile)?),
        false => None,
    };
    if is_cancelled() {
        return Err(RenditionError::Cancelled);
    }
    let large = large.filter(|large| large.jpeg.len() < bytes.len());
    Ok(MadeRenditions { small, large })
}

/// Makes the small rendition of a video's cover. It may have more bytes than the cover, which the page cannot show itself.
///
/// # Errors
/// As of [`make`].
pub fn make_poster(
    bytes: &[u8],
    is_cancelled: IsCancelled<'_>,
) -> Result<MadeRenditions, RenditionError> {
    let decoded = decode(bytes, is_cancelled)?;
    let raster = decoded.raster.within(SMALL_SIDE)?;
    let raster = raster.turned(decoded.orientation);
    let small = encode::small(&raster, decoded.profile.as_deref())?;
    match is_cancelled() {
        true => Err(RenditionError::Cancelled),
        false => Ok(MadeRenditions { small, large: None }),
    }
}

fn decode(bytes: &[u8], is_cancelled: IsCancelled<'_>) -> Result<DecodedPicture, RenditionError> {
    let head = FileHead::new(bytes);
    match bytes {
        _ if super::jpeg::is(head) => jpeg::decode(bytes),
        _ if bytes.starts_with(super::png::SIGNATURE) => png::decode(bytes, is_cancelled),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => gif::decode(bytes, is_cancelled),
        _ if head.has(0, b"RIFF") && head.has(8, b"WEBP") => webp::decode(bytes, is_cancelled),
        _ => Err(RenditionError::Format),
    }
}

/// Checks the size in a header before anything is decoded.
fn check_pixels(width: u32, height: u32) -> Result<u64, RenditionError> {
    let pixels = u64::from(width) * u64::from(height);
    match pixels {
        0 => Err(RenditionError::Malformed("a side is 0".to_owned())),
        1..=MAX_PIXELS => Ok(pixels),
        _ => Err(RenditionError::Pixels(pixels)),
    }
}

/// Checks what decoding takes.
fn check_memory(bytes: u64) -> Result<(), RenditionError> {
    match bytes <= MAX_DECODING_BYTES {
        true => Ok(()),
        false => Err(RenditionError::Memory(bytes)),
    }
}

#[cfg(test)]
mod tests;
