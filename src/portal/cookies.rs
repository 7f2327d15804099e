//! The portal's cookies. All are `__Host-` cookies (RFC 6265bis, 4.1.3.2): no sister domain can set them.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use base64ct::{Base64UrlUnpadded, Encoding};

use super::oidc::OIDC_COOKIE;
use crate::bounds::MAX_COOKIE_BYTES;

/// A cookie of the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortalCookie {
    /// Who is signed in.
    Session,
    /// Which code was asked for.
    Challenge,
    /// What binds tickets to a browser.
    Browser,
    /// A sign-in at an issuer that is under way.
    Issuer,
}

impl PortalCookie {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Session => "__Host-handout",
            Self::Challenge => "__Host-handout-c",
            Self::Browser => "__Host-handout-b",
            Self::Issuer => OIDC_COOKIE,
        }
    }

    /// The value that the browser sent. The first counts: browsers hold one of each `__Host-` name.
    pub(super) fn read(self, headers: &HeaderMap) -> Option<&str> {
        let lists = headers.get_all(COOKIE).iter();
        let pairs = lists
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(';'));
        let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == self.name())?;
        (value.len() <= MAX_COOKIE_BYTES).then_some(value)
    }

    /// The header that sets the cookie, for a number of seconds or until the browser is closed. The value is one of the
    /// portal's own: letters, digits, `-`, `_` and `.`.
    pub(super) fn set(self, value: &str, seconds: Option<u64>) -> HeaderValue {
        let age = seconds.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
        let text = format!(
            "{}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}",
            self.name()
        );
        HeaderValue::try_from(text).expect("a cookie's value is of plain characters")
    }

    /// The header that removes the cookie.
    pub(super) fn remove(self) -> HeaderValue {
        self.set("", Some(0))
    }
}

/// What binds tickets to one browser: 16 random bytes in a cookie of the browser's session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BrowserNonce([u8; 16]);

impl BrowserNonce {
    pub(super) fn random() -> Self {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
        Self(nonce)
    }

    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut nonce = [0; 16];
        let value = PortalCookie::Browser.read(headers)?;
        let decoded = Base64UrlUnpadded::decode(value, &mut nonce).ok()?;
        (decoded.len() == 16).then_some(Self(nonce))
    }

    pub(super) fn set(self) -> HeaderValue {
        PortalCookie::Browser.set(&Base64UrlUnpadded::encode_string(&self.0), None)
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lists: &[&'static str]) -> HeaderMap {
        let lists = lists.iter();
        lists
            .map(|list| (COOKIE, HeaderValue::from_static(list)))
            .collect()
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let read = |lists: &[&'static str]| {
            PortalCookie::Session
                .read(&headers(lists))
                .map(ToOwned::to_owned)
        };
        assert_eq!(
            read(&["a=b; __Host-handout=x.y; c"]).as_deref(),
            Some("x.y")
        );
        assert_eq!(read(&["__Host-handout-c=x"]), None);
        assert_eq!(read(&["handout=x; __host-handout=y"]), None);
        assert_eq!(
            read(&["__Host-handout=1; __Host-handout=2"]).as_deref(),
            Some("1")
        );
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn cookies_stay_with_this_host_and_out_of_scripts() {
        let set = PortalCookie::Session.set("v", Some(60));
        assert_eq!(
            set.to_str().unwrap(),
            "__Host-handout=v; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60"
        );
        let nonce = BrowserNonce::random();
        let set = nonce.set();
        let (pair, _) = set.to_str().unwrap().split_once(';').unwrap();
        let sent: HeaderMap = [(COOKIE, HeaderValue::try_from(pair).unwrap())]
            .into_iter()
            .collect();
        assert!(BrowserNonce::read(&sent) == Some(nonce));
    }
}
