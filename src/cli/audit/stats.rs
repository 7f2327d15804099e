//! `handout audit stats`: counts links and bytes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use directory::Location;
use handout::audit::find::LinkQuery;
use handout::audit::source::{LogSource, holds_log};
use handout::audit::stats::{LinkCount, StatsCounts, StatsGroup, add_stats};
use handout::environment::Environment;
use serde::Serialize;

use super::super::ConfigArgs;
use super::super::arguments::JsonLinesArgs;
use super::super::exit::CommandError;
use super::super::schemas::OutputSchema;
use super::super::terminal::TerminalLines;
use super::archive::{ArchiveArgs, ReadArchive, tell_unread};
use super::{TimeArgs, books_of, could_not_read, holds_no_log, tell_empty};

pub(super) const HELP: &str = "\
Examples:
  handout audit stats --since 2026-11-01 --json
  handout audit stats /mnt/worker-1/audit /mnt/worker-2/audit       the logs of several workers, counted together";

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The logs' directories, for several workers [default: the configuration's]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    form: JsonLinesArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Prints the counts.
pub(super) async fn show_stats(
    arguments: &StatsArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let (sources, archive) = Box::pin(arguments.logs(environment)).await?;
    let counts = tokio::task::block_in_place(|| arguments.count(&sources));
    if let Some(archive) = archive {
        archive.close().await;
    }
    let counts = counts?;
    if counts.is_empty() && arguments.dirs.is_empty() {
        for source in &sources {
            tell_empty(&source.place)?;
        }
    }
    sources.iter().for_each(tell_unread);
    print(&counts, arguments.form.json)?;
    Ok(ExitCode::SUCCESS)
}

impl StatsArgs {
    /// The logs that are counted; directories that are named need no configuration.
    async fn logs(
        &self,
        environment: &Environment,
    ) -> anyhow::Result<(Vec<LogSource>, Option<ReadArchive>)> {
        let named = self.dirs.iter().map(Location::from);
        if !self.dirs.is_empty() && self.archive.archive.is_none() {
            return Ok((named.map(LogSource::from).collect(), None));
        }
        let config = books_of(&self.config, environment)?;
        let archive = ReadArchive::of(&self.archive, &config, environment).await?;
        let places: Vec<Location> = match self.dirs.is_empty() {
            true => vec![config.audit_place()],
            false => named.collect(),
        };
        let sources = places.into_iter().map(|place| archive.beside(place));
        Ok((sources.collect(), Some(archive)))
    }

    fn count(&self, sources: &[LogSource]) -> anyhow::Result<StatsCounts> {
        let question = LinkQuery {
            since: self.time.since,
            until: self.time.until,
            ..LinkQuery::default()
        };
        let mut counts = StatsCounts::new();
        for source in sources {
            let place = &source.place;
            let counted = add_stats(&mut counts, source, &question);
            let segments = counted.with_context(|| could_not_read(place))?;
            let is_log = segments > 0 || self.dirs.is_empty();
            if !is_log && !holds_log(place.clone()).with_context(|| could_not_read(place))? {
                return Err(CommandError::Found(holds_no_log(place)).into());
            }
        }
        Ok(counts)
    }
}

fn print(counts: &StatsCounts, is_json: bool) -> anyhow::Result<()> {
    let mut out = TerminalLines::new();
    if !is_json {
        out.text("day\tbucket\trecipient\tlinks\tbytes")?;
    }
    for (group, count) in counts {
        if is_json {
            out.json(&serde_json::to_string(&StatsRow { group, count })?)?;
            continue;
        }
        let who = count.to.as_deref().unwrap_or(&group.rid);
        let (links, bytes) = (count.links, count.bytes);
        out.text(format_args!(
            "{}\t{}\t{who}\t{links}\t{bytes}",
            group.day, group.bucket
        ))?;
    }
    out.flush()?;
    Ok(())
}

/// A row of the statistics, as `--json` prints it.
#[derive(Serialize, schemars::JsonSchema)]
struct StatsRow<'a> {
    #[serde(flatten)]
    group: &'a StatsGroup,
    #[serde(flatten)]
    count: &'a LinkCount,
}

/// What the command prints with `--json`.
pub(super) fn output() -> OutputSchema {
    OutputSchema::of::<StatsRow<'static>>("audit-stats", "handout audit stats")
}
