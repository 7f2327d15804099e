//! `handout check`: finds problems before a job does.
//!
//! Each topic has a file, and adds its findings to the [`CheckReport`] as soon as they are known.

mod archive;
mod connections;
mod deletions;
mod events;
mod intake;
mod lifetimes;
mod links;
mod lists;
mod local;
mod portal;
mod publishing;
mod queues;
mod relays;
mod report;
mod schedules;

use std::process::ExitCode;

use clap::Args;
use handout::environment::Environment;

use self::report::CheckReport;
use super::arguments::JsonArgs;
use super::schemas::OutputSchema;
use super::{ConfigArgs, exit};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Checks each row of this list of recipients, and nothing else.
    #[arg(long, value_name = "LIST")]
    rows: Option<String>,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs all checks; exit 1 if any fails.
///
/// Local checks run first, since they are immediate. Each check of a remote service has a timeout.
pub(super) async fn check(
    arguments: &CheckArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load(environment)?;
    let report = CheckReport::new(arguments.form.json);
    if let Some(list) = &arguments.rows {
        Box::pin(lists::rows(&config, environment, list, &report)).await?;
        return Ok(code(report.end()?));
    }
    report.tell("configuration", Ok("can be read".to_owned()))?;
    local::check(&config, environment, &report)?;
    intake::local(&config, &report)?;
    portal::local(&config, &report)?;
    relays::signatures(&config, environment, &report)?;
    connections::check(&config, environment, &report).await?;
    Box::pin(events::check(&config, environment, &report)).await?;
    Box::pin(lists::check(&config, environment, &report)).await?;
    Box::pin(schedules::check(&config, environment, &report)).await?;
    queues::check(&config, environment, &report).await?;
    relays::check(&config, environment, &report).await?;
    portal::issuers(&config, environment, &report).await?;
    portal::public(&config, environment, &report).await?;
    Ok(code(report.end()?))
}

fn code(works: bool) -> ExitCode {
    match works {
        true => ExitCode::SUCCESS,
        false => exit::FOUND.into(),
    }
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![report::output()]
}
