//! The variables of a job and of its recipients, within bounds.
//!
//! A phrase or a template may repeat a variable in each of ten thousand mails: its size is bounded when the job is read.

use serde_json::{Map, Value};

use super::ParseJobError;
use crate::bounds::{MAX_VAR_BYTES, MAX_VAR_NESTING, MAX_VARS, MAX_VARS_BYTES};

/// Names that phrases and templates define themselves; variables cannot use them.
const RESERVED: [&str; 10] = [
    "recipient",
    "object",
    "job",
    "event",
    "vars",
    "date",
    "year",
    "month",
    "day",
    "utc",
];

/// Checks the names and the size of variables. An error names the field, and does not repeat a variable's name, which may
/// be any text.
pub(super) fn checked(
    field: &str,
    vars: Map<String, Value>,
) -> Result<Map<String, Value>, ParseJobError> {
    if let Some(name) = RESERVED.iter().find(|name| vars.contains_key(**name)) {
        let reason = format!(
            "is a reserved name ({}): choose another",
            RESERVED.join(", ")
        );
        return Err(ParseJobError::field(format!("{field}.{name}"), reason));
    }
    let mut size = VarsSize::default();
    size.add_fields(&vars, 0)
        .map_err(|reason| ParseJobError::field(field, reason))?;
    Ok(vars)
}

/// How much was counted.
#[derive(Default)]
struct VarsSize {
    values: usize,
    bytes: usize,
}

impl VarsSize {
    fn add_fields(&mut self, fields: &Map<String, Value>, depth: usize) -> Result<(), String> {
        for (name, value) in fields {
            self.add_text(name)?;
            self.add(value, depth)?;
        }
        Ok(())
    }

    fn add(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        self.values += 1;
        if self.values > MAX_VARS {
            return Err(format!("has more than {MAX_VARS} values: remove some"));
        }
        if depth > MAX_VAR_NESTING {
            return Err(format!(
                "has more than {MAX_VAR_NESTING} lists and objects inside each other: make it flatter"
            ));
        }
        match value {
            Value::String(text) => self.add_text(text),
            Value::Array(items) => items.iter().try_for_each(|item| self.add(item, depth + 1)),
            Value::Object(fields) => self.add_fields(fields, depth + 1),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    fn add_text(&mut self, text: &str) -> Result<(), String> {
        if text.len() > MAX_VAR_BYTES {
            return Err(format!(
                "has a text of {} bytes: at most {MAX_VAR_BYTES} are allowed",
                text.len()
            ));
        }
        self.bytes += text.len();
        if self.bytes > MAX_VARS_BYTES {
            return Err(format!(
                "has texts of more than {MAX_VARS_BYTES} bytes together: shorten them"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_have_bounds_and_an_error_repeats_none_of_them() {
        let secret = "ann.secret@acme.example";
        let nested = (0..10).fold(json!(secret), |inner, _| json!([inner]));
        let table = [
            (
                json!({ "a": "x".repeat(MAX_VAR_BYTES + 1) }),
                "has a text of",
            ),
            (json!({ "x".repeat(MAX_VAR_BYTES + 1): 1 }), "has a text of"),
            (
                json!({ "a": vec![0; MAX_VARS] }),
                "has more than 1000 values",
            ),
            (
                json!({ "a": vec![json!([]); MAX_VARS] }),
                "has more than 1000 values",
            ),
            (
                json!({ "a": vec!["x".repeat(MAX_VAR_BYTES); 5] }),
                "bytes together",
            ),
            (json!({ secret: nested }), "inside each other"),
            (json!({ secret: { "vars": 1 }, "job": 1 }), "reserved name"),
        ];
        for (vars, reason) in table {
            let error = checked("vars", vars.as_object().unwrap().clone());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains(secret) && error.len() < 300, "{error}");
        }
        let largest =
            json!({ "a": vec!["x".repeat(MAX_VAR_BYTES - 2); 4], "deep": [[[[[[[1]]]]]]] });
        assert!(checked("vars", largest.as_object().unwrap().clone()).is_ok());
    }
}
