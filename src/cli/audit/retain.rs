//! `handout audit retain`: compresses, archives and removes sealed segments, once.

use std::process::ExitCode;

use clap::Args;
use handout::audit::retention::{Retention, RetentionCounts, RetentionReport, RetentionSettings};
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::keyring::Keyring;

use super::super::arguments::JsonArgs;
use super::super::connections::OpenConnections;
use super::super::supervision::{Beside, LAST_STEP};
use super::super::{ConfigArgs, exit, say, say_json};

pub(super) const HELP: &str = "\
Examples:
  handout audit retain --dry-run
  handout audit retain

`handout run` and `handout portal` do the same every ten minutes, as audit.keep, audit.compress and audit.archive say. Exit 1 if a segment has a problem.";

#[derive(Debug, Args)]
pub(crate) struct RetainArgs {
    /// Changes nothing, and prints what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// Runs the command.
pub(super) async fn retain(
    arguments: &RetainArgs,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    if !config.compresses_audit() {
        match arguments.form.json {
            true => say_json(&RetentionReport::default())?,
            false => say(
                "neither audit.keep nor audit.compress nor audit.archive is set: segments stay as they are",
            )?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let keyring = Keyring::open(&config.secret_key_file())?;
    let log = config.audit_settings(&keyring, environment)?;
    let opened = match config.audit.archive {
        Some(_) => Some(Box::pin(OpenConnections::open(config, environment)).await?),
        None => None,
    };
    let settings = match &opened {
        Some(opened) => config.audit_retention(log, &opened.connections, clock::system)?,
        None => Some(RetentionSettings {
            log,
            keep: config.audit.keep,
            compresses: true,
            archive: None,
        }),
    };
    let mut beside = Beside::of_command(LAST_STEP)?;
    let mut done = RetentionReport::default();
    if let Some(settings) = settings {
        let mut retention = Retention::new(settings, clock::system, RetentionCounts::default());
        done = tokio::select! {
            () = beside.told(1) => anyhow::bail!(exit::Interrupted),
            done = Box::pin(retention.once(arguments.dry_run)) => done?,
        };
    }
    if let Some(opened) = opened {
        opened.close().await;
    }
    tell(arguments, &done)?;
    Ok(match done.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => exit::FOUND.into(),
    })
}

fn tell(arguments: &RetainArgs, done: &RetentionReport) -> anyhow::Result<()> {
    if arguments.form.json {
        return Ok(say_json(done)?);
    }
    if done.is_busy {
        say("another process does this now")?;
        return Ok(());
    }
    let would = match arguments.dry_run {
        true => "would be ",
        false => "",
    };
    for (names, step) in [
        (&done.compressed, "compressed"),
        (&done.archived, "archived"),
        (&done.removed, "removed"),
    ] {
        for name in names {
            say(format_args!("{name}: {would}{step}"))?;
        }
    }
    for problem in &done.problems {
        say(format_args!(
            "{}: stays as it is: {}",
            problem.segment, problem.reason
        ))?;
    }
    let count = |names: &Vec<String>| names.len();
    say(format_args!(
        "{} {would}compressed, {} {would}archived, {} {would}removed, {} with a problem",
        count(&done.compressed),
        count(&done.archived),
        count(&done.removed),
        done.problems.len()
    ))?;
    Ok(())
}
