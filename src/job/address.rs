//! E-mail addresses: one parser with one rule for every address in jobs and configuration.
//!
//! A rule such as `*@acme.example` is about the text of an address; a mail server may read the same text as a route.
//! Postfix with `mydestination = acme.example` sends `ann%evil.example@acme.example` to `evil.example`
//! (`allow_percent_hack`, `swap_bangpath`), Sendmail and Exim know source routes, pipes, files and expansions. So a local
//! part has plain characters only, and a domain is a host name.
//!
//! | before the `@` | |
//! |---|---|
//! | letters, digits, `.` `_` `-` `+` `=` `'` `&` | always accepted, in the form of a dot-atom (RFC 5322) |
//! | `%` `!` `/` `#` `~` | accepted where the configuration names the address literally, see [`must_be_named`] |
//! | everything else: quotation, `@` `:` `\` `\|` `` ` `` `$` `{` `*` …, and `-` `/` `~` as the first character | rejected |

use std::borrow::Cow;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use lettre::Address;

use crate::bounds::{MAX_ADDRESS_BYTES, MAX_LOCAL_PART_BYTES};

/// Why a text is not an accepted address.
///
/// The texts do not repeat the address: errors reach logs, and addresses must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text has no address.
    #[error(
        "is not an e-mail address: write \"ann@acme.example\" or \"Ann Bell <ann@acme.example>\""
    )]
    Form,
    /// The address is too long.
    #[error("is an address of {0} bytes: at most {MAX_ADDRESS_BYTES} are allowed")]
    TooLong(usize),
    /// A character that a mail server may read as more than the name of a mailbox.
    #[error(
        "has {0:?} before its \"@\", which a mail server may read as a route, a command or a quotation: write the plain address of the mailbox"
    )]
    LocalPart(char),
    /// Not a host name.
    #[error(
        "has a domain that is not a host name: write letters, digits and \"-\" with dots between them, as the domain's owner registered it"
    )]
    Domain,
}

/// Reads `ann@acme.example`. The domain of the result is in ASCII, whichever way it was written.
pub fn parse(text: &str) -> Result<Address, AddressError> {
    if text.len() > MAX_ADDRESS_BYTES {
        return Err(AddressError::TooLong(text.len()));
    }
    let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Form)?;
    check_local_part(local)?;
    let domain = ascii_domain(domain).ok_or(AddressError::Domain)?;
    Address::new(local, domain).map_err(|_| AddressError::Form)
}

/// Whether a mail server may read the local part as a route.
///
/// A wildcard never matches such an address: only an `[[allow]]` rule that spells it out does.
pub fn must_be_named(address: &Address) -> bool {
    address.user().contains(may_be_named)
}

const fn may_be_named(c: char) -> bool {
    matches!(c, '%' | '!' | '/' | '#' | '~')
}

fn check_local_part(local: &str) -> Result<(), AddressError> {
    if local.len() > MAX_LOCAL_PART_BYTES || local.split('.').any(str::is_empty) {
        return Err(AddressError::Form);
    }
    // As the first character, an option of a command, a file, a home directory.
    if let Some(first) = local
        .chars()
        .next()
        .filter(|c| matches!(c, '-' | '/' | '~'))
    {
        return Err(AddressError::LocalPart(first));
    }
    let is_plain = |c: char| {
        !c.is_ascii()
            || c.is_ascii_alphanumeric()
            || matches!(c, '.' | '_' | '-' | '+' | '=' | '\'' | '&')
            || may_be_named(c)
    };
    if let Some(found) = local.chars().find(|c| !is_plain(*c)) {
        return Err(AddressError::LocalPart(found));
    }
    // Other characters must be letters as in a domain: a server that normalizes reads a full-width `％` as `%`.
    let mut words = local.split(|c: char| c.is_ascii_punctuation());
    match words.find(|word| !word.is_ascii() && ascii_labels(word).is_none()) {
        None => Ok(()),
        Some(word) => {
            let found = word.chars().find(|c| !c.is_alphanumeric());
            Err(found.map_or(AddressError::Form, AddressError::LocalPart))
        }
    }
}

/// A domain in the form that the DNS and every relay use, so that two spellings are the same recipient.
///
/// It is `xn--bcher-kva.example` for `bücher.example` (UTS 46); an ASCII domain keeps its capitals. `None` is returned
/// for everything that is not a host name (RFC 1123): other characters, an address literal, the digits of an IP address.
pub fn ascii_domain(domain: &str) -> Option<Cow<'_, str>> {
    let ascii = ascii_labels(domain)?;
    let last = ascii.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(if domain.is_ascii() {
        Cow::Borrowed(domain)
    } else {
        ascii
    })
}

/// Labels of letters, digits and hyphens, in ASCII and lower case: 1 to 63 bytes each, 253 in all.
pub(crate) fn ascii_labels(labels: &str) -> Option<Cow<'_, str>> {
    Uts46::new()
        .to_ascii(
            labels.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Check,
            DnsLength::Verify,
        )
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_address_is_accepted() {
        let longest = format!("{}@{}", "l".repeat(64), ["d"; 127].join("."));
        for text in [
            "ann@acme.example",
            "Ann.O'Neil+tag_1-x=y@Acme.Example",
            "r&d@localhost",
            "jörg@acme.example",
            "δοκιμή@acme.example",
            "ann@3com.example",
            "ann@xn--bcher-kva.example",
            longest.as_str(),
        ] {
            let address = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(AsRef::<str>::as_ref(&address), text);
            assert!(!must_be_named(&address), "{text}");
        }
    }

    #[test]
    fn an_address_that_a_mail_server_may_route_must_be_named() {
        for local in [
            "victim%evil.example",
            "evil.example!victim",
            "a/b",
            "ann#EXT#",
            "a~b",
            "%",
            "!",
        ] {
            assert!(
                must_be_named(&parse(&format!("{local}@acme.example")).unwrap()),
                "{local}"
            );
        }
    }

    #[test]
    fn a_local_part_with_a_meaning_of_its_own_is_rejected() {
        for local in [
            "\"ann\"",
            "\"a b\"",
            "\"victim@evil.example\"",
            "victim@evil.example",
            "@evil.example:victim",
            "evil.example:victim",
            ":include:/etc/passwd",
            "-oQ/tmp",
            "|id",
            "a|id",
            "/etc/passwd",
            "~root",
            "\\ann",
            "${run{id}}",
            "$HOME",
            "a`id`",
            "{a,b}",
            "*",
            "a?",
            "a^b",
            "a,b",
            "a;b",
            "(x)ann",
            "ann(x)",
            "<ann",
            "[a]",
            "a b",
            "a\tb",
            "",
            ".ann",
            "ann.",
            "a..b",
            "ann\u{7f}",
            "a\0b",
            "victim％evil.example",
            "victim＠evil",
            "evil！victim",
            "c℅o",
            "a\u{a0}b",
            "a\u{3000}b",
            "\u{200b}ann",
            "a\u{2028}b",
            "a∕b",
            "…",
        ] {
            assert!(
                parse(&format!("{local}@acme.example")).is_err(),
                "{local:?}"
            );
        }
        assert!(parse(&format!("{}@acme.example", "l".repeat(65))).is_err());
    }

    #[test]
    fn a_domain_that_is_no_host_name_is_rejected() {
        let long_label = format!("{}.example", "d".repeat(64));
        let long = ["d"; 128].join(".");
        for domain in [
            "acme#.example",
            "acme%evil.example",
            "acme`id`.example",
            "ac me.example",
            "ac_me.example",
            "acme!.example",
            "acme/x.example",
            "acme\\.example",
            "acme$.example",
            "acme;.example",
            "acme,evil.example",
            "acme:25",
            "acme.example.",
            ".acme.example",
            "acme..example",
            "-acme.example",
            "acme-.example",
            "",
            ".",
            "[1.2.3.4]",
            "[IPv6:::1]",
            "1.2.3.4",
            "acme.1",
            "acme.example\n",
            "acme.example>",
            "\"acme\"",
            "xn--a.example",
            "xn--",
            "acme＃.example",
            "acme％evil.example",
            "ac＿me.example",
            "ac\u{a0}me.example",
            "℀cme.example",
            "-ü.example",
            "ü..example",
            "acme.example\u{200b}\u{0}",
            "acme|.example",
            "acme~.example",
            "acme=.example",
            "acme+.example",
            "acme*.example",
            "acme(x).example",
            "acme'.example",
            "acme&.example",
            "acme<.example",
            "acme?.example",
            long_label.as_str(),
            long.as_str(),
        ] {
            assert_eq!(
                parse(&format!("ann@{domain}")),
                Err(AddressError::Domain),
                "{domain:?}"
            );
        }
    }

    #[test]
    fn an_error_does_not_repeat_the_address() {
        for text in [
            "secret at acme.example",
            "\"secret\"@acme.example",
            "secret@acme_.example",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                !error.contains("secret") && !error.contains("acme_"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_a_dot_atom_at_a_host_name(text in r#"[a-zA-Z0-9.!#%&'*+/=?^_`{|}~"@\\:,;<>() ％é-]{0,12}@[a-zA-Z0-9.!#%_`é［＃。 -]{0,12}"#) {
            if let Ok(address) = parse(&text) {
                let is_label = |label: &str| {
                    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                };
                prop_assert!(address.domain().split('.').all(is_label));
                let has_meaning = address.user().contains(['"', '@', ':', '\\', '|', '`', '$', '{', ' ', '％']);
                prop_assert!(!has_meaning);
            }
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _verdict = parse(&text);
        }
    }
}
