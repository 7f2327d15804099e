//! How a mail says which list it belongs to, and how to leave it (RFC 2919, RFC 2369, RFC 8058).
//!
//! A request to leave carries the recipient's id, as in ledger, audit log and results: a keyed hash, which reveals no
//! address and cannot be guessed.

use lettre::Address;

use super::headers::Headers;
use crate::config::MailingList;
use crate::job::ListId;
use crate::text::percent;

/// Puts the headers of a mail to the recipient with this id. `id` is the job's own list, if it has one. `portal` is the portal's link to
/// leave it, where the configuration names no URL of its own.
pub(super) fn put(
    list: &MailingList,
    id: Option<&ListId>,
    rid: &str,
    portal: Option<String>,
    headers: &mut Headers,
) {
    let id = id.or(list.id.as_ref());
    if let Some(id) = id {
        headers.phrase_and_id("List-Id", id.name.as_deref(), id.id());
    }
    let list_id = id.map_or("", ListId::id);
    // The one-click URL first: by RFC 2369, programs use the first one that they support.
    let url = list.unsubscribe_url.as_ref();
    let url = url.map(|url| url.filled(rid, list_id)).or(portal);
    let url = url.map(|url| format!("<{url}>"));
    let mailto = list.unsubscribe_mailto.as_ref();
    let mailto = mailto.map(|address| format!("<{}>", mailto_url(address, rid, list_id)));
    let one_click = url.is_some();
    let ways: Vec<String> = [url, mailto].into_iter().flatten().collect();
    if !ways.is_empty() {
        headers.put("List-Unsubscribe", ways.join(",\r\n "));
    }
    if one_click {
        headers.put("List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
    }
}

/// A `mailto:` URL (RFC 6068) whose subject names the recipient's id and the list.
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
    use crate::config::UnsubscribeUrl;

    fn lines(list: &MailingList, id: Option<&ListId>) -> String {
        let mut headers = Headers::default();
        put(list, id, "0f1e", None, &mut headers);
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
}
