//! The fields of audit lines, and what lines never contain.
//!
//! A line names the link by its id and by a keyed fingerprint of its signature, the recipient by a keyed hash
//! unless the configuration says otherwise. It never has a signature, a token, a whole URL, a receipt handle or a
//! template variable: access to the log must not give access to files.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use jiff::Timestamp;
use presign::hex::push_hex;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::note::PublicKey;
use crate::job::{ContentDisposition, Recipient};
use crate::keyring::{Deriver, Keyring, Purpose};

use crate::job::session_name::session_name;
use crate::links::connection::AssumedRole;
use crate::links::portal::{OF_PORTAL, secret_of};
use crate::links::{Link, Links};
use crate::plan::Audience;
use crate::plan::Bound;

/// A record, without the fields that the log's writer adds (sequence number, instant, the hash of the line before).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// What happened: `issue`, `outcome`, `refused` …
    pub event: &'static str,
    /// The JSON fields, without the braces around them.
    pub fields: Fields,
}

/// The fields of a record: a part of a text that all records of a batch share.
#[derive(Clone)]
pub struct Fields {
    text: Arc<String>,
    range: Range<usize>,
}

impl Deref for Fields {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text[self.range.clone()]
    }
}

impl From<String> for Fields {
    fn from(text: String) -> Self {
        Self {
            range: 0..text.len(),
            text: Arc::new(text),
        }
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl AuditRecord {
    pub(super) fn new(event: &'static str, record: &impl Serialize) -> Self {
        Self {
            event,
            fields: fields(record).into(),
        }
    }
}

/// The fields of an object, without the braces around them.
fn fields(record: &impl Serialize) -> String {
    let mut fields = serde_json::to_string(record).expect("a record is plain data with text keys");
    let braces = (fields.pop(), fields.remove(0));
    debug_assert_eq!(braces, (Some('}'), '{'), "a record is an object");
    fields
}

/// How recipients are named in the log.
#[derive(Debug, Clone)]
pub struct Pseudonyms {
    recipient_ids: Deriver,
    fingerprints: Deriver,
    clear: bool,
}

impl Pseudonyms {
    /// Names by keyed hash, and also in clear if `clear`.
    pub fn new(keyring: &Keyring, clear: bool) -> Self {
        Self {
            recipient_ids: keyring.deriver(Purpose::RecipientId),
            fingerprints: keyring.deriver(Purpose::LinkFingerprint),
            clear,
        }
    }

    /// The recipient's id, the same in the ledger and in the log.
    pub fn recipient_id(&self, canonical_address: &str) -> String {
        self.recipient_ids.id(&[canonical_address.as_bytes()])
    }

    /// The fingerprint of a link, from its signature.
    pub fn fingerprint(&self, signature: &str) -> String {
        let mut text = String::with_capacity(69);
        self.push_fingerprint(signature, &mut text);
        text
    }

    fn push_fingerprint(&self, signature: &str, text: &mut String) {
        text.push_str("hmac:");
        push_hex(&self.fingerprints.derive(&[signature.as_bytes()]), text);
    }

    /// The address of a recipient, where recipients are named in clear, too.
    pub(crate) fn in_clear(&self, recipient: Option<&Recipient>) -> Option<String> {
        recipient
            .filter(|_| self.clear)
            .map(Recipient::canonical_address)
    }
}

/// The context of recorded links.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The job's id.
    pub job: &'a str,
    /// The connection that signed.
    pub connection: &'a str,
    /// The role whose credentials signed, if the connection assumes one.
    pub role: Option<AssumedRole<'a>>,
    /// The message that carried it, if one did.
    pub message_id: Option<&'a str>,
    /// How often the job was started, from 1.
    pub attempt: u32,
    /// What kind of link it is.
    pub kind: LinkKind,
    /// How recipients are named.
    pub names: &'a Pseudonyms,
}

/// The kind of object that a recorded link opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// An object of the job.
    Object,
    /// An object that was named and not looked up: its size and existence are unknown.
    Named,
    /// A gallery page that the job published.
    Gallery,
    /// A list that the job published.
    Manifest,
    /// A ZIP of the job's files.
    Zip(ZipFacts),
    /// The renditions of a page's pictures, which share a line and a link id.
    Renditions,
}

impl LinkKind {
    /// The name of its event.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Object | Self::Named => "issue",
            Self::Gallery => "gallery",
            Self::Manifest => "manifest",
            Self::Zip(_) => "zip",
            Self::Renditions => "renditions",
        }
    }
}

/// What a ZIP contains, so that its line says what the link opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZipFacts {
    /// How many of the job's objects.
    pub files: u64,
    /// SHA-256 of the entries of its central directory, which have the name, size and checksum of each file.
    pub directory: [u8; 32],
}

/// The fields that all links of a batch share, before each link's own fields.
#[derive(Serialize)]
struct CommonFields<'a> {
    job: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    attempt: u32,
    rid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    connection: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

/// The fields that they share after those.
#[derive(Serialize)]
struct LifetimeFields<'a> {
    signed_at: Timestamp,
    expires_at: Timestamp,
    bound: Bound,
    access_key_id: &'a str,
}

/// The typical length of a link's own fields, in bytes.
const TYPICAL_LENGTH: usize = 320;

/// One `issue`, `gallery` or `manifest` record for each link; one `renditions` record for all links to renditions of a page.
///
/// Millions are written: the shared fields of a batch are formatted once, and the rest is appended directly.
pub fn lines(links: &Links, context: &Context<'_>) -> Vec<AuditRecord> {
    let rid = context.names.recipient_id(&links.audience.canonical());
    let to = context.names.in_clear(links.audience.recipient());
    let event = context.kind.event();
    // The portal signs when a link is opened, with the session that all jobs share.
    let has_session = context.role.is_some_and(|role| role.has_job_sessions)
        && &*links.access_key_id != OF_PORTAL;
    let session = has_session.then(|| session_name(context.job));
    let whose = fields(&CommonFields {
        job: context.job,
        message: context.message_id,
        attempt: context.attempt,
        rid: &rid,
        to: to.as_deref(),
        connection: context.connection,
        role: context.role.map(|role| role.arn),
        session: session.as_deref(),
    });
    let how_long = fields(&LifetimeFields {
        signed_at: links.lifetime.signed_at,
        expires_at: links.lifetime.expires_at,
        bound: links.lifetime.bound,
        access_key_id: &links.access_key_id,
    });
    if context.kind == LinkKind::Renditions {
        let fields = renditions(links, context.names).map(|text| whose + &text + &how_long);
        let record = |fields: String| AuditRecord {
            event,
            fields: fields.into(),
        };
        return fields.map(record).into_iter().collect();
    }
    let sized = context.kind != LinkKind::Named;
    let each = whose.len() + how_long.len() + TYPICAL_LENGTH;
    let mut text = String::with_capacity(each * links.links.len());
    let ends: Vec<usize> = links
        .links
        .iter()
        .map(|link| {
            text.push_str(&whose);
            push_link(link, sized, context.names, &mut text);
            text.push_str(&how_long);
            text.push_str(match link.disposition {
                ContentDisposition::Attachment => ",\"disposition\":\"attachment\"",
                ContentDisposition::Inline => ",\"disposition\":\"inline\"",
            });
            if let LinkKind::Zip(facts) = context.kind {
                facts.push(&mut text);
            }
            text.len()
        })
        .collect();
    let text = Arc::new(text);
    let mut from = 0;
    let record = |end| AuditRecord {
        event,
        fields: Fields {
            text: Arc::clone(&text),
            range: std::mem::replace(&mut from, end)..end,
        },
    };
    ends.into_iter().map(record).collect()
}

/// The fields of a page's renditions, with a comma at both ends: their number, where they are, and a digest of all links.
///
/// The digest is the SHA-256 of the fingerprints of the links in the order of the page, each with a newline.
fn renditions(links: &Links, names: &Pseudonyms) -> Option<String> {
    let first = links.links.first()?;
    let mut digest = Sha256::new();
    let mut fingerprint = String::with_capacity(70);
    for link in &links.links {
        fingerprint.clear();
        names.push_fingerprint(link.url.signature(), &mut fingerprint);
        fingerprint.push('\n');
        digest.update(&fingerprint);
    }
    let key = first.key().as_str();
    let prefix = key.rfind('/').map_or("", |slash| &key[..=slash]);
    let mut fields = String::new();
    push_text("bucket", first.bucket.as_str(), &mut fields);
    push_text("prefix", prefix, &mut fields);
    push_text("link_id", &first.id, &mut fields);
    fields.push_str(",\"count\":");
    fields.push_str(itoa::Buffer::new().format(links.links.len()));
    fields.push_str(",\"links\":\"sha256:");
    push_hex(&digest.finalize(), &mut fields);
    fields.push_str("\",");
    Some(fields)
}

impl ZipFacts {
    /// Appends its fields, with a comma before them.
    fn push(self, fields: &mut String) {
        fields.push_str(",\"files\":");
        fields.push_str(itoa::Buffer::new().format(self.files));
        fields.push_str(",\"directory_sha256\":\"");
        push_hex(&self.directory, fields);
        fields.push('"');
    }
}

/// Appends a link's own fields, with a comma at both ends.
fn push_link(link: &Link, sized: bool, names: &Pseudonyms, fields: &mut String) {
    push_text("bucket", link.bucket.as_str(), fields);
    push_text("key", link.object.key.as_str(), fields);
    if !link.object.etag.is_empty() {
        push_text("etag", &link.object.etag, fields);
    }
    if let Some(version) = &link.object.version {
        push_text("version", version, fields);
    }
    if sized {
        fields.push_str(",\"size\":");
        fields.push_str(itoa::Buffer::new().format(link.object.size_bytes));
    }
    push_text("link_id", &link.id, fields);
    fields.push_str(",\"link\":\"");
    names.push_fingerprint(secret_of(&link.url), fields);
    fields.push_str("\",");
}

/// Appends `,"name":"text"`.
fn push_text(name: &str, text: &str, fields: &mut String) {
    fields.push_str(",\"");
    fields.push_str(name);
    fields.push_str("\":");
    push_json(text, fields);
}

/// Appends a text as a JSON string.
pub(super) fn push_json(text: &str, json: &mut String) {
    // Most texts need no escape; only these characters do (RFC 8259, section 7).
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        json.push('"');
        json.push_str(text);
        json.push('"');
    } else {
        json.push_str(&serde_json::to_string(text).expect("a text is JSON"));
    }
}

/// The outcome of a delivery attempt.
#[derive(Debug, Serialize)]
pub struct MailOutcome<'a> {
    /// The job.
    pub job: &'a str,
    /// The recipient's id.
    pub rid: &'a str,
    /// The number of the attempt at this recipient, from 0, as in the ledger.
    pub n: u32,
    /// `accepted`, `rejected`, `not_sent` or `unknown`.
    pub outcome: &'a str,
    /// The relay's reply code, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The mail's Message-ID.
    pub message_id: &'a str,
    /// The id of the recipient that got the mail instead, in a rehearsal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsed_to: Option<&'a str>,
}

/// An `outcome` record.
pub fn outcome(outcome: &MailOutcome<'_>) -> AuditRecord {
    AuditRecord::new("outcome", outcome)
}

/// A recipient who gets no mail of a job.
#[derive(Debug, Serialize)]
pub struct SuppressedRecipient<'a> {
    /// The job.
    pub job: &'a str,
    /// The recipient's id.
    pub rid: &'a str,
    /// The number of the attempt that is not made.
    pub n: u32,
    /// Why, and since when.
    pub reason: &'a str,
}

/// A `suppressed` record.
pub fn suppressed(recipient: &SuppressedRecipient<'_>) -> AuditRecord {
    AuditRecord::new("suppressed", recipient)
}

/// What a mail system reported of an accepted mail.
#[derive(Debug, Serialize)]
pub struct MailFeedback<'a> {
    /// The recipient's id.
    pub rid: &'a str,
    /// The job, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<&'a str>,
    /// What it means, such as `hard`, `complaint` or `delivered`.
    pub verdict: &'a str,
    /// Where it came from: `ses`, `dsn`, `arf` or `portal`.
    pub source: &'a str,
    /// The enhanced status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'a str>,
    /// The list that was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<&'a str>,
}

/// A `feedback` record.
pub fn feedback(feedback: &MailFeedback<'_>) -> AuditRecord {
    AuditRecord::new("feedback", feedback)
}

/// What a person changed about a recipient's suppression.
#[derive(Debug, Serialize)]
pub struct SuppressionChange<'a> {
    /// The recipient's id.
    pub rid: &'a str,
    /// `added` or `lifted`.
    pub change: &'a str,
    /// The tag of the list that the recipient had left, if that alone is lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<&'a str>,
    /// The user who asked for it.
    pub by: &'a str,
    /// The reason.
    pub reason: &'a str,
}

/// A `suppression` record. The reason has no address: it would name in clear whom the id names by a hash.
pub fn suppression(change: &SuppressionChange<'_>) -> AuditRecord {
    AuditRecord::new(
        "suppression",
        &SuppressionChange {
            reason: &without_addresses(change.reason),
            ..*change
        },
    )
}

/// A text that a person wrote, with `(address)` for each word that has an at sign.
fn without_addresses(text: &str) -> String {
    let has_at = |word: &str| word.contains(['@', '\u{ff20}', '\u{fe6b}']);
    let shown = |word| if has_at(word) { "(address)" } else { word };
    let words: Vec<&str> = text.split(' ').map(shown).collect();
    words.join(" ")
}

/// A `refused` record: a rejected job, and the reason.
pub fn refused(job: Option<&str>, message_id: Option<&str>, reason: &str) -> AuditRecord {
    #[derive(Serialize)]
    struct RefusedFields<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        job: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        reason: &'a str,
    }
    AuditRecord::new(
        "refused",
        &RefusedFields {
            job,
            message: message_id,
            reason,
        },
    )
}

/// A `published` record: a page or a list that was published.
pub fn published(
    job: &str,
    audience: &Audience,
    names: &Pseudonyms,
    place: &str,
    bytes: u64,
) -> AuditRecord {
    #[derive(Serialize)]
    struct PublishedFields<'a> {
        job: &'a str,
        rid: &'a str,
        place: &'a str,
        bytes: u64,
    }
    let rid = names.recipient_id(&audience.canonical());
    AuditRecord::new(
        "published",
        &PublishedFields {
            job,
            rid: &rid,
            place,
            bytes,
        },
    )
}

/// The first record of a stream; `key` verifies its checkpoints.
pub fn opened(program: &str, key: &PublicKey) -> AuditRecord {
    #[derive(Serialize)]
    struct OpenedFields<'a> {
        program: &'a str,
        pid: u32,
        checkpoint_key: &'a str,
    }
    AuditRecord::new(
        "open",
        &OpenedFields {
            program,
            pid: std::process::id(),
            checkpoint_key: &key.to_string(),
        },
    )
}

/// A `checkpoint` record: a signed note about all lines before it.
pub fn checkpoint(note: &str) -> AuditRecord {
    #[derive(Serialize)]
    struct CheckpointFields<'a> {
        note: &'a str,
    }
    AuditRecord::new("checkpoint", &CheckpointFields { note })
}

/// The last record of a segment, and the name of the next.
pub fn rotated(next: &str) -> AuditRecord {
    #[derive(Serialize)]
    struct Rotated<'a> {
        next: &'a str,
    }
    AuditRecord::new("rotate", &Rotated { next })
}

/// The last record of a stream that ended in order.
pub fn closed() -> AuditRecord {
    AuditRecord {
        event: "close",
        fields: String::new().into(),
    }
}

/// The last record of an interrupted stream: what was cut from its end, if anything was.
pub fn recovered(torn_bytes: usize, torn_sha256: &str) -> AuditRecord {
    #[derive(Serialize)]
    struct Recovered<'a> {
        torn_bytes: usize,
        torn_sha256: &'a str,
    }
    AuditRecord::new(
        "recover",
        &Recovered {
            torn_bytes,
            torn_sha256,
        },
    )
}
