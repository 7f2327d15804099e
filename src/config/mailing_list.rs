//! The mailing list of the mails, and how to unsubscribe from it (RFC 2919, RFC 2369, RFC 8058).

use lettre::Address;

use crate::job::ListId;

/// The maximum length of a URL in a header, in bytes. It cannot be folded, and a line has at most 998.
const MAX_URL_BYTES: usize = 900;

/// The placeholder of the recipient's id in the URL.
const RID: &str = "{{rid}}";

/// The placeholder of the list's id in the URL.
const LIST: &str = "{{list}}";

/// The maximum length of either, in bytes.
const MAX_RID_BYTES: usize = 32;
const MAX_LIST_BYTES: usize = 255;

/// The mailing list of the mails, and how to unsubscribe from it.
#[derive(Debug, Clone, Default)]
pub struct MailingList {
    /// The list's id, for jobs that set none.
    pub id: Option<ListId>,
    /// The address for unsubscribe mails.
    pub unsubscribe_mailto: Option<Address>,
    /// The URL for unsubscribe requests.
    pub unsubscribe_url: Option<UnsubscribeUrl>,
}

/// The URL to which a mail program sends a POST request when its reader unsubscribes, with a placeholder for the recipient's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeUrl(String);

/// Why a text is not a valid unsubscribe URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsubscribeUrlError {
    /// Not a URL, or not https, or with characters that a header cannot carry.
    #[error(
        "is not an https URL in ASCII: write one like \"https://sender.example/unsubscribe/{{{{rid}}}}\""
    )]
    Form,
    /// The URL does not identify the recipient.
    #[error(
        "has no {{{{rid}}}} in it: without the recipient's id, an unsubscribe request does not name its recipient"
    )]
    Anonymous,
    /// The URL does not fit into a header line.
    #[error(
        "is too long: filled in, it may have {MAX_URL_BYTES} bytes, since no header can fold it"
    )]
    TooLong,
}

impl UnsubscribeUrl {
    /// Parses the template of the URL.
    pub fn parse(template: &str) -> Result<Self, UnsubscribeUrlError> {
        let url = Self(template.to_owned());
        if !template.contains(RID) {
            return Err(UnsubscribeUrlError::Anonymous);
        }
        let longest = url.filled(&"0".repeat(MAX_RID_BYTES), &"l".repeat(MAX_LIST_BYTES));
        if longest.len() > MAX_URL_BYTES {
            return Err(UnsubscribeUrlError::TooLong);
        }
        // In a header, a comma ends a URL (RFC 2369, section 2), and angle brackets enclose it.
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | '{' | '}');
        let parsed = longest.parse::<hyper::Uri>().ok();
        let is_https = parsed.is_some_and(|url| {
            url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty())
        });
        match is_https && longest.chars().all(is_plain) {
            true => Ok(url),
            false => Err(UnsubscribeUrlError::Form),
        }
    }

    /// Whether the URL contains the list's id.
    pub fn names_list(&self) -> bool {
        self.0.contains(LIST)
    }

    pub(crate) fn filled(&self, rid: &str, list: &str) -> String {
        self.0.replace(RID, rid).replace(LIST, list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_no_header_could_carry_is_refused() {
        let parse = UnsubscribeUrl::parse;
        let long = |length: usize| format!("https://x.example/{{{{rid}}}}{}", "a".repeat(length));
        let most = MAX_URL_BYTES - "https://x.example/".len() - MAX_RID_BYTES;
        assert!(parse(&long(most)).is_ok());
        assert_eq!(parse(&long(most + 1)), Err(UnsubscribeUrlError::TooLong));
        assert_eq!(
            parse("https://x.example/"),
            Err(UnsubscribeUrlError::Anonymous)
        );
        for url in [
            "http://x.example/{{rid}}",
            "{{rid}}",
            "https:///{{rid}}",
            "https://x.example/{{rid}} b",
            "https://x.example/{{rid}},b",
            "https://x.example/{{rid}}>",
            "https://x.example/{{rid}}\r\nBcc: y",
            "https://x.example/{{rid}}/{{name}}",
            "https://bücher.example/{{rid}}",
        ] {
            assert_eq!(parse(url), Err(UnsubscribeUrlError::Form), "{url}");
        }
    }
}
