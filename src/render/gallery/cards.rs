//! Writes the folders and cards of a page, byte for byte as the engine would fill in `partials/cards.html.hbs`.
//!
//! A page has a thousand cards, and the engine takes tens of microseconds for each: it converts every value to JSON and looks up
//! every name. A test compares both.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::RenderError;
use super::super::helpers::{is_portal_link, is_rendition_beside, is_safe_url};
use super::super::strings::Language;
use super::super::templates::CARDS;
use super::page::{self, Crumb, GalleryFolder, GalleryPage, Item, Neighbours};
use crate::text::html::escape_into;

/// The common attributes of name links: they open in a new tab and send no referrer.
const NAME: &str = "\" dir=\"auto\" target=\"_blank\" rel=\"noopener noreferrer\">";

/// How wide pictures are shown, about. It is less than the width on a phone, so that a phone of three device pixels for each loads the
/// small rendition: 640 pixels are enough for a screen of a hand's width, and a sixth of the bytes.
const SIZES: &str = "(max-width: 34rem) 50vw, 25vw";

/// Appends texts that are already escaped or need no escaping.
macro_rules! put {
    ($html:ident: $($part:expr),+) => {{ $($html.push_str($part);)+ }};
}

/// The words on a gallery's cards, escaped.
pub(super) struct CardWords {
    preview: String,
    name: String,
    size: String,
    date: String,
    previous: String,
    next: String,
    close: String,
}

impl CardWords {
    pub(super) fn new(language: &Language) -> Result<Self, RenderError> {
        let word = |key| said(language, key, None);
        Ok(Self {
            preview: word("column_preview")?,
            name: word("column_name")?,
            size: word("column_size")?,
            date: word("column_date")?,
            previous: word("previous")?,
            next: word("next")?,
            close: word("close")?,
        })
    }
}

/// Formats a string, escaped.
fn said(language: &Language, key: &str, count: Option<u64>) -> Result<String, RenderError> {
    let values = count.map(|count| ("count", language.number(count)));
    let text = language
        .say(key, count, &values.into_iter().collect::<BTreeMap<_, _>>())
        .map_err(|reason| complaint(format!("{{{{t}}}} {reason}")))?;
    let mut escaped = String::with_capacity(text.len());
    escape_into(&text, &mut escaped);
    Ok(escaped)
}

fn complaint(reason: String) -> RenderError {
    RenderError::Template {
        file: format!("{CARDS}.hbs"),
        line: None,
        reason,
    }
}

/// The error about a link that a page may not contain. The URL is a secret, so the error does not contain it.
fn unsafe_link() -> RenderError {
    complaint("{{link}} needs a URL with https: an object's begins with endpoint_url, or public_endpoint_url, of its connection".to_owned())
}

/// Rejects a link to a rendition that a page may not contain.
fn checked_rendition(url: &str) -> Result<(), RenderError> {
    match is_safe_url(url) || is_rendition_beside(url) || is_portal_link(url) {
        true => Ok(()),
        false => Err(unsafe_link()),
    }
}

/// Writes the cards of a page.
pub(super) struct Cards<'a> {
    language: &'a Language,
    words: &'a CardWords,
    time_zone: &'a TimeZone,
    /// The last day that was written, escaped: most files of a folder are from the same day.
    day: Option<(Date, String)>,
    /// The name and the link of the current card, escaped, because the card contains each of them more than once.
    name: String,
    url: String,
    /// Its size, not escaped.
    size: String,
}

impl<'a> Cards<'a> {
    pub(super) const fn new(
        language: &'a Language,
        words: &'a CardWords,
        time_zone: &'a TimeZone,
    ) -> Self {
        Self {
            language,
            words,
            time_zone,
            day: None,
            name: String::new(),
            url: String::new(),
            size: String::new(),
        }
    }

    /// Writes all folders of a laid-out page.
    pub(super) fn write(
        &mut self,
        page: &GalleryPage,
        html: &mut String,
    ) -> Result<(), RenderError> {
        let mut photos = Neighbours::of(page);
        for (at, folder) in page.folders.iter().enumerate() {
            self.folder(page, at, folder, &mut photos, html)?;
        }
        Ok(())
    }

    fn folder(
        &mut self,
        page: &GalleryPage,
        at: usize,
        folder: &GalleryFolder,
        photos: &mut Neighbours,
        html: &mut String,
    ) -> Result<(), RenderError> {
        let words = self.words;
        put!(html: r#"<section id="f"#, itoa::Buffer::new().format(at + 1), "\">\n");
        if !folder.trail.is_empty() {
            let count = said(self.language, "files", Some(folder.count))?;
            heading(&folder.trail, &count, html);
        }
        html.push_str("<table>\n<thead><tr>");
        for column in [&words.preview, &words.name, &words.size, &words.date] {
            put!(html: r#"<th scope="col">"#, column, "</th>");
        }
        html.push_str("</tr></thead>\n");
        if !folder.photos.is_empty() {
            let is_sized = folder.photos.iter().any(|item| item.size.is_some());
            html.push_str(if is_sized {
                "<tbody class=\"photos rows\">\n"
            } else {
                "<tbody class=\"photos\">\n"
            });
            for item in &folder.photos {
                let is_early = photos.is_early();
                let beside = photos.beside_the_next();
                self.photo(page, item, is_early, beside, html)?;
            }
            html.push_str("</tbody>\n");
        }
        self.group(page, "videos", "video", &folder.videos, html)?;
        self.group(page, "sounds", "audio", &folder.sounds, html)?;
        self.group(page, "files", "", &folder.files, html)?;
        html.push_str("</table>\n</section>\n");
        Ok(())
    }

    fn photo(
        &mut self,
        page: &GalleryPage,
        item: &Item,
        is_early: bool,
        (previous, next): (Option<u64>, Option<u64>),
        html: &mut String,
    ) -> Result<(), RenderError> {
        self.take(page, item)?;
        let mut decimal = itoa::Buffer::new();
        let nth = decimal.format(item.nth);
        put!(html: r#"<tr id="i"#, nth, r#"""#);
        if let Some(shape) = item.shape() {
            put!(html: r#" class="r"#, itoa::Buffer::new().format(shape), r#"""#);
        }
        preview(page.name(item), html);
        put!(html: r#""><a id="p"#, nth, r##"" href="#i"##, nth, r#"" aria-label=""#, &self.name, r#"">"#);
        if let Some(thumbnail) = &item.thumbnail {
            put!(html: r#"<img class="small" src="data:image/jpeg;base64,"#, thumbnail, r#"" alt="">"#);
        }
        let small = page.small(item);
        match small {
            Some(small) => self.renditions(small, page.large(item), item.is_whole, html)?,
            None => put!(html: r#"<img src=""#, &self.url),
        }
        put!(html: r#"" alt=""#, &self.name);
        if let Some((width, height)) = item.size {
            put!(html: r#"" width=""#, itoa::Buffer::new().format(width));
            put!(html: r#"" height=""#, itoa::Buffer::new().format(height));
        }
        html.push_str(match small.is_some() && is_early {
            true => r#"" fetchpriority="high" decoding="async"></a><noscript><nav>"#,
            false => r#"" loading="lazy" decoding="async"></a><noscript><nav>"#,
        });
        let words = self.words;
        let beside = |nth: Option<u64>, rel: &str, word: &str, arrow: &str, html: &mut String| {
            if let Some(nth) = nth {
                let mut decimal = itoa::Buffer::new();
                let nth = decimal.format(nth);
                put!(html: r#"<a rel=""#, rel, r##"" href="#i"##, nth, r#"" aria-label=""#, word, r#"">"#, arrow, "</a>");
            }
        };
        beside(previous, "prev", &words.previous, "‹", html);
        beside(next, "next", &words.next, "›", html);
        put!(html: r##"<a href="#p"##, nth, r#"" aria-label=""#, &words.close, r#"">×</a></nav></noscript></td>"#);
        self.facts(item, None, html)
    }

    /// Opens the tag of a picture that is shown by its renditions, up to the last attribute with a link or its sizes.
    fn renditions(
        &self,
        small: (&str, u32),
        large: Option<(&str, u32)>,
        is_whole: bool,
        html: &mut String,
    ) -> Result<(), RenderError> {
        for (url, _) in std::iter::once(small).chain(large) {
            checked_rendition(url)?;
        }
        html.push_str(match is_whole {
            true => r#"<img class="view whole" src=""#,
            false => r#"<img class="view" src=""#,
        });
        escape_into(small.0, html);
        if let Some(large) = large {
            html.push_str(r#"" srcset=""#);
            escape_into(small.0, html);
            put!(html: " ", itoa::Buffer::new().format(small.1), "w, ");
            escape_into(large.0, html);
            put!(html: " ", itoa::Buffer::new().format(large.1), r#"w" sizes=""#, SIZES);
        }
        Ok(())
    }

    /// Writes the files of a group that are played in their cards or opened from them.
    fn group(
        &mut self,
        page: &GalleryPage,
        class: &str,
        player: &str,
        items: &[Item],
        html: &mut String,
    ) -> Result<(), RenderError> {
        if items.is_empty() {
            return Ok(());
        }
        put!(html: r#"<tbody class=""#, class, "\">\n");
        for item in items {
            self.take(page, item)?;
            let name = page.name(item);
            put!(html: r#"<tr id="i"#, itoa::Buffer::new().format(item.nth), r#"""#);
            preview(name, html);
            html.push_str("\">");
            if !player.is_empty() {
                put!(html: "<", player, r#" controls preload="none" src=""#, &self.url);
                if let Some((poster, _)) = page.small(item) {
                    checked_rendition(poster)?;
                    html.push_str(r#"" poster=""#);
                    escape_into(poster, html);
                }
                put!(html: r#"" aria-label=""#, &self.name, r#""></"#, player, ">");
            }
            html.push_str("</td>");
            self.facts(item, item.note, html)?;
        }
        html.push_str("</tbody>\n");
        Ok(())
    }

    /// Writes the name, the size and the day.
    fn facts(
        &mut self,
        item: &Item,
        note: Option<&str>,
        html: &mut String,
    ) -> Result<(), RenderError> {
        put!(html: r#"<th scope="row"><a href=""#, &self.url, NAME, &self.name, "</a>");
        if let Some(note) = note {
            put!(html: "<small>", &said(self.language, note, None)?, "</small>");
        }
        let mut decimal = itoa::Buffer::new();
        put!(html: r#"</th><td data-v=""#, decimal.format(item.size_bytes), r#"">"#);
        self.size.clear();
        self.language.push_size(item.size_bytes, &mut self.size);
        escape_into(&self.size, html);
        put!(html: r#"</td><td data-v=""#, decimal.format(item.modified.as_second()), r#"">"#);
        self.push_day(item, html);
        html.push_str("</td></tr>\n");
        Ok(())
    }

    fn push_day(&mut self, item: &Item, html: &mut String) {
        let date = self.time_zone.to_datetime(item.modified).date();
        let day = match self.day.take() {
            Some((day, text)) if day == date => text,
            _ => {
                let mut escaped = String::new();
                escape_into(&self.language.date(date), &mut escaped);
                escaped
            }
        };
        html.push_str(&day);
        self.day = Some((date, day));
    }

    /// Escapes the name and the link of a card.
    fn take(&mut self, page: &GalleryPage, item: &Item) -> Result<(), RenderError> {
        let url = page.url(item);
        if !is_safe_url(url) && !is_portal_link(url) {
            return Err(unsafe_link());
        }
        self.name.clear();
        escape_into(page.name(item), &mut self.name);
        self.url.clear();
        escape_into(url, &mut self.url);
        Ok(())
    }
}

/// Opens the cell of a file's badge.
fn preview(name: &str, html: &mut String) {
    html.push_str("><td data-l=\"");
    // A label is a word of ASCII letters and digits.
    html.extend(page::label(name));
}

fn heading(trail: &[Crumb], count: &str, html: &mut String) {
    html.push_str("<h2>");
    for (at, crumb) in trail.iter().enumerate() {
        if at > 0 {
            html.push_str(" <i>/</i> ");
        }
        if let Some(section) = crumb.section {
            put!(html: r##"<a href="#f"##, itoa::Buffer::new().format(section + 1), r#"">"#);
        }
        html.push_str("<bdi>");
        escape_into(&crumb.name, html);
        html.push_str("</bdi>");
        if crumb.section.is_some() {
            html.push_str("</a>");
        }
    }
    put!(html: " <small>", count, "</small></h2>\n");
}

#[cfg(test)]
#[path = "../../../tests/it/support/hostile.rs"]
mod hostile;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::super::samples::*;
    use super::super::super::{RenderedPage, Templates};
    use super::super::{Gallery, PageLinks};
    use super::*;
    use crate::audit::AuditedLinks;
    use crate::job::Recipient;
    use crate::links::{Link, Unlinkable};
    use crate::media::{
        PageRenditions, Picture, PictureFormat, Pictures, Renditions, StoredRenditions,
    };
    use crate::plan::Audience;

    const FORMATS: [PictureFormat; 4] = [
        PictureFormat::Displayed,
        PictureFormat::Heic,
        PictureFormat::Displayed,
        PictureFormat::Other,
    ];

    /// Hostile names in hostile folders, each with every kind of file; some pictures with one or two renditions, in a bucket or
    /// beside the page.
    fn links() -> (AuditedLinks, Pictures, PageRenditions) {
        let mut pictures = Pictures::default();
        let mut of_pictures = Vec::new();
        let mut links: Vec<Link> = Vec::new();
        // A key holds its folder and its name: each gets half of the length.
        let mut keys = hostile::keys();
        keys.retain(|key| key.len() < 500);
        for (number, name) in hostile::words().into_iter().enumerate() {
            let key = &keys[number % keys.len()];
            for ending in ["", ".jpg", ".mp4", ".ogg", ".heic"] {
                let mut link = link(&format!("photos/{key}/{key}{ending}"), 1 << number);
                // A name that was not cleaned: the page must be safe regardless.
                link.name = format!("{name}{ending}");
                if number % 5 > 1 {
                    let large = (number % 5 > 2).then(|| format!("0af{number}-2048.jpg"));
                    let small = format!("0af{number}-640.jpg");
                    let stored = StoredRenditions::new(small, large, None);
                    of_pictures.push((link.key().clone(), stored));
                }
                if number % 3 > 0 {
                    let thumbnail = format!("data:image/jpeg;base64,{number}AAA=");
                    let picture = Picture {
                        width: 100,
                        height: 10 + 10 * u32::try_from(number).unwrap(),
                        format: FORMATS[number % FORMATS.len()],
                        thumbnail: (number % 3 == 1).then_some(thumbnail),
                    };
                    pictures.insert(link.key().clone(), Arc::new(picture));
                }
                links.push(link);
            }
        }
        let missed = hostile::UNLINKABLE.map(|key| (key, Unlinkable::ControlCharacters));
        let location = |name: &str| match name.contains("af3") {
            true => format!("https://out.example/g/{name}?X-Amz-Signature=a&x=b"),
            false => format!("../0af3/{name}"),
        };
        let renditions = PageRenditions::beside(&Renditions { of_pictures }, location);
        (audited(links, &missed), pictures, renditions)
    }

    fn pages(templates: &Templates, locale: &str) -> Vec<RenderedPage> {
        let over = json!({ "gallery": { "title": "</script>&", "publish": { "dir": "/srv/g" } } });
        let mut plan = plan("photos/", &over);
        plan.gallery.as_mut().unwrap().page_size = 50;
        let mut ann = Recipient::parse("Ann <ann@acme.example>").unwrap();
        ann.locale = Some(locale.parse().unwrap());
        let audience = Audience::Recipient(Arc::new(ann));
        let (settings, (links, pictures, renditions)) = (settings(), links());
        let total = links.links().len() as u64;
        let nav = PageLinks::Relative;
        let mut gallery =
            Gallery::begin(templates, &plan, &audience, total, nav, &settings).unwrap();
        let mut pages = gallery.push(&links, &pictures, &renditions).unwrap();
        pages.extend(gallery.finish().unwrap());
        pages
    }

    #[test]
    fn the_program_writes_what_the_engine_would() {
        let (program, engine) = (templates(), Templates::filled_in_by_the_engine());
        for locale in ["en", "de", "fr", "es", "ja", "ar"] {
            let (written, filled_in) = (pages(&program, locale), pages(&engine, locale));
            assert!(written.len() > 3);
            let has = |what: &str| written.iter().any(|page| page.html.contains(what));
            assert!(has("w, https://out.example/g/"));
            assert!(has("fetchpriority") && has("srcset=\"../0af3/") && has("&#39;self&#39;"));
            for (written, filled_in) in written.iter().zip(&filled_in) {
                let mut both = written.html.lines().zip(filled_in.html.lines());
                let first = both.find(|(ours, theirs)| ours != theirs);
                assert_eq!(first, None, "{locale} {}", written.file_name);
                assert!(
                    written.html == filled_in.html,
                    "{locale} {}",
                    written.file_name
                );
            }
        }
    }

    /// An operator's own cards are filled in by the engine, whose steps are limited.
    #[test]
    fn a_page_of_ten_thousand_files_is_within_the_limits_of_templates() {
        let url = |n: u64| format!("https://b.s3.amazonaws.com/photos/{n}?X=1");
        let link = |n| link_to(&format!("photos/{n:05}.jpg"), n, url(n));
        let (engine, settings) = (Templates::filled_in_by_the_engine(), settings());
        let over = json!({ "gallery": { "publish": { "dir": "/srv/g" } } });
        let mut plan = plan("photos/", &over);
        let count = 10_000;
        plan.gallery.as_mut().unwrap().page_size = count;
        let (nav, everyone) = (PageLinks::Relative, Audience::Everyone);
        let total = count as u64;
        let mut gallery = Gallery::begin(&engine, &plan, &everyone, total, nav, &settings).unwrap();
        let links = audited((0..total).map(link).collect(), &[]);
        let (pictures, renditions) = (Pictures::default(), PageRenditions::default());
        let mut pages = gallery.push(&links, &pictures, &renditions).unwrap();
        pages.extend(gallery.finish().unwrap());
        let page = pages.iter().map(|page| page.html.len()).max().unwrap();
        assert!(page > 1_000_000, "{page}");
    }

    #[test]
    fn nothing_of_a_key_becomes_markup() {
        for page in pages(&templates(), "en") {
            let html = page.html;
            assert!(!html.contains("<script>alert") && !html.contains("<img src=x"));
            assert_eq!(html.matches("<script>").count(), 1, "{}", page.file_name);
            assert!(!html.contains("onerror=alert(1)>\""));
        }
    }

    #[test]
    fn a_link_that_is_none_is_not_written() {
        let links = audited(
            vec![link_to("photos/a.jpg", 1, "javascript:alert(1)".to_owned())],
            &[],
        );
        let (templates, settings) = (templates(), settings());
        let over = json!({ "gallery": { "publish": { "dir": "/srv/g" } } });
        let plan = plan("photos/", &over);
        let nav = PageLinks::Relative;
        let everyone = Audience::Everyone;
        let mut gallery = Gallery::begin(&templates, &plan, &everyone, 1, nav, &settings).unwrap();
        gallery
            .push(&links, &Pictures::default(), &PageRenditions::default())
            .unwrap();
        insta::assert_snapshot!(gallery.finish().unwrap_err(), @"the template partials/cards.html.hbs could not be rendered: {{link}} needs a URL with https: an object's begins with endpoint_url, or public_endpoint_url, of its connection");
    }
}
