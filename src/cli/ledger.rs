//! `handout ledger`: what became of a job's recipients.

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use handout::clock;
use handout::config::Environment;
use handout::database::Database;
use handout::job::JobId;
use handout::ledger::sqlite::SqliteLedger;
use handout::ledger::{Kind, Ledger, Standing, standing};

use super::{ConfigArgs, exit, say};

/// How many jobs are listed when none is named.
const LISTED: usize = 50;

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Prints where each recipient of a job stands, or the latest jobs.
    #[command(
        after_help = "Examples:\n  handout ledger show\n  handout ledger show acme-daily-2026-11-23"
    )]
    Show {
        /// The job's id; the latest jobs when left out.
        job: Option<JobId>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Does what the command says.
pub(super) async fn ledger(
    command: LedgerCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let LedgerCommand::Show { job, config } = command;
    let config = config.load(environment)?;
    let file = config.database_file();
    anyhow::ensure!(
        file.exists(),
        "there is no ledger yet: {} does not exist",
        file.display()
    );
    let ledger = SqliteLedger::new(Database::open(&file)?, clock::system);
    match job {
        Some(job) => show(&ledger, &job).await,
        None => list(&ledger).await,
    }
}

async fn list(ledger: &SqliteLedger) -> anyhow::Result<ExitCode> {
    for job in ledger.jobs(LISTED).await? {
        let records = ledger.records(&job).await?;
        let done = records.iter().any(|record| record.kind == Kind::Done);
        say(format_args!(
            "{}\t{job}",
            if done { "done" } else { "open" }
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(ledger: &SqliteLedger, job: &JobId) -> anyhow::Result<ExitCode> {
    let records = ledger.records(job).await?;
    if records.is_empty() {
        say(format_args!("the ledger knows no job {job}"))?;
        return Ok(exit::FOUND.into());
    }
    let done = records.iter().find(|record| record.kind == Kind::Done);
    say(format_args!(
        "{job}: {}",
        if done.is_some() { "done" } else { "open" }
    ))?;
    let mut recipients: Vec<&str> = records
        .iter()
        .map(|record| record.rid.as_str())
        .filter(|rid| !rid.is_empty())
        .collect();
    recipients.sort_unstable();
    recipients.dedup();
    for rid in recipients {
        let line = match standing(&records, rid).context("could not read the job's records")? {
            Standing::Free { n } => format!("open, attempt {n} is next"),
            Standing::Busy { n } => format!("in doubt since attempt {n}, or being worked now"),
            Standing::Terminal { n, outcome } => format!("{} at attempt {n}", outcome.word()),
            Standing::Exhausted => "given up: taken up and not sent too often".to_owned(),
        };
        say(format_args!("{rid}\t{line}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
