//! The command line: one file for each command, and here what they share.

mod audit;
mod beside;
mod check;
#[cfg(feature = "embedded")]
mod demo;
pub(crate) mod exit;
mod explain;
#[cfg(test)]
mod guides;
mod job;
mod ledger;
mod presign;
#[cfg(all(test, feature = "embedded"))]
mod reference;
mod reload;
mod run;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use handout::config::{Config, ConfigError, Environment};
use handout::telemetry::Verbosity;

use self::terminal::{say, say_json, say_lines};

/// Hands files out of S3 as links: a job in, signed links, mails, galleries and an audit log out.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Start here:
  handout demo                          everything on this machine, without any account
  handout check --config config.toml    what would not work, before a job finds out
  handout run --config config.toml      the daemon

Exit codes: 0 done, 1 the check or the job found something, 64 usage, 65 damaged audit data,
69 a service is down, 73 cannot create or in use, 74 disk, 78 configuration."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything on this machine, no account: sample files, real links, mails to look at.
    #[cfg(feature = "embedded")]
    Demo(demo::DemoArgs),
    /// The daemon: works the queue until SIGTERM, then drains and ends.
    #[command(after_help = "Example:\n  handout run --config /etc/handout/config.toml")]
    Run(ConfigArgs),
    /// Looks for what would not work: configuration, connections, queue, relay, templates.
    #[command(after_help = "Example:\n  handout check --config /etc/handout/config.toml")]
    Check(check::CheckArgs),
    /// One job: run it now, put it on the queue, or look at what it would send.
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Links on stdout, one a line, for objects that are named; needs no configuration.
    #[command(after_help = presign::EXAMPLES)]
    Presign(Box<presign::PresignArgs>),
    /// What a signed URL opens, who signed it, how long it lives, and why it fails; exit 1 if it does.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::ExplainArgs),
    /// The audit log: whether it is whole, which line issued a link, how much was handed out.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The ledger: what became of a job's recipients.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Prints the JSON Schema of the job format, or of a line of the audit log.
    #[command(
        after_help = "Examples:\n  handout schema > job.schema.json\n  handout schema --audit"
    )]
    Schema {
        /// That of a line of the audit log.
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
    /// The configuration [default: config.toml here, then /etc/handout/config.toml]
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

    /// The configuration; where there is none, one whose books are the user's own. `None` if the user has no place.
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
