//! A page of the portal in the gallery's templates, for the jobs that ask for a gallery.
//!
//! A published page holds links that are signed once. This one is made for each view: its files open through links of the portal,
//! and its pictures come from links that were signed a moment ago.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::ask::RenewalMail;
use super::cards::{CardWords, Cards};
use super::page::{GalleryPage, OnPortal};
use super::policy::{OF_PAGE, PageReach, policy};
use super::views::{self, PageFrame, PageHead, PageView};
use crate::job::Locale;
use crate::render::RenderError;
use crate::render::brand::Brand;
use crate::render::helpers::is_portal_link;
use crate::render::paragraphs::MessageView;
use crate::render::portal::{FilesPage, PortalPage};
use crate::render::strings::Language;
use crate::render::templates::{Templates, gallery_file};
use crate::render::view::{self, InstantView, LanguageView, Missed};
use crate::render::zips::ZipsView;

/// Who shows the page, and in which language.
pub(in crate::render) struct PageAuthor<'a> {
    pub(in crate::render) templates: &'a Templates,
    pub(in crate::render) language: &'a Language,
    /// The languages of messages: the reader's, or else that of mails.
    pub(in crate::render) locales: (&'a Locale, &'a Locale),
    pub(in crate::render) brand: &'a Brand,
    pub(in crate::render) sender: &'a str,
    /// The address for questions.
    pub(in crate::render) contact: &'a str,
    pub(in crate::render) zone: &'a TimeZone,
}

/// How many files a page has before the first of this one.
const fn before(page: &FilesPage<'_>) -> u64 {
    (page.page - 1) * page.page_size
}

/// Renders a page of files with the template `name`, or with the built-in one if the portal has none of that name.
///
/// # Errors
/// A template of the operator's that cannot be filled in.
pub(in crate::render) fn portal_gallery(
    author: &PageAuthor<'_>,
    name: &str,
    page: &FilesPage<'_>,
) -> Result<PortalPage, RenderError> {
    let PageAuthor {
        templates,
        language,
        ..
    } = *author;
    let name = if templates.has_gallery(name) {
        name
    } else {
        "gallery"
    };
    let file = gallery_file(name, "page.html");
    let laid_out = laid_out(page);
    let title = view::shown(page.title);
    let frame = frame(author, page, &title);
    let palette = author.brand.palette().style();
    let hashes = templates.inline_hashes(&file);
    let palette_hash = palette.as_ref().map(|style| style.hash.as_str());
    let stores = laid_out.origins.iter().cloned();
    let reach = PageReach::Portal(stores.chain([OF_PAGE.to_owned()]).collect());
    let view = PageView {
        head: PageHead {
            title: &title,
            policy: policy(hashes, palette_hash, &reach),
            // The button that signs a reader out is told from another site's by its origin.
            referrer: "same-origin",
            palette: palette.as_ref().map(|style| style.rules.as_str()),
        },
        frame: &frame,
        count: laid_out.count as u64,
        size_bytes: laid_out.size_bytes,
        first: before(page) + 1,
        last: before(page) + laid_out.count as u64,
        page: page.page,
        pages: page.pages,
        paged: page.pages > 1,
        index: None,
        previous: page.previous.as_deref(),
        next: page.next.as_deref(),
        has_photos: laid_out.has_photos(),
        missed: views::missed(&laid_out),
        contents: views::contents(&laid_out),
        folders: templates
            .loops_over_folders(&file)
            .then(|| views::folders(&laid_out, author.zone)),
    };
    let words = CardWords::new(language)?;
    let mut cards = Cards::new(language, &words, author.zone);
    let html = templates.render_around(&file, &view, page.files.len() * 1024, |html| {
        cards.write(&laid_out, html)
    })?;
    let style = hashes.style.iter().map(String::as_str).chain(palette_hash);
    Ok(PortalPage {
        html,
        style: style.collect::<Vec<_>>().join(" "),
        script: Some(hashes.script.join(" ").into()),
        has_frames: true,
    })
}

/// The files in their folders.
fn laid_out(page: &FilesPage<'_>) -> GalleryPage {
    let mut laid_out = GalleryPage::default();
    for (file, nth) in page.files.iter().zip(before(page) + 1..) {
        let picture = file.preview.map(|preview| preview.src);
        laid_out.show(&OnPortal {
            folder: view::folder(file.path),
            name: file.name,
            size_bytes: file.size,
            modified: file.modified,
            href: file.href,
            picture,
            renditions: file.preview.and_then(|preview| preview.renditions),
            nth,
        });
    }
    for (name, why) in &page.missed {
        laid_out.lack(Missed {
            name: view::shown(name).into_owned(),
            reason: why.map_or("portal_revoked_text", view::reason),
        });
    }
    laid_out.lay_out();
    laid_out
}

fn frame<'a>(author: &PageAuthor<'a>, page: &FilesPage<'a>, title: &str) -> PageFrame<'a> {
    let moment = |at: Timestamp| InstantView::new(at, author.zone);
    let message = page
        .message
        .and_then(|message| MessageView::of(message, author.locales));
    let places = BTreeMap::from([("title", title.to_owned()), ("job", page.job.to_owned())]);
    let subject = author.language.say("ask_subject", None, &places);
    let subject = subject.unwrap_or_else(|_| page.job.to_owned());
    PageFrame {
        language: LanguageView::of(author.language),
        title: title.to_owned(),
        total: page.total,
        recipient: page.recipient,
        sender: author.sender,
        brand: author.brand.page_view(author.sender),
        message,
        ask: RenewalMail::to(author.contact, &subject),
        made_at: moment(page.now),
        expires_at: moment(page.ends_at),
        sooner: None,
        zip: ZipsView::of_portal(&page.zips, page.zip_missing),
        opens: page.opens,
        signed_in: page
            .signed_in
            .filter(|token| is_portal_link(&format!("/j/{token}"))),
    }
}
