//! Renders audited links into mails, gallery pages and manifests.
//!
//! Rendering is pure: no file is read after [`Templates::load`], no clock is read, and the same links give the same bytes. It
//! takes only [`crate::audit::AuditedLinks`], so that an unaudited link cannot be rendered. All wording is in `templates/`, not
//! in this code.

mod brand;
mod budget;
pub mod email;
pub mod gallery;
pub mod helpers;
mod includes;
mod inlining;
pub mod manifest;
mod names;
mod paragraphs;
pub mod portal;
#[cfg(test)]
pub(crate) mod samples;
pub mod strings;
mod syntax;
pub mod templates;
pub mod trouble;
mod view;
mod zips;

pub use brand::{Brand, Logo, LogoError, Palette};
pub use email::{Digest, MailRequest};
pub use gallery::{Gallery, PageLinks};
pub use helpers::is_safe_url as pages_take;
pub use manifest::Manifest;
pub use templates::{TemplateError, Templates};
pub use zips::{ZipLink, ZipLinks};

use std::sync::Arc;

use crate::job::Locale;
use crate::job::phrase::PhraseError;

/// A mail, ready for an envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedMail {
    /// One line, without control characters.
    pub subject: String,
    /// The plain text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// The logo, if the HTML part refers to it.
    pub logo: Option<Arc<Logo>>,
}

impl RenderedMail {
    /// The HTML part as a page of its own, for an outbox or a preview: the logo is in it.
    pub fn page(&self) -> String {
        match &self.logo {
            Some(logo) => logo.inlined(&self.html),
            None => self.html.clone(),
        }
    }
}

/// A page, ready to be published.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedPage {
    /// Its name: `index.html`, `page-2.html`.
    pub file_name: String,
    /// Its text, complete: it needs no other file.
    pub html: String,
}

// Both hold bearer links, so neither prints its content.
impl std::fmt::Debug for RenderedMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RenderedMail({:?}, {} + {} bytes)",
            self.subject,
            self.text.len(),
            self.html.len()
        )
    }
}

impl std::fmt::Debug for RenderedPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RenderedPage({}, {} bytes)",
            self.file_name,
            self.html.len()
        )
    }
}

/// The configuration's settings for rendering.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The language of recipients without a locale of their own.
    pub locale: Locale,
    /// The name of the sender in mails and pages.
    pub sender_name: String,
    /// The address for replies where the job names no other.
    pub sender_address: String,
    /// The maximum size of the HTML part of a mail, in bytes after transfer encoding.
    pub html_budget_bytes: usize,
    /// What mails and pages show of the sender besides the name.
    pub brand: Brand,
}

impl MailSettings {
    /// Gmail clips a message at about 102 KB; this leaves room for what relays and scanners add.
    pub const HTML_BUDGET_BYTES: usize = 90_000;
}

/// Why something could not be rendered. No text contains a link or an address.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template met a value that it cannot render.
    #[error("the template {file}{} could not be rendered: {reason}", at_line(*line))]
    Template {
        /// Its file.
        file: String,
        /// The line, if known.
        line: Option<usize>,
        /// The reason.
        reason: String,
    },
    /// A phrase of the job could not be filled in.
    #[error("the job's field {field} {source}")]
    Phrase {
        /// Which field.
        field: &'static str,
        /// The error of the phrase.
        source: PhraseError,
    },
    /// The mail exceeds the budget even without any file.
    #[error(
        "the template {file} makes a mail of {bytes} bytes without any file in it; at most {budget} are allowed, since mail clients clip longer mails"
    )]
    TooLarge {
        /// Its file.
        file: String,
        /// The size of the mail, in bytes.
        bytes: usize,
        /// The budget, in bytes.
        budget: usize,
    },
    /// The number of links differs from the number that the pages were laid out for.
    #[error(
        "the gallery was planned for {announced} links, but {found} were signed: the objects changed meanwhile"
    )]
    Changed {
        /// The announced number of links.
        announced: u64,
        /// The actual number of links.
        found: u64,
    },
    /// The pages have no links of their own.
    #[error("the gallery has {pages} pages, but links to {links} of them")]
    PageLinks {
        /// The number of pages, including the index.
        pages: usize,
        /// The number of links.
        links: usize,
    },
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line},"))
}
