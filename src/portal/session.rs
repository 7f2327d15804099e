//! Sessions: who signed in with this browser. A session is its cookie; no instance stores it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64ct::{Base64UrlUnpadded, Encoding};
use jiff::Timestamp;
use presign::hex::hex;

use crate::keyring::{Deriver, Keyring, Purpose};
use crate::portal_access::{ReaderSession, SignedInBy};

/// The version of the cookie's format. A session of another version signs in again.
const VERSION: &str = "2";

/// By how much the clocks of two instances may differ, in seconds.
const CLOCK_SLACK_SECS: i64 = 60;

/// Makes the cookies of sessions, and reads them.
#[derive(Debug, Clone)]
pub(super) struct SessionCookies {
    tags: Deriver,
}

impl SessionCookies {
    pub(super) fn new(keyring: &Keyring) -> Self {
        Self {
            tags: keyring.deriver(Purpose::PortalSession),
        }
    }

    /// The cookie of a session: `version.rid.how.issued.ends.sid.changes.tag`.
    pub(super) fn cookie(&self, session: &ReaderSession) -> String {
        let how = match &session.how {
            SignedInBy::Code => "c".to_owned(),
            SignedInBy::Oidc(issuer) => {
                format!("o{}", Base64UrlUnpadded::encode_string(issuer.as_bytes()))
            }
        };
        let (issued, ends) = (session.issued.as_second(), session.ends.as_second());
        let content = format!(
            "{VERSION}.{}.{how}.{issued}.{ends}.{}.{}",
            session.rid,
            hex(&session.sid),
            session.known_changes
        );
        let tag = self.tag(&content);
        content + "." + &tag
    }

    /// The session of a cookie, if it was made here and has not ended.
    pub(super) fn read(&self, cookie: &str, now: Timestamp) -> Option<ReaderSession> {
        let (content, tag) = cookie.rsplit_once('.')?;
        verify_slices_are_equal(tag.as_bytes(), self.tag(content).as_bytes()).ok()?;
        let mut parts = content.split('.');
        let mut next = || parts.next();
        if next()? != VERSION {
            return None;
        }
        let (rid, how, issued, ends) = (next()?, next()?, next()?, next()?);
        let (sid, known_changes) = (next()?, next()?);
        let how = match how.split_at_checked(1)? {
            ("c", "") => SignedInBy::Code,
            ("o", issuer) => {
                let issuer = Base64UrlUnpadded::decode_vec(issuer).ok()?;
                SignedInBy::Oidc(String::from_utf8(issuer).ok()?.into())
            }
            _ => return None,
        };
        let instant = |seconds: &str| Timestamp::from_second(seconds.parse().ok()?).ok();
        let session = ReaderSession {
            rid: rid.to_owned(),
            how,
            issued: instant(issued)?,
            ends: instant(ends)?,
            sid: u64::from_str_radix(sid, 16).ok()?.to_be_bytes(),
            known_changes: known_changes.parse().ok()?,
        };
        let now = now.as_second();
        let is_live = now < session.ends.as_second()
            && now >= session.issued.as_second().saturating_sub(CLOCK_SLACK_SECS);
        is_live.then_some(session)
    }

    fn tag(&self, content: &str) -> String {
        hex(&self.tags.derive(&[content.as_bytes()])[..16])
    }
}

/// The id of a new session.
pub(super) fn new_sid() -> [u8; 8] {
    let mut sid = [0; 8];
    getrandom::fill(&mut sid).expect("the operating system gives random bytes");
    sid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(how: SignedInBy) -> ReaderSession {
        ReaderSession {
            rid: "0123456789abcdef0123456789abcdef".to_owned(),
            how,
            issued: "2026-11-29T12:00:00Z".parse().unwrap(),
            ends: "2026-11-30T00:00:00Z".parse().unwrap(),
            sid: [0, 1, 2, 3, 4, 5, 6, 255],
            known_changes: 13,
        }
    }

    #[test]
    fn a_session_survives_its_cookie_until_it_ends_and_cannot_be_changed() {
        let sessions = SessionCookies::new(&Keyring::new([7; 32]));
        for how in [SignedInBy::Code, SignedInBy::Oidc("staff.1 ü".into())] {
            let session = session(how);
            let cookie = sessions.cookie(&session);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            assert!(cookie.chars().all(plain), "{cookie}");
            assert_eq!(
                sessions.read(&cookie, session.issued),
                Some(session.clone())
            );
            assert_eq!(sessions.read(&cookie, session.ends), None);
            let early = session.issued - jiff::SignedDuration::from_secs(61);
            assert_eq!(sessions.read(&cookie, early), None);
            for (at, _) in cookie.char_indices() {
                let mut forged = cookie.clone();
                let other = if &cookie[at..=at] == "3" { "4" } else { "3" };
                forged.replace_range(at..=at, other);
                assert_eq!(sessions.read(&forged, session.issued), None, "{forged}");
            }
            let elsewhere = SessionCookies::new(&Keyring::new([8; 32]));
            assert_eq!(elsewhere.read(&cookie, session.issued), None);
        }
    }
}
