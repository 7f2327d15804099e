//! What a sign-in carries from its beginning to its end: `state`, `nonce` and the PKCE verifier, all derived from a cookie.
//!
//! The cookie has a random seed and a MAC, and no secret of the provider: the three values are HMACs over the cookie's text, so
//! that a cookie that is read from a disk gives neither of them, and each instance of the portal can end what another began.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64ct::{Base64UrlUnpadded, Encoding};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::refusal::OidcRefusal;
use crate::bounds::MAX_RETURN_TO_BYTES;
use crate::keyring::{Deriver, Keyring, Purpose};

/// How long a sign-in may take.
pub const STATE_LIVES_FOR: Duration = Duration::from_secs(10 * 60);

/// How far the clocks of two instances may be apart.
const SKEW_SECS: i64 = 60;

/// The version of the cookie's form.
const VERSION: u8 = 1;

const SEED_LENGTH: usize = 16;
const MAC_LENGTH: usize = 16;

/// The longest name of an issuer, in bytes, and the longest cookie.
pub(super) const MAX_ISSUER_NAME_BYTES: usize = 64;
const MAX_COOKIE_BYTES: usize =
    (1 + 8 + SEED_LENGTH + 1 + MAX_ISSUER_NAME_BYTES + MAX_RETURN_TO_BYTES + MAC_LENGTH) * 4 / 3
        + 4;

/// Makes and opens the cookies of sign-ins.
#[derive(Debug, Clone)]
pub(super) struct StateKeys {
    deriver: Deriver,
}

/// A sign-in that is under way.
pub(super) struct SignInState {
    /// When it began.
    pub(super) begun: Timestamp,
    /// The name of the issuer.
    pub(super) issuer: String,
    /// Where the reader goes afterwards; empty for the list of their files.
    pub(super) return_to: String,
    /// The cookie's bytes without the MAC.
    body: Vec<u8>,
    deriver: Deriver,
}

impl fmt::Debug for SignInState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInState")
            .field("begun", &self.begun)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl StateKeys {
    pub(super) fn new(keyring: &Keyring) -> Self {
        Self {
            deriver: keyring.deriver(Purpose::PortalOidc),
        }
    }

    /// Begins a sign-in. Returns its state and the value of its cookie.
    pub(super) fn begin(
        &self,
        issuer: &str,
        return_to: &str,
        now: Timestamp,
    ) -> (SignInState, String) {
        let mut seed = [0; SEED_LENGTH];
        getrandom::fill(&mut seed).expect("the operating system gives random bytes");
        let mut body = vec![VERSION];
        body.extend_from_slice(&now.as_second().to_be_bytes());
        body.extend_from_slice(&seed);
        body.push(u8::try_from(issuer.len()).expect("names of issuers are short"));
        body.extend_from_slice(issuer.as_bytes());
        body.extend_from_slice(return_to.as_bytes());
        let mut sealed = body.clone();
        sealed.extend_from_slice(&self.mac(&body));
        let state = SignInState {
            begun: now,
            issuer: issuer.to_owned(),
            return_to: return_to.to_owned(),
            body,
            deriver: self.deriver.clone(),
        };
        (state, Base64UrlUnpadded::encode_string(&sealed))
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_LENGTH] {
        let mac = self.deriver.derive(&[b"cookie", body]);
        *mac.first_chunk().expect("a MAC has 32 bytes")
    }

    /// Opens a cookie.
    ///
    /// # Errors
    /// It was not made by [`begin`](Self::begin) of this installation, or is too old.
    pub(super) fn open(&self, cookie: &str, now: Timestamp) -> Result<SignInState, OidcRefusal> {
        let bytes = match cookie.len() <= MAX_COOKIE_BYTES {
            true => Base64UrlUnpadded::decode_vec(cookie).unwrap_or_default(),
            false => Vec::new(),
        };
        let (body, mac) = bytes
            .split_last_chunk::<MAC_LENGTH>()
            .ok_or(OidcRefusal::ForgedState)?;
        verify_slices_are_equal(&self.mac(body), mac).map_err(|_| OidcRefusal::ForgedState)?;
        let (begun, issuer, return_to) = parts(body).ok_or(OidcRefusal::ForgedState)?;
        let age = now.as_second().saturating_sub(begun.as_second());
        let most = STATE_LIVES_FOR.as_secs().cast_signed();
        if !(-SKEW_SECS..=most).contains(&age) {
            return Err(OidcRefusal::StateExpired);
        }
        Ok(SignInState {
            begun,
            issuer: issuer.to_owned(),
            return_to: return_to.to_owned(),
            body: body.to_vec(),
            deriver: self.deriver.clone(),
        })
    }
}

/// When a cookie was made, its issuer, and where the reader goes afterwards.
fn parts(body: &[u8]) -> Option<(Timestamp, &str, &str)> {
    let (&version, rest) = body.split_first()?;
    let (seconds, rest) = rest.split_first_chunk::<8>()?;
    let (_seed, rest) = rest.split_first_chunk::<SEED_LENGTH>()?;
    let (&length, rest) = rest.split_first()?;
    let (issuer, return_to) = rest.split_at_checked(length.into())?;
    let begun = Timestamp::from_second(i64::from_be_bytes(*seconds)).ok()?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    (version == VERSION).then_some((begun, text(issuer)?, text(return_to)?))
}

impl SignInState {
    fn value(&self, purpose: &[u8]) -> String {
        Base64UrlUnpadded::encode_string(&self.deriver.derive(&[purpose, &self.body]))
    }

    /// The parameter `state`.
    pub(super) fn state(&self) -> String {
        self.value(b"state")
    }

    /// Whether a parameter `state` is of this sign-in; in constant time.
    pub(super) fn is_state(&self, state: &str) -> bool {
        verify_slices_are_equal(self.state().as_bytes(), state.as_bytes()).is_ok()
    }

    /// The parameter and the claim `nonce`.
    pub(super) fn nonce(&self) -> String {
        self.value(b"nonce")
    }

    /// The PKCE verifier: 43 characters, the form of RFC 7636, section 4.1.
    pub(super) fn verifier(&self) -> String {
        self.value(b"verifier")
    }

    /// The PKCE challenge by the method S256 (RFC 7636, section 4.2).
    pub(super) fn challenge(&self) -> String {
        Base64UrlUnpadded::encode_string(&Sha256::digest(self.verifier().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_795_860_000, 0);

    fn keys(secret: u8) -> StateKeys {
        StateKeys::new(&Keyring::new([secret; 32]))
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW.as_second() + seconds).unwrap()
    }

    #[test]
    fn a_cookie_gives_the_same_values_at_another_instance() {
        let (begun, cookie) = keys(7).begin("staff", "0123456789abcdefgh", NOW);
        let opened = keys(7).open(&cookie, after(600)).unwrap();
        assert_eq!(opened.issuer, "staff");
        assert_eq!(opened.return_to, "0123456789abcdefgh");
        assert_eq!(opened.begun, NOW);
        assert_eq!(opened.nonce(), begun.nonce());
        assert_eq!(opened.verifier(), begun.verifier());
        assert_eq!(opened.challenge(), begun.challenge());
        assert!(opened.is_state(&begun.state()));
        assert_eq!(opened.verifier().len(), 43);
        let all = [opened.state(), opened.nonce(), opened.verifier()];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        assert!(!cookie.contains(&all[2]), "the verifier is not in it");
    }

    #[test]
    fn each_sign_in_has_values_of_its_own() {
        let (one, _) = keys(7).begin("staff", "", NOW);
        let (other, _) = keys(7).begin("staff", "", NOW);
        assert_ne!(one.state(), other.state());
        assert!(!one.is_state(&other.state()));
        assert!(!one.is_state(""));
    }

    #[test]
    fn a_cookie_that_was_changed_or_is_of_another_installation_is_refused() {
        let (_, cookie) = keys(7).begin("staff", "t", NOW);
        assert!(matches!(
            keys(8).open(&cookie, NOW),
            Err(OidcRefusal::ForgedState)
        ));
        for at in 0..cookie.len() {
            let mut changed = cookie.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let opened = keys(7).open(&changed, NOW);
            // The last letter has bits that no byte needs; the decoder refuses those, too.
            assert!(matches!(opened, Err(OidcRefusal::ForgedState)), "{at}");
        }
        for text in ["", "A", "=", &"A".repeat(100_000)] {
            let opened = keys(7).open(text, NOW);
            assert!(matches!(opened, Err(OidcRefusal::ForgedState)));
        }
    }

    #[test]
    fn a_cookie_lives_for_ten_minutes_and_may_be_from_a_clock_that_is_ahead() {
        let (_, cookie) = keys(7).begin("staff", "t", NOW);
        for (seconds, is_alive) in [
            (0, true),
            (600, true),
            (601, false),
            (-60, true),
            (-61, false),
        ] {
            let opened = keys(7).open(&cookie, after(seconds));
            assert_eq!(opened.is_ok(), is_alive, "{seconds}");
            let is_late = matches!(opened, Err(OidcRefusal::StateExpired));
            assert_eq!(is_late, !is_alive);
        }
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        // Appendix B: https://www.rfc-editor.org/rfc/rfc7636#appendix-B
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = Base64UrlUnpadded::encode_string(&Sha256::digest(verifier.as_bytes()));
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
