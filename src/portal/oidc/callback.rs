//! The query with which a provider sends a browser back (RFC 6749, section 4.1.2; RFC 9207).

use super::refusal::OidcRefusal;
use crate::bounds::MAX_OIDC_CALLBACK_BYTES;
use crate::text::percent;

/// The parameters of a callback, decoded. Parameters that no specification has are ignored.
#[derive(Default)]
pub(super) struct Callback {
    pub(super) code: Option<String>,
    pub(super) state: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) error: Option<String>,
}

impl Callback {
    /// Reads a query.
    ///
    /// # Errors
    /// It is too long, or has one of the parameters twice, which RFC 6749, section 3.1, forbids.
    pub(super) fn parse(query: &str) -> Result<Self, OidcRefusal> {
        if query.len() > MAX_OIDC_CALLBACK_BYTES {
            return Err(OidcRefusal::MalformedCallback);
        }
        let mut callback = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let parameter = match &*percent::decode_form(name) {
                "code" => &mut callback.code,
                "state" => &mut callback.state,
                "iss" => &mut callback.issuer,
                "error" => &mut callback.error,
                _ => continue,
            };
            let value = percent::decode_form(value).into_owned();
            if parameter.replace(value).is_some() {
                return Err(OidcRefusal::MalformedCallback);
            }
        }
        // RFC 9700, section 4.4: an answer is a success or an error.
        match callback.code.is_some() && callback.error.is_some() {
            true => Err(OidcRefusal::MalformedCallback),
            false => Ok(callback),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_a_callback_are_decoded() {
        let query = "code=a%2Bb+c&state=s&iss=https%3A%2F%2Flogin.acme.example&session_state=x";
        let Ok(callback) = Callback::parse(query) else {
            panic!("a callback")
        };
        assert_eq!(callback.code.as_deref(), Some("a+b c"));
        assert_eq!(callback.state.as_deref(), Some("s"));
        assert_eq!(
            callback.issuer.as_deref(),
            Some("https://login.acme.example")
        );
        assert_eq!(callback.error, None);
    }

    #[test]
    fn a_parameter_that_stands_twice_is_refused_however_it_is_spelled() {
        for query in [
            "code=a&code=b",
            "code=a&c%6fde=b",
            "state=a&state=a",
            "code=a&error=access_denied",
            &format!("code={}", "a".repeat(MAX_OIDC_CALLBACK_BYTES)),
        ] {
            assert!(Callback::parse(query).is_err());
        }
        for query in ["", "&&", "a=1&a=2", "code"] {
            assert!(Callback::parse(query).is_ok(), "{query}");
        }
    }
}
