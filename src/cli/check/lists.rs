//! Checks the lists of recipients: whether each can be read, and how many recipients it has.

use std::io;

use handout::assemble::Services;
use handout::config::{Config, OnBadRow};
use handout::distribute::{MAX_CHECKED_ROWS, all_bad_rows, count_recipients};
use handout::environment::Environment;
use handout::plan::lists::RecipientList;
use handout::report::PartsReport;
use handout::text::{chain, counted};

use super::report::{CheckReport, bounded};
use crate::cli::exit::CommandError;
use crate::cli::job::Previewing;

/// Reads each `[[list]]` as a job does.
pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    if config.list.is_empty() {
        return Ok(());
    }
    let previewing = match bounded(Previewing::open(config, environment)).await {
        Ok(Ok(previewing)) => previewing,
        Ok(Err(error)) => return report.tell("lists", Err(error.into())),
        Err(error) => return report.tell("lists", Err(error)),
    };
    for list in &previewing.services.signing.policy.lists {
        look(list, &previewing.services, report).await?;
    }
    previewing.close().await;
    Ok(())
}

/// Reads one `[[list]]` to its end, and reports each row that is no recipient.
pub(super) async fn rows(
    config: &Config,
    environment: &Environment,
    name: &str,
    report: &CheckReport,
) -> anyhow::Result<()> {
    if !config.list.iter().any(|list| list.name == name) {
        let known: Vec<&str> = config.list.iter().map(|list| list.name.as_str()).collect();
        return Err(CommandError::Usage(format!(
            "the configuration has no [[list]] named {name:?}; configured: {}",
            known.join(", ")
        ))
        .into());
    }
    let what = format!("list {name}");
    let previewing = match bounded(Previewing::open(config, environment)).await {
        Ok(Ok(previewing)) => previewing,
        Ok(Err(error)) => return Ok(report.tell(what, Err(error.into()))?),
        Err(error) => return Ok(report.tell(what, Err(error))?),
    };
    let lists = &previewing.services.signing.policy.lists;
    for list in lists.iter().filter(|list| list.name.as_str() == name) {
        let read = match bounded(all_bad_rows(list, &previewing.services)).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                report.tell(&what, Err(chain(&error).into()))?;
                continue;
            }
            Err(error) => {
                report.tell(&what, Err(error))?;
                continue;
            }
        };
        tell_rows(&what, list.on_bad_row, &read, report)?;
    }
    previewing.close().await;
    Ok(())
}

fn tell_rows(
    what: &str,
    on_bad_row: OnBadRow,
    read: &PartsReport,
    report: &CheckReport,
) -> io::Result<()> {
    let tell = |text: String| match on_bad_row {
        OnBadRow::Skip => report.warn(what, text),
        OnBadRow::Stop => report.tell(what, Err(text.into())),
    };
    for row in &read.rows {
        tell(row.to_string())?;
    }
    if read.bad_rows > MAX_CHECKED_ROWS as u64 {
        tell(format!(
            "{} rows are no recipients, and the first {MAX_CHECKED_ROWS} are above",
            read.bad_rows
        ))?;
    }
    match read.recipients {
        0 => report.tell(what, Err("has no row that is a recipient".into())),
        _ => report.tell(what, Ok(recipients(read))),
    }
}

async fn look(list: &RecipientList, services: &Services, report: &CheckReport) -> io::Result<()> {
    let what = format!("list {}", list.name);
    match bounded(count_recipients(list, services)).await {
        Ok(Ok(read)) if read.bad_rows > 0 => report.warn(what, of_bad_rows(&read)),
        Ok(Ok(read)) => report.tell(what, Ok(recipients(&read))),
        Ok(Err(error)) => report.tell(what, Err(chain(&error).into())),
        Err(error) => report.tell(what, Err(error)),
    }
}

fn recipients(read: &PartsReport) -> String {
    let PartsReport {
        recipients,
        repeated,
        ..
    } = read;
    let recipients = counted(*recipients, "recipient");
    match repeated {
        0 => recipients,
        _ => format!("{recipients}, and rows with an address of an earlier row: {repeated}"),
    }
}

/// Jobs leave these rows out (`on_bad_row = "skip"`).
fn of_bad_rows(read: &PartsReport) -> String {
    let first = read.rows.first().map(ToString::to_string);
    format!(
        "{}; rows that jobs leave out, since they are no recipients: {}, the first is {}",
        recipients(read),
        read.bad_rows,
        first.unwrap_or_default()
    )
}
