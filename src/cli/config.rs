//! `handout config`: shows the configuration that is in effect.

use std::process::ExitCode;

use clap::Subcommand;
use handout::config::{Config, ShownConfig};
use handout::environment::Environment;

use super::arguments::JsonArgs;
use super::schemas::OutputSchema;
use super::{ConfigArgs, say_json, say_lines};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints every key with its value and where the value is from: the file, a variable, or the default.
    #[command(after_help = "\
Secrets are in files, or in variables, and are not printed. Of the URL to which results are posted, the path is masked.

Examples:
  handout config show
  handout config show --changed --config /etc/handout/config.toml")]
    Show {
        /// Leaves out the keys that have their defaults.
        #[arg(long)]
        changed: bool,
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Runs a subcommand.
pub(crate) fn config(
    command: &ConfigCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Show {
        changed,
        form,
        config,
    } = command;
    let shown = Config::shown(config.config.as_deref(), environment, *changed)?;
    match form.json {
        true => say_json(&shown)?,
        false => say_lines(shown.to_string().trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![OutputSchema::of::<ShownConfig>(
        "config-show",
        "handout config show",
    )]
}
