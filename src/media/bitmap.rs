//! Windows bitmaps and icons.
//!
//! <https://learn.microsoft.com/windows/win32/gdi/bitmap-storage>

use super::head::FileHead;
use super::size::PictureSize;

/// The length of OS/2's bitmap header, the only one with sides of two bytes.
const CORE_HEADER: u32 = 12;

/// The length of an icon's header, and of an entry for one of its pictures.
const ICON_HEADER: usize = 6;
const ICON_ENTRY: usize = 16;

/// Reads the size of a bitmap. A negative height means that the rows are stored from the top.
pub(super) fn bmp_size(head: FileHead<'_>) -> Option<PictureSize> {
    match head.le32(14)? {
        CORE_HEADER => PictureSize::new(head.le16(18)?.into(), head.le16(20)?.into()),
        _ => PictureSize::new(head.le32(18)?, head.le32(22)?.cast_signed().unsigned_abs()),
    }
}

/// Reads the size of an icon: that of its largest picture, which browsers choose.
pub(super) fn icon_size(head: FileHead<'_>) -> Option<PictureSize> {
    let count = usize::from(head.le16(4)?);
    let side = |at| Some(u32::from(head.u8(at)?.wrapping_sub(1)) + 1);
    let sizes = (0..count).map_while(|nth| {
        let at = ICON_HEADER + ICON_ENTRY * nth;
        Some((side(at)?, side(at + 1)?))
    });
    // Of several of one area, the first.
    let largest = sizes.reduce(|largest, size| match area(size) > area(largest) {
        true => size,
        false => largest,
    });
    let (width, height) = largest?;
    PictureSize::new(width, height)
}

const fn area((width, height): (u32, u32)) -> u32 {
    width * height
}
