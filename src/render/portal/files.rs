//! The pages with files: one file and its button, the files of a job, and all that was sent to a person.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::super::paragraphs::MessageView;
use super::{PortalPage, PortalWriter, push_hidden};
use crate::job::FilledMessage;
use crate::links::Unlinkable;
use crate::render::RenderError;
use crate::render::gallery::{PageAuthor, portal_gallery};
use crate::render::view::{reason, shown};
use crate::text::html::escape;

/// How a browser can show a file within a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalMedia {
    /// In an `<img>`.
    Picture,
    /// In a `<video>`.
    Video,
    /// In an `<audio>`.
    Sound,
}

/// A file as pages show it.
#[derive(Debug, Clone, Copy)]
pub struct ShownFile<'a> {
    /// The name under which it is saved.
    pub name: &'a str,
    /// Its path below the folder that all files of the job share.
    pub path: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last modified.
    pub modified: Timestamp,
    /// Where a click leads. The page of one file has a form instead.
    pub href: &'a str,
    /// What the page shows of the file.
    pub preview: Option<ShownPreview<'a>>,
}

/// What a page shows of a file.
#[derive(Debug, Clone, Copy)]
pub struct ShownPreview<'a> {
    /// How.
    pub media: PortalMedia,
    /// From where; relative links lead to the portal itself.
    pub src: &'a str,
    /// From where it is loaded again when the signature of `src` has ended, if that is another place.
    pub again: Option<&'a str>,
    /// The renditions of a picture, or the cover of a video.
    pub renditions: Option<ShownRenditions<'a>>,
}

/// The renditions of a file, each with its width in pixels.
#[derive(Debug, Clone, Copy)]
pub struct ShownRenditions<'a> {
    /// The small one.
    pub small: (&'a str, u32),
    /// The large one, if there is one.
    pub large: Option<(&'a str, u32)>,
}

impl ShownPreview<'_> {
    /// Whether the page needs the script that loads it again.
    const fn is_played(&self) -> bool {
        matches!(self.media, PortalMedia::Video | PortalMedia::Sound)
    }
}

/// The page of one file.
#[derive(Debug, Clone, Copy)]
pub struct FilePage<'a> {
    /// The file; its `href` is that of its form.
    pub file: ShownFile<'a>,
    /// The ticket that its button sends.
    pub ticket: &'a str,
    /// Whether the file opens in the browser instead of being saved.
    pub opens: bool,
    /// The title of the job.
    pub title: Option<&'a str>,
    /// When the link expires.
    pub ends_at: Timestamp,
    /// Whether the reader is signed in.
    pub signed_in: bool,
}

/// A page of the files of a job.
#[derive(Debug)]
pub struct FilesPage<'a> {
    /// The id of the job.
    pub job: &'a str,
    /// When the page is shown.
    pub now: Timestamp,
    /// How many files a page has.
    pub page_size: u64,
    /// The title of the job.
    pub title: &'a str,
    /// What the job says to the readers; on the first page.
    pub message: Option<&'a FilledMessage>,
    /// The name of the recipient, if the files are for one whose name the job gives.
    pub recipient: Option<&'a str>,
    /// Whether all recipients of the job share the page.
    pub is_shared: bool,
    /// The files of this page.
    pub files: Vec<ShownFile<'a>>,
    /// The ZIPs of all files.
    pub zips: Vec<ShownZip<'a>>,
    /// How many files of the job are in none of the ZIPs.
    pub zip_missing: u64,
    /// The files of this page that have no link, and why; without a reason, the sender revoked them.
    pub missed: Vec<(&'a str, Option<Unlinkable>)>,
    /// The number of files of the job.
    pub total: u64,
    /// The size of the files of this page together, in bytes.
    pub size_bytes: u64,
    /// The number of this page, from 1, and of all pages.
    pub page: u64,
    /// The number of pages.
    pub pages: u64,
    /// Where the page before this one is.
    pub previous: Option<String>,
    /// Where the page after this one is.
    pub next: Option<String>,
    /// Whether files open in the browser instead of being saved.
    pub opens: bool,
    /// When the links expire.
    pub ends_at: Timestamp,
    /// The token, for signing out, if the reader is signed in.
    pub signed_in: Option<&'a str>,
}

/// A ZIP of all files of a job.
#[derive(Debug, Clone, Copy)]
pub struct ShownZip<'a> {
    /// How many files are in it.
    pub files: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Where a click leads.
    pub href: &'a str,
}

/// Something that was sent to a person.
#[derive(Debug)]
pub struct ShownDistribution {
    /// Its title.
    pub title: String,
    /// Where its files are.
    pub href: String,
    /// When its links expire.
    pub ends_at: Timestamp,
}

/// The page of all that was sent to a person.
#[derive(Debug)]
pub struct MinePage {
    /// What was sent, the newest first.
    pub distributions: Vec<ShownDistribution>,
}

impl PortalWriter<'_> {
    /// The page of one file, with the button that opens it.
    pub fn file(&self, page: &FilePage<'_>) -> PortalPage {
        let file = &page.file;
        let mut content = String::new();
        if let Some(title) = page.title {
            let _ = write!(content, "<p class=\"small\">{}</p>", escape(&shown(title)));
        }
        let _ = write!(
            content,
            "<h1 class=\"name\"><bdi>{}</bdi></h1><p>{}</p>",
            escape(&shown(file.name)),
            escape(&self.language.size(file.size))
        );
        self.push_preview(file, "large", &mut content);
        let _ = write!(
            content,
            "<form method=\"post\" action=\"{}\">",
            escape(file.href)
        );
        push_hidden(&mut content, "ticket", Some(page.ticket));
        let _ = write!(
            content,
            "<button>{}</button></form><p class=\"small\">{}</p>",
            self.say(if page.opens { "open" } else { "download" }),
            self.until(page.ends_at)
        );
        if page.signed_in {
            content.push_str(&self.sign_out(None));
        }
        let has_script = file.preview.as_ref().is_some_and(ShownPreview::is_played);
        self.page(file.name, &content, has_script)
    }

    /// A page of the files of a job in the gallery's template of this name.
    ///
    /// # Errors
    /// A template of the operator's cannot be filled in.
    pub fn gallery(&self, template: &str, page: &FilesPage<'_>) -> Result<PortalPage, RenderError> {
        let author = PageAuthor {
            templates: self.templates,
            language: self.language,
            locales: (&self.locales.0, self.locales.1),
            brand: self.brand,
            sender: self.sender,
            contact: self.contact,
            zone: &self.zone,
        };
        portal_gallery(&author, template, page)
    }

    /// A page of the files of a job.
    pub fn files(&self, page: &FilesPage<'_>) -> PortalPage {
        let count = self.language.number(page.total);
        let message = page.message.and_then(|message| {
            let (wanted, fallback) = &self.locales;
            MessageView::of(message, (wanted, fallback))
        });
        let mut content = format!(
            "<h1>{}</h1>{}<p>{}</p>",
            escape(&shown(page.title)),
            message.as_ref().map(MessageView::html).unwrap_or_default(),
            self.say_with("files", Some(page.total), &[("count", &count)])
        );
        // The address of a recipient without a name is not shown: the page may have come to another.
        let whose = match (page.recipient, page.is_shared) {
            (Some(name), _) if self.brand.has_personal_note() => {
                self.say_with("personal", None, &[("name", &shown(name))])
            }
            (None, true) => self.say("shared"),
            (Some(_), _) | (None, false) => String::new(),
        };
        let until = format!("{} {whose}", self.until(page.ends_at));
        let _ = write!(content, "<p class=\"small\">{}</p>", until.trim_end());
        self.push_zips(page, &mut content);
        content.push_str("<ul class=\"files\">");
        let verb = self.say(if page.opens { "open" } else { "download" });
        for (number, file) in page.files.iter().enumerate() {
            content.push_str("<li>");
            self.push_preview(file, "small", &mut content);
            let _ = write!(
                content,
                "<span class=\"name\" id=\"f{number}\"><bdi>{}</bdi></span><span class=\"size\">{}</span>\
                 <a class=\"button\" id=\"g{number}\" href=\"{}\" aria-labelledby=\"g{number} f{number}\">{verb}</a></li>",
                escape(&shown(file.path)),
                escape(&self.language.size(file.size)),
                escape(file.href),
            );
        }
        for (name, why) in &page.missed {
            let _ = write!(
                content,
                "<li><span class=\"name\"><bdi>{}</bdi></span><span class=\"small\">{}</span></li>",
                escape(&shown(name)),
                self.say(why.map_or("portal_revoked_text", reason))
            );
        }
        content.push_str("</ul>");
        if page.files.is_empty() && page.missed.is_empty() {
            let _ = write!(content, "<p>{}</p>", self.say("gallery_empty_text"));
        }
        self.push_pages(page, &mut content);
        if let Some(token) = page.signed_in {
            content.push_str(&self.sign_out(Some(token)));
        }
        let mut previews = page.files.iter().filter_map(|file| file.preview.as_ref());
        let has_script = previews.any(ShownPreview::is_played);
        self.page(page.title, &content, has_script)
    }

    /// The page of all that was sent to a person.
    pub fn mine(&self, page: &MinePage) -> PortalPage {
        let mut content = format!("<h1>{}</h1>", self.say("portal_mine_title"));
        if page.distributions.is_empty() {
            let _ = write!(content, "<p>{}</p>", self.say("portal_mine_empty"));
        }
        content.push_str("<ul class=\"files\">");
        for sent in &page.distributions {
            let _ = write!(
                content,
                "<li><a class=\"name\" href=\"{}\"><bdi>{}</bdi></a><span class=\"size\">{}</span></li>",
                escape(&sent.href),
                escape(&shown(&sent.title)),
                self.until(sent.ends_at)
            );
        }
        content.push_str("</ul>");
        content.push_str(&self.sign_out(None));
        self.page(&self.plain("portal_mine_title", None, &[]), &content, false)
    }

    fn push_preview(&self, file: &ShownFile<'_>, size: &str, content: &mut String) {
        let Some(ShownPreview {
            media, src, again, ..
        }) = file.preview
        else {
            return;
        };
        let (src, name) = (escape(src), escape(&shown(file.name)));
        let again = again.map_or_else(String::new, |again| {
            format!(" data-again=\"{}\"", escape(again))
        });
        let _ = match media {
            PortalMedia::Picture => write!(
                content,
                "<img class=\"{size}\" src=\"{src}\" alt=\"{name}\" loading=\"lazy\" decoding=\"async\">"
            ),
            PortalMedia::Video => write!(
                content,
                "<video class=\"{size}\" controls playsinline preload=\"metadata\" src=\"{src}\"{again} aria-label=\"{name}\"></video>"
            ),
            PortalMedia::Sound => write!(
                content,
                "<audio class=\"{size}\" controls preload=\"metadata\" src=\"{src}\"{again} aria-label=\"{name}\"></audio>"
            ),
        };
    }

    /// A button for each ZIP, and how many files are in none.
    fn push_zips(&self, page: &FilesPage<'_>, content: &mut String) {
        if page.zips.is_empty() {
            return;
        }
        let total = self.language.number(page.zips.len() as u64);
        content.push_str("<p class=\"whole\">");
        for (zip, number) in page.zips.iter().zip(1..) {
            let (count, number) = (
                self.language.number(zip.files),
                self.language.number(number),
            );
            let size = self.language.size(zip.size);
            let key = match page.zips.len() {
                1 => "zip_all",
                _ => "zip_part",
            };
            let values = [
                ("count", &*count),
                ("size", &*size),
                ("number", &*number),
                ("total", &*total),
            ];
            let _ = write!(
                content,
                "<a class=\"button\" href=\"{}\">{}</a> ",
                escape(zip.href),
                self.say_with(key, Some(zip.files), &values)
            );
        }
        content.push_str("</p>");
        if page.zip_missing > 0 {
            let count = self.language.number(page.zip_missing);
            let _ = write!(
                content,
                "<p class=\"small\">{}</p>",
                self.say_with("zip_missing", Some(page.zip_missing), &[("count", &count)])
            );
        }
    }

    fn push_pages(&self, page: &FilesPage<'_>, content: &mut String) {
        if page.pages <= 1 {
            return;
        }
        let (number, total) = (
            self.language.number(page.page),
            self.language.number(page.pages),
        );
        let _ = write!(content, "<nav aria-label=\"{}\"><p>", self.say("pages"));
        let mut link = |href: &Option<String>, key: &str, rel: &str| {
            if let Some(href) = href {
                let _ = write!(
                    content,
                    "<a class=\"button plain\" rel=\"{rel}\" href=\"{}\">{}</a> ",
                    escape(href),
                    self.say(key)
                );
            }
        };
        link(&page.previous, "previous_page", "prev");
        link(&page.next, "next_page", "next");
        let _ = write!(
            content,
            "</p><p class=\"small\">{}</p></nav>",
            self.say_with("page_of", None, &[("number", &number), ("total", &total)])
        );
    }
}
