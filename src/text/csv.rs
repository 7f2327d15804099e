//! CSV cells that spreadsheets do not run as formulas.
//!
//! A spreadsheet runs a cell that begins with a formula's sign, and an object's key may: an apostrophe makes it text.
//! Where a locale's separator is `;`, the quotation marks of a row that was written with commas count for its first
//! cell alone, so that a `;`, a tab or a new line within a text begins a cell there. The button of the gallery's page
//! has the same rule (`templates/partials/gallery.js.hbs`).
//!
//! <https://owasp.org/www-community/attacks/CSV_Injection>

use super::BYTE_ORDER_MARK;

/// Writes a text as a quoted cell of RFC 4180, guarded wherever a spreadsheet may see the beginning of a cell.
pub(crate) fn push_text(text: &str, row: &mut String) {
    row.push('"');
    if text.bytes().all(is_inert) && !text.starts_with(|c| is_formula(c) || is_skipped(c)) {
        row.push_str(text);
    } else {
        push_guarded(text, row);
    }
    row.push('"');
}

/// The first row: the names of the columns, after the byte order mark without which spreadsheets do not take a file for UTF-8.
pub(crate) fn heading(columns: &[&str]) -> String {
    let mut row = BYTE_ORDER_MARK.to_string();
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            row.push(',');
        }
        push_text(column, &mut row);
    }
    row + "\r\n"
}

fn push_guarded(text: &str, row: &mut String) {
    if text.starts_with(['\t', '\r', '\n']) {
        row.push('\'');
    }
    // Where a cell may begin; a spreadsheet skips some characters there before a formula.
    let mut begin = Some(row.len());
    for c in text.chars() {
        if let Some(at) = begin.filter(|_| is_formula(c)) {
            row.insert(at, '\'');
        }
        row.push(c);
        if c == '"' {
            row.push(c);
        }
        begin = match c {
            ';' | '|' | '\t' | '\r' | '\n' => Some(row.len()),
            c if is_skipped(c) => begin,
            _ => None,
        };
    }
}

/// Whether a byte is harmless anywhere except at the beginning of a text.
const fn is_inert(byte: u8) -> bool {
    !matches!(byte, b'"' | b';' | b'|' | 0..=0x1f)
}

const fn is_formula(c: char) -> bool {
    matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠')
}

fn is_skipped(c: char) -> bool {
    c == '"' || c == '\u{feff}' || c.is_whitespace() || c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> String {
        let mut row = String::new();
        push_text(text, &mut row);
        row
    }

    #[test]
    fn plain_text_is_quoted_and_stays_as_it_is() {
        for text in [
            "",
            "2026/11/a - b.pdf",
            "Ünï, cödé.pdf",
            "a=b+c@d",
            "x -1, -2.pdf",
            "a;b|c\td",
        ] {
            assert_eq!(cell(text), format!("\"{text}\""));
        }
        assert_eq!(cell("a \"b\"; c"), "\"a \"\"b\"\"; c\"");
    }

    #[test]
    fn a_formula_is_guarded_wherever_a_cell_may_begin() {
        for (text, guarded) in [
            ("=cmd", "'=cmd"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\tx", "'\tx"),
            ("\rx", "'\rx"),
            ("\nx", "'\nx"),
            ("\t=1", "'\t'=1"),
            ("＝1", "'＝1"),
            ("＋1", "'＋1"),
            ("－1", "'－1"),
            ("＠x", "'＠x"),
            (" =1", "' =1"),
            ("\u{a0}\u{feff}=1", "'\u{a0}\u{feff}=1"),
            ("\"=1", "'\"\"=1"),
            ("x;=cmd", "x;'=cmd"),
            ("x; =cmd", "x;' =cmd"),
            ("x;\"=cmd", "x;'\"\"=cmd"),
            ("x;;=cmd", "x;;'=cmd"),
            ("x;＝cmd", "x;'＝cmd"),
            ("x\t@cmd", "x\t'@cmd"),
            ("x|+cmd", "x|'+cmd"),
            ("x\r\n-cmd", "x\r\n'-cmd"),
            ("ü;=a;=b", "ü;'=a;'=b"),
        ] {
            assert_eq!(cell(text), format!("\"{guarded}\""), "{text:?}");
        }
    }
}
