//! TIFF, the format of EXIF in JPEG and PNG files.
//!
//! It is a chain of directories of numbered values. Only the first two are read, so a cyclic chain is harmless. Where files are
//! malformed, what counts is how Chromium shows them: a picture must not be wider on the page than its place.
//! <https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf> section 2

use super::head::FileHead;
use super::size::{Orientation, PictureSize};

/// The size of one entry in bytes: tag, type, count, value.
const ENTRY_LENGTH: usize = 12;

/// The types of values that are read: whole numbers within an entry, and a fraction that an entry points to.
const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;

const ORIENTATION: u16 = 0x0112;
const X_RESOLUTION: u16 = 0x011A;
const Y_RESOLUTION: u16 = 0x011B;
const RESOLUTION_UNIT: u16 = 0x0128;
const THUMBNAIL_OFFSET: u16 = 0x0201;
const THUMBNAIL_LENGTH: u16 = 0x0202;
const EXIF_OFFSET: u16 = 0x8769;
const PHOTO_WIDTH: u16 = 0xA002;
const PHOTO_HEIGHT: u16 = 0xA003;

/// The value of `RESOLUTION_UNIT` for inches, and the resolution at which a pixel is a pixel.
const INCH: u32 = 2;
const DEFAULT_RESOLUTION: u64 = 72;

/// A TIFF structure, and its byte order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiff<'a> {
    head: FileHead<'a>,
    little_endian: bool,
}

impl<'a> Tiff<'a> {
    pub(super) fn open(head: FileHead<'a>) -> Option<Self> {
        let little_endian = match head.get(0, 4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        Some(Self {
            head,
            little_endian,
        })
    }

    /// The first directory, which describes the picture itself.
    pub(super) fn first(self) -> Option<TiffDirectory<'a>> {
        self.directory(self.u32(4)?)
    }

    /// The directory at an offset, with the entries that are there: one that is cut off does not spoil the others.
    fn directory(self, offset: u32) -> Option<TiffDirectory<'a>> {
        let at = usize::try_from(offset).ok()?;
        let announced = usize::from(self.u16(at)?);
        let present = self.head.after(at + 2)?.bytes().len() / ENTRY_LENGTH;
        Some(TiffDirectory {
            tiff: self,
            at,
            announced,
            count: announced.min(present),
        })
    }

    fn u16(self, at: usize) -> Option<u16> {
        match self.little_endian {
            true => self.head.le16(at),
            false => self.head.be16(at),
        }
    }

    fn u32(self, at: usize) -> Option<u32> {
        match self.little_endian {
            true => self.head.le32(at),
            false => self.head.be32(at),
        }
    }
}

/// A directory of numbered values.
#[derive(Debug, Clone, Copy)]
pub(super) struct TiffDirectory<'a> {
    tiff: Tiff<'a>,
    at: usize,
    /// The number of entries that it claims to have, and that are there.
    announced: usize,
    count: usize,
}

impl<'a> TiffDirectory<'a> {
    /// The orientation of the picture; the default if none is given.
    pub(super) fn orientation(self) -> Orientation {
        let own = self.own_orientation();
        let below = || self.exif()?.own_orientation();
        own.or_else(below).unwrap_or(Orientation::UPRIGHT)
    }

    fn own_orientation(self) -> Option<Orientation> {
        self.values(ORIENTATION, &[SHORT])
            .find_map(Orientation::new)
    }

    /// The JPEG thumbnail that the directory after this one names, if it is complete.
    pub(super) fn thumbnail(self) -> Option<&'a [u8]> {
        let second = self.tiff.u32(self.entry(self.announced))?;
        let second = self.tiff.directory(second)?;
        let at = usize::try_from(second.number(THUMBNAIL_OFFSET)?).ok()?;
        let length = usize::try_from(second.number(THUMBNAIL_LENGTH)?).ok()?;
        self.tiff.head.get(at, length)
    }

    /// The size of the photo as the camera recorded it, before rotation. Programs that crop photos sometimes leave it unchanged.
    pub(super) fn photo_size(self) -> Option<PictureSize> {
        let exif = self.exif()?;
        PictureSize::new(exif.number(PHOTO_WIDTH)?, exif.number(PHOTO_HEIGHT)?)
    }

    /// The size at which browsers show `stored` pixels: that of EXIF, if it is what the resolutions of EXIF make of them.
    /// <https://html.spec.whatwg.org/multipage/images.html#density-corrected-intrinsic-width-and-height>
    pub(super) fn corrected(self, stored: PictureSize) -> PictureSize {
        let corrected = || {
            let photo = self.photo_size()?;
            let is_inch = self.values(RESOLUTION_UNIT, &[SHORT]).next()? == INCH;
            let is_alike = is_inch
                && self.scaled(stored.width, X_RESOLUTION)? == u64::from(photo.width)
                && self.scaled(stored.height, Y_RESOLUTION)? == u64::from(photo.height);
            is_alike.then_some(photo)
        };
        corrected().unwrap_or(stored)
    }

    /// A side at the resolution under a tag, rounded.
    fn scaled(self, side: u32, tag: u16) -> Option<u64> {
        let at = self.values(tag, &[RATIONAL]).next()?;
        let at = usize::try_from(at).ok()?;
        let dots = u64::from(self.tiff.u32(at)?);
        let inches = u64::from(self.tiff.u32(at + 4)?);
        // A side has 17 bits and each part of a fraction 32, so nothing overflows.
        let doubled = 2 * DEFAULT_RESOLUTION * u64::from(side) * inches;
        (inches > 0).then(|| (doubled + dots).checked_div(2 * dots))?
    }

    /// The directory of the camera's own values.
    fn exif(self) -> Option<Self> {
        self.tiff.directory(self.number(EXIF_OFFSET)?)
    }

    /// The whole number under a tag.
    fn number(self, tag: u16) -> Option<u32> {
        self.values(tag, &[SHORT, LONG]).next()
    }

    /// The single values under a tag that have one of these types: whole numbers, or the offsets of fractions.
    fn values(self, tag: u16, kinds: &[u16]) -> impl Iterator<Item = u32> {
        let tiff = self.tiff;
        let entries = (0..self.count).map(move |nth| self.entry(nth));
        entries.filter_map(move |at| {
            let kind = tiff.u16(at + 2)?;
            let is_wanted =
                tiff.u16(at) == Some(tag) && kinds.contains(&kind) && tiff.u32(at + 4) == Some(1);
            match kind {
                _ if !is_wanted => None,
                SHORT => tiff.u16(at + 8).map(u32::from),
                _ => tiff.u32(at + 8),
            }
        })
    }

    /// The offset of an entry; after the last entry comes the offset of the next directory.
    const fn entry(self, nth: usize) -> usize {
        self.at + 2 + ENTRY_LENGTH * nth
    }
}
