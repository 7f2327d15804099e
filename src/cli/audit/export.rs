//! `handout audit export`: every line that concerns a recipient, for a subject-access request.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use handout::audit::find::LinkQuery;
use handout::audit::record::Pseudonyms;
use handout::audit::verify::verify_remembered;
use handout::config::Config;
use handout::environment::Environment;
use handout::job::Recipient;
use handout::keyring::Keyring;
use handout::plan::Audience;
use serde::Deserialize;

use super::super::terminal::complain;
use super::super::{ConfigArgs, exit};
use super::archive::{ArchiveArgs, ReadArchive};
use super::find::{FoundLines, Logs};
use super::{could_not_read, own_log};

pub(super) const HELP: &str = "\
Examples:
  handout audit export --recipient ann@acme.example > ann.jsonl
  handout audit export --recipient ann@acme.example --csv /mnt/worker-1/audit /mnt/worker-2/audit > ann.csv

The lines are those that name the recipient: links and mails of theirs, and what they opened, each as it is in the log. With them come the lines of links that all recipients of such a job share. Segments in audit.archive are read, too. Afterwards stderr says how many lines there are, and whether the logs are whole; exit 1 if there are none, or if a log is damaged.";

#[derive(Debug, Args)]
pub(crate) struct AuditExportArgs {
    /// The logs' directories, for several workers [default: the configuration's]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The recipient's address.
    #[arg(long, value_name = "ADDRESS", value_parser = Recipient::parse)]
    recipient: Recipient,
    /// Prints a table for a spreadsheet instead of JSON Lines.
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// The field by which shared links are found.
#[derive(Deserialize)]
struct JobOfLine {
    job: Option<String>,
}

/// Runs the command.
pub(super) async fn export(
    arguments: &AuditExportArgs,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let keyring = Keyring::open(&config.secret_key_file())?;
    let names = Pseudonyms::new(&keyring, false);
    let opening = ReadArchive::of_or_configured(&arguments.archive, config, environment);
    let archive = Box::pin(opening).await?;
    let logs = Logs::of(&arguments.dirs, config, &archive);
    let of = |text: &str| LinkQuery {
        rid: Some(names.recipient_id(text)),
        ..LinkQuery::default()
    };
    let mut lines = FoundLines::begin(arguments.csv)?;
    let mut jobs = HashSet::new();
    logs.search(&of(&arguments.recipient.canonical_address()), |line| {
        let of_line: JobOfLine = serde_json::from_str(line)?;
        jobs.extend(of_line.job);
        lines.print(line)
    })?;
    logs.search(&of(&Audience::Everyone.canonical()), |line| {
        let of_line: JobOfLine = serde_json::from_str(line)?;
        match of_line.job.is_some_and(|job| jobs.contains(&job)) {
            true => lines.print(line),
            false => Ok(()),
        }
    })?;
    let count = lines.end()?;
    let are_whole = logs.sources.iter().try_fold(true, |are_whole, source| {
        let own = own_log(&source.place, &arguments.config, environment)?;
        let (key, memory) = own.unzip();
        let report = tokio::task::block_in_place(|| {
            verify_remembered(source, key.as_ref(), memory.as_ref())
        });
        let report = report.with_context(|| could_not_read(&source.place))?;
        if let Some(problem) = report.problems.first() {
            complain(format_args!(
                "the log in {} is DAMAGED ({} line {}: {}): `handout audit verify` says what is wrong with it",
                source.place.display(),
                problem.segment,
                problem.line,
                problem.reason
            ));
        }
        anyhow::Ok(are_whole && report.problems.is_empty())
    })?;
    archive.close().await;
    logs.tell_unread();
    let whole = match are_whole {
        true => "the logs are whole",
        false => "not all logs are whole",
    };
    complain(format_args!(
        "{count} lines of {} logs concern the recipient; {whole}",
        logs.sources.len()
    ));
    Ok(match count > 0 && are_whole {
        true => ExitCode::SUCCESS,
        false => exit::FOUND.into(),
    })
}
