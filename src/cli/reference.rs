//! Generates the command line reference from the output of `--help`. `UPDATE=1 cargo test --locked reference` writes it.

use std::env;
use std::fmt::Write;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::Cli;

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
