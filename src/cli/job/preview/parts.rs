//! The preview of a job in parts: a table of its first recipients, and their mails.

use std::process::ExitCode;

use handout::assemble::Services;
use handout::config::Config;
use handout::environment::Environment;
use handout::error::{FailureClass, JobError};
use handout::job::Recipient;
use handout::job::list::BadRow;
use handout::ledger::people::words_behind_name;
use handout::plan::{Objects, Plan};
use handout::preview::{self, Preview};
use handout::report::PartsReport;
use handout::run::JobRun;
use handout::text::{chain, counted};
use serde::Serialize;

use super::{Files, PreviewMail, PreviewOutput, suppressed};
use crate::cli::schemas::OutputSchema;
use crate::cli::{exit, say, say_json};

/// How much of a place the table shows, in characters.
const MAX_PLACE: usize = 60;

/// The report of a preview.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct PartsPreview {
    job: String,
    recipients: u64,
    /// How many rows of the list repeat the address of an earlier row.
    repeated: u64,
    /// How many rows of the list are no recipients.
    bad_rows: u64,
    /// The first of them.
    rows: Vec<BadRow>,
    /// The first recipients.
    parts: Vec<PreviewedPart>,
}

/// A recipient and what they would get.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct PreviewedPart {
    to: String,
    /// The recipient's id in logs and results; none where the secret cannot be read.
    rid: Option<String>,
    /// The prefix or the first key.
    place: Option<String>,
    links: u64,
    /// `mail`, `no files`, `refused` or `suppressed`.
    outcome: &'static str,
    /// Why the recipient would get no mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    mail: Option<PreviewMail>,
}

/// Writes the mails of the first recipients and prints a table.
pub(super) async fn show(
    run: &JobRun,
    services: &Services,
    (config, environment): (&Config, &Environment),
    arguments: &PreviewOutput,
) -> anyhow::Result<ExitCode> {
    let (parts, counts) = preview::runs(run, services, arguments.mails).await?;
    let counts = counts.unwrap_or_default();
    let people = parts.iter().filter_map(|part| part.job.email.as_ref());
    let people: Vec<&Recipient> = people.flat_map(|email| email.to.first()).collect();
    let email = run.job.email.as_ref();
    let suppressed = suppressed(email, people, config, environment);
    let mut suppressed = Box::pin(suppressed).await.unwrap_or_default();
    let files = Files::make(&arguments.out, config)?;
    let mut previewed = Vec::new();
    for part in &parts {
        let number = previewed.len() + 1;
        let mut row = Box::pin(preview_part(part, number, services, &files)).await?;
        if let Some(at) = suppressed.iter().position(|reader| reader.to == row.to) {
            let reader = suppressed.swap_remove(at);
            (row.outcome, row.reason) = ("suppressed", Some(reader.reason));
        }
        previewed.push(row);
    }
    let PartsReport {
        recipients,
        repeated,
        bad_rows,
        rows,
        ..
    } = counts;
    let report = PartsPreview {
        job: run.job.id.to_string(),
        recipients,
        repeated,
        bad_rows,
        rows,
        parts: previewed,
    };
    if arguments.form.json {
        say_json(&report)?;
    } else if arguments.paths {
        let mails = report.parts.iter().filter_map(|part| part.mail.as_ref());
        for path in mails.flat_map(|mail| &mail.files) {
            say(path.display())?;
        }
    } else {
        tell(&report, arguments)?;
    }
    Ok(match report.is_rejected() {
        true => exit::FOUND.into(),
        false => ExitCode::SUCCESS,
    })
}

impl PartsPreview {
    /// Whether none of the previewed recipients would get a mail, and the part of one at least would be rejected.
    fn is_rejected(&self) -> bool {
        let has_mail = |part: &PreviewedPart| part.outcome == OF_MAIL;
        let is_refused = |part: &PreviewedPart| part.outcome == OF_REFUSAL;
        self.parts.iter().any(is_refused) && !self.parts.iter().any(has_mail)
    }
}

/// The outcomes of parts that decide whether a preview finds the job rejected.
const OF_MAIL: &str = "mail";
const OF_REFUSAL: &str = "refused";

/// Previews the part of one recipient. That it would be rejected is an answer, and no error.
async fn preview_part(
    part: &JobRun,
    number: usize,
    services: &Services,
    files: &Files<'_>,
) -> anyhow::Result<PreviewedPart> {
    let person = part.job.email.as_ref().and_then(|email| email.to.first());
    let mut previewed = PreviewedPart {
        to: person.map_or_else(String::new, |person| person.address.to_string()),
        rid: person.and_then(|person| files.rid(person)),
        place: None,
        links: 0,
        outcome: OF_MAIL,
        reason: None,
        mail: None,
    };
    let made = async {
        let preview = Preview::begin(part, services).await?;
        previewed.place = Some(place(&preview.plan));
        previewed.links = preview.links();
        if preview.would_be_skipped() {
            return Ok(None);
        }
        let trial = preview.trial().await?;
        trial.mails().next().transpose()
    };
    let made: Result<_, JobError> = made.await;
    match made {
        Ok(Some(mail)) => previewed.mail = Some(files.write_mail(number, &mail)?),
        Ok(None) => previewed.outcome = "no files",
        Err(error) => match error.class() {
            FailureClass::Permanent | FailureClass::Policy => {
                previewed.outcome = OF_REFUSAL;
                previewed.reason = Some(chain(&error));
            }
            FailureClass::Transient
            | FailureClass::Deferred
            | FailureClass::Edge
            | FailureClass::Busy
            | FailureClass::Disk => return Err(error.into()),
        },
    }
    Ok(previewed)
}

fn place(plan: &Plan) -> String {
    match &plan.objects {
        Objects::Under(prefix, _) => prefix.to_string(),
        Objects::Named(keys) => keys.first().map_or_else(String::new, ToString::to_string),
    }
}

fn tell(report: &PartsPreview, arguments: &PreviewOutput) -> std::io::Result<()> {
    let (job, recipients) = (&report.job, report.recipients);
    say(format_args!(
        "{job} would go to {}, each with files of their own",
        counted(recipients, "recipient")
    ))?;
    if report.repeated > 0 {
        let repeated = report.repeated;
        say(format_args!(
            "  repeated     {} with the address of an earlier row",
            counted(repeated, "row")
        ))?;
    }
    if report.bad_rows > 0 {
        say(format_args!("  bad rows     {}", report.bad_rows))?;
    }
    for row in &report.rows {
        say(format_args!("    {row}"))?;
    }
    let width = |texts: &mut dyn Iterator<Item = &str>, head: &str| {
        let widest = texts.map(|text| text.chars().count()).max();
        widest.unwrap_or_default().max(head.len())
    };
    let shown = |part: &PreviewedPart| {
        let place = part.place.as_deref().unwrap_or("-");
        place.chars().take(MAX_PLACE).collect::<String>()
    };
    let places: Vec<String> = report.parts.iter().map(shown).collect();
    let people = width(
        &mut report.parts.iter().map(|part| part.to.as_str()),
        "recipient",
    );
    let wide = width(&mut places.iter().map(String::as_str), "files below");
    say(format_args!(
        "  {:<people$}  {:<wide$}  files  what happens",
        "recipient", "files below"
    ))?;
    for (part, place) in report.parts.iter().zip(&places) {
        let what = match (&part.mail, &part.reason) {
            (Some(mail), None) => format!("a mail: {}", mail.subject),
            (_, Some(reason)) => format!("{}: {}", part.outcome, words_behind_name(reason)),
            (None, None) => format!("{}: no mail", part.outcome),
        };
        say(format_args!(
            "  {:<people$}  {place:<wide$}  {:>5}  {what}",
            part.to, part.links
        ))?;
    }
    if (report.parts.len() as u64) < recipients {
        let made = report.parts.len();
        say(format_args!(
            "  recipients   {made} of {recipients}; --mails {recipients} shows all of them"
        ))?;
    }
    say(format_args!(
        "Look at {}. The links there are examples and open nothing.",
        arguments.out.display()
    ))
}

/// What the preview of a job in parts prints with `--json`.
pub(super) fn output() -> OutputSchema {
    OutputSchema::of::<PartsPreview>("job-preview-parts", "handout job preview")
}
