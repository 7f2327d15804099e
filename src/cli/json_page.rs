//! Generates the page of what commands print with `--json`. `UPDATE=1 cargo test --locked reference` writes it.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::schemas;

const BEGIN: &str = "\
# JSON of commands

To read what a command prints with `--json` in a program of your own. This page is made from the JSON Schemas that `handout schema --of NAME` prints, such as
`handout schema --of job-run`. Fields may be added, and a reader must pass over those that it does not know; their names do not change.

`handout restore` and `extend` print the same as `revoke`; `handout schedule run` the same as `job submit`, with `--rehearse` as `job run`, where it runs at once; `schedule preview` as `job preview`. `handout presign`, and `explain` for a link that the portal did not make, print JSON that has no schema yet.
";

/// A field of an object.
struct JsonField {
    kinds: Vec<String>,
    meaning: String,
    is_required: bool,
}

#[test]
fn the_reference_of_json_is_what_the_schemas_say() {
    let mut page = BEGIN.to_owned();
    for output in schemas::all() {
        let schema = output.schema.as_value();
        let command = schema["title"].as_str().unwrap_or_default();
        let about = format!("`{command}`. {}", description(schema));
        write!(page, "\n## {}\n\n{}\n", output.name, about.trim_end())
            .expect("writing to a string does not fail");
        let schema_of_rows = schema.get("items").map(|items| resolved(schema, items));
        if schema_of_rows.is_some() {
            page.push_str("\nA list; each entry has:\n");
        }
        add_object(&mut page, schema, schema_of_rows.unwrap_or(schema));
        let none = serde_json::Map::new();
        let defs = schema.get("$defs").and_then(Value::as_object);
        for (name, object) in defs.unwrap_or(&none) {
            let is_rows = schema_of_rows.is_some_and(|rows| std::ptr::eq(rows, object));
            if !is_rows && is_object(object) {
                let about = match description(object) {
                    text if text.is_empty() => text,
                    text => format!("\n{text}\n"),
                };
                write!(page, "\n### {}: {name}\n{about}", output.name)
                    .expect("writing to a string does not fail");
                add_object(&mut page, schema, object);
            }
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    if env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == page,
        "docs/json.md differs from the schemas: write it with `UPDATE=1 cargo test --locked reference`"
    );
}

#[test]
fn each_output_has_a_name_of_its_own_and_its_schema_is_found_by_it() {
    let mut names: Vec<_> = schemas::all().iter().map(|output| output.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(schemas::named("job-run").is_ok());
    let unknown = schemas::named("jobrun").unwrap_err().to_string();
    assert!(unknown.contains("job-run"), "{unknown}");
}

fn description(of: &Value) -> String {
    let text = of.get("description").and_then(Value::as_str);
    text.unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn resolved<'a>(schema: &'a Value, of: &'a Value) -> &'a Value {
    match of.get("$ref").and_then(Value::as_str) {
        Some(reference) => schema
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or(of),
        None => of,
    }
}

fn is_object(of: &Value) -> bool {
    of.get("properties").is_some()
        || variants(of).any(|variant| variant.get("properties").is_some())
}

fn variants(of: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf", "allOf"]
        .into_iter()
        .filter_map(|name| of.get(name)?.as_array())
        .flatten()
}

fn add_object(page: &mut String, schema: &Value, object: &Value) {
    let mut fields = BTreeMap::new();
    let mut order = Vec::new();
    collect(schema, object, &mut fields, &mut order);
    if order.is_empty() {
        return;
    }
    page.push_str("\n| field | type | meaning |\n|---|---|---|\n");
    for name in order {
        let field = &fields[&name];
        let absent = match field.is_required {
            true => "",
            false => "; may be absent",
        };
        let kinds = field.kinds.join(", ");
        let meaning = field.meaning.replace('|', "\\|");
        writeln!(page, "| `{name}` | {kinds}{absent} | {meaning} |")
            .expect("writing to a string does not fail");
    }
}

/// The fields of an object, and of the variants that it may have.
fn collect(
    schema: &Value,
    object: &Value,
    fields: &mut BTreeMap<String, JsonField>,
    order: &mut Vec<String>,
) {
    let required = object.get("required").and_then(Value::as_array);
    let properties = object.get("properties").and_then(Value::as_object);
    for (name, of) in properties.into_iter().flatten() {
        let kind = kind(schema, of);
        let is_required =
            required.is_some_and(|names| names.iter().any(|it| it.as_str() == Some(name)));
        match fields.get_mut(name) {
            Some(field) if field.kinds.contains(&kind) => {}
            Some(field) => field.kinds.push(kind),
            None => {
                order.push(name.clone());
                let field = JsonField {
                    kinds: vec![kind],
                    meaning: description(of),
                    is_required,
                };
                fields.insert(name.clone(), field);
            }
        }
    }
    for variant in variants(object) {
        collect(schema, resolved(schema, variant), fields, order);
    }
}

/// The type of a value in words.
fn kind(schema: &Value, of: &Value) -> String {
    let name = of.get("$ref").and_then(Value::as_str);
    let name = name.and_then(|reference| reference.rsplit('/').next());
    if let Some(name) = name {
        let target = resolved(schema, of);
        return match is_object(target) {
            true => name.to_owned(),
            false => kind(schema, target),
        };
    }
    if let Some(value) = of.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = of.get("enum").and_then(Value::as_array) {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    let any: Vec<String> = variants(of).map(|variant| kind(schema, variant)).collect();
    if !any.is_empty() {
        return any.join(" or ");
    }
    let one = |name: &str| match (name, of.get("items")) {
        ("array", Some(items)) => format!("list of {}", kind(schema, items)),
        ("array", None) => "list".to_owned(),
        _ => name.to_owned(),
    };
    match of.get("type") {
        Some(Value::String(name)) => one(name),
        Some(Value::Array(names)) => {
            let names: Vec<String> = names.iter().filter_map(Value::as_str).map(one).collect();
            names.join(" or ")
        }
        _ => "any".to_owned(),
    }
}
