//! Fits a mail into its budget: Gmail clips a message at about 102 KB, and hides the remaining files.

use super::super::RenderError;

/// Renders the HTML with as many rows as the budget allows; returns their number and the HTML.
pub(super) fn fit(
    most: usize,
    budget_bytes: usize,
    file: &str,
    mut render: impl FnMut(usize) -> Result<String, RenderError>,
) -> Result<(usize, String), RenderError> {
    let whole = render(most)?;
    let mut bytes = encoded_len(&whole);
    if bytes <= budget_bytes {
        return Ok((most, whole));
    }
    let mut best = None;
    // Fewer rows make a shorter mail, except for the line that a folder gets when its last row is dropped. The result of the
    // binary search always fits, and is at most one row below the maximum.
    let (mut fewer, mut too_many) = (0, most);
    while fewer < too_many {
        let count = usize::midpoint(fewer, too_many);
        let html = render(count)?;
        bytes = encoded_len(&html);
        if bytes <= budget_bytes {
            best = Some((count, html));
            fewer = count + 1;
        } else {
            too_many = count;
        }
    }
    // If nothing fits, the last attempt had no rows.
    best.ok_or_else(|| RenderError::TooLarge {
        file: format!("{file}.hbs"),
        bytes,
        budget: budget_bytes,
    })
}

/// The maximum length of a text in quoted-printable, as a mail with long lines is sent.
///
/// `=` and every byte outside of ASCII take three bytes, and so may a space before a line's end; a line break takes two. Lines
/// end after 73 to 75 bytes, because escapes are not split, and a soft line break takes another three. RFC 2045 6.7.
pub(super) fn encoded_len(text: &str) -> usize {
    let byte_len = |byte| match byte {
        b'\n' => 2,
        b'=' => 3,
        b' '..=b'~' => 1,
        _ => 3,
    };
    let bytes: usize = text.bytes().map(byte_len).sum();
    let ending_in_space = text.matches(" \n").count() + usize::from(text.ends_with(' '));
    let encoded = bytes + ending_in_space * 2;
    encoded + encoded / 73 * 3
}

#[cfg(test)]
mod tests {
    use lettre::message::SinglePart;
    use lettre::message::header::{ContentTransferEncoding, ContentType};
    use proptest::prelude::*;

    use super::*;

    /// A mail with rows of a hundred bytes each, after a head of a thousand.
    fn fitted(most: usize, budget_bytes: usize) -> Result<usize, RenderError> {
        let mut tries = 0;
        let fitted = fit(most, budget_bytes, "email/x/body.html", |rows| {
            tries += 1;
            assert!(tries < 12, "a mail is not rendered without end");
            Ok("x".repeat(1000 + rows * 100))
        });
        fitted.map(|(rows, html)| {
            assert_eq!(html.len(), 1000 + rows * 100);
            rows
        })
    }

    #[test]
    fn as_many_rows_are_shown_as_fit() {
        assert_eq!(fitted(200, 90_000).unwrap(), 200);
        assert_eq!(fitted(200, 11_600).unwrap(), 101);
        assert_eq!(fitted(200, 1150).unwrap(), 1);
        assert_eq!(fitted(200, 1100).unwrap(), 0);
        assert_eq!(fitted(1, 1100).unwrap(), 0);
    }

    #[test]
    fn what_is_too_long_without_a_row_is_an_error() {
        for most in [0, 1, 200] {
            let error = fitted(most, 900).unwrap_err();
            // A thousand bytes, and three for the end of each 73.
            assert!(
                matches!(
                    error,
                    RenderError::TooLarge {
                        bytes: 1039,
                        budget: 900,
                        ..
                    }
                ),
                "{error}"
            );
        }
    }

    /// As the mailer encodes it.
    fn sent(text: &str) -> usize {
        let part = SinglePart::builder()
            .header(ContentType::TEXT_HTML)
            .header(ContentTransferEncoding::QuotedPrintable)
            .body(text.to_owned());
        let formatted = part.formatted();
        let head = formatted.windows(4).position(|end| end == b"\r\n\r\n");
        formatted.len() - head.unwrap() - 4
    }

    proptest! {
        #[test]
        fn a_mail_is_never_longer_than_was_reckoned(text in r"([ -~]|=|é|🎈| \n|\n){0,600}") {
            let (sent, reckoned) = (sent(&text), encoded_len(&text));
            // lettre terminates a body's last line if the text does not.
            prop_assert!(sent <= reckoned + 2, "{sent} > {reckoned}: {text:?}");
        }
    }

    #[test]
    fn a_space_at_the_end_is_reckoned_too() {
        for text in [" ", "a ", "a \nb "] {
            assert!(sent(text) <= encoded_len(text) + 2, "{text:?}");
        }
    }

    #[test]
    fn and_hardly_shorter() {
        let text = "<td style=\"padding:14px 0\">Straße = 12 €</td>\n".repeat(500);
        let (sent, reckoned) = (sent(&text), encoded_len(&text));
        assert!(sent > reckoned * 9 / 10, "{sent} of {reckoned}");
    }
}
