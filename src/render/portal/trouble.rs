//! The page that says why there is no file, and whom to ask.

use jiff::Timestamp;

use super::{PortalPage, PortalWriter};

/// Why a request got no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalTrouble {
    /// The token is malformed, cut off or forged, or the path is unknown.
    Unknown,
    /// The link has expired.
    Ended {
        /// When, if it is told.
        at: Option<Timestamp>,
    },
    /// The sender revoked the link.
    Revoked,
    /// The object no longer exists.
    Gone,
    /// The object is in an archive.
    Archived,
    /// The link is not open yet.
    NotYet,
    /// Too many requests.
    TooMany,
    /// Something that is needed does not answer.
    Unavailable,
    /// The request is not one of a page of the portal.
    Refused,
}

impl PortalTrouble {
    /// The strings of the heading and the text.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Unknown => ("link_broken_title", "link_broken_text"),
            Self::Ended { at: Some(_) } => ("portal_ended_title", "portal_ended_text"),
            Self::Ended { at: None } => ("portal_ended_title", "portal_ask_text"),
            Self::Revoked => ("portal_revoked_title", "portal_revoked_text"),
            Self::Gone => ("portal_gone_title", "portal_gone_text"),
            Self::Archived => ("portal_archived_title", "portal_archived_text"),
            Self::NotYet => ("portal_not_yet_title", "portal_not_yet_text"),
            Self::TooMany => ("portal_many_title", "portal_many_text"),
            Self::Unavailable => ("portal_busy_title", "portal_busy_text"),
            Self::Refused => ("portal_refused_title", "portal_refused_text"),
        }
    }
}

impl PortalWriter<'_> {
    /// The page for a request without a file.
    pub fn trouble(&self, trouble: PortalTrouble) -> PortalPage {
        let (title, text) = trouble.words();
        let when = match trouble {
            PortalTrouble::Ended { at: Some(at) } => self.instant(at),
            _ => String::new(),
        };
        let content = format!(
            "<h1>{}</h1><p>{}</p>",
            self.say(title),
            self.say_with(text, None, &[("when", &when)])
        );
        self.page(&self.plain(title, None, &[]), &content, false)
    }

    /// The page for a reader who is signed in with another address than the link's.
    pub fn other_person(&self, token: &str) -> PortalPage {
        let content = format!(
            "<h1>{}</h1><p>{}</p>{}",
            self.say("portal_other_title"),
            self.say("portal_other_text"),
            self.sign_out(Some(token))
        );
        self.page(
            &self.plain("portal_other_title", None, &[]),
            &content,
            false,
        )
    }

    /// The page after signing out.
    pub fn signed_out(&self) -> PortalPage {
        let content = format!(
            "<h1>{}</h1><p>{}</p>",
            self.say("portal_signed_out_title"),
            self.say("portal_signed_out_text")
        );
        self.page(
            &self.plain("portal_signed_out_title", None, &[]),
            &content,
            false,
        )
    }
}
