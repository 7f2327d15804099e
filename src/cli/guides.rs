//! Tests that the commands in the guides exist.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use super::Cli;

/// The user documentation outside of the book.
const GUIDES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "config.toml",
    "templates/README.md",
];

/// A shell in which `handout` records its arguments, `date` prints a future day, and no other program is found.
const WRITES_DOWN: &str =
    "handout() { for word; do printf '%s\\037' \"$word\"; done >>calls; printf '\\036' >>calls; }
date() { echo 2037-01-01T08:00:00Z; }
";

/// The user documentation: names and texts.
fn guides() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = GUIDES.map(|name| root.join(name)).into();
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                paths.push(path);
            }
        }
    }
    let read = |path: PathBuf| {
        (
            path.display().to_string(),
            fs::read_to_string(&path).unwrap(),
        )
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

/// The arguments of each `handout` call in a script, as a shell parses them.
fn calls(script: &str) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let shell = Process::new("/bin/sh")
        .args(["-c", &format!("{WRITES_DOWN}{script}")])
        .env_clear()
        .env("PATH", "/nonexistent")
        .current_dir(&dir)
        .output();
    shell.unwrap();
    let text = fs::read_to_string(dir.path().join("calls")).unwrap_or_default();
    let calls = text.split_terminator('\u{1e}');
    let words = |call: &str| call.split_terminator('\u{1f}').map(str::to_owned).collect();
    calls.map(words).collect()
}

fn parse(call: &[String]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("handout").chain(call.iter().map(String::as_str)))
}

#[test]
fn every_command_of_the_guides_scripts_is_one_that_the_program_takes() {
    let mut count = 0;
    for (name, text) in guides() {
        let blocks = text.split("\n```sh\n").skip(1);
        for block in blocks.filter_map(|block| block.split("\n```").next()) {
            for call in calls(block) {
                let parsed = parse(&call);
                assert!(parsed.is_ok(), "{name}: {call:?}: {}", parsed.unwrap_err());
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count} commands");
}

/// A sentence may name a command without all of its arguments.
#[test]
fn every_command_that_a_guide_names_in_a_sentence_is_one() {
    let mut count = 0;
    for (name, text) in guides() {
        let spans = text.split('`').filter(|span| span.starts_with("handout "));
        for span in spans.filter(|span| !span.contains(['\n', '…'])) {
            let span = span.replace(" NAME", " acme-daily").replace(" N", " 5");
            let span = span.replace("--after ID", "--after 5");
            let span = span.replace("whose ID", &format!("whose {}", "0".repeat(32)));
            let calls = calls(&span.replace("ADDRESS", "ann@acme.example"));
            let [call] = &calls[..] else {
                panic!("{name}: {span}");
            };
            if let Err(error) = parse(call) {
                let is_short = matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::DisplayVersion
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                );
                let has_no_value = matches!(
                    error.get(ContextKind::InvalidValue),
                    Some(ContextValue::String(value)) if value.is_empty()
                );
                assert!(is_short || has_no_value, "{name}: {span}: {error}");
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count} commands");
}

/// The README's table of commands is complete.
#[test]
fn every_command_stands_in_the_table_of_the_readme() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let readme = readme.unwrap();
    let (_, table) = readme.split_once("\n## Commands\n").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut command = Cli::command();
    command.build();
    let mut missing = Vec::new();
    look_for(&command, table, &mut missing);
    assert!(missing.is_empty(), "{missing:?}");
}

/// Collects each leaf command that the table lacks.
fn look_for(command: &Command, table: &str, missing: &mut Vec<String>) {
    let below = command.get_subcommands();
    let mut below = below.filter(|below| below.get_name() != "help").peekable();
    let name = command.get_bin_name().unwrap_or_default();
    let is_there = ["`", " "]
        .iter()
        .any(|end| table.contains(&format!("`{name}{end}")));
    if below.peek().is_none() && !is_there {
        missing.push(name.to_owned());
    }
    for command in below {
        look_for(command, table, missing);
    }
}
