//! `handout feedback`: takes in bounces and complaints that come as mails, from a pipe or a Maildir.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use handout::assemble;
use handout::clock;
use handout::config::Config;
use handout::deliver::Sender;
use handout::environment::Environment;
use handout::feedback::report;
use handout::feedback_intake::{FeedbackEnd, FeedbackRecorder};
use handout::ledger::taken_reports::{TakenReports, TakenRun};
use handout::text::{chain, counted};
use serde::Serialize;

use super::arguments::JsonLinesArgs;
use super::schemas::OutputSchema;
use super::terminal::complain;
use super::{ConfigArgs, exit, say, say_json};

/// The longest mail that is read, in bytes; a returned mail may be in it.
const MAX_MAIL: u64 = 32 * 1024 * 1024;

/// The most mails of a Maildir that one run takes.
const MAX_MAILS: usize = 100_000;

#[derive(Debug, Args)]
#[command(after_help = "\
A mail is read as a delivery report (RFC 3464), a complaint (ARF, RFC 5965) or a bounce in free text. What it means is recorded in the ledger, and later jobs mail no recipient that it suppresses. A mail that is none of these is no failure: nothing is recorded, and in a Maildir it is moved to cur as read.

Exit code 75: the mail on stdin could not be taken in, so that the mail server keeps it and tries again.

Examples:
  handout feedback - < bounce.eml
  handout feedback /var/mail/bounces/Maildir")]
pub(crate) struct FeedbackArgs {
    /// A Maildir, whose new mails are read and moved to `cur`; or `-` for one mail on stdin.
    #[arg(value_name = "MAILDIR")]
    source: PathBuf,
    #[command(flatten)]
    form: JsonLinesArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

impl FeedbackArgs {
    fn is_one_mail(&self) -> bool {
        self.source == Path::new("-")
    }
}

/// Runs the command.
pub(super) async fn feedback(
    arguments: &FeedbackArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match Box::pin(take(arguments, environment)).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Any other code would make the mail server return or lose the mail.
        Err(error) if arguments.is_one_mail() => {
            complain(chain(&*error));
            Ok(exit::TRY_AGAIN.into())
        }
        Err(error) => Err(error),
    }
}

async fn take(arguments: &FeedbackArgs, environment: &Environment) -> anyhow::Result<()> {
    let config = arguments.config.load(environment)?;
    config.must_suppress()?;
    let opened = assemble::open_ledger(&config, environment, clock::system).await?;
    let sender = sender_of(&config, &opened.keyring)?;
    let audit = config.audit_settings(&opened.keyring, environment)?;
    let results = Box::pin(assemble::results(&config, environment)).await?;
    let recorder = FeedbackRecorder::beside(
        (audit, results),
        Arc::clone(&opened.ledger),
        &opened.keyring,
        opened.names.clone(),
        sender,
        clock::system,
    );
    let mut run = TakenRun::default();
    let taken = if arguments.is_one_mail() {
        take_one(&recorder, io::stdin().lock())
            .await
            .and_then(|end| {
                end.count_in(&mut run);
                tell(end, None, arguments.form)?;
                Ok(())
            })
    } else {
        take_maildir(&recorder, &arguments.source, arguments.form, &mut run).await
    };
    recorder.close().await;
    if !run.is_empty() {
        let reports = TakenReports::of(&*opened.ledger);
        let kept = reports.keep(&run, clock::system());
        // The reports themselves are recorded, so the mails are taken all the same.
        if let Err(error) = kept.await {
            complain(format_args!(
                "the metrics of the daemon will not count this run: {}",
                chain(&error)
            ));
        }
    }
    opened.close().await;
    taken
}

/// The sender of mails, whose address and Message-IDs are in reports.
fn sender_of(config: &Config, keyring: &handout::keyring::Keyring) -> anyhow::Result<Sender> {
    Ok(Sender::new(config.sender()?, keyring.clone()))
}

/// What became of a mail, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct TakenMail<'a> {
    verdict: &'a str,
    /// The name of its file in the Maildir.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
}

fn tell(end: FeedbackEnd, file: Option<&str>, form: JsonLinesArgs) -> io::Result<()> {
    let verdict = end.word();
    match (form.json, file) {
        (true, file) => say_json(&TakenMail { verdict, file }),
        (false, Some(file)) => say(format_args!("{verdict}\t{file}")),
        (false, None) => say(verdict),
    }
}

async fn take_one(recorder: &FeedbackRecorder, mail: impl Read) -> anyhow::Result<FeedbackEnd> {
    let mut bytes = Vec::new();
    mail.take(MAX_MAIL)
        .read_to_end(&mut bytes)
        .context("could not read the mail")?;
    Ok(recorder.settle(&report::read(&bytes)).await?)
}

/// Takes the new mails of a Maildir. A mail is moved to `cur` after its records are durable: one that is taken twice changes nothing.
async fn take_maildir(
    recorder: &FeedbackRecorder,
    dir: &Path,
    form: JsonLinesArgs,
    run: &mut TakenRun,
) -> anyhow::Result<()> {
    let (new, cur) = (dir.join("new"), dir.join("cur"));
    let entries = fs::read_dir(&new).with_context(|| {
        format!(
            "{} is no Maildir: could not read its folder new",
            dir.display()
        )
    })?;
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.file_name())
        .take(MAX_MAILS)
        .collect();
    names.sort();
    fs::create_dir_all(&cur).with_context(|| format!("could not make {}", cur.display()))?;
    let mut taken = 0_u64;
    for name in names {
        let path = new.join(&name);
        let mail = match fs::File::open(&path) {
            Ok(mail) => mail,
            // Another run has taken it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("could not read {}", path.display()));
            }
        };
        let end = take_one(recorder, mail).await?;
        let mut seen = name.clone();
        seen.push(":2,S");
        match fs::rename(&path, cur.join(seen)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("could not move {}", path.display()));
            }
            _ => {}
        }
        end.count_in(run);
        taken += 1;
        tell(end, Some(&name.to_string_lossy()), form)?;
    }
    if !form.json {
        say(format_args!("{} taken", counted(taken, "mail")))?;
    }
    Ok(())
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![OutputSchema::of::<TakenMail<'static>>(
        "feedback",
        "handout feedback",
    )]
}
