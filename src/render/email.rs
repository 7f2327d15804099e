//! Mails about links, within the size budget of a mail.
//!
//! A [`Digest`] collects from the stream of links what one mail can show. [`build`] renders it for one recipient: as many rows as
//! the budget allows, and in both parts the number of remaining files, their folders, and where to find them. A mail is never
//! truncated, and always states what it leaves out.

mod digest;
mod fit;
mod view;

use jiff::tz::TimeZone;
use memchr::memmem;
use presign::PresignedUrl;

pub use digest::{Digest, MAX_ROWS};
pub(super) use view::sample;

use super::paragraphs::MessageView;
use super::templates::{self, Templates};
use super::{MailSettings, RenderError, RenderedMail, ZipLinks};
use crate::bounds::MAX_SUBJECT_BYTES;
use crate::job::{Locale, PhraseScope, Recipient};
use crate::plan::Plan;
use crate::text::html::escape;
use crate::text::is_bidi_control;
use view::{MailRows, View};

/// The maximum number of rows beside a link to a page that shows them all.
const MAX_ROWS_BESIDE_GALLERY: usize = 25;

/// The maximum length of a subject, in characters; mail programs show about 60.
const MAX_SUBJECT_CHARS: usize = 200;

/// The mail of one recipient.
#[derive(Debug, Clone, Copy)]
pub struct MailRequest<'a> {
    /// The plan of the job.
    pub plan: &'a Plan,
    /// The job's links.
    pub digest: &'a Digest,
    /// The recipient of the mail.
    pub recipient: &'a Recipient,
    /// The page of all links, if there is one.
    pub gallery_url: Option<&'a PresignedUrl>,
    /// The list of all links, if there is one.
    pub manifest_url: Option<&'a PresignedUrl>,
    /// The ZIPs of all files, if there are any.
    pub zips: Option<&'a ZipLinks>,
    /// The settings for rendering.
    pub settings: &'a MailSettings,
}

/// A mail, and how many of the job's files it shows.
#[derive(Debug, Clone)]
pub struct RenderedDigest {
    /// The mail.
    pub mail: RenderedMail,
    /// The number of files that its HTML links.
    pub shown: u64,
    /// The number of files that it only counts.
    pub more: u64,
    /// Whether its HTML links a page or a list of all files.
    pub links_all: bool,
    /// The size of its HTML, in bytes after transfer encoding; the budget limits this size.
    pub html_bytes: usize,
}

impl RenderedDigest {
    /// Whether the mail leads to every file of the job.
    pub const fn reaches_all(&self) -> bool {
        self.more == 0 || self.links_all
    }
}

/// Renders a recipient's mail, and reports how much of the job it shows.
pub fn build(
    templates: &Templates,
    letter: &MailRequest<'_>,
) -> Result<RenderedDigest, RenderError> {
    let files = TemplateFiles::of(letter.plan);
    let given = letter.subject()?;
    let language = templates.strings().for_locale(letter.locale());
    let folders = view::named_folders(letter.digest);
    let mail_rows = MailRows::new(letter, &folders, letter.most_rows());
    let mut view = View::new(letter, language, given.as_deref(), &mail_rows);
    view.show(&mail_rows, mail_rows.most());
    view.message = letter.message()?;
    view.subject = match &given {
        Some(given) => given.clone(),
        None => one_line(&templates.render(&files.subject, &view)?),
    };
    let budget_bytes = letter.settings.html_budget_bytes;
    // Both parts are rendered with the same rows, unless the last attempt tried fewer.
    let mut filled = None;
    let (shown, html) = fit::fit(mail_rows.most(), budget_bytes, &files.html, |count| {
        view.show(&mail_rows, count);
        let (_, context) = filled.insert((count, templates::context(&files.html, &view)?));
        templates.render_in(&files.html, context)
    })?;
    view.show(&mail_rows, shown);
    let context = match filled {
        Some((count, context)) if count == shown => context,
        _ => templates::context(&files.text, &view)?,
    };
    let text = tidy(&templates.render_in(&files.text, &context)?);
    // A template of the operator may leave rows out.
    let shown = linked(&html, view.urls());
    let logo = letter.settings.brand.mail_logo();
    let places = [letter.gallery_url, letter.manifest_url];
    let places = places.into_iter().flatten().map(PresignedUrl::expose);
    Ok(RenderedDigest {
        shown,
        more: letter.digest.count().saturating_sub(shown),
        links_all: linked(&html, places) > 0,
        html_bytes: fit::encoded_len(&html),
        mail: RenderedMail {
            subject: view.subject,
            text,
            logo: logo.filter(|logo| logo.is_in(&html)).cloned(),
            html,
        },
    })
}

/// The number of bytes of a URL that are searched for: its end contains the signature, which is unique.
const LOOKED_FOR: usize = 48;

/// The number of URLs that occur in a page. They are usually in order, so each is first searched for after the previous one.
fn linked<'a>(html: &str, urls: impl Iterator<Item = &'a str>) -> u64 {
    let html = html.as_bytes();
    let (mut count, mut behind) = (0, 0);
    for url in urls {
        let url = escape(url);
        let end = &url.as_bytes()[url.len().saturating_sub(LOOKED_FOR)..];
        let finder = memmem::Finder::new(end);
        let find = |mut from: usize| {
            loop {
                let found = from + finder.find(&html[from..])? + end.len();
                if html[..found].ends_with(url.as_bytes()) {
                    return Some(found);
                }
                // The searched text may overlap itself.
                from = found - end.len() + 1;
            }
        };
        if let Some(end) = find(behind) {
            behind = end;
            count += 1;
        } else if find(0).is_some() {
            count += 1;
        }
    }
    count
}

/// The file names of a mail's template.
struct TemplateFiles {
    subject: String,
    text: String,
    html: String,
}

impl TemplateFiles {
    fn of(plan: &Plan) -> Self {
        let name = plan.mail_template();
        let file = |part| format!("email/{name}/{part}");
        Self {
            subject: file("subject.txt"),
            text: file("body.txt"),
            html: file("body.html"),
        }
    }
}

impl<'a> MailRequest<'a> {
    fn locale(&self) -> &'a Locale {
        self.recipient
            .locale
            .as_ref()
            .unwrap_or(&self.settings.locale)
    }

    /// The time zone of this recipient.
    fn time_zone(&self) -> &'a TimeZone {
        let theirs = self.recipient.time_zone.as_ref();
        theirs.unwrap_or(&self.plan.time_zone)
    }

    const fn most_rows(&self) -> usize {
        match (self.gallery_url, self.manifest_url) {
            (None, None) => MAX_ROWS,
            (Some(_), _) | (None, Some(_)) => MAX_ROWS_BESIDE_GALLERY,
        }
    }

    /// The job's subject, on one line.
    fn subject(&self) -> Result<Option<String>, RenderError> {
        let scope = PhraseScope {
            recipient: Some(self.recipient),
            ..self.plan.scope()
        };
        let given = self.plan.email().and_then(|email| email.subject.as_ref());
        let filled = given
            .map(|subject| subject.fill(&scope, MAX_SUBJECT_BYTES))
            .transpose();
        let filled = filled.map_err(|source| RenderError::Phrase {
            field: "email.subject",
            source,
        })?;
        Ok(filled.as_deref().map(one_line))
    }

    /// The job's message, in the language of the recipient.
    fn message(&self) -> Result<Option<MessageView>, RenderError> {
        let message = self.plan.email().and_then(|email| email.message.as_ref());
        let scope = PhraseScope {
            recipient: Some(self.recipient),
            ..self.plan.scope()
        };
        let languages = (self.locale(), &self.settings.locale);
        let view =
            message.map(|message| MessageView::new("email.message", message, languages, &scope));
        view.transpose()
    }
}

/// Puts a text on one line and removes characters that a header must not contain.
fn one_line(text: &str) -> String {
    let visible: String = text.chars().filter(|c| !is_bidi_control(*c)).collect();
    let words: Vec<&str> = visible
        .split(|c: char| c.is_whitespace() || c.is_control())
        .collect();
    let line = words
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(MAX_SUBJECT_CHARS) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// Trims the end of every line and leaves one empty line between paragraphs.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut gap = false;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            gap = !tidied.is_empty();
            continue;
        }
        if std::mem::take(&mut gap) {
            tidied.push('\n');
        }
        tidied.push_str(line);
        tidied.push('\n');
    }
    tidied
}

#[cfg(test)]
mod tests;
