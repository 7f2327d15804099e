//! Lines as a table, for spreadsheets.

use serde_json::{Map, Value};

use crate::text::csv::{self, push_text};

/// The columns of fields; a line that has no such field has an empty cell.
const COLUMNS: [&str; 24] = [
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
    "outcome",
    "code",
    "words",
    "reason",
    "by",
];

/// The last column: the fields without a column, as a JSON object.
const MORE: &str = "more";

/// Fields that are about the log itself, and say nothing of what happened.
const OF_THE_CHAIN: [&str; 3] = ["v", "prev", "seal"];

/// The first row.
pub fn heading() -> String {
    let mut columns = COLUMNS.to_vec();
    columns.push(MORE);
    csv::heading(&columns)
}

/// A line as a row with its end; no cell is a formula, and no fact of the line is missing.
pub fn row(line: &str) -> Result<String, serde_json::Error> {
    let mut line: Map<String, Value> = serde_json::from_str(line)?;
    let mut row = String::new();
    for (index, column) in COLUMNS.iter().enumerate() {
        if index > 0 {
            row.push(',');
        }
        match line.remove(*column) {
            Some(Value::String(text)) => push_text(&text, &mut row),
            None | Some(Value::Null) => {}
            Some(Value::Number(number)) => row.push_str(&number.to_string()),
            // Handout writes no line with such a field; a line that was changed by hand may have it.
            Some(other) => push_text(&other.to_string(), &mut row),
        }
    }
    row.push(',');
    line.retain(|field, _| !OF_THE_CHAIN.contains(&field.as_str()));
    if !line.is_empty() {
        push_text(&Value::Object(line).to_string(), &mut row);
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
        insta::assert_snapshot!(row.trim_end(), @r#""t","issue",,,,,,,"'=HYPERLINK(""x""),1",,,7,,,,,,,3,,,,,,"#);
        assert_eq!(row.matches(',').count() - 1, heading().matches(',').count());
    }

    #[test]
    fn every_fact_of_a_line_is_in_its_row() {
        let row = row(r#"{"v":2,"ev":"outcome","ts":"t","rid":"r","n":1,"outcome":"rejected","code":550,"words":"5.1.1 no such user","message_id":"<a@b>","prev":"sha256:x","seal":"s"}"#).unwrap();
        insta::assert_snapshot!(row.trim_end(), @r#""t","outcome",,,"r",,,,,,,,,,,,,,,"rejected",550,"5.1.1 no such user",,,"{""message_id"":""<a@b>"",""n"":1}""#);
        let row = super::row(r#"{"v":2,"ev":"opened","ts":"t","how":"button","link_id":"l","open":"o","prev":"p","seal":"s"}"#).unwrap();
        assert!(
            row.contains(r#""{""how"":""button"",""open"":""o""}""#),
            "{row}"
        );
    }
}
