//! The references of the book are made from what they describe. `UPDATE=1 cargo test --locked reference` writes them.

mod configuration;
mod job;

use crate::support::docs::is_up_to_date;

#[test]
fn the_configuration_reference_is_what_config_toml_says() {
    is_up_to_date("docs/operating/configuration.md", &configuration::page());
}

#[test]
fn the_job_reference_is_what_the_schema_says() {
    is_up_to_date("docs/jobs/reference.md", &job::page());
}

/// A text as a cell of a table: what Markdown or HTML would read in it is escaped outside code.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    let mut is_code = false;
    for c in text.trim().chars() {
        is_code ^= c == '`';
        match c {
            '|' => cell.push_str("\\|"),
            '<' if !is_code => cell.push_str("&lt;"),
            '*' if !is_code => cell.push_str("\\*"),
            '\n' => cell.push(' '),
            c => cell.push(c),
        }
    }
    cell
}
