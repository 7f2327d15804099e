//! How large anything from outside may be: one table, so that a reader sees all bounds side by side.
//!
//! A queue's messages, an object's key and a list of recipients are untrusted; the answers of a store or a relay are
//! semi-trusted. Each bound is enforced where the bytes arrive or where text grows, and an error names it.

// What leaves: log lines, results, audit lines, attributes of SQS, terminals. See `text::printable`.

/// The longest reason for which a job failed, in bytes, with all its causes.
pub const MAX_REASON_BYTES: usize = 2_000;

/// The longest value of somebody else's that an error repeats, in bytes.
pub const MAX_SHOWN_VALUE_BYTES: usize = 200;

/// The longest field of a log line that is not JSON, in bytes: a reason with what stands around it.
pub const MAX_LOG_FIELD_BYTES: usize = 4_096;

// What a message contains.

// What a phrase becomes.

// What a store answers.

/// The longest answer that is read, in bytes. A page of 1,000 versions, each with a key of 1,024 bytes that is
/// percent-encoded and a version of 1,024, has half of it; a record of the ledger has less.
pub const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The longest continuation token, in bytes. Percent-encoded it must fit into a URL, for which 65,534 bytes are the
/// limit of the HTTP library; tokens of S3 have about 100, and servers that put a key into theirs need 2,048.
pub const MAX_TOKEN_BYTES: usize = 4_096;

/// How many pages in a row may have no object that was not listed before. Old versions and delete markers make such pages.
pub const MAX_FRUITLESS_PAGES: usize = 1_000;

/// How many objects a job may have listed, linked or not. At 1,000 a request this is a day's listing.
pub const MAX_LISTED_OBJECTS: u64 = 100_000_000;

/// How many objects a job may leave out because they cannot be linked. Each is kept aside with its reason.
pub const MAX_LEFT_OUT: u64 = 1_000_000;

/// The longest words of a store that are kept, in bytes.
pub const MAX_STORE_WORDS_BYTES: usize = 500;

/// The longest entity tag, in bytes: a digest, quoted, with a number of parts. Tags go into conditions of requests.
pub const MAX_ETAG_BYTES: usize = 256;

/// The longest id of a version, in bytes, as S3 documents it.
pub const MAX_VERSION_BYTES: usize = 1_024;

// What a relay answers.

/// The longest words of a relay that are kept, in bytes: several lines of a rejection.
pub const MAX_RELAY_WORDS_BYTES: usize = 300;

// Files of this machine.
