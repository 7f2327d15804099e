//! What a request for a file gets: its page, or the file. Pure: the table of the guide, as code.

use std::time::Duration;

use axum::http::Method;

use super::client::{FetchSite, RequestSigns};
use super::ticket::BUTTON_LIFE;
use crate::job::OpenMode;
use crate::portal_access::{OpenKind, OpenMethod};

/// What a request for one file gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkDecision {
    /// The page with the button.
    Page,
    /// A signed link.
    Open(OpenKind, OpenMethod),
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkRequest<'a> {
    pub(super) method: &'a Method,
    pub(super) mode: OpenMode,
    pub(super) signs: &'a RequestSigns,
    /// The age of a valid ticket that the request carries.
    pub(super) ticket: Option<Duration>,
    /// Whether the visitor is signed in.
    pub(super) is_signed_in: bool,
}

/// Decides. A page costs nothing and counts nothing, so it is what a scanner gets.
pub(super) fn decide(request: &LinkRequest<'_>) -> LinkDecision {
    let LinkRequest {
        method,
        mode,
        signs,
        ticket,
        is_signed_in,
    } = *request;
    let of_page = if signs.is_embed {
        OpenKind::Embed
    } else {
        OpenKind::Button
    };
    let direct = if signs.is_embed {
        OpenKind::Embed
    } else {
        OpenKind::Direct
    };
    let is_own_embed = signs.is_embed && signs.site == Some(FetchSite::SameOrigin);
    match (mode, method) {
        (OpenMode::Direct, &Method::HEAD) => LinkDecision::Open(OpenKind::Direct, OpenMethod::Head),
        (OpenMode::Direct, &Method::POST) => LinkDecision::Open(OpenKind::Button, OpenMethod::Get),
        (OpenMode::Direct, _) => LinkDecision::Open(direct, OpenMethod::Get),
        (OpenMode::Page, &Method::HEAD) => LinkDecision::Page,
        (OpenMode::Page, &Method::POST) => match ticket {
            Some(age) if age <= BUTTON_LIFE => {
                LinkDecision::Open(OpenKind::Button, OpenMethod::Get)
            }
            _ => LinkDecision::Page,
        },
        // A page that is fetched before its link is followed has no reader yet.
        (OpenMode::Page, _) if signs.is_prefetch => LinkDecision::Page,
        (OpenMode::Page, _) if ticket.is_some() || is_signed_in && is_own_embed => {
            LinkDecision::Open(of_page, OpenMethod::Get)
        }
        // Scanners do so too: the line says that it was neither a button nor a browser.
        (OpenMode::Page, _) if signs.is_tool() => {
            LinkDecision::Open(OpenKind::Direct, OpenMethod::Get)
        }
        (OpenMode::Page, _) => LinkDecision::Page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs() -> RequestSigns {
        RequestSigns {
            site: Some(FetchSite::None),
            is_embed: false,
            has_fetch_headers: true,
            accepts_html: true,
            has_range: false,
            is_prefetch: false,
        }
    }

    #[test]
    fn the_table() {
        use LinkDecision::{Open, Page};
        use OpenKind::{Button, Direct, Embed};
        use OpenMethod::{Get, Head};
        let browser = signs();
        let image = RequestSigns {
            is_embed: true,
            accepts_html: false,
            site: Some(FetchSite::SameOrigin),
            ..signs()
        };
        let foreign_image = RequestSigns {
            site: Some(FetchSite::CrossSite),
            ..image
        };
        let curl = RequestSigns {
            site: None,
            has_fetch_headers: false,
            accepts_html: false,
            ..signs()
        };
        let (get, head, post) = (Method::GET, Method::HEAD, Method::POST);
        let (fresh, old) = (
            Some(Duration::from_secs(9)),
            Some(Duration::from_secs(3_700)),
        );
        for (row, (method, signs, ticket, signed_in, page, direct)) in [
            (&get, &browser, None, false, Page, Open(Direct, Get)),
            (&get, &browser, None, true, Page, Open(Direct, Get)),
            (
                &get,
                &browser,
                fresh,
                false,
                Open(Button, Get),
                Open(Direct, Get),
            ),
            (
                &get,
                &image,
                fresh,
                false,
                Open(Embed, Get),
                Open(Embed, Get),
            ),
            (&get, &image, old, false, Open(Embed, Get), Open(Embed, Get)),
            (&get, &image, None, true, Open(Embed, Get), Open(Embed, Get)),
            (&get, &image, None, false, Page, Open(Embed, Get)),
            (&get, &foreign_image, None, true, Page, Open(Embed, Get)),
            (
                &get,
                &curl,
                None,
                false,
                Open(Direct, Get),
                Open(Direct, Get),
            ),
            (&head, &curl, None, false, Page, Open(Direct, Head)),
            (&head, &browser, None, false, Page, Open(Direct, Head)),
            (
                &post,
                &browser,
                fresh,
                false,
                Open(Button, Get),
                Open(Button, Get),
            ),
            (&post, &browser, old, false, Page, Open(Button, Get)),
            (&post, &browser, None, true, Page, Open(Button, Get)),
        ]
        .into_iter()
        .enumerate()
        {
            for (mode, expected) in [(OpenMode::Page, page), (OpenMode::Direct, direct)] {
                let request = LinkRequest {
                    method,
                    mode,
                    signs,
                    ticket,
                    is_signed_in: signed_in,
                };
                assert_eq!(decide(&request), expected, "row {row}, {mode:?}");
            }
        }
    }
}
