//! `handout ledger show`: prints the status of jobs and recipients, as lines and as JSON.

use std::process::ExitCode;

use anyhow::Context;
use handout::distribute::open_doubts;
use handout::job::JobId;
use handout::ledger::people::words_behind_name;
use handout::ledger::status::{is_done, outcome_of, record_of, reported};
use handout::ledger::{JobRecords, Kind, Ledger, Outcome, RecipientStatus, Record, status_of};
use serde::Serialize;

use super::super::schemas::OutputSchema;
use super::super::{exit, say, say_json};
use super::parts::{ShownParts, instants, why_unknown};

/// The number of listed jobs if none is named.
const LISTED: usize = 50;

/// A job in the list of jobs.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ListedJob<'a> {
    #[schemars(with = "String")]
    job: &'a JobId,
    /// `done` or `open`.
    state: &'static str,
    /// When it was begun.
    begun_at: Option<String>,
    /// When it was done last; records of older versions do not tell.
    done_at: Option<String>,
}

/// A job with its recipients.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ShownJob<'a> {
    #[schemars(with = "String")]
    job: &'a JobId,
    /// `done`, `open` or `unknown`.
    state: &'static str,
    /// When it was begun.
    begun_at: Option<&'a str>,
    /// When it was done last; records of older versions do not tell.
    done_at: Option<&'a str>,
    recipients: Vec<LedgerRow<'a>>,
    /// What the recipients of a job in parts came to so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<ShownParts>,
}

/// The status of a recipient, and the outcome of the last attempt.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct LedgerRow<'a> {
    rid: &'a str,
    /// `accepted`, `delivered`, `bounced`, `rejected`, `suppressed`, `in_doubt`, `under_way`, `open`, or `without_files` for a part of a
    /// job that had nothing to hand out. A relay accepts a mail; that it
    /// was delivered, or bounced, is what a mail system reported later.
    state: &'static str,
    /// The last attempt, or the next one of an `open` recipient.
    attempt: u32,
    /// The outcome of the last finished attempt: `accepted`, `rejected`, `not_sent` or `unknown`.
    outcome: Option<&'static str>,
    /// When the outcome was recorded; for records of older versions, when the attempt began.
    at: Option<String>,
    code: Option<u16>,
    words: Option<String>,
    message_id: Option<&'a str>,
    /// The recipient's address, in a ledger on this machine; records of older versions have none.
    to: Option<&'a str>,
    /// Attempts whose owner recorded the outcome after another worker had called them unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    late: Vec<Late>,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct Late {
    attempt: u32,
    outcome: &'static str,
}

/// A mail in doubt.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ShownDoubt<'a> {
    #[schemars(with = "String")]
    job: &'a JobId,
    rid: &'a str,
    attempt: u32,
    intended_at: &'a str,
    message_id: &'a str,
}

/// Prints the latest jobs.
pub(super) async fn list(ledger: &dyn Ledger, json: bool) -> anyhow::Result<ExitCode> {
    let jobs = ledger.jobs(LISTED).await?;
    let mut listed = Vec::new();
    for job in &jobs {
        let records = ledger.records_of(job, "").await?;
        let state = state(&records);
        let (begun_at, done_at) = instants(&records);
        if !json {
            let (begun, done) = (begun_at.unwrap_or("-"), done_at.unwrap_or("-"));
            say(format_args!("{state}\t{job}\t{begun}\t{done}"))?;
        }
        listed.push(ListedJob {
            job,
            state,
            begun_at: begun_at.map(str::to_owned),
            done_at: done_at.map(str::to_owned),
        });
    }
    match json {
        true => say_json(&listed)?,
        false if listed.is_empty() => say("The ledger has no jobs yet.")?,
        false => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn state(records_of_job: &[Record]) -> &'static str {
    if is_done(records_of_job) {
        "done"
    } else {
        "open"
    }
}

/// Prints the status of each recipient of a job.
pub(super) async fn show(ledger: &dyn Ledger, job: &JobId, json: bool) -> anyhow::Result<ExitCode> {
    let job_records = JobRecords::new(ledger.records(job).await?);
    let of_job = job_records.of("");
    let is_known = !(of_job.is_empty() && job_records.recipients().is_empty());
    let recipients = job_records.recipients().into_iter();
    let rows = recipients.map(|rid| LedgerRow::new(rid, job_records.of(rid)));
    let mut rows = rows.collect::<anyhow::Result<Vec<_>>>()?;
    let (begun_at, done_at) = instants(of_job);
    if let Some(rid) = job.recipient_of_part()
        && rows.is_empty()
        && is_done(of_job)
    {
        rows.push(LedgerRow::without_files(rid, done_at));
    }
    let state = if is_known { state(of_job) } else { "unknown" };
    let parts = ShownParts::of(ledger, job, of_job).await?;
    if json {
        say_json(&ShownJob {
            job,
            state,
            begun_at,
            done_at,
            recipients: rows,
            parts,
        })?;
    } else if is_known {
        let mut line = format!("{job}: {state}");
        if let Some(begun_at) = begun_at {
            line.push_str(&format!(", begun at {begun_at}"));
        }
        if let Some(done_at) = done_at {
            line.push_str(&format!(", done at {done_at}"));
        }
        say(line)?;
        let lines = parts.iter().flat_map(|parts| parts.lines(job));
        lines
            .chain(rows.iter().map(LedgerRow::line))
            .try_for_each(say)?;
    } else {
        let why = why_unknown(ledger, job).await?;
        say(why.unwrap_or_else(|| format!("the ledger knows no job {job}")))?;
    }
    Ok(match is_known {
        true => ExitCode::SUCCESS,
        false => exit::FOUND.into(),
    })
}

impl<'a> LedgerRow<'a> {
    fn new(rid: &'a str, records: &'a [Record]) -> anyhow::Result<Self> {
        let status = status_of(records).context("could not read the job's records")?;
        let (state, attempt) = match &status {
            RecipientStatus::Ready { n } => ("open", *n),
            RecipientStatus::InFlight { n } => ("under_way", *n),
            RecipientStatus::InDoubt { n, .. } => ("in_doubt", *n),
            RecipientStatus::Final {
                n,
                outcome: outcome @ Outcome::Accepted { .. },
            } => (reported_word(records).unwrap_or(outcome.word()), *n),
            RecipientStatus::Final { n, outcome } => (outcome.word(), *n),
        };
        let last = last_outcome(records, attempt)?;
        let told = match &status {
            RecipientStatus::Final { outcome, .. } => Some(outcome),
            RecipientStatus::Ready { .. }
            | RecipientStatus::InFlight { .. }
            | RecipientStatus::InDoubt { .. } => last.as_ref().map(|(_, outcome)| outcome),
        };
        let of = last.as_ref().map_or(attempt, |(n, _)| *n);
        let at = told.and_then(|_| recorded_at(records, of)).or_else(|| {
            let at = intent(records, of, "at")?;
            Some(at.to_owned())
        });
        Ok(Self {
            rid,
            state,
            attempt,
            outcome: told.map(Outcome::word),
            at,
            code: told.and_then(Outcome::code),
            words: told.map(|outcome| outcome.words().to_owned()),
            message_id: intent(records, of, "message_id"),
            to: intent(records, of, "to"),
            late: late(records)?,
        })
    }

    /// A part of a job that had nothing to hand out, and so made no mail.
    fn without_files(rid: &'a str, done_at: Option<&str>) -> Self {
        Self {
            rid,
            state: "without_files",
            attempt: 0,
            outcome: None,
            at: done_at.map(str::to_owned),
            code: None,
            words: None,
            message_id: None,
            to: None,
            late: Vec::new(),
        }
    }

    /// The recipient's id, the status, the time, the reply code, the reply text and the address, separated by tabs; before the
    /// address of a doubt, the Message-ID.
    fn line(&self) -> String {
        let attempt = self.attempt;
        let state = match self.state {
            "open" => format!("open, attempt {attempt} is next"),
            "under_way" => format!(
                "attempt {attempt} is in flight, or its process died: the next delivery finds out"
            ),
            "in_doubt" => format!("in doubt at attempt {attempt}"),
            "without_files" => "without files, so that no mail was made".to_owned(),
            outcome => format!("{outcome} at attempt {attempt}"),
        };
        let at = self.at.as_deref().unwrap_or("-");
        let code = self
            .code
            .map_or_else(|| "-".to_owned(), |code| code.to_string());
        let words = self.words.as_deref().unwrap_or("-");
        // The code has a column of its own.
        let words = words.strip_prefix(&code).map_or(words, str::trim_start);
        let words = words_behind_name(words);
        let mut line = format!("{}\t{state}\t{at}\t{code}\t{words}", self.rid);
        if let ("in_doubt", Some(message_id)) = (self.state, self.message_id) {
            line.push_str(&format!("\t{message_id}"));
        }
        if let Some(to) = self.to {
            line.push_str(&format!("\t{to}"));
        }
        for Late { attempt, outcome } in &self.late {
            line.push_str(&format!("; late outcome of attempt {attempt}: {outcome}"));
        }
        line
    }
}

/// The word for what mail systems reported of an accepted mail.
fn reported_word(records: &[Record]) -> Option<&'static str> {
    Some(match reported(records)? {
        Kind::Bounced => "bounced",
        _ => "delivered",
    })
}

/// The last attempt up to this one that has an outcome.
fn last_outcome(records: &[Record], attempt: u32) -> anyhow::Result<Option<(u32, Outcome)>> {
    for n in [Some(attempt), attempt.checked_sub(1)]
        .into_iter()
        .flatten()
    {
        if let Some(outcome) = outcome_of(records, n)? {
            return Ok(Some((n, outcome)));
        }
    }
    Ok(None)
}

/// When the outcome of an attempt was recorded.
fn recorded_at(records: &[Record], n: u32) -> Option<String> {
    let late = record_of(records, n, Kind::Late);
    let record = late.or_else(|| record_of(records, n, Kind::Outcome))?;
    Some(record.body["at"].as_str()?.to_owned())
}

fn intent<'a>(records: &'a [Record], n: u32, field: &str) -> Option<&'a str> {
    record_of(records, n, Kind::Intent)?.body[field].as_str()
}

/// Late outcomes: recorded by the owners of attempts after another worker had called them unknown.
fn late(records: &[Record]) -> anyhow::Result<Vec<Late>> {
    let late = records.iter().filter(|record| record.kind == Kind::Late);
    let late = late.map(|late| {
        Ok(Late {
            attempt: late.n,
            outcome: outcome_of(records, late.n)?.map_or("", |outcome| outcome.word()),
        })
    });
    late.collect()
}

/// Prints the mails in doubt, with the data that identifies them in a relay's log.
pub(super) async fn show_doubts(
    ledger: &dyn Ledger,
    jobs: &[JobId],
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    let mut is_any = false;
    for job in jobs {
        for doubt in open_doubts(ledger, job).await? {
            is_any = true;
            let doubt = ShownDoubt {
                job: &doubt.job,
                rid: &doubt.rid,
                attempt: doubt.attempt,
                intended_at: doubt.intended_at.as_deref().unwrap_or("-"),
                message_id: doubt.message_id.as_deref().unwrap_or("-"),
            };
            if json {
                found.push(serde_json::to_value(doubt)?);
            } else {
                let ShownDoubt {
                    job,
                    rid,
                    intended_at,
                    message_id,
                    ..
                } = doubt;
                say(format_args!("{job}\t{rid}\t{intended_at}\t{message_id}"))?;
            }
        }
    }
    match json {
        true => say_json(&found)?,
        false if !is_any => say("No mail is in doubt.")?,
        false => {}
    }
    Ok(match is_any {
        true => exit::FOUND.into(),
        false => ExitCode::SUCCESS,
    })
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![
        OutputSchema::of::<Vec<ListedJob<'static>>>("ledger-jobs", "handout ledger show"),
        OutputSchema::of::<ShownJob<'static>>("ledger-job", "handout ledger show JOB"),
        OutputSchema::of::<Vec<ShownDoubt<'static>>>(
            "ledger-doubts",
            "handout ledger show --doubts",
        ),
    ]
}
