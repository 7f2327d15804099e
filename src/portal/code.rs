//! Codes by mail: eight digits that prove that the visitor reads a mailbox now.
//!
//! A code is derived from its challenge and the recipient id, so nothing is stored and each instance can check it. The
//! challenge is in a cookie of the browser that asked: a code that is read elsewhere opens nothing there. It is a confirmation
//! of the address and no more: NIST SP 800-63B-4, 3.1.3.1, does not count mail as an authenticator.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::Timestamp;
use presign::hex::{hex, hex_of};

use crate::keyring::{Deriver, Keyring, Purpose};
use crate::ledger::portal::CodeScope;

/// The version of the cookie's format.
const VERSION: &str = "2";

/// The digits of a code.
const CODE_DIGITS: usize = 8;

/// By how much the clocks of two instances may differ.
const CLOCK_SLACK_SECS: i64 = 60;

/// Makes challenges and codes, and checks them.
#[derive(Debug, Clone)]
pub(super) struct MailCodes {
    derived: Deriver,
}

/// A request for a code: which browser asked, and for whom.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// 32 hexadecimal digits.
    id: String,
    /// The recipient id of the address that was typed, whether the link is for it or not.
    rid: String,
    /// What it is for.
    scope: CodeScope,
    /// When the code expires, in seconds of Unix time.
    ends: i64,
}

/// A code; a secret, which only the mail shows.
pub(super) struct MailedCode(String);

impl MailedCode {
    /// The digits as the mail shows them: `1234 5678`.
    pub(super) fn spelled(&self) -> String {
        let (first, second) = self.0.split_at(CODE_DIGITS / 2);
        format!("{first} {second}")
    }
}

impl Challenge {
    /// The id, by which tries are counted.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The recipient id of the address that was typed.
    pub(super) fn rid(&self) -> &str {
        &self.rid
    }

    /// What it is for.
    pub(super) const fn scope(&self) -> CodeScope {
        self.scope
    }
}

impl MailCodes {
    pub(super) fn new(keyring: &Keyring) -> Self {
        Self {
            derived: keyring.deriver(Purpose::PortalCode),
        }
    }

    /// A new challenge for an address.
    pub(super) fn challenge(
        &self,
        scope: CodeScope,
        rid: &str,
        now: Timestamp,
        life: Duration,
    ) -> Challenge {
        let mut id = [0; 16];
        getrandom::fill(&mut id).expect("the operating system gives random bytes");
        let life = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        Challenge {
            id: hex(&id),
            rid: rid.to_owned(),
            scope,
            ends: now.as_second().saturating_add(life),
        }
    }

    /// The cookie of a challenge.
    pub(super) fn cookie(&self, challenge: &Challenge) -> String {
        let Challenge {
            id,
            rid,
            scope,
            ends,
        } = challenge;
        let (scope, tag) = (scope.as_str(), self.tag(challenge));
        format!("{VERSION}.{id}.{rid}.{scope}.{ends}.{tag}")
    }

    /// The challenge of a cookie, if it was made here and has not expired.
    pub(super) fn read(&self, cookie: &str, now: Timestamp) -> Option<Challenge> {
        let mut parts = cookie.split('.');
        let (version, id, rid) = (parts.next()?, parts.next()?, parts.next()?);
        let (scope, ends, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let challenge = Challenge {
            id: id.to_owned(),
            rid: rid.to_owned(),
            scope: CodeScope::read(scope)?,
            ends: ends.parse().ok()?,
        };
        let expected = self.tag(&challenge);
        let is_ours = verify_slices_are_equal(tag.as_bytes(), expected.as_bytes()).is_ok();
        let is_whole = version == VERSION && parts.next().is_none();
        let is_live = now.as_second() <= challenge.ends.saturating_add(CLOCK_SLACK_SECS);
        (is_ours && is_whole && is_live).then_some(challenge)
    }

    /// The code of a challenge.
    pub(super) fn code(&self, challenge: &Challenge) -> MailedCode {
        let parts: [&[u8]; 3] = [b"code", challenge.id.as_bytes(), challenge.rid.as_bytes()];
        let derived = self.derived.derive(&parts);
        let [a, b, c, d, e, f, g, h, ..] = derived;
        // 2^64 is 1.8 × 10^11 times 10^8, so no code is noticeably more likely.
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % 100_000_000;
        MailedCode(format!("{number:08}"))
    }

    /// Whether the typed text is the code of a challenge, compared in constant time.
    pub(super) fn matches(&self, challenge: &Challenge, typed: &TypedCode) -> bool {
        let code = self.code(challenge);
        verify_slices_are_equal(code.0.as_bytes(), typed.0.as_bytes()).is_ok()
    }

    fn tag(&self, challenge: &Challenge) -> String {
        let Challenge {
            id,
            rid,
            scope,
            ends,
        } = challenge;
        let ends = ends.to_be_bytes();
        let parts: [&[u8]; 6] = [
            b"cookie",
            VERSION.as_bytes(),
            id.as_bytes(),
            rid.as_bytes(),
            scope.as_str().as_bytes(),
            &ends,
        ];
        let spelled = hex_of(&self.derived.derive(&parts));
        String::from_utf8_lossy(&spelled[..32]).into_owned()
    }
}

/// Eight digits that a visitor typed or pasted.
pub(super) struct TypedCode(String);

impl TypedCode {
    /// Reads a code: spaces and hyphens between the digits are skipped, and digits may be those of Japanese and Arabic
    /// keyboards.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut digits = String::with_capacity(CODE_DIGITS);
        for c in text.chars() {
            if c.is_whitespace()
                || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
            {
                continue;
            }
            let zero = match c {
                '0'..='9' => '0',
                '\u{660}'..='\u{669}' => '\u{660}',
                '\u{6f0}'..='\u{6f9}' => '\u{6f0}',
                '\u{ff10}'..='\u{ff19}' => '\u{ff10}',
                _ => return None,
            };
            let digit = u32::from(c) - u32::from(zero);
            digits.push(char::from_digit(digit, 10)?);
            if digits.len() > CODE_DIGITS {
                return None;
            }
        }
        (digits.len() == CODE_DIGITS).then_some(Self(digits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(600);

    fn codes() -> MailCodes {
        MailCodes::new(&Keyring::new([7; 32]))
    }

    #[test]
    fn a_challenge_survives_its_cookie_and_nothing_in_it_can_be_changed() {
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let codes = codes();
        let challenge = codes.challenge(CodeScope::Link, "0123abcd", now, LIFE);
        let cookie = codes.cookie(&challenge);
        assert!(codes.read(&cookie, now) == Some(challenge));
        let late = now + jiff::SignedDuration::from_secs(661);
        assert!(codes.read(&cookie, late).is_none());
        for (at, _) in cookie.char_indices() {
            let mut forged = cookie.clone();
            let other = if &cookie[at..=at] == "3" { "4" } else { "3" };
            forged.replace_range(at..=at, other);
            assert!(codes.read(&forged, now).is_none(), "{forged}");
        }
        assert!(codes.read(&format!("{cookie}."), now).is_none());
        let elsewhere = MailCodes::new(&Keyring::new([8; 32]));
        assert!(elsewhere.read(&cookie, now).is_none());
    }

    #[test]
    fn a_code_is_for_one_challenge_and_one_address() {
        let now = Timestamp::UNIX_EPOCH;
        let codes = codes();
        let (one, two) = (
            codes.challenge(CodeScope::Mine, "a", now, LIFE),
            codes.challenge(CodeScope::Mine, "a", now, LIFE),
        );
        let spelled = codes.code(&one).spelled();
        let typed = TypedCode::read(&spelled).unwrap();
        assert!(codes.matches(&one, &typed));
        assert!(!codes.matches(&two, &typed));
        let other = Challenge {
            rid: "b".to_owned(),
            ..one
        };
        assert!(!codes.matches(&other, &typed));
    }

    #[test]
    fn digits_are_read_as_people_type_and_paste_them() {
        for text in [
            "12345678",
            " 1234 5678\n",
            "1234-5678",
            "１２３４　５６７８",
            "١٢٣٤ ٥٦٧٨",
            "1234\u{a0}5678",
        ] {
            assert_eq!(TypedCode::read(text).unwrap().0, "12345678", "{text}");
        }
        for text in ["", "1234567", "123456789", "1234567a", "1234 5678 9"] {
            assert!(TypedCode::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn codes_of_all_lengths_have_eight_digits() {
        let codes = codes();
        for _ in 0..2_000 {
            let code =
                codes.code(&codes.challenge(CodeScope::Link, "a", Timestamp::UNIX_EPOCH, LIFE));
            assert_eq!(code.0.len(), 8);
        }
    }
}
