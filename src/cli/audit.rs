//! `handout audit`: verifies the log, finds lines, and counts links.

mod addresses;
mod archive;
mod export;
mod find;
mod retain;
mod stats;
pub(in crate::cli) mod whose;

pub(in crate::cli) use self::archive::{ArchiveArgs, ReadArchive, tell_unread};
pub(in crate::cli) use self::find::object;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use directory::Location;
use handout::assemble::{OpenError, OpenedLedger, PROGRAM};
use handout::audit::note::{CheckpointKeyError, PublicKey};
use handout::audit::remembered::Memory;
use handout::audit::retention::RetentionReport;
use handout::audit::source::{LogSource, holds_log};
use handout::audit::tail::Tail;
use handout::audit::verify::{VerifyReport, verify_remembered};
use handout::audit::{AuditLog, AuditRecord, LossError, accept_loss};
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::mounted;
use handout::text::{chain, counted};
use jiff::Timestamp;
use serde::Serialize;

use super::arguments::{JsonArgs, count, instant};
use super::exit::CommandError;
use super::schemas::OutputSchema;
use super::terminal::{TerminalLines, complain};
use super::{ConfigArgs, exit, say, say_json};

/// The polling interval of a followed log.
const FOLLOW: Duration = Duration::from_millis(500);

/// Writes the audit line of a command, in a stream of its own: the daemon goes on writing to its own. Durable when it returns.
pub(super) async fn append_line(
    line: AuditRecord,
    config: &Config,
    opened: &OpenedLedger,
    environment: &Environment,
) -> anyhow::Result<()> {
    let settings = config.audit_settings(&opened.keyring, environment)?;
    let (log, writer) = AuditLog::open(&settings, PROGRAM, clock::system)?;
    let appended = log.append(vec![line]).await;
    drop(log);
    writer.close();
    Ok(appended?)
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verifies every line of the log; exit 1 and the first bad line if it is damaged.
    #[command(after_help = "Examples:
  handout audit verify
  handout audit verify --public-key handout+1d9ea9ee+AQIDBA… /mnt/copy-of-the-log
  handout audit verify /mnt/worker-1/audit /mnt/worker-2/audit
  handout audit verify --archive                      the segments that were removed after audit.keep, too

The key of your own log comes from the configuration. To verify a copy from another installation, give the key that `handout audit key` prints there; without a key, verification detects damage but not forgery.")]
    Verify(VerifyArgs),
    /// Prints the public key of the log, for verifiers.
    #[command(after_help = "Example:\n  handout audit key > audit.pub")]
    Key {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Prints the lines that match, as they are in the log.
    #[command(after_help = find::HELP)]
    Find(Box<find::FindArgs>),
    /// Finds the addresses behind recipients' ids.
    #[command(after_help = addresses::HELP)]
    Whose(addresses::AddressArgs),
    /// Prints every line that concerns a recipient, for a subject-access request.
    #[command(after_help = export::HELP)]
    Export(export::AuditExportArgs),
    /// Compresses, archives and removes sealed segments, as the configuration says, once.
    #[command(after_help = retain::HELP)]
    Retain(retain::RetainArgs),
    /// Prints the last lines of all streams; with --follow, new lines too.
    #[command(after_help = "Example:\n  handout audit tail -f")]
    Tail {
        /// The log's directory [default: the configuration's]
        dir: Option<PathBuf>,
        /// The number of lines.
        #[arg(short = 'n', long, alias = "limit", value_name = "N", default_value_t = 10, value_parser = count)]
        lines: usize,
        /// Prints new lines as they are written, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Accepts the loss of a damaged stream, so that the daemon can start; `audit verify` reports it from then on.
    #[command(
        after_help = "Example:\n  handout audit accept-loss 20261123T184000Z-1d9ea9ee

A start that finds a damaged stream exits with 65 and names it. Keep the files of the stream for an investigation first."
    )]
    AcceptLoss {
        /// The stream, as named in the error.
        stream: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Counts links and bytes, for each day, bucket and recipient.
    #[command(after_help = stats::HELP)]
    Stats(stats::StatsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The logs' directories, for several workers [default: the configuration's]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The public key, or a file with it, under which the log must be signed.
    #[arg(long, value_name = "KEY|FILE")]
    public_key: Option<String>,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Clone, Copy, Args)]
struct TimeArgs {
    /// Only lines from this instant, or day (UTC), on.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<Timestamp>,
    /// Only lines before this instant, or day (UTC).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<Timestamp>,
}

/// Runs the command.
pub(super) async fn audit(
    command: AuditCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify(arguments) => Box::pin(verify_all(&arguments, environment)).await,
        AuditCommand::Whose(arguments) => {
            Box::pin(addresses::find_addresses(&arguments, environment)).await
        }
        AuditCommand::Export(arguments) => {
            let config = books_of(&arguments.config, environment)?;
            Box::pin(export::export(&arguments, &config, environment)).await
        }
        AuditCommand::Retain(arguments) => {
            let config = books_of(&arguments.config, environment)?;
            Box::pin(retain::retain(&arguments, &config, environment)).await
        }
        AuditCommand::Key { config } => {
            let config = books_of(&config, environment)?;
            let keyring = Keyring::open(&config.secret_key_file())?;
            say(config.checkpoint_key(&keyring, environment)?.public())?;
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::AcceptLoss { stream, config } => {
            let config = books_of(&config, environment)?;
            let keyring = Keyring::open(&config.secret_key_file())?;
            let settings = config.audit_settings(&keyring, environment)?;
            match accept_loss(&settings, clock::system, &stream) {
                Ok(()) => {
                    say(format_args!("the loss of the stream {stream} is accepted"))?;
                    Ok(ExitCode::SUCCESS)
                }
                Err(LossError::Record(error)) => Err(OpenError::Audit(error).into()),
                Err(refused) => {
                    complain(&refused);
                    Ok(exit::FOUND.into())
                }
            }
        }
        AuditCommand::Find(arguments) => {
            let config = match books_of(&arguments.config, environment) {
                Err(_) if arguments.is_of_copies() => return find::find_in_copies(&arguments),
                config => config?,
            };
            Box::pin(find::find_lines(&arguments, &config, environment)).await
        }
        AuditCommand::Tail {
            dir,
            lines,
            follow,
            config,
        } => {
            let dir = match &dir {
                Some(dir) => Location::from(dir),
                None => books_of(&config, environment)?.audit_place(),
            };
            tell_empty(&dir)?;
            tail(&dir, lines, follow)
                .await
                .with_context(|| could_not_read(&dir))
        }
        AuditCommand::Stats(arguments) => {
            Box::pin(stats::show_stats(&arguments, environment)).await
        }
    }
}

/// The configuration; without a file, that of the audit log that `handout presign` keeps for the user.
fn books_of(config: &ConfigArgs, environment: &Environment) -> anyhow::Result<Config> {
    let found = config.load_or_of_user(environment)?;
    let kept = found.filter(|found| config.is_named() || found.audit_dir().exists());
    kept.map_or_else(|| config.load(environment), Ok)
}

/// Says on stderr that a directory has no log yet.
fn tell_empty(dir: &Location) -> anyhow::Result<()> {
    if !holds_log(dir.clone()).with_context(|| could_not_read(dir))? {
        complain(no_log_yet(dir));
    }
    Ok(())
}

fn no_log_yet(dir: &Path) -> String {
    format!(
        "{}: no audit log yet: the first line makes it",
        dir.display()
    )
}

fn holds_no_log(dir: &Path) -> String {
    format!(
        "{} holds no audit log: name the directory of each worker's log",
        dir.display()
    )
}

fn could_not_read(dir: &Path) -> String {
    format!("could not read the audit log in {}", dir.display())
}

/// Verifies the logs, one after the other.
async fn verify_all(arguments: &VerifyArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let dirs: Vec<Location> = match arguments.dirs.is_empty() {
        true => vec![books_of(&arguments.config, environment)?.audit_place()],
        false => arguments.dirs.iter().map(Location::from).collect(),
    };
    let mut are_whole = true;
    for dir in dirs {
        are_whole &= Box::pin(verify_dir(dir, arguments, environment)).await?;
    }
    Ok(match are_whole {
        true => ExitCode::SUCCESS,
        false => exit::FOUND.into(),
    })
}

/// Verifies a log and prints what was found; whether it is whole.
async fn verify_dir(
    dir: Location,
    arguments: &VerifyArgs,
    environment: &Environment,
) -> anyhow::Result<bool> {
    let own = own_log(&dir, &arguments.config, environment)?;
    // A fresh installation has no line yet; elsewhere, an empty directory is the wrong one. A key that is given is that of a log.
    let is_own = arguments.public_key.is_none() && (arguments.dirs.is_empty() || own.is_some());
    // A log that was written and is gone is no fresh installation.
    let is_remembered = own
        .as_ref()
        .is_some_and(|(_, memory)| memory.path().exists());
    let pinned = match &arguments.public_key {
        Some(key) => Some(public_key(key)?),
        None => own.as_ref().map(|(key, _)| *key),
    };
    // The memory is signed with this installation's key, so it does not apply if another key is requested.
    let memory = own.filter(|(key, _)| Some(*key) == pinned);
    let memory = memory.map(|(_, memory)| memory);
    let source = archive_beside(dir.clone(), arguments, environment).await?;
    let (source, archive) = source;
    let report =
        tokio::task::block_in_place(|| verify_remembered(source, pinned.as_ref(), memory.as_ref()));
    if let Some(archive) = archive {
        archive.close().await;
    }
    let mut report = report.with_context(|| could_not_read(&dir))?;
    let is_empty = report.streams == 0
        && !is_remembered
        && !holds_log(dir.clone()).with_context(|| could_not_read(&dir))?;
    if is_empty && !is_own {
        return Err(CommandError::Found(holds_no_log(&dir)).into());
    }
    if is_empty {
        // The registry is made with the first line.
        report.problems.clear();
    }
    if arguments.form.json {
        let log = dir.to_string_lossy();
        say_json(&VerifiedLog {
            log: &log,
            report: &report,
        })?;
    } else if is_empty {
        say(no_log_yet(&dir))?;
    } else {
        for problem in &report.problems {
            say(format_args!(
                "{} line {}: {}",
                problem.segment, problem.line, problem.reason
            ))?;
        }
        for note in &report.notes {
            say(format_args!("note: {note}"))?;
        }
        let registry = report
            .registry_generation
            .zip(report.registry_sha256.as_ref());
        if let Some((generation, hash)) = registry {
            say(format_args!(
                "registry: generation {generation}, sha256:{hash} (kept elsewhere, both show later whether the log was set back)"
            ))?;
        }
        let verdict = if report.problems.is_empty() {
            "whole"
        } else {
            "DAMAGED"
        };
        say(format_args!(
            "{}: {} and {} in {} ({} still open): {verdict}",
            dir.display(),
            counted(report.lines, "line"),
            counted(report.checkpoints, "checkpoint"),
            counted(report.streams as u64, "stream"),
            report.open
        ))?;
    }
    Ok(report.problems.is_empty())
}

/// What was found in a log, as `--json` prints it: an object for each log.
#[derive(Serialize, schemars::JsonSchema)]
struct VerifiedLog<'a> {
    /// The log's directory.
    log: &'a str,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

/// A log with the archive that the arguments name; without one, no configuration is needed.
async fn archive_beside(
    dir: Location,
    arguments: &VerifyArgs,
    environment: &Environment,
) -> anyhow::Result<(LogSource, Option<ReadArchive>)> {
    if arguments.archive.archive.is_none() {
        return Ok((dir.into(), None));
    }
    let config = books_of(&arguments.config, environment)?;
    let archive = Box::pin(ReadArchive::of(&arguments.archive, &config, environment)).await?;
    Ok((archive.beside(dir), Some(archive)))
}

/// A public key, from the argument or from a file.
fn public_key(text: &str) -> anyhow::Result<PublicKey> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let read = mounted::read_text(Path::new(text)).map_err(|error| {
        CommandError::Usage(format!(
            "--public-key {text} is neither a key nor a file that can be read: {}",
            chain(&error)
        ))
    })?;
    let key = read.trim().parse();
    let wrong = |error| CommandError::Usage(format!("--public-key names {text}, which {error}"));
    key.map_err(|error: CheckpointKeyError| wrong(error).into())
}

/// The key of this installation's log, and its memory; for other logs, neither is known.
fn own_log(
    dir: &Path,
    config: &ConfigArgs,
    environment: &Environment,
) -> anyhow::Result<Option<(PublicKey, Memory)>> {
    let config = match config.is_named() {
        true => Some(config.load(environment)?),
        false => config.load_or_of_user(environment).unwrap_or_default(),
    };
    let Some(config) = config else {
        return Ok(None);
    };
    let same = |one: &Path, other: &Path| {
        let known = std::fs::canonicalize(one).ok();
        known.is_some() && known == std::fs::canonicalize(other).ok()
    };
    // A read-only command must not create a secret.
    if !same(dir, &config.audit_dir()) || !config.secret_key_file().exists() {
        return Ok(None);
    }
    let keyring = Keyring::open(&config.secret_key_file())?;
    let key = config.checkpoint_key(&keyring, environment)?.public();
    Ok(Some((key, config.audit_memory())))
}

async fn tail(dir: &Location, lines: usize, follow: bool) -> std::io::Result<ExitCode> {
    let (mut tail, last) = Tail::of(dir, lines)?;
    let tell = |lines: Vec<String>| {
        let mut out = TerminalLines::new();
        for line in &lines {
            out.json(line.trim_end_matches('\n'))?;
        }
        out.flush()
    };
    tell(last)?;
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        tokio::time::sleep(FOLLOW).await;
        tell(tail.news(dir)?)?;
    }
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![
        OutputSchema::of::<VerifiedLog<'static>>("audit-verify", "handout audit verify"),
        OutputSchema::of::<RetentionReport>("audit-retain", "handout audit retain"),
        stats::output(),
        addresses::output(),
        export::output(),
    ]
}
