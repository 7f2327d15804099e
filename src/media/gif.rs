//! GIF: the screen, and the first frame on it.
//!
//! <https://www.w3.org/Graphics/GIF/spec-gif89a.txt> 18, 20, 23

use super::head::FileHead;
use super::size::PictureSize;

/// The length of the signature and the screen descriptor.
const SCREEN_LENGTH: usize = 13;

const EXTENSION: u8 = b'!';
const FRAME: u8 = b',';

/// Reads its size: that of the screen, which browsers enlarge for a first frame beyond it.
pub(super) fn size(head: FileHead<'_>) -> Option<PictureSize> {
    let screen = (head.le16(6)?, head.le16(8)?);
    let (width, height) = first_frame(head).unwrap_or_default();
    PictureSize::new(
        u32::from(screen.0).max(width),
        u32::from(screen.1).max(height),
    )
}

/// The right and the lower end of the first frame.
fn first_frame(head: FileHead<'_>) -> Option<(u32, u32)> {
    let mut at = SCREEN_LENGTH + colours(head.u8(10)?);
    // Each extension takes at least three bytes, so the loop ends.
    while head.u8(at)? == EXTENSION {
        at = blocks_end(head, at + 2)?;
    }
    if head.u8(at)? != FRAME {
        return None;
    }
    let end = |offset: usize, length: usize| {
        Some(u32::from(head.le16(at + offset)?) + u32::from(head.le16(at + length)?))
    };
    Some((end(1, 5)?, end(3, 7)?))
}

/// The length of the table of colours that a descriptor's flags announce.
const fn colours(flags: u8) -> usize {
    match flags & 0x80 {
        0 => 0,
        _ => 3 * (2 << (flags & 7)),
    }
}

/// The end of a chain of data blocks, which an empty one ends.
fn blocks_end(head: FileHead<'_>, mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(head.u8(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}
