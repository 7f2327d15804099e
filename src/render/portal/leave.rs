//! The page by which a recipient leaves a list, and the one after it.

use std::fmt::Write as _;

use super::{PortalPage, PortalWriter, push_hidden};
use crate::text::html::escape;

impl PortalWriter<'_> {
    /// The page with the button. To open it changes nothing: scanners follow every link of a mail.
    pub fn leave(&self, token: &str) -> PortalPage {
        let title = self.plain("portal_leave_title", None, &[]);
        let mut content = format!(
            "<h1>{}</h1>\n<p>{}</p>\n<form method=\"post\" action=\"/leave/{}\">",
            escape(&title),
            self.say("portal_leave_text"),
            escape(token)
        );
        push_hidden(&mut content, "List-Unsubscribe", Some("One-Click"));
        let _ = write!(
            content,
            "<button>{}</button></form>",
            self.say("portal_leave_button")
        );
        self.page(&title, &content, false)
    }

    /// The page after the button.
    pub fn left(&self) -> PortalPage {
        let title = self.plain("portal_left_title", None, &[]);
        let content = format!(
            "<h1>{}</h1>\n<p>{}</p>",
            escape(&title),
            self.say("portal_left_text")
        );
        self.page(&title, &content, false)
    }
}
