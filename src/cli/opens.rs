//! `handout opens`: who opened what, from the audit log and the access logs that were read.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use handout::access::book::AccessBook;
use handout::access::opens::{OpensQuestion, OpensReport, OpensRow, answer};
use handout::access::page::{self, ReportHead};
use handout::assemble::PROGRAM;
use handout::audit::find::LinkQuery;
use handout::audit::record::Pseudonyms;
use handout::audit::source::LogSource;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::job::{JobId, Recipient};
use handout::keyring::Keyring;
use handout::text::{agreeing, counted};
use jiff::Timestamp;

use super::access::audit_places;
use super::arguments::{JsonArgs, NamedRecipient, instant, named_recipient};
use super::audit::whose::{IssuedTo, Whose};
use super::audit::{ArchiveArgs, ReadArchive, object, tell_unread};
use super::schemas::OutputSchema;
use super::terminal::{TerminalLines, complain, write_exactly};
use super::{ConfigArgs, exit, say, say_json};

pub(super) const HELP: &str = "\
What arrived: complete | probably complete (as many bytes as the file has; S3 does not log which) | partly | broken off | looked at | handed out (by the portal, and no log has a request) | refused, and why. Who opened it: person (signed in) | likely person | unknown | likely machine | machine, each with its evidence. The last lines say how much the logs account for. Read the logs first with `handout access read`.

Examples:
  handout opens acme-daily-2026-11-23
  handout opens --recipient ann@acme.example --since 2026-11-01
  handout opens --object s3://acme-reports/2026/11/q3.pdf --csv
  handout opens acme-daily-2026-11-23 --all --html > opens.html     a report to be filed";

/// The most recipients whose addresses the ledger is asked for.
const MAX_ASKED: usize = 200;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("question").required(true).multiple(true))]
pub(crate) struct OpensArgs {
    /// The job's id.
    #[arg(value_name = "JOB", group = "question")]
    job: Option<JobId>,
    /// A recipient's address, or id.
    #[arg(long, value_name = "ADDRESS|ID", group = "question", value_parser = named_recipient)]
    recipient: Option<NamedRecipient>,
    /// An object.
    #[arg(long, alias = "key", value_name = "s3://BUCKET/KEY", group = "question", value_parser = object)]
    object: Option<(String, String)>,
    /// Only opens from this instant, or day (UTC), on.
    #[arg(long, value_name = "TIME", group = "question", value_parser = instant)]
    since: Option<Timestamp>,
    /// Only opens before this instant, or day (UTC).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<Timestamp>,
    /// Links that were not opened, too.
    #[arg(long)]
    all: bool,
    /// The audit logs' directories, for several workers [default: the configuration's]
    #[arg(long = "audit", value_name = "DIR")]
    audit: Vec<PathBuf>,
    /// Prints a table for a spreadsheet.
    #[arg(long, conflicts_with_all = ["json", "html"])]
    csv: bool,
    /// Prints an HTML report without scripts, to be filed.
    #[arg(long, conflicts_with = "json")]
    html: bool,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command.
pub(super) async fn opens(
    arguments: &OpensArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load(environment)?;
    let keyring = Keyring::open(&config.secret_key_file())?;
    let names = Pseudonyms::new(&keyring, false);
    let recipient = arguments.recipient.as_ref();
    let question = OpensQuestion {
        query: LinkQuery {
            job: arguments.job.as_ref().map(ToString::to_string),
            rid: recipient.map(|recipient| recipient.rid(&names)),
            object: arguments.object.clone(),
            ..LinkQuery::default()
        },
        since: arguments.since,
        until: arguments.until,
        all: arguments.all,
    };
    let book = AccessBook::open(&config.state_dir)?;
    let archive = Box::pin(ReadArchive::of(&arguments.archive, &config, environment)).await?;
    let places = audit_places(&config, &arguments.audit).into_iter();
    let places: Vec<LogSource> = places.map(|log| archive.beside(log.place)).collect();
    let answered = tokio::task::block_in_place(|| answer(&places, &book, &question));
    archive.close().await;
    let mut report = answered?;
    places.iter().for_each(tell_unread);
    let asked = recipient.and_then(NamedRecipient::address);
    name_recipients(&mut report, &config, asked, names, environment).await;
    arguments.tell(&report)?;
    match report.coverage.links {
        0 => {
            complain("the audit log has no link that the question is about");
            Ok(exit::FOUND.into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Adds the addresses that the configuration or the ledger has.
pub(super) async fn name_recipients(
    report: &mut OpensReport,
    config: &Config,
    asked: Option<&Recipient>,
    names: Pseudonyms,
    environment: &Environment,
) {
    let mut whose = Whose::new(config, asked, names);
    let mut people = BTreeSet::new();
    for row in &mut report.rows {
        let person = (row.job.clone(), row.rid.clone());
        if people.len() >= MAX_ASKED && !people.contains(&person) {
            continue;
        }
        people.insert(person);
        let issued = IssuedTo {
            job: row.job.clone(),
            rid: row.rid.clone(),
            to: row.to.take(),
        };
        row.to = match whose.is_everyone(&issued.rid) {
            true => Some("all recipients".to_owned()),
            false => Box::pin(whose.address(&issued, environment)).await,
        };
    }
}

impl OpensArgs {
    fn tell(&self, report: &OpensReport) -> anyhow::Result<()> {
        if self.form.json {
            say_json(report)?;
        } else if self.csv {
            let mut out = TerminalLines::new();
            out.csv(&page::csv_heading())?;
            for row in &report.rows {
                out.csv(&page::csv_row(row))?;
            }
            out.flush()?;
        } else if self.html {
            let question = self.in_words();
            let head = ReportHead {
                question: &question,
                at: clock::system(),
                program: PROGRAM,
            };
            write_exactly(page::html(report, &head).as_bytes())?;
        } else {
            table(&report.rows)?;
            for line in page::summary(report) {
                say(line)?;
            }
        }
        Ok(())
    }

    fn in_words(&self) -> String {
        let mut words = Vec::new();
        if let Some(job) = &self.job {
            words.push(format!("job {job}"));
        }
        if let Some(recipient) = &self.recipient {
            words.push(format!("recipient {}", recipient.typed()));
        }
        if let Some((bucket, key)) = &self.object {
            words.push(format!("file s3://{bucket}/{key}"));
        }
        if let Some(since) = self.since {
            words.push(format!("from {}", page::instant(since)));
        }
        if let Some(until) = self.until {
            words.push(format!("until {}", page::instant(until)));
        }
        words.join(", ")
    }
}

/// The rows, a line and an indented line each.
pub(super) fn table(rows: &[OpensRow]) -> io::Result<()> {
    let mut out = TerminalLines::new();
    let mut person = "";
    for row in rows {
        let whose = page::whose(row);
        if whose != person {
            out.text(whose)?;
            person = whose;
        }
        let when = row.first.map(page::instant).unwrap_or_default();
        let by = row.by.map_or("", |by| by.words());
        out.text(format_args!(
            "  {:40} {:20} {by:14} {when}",
            row.key,
            page::arrived(row)
        ))?;
        if !row.evidence.is_empty() {
            out.text(format_args!("    {}", row.evidence.join("; ")))?;
        }
        if row.machine_opens > 0 && row.by.is_some_and(|by| !by.is_machine()) {
            out.text(format_args!(
                "    {} of machines {} left out",
                counted(row.machine_opens, "open"),
                agreeing(row.machine_opens, "is", "are")
            ))?;
        }
    }
    out.flush()
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![OutputSchema::of::<OpensReport>("opens", "handout opens")]
}
