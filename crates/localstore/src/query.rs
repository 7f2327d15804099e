//! The parameters of a query, decoded as s3s decodes them: both must see the same values.

use presign::percent::push_parameter;
use presign::sigv4::QUERY_PARAMETERS;
use s3s::S3ErrorCode;

use crate::rejection::Rejection;

/// The decoded parameters of a query.
pub(crate) struct SignedQuery(Vec<(String, String)>);

impl SignedQuery {
    pub(crate) fn parse(query: &str) -> Result<Self, Rejection> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        let undecodable =
            || Rejection::new(S3ErrorCode::InvalidURI, "Couldn't parse the specified URI.");
        pairs
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(undecodable)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|pair| pair.0 == name)
    }

    /// Whether it has a parameter of a signature, in any spelling.
    pub(crate) fn has_any_of_signature(&self) -> bool {
        let is_alike = |name: &str| {
            QUERY_PARAMETERS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        };
        self.0.iter().any(|pair| is_alike(&pair.0))
    }

    /// A parameter of a signature whose capitals differ from S3's.
    pub(crate) fn misspelled_parameter(&self) -> Option<&str> {
        let mut names = self.0.iter().map(|pair| pair.0.as_str());
        names.find_map(|name| {
            let mut wanted = QUERY_PARAMETERS.iter();
            wanted
                .find(|wanted| name.eq_ignore_ascii_case(wanted) && name != **wanted)
                .copied()
        })
    }

    /// All parameters but one, sorted and encoded as in a canonical query.
    pub(crate) fn spelled_without(&self, name: &str) -> String {
        let mut others: Vec<_> = self.0.iter().filter(|pair| pair.0 != name).collect();
        others.sort();
        let mut text = String::new();
        for (name, value) in others {
            push_parameter(name, Some(value), &mut text);
        }
        text.split_off(text.len().min(1))
    }

    /// The value of a parameter that occurs once.
    pub(crate) fn only(&self, name: &str) -> Option<&str> {
        let mut values = self
            .0
            .iter()
            .filter(|pair| pair.0 == name)
            .map(|pair| pair.1.as_str());
        values.next().filter(|_| values.next().is_none())
    }
}

/// Decodes `%XX` and `+`; `None` if the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            (b'+', _) => (b' ', after),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| digit.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_as_forms_are() {
        for (text, decoded) in [
            ("a+b%20c", Some("a b c")),
            ("%2B%2b", Some("++")),
            ("100%", Some("100%")),
            ("%zz%4", Some("%zz%4")),
            ("%C3%A9", Some("\u{e9}")),
            ("%C3", None),
        ] {
            assert_eq!(decode(text).as_deref(), decoded);
        }
    }
}
