//! How a mail says which list it belongs to, and how to leave it (RFC 2919, RFC 2369, RFC 8058).
//!
//! Who asks to leave is told by the recipient's id, the one of ledger, audit log and results: a keyed hash, which is
//! nobody's address and cannot be guessed.

use lettre::Address;

use super::headers::Headers;
use crate::job::ListId;
use crate::text::percent;

/// The longest URL in a header, in bytes. It cannot be folded, and no line may pass 998.
const MAX_URL_BYTES: usize = 900;

/// What stands for the recipient's id in the URL.
const RID: &str = "{{rid}}";

/// What stands for the list's id in the URL.
const LIST: &str = "{{list}}";

/// The longest that either can be, in bytes.
const MAX_RID_BYTES: usize = 32;
const MAX_LIST_BYTES: usize = 255;

/// The list that mails belong to, and the ways to leave it.
#[derive(Debug, Clone, Default)]
pub struct MailingList {
    /// Which one, where a job does not say it.
    pub id: Option<ListId>,
    /// Who takes mails that ask to leave it.
    pub unsubscribe_mailto: Option<Address>,
    /// What takes requests that ask to leave it.
    pub unsubscribe_url: Option<UnsubscribeUrl>,
}

/// The URL to which a mail program sends a POST when its reader presses "unsubscribe", with a place for the reader's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeUrl(String);

/// Why a text is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsubscribeUrlError {
    /// Not a URL, or not https, or with characters that a header cannot carry.
    #[error(
        "is not an https URL in ASCII: write one like \"https://sender.example/unsubscribe/{{{{rid}}}}\""
    )]
    Form,
    /// Nobody could tell who asks.
    #[error(
        "has no {{{{rid}}}} in it: without the recipient's id nobody can tell who wants to leave"
    )]
    Anonymous,
    /// Longer than a header's line.
    #[error(
        "is too long: filled in, it may have {MAX_URL_BYTES} bytes, since no header can fold it"
    )]
    TooLong,
}

impl UnsubscribeUrl {
    /// Reads the template of the URL.
    pub fn parse(template: &str) -> Result<Self, UnsubscribeUrlError> {
        let url = Self(template.to_owned());
        if !template.contains(RID) {
            return Err(UnsubscribeUrlError::Anonymous);
        }
        let longest = url.filled(&"0".repeat(MAX_RID_BYTES), &"l".repeat(MAX_LIST_BYTES));
        if longest.len() > MAX_URL_BYTES {
            return Err(UnsubscribeUrlError::TooLong);
        }
        // In a header, a comma ends a URL (RFC 2369, section 2), and brackets are around it.
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

    /// Whether it tells one list from another.
    pub fn names_list(&self) -> bool {
        self.0.contains(LIST)
    }

    fn filled(&self, rid: &str, list: &str) -> String {
        self.0.replace(RID, rid).replace(LIST, list)
    }
}

impl MailingList {
    /// Puts the headers of a mail to the recipient with this id. `id` is the job's own list, if it has one.
    pub(super) fn put(&self, id: Option<&ListId>, rid: &str, headers: &mut Headers) {
        let id = id.or(self.id.as_ref());
        if let Some(id) = id {
            headers.phrase_and_id("List-Id", id.name.as_deref(), id.id());
        }
        let list = id.map_or("", ListId::id);
        // The one-click URL first: RFC 2369 has programs take the first that they know.
        let url = self.unsubscribe_url.as_ref();
        let url = url.map(|url| format!("<{}>", url.filled(rid, list)));
        let mailto = self.unsubscribe_mailto.as_ref();
        let mailto = mailto.map(|address| format!("<{}>", mailto_url(address, rid, list)));
        let one_click = url.is_some();
        let ways: Vec<String> = [url, mailto].into_iter().flatten().collect();
        if !ways.is_empty() {
            headers.put("List-Unsubscribe", ways.join(",\r\n "));
        }
        if one_click {
            headers.put("List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
        }
    }
}

/// A `mailto:` URL (RFC 6068) whose subject says who wants to leave what.
fn mailto_url(address: &Address, rid: &str, list: &str) -> String {
    let user = percent::encode(address.user(), b"");
    let list = match list {
        "" => String::new(),
        list => format!("%20{list}"),
    };
    format!(
        "mailto:{user}@{}?subject=unsubscribe%20{rid}{list}",
        address.domain()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(list: &MailingList, id: Option<&ListId>) -> String {
        let mut headers = Headers::default();
        list.put(id, "0f1e", &mut headers);
        headers
            .iter()
            .map(super::super::headers::Header::line)
            .collect()
    }

    #[test]
    fn a_mail_says_what_it_belongs_to_and_how_to_leave() {
        let mut list = MailingList::default();
        assert_eq!(lines(&list, None), "");
        list.id = Some("Täglich <daily.sender.example>".parse().unwrap());
        list.unsubscribe_mailto = Some("leave+us@sender.example".parse().unwrap());
        let by_mail = lines(&list, None);
        let url = "https://sender.example/u?who={{rid}}&what={{list}}";
        list.unsubscribe_url = Some(UnsubscribeUrl::parse(url).unwrap());
        let weekly = "weekly.sender.example".parse().unwrap();
        insta::assert_snapshot!(by_mail + &lines(&list, Some(&weekly)), @r"
        List-Id: =?utf-8?b?VMOkZ2xpY2g=?= <daily.sender.example>
        List-Unsubscribe: <mailto:leave%2Bus@sender.example?subject=unsubscribe%200f1e%20daily.sender.example>
        List-Id: <weekly.sender.example>
        List-Unsubscribe: <https://sender.example/u?who=0f1e&what=weekly.sender.example>,
         <mailto:leave%2Bus@sender.example?subject=unsubscribe%200f1e%20weekly.sender.example>
        List-Unsubscribe-Post: List-Unsubscribe=One-Click
        ");
    }

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
