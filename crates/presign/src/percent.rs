//! Percent-encoding (RFC 3986, section 2) as Signature Version 4 requires it, and decoding.
//!
//! A signature covers the encoded text, so client and server must encode alike: unreserved characters are not encoded, every
//! other byte is `%XX` with capital digits, and a space is never `+`.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html#create-canonical-request>

/// Whether each byte value is kept unencoded.
type Plain = [bool; 256];

/// Bytes that a query does not encode: RFC 3986's unreserved characters. A space is never `+`.
const IN_QUERY: Plain = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// Bytes that a path does not encode: the same and the slash.
const IN_PATH: Plain = {
    let mut table = IN_QUERY;
    table[b'/' as usize] = true;
    table
};

/// Appends a key, encoded for a URL's path; slashes are kept.
///
/// ```
/// let mut url = String::from("https://files.example/");
/// presign::percent::push_path("2026/a b+ü.pdf", &mut url);
/// assert_eq!(url, "https://files.example/2026/a%20b%2B%C3%BC.pdf");
/// ```
pub fn push_path(key: &str, out: &mut String) {
    push_escaped(key, &IN_PATH, out);
}

/// Appends a value, encoded for a URL's query; slashes are encoded.
#[inline]
pub fn push_query(value: &str, out: &mut String) {
    push_escaped(value, &IN_QUERY, out);
}

/// Appends `&name=value` to a query, or nothing without a value. The name is not encoded.
///
/// ```
/// let mut query = String::from("list-type=2");
/// presign::percent::push_parameter("prefix", Some("a/b"), &mut query);
/// presign::percent::push_parameter("delimiter", None, &mut query);
/// assert_eq!(query, "list-type=2&prefix=a%2Fb");
/// ```
#[inline]
pub fn push_parameter(name: &str, value: Option<&str>, text: &mut String) {
    if let Some(value) = value {
        text.push('&');
        text.push_str(name);
        text.push('=');
        push_query(value, text);
    }
}

/// `%XX` for each byte value, in order.
const ESCAPES: &str = {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    const TABLE: [u8; 768] = {
        let mut table = [b'%'; 768];
        let mut byte = 0;
        while byte < 256 {
            table[3 * byte + 1] = DIGITS[byte >> 4];
            table[3 * byte + 2] = DIGITS[byte & 15];
            byte += 1;
        }
        table
    };
    match std::str::from_utf8(&TABLE) {
        Ok(escapes) => escapes,
        Err(_) => panic!("an escape is ASCII"),
    }
};

fn escaped(byte: u8) -> &'static str {
    let at = 3 * usize::from(byte);
    &ESCAPES[at..at + 3]
}

/// Appends `text` percent-encoded. Runs of plain characters, the common case, are copied whole.
#[inline]
fn push_escaped(text: &str, plain: &Plain, out: &mut String) {
    // An encoded byte may be part of a multi-byte character; a plain run never ends within one.
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !plain[usize::from(byte)] {
            if from < at {
                out.push_str(&text[from..at]);
            }
            out.push_str(escaped(byte));
            from = at + 1;
        }
    }
    if from < text.len() {
        out.push_str(&text[from..]);
    }
}

/// Decodes the escapes of a path or a parameter; `+` is kept.
///
/// `None` if an escape is broken, or if the decoded bytes are not UTF-8.
///
/// ```
/// assert_eq!(presign::percent::decode("a%20b+c").as_deref(), Some("a b+c"));
/// assert_eq!(presign::percent::decode("100%"), None);
/// ```
pub fn decode(text: &str) -> Option<String> {
    String::from_utf8(decode_bytes(text)?).ok()
}

/// Decodes the escapes of a text to bytes of any charset; `None` if an escape is broken.
pub(crate) fn decode_bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| u8::try_from(char::from(*byte).to_digit(16)?).ok();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => (digit(high)? << 4 | digit(low)?, after),
            (b'%', _) => return None,
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Some(bytes)
}

/// Decodes valid escapes and keeps the rest; bytes that are not UTF-8 become U+FFFD.
///
/// ```
/// assert_eq!(presign::percent::decode_lossy("a%20b, 100%"), "a b, 100%");
/// ```
pub fn decode_lossy(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            let rest = &bytes[at..];
            let plain = rest.iter().position(|byte| *byte == b'%');
            let plain = plain.unwrap_or(rest.len());
            decoded.extend_from_slice(&rest[..plain]);
            at += plain;
            continue;
        }
        let escape = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| Some(nibble(digits[0])? << 4 | nibble(digits[1])?));
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// The value of a hexadecimal digit.
pub(crate) fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_keeps_the_unreserved_and_nothing_else() {
        let mut text = String::new();
        push_escaped("/a b+ü~%2F'(*)", &IN_PATH, &mut text);
        assert_eq!(text, "/a%20b%2B%C3%BC~%252F%27%28%2A%29");
    }
}
