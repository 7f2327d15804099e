//! The cover that a video of the MP4 family carries. No frame of the video is decoded.
//!
//! Programs that cut and publish videos store a JPEG or PNG in the metadata: `moov/udta/meta/ilst/covr`. Cameras and phones store none.
//! Boxes: ISO/IEC 14496-12, 4.2; the list of metadata: the file format of `QuickTime`, "User data".

use std::ops::Range;

use super::boxes::{boxes, find};
use super::head::FileHead;

/// How many bytes tell the type and the length of a box.
pub const BOX_HEAD_BYTES: u64 = 16;

/// How many boxes of a file are looked at: a camera's file has four or five.
pub const MAX_FILE_BOXES: usize = 16;

/// The most bytes of the box with the metadata. The tables of an hour take about two megabytes.
const MAX_MOVIE_BYTES: u64 = 8 * 1024 * 1024;

/// Whether a file of this name may carry a cover.
pub fn may_have_poster(name: &str) -> bool {
    let (_, extension) = name.rsplit_once('.').unwrap_or_default();
    ["mp4", "m4v", "mov"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// What the head of a box of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileBox {
    /// It has the metadata, in this range of the file.
    Movie(Range<u64>),
    /// It is another; the next begins here.
    Other(u64),
}

/// Reads the head of the box at an offset of a file of `size` bytes; `None` if it is malformed, the last, or too large to be read.
pub fn file_box(head: &[u8], at: u64, size: u64) -> Option<FileBox> {
    let head = FileHead::new(head);
    let length = match u64::from(head.be32(0)?) {
        // Up to the end of the file.
        0 => size - at,
        1 => head.be64(8)?,
        length => length,
    };
    let end = at
        .checked_add(length)
        .filter(|end| length >= 8 && *end <= size)?;
    if head.has(4, b"moov") {
        return (length <= MAX_MOVIE_BYTES).then_some(FileBox::Movie(at..end));
    }
    (end < size).then_some(FileBox::Other(end))
}

/// The cover in the box with the metadata.
pub fn cover(movie: &[u8]) -> Option<&[u8]> {
    let movie = find(FileHead::new(movie), b"moov")?;
    let user = find(movie, b"udta")?;
    let meta = find(user, b"meta")?;
    // With the version and flags of MP4, or without as in QuickTime.
    let list = find(meta.after(4)?, b"ilst").or_else(|| find(meta, b"ilst"))?;
    let covers = find(list, b"covr")?;
    let mut data = boxes(covers).filter(|part| part.kind == *b"data");
    // A type and a language precede the bytes.
    let bytes = data.next()?.content.after(8)?.bytes();
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 8).unwrap();
        [&length.to_be_bytes(), &kind[..], content].concat()
    }

    fn movie(meta_prefix: &[u8], cover: &[u8]) -> Vec<u8> {
        let data = boxed(b"data", &[&[0, 0, 0, 13, 0, 0, 0, 0], cover].concat());
        let list = boxed(
            b"ilst",
            &[boxed(b"\xA9too", b"x"), boxed(b"covr", &data)].concat(),
        );
        let handler = boxed(b"hdlr", b"mdir");
        let meta = boxed(b"meta", &[meta_prefix, &handler, &list].concat());
        let user = boxed(b"udta", &meta);
        boxed(b"moov", &[boxed(b"mvhd", &[0; 100]), user].concat())
    }

    #[test]
    fn the_cover_of_a_video_is_found_wherever_its_metadata_is() {
        for prefix in [&[0; 4][..], &[]] {
            assert_eq!(cover(&movie(prefix, b"a cover")), Some(&b"a cover"[..]));
        }
        let movie = movie(&[0; 4], b"a cover");
        let media = boxed(b"mdat", &[7; 1000]);
        let (start, end) = (
            [boxed(b"ftyp", b"isom"), movie.clone(), media.clone()],
            [boxed(b"ftyp", b"isom"), media, movie.clone()],
        );
        for file in [start.concat(), end.concat()] {
            let (mut at, size) = (0, file.len() as u64);
            let found = loop {
                let begin = usize::try_from(at).unwrap();
                let head = &file[begin..file.len().min(begin + 16)];
                match file_box(head, at, size).unwrap() {
                    FileBox::Movie(range) => break range,
                    FileBox::Other(next) => at = next,
                }
            };
            let found = usize::try_from(found.start).unwrap()..usize::try_from(found.end).unwrap();
            assert_eq!(&file[found], &movie);
        }
    }

    #[test]
    fn a_malformed_video_has_no_cover() {
        let whole = movie(&[0; 4], b"a cover");
        for cut in 0..whole.len() - 7 {
            assert_eq!(
                cover(&whole[..cut]).filter(|found| *found == b"a cover"),
                None
            );
        }
        for (head, size) in [
            (&b"\0\0\0\x07moov"[..], 100),
            (b"\0\0\0\xFFmdat", 100),
            (b"\0\0\0\x64mdat", 100),
            (b"\0\0\0\x01moov\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 100),
            (b"\0\0\0\x01moov", 100),
            (b"\0\0\0\0mdat", 100),
            (b"\x7F\0\0\0moov", 1 << 40),
            (b"", 100),
        ] {
            assert_eq!(file_box(head, 0, size), None, "{head:?}");
        }
        assert!(
            may_have_poster("a/B.MOV") && !may_have_poster("mp4") && !may_have_poster("a.webm")
        );
    }
}
