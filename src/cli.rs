//! The command line: one file for each command, and their common parts.

mod access;
mod arguments;
mod audit;
mod check;
mod config;
mod connections;
#[cfg(feature = "embedded")]
mod demo;
pub(crate) mod exit;
mod explain;
mod feedback;
#[cfg(feature = "embedded")]
#[cfg(test)]
mod flags;
#[cfg(test)]
mod guides;
mod health;
mod intake;
mod job;
#[cfg(test)]
mod json_page;
mod ledger;
mod opens;
mod portal;
mod presign;
#[cfg(feature = "embedded")]
#[cfg(test)]
mod reference;
mod reload;
mod revoke;
mod run;
mod schedule;
mod schemas;
mod supervision;
mod suppression;
mod templates;
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
    after_help = exit::root_help()
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
    /// Runs the portal alone: serves its links until SIGTERM. `run` serves them too where portal.listen is set.
    #[command(after_help = "Example:\n  handout portal --config /etc/handout/config.toml")]
    Portal(ConfigArgs),
    /// Checks configuration, connections, queue, relay and templates before a job needs them.
    #[command(after_help = "\
With --rows, a list of recipients is read to its end, and each row that is no recipient has a line. Where jobs leave such rows out (on_bad_row = \"skip\"), these lines are warnings.

Examples:
  handout check --config /etc/handout/config.toml
  handout check --rows customers")]
    Check(check::CheckArgs),
    /// Shows the configuration as it is in effect.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Asks the running daemon whether it is ready, for probes of containers: exit 0, 1, or 69 without an answer.
    #[command(after_help = health::EXAMPLES)]
    Health(health::HealthArgs),
    /// Runs, submits, previews or resends a job; lists parked jobs.
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Lists schedules, shows what comes next, or starts a job of one by hand.
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Lists, adds and removes recipients who get no mail: after bounces, complaints, or by a decision.
    #[command(subcommand)]
    Suppression(suppression::SuppressionCommand),
    /// Takes in bounces and complaints that come as mails, from a pipe or a Maildir.
    Feedback(feedback::FeedbackArgs),
    /// Prints a presigned URL for each named object, one per line; needs no configuration.
    #[command(after_help = presign::EXAMPLES)]
    Presign(Box<presign::PresignArgs>),
    /// Explains a presigned URL: what it opens, which key signed it, when it expires, and why it fails (exit 1).
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::ExplainArgs),
    /// Revokes links: of a job, a recipient, an object, one link, or the sign-ins of a recipient.
    #[command(subcommand, after_help = revoke::EXAMPLES)]
    Revoke(revoke::RevokeCommand),
    /// Lets revoked links open again.
    #[command(
        subcommand,
        mut_subcommands(revoke::without_probing),
        after_help = "Example:\n  handout restore job acme-daily-2026-11-23"
    )]
    Restore(revoke::RevokeTarget),
    /// Moves the end of a job's links of the portal: the same links live longer, or end earlier.
    #[command(
        after_help = "Examples:\n  handout extend acme-daily-2026-11-23 --by 30d\n  handout extend acme-daily-2026-11-23 --until 2026-12-31T18:00:00Z"
    )]
    Extend(revoke::ExtendArgs),
    /// Says who opened what: what arrived of each file, and whether a person asked for it.
    #[command(after_help = opens::HELP)]
    Opens(Box<opens::OpensArgs>),
    /// Reads the access logs of stores, for `handout opens`.
    #[command(subcommand)]
    Access(access::AccessCommand),
    /// Verifies and searches the audit log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Shows the ledger (the status of each recipient) and resolves doubts.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Writes the built-in templates of mails and pages, to change them.
    #[command(subcommand)]
    Templates(templates::TemplatesCommand),
    /// Prints the JSON Schema of the job format, of an audit line, or of what a command prints with --json.
    #[command(
        after_help = "Examples:\n  handout schema > job.schema.json\n  handout schema --audit\n  handout schema --of job-run"
    )]
    Schema {
        /// Prints the schema of an audit line.
        #[arg(long)]
        audit: bool,
        /// Prints the schema of what a command prints with --json, by its name in docs/json.md, such as job-run.
        #[arg(long, value_name = "NAME", conflicts_with = "audit")]
        of: Option<String>,
    },
    /// Prints a completion script for a shell.
    #[command(after_help = "Example:\n  handout completions bash > /etc/bash_completion.d/handout")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// The log level of the command.
    pub(crate) const fn verbosity(&self) -> Verbosity {
        match self.command {
            Command::Run(_) | Command::Portal(_) => Verbosity::Jobs,
            _ => Verbosity::Warnings,
        }
    }
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file [default: config.toml here, then /etc/handout/config.toml, then the HANDOUT_ variables alone]
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

    /// The configuration; without a file, a configuration whose audit log is in the user's own directory. `None` if the user has
    /// no such directory.
    fn load_or_of_user(&self, environment: &Environment) -> anyhow::Result<Option<Config>> {
        match Config::load_file(self.config.as_deref(), environment) {
            Err(ConfigError::Nowhere) => Ok(Config::of_user(environment)?),
            loaded => Ok(Some(loaded?)),
        }
    }
}

/// Runs the command of the arguments.
pub(crate) async fn run(arguments: Cli, environment: &Environment) -> anyhow::Result<ExitCode> {
    match arguments.command {
        #[cfg(feature = "embedded")]
        Command::Demo(arguments) => Box::pin(demo::demo(&arguments, environment)).await,
        Command::Run(arguments) => Box::pin(run::run(&arguments, environment)).await,
        Command::Portal(arguments) => Box::pin(portal::portal(&arguments, environment)).await,
        Command::Check(arguments) => check::check(&arguments, environment).await,
        Command::Config(command) => config::config(&command, environment),
        Command::Health(arguments) => health::health(&arguments, environment).await,
        Command::Job(command) => Box::pin(job::job(command, environment)).await,
        Command::Suppression(command) => {
            Box::pin(suppression::suppression(command, environment)).await
        }
        Command::Feedback(arguments) => feedback::feedback(&arguments, environment).await,
        Command::Schedule(command) => Box::pin(schedule::schedule(command, environment)).await,
        Command::Presign(arguments) => Box::pin(presign::presign(*arguments, environment)).await,
        Command::Explain(arguments) => explain::explain(&arguments, environment).await,
        Command::Revoke(command) => Box::pin(revoke::revoke(command, environment)).await,
        Command::Restore(target) => Box::pin(revoke::restore(target, environment)).await,
        Command::Extend(arguments) => Box::pin(revoke::extend(arguments, environment)).await,
        Command::Opens(arguments) => Box::pin(opens::opens(&arguments, environment)).await,
        Command::Access(command) => Box::pin(access::access(command, environment)).await,
        Command::Audit(command) => audit::audit(command, environment).await,
        Command::Ledger(command) => ledger::ledger(command, environment).await,
        Command::Templates(command) => templates::templates(&command),
        Command::Schema { audit, of } => {
            say_lines(match (audit, of) {
                (_, Some(name)) => serde_json::to_string_pretty(&schemas::named(&name)?)?,
                (true, None) => serde_json::to_string_pretty(&handout::audit::schema::schema())?,
                (false, None) => serde_json::to_string_pretty(&handout::job::wire::schema())?,
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
