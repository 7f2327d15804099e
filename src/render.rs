//! From audited links to what people read: a mail, the pages of a gallery, a manifest.
//!
//! Everything here is pure: no file is read after [`Templates::load`], no clock is asked, and the same links
//! give the same bytes. It takes [`crate::audit::AuditedLinks`] and nothing else, so that an unaudited link
//! cannot be shown. What is said stands in `templates/`, not in this code.

pub mod email;
pub mod gallery;
pub mod helpers;
mod includes;
pub mod manifest;
mod names;
#[cfg(test)]
pub(crate) mod samples;
pub mod strings;
mod syntax;
pub mod templates;
mod view;

pub use email::{Digest, MailRequest};
pub use gallery::{Gallery, PageLinks};
pub use manifest::Manifest;
pub use templates::{TemplateError, Templates};

use crate::job::Locale;
use crate::job::phrase::PhraseError;

/// A mail, ready for an envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedMail {
    /// One line, without control characters.
    pub subject: String,
    /// The part for readers of plain text.
    pub text: String,
    /// The part for the others.
    pub html: String,
}

/// A page, ready to be published.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedPage {
    /// Its name: `index.html`, `page-2.html`.
    pub file_name: String,
    /// Its text, complete: it needs no other file.
    pub html: String,
}

// Both hold bearer links, so neither prints what it holds.
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

/// What the configuration says of how things are written.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The language of those who have none of their own.
    pub locale: Locale,
    /// Who sends, by name.
    pub sender_name: String,
    /// Where those answers go that no job sends elsewhere.
    pub sender_address: String,
    /// The most bytes that the HTML part of a mail may have, encoded for transport.
    pub html_budget_bytes: usize,
}

impl MailSettings {
    /// Gmail hides what comes after some 102 KB; this leaves room for what relays and scanners add.
    pub const HTML_BUDGET_BYTES: usize = 90_000;
}

/// Why something could not be rendered. No text repeats a link or an address.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template met something that it cannot show.
    #[error("the template {file}{} could not be filled in: {reason}", at_line(*line))]
    Template {
        /// Its file.
        file: String,
        /// The line, where it is known.
        line: Option<usize>,
        /// What stood against it.
        reason: String,
    },
    /// The job's subject could not be filled in.
    #[error("the job's field email.subject {source}")]
    Subject {
        /// Why.
        source: PhraseError,
    },
    /// A mail that passes the budget although it shows no file.
    #[error(
        "the template {file} makes a mail of {bytes} bytes without a single file in it; {budget} are allowed, since mail readers cut longer ones off"
    )]
    TooLarge {
        /// Its file.
        file: String,
        /// How many bytes the mail has.
        bytes: usize,
        /// How many it may have.
        budget: usize,
    },
    /// Another number of links than the pages were laid out for.
    #[error(
        "the gallery was laid out for {announced} links, but {found} came: the objects changed meanwhile"
    )]
    Changed {
        /// How many were announced.
        announced: u64,
        /// How many came.
        found: u64,
    },
    /// Pages whose own links are missing.
    #[error("the gallery has {pages} pages, but links to {links} of them")]
    PageLinks {
        /// How many pages there are, with the index.
        pages: usize,
        /// How many links there are.
        links: usize,
    },
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line},"))
}
