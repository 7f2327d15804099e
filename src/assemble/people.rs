//! The pages by which the embedded endpoint tells people what is wrong with a link.

use std::sync::Arc;

use localstore::{LinkTrouble, TroublePages};

use crate::render::trouble::{self, TroubleWords};
use crate::render::{MailSettings, Templates};
use crate::run::Presenting;

/// The words of the installation, in the languages of its templates.
pub(super) struct LinkTroublePages {
    templates: Arc<Templates>,
    settings: Arc<MailSettings>,
}

impl LinkTroublePages {
    pub(super) fn of(presenting: &Presenting) -> Self {
        Self {
            templates: Arc::clone(&presenting.templates),
            settings: Arc::clone(&presenting.mail),
        }
    }
}

impl TroublePages for LinkTroublePages {
    fn page(&self, trouble: LinkTrouble, languages: &str) -> String {
        let (title, text) = match trouble {
            LinkTrouble::Expired => ("expired_title", "expired_text"),
            LinkTrouble::Missing => ("link_broken_title", "link_missing_text"),
            LinkTrouble::Revoked => ("portal_revoked_title", "portal_revoked_text"),
            LinkTrouble::Refused => ("link_broken_title", "link_broken_text"),
            LinkTrouble::Busy => ("link_broken_title", "link_busy_text"),
        };
        let words = TroubleWords { title, text };
        trouble::page(&self.templates, &self.settings, words, languages)
    }
}
