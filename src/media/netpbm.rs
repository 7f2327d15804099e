//! The portable maps of Netpbm: P1 to P6, and P7, which is called PAM. <https://netpbm.sourceforge.net/doc/pnm.html>

use super::head::Head;
use super::size::Size;

/// How far is looked, in bytes: comments may stand before the size.
const MAX_LOOK_BYTES: usize = 4 * 1024;

/// Whether a file may be one.
pub(super) fn may_be(head: Head<'_>) -> bool {
    matches!(head.get(0, 3), Some([b'P', b'1'..=b'7', space]) if space.is_ascii_whitespace())
}

/// Reads its size.
pub(super) fn size(head: Head<'_>) -> Option<Size> {
    let look = head.part(3, MAX_LOOK_BYTES)?.bytes();
    // A number at the very end may go on behind it.
    let end = look.iter().rposition(u8::is_ascii_whitespace)?;
    let words: Vec<&[u8]> = look[..end]
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b'#').next().unwrap_or_default())
        .flat_map(|line| line.split(u8::is_ascii_whitespace))
        .filter(|word| !word.is_empty())
        .take(64)
        .collect();
    match head.u8(1)? {
        b'7' => Size::new(named(&words, b"WIDTH")?, named(&words, b"HEIGHT")?),
        _ => Size::new(number(words.first()?)?, number(words.get(1)?)?),
    }
}

/// The number after a word.
fn named(words: &[&[u8]], name: &[u8]) -> Option<u32> {
    let at = words.iter().position(|word| *word == name)?;
    number(words.get(at + 1)?)
}

fn number(word: &[u8]) -> Option<u32> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
