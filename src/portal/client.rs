//! Who asks: the address behind trusted proxies, its network, and what kind of program sends the request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::header::{ACCEPT, ACCEPT_LANGUAGE, ORIGIN, RANGE, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::bounds::{MAX_FORWARDED_ADDRESSES, MAX_LANGUAGES_BYTES};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");

/// A network of proxies: an address, and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrustedNetwork {
    address: IpAddr,
    bits: u8,
}

impl From<(IpAddr, u8)> for TrustedNetwork {
    fn from((address, bits): (IpAddr, u8)) -> Self {
        Self { address, bits }
    }
}

impl TrustedNetwork {
    fn contains(self, address: IpAddr) -> bool {
        let differing = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                u128::from(ours.to_bits() ^ theirs.to_bits()) << 96
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => ours.to_bits() ^ theirs.to_bits(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        differing.leading_zeros() >= u32::from(self.bits)
    }
}

/// The address of the client: the peer, or behind trusted proxies the last address of `X-Forwarded-For` that is none of
/// theirs. A proxy appends the address that it sees, so what stands before the first untrusted one was sent by the client.
pub(super) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[TrustedNetwork],
) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let lists = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = lists.flat_map(|list| {
        let list = list.to_str().unwrap_or("?");
        list.rsplit(',').map(str::trim)
    });
    for entry in entries.take(MAX_FORWARDED_ADDRESSES) {
        let Some(address) = forwarded(entry) else {
            break;
        };
        client = address.to_canonical();
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// An address with or without a port, as proxies write it.
fn forwarded(entry: &str) -> Option<IpAddr> {
    if let Ok(address) = entry.parse() {
        return Some(address);
    }
    if let Ok(socket) = entry.parse::<std::net::SocketAddr>() {
        return Some(socket.ip());
    }
    let bare = entry.strip_prefix('[')?.strip_suffix(']')?;
    bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// The address of a connection whose peer is not known, such as one in tests.
pub(super) const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What the headers of a request say about the program that sends it. None of it is proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestSigns {
    /// `Sec-Fetch-Site`, if it is a known value.
    pub(super) site: Option<FetchSite>,
    /// Whether the answer becomes a part of a page: `Sec-Fetch-Dest` names an image, a video, a sound, or a script's fetch.
    pub(super) is_embed: bool,
    /// Whether any `Sec-Fetch-*` header is there.
    pub(super) has_fetch_headers: bool,
    /// Whether the client reads HTML.
    pub(super) accepts_html: bool,
    /// Whether the request asks for a part of the file.
    pub(super) has_range: bool,
    /// Whether the client says that it prefetches.
    pub(super) is_prefetch: bool,
}

/// Where a request comes from (Fetch Metadata).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchSite {
    SameOrigin,
    SameSite,
    CrossSite,
    /// The reader typed the address or opened a bookmark.
    None,
}

impl RequestSigns {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let site = match text(&FETCH_SITE) {
            Some("same-origin") => Some(FetchSite::SameOrigin),
            Some("same-site") => Some(FetchSite::SameSite),
            Some("cross-site") => Some(FetchSite::CrossSite),
            Some("none") => Some(FetchSite::None),
            _ => None,
        };
        let destination = text(&FETCH_DEST);
        Self {
            site,
            is_embed: matches!(
                destination,
                Some("image" | "video" | "audio" | "track" | "empty" | "object" | "embed")
            ),
            has_fetch_headers: site.is_some()
                || destination.is_some()
                || headers.contains_key(FETCH_MODE),
            accepts_html: accepts_html(headers),
            has_range: headers.contains_key(RANGE),
            is_prefetch: text(&PURPOSE).is_some_and(|purpose| purpose.contains("prefetch")),
        }
    }

    /// Whether the request is a program's that saves files, such as curl or wget: it reads no HTML and is no browser's.
    pub(super) const fn is_tool(&self) -> bool {
        !self.accepts_html && !self.has_fetch_headers
    }
}

/// Whether `Accept` names HTML; programs send `*/*` or nothing.
fn accepts_html(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT).iter();
    let members = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    members.map(str::trim).any(|member| {
        let mut parts = member.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| {
            kind.eq_ignore_ascii_case("text/html")
                || kind.eq_ignore_ascii_case("application/xhtml+xml")
        });
        is_html && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// `Accept-Language`, of a bounded length.
pub(super) fn languages(headers: &HeaderMap) -> &str {
    let languages = headers
        .get(ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok());
    languages
        .filter(|text| text.len() <= MAX_LANGUAGES_BYTES)
        .unwrap_or_default()
}

/// `User-Agent`, as far as it is text.
pub(super) fn user_agent(headers: &HeaderMap) -> String {
    let value = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// Whether a POST was sent by a page of the portal. `Sec-Fetch-Site` decides where it is sent; older browsers send `Origin`;
/// a program sends neither, and has no cookie of another browser to misuse.
pub(super) fn is_own_post(headers: &HeaderMap, own_origin: &str) -> bool {
    match RequestSigns::of(headers).site {
        Some(FetchSite::SameOrigin) => true,
        Some(FetchSite::SameSite | FetchSite::CrossSite | FetchSite::None) => false,
        None => headers
            .get(ORIGIN)
            .is_none_or(|origin| origin.as_bytes() == own_origin.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_network;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        let pairs = pairs.map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn only_trusted_proxies_say_who_asks() {
        let trusted: Vec<TrustedNetwork> = ["10.0.0.0/8", "2001:db8::/32"]
            .iter()
            .map(|network| parse_network(network).unwrap().into())
            .collect();
        let client = |peer: &str, lists: &[&'static str]| {
            let pairs: Vec<_> = lists
                .iter()
                .map(|list| ("x-forwarded-for", *list))
                .collect();
            let peer = peer.parse().unwrap();
            client_address(peer, &headers(&pairs), &trusted).to_string()
        };
        for (peer, lists, told) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("10.1.2.3", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.1.2.3", &["198.51.100.7"], "198.51.100.7"),
            (
                "10.1.2.3",
                &["1.1.1.1, 198.51.100.7, 10.9.9.9"],
                "198.51.100.7",
            ),
            ("10.1.2.3", &["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
            ("10.1.2.3", &["198.51.100.7:8443"], "198.51.100.7"),
            ("10.1.2.3", &["[2001:db9::1]:8443"], "2001:db9::1"),
            ("10.1.2.3", &["[2001:db9::1]"], "2001:db9::1"),
            ("10.1.2.3", &["evil, 10.0.0.9"], "10.0.0.9"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("2001:db8::5", &["198.51.100.7"], "198.51.100.7"),
        ] {
            assert_eq!(client(peer, lists), told, "{peer} {lists:?}");
        }
    }

    #[test]
    fn a_post_of_another_site_is_not_our_own() {
        let own = "https://files.acme.example";
        for (pairs, is_own) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (
                &[("sec-fetch-site", "same-origin"), ("origin", "null")],
                true,
            ),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "https://files.acme.example")], true),
            (
                &[("origin", "https://files.acme.example.evil.example")],
                false,
            ),
            (&[("origin", "null")], false),
            (&[], true),
        ] {
            assert_eq!(is_own_post(&headers(pairs), own), is_own, "{pairs:?}");
        }
    }

    #[test]
    fn programs_that_save_files_are_told_from_browsers() {
        let is_tool =
            |pairs: &[(&'static str, &'static str)]| RequestSigns::of(&headers(pairs)).is_tool();
        assert!(is_tool(&[("accept", "*/*"), ("user-agent", "curl/8.5")]));
        assert!(is_tool(&[]));
        assert!(!is_tool(&[(
            "accept",
            "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
        )]));
        assert!(!is_tool(&[
            ("accept", "*/*"),
            ("sec-fetch-site", "cross-site")
        ]));
        assert!(is_tool(&[("accept", "text/html;q=0, */*")]));
    }
}
