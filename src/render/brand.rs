//! The sender, as mails and pages show it: a name, a logo, colours and a footer.

mod logo;
mod markup;
mod palette;

use std::sync::Arc;

use serde::Serialize;

pub use logo::{Logo, LogoError};
pub(super) use palette::PageStyle;
pub use palette::Palette;

use crate::config::BrandConfig;

/// What mails and pages show of the sender besides the name.
#[derive(Debug, Clone)]
pub struct Brand {
    /// Whether the name stands above the content where no logo does.
    shows_name: bool,
    logo: Option<Arc<Logo>>,
    palette: Palette,
    /// The colours of the portal's pages.
    portal_style: Option<PageStyle>,
    footer: Vec<String>,
    personal_note: bool,
}

impl Default for Brand {
    fn default() -> Self {
        Self::new(&BrandConfig::default(), None)
    }
}

/// The values of a brand for templates.
#[derive(Debug, Serialize)]
pub(super) struct BrandView<'a> {
    /// The name, where it stands above the content.
    pub(super) name: Option<&'a str>,
    pub(super) logo: Option<LogoView<'a>>,
    colours: &'a Palette,
    footer: &'a [String],
    personal_note: bool,
}

/// A picture of the document itself.
#[derive(Debug, Serialize)]
pub(super) struct LogoView<'a> {
    pub(super) src: &'a str,
    /// In CSS pixels; `None` if an SVG does not say.
    pub(super) width: Option<u32>,
    pub(super) height: Option<u32>,
}

impl Brand {
    /// The brand of a configuration, with its logo as it was read.
    pub fn new(config: &BrandConfig, logo: Option<Logo>) -> Self {
        let palette = Palette::new(config.accent, config.background);
        Self {
            shows_name: config.name.is_some(),
            logo: logo.map(Arc::new),
            portal_style: palette.portal_style(),
            palette,
            footer: config.footer.clone(),
            personal_note: config.personal_note,
        }
    }

    /// The logo.
    pub fn logo(&self) -> Option<&Logo> {
        self.logo.as_deref()
    }

    /// The colours.
    pub const fn palette(&self) -> &Palette {
        &self.palette
    }

    /// The style sheet that gives the portal's pages the colours, if there are any.
    pub(super) const fn portal_style(&self) -> Option<&PageStyle> {
        self.portal_style.as_ref()
    }

    /// The lines at the end.
    pub(super) fn footer(&self) -> &[String] {
        &self.footer
    }

    /// Whether mails and pages say for whom their links were made.
    pub(super) const fn has_personal_note(&self) -> bool {
        self.personal_note
    }

    /// The logo of mails: mail programs do not show SVG.
    pub(super) fn mail_logo(&self) -> Option<&Arc<Logo>> {
        self.logo.as_ref().filter(|logo| logo.is_for_mail())
    }

    /// The values for templates of mails, which refer to the logo as another part of the message.
    pub(super) fn mail_view<'a>(&'a self, sender: &'a str) -> BrandView<'a> {
        let logo = self.mail_logo();
        self.view(sender, logo.map(|logo| (&**logo, logo.reference())))
    }

    /// The values for templates of pages, which contain the logo.
    pub(super) fn page_view<'a>(&'a self, sender: &'a str) -> BrandView<'a> {
        self.view(sender, self.logo().map(|logo| (logo, logo.data_uri())))
    }

    fn view<'a>(&'a self, sender: &'a str, logo: Option<(&'a Logo, &'a str)>) -> BrandView<'a> {
        BrandView {
            name: Some(sender).filter(|_| self.shows_name && logo.is_none()),
            logo: logo.map(|(logo, src)| {
                let size = logo.shown_size();
                LogoView {
                    src,
                    width: size.map(|(width, _)| width),
                    height: size.map(|(_, height)| height),
                }
            }),
            colours: &self.palette,
            footer: &self.footer,
            personal_note: self.personal_note,
        }
    }
}

impl BrandView<'_> {
    /// A view in which every value is present.
    pub(super) fn sample() -> BrandView<'static> {
        static PALETTE: Palette = Palette::DEFAULT;
        static FOOTER: [String; 1] = [String::new()];
        BrandView {
            name: Some(""),
            logo: Some(LogoView {
                src: "",
                width: Some(1),
                height: Some(1),
            }),
            colours: &PALETTE,
            footer: &FOOTER,
            personal_note: true,
        }
    }
}
