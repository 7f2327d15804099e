//! Tickets: proof that a request comes from a page that this browser was shown within the hour.
//!
//! The button of a page carries one, and so do the pictures and videos in it. A scanner that opens the link sees the page and
//! sends no ticket; a form of another site has none either. A ticket opens nothing: it stands beside the token.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::{SignedDuration, Timestamp};
use presign::hex::hex;

use super::cookies::BrowserNonce;
use crate::keyring::{Deriver, Keyring, Purpose};

/// How long a ticket of a button is valid.
pub(super) const BUTTON_LIFE: Duration = Duration::from_secs(60 * 60);

/// How long a ticket of a picture or video is: a page that is left open plays on.
pub(super) const EMBED_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// By how much the clocks of two instances may differ.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(60);

/// The length of a ticket: 12 digits of time, 32 of the tag.
const TIME_DIGITS: usize = 12;
const TAG_DIGITS: usize = 32;

/// Makes and checks tickets.
#[derive(Debug, Clone)]
pub(super) struct Tickets {
    tags: Deriver,
}

impl Tickets {
    pub(super) fn new(keyring: &Keyring) -> Self {
        Self {
            tags: keyring.deriver(Purpose::PortalTicket),
        }
    }

    /// A ticket for a token and a browser.
    pub(super) fn issue(&self, token: &str, browser: &BrowserNonce, now: Timestamp) -> String {
        let time = format!("{:012x}", now.as_millisecond().max(0));
        let tag = self.tag(&time, token, browser);
        time + &tag
    }

    /// How old the ticket is, if it is valid for the token and the browser, and not older than [`EMBED_LIFE`].
    pub(super) fn check(
        &self,
        ticket: &str,
        token: &str,
        browser: &BrowserNonce,
        now: Timestamp,
    ) -> Option<Duration> {
        if ticket.len() != TIME_DIGITS + TAG_DIGITS || !ticket.is_ascii() {
            return None;
        }
        let (time, tag) = ticket.split_at(TIME_DIGITS);
        let expected = self.tag(time, token, browser);
        verify_slices_are_equal(tag.as_bytes(), expected.as_bytes()).ok()?;
        let issued = i64::from_str_radix(time, 16).ok()?;
        let issued = Timestamp::from_millisecond(issued).ok()?;
        let age = now.duration_since(issued);
        let is_issued = age >= -CLOCK_SLACK;
        // A negative age is that of a clock behind ours.
        let age = Duration::try_from(age).unwrap_or(Duration::ZERO);
        (is_issued && age <= EMBED_LIFE).then_some(age)
    }

    fn tag(&self, time: &str, token: &str, browser: &BrowserNonce) -> String {
        // The reader's program may have changed the case of the token.
        let token = token.to_ascii_lowercase();
        let parts = [time.as_bytes(), token.as_bytes(), browser.as_bytes()];
        hex(&self.tags.derive(&parts)[..TAG_DIGITS / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_for_one_token_one_browser_and_a_day() {
        let tickets = Tickets::new(&Keyring::new([7; 32]));
        let (ours, other) = (BrowserNonce::random(), BrowserNonce::random());
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let ticket = tickets.issue("abc", &ours, now);
        let later = |seconds: i64| now + SignedDuration::from_secs(seconds);
        let age = |token: &str, browser, at| tickets.check(&ticket, token, browser, at);
        assert_eq!(age("abc", &ours, later(90)), Some(Duration::from_secs(90)));
        assert_eq!(age("ABC", &ours, later(-30)), Some(Duration::ZERO));
        assert_eq!(age("abd", &ours, now), None);
        assert_eq!(age("abc", &other, now), None);
        assert_eq!(age("abc", &ours, later(86_401)), None);
        assert_eq!(age("abc", &ours, later(-61)), None);
        let mut forged = ticket.clone();
        forged.replace_range(0..1, "1");
        assert_eq!(tickets.check(&forged, "abc", &ours, now), None);
        for odd in ["", "é", &"f".repeat(44), &"é".repeat(22)] {
            assert_eq!(tickets.check(odd, "abc", &ours, now), None, "{odd}");
        }
        let elsewhere = Tickets::new(&Keyring::new([8; 32]));
        assert_eq!(elsewhere.check(&ticket, "abc", &ours, now), None);
    }
}
