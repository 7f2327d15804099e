//! The commands that a user copies out of README, docs and the commented configuration.

use std::path::Path;
use std::process::Command;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::Cli;

/// What a user reads.
const GUIDES: [&str; 8] = [
    "README.md",
    "SECURITY.md",
    "config.toml",
    "docs/crash.md",
    "docs/credentials.md",
    "docs/faults.md",
    "docs/relays.md",
    "docs/runbook.md",
];

/// A shell in which `handout` writes its arguments down, and no other program is found.
const WRITES_DOWN: &str = "handout() { for word; do printf '%s\\037' \"$word\"; done >>calls; printf '\\036' >>calls; }\n";

fn guide(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The arguments of each `handout` in a script, as a shell reads them.
fn calls(script: &str) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let shell = Command::new("/bin/sh")
        .args(["-c", &format!("{WRITES_DOWN}{script}")])
        .env_clear()
        .env("PATH", "/nonexistent")
        .current_dir(&dir)
        .output();
    shell.unwrap();
    let text = std::fs::read_to_string(dir.path().join("calls")).unwrap_or_default();
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
    for name in GUIDES {
        let text = guide(name);
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
    for name in GUIDES {
        let text = guide(name);
        let spans = text.split('`').filter(|span| span.starts_with("handout "));
        for span in spans.filter(|span| !span.contains(['\n', '…'])) {
            let calls = calls(&span.replace(" N", " 5").replace("--after ID", "--after 5"));
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
                assert!(is_short, "{name}: {span}: {error}");
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count} commands");
}

/// The table of commands at the end of the README.
#[test]
fn every_command_of_the_table_of_commands_is_one() {
    let text = guide("README.md");
    let (_, table) = text.split_once("\n## Commands\n\n```\n").unwrap();
    let lines = table.split("\n```").next().unwrap().lines();
    let mut count = 0;
    for line in lines.filter_map(|line| line.strip_prefix("handout ")) {
        let mut command = Cli::command();
        let words = line.split_whitespace();
        let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        for word in words.take_while(is_name) {
            if !command.has_subcommands() {
                break;
            }
            let found = command.find_subcommand(word);
            command = found.unwrap_or_else(|| panic!("{line}: {word}")).clone();
        }
        count += 1;
    }
    assert!(count >= 17, "{count} lines");
}
