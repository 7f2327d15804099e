//! The JSON Schema of a job as a page: a table for each object.

use std::fmt::Write;

use serde_json::Value;

use super::cell;

const BEGIN: &str = "\
# Job reference

To look up a field of a job. This page is made from the JSON Schema that `handout schema` prints. A field that is not known is an error. [Jobs and plans](../concepts/jobs.md)
says what the fields mean together.
";

pub(super) fn page() -> String {
    let schema = serde_json::to_value(handout::job::wire::schema()).unwrap();
    let mut page = BEGIN.to_owned();
    let mut objects = vec![("job".to_owned(), schema.clone())];
    let mut next = 0;
    while let Some((name, object)) = objects.get(next).cloned() {
        write!(page, "\n## {name}\n\n{}\n", description(&object)).unwrap();
        page.push_str("\n| field | type | default | meaning |\n|---|---|---|---|\n");
        for (field, of) in fields(&object) {
            row(&mut page, &schema, &object, &field, &of);
            for (name, found) in objects_of(&schema, &of) {
                if objects.iter().all(|(known, _)| *known != name) {
                    objects.push((name, found));
                }
            }
        }
        next += 1;
    }
    page
}

fn row(page: &mut String, schema: &Value, object: &Value, field: &str, of: &Value) {
    let default = match of.get("default") {
        Some(default) => format!("`{default}`"),
        None if is_required(object, field) => "required".to_owned(),
        None => String::new(),
    };
    let kind = kind(schema, of);
    let mut meaning = description(of);
    for (value, text) in choices(schema, of) {
        write!(meaning, " `{value}`: {}", in_sentence(&text)).unwrap();
    }
    meaning.push_str(&bounds(of));
    writeln!(
        page,
        "| `{field}` | {kind} | {default} | {} |",
        cell(&meaning)
    )
    .unwrap();
}

/// Those that must be there first.
fn fields(object: &Value) -> Vec<(String, Value)> {
    let fields = object["properties"].as_object().unwrap();
    let mut fields: Vec<_> = fields.clone().into_iter().collect();
    fields.sort_by_key(|(name, _)| !is_required(object, name));
    fields
}

fn is_required(object: &Value, field: &str) -> bool {
    let required = object["required"].as_array();
    required.is_some_and(|names| names.iter().any(|name| name == field))
}

/// The definition that a reference names, such as `full recipient`, and what it is.
fn definition<'a>(schema: &'a Value, of: &Value) -> Option<(String, &'a Value)> {
    let name = of.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    Some((words, &schema["$defs"][name]))
}

/// What a schema may be, without null.
fn variants(of: &Value) -> Vec<Value> {
    let many = of.get("anyOf").and_then(Value::as_array);
    let many = many.cloned().unwrap_or_else(|| vec![of.clone()]);
    many.into_iter().filter(|of| of["type"] != "null").collect()
}

/// The objects that a field may be, or have in its list.
fn objects_of(schema: &Value, of: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for of in variants(of) {
        if let Some((name, object)) = definition(schema, &of) {
            if object.get("properties").is_some() {
                found.push((name, object.clone()));
            } else {
                found.extend(
                    variants(object)
                        .iter()
                        .flat_map(|of| objects_of(schema, of)),
                );
            }
        } else if let Some(items) = of.get("items") {
            found.extend(objects_of(schema, items));
        }
    }
    found
}

fn kind(schema: &Value, of: &Value) -> String {
    let kinds: Vec<String> = variants(of).iter().map(|of| one_kind(schema, of)).collect();
    kinds.join(" or ")
}

fn one_kind(schema: &Value, of: &Value) -> String {
    if let Some((name, object)) = definition(schema, of) {
        return match object {
            object if object.get("properties").is_some() => {
                format!("[object](#{})", name.replace(' ', "-"))
            }
            object if object.get("oneOf").is_some() => "string".to_owned(),
            object => kind(schema, object),
        };
    }
    let name = match &of["type"] {
        Value::Array(names) => names.iter().find(|name| *name != "null"),
        name => Some(name),
    };
    let name = name.and_then(Value::as_str).unwrap();
    match (name, of.get("format").and_then(Value::as_str)) {
        ("array", _) => format!("list of {}", kind(schema, &of["items"])),
        ("string", Some("date-time")) => "instant".to_owned(),
        (name, _) => name.to_owned(),
    }
}

/// The values of an enumeration, each with what it means.
fn choices(schema: &Value, of: &Value) -> Vec<(String, String)> {
    let variants = variants(of);
    let found = variants.iter().filter_map(|of| definition(schema, of));
    let choices = found.filter_map(|(_, of)| of["oneOf"].as_array());
    let choices = choices.flatten().map(|choice| {
        let value = choice["const"].as_str().unwrap().to_owned();
        (value, description(choice))
    });
    choices.collect()
}

fn bounds(of: &Value) -> String {
    let named = [
        ("minimum", "At least"),
        ("minLength", "Shortest:"),
        ("minItems", "Fewest:"),
        ("maximum", "At most"),
        ("maxLength", "Longest:"),
        ("maxItems", "Most:"),
    ];
    let bounds = named.into_iter().filter_map(|(key, words)| {
        let bound = of.get(key)?.as_u64()?;
        Some(format!(" {words} {bound}."))
    });
    bounds.collect()
}

fn description(of: &Value) -> String {
    let text = of.get("description").and_then(Value::as_str);
    text.unwrap_or_default().replace('\n', " ")
}

/// `Saves it.` behind a colon; `S3 itself.` keeps its capital.
fn in_sentence(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some('a'..='z' | ' ')) => first.to_lowercase().to_string() + chars.as_str(),
        _ => text.to_owned(),
    }
}
