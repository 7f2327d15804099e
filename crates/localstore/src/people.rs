//! Tells people in a browser what is wrong with a link, in a page instead of S3's XML, which programs still get.

use std::sync::{Arc, OnceLock};

use hyper::header::{
    ACCEPT, ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap,
    HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use s3s::Body;

/// The words of S3 and of s3s for a link whose time has passed.
const EXPIRED: &[u8] = b"Request has expired";

/// The words for a link to an object whose links are revoked, see `objects.rs`.
pub(crate) const REVOKED: &str = "the links to the object are revoked";

/// The longest `Accept-Language` that is looked at, in bytes; browsers send less than a hundred.
const MAX_LANGUAGES: usize = 512;

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkTrouble {
    /// Its time has passed.
    Expired,
    /// Its object is not there.
    Missing,
    /// The links to its object are revoked.
    Revoked,
    /// It was changed, or is incomplete.
    Refused,
    /// The endpoint cannot answer now.
    Busy,
}

/// The pages for people.
pub trait TroublePages: Send + Sync {
    /// A complete HTML page, in a language of an `Accept-Language` header if there is one. It may have inline styles, and loads
    /// nothing.
    fn page(&self, trouble: LinkTrouble, languages: &str) -> String;
}

/// The pages, once they are known.
pub(crate) type PagesSlot = Arc<OnceLock<Arc<dyn TroublePages>>>;

/// A person who opened a link in a browser.
pub(crate) struct Reader {
    languages: String,
}

impl Reader {
    /// The reader, if a request is a browser's for a signed link: browsers name HTML among what they accept, programs do not.
    pub(crate) fn of(request: &Parts) -> Option<Self> {
        let is_link = request.uri.query()?.contains("X-Amz-Signature=");
        let accepts_html = values(&request.headers, ACCEPT.as_str()).any(|accepted| {
            let mut parts = accepted.split(';').map(str::trim);
            let is_html = parts
                .next()
                .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
            is_html && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
        });
        let languages = request.headers.get(ACCEPT_LANGUAGE);
        let languages = languages.and_then(|languages| languages.to_str().ok());
        let languages = languages.filter(|languages| languages.len() <= MAX_LANGUAGES);
        (is_link && accepts_html && request.method == Method::GET).then(|| Self {
            languages: languages.unwrap_or_default().to_owned(),
        })
    }

    /// The answer for the reader: a page if the link did not open.
    pub(crate) fn told(&self, answer: Response<Body>, pages: &PagesSlot) -> Response<Body> {
        let Some((trouble, pages)) = trouble(&answer).zip(pages.get()) else {
            return answer;
        };
        let mut page = Response::new(Body::from(pages.page(trouble, &self.languages)));
        *page.status_mut() = answer.status();
        for (name, value) in [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            (VARY, "accept, accept-language"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (
                CONTENT_SECURITY_POLICY,
                "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
            ),
        ] {
            page.headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        page
    }
}

/// The members of a list in a header.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let headers = headers.get_all(name).into_iter();
    let texts = headers.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

/// What an answer says is wrong; `None` if it has the object, or tells about a range or a condition.
fn trouble(answer: &Response<Body>) -> Option<LinkTrouble> {
    let has = |words: &[u8]| {
        let body = answer.body().bytes().unwrap_or_default();
        body.windows(words.len()).any(|part| part == words)
    };
    match answer.status() {
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => None,
        StatusCode::NOT_FOUND => Some(LinkTrouble::Missing),
        StatusCode::FORBIDDEN if has(EXPIRED) => Some(LinkTrouble::Expired),
        StatusCode::FORBIDDEN if has(REVOKED.as_bytes()) => Some(LinkTrouble::Revoked),
        status if status.is_client_error() => Some(LinkTrouble::Refused),
        status if status.is_server_error() => Some(LinkTrouble::Busy),
        _ => None,
    }
}
