//! TIFF: the form in which JPEG files carry EXIF.
//!
//! It is a chain of directories of numbered values. Only the first two are ever looked at, so a chain that bites its
//! tail leads nowhere. <https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf> section 2

use super::head::FileHead;
use super::size::{Orientation, PictureSize};

/// The most values of a directory; cameras write some fifty.
const MAX_ENTRIES: u16 = 1000;

/// The bytes of one entry: tag, type, count, value.
const ENTRY_LENGTH: usize = 12;

/// The types whose values are whole numbers that fit into an entry.
const SHORT: u16 = 3;
const LONG: u16 = 4;

const ORIENTATION: u16 = 0x0112;
const THUMBNAIL_OFFSET: u16 = 0x0201;
const THUMBNAIL_LENGTH: u16 = 0x0202;
const EXIF_OFFSET: u16 = 0x8769;
const PHOTO_WIDTH: u16 = 0xA002;
const PHOTO_HEIGHT: u16 = 0xA003;

/// A TIFF structure, and the order of its bytes.
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

    /// The first directory: of the picture itself.
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
    /// How the picture is turned; not at all if nothing says so.
    pub(super) fn orientation(self) -> Orientation {
        self.number(ORIENTATION)
            .map_or(Orientation::UPRIGHT, Orientation::new)
    }

    /// The small JPEG that the directory after this one names, if all of it is there.
    pub(super) fn thumbnail(self) -> Option<&'a [u8]> {
        let second = self.tiff.u32(self.entry(self.count))?;
        let second = self.tiff.directory(second)?;
        let at = usize::try_from(second.number(THUMBNAIL_OFFSET)?).ok()?;
        let length = usize::try_from(second.number(THUMBNAIL_LENGTH)?).ok()?;
        self.tiff.head.get(at, length)
    }

    /// The size of the photo as its camera wrote it down, before turning. Programs that cut photos forget it at times.
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

    /// Where an entry begins; the one after the last is where the next directory's offset stands.
    const fn entry(self, nth: u16) -> usize {
        self.at + 2 + ENTRY_LENGTH * nth as usize
    }
}
