//! Lines as a table, for spreadsheets.

use serde_json::Value;

use crate::text::csv::{self, push_text};

/// The columns; a line that has no such field has an empty cell.
const COLUMNS: [&str; 19] = [
    "ts",
    "ev",
    "job",
    "message",
    "rid",
    "to",
    "connection",
    "bucket",
    "key",
    "version",
    "etag",
    "size",
    "link_id",
    "signed_at",
    "expires_at",
    "bound",
    "access_key_id",
    "stream",
    "seq",
];

/// The first row.
pub fn heading() -> String {
    csv::heading(&COLUMNS)
}

/// A line as a row with its end; no cell is a formula.
pub fn row(line: &str) -> Result<String, serde_json::Error> {
    let line: Value = serde_json::from_str(line)?;
    let mut row = String::new();
    for (index, column) in COLUMNS.iter().enumerate() {
        if index > 0 {
            row.push(',');
        }
        match &line[*column] {
            Value::String(text) => push_text(text, &mut row),
            Value::Null => {}
            number @ Value::Number(_) => row.push_str(&number.to_string()),
            // Handout writes no line with such a field; a line that was changed by hand may have it.
            other => push_text(&other.to_string(), &mut row),
        }
    }
    Ok(row + "\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_cell_and_never_a_formula() {
        let row =
            row(r#"{"ts":"t","ev":"issue","key":"=HYPERLINK(\"x\"),1","size":7,"seq":3}"#).unwrap();
        insta::assert_snapshot!(row.trim_end(), @r#""t","issue",,,,,,,"'=HYPERLINK(""x""),1",,,7,,,,,,,3"#);
        assert_eq!(row.matches(',').count() - 1, heading().matches(',').count());
    }
}
