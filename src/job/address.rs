//! E-mail addresses: one parser with one rule for every address in jobs and configuration.
//!
//! A rule such as `*@acme.example` is about the text of an address; a mail server may read the same text as a route.
//! Postfix with `mydestination = acme.example` sends `ann%evil.example@acme.example` to `evil.example`
//! (`allow_percent_hack`, `swap_bangpath`), Sendmail and Exim know source routes, pipes, files and expansions, and Postfix
//! looks for a route inside quotation marks, too (`resolve_dequoted_address`). So a local part has plain characters, unless
//! the configuration names the address, and a domain is a host name.
//!
//! | before the `@` | |
//! |---|---|
//! | letters, digits, `_` `-` `+` `=` `'` `&`, and `.` between them | always accepted, in the form of a dot-atom (RFC 5322) |
//! | the same in quotation marks, with `.` at any place (RFC 5321, section 4.1.2): `"da.me.."` | always accepted |
//! | `%` `!` `/` `#` `~`, and in quotation marks any printable character, a space, or dots alone | accepted where the configuration names the address literally, see [`must_be_named`] |
//! | everything else: `@` `:` `\` `\|` `` ` `` `$` `{` `*` … without quotation marks, and `-` `/` `~` as the first character | rejected |
//!
//! Quotation marks that change nothing are no part of an address: `"ann"@acme.example` is `ann@acme.example`.

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
    /// Dots as only a quoted local part has them.
    #[error(
        "has a \".\" first or last before its \"@\", or two in a row: put that part into quotation marks, as in '\"ann..b\"@acme.example'"
    )]
    Dots,
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
    let local = canonical_local_part(local)?;
    let domain = ascii_domain(domain).ok_or(AddressError::Domain)?;
    match local.starts_with('"') {
        // lettre refuses letters outside of ASCII there, against RFC 6531, section 3.3. The text was checked above.
        true => Ok(Address::new_dangerous(local, domain)),
        false => Address::new(local, domain).map_err(|_| AddressError::Form),
    }
}

/// The canonical address, which rules, ledger and audit log use.
///
/// ASCII capitals are lower case, and the domain is `xn--bcher-kva.example` for `bücher.example` too. Other letters
/// stay as they are: whether `Ö` and `ö` are the same mailbox is decided by its server. Unicode's rules would turn U+212A
/// into `k`, which may be a different mailbox from the one that a rule names.
pub fn canonical(address: &Address) -> String {
    AsRef::<str>::as_ref(address).to_ascii_lowercase()
}

/// The content of a quoted local part (RFC 5321, section 4.1.2, `Quoted-string`; with RFC 6531, section 3.3); `None` for
/// another text.
pub(crate) fn unquoted(local: &str) -> Option<String> {
    let quoted = local.strip_prefix('"')?.strip_suffix('"')?;
    let mut content = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        let is_pair = c == '\\';
        let c = if is_pair { chars.next()? } else { c };
        let is_text = c == ' ' || c.is_ascii_graphic() || !c.is_ascii();
        if !is_text || (c == '"' && !is_pair) {
            return None;
        }
        content.push(c);
    }
    Some(content)
}

/// Whether a mail server may read the local part as a route, as several words, or as a path.
///
/// A wildcard never matches such an address: only an `[[allow]]` rule that spells it out does.
pub fn must_be_named(address: &Address) -> bool {
    let is_harmless = |c: char| is_plain(c) || c == '.';
    let content = unquoted(address.user());
    let local = content.as_deref().unwrap_or_else(|| address.user());
    // Dots alone are a folder to a server that makes a path of them.
    !local.chars().all(is_harmless) || local.chars().all(|c| c == '.')
}

/// Whether a character never means anything to a mail server.
fn is_plain(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=' | '\'' | '&')
}

const fn may_be_named(c: char) -> bool {
    matches!(c, '%' | '!' | '/' | '#' | '~')
}

/// A local part in its shortest spelling, so that two spellings are the same recipient.
fn canonical_local_part(local: &str) -> Result<Cow<'_, str>, AddressError> {
    if local.len() > MAX_LOCAL_PART_BYTES {
        return Err(AddressError::Form);
    }
    let Some(content) = unquoted(local) else {
        check_words(local)?;
        check_dot_atom(local)?;
        return Ok(Cow::Borrowed(local));
    };
    check_words(&content)?;
    if check_dot_atom(&content).is_ok() {
        return Ok(Cow::Owned(content));
    }
    let escaped = content.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(Cow::Owned(format!("\"{escaped}\"")))
}

fn check_dot_atom(local: &str) -> Result<(), AddressError> {
    let may_stand = |c: char| is_plain(c) || c == '.' || may_be_named(c);
    if let Some(found) = local.chars().find(|c| !may_stand(*c)) {
        return Err(AddressError::LocalPart(found));
    }
    match local.split('.').any(str::is_empty) {
        true => Err(AddressError::Dots),
        false => Ok(()),
    }
}

/// Checks what holds for a local part with and without quotation marks.
fn check_words(local: &str) -> Result<(), AddressError> {
    // As the first character, an option of a command, a file, a home directory.
    match local.chars().next() {
        None => return Err(AddressError::Form),
        Some(first @ ('-' | '/' | '~')) => return Err(AddressError::LocalPart(first)),
        Some(_) => {}
    }
    // Other characters must be letters as in a domain: a server that normalizes reads a full-width `％` as `%`.
    let mut words = local.split(|c: char| c.is_ascii_punctuation() || c == ' ');
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
            "\"",
            "\"\"",
            "\"ann",
            "ann\"",
            "\"a\"b\"",
            "\"a\\\"",
            "\"a\tb\"",
            "\"a\\\tb\"",
            "\"a\u{7f}b\"",
            "\"-oQ/tmp\"",
            "\"/etc/passwd\"",
            "\"~root\"",
            "\"victim％evil\"",
            "\"a\u{2028}b\"",
            "\"a\".b",
            "b.\"a\"",
        ] {
            assert!(
                parse(&format!("{local}@acme.example")).is_err(),
                "{local:?}"
            );
        }
        assert!(parse(&format!("{}@acme.example", "l".repeat(65))).is_err());
    }

    #[test]
    fn a_quoted_local_part_is_accepted_in_its_shortest_spelling() {
        for (local, canonical) in [
            (r#""da.me..""#, r#""da.me..""#),
            (r#"".ann""#, r#"".ann""#),
            (r#""ann.""#, r#""ann.""#),
            (r#""..""#, r#""..""#),
            (r#""ann bell""#, r#""ann bell""#),
            (r#"" ""#, r#"" ""#),
            (r#""ann""#, "ann"),
            (r#""a.n\n""#, "a.nn"),
            (r#""jörg.""#, r#""jörg.""#),
            (r#""jörg""#, "jörg"),
            (r#""a%b""#, "a%b"),
            (r#""a\ .""#, r#""a .""#),
            (r#""a\"b""#, r#""a\"b""#),
            (r#""a\\b""#, r#""a\\b""#),
            (r#""a@b""#, r#""a@b""#),
            (r#""a<b>,;:()[]|`$*?^{}b""#, r#""a<b>,;:()[]|`$*?^{}b""#),
        ] {
            let address = parse(&format!("{local}@acme.example"));
            let address = address.unwrap_or_else(|error| panic!("{local}: {error}"));
            assert_eq!(address.user(), canonical, "{local}");
            let again = parse(address.as_ref());
            assert_eq!(again.as_ref(), Ok(&address), "{local}");
            let is_harmless =
                !canonical.contains(['%', '@', '<', '\\', ' ']) && canonical != "\"..\"";
            assert_eq!(must_be_named(&address), !is_harmless, "{local}");
        }
        for local in ["a..b", ".ann", "ann."] {
            let error = parse(&format!("{local}@acme.example")).unwrap_err();
            assert_eq!(error, AddressError::Dots, "{local}");
        }
        let longest = format!("\"{}.\"@acme.example", "l".repeat(61));
        assert!(parse(&longest).is_ok());
        assert!(parse(&longest.replace('.', "..")).is_err());
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
            "\"secret@acme.example",
            "secret..x@acme.example",
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
        fn what_is_accepted_is_a_mailbox_at_a_host_name_that_reads_as_it_is_written(text in r#"[a-zA-Z0-9.!#%&'*+/=?^_`{|}~"@\\:,;<>() ％é-]{0,12}@[a-zA-Z0-9.!#%_`é［＃。 -]{0,12}"#) {
            if let Ok(address) = parse(&text) {
                let is_label = |label: &str| {
                    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                };
                prop_assert!(address.domain().split('.').all(is_label));
                let has_meaning = |text: &str| text.contains(['"', '@', ':', '\\', '|', '`', '$', '{', '％']);
                let content = unquoted(address.user());
                prop_assert!(content.is_some() || !address.user().contains(' '));
                let local = content.as_deref().unwrap_or(address.user());
                prop_assert!(must_be_named(&address) || !has_meaning(local));
                prop_assert!(must_be_named(&address) || local.contains(|c| c != '.' && c != ' '));
                prop_assert!(must_be_named(&address) || !local.contains(' '));
                prop_assert!(content.is_some() || !has_meaning(local));
                let again = parse(address.as_ref());
                prop_assert_eq!(again.as_ref(), Ok(&address));
            }
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _verdict = parse(&text);
        }
    }
}
