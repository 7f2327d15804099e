//! The token of a portal link: which job, recipient and object a link is for, sealed so that a forged one is known without a look-up.
//!
//! ```text
//! token  = base32( tag 12 ‖ sealed 15 )                      27 bytes, 44 letters
//! tag    = HMAC-SHA256(K1, version ‖ content)[..12]
//! sealed = content XOR HMAC-SHA256(K2, tag)[..15]            content = job 8 ‖ recipient 3 ‖ object 4
//! ```
//!
//! This is a deterministic SIV (RFC 5297 in its shape): the same link has the same token after every retry of its job. The
//! letters are Crockford's base32 in lower case, read without regard to case, since mail systems change the case of URLs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use presign::hex::hex;

use crate::bounds::MAX_ZIPS;
use crate::keyring::{Deriver, Keyring, Purpose};
use crate::text::base32;

/// How many letters a token has.
pub const TOKEN_LETTERS: usize = 44;

/// The length of the tag, in bytes: a guess succeeds with a probability of 2⁻⁹⁶.
const TAG_BYTES: usize = 12;

/// The length of the content, in bytes.
const CONTENT_BYTES: usize = 15;

const TOKEN_BYTES: usize = TAG_BYTES + CONTENT_BYTES;

/// The version of the content; part of what the tag covers.
const VERSION: &[u8] = &[1];

/// The recipient of a link that all recipients of a job share.
pub const EVERYBODY: u32 = 0x00ff_ffff;

/// The short reference of a job's objects in tokens and records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobRef(pub [u8; 8]);

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobRef({self})")
    }
}

impl Serialize for JobRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no reference of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no reference of a job: it has 16 hexadecimal digits")]
pub struct NoJobRef;

impl FromStr for JobRef {
    type Err = NoJobRef;

    fn from_str(text: &str) -> Result<Self, NoJobRef> {
        let is_spelled = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_spelled);
        number
            .map(|number| Self(number.to_be_bytes()))
            .ok_or(NoJobRef)
    }
}

/// What a link is for: an object by its index in the job's listing, a ZIP of all of them, or the page of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectSlot(pub u32);

/// The slots for ZIPs, below that of the page. A listing is far shorter.
const ZIP_SLOTS: u32 = 64;

const _: () = assert!(MAX_ZIPS <= ZIP_SLOTS as usize);

impl ObjectSlot {
    /// The page of all objects of the job.
    pub const PAGE: Self = Self(u32::MAX);

    /// The ZIP of this number, from 0, among those of the job.
    pub const fn of_zip(number: u32) -> Self {
        Self(Self::PAGE.0 - 1 - number)
    }

    /// The index of the object in the job's listing; `None` for the page and for ZIPs.
    pub fn index(self) -> Option<u32> {
        Some(self.0).filter(|slot| *slot < Self::PAGE.0 - ZIP_SLOTS)
    }

    /// The number of the ZIP, if it is one's.
    pub fn zip(self) -> Option<u32> {
        let is_zip = self != Self::PAGE && self.index().is_none();
        is_zip.then(|| Self::PAGE.0 - 1 - self.0)
    }

    /// Whether it is the page of all objects.
    pub fn is_page(self) -> bool {
        self == Self::PAGE
    }
}

/// What a portal link says. It is no secret by itself; its [`TokenText`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortalToken {
    /// The job's reference.
    pub job: JobRef,
    /// The index of the recipient in the job's people, or [`EVERYBODY`]. At most 24 bits are kept.
    pub recipient: u32,
    /// The object, a ZIP, or the page.
    pub object: ObjectSlot,
}

impl PortalToken {
    fn content(&self) -> [u8; CONTENT_BYTES] {
        let mut content = [0; CONTENT_BYTES];
        content[..8].copy_from_slice(&self.job.0);
        content[8..11].copy_from_slice(&self.recipient.to_be_bytes()[1..]);
        content[11..].copy_from_slice(&self.object.0.to_be_bytes());
        content
    }

    fn of_content(content: [u8; CONTENT_BYTES]) -> Self {
        let [job @ .., r2, r1, r0, o3, o2, o1, o0] = content;
        Self {
            job: JobRef(job),
            recipient: u32::from_be_bytes([0, r2, r1, r0]),
            object: ObjectSlot(u32::from_be_bytes([o3, o2, o1, o0])),
        }
    }
}

/// The letters of a token. Each holder of them has the link: no `Display`, and `Debug` hides them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenText([u8; TOKEN_LETTERS]);

impl TokenText {
    /// The letters. They are secret: keep them out of logs.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(****)")
    }
}

/// Seals and opens tokens; prints as stars.
#[derive(Debug, Clone)]
pub struct PortalKeys {
    tags: Deriver,
    masks: Deriver,
    jobs: Deriver,
}

impl PortalKeys {
    /// The keys of an installation.
    pub fn new(keyring: &Keyring) -> Self {
        Self {
            tags: keyring.deriver(Purpose::PortalTag).after(&[VERSION]),
            masks: keyring.deriver(Purpose::PortalMask),
            jobs: keyring.deriver(Purpose::PortalJob),
        }
    }

    /// The reference of a job: of its id and of the listing that its plan names, so that a later job with the same id has another.
    pub fn job_ref(&self, job: &str, listing: &str) -> JobRef {
        let derived = self.jobs.derive(&[job.as_bytes(), listing.as_bytes()]);
        let (reference, _) = derived.split_first_chunk().expect("32 bytes have eight");
        JobRef(*reference)
    }

    /// The token's letters; the same each time.
    pub fn seal(&self, token: &PortalToken) -> TokenText {
        let mut content = token.content();
        let tag = self.tag(&content);
        self.mask(&tag, &mut content);
        let mut bytes = [0; TOKEN_BYTES];
        bytes[..TAG_BYTES].copy_from_slice(&tag);
        bytes[TAG_BYTES..].copy_from_slice(&content);
        TokenText(base32::spell(&bytes))
    }

    /// What a text says, if it is a token of this installation. Case, and `O`, `I` and `L` for digits, are forgiven.
    ///
    /// A forged token costs two hashes.
    pub fn open(&self, text: &str) -> Option<PortalToken> {
        let bytes: [u8; TOKEN_BYTES] = base32::read(text)?;
        let (tag, sealed) = bytes.split_at(TAG_BYTES);
        let tag: [u8; TAG_BYTES] = tag.try_into().ok()?;
        let mut content: [u8; CONTENT_BYTES] = sealed.try_into().ok()?;
        self.mask(&tag, &mut content);
        verify_slices_are_equal(&self.tag(&content), &tag).ok()?;
        Some(PortalToken::of_content(content))
    }

    fn tag(&self, content: &[u8; CONTENT_BYTES]) -> [u8; TAG_BYTES] {
        let derived = self.tags.derive(&[content]);
        let (tag, _) = derived.split_first_chunk().expect("32 bytes have twelve");
        *tag
    }

    fn mask(&self, tag: &[u8; TAG_BYTES], content: &mut [u8; CONTENT_BYTES]) {
        let mask = self.masks.derive(&[tag]);
        for (byte, mask) in content.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> PortalKeys {
        PortalKeys::new(&Keyring::new([7; 32]))
    }

    fn token(job: u64, recipient: u32, object: u32) -> PortalToken {
        PortalToken {
            job: JobRef(job.to_be_bytes()),
            recipient,
            object: ObjectSlot(object),
        }
    }

    #[test]
    fn tokens_are_what_they_were_in_the_first_version() {
        let text = keys().seal(&token(1, 2, 3));
        insta::assert_snapshot!(text.expose(), @"2yp3fqhfr0cp5gqnzmjqaz9fz9dr75qcnpqkftynymq0");
        let reference = keys().job_ref("daily", "abc");
        insta::assert_snapshot!(reference.to_string(), @"1e3dc937d8a48492");
        assert_eq!(format!("{text:?}"), "TokenText(****)");
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_in_any_case_and_with_letters_for_digits(
            job: u64, recipient in 0..=EVERYBODY, object: u32
        ) {
            let (keys, token) = (keys(), token(job, recipient, object));
            let text = keys.seal(&token);
            let text = text.expose();
            prop_assert_eq!(keys.open(text), Some(token));
            prop_assert_eq!(keys.open(&text.to_ascii_uppercase()), Some(token));
            prop_assert_eq!(keys.open(&text.replace('0', "O").replace('1', "l")), Some(token));
            prop_assert!(text.bytes().all(|letter| base32::ALPHABET.contains(&letter)));
        }

        #[test]
        fn a_changed_letter_makes_a_token_a_forged_one(
            job: u64, recipient in 0..=EVERYBODY, object: u32, at in 0..TOKEN_LETTERS, by in 1_u8..32
        ) {
            let keys = keys();
            let mut letters = keys.seal(&token(job, recipient, object)).0;
            let changed = (base32::value(letters[at]).unwrap() + by) % 32;
            letters[at] = base32::ALPHABET[usize::from(changed)];
            prop_assert_eq!(keys.open(std::str::from_utf8(&letters).unwrap()), None);
        }

        #[test]
        fn no_text_panics(text: String) {
            prop_assert_eq!(keys().open(&text), None);
        }
    }

    #[test]
    fn another_installation_does_not_open_it() {
        let text = keys().seal(&token(1, 2, 3));
        let other = PortalKeys::new(&Keyring::new([8; 32]));
        assert_eq!(other.open(text.expose()), None);
        assert_eq!(keys().open(&text.expose()[1..]), None);
        assert_eq!(keys().open(&format!("{}0", text.expose())), None);
    }

    #[test]
    fn the_page_is_no_object() {
        assert_eq!(ObjectSlot::PAGE.index(), None);
        assert_eq!(ObjectSlot(0).index(), Some(0));
    }
}
