//! Generates the command line reference from the output of `--help`. `UPDATE=1 cargo test --locked reference` writes it.

use std::env;
use std::fmt::Write;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::Cli;
use super::exit::{SUCCESS, TABLE};

const BEGIN: &str = "\
# Command line

To look up a command or an option. This page is made from what `--help` prints.

The configuration is `--config FILE`, else `config.toml` in the working directory, else `/etc/handout/config.toml`. A `config.toml` in the working directory that is another
user's, or that other users may write, is refused unless `--config` names it. The exit codes are in [systemd](operating/systemd.md#exit-codes).
";

/// The width at which the texts are wrapped.
const COLUMNS: usize = 100;

#[test]
fn the_command_line_reference_is_what_help_prints() {
    let mut command = Cli::command().term_width(COLUMNS);
    command.build();
    let mut page = BEGIN.to_owned();
    add(&mut page, &mut command);

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    if env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &page).expect("writing to a string does not fail");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == page,
        "docs/cli.md differs from the command line: write it with `UPDATE=1 cargo test --locked reference`"
    );
}

/// The table of exit codes, as `docs/operating/systemd.md` has it.
fn exit_codes() -> String {
    let mut table = "| code | meaning | systemd restarts it |\n|---|---|---|\n".to_owned();
    for row in &TABLE {
        let restarts = match row.is_restarted {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        };
        let (code, meaning) = (row.code, row.meaning);
        writeln!(table, "| {code} | {meaning} | {restarts} |")
            .expect("writing to a string does not fail");
    }
    table
}

#[test]
fn the_table_of_exit_codes_in_the_reference_is_the_programs() {
    const PAGE: &str = "docs/operating/systemd.md";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("\n## Exit codes\n\n").unwrap();
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let gap = if after.is_empty() { "" } else { "\n" };
    let wanted = format!("{before}\n## Exit codes\n\n{}{gap}{after}", exit_codes());
    if env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap();
    assert!(
        committed == wanted,
        "the exit codes in {PAGE} differ from the program's: write them with `UPDATE=1 cargo test --locked reference`"
    );
}

#[test]
fn the_unit_of_systemd_restarts_after_the_codes_of_the_table() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/handout.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    let of_unit: Vec<&str> = line.unwrap().split(' ').collect();
    let is_final = TABLE
        .iter()
        .filter(|row| row.is_restarted == Some(false) && row.code != SUCCESS);
    let of_table: Vec<String> = is_final.map(|row| row.code.to_string()).collect();
    assert_eq!(of_unit, of_table);
}

/// A command and its subcommands.
fn add(page: &mut String, command: &mut Command) {
    let name = command.get_bin_name().unwrap_or("handout").to_owned();
    write!(page, "\n## {name}\n\n```text\n").expect("writing to a string does not fail");
    for line in command.render_long_help().to_string().trim_end().lines() {
        writeln!(page, "{}", line.trim_end()).expect("writing to a string does not fail");
    }
    page.push_str("```\n");
    let below = command.get_subcommands_mut();
    for command in below.filter(|command| command.get_name() != "help") {
        add(page, command);
    }
}
