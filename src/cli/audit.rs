//! `handout audit`: whether the log is whole, and which line issued a link.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use handout::audit::find::{Question, find};
use handout::audit::record::Names;
use handout::audit::verify::verify;
use handout::config::{Config, Environment};
use handout::job::Recipient;
use handout::keyring::Keyring;
use handout::links::url::signature_in;

use super::{ConfigArgs, exit, say};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Reads every line and says whether the log is whole; exit 1 and the first bad line if not.
    #[command(after_help = "Example:\n  handout audit verify /var/lib/handout/audit")]
    Verify {
        /// The log's directory [default: the configuration's]
        dir: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
        /// Prints the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the lines that answer a question, as they stand in the log.
    #[command(after_help = "Examples:
  handout audit find --recipient ann@acme.example
  handout audit find --key s3://acme-reports/2026/11/23/a.pdf
  handout audit find --url -   < leaked-url.txt      which line issued this link, and to whom")]
    Find(FindArgs),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("question").required(true).multiple(true))]
pub(crate) struct FindArgs {
    /// A link that we issued, or `-` to read it from stdin, which keeps it out of the shell's history.
    #[arg(long, value_name = "URL|-", group = "question")]
    url: Option<String>,
    /// A link's id: the value of its x-handout parameter.
    #[arg(long, value_name = "ID", group = "question")]
    link_id: Option<String>,
    /// A recipient's address.
    #[arg(long, value_name = "ADDRESS", group = "question")]
    recipient: Option<String>,
    /// An object.
    #[arg(long, value_name = "s3://BUCKET/KEY", group = "question")]
    key: Option<String>,
    /// A job's id.
    #[arg(long, value_name = "ID", group = "question")]
    job: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Does what the command says.
pub(super) fn audit(command: AuditCommand, environment: &Environment) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify { dir, config, json } => {
            let dir = match dir {
                Some(dir) => dir,
                None => books_of(&config, environment)?.audit_dir(),
            };
            verify_dir(&dir, json)
        }
        AuditCommand::Find(arguments) => {
            find_lines(&arguments, &books_of(&arguments.config, environment)?)
        }
    }
}

/// The configuration; where there is none, that of the books that `handout presign` keeps for the user.
fn books_of(config: &ConfigArgs, environment: &Environment) -> anyhow::Result<Config> {
    let found = config.load_or_of_user(environment)?;
    let kept = found.filter(|found| config.is_named() || found.audit_dir().exists());
    kept.map_or_else(|| config.load(environment), Ok)
}

fn verify_dir(dir: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let report = verify(dir)
        .with_context(|| format!("could not read the audit log in {}", dir.display()))?;
    if json {
        say(serde_json::to_string(&report)?)?;
    } else {
        for problem in &report.problems {
            say(format_args!(
                "{} line {}: {}",
                problem.segment, problem.line, problem.reason
            ))?;
        }
        let verdict = if report.problems.is_empty() {
            "whole"
        } else {
            "NOT whole"
        };
        say(format_args!(
            "{}: {} lines in {} streams ({} still open): {verdict}",
            dir.display(),
            report.lines,
            report.streams,
            report.open
        ))?;
    }
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        exit::FOUND.into()
    })
}

fn find_lines(arguments: &FindArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let keyring = Keyring::open(&config.secret_key_file())?;
    let question = question(arguments, &Names::new(&keyring, false))?;
    let mut count = 0;
    let dir = config.audit_dir();
    find(&dir, &question, |line, _| {
        count += 1;
        say(line)
    })
    .with_context(|| format!("could not read the audit log in {}", dir.display()))?;
    Ok(if count > 0 {
        ExitCode::SUCCESS
    } else {
        exit::FOUND.into()
    })
}

fn question(arguments: &FindArgs, names: &Names) -> anyhow::Result<Question> {
    let link = match arguments.url.as_deref() {
        Some("-") => {
            let mut url = String::new();
            std::io::stdin().read_line(&mut url)?;
            Some(fingerprint(url.trim(), names)?)
        }
        Some(url) => Some(fingerprint(url, names)?),
        None => None,
    };
    let rid = match &arguments.recipient {
        Some(address) => {
            let recipient = Recipient::parse(address)
                .map_err(|error| anyhow::anyhow!("--recipient {error}"))?;
            Some(names.recipient_id(&recipient.canonical_address()))
        }
        None => None,
    };
    let object = match &arguments.key {
        Some(place) => {
            let parts = place
                .strip_prefix("s3://")
                .and_then(|place| place.split_once('/'));
            let (bucket, key) = parts.context("--key is not of the form s3://bucket/key")?;
            Some((bucket.to_owned(), key.to_owned()))
        }
        None => None,
    };
    Ok(Question {
        link,
        link_id: arguments.link_id.clone(),
        rid,
        job: arguments.job.clone(),
        object,
    })
}

fn fingerprint(url: &str, names: &Names) -> anyhow::Result<String> {
    let signature =
        signature_in(url).context("--url has no signature in it: give the whole link")?;
    Ok(names.fingerprint(signature))
}
