//! TIFF, the format of EXIF in JPEG files.
//!
//! It is a chain of directories of numbered values. Only the first two are read, so a cyclic chain is harmless.
//! <https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf> section 2

use super::head::FileHead;
use super::size::{Orientation, PictureSize};

/// The maximum number of values of a directory; cameras write about fifty.
const MAX_ENTRIES: u16 = 1000;

/// The size of one entry in bytes: tag, type, count, value.
const ENTRY_LENGTH: usize = 12;

/// The types of whole numbers that fit into an entry.
const SHORT: u16 = 3;
const LONG: u16 = 4;

const ORIENTATION: u16 = 0x0112;
const THUMBNAIL_OFFSET: u16 = 0x0201;
const THUMBNAIL_LENGTH: u16 = 0x0202;
const EXIF_OFFSET: u16 = 0x8769;
const PHOTO_WIDTH: u16 = 0xA002;
const PHOTO_HEIGHT: u16 = 0xA003;

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

    /// The directory at an offset.
    fn directory(self, offset: u32) -> Option<TiffDirectory<'a>> {
        let at = usize::try_from(offset).ok()?;
        let count = self.u16(at)?;
        let is_whole = self.head.get(at, 2 + ENTRY_LENGTH * usize::from(count));
        let is_sane = is_whole.is_some() && (1..=MAX_ENTRIES).contains(&count);
        is_sane.then_some(TiffDirectory {
            tiff: self,
            at,
            count,
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
    count: u16,
}

impl<'a> TiffDirectory<'a> {
    /// The orientation of the picture; the default if none is given.
    pub(super) fn orientation(self) -> Orientation {
        self.number(ORIENTATION)
            .map_or(Orientation::UPRIGHT, Orientation::new)
    }

    /// The JPEG thumbnail that the directory after this one names, if it is complete.
    pub(super) fn thumbnail(self) -> Option<&'a [u8]> {
        let second = self.tiff.u32(self.entry(self.count))?;
        let second = self.tiff.directory(second)?;
        let at = usize::try_from(second.number(THUMBNAIL_OFFSET)?).ok()?;
        let length = usize::try_from(second.number(THUMBNAIL_LENGTH)?).ok()?;
        self.tiff.head.get(at, length)
    }

    /// The size of the photo as the camera recorded it, before rotation. Programs that crop photos sometimes leave it unchanged.
    pub(super) fn photo_size(self) -> Option<PictureSize> {
        let exif = self.tiff.directory(self.number(EXIF_OFFSET)?)?;
        PictureSize::new(exif.number(PHOTO_WIDTH)?, exif.number(PHOTO_HEIGHT)?)
    }

    /// The whole number under a tag.
    fn number(self, tag: u16) -> Option<u32> {
        let mut entries = (0..self.count).map(|nth| self.entry(nth));
        let entry = entries.find(|at| self.tiff.u16(*at) == Some(tag))?;
        let kind = self.tiff.u16(entry + 2)?;
        let is_one = self.tiff.u32(entry + 4)? == 1;
        match kind {
            SHORT if is_one => self.tiff.u16(entry + 8).map(u32::from),
            LONG if is_one => self.tiff.u32(entry + 8),
            _ => None,
        }
    }

    /// The offset of an entry; after the last entry comes the offset of the next directory.
    const fn entry(self, nth: u16) -> usize {
        self.at + 2 + ENTRY_LENGTH * nth as usize
    }
}
