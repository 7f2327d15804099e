//! A recipient with a valid address.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use lettre::Address;
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::address::{self, AddressError};
use super::wire::FullRecipient;
use crate::bounds::{MAX_LOCALE_BYTES, MAX_NAME_BYTES, MAX_RECIPIENT_BYTES, MAX_TIME_ZONE_BYTES};
use crate::clock;
use crate::text::is_bidi_control;

/// Why a recipient could not be parsed.
///
/// The texts do not repeat the address: errors reach logs, and addresses must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// The address is invalid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The text is too long.
    #[error("has {0} bytes: an address and its name may have {MAX_RECIPIENT_BYTES} together")]
    TooLong(usize),
    /// A control or bidirectional-override character where a header would carry it.
    #[error("holds the character {0:?}, which could forge a mail's header or hide a name")]
    Character(char),
    /// The name is too long.
    #[error("has a name of {0} bytes: at most {MAX_NAME_BYTES} are allowed")]
    NameTooLong(usize),
    /// Not a language tag.
    #[error("has an invalid locale: write a language tag such as \"en\", \"de\" or \"pt-BR\"")]
    Locale,
    /// Not the name of a time zone.
    #[error("has an unknown time zone: write an IANA name, such as \"Europe/Berlin\" or \"UTC\"")]
    TimeZone,
}

/// Finds a time zone by its IANA name.
pub(crate) fn time_zone(name: &str) -> Result<TimeZone, RecipientError> {
    let known = (name.len() <= MAX_TIME_ZONE_BYTES).then(|| clock::time_zone(name));
    known.flatten().ok_or(RecipientError::TimeZone)
}

/// A language tag such as `en` or `pt-BR`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locale(String);

impl Locale {
    /// The tag as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The language alone: `pt` of `pt-BR`.
    pub fn language(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }
}

impl Default for Locale {
    fn default() -> Self {
        Self("en".to_owned())
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Locale {
    type Error = RecipientError;

    fn try_from(tag: String) -> Result<Self, RecipientError> {
        tag.parse()
    }
}

impl From<Locale> for String {
    fn from(locale: Locale) -> Self {
        locale.0
    }
}

impl FromStr for Locale {
    type Err = RecipientError;

    fn from_str(tag: &str) -> Result<Self, RecipientError> {
        let is_subtag = |subtag: &str| {
            (1..=8).contains(&subtag.len()) && subtag.chars().all(|c| c.is_ascii_alphanumeric())
        };
        let language = tag.split('-').next().unwrap_or_default();
        let known_form = tag.len() <= MAX_LOCALE_BYTES
            && (2..=3).contains(&language.len())
            && tag.split('-').all(is_subtag);
        if !known_form {
            return Err(RecipientError::Locale);
        }
        Ok(Self(tag.to_owned()))
    }
}

/// A recipient of a mail, or of separate links.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Where the mail goes; its domain is in ASCII, whichever way it was written.
    pub address: Address,
    /// The recipient's name, if the job says it.
    pub name: Option<String>,
    /// The language of the mail; the configuration's when the job says nothing.
    pub locale: Option<Locale>,
    /// The time zone of the times in the mail; the configuration's when the job says nothing.
    pub time_zone: Option<TimeZone>,
    /// Variables for this recipient only.
    pub vars: Map<String, Value>,
}

impl Recipient {
    /// Reads `ann@acme.example` or `Ann Bell <ann@acme.example>`.
    pub fn parse(text: &str) -> Result<Self, RecipientError> {
        if text.len() > MAX_RECIPIENT_BYTES {
            return Err(RecipientError::TooLong(text.len()));
        }
        refuse_forging(text)?;
        let text = text.trim();
        let Some(inside) = text.strip_suffix('>') else {
            return Self::new(text, None);
        };
        let (name, address) = address_at_end(inside).ok_or(AddressError::Form)?;
        // lettre's parser removes the quotation marks of an address, so it reads the name alone.
        let named = format!("{name}<x@x.example>").parse::<Mailbox>();
        let named = named.map_err(|_| AddressError::Form)?;
        Self::new(address.trim(), named.name)
    }

    /// A recipient from an address and a name apart.
    pub fn from_parts(address: &str, name: Option<&str>) -> Result<Self, RecipientError> {
        refuse_forging(address)?;
        Self::new(address.trim(), name.map(ToOwned::to_owned))
    }

    /// A recipient as an object, from which [`from_full`](Self::from_full) makes the same.
    pub(crate) fn to_full(&self) -> FullRecipient {
        let time_zone = self.time_zone.as_ref();
        FullRecipient {
            address: self.address.to_string(),
            name: self.name.clone(),
            locale: self
                .locale
                .as_ref()
                .map(|locale| locale.as_str().to_owned()),
            time_zone: time_zone.and_then(|zone| zone.iana_name().map(ToOwned::to_owned)),
            vars: self.vars.clone(),
        }
    }

    /// A recipient of an object whose variables were checked.
    pub(crate) fn from_full(full: FullRecipient) -> Result<Self, RecipientError> {
        let mut recipient = Self::from_parts(&full.address, full.name.as_deref())?;
        recipient.locale = full.locale.as_deref().map(Locale::from_str).transpose()?;
        recipient.time_zone = full.time_zone.as_deref().map(time_zone).transpose()?;
        recipient.vars = full.vars;
        Ok(recipient)
    }

    fn new(address: &str, name: Option<String>) -> Result<Self, RecipientError> {
        let name = name
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        if let Some(name) = &name {
            refuse_forging(name)?;
            if name.len() > MAX_NAME_BYTES {
                return Err(RecipientError::NameTooLong(name.len()));
            }
        }
        Ok(Self {
            address: address::parse(address)?,
            name,
            locale: None,
            time_zone: None,
            vars: Map::new(),
        })
    }

    /// The name, or the part before the `@`.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.mailbox())
    }

    /// The part before the `@`, without the quotation marks around it.
    fn mailbox(&self) -> &str {
        self.address.user().trim_matches('"')
    }

    /// Whether the address needs a relay that knows SMTPUTF8 (RFC 6531): its part before the `@` is not ASCII.
    pub fn needs_smtputf8(&self) -> bool {
        !self.address.user().is_ascii()
    }

    /// Whether only a rule that names the address literally may allow it, see [`address::must_be_named`].
    pub fn must_be_named(&self) -> bool {
        address::must_be_named(&self.address)
    }

    /// The canonical address, see [`address::canonical`].
    pub fn canonical_address(&self) -> String {
        address::canonical(&self.address)
    }

    /// The address with its name hidden: `a…@acme.example`, for logs.
    pub fn masked(&self) -> String {
        let first = self.mailbox().chars().next().unwrap_or('?');
        format!("{first}…@{}", self.address.domain())
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipient").field(&self.masked()).finish()
    }
}

/// Splits `Ann Bell <ann@acme.example` into the name and the address. A `<` in quotation marks begins no address.
fn address_at_end(text: &str) -> Option<(&str, &str)> {
    let (local, _) = text.rsplit_once('@')?;
    let begins = |at: &usize| {
        let rest = local[at + 1..].trim_start();
        match rest.starts_with('"') {
            true => address::unquoted(rest).is_some(),
            false => !rest.contains('<'),
        }
    };
    let mut all = local.match_indices('<').map(|(at, _)| at);
    let at = all.find(begins)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Rejects characters that could end a header or reverse a name on the screen.
pub(crate) fn refuse_forging(text: &str) -> Result<(), RecipientError> {
    text.chars()
        .find(|c| forges(*c))
        .map_or(Ok(()), |found| Err(RecipientError::Character(found)))
}

/// The characters that end a line, control a terminal, or reorder the text around them.
pub(crate) fn forges(c: char) -> bool {
    c.is_control() || is_bidi_control(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_a_name() {
        let ann = Recipient::parse("Ann Bell <ann@acme.example>").unwrap();
        assert_eq!(
            (ann.display_name(), ann.address.as_ref()),
            ("Ann Bell", "ann@acme.example")
        );
        let bo = Recipient::parse("bo@acme.example").unwrap();
        assert_eq!(bo.display_name(), "bo");
        assert_eq!(format!("{bo:?}"), r#"Recipient("b…@acme.example")"#);
    }

    #[test]
    fn a_quoted_address_is_read_with_and_without_a_name() {
        for (text, name, address) in [
            (
                r#""da.me.."@acme.example"#,
                "da.me..",
                r#""da.me.."@acme.example"#,
            ),
            (
                r#"Dame <"da.me.."@acme.example>"#,
                "Dame",
                r#""da.me.."@acme.example"#,
            ),
            (
                r#""Bell, Ann" < "ann bell"@acme.example >"#,
                "Bell, Ann",
                r#""ann bell"@acme.example"#,
            ),
            (
                r#""A <b" <"a<b\">"@acme.example>"#,
                "A <b",
                r#""a<b\">"@acme.example"#,
            ),
            (r#"<"ann"@acme.example>"#, "ann", "ann@acme.example"),
            (r#""ann@x" <ann@acme.example>"#, "ann@x", "ann@acme.example"),
        ] {
            let recipient =
                Recipient::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(recipient.display_name(), name, "{text}");
            assert_eq!(recipient.address.as_ref() as &str, address, "{text}");
        }
        let dame = Recipient::parse(r#""Da.Me.."@Acme.Example"#).unwrap();
        assert_eq!(dame.canonical_address(), r#""da.me.."@acme.example"#);
        assert_eq!(dame.masked(), "D…@Acme.Example");
        for text in [
            r#""da.me..@acme.example"#,
            r#"Dame "da.me.."@acme.example"#,
            r#"Dame <"da.me.."@acme.example"#,
            r#"<"a"b"@acme.example>"#,
            r#"Ann <ann@acme.example> <bo@acme.example>"#,
            "Ann <ann@acme.example>, bo@acme.example",
        ] {
            assert!(Recipient::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn both_spellings_of_a_domain_are_one_person() {
        let spellings = [
            "jörg@bücher.example",
            "jörg@BÜCHER.example",
            "jörg@bu\u{308}cher.example",
            "Jörg@xn--bcher-kva.example",
            "jörg@ｂücher。example",
        ]
        .map(|text| Recipient::parse(text).unwrap());
        for recipient in &spellings {
            assert_eq!(recipient.canonical_address(), "jörg@xn--bcher-kva.example");
            assert!(recipient.address.domain().is_ascii() && recipient.needs_smtputf8());
        }
        let ascii = Recipient::parse("Ann@Acme.Example").unwrap();
        assert_eq!(ascii.address.to_string(), "Ann@Acme.Example");
        assert!(!ascii.needs_smtputf8());
        let long = format!("ann@{}.example", "ü".repeat(63));
        for text in [long.as_str(), "ann@-ü.example", "ann@ü..example"] {
            assert!(Recipient::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_recipient_is_refused_and_never_panics() {
        for text in [
            "",
            "ann",
            "@acme.example",
            "ann@",
            "a b@acme.example",
            "a@b@c",
            "<>",
            "a@b\r\nBcc: x@y.example",
        ] {
            assert!(
                Recipient::parse(text).is_err(),
                "{text:?} was taken for a recipient"
            );
        }
        for name in [
            "a\nb",
            "a\rb",
            "a\0b",
            "a\u{202E}b",
            "a\u{2028}b",
            "\u{1b}[31m",
        ] {
            assert!(
                Recipient::from_parts("ann@acme.example", Some(name)).is_err(),
                "{name:?}"
            );
        }
        assert!(Recipient::from_parts("ann@acme.example", Some(&"n".repeat(201))).is_err());
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_parsed() {
        let error = |text: &str| Recipient::parse(text).unwrap_err();
        let words = "a ".repeat(500_000);
        let long = format!("{words}<ann@acme.example>");
        assert_eq!(error(&long), RecipientError::TooLong(long.len()));
        let domain = format!("ann@{}", "d.".repeat(500_000));
        let too_long = AddressError::TooLong(domain.len()).into();
        assert_eq!(Recipient::from_parts(&domain, None).unwrap_err(), too_long);
        let escaped = "\\\"".repeat(MAX_NAME_BYTES);
        let longest = format!("\"{escaped}\" <{}@acme.example>", "l".repeat(64));
        let name = Recipient::parse(&longest).unwrap().name.unwrap();
        assert_eq!(name, "\"".repeat(MAX_NAME_BYTES));
        let letters = format!("ann@{}", ["ü".repeat(50).as_str(); 4].join("."));
        assert!(Recipient::parse(&letters).is_ok());
    }

    #[test]
    fn an_error_does_not_repeat_the_address() {
        let error = Recipient::parse("secret.person at acme.example")
            .unwrap_err()
            .to_string();
        assert!(!error.contains("secret.person"), "{error}");
    }

    #[test]
    fn a_time_zone_is_one_that_is_known() {
        assert_eq!(
            time_zone("Asia/Tokyo").unwrap().iana_name(),
            Some("Asia/Tokyo")
        );
        let long = format!("{}UTC", " ".repeat(1_000_000));
        for name in [
            "",
            "Berlin",
            "../../etc/passwd",
            "/etc/localtime",
            "CET+1",
            &long,
        ] {
            assert!(
                time_zone(name).is_err(),
                "{name:?} was taken for a time zone"
            );
        }
    }

    #[test]
    fn locales_are_language_tags() {
        assert_eq!("pt-BR".parse::<Locale>().unwrap().language(), "pt");
        let longest = format!("de{}", "-a".repeat(16));
        assert!(longest.parse::<Locale>().is_ok());
        let long = format!("{longest}-a");
        for tag in ["", "e", "english-language", "de_DE", "../en", "de-", &long] {
            assert!(
                tag.parse::<Locale>().is_err(),
                "{tag:?} was taken for a locale"
            );
        }
    }
}
