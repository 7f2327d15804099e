//! Checks the lists of recipients: whether each can be read, and how many recipients it has.

use std::io;

use handout::assemble::Services;
use handout::config::Config;
use handout::distribute::count_recipients;
use handout::environment::Environment;
use handout::plan::lists::RecipientList;
use handout::report::PartsReport;
use handout::text::chain;

use super::report::{CheckReport, bounded};
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
    match repeated {
        0 => format!("{recipients} recipients"),
        _ => format!(
            "{recipients} recipients, and rows with an address of an earlier row: {repeated}"
        ),
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
