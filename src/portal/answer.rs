//! Answers of the portal and their headers. Nothing of a request is repeated in one.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    SET_COOKIE, STRICT_TRANSPORT_SECURITY, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use presign::PresignedUrl;

use crate::render::portal::PortalPage;

const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Two years, as <https://hstspreload.org> recommends; sister hosts are not the portal's to decide for.
const HSTS: &str = "max-age=63072000";

/// What the headers of all answers of one portal depend on.
#[derive(Debug, Clone)]
pub(super) struct AnswerHeaders {
    /// Whether TLS ends here.
    pub(super) hsts: bool,
    /// Whether other sites may show files of links (`embeddable`).
    pub(super) embeddable: bool,
}

/// What a page loads and where its forms lead, for its `Content-Security-Policy`.
#[derive(Debug, Clone, Default)]
pub(super) struct PageSources {
    /// The origins of the stores that links of the page open at.
    pub(super) stores: Vec<String>,
}

impl AnswerHeaders {
    /// A page.
    pub(super) fn page(
        &self,
        status: StatusCode,
        page: PortalPage,
        sources: &PageSources,
    ) -> Response<Body> {
        let policy = content_policy(&page, &sources.stores);
        let mut response = self.with_body(status, "text/html; charset=utf-8", page.html);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        // Without the origin, a POST of the page could not be told from one of another site.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(
            VARY,
            HeaderValue::from_static("accept, accept-language, cookie"),
        );
        response
    }

    /// A line for programs.
    pub(super) fn line(&self, status: StatusCode, text: &str) -> Response<Body> {
        self.with_body(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// A redirect to a signed link: 302 for GET and HEAD, 303 for POST.
    pub(super) fn signed(&self, status: StatusCode, url: &PresignedUrl) -> Response<Body> {
        // A signed URL is percent-encoded: no header can be injected.
        let location = HeaderValue::try_from(url.expose());
        self.redirect(
            status,
            location.unwrap_or_else(|_| HeaderValue::from_static("/")),
        )
    }

    /// A redirect within the portal, or to an issuer.
    pub(super) fn redirect(&self, status: StatusCode, location: HeaderValue) -> Response<Body> {
        let mut response = self.file(status, Body::empty());
        response.headers_mut().insert(LOCATION, location);
        response
    }

    fn with_body(&self, status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        self.common(&mut response);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        if status == StatusCode::UNAUTHORIZED {
            // Browsers show the body and no dialog for a scheme that they do not know.
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Handout realm=\"files\""),
            );
        }
        response
    }

    /// A streamed file, or what leads to one; the caller adds what it is.
    pub(super) fn file(&self, status: StatusCode, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        self.common(&mut response);
        let headers = response.headers_mut();
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let reach = if self.embeddable {
            "cross-origin"
        } else {
            "same-origin"
        };
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static(reach));
        response
    }

    /// What each answer has.
    pub(super) fn common(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            ROBOTS,
            HeaderValue::from_static("noindex, nofollow, noarchive"),
        );
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.hsts {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
        }
    }
}

/// A page may do what is listed, and nothing else. The redirect of a form leads to a store, and Chromium holds that against
/// `form-action` too.
fn content_policy(page: &PortalPage, stores: &[String]) -> HeaderValue {
    let stores = stores.join(" ");
    let script = page.script.as_deref().unwrap_or("'none'");
    let frames = if page.has_frames {
        format!("frame-src 'self' {stores}; ")
    } else {
        String::new()
    };
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {script}; img-src 'self' data: {stores}; media-src 'self' {stores}; \
         {frames}form-action 'self' {stores}; frame-ancestors 'none'; base-uri 'none'",
        page.style
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// Adds `Retry-After`, in whole seconds.
pub(super) fn retry_after(response: &mut Response<Body>, after: std::time::Duration) {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

/// Adds a cookie.
pub(super) fn set_cookie(response: &mut Response<Body>, cookie: HeaderValue) {
    response.headers_mut().append(SET_COOKIE, cookie);
}

/// An answer to a request that is not read.
pub(super) fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to a request whose answer took too long.
pub(super) fn late() -> Response<Body> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
