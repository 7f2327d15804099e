//! JPEG XL: a few bits at the beginning, bare or in a box. ISO/IEC 18181-1, annex D

use super::boxes::boxes;
use super::head::Head;
use super::size::{Orientation, Size};

/// How a bare codestream begins.
pub(super) const CODESTREAM: &[u8] = b"\xFF\x0A";

/// Reads the size in a codestream.
pub(super) fn codestream_size(head: Head<'_>) -> Option<Size> {
    let mut bits = Bits {
        bytes: head.after(CODESTREAM.len())?,
        at: 0,
    };
    let is_small = bits.flag()?;
    let height = bits.side(is_small)?;
    let width = match bits.take(3)? {
        0 => bits.side(is_small)?,
        // Shapes that are so usual that their width is not written.
        1 => height,
        2 => scaled(height, 12, 10)?,
        3 => scaled(height, 4, 3)?,
        4 => scaled(height, 3, 2)?,
        5 => scaled(height, 16, 9)?,
        6 => scaled(height, 5, 4)?,
        _ => scaled(height, 2, 1)?,
    };
    Some(Size::new(width, height)?.turned(bits.orientation()?))
}

/// Reads the size of a file of boxes: the codestream is in one, or begins in the first of several.
pub(super) fn container_size(head: Head<'_>) -> Option<Size> {
    let stream = boxes(head).find_map(|one| match &one.kind {
        b"jxlc" => Some(one.content),
        b"jxlp" => one.content.after(4),
        _ => None,
    })?;
    match stream.has(0, CODESTREAM) {
        true => codestream_size(stream),
        false => None,
    }
}

fn scaled(height: u32, by: u32, over: u32) -> Option<u32> {
    Some(height.checked_mul(by)? / over)
}

/// Bits, the smallest of a byte first.
struct Bits<'a> {
    bytes: Head<'a>,
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    fn take(&mut self, count: usize) -> Option<u32> {
        let mut number = 0;
        for nth in 0..count {
            let byte = self.bytes.u8(self.at / 8)?;
            number |= u32::from(byte >> (self.at % 8) & 1) << nth;
            self.at += 1;
        }
        Some(number)
    }

    /// A side: of a small picture in eights of pixels, else with as many bits as it needs.
    fn side(&mut self, is_small: bool) -> Option<u32> {
        if is_small {
            return Some((self.take(5)? + 1) * 8);
        }
        let length = [9, 13, 18, 30][usize::try_from(self.take(2)?).ok()?];
        Some(self.take(length)? + 1)
    }

    fn orientation(&mut self) -> Option<Orientation> {
        let is_all_default = self.flag()?;
        match !is_all_default && self.flag()? {
            true => Some(Orientation::new(self.take(3)? + 1)),
            false => Some(Orientation::UPRIGHT),
        }
    }
}
