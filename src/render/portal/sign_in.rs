//! The pages that ask for an address and for a code, and the mail with the code.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{PortalPage, PortalWriter, push_hidden};
use crate::text::html::escape;
use crate::text::percent;

/// What the page that asks for an address offers.
#[derive(Debug, Clone, Copy)]
pub struct SignInPage<'a> {
    /// The token of the link; without one, the reader wants to see all their files.
    pub token: Option<&'a str>,
    /// Whether a code by mail is offered.
    pub by_code: bool,
    /// The issuers that are offered.
    pub issuers: &'a [ShownIssuer],
    /// The string of what went wrong before, if something did.
    pub notice: Option<&'static str>,
}

/// An issuer of sign-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownIssuer {
    /// Its name in the configuration, which is shown.
    pub name: String,
}

/// What the page that asks for a code needs.
#[derive(Debug, Clone, Copy)]
pub struct CodePage<'a> {
    /// The token of the link, if the reader came by one.
    pub token: Option<&'a str>,
    /// For how many minutes the code is valid.
    pub minutes: u64,
    /// Whether the code that was typed is not the right one.
    pub is_wrong: bool,
}

/// The mail with a code.
#[derive(Debug, Clone, Copy)]
pub struct CodeMail<'a> {
    /// The code, as it is shown.
    pub code: &'a str,
    /// The host of the portal.
    pub site: &'a str,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// The browser that asked, if it is a known one.
    pub browser: Option<&'static str>,
    /// For how many minutes it is valid.
    pub minutes: u64,
}

impl PortalWriter<'_> {
    /// The page that asks who the reader is.
    pub fn sign_in(&self, page: &SignInPage<'_>) -> PortalPage {
        let (title, text) = match page.token {
            Some(_) => ("portal_sign_in_title", "portal_sign_in_text"),
            None => ("portal_mine_title", "portal_mine_sign_in_text"),
        };
        let mut content = format!("<h1>{}</h1>", self.say(title));
        if let Some(notice) = page.notice {
            let _ = write!(
                content,
                "<p role=\"alert\" class=\"notice\">{}</p>",
                self.say(notice)
            );
        }
        if page.by_code {
            let _ = write!(
                content,
                "<p id=\"how\">{}</p><form method=\"post\" action=\"/sign-in\">",
                self.say(text)
            );
            push_hidden(&mut content, "token", page.token);
            let _ = write!(
                content,
                "<label for=\"address\">{}</label><input id=\"address\" name=\"address\" type=\"email\" autocomplete=\"email\" \
                 inputmode=\"email\" dir=\"ltr\" maxlength=\"320\" required aria-describedby=\"how\"><button>{}</button></form>",
                self.say("portal_address"),
                self.say("portal_send_code")
            );
        }
        if !page.by_code && page.token.is_some() {
            let _ = write!(content, "<p>{}</p>", self.say("portal_sign_in_account"));
        }
        for issuer in page.issuers {
            let token = page.token.map_or_else(String::new, |token| {
                format!("/{}", percent::encode(token, b""))
            });
            let _ = write!(
                content,
                "<p><a class=\"button plain\" href=\"/sign-in/oidc/{}{}\">{}</a></p>",
                escape(&percent::encode(&issuer.name, b"")),
                escape(&token),
                self.say_with("portal_issuer", None, &[("name", &issuer.name)])
            );
        }
        self.page(&self.plain(title, None, &[]), &content, false)
    }

    /// The page that asks for the code of the mail.
    pub fn code(&self, page: &CodePage<'_>) -> PortalPage {
        let (invalid, described) = if page.is_wrong {
            (" aria-invalid=\"true\"", "wrong how")
        } else {
            ("", "how")
        };
        let mut content = format!("<h1>{}</h1>", self.say("portal_code_title"));
        if page.is_wrong {
            let _ = write!(
                content,
                "<p id=\"wrong\" role=\"alert\" class=\"notice\">{}</p>",
                self.say("portal_code_wrong")
            );
        }
        let minutes = self.language.number(page.minutes);
        let _ = write!(
            content,
            "<p id=\"how\">{} {}</p><form method=\"post\" action=\"/sign-in/code\">",
            self.say("portal_code_text"),
            self.say_with(
                "portal_code_life",
                Some(page.minutes),
                &[("count", &minutes)]
            )
        );
        push_hidden(&mut content, "token", page.token);
        let _ = write!(
            content,
            "<label for=\"code\">{}</label><input id=\"code\" name=\"code\" class=\"code\" autocomplete=\"one-time-code\" \
             inputmode=\"numeric\" dir=\"ltr\" maxlength=\"40\" required{invalid} aria-describedby=\"{described}\">\
             <button>{}</button></form><p class=\"small\">{}</p>",
            self.say("portal_code_label"),
            self.say("portal_code_submit"),
            self.say("portal_code_again")
        );
        let back = match page.token {
            Some(token) => format!("/d/{}", percent::encode(token, b"")),
            None => "/mine".to_owned(),
        };
        let _ = write!(
            content,
            "<p class=\"small\"><a href=\"{}\">{}</a></p>",
            escape(&back),
            self.say("portal_code_other")
        );
        self.page(&self.plain("portal_code_title", None, &[]), &content, false)
    }

    /// The subject and the text of the mail with a code. It has no link, so that no scanner can use it up.
    pub fn code_mail(&self, mail: &CodeMail<'_>) -> (String, String) {
        let asked_at = self.instant(mail.asked_at);
        let asked = match mail.browser {
            Some(browser) => self.plain(
                "portal_mail_asked_from",
                None,
                &[("when", &asked_at), ("browser", browser)],
            ),
            None => self.plain("portal_mail_asked", None, &[("when", &asked_at)]),
        };
        let minutes = self.language.number(mail.minutes);
        let life = self.plain(
            "portal_code_life",
            Some(mail.minutes),
            &[("count", &minutes)],
        );
        let subject = self.plain("portal_mail_subject", None, &[("site", mail.site)]);
        let mut text = format!(
            "{}\n\n    {}\n\n{asked} {life}\n\n{}\n",
            self.plain("portal_mail_code", None, &[("site", mail.site)]),
            mail.code,
            self.plain("portal_mail_not_you", None, &[])
        );
        for (number, line) in self.brand.footer().iter().enumerate() {
            let gap = if number == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{line}");
        }
        (subject, text)
    }
}
