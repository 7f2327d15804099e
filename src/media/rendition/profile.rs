//! ICC profiles: which one a rendition keeps.
//!
//! Colours are not converted. A rendition carries the profile of its picture, as a browser needs it; that of sRGB is left out,
//! since a picture without a profile is sRGB. <https://www.color.org/specification/ICC.1-2022-05.pdf>

use super::super::head::FileHead;
use super::RenditionError;
use super::raster::Channels;

/// The longest profile that renditions carry, in bytes. Those of displays and cameras have 500 to 4,000.
const MAX_PROFILE_BYTES: usize = 16 * 1024;

/// The length of a profile's header, and of an entry in its table of tags.
const HEADER: usize = 128;
const TAG: usize = 12;

/// The colorants of sRGB, adapted to D50, and by how much a number in a profile may differ.
const SRGB_COLORANTS: [(&[u8; 4], [f64; 3]); 3] = [
    (b"rXYZ", [0.4361, 0.2225, 0.0139]),
    (b"gXYZ", [0.3851, 0.7169, 0.0971]),
    (b"bXYZ", [0.1431, 0.0606, 0.7141]),
];
const TOLERANCE: f64 = 0.002;

/// The exponent of sRGB's curve, and its value for a half.
const SRGB_EXPONENT: f64 = 2.4;
const SRGB_HALF: f64 = 0.2140;

/// The profile that renditions carry, if any.
///
/// # Errors
/// The profile is too long to be carried.
pub(super) fn kept(
    profile: Option<Vec<u8>>,
    channels: Channels,
) -> Result<Option<Vec<u8>>, RenditionError> {
    let Some(profile) = profile else {
        return Ok(None);
    };
    let head = FileHead::new(&profile);
    let space = match channels {
        Channels::Grey => b"GRAY",
        Channels::Rgb => b"RGB ",
    };
    // Browsers ignore what is no profile, or one for other colours.
    if !head.has(36, b"acsp") || !head.has(16, space) || is_srgb(head) {
        return Ok(None);
    }
    match profile.len() <= MAX_PROFILE_BYTES {
        true => Ok(Some(profile)),
        false => Err(RenditionError::Colours("a long colour profile")),
    }
}

/// Whether a profile is one of the many that describe sRGB.
fn is_srgb(profile: FileHead<'_>) -> bool {
    let is_colorant = |(name, wanted): &(&[u8; 4], [f64; 3])| {
        let at = tag(profile, name)?;
        let mut numbers = (0..3).map(|nth| fixed(profile, at + 8 + 4 * nth));
        let is_near = wanted.iter().all(|wanted| {
            let number = numbers.next().flatten();
            number.is_some_and(|number| (number - wanted).abs() < TOLERANCE)
        });
        (profile.has(at, b"XYZ ") && is_near).then_some(())
    };
    let has_table = tag(profile, b"A2B0").is_some();
    let curves = [b"rTRC", b"gTRC", b"bTRC"];
    !has_table
        && SRGB_COLORANTS.iter().all(|one| is_colorant(one).is_some())
        && curves
            .iter()
            .all(|name| tag(profile, name).is_some_and(|at| is_srgb_curve(profile, at)))
}

/// Whether a curve is that of sRGB: by its parameters, or by its table's value for a half.
fn is_srgb_curve(profile: FileHead<'_>, at: usize) -> bool {
    if profile.has(at, b"para") {
        let exponent = fixed(profile, at + 12);
        return profile.be16(at + 8) == Some(3)
            && exponent.is_some_and(|exponent| (exponent - SRGB_EXPONENT).abs() < 0.01);
    }
    let half = || {
        let count = usize::try_from(profile.be32(at + 8)?).ok()?;
        let middle = profile.be16(at + 12 + 2 * (count / 2))?;
        (count >= 256).then(|| f64::from(middle) / f64::from(u16::MAX))
    };
    profile.has(at, b"curv") && half().is_some_and(|half| (half - SRGB_HALF).abs() < 0.005)
}

/// The offset of a tag's data.
fn tag(profile: FileHead<'_>, name: &[u8; 4]) -> Option<usize> {
    let count = usize::try_from(profile.be32(HEADER)?).ok()?.min(100);
    let mut entries = (0..count).map(|nth| HEADER + 4 + TAG * nth);
    let entry = entries.find(|at| profile.has(*at, name))?;
    usize::try_from(profile.be32(entry + 4)?)
        .ok()
        .filter(|at| *at < MAX_PROFILE_BYTES)
}

/// A number of 16 bits before and 16 after the point.
fn fixed(profile: FileHead<'_>, at: usize) -> Option<f64> {
    let number = profile.be32(at)?.cast_signed();
    Some(f64::from(number) / 65536.0)
}
