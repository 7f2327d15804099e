//! Validates what a relay's section says about the login, the headers and the reverse-path.

use std::path::PathBuf;

use lettre::Address;

use super::SmtpConfig;
use crate::config_error::ConfigError;
use crate::job::Recipient;
use crate::text::printable;

/// The longest header with its name, in bytes: a line may have 998 (RFC 5322, section 2.1.1).
const MAX_HEADER_BYTES: usize = 998;

/// The headers that a mail has already, those that the relays on its way add, and those that a relay may send to or by.
const TAKEN: [&str; 18] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "apparently-to",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "auto-submitted",
    "x-auto-response-suppress",
    "return-path",
    "received",
    "authentication-results",
];

/// The same for all headers that begin so.
const TAKEN_FAMILIES: [&str; 7] = [
    "content-",
    "list-",
    "resent-",
    "arc-",
    "dkim-",
    "received-",
    "x-handout-",
];

/// What proves the user name to a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoginSource {
    /// A file with a password.
    PasswordFile(PathBuf),
    /// A file with an OAuth 2.0 access token.
    TokenFile(PathBuf),
    /// A program that prints such a token.
    TokenCommand(PathBuf),
}

impl LoginSource {
    /// The key in the relay's section.
    pub(crate) const fn key(&self) -> &'static str {
        match self {
            Self::PasswordFile(_) => "password_file",
            Self::TokenFile(_) => "token_file",
            Self::TokenCommand(_) => "token_cmd",
        }
    }
}

impl SmtpConfig {
    /// The user name and what proves it, if the relay wants a login.
    ///
    /// # Errors
    /// One is given without the other, two sources are given, or the user name has a control character.
    pub(crate) fn login(
        &self,
        section: &str,
    ) -> Result<Option<(String, LoginSource)>, ConfigError> {
        let wrong =
            |field: &str, reason: String| ConfigError::value(format!("{section}.{field}"), reason);
        let sources = [
            self.password_file.clone().map(LoginSource::PasswordFile),
            self.token_file.clone().map(LoginSource::TokenFile),
            self.token_cmd.clone().map(LoginSource::TokenCommand),
        ];
        let mut sources = sources.into_iter().flatten();
        let (source, second) = (sources.next(), sources.next());
        match (&self.username, source, second) {
            (_, Some(first), Some(second)) => {
                let reason = format!("stands beside {}: give one of them", first.key());
                Err(wrong(second.key(), reason))
            }
            (None, Some(source), None) => Err(wrong(
                source.key(),
                "is of no use without username".to_owned(),
            )),
            (Some(_), None, _) => {
                let reason = "is of no use without password_file, token_file or token_cmd";
                Err(wrong("username", reason.to_owned()))
            }
            (Some(username), Some(_), None) if username.contains(char::is_control) => {
                Err(wrong("username", "has a control character".to_owned()))
            }
            (Some(username), Some(source), None) => Ok(Some((username.clone(), source))),
            (None, None, _) => Ok(None),
        }
    }

    /// The lines of the additional headers, each with its end.
    ///
    /// # Errors
    /// A name is none, is in use, or is there twice; or a value would not be one header.
    pub(crate) fn header_lines(&self, section: &str) -> Result<String, ConfigError> {
        let mut lines = String::new();
        let mut seen = Vec::new();
        for (name, value) in &self.headers {
            let folded = name.to_ascii_lowercase();
            let wrong = match () {
                () if seen.contains(&folded) => {
                    Err("is there twice: capitals do not tell headers apart".to_owned())
                }
                () => check_name(&folded).and_then(|()| check_value(name, value)),
            };
            wrong.map_err(|reason| {
                let name = printable(name, MAX_HEADER_BYTES);
                ConfigError::value(format!("{section}.headers.{name}"), reason)
            })?;
            seen.push(folded);
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
        Ok(lines)
    }

    /// The address in MAIL FROM, if it is not the sender's.
    ///
    /// # Errors
    /// It is no address, or not ASCII before its "@".
    pub(crate) fn reverse_path(&self, section: &str) -> Result<Option<Address>, ConfigError> {
        let Some(text) = &self.envelope_from else {
            return Ok(None);
        };
        let wrong = |reason: String| ConfigError::value(format!("{section}.envelope_from"), reason);
        let address =
            Recipient::from_parts(text, None).map_err(|error| wrong(error.to_string()))?;
        match address.needs_smtputf8() {
            false => Ok(Some(address.address)),
            true => {
                let reason = "is not ASCII before its \"@\": not every mail server could return a mail to it";
                Err(wrong(reason.to_owned()))
            }
        }
    }
}

/// Checks a name in small letters (RFC 5322, section 3.6.8).
fn check_name(name: &str) -> Result<(), String> {
    let is_of_a_name = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if name.is_empty() || !name.bytes().all(is_of_a_name) {
        return Err(
            "is no name of a header: write printable ASCII without spaces and \":\", such as X-SES-CONFIGURATION-SET"
                .to_owned(),
        );
    }
    let is_taken = TAKEN.contains(&name) || TAKEN_FAMILIES.iter().any(|it| name.starts_with(it));
    match is_taken {
        true => Err(
            "is a header that Handout or a mail server writes: only others can be added".to_owned(),
        ),
        false => Ok(()),
    }
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    let is_printable = |c: char| c == ' ' || c.is_ascii_graphic();
    if let Some(found) = value.chars().find(|c| !is_printable(*c)) {
        return Err(format!(
            "has the character {found:?}: a header is printable ASCII on one line"
        ));
    }
    if value.trim().is_empty() {
        return Err("is empty: leave it out".to_owned());
    }
    let length = name.len() + ": ".len() + value.len();
    match length > MAX_HEADER_BYTES {
        true => Err(format!(
            "has {length} bytes with its name: at most {MAX_HEADER_BYTES} fit into a line"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::environment::Environment;

    fn check(relay: &str) -> String {
        let text = format!("[mail.relays.bulk]\n{relay}");
        let config = Config::parse(&text, &Environment::default()).unwrap();
        config
            .check()
            .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn a_login_has_a_user_name_and_one_proof_of_it() {
        let table = [
            "username = \"u\"\ntoken_file = \"token\"",
            "username = \"u\"\ntoken_cmd = \"/etc/handout/token\"",
            "username = \"u\"",
            "token_cmd = \"/etc/handout/token\"",
            "username = \"u\"\npassword_file = \"password\"\ntoken_file = \"token\"",
            "username = \"u\\u0001auth=Bearer x\"\ntoken_file = \"token\"",
        ]
        .map(check);
        insta::assert_snapshot!(table.join("\n"), @r#"
        fine
        fine
        the configuration's mail.relays.bulk.username is of no use without password_file, token_file or token_cmd
        the configuration's mail.relays.bulk.token_cmd is of no use without username
        the configuration's mail.relays.bulk.token_file stands beside password_file: give one of them
        the configuration's mail.relays.bulk.username has a control character
        "#);
    }

    #[test]
    fn a_header_is_one_that_a_mail_can_carry_once_more_or_refused() {
        let long = format!("X-Long = \"{}\"", "x".repeat(991));
        let table = [
            "X-SES-CONFIGURATION-SET = \"reports\"\nX-PM-Message-Stream = \"outbound\"\nFeedback-ID = \"a:b:c:d\"",
            "Bcc = \"x@y.example\"",
            "SUBJECT = \"x\"",
            "List-Unsubscribe = \"<https://x.example>\"",
            "Resent-To = \"x@y.example\"",
            "\"X A\" = \"x\"",
            "\"X-A:\" = \"x\"",
            "\"\" = \"x\"",
            "\"X-A\\r\\nBcc\" = \"x\"",
            "X-A = \"x\\r\\nBcc: x@y.example\"",
            "X-A = \"ü\"",
            "X-A = \" \"",
            "X-A = \"1\"\nx-a = \"2\"",
            &long,
        ]
        .map(|headers| check(&format!("[mail.relays.bulk.headers]\n{headers}")));
        insta::assert_snapshot!(table.join("\n"), @r#"
        fine
        the configuration's mail.relays.bulk.headers.Bcc is a header that Handout or a mail server writes: only others can be added
        the configuration's mail.relays.bulk.headers.SUBJECT is a header that Handout or a mail server writes: only others can be added
        the configuration's mail.relays.bulk.headers.List-Unsubscribe is a header that Handout or a mail server writes: only others can be added
        the configuration's mail.relays.bulk.headers.Resent-To is a header that Handout or a mail server writes: only others can be added
        the configuration's mail.relays.bulk.headers.X A is no name of a header: write printable ASCII without spaces and ":", such as X-SES-CONFIGURATION-SET
        the configuration's mail.relays.bulk.headers.X-A: is no name of a header: write printable ASCII without spaces and ":", such as X-SES-CONFIGURATION-SET
        the configuration's mail.relays.bulk.headers. is no name of a header: write printable ASCII without spaces and ":", such as X-SES-CONFIGURATION-SET
        the configuration's mail.relays.bulk.headers.X-A\u{d}\u{a}Bcc is no name of a header: write printable ASCII without spaces and ":", such as X-SES-CONFIGURATION-SET
        the configuration's mail.relays.bulk.headers.X-A has the character '\r': a header is printable ASCII on one line
        the configuration's mail.relays.bulk.headers.X-A has the character 'ü': a header is printable ASCII on one line
        the configuration's mail.relays.bulk.headers.X-A is empty: leave it out
        the configuration's mail.relays.bulk.headers.x-a is there twice: capitals do not tell headers apart
        the configuration's mail.relays.bulk.headers.X-Long has 999 bytes with its name: at most 998 fit into a line
        "#);
    }

    #[test]
    fn a_reverse_path_is_an_address_or_refused() {
        let table = [
            "bounces@sender.example",
            "Bounces <bounces@sender.example>",
            "",
            "bounces",
            "jörg@sender.example",
            "b@sender.example> SIZE=1",
        ]
        .map(|address| check(&format!("envelope_from = {address:?}")));
        insta::assert_snapshot!(table.join("\n"), @r#"
        fine
        the configuration's mail.relays.bulk.envelope_from has ' ' before its "@", which a mail server may read as a route, a command or a quotation: write the plain address of the mailbox
        the configuration's mail.relays.bulk.envelope_from is not an e-mail address: write "ann@acme.example" or "Ann Bell <ann@acme.example>"
        the configuration's mail.relays.bulk.envelope_from is not an e-mail address: write "ann@acme.example" or "Ann Bell <ann@acme.example>"
        the configuration's mail.relays.bulk.envelope_from is not ASCII before its "@": not every mail server could return a mail to it
        the configuration's mail.relays.bulk.envelope_from has a domain that is not a host name: write letters, digits and "-" with dots between them, as the domain's owner registered it
        "#);
    }
}
