//! The JSON Schema of a line, as `handout schema --audit` prints it: the fields of every line, and those of each event.

use serde_json::{Map, Value, json};

/// The schema of a field, by a short name.
fn field(name: &str) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let count =
        |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    let hash = |description: &str| json!({ "type": "string", "pattern": "^[0-9a-f]{32}$", "description": description });
    let instant = |description: &str| json!({ "type": "string", "format": "date-time", "description": description });
    match name {
        "v" => {
            json!({ "const": 2, "description": "The version of the line format." })
        }
        "seq" => count("The line's number in its stream, from 0."),
        "ts" => {
            json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$", "description": "When the line was written, UTC." })
        }
        "stream" => text("The stream: one for each process."),
        "prev" => {
            json!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$", "description": "The SHA-256 of the line before, its newline included; zeros in the first line." })
        }
        "seal" => hash(
            "The process's own mark for the next start, in the last line of a group; it says nothing to others.",
        ),
        "program" => text("The program and its version."),
        "pid" => count("The process."),
        "checkpoint_key" => {
            text("The public key of what the stream signs, as a C2SP verifier key.")
        }
        "job" => text("The job's id."),
        "message" => text("The message that asked."),
        "attempt" => {
            json!({ "type": "integer", "minimum": 1, "description": "How often the job was started, from 1." })
        }
        "rid" => hash("The recipient, as a keyed hash of the address."),
        "to" => text("The recipient's address, if the configuration says so."),
        "connection" => text("The connection that signed."),
        "role" => text("The role whose credentials signed."),
        "session" => text("The job's own session of the role."),
        "means" => {
            json!({ "enum": ["tag"], "description": "How links of S3 were revoked: by a tag of the object. Without it, by the ledger." })
        }
        "bucket" => text("The bucket."),
        "prefix" => text("The beginning of the keys of all renditions."),
        "count" => count("How many links to renditions the page has."),
        "links" => {
            json!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$", "description": "The SHA-256 of the keyed hashes of their signatures, as `link` has them, in the order of the page and each with a newline." })
        }
        "key" => text("The object's key."),
        "etag" => text("What the listing said of the object's content."),
        "version" => text("The object's version, if the link is of one."),
        "size" => count("The object's size in bytes, if it is known."),
        "link_id" => text("The identity that is signed into the link as x-handout."),
        "link" => {
            json!({ "type": "string", "pattern": "^hmac:[0-9a-f]{64}$", "description": "A keyed hash of the link's signature." })
        }
        "signed_at" => instant("When the link was signed."),
        "expires_at" => instant("When the link really ends."),
        "bound" => text("What sets that end: what was asked, or what is earlier."),
        "access_key_id" => text("The id of the key that signed."),
        "disposition" => {
            json!({ "enum": ["attachment", "inline"], "description": "What a browser does with the file." })
        }
        "files" => count("How many of the job's files are in the ZIP."),
        "directory_sha256" => {
            json!({ "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "The SHA-256 of the entries of the ZIP's central directory." })
        }
        "n" => count("Which attempt at this recipient, from 0."),
        "outcome" => {
            json!({ "enum": ["accepted", "rejected", "not_sent", "unknown"], "description": "What became of the mail." })
        }
        "code" => count("The relay's reply code."),
        "verdict" => {
            json!({ "enum": ["hard", "by_relay", "complaint", "soft", "mail_fault", "rejected", "delayed", "delivered", "noted", "left"], "description": "What the report means." })
        }
        "source" => {
            json!({ "enum": ["ses", "dsn", "arf", "portal"], "description": "Where the report came from." })
        }
        "status" => text("The enhanced status code of the report."),
        "list" => text("The tag of the list that was left."),
        "change" => {
            json!({ "enum": ["added", "lifted"], "description": "What a person changed about the recipient's suppression." })
        }
        "message_id" => text("The mail's Message-ID."),
        "rehearsed_to" => hash("The recipient that got the mail instead: it was a rehearsal."),
        "reason" => text("Why it was not done."),
        "place" => text("Where the page or list was put."),
        "bytes" => count("How long it is."),
        "note" => text("A C2SP checkpoint of all lines before this one: a signed note."),
        "next" => text("The segment in which the stream goes on."),
        "torn_bytes" => count("How much was cut from the end of the stream, in bytes."),
        "torn_sha256" => {
            json!({ "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "The SHA-256 of what was cut." })
        }
        "open" => text("The id of the open, which is signed into the link as x-handout-open."),
        "how" => {
            json!({ "enum": ["button", "direct", "embed"], "description": "How the link was opened." })
        }
        "signed_in" => text("How the visitor signed in: code, or oidc: and the issuer."),
        "sid" => text("The session."),
        "reader" => hash("The recipient of the session, where the link is everybody's."),
        "after_page_ms" => count("How long after its page the button was pressed, in ms."),
        "sec_fetch" => text("The headers Sec-Fetch-Site, -Mode, -Dest and -User."),
        "purpose" => text("The header Sec-Purpose."),
        "range" => {
            json!({ "type": "boolean", "description": "Whether a part of the object was asked for." })
        }
        "net" => text("The visitor's network address, as portal.addresses says."),
        "ua" => text("The header User-Agent."),
        "page" => count("The number of the page, from 0."),
        "objects" => count("How many objects the page shows."),
        "signed" => count("How many signed links the page has."),
        "links_sha256" => {
            json!({ "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "The SHA-256 over the fingerprints of the signed links of the page." })
        }
        "what" => {
            json!({ "enum": ["job", "recipient", "object", "link", "sessions"], "description": "What was revoked, restored or moved." })
        }
        "ordinal" => count("The number of the change in the ledger."),
        "by" => text("The user who asked for it."),
        _ => unreachable!("every field of an event has its schema"),
    }
}

/// The optional fields of every line.
const ANY: [&str; 1] = ["seal"];

/// The required fields of every line.
const EVERY: [&str; 6] = ["v", "ev", "seq", "ts", "stream", "prev"];

/// The required and the optional fields of a line about a link.
const LINK: (&[&str], &[&str]) = (
    &[
        "job",
        "attempt",
        "rid",
        "connection",
        "bucket",
        "key",
        "link_id",
        "link",
        "signed_at",
        "expires_at",
        "bound",
        "access_key_id",
        "disposition",
    ],
    &[
        "message", "to", "role", "session", "etag", "version", "size",
    ],
);

/// The required fields of a line about an open.
const OPENED: &[&str] = &[
    "job",
    "rid",
    "connection",
    "bucket",
    "key",
    "link_id",
    "open",
    "how",
    "link",
    "signed_at",
    "expires_at",
    "access_key_id",
];

/// The optional fields about a visitor.
const VISITOR: &[&str] = &[
    "signed_in",
    "sid",
    "reader",
    "after_page_ms",
    "sec_fetch",
    "purpose",
    "range",
    "net",
    "ua",
];

/// The optional fields of a change to links.
const CHANGED: &[&str] = &[
    "job",
    "rid",
    "bucket",
    "key",
    "link_id",
    "expires_at",
    "ordinal",
    "means",
    "connection",
    "version",
    "reason",
];

/// The optional fields of a moved end.
const CHANGED_END: &[&str] = &["job", "rid", "bucket", "key", "link_id", "reason"];

/// The required fields of a line about a link to a ZIP.
const ZIP_LINK: [&str; 16] = {
    let mut fields = [""; 16];
    let mut at = 0;
    while at < LINK.0.len() {
        fields[at] = LINK.0[at];
        at += 1;
    }
    fields[at] = "size";
    fields[at + 1] = "files";
    fields[at + 2] = "directory_sha256";
    fields
};

/// An event: its name, its description, its required fields besides those of every line, and its optional fields.
type Event = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const EVENTS: [Event; 25] = [
    (
        "open",
        "The first line of a stream.",
        &["program", "pid"],
        &["checkpoint_key"],
    ),
    ("issue", "A link to an object.", LINK.0, LINK.1),
    (
        "gallery",
        "A link to a page that the job published.",
        LINK.0,
        LINK.1,
    ),
    (
        "manifest",
        "A link to a list that the job published.",
        LINK.0,
        LINK.1,
    ),
    (
        "renditions",
        "The links to the renditions of the pictures on a page, which share an id.",
        &[
            "job",
            "attempt",
            "rid",
            "connection",
            "bucket",
            "prefix",
            "link_id",
            "count",
            "links",
            "signed_at",
            "expires_at",
            "bound",
            "access_key_id",
        ],
        &["message", "to", "role", "session"],
    ),
    (
        "zip",
        "A link to a ZIP of the job's files.",
        &ZIP_LINK,
        &["message", "to", "role", "session", "etag", "version"],
    ),
    (
        "published",
        "A page, a list or a ZIP that was put somewhere.",
        &["job", "rid", "place", "bytes"],
        &[],
    ),
    (
        "refused",
        "A job that was not done, or a link of the portal that did not open.",
        &["reason"],
        &[
            "job",
            "message",
            "link",
            "signed_in",
            "sid",
            "reader",
            "sec_fetch",
            "purpose",
            "range",
            "after_page_ms",
            "net",
            "ua",
        ],
    ),
    (
        "opened",
        "A signed link that a visitor of the portal got.",
        OPENED,
        VISITOR,
    ),
    (
        "probe",
        "A signed link for HEAD that a visitor of the portal got.",
        OPENED,
        VISITOR,
    ),
    (
        "view",
        "A page of the portal with signed links.",
        &[
            "job",
            "rid",
            "connection",
            "link_id",
            "page",
            "objects",
            "signed",
            "links_sha256",
            "expires_at",
            "access_key_id",
        ],
        VISITOR,
    ),
    (
        "code",
        "A code that was mailed for a sign-in.",
        &["rid"],
        VISITOR,
    ),
    (
        "signed_in",
        "A visitor of the portal signed in.",
        &["rid", "expires_at"],
        VISITOR,
    ),
    (
        "signed_out",
        "A visitor of the portal signed out.",
        &["rid"],
        VISITOR,
    ),
    (
        "revoked",
        "Links that do not open any more: of the portal, or of S3 to an object that has the tag.",
        &["what", "by"],
        CHANGED,
    ),
    (
        "restored",
        "Links that open again.",
        &["what", "by"],
        CHANGED,
    ),
    (
        "moved",
        "Links of the portal that end at another instant.",
        &["what", "ordinal", "by", "expires_at"],
        CHANGED_END,
    ),
    (
        "outcome",
        "What became of a mail.",
        &["job", "rid", "n", "outcome", "message_id"],
        &["code", "rehearsed_to"],
    ),
    (
        "suppressed",
        "A recipient who got no mail of a job: bounces, a complaint, or a wish.",
        &["job", "rid", "n", "reason"],
        &[],
    ),
    (
        "feedback",
        "What a mail system reported of an accepted mail, or a recipient who left a list.",
        &["rid", "verdict", "source"],
        &["job", "status", "list"],
    ),
    (
        "suppression",
        "A recipient whom a person suppressed, or whose suppression a person lifted.",
        &["rid", "change", "by", "reason"],
        &["list"],
    ),
    ("checkpoint", "All lines before it, signed.", &["note"], &[]),
    ("rotate", "The last line of a segment.", &["next"], &[]),
    (
        "recover",
        "The last line of a stream that was not closed, written by the next start.",
        &["torn_bytes", "torn_sha256"],
        &[],
    ),
    (
        "close",
        "The last line of a stream that ended in order.",
        &[],
        &[],
    ),
];

/// The schema of a line.
pub fn schema() -> Value {
    let events: Vec<Value> = EVENTS.iter().map(of).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of Handout's audit log",
        "oneOf": events,
    })
}

fn of((event, description, fields, optional): &Event) -> Value {
    let mut properties = Map::new();
    properties.insert("ev".to_owned(), json!({ "const": event }));
    let others = EVERY.iter().filter(|name| **name != "ev");
    for name in others.chain(*fields).chain(*optional).chain(&ANY) {
        properties.insert((*name).to_owned(), field(name));
    }
    let required: Vec<&str> = EVERY.iter().chain(*fields).copied().collect();
    json!({
        "title": event,
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
