//! Texts of a relay or a store without the addresses, links and secrets that they repeat.
//!
//! A relay names the recipient and the link that it rejects; a store repeats the URL that it rejects. Both can spell
//! them in many ways: percent-encoded, as an encoded-word, as an HTML character reference, with full-width characters,
//! with `at` in place of `@`. Therefore no pattern of an address decides. A word is kept if it is plain (letters,
//! digits, dots, hyphens) and too short for a token; every other word is replaced. If the values to hide are known,
//! such as the recipient of a mail, each word that holds a part of them is replaced, even if the part is joined to
//! others, cut into pieces or encoded ([`Secrets`]).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};
use icu_normalizer::ComposingNormalizerBorrowed;
use lettre::Address;

use crate::text::{is_invisible, printable};
use presign::hex::hex;

/// The longest part of a word that mixes digits and letters, in bytes: longer ones are tokens, signatures and keys.
///
/// Queue ids of Postfix and Exim have at most 16, request ids of S3 as well; the id of an access key has 20.
const MAX_MIXED_PART: usize = 19;

/// The prefixes of access key ids; the shortest id has 16 characters.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
const KEY_IDS: [&str; 3] = ["AKIA", "ASIA", "ABIA"];
const MIN_KEY_ID: usize = 16;

/// Names that stores give to the parts of a signature, in lower case and without punctuation.
///
/// The word after such a name and a `:` or `=` is hidden.
const OF_A_SIGNATURE: [&str; 8] = [
    "signature",
    "xamzsignature",
    "signatureprovided",
    "credential",
    "xamzcredential",
    "awsaccesskeyid",
    "accesskeyid",
    "xamzsecuritytoken",
];

/// This many consecutive words of two hexadecimal digits are a text: S3 spells the string to sign so.
const MIN_SPELLED_TEXT: usize = 4;

/// The most bytes of words that mix digits and letters. If there are more, all are hidden, since a signature may have
/// been cut into pieces. The longest id of a relay, that of Amazon SES, has this many.
const MAX_MIXED_BYTES: usize = 48;

/// The shortest such word that counts, in bytes: `mx1` and `12s` do not.
const MIN_MIXED_PART: usize = 4;

/// The shortest secret that is searched for, in characters: an `a` would hide every word.
const MIN_SECRET: usize = 3;

/// Up to this many characters, a secret hides a word only if it stands between characters other than letters and
/// digits. A longer secret hides every word that contains it. Otherwise, the recipient Ann would hide `cannot`.
const MAX_BOUNDED_SECRET: usize = 4;

/// The longest word that is kept, in bytes: no longer than a label of a host name with its neighbours.
const MAX_WORD: usize = 64;

/// A hidden word of at most this many bytes may be an `@` in disguise, between words that look plain.
const MAX_DISGUISE: usize = 8;

/// Replaces a word that is not plain.
const HIDDEN: &str = "(hidden)";

/// Replaces a word with an `@`.
const ADDRESS: &str = "(address)";

/// The values that a text must not repeat. A clone shares them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The form that is searched for in each word: folded.
    words: Arc<[String]>,
    /// The forms that are searched for across words: squeezed, and the encodings of that.
    spelled: Arc<[String]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.words.len())
    }
}

impl Secrets {
    /// What identifies a recipient: both sides of the address, each word of its local part, and each word of the name.
    pub fn of_recipient(address: &Address, name: Option<&str>) -> Self {
        let (domain, _) = idna::domain_to_unicode(address.domain());
        let name = name.unwrap_or_default();
        let of_user = address.user().split(|c: char| !c.is_alphanumeric());
        let unquoted = address.user().trim_matches('"');
        let parts = [address.user(), unquoted, address.domain(), &domain].into_iter();
        let parts = parts.chain(of_user).chain(name.split_whitespace());
        let (mut words, mut spelled) = (BTreeSet::new(), BTreeSet::new());
        for part in parts {
            let word = folded(part).into_owned();
            if word.chars().count() < MIN_SECRET || words.contains(&word) {
                continue;
            }
            if squeezed(&word).chars().count() > MAX_BOUNDED_SECRET {
                let texts = [part, &word].into_iter();
                spelled.extend(texts.flat_map(spellings));
            }
            words.insert(word);
        }
        Self {
            words: words.into_iter().collect(),
            spelled: spelled.into_iter().collect(),
        }
    }

    fn is_in(&self, word: &str) -> bool {
        let word = folded(word);
        let is_in = |secret: &&String| {
            let is_bounded = secret.chars().count() <= MAX_BOUNDED_SECRET;
            word.match_indices(secret.as_str()).any(|(at, _)| {
                let before = word[..at].chars().next_back();
                let behind = word[at + secret.len()..].chars().next();
                !is_bounded
                    || ![before, behind]
                        .into_iter()
                        .flatten()
                        .any(char::is_alphanumeric)
            })
        };
        let fits = |secret: &&String| secret.len() <= word.len();
        self.words.iter().filter(fits).any(|secret| is_in(&secret))
    }

    /// Which words are pieces of a longer secret, whatever stands between the pieces.
    fn pieces(&self, words: &[&str]) -> Vec<bool> {
        let mut is_piece = vec![false; words.len()];
        let (mut joined, mut word_of) = (String::new(), Vec::new());
        for (index, word) in words.iter().enumerate() {
            joined.push_str(&squeezed(word));
            word_of.resize(joined.len(), index);
        }
        let fits = |secret: &&String| secret.len() <= joined.len();
        for secret in self.spelled.iter().filter(fits) {
            for (at, _) in joined.match_indices(secret.as_str()) {
                word_of[at..at + secret.len()]
                    .iter()
                    .for_each(|word| is_piece[*word] = true);
            }
        }
        is_piece
    }
}

/// A text in lower case, with compatible characters normalised (NFKC), and without invisible characters.
fn folded(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        return Cow::Borrowed(text);
    }
    let visible: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    let plain = ComposingNormalizerBorrowed::new_nfkc().normalize(&visible);
    Cow::Owned(plain.chars().flat_map(char::to_lowercase).collect())
}

/// The letters and digits of a folded text.
fn squeezed(text: &str) -> String {
    folded(text)
        .chars()
        .filter(|c| c.is_alphanumeric())
        .collect()
}

/// A text squeezed, and in hexadecimal and Base64 at every offset in an encoded text: Base64 cuts bytes into groups of
/// three, so that a text has three spellings, of which the characters at both ends depend on its neighbours.
fn spellings(text: &str) -> Vec<String> {
    let aligned = (0..3).map(|before| {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(text.as_bytes());
        let encoded = Base64Unpadded::encode_string(&bytes);
        squeezed(&encoded[(before * 8).div_ceil(6)..bytes.len() * 8 / 6])
    });
    [squeezed(text), hex(text.as_bytes())]
        .into_iter()
        .chain(aligned)
        .collect()
}

/// Makes words fit to be kept and logged: one line of at most `max_bytes`, without addresses, links and secrets.
///
/// The host of a link is kept, since an operator needs it and it opens nothing.
pub(crate) fn redacted(words: &str, max_bytes: usize) -> String {
    redacted_of(words, &Secrets::default(), max_bytes)
}

/// The same, also without the words that hold one of the secrets.
pub(crate) fn redacted_of(words: &str, secrets: &Secrets, max_bytes: usize) -> String {
    let words: Vec<&str> = words.split_whitespace().take(max_bytes).collect();
    let mixed: usize = words.iter().map(|word| mixed_bytes(word)).sum();
    let pieces = secrets.pieces(&words);
    let of_signatures = of_signatures(&words);
    let is_secret = |index: usize, word: &str| {
        pieces[index]
            || of_signatures[index]
            || secrets.is_in(word)
            || word
                .split(is_separator)
                .filter(|part| part.len() > MIN_SECRET)
                .any(|part| decoded(part).any(|text| secrets.is_in(&text)))
            || (mixed > MAX_MIXED_BYTES && mixed_bytes(word) > 0)
    };
    let mut shown: Vec<String> = words
        .iter()
        .enumerate()
        .map(
            |(index, word)| match is_secret(index, word) && !word.contains('@') {
                true => HIDDEN.to_owned(),
                false => shown(word),
            },
        )
        .collect();
    for (index, word) in words.iter().enumerate() {
        if is_disguised_at(word, &shown[index]) && is_followed_by_domain(&words, index) {
            let first = index.saturating_sub(1);
            let last = end_of_domain(&words, index + 1);
            shown[first..last].fill_with(|| HIDDEN.to_owned());
        }
    }
    shown.dedup_by(|next, before| next == before && next.starts_with('('));
    printable(&shown.join(" "), max_bytes).into_owned()
}

/// Which words belong to a signature: those after a name for it, and bytes that are spelled one by one.
fn of_signatures(words: &[&str]) -> Vec<bool> {
    let mut is_of = vec![false; words.len()];
    for (index, pair) in words.windows(2).enumerate() {
        let is_named = pair[0].ends_with([':', '=']);
        is_of[index + 1] |= is_named && OF_A_SIGNATURE.contains(&&*squeezed(pair[0]));
    }
    let is_byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
    for at in 0..words.len().saturating_sub(MIN_SPELLED_TEXT - 1) {
        let run = at..at + MIN_SPELLED_TEXT;
        if words[run.clone()].iter().all(is_byte) {
            is_of[run].fill(true);
        }
    }
    is_of
}

/// A word, or its replacement.
fn shown(word: &str) -> String {
    if let Some((_, rest)) = word.split_once("://") {
        return link(rest);
    }
    if word.contains('@') {
        return ADDRESS.to_owned();
    }
    match is_plain(word) {
        true => word.to_owned(),
        false => HIDDEN.to_owned(),
    }
}

/// A link: its host is kept unless a login precedes it.
fn link(rest: &str) -> String {
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let is_of_a_name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let host: String = authority.chars().take_while(is_of_a_name).collect();
    let port = &authority[host.len()..];
    let is_port = port.bytes().all(|byte| !matches!(byte, b'@' | b'%'));
    let is_host = !host.is_empty() && is_port && is_plain(&host);
    match is_host {
        true => format!("(link to {host})"),
        false => "(link)".to_owned(),
    }
}

/// Whether a word can be kept as it is.
fn is_plain(word: &str) -> bool {
    let is_allowed = |c: char| {
        c.is_alphanumeric()
            || matches!(
                c,
                '.' | '-'
                    | '_'
                    | '\''
                    | '’'
                    | ','
                    | ';'
                    | ':'
                    | '('
                    | ')'
                    | '['
                    | ']'
                    | '<'
                    | '>'
                    | '"'
                    | '*'
                    | '…'
            )
    };
    let is_link = word.to_ascii_lowercase().contains("www.");
    word.len() <= MAX_WORD
        && word.trim_end_matches('!').chars().all(is_allowed)
        && !has_at_inside(word)
        && !is_link
        && !word.split(is_separator).any(is_token)
}

/// Whether `at` joins two parts of a word: `ann(at)acme.example`.
fn has_at_inside(word: &str) -> bool {
    let mut parts = word
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty());
    parts.next().is_some() && parts.any(|part| part.eq_ignore_ascii_case("at"))
}

fn is_separator(c: char) -> bool {
    !c.is_alphanumeric() && !matches!(c, '-' | '_')
}

/// Whether a part of a word is a secret, or an address in another alphabet.
fn is_token(part: &str) -> bool {
    let is_long = |part: &str| part.len() > MAX_MIXED_PART && is_mixed(part);
    part.split(['-', '_']).any(is_long) || is_key_id(part) || is_encoded_address(part)
}

fn is_key_id(part: &str) -> bool {
    let is_of_one = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    part.len() >= MIN_KEY_ID
        && KEY_IDS.iter().any(|begin| part.starts_with(begin))
        && part.bytes().all(is_of_one)
}

/// Whether a part has digits and letters, as secrets and ids have.
fn is_mixed(part: &str) -> bool {
    part.contains(|c: char| c.is_ascii_digit()) && part.contains(|c: char| c.is_ascii_alphabetic())
}

/// How much of a word may be a piece of a secret.
fn mixed_bytes(word: &str) -> usize {
    let parts = word.split(|c: char| !c.is_alphanumeric());
    let mixed = parts.filter(|part| part.len() >= MIN_MIXED_PART && is_mixed(part));
    mixed.map(str::len).sum()
}

/// Whether a part is an address or a link in Base64 or in hexadecimal.
fn is_encoded_address(part: &str) -> bool {
    decoded(part).any(|text| text.contains('@') || text.contains("://"))
}

/// The texts that a part may be in Base64 or in hexadecimal.
fn decoded(part: &str) -> impl Iterator<Item = String> {
    // Encoders may cut a text anywhere: an incomplete last group is left out.
    let whole = part.get(..part.len() / 4 * 4).unwrap_or_default();
    let ways = [part, whole].map(|part| {
        [
            Base64Unpadded::decode_vec(part).ok(),
            Base64UrlUnpadded::decode_vec(part).ok(),
            of_hexadecimal(part),
        ]
    });
    let texts = ways.into_iter().flatten().flatten();
    let texts = texts.filter_map(|bytes| String::from_utf8(bytes).ok());
    texts.filter(|text| !text.chars().any(char::is_control))
}

fn of_hexadecimal(part: &str) -> Option<Vec<u8>> {
    let pairs = part.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Whether a word stands for an `@` between others: `at`, `(at)`, `%40`, `&#64;`, or a loose `@`.
fn is_disguised_at(word: &str, shown: &str) -> bool {
    let is_hidden = shown == HIDDEN && word.len() <= MAX_DISGUISE;
    let is_loose = shown == ADDRESS && (word.starts_with('@') || word.ends_with('@'));
    is_hidden || is_loose || is_word(word, "at")
}

fn is_word(word: &str, name: &str) -> bool {
    word.trim_matches(|c: char| !c.is_alphanumeric())
        .eq_ignore_ascii_case(name)
}

/// Whether the words after `index` begin as a domain does: `acme.example`, `acme dot example`, or a hidden word.
fn is_followed_by_domain(words: &[&str], index: usize) -> bool {
    // A loose `@` at a word's beginning or end has half of the address in its own word.
    words[index].contains('@')
        || words.get(index + 1).is_some_and(|next| {
            let inner = next.trim_matches(|c: char| !c.is_alphanumeric());
            inner.contains('.') || !is_plain(next)
        })
        || words.get(index + 2).is_some_and(|dot| is_dot(dot))
}

fn is_dot(word: &str) -> bool {
    is_word(word, "dot") || word == "."
}

/// The index after the domain that begins at `index`.
fn end_of_domain(words: &[&str], index: usize) -> usize {
    let mut end = (index + 1).min(words.len());
    while words.get(end).is_some_and(|word| is_dot(word)) {
        end = (end + 2).min(words.len());
    }
    end
}

#[cfg(test)]
mod tests;
