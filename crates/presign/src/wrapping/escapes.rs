//! Takes a URL out of the text around it, and its escapes of mail sources and pages off.

use super::{MAX_DECODINGS, MAX_URL, Unwrapping};
use crate::percent::decode_lossy;

/// What ends a URL in a text: RFC 3986, appendix C.
const ENDS: [char; 3] = ['<', '>', '"'];

/// Punctuation behind a URL that belongs to the text around it. No signature and no token ends in one of these.
const PUNCTUATION: [char; 13] = [
    '.', ',', ';', ':', '!', '?', '\'', ')', ']', '}', '*', '|', '`',
];

/// From which length on a word of a line is part of a URL, in bytes.
const LONG_LINE: usize = 24;

/// How many levels of escaping for HTML are decoded.
const MAX_LEVELS: usize = 4;

/// Character references that stand for characters of URLs and for what ends them.
const REFERENCES: [(&str, &str); 14] = [
    ("&amp;", "&"),
    ("&#38;", "&"),
    ("&#x26;", "&"),
    ("&#X26;", "&"),
    ("&#61;", "="),
    ("&#x3d;", "="),
    ("&#x3D;", "="),
    ("&equals;", "="),
    ("&#47;", "/"),
    ("&#x2F;", "/"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "\""),
    ("&#34;", "\""),
];

/// A URL that was taken out of a text.
pub(super) struct Token {
    pub(super) url: String,
    pub(super) steps: Vec<Unwrapping>,
    /// Whether text follows it.
    pub(super) is_followed: bool,
    /// How much of the text was read, in bytes.
    pub(super) read: usize,
}

/// The URL with which a text begins.
pub(super) fn token(text: &str) -> Token {
    let mut steps = Vec::new();
    let (raw, read) = across_lines(text);
    let url = if let Some(decoded) = quoted_printable(&raw) {
        steps.push(Unwrapping::QuotedPrintable);
        decoded
    } else {
        let joined = raw.replace(['\r', '\n'], "");
        if joined.len() < raw.len() {
            steps.push(Unwrapping::LineBreak);
        }
        joined
    };
    let plain = references_decoded(&url);
    if plain != url {
        steps.push(Unwrapping::Html);
    }
    let url = trimmed(&plain);
    Token {
        is_followed: read < text.len() || url.len() < plain.len(),
        url: url.to_owned(),
        steps,
        read,
    }
}

/// A URL without character references and without what stands behind it.
pub(super) fn unescaped(url: &str) -> String {
    trimmed(&references_decoded(url)).to_owned()
}

/// The URL with which a text begins, with the line breaks within it; and how much of the text was read.
fn across_lines(text: &str) -> (String, usize) {
    let mut url = String::new();
    let mut read = 0;
    loop {
        let rest = &text[read..];
        let is_end = |c: char| c.is_whitespace() || ENDS.contains(&c);
        // Markdown: [text](URL)
        let ends = [rest.find(is_end), rest.find("](")];
        let end = ends.into_iter().flatten().min().unwrap_or(rest.len());
        url.push_str(&rest[..end]);
        read += end;
        let rest = &text[read..];
        let next = rest.trim_start_matches([' ', '\t', '\r', '\n', '>']);
        let between = &rest[..rest.len() - next.len()];
        let is_line_break = between.matches('\n').count() == 1 && !between.starts_with('>');
        if !is_line_break || !is_continued(&url, next) {
            return (url, read);
        }
        url.push('\n');
        read += between.len();
        if url.len() > MAX_URL {
            return (url, read);
        }
    }
}

/// Whether the next line continues a URL: behind a soft line break (RFC 2045, section 6.7); or as a line without a space that looks
/// like a part of a query, or that a cut signature needs.
fn is_continued(url: &str, next: &str) -> bool {
    let line = next.lines().next().unwrap_or_default().trim_end();
    if line.is_empty() {
        return false;
    }
    if url.ends_with('=') && is_all_quoted(url) {
        return true;
    }
    let is_one_word = !line.contains(char::is_whitespace);
    let is_url = line.contains("://");
    // Proofpoint writes exclamation marks behind the original.
    let is_query = line.contains(['&', '=', '%']) || line.contains("!!");
    let is_long = line.len() >= LONG_LINE && !has_whole_v4_signature(url);
    let is_rest = !is_prose(line) && !has_whole_signature(url);
    is_one_word && !is_url && (is_query || is_long || is_rest)
}

/// Whether a line is a word of a language rather than a part of a signature.
fn is_prose(line: &str) -> bool {
    let word = line.trim_end_matches(PUNCTUATION);
    let is_word = word.chars().all(char::is_alphabetic);
    is_word && !word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a URL has a signature that was not cut, in any encoding: the hexadecimal digits of SHA-256, or a signature and
/// what follows it.
fn has_whole_signature(url: &str) -> bool {
    let ends = |plain: &str| {
        let others = ["Key-Pair-Id=", "AWSAccessKeyId="];
        plain.contains("Signature=") && others.iter().any(|other| plain.contains(other))
    };
    has_whole_v4_signature(url) || decodings(url).any(|plain| ends(&plain))
}

fn has_whole_v4_signature(url: &str) -> bool {
    decodings(url).any(|plain| {
        plain
            .split_once("X-Amz-Signature=")
            .is_some_and(|(_, signature)| {
                signature.bytes().take_while(u8::is_ascii_hexdigit).count() >= 64
            })
    })
}

/// A URL, and what it is when it is decoded again and again.
fn decodings(url: &str) -> impl Iterator<Item = String> {
    let again = |plain: &String| Some(decode_lossy(plain));
    std::iter::successors(Some(references_decoded(url)), again).take(MAX_DECODINGS + 1)
}

/// Decodes quoted-printable, if a URL is encoded so: each `=` begins a byte or a soft line break, and one is an encoded `=` or such
/// a break.
fn quoted_printable(url: &str) -> Option<String> {
    let marks = ["=3D", "=3d", "=\n", "=\r"];
    if !is_all_quoted(url) || !marks.iter().any(|mark| url.contains(mark)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(url.len());
    let mut rest = url;
    while let Some((before, quoted)) = rest.split_once('=') {
        bytes.extend_from_slice(before.as_bytes());
        rest = match quoted.get(..2).map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => {
                bytes.push(byte);
                &quoted[2..]
            }
            Some(Err(_)) | None => quoted.trim_start_matches(['\r', '\n']),
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    let text = String::from_utf8(bytes).ok()?;
    Some(text.replace(['\r', '\n'], ""))
}

/// Whether each `=` of a text could be quoted-printable's.
fn is_all_quoted(url: &str) -> bool {
    url.split('=').skip(1).all(|after| {
        let digits: Vec<u8> = after.bytes().take(2).collect();
        after.is_empty()
            || after.starts_with(['\r', '\n'])
            || (digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn references_decoded(url: &str) -> String {
    let mut url = url.to_owned();
    for _ in 0..MAX_LEVELS {
        let mut next = url.clone();
        for (reference, character) in REFERENCES {
            if next.contains(reference) {
                next = next.replace(reference, character);
            }
        }
        if next == url {
            break;
        }
        url = next;
    }
    url
}

/// A URL up to what ends it, without punctuation behind it.
fn trimmed(url: &str) -> &str {
    let end = url.find(ENDS).unwrap_or(url.len());
    url[..end].trim_end_matches(PUNCTUATION)
}
