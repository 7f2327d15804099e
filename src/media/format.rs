//! Detects the format of a file by its first bytes, and reads its size.
//!
//! Only formats that browsers display are read. Other files are cards in the gallery, which need no size.

use super::head::FileHead;
use super::size::PictureSize;
use super::{Picture, boxes, jpeg};
use presign::disposition::passive_type;

/// Whether a gallery displays a file of this name as a picture; other files are not fetched.
pub(super) fn is_picture(name: &str) -> bool {
    passive_type(name).is_some_and(|media_type| media_type.starts_with("image/"))
}

/// Reads a picture's first bytes; `None` if they are malformed, truncated or of an unknown format.
pub(super) fn read(bytes: &[u8]) -> Option<Picture> {
    let head = FileHead::new(bytes);
    if jpeg::is(head) {
        return jpeg::read(head);
    }
    let PictureSize { width, height } = size(head)?;
    Some(Picture {
        width,
        height,
        thumbnail: None,
    })
}

fn size(head: FileHead<'_>) -> Option<PictureSize> {
    match head.bytes() {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => png(head),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => {
            PictureSize::new(head.le16(6)?.into(), head.le16(8)?.into())
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
        _ => None,
    }
}

/// The header is the first chunk, of 13 bytes. <https://www.w3.org/TR/png-3/#11IHDR>
fn png(head: FileHead<'_>) -> Option<PictureSize> {
    let is_header = head.has(8, b"\0\0\0\x0DIHDR");
    is_header.then(|| PictureSize::new(head.be32(16)?, head.be32(20)?))?
}

/// There are three kinds of first chunk. <https://developers.google.com/speed/webp/docs/riff_container>
fn webp(head: FileHead<'_>) -> Option<PictureSize> {
    match head.get(12, 4)? {
        // After the frame tag and a start code; two bits of each side give its scaling. RFC 6386, 9.1
        b"VP8 " if head.has(23, b"\x9D\x01\x2A") => PictureSize::new(
            u32::from(head.le16(26)? & 0x3FFF),
            u32::from(head.le16(28)? & 0x3FFF),
        ),
        b"VP8L" if head.u8(20)? == 0x2F => {
            let bits = head.le32(21)?;
            PictureSize::new((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        }
        b"VP8X" => PictureSize::new(head.le24(24)? + 1, head.le24(27)? + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_extension() {
        for name in [
            "a.jpg",
            "Day 1/IMG_0001.JPG",
            "x.tar.png",
            "a.avif",
            "a.gif",
            "a.webp",
        ] {
            assert!(is_picture(name), "{name}");
        }
        for name in [
            "a.pdf",
            "jpg",
            "a.jpg.zip",
            "a.heic",
            "a.svg",
            "a.tiff",
            "a.",
            "",
        ] {
            assert!(!is_picture(name), "{name}");
        }
    }
}
