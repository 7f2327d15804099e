//! The installed templates: compiled in, replaced or extended by the operator's, and checked before the first use.
//!
//! A loaded template is finite, escapes its values, and uses only names that exist. An error during a reload is reported with
//! file and line, and the current templates stay in use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use handlebars::{Context, Handlebars};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::budget::within_limits;
use super::includes::Outlines;
use super::names::NameWalk;
use super::strings::{self, Strings};
use super::syntax::{self, Medium};
use super::{RenderError, email, gallery, helpers, includes, inlining};
use crate::job::TemplateName;
use crate::mounted;
use crate::plan::Installed;
use crate::text::html::escape;

macro_rules! built_in {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../templates/", $path, ".hbs")))),*]
    };
}

/// The templates that are compiled in, by their path below `templates/`, without `.hbs`.
const BUILT_IN: [(&str, &str); 49] = built_in![
    "email/digest/body.html",
    "email/digest/body.txt",
    "email/digest/subject.txt",
    "email/gallery-invite/body.html",
    "email/gallery-invite/body.txt",
    "email/gallery-invite/subject.txt",
    "email/report/body.html",
    "email/report/body.txt",
    "email/report/subject.txt",
    "gallery/index.html",
    "gallery/page.html",
    "partials/button-wide.html",
    "partials/button.html",
    "partials/cards.html",
    "partials/gallery-address.html",
    "partials/gallery-brand.html",
    "partials/gallery-facts.html",
    "partials/gallery-foot.html",
    "partials/gallery-head.html",
    "partials/gallery-message.html",
    "partials/gallery-search.js",
    "partials/gallery-tools.html",
    "partials/gallery-zip.html",
    "partials/gallery.css",
    "partials/gallery.js",
    "partials/mail-all.html",
    "partials/mail-end.txt",
    "partials/mail-files.html",
    "partials/mail-files.txt",
    "partials/mail-gallery.txt",
    "partials/mail-head.html",
    "partials/mail-head.txt",
    "partials/mail-lines.html",
    "partials/mail-lines.txt",
    "partials/mail-list.html",
    "partials/mail-list.txt",
    "partials/mail-message.html",
    "partials/mail-message.txt",
    "partials/mail-missed.html",
    "partials/mail-more.html",
    "partials/mail-more.txt",
    "partials/mail-nothing.html",
    "partials/mail-nothing.txt",
    "partials/mail-until.html",
    "partials/mail-until.txt",
    "partials/mail-zip.html",
    "partials/mail-zip.txt",
    "partials/subject.txt",
    "partials/mail.html",
];

/// The files of a mail's template.
const EMAIL_PARTS: [&str; 3] = ["body.html", "body.txt", "subject.txt"];

/// The files of a gallery's template.
const GALLERY_PARTS: [&str; 2] = ["index.html", "page.html"];

/// The folders and cards of a page. While this template is the compiled-in one, [`gallery`] writes them itself.
pub(super) const CARDS: &str = "partials/cards.html";

/// The position of the cards in a page. Values cannot forge it, since `<` is escaped in them.
const CARDS_MARK: &str = "<!-- cards -->";

/// The style sheet with the colours of the brand. It is hashed with the brand, which a page knows and its template does not.
const PALETTE: &str = ">{{palette}}</";

/// The default gallery template; others are folders below it.
const GALLERY: &str = "gallery";

/// Why templates could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The directory of overrides could not be read.
    #[error("could not read the templates in {}", path.display())]
    Read {
        /// The directory, or the file in it.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A template is not usable.
    #[error("the template {file}{}: {reason}", line.map_or_else(String::new, |line| format!(", line {line}")))]
    Wrong {
        /// The file, relative to the directory.
        file: String,
        /// The line, if known.
        line: Option<usize>,
        /// The reason.
        reason: String,
    },
}

/// The compiled-in templates and words with the README about them, each by its path in a directory of templates.
pub fn built_in_files() -> impl Iterator<Item = (String, &'static str)> {
    let templates = BUILT_IN.iter();
    let templates = templates.map(|(name, source)| (format!("{name}.hbs"), *source));
    let readme = (
        "README.md".to_owned(),
        include_str!("../../templates/README.md"),
    );
    templates.chain(strings::built_in()).chain([readme])
}

impl TemplateError {
    pub(super) fn new(file: String, line: Option<usize>, reason: impl Into<String>) -> Self {
        Self::Wrong {
            file,
            line,
            reason: reason.into(),
        }
    }
}

/// Templates that passed every check.
pub struct Templates {
    /// The engine that escapes values for HTML.
    html: Handlebars<'static>,
    /// The engine that does not escape.
    text: Handlebars<'static>,
    strings: Arc<Strings>,
    emails: BTreeSet<String>,
    galleries: BTreeSet<String>,
    /// The hashes that each page's policy permits, by the page's template.
    hashes: BTreeMap<String, InlineHashes>,
    /// The page templates that loop over the folders themselves.
    loops: BTreeSet<String>,
}

/// The writer of a page's cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CardWriter {
    /// The template is the compiled-in one, which the program implements itself.
    Program,
    /// The template is the operator's, and the engine renders it.
    Engine,
}

impl CardWriter {
    fn for_template(source: &str) -> Self {
        let is_ours = BUILT_IN.contains(&(CARDS, source));
        if is_ours { Self::Program } else { Self::Engine }
    }
}

/// The `Content-Security-Policy` sources of a page's inline styles and scripts.
#[derive(Debug, Clone, Default)]
pub(super) struct InlineHashes {
    pub(super) style: Vec<String>,
    pub(super) script: Vec<String>,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates")
            .field("emails", &self.emails)
            .field("galleries", &self.galleries)
            .finish()
    }
}

impl Installed for Templates {
    fn emails(&self) -> Vec<&str> {
        self.emails.iter().map(String::as_str).collect()
    }

    fn galleries(&self) -> Vec<&str> {
        self.galleries.iter().map(String::as_str).collect()
    }

    fn languages(&self) -> Vec<&str> {
        self.strings.tags().collect()
    }
}

impl Templates {
    /// Loads the compiled-in templates, and over them the files of a directory with the same paths.
    pub fn load(overrides: Option<&Path>) -> Result<Self, TemplateError> {
        let mut sources: BTreeMap<String, String> = BUILT_IN
            .iter()
            .map(|(name, source)| ((*name).to_owned(), (*source).to_owned()))
            .collect();
        let mut words = Vec::new();
        for (path, text) in overrides.map_or_else(|| Ok(Vec::new()), read_directory)? {
            match (path.strip_suffix(".hbs"), language_of(&path)) {
                (Some(name), _) => drop(sources.insert(name.to_owned(), text)),
                (None, Some(tag)) => words.push((tag.to_owned(), text)),
                (None, None) => {}
            }
        }
        let cards = CardWriter::for_template(&sources[CARDS]);
        Self::from_sources(&sources, &words, cards)
    }

    fn from_sources(
        sources: &BTreeMap<String, String>,
        words: &[(String, String)],
        cards: CardWriter,
    ) -> Result<Self, TemplateError> {
        let strings = Arc::new(Strings::load(words)?);
        let mut templates = Self {
            html: engine(&strings, escape),
            text: engine(&strings, handlebars::no_escape),
            strings,
            emails: whole(sources, "email/", &EMAIL_PARTS)?,
            galleries: galleries(sources)?,
            hashes: BTreeMap::new(),
            loops: BTreeSet::new(),
        };
        let mut outlines = Outlines::new();
        for (name, source) in sources {
            let outline = syntax::check(source, medium(name)?);
            let outline = outline.map_err(|(line, reason)| complain(name, Some(line), reason))?;
            outlines.insert(name, outline);
        }
        includes::check(&outlines).map_err(|(name, reason)| complain(&name, None, reason))?;
        for (name, source) in sources {
            templates.add(name, source)?;
        }
        templates.check_names()?;
        templates.hash_inline_blocks(sources, &outlines)?;
        templates.loops = templates.loops_over("folders", sources, &outlines, cards);
        if cards == CardWriter::Program {
            templates.add(CARDS, CARDS_MARK)?;
        }
        // Last: what is put into another template is not added again.
        inlining::inline(&mut templates.html, sources);
        inlining::inline(&mut templates.text, sources);
        Ok(templates)
    }

    /// The page templates that use a name, themselves or in their includes.
    fn loops_over(
        &self,
        name: &str,
        sources: &BTreeMap<String, String>,
        outlines: &Outlines<'_>,
        cards: CardWriter,
    ) -> BTreeSet<String> {
        let is_filled_in = |file: &&str| *file != CARDS || cards == CardWriter::Engine;
        let uses = |page: &String| {
            includes::with_included(page, outlines)
                .into_iter()
                .filter(is_filled_in)
                .any(|file| syntax::uses(&sources[file], name))
        };
        let pages = self.galleries.iter();
        pages
            .map(|gallery| gallery_file(gallery, "page.html"))
            .filter(uses)
            .collect()
    }

    fn add(&mut self, name: &str, source: &str) -> Result<(), TemplateError> {
        let engine = match medium(name)? {
            Medium::Html | Medium::Inert => &mut self.html,
            Medium::Text => &mut self.text,
        };
        engine
            .register_template_string(name, without_indentation(name, source))
            .map_err(|error| {
                complain(
                    name,
                    error.pos().map(|(line, _)| line),
                    "is not a template: a tag is not well formed there",
                )
            })
    }

    /// Checks all templates that are rendered directly, with their includes.
    fn check_names(&self) -> Result<(), TemplateError> {
        let words = self.strings.keys();
        let (mail, page, index) = (
            email::sample(),
            gallery::page_sample(),
            gallery::index_sample(),
        );
        let walk = |engine, name: String, sample| {
            NameWalk {
                engine,
                words: &words,
                sample,
            }
            .check(&name)
            .map_err(|stray| complain(&stray.template, stray.line, stray.reason))
        };
        for email in &self.emails {
            walk(&self.text, format!("email/{email}/subject.txt"), &mail)?;
            walk(&self.text, format!("email/{email}/body.txt"), &mail)?;
            walk(&self.html, format!("email/{email}/body.html"), &mail)?;
        }
        for gallery in &self.galleries {
            walk(&self.html, gallery_file(gallery, "page.html"), &page)?;
            walk(&self.html, gallery_file(gallery, "index.html"), &index)?;
        }
        Ok(())
    }

    /// Hashes the styles and scripts of every page, as the engine will render them.
    fn hash_inline_blocks(
        &mut self,
        sources: &BTreeMap<String, String>,
        outlines: &Outlines<'_>,
    ) -> Result<(), TemplateError> {
        let samples = [
            ("page.html", gallery::page_sample()),
            ("index.html", gallery::index_sample()),
        ];
        for gallery in &self.galleries {
            for (part, sample) in &samples {
                let page = gallery_file(gallery, part);
                let mut hashes = InlineHashes::default();
                for file in includes::with_included(&page, outlines) {
                    let source = sources
                        .get(file)
                        .map(|source| without_indentation(file, source));
                    let source = source.unwrap_or_default();
                    self.hash_blocks(file, &source, "style", sample, &mut hashes.style)?;
                    self.hash_blocks(file, &source, "script", sample, &mut hashes.script)?;
                }
                self.hashes.insert(page, hashes);
            }
        }
        Ok(())
    }

    fn hash_blocks(
        &self,
        file: &str,
        source: &str,
        element: &str,
        sample: &Value,
        hashes: &mut Vec<String>,
    ) -> Result<(), TemplateError> {
        let blocks = syntax::inline_blocks(source, element).into_iter();
        for block in blocks.filter(|block| !block.contains(PALETTE)) {
            let written =
                within_limits(|text| self.html.render_template_to_write(block, sample, text));
            let written = written.map_err(|_| {
                complain(
                    file,
                    None,
                    format!("has a <{element}> that cannot be put together by itself"),
                )
            })?;
            let inside = written.split_once('>').map_or("", |(_, inside)| inside);
            let inside = inside.rsplit_once("</").map_or("", |(inside, _)| inside);
            hashes.push(format!(
                "'sha256-{}'",
                Base64::encode_string(&Sha256::digest(inside.as_bytes()))
            ));
        }
        Ok(())
    }

    /// The strings.
    pub fn strings(&self) -> &Strings {
        &self.strings
    }

    /// The hashes that the policy of a page permits.
    pub(super) fn inline_hashes(&self, page: &str) -> &InlineHashes {
        self.hashes
            .get(page)
            .expect("every page is hashed when it is loaded")
    }

    /// Whether there is a gallery's template of this name.
    pub(super) fn has_gallery(&self, name: &str) -> bool {
        self.galleries.contains(name)
    }

    /// Whether the template of a page loops over the folders itself.
    pub(super) fn loops_over_folders(&self, page: &str) -> bool {
        self.loops.contains(page)
    }

    /// Renders the template of a page, and calls `write_cards` at the position of its cards; `room` is an estimate of the length.
    pub(super) fn render_around(
        &self,
        name: &str,
        view: &impl Serialize,
        room: usize,
        mut write_cards: impl FnMut(&mut String) -> Result<(), RenderError>,
    ) -> Result<String, RenderError> {
        let frame = self.render(name, view)?;
        let mut parts = frame.split(CARDS_MARK);
        let mut html = String::with_capacity(room + room / 64);
        html.push_str(parts.next().unwrap_or_default());
        for part in parts {
            write_cards(&mut html)?;
            html.push_str(part);
        }
        Ok(html)
    }

    /// Renders a template.
    pub(super) fn render(&self, name: &str, view: &impl Serialize) -> Result<String, RenderError> {
        self.render_in(name, &context(name, view)?)
    }

    /// Renders a template with a view that several templates share.
    pub(super) fn render_in(&self, name: &str, context: &Context) -> Result<String, RenderError> {
        let engine = if name.ends_with(".html") {
            &self.html
        } else {
            &self.text
        };
        within_limits(|text| engine.render_with_context_to_write(name, context, text))
            .map_err(|error| unrenderable(name, &error))
    }
}

/// Converts a view for rendering; `name` is the template's.
pub(super) fn context(name: &str, view: &impl Serialize) -> Result<Context, RenderError> {
    Context::wraps(view).map_err(|error| unrenderable(name, &error))
}

/// Why a template cannot be rendered.
fn unrenderable(name: &str, error: &handlebars::RenderError) -> RenderError {
    RenderError::Template {
        file: format!("{}.hbs", error.template_name.as_deref().unwrap_or(name)),
        line: error.line_no,
        reason: reason(error),
    }
}

/// The path of a gallery's template.
pub(super) fn gallery_file(name: &str, part: &str) -> String {
    if name == GALLERY {
        format!("gallery/{part}")
    } else {
        format!("gallery/{name}/{part}")
    }
}

fn complain(name: &str, line: Option<usize>, reason: impl Into<String>) -> TemplateError {
    TemplateError::new(format!("{name}.hbs"), line, reason)
}

/// The engine's error as a sentence, without values, since values can be links.
fn reason(error: &handlebars::RenderError) -> String {
    use handlebars::RenderErrorReason as Reason;
    match error.reason() {
        Reason::MissingVariable(Some(name)) => format!("{name} has no value in this job"),
        Reason::MissingVariable(None) => "a name has no value in this job".to_owned(),
        Reason::Other(reason) => reason.clone(),
        // The text is written to memory: this is its limit.
        Reason::IOError(error) => error.to_string(),
        Reason::InvalidParamType(expected) => {
            format!("a helper was given something else than {expected}")
        }
        _ => "the engine could not carry it out".to_owned(),
    }
}

fn engine(strings: &Arc<Strings>, escape: fn(&str) -> String) -> Handlebars<'static> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    engine.set_prevent_indent(true);
    engine.register_escape_fn(escape);
    helpers::register(&mut engine, strings);
    engine
}

/// Removes indentation from HTML templates: it would be sent with every row.
fn without_indentation(name: &str, source: &str) -> String {
    match medium(name) {
        Ok(Medium::Text) | Err(_) => source.to_owned(),
        Ok(Medium::Html | Medium::Inert) => {
            source.split_inclusive('\n').map(str::trim_start).collect()
        }
    }
}

fn medium(name: &str) -> Result<Medium, TemplateError> {
    match name.rsplit_once('.') {
        Some((_, "html")) => Ok(Medium::Html),
        Some((_, "txt")) => Ok(Medium::Text),
        Some((_, "css" | "js")) => Ok(Medium::Inert),
        _ => Err(complain(
            name,
            None,
            "has no known kind: it is called ….html.hbs, ….txt.hbs, ….css.hbs or ….js.hbs",
        )),
    }
}

/// The names below a folder with all their parts.
fn whole(
    sources: &BTreeMap<String, String>,
    folder: &str,
    parts: &[&str],
) -> Result<BTreeSet<String>, TemplateError> {
    let mut names = BTreeSet::new();
    for path in sources.keys() {
        let Some((name, part)) = path
            .strip_prefix(folder)
            .and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        if !parts.contains(&part) {
            let reason = format!("is no part of a template: those are {}", parts.join(", "));
            return Err(complain(path, None, reason));
        }
        name.parse::<TemplateName>()
            .map_err(|error| complain(path, None, format!("has a folder that {error}")))?;
        if let Some(part) = parts
            .iter()
            .find(|part| !sources.contains_key(&format!("{folder}{name}/{part}")))
        {
            return Err(complain(
                &format!("{folder}{name}/{part}"),
                None,
                "is missing: the others of its folder are there",
            ));
        }
        names.insert(name.to_owned());
    }
    Ok(names)
}

fn galleries(sources: &BTreeMap<String, String>) -> Result<BTreeSet<String>, TemplateError> {
    let mut names = whole(sources, "gallery/", &GALLERY_PARTS)?;
    names.insert(GALLERY.to_owned());
    Ok(names)
}

/// The language of a file of overrides: `strings/de.toml`.
fn language_of(path: &str) -> Option<&str> {
    path.strip_prefix("strings/")?
        .strip_suffix(".toml")
        .filter(|tag| !tag.contains('/'))
}

/// Reads the templates and strings of a directory, with their paths below it.
fn read_directory(directory: &Path) -> Result<Vec<(String, String)>, TemplateError> {
    let failed = |source| TemplateError::Read {
        path: directory.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for path in mounted::files_below(directory).map_err(failed)? {
        let below = path.strip_prefix(directory).ok().and_then(Path::to_str);
        if let Some(name) = below.filter(|name| is_template(name)) {
            files.push((name.to_owned(), read_file(&path, name)?));
        }
    }
    Ok(files)
}

/// Whether a file of the directory is a template or strings file; others, such as a README, are ignored.
fn is_template(name: &str) -> bool {
    name.ends_with(".hbs") || language_of(name).is_some()
}

fn read_file(path: &Path, name: &str) -> Result<String, TemplateError> {
    let failed = |source| TemplateError::Read {
        path: path.to_owned(),
        source,
    };
    let text = mounted::read_text(path).map_err(failed)?;
    let length = text.len();
    if length > syntax::MAX_SOURCE_BYTES {
        let reason = format!(
            "has {length} bytes; {} are allowed",
            syntax::MAX_SOURCE_BYTES
        );
        return Err(TemplateError::new(name.to_owned(), None, reason));
    }
    Ok(text)
}

#[cfg(test)]
impl Templates {
    /// The compiled-in templates, all of them rendered by the engine.
    pub(super) fn filled_in_by_the_engine() -> Self {
        let sources = BUILT_IN
            .iter()
            .map(|(name, source)| ((*name).to_owned(), (*source).to_owned()))
            .collect();
        Self::from_sources(&sources, &[], CardWriter::Engine)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

#[cfg(test)]
mod tests;
