//! `handout audit whose`: the addresses behind recipients' ids, by trying the configuration, the lists of recipients and the ledger.
//!
//! An id is a keyed hash: it leads to no address, and each address that is known here is tried.

use std::collections::HashSet;
use std::process::ExitCode;

use clap::Args;
use handout::assemble::{self, OpenError};
use handout::audit::record::Pseudonyms;
use handout::clock;
use handout::config::Config;
use handout::distribute::{addresses_in_list, recipient_of_job};
use handout::environment::Environment;
use handout::job::JobId;
use handout::keyring::Keyring;
use handout::ledger::Ledger;
use handout::text::{chain, counted};
use serde::Serialize;

use super::super::arguments::{JsonArgs, recipient_id};
use super::super::job::Previewing;
use super::super::schemas::OutputSchema;
use super::super::terminal::complain;
use super::super::{ConfigArgs, exit, say, say_json};
use super::whose::{Whose, recipients_of};

pub(super) const HELP: &str = "\
Each line has, separated by tabs: id, address, and where it was found. An id leads to no address, so each address is tried that the configuration (rules without a wildcard, job files of events and schedules), a [[list]] of recipients or the ledger has. A ledger in S3 has the recipients of jobs in parts alone, and those of jobs that did not reach all. Exit 1 if an address was not found.

Examples:
  handout audit whose 3f9ac01b7d2e4f5566778899aabbccdd
  handout audit whose 3f9ac01b7d2e4f5566778899aabbccdd --job acme-daily-2026-11-23 --json";

/// How many jobs of the ledger are tried if none is named, the latest ones. Each costs some requests to a ledger in S3.
const JOBS_TRIED: usize = 200;

#[derive(Debug, Args)]
pub(crate) struct AddressArgs {
    /// The recipients' ids, as results, logs and the ledger have them.
    #[arg(value_name = "ID", required = true, value_parser = id)]
    ids: Vec<String>,
    /// The job whose records are tried [default: the latest 200 jobs]
    #[arg(long, value_name = "JOB")]
    job: Option<JobId>,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

fn id(text: &str) -> Result<String, String> {
    recipient_id(text).ok_or_else(|| "an id has 32 hexadecimal digits".to_owned())
}

/// The address behind an id, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct FoundAddress {
    rid: String,
    /// The address; `null` if it was not found.
    to: Option<String>,
    /// Where it was found: `configuration`, `list NAME` or `job ID`.
    found_in: Option<String>,
}

/// The search for the addresses of some ids.
struct AddressSearch {
    found: Vec<FoundAddress>,
    names: Pseudonyms,
}

/// Runs the command.
pub(super) async fn find_addresses(
    arguments: &AddressArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load(environment)?;
    let keyring = Keyring::open(&config.secret_key_file())?;
    let names = Pseudonyms::new(&keyring, false);
    let mut seen = HashSet::new();
    let ids = arguments.ids.iter().filter(|id| seen.insert(id.as_str()));
    let found = ids.map(|rid| FoundAddress {
        rid: rid.clone(),
        to: None,
        found_in: None,
    });
    let mut search = AddressSearch {
        found: found.collect(),
        names: names.clone(),
    };
    let whose = Whose::new(&config, None, names);
    for found in &mut search.found {
        if let Some(address) = whose.known(&found.rid) {
            found.to = Some(address.to_owned());
            found.found_in = Some("configuration".to_owned());
        }
    }
    if !search.left().is_empty() {
        search.in_lists(&config, environment).await;
    }
    if !search.left().is_empty() {
        let job = arguments.job.as_ref();
        Box::pin(search.in_ledger(job, &config, environment)).await?;
    }
    search.tell(arguments.form)
}

impl AddressSearch {
    /// The ids whose addresses are not known yet.
    fn left(&self) -> HashSet<String> {
        let left = self.found.iter().filter(|found| found.to.is_none());
        left.map(|found| found.rid.clone()).collect()
    }

    fn take(&mut self, rid: &str, address: String, place: String) {
        if let Some(found) = self.found.iter_mut().find(|found| found.rid == rid) {
            (found.to, found.found_in) = (Some(address), Some(place));
        }
    }

    /// Tries each `[[list]]`. One that cannot be read does not keep the others, and the ledger, from an answer.
    async fn in_lists(&mut self, config: &Config, environment: &Environment) {
        if config.list.is_empty() {
            return;
        }
        let previewing = match Box::pin(Previewing::open(config, environment)).await {
            Ok(previewing) => previewing,
            Err(error) => {
                let error = chain(&*error);
                return complain(format_args!("the lists could not be read: {error}"));
            }
        };
        for list in &previewing.services.signing.policy.lists {
            let wanted = self.left();
            let read = addresses_in_list(list, &previewing.services, &self.names, &wanted);
            match Box::pin(read).await {
                Ok(addresses) => {
                    for (rid, address) in addresses {
                        self.take(&rid, address, format!("list {}", list.name));
                    }
                }
                Err(error) => complain(chain(&error)),
            }
        }
        previewing.close().await;
    }

    async fn in_ledger(
        &mut self,
        job: Option<&JobId>,
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<()> {
        let opened = match assemble::open_ledger(config, environment, clock::system).await {
            Ok(opened) => opened,
            // No job was started here.
            Err(OpenError::NoLedger { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let searched = self.in_jobs(job, config, &*opened.ledger).await;
        opened.close().await;
        searched
    }

    async fn in_jobs(
        &mut self,
        job: Option<&JobId>,
        config: &Config,
        ledger: &dyn Ledger,
    ) -> anyhow::Result<()> {
        let jobs = match job {
            Some(job) => vec![job.whole().unwrap_or_else(|| job.clone())],
            None => ledger.jobs(JOBS_TRIED).await?,
        };
        let rules = config.event_rules().unwrap_or_default();
        for job in &jobs {
            for rid in self.left() {
                let mut people = recipients_of(&job.part(&rid), &rid, ledger, &rules).await?;
                people.extend(recipients_of(job, &rid, ledger, &rules).await?);
                people.extend(recipient_of_job(ledger, job, &rid).await?);
                let addresses = people.iter().map(|person| person.canonical_address());
                let address = addresses
                    .into_iter()
                    .find(|address| self.names.recipient_id(address) == rid);
                if let Some(address) = address {
                    self.take(&rid, address, format!("job {job}"));
                }
            }
            if self.left().is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn tell(&self, form: JsonArgs) -> anyhow::Result<ExitCode> {
        if form.json {
            say_json(&self.found)?;
        } else {
            for FoundAddress { rid, to, found_in } in &self.found {
                let (to, place) = (to.as_deref(), found_in.as_deref());
                say(format_args!(
                    "{rid}\t{}\t{}",
                    to.unwrap_or("-"),
                    place.unwrap_or("-")
                ))?;
            }
        }
        let left = self.left().len();
        if left == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        complain(format_args!(
            "neither the configuration nor the lists nor the ledger has the address of {}; name the job with --job, or keep addresses in the log with audit.recipients = \"clear\"",
            counted(left as u64, "id")
        ));
        Ok(exit::FOUND.into())
    }
}

/// What the command prints with `--json`.
pub(super) fn output() -> OutputSchema {
    OutputSchema::of::<Vec<FoundAddress>>("audit-whose", "handout audit whose")
}
