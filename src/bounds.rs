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

// What a phrase becomes.

// What a store answers.

/// The most attempts at one recipient that a ledger's record may number.
///
/// Each takes a delivery of the job or a decision of the operator: a record with a higher number is damaged.
pub const MAX_ATTEMPTS: u32 = 1_000_000;

// What a relay answers.

// Files of this machine.
