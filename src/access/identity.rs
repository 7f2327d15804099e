//! The ids in the target of a request, and what became of its signature on the way.

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use super::parse::of_signature;
use crate::links::LINK_ID;
use crate::links::portal::OPEN_ID;
use crate::text::percent;

/// An id of a link or of an open in 64 bits. Ids are keyed hashes, so that another text with the same bits cannot be made on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey(pub u64);

impl LinkKey {
    /// Of the text of a link id: 32 hexadecimal digits, or the text that `handout presign --link-id` was given.
    pub fn of_link(id: &str) -> Self {
        hex_bits(id.as_bytes()).map_or_else(|| Self::hashed(id), Self)
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

/// The ids that a store gave a request, in 64 bits that are not 0; `None` without any.
pub(super) fn request_hash(id: &str, host_id: &str) -> Option<u64> {
    let has_id = !id.is_empty() || !host_id.is_empty();
    has_id.then(|| mix(mix(0, id.as_bytes()), host_id.as_bytes()).max(1))
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
    /// Reads the query of a request that was not refused: the ids and whether it is signed. What the URL suffered and when the link ends
    /// count for refusals alone, and are left out, unless the spelling is unusual.
    pub fn of_answered(query: &str) -> Self {
        Self::of_usual(query).unwrap_or_else(|| Self::of_query(query))
    }

    /// The ids of a query with the spelling of links; `None` if any of its parameters has another.
    fn of_usual(query: &str) -> Option<Self> {
        let mut ids = Self::default();
        let mut begin = 0;
        let bytes = query.as_bytes();
        for end in memchr::memchr_iter(b'&', bytes).chain([bytes.len()]) {
            let parameter = &query[begin..end];
            begin = end + 1;
            match parameter.as_bytes() {
                [b'x', ..] => {
                    if let Some(link) = parameter.strip_prefix("x-handout=") {
                        if link.starts_with("3D") {
                            return None;
                        }
                        ids.link = ids.link.or_else(|| Some(link_of(link)));
                    } else if let Some(open) = parameter.strip_prefix("x-handout-open=") {
                        if open.starts_with("3D") {
                            return None;
                        }
                        ids.open = ids.open.or_else(|| Some(open_of(open)));
                    } else if !parameter.starts_with("x-id=") {
                        return None;
                    }
                }
                [b'X', b'-', b'A', ..] => {
                    ids.is_signed |= parameter.starts_with("X-Amz-Signature=");
                    if parameter == "X-Amz-Signature" {
                        return None;
                    }
                }
                [b'S', ..] => {
                    ids.is_signed |= parameter.starts_with("Signature=");
                    if parameter == "Signature" {
                        return None;
                    }
                }
                [b'X' | b'a', ..] => return None,
                _ => {}
            }
        }
        Some(ids)
    }

    /// Reads a query.
    pub fn of_query(query: &str) -> Self {
        let mut reader = QueryReader::default();
        let mut begin = 0;
        for end in memchr::memchr_iter(b'&', query.as_bytes()) {
            reader.add(&query[begin..end]);
            begin = end + 1;
        }
        reader.add(&query[begin..]);
        reader.finish()
    }
}

/// The link of a parameter's value.
fn link_of(value: &str) -> LinkKey {
    LinkKey::of_link(&percent::decode(value))
}

/// The open of a parameter's value.
fn open_of(value: &str) -> LinkKey {
    LinkKey::of_open(&percent::decode(value))
}

/// The name and the value of a parameter.
fn parts(parameter: &str) -> (&str, &str) {
    match memchr::memchr(b'=', parameter.as_bytes()) {
        Some(at) => (&parameter[..at], &parameter[at + 1..]),
        None => (parameter, ""),
    }
}

/// Whether a parameter says nothing: by its first letter, it has no name that counts, and it is too short to show quoted-printable.
fn says_nothing(parameter: &str) -> bool {
    match parameter.as_bytes().first() {
        Some(b'x' | b'X' | b'S' | b'E' | b'a') => false,
        Some(b'r') => parameter.starts_with("response-") || parameter.len() < MIN_QUOTED,
        _ => parameter.len() < MIN_QUOTED,
    }
}

/// The shortest value with `3D` of quoted-printable before it: an id of 32 letters.
const MIN_QUOTED: usize = 34;

/// What the parameters of a query say so far.
#[derive(Default)]
struct QueryReader {
    ids: TargetIds,
    signed_at: Option<i64>,
    lives: Option<i64>,
}

impl QueryReader {
    fn add(&mut self, parameter: &str) {
        if says_nothing(parameter) {
            return;
        }
        let (name, value) = parts(parameter);
        let ids = &mut self.ids;
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
        let is_quoted = value.starts_with("3D")
            && value.len() >= MIN_QUOTED
            && value.len() % 2 == 0
            && !name.starts_with("response-");
        let value = match is_quoted {
            true => {
                ids.mangling.0 |= Mangling::QUOTED_PRINTABLE;
                &value[2..]
            }
            false => value,
        };
        match name {
            "Signature" => ids.is_signed = true,
            "Expires" => ids.ends = value.parse().ok(),
            "X-Amz-Signature" => {
                ids.is_signed = true;
                let is_whole = value.len() == SIGNATURE_LETTERS;
                let is_lower = !value.bytes().any(|byte| byte.is_ascii_uppercase());
                if !is_whole {
                    ids.mangling.0 |= Mangling::CUT;
                } else if !is_lower {
                    ids.mangling.0 |= Mangling::CASE;
                }
            }
            "X-Amz-Date" => self.signed_at = of_signature(value),
            "X-Amz-Expires" => self.lives = value.parse().ok(),
            name if name == OPEN_ID.name() => {
                ids.open = ids.open.or_else(|| Some(open_of(value)));
            }
            name if name.eq_ignore_ascii_case(LINK_ID.name()) => {
                ids.link = ids.link.or_else(|| Some(link_of(value)));
                if name != LINK_ID.name() {
                    ids.mangling.0 |= Mangling::CASE;
                }
            }
            _ => {}
        }
    }

    fn finish(mut self) -> TargetIds {
        if let (Some(signed_at), Some(lives)) = (self.signed_at, self.lives) {
            self.ids.ends = signed_at.checked_add(lives);
        }
        self.ids
    }
}

/// The first 64 bits of 32 hexadecimal digits; `None` for any other text.
fn hex_bits(digits: &[u8]) -> Option<u64> {
    let (first, last) = digits.split_at_checked(16)?;
    if last.len() != 16 {
        return None;
    }
    let (mut bits, mut checked) = (0, 0);
    for (digit, other) in first.iter().zip(last) {
        let (digit, other) = (NIBBLES[usize::from(*digit)], NIBBLES[usize::from(*other)]);
        bits = bits << 4 | u64::from(digit);
        checked |= digit | other;
    }
    (checked < NO_NIBBLE).then_some(bits)
}

/// What is no hexadecimal digit.
const NO_NIBBLE: u8 = 16;

/// The values of hexadecimal digits, by their bytes: each line of a log has 32 of them.
static NIBBLES: [u8; 256] = {
    let mut values = [NO_NIBBLE; 256];
    let mut value = 0;
    while value < NO_NIBBLE {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        values[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// The hash of a key that fits each key: of links to renditions, which share an id. No key has it.
pub(super) const ANY_KEY: u32 = 0;

/// The hash of a key where there is none. No key has it.
pub(super) const NO_KEY: u32 = u32::MAX;

/// A key in 32 bits, to compare the key of a request with that of the link whose id it names.
pub fn key_hash(key: &str) -> u32 {
    key_bits(key.as_bytes())
}

fn key_bits(key: &[u8]) -> u32 {
    let bits = mix(0, key);
    u32::try_from(bits >> 32)
        .unwrap_or_default()
        .clamp(ANY_KEY + 1, NO_KEY - 1)
}

/// Whether a key of a log, in any of its encodings, has a hash that is looked for.
pub fn is_key(logged: &str, is_it: impl Fn(u32) -> bool) -> bool {
    let is_it = &|key: &[u8]| is_it(key_bits(key));
    let logged = logged.as_bytes();
    if memchr::memchr2(b'%', b'+', logged).is_none() {
        return is_it(logged);
    }
    // S3 encodes a key as a form, and that once more: it writes a space as `%2B`. This is looked at first.
    is_it_decoded(logged, &[SpaceSign::Stays, SpaceSign::IsSpace], is_it)
        || is_it(logged)
        || is_it_decoded(logged, &[SpaceSign::Stays], is_it)
        || is_it_decoded(logged, &[SpaceSign::Stays, SpaceSign::Stays], is_it)
        || is_it_decoded(logged, &[SpaceSign::IsSpace], is_it)
}

/// The longest text for which no memory is asked, in bytes.
const SHORT_KEY: usize = 192;

/// Asks for a text after it was decoded once or more.
fn is_it_decoded(logged: &[u8], steps: &[SpaceSign], is_it: impl Fn(&[u8]) -> bool) -> bool {
    let (mut short, mut long) = ([0; SHORT_KEY], Vec::new());
    let text = match short.get_mut(..logged.len()) {
        Some(short) => {
            short.copy_from_slice(logged);
            short
        }
        None => {
            long.extend_from_slice(logged);
            &mut long[..]
        }
    };
    let mut length = text.len();
    for plus in steps {
        length = decode(&mut text[..length], *plus);
    }
    is_it(&text[..length])
}

/// What `+` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpaceSign {
    /// A plus sign, as in a path.
    Stays,
    /// A space, as in a form.
    IsSpace,
}

/// Replaces escapes by what they stand for, and returns the new length. What is no escape stays as it is.
fn decode(text: &mut [u8], plus: SpaceSign) -> usize {
    let Some(first) = memchr::memchr2(b'%', b'+', text) else {
        return text.len();
    };
    let nibble = |digit: u8| NIBBLES[usize::from(digit)];
    let (mut from, mut to) = (first, first);
    while let Some(byte) = text.get(from).copied() {
        from += 1;
        let decoded = match (byte, text.get(from..from + 2)) {
            (b'%', Some(&[high, low])) if nibble(high) | nibble(low) < NO_NIBBLE => {
                from += 2;
                nibble(high) << 4 | nibble(low)
            }
            (b'+', _) if plus == SpaceSign::IsSpace => b' ',
            (byte, _) => byte,
        };
        text[to] = decoded;
        to += 1;
    }
    to
}

/// Adds bytes to a hash that stays the same in all versions of the program, since files keep it.
pub fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(FACTORS[0]);
    let (pairs, rest) = bytes.as_chunks::<16>();
    for pair in pairs {
        hash = folded(hash, pair);
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    stir(folded(hash, &last))
}

/// Numbers of random bits. The second one has bytes that no UTF-8 has, so that no text makes a factor of 0 of it.
const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// Adds two words to a hash by one multiplication, whose upper half depends on all bits.
fn folded(hash: u64, pair: &[u8; 16]) -> u64 {
    let bits = u128::from_le_bytes(*pair);
    let word = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    let product = u128::from(word(bits) ^ hash) * u128::from(word(bits >> 64) ^ FACTORS[1]);
    word(product) ^ word(product >> 64) ^ hash.rotate_left(23)
}

/// The finalizer of `SplitMix64`, a bijection whose output bits depend on all input bits.
pub(super) const fn stir(bits: u64) -> u64 {
    let bits = bits.wrapping_add(FACTORS[0]);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        /// What is left out for requests that were answered changes no id.
        #[test]
        fn the_usual_spelling_is_read_as_any_is(parameters in proptest::collection::vec(parameter(), 0..6)) {
            let query = parameters.join("&");
            let (whole, quick) = (TargetIds::of_query(&query), TargetIds::of_answered(&query));
            let ids = |ids: TargetIds| (ids.link, ids.open, ids.is_signed);
            prop_assert_eq!(ids(quick), ids(whole), "{}", query);
        }
    }

    fn parameter() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            "(amp;|amp%3B)?(x-handout|X-Handout|x-handout-open|X-HANDOUT-OPEN|x-handouts)",
            "(amp;)?(x-id|Signature|Signatures|X-Amz-Signature|X-Amz-Date|X-Amz-Signatures|Expires|response-a)",
            "[xXSa&-]{0,3}",
        ];
        let value = prop_oneof![
            "=?(3D)?[0-9a-f]{32}",
            "=?(3D)?[A-Za-z]{10}E",
            "=(3D)?[0-9A-Fa-f]{64}",
            "[=3D%0a]{0,5}",
        ];
        (name, value).prop_map(|(name, value)| name + &value)
    }

    #[test]
    fn a_key_is_known_in_each_of_its_encodings() {
        let hash = key_hash("a b/\"ü\" 100%.pdf");
        let once = "a%20b/%22%C3%BC%22%20100%25.pdf";
        let is_key = |logged: &str| is_key(logged, |found| found == hash);
        assert!(is_key("a b/\"ü\" 100%.pdf"));
        assert!(is_key(once));
        assert!(is_key(&once.replace('%', "%25")));
        assert!(is_key(&once.replace("%20", "%2B")), "as a form has it");
        assert!(is_key(&once.replace("%20", "+")), "a form, once");
        assert!(!is_key("a%20c") && !is_key("a b/%") && !is_key("%2"));
    }
}
