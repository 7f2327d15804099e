//! The chain: how a line is put together, and how its place in the chain is checked.
//!
//! `prev` is the SHA-256 of the line before, its newline included, over the raw bytes: no canonical form is
//! needed, and every byte counts.

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::AuditRecord;
use crate::keyring::push_hex;

/// The version of the line format.
const VERSION: u32 = 1;

/// The end of a chain so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    stream: String,
    next_seq: u64,
    prev: [u8; 32],
}

/// What every line has.
#[derive(Debug, Deserialize)]
pub struct LineHead {
    /// The version of the line format.
    pub v: u32,
    /// What happened.
    pub ev: String,
    /// The line's number in its stream, from 0.
    pub seq: u64,
    /// The stream.
    pub stream: String,
    /// The hash of the line before.
    pub prev: String,
}

/// Why a line does not continue a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// Not one of our lines at all.
    #[error("the line is not an audit record")]
    NotARecord,
    /// Of another stream.
    #[error("the line belongs to the stream {0}")]
    OtherStream(String),
    /// A line is missing, or stands twice, or elsewhere.
    #[error("the line has the number {found} where {expected} belongs")]
    Sequence {
        /// Its number.
        found: u64,
        /// The number that belongs there.
        expected: u64,
    },
    /// The line before was changed.
    #[error("the line before it was changed: its hash is not the one that this line carries")]
    Hash,
}

impl Head {
    /// The head of a stream without lines.
    pub fn new(stream: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            next_seq: 0,
            prev: [0; 32],
        }
    }

    /// How many lines the chain has.
    pub const fn len(&self) -> u64 {
        self.next_seq
    }

    /// Whether the chain has no line yet.
    pub const fn is_empty(&self) -> bool {
        self.next_seq == 0
    }

    /// Appends a record as a line to `out` and moves on.
    pub fn append(&mut self, record: &AuditRecord, at: Timestamp, out: &mut String) {
        use std::fmt::Write;
        let from = out.len();
        let Self {
            stream, next_seq, ..
        } = &*self;
        write!(out, "{{\"v\":{VERSION},\"ev\":\"{}\",\"seq\":{next_seq},\"ts\":\"{at:.3}\",\"stream\":\"{stream}\"", record.event)
            .expect("writing to a string does not fail");
        if !record.fields.is_empty() {
            out.push(',');
            out.push_str(&record.fields);
        }
        out.push_str(",\"prev\":\"sha256:");
        push_hex(&self.prev, out);
        out.push_str("\"}\n");
        self.advance(&out.as_bytes()[from..]);
    }

    /// Checks that `line`, its newline included, continues the chain, and moves on.
    pub fn check(&mut self, line: &[u8]) -> Result<LineHead, Break> {
        let head: LineHead = serde_json::from_slice(line).map_err(|_| Break::NotARecord)?;
        if head.v != VERSION {
            return Err(Break::NotARecord);
        }
        if head.stream != self.stream {
            return Err(Break::OtherStream(head.stream));
        }
        if head.seq != self.next_seq {
            return Err(Break::Sequence {
                found: head.seq,
                expected: self.next_seq,
            });
        }
        let mut expected = String::with_capacity(71);
        expected.push_str("sha256:");
        push_hex(&self.prev, &mut expected);
        if head.prev != expected {
            return Err(Break::Hash);
        }
        self.advance(line);
        Ok(head)
    }

    fn advance(&mut self, line: &[u8]) {
        self.next_seq += 1;
        self.prev = Sha256::digest(line).into();
    }
}
