//! What is wrong with the JSON of a job, and what to write instead.
//!
//! serde's messages name types of Rust, and repeat the value. A value may be an address or a link, and reasons are logged, so the
//! reason is made of serde's own words and of examples; the value is only in what the terminal shows.

use serde_json::Value;

use super::{JobFields, VERSION};
use crate::bounds::MAX_REASON_BYTES;
use crate::job::ParseJobError;
use crate::text::{nearest, printable};

/// What to write into a field, by its name. The examples are those of `docs/jobs`.
const EXAMPLES: [(&str, &str); 22] = [
    ("v", "1"),
    ("id", r#""daily-2026-11-23""#),
    (
        "from",
        r#"{ "connection": "reports", "bucket": "acme-reports", "prefix": "2026/" }"#,
    ),
    ("connection", r#""reports""#),
    ("bucket", r#""acme-reports""#),
    ("keys", r#"["2026/q3.pdf"]"#),
    ("include", r#"["*.pdf"]"#),
    ("exclude", r#"["*.tmp"]"#),
    ("limit", "100"),
    ("links", r#"{ "expires_in": "24h" }"#),
    ("per_recipient", "true"),
    ("email", r#"{ "to": ["ann@acme.example"] }"#),
    ("to", r#"["ann@acme.example"]"#),
    ("cc", r#"["bob@acme.example"]"#),
    ("address", r#""ann@acme.example""#),
    (
        "gallery",
        r#"{ "publish": { "bucket": "acme-pages", "prefix": "q3/" } }"#,
    ),
    (
        "manifest",
        r#"{ "publish": { "bucket": "acme-pages", "prefix": "q3/" } }"#,
    ),
    (
        "zip",
        r#"{ "publish": { "bucket": "acme-out", "prefix": "zips/" } }"#,
    ),
    ("publish", r#"{ "bucket": "acme-pages", "prefix": "q3/" }"#),
    ("vars", r#"{ "customer": "Acme" }"#),
    ("scheduled_at", r#""2026-11-23T06:00:00Z""#),
    ("modified_after", r#""2026-11-23T06:00:00Z""#),
];

/// Words of other programs, and the word of this format that means the same.
const MEANINGS: [(&str, &str); 21] = [
    ("size", "largest"),
    ("date", "newest"),
    ("time", "newest"),
    ("modified", "newest"),
    ("last_modified", "newest"),
    ("latest", "newest"),
    ("alphabetical", "name"),
    ("natural", "name"),
    ("download", "attachment"),
    ("show", "inline"),
    ("json", "jsonl"),
    ("txt", "urls"),
    ("text", "urls"),
    ("fail", "refuse"),
    ("error", "refuse"),
    ("ignore", "skip"),
    ("ttl", "expires_in"),
    ("recipients", "to"),
    ("language", "locale"),
    ("path", "prefix"),
    ("patterns", "include"),
];

/// Reads the JSON of a job; the error names the field and says what to write.
pub fn from_value(value: Value) -> Result<JobFields, ParseJobError> {
    let Value::Object(fields) = &value else {
        return Err(ParseJobError::NotAnObject);
    };
    // Before the fields: a job of another version has other fields, and "unknown field" would mislead.
    let version = fields.get("v").ok_or(ParseJobError::NoVersion)?;
    if version.as_u64() != Some(VERSION) {
        let found = match version.as_u64() {
            Some(number) => number.to_string(),
            None => "not a whole number".to_owned(),
        };
        return Err(ParseJobError::Version { found });
    }
    serde_path_to_error::deserialize(value)
        .map_err(|error| unreadable(error.path(), &error.inner().to_string()))
}

/// The error about a field that serde says this about.
fn unreadable(path: &serde_path_to_error::Path, message: &str) -> ParseJobError {
    let mut segments: Vec<String> = path.iter().map(ToString::to_string).collect();
    if message.starts_with("unknown field") {
        // The name is the message's, and may be an address.
        segments.pop();
    }
    let is_name = |segment: &&String| !segment.starts_with('[');
    let name = segments.iter().rev().find(is_name);
    let name = name.map_or("", String::as_str);
    let is_entry = segments.last().is_some_and(|last| last.starts_with('['));
    let mistake = Mistake::of(message, name, is_entry);
    let said = printable(&mistake.said(message), MAX_REASON_BYTES).into_owned();
    let reason = mistake.reason;
    match segments.is_empty() {
        true => ParseJobError::Shape { reason, said },
        false => ParseJobError::Unreadable {
            field: joined(&segments),
            reason,
            said,
        },
    }
}

/// `email.to[0].locale`.
fn joined(segments: &[String]) -> String {
    let mut field = String::new();
    for segment in segments {
        if !field.is_empty() && !segment.starts_with('[') {
            field.push('.');
        }
        field.push_str(segment);
    }
    field
}

/// A message of serde, in our words.
struct Mistake<'a> {
    /// Without the value or the name that was written.
    reason: String,
    /// What was written, as JSON, if serde repeats it.
    value: Option<&'a str>,
    /// Whether the value belongs into a list.
    is_entry_of_list: bool,
}

impl<'a> Mistake<'a> {
    /// Reads a message about the field `name`, or about an entry of its list.
    ///
    /// The text after the last `, expected` is serde's own. A message of an unknown form is replaced as a whole.
    fn of(message: &'a str, name: &str, is_entry: bool) -> Self {
        let reason = |reason: String| Mistake {
            reason,
            value: None,
            is_entry_of_list: false,
        };
        let missing = message.strip_prefix("missing field `");
        if let Some(missing) = missing.and_then(|rest| rest.strip_suffix('`')) {
            return reason(match example(missing) {
                Some(example) => format!("{message}: write \"{missing}\": {example}"),
                None => message.to_owned(),
            });
        }
        // A quantity's sentence begins with the value, in quotes.
        let quantity = message
            .strip_prefix('"')
            .and_then(|rest| rest.rsplit_once("\" is not a "));
        if let Some((_, form)) = quantity {
            return reason(format!("it is not a {form}"));
        }
        let parts = message.rsplit_once(", expected ");
        let parts = parts.and_then(|(what, expected)| {
            let (kind, value) = what.split_once([':', '`'])?;
            Some((kind.trim_end(), value.trim_start(), expected))
        });
        match parts {
            Some(("unknown field", _, expected)) => {
                let meant = meant(message).or_else(|| nearest(message));
                let meant = meant.map(|right| format!("; did you mean {right}?"));
                reason(format!(
                    "unknown field, expected {expected}{}",
                    meant.unwrap_or_default()
                ))
            }
            Some(("unknown variant", _, expected)) => {
                let rights: Vec<String> =
                    names(expected).map(|right| format!("{right:?}")).collect();
                let meant = meant(message).or_else(|| nearest(message));
                let meant = meant.map(|right| format!("; did you mean {right:?}?"));
                reason(format!(
                    "it is none of {}{}",
                    rights.join(", "),
                    meant.unwrap_or_default()
                ))
            }
            Some(("invalid type" | "invalid value", value, expected)) => {
                let found = kind_of_json(value);
                let name = if is_entry { "" } else { name };
                Mistake {
                    reason: format!("it is {found}, and {}", wanted(expected, name)),
                    value: value
                        .split_once(' ')
                        .map(|(_, value)| value.trim_matches('`')),
                    is_entry_of_list: expected == "a sequence" && found == "a text",
                }
            }
            _ => reason(match example(name) {
                Some(example) => format!("it is not what this field takes: write it as {example}"),
                None => "it is not what this field takes (see `handout schema`)".to_owned(),
            }),
        }
    }

    /// The reason with what was written, for the terminal.
    fn said(&self, message: &str) -> String {
        match self.value {
            Some(value) if self.is_entry_of_list => {
                format!("{value}; write [{value}]")
            }
            _ => match meant(message).or_else(|| nearest(message)) {
                Some(right) => format!("{message}; did you mean {right}?"),
                None => message.to_owned(),
            },
        }
    }
}

fn example(name: &str) -> Option<&'static str> {
    let found = EXAMPLES.iter().find(|(field, _)| *field == name);
    found.map(|(_, example)| *example)
}

/// What serde found, by its words for a value of JSON.
fn kind_of_json(value: &str) -> &'static str {
    match value.split([' ', '`', '"']).next().unwrap_or_default() {
        "string" => "a text",
        "integer" | "floating" => "a number",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "an object",
        "null" | "unit" => "null",
        _ => "something else",
    }
}

/// What a field takes and an example, by serde's words for it.
fn wanted(expected: &str, name: &str) -> String {
    let example = |otherwise| example(name).unwrap_or(otherwise);
    match expected {
        "a sequence" => format!("a list is wanted: write {}", example(r#"["…"]"#)),
        "a map" => format!(
            "an object is wanted: write {}",
            example(r#"{ "name": "value" }"#)
        ),
        "a string" | "string or map" | "a variant identifier" => {
            "a text is wanted: write it in quotation marks".to_owned()
        }
        "a boolean" => "true or false is wanted, without quotation marks".to_owned(),
        "u64" | "u32" | "usize" => {
            "a whole number from 0 on is wanted: write it without quotation marks, such as 100"
                .to_owned()
        }
        _ if expected.starts_with("struct ") => {
            format!(
                "an object is wanted: write {}",
                example(r#"{ "name": "value" }"#)
            )
        }
        _ => format!("{expected} is wanted"),
    }
}

/// The names that serde lists between backticks.
fn names(expected: &str) -> impl Iterator<Item = &str> {
    expected.split('`').skip(1).step_by(2)
}

/// The right name for one that other programs use, of those that serde lists.
fn meant(message: &str) -> Option<&'static str> {
    let (what, expected) = message.rsplit_once(", expected ")?;
    let wrong = what.split('`').nth(1)?;
    let is_listed = |right: &str| names(expected).any(|one| one == right);
    let mut known = MEANINGS.iter().filter(|(word, _)| *word == wrong);
    known
        .find(|(_, right)| is_listed(right))
        .map(|(_, right)| *right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_repeats_no_value_and_no_name_of_the_job() {
        let secret = "ann.secret@acme.example";
        let tricky = format!("x`y`{secret}`, expected {secret}\" is not a {secret}\n");
        for text in [secret, &tricky] {
            let jobs = [
                json!({ "v": 1, "id": "x", text: 1 }),
                json!({ "v": 1, "id": "x", "from": { text: 1 } }),
                json!({ "v": 1, "id": "x", "from": text }),
                json!({ "v": 1, "id": "x", "on_doubt": text }),
                json!({ "v": 1, "id": "x", "scheduled_at": text }),
                json!({ "v": 1, "id": "x", "vars": text }),
                json!({ "v": 1, "id": "x", "links": { "expires_in": secret } }),
                json!({ "v": 1, "id": "x", "email": { "to": [{ text: 1 }] } }),
                json!({ "v": 1, "id": { text: 1 } }),
                json!({ "v": text }),
                json!({ text: 1 }),
            ];
            for job in jobs {
                let error = from_value(job.clone()).unwrap_err();
                let logged = crate::text::chain(&error);
                assert!(!logged.contains("secret"), "{job}: {logged}");
            }
        }
        let error = from_value(json!({ "v": 1, "id": "x", "on_doubt": secret })).unwrap_err();
        assert!(
            error.said().unwrap().contains(secret),
            "the terminal shows it"
        );
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        let job = |change: &dyn Fn(&mut Value)| {
            let mut job = json!({
                "v": 1, "id": "x",
                "from": { "connection": "local", "bucket": "reports", "prefix": "" },
                "email": { "to": ["ann@acme.example"] },
            });
            change(&mut job);
            job
        };
        let set = |pointer: &'static str, value: Value| {
            job(&|job: &mut Value| {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                job.pointer_mut(parent).unwrap()[name] = value.clone();
            })
        };
        let without = |parent: &'static str, name: &'static str| {
            job(&|job: &mut Value| {
                let parent = job.pointer_mut(parent).unwrap();
                parent.as_object_mut().unwrap().remove(name);
            })
        };
        let table = [
            set("/email/to", json!("carol@acme.example")),
            set("/email/to", json!({ "address": "carol@acme.example" })),
            set("/email/to", json!([7])),
            set("/email/cc", json!("carol@acme.example")),
            set("/from/keys", json!("2026/q3.pdf")),
            set("/from/include", json!("*.pdf")),
            set("/from/order", json!("size")),
            set("/from/order", json!("date")),
            set("/from/order", json!("newst")),
            set("/from/order", json!(5)),
            set("/from/limit", json!("10")),
            set("/from/limit", json!(-1)),
            set("/from/modified_after", json!("yesterday")),
            set("/scheduled_at", json!("2026-11-23")),
            set("/email", json!("carol@acme.example")),
            set("/email/recipients", json!([])),
            set("/links", json!({ "per_recipient": "no" })),
            set("/links", json!({ "expires_in": true })),
            set("/links", json!({ "ttl": "1h" })),
            set("/manifest", json!({})),
            set("/manifest", json!({ "format": "json", "publish": {} })),
            set("/vars", json!([])),
            set("/id", json!(7)),
            set("/v", json!("1")),
            set("/v", json!(2)),
            without("", "v"),
            without("", "id"),
            without("", "from"),
            without("/from", "bucket"),
            without("/email", "to"),
        ]
        .map(|job| from_value(job).unwrap_err().to_string());
        assert!(!table.concat().contains("carol"));
        insta::assert_snapshot!(table.join("\n"), @r#"
        the job's field email.to cannot be read: it is a text, and a list is wanted: write ["ann@acme.example"]
        the job's field email.to cannot be read: unknown field, expected `list`
        the job's field email.to[0] cannot be read: it is a number, and an address such as "Ann Bell <ann@acme.example>", or an object with an "address" is wanted
        the job's field email.cc cannot be read: it is a text, and a list is wanted: write ["bob@acme.example"]
        the job's field from.keys cannot be read: it is a text, and a list is wanted: write ["2026/q3.pdf"]
        the job's field from.include cannot be read: it is a text, and a list is wanted: write ["*.pdf"]
        the job's field from.order cannot be read: it is none of "key", "newest", "oldest", "largest", "name"; did you mean "largest"?
        the job's field from.order cannot be read: it is none of "key", "newest", "oldest", "largest", "name"; did you mean "newest"?
        the job's field from.order cannot be read: it is none of "key", "newest", "oldest", "largest", "name"; did you mean "newest"?
        the job's field from.order cannot be read: it is a number, and a text is wanted: write it in quotation marks
        the job's field from.limit cannot be read: it is a text, and a whole number from 0 on is wanted: write it without quotation marks, such as 100
        the job's field from.limit cannot be read: it is a number, and a whole number from 0 on is wanted: write it without quotation marks, such as 100
        the job's field from.modified_after cannot be read: it is not what this field takes: write it as "2026-11-23T06:00:00Z"
        the job's field scheduled_at cannot be read: it is not what this field takes: write it as "2026-11-23T06:00:00Z"
        the job's field email cannot be read: it is a text, and an object is wanted: write { "to": ["ann@acme.example"] }
        the job's field email cannot be read: unknown field, expected one of `to`, `cc`, `visibility`, `list_id`, `reply_to`, `subject`, `message`, `template`, `relay`, `overflow`; did you mean to?
        the job's field links.per_recipient cannot be read: it is a text, and true or false is wanted, without quotation marks
        the job's field links.expires_in cannot be read: it is true or false, and a duration such as "24h", or a whole number of seconds is wanted
        the job's field links cannot be read: unknown field, expected one of `expires_in`, `disposition`, `filename`, `via`, `per_recipient`, `sign_in`, `open`; did you mean expires_in?
        the job's field manifest cannot be read: missing field `publish`: write "publish": { "bucket": "acme-pages", "prefix": "q3/" }
        the job's field manifest.format cannot be read: it is none of "csv", "jsonl", "urls", "aria2"; did you mean "jsonl"?
        the job's field vars cannot be read: it is a list, and an object is wanted: write { "customer": "Acme" }
        the job's field id cannot be read: it is a number, and a text is wanted: write it in quotation marks
        the job's version "v" is not a whole number: this program reads version 1, so write "v": 1
        the job's version "v" is 2: this program reads version 1, so write "v": 1
        the job has no version: write "v": 1
        the job cannot be read: missing field `id`: write "id": "daily-2026-11-23"
        the job cannot be read: missing field `from`: write "from": { "connection": "reports", "bucket": "acme-reports", "prefix": "2026/" }
        the job's field from cannot be read: missing field `bucket`: write "bucket": "acme-reports"
        the job's field email cannot be read: missing field `to`: write "to": ["ann@acme.example"]
        "#);
        let error = from_value(set("/email/to", json!("carol@acme.example"))).unwrap_err();
        assert_eq!(
            error.said(),
            Some(r#""carol@acme.example"; write ["carol@acme.example"]"#)
        );
    }

    #[test]
    fn a_long_wrong_name_or_value_is_bounded_on_the_terminal_too() {
        let long = "\u{1b}x".repeat(200_000);
        let error = from_value(json!({ "v": 1, "from": { &long: 1 } })).unwrap_err();
        let said = error.said().unwrap();
        assert!(said.len() <= MAX_REASON_BYTES && !said.contains('\u{1b}'));
    }
}
