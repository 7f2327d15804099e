//! Finds the signed URL in a text that mail systems, pages and clipboards have changed.
//!
//! A mail system replaces a link by one to a service of its own, which has the original as a parameter or in its path. Mail sources
//! and pages escape it, and people copy it with what stands around it. Services that keep the original to themselves cannot be
//! resolved here; [`service_of`] names them.

mod escapes;
mod proofpoint;

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::percent::decode_lossy;
use crate::url::{PresignedUrl, signature_in};

/// How much of a text is searched, in bytes.
const MAX_TEXT: usize = 256 * 1024;
/// How many URLs are looked into: a text can be made to have very many.
const MAX_TRIED: usize = 200;
/// How much of URLs within URLs is looked into, in bytes.
const MAX_LOOKED_INTO: usize = 2 * 1024 * 1024;
/// The longest URL that is looked into, in bytes: each service that wraps one may encode it again.
const MAX_URL: usize = 64 * 1024;
/// How many parameters of a URL are looked into.
const MAX_PARAMETERS: usize = 32;
/// How many services may have wrapped a URL one after another.
const MAX_LAYERS: usize = 6;
/// How often a value is decoded until it is a URL; services encode each other's parameters again.
const MAX_DECODINGS: usize = 3;

/// Services that replace links in mails, by the ends of their hosts.
///
/// - Microsoft: <https://learn.microsoft.com/defender-office-365/safe-links-about>
/// - Proofpoint: <https://help.proofpoint.com/Threat_Insight_Dashboard/API_Documentation/URL_Decoder_API>
/// - Barracuda: <https://campus.barracuda.com/product/emailgatewaydefense/doc/96023031/>
/// - Mimecast: <https://mimecastsupport.zendesk.com/hc/en-us/articles/34000384397459>
const SERVICES: [(&str, &str); 14] = [
    ("safelinks.protection.outlook.com", "Safe Links"),
    ("safelinks.protection.office365.us", "Safe Links"),
    ("teams.cdn.office.net", "Safe Links"),
    ("urldefense.com", "Proofpoint"),
    ("urldefense.us", "Proofpoint"),
    ("urldefense.proofpoint.com", "Proofpoint"),
    ("cudasvc.com", "Barracuda"),
    ("mimecast.com", "Mimecast"),
    ("mimecastprotect.com", "Mimecast"),
    ("secure-web.cisco.com", "Cisco"),
    ("protection.sophos.com", "Sophos"),
    ("avanan.click", "Check Point"),
    ("protect.checkpoint.com", "Check Point"),
    ("slack-redir.net", "Slack"),
];

/// What was done to a text to find a signed URL in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwrapping {
    /// Text around the URL was left out.
    Around,
    /// A line break within the URL was taken out.
    LineBreak,
    /// Quoted-printable (RFC 2045, section 6.7) was decoded.
    QuotedPrintable,
    /// Character references of HTML were decoded.
    Html,
    /// The URL was taken out of the URL of this service.
    Service(String),
}

/// A signed URL, and what was done to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundUrl {
    /// The URL as it was signed, as far as it can be known.
    pub url: PresignedUrl,
    /// What was done, in order.
    pub steps: Vec<Unwrapping>,
}

/// The first signed URL in a text; `None` if there is none.
///
/// ```
/// let text = "<https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fb.s3.eu-west-1.amazonaws.com%2Fk%3F\
///     X-Amz-Expires%3D60%26X-Amz-Signature%3D0a&amp;data=05>";
/// let found = presign::wrapping::unwrap(text).unwrap();
/// assert_eq!(found.url.expose(), "https://b.s3.eu-west-1.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature=0a");
/// ```
pub fn unwrap(text: &str) -> Option<FoundUrl> {
    let (url, steps) = signed_url(text)?;
    let url = PresignedUrl::new(url);
    Some(FoundUrl { url, steps })
}

/// The first signed URL in a text, and what was done to find it.
pub(crate) fn signed_url(text: &str) -> Option<(String, Vec<Unwrapping>)> {
    let text = bounded(text);
    let mut search = UrlSearch {
        left: MAX_TRIED,
        bytes_left: MAX_LOOKED_INTO,
    };
    let mut read = 0;
    while search.left > 0 && search.bytes_left > 0 {
        let start = read + url_starts(&text[read..]).next()?;
        let token = escapes::token(&text[start..]);
        let mut services = Vec::new();
        if let Some(url) = search.signed(&token.url, MAX_LAYERS, &mut services) {
            let mut steps = token.steps;
            if start > 0 || token.is_followed {
                steps.insert(0, Unwrapping::Around);
            }
            steps.extend(services.into_iter().map(Unwrapping::Service));
            return Some((url, steps));
        }
        read = start + token.read;
    }
    None
}

/// The service whose URL is the first in a text, for texts in which no signed URL is found: it keeps the original to itself.
pub fn service_of(text: &str) -> Option<&'static str> {
    let text = bounded(text);
    let start = url_starts(text).next()?;
    known_service(host_of(&text[start..]).as_str())
}

/// The part of a text that is searched.
pub(crate) fn bounded(text: &str) -> &str {
    let text = text.trim();
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// Where URLs begin in a text.
fn url_starts(text: &str) -> impl Iterator<Item = usize> + '_ {
    let colons = memchr::memmem::find_iter(text.as_bytes(), "://");
    colons.filter_map(|colon| scheme_before(&text[..colon]))
}

/// Where the scheme that ends a text begins, if it is http or https in any case.
fn scheme_before(text: &str) -> Option<usize> {
    ["https", "http"].into_iter().find_map(|scheme| {
        let start = text.len().checked_sub(scheme.len())?;
        let is_scheme = text.get(start..)?.eq_ignore_ascii_case(scheme);
        is_scheme.then_some(start)
    })
}

fn is_url(text: &str) -> bool {
    url_starts(text).next() == Some(0)
}

/// The host of a URL, in lower case and without a port.
fn host_of(url: &str) -> String {
    let place = url.split_once("://").map_or("", |(_, place)| place);
    let end = place.find(['/', '?', '#', ':']).unwrap_or(place.len());
    place[..end].to_ascii_lowercase()
}

fn known_service(host: &str) -> Option<&'static str> {
    let is_below = |end: &str| {
        let rest = host.strip_suffix(end);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let known = SERVICES.iter().find(|(end, _)| is_below(end));
    // Google has a host in each country.
    let is_google = || {
        host.strip_prefix("www.")
            .unwrap_or(host)
            .starts_with("google.")
    };
    match known {
        Some((_, name)) => Some(name),
        None => is_google().then_some("Google"),
    }
}

/// A search for a signed URL, which ends in time.
struct UrlSearch {
    /// How many more URLs may be looked into.
    left: usize,
    /// How many more bytes of them may be.
    bytes_left: usize,
}

impl UrlSearch {
    /// The signed URL that a URL is or has inside, with the services around it, the outermost first.
    fn signed(&mut self, url: &str, layers: usize, services: &mut Vec<String>) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        self.bytes_left = self.bytes_left.checked_sub(url.len())?;
        let host = host_of(url);
        let service = known_service(&host);
        // A key of a signed link may have a URL in it, so only the URL of a known service is looked into then.
        if service.is_none() && signature_in(url).is_some() {
            return Some(url.to_owned());
        }
        if layers == 0 || url.len() > MAX_URL {
            return None;
        }
        let length = services.len();
        services.push(service.map_or(host, ToOwned::to_owned));
        for inner in inner_urls(url) {
            let inner = escapes::unescaped(&inner);
            if let Some(found) = self.signed(&inner, layers - 1, services) {
                return Some(found);
            }
        }
        services.truncate(length);
        None
    }
}

/// The URLs that a URL has in its parameters and in its path, the likeliest first.
fn inner_urls(url: &str) -> Vec<String> {
    let mut inner: Vec<String> = proofpoint::inner(url).into_iter().collect();
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    // The parameters belong to the original that a path has.
    inner.extend(in_path(place, url));
    for pair in query.split(['&', '#']).take(MAX_PARAMETERS) {
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        inner.extend(decoded_url(value));
    }
    // Where a service has not encoded it, the parameters of the original look like its own.
    inner.extend(
        url_starts(query)
            .take(MAX_LAYERS)
            .map(|start| query[start..].to_owned()),
    );
    inner
}

/// The URL that a value is, percent-encoded or in Base64.
fn decoded_url(value: &str) -> Option<String> {
    let mut value = value.to_owned();
    for _ in 0..MAX_DECODINGS {
        value = decode_lossy(&value);
        if is_url(&value) {
            return Some(value);
        }
    }
    // "http" in Base64
    let encoded = value.starts_with("aHR0c").then_some(value)?;
    let encoded = encoded.replace('+', "-").replace('/', "_");
    let bytes = Base64UrlUnpadded::decode_vec(encoded.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok().filter(|url| is_url(url))
}

/// The URL in a path, encoded or not, as `https://secure-web.cisco.com/1abc/https%3A%2F%2F…`.
fn in_path(place: &str, url: &str) -> Option<String> {
    let (scheme, below) = place.split_once("://")?;
    if let Some(start) = url_starts(below).next() {
        let start = scheme.len() + "://".len() + start;
        // Check Point writes the original between three underscores.
        let rest = &url[start..];
        let original = rest
            .rsplit_once("___")
            .map_or(rest, |(original, _)| original);
        return Some(original.to_owned());
    }
    below.split('/').skip(1).find_map(decoded_url)
}

#[cfg(test)]
mod tests;
