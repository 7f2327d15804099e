//! The mail with which a reader asks for new links. It names the job.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::MailSettings;
use super::super::strings::Language;
use crate::plan::Plan;
use crate::text::percent;

/// The parts of a `mailto:` URL, percent-encoded. RFC 6068.
#[derive(Default, Serialize)]
pub(super) struct RenewalMail {
    address: String,
    subject: String,
}

impl RenewalMail {
    /// Addresses the mail to the job's reply address, or else to the sender.
    pub(super) fn new(
        plan: &Plan,
        settings: &MailSettings,
        language: &Language,
        title: &str,
    ) -> Self {
        let reply_to = plan.email().and_then(|email| email.reply_to.as_ref());
        let address = reply_to.map_or(settings.sender_address.as_str(), |reply_to| {
            reply_to.address.as_ref()
        });
        let places = BTreeMap::from([
            ("title", title.to_owned()),
            ("job", plan.job.id.to_string()),
        ]);
        let subject = language.say("ask_subject", None, &places);
        // If the operator's string has a placeholder without a value, the subject is the job's id.
        Self::to(
            address,
            &subject.unwrap_or_else(|_| plan.job.id.to_string()),
        )
    }

    /// A mail to this address with this subject.
    pub(super) fn to(address: &str, subject: &str) -> Self {
        Self {
            address: percent::encode(address, b"@"),
            subject: percent::encode(subject, b""),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::samples::*;
    use super::*;

    fn asked(over: &serde_json::Value, title: &str) -> String {
        let templates = templates();
        let ask = RenewalMail::new(
            &plan("photos/", over),
            &settings(),
            templates.strings().language("en"),
            title,
        );
        format!("mailto:{}?subject={}", ask.address, ask.subject)
    }

    #[test]
    fn answers_go_where_the_mail_says_or_to_the_sender() {
        let over = json!({ "email": { "to": ["ann@acme.example"], "reply_to": "Desk <desk+photos@acme.example>" } });
        insta::assert_snapshot!(asked(&over, "Day 1 & 2"), @"mailto:desk%2Bphotos@acme.example?subject=New%20links%2C%20please%3A%20Day%201%20%26%202%20%28acme-daily-2026-11-23%29");
        insta::assert_snapshot!(asked(&json!({}), "A\r\nBcc: x?&body=y"), @"mailto:reports@harbour.example?subject=New%20links%2C%20please%3A%20A%0D%0ABcc%3A%20x%3F%26body%3Dy%20%28acme-daily-2026-11-23%29");
    }
}
