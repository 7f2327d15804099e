//! Percent-encoding (RFC 3986, section 2.1) for addresses and notifications. Links have faster encoders of their own in
//! `crates/presign`.

use std::borrow::Cow;
use std::fmt::Write as _;

use presign::percent::decode_lossy;

/// Encodes all but RFC 3986's unreserved characters and those that are `kept`.
pub(crate) fn encode(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    encoded
}

/// Encodes fields as `application/x-www-form-urlencoded`, or as the query of a URL.
pub(crate) fn encode_form(fields: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(&encode(name, b""));
        form.push('=');
        form.push_str(&encode(value, b""));
    }
    form
}

/// Decodes a path. Text that is not an escape stays as it is; bytes that are not UTF-8 become U+FFFD.
pub fn decode(text: &str) -> Cow<'_, str> {
    match memchr::memchr(b'%', text.as_bytes()) {
        Some(_) => decode_lossy(text).into(),
        None => text.into(),
    }
}

/// Decodes a key as notifications and encoded listings spell it: `red+flower%2B.jpg` is `red flower+.jpg`.
pub(crate) fn decode_form(text: &str) -> Cow<'_, str> {
    match memchr::memchr2(b'%', b'+', text.as_bytes()) {
        Some(_) => decode_lossy(&text.replace('+', " ")).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_same(text in "\\PC{0,40}") {
            let encoded = encode(&text, b"");
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
            prop_assert_eq!(decode(&encoded), decode_form(&encoded));
            prop_assert_eq!(decode(&encoded), text);
        }
    }

    #[test]
    fn a_plus_is_a_space_in_forms_alone_and_a_broken_escape_stays() {
        for (encoded, path, form) in [
            ("red+flower%2B.jpg", "red+flower+.jpg", "red flower+.jpg"),
            ("100%", "100%", "100%"),
            ("%zz%4", "%zz%4", "%zz%4"),
            ("%FF", "\u{FFFD}", "\u{FFFD}"),
        ] {
            assert_eq!(
                (decode(encoded), decode_form(encoded)),
                (path.into(), form.into())
            );
        }
        assert_eq!(encode("a@b c", b"@"), "a@b%20c");
        let fields = [("scope", "openid email"), ("a&b", "1+1=2")];
        assert_eq!(encode_form(&fields), "scope=openid%20email&a%26b=1%2B1%3D2");
    }
}
