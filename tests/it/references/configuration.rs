//! `config.toml` as a page: a table for each section.

use std::fmt::Write;

use super::cell;
use crate::support::docs::page as read;

const BEGIN: &str = "\
# Configuration reference

To look up a key of the configuration. This page is made from [config.toml](../../config.toml), which has every key with its default and can be copied and edited. A value
is the default; \"such as\" is an example for a key that is not set, and the meaning says what holds then.

";

/// A section with its keys; the first has no name and is the top of the file.
#[derive(Default)]
struct Section {
    header: String,
    text: String,
    keys: Vec<Key>,
}

struct Key {
    name: String,
    value: String,
    is_default: bool,
    text: String,
}

/// What a line of the file is.
enum Line<'a> {
    Header(&'a str, &'a str),
    Key {
        name: &'a str,
        value: &'a str,
        is_default: bool,
        text: &'a str,
    },
    /// Goes on with what the line before says.
    Continued(&'a str),
    /// Is about the section or the key that comes.
    Before(&'a str),
    Empty,
}

pub(super) fn page() -> String {
    let file = read("config.toml").text;
    let (intro, sections) = sections(&file);
    let mut page = format!("{BEGIN}{}\n", cell(&intro));
    for section in sections {
        if !section.header.is_empty() {
            write!(page, "\n## `{}`\n", section.header).unwrap();
        }
        if !section.text.is_empty() {
            write!(page, "\n{}.\n", cell(section.text.trim_end_matches('.'))).unwrap();
        }
        if !section.keys.is_empty() {
            page.push_str("\n| key | value | meaning |\n|---|---|---|\n");
        }
        for key in section.keys {
            let such_as = if key.is_default { "" } else { "such as " };
            let (name, value) = (&key.name, key.value.replace('|', "\\|"));
            let text = cell(&key.text);
            assert!(
                !text.is_empty(),
                "{} in {} has no meaning: add a comment at it in config.toml",
                key.name,
                section.header
            );
            writeln!(page, "| `{name}` | {such_as}`{value}` | {text} |").unwrap();
        }
    }
    page
}

/// What stands above the first key, and the sections.
fn sections(file: &str) -> (String, Vec<Section>) {
    let mut intro = None;
    let mut sections = vec![Section::default()];
    let mut before = String::new();
    for line in file.lines() {
        let section = sections.last_mut().unwrap();
        match classify(line) {
            Line::Header(header, text) => sections.push(Section {
                header: header.to_owned(),
                text: joined(std::mem::take(&mut before), &sentence(text)),
                keys: Vec::new(),
            }),
            Line::Key {
                name,
                value,
                is_default,
                text,
            } => section.keys.push(Key {
                name: name.to_owned(),
                value: value.to_owned(),
                is_default,
                text: joined(std::mem::take(&mut before), text),
            }),
            Line::Continued(text) => {
                let last = section.keys.last_mut().map(|key| &mut key.text);
                let last = last.unwrap_or(&mut section.text);
                *last = joined(std::mem::take(last), text);
            }
            Line::Before(text) => before = joined(before, text),
            Line::Empty => drop(intro.get_or_insert_with(|| std::mem::take(&mut before))),
        }
    }
    assert!(before.is_empty(), "no key comes after: {before}");
    (intro.unwrap(), sections)
}

fn joined(text: String, more: &str) -> String {
    let space = if text.is_empty() || more.is_empty() {
        ""
    } else {
        " "
    };
    text + space + more
}

fn classify(line: &str) -> Line<'_> {
    let uncommented = line.strip_prefix('#').unwrap_or(line);
    let text = uncommented.trim_start();
    if text.is_empty() {
        return Line::Empty;
    }
    let is_commented = uncommented.len() < line.len();
    if uncommented.len() - text.len() > 4 {
        return Line::Continued(comment(text));
    }
    if let Some(end) = text.starts_with('[').then(|| text.rfind("]")).flatten() {
        let end = text.find("  ").map_or(end + 1, |spaces| spaces);
        return Line::Header(&text[..end], comment(&text[end..]));
    }
    match key(text) {
        Some((name, value, text)) => Line::Key {
            name,
            value,
            is_default: !is_commented,
            text: comment(text),
        },
        None => Line::Before(text),
    }
}

/// The name, the value and the rest of a line with a key.
fn key(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once(" = ")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '"' | '.');
    if !name.chars().all(is_name) {
        return None;
    }
    let end = match rest.chars().next()? {
        '"' => rest[1..].find('"')? + 2,
        '[' => rest.find(']')? + 1,
        _ => rest.find(' ').unwrap_or(rest.len()),
    };
    Some((name, &rest[..end], &rest[end..]))
}

fn comment(text: &str) -> &str {
    text.trim_start().trim_start_matches('#').trim()
}

/// A comment with a capital.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}
