//! The chain: how a line is built, and how its place in the chain is checked.
//!
//! `prev` is the SHA-256 of the line before, its newline included, over the raw bytes: no canonical form is
//! needed, and every byte counts. The same hash is the line's leaf in the stream's [`Tree`].

use presign::hex::{hex_of, push_hex};
use presign::midstate::Midstate;

use super::AuditRecord;
use super::seal::SealKey;
use super::tree::{Hash, Tree};

/// The version of the line format, which is the only one that is read: earlier ones were never released.
pub const VERSION: u32 = 2;

/// The end of a chain so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    stream: String,
    prev: Hash,
    tree: Tree,
}

/// The fields that every line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineHead<'a> {
    /// The version of the line format.
    pub version: u32,
    /// What happened.
    pub event: &'a str,
    /// The line's number in its stream, from 0.
    pub seq: u64,
    /// When it was written.
    pub ts: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// The hash of the line before, spelled.
    prev: &'a [u8],
}

/// Why a line does not continue a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// The line is not an audit line.
    #[error("the line is not an audit record")]
    NotARecord,
    /// The line has a version that this program does not support.
    #[error("the line has the version {0}: this program knows version {VERSION}")]
    Version(u32),
    /// The line belongs to another stream.
    #[error("the line belongs to the stream {0}")]
    OtherStream(String),
    /// A line is missing, duplicated or misplaced.
    #[error("the line has the number {found} where {expected} belongs")]
    Sequence {
        /// Its number.
        found: u64,
        /// The expected number.
        expected: u64,
    },
    /// The line before this one was changed.
    #[error("the line before it was changed: its hash is not the one that this line carries")]
    Hash,
}

impl<'a> LineHead<'a> {
    /// Reads the fields that every line has, from a line with its newline. The fields are where [`ChainHead::append`] puts them:
    /// half a million lines a second are read this way.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (version, rest) = number(line.strip_prefix(b"{\"v\":")?)?;
        let (event, rest) = text(rest.strip_prefix(b",\"ev\":\"")?)?;
        let (seq, rest) = number(rest.strip_prefix(b",\"seq\":")?)?;
        let (ts, rest) = text(rest.strip_prefix(b",\"ts\":\"")?)?;
        let (stream, rest) = text(rest.strip_prefix(b",\"stream\":\"")?)?;
        let rest = rest.strip_suffix(b"\"}\n")?;
        let (rest, prev) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        rest.ends_with(b",\"prev\":\"sha256:").then_some(())?;
        Some(Self {
            version: version.try_into().ok()?,
            event,
            seq,
            ts,
            stream,
            prev,
        })
    }

    /// Whether it must be the last line of its stream.
    pub fn is_last(&self) -> bool {
        matches!(self.event, "close" | "recover")
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = bytes.split_at(digits);
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// A text without escapes, up to its quotation mark.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(b'"', bytes)?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

impl ChainHead {
    /// The head of a stream without lines.
    pub fn new(stream: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            prev: [0; 32],
            tree: Tree::default(),
        }
    }

    /// The head of a stream whose first lines are gone, from the hash of the last of them and the tree over them.
    pub(super) fn resume(stream: &str, prev: Hash, tree: Tree) -> Self {
        Self {
            stream: stream.to_owned(),
            prev,
            tree,
        }
    }

    /// The tree over all lines.
    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// How many lines the chain has.
    pub const fn len(&self) -> u64 {
        self.tree.size()
    }

    /// Whether the chain has no line yet.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The root of the tree over all lines.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The hash of the last line; zeros before the first.
    pub const fn prev(&self) -> Hash {
        self.prev
    }

    /// Appends a record as a line to `out` and advances the chain; `at` is the instant in the spelling of lines.
    pub fn append(&mut self, record: &AuditRecord, at: &str, out: &mut String) {
        self.add(record, at, None, out);
    }

    /// Like [`ChainHead::append`], with a seal: the process wrote this line and all before it.
    pub fn append_sealed(
        &mut self,
        record: &AuditRecord,
        at: &str,
        key: &SealKey,
        out: &mut String,
    ) {
        self.add(record, at, Some(key), out);
    }

    fn add(&mut self, record: &AuditRecord, at: &str, key: Option<&SealKey>, out: &mut String) {
        let from = out.len();
        let (mut version, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
        for part in [
            "{\"v\":",
            version.format(VERSION),
            ",\"ev\":\"",
            record.event,
            "\",\"seq\":",
            seq.format(self.len()),
            ",\"ts\":\"",
            at,
            "\",\"stream\":\"",
            &self.stream,
            "\"",
        ] {
            out.push_str(part);
        }
        if !record.fields.is_empty() {
            out.push(',');
            out.push_str(&record.fields);
        }
        if let Some(key) = key {
            key.seal(out, from, &self.prev);
        }
        out.push_str(",\"prev\":\"sha256:");
        push_hex(&self.prev, out);
        out.push_str("\"}\n");
        self.advance(&out.as_bytes()[from..]);
    }

    /// Checks that `line`, its newline included, continues the chain, and advances the chain.
    pub fn check<'a>(&mut self, line: &'a [u8]) -> Result<LineHead<'a>, Break> {
        let head = LineHead::parse(line).ok_or(Break::NotARecord)?;
        self.check_place(&head)?;
        self.advance(line);
        Ok(head)
    }

    fn check_place(&self, head: &LineHead<'_>) -> Result<(), Break> {
        if head.version != VERSION {
            return Err(Break::Version(head.version));
        }
        if head.stream != self.stream {
            return Err(Break::OtherStream(head.stream.to_owned()));
        }
        if head.seq != self.len() {
            return Err(Break::Sequence {
                found: head.seq,
                expected: self.len(),
            });
        }
        if head.prev != hex_of(&self.prev) {
            return Err(Break::Hash);
        }
        Ok(())
    }

    fn advance(&mut self, line: &[u8]) {
        self.prev = Midstate::hash(line);
        self.tree.push(&self.prev);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_written_is_read_and_continues_its_chain() {
        let (mut writer, mut reader) = (ChainHead::new("s"), ChainHead::new("s"));
        let mut text = String::new();
        let record = AuditRecord {
            event: "issue",
            fields: "\"key\":\"a \\\"prev\\\" b\"".to_owned().into(),
        };
        for at in ["2026-11-23T00:00:00.000Z", "2026-11-23T00:00:00.001Z"] {
            text.clear();
            writer.append(&record, at, &mut text);
            let head = reader.check(text.as_bytes()).unwrap();
            assert_eq!((head.event, head.ts), ("issue", at));
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
        assert_eq!(reader, writer);
    }

    #[test]
    fn a_line_of_another_format_is_none() {
        let mut head = ChainHead::new("s");
        let mut text = String::new();
        let record = AuditRecord {
            event: "open",
            fields: String::new().into(),
        };
        head.append(&record, "2026-11-23T00:00:00.000Z", &mut text);
        let (mut old, mut line) = (head.clone(), String::new());
        old.append(&record, "2026-11-23T00:00:00.000Z", &mut line);
        let line = line.replacen("\"v\":2", "\"v\":1", 1);
        assert_eq!(head.check(line.as_bytes()), Err(Break::Version(1)));
    }
}
