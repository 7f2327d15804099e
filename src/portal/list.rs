//! `/j/<token>`: the files of a job for one recipient, a page at a time, with links that are signed as the page is shown.

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use presign::PresignedUrl;

use super::Portal;
use super::answer::PageSources;
use super::cookies::BrowserNonce;
use super::counts::PortalCount;
use super::link::shown_media;
use super::visitor::{Denial, Visitor};
use crate::config::PortalDelivery;
use crate::media::RenditionUrls;
use crate::portal_access::{AccessRefusal, ClosedBecause, SignedEntry, SignedPage, Visit};
use crate::render::portal::{
    FilesPage, PortalMedia, PortalPage, PortalWriter, ShownFile, ShownPreview, ShownRenditions,
    ShownZip,
};
use crate::text::chain;

/// GET and HEAD of `/j/<token>`.
pub(super) async fn first_page(
    State(portal): State<Portal>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let token = token.map(|Path(token)| token).unwrap_or_default();
    answered(&portal, &token, 1, request).await
}

/// GET and HEAD of `/j/<token>/<page>`.
pub(super) async fn page(
    State(portal): State<Portal>,
    place: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let (token, page) = place.map(|Path(place)| place).unwrap_or_default();
    // A number as this code writes it, and not `+1` or `01`.
    let number = page
        .parse()
        .ok()
        .filter(|number: &u32| number.to_string() == page);
    answered(&portal, &token, number.unwrap_or(0), request).await
}

async fn answered(portal: &Portal, token: &str, page: u32, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let visitor = Visitor::of(portal, &parts);
    match answer_page(&visitor, token, page).await {
        Ok(response) => response,
        Err(denial) => visitor.denied(&denial),
    }
}

async fn answer_page(visitor: &Visitor, token: &str, page: u32) -> Result<Response<Body>, Denial> {
    let read = visitor.token(token)?;
    if !read.object.is_page() {
        let location = HeaderValue::try_from(format!("/d/{token}"));
        let location = location.map_err(|_| AccessRefusal::Forged)?;
        return Ok(visitor.answers().redirect(StatusCode::SEE_OTHER, location));
    }
    let page = page.checked_sub(1).ok_or(AccessRefusal::Forged)?;
    let access = &visitor.services.access;
    let visit = match access.visit(token, visitor.now).await {
        Ok(visit) => visit,
        Err(refusal) => {
            visitor.record_refusal(&read, &refusal).await;
            return Err(refusal.into());
        }
    };
    let session = visitor.session.as_ref();
    if let Err(refusal) = access.admit(&visit, session, visitor.now).await {
        visitor.record_refusal(&read, &refusal).await;
        return visitor.not_admitted(&visit, token, refusal);
    }
    if visitor.method == Method::HEAD {
        // Nothing is signed for a request that shows nothing.
        return Ok(visitor.answers().line(StatusCode::OK, ""));
    }
    visitor
        .portal
        .limits
        .open(&visitor.open_key(&visit, access.spell(&read).expose()))?;
    let evidence = visitor.evidence(None);
    let viewing = access.view(&visit, page, &evidence, session, visitor.now);
    let signed = viewing.await?;
    visitor.count(PortalCount::Viewed);
    if visitor.signs.is_tool() {
        return Ok(as_list(visitor, &signed));
    }
    Ok(as_page(visitor, &visit, token, &signed).await)
}

/// One link a line, for curl and wget.
fn as_list(visitor: &Visitor, signed: &SignedPage) -> Response<Body> {
    let origin = &visitor.services.settings.origin;
    let mut lines = String::new();
    for entry in signed.entries.iter().flatten() {
        let _ = writeln!(lines, "{origin}/d/{}", entry.token.expose());
    }
    visitor.answers().line(StatusCode::OK, lines.trim_end())
}

/// Where the file of an entry is opened from the page.
struct EntryPlaces {
    href: String,
    /// The small rendition, where the portal itself serves it.
    small: String,
    /// The large one.
    large: String,
    again: Option<String>,
}

/// The renditions of an entry, at the store or through the portal.
fn shown_renditions<'a>(
    of_file: &'a RenditionUrls,
    places: &'a EntryPlaces,
    is_streamed: bool,
) -> ShownRenditions<'a> {
    let place = |signed: &'a PresignedUrl, own: &'a str| match is_streamed {
        true => own,
        false => signed.expose(),
    };
    let RenditionUrls { small, large } = of_file;
    let large = large.as_ref();
    ShownRenditions {
        small: (place(&small.0, &places.small), small.1),
        large: large.map(|(url, width)| (place(url, &places.large), *width)),
    }
}

async fn as_page(
    visitor: &Visitor,
    visit: &Visit,
    token: &str,
    signed: &SignedPage,
) -> Response<Body> {
    let browser = visitor.browser.unwrap_or_else(BrowserNonce::random);
    let entries: Vec<&SignedEntry> = signed.entries.iter().flatten().collect();
    let places: Vec<EntryPlaces> = entries
        .iter()
        .map(|entry| {
            let token = entry.token.expose();
            let ticket = visitor.portal.tickets.issue(token, &browser, visitor.now);
            let href = format!("/d/{token}?t={ticket}");
            EntryPlaces {
                small: format!("{href}&s=small"),
                large: format!("{href}&s=large"),
                again: entry.embed.as_ref().map(|_| href.clone()),
                href,
            }
        })
        .collect();
    let is_streamed = visitor.services.settings.deliver == PortalDelivery::Stream;
    let is_inline = entries.first().is_some_and(|entry| entry.object.is_inline);
    let size_bytes = entries.iter().map(|entry| entry.object.size_bytes).sum();
    let files = entries
        .iter()
        .zip(&places)
        .map(|(entry, places)| ShownFile {
            name: &entry.object.name,
            path: &entry.object.path,
            size: entry.object.size_bytes,
            modified: entry.object.modified,
            href: &places.href,
            preview: shown_media(&entry.object)
                .zip(entry.embed.as_ref())
                .map(|(media, url)| ShownPreview {
                    media,
                    // A store that readers cannot reach shows them nothing.
                    src: match (&entry.renditions, is_streamed) {
                        (Some(_), true) if media == PortalMedia::Picture => &places.small,
                        (_, true) => &places.href,
                        (Some(of_picture), false) if media == PortalMedia::Picture => {
                            of_picture.small.0.expose()
                        }
                        (_, false) => url.expose(),
                    },
                    again: places.again.as_deref(),
                    renditions: entry
                        .renditions
                        .as_ref()
                        .map(|of_file| shown_renditions(of_file, places, is_streamed)),
                }),
        });
    let zip_places: Vec<String> = signed
        .zips
        .iter()
        .map(|zip| {
            let token = zip.token.expose();
            let ticket = visitor.portal.tickets.issue(token, &browser, visitor.now);
            format!("/d/{token}?t={ticket}")
        })
        .collect();
    let zips = signed.zips.iter().zip(&zip_places);
    let number = signed.page + 1;
    let place = |number: u32| match number {
        1 => format!("/j/{token}"),
        number => format!("/j/{token}/{number}"),
    };
    let sender = &visitor.services.presenting.mail.sender_name;
    let page = FilesPage {
        job: visit.job.job.as_str(),
        now: visitor.now,
        page_size: u64::from(visit.job.page_size),
        title: visit.job.title.as_deref().unwrap_or(sender),
        message: visit.job.message.as_ref().filter(|_| signed.page == 0),
        recipient: visit
            .reader
            .as_ref()
            .and_then(|reader| reader.name.as_deref()),
        is_shared: visit.reader.is_none(),
        files: files.collect(),
        zips: zips
            .map(|(zip, href)| ShownZip {
                files: zip.files,
                size: zip.object.size_bytes,
                href,
            })
            .collect(),
        zip_missing: visit.job.zips.left_out,
        missed: signed
            .entries
            .iter()
            .filter_map(|entry| entry.as_ref().err())
            .map(|closed| {
                let reason = match closed.reason {
                    ClosedBecause::Unlinkable(reason) => Some(reason),
                    ClosedBecause::Revoked => None,
                };
                (closed.path.as_str(), reason)
            })
            .collect(),
        total: u64::from(visit.job.objects),
        size_bytes,
        page: u64::from(number),
        pages: u64::from(signed.pages),
        previous: (number > 1).then(|| place(number - 1)),
        next: (number < signed.pages).then(|| place(number + 1)),
        opens: is_inline,
        ends_at: visit.ends_at,
        signed_in: visitor.session.is_some().then_some(token),
    };
    let page = visitor.page_of(Some(visit), None, |writer| match visit.job.is_gallery {
        false => writer.files(&page),
        true => gallery(visitor, writer, visit.job.template.as_str(), &page),
    });
    let sources = PageSources {
        stores: visitor.stores(visit).await,
    };
    let response = visitor.answers().page(StatusCode::OK, page, &sources);
    visitor.with_nonce(response, &browser)
}

/// The page as a gallery. A template of the operator's that cannot be filled in does not keep the files from their reader: they are
/// listed.
fn gallery(
    visitor: &Visitor,
    writer: &PortalWriter<'_>,
    template: &str,
    page: &FilesPage<'_>,
) -> PortalPage {
    writer.gallery(template, page).unwrap_or_else(|error| {
        if let Some(not_logged) = visitor.portal.lines.templates.due() {
            tracing::warn!(
                error = chain(&error),
                not_logged,
                template,
                "a page of the portal could not be made with its template: its files are listed"
            );
        }
        writer.files(page)
    })
}
