//! Renders the pages of a gallery one at a time. A page is rendered when it is full, and only one is in memory.
//!
//! The number of links is announced beforehand, since each page names its neighbours, and the links of pages may have to be
//! signed first.

mod ask;
mod cards;
mod landing;
mod of_portal;
mod page;
mod policy;
mod views;

use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::TimeZone;
use presign::PresignedUrl;

use self::ask::RenewalMail;
use self::cards::{CardWords, Cards};
use self::landing::Landing;
pub(super) use self::of_portal::{PageAuthor, portal_gallery};
use self::page::GalleryPage;
use self::policy::{PageReach, policy};
use self::views::{IndexView, PageFrame, PageHead, PageView};
pub(super) use self::views::{index_sample, page_sample};
use super::brand::PageStyle;
use super::paragraphs::MessageView;
use super::strings::Language;
use super::templates::{Templates, gallery_file};
use super::view::{self, InstantView, LanguageView};
use super::zips::ZipsView;
use super::{MailSettings, RenderError, RenderedPage, ZipLinks};
use crate::audit::AuditedLinks;
use crate::job::{ContentDisposition, Locale};

use crate::media::{PageRenditions, Pictures};
use crate::plan::Audience;
use crate::plan::Plan;

/// How pages link to each other.
#[derive(Debug)]
pub enum PageLinks {
    /// By file name: all pages are in one folder.
    Relative,
    /// By signed links, in the order of [`Gallery::file_names`].
    Signed(Vec<PresignedUrl>),
}

impl PageLinks {
    fn href<'a>(&'a self, names: &'a [String], index: usize) -> Option<&'a str> {
        match self {
            Self::Relative => names.get(index).map(String::as_str),
            Self::Signed(urls) => urls.get(index).map(PresignedUrl::expose),
        }
    }
}

/// A gallery in progress.
pub struct Gallery<'a> {
    templates: &'a Templates,
    /// The template's name.
    template: &'a str,
    /// The common prefix of all keys: [`view::base`].
    base: &'a str,
    time_zone: &'a TimeZone,
    language: &'a Language,
    words: CardWords,
    frame: PageFrame<'a>,
    /// The style sheet with the colours of the brand.
    palette: Option<PageStyle>,
    names: Vec<String>,
    nav: PageLinks,
    announced: u64,
    page_size: usize,
    /// The number of links so far.
    found: u64,
    /// The number of those on finished pages.
    done: u64,
    page: GalleryPage,
    /// The length of the previous page in bytes, an estimate for the next.
    room: usize,
    landing: Landing,
    size_bytes: u64,
}

// Written by hand, because it holds links.
impl fmt::Debug for Gallery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Gallery({} of {} links, {} pages done)",
            self.found,
            self.announced,
            self.landing.pages().len()
        )
    }
}

impl<'a> Gallery<'a> {
    /// The number of pages for a number of links, without an index.
    pub fn page_count(total_links: u64, page_size: usize) -> usize {
        let pages = total_links.div_ceil(page_size.max(1) as u64).max(1);
        usize::try_from(pages).unwrap_or(usize::MAX)
    }

    /// The names of all files: a single page is `index.html`; several pages are `page-1.html` and so on after an index.
    pub fn file_names(total_links: u64, page_size: usize) -> Vec<String> {
        let index = "index.html".to_owned();
        match Self::page_count(total_links, page_size) {
            1 => vec![index],
            pages => std::iter::once(index)
                .chain((1..=pages).map(|page| format!("page-{page}.html")))
                .collect(),
        }
    }

    /// Starts a gallery for the announced number of links.
    pub fn begin(
        templates: &'a Templates,
        plan: &'a Plan,
        audience: &'a Audience,
        total_links: u64,
        nav: PageLinks,
        settings: &'a MailSettings,
    ) -> Result<Self, RenderError> {
        let page_size = plan
            .gallery
            .as_ref()
            .map_or(crate::store::MAX_PAGE, |gallery| gallery.page_size)
            .max(1);
        let names = Self::file_names(total_links, page_size);
        if let PageLinks::Signed(urls) = &nav
            && urls.len() != names.len()
        {
            return Err(RenderError::PageLinks {
                pages: names.len(),
                links: urls.len(),
            });
        }
        let language = templates.strings().for_locale(locale(audience, settings));
        Ok(Self {
            templates,
            template: plan
                .gallery
                .as_ref()
                .map_or("gallery", |gallery| gallery.template.as_str()),
            base: view::base(plan.prefix()),
            time_zone: time_zone(audience, plan),
            language,
            words: CardWords::new(language)?,
            frame: frame(plan, audience, total_links, settings, language)?,
            palette: settings.brand.palette().style(),
            names,
            nav,
            announced: total_links,
            page_size,
            found: 0,
            done: 0,
            page: GalleryPage::default(),
            room: 0,
            landing: Landing::default(),
            size_bytes: 0,
        })
    }

    /// The same gallery, whose pages link ZIPs of all files.
    #[must_use]
    pub fn with_zips(mut self, zips: &ZipLinks) -> Self {
        self.frame.zip = ZipsView::of(zips);
        self
    }

    /// Adds a batch, and returns the pages that it filled. A picture with renditions is shown by them.
    pub fn push(
        &mut self,
        links: &AuditedLinks,
        pictures: &Pictures,
        renditions: &PageRenditions,
    ) -> Result<Vec<RenderedPage>, RenderError> {
        let mut full = Vec::new();
        for link in links.links() {
            self.found += 1;
            if self.found > self.announced {
                return Err(RenderError::Changed {
                    announced: self.announced,
                    found: self.found,
                });
            }
            let picture = pictures.of(link.key());
            let renditions = renditions.get(link.key());
            self.page
                .add(link, picture, renditions, self.found, self.base);
            // The last page is left to `finish`: files without a link may still follow.
            if self.page.count == self.page_size && self.found < self.announced {
                full.push(self.turn()?);
            }
        }
        for missed in links.unavailable() {
            self.page.miss(missed, self.base);
        }
        Ok(full)
    }

    /// Renders the last page and, when there are several, the index.
    pub fn finish(mut self) -> Result<Vec<RenderedPage>, RenderError> {
        if self.found != self.announced {
            return Err(RenderError::Changed {
                announced: self.announced,
                found: self.found,
            });
        }
        let last = self.turn()?;
        if self.names.len() == 1 {
            return Ok(vec![last]);
        }
        let index = self.index()?;
        Ok(vec![last, index])
    }

    /// Renders the current page, and starts the next.
    fn turn(&mut self) -> Result<RenderedPage, RenderError> {
        let mut page = std::mem::take(&mut self.page);
        page.lay_out();
        let number = self.landing.pages().len() + 1;
        let pages = self.names.len().max(2) - 1;
        // With an index, page n is at n in the list of files; without, the only page is at 0.
        let at = if pages == 1 { 0 } else { number };
        let href = |at: usize| self.nav.href(&self.names, at);
        let file = gallery_file(self.template, "page.html");
        // Files that open in the browser are saved from there.
        let nothing = BTreeSet::new();
        let saved = if self.frame.opens {
            &nothing
        } else {
            &page.saved
        };
        let view = PageView {
            head: self.head(&file, &page.origins, saved),
            frame: &self.frame,
            count: page.count as u64,
            size_bytes: page.size_bytes,
            first: self.done + 1,
            last: self.done + page.count as u64,
            page: number as u64,
            pages: pages as u64,
            paged: pages > 1,
            index: href(0).filter(|_| pages > 1),
            previous: href(number - 1).filter(|_| number > 1),
            next: href(number + 1).filter(|_| number < pages),
            has_photos: page.has_photos(),
            missed: views::missed(&page),
            contents: views::contents(&page),
            folders: self
                .templates
                .loops_over_folders(&file)
                .then(|| views::folders(&page, self.time_zone)),
        };
        let mut cards = Cards::new(self.language, &self.words, self.time_zone);
        let html = self
            .templates
            .render_around(&file, &view, self.room, |html| cards.write(&page, html))?;
        self.size_bytes = self.size_bytes.saturating_add(page.size_bytes);
        if pages > 1 {
            let href = self.nav.href(&self.names, at).unwrap_or_default();
            self.landing.add(&page, number, href, self.done + 1);
        }
        self.done += page.count as u64;
        self.page = GalleryPage::after(page);
        self.room = html.len();
        Ok(RenderedPage {
            file_name: self.names[at].clone(),
            html,
        })
    }

    fn index(&self) -> Result<RenderedPage, RenderError> {
        let file = gallery_file(self.template, "index.html");
        let view = IndexView {
            head: self.head(&file, self.landing.origins(), &BTreeSet::new()),
            frame: &self.frame,
            count: self.announced,
            size_bytes: self.size_bytes,
            pages: self.landing.pages(),
            indexed: self.landing.indexed(),
        };
        let html = self.templates.render(&file, &view)?;
        Ok(RenderedPage {
            file_name: self.names[0].clone(),
            html,
        })
    }

    /// The head of a page that loads content from `origins` and saves files from `saved`.
    fn head(
        &self,
        file: &str,
        origins: &BTreeSet<String>,
        saved: &BTreeSet<String>,
    ) -> PageHead<'_> {
        PageHead {
            title: &self.frame.title,
            policy: policy(
                self.templates.inline_hashes(file),
                self.palette.as_ref().map(|style| style.hash.as_str()),
                &PageReach::Published { origins, saved },
            ),
            referrer: "no-referrer",
            palette: self.palette.as_ref().map(|style| style.rules.as_str()),
        }
    }
}

/// The language of the page: its reader's, or the configuration's if several readers share it.
fn locale<'a>(audience: &'a Audience, settings: &'a MailSettings) -> &'a Locale {
    let theirs = audience
        .recipient()
        .and_then(|person| person.locale.as_ref());
    theirs.unwrap_or(&settings.locale)
}

/// The time zone of the page: its reader's, as in their mail, or the job's if several readers share it.
fn time_zone<'a>(audience: &'a Audience, plan: &'a Plan) -> &'a TimeZone {
    let theirs = audience
        .recipient()
        .and_then(|person| person.time_zone.as_ref());
    theirs.unwrap_or(&plan.time_zone)
}

fn frame<'a>(
    plan: &'a Plan,
    audience: &'a Audience,
    total: u64,
    settings: &'a MailSettings,
    language: &'a Language,
) -> Result<PageFrame<'a>, RenderError> {
    let title = view::shown(plan.title().unwrap_or(&settings.sender_name));
    let moment = |instant| InstantView::new(instant, time_zone(audience, plan));
    let message = plan.job.gallery.as_ref();
    let message = message.and_then(|order| order.message.as_ref());
    let message = message.map(|message| {
        let languages = (locale(audience, settings), &settings.locale);
        MessageView::new("gallery.message", message, languages, &plan.scope())
    });
    Ok(PageFrame {
        language: LanguageView::of(language),
        ask: RenewalMail::new(plan, settings, language, &title),
        title: title.into_owned(),
        total,
        recipient: audience.recipient().map(|person| person.display_name()),
        sender: &settings.sender_name,
        brand: settings.brand.page_view(&settings.sender_name),
        message: message.transpose()?,
        // Not the time of this attempt: the same links give the same page.
        made_at: moment(plan.lifetime.signed_at),
        expires_at: moment(plan.lifetime.expires_at),
        sooner: view::sooner(plan.lifetime.bound),
        zip: None,
        opens: plan.disposition == ContentDisposition::Inline,
        signed_in: None,
    })
}

#[cfg(test)]
mod tests;
