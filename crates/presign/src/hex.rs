//! Lower-case hexadecimal digits, as Signature Version 4 spells hashes and signatures.

/// Spells bytes as lower-case hexadecimal digits.
///
/// ```
/// assert_eq!(presign::hex::hex(b"\x00\xff"), "00ff");
/// ```
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(bytes, &mut text);
    text
}

/// Appends bytes as lower-case hexadecimal digits.
#[inline]
pub fn push_hex(bytes: &[u8], text: &mut String) {
    // Whole hashes at a time: each URL encodes a signature, and pushing single characters is slow.
    let (hashes, rest) = bytes.as_chunks::<32>();
    for hash in hashes {
        text.push_str(std::str::from_utf8(&hex_of(hash)).expect("digits are ASCII"));
    }
    for byte in rest {
        text.extend([digit(byte >> 4), digit(byte & 15)].map(char::from));
    }
}

/// Spells a SHA-256 hash as 64 lower-case hexadecimal digits, without an allocation.
#[inline]
pub fn hex_of(hash: &[u8; 32]) -> [u8; 64] {
    let mut spelled = [0; 64];
    // Arithmetic instead of a table lets the compiler vectorize the loop.
    for (pair, byte) in spelled.as_chunks_mut::<2>().0.iter_mut().zip(hash) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    spelled
}

const fn digit(half: u8) -> u8 {
    half + if half > 9 { b'a' - 10 } else { b'0' }
}
