//! Which format a file has, by its first bytes, and where each keeps its size.

use presign::disposition::extension;

use super::head::Head;
use super::size::Size;
use super::{Picture, boxes, jpeg, jxl, netpbm, svg, tiff};

/// Extensions of files that are read; of others, not a byte is asked for.
const EXTENSIONS: [&str; 40] = [
    "apng", "avif", "bmp", "bw", "cur", "dds", "dib", "gif", "heic", "heif", "hif", "ico", "j2c",
    "j2k", "jfif", "jp2", "jpc", "jpe", "jpeg", "jpf", "jpg", "jpx", "jxl", "pam", "pbm", "pcx",
    "pgm", "png", "pnm", "ppm", "psb", "psd", "qoi", "rgb", "rgba", "sgi", "svg", "tif", "tiff",
    "webp",
];

/// Whether a file of this name is taken for a picture.
pub(super) fn is_picture(name: &str) -> bool {
    let extension = extension(name).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.binary_search(&extension.as_str()).is_ok())
}

/// Reads what a picture's first bytes tell. What is odd, cut off or of no known format is not known.
pub(super) fn read(bytes: &[u8]) -> Option<Picture> {
    let head = Head::new(bytes);
    if jpeg::is(head) {
        return jpeg::read(head);
    }
    let Size { width, height } = size(head)?;
    Some(Picture {
        width,
        height,
        thumbnail: None,
    })
}

fn size(head: Head<'_>) -> Option<Size> {
    match head.bytes() {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => png(head),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => {
            Size::new(head.le16(6)?.into(), head.le16(8)?.into())
        }
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => webp(head),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => boxes::heif_size(head),
        [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => jxl::container_size(head),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => boxes::jp2_size(head),
        [0xFF, 0x4F, 0xFF, 0x51, ..] => jpeg_2000(head),
        [0xFF, 0x0A, ..] => jxl::codestream_size(head),
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => tiff::size(head),
        [b'B', b'M', ..] => bmp(head),
        [0, 0, 1 | 2, 0, ..] => ico(head),
        [b'8', b'B', b'P', b'S', 0, 1 | 2, ..] => Size::new(head.be32(18)?, head.be32(14)?),
        [b'q', b'o', b'i', b'f', ..] => Size::new(head.be32(4)?, head.be32(8)?),
        [b'D', b'D', b'S', b' ', 124, 0, 0, 0, ..] => Size::new(head.le32(16)?, head.le32(12)?),
        [0x01, 0xDA, 0 | 1, 1 | 2, ..] => Size::new(head.be16(6)?.into(), head.be16(8)?.into()),
        [0x0A, 0 | 2..=5, 0 | 1, 1 | 2 | 4 | 8, ..] => pcx(head),
        _ if netpbm::may_be(head) => netpbm::size(head),
        _ if svg::may_be(head) => svg::size(head),
        _ => None,
    }
}

/// The header is the first chunk, of 13 bytes. <https://www.w3.org/TR/png-3/#11IHDR>
fn png(head: Head<'_>) -> Option<Size> {
    let is_header = head.has(8, b"\0\0\0\x0DIHDR");
    is_header.then(|| Size::new(head.be32(16)?, head.be32(20)?))?
}

/// Three kinds of first chunk. <https://developers.google.com/speed/webp/docs/riff_container>
fn webp(head: Head<'_>) -> Option<Size> {
    match head.get(12, 4)? {
        // After the frame tag and a start code; two bits of each side say how to scale it. RFC 6386, 9.1
        b"VP8 " if head.has(23, b"\x9D\x01\x2A") => Size::new(
            u32::from(head.le16(26)? & 0x3FFF),
            u32::from(head.le16(28)? & 0x3FFF),
        ),
        b"VP8L" if head.u8(20)? == 0x2F => {
            let bits = head.le32(21)?;
            Size::new((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        }
        b"VP8X" => Size::new(head.le24(24)? + 1, head.le24(27)? + 1),
        _ => None,
    }
}

/// Before Windows 3, sides had two bytes. Since then four, and a height below zero is that of rows from the top down.
fn bmp(head: Head<'_>) -> Option<Size> {
    match head.le32(14)? {
        12 => Size::new(head.le16(18)?.into(), head.le16(20)?.into()),
        16..=256 => {
            let height = head.le32(22)?.cast_signed().unsigned_abs();
            Size::new(head.le32(18)?, height)
        }
        _ => None,
    }
}

/// Icons and cursors: the largest of their pictures; a side of 0 is one of 256.
fn ico(head: Head<'_>) -> Option<Size> {
    let side = |at: usize| {
        head.u8(at)
            .map(|side| if side == 0 { 256 } else { u32::from(side) })
    };
    let entries = (0..head.le16(4)?).map(|nth| 6 + 16 * usize::from(nth));
    let sizes = entries.map(|at| Some((side(at)?, side(at + 1)?)));
    let sizes: Vec<(u32, u32)> = sizes.collect::<Option<_>>()?;
    let (width, height) = sizes
        .into_iter()
        .max_by_key(|(width, height)| width * height)?;
    Size::new(width, height)
}

/// Where the picture ends on its grid, less where it begins. <https://www.itu.int/rec/T-REC-T.800> annex A.5.1
fn jpeg_2000(head: Head<'_>) -> Option<Size> {
    Size::new(
        head.be32(8)?.checked_sub(head.be32(16)?)?,
        head.be32(12)?.checked_sub(head.be32(20)?)?,
    )
}

/// The first and the last column and row.
fn pcx(head: Head<'_>) -> Option<Size> {
    let side = |first: usize| {
        let length = head.le16(first + 4)?.checked_sub(head.le16(first)?)?;
        Some(u32::from(length) + 1)
    };
    Size::new(side(4)?, side(6)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_extension() {
        assert!(EXTENSIONS.is_sorted());
        for name in ["a.jpg", "Day 1/IMG_0001.JPG", "x.tar.png", ".heic"] {
            assert!(is_picture(name), "{name}");
        }
        for name in ["a.pdf", "jpg", "a.jpg.zip", "a.", ""] {
            assert!(!is_picture(name), "{name}");
        }
    }
}
