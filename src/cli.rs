//! The command line: one file for each command, and here what they share.

mod audit;
mod beside;
mod check;
#[cfg(feature = "embedded")]
mod demo;
pub(crate) mod exit;
mod explain;
mod job;
mod ledger;
mod presign;
mod reload;
mod run;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use handout::config::{Config, ConfigError};
use handout::environment::Environment;
use handout::telemetry::Verbosity;

use self::terminal::{say, say_json, say_lines};

/// Hands files out of S3 as links: a job in, signed links, mails, galleries and an audit log out.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Start here:
  handout demo                          everything on this machine, without an account
  handout check --config config.toml    finds problems before a job does
  handout run --config config.toml      the daemon

Exit codes: 0 done, 1 the check or the job found something, 64 usage, 65 damaged audit data,
69 a service is down, 73 cannot create, or in use, 74 I/O error, 78 configuration."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything on this machine, without an account: sample files, real links, mails to look at.
    #[cfg(feature = "embedded")]
    Demo(demo::DemoArgs),
    /// Runs the daemon: works the queue until SIGTERM, then drains and exits.
    #[command(after_help = "Example:\n  handout run --config /etc/handout/config.toml")]
    Run(ConfigArgs),
    /// Checks configuration, connections, queue, relay and templates before a job needs them.
    #[command(after_help = "Example:\n  handout check --config /etc/handout/config.toml")]
    Check(check::CheckArgs),
    /// Runs, submits, previews or resends a job; lists parked jobs.
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Prints a presigned URL for each named object, one per line; needs no configuration.
    #[command(after_help = presign::EXAMPLES)]
    Presign(Box<presign::PresignArgs>),
    /// Explains a presigned URL: what it opens, which key signed it, when it expires, and why it fails (exit 1).
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::ExplainArgs),
    /// Verifies and searches the audit log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Shows the ledger (the status of each recipient) and resolves doubts.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Prints the JSON Schema of the job format, or of an audit line.
    #[command(
        after_help = "Examples:\n  handout schema > job.schema.json\n  handout schema --audit"
    )]
    Schema {
        /// Prints the schema of an audit line.
        #[arg(long)]
        audit: bool,
    },
    /// Prints a completion script for a shell.
    #[command(after_help = "Example:\n  handout completions bash > /etc/bash_completion.d/handout")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// How much the command tells besides its result.
    pub(crate) const fn verbosity(&self) -> Verbosity {
        match self.command {
            Command::Run(_) => Verbosity::Jobs,
            _ => Verbosity::Warnings,
        }
    }
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file [default: config.toml here, then /etc/handout/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn load(&self, environment: &Environment) -> anyhow::Result<Config> {
        Ok(Config::load(self.config.as_deref(), environment)?)
    }

    const fn is_named(&self) -> bool {
        self.config.is_some()
    }

    /// The configuration; without one, a configuration whose audit log is the user's own. `None` if the user has no directory.
    fn load_or_of_user(&self, environment: &Environment) -> anyhow::Result<Option<Config>> {
        match Config::load(self.config.as_deref(), environment) {
            Err(ConfigError::Nowhere) => Ok(Config::of_user(environment)?),
            loaded => Ok(Some(loaded?)),
        }
    }
}

/// Does what the arguments say.
pub(crate) async fn run(arguments: Cli, environment: &Environment) -> anyhow::Result<ExitCode> {
    match arguments.command {
        #[cfg(feature = "embedded")]
        Command::Demo(arguments) => Box::pin(demo::demo(&arguments, environment)).await,
        Command::Run(arguments) => Box::pin(run::run(&arguments, environment)).await,
        Command::Check(arguments) => check::check(&arguments, environment).await,
        Command::Job(command) => Box::pin(job::job(command, environment)).await,
        Command::Presign(arguments) => Box::pin(presign::presign(*arguments, environment)).await,
        Command::Explain(arguments) => explain::explain(&arguments, environment),
        Command::Audit(command) => audit::audit(command, environment).await,
        Command::Ledger(command) => ledger::ledger(command, environment).await,
        Command::Schema { audit } => {
            say_lines(match audit {
                true => serde_json::to_string_pretty(&handout::audit::schema::schema())?,
                false => serde_json::to_string_pretty(&handout::job::wire::schema())?,
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "handout", &mut script);
            terminal::write_exactly(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command as Process;

    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

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
        let shell = Process::new("/bin/sh")
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
}
