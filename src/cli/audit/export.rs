//! `handout audit export`: every line that concerns a recipient, for a subject-access request.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use handout::access::book::AccessBook;
use handout::audit::find::LinkQuery;
use handout::audit::record::Pseudonyms;
use handout::audit::verify::verify_remembered;
use handout::config::Config;
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::plan::Audience;
use handout::text::{agreeing, counted, shell_word};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::arguments::{NamedRecipient, named_recipient};
use super::super::schemas::OutputSchema;
use super::super::terminal::complain;
use super::super::{ConfigArgs, exit, say_json};
use super::archive::{ArchiveArgs, ReadArchive};
use super::find::{FoundLines, Logs};
use super::{could_not_read, own_log};

pub(super) const HELP: &str = "\
Examples:
  handout audit export --recipient ann@acme.example > ann.jsonl
  handout audit export --recipient ann@acme.example --json > ann.json
  handout audit export --recipient ann@acme.example --csv /mnt/worker-1/audit /mnt/worker-2/audit > ann.csv

The lines are those that name the recipient: links and mails of theirs, and what they opened, each as it is in the log. With them come the lines of links that all recipients of such a job share. Segments in audit.archive are read, too. Opens of links of S3 and CloudFront are in no audit log: stderr says so, and which command prints those that access logs had. Afterwards stderr says how many lines there are, and whether the logs are whole; exit 1 if there are none, or if a log is damaged.";

#[derive(Debug, Args)]
pub(crate) struct AuditExportArgs {
    /// The logs' directories, for several workers [default: the configuration's]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The recipient's address, or id.
    #[arg(long, value_name = "ADDRESS|ID", value_parser = named_recipient)]
    recipient: NamedRecipient,
    /// Prints a table for a spreadsheet instead of JSON Lines.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Prints one JSON object with the lines, and with what stderr says of them.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// The lines about a recipient, as `--json` prints them.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ExportReport {
    /// The lines, as they are in the log.
    lines: Vec<Value>,
    /// How many logs were read.
    logs: usize,
    /// Whether the logs are whole.
    whole: bool,
    opens: ExportedOpens,
}

/// What the export has of opens that access logs tell of.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ExportedOpens {
    /// Always `false`: the lines are those of the audit log.
    included: bool,
    /// Why, and where they are.
    reason: String,
}

impl ExportedOpens {
    /// What the state directory has of opens. The export does without them: a machine that reads no access logs answers, too.
    fn of(config: &Config, recipient: &NamedRecipient) -> Self {
        let book = AccessBook::path_in(&config.state_dir);
        let reason = match book.exists() {
            true => format!(
                "the audit log does not have them: `handout opens --recipient={} --all --json` prints them",
                shell_word(&recipient.typed())
            ),
            false => format!(
                "no access log was read on this machine: {} does not exist, and `handout access read` makes it",
                book.display()
            ),
        };
        Self {
            included: false,
            reason,
        }
    }
}

/// The lines of an export: printed as they are found, or kept for one object.
enum ExportLines {
    Printed(FoundLines),
    Kept(Vec<Value>),
}

impl ExportLines {
    fn begin(arguments: &AuditExportArgs) -> io::Result<Self> {
        Ok(match arguments.json {
            true => Self::Kept(Vec::new()),
            false => Self::Printed(FoundLines::begin(arguments.csv)?),
        })
    }

    fn take(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Printed(lines) => lines.print(line),
            Self::Kept(lines) => {
                lines.push(serde_json::from_str(line)?);
                Ok(())
            }
        }
    }

    /// How many there are, and those that were kept.
    fn end(self) -> io::Result<(usize, Option<Vec<Value>>)> {
        Ok(match self {
            Self::Printed(lines) => (lines.end()?, None),
            Self::Kept(lines) => (lines.len(), Some(lines)),
        })
    }
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
    let of = |rid: String| LinkQuery {
        rid: Some(rid),
        ..LinkQuery::default()
    };
    let everyone = names.recipient_id(&Audience::Everyone.canonical());
    let mut lines = ExportLines::begin(arguments)?;
    let mut jobs = HashSet::new();
    logs.search(&of(arguments.recipient.rid(&names)), |line| {
        let of_line: JobOfLine = serde_json::from_str(line)?;
        jobs.extend(of_line.job);
        lines.take(line)
    })?;
    logs.search(&of(everyone), |line| {
        let of_line: JobOfLine = serde_json::from_str(line)?;
        match of_line.job.is_some_and(|job| jobs.contains(&job)) {
            true => lines.take(line),
            false => Ok(()),
        }
    })?;
    let (count, kept) = lines.end()?;
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
    let opens = ExportedOpens::of(config, &arguments.recipient);
    complain(format_args!(
        "opens of links of S3 and CloudFront are not among the lines: {}",
        opens.reason
    ));
    let logs = logs.sources.len();
    complain(format_args!(
        "{} of {} {} the recipient; {whole}",
        counted(count as u64, "line"),
        counted(logs as u64, "log"),
        agreeing(count as u64, "concerns", "concern")
    ));
    if let Some(lines) = kept {
        say_json(&ExportReport {
            lines,
            logs,
            whole: are_whole,
            opens,
        })?;
    }
    Ok(match count > 0 && are_whole {
        true => ExitCode::SUCCESS,
        false => exit::FOUND.into(),
    })
}

/// What the command prints with `--json`.
pub(super) fn output() -> OutputSchema {
    OutputSchema::of::<ExportReport>("audit-export", "handout audit export")
}
