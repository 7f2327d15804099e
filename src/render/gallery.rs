//! Renders the pages of a gallery one at a time. A page is rendered when it is full, and only one is in memory.
//!
//! The number of links is announced beforehand, since each page names its neighbours, and the links of pages may have to be
//! signed first.

mod ask;
mod cards;
mod page;
mod policy;
mod views;

use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::TimeZone;
use presign::PresignedUrl;

use self::ask::RenewalMail;
use self::cards::{CardWords, Cards};
use self::page::GalleryPage;
use self::policy::policy;
use self::views::{GallerySummary, IndexView, PageFrame, PageHead, PageView};
pub(super) use self::views::{index_sample, page_sample};
use super::strings::Language;
use super::templates::{Templates, gallery_file};
use super::view::{self, InstantView, LanguageView};
use super::{MailSettings, RenderError, RenderedPage};
use crate::audit::AuditedLinks;
use crate::job::ContentDisposition;

use crate::media::Pictures;
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
    summaries: Vec<GallerySummary>,
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
            self.summaries.len()
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
        let locale = audience
            .recipient()
            .and_then(|person| person.locale.as_ref());
        let language = templates
            .strings()
            .for_locale(locale.unwrap_or(&settings.locale));
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
            frame: frame(plan, audience, total_links, settings, language),
            names,
            nav,
            announced: total_links,
            page_size,
            found: 0,
            done: 0,
            page: GalleryPage::default(),
            room: 0,
            summaries: Vec::new(),
            size_bytes: 0,
        })
    }

    /// Adds a batch, and returns the pages that it filled.
    pub fn push(
        &mut self,
        links: &AuditedLinks,
        pictures: &Pictures,
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
            self.page.add(link, picture, self.found, self.base);
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
        let number = self.summaries.len() + 1;
        let pages = self.names.len().max(2) - 1;
        // With an index, page n is at n in the list of files; without, the only page is at 0.
        let at = if pages == 1 { 0 } else { number };
        let href = |at: usize| self.nav.href(&self.names, at);
        let file = gallery_file(self.template, "page.html");
        let view = PageView {
            head: self.head(&file, &page.origins),
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
        self.done += page.count as u64;
        let summary = GallerySummary::of(&page, number, href(at).unwrap_or_default());
        self.summaries.push(summary);
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
            head: self.head(&file, &BTreeSet::new()),
            frame: &self.frame,
            count: self.announced,
            size_bytes: self.size_bytes,
            pages: &self.summaries,
        };
        let html = self.templates.render(&file, &view)?;
        Ok(RenderedPage {
            file_name: self.names[0].clone(),
            html,
        })
    }

    /// The head of a page that loads content from `origins`.
    fn head(&self, file: &str, origins: &BTreeSet<String>) -> PageHead<'_> {
        PageHead {
            title: &self.frame.title,
            policy: policy(self.templates.inline_hashes(file), origins),
        }
    }
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
) -> PageFrame<'a> {
    let gallery = plan.gallery.as_ref();
    let title = view::shown(gallery.map_or_else(|| plan.job.id.as_str(), |gallery| &gallery.title));
    let moment = |instant| InstantView::new(instant, time_zone(audience, plan));
    PageFrame {
        language: LanguageView::of(language),
        ask: RenewalMail::new(plan, settings, language, &title),
        title: title.into_owned(),
        total,
        recipient: audience.recipient().map(|person| person.display_name()),
        sender: &settings.sender_name,
        // Not the time of this attempt: the same links give the same page.
        made_at: moment(plan.lifetime.signed_at),
        expires_at: moment(plan.lifetime.expires_at),
        sooner: view::sooner(plan.lifetime.bound),
        opens: plan.disposition == ContentDisposition::Inline,
    }
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding};
    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::super::samples::*;
    use super::super::syntax::inline_blocks;
    use super::*;
    use crate::links::{Link, Unlinkable};

    fn photos(page_size: usize) -> Plan {
        let over =
            json!({ "gallery": { "title": "Three days", "publish": { "dir": "/srv/galleries" } } });
        let mut plan = plan("photos/", &over);
        plan.gallery.as_mut().unwrap().page_size = page_size;
        plan
    }

    fn batch(keys: std::ops::Range<usize>) -> AuditedLinks {
        audited(
            keys.map(|n| link(&format!("photos/{n}.jpg"), 1000))
                .collect(),
            &[],
        )
    }

    #[test]
    fn pages_are_named_after_how_many_there_are() {
        assert_eq!(Gallery::file_names(0, 10), ["index.html"]);
        assert_eq!(Gallery::file_names(10, 10), ["index.html"]);
        assert_eq!(
            Gallery::file_names(11, 10),
            ["index.html", "page-1.html", "page-2.html"]
        );
    }

    #[test]
    fn a_page_is_rendered_as_soon_as_it_is_full() {
        let (plan, templates, settings) = (photos(10), templates(), settings());
        let mut gallery = Gallery::begin(
            &templates,
            &plan,
            &Audience::Everyone,
            25,
            PageLinks::Relative,
            &settings,
        )
        .unwrap();
        let names = |pages: Vec<RenderedPage>| {
            pages
                .into_iter()
                .map(|page| page.file_name)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(gallery.push(&batch(0..9), &Pictures::default()).unwrap()),
            [""; 0]
        );
        assert_eq!(
            names(gallery.push(&batch(9..25), &Pictures::default()).unwrap()),
            ["page-1.html", "page-2.html"]
        );
        assert_eq!(
            names(gallery.finish().unwrap()),
            ["page-3.html", "index.html"]
        );
    }

    #[test]
    fn pages_lead_to_each_other() {
        let pages = pages(&photos(10), &Audience::Everyone, &[&batch(0..25)]);
        let nav = |page: &RenderedPage| {
            let hrefs = hrefs(&page.html);
            hrefs
                .into_iter()
                .filter(|href| href.ends_with(".html"))
                .collect::<Vec<_>>()
        };
        let told: Vec<String> = pages
            .iter()
            .map(|page| format!("{}: {}", page.file_name, nav(page).join(" ")))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @"
        page-1.html: index.html page-2.html
        page-2.html: index.html page-1.html page-3.html
        page-3.html: index.html page-2.html
        index.html: page-1.html page-2.html page-3.html
        ");
    }

    #[test]
    fn signed_pages_lead_to_each_other_by_their_links() {
        let (plan, templates, settings) = (photos(10), templates(), settings());
        let urls = |count: usize| {
            (0..count)
                .map(|n| PresignedUrl::new(format!("https://out.example/{n}")))
                .collect()
        };
        let begin = |count| {
            Gallery::begin(
                &templates,
                &plan,
                &Audience::Everyone,
                15,
                PageLinks::Signed(urls(count)),
                &settings,
            )
        };
        insta::assert_snapshot!(begin(2).unwrap_err(), @"the gallery has 3 pages, but links to 2 of them");
        let mut gallery = begin(3).unwrap();
        let first = gallery
            .push(&batch(0..15), &Pictures::default())
            .unwrap()
            .remove(0);
        let mut hrefs = hrefs(&first.html);
        hrefs.retain(|href| href.starts_with("https://out.example/"));
        assert_eq!(hrefs, ["https://out.example/0", "https://out.example/2"]);
    }

    #[test]
    fn another_number_of_links_than_was_announced_is_an_error() {
        let (plan, templates, settings) = (photos(10), templates(), settings());
        let begin = || {
            Gallery::begin(
                &templates,
                &plan,
                &Audience::Everyone,
                3,
                PageLinks::Relative,
                &settings,
            )
            .unwrap()
        };
        insta::assert_snapshot!(begin().push(&batch(0..4), &Pictures::default()).unwrap_err(), @"the gallery was planned for 3 links, but 4 were signed: the objects changed meanwhile");
        insta::assert_snapshot!(begin().finish().unwrap_err(), @"the gallery was planned for 3 links, but 0 were signed: the objects changed meanwhile");
    }

    #[test]
    fn the_policy_names_the_hash_of_what_stands_in_the_page_and_the_hosts_of_the_links() {
        let pages = pages(&photos(10), &Audience::Everyone, &[&batch(0..12)]);
        for page in &pages {
            let policy = page
                .html
                .split("Content-Security-Policy\" content=\"")
                .nth(1)
                .unwrap();
            let policy = policy.split('"').next().unwrap().replace("&#39;", "'");
            for (element, directive) in [("style", "style-src"), ("script", "script-src")] {
                let blocks = inline_blocks(&page.html, element);
                assert_eq!(blocks.len(), 1, "{element} of {}", page.file_name);
                let inside = blocks[0]
                    .split_once('>')
                    .unwrap()
                    .1
                    .rsplit_once("</")
                    .unwrap()
                    .0;
                let hash = Base64::encode_string(&Sha256::digest(inside.as_bytes()));
                assert!(
                    policy.contains(&format!("{directive} 'sha256-{hash}';")),
                    "{policy}"
                );
            }
            assert!(
                policy.starts_with("default-src 'none'; img-src "),
                "{policy}"
            );
        }
        assert!(
            pages[0]
                .html
                .contains("img-src https://acme-reports.s3.eu-west-1.amazonaws.com data:;")
        );
    }

    #[test]
    fn only_what_cannot_run_scripts_is_shown_in_the_page() {
        let keys = ["a.jpg", "b.svg", "c.html", "d.mp4", "e.mp3", "f.pdf", "g"];
        let links = audited(
            keys.iter()
                .map(|key| link(&format!("photos/{key}"), 1))
                .collect(),
            &[],
        );
        let page = pages(&photos(10), &Audience::Everyone, &[&links]).remove(0);
        // The lightbox starts with an empty picture of its own.
        let sources: Vec<String> = attribute(&page.html, " src=\"")
            .iter()
            .filter(|url| !url.starts_with("data:"))
            .map(|url| {
                url.split('?')
                    .next()
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(sources, ["a.jpg", "d.mp4", "e.mp3"]);
    }

    #[test]
    fn every_link_of_a_page_is_one_that_was_given() {
        let links = batch(0..9);
        let page = pages(&photos(10), &Audience::Everyone, &[&links]).remove(0);
        let given: BTreeSet<&str> = links.links().iter().map(|link| link.url.expose()).collect();
        let found = hrefs(&page.html);
        let found: BTreeSet<&str> = found
            .iter()
            .map(String::as_str)
            .filter(|href| href.starts_with("http"))
            .collect();
        assert_eq!(found, given);
    }

    #[test]
    fn hostile_names_stay_text() {
        let keys = [
            "photos/\"><script>x</script>/\" onload=x.jpg",
            "photos/{{x}}.mp4",
            "photos/a\u{202E}b\n.pdf",
        ];
        let mut links: Vec<Link> = keys.iter().map(|key| link(key, 1)).collect();
        for link in &mut links {
            link.name = link.key().file_name().to_owned();
        }
        let links = audited(links, &[("photos/<img src=x>", Unlinkable::Missing)]);
        let page = pages(&photos(10), &Audience::Everyone, &[&links]).remove(0);
        assert_eq!(page.html.matches("<script>").count(), 1);
        assert!(!page.html.contains("<img src=x>") && !page.html.contains("\" onload"));
        assert!(
            page.html.contains("alt=\"&quot; onload=x.jpg\"") && page.html.contains("{{x}}.mp4")
        );
        assert!(page.html.contains("a\u{FFFD}b\u{FFFD}.pdf"));
    }

    #[test]
    fn an_empty_gallery_has_a_page_of_its_own() {
        let pages = pages(
            &photos(10),
            &Audience::Everyone,
            &[&audited(Vec::new(), &[])],
        );
        assert_eq!(pages.len(), 1);
        assert!(
            pages[0].html.contains("Nothing here yet")
                && pages[0]
                    .html
                    .contains("img-src data:; media-src &#39;none&#39;")
        );
    }

    #[test]
    fn another_attempt_and_the_same_links_give_the_same_bytes() {
        let make = || pages(&photos(10), &Audience::Everyone, &[&batch(0..25)]);
        assert_eq!(make(), make());
    }
}
