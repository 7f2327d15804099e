//! The pages of a gallery, one at a time: a page is rendered when it is full, and only one is in memory.
//!
//! How many links there will be is told beforehand, since each page names the ones beside it, and their own
//! links may have to be signed first.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

use super::helpers::is_safe_url;
use super::templates::{InlineHashes, Templates, gallery_file};
use super::view::{self, Missed, Moment, Tongue};
use super::{MailSettings, RenderError, RenderedPage};
use crate::audit::AuditedLinks;
use crate::job::Disposition;
use crate::links::{Audience, Link, PresignedUrl, Unavailable, disposition};
use crate::media::{Picture, Pictures};
use crate::plan::Plan;

/// The most files without a link that a page names.
const MAX_MISSED: usize = 200;

/// How pages link to each other.
#[derive(Debug)]
pub enum PageLinks {
    /// By their names: they stand in one folder.
    Relative,
    /// By links of their own, in the order of [`Gallery::file_names`].
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

/// A gallery that is being made.
pub struct Gallery<'a> {
    templates: &'a Templates,
    /// The template's name.
    template: &'a str,
    prefix: &'a str,
    time_zone: &'a TimeZone,
    frame: Frame<'a>,
    names: Vec<String>,
    nav: PageLinks,
    announced: u64,
    page_size: usize,
    /// How many links came so far.
    found: u64,
    /// How many of those are on pages that are done.
    done: u64,
    page: Page,
    summaries: Vec<Summary>,
    size_bytes: u64,
}

// By hand, since what it holds are links.
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
    /// How many pages so many links make, without an index.
    pub fn page_count(total_links: u64, page_size: usize) -> usize {
        let pages = total_links.div_ceil(page_size.max(1) as u64).max(1);
        usize::try_from(pages).unwrap_or(usize::MAX)
    }

    /// The names of all files: one page is `index.html`; several have an index before `page-1.html`.
    pub fn file_names(total_links: u64, page_size: usize) -> Vec<String> {
        let index = "index.html".to_owned();
        match Self::page_count(total_links, page_size) {
            1 => vec![index],
            pages => std::iter::once(index)
                .chain((1..=pages).map(|page| format!("page-{page}.html")))
                .collect(),
        }
    }

    /// Begins a gallery of as many links as are announced.
    pub fn begin(
        templates: &'a Templates,
        plan: &'a Plan,
        audience: &'a Audience,
        total_links: u64,
        nav: PageLinks,
        settings: &'a MailSettings,
        now: Timestamp,
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
        Ok(Self {
            templates,
            template: plan
                .gallery
                .as_ref()
                .map_or("gallery", |gallery| gallery.template.as_str()),
            prefix: plan.prefix(),
            time_zone: &settings.time_zone,
            frame: Frame::new(templates, plan, audience, total_links, settings, now),
            names,
            nav,
            announced: total_links,
            page_size,
            found: 0,
            done: 0,
            page: Page::default(),
            summaries: Vec::new(),
            size_bytes: 0,
        })
    }

    /// Takes in a batch, and returns the pages that it filled.
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
            self.page
                .add(link, picture, self.found, self.prefix, self.time_zone);
            // The last page waits for finish: files without a link may still come.
            if self.page.count == self.page_size && self.found < self.announced {
                full.push(self.turn()?);
            }
        }
        for missed in links.unavailable() {
            self.page.miss(missed, self.prefix);
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

    /// Renders the page that is being filled, and begins the next.
    fn turn(&mut self) -> Result<RenderedPage, RenderError> {
        let mut page = std::mem::take(&mut self.page);
        // Photos first, whatever their folder is called; among folders with and without, the order stays.
        page.folders.sort_by_key(|folder| folder.photos.is_empty());
        let number = self.summaries.len() + 1;
        let pages = self.names.len().max(2) - 1;
        // With an index, page n stands at n in the list of files; without, the only page stands at 0.
        let at = if pages == 1 { 0 } else { number };
        let href = |at: usize| self.nav.href(&self.names, at);
        let file = gallery_file(self.template, "page.html");
        let head = self
            .frame
            .head(self.templates.inline_hashes(&file), &page.origins);
        self.size_bytes = self.size_bytes.saturating_add(page.size_bytes);
        let view = PageView {
            head,
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
            has_photos: page.folders.iter().any(|folder| !folder.photos.is_empty()),
            missed: page.missed_view(),
            folders: &page.folders,
        };
        let html = self.templates.render(&file, &view)?;
        self.done += page.count as u64;
        let summary = page.summary(number, href(at).unwrap_or_default());
        self.summaries.push(summary);
        Ok(RenderedPage {
            file_name: self.names[at].clone(),
            html,
        })
    }

    fn index(&self) -> Result<RenderedPage, RenderError> {
        let file = gallery_file(self.template, "index.html");
        let view = IndexView {
            head: self
                .frame
                .head(self.templates.inline_hashes(&file), &BTreeSet::new()),
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
}

/// What is the same on all pages of a gallery.
#[derive(Default, Serialize)]
struct Frame<'a> {
    language: Tongue<'a>,
    title: String,
    /// How many files all pages have together.
    total: u64,
    /// For whom the links are, if for one person.
    recipient: Option<&'a str>,
    sender: &'a str,
    made_at: Moment,
    expires_at: Moment,
    sooner: Option<&'static str>,
    /// Whether a link shows its file, rather than saving it.
    opens: bool,
}

impl<'a> Frame<'a> {
    fn new(
        templates: &'a Templates,
        plan: &'a Plan,
        audience: &'a Audience,
        total: u64,
        settings: &'a MailSettings,
        now: Timestamp,
    ) -> Self {
        let recipient = audience.recipient();
        let locale = recipient
            .and_then(|recipient| recipient.locale.as_ref())
            .unwrap_or(&settings.locale);
        let gallery = plan.gallery.as_ref();
        Self {
            language: Tongue::of(templates.strings().for_locale(locale)),
            title: view::shown(
                gallery.map_or_else(|| plan.job.id.as_str(), |gallery| &gallery.title),
            ),
            total,
            recipient: recipient.map(|recipient| recipient.display_name()),
            sender: &settings.sender_name,
            made_at: Moment::new(now, &settings.time_zone),
            expires_at: Moment::new(plan.lifetime.expires_at, &settings.time_zone),
            sooner: view::sooner(plan.lifetime.bound),
            opens: plan.disposition == Disposition::Inline,
        }
    }

    /// The head of a page that may load pictures and sound from `origins` and nothing from anywhere else.
    fn head(&self, hashes: &InlineHashes, origins: &BTreeSet<String>) -> Head<'_> {
        let sources = |sources: Vec<&str>| match sources.is_empty() {
            true => "'none'".to_owned(),
            false => sources.join(" "),
        };
        let texts = |texts: &[String]| sources(texts.iter().map(String::as_str).collect());
        let media: Vec<&str> = origins.iter().map(String::as_str).collect();
        let images = media.iter().copied().chain(["data:"]).collect();
        let policy = [
            "default-src 'none'".to_owned(),
            format!("img-src {}", sources(images)),
            format!("media-src {}", sources(media)),
            format!("style-src {}", texts(&hashes.style)),
            format!("script-src {}", texts(&hashes.script)),
            "base-uri 'none'".to_owned(),
            "form-action 'none'".to_owned(),
        ];
        Head {
            title: &self.title,
            policy: policy.join("; "),
        }
    }
}

/// The links of one page, in their folders.
#[derive(Default)]
struct Page {
    folders: Vec<Folder>,
    /// Where in `folders` a folder is.
    by_name: HashMap<String, usize>,
    count: usize,
    size_bytes: u64,
    origins: BTreeSet<String>,
    missed: Vec<Missed>,
    missed_count: u64,
}

impl Page {
    fn add(
        &mut self,
        link: &Link,
        picture: Option<&Picture>,
        nth: u64,
        prefix: &str,
        time_zone: &TimeZone,
    ) {
        let name = view::folder(view::below(link.key().as_str(), prefix));
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.by_name.insert(name.to_owned(), self.folders.len());
                self.folders.push(Folder {
                    name: view::shown(name),
                    ..Folder::default()
                });
                self.folders.len() - 1
            }
        };
        let folder = &mut self.folders[at];
        let kind = Kind::of(&link.name);
        if kind != Kind::File
            && let Some(origin) = origin(link.url.expose())
        {
            self.origins.insert(origin.to_owned());
        }
        let item = Item {
            nth,
            name: view::shown(&link.name),
            label: label(&link.name),
            size_bytes: link.object.size_bytes,
            modified: Moment::new(link.object.modified, time_zone),
            url: link.url.expose().to_owned(),
            width: picture.map(|picture| picture.width),
            height: picture.map(|picture| picture.height),
        };
        self.count += 1;
        self.size_bytes = self.size_bytes.saturating_add(link.object.size_bytes);
        folder.count += 1;
        match kind {
            Kind::Photo => folder.photos.push(item),
            Kind::Video => folder.videos.push(item),
            Kind::Sound => folder.sounds.push(item),
            Kind::File => folder.files.push(item),
        }
    }

    fn miss(&mut self, missed: &Unavailable, prefix: &str) {
        self.missed_count += 1;
        if self.missed.len() < MAX_MISSED {
            let name = view::shown(view::below(&missed.key, prefix));
            self.missed.push(Missed {
                name,
                reason: view::reason(missed.reason),
            });
        }
    }

    fn missed_view(&self) -> Option<MissedFiles<'_>> {
        let more = self.missed_count - self.missed.len() as u64;
        (self.missed_count > 0).then(|| MissedFiles {
            count: self.missed_count,
            files: &self.missed,
            more: (more > 0).then_some(more),
        })
    }

    fn summary(&self, number: usize, href: &str) -> Summary {
        let folder = |folder: Option<&Folder>| {
            folder
                .map(|folder| folder.name.clone())
                .filter(|name| !name.is_empty())
        };
        Summary {
            page: number as u64,
            href: href.to_owned(),
            count: self.count as u64,
            size_bytes: self.size_bytes,
            first: folder(self.folders.first()),
            last: folder(self.folders.last()).filter(|_| self.folders.len() > 1),
        }
    }
}

/// How a file is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Photo,
    Video,
    Sound,
    /// As a card: documents, and all that could run scripts.
    File,
}

impl Kind {
    fn of(name: &str) -> Self {
        let media_type = disposition::passive_type(name).unwrap_or_default();
        match media_type.split('/').next() {
            Some("image") => Self::Photo,
            Some("video") => Self::Video,
            Some("audio") => Self::Sound,
            _ => Self::File,
        }
    }
}

/// The badge of a file: its extension, if that is a short word.
fn label(name: &str) -> String {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_word =
        (1..=5).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_word {
        extension.to_ascii_uppercase()
    } else {
        String::new()
    }
}

/// The scheme and host of a link, as a policy names them.
fn origin(url: &str) -> Option<&str> {
    let host = url.find("://")? + 3;
    let end = url[host..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |end| host + end);
    let origin = &url[..end];
    let is_plain = url[host..end]
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'));
    (is_plain && is_safe_url(origin)).then_some(origin)
}

/// What the template of a page sees.
#[derive(Serialize)]
struct PageView<'a> {
    head: Head<'a>,
    #[serde(flatten)]
    frame: &'a Frame<'a>,
    count: u64,
    size_bytes: u64,
    /// The numbers of its first and last file, among those of all pages.
    first: u64,
    last: u64,
    /// Its number, and how many there are.
    page: u64,
    pages: u64,
    /// Whether there are several.
    paged: bool,
    index: Option<&'a str>,
    previous: Option<&'a str>,
    next: Option<&'a str>,
    has_photos: bool,
    missed: Option<MissedFiles<'a>>,
    folders: &'a [Folder],
}

/// What the template of an index sees.
#[derive(Serialize)]
struct IndexView<'a> {
    head: Head<'a>,
    #[serde(flatten)]
    frame: &'a Frame<'a>,
    count: u64,
    size_bytes: u64,
    pages: &'a [Summary],
}

#[derive(Default, Serialize)]
struct Head<'a> {
    title: &'a str,
    policy: String,
}

#[derive(Default, Serialize)]
struct Folder {
    /// Nothing for files that are in none.
    name: String,
    count: u64,
    photos: Vec<Item>,
    videos: Vec<Item>,
    sounds: Vec<Item>,
    files: Vec<Item>,
}

#[derive(Default, Serialize)]
struct Item {
    /// Counted over all pages, from 1.
    nth: u64,
    name: String,
    label: String,
    size_bytes: u64,
    modified: Moment,
    url: String,
    /// Not known yet for any picture; when they are, the page will not jump.
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Serialize)]
struct MissedFiles<'a> {
    count: u64,
    files: &'a [Missed],
    more: Option<u64>,
}

/// A page, as the index tells of it.
#[derive(Default, Serialize)]
struct Summary {
    page: u64,
    href: String,
    count: u64,
    size_bytes: u64,
    /// Its first and last folder.
    first: Option<String>,
    last: Option<String>,
}

/// What page templates are checked against: a view in which everything is there.
pub(super) fn page_sample() -> Value {
    let items = || vec![Item::default()];
    let folder = Folder {
        photos: items(),
        videos: items(),
        sounds: items(),
        files: items(),
        ..Folder::default()
    };
    sample(&PageView {
        head: Head::default(),
        frame: &Frame::default(),
        count: 1,
        size_bytes: 0,
        first: 1,
        last: 1,
        page: 1,
        pages: 1,
        paged: true,
        index: Some(""),
        previous: Some(""),
        next: Some(""),
        has_photos: true,
        missed: Some(MissedFiles {
            count: 1,
            files: &[Missed::default()],
            more: Some(1),
        }),
        folders: &[folder],
    })
}

/// What index templates are checked against.
pub(super) fn index_sample() -> Value {
    sample(&IndexView {
        head: Head::default(),
        frame: &Frame::default(),
        count: 1,
        size_bytes: 0,
        pages: &[Summary::default()],
    })
}

fn sample(view: &impl Serialize) -> Value {
    serde_json::to_value(view).expect("a view has text keys only")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::super::samples::*;
    use super::super::syntax::inline_blocks;
    use super::super::templates::base64;
    use super::*;
    use crate::links::Unlinkable;

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
        let now = at("2026-11-23T17:40:00Z");
        let mut gallery = Gallery::begin(
            &templates,
            &plan,
            &Audience::Everyone,
            25,
            PageLinks::Relative,
            &settings,
            now,
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
                .filter(|href| {
                    !href.starts_with("http") && !matches!(href.as_str(), "#" | "data:,")
                })
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
        let now = at("2026-11-23T17:40:00Z");
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
                now,
            )
        };
        insta::assert_snapshot!(begin(2).unwrap_err(), @"the gallery has 3 pages, but links to 2 of them");
        let mut gallery = begin(3).unwrap();
        let first = gallery
            .push(&batch(0..15), &Pictures::default())
            .unwrap()
            .remove(0);
        let hrefs = hrefs(&first.html);
        assert!(
            hrefs.ends_with(&[
                "https://out.example/0".to_owned(),
                "https://out.example/2".to_owned(),
                "#".to_owned()
            ]),
            "{hrefs:?}"
        );
    }

    #[test]
    fn another_number_of_links_than_was_announced_is_an_error() {
        let (plan, templates, settings) = (photos(10), templates(), settings());
        let now = at("2026-11-23T17:40:00Z");
        let begin = || {
            Gallery::begin(
                &templates,
                &plan,
                &Audience::Everyone,
                3,
                PageLinks::Relative,
                &settings,
                now,
            )
            .unwrap()
        };
        insta::assert_snapshot!(begin().push(&batch(0..4), &Pictures::default()).unwrap_err(), @"the gallery was laid out for 3 links, but 4 came: the objects changed meanwhile");
        insta::assert_snapshot!(begin().finish().unwrap_err(), @"the gallery was laid out for 3 links, but 0 came: the objects changed meanwhile");
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
                let hash = base64(&Sha256::digest(inside.as_bytes()));
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
        // The lightbox begins with an empty picture of its own.
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
            .filter(|href| !matches!(*href, "#" | "data:,"))
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
    fn the_same_links_give_the_same_bytes() {
        let make = || pages(&photos(10), &Audience::Everyone, &[&batch(0..25)]);
        assert_eq!(make(), make());
    }
}
