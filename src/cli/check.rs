//! `handout check`: what would not work, before a job finds out.
//!
//! Each topic has a file, and tells the [`CheckReport`] what it finds as soon as it knows.

mod connections;
mod deletions;
mod events;
mod lifetimes;
mod links;
mod local;
mod publishing;
mod queues;
mod relays;
mod report;

use std::process::ExitCode;

use clap::Args;
use handout::environment::Environment;

use self::report::CheckReport;
use super::{ConfigArgs, exit};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Prints the findings as one JSON object, at the end.
    #[arg(long)]
    json: bool,
}

/// Looks at everything; exit 1 if anything would not work.
///
/// What is on this machine is looked at first, since it is known at once. Each look at something outside is bounded.
pub(super) async fn check(
    arguments: &CheckArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load(environment)?;
    let report = CheckReport::new(arguments.json);
    report.tell("configuration", Ok("can be read".to_owned()))?;
    local::check(&config, environment, &report)?;
    relays::signatures(&config, environment, &report)?;
    connections::check(&config, environment, &report).await?;
    Box::pin(events::check(&config, environment, &report)).await?;
    queues::check(&config, environment, &report).await?;
    relays::check(&config, environment, &report).await?;
    Ok(if report.end()? {
        ExitCode::SUCCESS
    } else {
        exit::FOUND.into()
    })
}
