//! Crockford's base32 in lower case, read without regard to case: mail systems change the case of addresses and URLs.
//!
//! `O` is read as `0`, `I` and `L` as `1`. <https://www.crockford.com/base32.html>

/// The alphabet: without `i`, `l`, `o` and `u`.
pub(crate) const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// How many letters so many bytes have.
pub(crate) const fn letters_of(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// The letters of some bytes. `LETTERS` is what [`letters_of`] says.
pub(crate) fn spell<const BYTES: usize, const LETTERS: usize>(
    bytes: &[u8; BYTES],
) -> [u8; LETTERS] {
    let mut letters = [0; LETTERS];
    let (mut held, mut bits) = (0_u32, 0);
    let mut bytes = bytes.iter();
    for letter in &mut letters {
        if bits < 5 {
            // The last letter may have more bits than there are.
            held = (held << 8) | u32::from(bytes.next().copied().unwrap_or_default());
            bits += 8;
        }
        bits -= 5;
        *letter = ALPHABET[(held >> bits) as usize & 31];
        held &= (1 << bits) - 1;
    }
    letters
}

/// The bytes of a text, if it is the spelling of so many.
pub(crate) fn read<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != letters_of(BYTES) {
        return None;
    }
    let mut bytes = [0; BYTES];
    let (mut held, mut bits, mut at) = (0_u32, 0, 0);
    for letter in text.bytes() {
        held = (held << 5) | u32::from(value(letter)?);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes[at] = u8::try_from(held >> bits & 255).ok()?;
            at += 1;
            held &= (1 << bits) - 1;
        }
    }
    // Another last letter would be another spelling of the same bytes.
    (held == 0).then_some(bytes)
}

/// The value of a letter.
pub(crate) fn value(letter: u8) -> Option<u8> {
    let letter = match letter.to_ascii_lowercase() {
        b'o' => b'0',
        b'i' | b'l' => b'1',
        letter => letter,
    };
    let at = ALPHABET.iter().position(|known| *known == letter)?;
    u8::try_from(at).ok()
}
