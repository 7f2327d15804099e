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

/// Over how many lines a URL may be broken: 64 KiB in lines of quoted-printable are fewer.
const MAX_LINES: usize = 1_000;

/// How much of what was read before is read again, in bytes: a whole signature, with each character encoded three times.
const OVERLAP: usize = 1_024;

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
    let mut broken = BrokenUrl::default();
    let mut read = 0;
    for _ in 0..MAX_LINES {
        let rest = &text[read..];
        let is_end = |c: char| c.is_whitespace() || ENDS.contains(&c);
        let end = rest.find(is_end).unwrap_or(rest.len());
        // Markdown: [text](URL)
        let end = rest[..end].find("](").unwrap_or(end);
        broken.push(&rest[..end]);
        read += end;
        let rest = &text[read..];
        let next = rest.trim_start_matches([' ', '\t', '\r', '\n', '>']);
        let between = &rest[..rest.len() - next.len()];
        let is_line_break = between.matches('\n').count() == 1 && !between.starts_with('>');
        if !is_line_break || broken.url.len() > MAX_URL || !broken.is_continued(next) {
            break;
        }
        broken.url.push('\n');
        read += between.len();
    }
    (broken.url, read)
}

/// A URL that is put together out of lines, and what was found in it: each line is looked into once, however many follow.
#[derive(Default)]
struct BrokenUrl {
    url: String,
    /// Whether an `=` of it cannot be quoted-printable's.
    has_plain_equals: bool,
    /// How much of it was looked into for a signature, in bytes.
    looked_at: usize,
    has_whole_v4_signature: bool,
    has_other_signature: bool,
    has_key_id: bool,
}

impl BrokenUrl {
    fn push(&mut self, line: &str) {
        self.url.push_str(line);
        self.has_plain_equals |= !is_all_quoted(line);
    }

    /// Whether the next line continues the URL: behind a soft line break (RFC 2045, section 6.7); or as a line without a space that
    /// looks like a part of a query, or that a cut signature needs.
    fn is_continued(&mut self, next: &str) -> bool {
        let line = next.lines().next().unwrap_or_default().trim_end();
        if line.is_empty() {
            return false;
        }
        if self.url.ends_with('=') && !self.has_plain_equals {
            return true;
        }
        // One word, which is not another URL.
        if line.contains(char::is_whitespace) || line.contains("://") {
            return false;
        }
        // Proofpoint writes exclamation marks behind the original.
        if line.contains(['&', '=', '%']) || line.contains("!!") {
            return true;
        }
        self.look_for_signature();
        let is_long = line.len() >= LONG_LINE && !self.has_whole_v4_signature;
        let is_rest = !is_prose(line) && !self.has_whole_signature();
        is_long || is_rest
    }

    /// Whether the URL has a signature that was not cut, in any encoding: the hexadecimal digits of SHA-256, or a signature and
    /// what follows it.
    const fn has_whole_signature(&self) -> bool {
        self.has_whole_v4_signature || (self.has_other_signature && self.has_key_id)
    }

    /// Looks into what was added since the last time.
    fn look_for_signature(&mut self) {
        let from = self.looked_at.saturating_sub(OVERLAP);
        let from = self.url.floor_char_boundary(from);
        for plain in decodings(&self.url[from..]) {
            self.has_whole_v4_signature |= has_whole_v4_signature(&plain);
            self.has_other_signature |= plain.contains("Signature=");
            self.has_key_id |= ["Key-Pair-Id=", "AWSAccessKeyId="]
                .iter()
                .any(|name| plain.contains(name));
        }
        self.looked_at = self.url.len();
    }
}

/// Whether a line is a word of a language rather than a part of a signature.
fn is_prose(line: &str) -> bool {
    let word = line.trim_end_matches(PUNCTUATION);
    let is_word = word.chars().all(char::is_alphabetic);
    is_word && !word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn has_whole_v4_signature(plain: &str) -> bool {
    let mut values = plain.split("X-Amz-Signature=").skip(1);
    values.any(|value| value.bytes().take_while(u8::is_ascii_hexdigit).count() >= 64)
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
