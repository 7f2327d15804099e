//! Boxes, the container format of AVIF and HEIF files. ISO/IEC 14496-12, 4.2

use super::head::FileHead;
use super::size::{Orientation, PictureSize};

/// The maximum number of properties that are read: photos in tiles have few, since their tiles share them.
const MAX_PROPERTIES: usize = 1024;

/// A box: its four-letter type, and the available part of its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxPart<'a> {
    pub(super) kind: [u8; 4],
    pub(super) content: FileHead<'a>,
}

/// The consecutive boxes in a part of a file.
pub(super) fn boxes(mut rest: FileHead<'_>) -> impl Iterator<Item = BoxPart<'_>> {
    std::iter::from_fn(move || {
        let kind = rest.get(4, 4)?.try_into().ok()?;
        let (begin, end) = match rest.be32(0)? {
            0 => (8, rest.bytes().len()),
            1 => (16, usize::try_from(rest.be64(8)?).ok()?),
            length => (8, usize::try_from(length).ok()?),
        };
        let content = rest.part(begin, end)?;
        // Each box takes at least eight bytes, so the loop ends.
        rest = rest.after(end).unwrap_or(FileHead::new(&[]));
        Some(BoxPart { kind, content })
    })
}

/// The first box of a type.
pub(super) fn find<'a>(part: FileHead<'a>, kind: &[u8; 4]) -> Option<FileHead<'a>> {
    let mut all = boxes(part);
    all.find(|one| one.kind == *kind).map(|one| one.content)
}

/// The brands of a file, the major one first; between them stands a version that is no brand. ISO/IEC 14496-12, 4.3
pub(super) fn brands(head: FileHead<'_>) -> impl Iterator<Item = &[u8; 4]> {
    let first = boxes(head).next().filter(|first| first.kind == *b"ftyp");
    let content = first.map_or(&[][..], |first| first.content.bytes());
    content.as_chunks().0.iter()
}

/// Reads the size of a HEIF or AVIF picture: that of the primary item, among tiles, thumbnails and masks. ISO/IEC 23008-12, 6
pub(super) fn heif_size(head: FileHead<'_>) -> Option<PictureSize> {
    let meta = find(head, b"meta")?.after(4)?;
    let primary = primary_item(meta)?;
    let properties = find(meta, b"iprp")?;
    let container = find(properties, b"ipco")?;
    let container: Vec<BoxPart<'_>> = boxes(container).take(MAX_PROPERTIES).collect();
    let mut size = None;
    for number in associations(properties, primary)? {
        // Properties are numbered from 1; 0 means none.
        let Some(at) = number.checked_sub(1) else {
            continue;
        };
        let property = container.get(at)?;
        let content = property.content;
        match &property.kind {
            b"ispe" => size = PictureSize::new(content.be32(4)?, content.be32(8)?),
            b"clap" => size = Some(cut(size?, content)?),
            b"irot" => size = Some(size?.turned(quarters(content.u8(0)?))),
            _ => {}
        }
    }
    size
}

fn primary_item(meta: FileHead<'_>) -> Option<u32> {
    let pitm = find(meta, b"pitm")?;
    match pitm.u8(0)? {
        0 => pitm.be16(4).map(u32::from),
        _ => pitm.be32(4),
    }
}

/// The numbers of an item's properties, in the order in which they apply.
fn associations(properties: FileHead<'_>, item: u32) -> Option<Vec<usize>> {
    let ipma = find(properties, b"ipma")?;
    let (has_long_ids, has_long_numbers) = (ipma.u8(0)? >= 1, ipma.u8(3)? & 1 == 1);
    let mut at = 8;
    for _ in 0..ipma.be32(4)? {
        let (id, id_length) = match has_long_ids {
            true => (ipma.be32(at)?, 4),
            false => (u32::from(ipma.be16(at)?), 2),
        };
        let count = usize::from(ipma.u8(at + id_length)?);
        at += id_length + 1;
        // The highest bit marks essential properties.
        let number = |nth: usize| match has_long_numbers {
            true => Some(usize::from(ipma.be16(at + 2 * nth)? & 0x7FFF)),
            false => Some(usize::from(ipma.u8(at + nth)? & 0x7F)),
        };
        if id == item {
            return (0..count).map(number).collect();
        }
        at += count * if has_long_numbers { 2 } else { 1 };
    }
    None
}

/// Rotation by a number of quarter turns, counterclockwise.
const fn quarters(count: u8) -> Orientation {
    match count & 3 {
        1 => Orientation::LEFT,
        3 => Orientation::RIGHT,
        _ => Orientation::UPRIGHT,
    }
}

/// Crops to the whole pixels of a clean aperture. Codecs with even sizes write it for pictures with odd sizes.
fn cut(size: PictureSize, aperture: FileHead<'_>) -> Option<PictureSize> {
    let side = |at: usize| {
        let (dividend, divisor) = (aperture.be32(at)?, aperture.be32(at + 4)?);
        (dividend.checked_rem(divisor)? == 0).then(|| dividend / divisor)
    };
    let cut = PictureSize::new(side(0)?, side(8)?)?;
    (cut.width <= size.width && cut.height <= size.height).then_some(cut)
}
