//! The brand on pages that are written without templates: those of the portal, and those about links that do not open.

use super::Brand;
use crate::render::view::shown;
use crate::text::html::escape;

impl Brand {
    /// The logo, or else the name, if the brand has one.
    pub(in super::super) fn header(&self, sender: &str) -> String {
        let view = self.page_view(sender);
        if let Some(logo) = view.logo {
            let size = match (logo.width, logo.height) {
                (Some(width), Some(height)) => format!(" width=\"{width}\" height=\"{height}\""),
                (None, _) | (_, None) => String::new(),
            };
            return format!(
                "<header><img class=\"logo\" src=\"{}\"{size} alt=\"{}\"></header>",
                escape(logo.src),
                escape(&shown(sender))
            );
        }
        view.name.map_or_else(String::new, |name| {
            format!(
                "<header><p class=\"brand\"><bdi>{}</bdi></p></header>",
                escape(&shown(name))
            )
        })
    }

    /// The lines at the end, such as a postal address.
    pub(in super::super) fn address(&self) -> String {
        let line = |line: &String| format!("<bdi>{}</bdi>", escape(line));
        let lines: Vec<String> = self.footer.iter().map(line).collect();
        match lines.is_empty() {
            true => String::new(),
            false => format!("<p class=\"address\">{}</p>", lines.join("<br>")),
        }
    }
}
