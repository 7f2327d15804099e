//! The token that names a recipient in the envelope sender of a mail, and in the link to leave a list.
//!
//! ```text
//! token = base32( recipient id 16 ‖ tag 8 ‖ code 4 )         28 bytes, 45 letters
//! code  = HMAC-SHA256(K1, kind ‖ recipient id ‖ tag)[..4]
//! tag   = HMAC-SHA256(K2, "job" or "list" ‖ its id)[..8]
//! ```
//!
//! A local part has at most 64 bytes (RFC 5321, section 4.5.3.1.1): `bounces+` and a token have 53. A token holds no address. It is the same for
//! each attempt at a mail, since greylisting compares envelopes. The code keeps a stranger from making bounces: one for a
//! recipient whose id is not known takes 2¹²⁸ guesses, one for a known id 2³².

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use presign::hex::hex;

use crate::keyring::{Deriver, Keyring, Purpose};
use crate::text::base32;

/// How many letters a token has.
pub const PERSON_TOKEN_LETTERS: usize = base32::letters_of(PERSON_TOKEN_BYTES);

const PERSON_TOKEN_BYTES: usize = RID_BYTES + TAG_BYTES + CODE_BYTES;
const RID_BYTES: usize = 16;
const TAG_BYTES: usize = 8;
const CODE_BYTES: usize = 4;

/// What a token is for. A token for one purpose is forged for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonTokenKind {
    /// The envelope sender of a mail: its tag is a job's.
    Bounce,
    /// The link to leave a list: its tag is a list's.
    Leave,
}

/// The short reference of a job or of a list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonTag(pub [u8; TAG_BYTES]);

impl fmt::Display for PersonTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PersonTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PersonTag({self})")
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonToken {
    /// The recipient's id, as in ledger and audit log: 32 hexadecimal digits.
    pub rid: String,
    /// The job or the list.
    pub tag: PersonTag,
}

/// What was found in the text of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundToken {
    /// A token of this installation.
    Ours(PersonToken),
    /// A text of the form of a token, with another code.
    Forged,
    /// No token.
    Missing,
}

/// Makes and reads tokens; prints as stars.
#[derive(Debug, Clone)]
pub struct PersonKeys {
    codes: Deriver,
    tags: Deriver,
}

impl PersonKeys {
    /// The keys of an installation.
    pub fn new(keyring: &Keyring) -> Self {
        Self {
            codes: keyring.deriver(Purpose::PersonToken),
            tags: keyring.deriver(Purpose::PersonTag),
        }
    }

    /// The tag of a job.
    pub fn job_tag(&self, job: &str) -> PersonTag {
        self.tag(b"job", job)
    }

    /// The tag of a list, by its id.
    pub fn list_tag(&self, list: &str) -> PersonTag {
        self.tag(b"list", &list.to_ascii_lowercase())
    }

    fn tag(&self, kind: &[u8], id: &str) -> PersonTag {
        let derived = self.tags.derive(&[kind, id.as_bytes()]);
        let (tag, _) = derived.split_first_chunk().expect("32 bytes have eight");
        PersonTag(*tag)
    }

    /// The letters of the token of a recipient; the same each time. `None` if the id is not one.
    pub fn spell(&self, kind: PersonTokenKind, rid: &str, tag: PersonTag) -> Option<String> {
        let rid = rid_bytes(rid)?;
        let mut bytes = [0; PERSON_TOKEN_BYTES];
        bytes[..RID_BYTES].copy_from_slice(&rid);
        bytes[RID_BYTES..RID_BYTES + TAG_BYTES].copy_from_slice(&tag.0);
        bytes[RID_BYTES + TAG_BYTES..].copy_from_slice(&self.code(kind, &rid, tag));
        let letters: [u8; PERSON_TOKEN_LETTERS] = base32::spell(&bytes);
        String::from_utf8(letters.to_vec()).ok()
    }

    /// What a text says, if it is a token of this installation and kind.
    pub fn read(&self, kind: PersonTokenKind, text: &str) -> Option<PersonToken> {
        let bytes: [u8; PERSON_TOKEN_BYTES] = base32::read(text)?;
        let (rid, rest) = bytes.split_first_chunk::<RID_BYTES>()?;
        let (tag, code) = rest.split_first_chunk::<TAG_BYTES>()?;
        let tag = PersonTag(*tag);
        verify_slices_are_equal(&self.code(kind, rid, tag), code).ok()?;
        Some(PersonToken { rid: hex(rid), tag })
    }

    /// The token of an envelope sender in a text: `bounces+token@sender.example`, also with what servers write before it, such as
    /// `prvs=…=` (BATV) and `SRS0=…=`, and in any case.
    pub fn find(&self, text: &str) -> FoundToken {
        let mut found = FoundToken::Missing;
        for (at, _) in text.match_indices('+') {
            let rest = &text[at + 1..];
            let letters = rest
                .bytes()
                .take_while(|byte| base32::value(*byte).is_some())
                .count();
            if letters != PERSON_TOKEN_LETTERS {
                continue;
            }
            match self.read(PersonTokenKind::Bounce, &rest[..letters]) {
                Some(token) => return FoundToken::Ours(token),
                None => found = FoundToken::Forged,
            }
        }
        found
    }

    fn code(
        &self,
        kind: PersonTokenKind,
        rid: &[u8; RID_BYTES],
        tag: PersonTag,
    ) -> [u8; CODE_BYTES] {
        let kind: &[u8] = match kind {
            PersonTokenKind::Bounce => b"bounce",
            PersonTokenKind::Leave => b"leave",
        };
        let derived = self.codes.derive(&[kind, rid, &tag.0]);
        let (code, _) = derived.split_first_chunk().expect("32 bytes have four");
        *code
    }
}

/// The bytes of a recipient's id.
fn rid_bytes(rid: &str) -> Option<[u8; RID_BYTES]> {
    let is_spelled =
        rid.len() == 2 * RID_BYTES && rid.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(rid, 16).ok().filter(|_| is_spelled);
    number.map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RID: &str = "0123456789abcdef0123456789abcdef";

    fn keys() -> PersonKeys {
        PersonKeys::new(&Keyring::new([7; 32]))
    }

    #[test]
    fn a_token_fits_a_local_part_and_stays_what_it_is() {
        let keys = keys();
        let text = keys
            .spell(PersonTokenKind::Bounce, RID, keys.job_tag("daily"))
            .unwrap();
        assert_eq!((text.len(), PERSON_TOKEN_LETTERS), (45, 45));
        insta::assert_snapshot!(text, @"04hmasw9nf6yy0938nkrkaydxy9wd2vespzptk93x0wgt");
        assert_eq!(
            keys.spell(PersonTokenKind::Bounce, "ann", keys.job_tag("x")),
            None
        );
        assert_ne!(keys.job_tag("a"), keys.list_tag("a"));
        assert_eq!(
            keys.list_tag("Daily.Example"),
            keys.list_tag("daily.example")
        );
    }

    #[test]
    fn a_token_is_found_behind_what_servers_write_and_in_any_case() {
        let keys = keys();
        let tag = keys.job_tag("daily");
        let token = keys.spell(PersonTokenKind::Bounce, RID, tag).unwrap();
        let ours = FoundToken::Ours(PersonToken {
            rid: RID.to_owned(),
            tag,
        });
        for text in [
            format!("bounces+{token}@sender.example"),
            format!("<BOUNCES+{}@SENDER.EXAMPLE>", token.to_ascii_uppercase()),
            format!("prvs=1234abcdef=bounces+{token}@sender.example"),
            format!("SRS0=HHHH=TT=sender.example=bounces+{token}@forwarder.example"),
            format!("\"a+b\" <bounces+{token}@sender.example>"),
        ] {
            assert_eq!(keys.find(&text), ours, "{text}");
        }
        let leave = keys.spell(PersonTokenKind::Leave, RID, tag).unwrap();
        assert_eq!(keys.find(&format!("bounces+{leave}@x")), FoundToken::Forged);
        assert_eq!(keys.find("bounces+friends@x"), FoundToken::Missing);
        assert_eq!(keys.find(&token), FoundToken::Missing);
        let other = PersonKeys::new(&Keyring::new([8; 32]));
        assert_eq!(
            other.find(&format!("bounces+{token}@x")),
            FoundToken::Forged
        );
    }

    proptest! {
        #[test]
        fn a_changed_letter_makes_a_forged_token(
            rid: u128, at in 0..PERSON_TOKEN_LETTERS, by in 1_u8..32
        ) {
            let keys = keys();
            let rid = format!("{rid:032x}");
            let text = keys.spell(PersonTokenKind::Bounce, &rid, keys.job_tag("j")).unwrap();
            let read = keys.read(PersonTokenKind::Bounce, &text);
            prop_assert_eq!(read.map(|token| token.rid), Some(rid));
            let mut letters = text.into_bytes();
            letters[at] = base32::ALPHABET[usize::from((base32::value(letters[at]).unwrap() + by) % 32)];
            let text = String::from_utf8(letters).unwrap();
            prop_assert_eq!(keys.read(PersonTokenKind::Bounce, &text), None);
        }

        #[test]
        fn no_text_panics(text: String) {
            prop_assert_eq!(keys().find(&text), FoundToken::Missing);
        }
    }
}
