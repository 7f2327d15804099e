//! Cleans keys: white space from an env file, a mounted secret or a clipboard is removed, and a text that cannot be a key is
//! rejected before it signs links that do not open.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;

/// Removes white space from the ends of the keys, and rejects keys with characters that no key has.
///
/// An id and a token are part of URLs and headers, so they are printable ASCII without spaces. A secret may be any text of
/// one line: S3-compatible servers let operators choose it.
///
/// # Errors
///
/// One sentence that names the part and the character in it, and never the part itself.
pub(crate) fn clean(given: Credentials) -> Result<Credentials, CredentialsError> {
    let id = part("access key id", given.access_key_id(), true)?;
    let secret = part("secret access key", given.secret_access_key(), false)?;
    let token = given.session_token();
    let token = token
        .map(|token| part("session token", token, true))
        .transpose()?;
    let is_clean = id == given.access_key_id()
        && secret == given.secret_access_key()
        && token == given.session_token();
    if is_clean {
        return Ok(given);
    }
    let mut cleaned = Credentials::builder()
        .access_key_id(id)
        .secret_access_key(secret)
        .provider_name("handout-trimmed");
    cleaned.set_session_token(token.map(ToOwned::to_owned));
    cleaned.set_expiry(given.expiry());
    Ok(cleaned.build())
}

/// Why a key is rejected.
#[derive(Debug, thiserror::Error)]
#[error("the {name} {what}: write it without quotation marks, spaces and line ends")]
struct Unclean {
    name: &'static str,
    what: &'static str,
}

fn part<'a>(
    name: &'static str,
    text: &'a str,
    is_token: bool,
) -> Result<&'a str, CredentialsError> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let what = match text {
        "" => "is empty",
        _ if text.contains(['\n', '\r']) => "holds a line end",
        _ if text.contains(|c: char| c.is_control()) => "holds a control character",
        _ if is_quoted(text) => "is in quotation marks",
        _ if is_token && text.contains(char::is_whitespace) => "holds a space",
        _ if is_token && !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "holds a character that is not ASCII"
        }
        _ if is_token && text.contains(['"', '\'']) => "holds a quotation mark",
        _ => return Ok(text),
    };
    Err(CredentialsError::invalid_configuration(Unclean {
        name,
        what,
    }))
}

fn is_quoted(text: &str) -> bool {
    ['"', '\'', '`'].iter().any(|mark| {
        let inner = text.strip_prefix(*mark);
        inner.is_some_and(|inner| inner.ends_with(*mark))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::chain;

    #[test]
    fn what_stands_around_a_key_is_taken_away_and_what_is_in_it_is_refused() {
        let read = |id: &str, secret: &str, token: Option<&str>| {
            let given = Credentials::new(id, secret, token.map(ToOwned::to_owned), None, "test");
            match clean(given) {
                Ok(clean) => format!(
                    "{:?} {:?} {:?}",
                    clean.access_key_id(),
                    clean.secret_access_key(),
                    clean.session_token()
                ),
                Err(error) => {
                    let said = chain(&error);
                    let (what, advice) = said.rsplit_once(": ").unwrap();
                    assert!(advice.starts_with("write it without"), "{advice}");
                    what.rsplit_once(": ").unwrap().1.to_owned()
                }
            }
        };
        let table = [
            read("AKIA", "s/+=", None),
            read("AKIA\n", " s\r\n", Some("t\n")),
            read("\u{feff}AKIA", "\u{a0}s\u{feff}", Some("\tt ")),
            read("AK\nIA", "s", None),
            read("AK IA", "s", None),
            read("AK\u{7f}IA", "s", None),
            read("\"AKIA\"", "s", None),
            read("'AKIA'", "s", None),
            read("AKIA\"", "s", None),
            read("ÅKIA", "s", None),
            read(" \n", "s", None),
            read("AKIA", "s\nt", None),
            read("AKIA", "'s'", None),
            read("AKIA", "pass wörd", None),
            read("AKIA", "", None),
            read("AKIA", "s", Some("t t")),
            read("AKIA", "s", Some("  ")),
        ];
        insta::assert_snapshot!(table.join("\n"), @r#"
        "AKIA" "s/+=" None
        "AKIA" "s" Some("t")
        "AKIA" "s" Some("t")
        the access key id holds a line end
        the access key id holds a space
        the access key id holds a control character
        the access key id is in quotation marks
        the access key id is in quotation marks
        the access key id holds a quotation mark
        the access key id holds a character that is not ASCII
        the access key id is empty
        the secret access key holds a line end
        the secret access key is in quotation marks
        "AKIA" "pass wörd" None
        the secret access key is empty
        the session token holds a space
        the session token is empty
        "#);
    }

    #[test]
    fn the_end_of_a_session_stays_with_its_trimmed_keys() {
        let end = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(9);
        let given = Credentials::new("id\n", "s", Some("t".to_owned()), Some(end), "test");
        assert_eq!(clean(given).unwrap().expiry(), Some(end));
    }
}
