//! The end of the demo: some links are opened, and a table says by whom; a revoked link does not open.

use std::time::Duration;

use handout::access::book::AccessBook;
use handout::access::join::{ClientPrivacy, Joiner};
use handout::access::known::KnownLinks;
use handout::access::opens::{OpensQuestion, answer};
use handout::access::page::summary;
use handout::access::reading::{files_in, read_file};
use handout::audit::find::LinkQuery;
use handout::audit::record::Pseudonyms;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::job::JobId;
use handout::keyring::Keyring;

use super::super::opens::{name_recipients, table};
use super::super::terminal::complain;
use super::super::{say, say_lines};
use super::probe::{Made, open_as_recipients, status_of};

/// How often the access log is looked at: its lines are written beside the answers.
const LOOKS: u32 = 50;

/// The subject of the mail whose links are revoked.
pub(super) const BY_MISTAKE: &str = "Sent by mistake";

/// Opens links of a job, and shows who opened what.
pub(super) async fn show(
    config: &Config,
    made: &Made,
    job: &JobId,
    environment: &Environment,
) -> anyhow::Result<()> {
    let Some(log) = &config.embedded.access_log else {
        return Ok(());
    };
    let opened = open_as_recipients(made, &config.embedded.public_url).await?;
    let places = [config.audit_place().into()];
    let known = KnownLinks::of_logs(&places)?;
    let mut book = AccessBook::open(&config.state_dir)?;
    let privacy = ClientPrivacy {
        detail: config.access.addresses,
        now: clock::system().as_second(),
        since: 0,
    };
    let mut joined = 0;
    for _ in 0..LOOKS {
        let mut joiner = Joiner::new(&known, &[], privacy, &mut book);
        for file in files_in(log)? {
            read_file(&file, &mut joiner)?;
        }
        joiner.write()?;
        joined += joiner.counts().joined;
        if joined >= opened {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let query = LinkQuery {
        job: Some(job.to_string()),
        ..LinkQuery::default()
    };
    let question = OpensQuestion {
        query,
        ..OpensQuestion::default()
    };
    let mut report = answer(&places, &book, &question)?;
    let keyring = Keyring::open(&config.secret_key_file())?;
    let names = Pseudonyms::new(&keyring, false);
    name_recipients(&mut report, config, None, names, environment).await;
    say_lines("\nThe demo opened some links of the report. Who opened what, and what arrived:")?;
    table(&report.rows)?;
    for line in summary(&report) {
        say(format_args!("  {line}"))?;
    }
    say(
        "  The demo opened them right after the mail, as scanners of mails do, and so they count.",
    )?;
    Ok(())
}

/// Opens the revoked link, once the portal answers.
pub(super) async fn try_revoked(made: &Made) -> anyhow::Result<()> {
    let Some(link) = made.portal_link(BY_MISTAKE) else {
        return Ok(());
    };
    for _ in 0..LOOKS {
        if let Ok(status) = status_of(link).await {
            say_lines(format_args!("\nThe revoked link answers {status}."))?;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    complain("the portal did not answer in time, so the revoked link was not tried");
    Ok(())
}
