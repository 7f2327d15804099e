//! The pages of the portal and the mail with a code: plain HTML that works without scripts, in the language of its reader.
//!
//! A page loads nothing but its files. Its one script repairs a video whose signature has ended; without it, the page works.

mod files;
mod leave;
mod sign_in;
mod trouble;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use base64ct::{Base64, Encoding};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use super::MailSettings;
use super::brand::{Brand, PageStyle};
use super::strings::{Direction, Language};
use super::templates::Templates;
use super::trouble::chosen;
use super::view::{InstantView, shown};
use crate::job::Locale;
use crate::text::html::escape;
use crate::text::percent;

pub use self::files::{
    FilePage, FilesPage, MinePage, PortalMedia, ShownDistribution, ShownFile, ShownPreview,
    ShownRenditions, ShownZip,
};
pub use self::sign_in::{CodeMail, CodePage, ShownIssuer, SignInPage};
pub use self::trouble::PortalTrouble;

/// Readable at every width, in light and dark. Contrasts are those of WCAG 2.2, level AA.
const STYLE: &str = include_str!("../../templates/portal/portal.css");

/// Loads a video or sound again when its signature has ended, and goes on at the same second.
const SCRIPT: &str = include_str!("../../templates/portal/media.js");

static STYLE_SOURCE: LazyLock<String> = LazyLock::new(|| source(STYLE));
static SCRIPT_SOURCE: LazyLock<String> = LazyLock::new(|| source(SCRIPT));

/// A hash as `Content-Security-Policy` names an inline text.
fn source(text: &str) -> String {
    format!("'sha256-{}'", Base64::encode_string(&Sha256::digest(text)))
}

/// A page, and the sources of its inline texts for a `Content-Security-Policy`. It may hold links.
pub struct PortalPage {
    /// The whole page.
    pub html: String,
    /// The sources of its styles, separated by spaces.
    pub style: String,
    /// The sources of its scripts, if it has any, separated by spaces.
    pub script: Option<Cow<'static, str>>,
    /// Whether it saves files through frames.
    pub has_frames: bool,
}

impl std::fmt::Debug for PortalPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PortalPage({} bytes)", self.html.len())
    }
}

/// Writes the pages for one reader.
#[derive(Debug)]
pub struct PortalWriter<'a> {
    templates: &'a Templates,
    language: &'a Language,
    /// The languages of messages: the reader's, or else that of mails.
    locales: (Locale, &'a Locale),
    brand: &'a Brand,
    sender: &'a str,
    contact: &'a str,
    zone: TimeZone,
}

/// What is known of the reader of a page.
#[derive(Debug, Clone, Copy, Default)]
pub struct PortalReader<'a> {
    /// Their language, if the job names it.
    pub locale: Option<&'a Locale>,
    /// The time zone of instants: theirs, or that of the job.
    pub time_zone: Option<&'a TimeZone>,
    /// The `Accept-Language` of the request.
    pub languages: &'a str,
}

/// Who sent the files, where it is not as the configuration says for mails.
#[derive(Debug, Clone, Copy, Default)]
pub struct PageSender<'a> {
    /// The name.
    pub name: Option<&'a str>,
    /// The address for questions.
    pub contact: Option<&'a str>,
}

impl<'a> PortalWriter<'a> {
    /// A writer in the language that the job names for the reader, or else in one of `Accept-Language`.
    pub fn new(
        templates: &'a Templates,
        settings: &'a MailSettings,
        sender: PageSender<'a>,
        reader: PortalReader<'_>,
    ) -> Self {
        let language = match reader.locale {
            Some(locale) => templates.strings().for_locale(locale),
            None => chosen(templates, settings, reader.languages),
        };
        let locale = reader.locale.cloned();
        let spoken = || language.tag().parse().ok();
        Self {
            templates,
            language,
            locales: (locale.or_else(spoken).unwrap_or_default(), &settings.locale),
            brand: &settings.brand,
            sender: sender.name.unwrap_or(&settings.sender_name),
            contact: sender.contact.unwrap_or(&settings.sender_address),
            zone: reader.time_zone.cloned().unwrap_or(TimeZone::UTC),
        }
    }

    /// A string of the language, escaped.
    fn say(&self, key: &str) -> String {
        self.say_with(key, None, &[])
    }

    /// A string with values, all escaped.
    fn say_with(&self, key: &str, count: Option<u64>, values: &[(&'static str, &str)]) -> String {
        escape(&self.plain(key, count, values))
    }

    /// A string with values, for plain text.
    fn plain(&self, key: &str, count: Option<u64>, values: &[(&'static str, &str)]) -> String {
        let values = values.iter();
        let values: BTreeMap<_, _> = values
            .map(|(place, value)| (*place, (*value).to_owned()))
            .collect();
        // A word of the operator's may have a place without a value.
        self.language.say(key, count, &values).unwrap_or_default()
    }

    /// An instant in the reader's time zone.
    fn instant(&self, at: Timestamp) -> String {
        let view = InstantView::new(at, &self.zone);
        self.language.instant(view.local, &view.zone)
    }

    /// "Available until …".
    fn until(&self, at: Timestamp) -> String {
        self.say_with("portal_until", None, &[("when", &self.instant(at))])
    }

    /// The whole page around its content. `title` is plain text.
    fn page(&self, title: &str, content: &str, has_script: bool) -> PortalPage {
        let direction = match self.language.direction() {
            Direction::Ltr => "ltr",
            Direction::Rtl => "rtl",
        };
        let script = if has_script {
            format!("<script>{SCRIPT}</script>")
        } else {
            String::new()
        };
        let (palette, style) = match self.brand.portal_style() {
            None => (String::new(), STYLE_SOURCE.clone()),
            Some(PageStyle { rules, hash }) => (
                format!("<style>{rules}</style>"),
                format!("{} {hash}", *STYLE_SOURCE),
            ),
        };
        let html = format!(
            "<!doctype html>\n<html lang=\"{}\" dir=\"{direction}\">\n<head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"robots\" content=\"noindex\">\
             <link rel=\"icon\" href=\"data:,\"><title>{}</title><style>{STYLE}</style>{palette}</head>\n\
             <body>{}<main>\n{content}\n</main>\n<footer>{}{}</footer>{script}</body>\n</html>\n",
            escape(self.language.tag()),
            escape(&shown(title)),
            self.brand.header(self.sender),
            self.contact_line(),
            self.brand.address(),
        );
        PortalPage {
            html,
            style,
            script: has_script.then(|| Cow::Borrowed(SCRIPT_SOURCE.as_str())),
            has_frames: false,
        }
    }

    /// Who sent the files, and the address to ask.
    fn contact_line(&self) -> String {
        let sender = self.say_with("sent_by", None, &[("sender", &shown(self.sender))]);
        format!(
            "{sender} <a href=\"mailto:{}\">{}</a>",
            escape(&percent::encode(self.contact, b"@")),
            escape(self.contact)
        )
    }

    /// The button that signs a reader out.
    fn sign_out(&self, back_to: Option<&str>) -> String {
        let mut form = String::from("<form method=\"post\" action=\"/sign-out\">");
        push_hidden(&mut form, "token", back_to);
        let _ = write!(
            form,
            "<button class=\"plain\">{}</button></form>",
            self.say("portal_sign_out")
        );
        form
    }
}

/// A hidden field of a form, if there is a value.
fn push_hidden(form: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        let _ = write!(
            form,
            "<input type=\"hidden\" name=\"{name}\" value=\"{}\">",
            escape(value)
        );
    }
}

#[cfg(test)]
mod tests;
