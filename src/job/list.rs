//! The rows of a list of recipients, read one after the other: CSV (RFC 4180) with a header, or JSON Lines.
//!
//! A row that is wrong is named by its line and its column, and its content is not repeated: lists are full of addresses.

use std::io::{self, BufRead, Read};

use csv_core::ReadRecordResult;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::wire::{FullRecipient, RecipientFields};
use super::{ParseJobError, Recipient, email, json};
use crate::bounds::{MAX_LIST_BYTES, MAX_LIST_COLUMNS, MAX_LIST_ROWS, MAX_ROW_BYTES};
use crate::text::printable;

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ListFormat {
    /// A table with a header (RFC 4180).
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// A row that is no recipient.
#[derive(
    Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, schemars::JsonSchema,
)]
#[error("row {row}, {column}: {reason}")]
pub struct BadRow {
    /// The line of the file, or the entry of a list in the configuration, from 1.
    pub row: u64,
    /// The column, such as `address`.
    pub column: String,
    /// What is wrong, without the content.
    pub reason: String,
}

/// Why a list cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// A row is wrong; the next can be read.
    #[error(transparent)]
    Bad(#[from] BadRow),
    /// The list as a whole is wrong.
    #[error("{0}")]
    Whole(String),
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The recipients of a list, in its order.
pub type RecipientRows = Box<dyn Iterator<Item = Result<Recipient, RowsError>> + Send>;

/// Reads the rows of a file.
pub fn rows(format: ListFormat, file: impl Read + Send + 'static) -> RecipientRows {
    let mut file = io::BufReader::with_capacity(MAX_ROW_BYTES, file.take(MAX_LIST_BYTES + 1));
    let wrong = match file.fill_buf() {
        Ok(beginning) if is_utf16(beginning) => Some(RowsError::Whole(UTF_16.to_owned())),
        Ok(_) => None,
        Err(error) => Some(error.into()),
    };
    if let Some(wrong) = wrong {
        return Box::new(std::iter::once(Err(wrong)));
    }
    match format {
        ListFormat::Csv => Box::new(CsvRows::new(file)),
        ListFormat::Jsonl => Box::new(JsonRows {
            file,
            row: 0,
            is_over: false,
        }),
    }
}

/// The rows of a list that the configuration contains.
pub fn entries(entries: Vec<Value>) -> RecipientRows {
    let numbered = (1..).zip(entries);
    Box::new(numbered.map(|(row, entry)| Ok(recipient(row, entry)?)))
}

/// A recipient as a row of JSON: an address, or an object.
fn recipient(row: u64, value: Value) -> Result<Recipient, BadRow> {
    let bad = |column: &str, reason: &str| BadRow {
        row,
        column: column.to_owned(),
        reason: reason.to_owned(),
    };
    let fields = match value {
        Value::String(text) => return parse(row, RecipientFields::Short(text)),
        Value::Object(fields) => fields,
        _ => {
            let reason = "is neither an address nor an object with an \"address\"";
            return Err(bad("whole row", reason));
        }
    };
    let mut full = FullRecipient::default();
    let mut has_address = false;
    for (name, value) in fields {
        let text = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(bad(&shown(&name), "is not a text")),
        };
        match (name.as_str(), value) {
            ("address", value) => {
                full.address = text(value)?;
                has_address = true;
            }
            ("name" | "locale" | "time_zone", Value::Null) => {}
            ("name", value) => full.name = Some(text(value)?),
            ("locale", value) => full.locale = Some(text(value)?),
            ("time_zone", value) => full.time_zone = Some(text(value)?),
            ("vars", Value::Object(vars)) => full.vars = vars,
            ("vars", _) => return Err(bad("vars", "is not an object")),
            _ => return Err(bad(&shown(&name), COLUMNS)),
        }
    }
    match has_address {
        true => parse(row, RecipientFields::Full(full)),
        false => Err(bad("address", "is missing")),
    }
}

/// What columns there are.
const COLUMNS: &str = "is no column of a list: known are address, name, locale, time_zone, and vars, as in \"vars.customer\"";

/// What some programs put between columns instead of commas.
const SEPARATORS: [(char, &str); 2] = [(';', "semicolons"), ('\t', "tabs")];

fn is_shown(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    name.chars().all(is_word) && !name.is_empty()
}

/// The name of a column for an error: of a file without a header it would be an address.
fn shown(name: &str) -> String {
    match is_shown(name) {
        true => format!("column {:?}", printable(name, 40)),
        false => "a column".to_owned(),
    }
}

fn parse(row: u64, fields: RecipientFields) -> Result<Recipient, BadRow> {
    email::recipient("address", fields).map_err(|error| {
        let (column, reason) = match error {
            ParseJobError::Field { field, reason } => (field, reason),
            // No other error is made of a recipient.
            error => ("address".to_owned(), error.to_string()),
        };
        let column = column
            .strip_prefix("address.")
            .unwrap_or(&column)
            .to_owned();
        BadRow {
            row,
            column,
            reason,
        }
    })
}

fn too_long() -> RowsError {
    RowsError::Whole(format!(
        "has more than {} MiB: split it into several lists",
        MAX_LIST_BYTES / (1024 * 1024)
    ))
}

/// Counts rows as they are read. The bound keeps a wrong file from being read for ever.
pub(crate) fn check_count(rows: u64) -> Result<(), RowsError> {
    match rows > MAX_LIST_ROWS {
        true => Err(RowsError::Whole(format!(
            "has more than {MAX_LIST_ROWS} rows: split it into several lists"
        ))),
        false => Ok(()),
    }
}

/// The rows of JSON Lines.
struct JsonRows<R> {
    file: R,
    row: u64,
    is_over: bool,
}

impl<R: BufRead> Iterator for JsonRows<R> {
    type Item = Result<Recipient, RowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.is_over {
                return None;
            }
            self.row += 1;
            let mut line = Vec::new();
            let most = MAX_ROW_BYTES as u64 + 2;
            match self.file.by_ref().take(most).read_until(b'\n', &mut line) {
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error.into()));
                }
                Ok(0) => return None,
                Ok(_) => {}
            }
            if line.len() > MAX_ROW_BYTES && !line.ends_with(b"\n") {
                self.is_over = true;
                return Some(Err(RowsError::Whole(long_row(self.row))));
            }
            let line = match self.row {
                1 => line.strip_prefix(BOM).unwrap_or(&line),
                _ => &line,
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let bad = |reason: &str| BadRow {
                row: self.row,
                column: "whole row".to_owned(),
                reason: reason.to_owned(),
            };
            let text = str::from_utf8(line).map_err(|_| bad(NOT_UTF8).into());
            let value = text.and_then(|text| {
                json::parse(text).map_err(|error| match error {
                    ParseJobError::TooMuch { .. } => bad("has too many values").into(),
                    _ => bad("is not JSON: write one object in one line").into(),
                })
            });
            return Some(value.and_then(|value| Ok(recipient(self.row, value)?)));
        }
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

const NOT_UTF8: &str = "is not UTF-8: save the list as CSV in UTF-8, or as JSON Lines";

const UTF_16: &str =
    "is UTF-16, as spreadsheets save \"Unicode text\": save it as CSV in UTF-8, or as JSON Lines";

/// Whether a file begins as UTF-16 does: with its byte order mark, or with a NUL in one of two bytes. A list in UTF-8 has no NUL.
fn is_utf16(beginning: &[u8]) -> bool {
    matches!(beginning, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
        || matches!(beginning, [first, second, ..] if (*first == 0) != (*second == 0))
}

fn long_row(row: u64) -> String {
    format!(
        "has a row of more than {MAX_ROW_BYTES} bytes at line {row}: a quotation mark may lack its counterpart"
    )
}

/// A column of a CSV file.
enum Column {
    Address,
    Name,
    Locale,
    TimeZone,
    Var(String),
}

impl Column {
    fn name(&self) -> String {
        match self {
            Self::Address => "address".to_owned(),
            Self::Name => "name".to_owned(),
            Self::Locale => "locale".to_owned(),
            Self::TimeZone => "time_zone".to_owned(),
            Self::Var(name) => format!("vars.{name}"),
        }
    }
}

/// The rows of CSV.
struct CsvRows<R> {
    file: R,
    reader: csv_core::Reader,
    columns: Vec<Column>,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// How many bytes were read.
    read: u64,
    is_begun: bool,
    is_over: bool,
}

impl<R: BufRead> CsvRows<R> {
    fn new(file: R) -> Self {
        Self {
            file,
            reader: csv_core::Reader::new(),
            columns: Vec::new(),
            fields: vec![0; MAX_ROW_BYTES],
            ends: vec![0; MAX_LIST_COLUMNS + 1],
            read: 0,
            is_begun: false,
            is_over: false,
        }
    }

    /// The next record: its line, and how many fields it has. `None` at the end.
    fn record(&mut self) -> Result<Option<(u64, usize)>, RowsError> {
        // A record ends at its CR, and the LF behind it is read with the next.
        let is_behind = self.file.fill_buf()?.first() == Some(&b'\n');
        let line = self.reader.line() + u64::from(is_behind);
        let (mut bytes, mut count) = (0, 0);
        loop {
            let input = self.file.fill_buf()?;
            let (fields, ends) = (&mut self.fields[bytes..], &mut self.ends[count..]);
            let (result, nin, nout, nend) = self.reader.read_record(input, fields, ends);
            self.file.consume(nin);
            self.read += nin as u64;
            bytes += nout;
            count += nend;
            if self.read > MAX_LIST_BYTES {
                return Err(too_long());
            }
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => return Err(RowsError::Whole(long_row(line))),
                ReadRecordResult::OutputEndsFull => {
                    return Err(RowsError::Whole(format!(
                        "has more than {MAX_LIST_COLUMNS} columns at line {line}"
                    )));
                }
                ReadRecordResult::Record => return Ok(Some((line, count))),
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Field `index` of the record. The ends count from the beginning of the record.
    fn field(&self, index: usize) -> Option<&str> {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        str::from_utf8(&self.fields[begin..self.ends[index]]).ok()
    }

    fn header(&mut self) -> Result<(), RowsError> {
        let missing = || {
            RowsError::Whole(
                "has no header with a column \"address\" in its first row, such as \"address,name,vars.customer\"".to_owned(),
            )
        };
        let (_, count) = self.record()?.ok_or_else(missing)?;
        for index in 0..count {
            let name = self
                .field(index)
                .ok_or_else(|| RowsError::Whole(NOT_UTF8.to_owned()))?;
            let name = name.trim_start_matches('\u{feff}').trim();
            if let Some((_, separators)) = SEPARATORS.iter().find(|(c, _)| name.contains(*c)) {
                return Err(RowsError::Whole(format!(
                    "has {separators} between the columns of its header, and a list wants commas, as in \"address,name,vars.customer\""
                )));
            }
            let column = match name {
                "address" => Column::Address,
                "name" => Column::Name,
                "locale" => Column::Locale,
                "time_zone" => Column::TimeZone,
                _ => match name.strip_prefix("vars.").filter(|name| !name.is_empty()) {
                    Some(name) => Column::Var(name.to_owned()),
                    None => {
                        let number = index + 1;
                        let column = match is_shown(name) {
                            true => format!("{} (number {number})", shown(name)),
                            false => format!("column number {number}"),
                        };
                        return Err(RowsError::Whole(format!(
                            "has a header whose {column} {COLUMNS}; columns are separated by commas"
                        )));
                    }
                },
            };
            if self
                .columns
                .iter()
                .any(|known| known.name() == column.name())
            {
                let reason = format!("has two columns of one name (number {})", index + 1);
                return Err(RowsError::Whole(reason));
            }
            self.columns.push(column);
        }
        let has_address = self
            .columns
            .iter()
            .any(|column| matches!(column, Column::Address));
        if has_address { Ok(()) } else { Err(missing()) }
    }

    fn row(&mut self) -> Result<Option<Recipient>, RowsError> {
        let Some((row, count)) = self.record()? else {
            return Ok(None);
        };
        let bad = |column: &str, reason: String| BadRow {
            row,
            column: column.to_owned(),
            reason,
        };
        // A quotation mark without its counterpart takes the rows behind it into its field, so that a recipient would have the variables
        // of another, or the rows would be missing.
        let mut ends = self.ends[..count].iter().scan(0, |begin, end| {
            let field = &self.fields[*begin..*end];
            *begin = *end;
            Some(field)
        });
        if let Some(index) = ends.position(|field| field.contains(&b'\n') || field.contains(&b'\r'))
        {
            let column = self
                .columns
                .get(index)
                .map_or_else(|| format!("number {}", index + 1), Column::name);
            return Err(RowsError::Whole(format!(
                "has a field with a line break at line {row} ({column}): a quotation mark may lack its counterpart"
            )));
        }
        if count != self.columns.len() {
            let reason = format!(
                "has {count} fields, and the header has {}: put fields that contain commas in quotation marks",
                self.columns.len()
            );
            return Err(bad("whole row", reason).into());
        }
        let mut full = FullRecipient::default();
        let mut vars = Map::new();
        for (index, column) in self.columns.iter().enumerate() {
            let value = self.field(index);
            let value = value.ok_or_else(|| bad(&column.name(), NOT_UTF8.to_owned()))?;
            let optional = Some(value.trim()).filter(|value| !value.is_empty());
            let optional = optional.map(ToOwned::to_owned);
            match column {
                Column::Address => value.trim().clone_into(&mut full.address),
                Column::Name => full.name = optional,
                Column::Locale => full.locale = optional,
                Column::TimeZone => full.time_zone = optional,
                Column::Var(name) => {
                    vars.insert(name.clone(), Value::from(value.trim()));
                }
            }
        }
        full.vars = vars;
        if full.address.is_empty() {
            return Err(bad("address", "is empty".to_owned()).into());
        }
        Ok(Some(parse(row, RecipientFields::Full(full))?))
    }
}

impl<R: BufRead> Iterator for CsvRows<R> {
    type Item = Result<Recipient, RowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let begun = std::mem::replace(&mut self.is_begun, true);
        let header = if begun { Ok(()) } else { self.header() };
        let row = header.and_then(|()| self.row());
        self.is_over = matches!(row, Ok(None) | Err(RowsError::Whole(_) | RowsError::Io(_)));
        row.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: ListFormat, text: &str) -> Vec<Result<String, String>> {
        let file = io::Cursor::new(text.as_bytes().to_vec());
        let shown = |row: Result<Recipient, RowsError>| match row {
            Ok(recipient) => Ok(format!(
                "{} {} {}",
                recipient.address,
                recipient.display_name(),
                Value::Object(recipient.vars.clone())
            )),
            Err(error) => Err(error.to_string()),
        };
        rows(format, file).map(shown).collect()
    }

    fn lines(rows: Vec<Result<String, String>>) -> String {
        let lines = rows
            .into_iter()
            .map(|row| row.unwrap_or_else(|error| format!("! {error}")));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn csv_is_read_with_bom_quotes_and_crlf() {
        let text = "\u{feff}address,name,vars.customer\r\n\
            ann@acme.example,\"Bell, Ann\",4711\r\n\
            \"bo@acme.example\",\"Bo \"\"B\"\" Bo\",\"a, b\"\r\n\
            cy@acme.example,,\r\n\
            not an address,X,1\r\n\
            dan@acme.example,Dan\n\
            ,Eve,1\n\
            fay@acme.example,Fay,3";
        let told = lines(read(ListFormat::Csv, text));
        let wanted = [
            r#"ann@acme.example Bell, Ann {"customer":"4711"}"#,
            r#"bo@acme.example Bo "B" Bo {"customer":"a, b"}"#,
            r#"cy@acme.example cy {"customer":""}"#,
            "! row 5, address: ",
            "! row 6, whole row: has 2 fields, and the header has 3",
            "! row 7, address: is empty",
            r#"fay@acme.example Fay {"customer":"3"}"#,
        ];
        assert_eq!(told.lines().count(), wanted.len(), "{told}");
        for (line, wanted) in told.lines().zip(wanted) {
            assert!(line.starts_with(wanted), "{wanted}: {line}");
        }
    }

    #[test]
    fn a_field_with_a_line_break_ends_the_list() {
        for text in [
            "address,vars.customer\nann@acme.example,1\nbo@acme.example,\"2\ncy@acme.example,\"3\n",
            "address,vars.customer\nann@acme.example,1\nbo@acme.example,\"2\ncy@acme.example\",3\n",
            "address,vars.customer\r\nann@acme.example,1\r\n\"bo@acme.example\",\"a\r\nb\"\r\ncy@acme.example,3\r\n",
            "address,vars.customer\rann@acme.example,1\rbo@acme.example,\"a\rb\"\rcy@acme.example,3\r",
        ] {
            let told = lines(read(ListFormat::Csv, text));
            let told: Vec<&str> = told.lines().collect();
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(told[0].starts_with("ann@acme.example"), "{told:?}");
            assert!(
                told[1].contains("a quotation mark may lack its counterpart"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn json_lines_are_addresses_or_objects() {
        let text = "\u{feff}{\"address\":\"ann@acme.example\",\"name\":\"Ann\",\"vars\":{\"customer\":4711}}\r\n\
            \n\"Bo <bo@acme.example>\"\n{\"address\":\"secret at acme.example\"}\n{\"adress\":\"secret@acme.example\"}\n{}\n[1]\n{\n\
            {\"address\":\"cy@acme.example\",\"locale\":\"secret\"}\n{\"address\":\"dan@acme.example\",\"vars\":{\"date\":1}}";
        let told = lines(read(ListFormat::Jsonl, text));
        assert!(!told.contains("secret"), "{told}");
        let wanted = [
            r#"ann@acme.example Ann {"customer":4711}"#,
            "bo@acme.example Bo {}",
            "! row 4, address: ",
            "! row 5, column \"adress\": is no column of a list",
            "! row 6, address: is missing",
            "! row 7, whole row: is neither an address nor an object",
            "! row 8, whole row: is not JSON",
            "! row 9, locale: has an invalid locale",
            "! row 10, vars.date: is a reserved name",
        ];
        assert_eq!(told.lines().count(), wanted.len(), "{told}");
        for (line, wanted) in told.lines().zip(wanted) {
            assert!(line.starts_with(wanted), "{wanted}: {line}");
        }
    }

    #[test]
    fn a_row_that_is_not_utf8_is_wrong_alone() {
        let read = |format, bytes: &[u8]| {
            let file = io::Cursor::new(bytes.to_vec());
            let told = rows(format, file).map(|row| match row {
                Ok(recipient) => recipient.address.to_string(),
                Err(error) => format!("! {error}"),
            });
            told.collect::<Vec<_>>()
        };
        // Windows-1252: an é is one byte.
        let csv = b"\xef\xbb\xbfaddress,name\nann@acme.example,Ann\nbo@acme.example,Andr\xe9\ncy@acme.example,Cy\n";
        let jsonl = b"\"ann@acme.example\"\n{\"address\":\"bo@acme.example\",\"name\":\"Andr\xe9\"}\n\"cy@acme.example\"\n";
        for (format, bytes, place) in [
            (ListFormat::Csv, &csv[..], "row 3, name"),
            (ListFormat::Jsonl, &jsonl[..], "row 2, whole row"),
        ] {
            let told = read(format, bytes);
            let wrong = format!("! {place}: {NOT_UTF8}");
            assert_eq!(told, ["ann@acme.example", &wrong, "cy@acme.example"]);
        }
        // UTF-16 is named as such, with and without its mark, in either order.
        for text in [
            "address\nann@acme.example\n",
            "{\"address\":\"ann@acme.example\"}\n",
        ] {
            let little = text.encode_utf16().flat_map(u16::to_le_bytes);
            let big = text.encode_utf16().flat_map(u16::to_be_bytes);
            let (little, big): (Vec<u8>, Vec<u8>) = (little.collect(), big.collect());
            let marked = [&b"\xff\xfe"[..], &little].concat();
            let marked_big = [&b"\xfe\xff"[..], &big].concat();
            for bytes in [little, big, marked, marked_big] {
                for format in [ListFormat::Csv, ListFormat::Jsonl] {
                    assert_eq!(read(format, &bytes), [format!("! {UTF_16}")]);
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_no_list_is_refused_without_its_content() {
        for (text, wanted) in [
            ("", "! has no header with a column \"address\""),
            (
                "secret@acme.example\nbo@acme.example",
                "! has a header whose column number 1 is no column",
            ),
            (
                "email,name\na@x.example,A",
                "! has a header whose column \"email\" (number 1) is no column",
            ),
            (
                "address;name\na@x.example;A",
                "! has semicolons between the columns of its header",
            ),
            (
                "address\tname\na@x.example\tA",
                "! has tabs between the columns of its header",
            ),
            (
                "address,address\n",
                "! has two columns of one name (number 2)",
            ),
            (
                &format!("address\n\"{}", "x".repeat(MAX_ROW_BYTES + 1)),
                "! has a row of more than",
            ),
        ] {
            let told = lines(read(ListFormat::Csv, text));
            assert!(told.starts_with(wanted), "{wanted}: {told}");
            assert!(!told.contains("secret"), "{told}");
        }
        let long = "x".repeat(MAX_ROW_BYTES + 1);
        assert_eq!(read(ListFormat::Jsonl, &long).len(), 1);
    }
}
