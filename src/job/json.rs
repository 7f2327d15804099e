//! The JSON of a message, within bounds.
//!
//! A value of three bytes takes hundreds in memory (an object with one field is a node of a tree), so a message of
//! 1 MiB could take 100 MB. Therefore the text is counted before any value is built of it.

use serde_json::Value;

use super::{MAX_BODY_BYTES, ParseJobError};
use crate::bounds::{MAX_JSON_NESTING, MAX_JSON_OBJECTS, MAX_JSON_VALUES};
use crate::text::BYTE_ORDER_MARK;

/// Parses JSON, or returns why it is invalid or too large.
pub(super) fn parse(text: &str) -> Result<Value, ParseJobError> {
    if text.len() > MAX_BODY_BYTES {
        return Err(ParseJobError::TooLarge { length: text.len() });
    }
    // Programs of Windows write it, and a parser may ignore it. RFC 8259, 8.1
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    JsonCount::of(text).check()?;
    serde_json::from_str(text).map_err(|source| ParseJobError::NotJson { source })
}

/// How much a JSON text builds; for other text, at least as much as its valid beginning builds.
#[derive(Debug, Default, PartialEq, Eq)]
struct JsonCount {
    objects: usize,
    /// Lists, objects, and all that is in them, as an upper bound: each empty list or object counts twice.
    values: usize,
    /// The deepest nesting of lists and objects.
    nesting: usize,
}

impl JsonCount {
    fn of(text: &str) -> Self {
        let (mut count, mut open) = (Self::default(), 0_usize);
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => skip_string(&mut bytes),
                b'{' | b'[' => {
                    count.objects += usize::from(byte == b'{');
                    count.values += 1;
                    open += 1;
                    count.nesting = count.nesting.max(open);
                }
                b'}' | b']' => open = open.saturating_sub(1),
                b',' => count.values += 1,
                _ => {}
            }
        }
        count.values += 1;
        count
    }

    fn check(&self) -> Result<(), ParseJobError> {
        let bounds = [
            (
                self.nesting,
                MAX_JSON_NESTING,
                "lists and objects inside each other",
            ),
            (self.objects, MAX_JSON_OBJECTS, "objects"),
            (self.values, MAX_JSON_VALUES, "values"),
        ];
        match bounds.into_iter().find(|(count, limit, _)| count > limit) {
            Some((_, limit, what)) => Err(ParseJobError::TooMuch { limit, what }),
            None => Ok(()),
        }
    }
}

/// Skips to the end of a string.
fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_text_is_counted_without_what_stands_in_its_strings() {
        let count = |text: &str| {
            let JsonCount {
                objects,
                values,
                nesting,
            } = JsonCount::of(text);
            (objects, values, nesting)
        };
        assert_eq!(count(r#"{"a":[1,{"b":2}],"c":"{[,\"{,\\"}"#), (2, 6, 3));
        assert_eq!(count(r#""{,""#), (0, 1, 0));
        assert_eq!(count("]}]{"), (1, 2, 1));
        assert_eq!(count(r#"{"\"#), (1, 2, 1));
    }

    #[test]
    fn what_would_take_much_memory_is_refused_before_it_takes_any() {
        let objects = |count: usize| format!("[{}]", vec![r#"{"":0}"#; count].join(","));
        let lists = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let table = [
            (
                objects(MAX_JSON_OBJECTS),
                objects(MAX_JSON_OBJECTS + 1),
                "objects:",
            ),
            (
                lists(MAX_JSON_VALUES - 2),
                lists(MAX_JSON_VALUES),
                "values:",
            ),
            (
                nested(MAX_JSON_NESTING),
                nested(MAX_JSON_NESTING + 1),
                "inside each other:",
            ),
        ];
        for (right, wrong, what) in table {
            parse(&right).unwrap();
            let error = parse(&wrong).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        let wide = vec![json!({ "": 0 }); 116_000];
        assert!(matches!(
            parse(&json!(wide).to_string()),
            Err(ParseJobError::TooMuch { .. })
        ));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Value::from),
            Just(json!(1.5e3)),
            Just(json!(null))
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Counts what was built: objects, values, empty lists and objects.
    fn built(value: &Value) -> (usize, usize, usize) {
        let inner: Vec<&Value> = match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => return (0, 1, 0),
        };
        let own = (
            usize::from(value.is_object()),
            1,
            usize::from(inner.is_empty()),
        );
        let sum =
            |a: (usize, usize, usize), b: (usize, usize, usize)| (a.0 + b.0, a.1 + b.1, a.2 + b.2);
        inner.into_iter().map(built).fold(own, sum)
    }

    proptest! {
        #[test]
        fn a_count_is_what_is_built(value in any_json()) {
            let count = JsonCount::of(&value.to_string());
            let (objects, values, empty) = built(&value);
            prop_assert_eq!((count.objects, count.values), (objects, values + empty));
        }
    }
}
