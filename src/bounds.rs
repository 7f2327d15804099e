//! How large anything from outside may be: one table, so that a reader sees all bounds side by side.
//!
//! A queue's messages, an object's key and a list of recipients are untrusted; the answers of a store or a relay are
//! semi-trusted. Each bound is enforced where the bytes arrive or where text grows, and an error names it.

// What leaves: log lines, results, audit lines, attributes of SQS, terminals. See `text::printable`.

/// The longest reason for which a job failed, in bytes, with all its causes.
pub const MAX_REASON_BYTES: usize = 2_000;

/// The longest value of somebody else's that an error repeats, in bytes.
pub const MAX_SHOWN_VALUE_BYTES: usize = 200;

// What a message contains.

/// The longest local part of an address, in bytes: RFC 5321, 4.5.3.1.1.
pub const MAX_LOCAL_PART_BYTES: usize = 64;

// What a phrase becomes.

// What a store answers.

// What a relay answers.

// Files of this machine.
