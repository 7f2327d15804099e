//! Detects the format of a file by its first bytes, as browsers do whatever its name says, and reads its size.
//!
//! Only formats that browsers display are read, and HEIC. Other files are cards in the gallery, which need no size.

use serde::{Deserialize, Serialize};

use super::head::FileHead;
use super::size::PictureSize;
use super::{Picture, bitmap, boxes, gif, jpeg, png};
use presign::disposition::passive_type;

/// What a file with the name of a picture is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureFormat {
    /// A picture that browsers display.
    #[default]
    Displayed,
    /// A picture of the HEIF family, which Apple devices display: cameras and converters give it the name of a JPEG.
    Heic,
    /// Something else: a document, a video, or a picture that no browser displays.
    Other,
}

impl PictureFormat {
    /// Whether this is the usual format of a picture.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a gallery displays a file of this name as a picture; other files are not fetched.
pub(super) fn is_picture(name: &str) -> bool {
    passive_type(name).is_some_and(|media_type| media_type.starts_with("image/"))
}

/// Reads a file's first bytes; `None` if it is a picture whose header is malformed or truncated.
pub(super) fn read(bytes: &[u8]) -> Option<Picture> {
    let head = FileHead::new(bytes);
    match bytes {
        _ if jpeg::is(head) => jpeg::read(head),
        _ if bytes.starts_with(png::SIGNATURE) => png::size(head).map(Picture::of),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => gif::size(head).map(Picture::of),
        _ if head.has(0, b"RIFF") && head.has(8, b"WEBP") => webp(head).map(Picture::of),
        _ if head.has(0, b"BM") => bitmap::bmp_size(head).map(Picture::of),
        _ if head.has(0, b"\0\0\x01\0") => bitmap::icon_size(head).map(Picture::of),
        _ if head.has(4, b"ftyp") => of_brands(head),
        _ => Some(Picture::not_displayed(PictureFormat::Other)),
    }
}

/// Reads a file of the family of MP4, whose brands tell pictures from videos.
fn of_brands(head: FileHead<'_>) -> Option<Picture> {
    let has_any = |wanted: &[&[u8; 4]]| {
        let mut brands = boxes::brands(head);
        brands.any(|brand| wanted.contains(&brand))
    };
    if has_any(&[b"avif", b"avis"]) {
        return boxes::heif_size(head).map(Picture::of);
    }
    let is_heif = has_any(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1",
    ]);
    if !is_heif {
        return Some(Picture::not_displayed(PictureFormat::Other));
    }
    let not_displayed = Picture::not_displayed(PictureFormat::Heic);
    let sized = boxes::heif_size(head).map(|size| Picture {
        format: PictureFormat::Heic,
        ..Picture::of(size)
    });
    Some(sized.unwrap_or(not_displayed))
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
            "a.jfif",
            "a.bmp",
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
