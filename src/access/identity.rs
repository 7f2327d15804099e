//! The ids in the target of a request, and what became of its signature on the way.

use std::borrow::Cow;

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use super::parse::of_signature;
use crate::links::LINK_ID;
use crate::links::portal::OPEN_ID;
use crate::text::percent::{decode, decode_form};

/// An id of a link or of an open in 64 bits. Ids are keyed hashes, so that another text with the same bits cannot be made on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey(pub u64);

impl LinkKey {
    /// Of the text of a link id: 32 hexadecimal digits, or the text that `handout presign --link-id` was given.
    pub fn of_link(id: &str) -> Self {
        let digits = id.get(..16).filter(|_| id.len() == 32);
        let digits = digits.filter(|_| id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            Some(bits) => Self(bits),
            None => Self::hashed(id),
        }
    }

    /// Of the text of an open's id, 11 letters of base64url.
    pub fn of_open(id: &str) -> Self {
        let mut bytes = [0; 8];
        match Base64UrlUnpadded::decode(id, &mut bytes) {
            Ok(decoded) if decoded.len() == 8 => Self(u64::from_be_bytes(bytes)),
            _ => Self::hashed(id),
        }
    }

    fn hashed(id: &str) -> Self {
        let digest = Sha256::digest(id.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(bytes))
    }
}

/// The ids that a store gave a request, in 64 bits; `None` without any.
pub(super) fn request_hash(id: &str, host_id: &str) -> Option<u64> {
    let has_id = !id.is_empty() || !host_id.is_empty();
    has_id.then(|| mix(mix(0, id.as_bytes()), host_id.as_bytes()))
}

/// A GET by a presigned URL, as CloudTrail has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrailRequest {
    /// When, in seconds since 1970.
    pub at: i64,
    /// The hash of the ids that S3 gave the request, as those of the access log have it.
    pub id: u64,
    /// The hash of the bucket and the key.
    pub place: u64,
}

/// What a mail system or a person did to a URL, so that its signature did not fit: a bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mangling(pub u8);

impl Mangling {
    const CUT: u8 = 1;
    const ESCAPED: u8 = 2;
    const QUOTED_PRINTABLE: u8 = 4;
    const CASE: u8 = 8;

    /// What was done, in words; `None` if the URL looks whole, so that it was changed in another way.
    pub fn words(self) -> Option<&'static str> {
        [
            (
                Self::QUOTED_PRINTABLE,
                "=3D of quoted-printable is left in the URL",
            ),
            (Self::ESCAPED, "&amp; of HTML is left in the URL"),
            (Self::CUT, "the signature was cut off or lengthened"),
            (Self::CASE, "the case of the URL was changed"),
        ]
        .into_iter()
        .find_map(|(bit, words)| (self.0 & bit != 0).then_some(words))
    }
}

/// What the query of a target says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetIds {
    /// The link.
    pub link: Option<LinkKey>,
    /// The open.
    pub open: Option<LinkKey>,
    /// What the URL suffered.
    pub mangling: Mangling,
    /// When the link ends, in seconds since 1970, as its URL says.
    pub ends: Option<i64>,
    /// Whether there is a signature, right or wrong.
    pub is_signed: bool,
}

/// The letters of a signature of version 4.
const SIGNATURE_LETTERS: usize = 64;

impl TargetIds {
    /// Reads a query.
    pub fn of_query(query: &str) -> Self {
        let mut ids = Self::default();
        let (mut signed_at, mut lives) = (None, None);
        for parameter in parameters(query) {
            let (name, value) = parts(parameter);
            let name = match name
                .strip_prefix("amp;")
                .or_else(|| name.strip_prefix("amp%3B"))
            {
                Some(name) => {
                    ids.mangling.0 |= Mangling::ESCAPED;
                    name
                }
                None => name,
            };
            // An id has other letters than `=3D…`; a signature too.
            let is_quoted =
                value.starts_with("3D") && value.len() > 2 && !name.starts_with("response-");
            let value = match is_quoted && (value.len() - 2) % 2 == 0 && value.len() >= 34 {
                true => {
                    ids.mangling.0 |= Mangling::QUOTED_PRINTABLE;
                    &value[2..]
                }
                false => value,
            };
            if name.eq_ignore_ascii_case(LINK_ID.name()) {
                ids.link = ids.link.or(Some(LinkKey::of_link(&decode(value))));
                if name != LINK_ID.name() {
                    ids.mangling.0 |= Mangling::CASE;
                }
            } else if name == OPEN_ID.name() {
                ids.open = ids.open.or(Some(LinkKey::of_open(&decode(value))));
            } else if name == "Signature" {
                ids.is_signed = true;
            } else if name == "X-Amz-Signature" {
                ids.is_signed = true;
                let is_whole = value.len() == SIGNATURE_LETTERS;
                let is_lower = !value.bytes().any(|byte| byte.is_ascii_uppercase());
                if !is_whole {
                    ids.mangling.0 |= Mangling::CUT;
                } else if !is_lower {
                    ids.mangling.0 |= Mangling::CASE;
                }
            } else if name == "X-Amz-Date" {
                signed_at = of_signature(value);
            } else if name == "X-Amz-Expires" {
                lives = value.parse::<i64>().ok();
            } else if name == "Expires" {
                ids.ends = value.parse().ok();
            }
        }
        if let (Some(signed_at), Some(lives)) = (signed_at, lives) {
            ids.ends = signed_at.checked_add(lives);
        }
        ids
    }
}

/// What is between the `&` of a query.
fn parameters(query: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(query);
    std::iter::from_fn(move || {
        let query = rest?;
        let end = memchr::memchr(b'&', query.as_bytes());
        rest = end.map(|end| &query[end + 1..]);
        Some(&query[..end.unwrap_or(query.len())])
    })
}

/// The name and the value of a parameter.
fn parts(parameter: &str) -> (&str, &str) {
    match memchr::memchr(b'=', parameter.as_bytes()) {
        Some(at) => (&parameter[..at], &parameter[at + 1..]),
        None => (parameter, ""),
    }
}

/// A key in 32 bits, to compare the key of a request with that of the link whose id it names.
pub fn key_hash(key: &str) -> u32 {
    let bits = mix(0, key.as_bytes());
    // 0 stands for any key.
    u32::try_from(bits >> 32).unwrap_or_default().max(1)
}

/// Whether a key of a log, in any of its encodings, has this hash.
pub fn is_key(logged: &str, hash: u32) -> bool {
    if key_hash(logged) == hash {
        return true;
    }
    if !logged.contains(['%', '+']) {
        return false;
    }
    let once = decode(logged);
    let is_it = |key: Cow<'_, str>| key_hash(&key) == hash;
    // S3 writes a space as `%2B`.
    key_hash(&once) == hash
        || is_it(decode_form(&once))
        || is_it(decode(&once))
        || is_it(decode_form(logged))
}

/// Adds bytes to a hash that stays the same in all versions of the program, since files keep it.
pub fn mix(seed: u64, bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        hash = stir(hash ^ u64::from_le_bytes(word));
    }
    let mut word = [0; 8];
    let rest = chunks.remainder();
    word[..rest.len()].copy_from_slice(rest);
    stir(hash ^ u64::from_le_bytes(word))
}

/// The finalizer of `SplitMix64`, a bijection whose output bits depend on all input bits.
const fn stir(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn ids_are_read_from_a_query_and_their_damage_is_told() {
        let signature = "a".repeat(64);
        let whole = format!(
            "x-id=GetObject&x-handout={ID}&X-Amz-Date=20261123T080000Z&X-Amz-Expires=60&X-Amz-Signature={signature}"
        );
        let ids = TargetIds::of_query(&whole);
        assert_eq!(ids.link, Some(LinkKey(0x0123_4567_89ab_cdef)));
        assert_eq!((ids.mangling.words(), ids.is_signed), (None, true));
        let ends: jiff::Timestamp = "2026-11-23T08:01:00Z".parse().unwrap();
        assert_eq!(ids.ends, Some(ends.as_second()));
        for (mangled, words) in [
            (
                whole.replace('&', "&amp;"),
                "&amp; of HTML is left in the URL",
            ),
            (
                whole.replace('=', "=3D"),
                "=3D of quoted-printable is left in the URL",
            ),
            (
                whole[..whole.len() - 3].to_owned(),
                "the signature was cut off or lengthened",
            ),
            (
                whole.replace("aaaa", "AAAA"),
                "the case of the URL was changed",
            ),
        ] {
            let ids = TargetIds::of_query(&mangled);
            assert_eq!(ids.link, Some(LinkKey(0x0123_4567_89ab_cdef)), "{mangled}");
            assert_eq!(ids.mangling.words(), Some(words), "{mangled}");
        }
        assert_eq!(TargetIds::of_query("x-handouts=1&y-handout=2").link, None);
    }

    #[test]
    fn a_key_is_known_in_each_of_its_encodings() {
        let hash = key_hash("a b/\"ü\" 100%.pdf");
        let once = "a%20b/%22%C3%BC%22%20100%25.pdf";
        assert!(is_key("a b/\"ü\" 100%.pdf", hash));
        assert!(is_key(once, hash));
        assert!(is_key(&once.replace('%', "%25"), hash));
        assert!(
            is_key(&once.replace("%20", "%2B"), hash),
            "a space as a form has it"
        );
        assert!(!is_key("a%20c", hash));
    }
}
