//! Bounds on the size of everything from outside, in one table.
//!
//! A queue's messages, an object's key and a list of recipients are untrusted; the answers of a store or a relay are
//! semi-trusted. Each bound is enforced where the bytes arrive or where text grows, and an error names it. Those of the embedded
//! endpoint are in `crates/localstore/src/bounds.rs`.

use std::num::NonZeroU32;
use std::time::Duration;

// State about jobs that are not done.

/// The most batches of links that are remembered as having their audit lines, for all jobs together; about 4 MB.
pub const MAX_ISSUED_BATCHES: usize = 50_000;

/// The most jobs whose own sessions of a role are kept, for each connection; a job whose session was dropped gets another.
pub const MAX_JOB_SESSIONS: usize = 256;

/// The most jobs for which it is remembered whether their mails have room for all files; a few hundred bytes each.
pub const MAX_TRIED_JOBS: usize = 10_000;

// Renditions of pictures.

/// The most bytes of a picture that gets renditions: it is read as a whole.
pub const MAX_PICTURE_BYTES: u64 = 64 * 1024 * 1024;

/// The most threads that decode pictures.
pub const MAX_RENDITION_THREADS: usize = 64;

// Output: log lines, results, audit lines, attributes of SQS, terminals. See `text::printable`.

/// The longest reason for which a job failed, in bytes, with all its causes.
pub const MAX_REASON_BYTES: usize = 2_000;

/// The longest value from outside that an error repeats, in bytes.
pub const MAX_SHOWN_VALUE_BYTES: usize = 200;

/// The longest field of a log line that is not JSON, in bytes: a reason with its context.
pub const MAX_LOG_FIELD_BYTES: usize = 4_096;

/// The longest attribute of a span that is sent to a receiver, in bytes.
pub const MAX_SPAN_TEXT_BYTES: usize = 512;

/// How many finished spans wait for the exporter; the others are dropped.
pub const MAX_SPANS_QUEUED: usize = 4_096;

// The portal, which strangers reach.

/// The most connections to the portal at once. An idle one takes about 12 KB.
pub const MAX_PORTAL_CONNECTIONS: usize = 16_384;

/// How long a TLS handshake and the head of a request may take, and how long a connection may be idle between two requests.
pub const MAX_HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// The same for the head of a request, and for a pause between two.
pub const MAX_HEAD_TIME: Duration = Duration::from_secs(15);

/// How long a form may take to arrive.
pub const MAX_PORTAL_FORM_TIME: Duration = Duration::from_secs(10);

/// How long the head of an answer may take, and what it waits for: the ledger, the audit log, a store.
pub const MAX_PORTAL_ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long a client may read nothing of an answer.
pub const MAX_WRITE_STALL: Duration = Duration::from_secs(30);

/// The longest head of a request, and the longest target in it, in bytes. A link has 73.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The longest target of a request, in bytes.
pub const MAX_TARGET_BYTES: usize = 2 * 1024;

/// The longest form, in bytes; an address has at most 1,085 and is percent-encoded.
pub const MAX_PORTAL_FORM_BYTES: usize = 4 * 1024;

/// The longest value of a cookie that is read, in bytes; the portal's own have at most 400.
pub const MAX_COOKIE_BYTES: usize = 2_048;

/// The longest `Accept-Language` that is looked at, in bytes; browsers send less than a hundred.
pub const MAX_LANGUAGES_BYTES: usize = 512;

/// The most addresses of `X-Forwarded-For` that are looked at.
pub const MAX_FORWARDED_ADDRESSES: usize = 16;

/// The most keys of a limit that are remembered as used last; up to twice as many are held.
pub const MAX_LIMITED_KEYS: usize = 8_192;

/// The most tokens of one network that were not made here, in a minute.
pub const MAX_FORGED_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// The most requests of one network for a code, in a minute.
pub const MAX_CODE_REQUESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// The most beginnings and ends of sign-ins at issuers, in a minute and for one network. An office arrives together.
pub const MAX_SIGN_INS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(120).unwrap();

/// The most opens of one link, in a minute. A player that seeks makes one for each seek after its signature ended.
pub const MAX_OPENS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// The most files that are streamed at once, where `deliver = "stream"`, and the bytes that each holds at the most.
pub const MAX_STREAMS: usize = 128;
/// The most of them that are of one link.
pub const MAX_STREAMS_OF_LINK: usize = 8;
/// The bytes of one request for a part of a streamed file.
pub const STREAM_PIECE_BYTES: u64 = 256 * 1024;
/// How often a part is asked for before its answer is broken off.
pub const STREAM_TRIES: u32 = 3;

/// The most jobs that the list of all files of a person shows.
pub const MAX_MINE: usize = 100;

/// The most requests for a code that wait for the relay.
pub const MAX_WAITING_CODES: usize = 256;

// The intake, which callers with a token use.

/// The most connections to the intake at once. Each may bring a message.
pub const MAX_INTAKE_CONNECTIONS: usize = 128;

/// How long the body of a request to the intake may take to arrive.
pub const MAX_INTAKE_BODY_TIME: Duration = Duration::from_secs(20);

/// How long an answer of the intake may take once the body is there: the check of a job, and the queue's acceptance.
pub const MAX_INTAKE_ANSWER_TIME: Duration = Duration::from_secs(10);

/// How much of that the check of a job may take.
pub const MAX_INTAKE_CHECK_TIME: Duration = Duration::from_secs(5);

/// How many bodies are read as JSON, and jobs checked, at once: a message of 1 MiB may take some 10 MB as JSON.
pub const MAX_INTAKE_AT_ONCE: usize = 4;

/// How many of these are checks at one connection.
pub const MAX_INTAKE_CHECKS_OF_CONNECTION: usize = MAX_INTAKE_AT_ONCE - 1;

/// How long the queue has at least to take a message, also where its check took long.
pub const MIN_INTAKE_PUT_TIME: Duration = Duration::from_secs(2);

/// How long a request waits for its turn within the rate; one that had to wait longer is told to come back.
pub const MAX_INTAKE_WAIT: Duration = Duration::from_secs(1);

/// The most wrong tokens of one network, in a minute, that are answered as such.
pub const MAX_WRONG_TOKENS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// The shortest token, and the longest, in bytes.
pub const MIN_INTAKE_TOKEN_BYTES: usize = 20;
/// The longest token, in bytes.
pub const MAX_INTAKE_TOKEN_BYTES: usize = 1024;

/// How many tokens a file may have: the old one and the new one, and one for each of a few callers.
pub const MAX_INTAKE_TOKENS: usize = 100;

// Access logs of stores, in which strangers choose most of the text.

/// The longest line of an access log, in bytes: S3 and CloudFront log URLs of 8 KiB, a Referer and a User-Agent.
pub const MAX_LOG_LINE_BYTES: usize = 64 * 1024;

/// The most links and opens of the audit log that access logs are joined with at once; 16 bytes each.
pub const MAX_KNOWN_LINKS: usize = 20_000_000;

/// The most requests by links that are held in memory before they are written, 56 bytes each. Fewer make more and smaller parts of each
/// slot.
pub const MAX_HELD_REQUESTS: usize = 200_000;

/// The most requests of CloudTrail that are held in memory before they are written, 24 bytes each.
pub const MAX_HELD_TRAIL_REQUESTS: usize = 500_000;

/// The largest part of a slot to which another is added, in bytes: what is written again for a late line is no more.
pub const MAX_GROWING_PART_BYTES: usize = 1 << 20;

/// The most files of access logs that are read before what they have is written.
pub const MAX_HELD_FILE_MARKS: usize = 1_000;

/// The most clients that are held in memory, about 110 bytes each.
pub const MAX_HELD_CLIENTS: usize = 50_000;

/// The longest User-Agent that an access report keeps, in bytes.
pub const MAX_LOGGED_AGENT_BYTES: usize = 200;

/// The most ranges of one download that are kept apart, of logs that name ranges.
pub const MAX_LOGGED_RANGES: usize = 64;

/// The most links that one answer of `handout opens` is about.
pub const MAX_REPORTED_LINKS: usize = 1_000_000;

// Files that an operator names.

/// The longest file with a secret, a key or a job of an `[[on_event]]` rule, in bytes.
pub const MAX_OPERATOR_FILE_BYTES: u64 = 1024 * 1024;

/// The largest logo, in bytes: each mail carries it, and each page in Base64.
pub const MAX_LOGO_BYTES: usize = 32 * 1024;

/// The most lines in the footer of mails and pages.
pub const MAX_FOOTER_LINES: usize = 8;

/// The longest of them, in bytes.
pub const MAX_FOOTER_LINE_BYTES: usize = 200;
/// The most files and folders below a directory that the configuration names, such as that of templates.
pub const MAX_OPERATOR_FILES: usize = 10_000;

/// How deep such folders are: a link in one may lead to a folder above it.
pub const MAX_OPERATOR_FOLDERS_DEPTH: usize = 8;

// What a message contains.

/// The most objects in the JSON of a message: each takes about 600 bytes of memory at the least. Ten thousand recipients
/// with variables of their own are 20,000.
pub const MAX_JSON_OBJECTS: usize = 25_000;

/// The most values in the JSON of a message, lists and objects and what is in them counted.
///
/// Each takes 32 bytes of memory at the least, and in an object 100. Ten thousand recipients with twenty variables each are 250,000.
pub const MAX_JSON_VALUES: usize = 300_000;

/// How deep lists and objects may nest in the JSON of a message. A job has no more than 13 with its deepest variable.
pub const MAX_JSON_NESTING: usize = 32;

/// The longest local part of an address, in bytes: RFC 5321, 4.5.3.1.1.
pub const MAX_LOCAL_PART_BYTES: usize = 64;

/// The longest domain as it is written, in bytes: 255 in ASCII (RFC 5321, 4.5.3.1.2), and in other letters at most four
/// bytes for each of these.
pub const MAX_DOMAIN_BYTES: usize = 4 * 255;

/// The longest address, in bytes.
pub const MAX_ADDRESS_BYTES: usize = MAX_LOCAL_PART_BYTES + 1 + MAX_DOMAIN_BYTES;

/// The longest display name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

/// The longest recipient as one text, in bytes: a name of which each character is escaped, and an address. The parser makes
/// a text of each word.
pub const MAX_RECIPIENT_BYTES: usize = 2 * MAX_NAME_BYTES + MAX_ADDRESS_BYTES + 16;

/// The longest language tag, in bytes: RFC 5646, 4.4.1.
pub const MAX_LOCALE_BYTES: usize = 35;

/// The longest name of a time zone, in bytes: twice the longest of the IANA database.
pub const MAX_TIME_ZONE_BYTES: usize = 64;

/// The longest directory that a job may name to publish in, in bytes: each name in it is a directory that is made, and the whole
/// stands in audit lines and results.
pub const MAX_PUBLISH_DIR_BYTES: usize = 1024;

/// The most keys that a job may name: each is looked up, at some 500 a second.
pub const MAX_KEYS: usize = 10_000;

/// The longest pattern, in bytes: as long as the longest key.
pub const MAX_PATTERN_BYTES: usize = 1024;

/// The most patterns in one list.
pub const MAX_PATTERNS: usize = 1000;

/// The most that the patterns of one list may have together, in bytes: compiled, a byte becomes about 600.
pub const MAX_PATTERNS_BYTES: usize = 16 * 1024;

/// The most wildcards (`*` `?` `[` `{`) that the patterns of one list may have together: each key is matched against all.
pub const MAX_WILDCARDS: usize = 200;

/// The most work that a job's patterns may make: bytes of all keys behind the prefix, times bytes of all patterns that are
/// not literal.
///
/// It is the same on every machine, and is in proportion to the matcher's worst case, some 4 ns of CPU for
/// each. Sixteen patterns such as `**/*.pdf` make 77,000,000,000 of ten million keys of 60 bytes.
pub const MAX_PATTERN_WORK: u64 = 100_000_000_000;

/// How deep `{a,{b,c}}` may nest in a pattern: the parser recurses.
pub const MAX_PATTERN_NESTING: usize = 8;

/// The most values in the variables of a job or of one recipient, lists and objects and what is in them counted.
pub const MAX_VARS: usize = 1000;

/// How deep lists and objects may nest in a variable.
pub const MAX_VAR_NESTING: usize = 8;

/// The longest text in a variable, in bytes: each mail may repeat it.
pub const MAX_VAR_BYTES: usize = 16 * 1024;

/// The most that the variables of a job or of one recipient may have together, in bytes, names included: each mail may
/// repeat them.
pub const MAX_VARS_BYTES: usize = 64 * 1024;

/// The most rows of a list of recipients.
pub const MAX_LIST_ROWS: u64 = 100_000;

/// The largest file with a list of recipients, in bytes: it is copied to the disk while it is read.
pub const MAX_LIST_BYTES: u64 = 64 * 1024 * 1024;

/// The longest row of a list of recipients, in bytes: the longest variables and as much again.
pub const MAX_ROW_BYTES: usize = 128 * 1024;

/// The most columns of a list of recipients.
pub const MAX_LIST_COLUMNS: usize = 200;

/// The longest text of an event of S3 (bucket, key, version, sequencer, time), in bytes: S3's limit for a key.
pub const MAX_EVENT_TEXT_BYTES: usize = 1024;

// Filled-in phrases.

/// The longest phrase before it is filled in, in bytes.
pub const MAX_PHRASE_BYTES: usize = 1024;

/// The longest subject, in bytes: one line of a header (RFC 5322, section 2.1.1).
pub const MAX_SUBJECT_BYTES: usize = 998;

/// The longest title of a page, in bytes: as long as a subject, since a mail may take it for one.
pub const MAX_TITLE_BYTES: usize = 998;

/// The longest message of a job, in bytes, before and after it is filled in. Escaped and encoded it takes half of a mail's budget at
/// the most.
pub const MAX_MESSAGE_BYTES: usize = 4_000;

/// The most lines of a message, filled in: each takes some hundred bytes of a mail's budget for its paragraph.
pub const MAX_MESSAGE_LINES: usize = 100;

/// The most languages in which a job gives a message.
pub const MAX_MESSAGE_LANGUAGES: usize = 50;

/// The longest file name before it is cleaned and shortened, in bytes: room for the longest key a few times.
pub const MAX_FILLED_NAME_BYTES: usize = 4 * 1024;

// Answers of a store.

/// The most attempts at one recipient that a ledger's record may number.
///
/// Each takes a delivery of the job or a decision of the operator: a record with a higher number is damaged.
pub const MAX_ATTEMPTS: u32 = 1_000_000;

/// How far a service's clock may be from ours.
///
/// A signature is dated back by a minute; beyond five, a clock must be corrected. S3 rejects signed requests from fifteen minutes on.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// How much of an answer's body is kept to judge it by, in bytes: errors of S3 have a few hundred.
pub const MAX_JUDGED_BYTES: usize = 64 * 1024;

/// The longest that a service is left alone because of its `Retry-After`.
///
/// One answer of a maintenance page that asks for an hour, as a proxy gives while a service restarts, must not keep jobs waiting for as
/// long.
pub const MAX_LEFT_ALONE: Duration = Duration::from_secs(10);

/// The longest wait that a service may ask for by `Retry-After`: as long as a job that failed waits at the most. Only the receiver of
/// results is left alone for so long.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// The longest answer that is read, in bytes. A page of 1,000 versions, each with a key of 1,024 bytes that is
/// percent-encoded and a version of 1,024, has half of it; a record of the ledger has less.
pub const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// How long the body of an answer may take on the wire at the most, however much of it moves.
pub const MAX_ANSWER_TIME: Duration = Duration::from_secs(120);

/// How long the body of an answer of SQS or STS may take after its head.
///
/// Ten messages of SQS have one MiB together:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const MAX_SMALL_ANSWER_TIME: Duration = Duration::from_secs(15);

/// The longest continuation token, in bytes.
///
/// Percent-encoded it must fit into a URL, for which 65,534 bytes are the
/// limit of the HTTP library; tokens of S3 have about 100, and servers that put a key into theirs need 2,048.
pub const MAX_TOKEN_BYTES: usize = 4_096;

/// How many pages in a row may have no new object. Old versions and delete markers cause such pages.
pub const MAX_FRUITLESS_PAGES: usize = 1_000;

/// How many objects a job may have listed, linked or not. At 1,000 a request this is a day's listing.
pub const MAX_LISTED_OBJECTS: u64 = 100_000_000;

/// How many objects a job may leave out because they cannot be linked. Each is stored with its reason.
pub const MAX_LEFT_OUT: u64 = 1_000_000;

/// How many objects that cannot be linked a job may leave out for all its audiences together.
///
/// Each mail, page and list names all of them, and they are not links, so `max_links` of a rule does not count them. Ten thousand
/// recipients with links of their own may get a thousand each.
pub const MAX_LEFT_OUT_IN_ALL: u64 = 10_000_000;

/// The longest id of a message, in bytes. SQS's have 36; other services' go into log and audit lines as well.
pub const MAX_MESSAGE_ID_BYTES: usize = 128;

/// The longest message of a store that is kept, in bytes.
pub const MAX_STORE_WORDS_BYTES: usize = 500;

/// The longest entity tag, in bytes: a digest, quoted, with a number of parts. Tags go into conditions of requests.
pub const MAX_ETAG_BYTES: usize = 256;

/// The longest id of a version, in bytes, as S3 documents it.
pub const MAX_VERSION_BYTES: usize = 1_024;

/// How many files a job may put into ZIPs: their names are kept in memory while they are made.
pub const MAX_ZIP_FILES: usize = 100_000;

/// How many ZIPs a job may make: a mail links each of them.
pub const MAX_ZIPS: usize = 20;

/// How many MiB of files are in memory at once for the ZIPs of one connection.
///
/// They are parts of uploads, which have up to 26 MiB, and pieces of files. All jobs of the connection share them.
pub const MAX_ZIP_MEMORY_MIB: u32 = 32;

/// The length of the text in a ZIP from which on files that are left out are only counted, in bytes.
pub const MAX_ZIP_NOTE_BYTES: usize = 256 * 1024;

// Replies of a relay.

/// The longest text of a relay's reply that is kept, in bytes: several lines of a rejection.
pub const MAX_RELAY_WORDS_BYTES: usize = 300;

// Files of this machine.

/// The longest line of the audit log, in bytes: the longest key and reason, each character escaped, with room.
pub const MAX_AUDIT_LINE_BYTES: usize = 64 * 1024;

/// The part of it that the log's writer adds to a record, in bytes: it has some 500.
pub const MAX_AUDIT_FRAME_BYTES: usize = 2 * 1024;

/// The longest tail of a broken stream that is set aside, in bytes: what a power cut left of a write.
pub const MAX_TORN_BYTES: u64 = 16 * 1024 * 1024;

/// The longest note of the audit log, in bytes: its registry has a line of 100 bytes for each stream.
pub const MAX_AUDIT_NOTE_BYTES: u64 = 64 * 1024 * 1024;

/// The most of `secret.key` that is read, in bytes: a larger file is not a secret, and its size need not be known.
pub const MAX_SECRET: u64 = 4_096;

/// The longest that a message can stay hidden, counted from its receipt.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
pub const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 60 * 60);

/// The longest metadata document of an OpenID provider that is read, in bytes: those of large providers have about 6 KiB.
pub const MAX_OIDC_METADATA_BYTES: usize = 64 * 1024;

/// The longest set of keys of an OpenID provider that is read, in bytes. A key with a chain of certificates has about 4 KiB.
pub const MAX_OIDC_KEYS_BYTES: usize = 512 * 1024;

/// The most keys of an OpenID provider that are kept.
pub const MAX_OIDC_KEYS: usize = 100;

/// The longest answer of a token or userinfo endpoint, in bytes: a token may list every group of an account.
pub const MAX_OIDC_TOKEN_BYTES: usize = 128 * 1024;

/// The longest query with which an OpenID provider sends a browser back, in bytes. Authorization codes of some have 2 KiB.
pub const MAX_OIDC_CALLBACK_BYTES: usize = 8 * 1024;

/// The longest subject identifier: <https://openid.net/specs/openid-connect-core-1_0.html#IDToken>
pub const MAX_OIDC_SUBJECT_BYTES: usize = 255;

/// The longest text that a sign-in carries along, in bytes: the token of a portal link has 44.
pub const MAX_RETURN_TO_BYTES: usize = 128;

/// How much memory the portal's caches of jobs, people and objects take together, in bytes.
pub const MAX_PORTAL_CACHE_BYTES: usize = 64 << 20;

/// The longest part of a `User-Agent` that an audit line repeats, in bytes.
pub const MAX_USER_AGENT_BYTES: usize = 256;

/// The longest reason of a revocation, in bytes.
pub const MAX_WHY_BYTES: usize = 500;

/// How long a mail that waits for its relay's reply counts towards the relay's connections, and towards the recipients of its job that are
/// served at once.
pub const MAIL_HOLDS_CONNECTION: Duration = Duration::from_secs(10);
