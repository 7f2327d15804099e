//! `handout schema` and the parser agree: what one takes, the other takes.

use handout::job::{Job, wire};
use serde_json::{Value, json};

use crate::support::world::email_job;

/// Jobs, each with what is said of it.
fn jobs() -> Vec<(&'static str, Value)> {
    let with = |pointer: &str, value: Value| {
        let mut job = email_job("x");
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        job.pointer_mut(parent).unwrap()[field] = value;
        job
    };
    vec![
        ("the least job", email_job("x")),
        ("everything", everything()),
        ("seconds", with("/links", json!({ "expires_in": 90 }))),
        ("another version", with("/v", json!(2))),
        ("no id", with("/id", json!(null))),
        ("unknown field", with("/form", json!({}))),
        ("unknown field below", with("/from/buckit", json!("x"))),
        (
            "unknown field of a recipient",
            with(
                "/email/to",
                json!([{ "address": "a@b.example", "mail": 1 }]),
            ),
        ),
        (
            "a rehearsal",
            with(
                "/rehearsal",
                json!({ "to": "me@acme.example", "recipients": 3 }),
            ),
        ),
        (
            "a rehearsal for too many",
            with(
                "/rehearsal",
                json!({ "to": "me@acme.example", "recipients": 101 }),
            ),
        ),
        (
            "a rehearsal without an address",
            with("/rehearsal", json!({ "recipients": 3 })),
        ),
        ("no recipient", with("/email/to", json!([]))),
        ("a list", with("/email/to", json!({ "list": "customers" }))),
        ("a list without a name", with("/email/to", json!({}))),
        (
            "an unknown field of a list",
            with("/email/to", json!({ "list": "customers", "from": 1 })),
        ),
        (
            "a recipient that is a number",
            with("/email/to", json!([1])),
        ),
        (
            "no duration",
            with("/links", json!({ "expires_in": "soon" })),
        ),
        (
            "a negative duration",
            with("/links", json!({ "expires_in": -1 })),
        ),
        (
            "an unknown visibility",
            with("/email/visibility", json!("bcc")),
        ),
        ("an unknown order", with("/from/order", json!("random"))),
        (
            "an unknown disposition",
            with("/links", json!({ "disposition": "download" })),
        ),
        ("keys that are no list", with("/from/keys", json!("a.pdf"))),
        ("a limit of nothing", with("/from/limit", json!(0))),
        (
            "a publication to nowhere",
            with("/gallery", json!({ "title": "x" })),
        ),
        (
            "a page that the portal serves",
            with_portal(
                json!({ "title": "x" }),
                json!({ "sign_in": "code", "open": "direct" }),
            ),
        ),
        (
            "a page that the portal serves and that is published",
            with_portal(json!({ "publish": { "dir": "/srv" } }), json!({})),
        ),
        (
            "a sign-in for links of S3",
            with("/links", json!({ "sign_in": "code" })),
        ),
        (
            "an unknown sign-in",
            with("/links", json!({ "via": "portal", "sign_in": "password" })),
        ),
        (
            "an unknown format",
            with(
                "/manifest",
                json!({ "format": "xml", "publish": { "dir": "/srv" } }),
            ),
        ),
        ("variables that are a list", with("/vars", json!([]))),
    ]
}

fn with_portal(gallery: Value, mut links: Value) -> Value {
    let mut job = email_job("x");
    links["via"] = json!("portal");
    job["gallery"] = gallery;
    job["links"] = links;
    job
}

/// Every field of the format.
fn everything() -> Value {
    json!({
        "v": 1,
        "id": "acme-daily-2026-11-23",
        "from": {
            "connection": "reports", "bucket": "acme-reports", "prefix": "2026/11/23/",
            "keys": [], "include": ["**/*.pdf"], "exclude": ["**/draft-*"],
            "modified_after": "2026-11-22T00:00:00Z", "order": "key", "limit": 500, "when_empty": "refuse"
        },
        "links": {
            "expires_in": "24h", "disposition": "attachment", "filename": "{{customer}} - {{object.name}}",
            "via": "s3", "per_recipient": true
        },
        "email": {
            "to": [
                "Ann Bell <ann@acme.example>",
                { "address": "bo@acme.example", "name": "Bo", "locale": "de", "vars": {} }
            ],
            "cc": ["Cleo <cleo@acme.example>"], "visibility": "to", "list_id": "Daily <daily.sender.example>",
            "reply_to": "reports@sender.example", "subject": "Daily report for {{customer}}", "template": "report"
        },
        "gallery": { "title": "…", "template": "gallery", "publish": { "bucket": "acme-out", "prefix": "galleries/" } },
        "manifest": { "format": "csv", "publish": { "bucket": "acme-out", "prefix": "manifests/" } },
        "vars": { "customer": "ACME" }
    })
}

#[test]
fn the_schema_and_the_parser_take_and_refuse_the_same_jobs() {
    let schema = serde_json::to_value(wire::schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut taken = 0;
    for (what, job) in jobs() {
        let parsed = Job::parse(&job.to_string());
        assert_eq!(
            validator.is_valid(&job),
            parsed.is_ok(),
            "{what}: the parser says {parsed:?}"
        );
        taken += usize::from(parsed.is_ok());
    }
    assert_eq!(taken, 6, "some are taken, and most are refused");
}

/// Walks the schema's own list of fields: each of them, misspelt, is refused by the parser with its right name.
#[test]
fn every_field_of_the_schema_is_offered_for_its_misspelling() {
    let whole = everything();
    let mut fields = 0;
    for (pointer, object) in objects_of(&whole, "") {
        if pointer.ends_with("/vars") {
            continue;
        }
        for name in object.keys() {
            let mut job = whole.clone();
            let object = job.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
            let misspelt = format!("{name}x");
            let value = object.remove(name).unwrap();
            object.insert(misspelt.clone(), value);
            let error = Job::parse(&job.to_string()).unwrap_err().to_string();
            fields += 1;
            if name == "v" {
                continue; // Without its version, nothing of a job can be judged.
            }
            assert!(
                error.contains(&format!("did you mean {name}?")),
                "{pointer}/{misspelt}: {error}"
            );
        }
    }
    assert!(fields > 30, "{fields} fields were tried");
}

fn objects_of<'a>(
    value: &'a Value,
    pointer: &str,
) -> Vec<(String, &'a serde_json::Map<String, Value>)> {
    match value {
        Value::Object(object) => {
            let below = object
                .iter()
                .flat_map(|(name, value)| objects_of(value, &format!("{pointer}/{name}")));
            std::iter::once((pointer.to_owned(), object))
                .chain(below)
                .collect()
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items
                .flat_map(|(index, value)| objects_of(value, &format!("{pointer}/{index}")))
                .collect()
        }
        _ => Vec::new(),
    }
}
